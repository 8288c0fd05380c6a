//! The platform's events, built by name: what a client reads, and what it does to the turn, in one place.
//!
//! Every constructor takes the event's id first, because that is what keeps an event from being stored twice: the
//! upstream's own, or one made of it, so that what is told again has the same. An empty id is left out, and the host
//! gives one.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Body, Effect, Event};

/// An event in the making; [`Into::into`] makes it one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Draft {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(flatten)]
    members: Map<String, Value>,
    #[serde(skip)]
    effect: Effect,
}

/// Content blocks. Made of text, or of blocks as the platform has them, such as a client's.
#[derive(Debug, Clone, PartialEq)]
pub struct Content(Vec<Value>);

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self(vec![json!({"type": "text", "text": text})])
    }
}

impl From<Vec<Value>> for Content {
    fn from(blocks: Vec<Value>) -> Self {
        Self(blocks)
    }
}

/// Why a turn rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is over.
    EndTurn,
    /// It waits for answers of the client to the events with these ids.
    RequiresAction(Vec<String>),
    /// It is over because of an error, which an event says.
    RetriesExhausted,
}

/// What kind of error a `session.error` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Any other.
    Unknown,
    /// The model has no capacity.
    ModelOverloaded,
    /// Too many requests for the model.
    ModelRateLimited,
    /// The model, or what runs it, failed.
    ModelRequestFailed,
    /// The account cannot pay.
    Billing,
}

impl Failure {
    const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_error",
            Self::ModelOverloaded => "model_overloaded_error",
            Self::ModelRateLimited => "model_rate_limited_error",
            Self::ModelRequestFailed => "model_request_failed_error",
            Self::Billing => "billing_error",
        }
    }
}

/// What a request to a model has used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ModelUsage {
    /// Read anew.
    pub input_tokens: u64,
    /// Written.
    pub output_tokens: u64,
    /// Put into the vendor's cache.
    pub cache_creation_input_tokens: u64,
    /// Read from it.
    pub cache_read_input_tokens: u64,
}

impl Draft {
    /// An event of any type, of `[a-z0-9._-]`.
    #[must_use]
    pub fn new(kind: impl Into<String>, id: impl Into<String>, effect: Effect) -> Self {
        Self { kind: kind.into(), id: id.into(), members: Map::new(), effect }
    }

    /// Sets a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says when the upstream came to it, in RFC 3339. Without it, the host's own time is taken.
    #[must_use]
    pub fn at(self, time: &str) -> Self {
        self.with("processed_at", time)
    }

    /// Makes the use of a tool one that waits for the client's leave.
    #[must_use]
    pub fn asking(self) -> Self {
        self.with("evaluated_permission", "ask")
    }

    /// Makes a result one of a failure.
    #[must_use]
    pub fn failed(self) -> Self {
        self.with("is_error", true)
    }
}

impl From<Draft> for Event {
    fn from(draft: Draft) -> Self {
        // Strings, numbers and what is made of them: nothing that JSON could refuse.
        let json = serde_json::to_string(&draft).unwrap_or_default();
        Self { body: Body::Json(json), effect: draft.effect }
    }
}

impl Event {
    /// The data of a frame of this call, unchanged: for an upstream whose events are the platform's. Costs no copy.
    #[must_use]
    pub const fn frame(index: u32, effect: Effect) -> Self {
        Self { body: Body::Frame(index), effect }
    }

    /// An event that is whole already, such as the echo of a client's.
    #[must_use]
    pub fn json(event: &Value, effect: Effect) -> Self {
        Self { body: Body::Json(event.to_string()), effect }
    }

    /// `user.message`: the upstream has the prompt.
    #[must_use]
    pub fn user_message(id: impl Into<String>, content: impl Into<Content>) -> Draft {
        Draft::new("user.message", id, Effect::None).with("content", content.into().0)
    }

    /// `user.interrupt`: the upstream stops the turn, which another event ends.
    #[must_use]
    pub fn user_interrupt(id: impl Into<String>) -> Draft {
        Draft::new("user.interrupt", id, Effect::None)
    }

