//! Sessions: started, listed, prompted, interrupted, deleted.
//!
//! `item.rs` what is shown of one · `list.rs` all of them, page by page · `feed.rs` all of them, as they change

mod feed;
mod item;
mod list;

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::item::{Item, Time};
pub(in super::super) use self::{feed::feed, list::list};
use super::super::{
    Query,
    anthropic::agents::snapshot,
    error::{Error, no_credential},
    idempotency::{Attempt, replayed},
    json::{self, Json},
    limit::Wanted,
    offered, on_disk,
    principal::Principal,
};
use crate::{
    agents::{Agent, Agents, Status},
    events::{Limit, Run},
    id::{MessageId, SessionId},
    registry::Registry,
    runtime::Profile,
    session::{self, CreateError, Facts, LinkError, Message, NewSession, Sessions, UpstreamEnd},
};

/// The session that a path names.
pub(in super::super) fn named(id: &str) -> Result<SessionId, Error> {
    id.parse().map_err(|_| Error::session_not_found())
}

#[derive(Deserialize)]
pub(in super::super) struct New {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    runtime: Option<String>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    environment: Option<Box<RawValue>>,
}

/// The wish of a session that the platform reads; the others are the runtime's.
#[derive(Deserialize)]
struct Environment {
    #[serde(default)]
    model: Option<String>,
}

pub(in super::super) async fn create(
    _: Principal,
    attempt: Attempt,
    agents: Agents,
    State(registry): State<Registry>,
    sessions: Sessions,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    // Before the wish is looked at: its agent may be gone or paused by now.
    let look = sessions.clone();
    if let Some(session) = attempt.made(move |id| look.get(id)).await? {
        return Ok(replayed(json::json(StatusCode::OK, &Item::from(&session))));
    }
    let named = new.runtime.as_deref().filter(|id| !id.trim().is_empty());
    let named = named.map(|id| offered(&registry, id)).transpose()?;
    let wanted = new.agent_id.or(new.agent);
    let agent = on_disk(move || agent(&agents, wanted.as_deref())).await??;
    let runtime = match named {
        Some(runtime) => runtime,
        None => own_runtime(&registry, &agent)?,
    };
    let (environment, model) = wishes(new.environment)?;
    let title = new.title.filter(|title| !title.trim().is_empty());
    let wanted = NewSession {
        id: attempt.id(),
        owner: agent.owner(),
        agent: agent.id,
        spec: agent.spec(model.as_deref(), None),
        runtime: runtime.id().clone(),
        untitled: title.is_none(),
        agent_version: Some(agent.version),
        environment_id: None,
        wishes: environment.clone(),
        environment,
        facts: Facts { agent: snapshot(&agent, &runtime), ..Facts::unknown() },
        title: title.unwrap_or(agent.definition.name),
        prompts: new
            .prompt
            .filter(|prompt| !prompt.trim().is_empty())
            .map(session::Prompt::of_text)
            .into_iter()
            .collect(),
    };
    let session = sessions.create(wanted).await.map_err(|error| match error {
        CreateError::Link(LinkError::NoCredential) => no_credential(&runtime.description().provider_name),
        other => other.into(),
    })?;
    Ok(json::json(StatusCode::OK, &Item::from(&session)))
}

/// The agent of a new session, if it takes one.
fn agent(agents: &Agents, id: Option<&str>) -> Result<Agent, Error> {
    let id = id.filter(|id| !id.trim().is_empty()).ok_or_else(|| Error::invalid("agent_id is required"))?;
    let known = id.parse().map_or(Ok(None), |id| agents.get(id))?;
    let agent =
        known.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "agent_not_found", format!("unknown agent: {id}")))?;
    if agent.archived_ms.is_some() {
        let message = format!("the agent {id} is archived and takes no new sessions");
        return Err(Error::new(StatusCode::BAD_REQUEST, "agent_archived", message));
    }
    match agent.definition.status {
        Status::Active => Ok(agent),
        Status::Paused => {
            let message =
                format!("the agent is paused and takes no new sessions; POST /api/agents/{id}/resume lets it");
            Err(Error::new(StatusCode::CONFLICT, "agent_paused", message))
        }
    }
}

/// The runtime of an agent whose session names none.
fn own_runtime(registry: &Registry, agent: &Agent) -> Result<Arc<Profile>, Error> {
    let id = agent.definition.runtime().ok_or_else(|| {
        Error::invalid(
            "give the session or its agent a `runtime`: sessions without one, on the host itself, are not served",
        )
    })?;
    offered(registry, id.as_str())
}

