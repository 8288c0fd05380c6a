//! Agents: made, listed, changed, paused, deleted.

use axum::{extract::Path, response::Response};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::super::{
    Query,
    anthropic::page::collect,
    error::Error,
    idempotency::{Attempt, replayed},
    json::{self, Json},
    limit::Wanted,
    on_disk,
    principal::Principal,
};
use crate::{
    access::Scope,
    agents::{Agent, Agents, Array, Definition, MAX_RUNTIME_MINUTES, Object, Status, TIMEZONE},
    id::{AgentId, RuntimeId},
};

/// An agent as clients see it, in the order that they see it in.
#[derive(Serialize)]
struct Row<'a> {
    id: AgentId,
    name: &'a str,
    model: &'a str,
    system: &'a str,
    tools: Option<&'a RawValue>,
    cadence: Option<&'a str>,
    interval_seconds: (),
    /// An agent has no session of its own here.
    session_id: (),
    loop_id: (),
    created_at: u64,
    prompt: Option<&'a str>,
    cron: Option<&'a str>,
    timezone: &'a str,
    vault_keys: &'a Array,
    setup_commands: &'a Array,
    max_runtime_minutes: u32,
    on_failure: &'a str,
    config: &'a Object,
    owner_id: &'a str,
    status: Status,
    description: Option<&'a str>,
    /// What the platform calls the one harness that it knows.
    harness: &'static str,
    skill_ids: &'a Array,
    rule_ids: &'a Array,
}

impl<'a> From<&'a Agent> for Row<'a> {
    fn from(agent: &'a Agent) -> Self {
        let definition = &agent.definition;
        Self {
            id: agent.id,
            name: &definition.name,
            model: &definition.model,
            system: &definition.system,
            tools: definition.tools.as_deref(),
            cadence: definition.cadence.as_deref(),
            interval_seconds: (),
            session_id: (),
            loop_id: (),
            created_at: agent.created_ms,
            prompt: definition.prompt.as_deref(),
            cron: definition.cron.as_deref(),
            timezone: &definition.timezone,
            vault_keys: &definition.vault_keys,
            setup_commands: &definition.setup_commands,
            max_runtime_minutes: definition.max_runtime_minutes,
            on_failure: &definition.on_failure,
            config: &definition.config,
            owner_id: &definition.owner_id,
            status: definition.status,
            description: definition.description.as_deref(),
            harness: "claude-code",
            skill_ids: &definition.skill_ids,
            rule_ids: &definition.rule_ids,
        }
    }
}

/// What a client says of a field that may be empty: nothing, null, or a value.
#[derive(Debug, Default)]
enum Wish<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Wish<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T> Wish<T> {
    /// `empty` is what null means.
    fn apply_to(self, field: &mut T, empty: impl FnOnce() -> T) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = empty(),
            Self::Set(value) => *field = value,
        }
    }

    fn apply_to_option(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }
}

/// What a client wants an agent to be. For the fields that cannot be empty, null says as little as absence.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in super::super) struct Wishes {
    name: Option<String>,
    owner_id: Option<String>,
    status: Option<Status>,
    model: Option<String>,
    on_failure: Option<String>,
    runtime: Wish<String>,
    system: Wish<String>,
    prompt: Wish<String>,
    description: Wish<String>,
    tools: Wish<Box<RawValue>>,
    config: Wish<Object>,
    vault_keys: Wish<Array>,
    setup_commands: Wish<Array>,
    skill_ids: Wish<Array>,
    rule_ids: Wish<Array>,
    schedule: Wish<Schedule>,
    cron: Wish<String>,
    timezone: Wish<String>,
    max_runtime_minutes: Wish<u32>,
}

#[derive(Debug, Deserialize)]
struct Schedule {
    cron: String,
    #[serde(default)]
    timezone: Option<String>,
}

/// Wishes that can be fulfilled, whatever the agent.
struct Checked {
    wishes: Wishes,
    runtime: Wish<RuntimeId>,
}

impl Wishes {
    /// Refuses to make something somebody else's.
    fn of_owner(&self, scope: &Scope) -> Result<(), Error> {
        let (Some(wanted), Some(owner)) = (&self.owner_id, scope.owner()) else { return Ok(()) };
        if scope.holds(wanted) {
            return Ok(());
        }
        let message = format!("this key is {owner}'s and makes nothing of another owner's: leave `owner_id` out");
        Err(Error::new(StatusCode::FORBIDDEN, "owner_forbidden", message))
    }

