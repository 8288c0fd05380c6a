//! What the process says of itself: lines on stderr. No line holds a key, a prompt or a URL of a request.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

use crate::config::{Log, LogFormat};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The level is none.
    #[error("the log level cannot be understood: {0}; write a level such as info, or module=level pairs")]
    Level(#[from] ParseError),
    /// Somebody in this process has set one up already.
    #[error("a log is set up already")]
    Taken(#[source] TryInitError),
}

/// Starts logging, for the whole process.
///
/// # Errors
/// When the level cannot be understood, or there is a log already.
pub fn start(log: &Log) -> Result<(), StartError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.level)?)
        .with_writer(io::stderr)
        // It would be told of on stderr as well, and panic where that cannot be written: whatever was logged would end.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(StartError::Taken)
}
