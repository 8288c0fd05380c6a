//! `/v1/sessions`, without events.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Answered, ApiError, Call, Deleted, agents, environments,
    page::{Ask, Order, TimeRange, page},
};
use crate::{
    agent::equipped,
    clock::Moment,
    incoming::{Incoming, Input, Refused},
    patch,
    session::{Profile, Session, Status},
    turn,
    world::World,
};

const LIMIT_DEFAULT: usize = 20;
const INITIAL_EVENTS_MAX: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    agent: AgentRef,
    environment_id: String,
    title: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    resources: Vec<Value>,
    #[serde(default)]
    vault_ids: Vec<String>,
    #[serde(default)]
    initial_events: Vec<Value>,
    budget: Option<Value>,
}

/// How a session names its agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum AgentRef {
    Latest(String),
    Pinned {
        #[serde(rename = "type")]
        kind: AgentRefKind,
        id: String,
        version: Option<u32>,
        #[serde(flatten)]
        overrides: Map<String, Value>,
    },
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum AgentRefKind {
    Agent,
    AgentWithOverrides,
}

/// A session as it is shown.
#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    agent: &'a Map<String, Value>,
    environment_id: &'a str,
    title: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    status: Status,
    created_at: Moment,
    updated_at: Moment,
    archived_at: Option<Moment>,
    budget: Option<&'a Value>,
    outcome_evaluations: [(); 0],
    resources: &'a [Value],
    stats: Empty,
    usage: Empty,
    vault_ids: &'a [String],
    deployment_id: Option<()>,
}

#[derive(Serialize)]
struct Empty {}

pub(super) fn create(call: &Call<'_>) -> Result<Answered, ApiError> {
    let world = call.world;
    let create: Create = patch::build(call.fields()?)?;
    let agent = snapshot(world, create.agent)?;
    environments::check_usable(world, &create.environment_id)?;
    let events = initial_events(world, create.initial_events)?;
    let profile = Profile {
        agent,
        title: create.title,
        metadata: create.metadata,
        budget: create.budget,
        resources: create.resources.into_iter().map(|resource| resolved(world, resource)).collect(),
        vault_ids: create.vault_ids,
        updated_at: Moment::now(),
        archived_at: None,
    };
    let session = Session::new(&world.ids, create.environment_id, profile, world.options.backlog_bytes_max);
    let session = Arc::new(session);
    world.sessions().insert(session.id.clone(), Arc::clone(&session));
    let (_, opened) = session.send(events)?;
    if let Some(prompt) = opened {
        turn::spawn(world, &session, prompt);
    }
    show(call, &session)
}

/// A resource as it is shown: named and dated, and without what opens a repository.
fn resolved(world: &World, mut resource: Value) -> Value {
    let Some(fields) = resource.as_object_mut() else { return resource };
    fields.remove("authorization_token");
    if fields.get("type").is_some_and(|kind| kind == "memory_store") {
        return resource;
    }
    let now = json!(Moment::now());
    let id = world.ids.mint("sesrsc");
    if fields.get("mount_path").is_none_or(Value::is_null) {
        fields.insert("mount_path".to_owned(), format!("/mnt/session/{id}").into());
    }
    fields.extend([
        ("id".to_owned(), id.into()),
        ("created_at".to_owned(), now.clone()),
        ("updated_at".to_owned(), now),
    ]);
    resource
}

fn snapshot(world: &World, agent: AgentRef) -> Result<Arc<Map<String, Value>>, ApiError> {
    let (id, version, overrides) = match agent {
        AgentRef::Latest(id) => (id, None, Map::new()),
        AgentRef::Pinned { kind, id, version, overrides } => {
            let allowed = ["model", "system", "tools", "mcp_servers", "skills"];
            let extra = |key: &&String| kind == AgentRefKind::Agent || !allowed.contains(&key.as_str());
            if let Some(key) = overrides.keys().find(extra) {
                return Err(ApiError::invalid(format!("agent.{key}: Extra inputs are not permitted")));
            }
            (id, version, overrides)
        }
    };
    let agents = world.agents();
    let agent = agents.get(&id).ok_or_else(|| agents::missing(&id))?;
    if agent.latest().is_archived() {
        return Err(ApiError::invalid("Agent is archived."));
    }
    Ok(agents::version(agent, version)?.snapshot(overrides)?)
}

fn initial_events(world: &World, events: Vec<Value>) -> Result<Vec<Incoming>, ApiError> {
    if events.len() > INITIAL_EVENTS_MAX {
        return Err(ApiError::invalid("initial_events: List should have at most 50 items"));
    }
    let events = events.into_iter().enumerate().map(|(index, event)| Incoming::parse(index, event, &world.ids));
    let events: Vec<_> = events.collect::<Result<_, Refused>>()?;
    if events.iter().any(|event| !matches!(event.input, Input::Prompt(_))) {
        return Err(ApiError::invalid("initial_events: only user.message and user.define_outcome are supported"));
    }
    Ok(events)
}

/// The session that the path names.
pub(super) fn find(call: &Call<'_>) -> Result<Arc<Session>, ApiError> {
    call.world.session(call.id).ok_or_else(|| ApiError::no_such("Session", call.id))
}

fn show(call: &Call<'_>, session: &Session) -> Result<Answered, ApiError> {
    let profile = session.profile();
    Answered::json(&view(session, &profile, session.status(call.world.status_lag_ms())))
}

