//! Agents: made, shown, changed in versions, put away. They are those of the platform's own dialect, seen otherwise.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        error::Error,
        idempotency::{Attempt, replayed},
        json::{self, Json},
        offered, on_disk,
        principal::Principal,
    },
    Timestamp,
    metadata::{self, Metadata},
    page::{self, Cursor, collect},
    parameters::{Parameters, invalid},
    runtime::Chosen,
    tools,
};
use crate::{
    access::Stretch,
    agents::{Agent, Agents, Definition, Status},
    id::AgentId,
    registry::Registry,
    runtime::Profile,
};

const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;
const SYSTEM_CHARS_MAX: usize = 100_000;
const TOOLS_MAX: usize = 256;
const MCP_SERVERS_MAX: usize = 20;
const SKILLS_MAX: usize = 20;

/// How many agents a page has, and at the most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// The keys of an agent's `config` that hold what only this dialect names.
const MCP_SERVERS: &str = "mcp_servers";
const SKILLS: &str = "skills";
const MODEL_OPTIONS: &str = "model_options";
const EXECUTION_IDENTITY: &str = "execution_identity";

/// The keys that the platform's dialect lets an owner use instead of a field.
const CONFIG_MODEL: &str = "model";
const CONFIG_TOOLS: &str = "tools";

/// An agent as a session shows it: as it was when the session was made.
#[derive(Serialize)]
struct Snapshot<'a> {
    id: AgentId,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    description: Option<&'a str>,
    model: Value,
    system: Option<&'a str>,
    tools: Vec<Value>,
    mcp_servers: Vec<Value>,
    skills: Vec<Value>,
    multiagent: (),
    execution_identity: Value,
    version: u32,
}

/// An agent as clients see it.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    snapshot: Snapshot<'a>,
    metadata: &'a Metadata,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
}

fn value(definition: &Definition, key: &str) -> Option<Value> {
    // What the store has is JSON.
    serde_json::from_str(definition.config.get(key)?.get()).ok()
}

impl<'a> Snapshot<'a> {
    fn new(agent: &'a Agent, runtime: Option<&Profile>) -> Self {
        let definition = &agent.definition;
        let mut model = value(definition, MODEL_OPTIONS).filter(Value::is_object).unwrap_or_else(|| json!({}));
        model["id"] = agent.model().into();
        Self {
            id: agent.id,
            kind: "agent",
            name: &definition.name,
            description: definition.description.as_deref(),
            model,
            system: Some(definition.system.as_str()).filter(|system| !system.is_empty()),
            tools: tools::resolved(agent.tools(), runtime),
            mcp_servers: servers(value(definition, MCP_SERVERS)),
            skills: skills(value(definition, SKILLS)),
            multiagent: (),
            execution_identity: value(definition, EXECUTION_IDENTITY)
                .unwrap_or_else(|| json!({"type": "service_account"})),
            version: agent.version,
        }
    }
}

/// A list, as this dialect has it, or an object of servers by their names. The platform's dialect takes any JSON here;
/// what is no server is left out.
fn servers(given: Option<Value>) -> Vec<Value> {
    let server = |name: &Value, server: &Value| json!({"type": "url", "name": name, "url": server["url"]});
    match given {
        Some(Value::Array(servers)) => {
            let servers = servers.iter().filter(|given| given.is_object());
            servers.map(|given| server(&given["name"], given)).collect()
        }
        Some(Value::Object(servers)) => {
            let servers = servers.iter().filter(|(_, given)| given.is_object());
            servers.map(|(name, given)| server(&name.as_str().into(), given)).collect()
        }
        _ => Vec::new(),
    }
}

/// A skill without a version is the latest one there will be. The platform's dialect takes any JSON here; what is no
/// skill is left out.
fn skills(given: Option<Value>) -> Vec<Value> {
    let Some(Value::Array(given)) = given else { return Vec::new() };
    let latest = |skill| {
        let Value::Object(mut skill) = skill else { return None };
        let version = skill.entry("version").or_insert(Value::Null);
        if version.is_null() {
            *version = "latest".into();
        }
        Some(Value::Object(skill))
    };
    given.into_iter().filter_map(latest).collect()
}

