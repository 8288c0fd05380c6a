//! The feed: each frame is an event of the platform already, and only its effect on the turn has to be found.
//!
//! This is the hot path. A frame's text is not copied, and is read no further than to its `type`; only the two kinds
//! of event whose effect depends on more are read whole.

use std::{borrow::Cow, fmt};

use lap_runtime_sdk::{Body, Effect, Event, Frames, Level, Outcome, Piece, log};
use serde::{
    Deserialize, Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Deserializer, value::RawValue};

/// Maps frames to events.
pub(crate) fn on_frames(frames: &Frames) -> Outcome {
    let mut outcome = Outcome { events: Vec::with_capacity(frames.len()), ..Outcome::none() };
    for (index, frame) in (0..).zip(frames.iter()) {
        match frame.name {
            "ping" | "event_start" | "event_delta" => {}
            "error" => {
                // What the stream would have brought is in the history.
                log(Level::Warn, &format!("the upstream broke its stream off: {}", text(frame.data)));
                outcome.relisten = true;
            }
            _ => outcome.events.extend(event(index, frame)),
        }
    }
    outcome
}

fn event(index: u32, frame: Piece<'_>) -> Option<Event> {
    match kind(frame.name, frame.data) {
        Kind::Given(kind) if matches!(&*kind, "ping" | "event_start" | "event_delta") => None,
        Kind::Given(kind) if is_type(&kind) => Some(Event::frame(index, effect(&kind, frame.data))),
        // The harnesses of the LiteLLM platform leave the type to the frame's name.
        Kind::Missing if frame.name != "message" && is_type(frame.name) => {
            Some(Event { body: Body::Json(typed(frame.name, frame.data)?), effect: effect(frame.name, frame.data) })
        }
        Kind::Given(_) | Kind::Missing | Kind::Unreadable => {
            log(Level::Debug, &format!("no event: {}", text(frame.data)));
            None
        }
    }
}

/// What the platform takes for the type of an event; anything else cannot be stored, whatever it means.
fn is_type(kind: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=64).contains(&kind.len()) && kind.bytes().all(allowed)
}

fn effect(kind: &str, data: &[u8]) -> Effect {
    match kind {
        "session.status_running" => Effect::Started,
        "session.status_idle" => idle(data),
        "session.status_rescheduled" => Effect::Rescheduled,
        "session.status_terminated" | "session.deleted" => Effect::Terminated,
        "session.error" => error(data),
        _ => Effect::None,
    }
}

/// Every reason but two says that the turn came to its end, those that later versions will name included.
fn idle(data: &[u8]) -> Effect {
    match kind_of(Parts::of(data).stop_reason) {
        Kind::Given(reason) if reason == "requires_action" => Effect::Waiting,
        Kind::Given(reason) if reason == "retries_exhausted" => Effect::Failed,
        _ => Effect::Ended,
    }
}

/// An error ends the turn unless the upstream says that it tries again; a harness ends its turns with a bare error.
fn error(data: &[u8]) -> Effect {
    let retry_status = Parts::of(data).error.and_then(|error| Parts::of(error.get().as_bytes()).retry_status);
    match kind_of(retry_status) {
        Kind::Given(status) if status == "retrying" => Effect::None,
        _ => Effect::Failed,
    }
}

/// What an effect depends on, each as it stands in the text.
#[derive(Deserialize, Default)]
struct Parts<'a> {
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    retry_status: Option<&'a RawValue>,
}

impl<'a> Parts<'a> {
    /// Parts that cannot be read are parts that are not there.
    fn of(data: &'a [u8]) -> Self {
        serde_json::from_slice(data).unwrap_or_default()
    }
}

/// The `type` of an object.
#[derive(Debug, PartialEq)]
enum Kind<'a> {
    Given(Cow<'a, str>),
    /// An object without one.
    Missing,
    /// No object, or a `type` that is no string.
    Unreadable,
}

fn kind_of(part: Option<&RawValue>) -> Kind<'_> {
    part.map_or(Kind::Missing, |part| parsed_kind(part.get().as_bytes()))
}

/// The `type` in the data of a frame. Upstreams name a frame by it, and write it among the first members or as the last:
/// then a glance at either end tells.
fn kind<'a>(name: &'a str, data: &'a [u8]) -> Kind<'a> {
    if !name.is_empty() && (begins_with_type(data, name) || ends_with_type(data, name)) {
        Kind::Given(Cow::Borrowed(name))
    } else {
        parsed_kind(data)
    }
}

