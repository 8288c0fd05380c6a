//! Events as bytes: one frame, and a batch of frames of one shape.
//!
//! A frame is `event: <type>\ndata: <json>\n\n`. It is built once; streams and lists share its bytes.

use std::{fmt::Write, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    clock::{Moment, unix_ns},
    id::{Ids, push_serial},
    script::{Burden, Repeat, RetryStatus, StopReason},
};

const NAME: &str = "event: ";
const DATA: &str = "data: ";
/// What ends a frame; the JSON within has no line ends of its own.
pub(crate) const FRAME_END: &[u8] = b"\n\n";

/// What the service itself says; what clients say is kept as they said it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Event<'a> {
    Message {
        content: [Text<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        burden: Option<Value>,
    },
    Thinking {},
    ToolUse {
        name: &'a str,
        input: &'a Map<String, Value>,
        evaluated_permission: Permission,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: [Text<'a>; 1],
        is_error: bool,
    },
    CustomToolUse {
        name: &'a str,
        input: &'a Map<String, Value>,
    },
    Running {},
    Idle {
        stop_reason: Stop<'a>,
        stop_details: Option<Refusal>,
        #[serde(skip_serializing_if = "Option::is_none")]
        burden: Option<Value>,
    },
    Terminated {},
    Deleted {},
    Error {
        error: SessionError<'a>,
    },
    Updated(&'a Map<String, Value>),
    SpanStart {},
    SpanEnd {
        model_request_start_id: &'a str,
        is_error: bool,
        model_usage: ModelUsage,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "text")]
pub(crate) struct Text<'a> {
    text: &'a str,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Permission {
    Allow,
    Ask,
}

/// Why a session is idle.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Stop<'a> {
    EndTurn,
    RetriesExhausted,
    BudgetReached,
    Refusal,
    RequiresAction { event_ids: &'a [String] },
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "refusal")]
pub(crate) struct Refusal {
    category: Option<&'static str>,
    explanation: Option<&'static str>,
}

#[derive(Serialize)]
pub(crate) struct SessionError<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    pub(crate) message: &'a str,
    pub(crate) retry_status: Tagged<RetryStatus>,
}

/// `{"type": …}` and no more.
#[derive(Serialize)]
pub(crate) struct Tagged<T> {
    #[serde(rename = "type")]
    pub(crate) kind: T,
}

/// Nobody computes here, so the numbers are made up, and always the same.
#[derive(Serialize)]
pub(crate) struct ModelUsage {
    input_tokens: u32,
    output_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
}

impl<'a> Event<'a> {
    pub(crate) fn message(text: &'a str) -> Self {
        Self::Message { content: [Text { text }], burden: None }
    }

    /// A message that carries more than events do.
    pub(crate) fn heavy(burden: Burden) -> Self {
        Self::Message { content: [Text { text: "heavy" }], burden: Some(burden.value()) }
    }

    pub(crate) fn tool_result(tool_use_id: &'a str, text: &'a str, is_error: bool) -> Self {
        Self::ToolResult { tool_use_id, content: [Text { text }], is_error }
    }

    pub(crate) fn idle(reason: StopReason, burden: Option<Burden>) -> Self {
        let (stop_reason, stop_details) = match reason {
            StopReason::EndTurn => (Stop::EndTurn, None),
            StopReason::RetriesExhausted => (Stop::RetriesExhausted, None),
            StopReason::BudgetReached => (Stop::BudgetReached, None),
            StopReason::Refusal => (Stop::Refusal, Some(Refusal { category: None, explanation: None })),
        };
        Self::Idle { stop_reason, stop_details, burden: burden.map(Burden::value) }
    }

    pub(crate) fn requires_action(event_ids: &'a [String]) -> Self {
        Self::Idle { stop_reason: Stop::RequiresAction { event_ids }, stop_details: None, burden: None }
    }

    pub(crate) fn span_end(model_request_start_id: &'a str) -> Self {
        let model_usage = ModelUsage {
            input_tokens: 120,
            output_tokens: 40,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
        };
        Self::SpanEnd { model_request_start_id, is_error: false, model_usage }
    }

    /// The `type` on the wire.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Message { .. } => MESSAGE,
            Self::Thinking {} => "agent.thinking",
            Self::ToolUse { .. } => "agent.tool_use",
            Self::ToolResult { .. } => "agent.tool_result",
            Self::CustomToolUse { .. } => "agent.custom_tool_use",
            Self::Running {} => "session.status_running",
            Self::Idle { .. } => "session.status_idle",
            Self::Terminated {} => "session.status_terminated",
            Self::Deleted {} => "session.deleted",
            Self::Error { .. } => "session.error",
            Self::Updated(_) => "session.updated",
            Self::SpanStart {} => "span.model_request_start",
            Self::SpanEnd { .. } => "span.model_request_end",
        }
    }
}

const MESSAGE: &str = "agent.message";

/// An event with what every event has.
#[derive(Serialize)]
struct Envelope<'a, B> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    body: &'a B,
    processed_at: Option<Moment>,
}

/// The bytes of one event on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// `body` serialises to an object of the fields that are this event's own.
    pub(crate) fn new(id: &str, kind: &str, body: &impl Serialize, processed_at: Option<Moment>) -> Self {
        Self::of_json(kind, &Envelope { id, kind, body, processed_at })
    }

    /// A frame around JSON that is complete already.
    pub(crate) fn of_json(kind: &str, json: &impl Serialize) -> Self {
        let mut bytes = Vec::with_capacity(256);
        for part in [NAME, kind, "\n", DATA] {
            bytes.extend_from_slice(part.as_bytes());
        }
        // Into memory, and of maps with text keys: the two ways in which this could fail do not arise.
        serde_json::to_writer(&mut bytes, json).unwrap_or_default();
        bytes.extend_from_slice(FRAME_END);
        Self(bytes.into())
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The event's `type`.
    pub(crate) fn kind(&self) -> &[u8] {
        let rest = self.0.get(NAME.len()..).unwrap_or_default();
        rest.split(|&byte| byte == b'\n').next().unwrap_or_default()
    }

    pub(crate) fn json(&self) -> &[u8] {
        let start = NAME.len() + self.kind().len() + 1 + DATA.len();
        self.0.get(start..self.0.len() - FRAME_END.len()).unwrap_or_default()
    }
}

