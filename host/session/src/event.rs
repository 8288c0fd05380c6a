//! The platform's rules for an event: what the host looks at, whoever made it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use lap_model::contract::ErrorKind;

use crate::{ending::UpstreamEnd, failure::Failure};

/// The largest event.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The deepest nesting of an event: clients' parsers give up not far beyond it.
pub const EVENT_DEPTH_MAX: usize = 64;

/// The type of what stands in the log for an event that cannot be stored.
pub const OMITTED: &str = "lap.event_omitted";

/// Types of events that the host looks at or makes.
pub const ERROR: &str = "session.error";
/// See [`ERROR`].
pub const IDLE: &str = "session.status_idle";
/// See [`ERROR`].
pub const TERMINATED: &str = "session.status_terminated";
/// See [`ERROR`].
pub const INTERRUPT: &str = "user.interrupt";

/// Why something is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is larger than [`EVENT_BYTES_MAX`].
    #[error("larger than 1 MiB")]
    TooLarge,
    /// It is nested beyond [`EVENT_DEPTH_MAX`].
    #[error("nested more than 64 levels deep")]
    TooDeep,
    /// It has no type.
    #[error("not a JSON object with a `type`")]
    NoEvent,
    /// Its type is none.
    #[error("its `type` is not of [a-z0-9._-], 1 to 64 bytes")]
    Type,
}

/// What the host needs to know of an event.
pub struct Head<'a> {
    /// Its type.
    pub kind: Cow<'a, str>,
    /// Its id, where it has one.
    pub id: Option<Cow<'a, str>>,
    /// When the upstream came to it, as JSON; nothing while it waits there.
    pub processed_at: Option<&'a str>,
    /// True when the event says whether and when the upstream came to it.
    pub timed: bool,
}

impl Head<'_> {
    /// True once the upstream has come to it.
    #[must_use]
    pub const fn is_processed(&self) -> bool {
        self.processed_at.is_some()
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
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
///
/// # Errors
/// When it is no event, or one that cannot be stored.
pub fn check(json: &str) -> Result<Head<'_>, Invalid> {
    storable(json)?;
    head(json)
}

/// Refuses what cannot be stored, because readers could not read it.
///
/// # Errors
/// When it is too large or too deep.
pub fn storable(json: &str) -> Result<(), Invalid> {
    if json.len() > EVENT_BYTES_MAX {
        return Err(Invalid::TooLarge);
    }
    if is_deep(json.as_bytes()) { Err(Invalid::TooDeep) } else { Ok(()) }
}

fn is_deep(json: &[u8]) -> bool {
    // Most events have fewer brackets in all than may stand in each other.
    if memchr::memchr2_iter(b'[', b'{', json).take(EVENT_DEPTH_MAX + 1).count() <= EVENT_DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > EVENT_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The head of an event, of whatever size.
///
/// # Errors
/// When it is no event.
pub fn head(json: &str) -> Result<Head<'_>, Invalid> {
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
    // What is no text is no id: the event gets one.
    let id =
        fields.id.and_then(|id| serde_json::from_str(id.get()).ok()).map(|Text(id)| id).filter(|id| !id.is_empty());
    let timed = fields.processed_at.is_some();
    Ok(Head { kind, id, processed_at: fields.processed_at.flatten().map(RawValue::get), timed })
}

/// The event on one line. Between tokens JSON may break lines, inside of text it cannot.
#[must_use]
pub fn on_one_line(json: &str) -> Cow<'_, str> {
    let json = json.trim();
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.replace(['\n', '\r'], " "))
}

/// The event with an `id`, where the upstream gave none, or one that is none.
#[must_use]
pub fn with_id(json: &str, id: &str) -> String {
    if let Ok(Some(replaced)) = with_replaced_id(json, id) {
        return replaced;
    }
    with_member(json, "id", id)
}

/// The event with a time, where the upstream tells none: everybody who reads it expects one.
#[must_use]
pub fn with_time(json: &str, at: &str) -> String {
    with_member(json, "processed_at", at)
}

/// The object with one more member, whose value needs no escape.
fn with_member(json: &str, name: &str, value: &str) -> String {
    with_json_member(json, name, &format!("\"{value}\""))
}

/// The object with one more member.
fn with_json_member(json: &str, name: &str, value: &str) -> String {
    let body = json.trim_end().strip_suffix('}').unwrap_or(json).trim_end();
    let comma = if body.ends_with('{') { "" } else { "," };
    format!("{body}{comma}\"{name}\":{value}}}")
}

