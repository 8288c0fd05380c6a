//! Sessions: started, shown, listed, changed, put away, deleted.

use std::{
    collections::{BTreeMap, HashSet},
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{
    super::{
        error::{Error, no_credential},
        idempotency::{Attempt, replayed},
        json::{self, Json},
        lap::sessions::empty_object,
        offered, on_disk,
        principal::Principal,
    },
    Deleted, Timestamp,
    agents::{self, Overridden, snapshot},
    events::{inputs, named, not_found},
    metadata::{self, Metadata},
    page::{Cursor, collect},
    parameters::{Parameters, invalid},
    runtime::Chosen,
};
use crate::{
    access::Stretch,
    agents::{Agent, Agents, Environment, Environments},
    clock,
    events::Span,
    id::{AgentId, EnvironmentId, SessionId},
    registry::Registry,
    runtime::Profile,
    session::{
        Amendment, CreateError, Facts, InputError, LinkError, NewSession, Prompt, Session, Sessions, Status, Tokens,
        Usage,
    },
};

const TITLE_CHARS_MAX: usize = 500;
const INITIAL_EVENTS_MAX: usize = 50;
const RESOURCES_MAX: usize = 500;
const VAULTS_MAX: usize = 50;

/// How many sessions a page has, and at the most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// How often a deletion is tried over while something happens to the session.
const DELETE_TRIES: usize = 3;

/// A session as clients see it.
#[derive(Serialize)]
struct Item<'a> {
    id: SessionId,
    #[serde(rename = "type")]
    kind: &'static str,
    agent: &'a RawValue,
    environment_id: EnvironmentId,
    title: Option<&'a str>,
    metadata: &'a Metadata,
    status: &'static str,
    budget: Option<&'a RawValue>,
    outcome_evaluations: [(); 0],
    resources: &'a [Box<RawValue>],
    vault_ids: &'a [String],
    stats: Stats,
    usage: Used<'a>,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    active_seconds: Option<f64>,
    duration_seconds: f64,
}

/// What a session has used, as far as its runtime tells.
#[derive(Serialize)]
#[serde(untagged)]
enum Used<'a> {
    Reported(&'a RawValue),
    Counted(Counted),
}

#[derive(Serialize, Default)]
struct Counted {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u64>,
}

impl From<Tokens> for Counted {
    fn from(tokens: Tokens) -> Self {
        Self {
            input_tokens: Some(tokens.input_tokens),
            output_tokens: Some(tokens.output_tokens),
            cache_read_input_tokens: Some(tokens.cache_read_input_tokens),
        }
    }
}

impl<'a> From<&'a Usage> for Used<'a> {
    fn from(usage: &'a Usage) -> Self {
        match &usage.reported {
            Some(reported) => Self::Reported(reported),
            None => Self::Counted(usage.tokens.map(Counted::from).unwrap_or_default()),
        }
    }
}

/// The states that this dialect knows. A turn that waits for its client, and one that failed, are over to it: the events
/// say the rest.
const fn status(status: Status) -> &'static str {
    match status {
        Status::Idle | Status::RequiresAction | Status::Error => "idle",
        Status::Running => "running",
        Status::Rescheduling => "rescheduling",
        Status::Terminated => "terminated",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a session does not last for three hundred thousand years")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl<'a> Item<'a> {
    fn new(session: &'a Session, facts: &'a Facts) -> Self {
        let end_ms = if session.status() == Status::Terminated { session.updated_ms } else { clock::unix_ms() };
        Self {
            id: session.id,
            kind: "session",
            agent: &facts.agent,
            environment_id: session.environment_id.unwrap_or(Environments::DEFAULT),
            title: Some(session.title.as_str()).filter(|_| !session.untitled),
            metadata: &facts.metadata,
            status: status(session.status()),
            budget: facts.budget.as_deref(),
            outcome_evaluations: [],
            resources: &facts.resources,
            vault_ids: &facts.vault_ids,
            stats: Stats {
                active_seconds: session.usage.active_us.map(|us| seconds(us / 1000)),
                duration_seconds: seconds(end_ms.saturating_sub(session.created_ms)),
            },
            usage: (&session.usage).into(),
            created_at: Timestamp(session.created_ms),
            updated_at: Timestamp(session.updated_ms),
            archived_at: session.archived_ms.map(Timestamp),
        }
    }
}

