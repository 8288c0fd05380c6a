//! Events as clients send them: what each kind may say, before anything of it is stored or passed on.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::super::error::Error;

/// The text of an outcome's rubric.
const RUBRIC_CHARS_MAX: usize = 262_144;
const ITERATIONS_MAX: u32 = 20;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It begins a turn, or waits until it may.
    Prompt,
    /// It stops the turn.
    Interrupt,
    /// The runtime gets it at once.
    Input,
}

/// An event that a client sends.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) kind: String,
    pub(super) usage: Use,
    pub(super) json: Box<RawValue>,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

/// A part of a message's content; what it says is the runtime's to judge.
#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    content: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interrupt {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(default)]
    session_thread_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "tool_use_id")]
    _tool_use: String,
    result: Verdict,
    #[serde(default)]
    deny_message: Option<String>,
    #[serde(default, rename = "session_thread_id")]
    _thread: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomResult {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "custom_tool_use_id")]
    _tool_use: String,
    #[serde(default)]
    content: Option<Vec<Block>>,
    #[serde(default, rename = "is_error")]
    _is_error: Option<bool>,
    #[serde(default, rename = "session_thread_id")]
    _thread: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolResult {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "tool_use_id")]
    _tool_use: String,
    #[serde(default)]
    content: Option<Vec<Block>>,
    #[serde(default, rename = "is_error")]
    _is_error: Option<bool>,
    #[serde(default, rename = "session_thread_id")]
    _thread: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    description: String,
    rubric: Rubric,
    #[serde(default)]
    max_iterations: Option<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Rubric {
    Text {
        content: String,
    },
    File {
        #[serde(rename = "file_id")]
        _file: String,
    },
}

impl Input {
    /// Reads the event at a place of a list that the client knows by `name`.
    ///
    /// # Errors
    /// Says what is wrong with it, and with which.
    pub(super) fn read(name: &str, json: Box<RawValue>) -> Result<Self, Error> {
        let refuse = |message: &dyn std::fmt::Display| Error::invalid(format_args!("{name}: {message}"));
        // Otherwise an array would pass for a struct whose fields it lists.
        if !json.get().starts_with('{') {
            return Err(refuse(&"must be an object"));
        }
        // Nobody could read it in the log.
        lap_session::event::storable(json.get()).map_err(|invalid| refuse(&format_args!("must not be {invalid}")))?;
        let Typed { kind } = serde_json::from_str(json.get()).map_err(|error| refuse(&error))?;
        let usage = judge(&kind, json.get()).map_err(|message| refuse(&message))?;
        Ok(Self { kind, usage, json })
    }
}

fn judge(kind: &str, json: &str) -> Result<Use, String> {
    fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }
    match kind {
        "user.message" => {
            let Message { content, .. } = parse(json)?;
            not_empty(&content)?;
            Ok(Use::Prompt)
        }
        "user.define_outcome" => {
            let Outcome { description, rubric, max_iterations, .. } = parse(json)?;
            if description.trim().is_empty() {
                return Err("description: must not be empty".to_owned());
            }
            if let Rubric::Text { content } = rubric
                && content.chars().count() > RUBRIC_CHARS_MAX
            {
                return Err(format!("rubric: at most {RUBRIC_CHARS_MAX} characters"));
            }
            if max_iterations.is_some_and(|most| !(1..=ITERATIONS_MAX).contains(&most)) {
                return Err(format!("max_iterations: must be a number from 1 to {ITERATIONS_MAX}"));
            }
            Ok(Use::Prompt)
        }
        "user.interrupt" => match parse(json)? {
            Interrupt { session_thread_id: None, .. } => Ok(Use::Interrupt),
            // The other threads go on, so the turn does.
            Interrupt { session_thread_id: Some(_), .. } => Ok(Use::Input),
        },
        "user.tool_confirmation" => match parse(json)? {
            Confirmation { result: Verdict::Allow, deny_message: Some(_), .. } => {
                Err("deny_message: only a denial has one".to_owned())
            }
            Confirmation { .. } => Ok(Use::Input),
        },
        "user.custom_tool_result" => {
            let CustomResult { content, .. } = parse(json)?;
            content.iter().flatten().try_for_each(whole)?;
            Ok(Use::Input)
        }
        "user.tool_result" => {
            let ToolResult { content, .. } = parse(json)?;
            content.iter().flatten().try_for_each(whole)?;
            Ok(Use::Input)
        }
        "system.message" => {
            let Message { content, .. } = parse(json)?;
            not_empty(&content)?;
            if content.iter().any(|block| block.kind != "text") {
                return Err("content: a system message has text only".to_owned());
            }
            Ok(Use::Input)
        }
        _ => Err(format!("type: {kind:?} is no event that clients send")),
    }
}