/// An object has one `id`: readers of JSON disagree on which of two counts.
fn with_replaced_id(json: &str, id: &str) -> serde_json::Result<Option<String>> {
    // A glance tells in most cases that there is none; its name may be spelt with escapes.
    if memchr::memmem::find(json.as_bytes(), b"\"id\"").is_none()
        && memchr::memmem::find(json.as_bytes(), b"\\u").is_none()
    {
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
pub struct OwnIds(String);

impl OwnIds {
    /// Those of a session, by its id.
    #[must_use]
    pub fn of(session: &str) -> Self {
        Self(format!("evt_{}_", session.strip_prefix("ses_").unwrap_or(session)))
    }

    /// The id of the event at this place.
    #[must_use]
    pub fn id(&self, seq: u64) -> String {
        format!("{}{seq}", self.0)
    }

    /// The id of an event whose time is the host's, too.
    #[must_use]
    pub fn timed_id(&self, seq: u64) -> String {
        format!("{}{seq}t", self.0)
    }

    /// True when an id says that the time is the host's.
    #[must_use]
    pub fn has_timed(&self, id: &str) -> bool {
        self.has(id) && id.ends_with('t')
    }

    /// True when an id is one of these.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        id.starts_with(&self.0)
    }
}

/// The text of a user's message in an event, or in what was sent; nothing when it is no such thing.
#[must_use]
pub fn message_text(json: &str) -> Option<String> {
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

/// What stands in a user's message beside text, in order.
#[must_use]
pub fn attachments(json: &str) -> Vec<serde_json::Value> {
    #[derive(Deserialize)]
    struct Message {
        content: Vec<serde_json::Value>,
    }
    let content = serde_json::from_str(json).map_or_else(|_| Vec::new(), |Message { content }| content);
    content.into_iter().filter(|block| block["type"] != "text").collect()
}

/// Whether the turn goes on behind a `session.error` of the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryStatus {
    /// It does.
    Retrying,
    /// It is over.
    Exhausted,
}

/// A `session.error` of the host's own.
#[must_use]
pub fn session_error(id: &str, at: &str, failure: &Failure, retry: RetryStatus) -> String {
    let name = match failure.kind() {
        ErrorKind::Throttled => "model_rate_limited_error",
        ErrorKind::Overloaded => "model_overloaded_error",
        ErrorKind::Quota => "billing_error",
        ErrorKind::Upstream => "model_request_failed_error",
        _ => "unknown_error",
    };
    let retry = match retry {
        RetryStatus::Retrying => "retrying",
        RetryStatus::Exhausted => "exhausted",
    };
    let error = serde_json::json!({"type": name, "message": failure.message, "retry_status": {"type": retry}});
    serde_json::json!({"type": ERROR, "id": id, "error": error, "processed_at": at}).to_string()
}

/// A `session.status_idle` of the host's own: what ends the wait of whoever follows the session.
#[must_use]
pub fn status_idle(id: &str, at: &str, stop_reason: &str) -> String {
    let event = serde_json::json!({
        "type": IDLE, "id": id, "processed_at": at, "stop_reason": {"type": stop_reason}, "stop_details": null,
    });
    event.to_string()
}

/// A client's wish to stop the turn, as the log shows it at once. `forwarded` when there is something upstream to stop: the
/// upstream's own event then follows under the same id.
#[must_use]
pub fn interrupt(id: &str, forwarded: bool) -> String {
    let mut event = serde_json::json!({"type": INTERRUPT, "id": id, "processed_at": null});
    if !forwarded {
        event["forwarded"] = false.into();
    }
    event.to_string()
}

/// Whether a wish to stop a turn was given to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// It was not, or the upstream has refused it.
    No,
    /// It is on its way, or was lost on it.
    Unknown,
    /// The upstream has taken it.
    Yes,
}

/// What became of a wish to stop the turn when the turn is over and the upstream has not shown that it came to the wish: that
/// it was taken there, at `at`; that it was not given to it; or that nobody knows.
#[must_use]
pub fn interrupt_over(id: &str, forwarded: Forwarded, at: &str) -> String {
    let mut event = serde_json::json!({"type": INTERRUPT, "id": id, "processed_at": null});
    match forwarded {
        Forwarded::Yes => event["processed_at"] = at.into(),
        Forwarded::Unknown => event["forwarded"] = "unknown".into(),
        Forwarded::No => event["forwarded"] = false.into(),
    }
    event.to_string()
}

/// True when the turn of a wish to stop it was over before it was known whether the upstream has it.
#[must_use]
pub fn is_perhaps_forwarded(json: &str) -> bool {
    memchr::memmem::find(json.as_bytes(), b"\"forwarded\":\"unknown\"").is_some()
}

/// True when a wish to stop the turn, as the log has it, was for the upstream.
#[must_use]
pub fn is_forwarded(json: &str) -> bool {
    memchr::memmem::find(json.as_bytes(), b"\"forwarded\":false").is_none()
}