/// The first `"type":"` of valid JSON is a member of the object itself when no other value was opened before it; a
/// string cannot hold it without a backslash.
fn begins_with_type(data: &[u8], kind: &str) -> bool {
    const MEMBER: &[u8] = br#""type":""#;
    let Some(start) = data.windows(MEMBER.len()).position(|bytes| bytes == MEMBER) else { return false };
    let (before, rest) = data.split_at(start);
    let named = rest.strip_prefix(MEMBER).and_then(|rest| rest.strip_prefix(kind.as_bytes()));
    named.is_some_and(|rest| rest.first() == Some(&b'"'))
        && before.iter().skip(1).all(|byte| !matches!(byte, b'{' | b'[' | b'\\'))
}

/// What stands before the last brace is a member of the object itself.
fn ends_with_type(data: &[u8], kind: &str) -> bool {
    let before = data.strip_suffix(br#""}"#).and_then(|data| data.strip_suffix(kind.as_bytes()));
    before.is_some_and(|before| before.ends_with(br#","type":""#))
}

fn parsed_kind(data: &[u8]) -> Kind<'_> {
    let mut found = None;
    let mut json = Deserializer::from_slice(data);
    let read = json.deserialize_map(ToType { found: &mut found }).and_then(|()| json.end());
    match (found, read) {
        (Some(kind), _) => Kind::Given(kind),
        (None, Ok(())) => Kind::Missing,
        (None, Err(_)) => Kind::Unreadable,
    }
}

/// Reads an object up to its `type`. serde calls it an error to stop there, so what was found is kept aside.
struct ToType<'a, 'de> {
    found: &'a mut Option<Cow<'de, str>>,
}

impl<'de> Visitor<'de> for ToType<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Key {
            Type,
            #[serde(other)]
            Other,
        }
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        while let Some(key) = map.next_key()? {
            match key {
                Key::Type => {
                    let Text(kind) = map.next_value()?;
                    *self.found = Some(kind);
                    return Ok(());
                }
                Key::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

/// For the log.
fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The data, which is an object without a type, with that type.
fn typed(kind: &str, data: &[u8]) -> Option<String> {
    let kind = serde_json::to_string(kind).ok()?;
    let rest = std::str::from_utf8(data).ok()?.trim_ascii().strip_prefix('{')?.trim_ascii_start();
    let comma = if rest == "}" { "" } else { "," };
    Some(format!(r#"{{"type":{kind}{comma}{rest}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn frame<'a>(name: &'a str, data: &'a str) -> (&'a str, &'a str) {
        (name, data)
    }

    fn on_frames(frames: &[(&str, &str)]) -> Outcome {
        super::on_frames(&frames.iter().copied().collect())
    }

    fn passed(index: u32, effect: Effect) -> Event {
        Event::frame(index, effect)
    }

    #[test]
    fn each_kind_of_event_has_its_effect() {
        for (data, effect) in [
            (r#"{"type":"session.status_running","id":"e"}"#, Effect::Started),
            (r#"{"type":"session.status_idle","stop_reason":{"type":"end_turn"},"stop_details":null}"#, Effect::Ended),
            (r#"{"type":"session.status_idle","stop_reason":{"type":"budget_reached"}}"#, Effect::Ended),
            (r#"{"type":"session.status_idle","stop_reason":{"type":"refusal"}}"#, Effect::Ended),
            (r#"{"type":"session.status_idle","stop_reason":{"type":"of_next_year"}}"#, Effect::Ended),
            (r#"{"type":"session.status_idle","stop_reason":"end_turn"}"#, Effect::Ended),
            (r#"{"type":"session.status_idle","stop_reason":null}"#, Effect::Ended),
            (r#"{"type":"session.status_idle"}"#, Effect::Ended),
            (
                r#"{"stop_reason":{"event_ids":["a"],"type":"requires_action"},"type":"session.status_idle"}"#,
                Effect::Waiting,
            ),
            (r#"{"type":"session.status_idle","stop_reason":{"type":"retries_exhausted"}}"#, Effect::Failed),
            (r#"{"type":"session.status_rescheduled"}"#, Effect::Rescheduled),
            (r#"{"type":"session.status_terminated"}"#, Effect::Terminated),
            (r#"{"type":"session.deleted"}"#, Effect::Terminated),
            (r#"{"type":"session.error","error":{"retry_status":{"type":"retrying"}}}"#, Effect::None),
            (r#"{"type":"session.error","error":{"retry_status":{"type":"exhausted"}}}"#, Effect::Failed),
            (r#"{"type":"session.error","error":{"retry_status":{"type":"terminal"}}}"#, Effect::Failed),
            (r#"{"type":"session.error","error":{"message":"a harness"}}"#, Effect::Failed),
            (r#"{"type":"session.error","error":"a harness"}"#, Effect::Failed),
            (r#"{"type":"session.error"}"#, Effect::Failed),
            (r#"{"type":"session.thread_status_idle","stop_reason":{"type":"requires_action"}}"#, Effect::None),
            (r#"{"type":"session.usage"}"#, Effect::None),
            (r#"{"type":"agent.message","content":[{"type":"session.status_idle"}]}"#, Effect::None),
            (r#"{"type":"user.interrupt"}"#, Effect::None),
            (r#"{"type":"workflow_run.created"}"#, Effect::None),
        ] {
            let kind = data.split('"').skip_while(|part| *part != "type").nth(2).unwrap_or_default();
            for name in ["", "message", kind] {
                assert_eq!(on_frames(&[frame(name, data)]).events, [passed(0, effect)], "{name} {data}");
            }
        }
    }

    #[test]
    fn frames_pass_by_their_index_and_what_does_not_last_is_dropped() {
        let outcome = on_frames(&[
            frame("agent.message", r#"{"type":"agent.message"}"#),
            frame("ping", ""),
            frame("ping", r#"{"type":"ping"}"#),
            frame("", r#"{"type":"ping"}"#),
            frame("event_start", r#"{"type":"event_start","event":{"type":"agent.message","id":"e"}}"#),
            frame("", r#"{"type":"event_delta","event_id":"e"}"#),
            frame("", "[DONE]"),
            frame("", "{}"),
            frame("agent.message", "{\"type\":"),
            frame("agent.message", r#"{"type":7}"#),
            frame("", r#"{"type":"Agent Message"}"#),
            frame("Agent Message", "{}"),
            frame("of.next_year", r#"{"type":"of.next_year"}"#),
        ]);
        assert_eq!(outcome, Outcome::events(vec![passed(0, Effect::None), passed(12, Effect::None)]));
    }

    #[test]
    fn an_error_of_the_stream_makes_the_host_listen_again() {
        let outcome = on_frames(&[
            frame("error", r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#),
            frame("agent.message", r#"{"type":"agent.message"}"#),
        ]);
        assert_eq!(outcome, Outcome { relisten: true, ..Outcome::events(vec![passed(1, Effect::None)]) });
    }

    #[test]
    fn a_type_that_stands_only_in_the_name_is_written_into_the_event() {
        for (data, body) in [
            ("{}", r#"{"type":"session.status_running"}"#),
            (" { } ", r#"{"type":"session.status_running"}"#),
            (r#"{"a":{"type":"b"}}"#, r#"{"type":"session.status_running","a":{"type":"b"}}"#),
        ] {
            let expected = Event { body: Body::Json(body.to_owned()), effect: Effect::Started };
            assert_eq!(on_frames(&[frame("session.status_running", data)]).events, [expected], "{data}");
        }
        assert_eq!(on_frames(&[frame("agent.message", "{} x")]).events, []);
    }

    #[test]
    fn the_type_is_the_objects_own_wherever_it_stands() {
        for (name, data, kind) in [
            ("a.b", r#"{"type":"a.b","x":1}"#, "a.b"),
            ("a.b", r#"{"type":"a.bc"}"#, "a.bc"),
            ("a.b", r#"{"x":1,"type":"a.b"}"#, "a.b"),
            ("a.b", r#"{"x":1,"y":"z","type":"a.b","z":[]}"#, "a.b"),
            ("a.b", r#"{"x":{"type":"a.b"},"type":"c"}"#, "c"),
            ("a.b", r#"{"x":[{"type":"a.b"}],"type":"c"}"#, "c"),
            ("a.b", r#"{"type":"c","x":{"type":"a.b"}}"#, "c"),
            ("a.b", r#"{"x":"\",\"type\":\"a.b","type":"c"}"#, "c"),
            ("a.b", r#"{"x":",\"type\":\"a.b\"}","type":"c","y":2}"#, "c"),
            ("a.b", r#"{ "x" : 1 , "type" : "c" , "y" : not json"#, "c"),
            ("a.b", r#"{"t\u0079pe":"\u0063"}"#, "c"),
            ("", r#"{"type":"c"}"#, "c"),
        ] {
            assert_eq!(super::kind(name, data.as_bytes()), Kind::Given(kind.into()), "{data}");
        }
        assert_eq!(kind("a.b", br#"{"x":{"y":1,"type":"a.b"}}"#), Kind::Missing);
    }
}
