//! A scenario: what a client does, what the upstream answers and says, and what has to come of it. A file in TOML that the
//! author of a runtime writes, because only the author knows the vendor's wire; `docs/adapters.md` has the reference.

use std::{collections::BTreeMap, str::FromStr};

use lap_model::contract::Effect;
use serde::Deserialize;

use crate::{
    runtime::{AgentSpec, ErrorKind, Input, SessionSpec},
    upstream::Method,
};

/// A scenario, as it stands in its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub title: String,
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    session: Session,
    /// What the upstream answers at any time; what a step says goes before.
    #[serde(default)]
    pub(super) upstream: Vec<Rule>,
    /// What happens, in order.
    pub(super) step: Vec<Step>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Agent {
    name: String,
    model: String,
    system: String,
    description: Option<String>,
    /// A JSON array.
    tools: Option<String>,
    /// A JSON object.
    config: String,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            name: "Ada".to_owned(),
            model: "model-1".to_owned(),
            system: String::new(),
            description: None,
            tools: None,
            config: "{}".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Session {
    title: String,
    /// A JSON object.
    environment: String,
}

impl Default for Session {
    fn default() -> Self {
        Self { title: "A scenario".to_owned(), environment: "{}".to_owned() }
    }
}

/// What the upstream answers to requests of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub(super) struct Rule {
    pub(super) method: Method,
    pub(super) path: String,
    /// Parameters that the request has, among others.
    pub(super) query: BTreeMap<String, String>,
    /// Texts that stand in the request's body.
    pub(super) contains: Vec<String>,
    /// True for an answer that the upstream gives only after it has said all that the step's feed brings.
    pub(super) fed: bool,
    pub(super) answer: Response,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Response {
    Whole {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// A feed, which brings what the steps say.
    Feed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    method: String,
    path: String,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    contains: Vec<String>,
    #[serde(default)]
    fed: bool,
    #[serde(default)]
    feed: bool,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

impl TryFrom<WrittenRule> for Rule {
    type Error = String;

    fn try_from(written: WrittenRule) -> Result<Self, String> {
        let WrittenRule { method, path, query, contains, fed, feed, status, headers, body } = written;
        let method = Method::named(&method).ok_or_else(|| format!("there is no method {method:?}"))?;
        if !path.starts_with('/') {
            return Err(format!("the path {path:?} does not begin with `/`"));
        }
        if feed && (status.is_some() || body.is_some() || !headers.is_empty()) {
            return Err(format!("{path:?} is a feed: what it says stands in the steps, not in `status` or `body`"));
        }
        let answer = match feed {
            true => Response::Feed,
            false => Response::Whole {
                status: status.unwrap_or(200),
                headers: headers.into_iter().collect(),
                body: body.unwrap_or_default(),
            },
        };
        Ok(Self { method, path, query, contains, fed, answer })
    }
}

/// One thing that happens: at most one of the client's acts, and then what the feed brings.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "WrittenStep")]
pub(super) struct Step {
    pub(super) act: Option<Act>,
    pub(super) feed: Vec<String>,
    /// The events that come of it, in order; nothing where any will do.
    pub(super) events: Option<Vec<Expected>>,
    /// What the last event with an effect does to the turn.
    pub(super) turn: Option<Effect>,
    /// The error that the act ends in.
    pub(super) error: Option<ErrorKind>,
    pub(super) upstream: Vec<Rule>,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Input(Input),
    Close,
    Models(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    prompt: Option<String>,
    message: Option<String>,
    input: Option<String>,
    #[serde(default)]
    interrupt: bool,
    #[serde(default)]
    close: bool,
    models: Option<Vec<String>>,
    feed: Option<OneOrMany>,
    events: Option<Vec<Expected>>,
    turn: Option<String>,
    error: Option<String>,
    #[serde(default)]
    upstream: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<WrittenStep> for Step {
    type Error = String;

    fn try_from(written: WrittenStep) -> Result<Self, String> {
        let WrittenStep { prompt, message, input, interrupt, close, models, feed, events, turn, error, upstream } =
            written;
        let text = |text| serde_json::json!([{"type": "text", "text": text}]).to_string();
        let acts = [
            prompt.map(|prompt| Act::Input(Input::Message(text(prompt)))),
            message.map(|content| Act::Input(Input::Message(content))),
            input.map(|json| Act::Input(Input::Other(json))),
            interrupt.then_some(Act::Input(Input::Interrupt)),
            close.then_some(Act::Close),
            models.map(Act::Models),
        ];
        let mut acts = acts.into_iter().flatten();
        let act = acts.next();
        if acts.next().is_some() {
            let one = "one of `prompt`, `message`, `input`, `interrupt`, `close` and `models`";
            return Err(format!("a step has at most {one}; make two steps of it"));
        }
        let feed = match feed {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text],
            Some(OneOrMany::Many(texts)) => texts,
        };
        let turn = turn.map(|turn| effect(&turn)).transpose()?;
        let error = error.map(|error| kind(&error)).transpose()?;
        Ok(Self { act, feed, events, turn, error, upstream })
    }
}

/// An event that has to come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenEvent")]
pub(super) struct Expected {
    pub(super) kind: String,
    pub(super) id: Option<String>,
    /// Texts that stand in the event's JSON.
    pub(super) contains: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenEvent {
    Kind(String),
    #[serde(rename_all = "snake_case")]
    Whole {
        r#type: String,
        id: Option<String>,
        #[serde(default)]
        contains: Vec<String>,
    },
}

impl From<WrittenEvent> for Expected {
    fn from(written: WrittenEvent) -> Self {
        match written {
            WrittenEvent::Kind(kind) => Self { kind, id: None, contains: Vec::new() },
            WrittenEvent::Whole { r#type: kind, id, contains } => Self { kind, id, contains },
        }
    }
}

const EFFECTS: [(&str, Effect); 6] = [
    ("started", Effect::Started),
    ("waiting", Effect::Waiting),
    ("ended", Effect::Ended),
    ("failed", Effect::Failed),
    ("rescheduled", Effect::Rescheduled),
    ("terminated", Effect::Terminated),
];

const KINDS: [(&str, ErrorKind); 11] = [
    ("auth", ErrorKind::Auth),
    ("throttled", ErrorKind::Throttled),
    ("quota", ErrorKind::Quota),
    ("overloaded", ErrorKind::Overloaded),
    ("bad-request", ErrorKind::BadRequest),
    ("not-found", ErrorKind::NotFound),
    ("conflict", ErrorKind::Conflict),
    ("gone", ErrorKind::Gone),
    ("unsupported", ErrorKind::Unsupported),
    ("upstream", ErrorKind::Upstream),
    ("internal", ErrorKind::Internal),
];

fn effect(name: &str) -> Result<Effect, String> {
    named(&EFFECTS, name, "turn")
}

fn kind(name: &str) -> Result<ErrorKind, String> {
    named(&KINDS, name, "error")
}

fn named<T: Copy>(names: &[(&str, T)], name: &str, what: &str) -> Result<T, String> {
    names.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        format!("{what} = {name:?} is none of {}", known.join(", "))
    })
}

/// The contract's name of an effect.
pub(super) fn effect_name(effect: Effect) -> &'static str {
    EFFECTS.iter().find(|(_, known)| *known == effect).map_or("none", |(name, _)| name)
}

/// The contract's name of a kind of error.
pub(super) fn kind_name(kind: ErrorKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("internal", |(name, _)| name)
}

/// A scenario that cannot be read: where, and what is wrong there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl FromStr for Scenario {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let scenario: Self = toml::from_str(text).map_err(|error| Invalid(error.to_string()))?;
        let json = |what: &str, text: &str| {
            serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map_err(|error| Invalid(format!("{what} is no JSON: {error}")))
        };
        json("agent.config", &scenario.agent.config)?;
        json("agent.tools", scenario.agent.tools.as_deref().unwrap_or("[]"))?;
        json("session.environment", &scenario.session.environment)?;
        for (number, step) in (1..).zip(&scenario.step) {
            if let Some(Act::Input(Input::Message(text) | Input::Other(text))) = &step.act {
                json(&format!("what the client says in step {number}"), text)?;
            }
        }
        Ok(scenario)
    }
}

impl Scenario {
    /// One that says nothing: for what can be asked of any runtime.
    pub(super) fn blank() -> Self {
        let (agent, session) = (Agent::default(), Session::default());
        Self { title: "contract".to_owned(), agent, session, upstream: Vec::new(), step: Vec::new() }
    }

    pub(super) fn agent(&self) -> AgentSpec {
        let agent = self.agent.clone();
        AgentSpec {
            id: "agent_0198c0ffee0070008000000000000001".to_owned(),
            name: agent.name,
            model: agent.model,
            system: agent.system,
            description: agent.description,
            tools: agent.tools,
            config: agent.config,
        }
    }

    pub(super) fn session(&self, provision: String) -> SessionSpec {
        SessionSpec {
            id: "ses_0198c0ffee0070008000000000000002".to_owned(),
            title: self.session.title.clone(),
            agent: self.agent(),
            provision,
            environment: self.session.environment.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn invalid(step: &str) -> String {
        format!("title = \"t\"\n[[step]]\n{step}").parse::<Scenario>().unwrap_err().to_string()
    }

    #[test]
    fn a_step_says_what_is_wrong_with_it() {
        assert!(invalid("prompt = \"a\"\nclose = true").contains("make two steps of it"));
        assert!(invalid("promt = \"a\"").contains("promt"));
        assert!(invalid("turn = \"over\"").contains("is none of started, waiting, ended"));
        assert!(invalid("input = \"{\"").contains("step 1 is no JSON"));
        let rule = "[[step.upstream]]\nmethod = \"GET\"\npath = \"/a\"\nfeed = true\nbody = \"x\"";
        assert!(invalid(rule).contains("stands in the steps"));
    }

    #[test]
    fn an_event_is_told_by_its_type_alone_or_by_more() {
        let text = "title = \"t\"\n[[step]]\nevents = [\"a\", { type = \"b\", id = \"1\", contains = [\"x\"] }]";
        let scenario: Scenario = text.parse().unwrap();
        let expected = Expected { kind: "b".to_owned(), id: Some("1".to_owned()), contains: vec!["x".to_owned()] };
        assert_eq!(scenario.step[0].events.as_ref().unwrap()[1], expected);
    }
}