/// The facts of a session; what is known of the agent of one that was made before they were kept.
fn facts(sessions: &Sessions, agents: &Agents, registry: &Registry, session: &Session) -> Result<Facts, Error> {
    let mut facts = sessions.facts(session)?.unwrap_or_else(Facts::unknown);
    if facts.agent.get() == RawValue::NULL.get() {
        facts.agent = agents::of_session(agents.get(session.agent)?, session.agent, registry);
    }
    Ok(facts)
}

fn shown(sessions: &Sessions, agents: &Agents, registry: &Registry, session: &Session) -> Result<Response, Error> {
    let facts = facts(sessions, agents, registry, session)?;
    Ok(json::json(StatusCode::OK, &Item::new(session, &facts)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct New {
    agent: Box<RawValue>,
    environment_id: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    resources: Vec<Box<RawValue>>,
    #[serde(default)]
    vault_ids: Vec<String>,
    #[serde(default)]
    initial_events: Vec<Box<RawValue>>,
    #[serde(default)]
    budget: Option<Box<RawValue>>,
}

/// The agent of a new session, with a version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    #[serde(rename = "type")]
    _kind: String,
    id: String,
    #[serde(default)]
    version: Option<u32>,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

/// What a session wants of its runtime beyond its agent. A runtime that does not know one of these refuses the session.
#[derive(Serialize)]
struct Wishes<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    vault_ids: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a RawValue>,
}

#[expect(clippy::too_many_arguments, reason = "each is a handle that the framework passes")]
pub(in super::super) async fn create(
    _: Principal,
    attempt: Attempt,
    chosen: Chosen,
    agents: Agents,
    environments: Environments,
    State(registry): State<Registry>,
    sessions: Sessions,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    // Before the wish is looked at: its agent may be gone or archived by now.
    let look = sessions.clone();
    if let Some(session) = attempt.made(move |id| look.get(id)).await? {
        let shown = on_disk(move || shown(&sessions, &agents, &registry, &session)).await??;
        return Ok(replayed(shown));
    }
    let prompts = check(&new)?;
    let (agent, environment) = {
        let (reference, environment) = (new.agent, new.environment_id);
        on_disk(move || Ok::<_, Error>((agent(&agents, &reference)?, open(&environments, &environment)?))).await??
    };
    let runtime = runtime(&registry, &agent, chosen)?;
    let budget = new.budget.as_deref();
    let wishes = Wishes { resources: &new.resources, vault_ids: &new.vault_ids, budget };
    let title = new.title.filter(|title| !title.trim().is_empty());
    let wanted = NewSession {
        id: attempt.id(),
        owner: agent.owner(),
        agent: agent.id,
        agent_version: Some(agent.version),
        spec: agent.spec(None, Some(&environment)),
        runtime: runtime.id().clone(),
        environment_id: Some(environment.id),
        environment: empty_object(),
        wishes: serde_json::value::to_raw_value(&wishes).map_err(Error::internal)?,
        untitled: title.is_none(),
        title: title.unwrap_or_else(|| agent.definition.name.clone()),
        facts: Facts {
            agent: snapshot(&agent, &runtime),
            metadata: new.metadata,
            resources: new.resources.iter().map(|resource| without_secret(resource)).collect(),
            vault_ids: new.vault_ids,
            budget: new.budget,
        },
        prompts,
    };
    let session = sessions.create(wanted).await.map_err(|error| match error {
        CreateError::Link(LinkError::NoCredential) => no_credential(&runtime.description().provider_name),
        other => other.into(),
    })?;
    on_disk(move || {
        let facts = sessions.facts(&session)?.unwrap_or_else(Facts::unknown);
        Ok(json::json(StatusCode::OK, &Item::new(&session, &facts)))
    })
    .await?
}

/// A resource as it may be kept: the key to a repository goes to the upstream alone.
fn without_secret(resource: &RawValue) -> Box<RawValue> {
    let mut resource: serde_json::Value = serde_json::from_str(resource.get()).unwrap_or_default();
    if let Some(resource) = resource.as_object_mut() {
        resource.remove("authorization_token");
    }
    serde_json::value::to_raw_value(&resource).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// What of a wish can be judged by itself; its first prompts.
fn check(new: &New) -> Result<Vec<Prompt>, Error> {
    metadata::check(&new.metadata)?;
    if new.title.as_ref().is_some_and(|title| title.chars().count() > TITLE_CHARS_MAX) {
        return Err(Error::invalid(format_args!("title: at most {TITLE_CHARS_MAX} characters")));
    }
    for (name, len, most) in [
        ("initial_events", new.initial_events.len(), INITIAL_EVENTS_MAX),
        ("resources", new.resources.len(), RESOURCES_MAX),
        ("vault_ids", new.vault_ids.len(), VAULTS_MAX),
    ] {
        if len > most {
            return Err(Error::invalid(format_args!("{name}: at most {most}")));
        }
    }
    let inputs = inputs("initial_events", new.initial_events.clone())?;
    let first = |kind: &str| matches!(kind, "user.message" | "user.define_outcome");
    if let Some(input) = inputs.iter().find(|input| !first(&input.kind)) {
        return Err(Error::invalid(format_args!("initial_events: a session cannot begin with {}", input.kind)));
    }
    Ok(inputs.into_iter().map(|input| Prompt::of_event(input.json)).collect())
}

/// The agent that a reference means: its id, or one with a version and perhaps with changes for this session alone.
fn agent(agents: &Agents, reference: &RawValue) -> Result<Agent, Error> {
    fn parse<'a, T: Deserialize<'a>>(reference: &'a RawValue) -> Result<T, Error> {
        serde_json::from_str(reference.get()).map_err(|error| Error::invalid(format_args!("agent: {error}")))
    }
    if reference.get().starts_with('"') {
        return agents::takes_sessions(agents, &parse::<String>(reference)?, None);
    }
    let Typed { kind } = parse(reference)?;
    match kind.as_str() {
        "agent" => {
            let Pinned { id, version, .. } = parse(reference)?;
            agents::takes_sessions(agents, &id, version)
        }
        "agent_with_overrides" => {
            let overridden: Overridden = parse(reference)?;
            let mut agent = agents::takes_sessions(agents, &overridden.id, overridden.version)?;
            overridden.apply(&mut agent.definition)?;
            Ok(agent)
        }
        _ => Err(Error::invalid("agent.type: must be `agent` or `agent_with_overrides`")),
    }
}

fn open(environments: &Environments, id: &str) -> Result<Environment, Error> {
    let known = id.parse().map_or(Ok(None), |id| environments.get(id))?;
    let missing = || Error::new(StatusCode::NOT_FOUND, "environment_not_found", format!("environment {id} not found"));
    let environment = known.ok_or_else(missing)?;
    if environment.archived_ms.is_some() {
        let message = format!("environment {id} is archived and takes no new sessions");
        return Err(Error::new(StatusCode::BAD_REQUEST, "environment_archived", message));
    }
    Ok(environment)
}

fn runtime(registry: &Registry, agent: &Agent, chosen: Chosen) -> Result<Arc<Profile>, Error> {
    let id = agent.definition.runtime().unwrap_or_else(|| chosen.runtime());
    offered(registry, id.as_str())
}

pub(in super::super) async fn retrieve(
    _: Principal,
    agents: Agents,
    State(registry): State<Registry>,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    on_disk(move || {
        let session = sessions.get(named(&id)?)?.ok_or_else(|| not_found(&id))?;
        shown(&sessions, &agents, &registry, &session)
    })
    .await?
}

/// Which sessions a client wants to see.
struct Filter {
    agent: Option<AgentId>,
    agent_version: Option<u64>,
    statuses: HashSet<String>,
    created: (Bound<u64>, Bound<u64>),
    include_archived: bool,
    memory_store: Option<String>,
    /// True when it names something that no session here can have.
    nothing: bool,
}

/// The statuses of a session.
const STATUSES: [&str; 4] = ["rescheduling", "running", "idle", "terminated"];

impl Filter {
    fn of(parameters: &Parameters) -> Result<Self, Error> {
        let statuses: HashSet<String> = parameters.array("statuses").map(str::to_owned).collect();
        if let Some(unknown) = statuses.iter().find(|status| !STATUSES.contains(&status.as_str())) {
            return Err(invalid(&format!("statuses: {unknown:?} is none of {}", STATUSES.join(", "))));
        }
        let agent = parameters.text("agent_id");
        let known = agent.and_then(|id| id.parse().ok());
        Ok(Self {
            agent: known,
            agent_version: parameters.number("agent_version")?.filter(|_| agent.is_some()),
            statuses,
            created: parameters.times("created_at")?,
            include_archived: parameters.flag("include_archived")?,
            memory_store: parameters.text("memory_store_id").map(str::to_owned),
            nothing: agent.is_some() && known.is_none() || parameters.text("deployment_id").is_some(),
        })
    }

    fn wants(&self, session: &Session) -> bool {
        !self.nothing
            && self.agent.is_none_or(|agent| agent == session.agent)
            && self.agent_version.is_none_or(|version| session.agent_version.map(u64::from) == Some(version))
            && (self.statuses.is_empty() || self.statuses.contains(status(session.status())))
            && self.created.contains(&Timestamp(session.created_ms).us())
            && (self.include_archived || session.archived_ms.is_none())
    }

    /// The same for what is not in a session's record.
    fn wants_facts(&self, facts: &Facts) -> bool {
        #[derive(Deserialize)]
        struct Resource {
            #[serde(default)]
            memory_store_id: Option<String>,
        }
        let has = |wanted: &String| {
            facts.resources.iter().any(|resource| {
                let resource = serde_json::from_str::<Resource>(resource.get());
                resource.is_ok_and(|resource| resource.memory_store_id.as_ref() == Some(wanted))
            })
        };
        self.memory_store.as_ref().is_none_or(has)
    }
}

#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Item<'a>>,
    next_page: Option<Cursor>,
    prev_page: Option<Cursor>,
}

pub(in super::super) async fn list(
    _: Principal,
    agents: Agents,
    State(registry): State<Registry>,
    sessions: Sessions,
    parameters: Parameters,
) -> Result<Response, Error> {
    let ascending = parameters.ascending(false)?;
    let (filter, limit) = (Filter::of(&parameters)?, parameters.limit(LIMIT, LIMIT_MAX)?);
    let cursor = Cursor::of(&parameters, ascending)?;
    on_disk(move || {
        let facts_of = |session: &Session| facts(&sessions, &agents, &registry, session);
        let backwards = cursor.is_some_and(|cursor| cursor.backwards);
        let from = cursor.map(|cursor| SessionId::from_bytes(cursor.key.to_be_bytes()));
        let span = |from| if ascending == backwards { Span::Before(from) } else { Span::After(from) };
        // One more tells whether there are more.
        let wants = |session: &Session| {
            // Facts are large: they are read where something depends on them.
            let in_store = || Ok::<_, Error>(filter.wants_facts(&facts_of(session)?));
            Ok::<_, Error>(filter.wants(session) && (filter.memory_store.is_none() || in_store()?))
        };
        let read = |place, limit| {
            let Stretch { found, next } = sessions.list(span(place), limit)?;
            let wanted = found.into_iter().map(|session| Ok::<_, Error>(wants(&session)?.then_some(session)));
            Ok::<_, Error>(Stretch { found: wanted.filter_map(Result::transpose).collect::<Result<_, _>>()?, next })
        };
        let Stretch { mut found, next } = collect(from, limit, read, |session| session.id, |_| true)?;
        if backwards {
            found.reverse();
        }
        let facts = found.iter().map(facts_of).collect::<Result<Vec<_>, _>>()?;
        let cursor_at = |backwards: bool, at: Option<SessionId>| {
            at.map(|id| Cursor { ascending, backwards, key: u128::from_be_bytes(id.to_bytes()) })
        };
        // Away from where the page began it goes on as it was read; towards there it goes back over what is shown.
        let (first, last) = (found.first().map(|session| session.id), found.last().map(|session| session.id));
        let page = Page {
            next_page: cursor_at(false, if backwards { last } else { next }),
            prev_page: cursor_at(true, if backwards { next } else { first.filter(|_| from.is_some()) }),
            data: found.iter().zip(&facts).map(|(session, facts)| Item::new(session, facts)).collect(),
        };
        Ok(json::json(StatusCode::OK, &page))
    })
    .await?
}

/// A change: what is not named stays, and null clears.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Patch {
    #[serde(default, deserialize_with = "present")]
    title: Option<Option<String>>,
    #[serde(default)]
    metadata: Option<metadata::Patch>,
    #[serde(default)]
    agent: Option<AgentPatch>,
    #[serde(default, deserialize_with = "present")]
    budget: Option<Option<Box<RawValue>>>,
    #[serde(default)]
    vault_ids: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AgentPatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tools: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mcp_servers: Option<Box<RawValue>>,
}

/// Tells null from nothing.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What the runtime is told of a change, and what others are.
#[derive(Serialize)]
struct Update<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a AgentPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a Option<Box<RawValue>>>,
}