impl<'a> Item<'a> {
    fn new(agent: &'a Agent, registry: &Registry) -> Self {
        Self {
            snapshot: Snapshot::new(agent, runtime_of(agent, registry).as_deref()),
            metadata: &agent.definition.metadata,
            created_at: Timestamp(agent.created_ms),
            updated_at: Timestamp(agent.updated_ms()),
            archived_at: agent.archived_ms.map(Timestamp),
        }
    }
}

fn runtime_of(agent: &Agent, registry: &Registry) -> Option<Arc<Profile>> {
    registry.get(agent.definition.runtime()?.as_str())
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    // Plain text, numbers and values: writing them cannot fail.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An agent as a session that is made of it shows it.
pub(in super::super) fn snapshot(agent: &Agent, runtime: &Profile) -> Box<RawValue> {
    raw(&Snapshot::new(agent, Some(runtime)))
}

/// The agent of a session that was made before sessions kept it: as it is now, or what is left of it.
pub(super) fn of_session(agent: Option<Agent>, id: AgentId, registry: &Registry) -> Box<RawValue> {
    let gone = || Agent::placeholder(id);
    let agent = agent.unwrap_or_else(gone);
    raw(&Snapshot::new(&agent, runtime_of(&agent, registry).as_deref()))
}

/// The agent of a session, with other tools.
///
/// # Errors
/// When the tools cannot be meant.
pub(super) fn with_tools(
    agent: &RawValue,
    tools: Option<Box<RawValue>>,
    mcp_servers: Option<Box<RawValue>>,
    runtime: Option<&Profile>,
) -> Result<Box<RawValue>, Error> {
    let mut agent: Value = serde_json::from_str(agent.get()).map_err(Error::internal)?;
    if let Some(tools) = tools {
        list("agent.tools", &tools, TOOLS_MAX)?;
        agent["tools"] = tools::resolved(Some(&tools), runtime).into();
    }
    if let Some(given) = mcp_servers {
        list("agent.mcp_servers", &given, MCP_SERVERS_MAX)?;
        agent["mcp_servers"] = servers(serde_json::from_str(given.get()).ok()).into();
    }
    Ok(raw(&agent))
}

/// An agent for a new session.
///
/// # Errors
/// When there is none of this id and version, or it takes no sessions.
pub(super) fn takes_sessions(agents: &Agents, id: &str, version: Option<u32>) -> Result<Agent, Error> {
    let agent = get(agents, id)?;
    if agent.archived_ms.is_some() {
        let message = format!("agent {id} is archived and takes no new sessions");
        return Err(Error::new(StatusCode::BAD_REQUEST, "agent_archived", message));
    }
    if agent.definition.status == Status::Paused {
        let message = format!("agent {id} is paused and takes no new sessions");
        return Err(Error::new(StatusCode::CONFLICT, "agent_paused", message));
    }
    at_version(agents, agent, version, "agent.version")
}

fn at_version(agents: &Agents, agent: Agent, version: Option<u32>, name: &str) -> Result<Agent, Error> {
    let Some(version) = version else { return Ok(agent) };
    let known = agents.version(&agent, version)?;
    known.ok_or_else(|| {
        Error::new(StatusCode::NOT_FOUND, "agent_version_not_found", format!("{name}: {version} not found"))
    })
}

fn not_found(id: &str) -> Error {
    Error::new(StatusCode::NOT_FOUND, "agent_not_found", format!("agent {id} not found"))
}

fn get(agents: &Agents, id: &str) -> Result<Agent, Error> {
    let known = id.parse().map_or(Ok(None), |id| agents.get(id))?;
    known.ok_or_else(|| not_found(id))
}

/// What a client says of a field: nothing, null, or a value.
type Wish<T> = Option<Option<T>>;

/// Tells null from nothing.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Wish<T>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What a client wants an agent to be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Wishes {
    name: Option<String>,
    model: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    description: Wish<String>,
    #[serde(deserialize_with = "present")]
    system: Wish<String>,
    #[serde(deserialize_with = "present")]
    tools: Wish<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    mcp_servers: Wish<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    skills: Wish<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    metadata: Wish<metadata::Patch>,
    #[serde(deserialize_with = "present")]
    multiagent: Wish<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    execution_identity: Wish<Box<RawValue>>,
    /// Of an update: what the client believes the latest version to be.
    version: Option<u32>,
}

