//! The platform's rules for an event: what the host looks at, whoever made it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::ending::UpstreamEnd;
use crate::{clock, id::SessionId, runtime::ErrorKind};

/// The largest event.
pub(super) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Why something is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("larger than 1 MiB")]
    TooLarge,
    #[error("not a JSON object with a `type`")]
    NoEvent,
    #[error("its `type` is not of [a-z0-9._-], 1 to 64 bytes")]
    Type,
}

/// What the host needs to know of an event.
pub(crate) struct Head<'a> {
    pub(crate) kind: Cow<'a, str>,
    pub(crate) id: Option<Cow<'a, str>>,
    /// When the upstream came to it, as JSON; nothing while it waits there.
    pub(super) processed_at: Option<&'a str>,
    /// True when the event says whether and when the upstream came to it.
    pub(super) timed: bool,
}

impl Head<'_> {
    /// True once the upstream has come to it.
    pub(super) const fn is_processed(&self) -> bool {
        self.processed_at.is_some()
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    processed_at: Option<Option<&'a RawValue>>,
}

/// Tells null from nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Option<&'a RawValue>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Borrows where the text has no escapes, also inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads an event's head; the rest is checked for being JSON and otherwise left alone.
pub(crate) fn check(json: &str) -> Result<Head<'_>, Invalid> {
    if json.len() > EVENT_BYTES_MAX {
        return Err(Invalid::TooLarge);
    }
    // Otherwise an array would pass for a struct whose fields it lists.
    if !json.trim_ascii_start().starts_with('{') {
        return Err(Invalid::NoEvent);
    }
    let fields: Fields<'_> = serde_json::from_str(json).map_err(|_| Invalid::NoEvent)?;
    let kind = fields.kind.0;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(allowed) {
        return Err(Invalid::Type);
    }
    let id = fields.id.map(|id| id.0).filter(|id| !id.is_empty());
    let timed = fields.processed_at.is_some();
    Ok(Head { kind, id, processed_at: fields.processed_at.flatten().map(RawValue::get), timed })
}

/// The event on one line. Between tokens JSON may break lines, inside of text it cannot.
pub(super) fn on_one_line(json: &str) -> Cow<'_, str> {
    let json = json.trim();
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.replace(['\n', '\r'], " "))
}

/// The event with an `id`, where the upstream gave none, or one that is none.
pub(super) fn with_id(json: &str, id: &str) -> String {
    if let Ok(Some(replaced)) = with_replaced_id(json, id) {
        return replaced;
    }
    with_member(json, "id", id)
}

/// The event with a time, where the upstream tells none: everybody who reads it expects one.
pub(super) fn with_time(json: &str, at: &str) -> String {
    with_member(json, "processed_at", at)
}

/// The object with one more member, whose value needs no escape.
fn with_member(json: &str, name: &str, value: &str) -> String {
    let body = json.trim_end().strip_suffix('}').unwrap_or(json).trim_end();
    let comma = if body.ends_with('{') { "" } else { "," };
    format!("{body}{comma}\"{name}\":\"{value}\"}}")
}

/// An object has one `id`: readers of JSON disagree on which of two counts.
fn with_replaced_id(json: &str, id: &str) -> serde_json::Result<Option<String>> {
    // A glance tells in most cases that there is none.
    if memchr::memmem::find(json.as_bytes(), b"\"id\"").is_none() {
        return Ok(None);
    }
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)?;
    Ok(match event.get_mut("id") {
        Some(given) => {
            *given = id.into();
            Some(serde_json::to_string(&event)?)
        }
        None => None,
    })
}

/// The ids that the host gives to the events of a session that have none from their upstream. Each is made of the
/// event's place, so that it is the same however often it is made.
pub(super) struct OwnIds(String);

impl OwnIds {
    pub(super) fn of(session: SessionId) -> Self {
        let session = session.to_string();
        Self(format!("evt_{}_", session.strip_prefix("ses_").unwrap_or(&session)))
    }

    pub(super) fn id(&self, seq: u64) -> String {
        format!("{}{seq}", self.0)
    }

    /// The id of an event whose time is the host's, too.
    pub(super) fn timed_id(&self, seq: u64) -> String {
        format!("{}{seq}t", self.0)
    }

    /// True when an id says that the time is the host's.
    pub(super) fn has_timed(&self, id: &str) -> bool {
        self.has(id) && id.ends_with('t')
    }

