//! What the simulated agent does: turns made of steps, chosen by the prompt.
//!
//! A script is data. `lap simulate --script FILE` reads it as TOML, tests build it as values:
//!
//! ```toml
//! [default]                      # the turn of a prompt that names no other
//! steps = [
//!     { step = "message", text = "You said: “{prompt}”" },
//!     { step = "tool_use", name = "bash", input = { command = "ls" } },
//!     { step = "tool_result", text = "README.md" },
//! ]
//!
//! [turns.flood]                  # the turn of "/flood …" and of "… [script:flood] …"
//! steps = [{ step = "repeat", count = 1000, bytes = 300, stamp = true }]
//!
//! [faults]                       # see `Faults`
//! status_lag_ms = 5
//! ```
//!
//! `examples/script.toml` shows every key. What a script leaves out has its default; an unknown key is refused.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::fault::Faults;

/// How the simulated service behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The turn of a prompt that names no other.
    pub default: Turn,
    /// The turns that a prompt can name, with `/name` in front or `[script:name]` anywhere.
    pub turns: BTreeMap<String, Turn>,
    /// Signs of life on a stream that has nothing to say.
    pub heartbeat: Heartbeat,
    /// What goes wrong.
    pub faults: Faults,
}

/// What the agent does with one prompt: it opens with `session.status_running` and ends with `session.status_idle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// In this order.
    pub steps: Vec<Step>,
    /// Milliseconds of rest before each step.
    pub every_ms: u64,
    /// Whether `span.model_request_start` and `…_end` enclose what the agent does.
    pub spans: bool,
    /// Why the turn is over once the steps are done.
    pub stop_reason: StopReason,
    /// What the `session.status_idle` at its end carries beside what it must.
    pub idle_burden: Option<Burden>,
}

/// One thing that the agent does. In a `text`, `{prompt}` stands for the prompt, and `{answer}` for the text of the
/// client's last `user.custom_tool_result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// `agent.message`.
    Message {
        /// Its one block.
        text: String,
    },
    /// `agent.thinking`.
    Thinking,
    /// `agent.tool_use` of a tool that the service runs itself.
    ToolUse {
        /// The tool.
        name: String,
        /// What the tool is given.
        #[serde(default)]
        input: Map<String, Value>,
    },
    /// `agent.tool_result` of the tool use before.
    ToolResult {
        /// Its one block.
        #[serde(default)]
        text: String,
        /// Whether the tool failed.
        #[serde(default)]
        is_error: bool,
    },
    /// `agent.custom_tool_use`: the turn waits for the client's `user.custom_tool_result`. Several in a row, also mixed
    /// with `ask`, are asked together.
    CustomToolUse {
        /// The tool.
        name: String,
        /// What the tool is given.
        #[serde(default)]
        input: Map<String, Value>,
    },
    /// `agent.tool_use` that needs the client's `user.tool_confirmation`, then `agent.tool_result`.
    Ask {
        /// The tool.
        name: String,
        /// What the tool is given.
        #[serde(default)]
        input: Map<String, Value>,
        /// What the tool says once it is allowed.
        #[serde(default)]
        result: String,
    },
    /// `session.error`. After it the turn goes on (`retrying`), is over (`exhausted`: what waits is dropped too), or
    /// the session is (`terminal`).
    Error {
        /// E.g. `model_overloaded_error`.
        #[serde(rename = "type", default = "unknown_error")]
        kind: String,
        /// For people.
        #[serde(default)]
        message: String,
        /// What happens next.
        #[serde(default)]
        retry_status: RetryStatus,
    },
    /// Nothing, for a while.
    Delay {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Nothing, until [`Simulator::release`](crate::Simulator::release): a turn that is over when a test says so.
    Hold,
    /// An `agent.message` that carries more than events do.
    Heavy {
        /// What it carries.
        burden: Burden,
    },
    /// Many `agent.message` events.
    Repeat(Repeat),
    /// An event as it stands here; `id` and `processed_at` are added if absent. Without `type` it is nameless.
    Event {
        /// The event.
        event: Map<String, Value>,
    },
    /// Bytes for the readers of the stream only: no event, in no list. E.g. `"event: ping\n\n"`.
    Frame {
        /// The bytes, with every line end they need.
        text: String,
    },
    /// `session.status_terminated`: the session is over.
    Terminate,
}

