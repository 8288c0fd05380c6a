//! A session's events: sent, listed, streamed.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        App,
        app::Draining,
        dialect::Dialect,
        error::Error,
        idempotency::{Attempt, replayed},
        json::{self, Json},
        lap, on_disk,
        principal::Principal,
        sse,
    },
    history,
    input::{Input, Use},
    parameters::{Parameters, invalid},
};
use crate::{
    clock,
    events::Reader,
    id::{MessageId, Reserved, SessionId},
    session::{Prompt, Sessions, Status},
};

/// How many events one request may send.
const EVENTS_MAX: usize = 100;

/// For how long a request waits for the upstream to show what was sent. What is shown then has the upstream's id. Short: a
/// client's wish is answered at once, whatever the upstream does.
const ECHO_WAIT: Duration = Duration::from_millis(60);

/// How many of the latest events are looked through for an input that may have been taken before.
const LOOK_BACK: u64 = 4096;

/// The events that a stream can show while they grow. Previews are nobody's promise, and no runtime has them yet.
const PREVIEWS: [&str; 2] = ["agent.message", "agent.thinking"];
const PREVIEWS_MAX: usize = 100;

/// The session that a path names.
pub(super) fn named(id: &str) -> Result<SessionId, Error> {
    id.parse().map_err(|_| not_found(id))
}