    fn check(mut self) -> Result<Checked, Error> {
        let blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if blank(&self.name) || blank(&self.owner_id) {
            return Err(Error::invalid("name and owner_id required"));
        }
        if blank(&self.model) || blank(&self.on_failure) {
            return Err(Error::invalid("model and on_failure must not be blank"));
        }
        let runtime = match std::mem::take(&mut self.runtime) {
            Wish::Keep => Wish::Keep,
            Wish::Clear => Wish::Clear,
            Wish::Set(id) => Wish::Set(runtime_id(&id)?),
        };
        if let Wish::Set(config) = &self.config {
            check_config(config)?;
        }
        Ok(Checked { wishes: self, runtime })
    }
}

fn runtime_id(id: &str) -> Result<RuntimeId, Error> {
    id.parse().map_err(|_| Error::invalid("runtime must be the name of a runtime"))
}

/// The keys that the platform reads must be what it takes them for.
fn check_config(config: &Object) -> Result<(), Error> {
    let text = |key: &str| {
        let value = config.get(key).filter(|value| value.get() != "null");
        let parsed = value.map(|value| serde_json::from_str::<String>(value.get())).transpose();
        parsed.map_err(|_| Error::invalid(format_args!("config.{key} must be a string")))
    };
    text("model")?;
    text("runtime")?.map_or(Ok(()), |id| runtime_id(&id).map(drop))
}

impl Checked {
    fn apply(self, to: &mut Definition) {
        let Self { wishes, runtime } = self;
        let set = |field: &mut String, wish: Option<String>| {
            if let Some(text) = wish {
                *field = text;
            }
        };
        set(&mut to.name, wishes.name);
        set(&mut to.owner_id, wishes.owner_id);
        set(&mut to.model, wishes.model);
        set(&mut to.on_failure, wishes.on_failure);
        to.status = wishes.status.unwrap_or(to.status);
        wishes.system.apply_to(&mut to.system, String::new);
        wishes.prompt.apply_to_option(&mut to.prompt);
        wishes.description.apply_to_option(&mut to.description);
        wishes.tools.apply_to_option(&mut to.tools);
        wishes.config.apply_to(&mut to.config, Object::new);
        wishes.vault_keys.apply_to(&mut to.vault_keys, Array::new);
        wishes.setup_commands.apply_to(&mut to.setup_commands, Array::new);
        wishes.skill_ids.apply_to(&mut to.skill_ids, Array::new);
        wishes.rule_ids.apply_to(&mut to.rule_ids, Array::new);
        wishes.max_runtime_minutes.apply_to(&mut to.max_runtime_minutes, || MAX_RUNTIME_MINUTES);
        match wishes.schedule {
            Wish::Keep => {}
            Wish::Clear => (to.cron, to.cadence) = (None, None),
            Wish::Set(Schedule { cron, timezone }) => {
                (to.cron, to.cadence) = (Some(cron.clone()), Some(cron));
                set(&mut to.timezone, timezone);
            }
        }
        wishes.cron.apply_to_option(&mut to.cron);
        wishes.timezone.apply_to(&mut to.timezone, || TIMEZONE.to_owned());
        // After `config`, which may have replaced the object that the runtime's name stands in.
        match runtime {
            Wish::Keep => {}
            Wish::Clear => to.set_runtime(None),
            Wish::Set(id) => to.set_runtime(Some(&id)),
        }
    }
}

/// What a new agent is, of its owner's wishes and the defaults.
fn defined(mut wishes: Wishes, scope: &Scope) -> Result<Definition, Error> {
    if let Some(owner) = scope.owner() {
        wishes.owner_id.get_or_insert_with(|| owner.to_string());
    }
    wishes.of_owner(scope)?;
    let mut checked = wishes.check()?;
    let Wishes { name: Some(name), owner_id: Some(owner_id), .. } = &checked.wishes else {
        return Err(Error::invalid("name and owner_id required"));
    };
    let mut definition = Definition::new(name.clone(), owner_id.clone());
    if let (Wish::Keep | Wish::Clear, Wish::Set(prompt)) = (&checked.wishes.system, &checked.wishes.prompt) {
        checked.wishes.system = Wish::Set(prompt.clone());
    }
    checked.apply(&mut definition);
    Ok(definition)
}