    /// `session.status_running`: a turn runs.
    #[must_use]
    pub fn running(id: impl Into<String>) -> Draft {
        Draft::new("session.status_running", id, Effect::Started)
    }

    /// `session.status_idle`: the turn is over, or waits.
    #[must_use]
    pub fn idle(id: impl Into<String>, stop: Stop) -> Draft {
        let (effect, reason) = match stop {
            Stop::EndTurn => (Effect::Ended, json!({"type": "end_turn"})),
            Stop::RequiresAction(ids) => (Effect::Waiting, json!({"type": "requires_action", "event_ids": ids})),
            Stop::RetriesExhausted => (Effect::Failed, json!({"type": "retries_exhausted"})),
        };
        Draft::new("session.status_idle", id, effect).with("stop_reason", reason).with("stop_details", Value::Null)
    }

    /// `session.status_rescheduled`: the upstream has a fault of its own and goes on by itself.
    #[must_use]
    pub fn rescheduled(id: impl Into<String>) -> Draft {
        Draft::new("session.status_rescheduled", id, Effect::Rescheduled)
    }

    /// `session.status_terminated`: the session is over for good.
    #[must_use]
    pub fn terminated(id: impl Into<String>) -> Draft {
        Draft::new("session.status_terminated", id, Effect::Terminated)
    }

    /// `session.error`, of which the turn dies.
    #[must_use]
    pub fn error(id: impl Into<String>, failure: Failure, message: &str) -> Draft {
        let error = json!({"type": failure.name(), "message": message, "retry_status": {"type": "exhausted"}});
        Draft::new("session.error", id, Effect::Failed).with("error", error)
    }

    /// `agent.message`.
    #[must_use]
    pub fn agent_message(id: impl Into<String>, content: impl Into<Content>) -> Draft {
        Draft::new("agent.message", id, Effect::None).with("content", content.into().0)
    }

    /// `agent.thinking`: that the agent thinks, and not what.
    #[must_use]
    pub fn agent_thinking(id: impl Into<String>) -> Draft {
        Draft::new("agent.thinking", id, Effect::None)
    }

    /// `agent.tool_use`: a tool of the upstream's runs. `input` is an object.
    #[must_use]
    pub fn tool_use(id: impl Into<String>, name: &str, input: Value) -> Draft {
        let draft = Draft::new("agent.tool_use", id, Effect::None).with("name", name).with("input", input);
        draft.with("evaluated_permission", "allow")
    }

    /// `agent.tool_result`, of the use with that id.
    #[must_use]
    pub fn tool_result(id: impl Into<String>, tool_use_id: &str, content: impl Into<Content>) -> Draft {
        let draft = Draft::new("agent.tool_result", id, Effect::None).with("tool_use_id", tool_use_id);
        draft.with("content", content.into().0).with("is_error", false)
    }

    /// `agent.mcp_tool_use`: a tool of an MCP server runs.
    #[must_use]
    pub fn mcp_tool_use(id: impl Into<String>, server: &str, name: &str, input: Value) -> Draft {
        let draft = Draft { kind: "agent.mcp_tool_use".to_owned(), ..Self::tool_use(id, name, input) };
        draft.with("mcp_server_name", server)
    }

    /// `agent.mcp_tool_result`, of the use with that id.
    #[must_use]
    pub fn mcp_tool_result(id: impl Into<String>, tool_use_id: &str, content: impl Into<Content>) -> Draft {
        let draft = Draft::new("agent.mcp_tool_result", id, Effect::None).with("mcp_tool_use_id", tool_use_id);
        draft.with("content", content.into().0).with("is_error", false)
    }

    /// `agent.custom_tool_use`: the client shall run a tool. The turn waits once an [`Event::idle`] says so.
    #[must_use]
    pub fn custom_tool_use(id: impl Into<String>, name: &str, input: Value) -> Draft {
        Draft::new("agent.custom_tool_use", id, Effect::None).with("name", name).with("input", input)
    }

    /// `span.model_request_start`.
    #[must_use]
    pub fn model_request_start(id: impl Into<String>) -> Draft {
        Draft::new("span.model_request_start", id, Effect::None)
    }