/// The environment as given, and the model in it.
fn wishes(environment: Option<Box<RawValue>>) -> Result<(Box<RawValue>, Option<String>), Error> {
    let Some(given) = environment else { return Ok((empty_object(), None)) };
    // Otherwise an array would pass for a struct whose fields it lists.
    if !given.get().starts_with('{') {
        return Err(Error::invalid("environment must be an object"));
    }
    let Environment { model } =
        serde_json::from_str(given.get()).map_err(|error| Error::invalid(format_args!("environment: {error}")))?;
    Ok((given, model))
}

pub(in super::super) fn empty_object() -> Box<RawValue> {
    // Two characters that are JSON.
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

pub(in super::super) async fn get(_: Principal, sessions: Sessions, Path(id): Path<String>) -> Result<Response, Error> {
    let session = sessions.find(named(&id)?).await?.ok_or_else(Error::session_not_found)?;
    Ok(json::json(StatusCode::OK, &Item::from(&session)))
}

/// A session that was ended for good.
#[derive(Serialize)]
struct Killed {
    id: SessionId,
    status: &'static str,
    upstream: UpstreamEnd,
}

/// Ends a session for good and keeps its log. Asked again, it says what is known upstream then.
pub(in super::super) async fn kill(
    _: Principal,
    attempt: Attempt,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id = named(&id)?;
    let upstream = sessions.kill(id, attempt.receipt()).await?;
    let status = session::Status::Terminated.as_str();
    let answer = json::json(StatusCode::OK, &Killed { id, status, upstream });
    Ok(if attempt.is_replay() { replayed(answer) } else { answer })
}

/// `true` once it is gone, also upstream; `false` when there was none.
pub(in super::super) async fn delete(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let deleted = match id.parse() {
        Ok(id) => sessions.delete(id).await?,
        Err(crate::id::Invalid) => false,
    };
    Ok(json::text(StatusCode::OK, if deleted { "true" } else { "false" }))
}

/// A message as clients see it.
#[derive(Serialize)]
struct MessageItem<'a> {
    info: Info,
    parts: [TextPart<'a>; 1],
}

/// Where a message stands that is not on its way.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum MessageStatus {
    /// It waits for the turn to end.
    Queued,
    /// It will not be sent.
    Withdrawn,
}

#[derive(Serialize)]
struct Info {
    /// Absent once it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<MessageStatus>,
    id: MessageId,
    role: &'static str,
    #[serde(rename = "sessionID")]
    session: SessionId,
    time: Time,
}

#[derive(Serialize)]
struct TextPart<'a> {
    id: String,
    #[serde(rename = "messageID")]
    message: MessageId,
    #[serde(rename = "sessionID")]
    session: SessionId,
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

impl<'a> MessageItem<'a> {
    fn new(session: SessionId, message: &'a Message, waits: bool) -> Self {
        let Message { id, created_ms, text, withdrawn, event: _ } = message;
        let status = match (withdrawn, waits) {
            (true, _) => Some(MessageStatus::Withdrawn),
            (false, true) => Some(MessageStatus::Queued),
            (false, false) => None,
        };
        let time = Time { created: *created_ms, updated: None };
        let part = TextPart { id: format!("{id}_text"), message: *id, session, kind: "text", text };
        Self { info: Info { status, id: *id, role: "user", session, time }, parts: [part] }
    }
}

/// Messages in an answer, and their size as it is stored.
const MESSAGES_MAX: Limit = Limit { rows: 1000, bytes: 8 * 1024 * 1024 };

/// Which messages are to be shown.
#[derive(Deserialize)]
pub(in super::super) struct MessageWish {
    #[serde(default)]
    limit: Wanted,
    /// How many stand before them, as in `x-next-page`.
    after: Option<String>,
}

async fn message_list(sessions: Sessions, id: SessionId, run: Run, limit: Limit) -> Result<Response, Error> {
    on_disk(move || {
        let session = sessions.get(id)?.ok_or_else(Error::session_not_found)?;
        let (waiting, count) = (session.waiting(), session.messages());
        let messages = sessions.messages(id, run, limit)?;
        let item = |(number, message)| MessageItem::new(id, message, waiting.contains(number));
        let items: Vec<_> = messages.iter().map(|row| (&row.0, &row.1)).map(item).collect();
        let mut response = json::json(StatusCode::OK, &items);
        let next = messages.last().map(|(number, _)| number + 1).filter(|next| *next < count);
        if let Some(next) = next {
            response.headers_mut().insert("x-next-page", HeaderValue::from(next));
        }
        Ok(response)
    })
    .await?
}

