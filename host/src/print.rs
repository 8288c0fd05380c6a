//! What commands print: for people, and for scripts that read it.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write, stderr, stdout},
};

/// What a command has to say is not written, because the system does not take it.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written to: {0}")]
pub struct Unprinted(#[source] io::Error);

/// Prints a line. A reader that is gone has read what it wanted (`lap runtime list | head`).
///
/// # Errors
/// When the system does not take it, such as on a full disk.
pub fn line(what: impl Display) -> Result<(), Unprinted> {
    text(format_args!("{what}\n"))
}

/// As [`line()`], of a text that has its own lines.
///
/// # Errors
/// As [`line()`].
pub fn text(what: impl Display) -> Result<(), Unprinted> {
    let mut out = stdout().lock();
    match write!(out, "{what}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Unprinted(error)),
        _ => Ok(()),
    }
}

/// Says something beside what is printed, to whoever looks. Whether it can be written decides nothing: what follows, such as a
/// key that is shown once, is not lost for it.
pub fn note(what: impl Display) {
    drop(writeln!(stderr(), "{what}"));
}