/// A reference to an agent with changes for one session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overridden {
    #[serde(rename = "type")]
    _kind: String,
    pub(super) id: String,
    #[serde(default)]
    pub(super) version: Option<u32>,
    #[serde(default)]
    model: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    system: Wish<String>,
    #[serde(default, deserialize_with = "present")]
    tools: Wish<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    mcp_servers: Wish<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    skills: Wish<Box<RawValue>>,
}

impl Overridden {
    /// Makes the changes.
    ///
    /// # Errors
    /// When one cannot be meant.
    pub(super) fn apply(self, to: &mut Definition) -> Result<(), Error> {
        let Self { model, system, tools, mcp_servers, skills, .. } = self;
        Wishes { model, system, tools, mcp_servers, skills, ..Wishes::default() }.check()?.apply(to)
    }
}

/// A model as a client names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    id: String,
    #[serde(default)]
    effort: Option<Value>,
    #[serde(default)]
    speed: Option<String>,
    #[serde(default)]
    inference_geo: Option<String>,
}

impl Model {
    fn read(given: &RawValue) -> Result<Self, Error> {
        let invalid = |error: serde_json::Error| Error::invalid(format_args!("model: {error}"));
        let model = if given.get().starts_with('"') {
            let id = serde_json::from_str(given.get()).map_err(invalid)?;
            Self { id, effort: None, speed: None, inference_geo: None }
        } else {
            serde_json::from_str(given.get()).map_err(invalid)?
        };
        if model.id.trim().is_empty() {
            return Err(Error::invalid("model: must not be blank"));
        }
        Ok(model)
    }

    fn apply(self, to: &mut Definition) {
        let mut options = json!({});
        if let Some(effort) = self.effort {
            options["effort"] = if effort.is_string() { json!({"type": effort}) } else { effort };
        }
        if let Some(speed) = self.speed {
            options["speed"] = speed.into();
        }
        if let Some(geo) = self.inference_geo {
            options["inference_geo"] = geo.into();
        }
        set(to, MODEL_OPTIONS, (options != json!({})).then(|| raw(&options)));
        // The platform's other place for it.
        to.config.remove(CONFIG_MODEL);
        to.model = self.id;
    }
}

fn set(to: &mut Definition, key: &str, value: Option<Box<RawValue>>) {
    match value {
        Some(value) => drop(to.config.insert(key.to_owned(), value)),
        None => drop(to.config.remove(key)),
    }
}

fn list(name: &str, given: &RawValue, most: usize) -> Result<Vec<Value>, Error> {
    let list: Vec<Value> = serde_json::from_str(given.get())
        .map_err(|error| Error::invalid(format_args!("{name}: must be a list: {error}")))?;
    if list.len() > most {
        return Err(Error::invalid(format_args!("{name}: at most {most}")));
    }
    match list.iter().position(|entry| !entry["type"].is_string()) {
        Some(place) => Err(Error::invalid(format_args!("{name}.{place}.type: is required"))),
        None => Ok(list),
    }
}

/// Wishes that can be fulfilled, whatever the agent.
struct Checked {
    wishes: Wishes,
    model: Option<Model>,
}