/// The first comes first. A list that goes on names what it goes on behind in `x-next-page`.
pub(in super::super) async fn messages(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
    Query(wish): Query<MessageWish>,
) -> Result<Response, Error> {
    let before = wish.after.as_deref().map_or(Ok(0), str::parse).map_err(|_| {
        let message = "`after` must be a place in the list, as in `x-next-page`";
        Error::new(StatusCode::BAD_REQUEST, "cursor_invalid", message)
    })?;
    let rows = wish.limit.within(MESSAGES_MAX.rows);
    message_list(sessions, named(&id)?, Run::From(before), Limit { rows, ..MESSAGES_MAX }).await
}

/// A prompt. The model that clients send with it is the session's own choice, made when it began.
#[derive(Deserialize)]
pub(in super::super) struct Prompt {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

impl Prompt {
    fn text(self) -> Result<String, Error> {
        let texts = self.parts.into_iter().filter(|part| part.kind == "text").filter_map(|part| part.text);
        let text = texts.collect::<Vec<_>>().join("\n");
        if text.trim().is_empty() { Err(Error::invalid("prompt text is required")) } else { Ok(text) }
    }
}

/// Takes a prompt that was not taken yet. True when it was taken before.
async fn take(sessions: &Sessions, attempt: Attempt, id: SessionId, prompt: Prompt) -> Result<bool, Error> {
    if attempt.is_replay() {
        return sessions.find(id).await?.map(|_| true).ok_or_else(Error::session_not_found);
    }
    let text = prompt.text()?;
    let (message, look) = (attempt.id(), sessions.clone());
    if attempt.made(move |message| look.message(id, message)).await?.is_some() {
        return Ok(true);
    }
    sessions.prompt(id, message, session::Prompt::of_text(text), attempt.receipt()).await?;
    Ok(false)
}

/// Takes the prompt, and answers as soon as it is safe on disk.
pub(in super::super) async fn prompt(
    _: Principal,
    attempt: Attempt,
    sessions: Sessions,
    Path(id): Path<String>,
    Json(prompt): Json<Prompt>,
) -> Result<Response, Error> {
    let before = take(&sessions, attempt, named(&id)?, prompt).await?;
    let answer = StatusCode::NO_CONTENT.into_response();
    Ok(if before { replayed(answer) } else { answer })
}

/// As `prompt`, but answers with the latest of the session's messages.
pub(in super::super) async fn message(
    _: Principal,
    attempt: Attempt,
    sessions: Sessions,
    Path(id): Path<String>,
    Json(prompt): Json<Prompt>,
) -> Result<Response, Error> {
    let id = named(&id)?;
    let before = take(&sessions, attempt, id, prompt).await?;
    let answer = message_list(sessions, id, Run::Before(u64::MAX), MESSAGES_MAX).await?;
    Ok(if before { replayed(answer) } else { answer })
}

pub(in super::super) async fn interrupt(
    _: Principal,
    attempt: Attempt,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id = named(&id)?;
    let answer = StatusCode::NO_CONTENT.into_response();
    if attempt.is_replay() {
        return sessions.find(id).await?.map(|_| replayed(answer)).ok_or_else(Error::session_not_found);
    }
    sessions.interrupt(id, attempt.receipt()).await?;
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn text_of(json: &str) -> Result<String, String> {
        serde_json::from_str::<Prompt>(json).unwrap().text().map_err(|error| error.message)
    }

    #[test]
    fn a_prompt_is_the_text_of_its_text_parts() {
        let parts = r#"{"model":{"modelID":"m"},"parts":[{"type":"text","text":"a"},{"type":"file","text":"x"},{"type":"text","text":"b"}]}"#;
        assert_eq!(text_of(parts), Ok("a\nb".to_owned()));
        for blank in
            ["{}", r#"{"parts":[]}"#, r#"{"parts":[{"type":"text","text":" "}]}"#, r#"{"parts":[{"type":"file"}]}"#]
        {
            assert_eq!(text_of(blank), Err("invalid request json: prompt text is required".to_owned()), "{blank}");
        }
    }

    #[test]
    fn an_environment_is_an_object_and_may_name_a_model() {
        let wished = |json: &str| wishes(Some(RawValue::from_string(json.to_owned()).unwrap()));
        assert_eq!(wishes(None).unwrap().0.get(), "{}");
        assert_eq!(wished(r#"{"model":"m","ref":1}"#).unwrap().1.as_deref(), Some("m"));
        assert_eq!(wished(r#"{ "b": 1, "a": 2 }"#).unwrap().0.get(), r#"{ "b": 1, "a": 2 }"#, "as it was given");
        for json in ["[]", "[\"m\"]", "1", r#"{"model":1}"#] {
            assert_eq!(wished(json).unwrap_err().code, "invalid_request", "{json}");
        }
    }
}