pub(in super::super) async fn update(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    State(registry): State<Registry>,
    sessions: Sessions,
    Path(id): Path<String>,
    Json(patch): Json<Patch>,
) -> Result<Response, Error> {
    let session = named(&id)?;
    let known = sessions.find(session).await?.ok_or_else(|| not_found(&id))?;
    if attempt.is_replay() {
        let shown = on_disk(move || shown(&sessions, &agents, &registry, &known)).await??;
        return Ok(replayed(shown));
    }
    if patch.vault_ids.is_some() {
        return Err(Error::invalid("vault_ids: cannot be changed"));
    }
    let Patch { title, metadata, agent, budget, .. } = patch;
    let title = title.map(|title| title.filter(|title| !title.trim().is_empty()));
    if title.iter().flatten().any(|title| title.chars().count() > TITLE_CHARS_MAX) {
        return Err(Error::invalid(format_args!("title: at most {TITLE_CHARS_MAX} characters")));
    }
    let update = |kind, title, metadata, agent, budget| {
        serde_json::to_string(&Update { kind, title, metadata, agent, budget }).map_err(Error::internal)
    };
    // What the host keeps by itself is none of the runtime's business.
    let input = (agent.is_some() || budget.is_some())
        .then(|| update("session.update", None, None, agent.as_ref(), budget.as_ref()))
        .transpose()?;
    let event = update("session.updated", title.as_ref(), metadata.as_ref(), None, budget.as_ref())?;
    let runtime = registry.get(known.runtime.as_str());
    let (look, of, at) = (sessions.clone(), agents.clone(), registry.clone());
    let described = on_disk(move || Ok::<_, Error>((of.get(known.agent)?, facts(&look, &of, &at, &known)?.agent)));
    let (described, unknown) = described.await??;
    let at_rest = agent.is_some();
    let change = move |session: &mut Session, facts: &mut Facts| {
        if facts.agent.get() == RawValue::NULL.get() {
            facts.agent.clone_from(&unknown);
        }
        if let Some(patch) = &metadata {
            facts.metadata = metadata::patched(&facts.metadata, patch.clone()).map_err(|error| error.message)?;
        }
        if let Some(AgentPatch { tools, mcp_servers }) = &agent {
            facts.agent = agents::with_tools(&facts.agent, tools.clone(), mcp_servers.clone(), runtime.as_deref())
                .map_err(|error| error.message)?;
        }
        if let Some(budget) = &budget {
            match (&facts.budget, budget) {
                (None, Some(_)) => return Err("budget: a session that began without one gets none".to_owned()),
                _ => facts.budget.clone_from(budget),
            }
        }
        if let Some(title) = &title {
            session.untitled = title.is_none();
            let named = || described.as_ref().map(|agent| agent.definition.name.clone()).unwrap_or_default();
            session.title = title.clone().unwrap_or_else(named);
        }
        Ok(())
    };
    let amendment = Amendment { change: Box::new(change), event: Some(event), at_rest };
    let session = sessions.amend(session, amendment, input, attempt.receipt()).await?;
    on_disk(move || shown(&sessions, &agents, &registry, &session)).await?
}

