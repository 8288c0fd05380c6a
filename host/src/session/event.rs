//! The platform's rules for an event: what the host looks at, whoever made it, and how it tells two apart.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{clock, runtime::ErrorKind};

/// The largest event.
pub(super) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// How many events back a repeated one is noticed while the feed goes on undisturbed.
const RECENT: usize = 256;

/// Why something is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("larger than 1 MiB")]
    TooLarge,
    #[error("not a JSON object with a `type`")]
    NoEvent,
    #[error("its `type` is not of [a-z0-9._-], 1 to 64 bytes")]
    Type,
}

/// What the host needs to know of an event.
pub(super) struct Head<'a> {
    pub(super) kind: Cow<'a, str>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) processed: bool,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(default)]
    processed_at: Option<IgnoredAny>,
}

/// Borrows where the text has no escapes, also inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads an event's head; the rest is checked for being JSON and otherwise left alone.
pub(super) fn check(json: &str) -> Result<Head<'_>, Invalid> {
    if json.len() > EVENT_BYTES_MAX {
        return Err(Invalid::TooLarge);
    }
    let fields: Fields<'_> = serde_json::from_str(json).map_err(|_| Invalid::NoEvent)?;
    let kind = fields.kind.0;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(allowed) {
        return Err(Invalid::Type);
    }
    let id = fields.id.map(|id| id.0).filter(|id| !id.is_empty());
    Ok(Head { kind, id, processed: fields.processed_at.is_some() })
}

/// The event on one line. Between tokens JSON may break lines, inside of text it cannot.
pub(super) fn on_one_line(json: &str) -> Cow<'_, str> {
    let json = json.trim();
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.replace(['\n', '\r'], " "))
}

/// The event with an `id`, where the upstream gave none, or an empty one. Where it had an empty one, there are two
/// `id` keys then, and readers of JSON take the last: so the host's goes to the end.
pub(super) fn with_id(json: &str, id: &str) -> String {
    let body = json.trim_end().strip_suffix('}').unwrap_or(json).trim_end();
    let comma = if body.ends_with('{') { "" } else { "," };
    format!("{body}{comma}\"id\":\"{id}\"}}")
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

/// The events that the log has, as far as it must be known to tell a repeated one.
pub(super) struct Seen {
    hasher: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
    /// False while all of the log is known, because the feed's place in it is not.
    bounded: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { hasher: RandomState::new(), known: HashSet::new(), order: VecDeque::new(), bounded: true }
    }
}

impl Seen {
    /// Notes an event; false when it was known. Events without an id are never taken for each other.
    ///
    /// The key is a 64-bit hash under a key of this process: among a million events, two different ones are taken for
    /// the same with a probability of 3e-8.
    pub(super) fn insert(&mut self, head: &Head<'_>) -> bool {
        let Some(id) = &head.id else { return true };
        let key = self.hasher.hash_one((id, head.processed));
        if !self.known.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.bounded {
            self.forget();
        }
        true
    }

    /// True when the event is known.
    pub(super) fn contains(&self, head: &Head<'_>) -> bool {
        head.id.as_ref().is_some_and(|id| self.known.contains(&self.hasher.hash_one((id, head.processed))))
    }

    /// From now on remembers everything.
    pub(super) fn unbound(&mut self) {
        self.bounded = false;
    }

    /// From now on remembers the latest only.
    pub(super) fn bound(&mut self) {
        self.bounded = true;
        self.forget();
        self.known.shrink_to(RECENT);
        self.order.shrink_to(RECENT);
    }

    fn forget(&mut self) {
        while self.order.len() > RECENT {
            if let Some(key) = self.order.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_json_object_with_a_type() {
        let head = check(r#"{"id":"a","type":"agent.message","content":[{"type":"x"}],"processed_at":null}"#).unwrap();
        assert_eq!((&*head.kind, head.id.as_deref(), head.processed), ("agent.message", Some("a"), false));
        assert!(check(r#"{"type":"x","processed_at":"2026-11-23T00:00:00Z"}"#).unwrap().processed);
        for (json, reason) in [
            ("", Invalid::NoEvent),
            ("[]", Invalid::NoEvent),
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
    }

    #[test]
    fn the_same_id_is_seen_once_queued_and_once_processed() {
        let mut seen = Seen::default();
        let queued = check(r#"{"type":"user.message","id":"a","processed_at":null}"#).unwrap();
        let processed = check(r#"{"type":"user.message","id":"a","processed_at":"t"}"#).unwrap();
        let nameless = check(r#"{"type":"user.interrupt","id":""}"#).unwrap();
        assert!(seen.insert(&queued) && seen.insert(&processed));
        assert!(!seen.insert(&queued) && !seen.insert(&processed) && seen.contains(&queued));
        assert!(seen.insert(&nameless) && seen.insert(&nameless));
    }

    #[test]
    fn only_the_latest_are_remembered_unless_all_are_asked_for() {
        let event = |n: usize| format!(r#"{{"type":"a","id":"{n}"}}"#);
        let mut seen = Seen::default();
        (0..RECENT + 1).for_each(|n| assert!(seen.insert(&check(&event(n)).unwrap())));
        assert!(!seen.contains(&check(&event(0)).unwrap()) && seen.contains(&check(&event(1)).unwrap()));
        seen.unbound();
        (RECENT + 1..4 * RECENT).for_each(|n| assert!(seen.insert(&check(&event(n)).unwrap())));
        assert!(seen.contains(&check(&event(1)).unwrap()));
        seen.bound();
        assert!(!seen.contains(&check(&event(1)).unwrap()));
    }
}