fn not_found() -> Error {
    Error::new(StatusCode::NOT_FOUND, "agent_not_found", "not found")
}

/// The agent that a path names.
fn named(id: &str) -> Result<AgentId, Error> {
    id.parse().map_err(|_| not_found())
}

pub(in super::super) async fn create(
    principal: Principal,
    attempt: Attempt,
    agents: Agents,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    let answer = |agent| json::json(StatusCode::CREATED, &Row::from(&agent));
    let look = agents.clone();
    if let Some(agent) = attempt.made(move |id| look.get(id)).await? {
        return Ok(replayed(answer(agent)));
    }
    let definition = defined(wishes, principal.scope())?;
    let agent = on_disk(move || agents.create(attempt.id(), definition)).await??;
    Ok(answer(agent))
}

#[derive(Deserialize)]
pub(in super::super) struct Whose {
    #[serde(default)]
    owner_id: Option<String>,
    #[serde(default)]
    limit: Wanted,
    /// The last agent of the page before.
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    order: Order,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// The first made first.
    #[default]
    Asc,
    /// The latest first.
    Desc,
}

/// How many agents a list has, and at the most.
const LIMIT: usize = 1000;

#[derive(Serialize)]
struct List<'a> {
    agents: Vec<Row<'a>>,
}

/// The first made first. A list that goes on names its last agent in `x-next-page`.
pub(in super::super) async fn list(
    _: Principal,
    agents: Agents,
    Query(whose): Query<Whose>,
) -> Result<Response, Error> {
    let limit = whose.limit.within(LIMIT);
    let after = whose.after.as_deref().map(str::parse).transpose().map_err(|_| {
        Error::new(StatusCode::BAD_REQUEST, "cursor_invalid", "`after` must be the id of an agent, as in `x-next-page`")
    })?;
    on_disk(move || {
        let wanted = |agent: &Agent| whose.owner_id.as_ref().is_none_or(|owner| *owner == agent.definition.owner_id);
        let stretch = |from, limit| match whose.order {
            Order::Asc => agents.after(from, limit),
            Order::Desc => agents.before(from, limit),
        };
        let page = collect(after, limit, stretch, |agent| agent.id, wanted)?;
        let mut response = json::json(StatusCode::OK, &List { agents: page.found.iter().map(Row::from).collect() });
        let next = page.next.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
        if let Some(next) = next {
            response.headers_mut().insert("x-next-page", next);
        }
        Ok(response)
    })
    .await?
}

pub(in super::super) async fn get(_: Principal, agents: Agents, Path(id): Path<String>) -> Result<Response, Error> {
    let id = named(&id)?;
    let agent = on_disk(move || agents.get(id)).await??.ok_or_else(not_found)?;
    Ok(json::json(StatusCode::OK, &Row::from(&agent)))
}

pub(in super::super) async fn update(
    principal: Principal,
    agents: Agents,
    Path(id): Path<String>,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    wishes.of_owner(principal.scope())?;
    let (id, checked) = (named(&id)?, wishes.check()?);
    let change = move |definition: &mut Definition| {
        checked.apply(definition);
        Ok::<_, Error>(())
    };
    let agent = on_disk(move || agents.update(id, None, change)).await??;
    Ok(json::json(StatusCode::OK, &Row::from(&agent.ok_or_else(not_found)?)))
}

