//! What the log keeps of a session beside its events: the session's record, its facts, and the user's messages.

use std::collections::BTreeMap;

use lap_session::{Kept, Phase, State, Waiting, event, usage::Usage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    access::OwnerId,
    clock,
    events::{ReadError, Record},
    id::{AgentId, ComponentDigest, EnvironmentId, MessageId, ProvisionId, RuntimeId, SessionId},
    runtime,
};

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// What people call it.
    pub title: String,
    /// True when nobody has chosen the title.
    #[serde(default)]
    pub untitled: bool,
    /// Whose it is: the owner that its agent had when it was made.
    #[serde(default = "OwnerId::local")]
    pub owner: OwnerId,
    /// The agent that it runs.
    pub agent: AgentId,
    /// The version of the agent that it was made from.
    #[serde(default)]
    pub agent_version: Option<u32>,
    /// Where it runs; nothing where it was made before there were environments.
    #[serde(default)]
    pub environment_id: Option<EnvironmentId>,
    /// The runtime that it runs on.
    pub runtime: RuntimeId,
    /// The version of that runtime which it was made on, and stays on while it is there; nothing where it was made before
    /// runtimes had versions.
    #[serde(default)]
    pub component: Option<ComponentDigest>,
    /// What the agent has upstream.
    pub provision: ProvisionId,
    /// The upstream's name of it, where the runtime tells.
    pub upstream_id: Option<String>,
    /// The client's wishes for it: a JSON object.
    pub environment: Box<RawValue>,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// When it changed last.
    pub updated_ms: u64,
    /// Since when it takes no more prompts and is out of sight.
    #[serde(default)]
    pub archived_ms: Option<u64>,
    /// What it has used.
    #[serde(default)]
    pub usage: Usage,
    /// The base URL that it was opened at: it lives there and nowhere else.
    pub(super) base: String,
    pub(super) state: State,
    /// The runtime's own state.
    pub(super) guest: String,
    /// How often this record was written.
    pub(super) version: u64,
    /// The size of its events' text, as of this record.
    #[serde(default)]
    pub(super) bytes: u64,
    /// Why it waits, while its upstream cannot be reached or does not take what is to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Waiting>,
}

/// Where a session lives: what its guest is made of.
pub(super) struct Place {
    pub(super) id: SessionId,
    pub(super) runtime: RuntimeId,
    pub(super) component: Option<ComponentDigest>,
    pub(super) base: String,
}

/// What clients are told of where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits for a prompt.
    Idle,
    /// It works, or is about to.
    Running,
    /// The upstream had a fault and goes on by itself, or cannot be reached and is tried again.
    Rescheduling,
    /// The turn waits for the client.
    RequiresAction,
    /// The last turn failed; it takes the next prompt.
    Error,
    /// Over for good.
    Terminated,
}

impl Status {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Running, Self::Rescheduling, Self::RequiresAction, Self::Error, Self::Terminated];

    /// As it is spelt on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Rescheduling => "rescheduling",
            Self::RequiresAction => "requires_action",
            Self::Error => "error",
            Self::Terminated => "terminated",
        }
    }
}

impl Session {
    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        if !self.settled() && self.state.is_cut() {
            return Status::Rescheduling;
        }
        if self.state.waits_for_the_client() {
            return Status::RequiresAction;
        }
        if self.state.sendable().is_some() {
            return Status::Running;
        }
        match self.state.phase() {
            Phase::Idle => Status::Idle,
            Phase::Sent | Phase::Taken | Phase::Running | Phase::Answering => Status::Running,
            Phase::Rescheduling => Status::Rescheduling,
            Phase::Waiting => Status::RequiresAction,
            Phase::Failed => Status::Error,
            Phase::Ending | Phase::Terminated => Status::Terminated,
        }
    }

    /// True when nothing will happen until a client does something.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.state.settled()
    }

    /// How many messages it was given.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.state.prompts()
    }

    /// Which of its messages wait to be sent, by their place in the list.
    #[must_use]
    pub fn waiting(&self) -> std::ops::Range<u64> {
        self.state.waiting()
    }

    /// True when it is over for good, and nothing is to be done for that any more.
    pub(super) fn is_over(&self) -> bool {
        self.state.phase() == Phase::Terminated
    }

    /// The prompt that was sent last, by its place in the list, while it may be the one that the turn is about.
    pub(super) fn current(&self) -> Option<u64> {
        self.state.has_current().then_some(self.state.sent())
    }

    pub(super) fn place(&self) -> Place {
        Place { id: self.id, runtime: self.runtime.clone(), component: self.component, base: self.base.clone() }
    }

    /// What the session machine begins with.
    pub(super) fn kept(&self) -> Kept {
        Kept {
            state: self.state,
            guest: self.guest.clone(),
            usage: self.usage.clone(),
            bytes: self.bytes,
            version: self.version,
            waiting: self.waits_for.clone(),
        }
    }

    /// Takes what the session machine has decided, for the record of now.
    pub(super) fn keep(&mut self, kept: &Kept) {
        let Kept { state, guest, usage, bytes, version, waiting } = kept;
        (self.state, self.bytes, self.version) = (*state, *bytes, *version);
        self.guest.clone_from(guest);
        self.usage.clone_from(usage);
        self.waits_for.clone_from(waiting);
        self.updated_ms = clock::unix_ms();
    }

    pub(super) fn record(&self) -> Record {
        Record::Session { version: self.version, bytes: to_json(self) }
    }

    pub(super) fn read(id: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session: id })
    }
}