fn not_empty(content: &[Block]) -> Result<(), String> {
    if content.is_empty() {
        return Err("content: must not be empty".to_owned());
    }
    content.iter().try_for_each(whole)
}

fn whole(block: &Block) -> Result<(), String> {
    match (block.kind.as_str(), &block.text) {
        ("text", None) => Err("content: a text block needs `text`".to_owned()),
        ("text", Some(text)) if text.is_empty() => Err("content: a text block must not be empty".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Use, String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        Input::read("events.0", raw).map(|input| input.usage).map_err(|error| error.message)
    }

    #[test]
    fn each_kind_has_its_use() {
        for (json, usage) in [
            (
                r#"{"type":"user.message","content":[{"type":"text","text":"a"},{"type":"image","source":{}}]}"#,
                Use::Prompt,
            ),
            (
                r#"{"type":"user.define_outcome","description":"d","rubric":{"type":"text","content":"r"},"max_iterations":20}"#,
                Use::Prompt,
            ),
            (r#"{"type":"user.interrupt"}"#, Use::Interrupt),
            (r#"{"type":"user.interrupt","session_thread_id":"sthr_1"}"#, Use::Input),
            (
                r#"{"type":"user.tool_confirmation","tool_use_id":"sevt_1","result":"deny","deny_message":"no"}"#,
                Use::Input,
            ),
            (r#"{"type":"user.custom_tool_result","custom_tool_use_id":"sevt_1"}"#, Use::Input),
            (
                r#"{"type":"user.tool_result","tool_use_id":"sevt_1","content":[{"type":"text","text":"a"}],"is_error":true}"#,
                Use::Input,
            ),
            (r#"{"type":"system.message","content":[{"type":"text","text":"a"}]}"#, Use::Input),
        ] {
            assert_eq!(read(json), Ok(usage), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_place() {
        for json in [
            "[]",
            "{}",
            r#"{"type":"agent.message","content":[]}"#,
            r#"{"type":"user.message"}"#,
            r#"{"type":"user.message","content":[]}"#,
            r#"{"type":"user.message","content":"text"}"#,
            r#"{"type":"user.message","content":[{"type":"text"}]}"#,
            r#"{"type":"user.message","content":[{"type":"text","text":""}]}"#,
            r#"{"type":"user.message","content":[{"text":"a"}]}"#,
            r#"{"type":"user.message","content":[{"type":"text","text":"a"}],"id":"mine"}"#,
            r#"{"type":"user.tool_confirmation","tool_use_id":"a","result":"maybe"}"#,
            r#"{"type":"user.tool_confirmation","tool_use_id":"a","result":"allow","deny_message":"no"}"#,
            r#"{"type":"user.custom_tool_result","tool_use_id":"a"}"#,
            r#"{"type":"user.define_outcome","description":" ","rubric":{"type":"text","content":"r"}}"#,
            r#"{"type":"user.define_outcome","description":"d","rubric":{"type":"text","content":"r"},"max_iterations":21}"#,
            r#"{"type":"user.define_outcome","description":"d","rubric":{"type":"text","content":"r"},"max_iterations":0}"#,
            r#"{"type":"user.define_outcome","description":"d","rubric":{"type":"html","content":"r"}}"#,
            r#"{"type":"system.message","content":[{"type":"image"}]}"#,
        ] {
            let message = read(json).unwrap_err();
            assert!(message.contains("events.0: "), "{json}: {message}");
        }
    }
}