/// What all events of one `repeat` have in common.
pub(crate) struct Pattern {
    /// Everything up to the serial of the id.
    head: String,
    /// Everything from `type` up to the time.
    middle: String,
    stamp: bool,
}

impl Pattern {
    pub(crate) fn new(ids: &Ids, repeat: &Repeat) -> Self {
        const WORDS: &str = "The quick brown fox jumps over the lazy dog, and the “dog” sleeps on. ";
        let head = format!("{NAME}{MESSAGE}\n{DATA}{{\"id\":\"{}", ids.stem("sevt"));
        let before = format!("\",\"type\":\"{MESSAGE}\",\"content\":[{{\"type\":\"text\",\"text\":\"");
        let after = "\"}],\"processed_at\":\"";
        let stamp_bytes = if repeat.stamp { 45 } else { 0 };
        let fixed_bytes = head.len() - head.find('{').unwrap_or(0) + 10 + before.len() + after.len() + 26 + stamp_bytes;
        let text_bytes = repeat.bytes.saturating_sub(fixed_bytes).max(1);
        let mut text = WORDS.repeat(text_bytes / WORDS.len() + 1);
        text.truncate(text.floor_char_boundary(text_bytes));
        Self { head, middle: format!("{before}{text}{after}"), stamp: repeat.stamp }
    }
}

/// Events of one pattern, made at one moment. In this form a history of millions of events stays small.
pub(crate) struct Batch {
    pattern: Arc<Pattern>,
    first_serial: u64,
    first_n: u64,
    count: u64,
    at: Moment,
    sent_ns: u64,
}

impl Batch {
    pub(crate) fn new(pattern: &Arc<Pattern>, ids: &Ids, first_n: u64, count: u64) -> Self {
        let (at, sent_ns) = (Moment::now(), unix_ns());
        Self { pattern: Arc::clone(pattern), first_serial: ids.block(count), first_n, count, at, sent_ns }
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn at(&self) -> Moment {
        self.at
    }

    pub(crate) const fn kind() -> &'static str {
        MESSAGE
    }

    /// All frames, one behind the other.
    pub(crate) fn render(&self) -> Bytes {
        let at = self.at.to_string();
        let frame_bytes = self.pattern.head.len() + self.pattern.middle.len() + 96;
        let mut text = String::with_capacity(frame_bytes * usize::try_from(self.count).unwrap_or(1));
        for index in 0..self.count {
            self.push(&mut text, index, &at);
        }
        text.into()
    }

    /// The frame at an index below `count`.
    pub(crate) fn frame(&self, index: u64) -> Frame {
        let mut text = String::new();
        self.push(&mut text, index, &self.at.to_string());
        Frame(text.into())
    }

    fn push(&self, text: &mut String, index: u64, at: &str) {
        text.push_str(&self.pattern.head);
        push_serial(text, self.first_serial + index);
        text.push_str(&self.pattern.middle);
        text.push_str(at);
        text.push('"');
        if self.pattern.stamp {
            let n = self.first_n + index;
            // Writing to a String does not fail.
            write!(text, ",\"n\":{n},\"sent_ns\":\"{}\"", self.sent_ns).unwrap_or_default();
        }
        text.push_str("}\n\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn json(frame: &Frame) -> Value {
        serde_json::from_slice(frame.json()).unwrap()
    }

    #[test]
    fn a_frame_is_named_and_holds_one_object() {
        let event = Event::requires_action(&["sevt_2".to_owned()]).into_frame("sevt_1");
        assert_eq!(
            event.bytes(),
            "event: session.status_idle\ndata: {\"id\":\"sevt_1\",\"type\":\"session.status_idle\",\
             \"stop_reason\":{\"type\":\"requires_action\",\"event_ids\":[\"sevt_2\"]},\
             \"stop_details\":null,\"processed_at\":null}\n\n"
        );
        assert_eq!(event.kind(), b"session.status_idle");
    }

    #[test]
    fn a_refusal_has_details_with_every_key() {
        let event = Event::idle(StopReason::Refusal, None).into_frame("sevt_1");
        let details = json!({"type": "refusal", "category": null, "explanation": null});
        assert_eq!(json(&event)["stop_details"], details);
    }

    #[test]
    fn a_batch_renders_what_its_frames_are() {
        let ids = Ids::new();
        for stamp in [false, true] {
            for bytes in [0, 300, 1000] {
                let pattern = Arc::new(Pattern::new(&ids, &Repeat { bytes, stamp, ..Repeat::default() }));
                let batch = Batch::new(&pattern, &ids, 7, 3);
                let frames: Vec<Frame> = (0..3).map(|index| batch.frame(index)).collect();
                assert_eq!(batch.render(), frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>());
                assert_eq!(frames[1].kind(), b"agent.message");
                assert_eq!(json(&frames[2]).get("n"), stamp.then(|| json!(9)).as_ref());
                let length = frames[0].json().len();
                assert!(bytes == 0 || bytes.abs_diff(length) < 8, "asked for {bytes}, got {length}");
            }
        }
    }

    impl Event<'_> {
        fn into_frame(self, id: &str) -> Frame {
            Frame::new(id, self.kind(), &self, None)
        }
    }
}
