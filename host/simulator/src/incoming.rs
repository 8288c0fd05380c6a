//! What a client may send to a session, parsed: after this nothing is looked up in JSON any more.

use serde_json::{Map, Value};

use crate::id::Ids;

/// One event from a client.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: &'static str,
    /// Its fields without `id`, `type` and `processed_at`.
    pub(crate) body: Map<String, Value>,
    /// Whether it counts as processed at once, and so is never seen as queued.
    pub(crate) processed: bool,
    pub(crate) input: Input,
}

/// What it means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Work for a turn.
    Prompt(String),
    /// Stop.
    Interrupt,
    /// An answer to the event `to`.
    Reply { to: String, reply: Reply },
    /// Kept, and no more.
    Note,
}

/// What the client answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The text of a custom tool's result.
    Result(String),
    /// A tool may run.
    Allowed,
    /// A tool may not run, and what the client said to that.
    Denied(String),
}

/// Why a session does not do what a client wants.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Session is archived and accepts no events.")]
    Archived,
    #[error("Session is terminated and accepts no events.")]
    Terminated,
    #[error("Session is running.")]
    Running,
    #[error("No event {0} waits for an answer.")]
    NothingAsked(String),
    #[error("events.{index}: {why}")]
    Invalid { index: usize, why: &'static str },
}

impl Incoming {
    /// Reads one of a request's events.
    pub(crate) fn parse(index: usize, event: Value, ids: &Ids) -> Result<Self, Refused> {
        Self::read(event, ids).map_err(|why| Refused::Invalid { index, why })
    }

    fn read(event: Value, ids: &Ids) -> Result<Self, &'static str> {
        let Value::Object(mut body) = event else { return Err("Input should be an object") };
        let kind = body.remove("type");
        for own in ["id", "processed_at"] {
            body.remove(own);
        }
        let (kind, processed, input) = match kind.as_ref().and_then(Value::as_str) {
            Some("user.message") => ("user.message", false, Input::Prompt(content(&body)?)),
            Some("user.interrupt") => ("user.interrupt", false, Input::Interrupt),
            Some("user.tool_confirmation") => ("user.tool_confirmation", false, confirmation(&body)?),
            Some("user.custom_tool_result") => ("user.custom_tool_result", true, custom_result(&body)?),
            Some("user.tool_result") => {
                text(&body, "tool_use_id").ok_or("tool_use_id: Field required")?;
                ("user.tool_result", true, Input::Note)
            }
            Some("user.define_outcome") => ("user.define_outcome", true, define_outcome(&mut body, ids)?),
            Some("system.message") => {
                content(&body)?;
                ("system.message", true, Input::Note)
            }
            Some(_) => return Err("type: Input is not one of the event types that can be sent"),
            None => return Err("type: Field required"),
        };
        Ok(Self { kind, body, processed, input })
    }
}

fn confirmation(body: &Map<String, Value>) -> Result<Input, &'static str> {
    let to = text(body, "tool_use_id").ok_or("tool_use_id: Field required")?.to_owned();
    let reply = match text(body, "result") {
        Some("allow") if body.contains_key("deny_message") => return Err("deny_message: only with result deny"),
        Some("allow") => Reply::Allowed,
        Some("deny") => {
            Reply::Denied(text(body, "deny_message").unwrap_or("The user denied this tool use.").to_owned())
        }
        _ => return Err("result: Input should be 'allow' or 'deny'"),
    };
    Ok(Input::Reply { to, reply })
}

fn custom_result(body: &Map<String, Value>) -> Result<Input, &'static str> {
    let to = text(body, "custom_tool_use_id").ok_or("custom_tool_use_id: Field required")?.to_owned();
    Ok(Input::Reply { to, reply: Reply::Result(content(body).unwrap_or_default()) })
}

fn define_outcome(body: &mut Map<String, Value>, ids: &Ids) -> Result<Input, &'static str> {
    let description = text(body, "description").ok_or("description: Field required")?.to_owned();
    if !body.contains_key("rubric") {
        return Err("rubric: Field required");
    }
    body.insert("outcome_id".to_owned(), ids.mint("outc").into());
    body.entry("max_iterations").or_insert(Value::Null);
    Ok(Input::Prompt(description))
}

/// The text of all text blocks of `content`, which must be a list.
fn content(body: &Map<String, Value>) -> Result<String, &'static str> {
    let blocks = body.get("content").ok_or("content: Field required")?;
    let blocks = blocks.as_array().ok_or("content: Input should be a valid list")?;
    let texts: Vec<_> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    Ok(texts.join("\n"))
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn parse(event: Value) -> Result<Incoming, Refused> {
        Incoming::parse(0, event, &Ids::new())
    }

    #[test]
    fn a_message_is_a_prompt_of_all_its_text() {
        let content = json!([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]);
        let event = parse(json!({"type": "user.message", "id": "mine", "content": content})).unwrap();
        assert_eq!(event.input, Input::Prompt("a\nb".to_owned()));
        assert_eq!(Value::Object(event.body), json!({"content": content}));
        assert!(!event.processed);
    }

    #[test]
    fn a_denial_carries_its_reason_and_an_approval_none() {
        let confirm = |more: Value| {
            let mut event = json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1"});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(event).map(|event| event.input)
        };
        let reply = |reply| Ok(Input::Reply { to: "sevt_1".to_owned(), reply });
        assert_eq!(confirm(json!({"result": "allow"})), reply(Reply::Allowed));
        assert_eq!(confirm(json!({"result": "deny", "deny_message": "no"})), reply(Reply::Denied("no".to_owned())));
        let why = |text: Value| confirm(text).unwrap_err().to_string();
        assert_eq!(why(json!({})), "events.0: result: Input should be 'allow' or 'deny'");
        assert_eq!(
            why(json!({"result": "allow", "deny_message": ""})),
            "events.0: deny_message: only with result deny"
        );
    }

    #[test]
    fn what_is_no_event_of_a_client_is_refused() {
        for event in [json!(1), json!({}), json!({"type": "agent.message"}), json!({"type": "user.message"})] {
            assert!(matches!(parse(event), Err(Refused::Invalid { index: 0, .. })));
        }
    }
}