/// Why a prompt will not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A client has interrupted the session.
    Interrupted,
    /// The turn before it, or its own, has failed.
    Failed,
    /// A client has ended the session.
    Killed,
    /// The upstream has ended the session.
    Terminated,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Terminated => "terminated",
        }
    }
}

/// Whether a prompt that will not be answered has reached the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// It has not.
    No,
    /// Nobody knows.
    Unknown,
    /// It has.
    Yes,
}

impl Arrived {
    const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Yes => "yes",
        }
    }
}

/// A prompt as the log shows it while it waits: the event that the client gave, under the id of its message.
#[must_use]
pub fn waiting(json: &str, id: &str) -> String {
    with_json_member(&with_id(&on_one_line(json), id), "processed_at", "null")
}

/// A prompt whose turn is over, of a runtime that does not show prompts itself.
#[must_use]
pub fn processed(json: &str, id: &str, at: &str) -> String {
    with_time(&with_id(&on_one_line(json), id), at)
}

/// A prompt that will not be answered, as the event that it would have been. `json` is what the client gave, and
/// `upstream_id` what the upstream has shown it as.
#[must_use]
pub fn withdrawn(json: &str, id: &str, upstream_id: Option<&str>, reason: Reason, arrived: Arrived) -> String {
    let mut event = waiting(json, id);
    if let Some(theirs) = upstream_id {
        event = with_json_member(&event, UPSTREAM_ID, &serde_json::Value::from(theirs).to_string());
    }
    let why = format!("{{\"reason\":\"{}\",\"arrived\":\"{}\"}}", reason.as_str(), arrived.as_str());
    with_json_member(&event, WITHDRAWN, &why)
}

/// The member of an event that says why it will not be answered.
const WITHDRAWN: &str = "withdrawn";

/// Whether a prompt has reached the upstream of which [`withdrawn`] has made this event; nothing for any other event.
#[must_use]
pub fn withdrawn_as(json: &str) -> Option<Arrived> {
    #[derive(Deserialize)]
    struct Event {
        withdrawn: Withdrawn,
    }
    #[derive(Deserialize)]
    struct Withdrawn {
        arrived: String,
    }
    memchr::memmem::find(json.as_bytes(), b"\"withdrawn\"")?;
    let Event { withdrawn: Withdrawn { arrived } } = serde_json::from_str(json).ok()?;
    [Arrived::No, Arrived::Unknown, Arrived::Yes].into_iter().find(|known| known.as_str() == arrived)
}

impl Head<'_> {
    /// The id of the message that this is the event of: the platform's own. What an upstream says of clients under such an id
    /// gets another one.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| self.kind.starts_with("user.") && is_message_id(id))
    }
}

/// True for an id as the platform gives it to what clients say.
#[must_use]
pub fn is_message_id(id: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    id.strip_prefix("msg_").is_some_and(|rest| rest.len() == 32 && rest.bytes().all(hex))
}

/// What stands in the log for an event that cannot be stored.
#[must_use]
pub fn omitted(id: &str, at: &str, head: &Head<'_>, bytes: usize, reason: Invalid) -> String {
    let of = serde_json::json!({
        "type": head.kind, "id": head.id, "processed": head.is_processed(), "bytes": bytes, "reason": reason.to_string(),
    });
    let at = head.processed_at.map_or(at, |at| at.trim_matches('"'));
    serde_json::json!({"type": OMITTED, "id": id, "processed_at": at, "omitted": of}).to_string()
}

/// The id of the event that a placeholder stands for, and whether it was processed.
#[must_use]
pub fn omitted_id(json: &str) -> Option<(String, bool)> {
    #[derive(Deserialize)]
    struct Placeholder {
        omitted: Original,
    }
    #[derive(Deserialize)]
    struct Original {
        id: String,
        processed: bool,
    }
    let Placeholder { omitted: Original { id, processed } } = serde_json::from_str(json).ok()?;
    Some((id, processed))
}

/// The last event of a session that a client has ended, with what the host knows of its end upstream.
#[must_use]
pub fn status_terminated(id: &str, at: &str, upstream: &UpstreamEnd) -> String {
    let event = serde_json::json!({
        "type": TERMINATED, "id": id, "processed_at": at, "upstream": upstream,
    });
    event.to_string()
}

/// The upstream's event of a client's wish to stop the turn, under the id that the host gave the wish; nothing for one that
/// stops less than the session's turn.
#[must_use]
pub fn of_interrupt(json: &str, upstream_id: Option<&str>, own: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Interrupt {
        #[serde(default)]
        session_thread_id: Option<String>,
    }
    let Interrupt { session_thread_id: None } = serde_json::from_str(json).ok()? else { return None };
    Some(of_own(json, upstream_id, own))
}

