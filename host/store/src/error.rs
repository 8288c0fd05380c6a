//! Why something is not stored, or not read.

use std::{error, fmt, io};

/// What the database says of a failure, for the log.
pub struct Cause(Box<dyn error::Error + Send + Sync>);

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for Cause {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}

impl<E: Into<redb::Error>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// Why rows were not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk fails, or the database does. Nothing was changed.
    #[error("{0}")]
    Failed(#[source] Cause),
    /// The commit failed: whether it holds is known when the store is opened again. It takes no more until then.
    #[error("whether the commit holds is unknown until the store is opened again: {0}")]
    OutcomeUnknown(#[source] Cause),
    /// A key or a value does not fit its table. Nothing was changed.
    #[error("a row of the table {0:?} cannot be understood")]
    Malformed(&'static str),
}

impl Error {
    pub(crate) fn failed(error: impl Into<Cause>) -> Self {
        Self::Failed(error.into())
    }
}

/// Why a store is not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("another process uses it")]
    InUse,
    /// The database refuses what is there.
    #[error("{0}")]
    Refused(#[source] Cause),
    /// What is there is no database any more.
    #[error("it holds no database any more")]
    Damaged,
}

impl OpenError {
    pub(crate) fn of(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) => Self::Io(error),
            other => Self::Refused(other.into()),
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(cause) | Error::OutcomeUnknown(cause) => Self::Refused(cause),
            Error::Malformed(_) => Self::Damaged,
        }
    }
}