impl Wishes {
    fn check(self) -> Result<Checked, Error> {
        let bounded = |name: &str, text: Option<&String>, most: usize| match text {
            Some(text) if text.chars().count() > most => {
                Err(Error::invalid(format_args!("{name}: at most {most} characters")))
            }
            _ => Ok(()),
        };
        bounded("name", self.name.as_ref(), NAME_CHARS_MAX)?;
        bounded("description", self.description.iter().flatten().next(), DESCRIPTION_CHARS_MAX)?;
        bounded("system", self.system.iter().flatten().next(), SYSTEM_CHARS_MAX)?;
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(Error::invalid("name: must not be blank"));
        }
        for (name, given, most) in [
            ("tools", &self.tools, TOOLS_MAX),
            ("mcp_servers", &self.mcp_servers, MCP_SERVERS_MAX),
            ("skills", &self.skills, SKILLS_MAX),
        ] {
            if let Some(given) = given.iter().flatten().next() {
                list(name, given, most)?;
            }
        }
        if self.multiagent.iter().flatten().next().is_some() {
            let message = "multiagent: this host does not hand one agent to another; leave it out";
            return Err(Error::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message));
        }
        let model = self.model.as_deref().map(Model::read).transpose()?;
        Ok(Checked { wishes: self, model })
    }
}

impl Checked {
    fn apply(self, to: &mut Definition) -> Result<(), Error> {
        let Self { wishes, model } = self;
        if let Some(name) = wishes.name {
            to.name = name;
        }
        if let Some(model) = model {
            model.apply(to);
        }
        if let Some(description) = wishes.description {
            to.description = description.filter(|text| !text.is_empty());
        }
        if let Some(system) = wishes.system {
            to.system = system.unwrap_or_default();
        }
        if let Some(tools) = wishes.tools {
            to.config.remove(CONFIG_TOOLS);
            to.tools = Some(tools.unwrap_or_else(|| raw(&json!([]))));
        }
        if let Some(servers) = wishes.mcp_servers {
            set(to, MCP_SERVERS, servers.filter(|servers| servers.get() != "[]"));
        }
        if let Some(skills) = wishes.skills {
            set(to, SKILLS, skills.filter(|skills| skills.get() != "[]"));
        }
        if let Some(identity) = wishes.execution_identity {
            set(to, EXECUTION_IDENTITY, identity);
        }
        match wishes.metadata {
            None => {}
            Some(None) => to.metadata.clear(),
            Some(Some(patch)) => to.metadata = metadata::patched(&to.metadata, patch)?,
        }
        Ok(())
    }
}

pub(in super::super) async fn create(
    principal: Principal,
    attempt: Attempt,
    chosen: Chosen,
    agents: Agents,
    State(registry): State<Registry>,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    let look = agents.clone();
    if let Some(agent) = attempt.made(move |id| look.get(id)).await? {
        return Ok(replayed(json::json(StatusCode::OK, &Item::new(&agent, &registry))));
    }
    let (Some(name), Some(_)) = (&wishes.name, &wishes.model) else {
        let missing = if wishes.name.is_none() { "name" } else { "model" };
        return Err(Error::invalid(format_args!("{missing}: is required")));
    };
    if wishes.version.is_some() {
        return Err(Error::invalid("version: a new agent has none yet"));
    }
    let mut definition = Definition::new(name.clone(), principal.owner().to_string());
    // In this dialect an agent has the tools that it is given.
    definition.tools = Some(raw(&json!([])));
    wishes.check()?.apply(&mut definition)?;
    let runtime = chosen.for_agent(&definition.metadata)?;
    offered(&registry, runtime.as_str())?;
    definition.set_runtime(Some(&runtime));
    let agent = on_disk(move || agents.create(attempt.id(), definition)).await??;
    Ok(json::json(StatusCode::OK, &Item::new(&agent, &registry)))
}

pub(in super::super) async fn retrieve(
    _: Principal,
    agents: Agents,
    State(registry): State<Registry>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let version = parameters.number("version")?.map(u32::try_from).transpose();
    let version = version.map_err(|_| invalid("version: must be the number of a version"))?;
    on_disk(move || {
        let agent = at_version(&agents, get(&agents, &id)?, version, "version")?;
        Ok(json::json(StatusCode::OK, &Item::new(&agent, &registry)))
    })
    .await?
}