    /// True when an id is one of these.
    pub(super) fn has(&self, id: &str) -> bool {
        id.starts_with(&self.0)
    }
}

/// The text of a user's message in an event, or in what was sent; nothing when it is no such thing.
pub(super) fn message_text(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        content: Vec<Part>,
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: String,
    }
    let message: Message = serde_json::from_str(json).ok()?;
    let text: String = message.content.into_iter().map(|part| part.text).collect();
    Some(text.trim().to_owned())
}

/// A `session.error` of the host's own: the turn is over because of it.
pub(super) fn session_error(id: &str, kind: ErrorKind, message: &str) -> String {
    let name = match kind {
        ErrorKind::Throttled => "model_rate_limited_error",
        ErrorKind::Overloaded => "model_overloaded_error",
        ErrorKind::Quota => "billing_error",
        ErrorKind::Upstream => "model_request_failed_error",
        _ => "unknown_error",
    };
    let error = serde_json::json!({"type": name, "message": message, "retry_status": {"type": "exhausted"}});
    let event =
        serde_json::json!({"type": "session.error", "id": id, "error": error, "processed_at": clock::rfc3339()});
    event.to_string()
}

/// The last event of a session that a client has ended, with what the host knows of its end upstream.
pub(super) fn status_terminated(id: &str, upstream: &UpstreamEnd) -> String {
    let event = serde_json::json!({
        "type": "session.status_terminated", "id": id, "processed_at": clock::rfc3339(), "upstream": upstream,
    });
    event.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_json_object_with_a_type() {
        let head = check(r#"{"id":"a","type":"agent.message","content":[{"type":"x"}],"processed_at":null}"#).unwrap();
        assert_eq!((&*head.kind, head.id.as_deref(), head.is_processed()), ("agent.message", Some("a"), false));
        let processed = check(r#"{"type":"x","processed_at":"2026-11-23T00:00:00Z"}"#).unwrap();
        assert_eq!(processed.processed_at, Some("\"2026-11-23T00:00:00Z\""));
        for (json, reason) in [
            ("", Invalid::NoEvent),
            ("[]", Invalid::NoEvent),
            (r#"["agent.message","a"]"#, Invalid::NoEvent),
            (r#"{"id":"a"}"#, Invalid::NoEvent),
            (r#"{"type":"a"} x"#, Invalid::NoEvent),
            (r#"{"type":"a","b":{"#, Invalid::NoEvent),
            (r#"{"type":"a\nb"}"#, Invalid::Type),
            (r#"{"type":""}"#, Invalid::Type),
        ] {
            assert_eq!(check(json).err(), Some(reason), "{json}");
        }
        assert_eq!(
            check(&format!(r#"{{"type":"a","b":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX))).err(),
            Some(Invalid::TooLarge)
        );
    }

    #[test]
    fn an_event_gets_one_line_and_an_id() {
        assert_eq!(on_one_line("{\"a\":\r\n 1}\n"), "{\"a\":   1}");
        assert_eq!(with_id("{\"type\":\"a\"}", "evt_1"), r#"{"type":"a","id":"evt_1"}"#);
        assert_eq!(with_id("{ }", "evt_1"), r#"{"id":"evt_1"}"#);
        assert_eq!(with_id(r#"{"type":"a", "id" :""}"#, "evt_1"), r#"{"id":"evt_1","type":"a"}"#);
        assert_eq!(with_id(r#"{"type":"a","b":{"id":1}}"#, "evt_1"), r#"{"type":"a","b":{"id":1},"id":"evt_1"}"#);
    }

    #[test]
    fn the_host_knows_the_ids_that_it_gave() {
        let ids = OwnIds::of(SessionId::fresh());
        assert!(ids.has(&ids.id(7)) && !ids.has("evt_7") && !OwnIds::of(SessionId::fresh()).has(&ids.id(7)));
    }

    #[test]
    fn the_text_of_a_message_is_that_of_its_parts() {
        let json = r#"{"type":"user.message","content":[{"type":"text","text":" a"},{"type":"image"},{"type":"text","text":"b\n"}]}"#;
        assert_eq!(message_text(json).as_deref(), Some("ab"));
        assert_eq!((message_text("{}"), message_text(r#"{"content":"a"}"#)), (None, None));
    }
}