fn view<'a>(session: &'a Session, profile: &'a Profile, status: Status) -> View<'a> {
    View {
        id: &session.id,
        kind: "session",
        agent: &profile.agent,
        environment_id: &session.environment_id,
        title: profile.title.as_deref(),
        metadata: &profile.metadata,
        status,
        created_at: session.created_at,
        updated_at: profile.updated_at,
        archived_at: profile.archived_at,
        budget: profile.budget.as_ref(),
        outcome_evaluations: [],
        resources: &profile.resources,
        stats: Empty {},
        usage: Empty {},
        vault_ids: &profile.vault_ids,
        deployment_id: None,
    }
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    show(call, &*find(call)?)
}

pub(super) fn update(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = find(call)?;
    let changes = call.fields()?;
    session.update(|profile, status| change(profile, status, changes))?;
    show(call, &session)
}

/// Applies an update and returns what it changed.
fn change(profile: &mut Profile, status: Status, changes: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut changed = Map::new();
    for (key, change) in changes {
        let (before, after) = match (key.as_str(), change) {
            ("title", title @ (Value::String(_) | Value::Null)) => {
                let after = title.as_str().map(str::to_owned);
                (Value::from(std::mem::replace(&mut profile.title, after)), title)
            }
            ("budget", budget) => {
                let after = Some(budget.clone()).filter(|budget| !budget.is_null());
                (Value::from(std::mem::replace(&mut profile.budget, after)), budget)
            }
            ("metadata", Value::Object(metadata)) => {
                let before = metadata_value(&profile.metadata);
                merge(&mut profile.metadata, metadata)?;
                (before, metadata_value(&profile.metadata))
            }
            ("agent", Value::Object(agent)) => {
                if status == Status::Running {
                    return Err(ApiError::invalid("Session agent cannot be updated while the session is running."));
                }
                let after = equipped(&profile.agent, agent)?;
                let before = std::mem::replace(&mut profile.agent, Arc::new(after.clone()));
                (Value::Object((*before).clone()), Value::Object(after))
            }
            _ => return Err(ApiError::invalid(format!("{key}: Input is not valid"))),
        };
        if before != after {
            changed.insert(key, after);
        }
    }
    Ok(changed)
}

fn metadata_value(metadata: &BTreeMap<String, String>) -> Value {
    metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

fn merge(metadata: &mut BTreeMap<String, String>, changes: Map<String, Value>) -> Result<(), ApiError> {
    for (key, value) in changes {
        match value {
            Value::Null => drop(metadata.remove(&key)),
            Value::String(text) => drop(metadata.insert(key, text)),
            _ => return Err(ApiError::invalid(format!("metadata.{key}: Input should be a valid string"))),
        }
    }
    Ok(())
}

pub(super) fn archive(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = find(call)?;
    session.archive(call.world.status_lag_ms()).map_err(|refused| match refused {
        Refused::Running => ApiError::invalid(format!(
            "Session {} cannot be archived while its status is \"running\". Interrupt it or wait until it is idle.",
            session.id
        )),
        other => other.into(),
    })?;
    show(call, &session)
}

pub(super) fn delete(call: &Call<'_>) -> Result<Answered, ApiError> {
    find(call)?.delete(call.world.status_lag_ms()).map_err(|refused| match refused {
        Refused::Running => ApiError::invalid("Cannot delete session while it is running. Interrupt it first."),
        other => other.into(),
    })?;
    call.world.forget(call.id);
    Answered::json(&Deleted { id: call.id, kind: "session_deleted" })
}

/// A page that leads both ways.
#[derive(Serialize)]
struct Sessions<'a> {
    data: Vec<View<'a>>,
    next_page: Option<String>,
    prev_page: Option<String>,
}

pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let query = &call.query;
    let ask = Ask::parse(query, Order::Descending, LIMIT_DEFAULT)?;
    let range = TimeRange::parse(query)?;
    let lag_ms = call.world.status_lag_ms();
    let statuses = query.list("statuses");
    let agent_id = query.get("agent_id");
    let agent_version = query.get("agent_version").map(str::parse::<u32>).transpose();
    let agent_version =
        agent_version.map_err(|_| ApiError::invalid("agent_version: Input should be a valid integer"))?;
    let archived = query.is_true("include_archived");
    // Nothing here is made by a deployment or has a memory store.
    let impossible = ["deployment_id", "memory_store_id"].iter().any(|name| query.get(name).is_some());
    let sessions = call.world.sessions();
    let page = page(&sessions, &ask, |session| {
        let profile = session.profile();
        let agent = |key: &str| profile.agent.get(key);
        !impossible
            && (archived || profile.archived_at.is_none())
            && range.holds(Some(session.created_at))
            && agent_id.is_none_or(|id| agent("id").is_some_and(|agent| agent == id))
            && agent_version.is_none_or(|number| agent("version").is_some_and(|version| *version == number))
            && (statuses.is_empty() || statuses.contains(&session.status(lag_ms).name()))
    });
    let profiles: Vec<_> = page.items.iter().map(|session| session.profile()).collect();
    let views = page.items.iter().zip(&profiles);
    let data = views.map(|(session, profile)| view(session, profile, session.status(lag_ms))).collect();
    Answered::json(&Sessions { data, next_page: page.next, prev_page: page.prev })
}