pub(super) fn not_found(id: &str) -> Error {
    Error::new(StatusCode::NOT_FOUND, "session_not_found", format!("session {id} not found"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct New {
    events: Vec<Box<RawValue>>,
}

/// Reads a list of events, which the client knows by `name`.
pub(super) fn inputs(name: &str, events: Vec<Box<RawValue>>) -> Result<Vec<Input>, Error> {
    let read = |(place, json)| Input::read(&format!("{name}.{place}"), json);
    events.into_iter().enumerate().map(read).collect()
}

/// Takes events, in their order, and answers with them as they are shown.
pub(in super::super) async fn send(
    _: Principal,
    attempt: Attempt,
    sessions: Sessions,
    State(app): State<App>,
    Path(id): Path<String>,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    let session = sessions.find(named(&id)?).await?.ok_or_else(|| not_found(&id))?;
    if new.events.is_empty() || new.events.len() > EVENTS_MAX {
        return Err(Error::invalid(format_args!("events: must be a list of 1 to {EVENTS_MAX}")));
    }
    let inputs = inputs("events", new.events)?;
    // What goes on with a turn, or ends it, may use the disk's reserve.
    if inputs.iter().any(|input| input.usage == Use::Prompt) {
        app.disk().admit()?;
    }
    let ids: Vec<MessageId> =
        (0..).map(|place| attempt.id::<Reserved>().plus(place)).map(MessageId::from).take(inputs.len()).collect();
    // Only what the upstream has taken is told as processed.
    let told = |(input, id): (&Input, &MessageId)| as_sent(input, *id, input.usage != Use::Input);
    if attempt.is_replay() {
        let events: Vec<_> = inputs.iter().zip(&ids).map(told).collect();
        return Ok(replayed(list(&events)));
    }
    // What comes again under a key must be answered as it was, and what the upstream showed is not kept.
    let sought = if attempt.is_keyed() { Vec::new() } else { shown_soon(session.status(), &inputs) };
    let reader = match sought.is_empty() {
        true => None,
        false => {
            let (sessions, session) = (sessions.clone(), session.id);
            Some(on_disk(move || sse::reader_of_now(&sessions, session)).await??)
        }
    };
    for ((input, id), step) in inputs.iter().zip(&ids).zip(0..) {
        take(&sessions, &attempt, session.id, input, (*id, step)).await?;
    }
    let shown = match reader {
        Some(reader) => echoes(reader, sought, &inputs).await?,
        None => Vec::new(),
    };
    let shown = shown.into_iter().chain(std::iter::repeat(None));
    let events: Vec<_> =
        inputs.iter().zip(&ids).zip(shown).map(|(sent, shown)| shown.unwrap_or_else(|| told(sent))).collect();
    Ok(list(&events))
}

/// Takes one of a request's events, unless that was done before: its id is this, and its place that, from 0.
async fn take(
    sessions: &Sessions,
    attempt: &Attempt,
    session: SessionId,
    input: &Input,
    (id, step): (MessageId, u8),
) -> Result<(), Error> {
    if attempt.has_done(step) {
        return Ok(());
    }
    // With it is noted what came before and made no commit of its own, such as an interrupt with nothing to stop.
    let receipt = attempt.receipt_of(step);
    match input.usage {
        Use::Interrupt => sessions.interrupt(session, receipt).await?,
        Use::Input => {
            if let Err(error) = sessions.input(session, input.json.get().to_owned(), receipt).await {
                // The first time, the host may have ended between the upstream's taking it and the note of that.
                let taken = attempt.is_retry() && has_taken(sessions, session, input).await?;
                if !taken {
                    return Err(error.into());
                }
            }
        }
        Use::Prompt => {
            let look = sessions.clone();
            let made = attempt.made(move |_: MessageId| look.message(session, id)).await?;
            if made.is_none() {
                sessions.prompt(session, id, Prompt::of_event(input.json.clone()), receipt).await?;
            }
        }
    }
    Ok(())
}

/// True when the log shows, not long ago, that the upstream has come to this input.
async fn has_taken(sessions: &Sessions, session: SessionId, input: &Input) -> Result<bool, Error> {
    let sent: Value = serde_json::from_str(input.json.get()).map_err(Error::internal)?;
    let sessions = sessions.clone();
    let look = move || {
        let mut reader = sse::reader(&sessions, session, 0)?;
        reader = sse::reader(&sessions, session, reader.head().seq.saturating_sub(LOOK_BACK))?;
        loop {
            let page = reader.next_page(LOOK_BACK, 1024 * 1024)?;
            if page.is_empty() {
                return Ok(false);
            }
            for event in page.events().filter(|event| sent["type"] == event.kind) {
                let Ok(event) = serde_json::from_str::<Value>(event.json) else { continue };
                if !event["processed_at"].is_null() && is_echo(&sent, &event) {
                    return Ok(true);
                }
            }
        }
    };
    on_disk(look).await?
}

fn list(events: &[String]) -> Response {
    json::text(StatusCode::OK, format!("{{\"data\":[{}]}}", events.join(",")))
}

/// An event as the host shows it before the upstream does.
fn as_sent(input: &Input, id: MessageId, waits: bool) -> String {
    let at = if waits { "null".to_owned() } else { format!("\"{}\"", clock::rfc3339()) };
    // An object with a type at least.
    let rest = input.json.get().trim_start().strip_prefix('{').unwrap_or_default();
    format!("{{\"id\":\"{id}\",\"processed_at\":{at},{rest}")
}

/// Which of the inputs the log will show soon in another form than they were sent in, by their place. A prompt stands in it
/// as it is answered, and what interrupts nothing is not sent.
fn shown_soon(before: Status, inputs: &[Input]) -> Vec<usize> {
    let mut stoppable = matches!(before, Status::Running | Status::Rescheduling | Status::RequiresAction);
    let soon = |(place, input): (usize, &Input)| {
        let soon = match input.usage {
            Use::Prompt => false,
            Use::Interrupt => stoppable,
            Use::Input => true,
        };
        stoppable |= input.usage == Use::Prompt;
        soon.then_some(place)
    };
    inputs.iter().enumerate().filter_map(soon).collect()
}

/// The events at these places as the log shows them, as far as it does soon.
async fn echoes(mut reader: Reader, places: Vec<usize>, inputs: &[Input]) -> Result<Vec<Option<String>>, Error> {
    let mut shown: Vec<Option<String>> = inputs.iter().map(|_| None).collect();
    let mut sought: Vec<(usize, Value)> = Vec::new();
    for place in places {
        sought.push((place, serde_json::from_str(inputs[place].json.get()).map_err(Error::internal)?));
    }
    let deadline = Instant::now() + ECHO_WAIT;
    while !sought.is_empty() {
        let page = reader.pull(256, 1024 * 1024).await?;
        for event in page.events() {
            let Some(found) = sought.iter().position(|(_, sent)| sent["type"] == event.kind) else { continue };
            let Ok(event_value) = serde_json::from_str(event.json) else { continue };
            if is_echo(&sought[found].1, &event_value) {
                let (place, _) = sought.remove(found);
                shown[place] = Some(event.json.to_owned());
            }
        }
        if page.is_empty() && timeout_at(deadline, reader.changed()).await.is_err() {
            break;
        }
        if reader.head().deleted {
            break;
        }
    }
    Ok(shown)
}

/// True when an event says all that was sent. What a message says counts, not how.
fn is_echo(sent: &Value, event: &Value) -> bool {
    let Some(members) = sent.as_object() else { return false };
    members.iter().all(|(name, value)| match name.as_str() {
        "content" => texts(value) == texts(&event["content"]),
        _ => value.is_null() || event[name] == *value,
    })
}

fn texts(content: &Value) -> String {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect::<String>().trim().to_owned()
}

/// The events in pages, in the dialect of the request.
pub(in super::super) async fn page(
    principal: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
    lap_wish: super::super::Query<lap::events::Wish>,
) -> Result<Response, Error> {
    if Dialect::of(&headers) == Dialect::Lap {
        return lap::events::list(principal, sessions, Path(id), lap_wish).await;
    }
    let session = named(&id)?;
    let wish = history::Wish::of(&parameters)?;
    let body = on_disk(move || {
        sessions.get(session)?.ok_or_else(|| not_found(&id))?;
        history::page(&wish, |after| sse::reader(&sessions, session, after))
    });
    Ok(json::text(StatusCode::OK, body.await??))
}

/// The events as a stream, in the dialect of the request.
pub(in super::super) async fn stream(
    _: Principal,
    sessions: Sessions,
    State(draining): State<Draining>,
    Path(id): Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
    super::super::Query(wish): super::super::Query<sse::Wish>,
) -> Result<Response, Error> {
    let dialect = Dialect::of(&headers);
    let session = match dialect {
        Dialect::Lap => lap::sessions::named(&id)?,
        Dialect::Anthropic => {
            previews(&parameters)?;
            named(&id)?
        }
    };
    sse::respond(sessions, session, &headers, &wish, dialect, draining).await
}

fn previews(parameters: &Parameters) -> Result<(), Error> {
    let mut count = 0;
    for preview in parameters.array("event_deltas") {
        count += 1;
        if count > PREVIEWS_MAX || !PREVIEWS.contains(&preview) {
            return Err(invalid(&format!("event_deltas: at most {PREVIEWS_MAX} of {}", PREVIEWS.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_echo_says_what_was_sent_and_may_say_more() {
        let sent = json!({"type": "user.message", "content": [{"type": "text", "text": "a"}]});
        let echo =
            |content: Value| json!({"type": "user.message", "content": content, "id": "e", "processed_at": null});
        assert!(is_echo(&sent, &echo(json!([{"type": "text", "text": "a", "citations": null}]))));
        assert!(!is_echo(&sent, &echo(json!([{"type": "text", "text": "b"}]))));
        let sent = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "x", "is_error": null});
        assert!(is_echo(&sent, &json!({"type": "user.custom_tool_result", "custom_tool_use_id": "x", "id": "e"})));
        assert!(!is_echo(&sent, &json!({"type": "user.custom_tool_result", "custom_tool_use_id": "y"})));
    }

    #[test]
    fn only_what_is_sent_at_once_is_waited_for() {
        let inputs = |kinds: &[&str]| {
            let input = |kind: &&str| {
                let content = if *kind == "user.message" { r#","content":[{"type":"text","text":"a"}]"# } else { "" };
                let json = RawValue::from_string(format!(r#"{{"type":"{kind}"{content}}}"#)).unwrap();
                Input::read("events", json).unwrap()
            };
            kinds.iter().map(input).collect::<Vec<_>>()
        };
        let (message, interrupt) = ("user.message", "user.interrupt");
        assert_eq!(shown_soon(Status::Idle, &inputs(&[message, message, interrupt])), [2]);
        assert_eq!(shown_soon(Status::Running, &inputs(&[message, interrupt])), [1]);
        assert!(shown_soon(Status::Error, &inputs(&[interrupt, message])).is_empty());
        assert_eq!(shown_soon(Status::RequiresAction, &inputs(&[interrupt])), [0]);
    }

    #[test]
    fn an_event_is_told_as_it_was_sent() {
        let raw = RawValue::from_string(r#"{"type":"user.message","content":[{"type":"text","text":"a"}]}"#.to_owned());
        let input = Input::read("events.0", raw.unwrap()).unwrap();
        let id = MessageId::fresh();
        let told: Value = serde_json::from_str(&as_sent(&input, id, true)).unwrap();
        let expected = json!({"id": id.to_string(), "processed_at": null, "type": "user.message", "content": [{"type": "text", "text": "a"}]});
        assert_eq!(told, expected);
        let told: Value = serde_json::from_str(&as_sent(&input, id, false)).unwrap();
        assert!(clock::parse_us(told["processed_at"].as_str().unwrap()).is_some());
    }
}