/// `count` events of one shape. With `every_ms = 0` they come as fast as the slowest reader takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repeat {
    /// How many.
    pub count: u64,
    /// Milliseconds from one to the next, on a schedule that does not drift; 0 is flat out.
    pub every_ms: u64,
    /// About how long the JSON of each is.
    pub bytes: usize,
    /// Whether each carries its index `n` (from 0) and `sent_ns`, nanoseconds since the epoch as a string.
    pub stamp: bool,
}

/// A member `burden` beyond what a host may want to keep: `{ bytes = 2_000_000 }` or `{ levels = 100 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Burden {
    /// A text of so many bytes.
    Bytes(usize),
    /// So many lists, each within the one before.
    Levels(usize),
}

impl Burden {
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Bytes(bytes) => "x".repeat(bytes).into(),
            Self::Levels(levels) => (0..levels).fold(Value::Null, |within, _| Value::Array(vec![within])),
        }
    }
}

/// Why a turn is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It came to its end.
    #[default]
    EndTurn,
    /// It failed too often.
    RetriesExhausted,
    /// It cost too much.
    BudgetReached,
    /// The model declined; `stop_details` says so too.
    Refusal,
}

/// What follows a `session.error`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryStatus {
    /// The service goes on by itself.
    Retrying,
    /// The turn is over.
    #[default]
    Exhausted,
    /// The session is over.
    Terminal,
}

/// Signs of life on a quiet stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Milliseconds from one to the next; 0 is none.
    pub every_ms: u64,
    /// Their form.
    pub form: HeartbeatForm,
}

/// What a heartbeat looks like; a client must skip both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatForm {
    /// `: heartbeat`
    #[default]
    Comment,
    /// `event: ping`
    Ping,
}

impl Script {
    /// A script of one turn, which every prompt gets.
    #[must_use]
    pub fn of(steps: impl Into<Vec<Step>>) -> Self {
        Self { default: Turn::of(steps), turns: BTreeMap::new(), ..Self::default() }
    }

    /// The same script with these faults.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// The turn that this prompt asks for.
    #[must_use]
    pub fn turn(&self, prompt: &str) -> &Turn {
        named(prompt).and_then(|name| self.turns.get(name)).unwrap_or(&self.default)
    }
}

/// The turn that a prompt names.
fn named(prompt: &str) -> Option<&str> {
    let slashed = || prompt.strip_prefix('/')?.split_whitespace().next();
    let bracketed = || prompt.split_once("[script:")?.1.split_once(']').map(|(name, _)| name);
    slashed().or_else(bracketed)
}

impl FromStr for Script {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

impl Default for Script {
    /// A short conversation, and a turn of each kind to try by hand.
    fn default() -> Self {
        let turns = [
            ("long", vec![repeat(600, 1000)]),
            ("flood", vec![repeat(100_000, 0)]),
            ("custom", vec![Step::custom_tool_use("get_weather", json!({"city": "Kyiv"})), Step::message("{answer}")]),
            ("ask", vec![Step::ask("bash", json!({"command": "rm -r build"}), "removed"), Step::message("Done.")]),
            ("error", vec![overloaded(RetryStatus::Exhausted)]),
            ("retry", vec![overloaded(RetryStatus::Retrying), Step::message("It went on after all.")]),
            ("terminate", vec![Step::Terminate]),
        ];
        Self {
            default: Turn::default(),
            turns: turns.into_iter().map(|(name, steps)| (name.to_owned(), Turn::of(steps))).collect(),
            heartbeat: Heartbeat::default(),
            faults: Faults::default(),
        }
    }
}

impl Turn {
    /// A turn of these steps, without rest, that ends well.
    #[must_use]
    pub fn of(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), every_ms: 0, spans: true, stop_reason: StopReason::EndTurn, idle_burden: None }
    }
}

impl Default for Turn {
    fn default() -> Self {
        // The quotes and the dash are there so that every stream has characters of several bytes.
        Self::of([
            Step::message("You said: “{prompt}” — let me look around."),
            Step::tool_use("bash", json!({"command": "ls"})),
            Step::ToolResult { text: "README.md\nsrc\n".to_owned(), is_error: false },
            Step::message("There is a README.md and a folder src."),
        ])
    }
}

