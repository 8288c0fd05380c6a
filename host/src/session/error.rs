//! Why a client's wish was not done: an error for each operation, which says what the client does differently for it.

use std::sync::Arc;

use lap_session::Refused;

use super::NotAdmitted;
use crate::{
    events::{AppendError, ReadError},
    registry::Unavailable,
    runtime::CallError,
};

/// Why the upstream cannot be addressed at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// There is no runtime of this name.
    #[error("this host does not have the session's runtime any more; add it again, or start it with that runtime")]
    UnknownRuntime,
    /// The runtime's component cannot be loaded, for this reason.
    #[error("the session's runtime cannot be loaded: {0}")]
    BrokenRuntime(Arc<str>),
    /// No credential is stored for the runtime.
    #[error("no credential is stored for the runtime")]
    NoCredential,
    /// The stored credential cannot be used.
    #[error("the stored credential cannot be used: {0}")]
    BadCredential(String),
    /// The session was opened at another base URL than the credential names now.
    #[error("the session lives at another base URL than the runtime's credential names now")]
    Moved,
}

impl From<Unavailable> for LinkError {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Unknown => Self::UnknownRuntime,
            Unavailable::Broken(reason) => Self::BrokenRuntime(reason),
        }
    }
}

/// Why there is no new session.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The upstream cannot be addressed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The upstream or the runtime refused.
    #[error(transparent)]
    Upstream(#[from] CallError),
    /// It has a prompt, and no turn may begin.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// It exists upstream but could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What the agent has upstream could not be stored or read.
    #[error("the store failed: {0}")]
    Provision(String),
}

/// Why a prompt was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// There is no such session.
    #[error("session not found")]
    NotFound,
    /// The session takes no prompts.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No turn may begin.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Too much waits for this session; a retry is safe.
    #[error("the session has too much to do")]
    Busy,
    /// As many prompts wait as may wait.
    #[error("as many prompts wait for this session as may wait")]
    QueueFull,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The session cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why the runtime was not given an input, or a session not changed.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no such session.
    #[error("session not found")]
    NotFound,
    /// The session takes no inputs.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The change cannot be meant; the text is for the client.
    #[error("{0}")]
    Invalid(String),
    /// A turn runs.
    #[error("a turn runs")]
    Running,
    /// The upstream cannot be addressed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The upstream or the runtime refused, or it is not known whether it took it.
    #[error(transparent)]
    Upstream(#[from] CallError),
    /// The feed cannot be followed, so nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// Something that could not wait came in between.
    #[error("something that could not wait came in between, and it is not known whether the upstream has taken it")]
    Unknown,
    /// The turn was stopped before it was sent.
    #[error("the turn was stopped before it was sent")]
    Withdrawn,
    /// Too much waits for this session; a retry is safe.
    #[error("the session has too much to do")]
    Busy,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The session cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a turn was not interrupted.
#[derive(Debug, thiserror::Error)]
pub enum InterruptError {
    /// There is no such session.
    #[error("session not found")]
    NotFound,
    /// Too much waits for this session; a retry is safe.
    #[error("the session has too much to do")]
    Busy,
    /// What was withdrawn could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The session cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why it is not known what became of a wish to end a session for good.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// There is no such session.
    #[error("session not found")]
    NotFound,
    /// Too much waits for this session; a retry is safe.
    #[error("the session has too much to do")]
    Busy,
    /// The wish, or what came of it, could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The session cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a session was not deleted. It still exists, and a retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The upstream cannot be addressed, so what runs there would run on.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The upstream did not end it.
    #[error(transparent)]
    Upstream(#[from] CallError),
    /// Too much waits for this session.
    #[error("the session has too much to do")]
    Busy,
    /// The removal could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The session cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why there is no list of models.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The upstream cannot be addressed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The upstream or the runtime refused.
    #[error(transparent)]
    Upstream(#[from] CallError),
}