/// Puts a session away: it takes no more events, and lists leave it out.
pub(in super::super) async fn archive(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    State(registry): State<Registry>,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let session = named(&id)?;
    let known = sessions.find(session).await?.ok_or_else(|| not_found(&id))?;
    if attempt.is_replay() {
        let shown = on_disk(move || shown(&sessions, &agents, &registry, &known)).await??;
        return Ok(replayed(shown));
    }
    let change = |session: &mut Session, _: &mut Facts| {
        session.archived_ms.get_or_insert_with(clock::unix_ms);
        Ok(())
    };
    let amendment = Amendment { change: Box::new(change), event: None, at_rest: true };
    let archived = sessions.amend(session, amendment, None, attempt.receipt()).await.map_err(|error| match error {
        InputError::Running => {
            let status = status(known.status());
            Error::session_running(format!("Session {id} cannot be archived while its status is \"{status}\"."))
        }
        other => other.into(),
    })?;
    on_disk(move || shown(&sessions, &agents, &registry, &archived)).await?
}

/// Deletes a session, here and upstream.
pub(in super::super) async fn delete(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let session = named(&id)?;
    for _ in 0..DELETE_TRIES {
        let known = sessions.find(session).await?.ok_or_else(|| not_found(&id))?;
        if !known.settled() {
            break;
        }
        if sessions.delete_unchanged(&known).await? {
            return Ok(json::json(StatusCode::OK, &Deleted { id: session, kind: "session_deleted" }));
        }
    }
    Err(Error::session_running("Cannot delete session while it is running; interrupt it first."))
}