pub(in super::super) async fn delete(_: Principal, agents: Agents, Path(id): Path<String>) -> Result<Response, Error> {
    let id = named(&id)?;
    if on_disk(move || agents.delete(id)).await?? {
        Ok(json::text(StatusCode::OK, r#"{"ok":true}"#))
    } else {
        Err(not_found())
    }
}

pub(in super::super) async fn pause(
    principal: Principal,
    attempt: Attempt,
    agents: Agents,
    id: Path<String>,
) -> Result<Response, Error> {
    set_status(principal, attempt, agents, id, Status::Paused).await
}

pub(in super::super) async fn resume(
    principal: Principal,
    attempt: Attempt,
    agents: Agents,
    id: Path<String>,
) -> Result<Response, Error> {
    set_status(principal, attempt, agents, id, Status::Active).await
}

#[derive(Serialize)]
struct NewStatus {
    id: AgentId,
    status: Status,
}

async fn set_status(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    Path(id): Path<String>,
    status: Status,
) -> Result<Response, Error> {
    let id = named(&id)?;
    let answer = json::json(StatusCode::OK, &NewStatus { id, status });
    if attempt.is_replay() {
        return Ok(replayed(answer));
    }
    let agents = agents.noting(attempt.mark());
    on_disk(move || agents.set_status(id, status)).await??.ok_or_else(not_found)?;
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn created(json: &str) -> Result<Definition, String> {
        let wishes = serde_json::from_str(json).map_err(|error| error.to_string())?;
        defined(wishes, &Scope::All).map_err(|error| error.message)
    }

    fn patched(json: &str) -> String {
        let made = r#"{"name":"n","owner_id":"o","prompt":"p","runtime":"cursor","tools":[1],"config":{"a":1},"vault_keys":["K"]}"#;
        let mut agent = Agent::placeholder(AgentId::fresh());
        (agent.created_ms, agent.definition) = (1, created(made).unwrap());
        serde_json::from_str::<Wishes>(json).unwrap().check().unwrap().apply(&mut agent.definition);
        let row = serde_json::to_string(&Row::from(&agent)).unwrap();
        row.replace(&agent.id.to_string(), "agent_1")
    }

    #[test]
    fn a_row_has_the_platform_s_fields_in_the_platform_s_order() {
        let expected = concat!(
            r#"{"id":"agent_1","name":"n","model":"claude-sonnet-4-6","system":"p","tools":[1],"cadence":null,"#,
            r#""interval_seconds":null,"session_id":null,"loop_id":null,"created_at":1,"prompt":"p","cron":null,"#,
            r#""timezone":"UTC","vault_keys":["K"],"setup_commands":[],"max_runtime_minutes":30,"#,
            r#""on_failure":"pause_and_notify","config":{"a":1,"runtime":"cursor"},"owner_id":"o","status":"active","#,
            r#""description":null,"harness":"claude-code","skill_ids":[],"rule_ids":[]}"#,
        );
        assert_eq!(patched("{}"), expected);
        assert_eq!(
            patched(r#"{"name":null,"status":null,"mcp_servers":[]}"#),
            expected,
            "null where nothing can be empty"
        );
    }

    #[test]
    fn null_clears_what_may_be_empty() {
        let row =
            patched(r#"{"prompt":null,"system":null,"tools":null,"vault_keys":null,"config":null,"description":null}"#);
        for part in [r#""prompt":null"#, r#""system":"""#, r#""tools":null"#, r#""vault_keys":[]"#, r#""config":{}"#] {
            assert!(row.contains(part), "{part} in {row}");
        }
    }

    #[test]
    fn the_runtime_s_name_survives_a_new_config_only_if_it_is_given_again() {
        assert!(patched(r#"{"config":{"b":2}}"#).contains(r#""config":{"b":2}"#));
        assert!(patched(r#"{"config":{"b":2},"runtime":"x"}"#).contains(r#""config":{"b":2,"runtime":"x"}"#));
        assert!(patched(r#"{"runtime":null}"#).contains(r#""config":{"a":1}"#));
    }

    #[test]
    fn a_schedule_fills_cron_cadence_and_time_zone() {
        let row = patched(r#"{"schedule":{"cron":"0 9 * * 1","timezone":"Europe/Berlin"}}"#);
        assert!(row.contains(r#""cadence":"0 9 * * 1""#) && row.contains(r#""timezone":"Europe/Berlin""#), "{row}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for json in ["{}", r#"{"name":"n"}"#, r#"{"name":" ","owner_id":"o"}"#, r#"{"name":"n","owner_id":""}"#] {
            assert_eq!(created(json).unwrap_err(), "invalid request json: name and owner_id required", "{json}");
        }
        let others = [
            r#""runtime":"""#,
            r#""runtime":"a b""#,
            r#""config":[]"#,
            r#""config":{"runtime":" "}"#,
            r#""config":{"model":7}"#,
            r#""model":" ""#,
            r#""vault_keys":{}"#,
            r#""status":"gone""#,
            r#""max_runtime_minutes":-1"#,
        ];
        for field in others {
            let json = format!(r#"{{"name":"n","owner_id":"o",{field}}}"#);
            assert!(created(&json).is_err(), "{json}");
        }
    }
}