impl Step {
    /// An `agent.message`.
    #[must_use]
    pub fn message(text: &str) -> Self {
        Self::Message { text: text.to_owned() }
    }

    /// An `agent.tool_use`; `input` is an object.
    #[must_use]
    pub fn tool_use(name: &str, input: Value) -> Self {
        Self::ToolUse { name: name.to_owned(), input: object(input) }
    }

    /// An `agent.custom_tool_use`; `input` is an object.
    #[must_use]
    pub fn custom_tool_use(name: &str, input: Value) -> Self {
        Self::CustomToolUse { name: name.to_owned(), input: object(input) }
    }

    /// A tool use to be confirmed; `input` is an object, `result` what the tool then says.
    #[must_use]
    pub fn ask(name: &str, input: Value, result: &str) -> Self {
        Self::Ask { name: name.to_owned(), input: object(input), result: result.to_owned() }
    }
}

/// What is no object becomes one, under the key `value`.
fn object(input: Value) -> Map<String, Value> {
    match input {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

fn repeat(count: u64, every_ms: u64) -> Step {
    Step::Repeat(Repeat { count, every_ms, ..Repeat::default() })
}

fn overloaded(retry_status: RetryStatus) -> Step {
    Step::Error {
        kind: "model_overloaded_error".to_owned(),
        message: "The model is overloaded.".to_owned(),
        retry_status,
    }
}

fn unknown_error() -> String {
    "unknown_error".to_owned()
}

impl Default for Repeat {
    fn default() -> Self {
        Self { count: 1, every_ms: 0, bytes: 300, stamp: false }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { every_ms: 15_000, form: HeartbeatForm::Comment }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::fault::{Cut, CutAt, CutBy, ListLag};

    #[test]
    fn a_prompt_names_its_turn_in_two_ways() {
        let script = Script::default();
        assert_eq!(script.turn("/ask me"), &script.turns["ask"]);
        assert_eq!(script.turn("/ask"), &script.turns["ask"]);
        assert_eq!(script.turn("please [script:flood] now"), &script.turns["flood"]);
        assert_eq!(script.turn("/unknown turn"), &script.default);
        assert_eq!(script.turn("and/ask"), &script.default);
    }

    #[test]
    fn toml_says_the_same_as_values() {
        let script: Script = r#"
            [default]
            every_ms = 5
            stop_reason = "refusal"
            steps = [
                { step = "thinking" },
                { step = "error", type = "billing_error", message = "no money", retry_status = "terminal" },
                { step = "repeat", count = 3, stamp = true },
            ]
        "#
        .parse()
        .unwrap();
        let expected = Turn {
            every_ms: 5,
            stop_reason: StopReason::Refusal,
            ..Turn::of([
                Step::Thinking,
                Step::Error {
                    kind: "billing_error".to_owned(),
                    message: "no money".to_owned(),
                    retry_status: RetryStatus::Terminal,
                },
                Step::Repeat(Repeat { count: 3, stamp: true, ..Repeat::default() }),
            ])
        };
        assert_eq!(script.default, expected);
    }

    #[test]
    fn the_example_is_read_as_it_says() {
        let script: Script = include_str!("../examples/script.toml").parse().unwrap();
        assert_eq!((script.default.steps.len(), script.turns.len()), (6, 4));
        let faults = &script.faults;
        assert_eq!((faults.requests.len(), faults.streams.len(), faults.status_lag_ms), (4, 2, 5));
        let cut = Cut { after_frames: 4, at: CutAt::Character, by: CutBy::Reset };
        assert_eq!(faults.streams[0].cut, Some(cut));
        assert_eq!(faults.list, ListLag { newest: 1, younger_ms: 50 });
    }

    #[test]
    fn the_default_script_survives_a_trip_through_text() {
        let text = serde_json::to_string(&Script::default()).unwrap();
        assert_eq!(serde_json::from_str::<Script>(&text).unwrap(), Script::default());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        for text in ["stepz = 1", "[default]\nstep = []", "default.steps = [{ step = \"message\", txt = \"\" }]"] {
            assert!(text.parse::<Script>().unwrap_err().to_string().contains("unknown field"), "{text}");
        }
    }
}