pub(in super::super) async fn update(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    State(registry): State<Registry>,
    Path(id): Path<String>,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    if attempt.is_replay() {
        let agent = on_disk(move || get(&agents, &id)).await??;
        return Ok(replayed(json::json(StatusCode::OK, &Item::new(&agent, &registry))));
    }
    let agent: AgentId = id.parse().map_err(|_| not_found(&id))?;
    let (expected, checked) = (wishes.version, wishes.check()?);
    let agents = agents.noting(attempt.mark());
    let updated = on_disk(move || agents.update(agent, expected, |definition| checked.apply(definition))).await??;
    let agent = updated.ok_or_else(|| not_found(&id))?;
    Ok(json::json(StatusCode::OK, &Item::new(&agent, &registry)))
}

pub(in super::super) async fn archive(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    State(registry): State<Registry>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    if attempt.is_replay() {
        let agent = on_disk(move || get(&agents, &id)).await??;
        return Ok(replayed(json::json(StatusCode::OK, &Item::new(&agent, &registry))));
    }
    let agent: AgentId = id.parse().map_err(|_| not_found(&id))?;
    let agents = agents.noting(attempt.mark());
    let archived = on_disk(move || agents.archive(agent)).await??;
    let agent = archived.ok_or_else(|| not_found(&id))?;
    Ok(json::json(StatusCode::OK, &Item::new(&agent, &registry)))
}

/// The latest made first.
pub(in super::super) async fn list_all(
    _: Principal,
    agents: Agents,
    State(registry): State<Registry>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let limit = parameters.limit(LIMIT, LIMIT_MAX)?;
    let (created, archived) = (parameters.times("created_at")?, parameters.flag("include_archived")?);
    let before = Cursor::of(&parameters, false)?.map(|cursor| AgentId::from_bytes(cursor.key.to_be_bytes()));
    on_disk(move || {
        let wanted = |agent: &Agent| {
            std::ops::RangeBounds::contains(&created, &Timestamp(agent.created_ms).us())
                && (archived || agent.archived_ms.is_none())
        };
        let found = collect(before, limit, |before, limit| agents.before(before, limit), |agent| agent.id, wanted)?;
        let key = |id: AgentId| u128::from_be_bytes(id.to_bytes());
        Ok(page::answer(&found, key, |agent| Item::new(agent, &registry)))
    })
    .await?
}

/// The latest first.
pub(in super::super) async fn versions(
    _: Principal,
    agents: Agents,
    State(registry): State<Registry>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let limit = parameters.limit(LIMIT, LIMIT_MAX)?;
    let before = Cursor::of(&parameters, false)?.map(|cursor| u32::try_from(cursor.key)).transpose();
    let before = before.map_err(|_| invalid("invalid page cursor"))?;
    on_disk(move || {
        let agent = get(&agents, &id)?;
        // One more tells whether there are more.
        let mut found = agents.versions(&agent, before, limit + 1)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.version);
        Ok(page::answer(&Stretch { found, next }, u128::from, |agent| Item::new(agent, &registry)))
    })
    .await?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_skill_and_no_server_is_left_out() {
        let strange =
            json!([null, true, 7, "pdf", [], ["version"], {"skill_id": "pdf"}, {"skill_id": "a", "version": "2"}]);
        let shown = json!([{"skill_id": "pdf", "version": "latest"}, {"skill_id": "a", "version": "2"}]);
        assert_eq!(Value::from(skills(Some(strange))), shown);
        let docs = json!([{"type": "url", "name": "docs", "url": "https://mcp.example"}]);
        for given in [
            json!([null, "docs", ["docs"], {"name": "docs", "url": "https://mcp.example", "x": 1}]),
            json!({"a": null, "b": "https://mcp.example", "docs": {"url": "https://mcp.example"}}),
        ] {
            assert_eq!(Value::from(servers(Some(given))), docs);
        }
        for nothing in [json!(null), json!("pdf"), json!(7)] {
            assert!(skills(Some(nothing.clone())).is_empty() && servers(Some(nothing)).is_empty());
        }
        assert!(skills(Some(json!({"version": null}))).is_empty(), "skills have no names");
    }
}