/// The upstream's event of something that the log has under this id already; `upstream_id` is null where it has none there.
#[must_use]
pub fn of_own(json: &str, upstream_id: Option<&str>, own: &str) -> String {
    let line = with_id(&without_own_members(json), own);
    // A log of before prompts stood in it at once has it under the upstream's id.
    if upstream_id == Some(own) {
        return line;
    }
    with_json_member(&line, UPSTREAM_ID, &serde_json::Value::from(upstream_id).to_string())
}

/// The event on one line, without the members that only the host gives: what it is told of may come from another such host.
fn without_own_members(json: &str) -> Cow<'_, str> {
    const OWN: [&str; 2] = [UPSTREAM_ID, WITHDRAWN];
    // A key may be spelt with escapes.
    let may_have = OWN.iter().any(|name| memchr::memmem::find(json.as_bytes(), name.as_bytes()).is_some())
        || memchr::memmem::find(json.as_bytes(), b"\\u").is_some();
    if may_have && let Ok(mut event) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json) {
        let had = OWN.map(|name| event.remove(name).is_some());
        if had.contains(&true) {
            return serde_json::Value::Object(event).to_string().into();
        }
    }
    on_one_line(json)
}

/// True for what [`of_own`] has made.
#[must_use]
pub fn is_the_upstream_s(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default, deserialize_with = "there")]
        upstream_id: bool,
    }
    fn there<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| true)
    }
    memchr::memmem::find(json.as_bytes(), UPSTREAM_ID.as_bytes()).is_some()
        && serde_json::from_str(json).is_ok_and(|named: Named| named.upstream_id)
}

/// The member of an event that has an id of the host's which says what the upstream calls it.
const UPSTREAM_ID: &str = "upstream_id";

/// What the upstream calls an event that the host has under an id of its own.
#[must_use]
pub fn upstream_id(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        upstream_id: String,
    }
    memchr::memmem::find(json.as_bytes(), UPSTREAM_ID.as_bytes())?;
    serde_json::from_str(json).ok().map(|named: Named| named.upstream_id)
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
        let ids = OwnIds::of("ses_a");
        assert!(ids.has(&ids.id(7)) && !ids.has("evt_7") && !OwnIds::of("ses_b").has(&ids.id(7)));
    }

    #[test]
    fn the_text_of_a_message_is_that_of_its_parts() {
        let json = r#"{"type":"user.message","content":[{"type":"text","text":" a"},{"type":"image"},{"type":"text","text":"b\n"}]}"#;
        assert_eq!(message_text(json).as_deref(), Some("ab"));
        assert_eq!((message_text("{}"), message_text(r#"{"content":"a"}"#)), (None, None));
    }

    #[test]
    fn what_readers_could_not_read_is_not_stored_and_leaves_its_head() {
        let nested =
            |levels: usize| format!(r#"{{"type":"a","id":"x","b":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(check(&nested(EVENT_DEPTH_MAX - 1)).is_ok());
        assert_eq!(check(&nested(EVENT_DEPTH_MAX)).err(), Some(Invalid::TooDeep));
        let flat = format!(r#"{{"type":"a","b":[{}0],"c":"{}"}}"#, "[],".repeat(500), r#"[{\"["#.repeat(500));
        assert!(check(&flat).is_ok(), "many brackets are no depth");
        let deep = nested(5000);
        let head = head(&deep).unwrap();
        assert_eq!(
            omitted("evt_1", "t", &head, deep.len(), Invalid::TooDeep),
            format!(
                r#"{{"id":"evt_1","omitted":{{"bytes":{},"id":"x","processed":false,"reason":"nested more than 64 levels deep","type":"a"}},"processed_at":"t","type":"lap.event_omitted"}}"#,
                deep.len()
            )
        );
    }

    #[test]
    fn a_withdrawn_prompt_says_why_and_whether_it_arrived() {
        let json = "{\"type\":\"user.message\",\n\"content\":[]}";
        assert_eq!(
            withdrawn(json, "msg_1", None, Reason::Interrupted, Arrived::No),
            r#"{"type":"user.message", "content":[],"id":"msg_1","processed_at":null,"withdrawn":{"reason":"interrupted","arrived":"no"}}"#
        );
    }

    #[test]
    fn the_upstream_s_interrupt_stands_under_the_id_of_the_wish() {
        let theirs = r#"{"type":"user.interrupt","id":"sevt_1","processed_at":"t"}"#;
        let ours = of_interrupt(theirs, Some("sevt_1"), "evt_s_4").unwrap();
        assert_eq!(check(&ours).unwrap().id.as_deref(), Some("evt_s_4"));
        assert_eq!(upstream_id(&ours).as_deref(), Some("sevt_1"));
        assert_eq!(of_interrupt(r#"{"type":"user.interrupt","session_thread_id":"t"}"#, None, "evt_s_4"), None);
        assert_eq!(upstream_id(theirs), None);
    }
}