    /// `span.model_request_end`, of the request that began with the event of that id; the host adds its usage up.
    #[must_use]
    pub fn model_request_end(id: impl Into<String>, start_id: &str, usage: ModelUsage) -> Draft {
        let draft = Draft::new("span.model_request_end", id, Effect::None).with("model_request_start_id", start_id);
        draft.with("is_error", false).with("model_usage", json!(usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(draft: Draft) -> (Value, Effect) {
        let event = Event::from(draft);
        let Body::Json(json) = event.body else { unreachable!("a draft is JSON") };
        (serde_json::from_str(&json).unwrap_or_default(), event.effect)
    }

    #[test]
    fn an_event_says_what_it_does_to_the_turn() {
        for (draft, kind, effect) in [
            (Event::user_message("e", "Hi"), "user.message", Effect::None),
            (Event::user_interrupt("e"), "user.interrupt", Effect::None),
            (Event::running("e"), "session.status_running", Effect::Started),
            (Event::idle("e", Stop::EndTurn), "session.status_idle", Effect::Ended),
            (Event::idle("e", Stop::RequiresAction(vec![])), "session.status_idle", Effect::Waiting),
            (Event::idle("e", Stop::RetriesExhausted), "session.status_idle", Effect::Failed),
            (Event::rescheduled("e"), "session.status_rescheduled", Effect::Rescheduled),
            (Event::terminated("e"), "session.status_terminated", Effect::Terminated),
            (Event::error("e", Failure::Unknown, "no"), "session.error", Effect::Failed),
            (Event::agent_message("e", "Hi"), "agent.message", Effect::None),
            (Event::agent_thinking("e"), "agent.thinking", Effect::None),
            (Event::tool_use("e", "f", json!({})), "agent.tool_use", Effect::None),
            (Event::tool_result("e", "t", "12"), "agent.tool_result", Effect::None),
            (Event::mcp_tool_use("e", "s", "f", json!({})), "agent.mcp_tool_use", Effect::None),
            (Event::mcp_tool_result("e", "t", "12"), "agent.mcp_tool_result", Effect::None),
            (Event::custom_tool_use("e", "f", json!({})), "agent.custom_tool_use", Effect::None),
            (Event::model_request_start("e"), "span.model_request_start", Effect::None),
            (Event::model_request_end("e", "s", ModelUsage::default()), "span.model_request_end", Effect::None),
        ] {
            let (event, found) = built(draft);
            assert_eq!((&event["type"], &event["id"], found), (&json!(kind), &json!("e"), effect));
        }
    }

    #[test]
    fn an_event_has_the_members_that_clients_require() {
        let waits = built(Event::idle("e", Stop::RequiresAction(vec!["t".to_owned()]))).0;
        assert_eq!(waits["stop_reason"], json!({"type": "requires_action", "event_ids": ["t"]}));
        assert_eq!(waits.get("stop_details"), Some(&Value::Null), "required, and null");
        let asks = built(Event::mcp_tool_use("e", "disk", "rm", json!({"path": "a"})).asking()).0;
        let expected = json!({
            "type": "agent.mcp_tool_use", "id": "e", "mcp_server_name": "disk", "name": "rm", "input": {"path": "a"},
            "evaluated_permission": "ask",
        });
        assert_eq!(asks, expected);
        let failed = built(Event::tool_result("e", "t", "no").failed().at("2026-11-25T10:00:00Z")).0;
        let expected = json!({
            "type": "agent.tool_result", "id": "e", "tool_use_id": "t", "content": [{"type": "text", "text": "no"}],
            "is_error": true, "processed_at": "2026-11-25T10:00:00Z",
        });
        assert_eq!(failed, expected);
        let error = built(Event::error("e", Failure::ModelOverloaded, "busy")).0["error"].clone();
        let retry = json!({"type": "exhausted"});
        assert_eq!(error, json!({"type": "model_overloaded_error", "message": "busy", "retry_status": retry}));
    }

    #[test]
    fn an_id_that_the_upstream_does_not_give_is_left_to_the_host() {
        assert_eq!(built(Event::agent_thinking("")).0, json!({"type": "agent.thinking"}));
    }
}