/// What is large about a session and seldom changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The agent as it was when the session was made, in the form that clients see.
    pub agent: Box<RawValue>,
    /// What clients note on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What it was given to work with.
    #[serde(default)]
    pub resources: Vec<Box<RawValue>>,
    /// Whose secrets it may use.
    #[serde(default)]
    pub vault_ids: Vec<String>,
    /// What it may spend.
    #[serde(default)]
    pub budget: Option<Box<RawValue>>,
}

impl Facts {
    /// Those of a session that was made before facts were kept.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            agent: RawValue::NULL.to_owned(),
            metadata: BTreeMap::new(),
            resources: Vec::new(),
            vault_ids: Vec::new(),
            budget: None,
        }
    }

    pub(super) fn record(&self) -> Record {
        Record::Facts(to_json(self))
    }

    pub(super) fn read(id: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session: id })
    }
}

/// What begins a turn.
#[derive(Debug)]
pub struct Prompt {
    text: String,
    /// The event, where it is more than a message of that text.
    event: Option<Box<RawValue>>,
}

impl Prompt {
    /// A message of text.
    #[must_use]
    pub const fn of_text(text: String) -> Self {
        Self { text, event: None }
    }

    /// An event of a client's: a JSON object with a `type`, which for a message is `user.message`, with `content`.
    #[must_use]
    pub fn of_event(event: Box<RawValue>) -> Self {
        Self { text: event::message_text(event.get()).unwrap_or_default(), event: Some(event) }
    }

    /// The message that it becomes.
    pub(super) fn into_message(self, id: MessageId) -> Message {
        let Self { text, event } = self;
        Message { id, created_ms: clock::unix_ms(), text, event, withdrawn: false }
    }
}

/// A user's message, or what else begins a turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// When it came, in milliseconds since the epoch.
    pub created_ms: u64,
    /// What it says.
    pub text: String,
    /// The event as the client gave it, where it is more than a message of that text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// True when it will not be sent: it waited when the session was interrupted, failed or ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl Message {
    pub(super) fn record(&self, number: u64) -> Record {
        Record::Message { number, bytes: to_json(self) }
    }

    /// What the session machine is given.
    pub(super) fn prompt(&self) -> lap_session::Prompt {
        lap_session::Prompt { id: self.id.to_string(), json: self.event_json() }
    }

    /// The event that it is: a JSON object with a `type`.
    fn event_json(&self) -> String {
        match &self.event {
            Some(event) => event.get().to_owned(),
            None => {
                let content = serde_json::json!([{"type": "text", "text": self.text}]);
                serde_json::json!({"type": "user.message", "content": content}).to_string()
            }
        }
    }

    /// What the runtime is given for the event of a message.
    pub(crate) fn input_of(event: &str) -> runtime::Input {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(rename = "type", borrow)]
            kind: &'a RawValue,
            #[serde(borrow)]
            content: &'a RawValue,
        }
        match serde_json::from_str(event) {
            Ok(Content { kind, content }) if kind.get() == r#""user.message""# => {
                runtime::Input::Message(content.get().to_owned())
            }
            _ => runtime::Input::Other(event.to_owned()),
        }
    }

    pub(super) fn read(session: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session })
    }
}

/// Changes what clients say of a session, or says why not, for the client. It is tried before it is made.
pub type Change = dyn Fn(&mut Session, &mut Facts) -> Result<(), String> + Send + Sync;

/// A change of what clients say of a session.
pub struct Amendment {
    /// The change itself. It must not block.
    pub change: Box<Change>,
    /// The event that tells others: a JSON object, to which an id and a time are added.
    pub event: Option<String>,
    /// True when it must not be made while a turn runs.
    pub at_rest: bool,
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Writing plain structs of text and numbers into memory cannot fail; an empty record would be refused on reading.
    serde_json::to_vec(value).unwrap_or_default()
}
