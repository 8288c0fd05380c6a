//! Why something with the upstream did not succeed, and what that means for a turn: the one place that says whether another
//! try may help.

use std::time::Duration;

use lap_model::contract::ErrorKind;

/// Why a call, a feed or a send did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Who says so, and what it means.
    pub cause: Cause,
    /// For clients.
    pub message: String,
    /// For how long the upstream asks to wait.
    pub retry_after: Option<Duration>,
}

/// What is behind a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The runtime says so, or the upstream where the host asked it itself.
    Declared(ErrorKind),
    /// The call took too long in all, perhaps because the upstream did: it may have sent what it was to send.
    Slow,
    /// The guest broke off, or broke its contract.
    Fault,
    /// The runtime is left alone for a while; it was not called.
    Quarantined,
    /// The host has no room for another guest just now; nothing was called.
    NoRoom,
    /// No credential is stored; nothing was asked.
    NoCredential,
    /// The upstream cannot be addressed, and waiting does not change that: the runtime is missing, or the session lives
    /// elsewhere.
    NoUpstream,
    /// The session's own log cannot be read; nothing was asked.
    Unreadable,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another try may succeed, for a quarter of an hour.
    Again,
    /// The same, with another credential.
    AgainWithCredential,
    /// Another try will succeed: only the host itself stood in the way.
    AgainWithRoom,
    /// No other try succeeds.
    Final,
}

impl Failure {
    /// A failure of the host's own finding.
    #[must_use]
    pub fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { cause: Cause::Declared(kind), message: message.into(), retry_after: None }
    }

    /// What clients are told that it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self.cause {
            Cause::Declared(kind) => kind,
            Cause::Slow => ErrorKind::Upstream,
            Cause::Quarantined | Cause::NoRoom => ErrorKind::Overloaded,
            Cause::NoCredential => ErrorKind::Auth,
            Cause::Fault | Cause::NoUpstream | Cause::Unreadable => ErrorKind::Internal,
        }
    }

    /// Whether another try may help.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self.cause {
            Cause::Declared(ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::Upstream)
            | Cause::Slow
            | Cause::Quarantined => Verdict::Again,
            Cause::Declared(ErrorKind::Auth) | Cause::NoCredential => Verdict::AgainWithCredential,
            Cause::NoRoom => Verdict::AgainWithRoom,
            Cause::Declared(_) | Cause::Fault | Cause::NoUpstream | Cause::Unreadable => Verdict::Final,
        }
    }

    /// True when what was to be sent may have arrived all the same.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        // A gateway says that it is overloaded also where the answer of what is behind it was lost.
        matches!(self.cause, Cause::Declared(ErrorKind::Upstream | ErrorKind::Overloaded) | Cause::Slow)
    }

    /// True when another credential might have been answered otherwise, and nothing was done.
    #[must_use]
    pub fn is_of_credential(&self) -> bool {
        let answered = matches!(self.cause, Cause::Declared(_)) || self.cause == Cause::NoCredential;
        answered && !self.leaves_doubt() && matches!(self.verdict(), Verdict::Final | Verdict::AgainWithCredential)
    }

    /// True when the upstream says that it has no such thing: what was asked for is over there.
    #[must_use]
    pub const fn says_gone(&self) -> bool {
        matches!(self.cause, Cause::Declared(ErrorKind::Gone | ErrorKind::NotFound))
    }
}

/// What clients are told of a session that waits for its upstream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// Why.
    pub reason: String,
    /// When the next try comes, in milliseconds since the epoch.
    pub next_try_ms: u64,
    /// True when the next try is to send what waits, and not to open the feed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_send: bool,
}
