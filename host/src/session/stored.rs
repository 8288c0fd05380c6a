//! What the log keeps of a session beside its events: the session's record, and the user's messages.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::state::{Input, Phase, Refused, State};
use crate::{
    clock,
    events::{ReadError, Record},
    id::{AgentId, MessageId, ProvisionId, RuntimeId, SessionId},
};

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// What people call it.
    pub title: String,
    /// The agent that it runs.
    pub agent: AgentId,
    /// The runtime that it runs on.
    pub runtime: RuntimeId,
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
        if self.state.sendable().is_some() {
            return Status::Running;
        }
        match self.state.phase() {
            Phase::Idle => Status::Idle,
            Phase::Sent | Phase::Taken | Phase::Running => Status::Running,
            Phase::Rescheduling => Status::Rescheduling,
            Phase::Waiting => Status::RequiresAction,
            Phase::Failed => Status::Error,
            Phase::Terminated => Status::Terminated,
        }
    }

    /// True when nothing will happen until a client does something.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.state.settled()
    }

    /// Which of its messages wait to be sent, by their place in the list.
    #[must_use]
    pub fn waiting(&self) -> std::ops::Range<u64> {
        self.state.waiting()
    }

    /// Takes a prompt that the state allows: the message, and the record to store with the session's own.
    pub(super) fn take_prompt(&mut self, id: MessageId, text: String) -> Result<(Message, Record), Refused> {
        let number = self.state.prompts();
        self.state = self.state.apply(Input::Prompt)?;
        let message = Message { id, created_ms: clock::unix_ms(), text, withdrawn: false };
        let record = message.record(number);
        Ok((message, record))
    }

    pub(super) fn record(&self) -> Record {
        Record::Session { version: self.version, bytes: to_json(self) }
    }

    pub(super) fn read(id: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session: id })
    }
}

/// A user's message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// When it came, in milliseconds since the epoch.
    pub created_ms: u64,
    /// What it says.
    pub text: String,
    /// True when it will not be sent: it waited when the session was interrupted, failed or ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl Message {
    pub(super) fn record(&self, number: u64) -> Record {
        Record::Message { number, bytes: to_json(self) }
    }

    pub(super) fn read(session: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session })
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Writing plain structs of text and numbers into memory cannot fail; an empty record would be refused on reading.
    serde_json::to_vec(value).unwrap_or_default()
}
