//! Bytes, as they come, cut into lines; and the feed that has one value on each line.

use memchr::memchr2;

use super::sse::{Frame, text};

/// The longest line and the largest event, in bytes.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// The capacity that an emptied buffer may keep, in bytes: one long line must not cost a megabyte for ever.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A line or an event is larger than 1 MiB. What follows it in the stream cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line or an event of the stream is larger than {BYTES_MAX} bytes")]
pub struct TooLong;

/// Cuts chunks into lines, which end with LF, CRLF or CR. Every byte is looked at once.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of the line whose end has not come.
    partial: Vec<u8>,
    /// The last chunk ended with a CR: a LF at once belongs to it.
    after_cr: bool,
}

impl Splitter {
    /// Gives every line that this chunk completes, without its end.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut line: impl FnMut(&[u8]) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (head, tail) = rest.split_at(end);
            if self.partial.is_empty() {
                check(head.len())?;
                line(head)?;
            } else {
                self.extend(head)?;
                line(&self.partial)?;
                self.partial.clear();
                self.partial.shrink_to(KEPT_BYTES_MAX);
            }
            self.after_cr = tail == b"\r";
            rest = tail.strip_prefix(b"\r\n").unwrap_or(&tail[1..]);
        }
        self.extend(rest)
    }

    /// The line that the end of the stream completes; empty when there is none.
    fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        check(self.partial.len() + bytes.len())?;
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn check(bytes: usize) -> Result<(), TooLong> {
    if bytes > BYTES_MAX { Err(TooLong) } else { Ok(()) }
}

/// One frame for each line that is not empty.
#[derive(Debug, Default)]
pub struct LineParser {
    splitter: Splitter,
}

impl LineParser {
    /// Takes the next bytes and appends the lines that they complete.
    ///
    /// # Errors
    /// For a line of more than 1 MiB. `frames` then holds what came before; the parser is of no more use.
    pub fn push(&mut self, chunk: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        self.splitter.push(chunk, |line| {
            frames.extend(frame(line.to_vec()));
            Ok(())
        })
    }

    /// Appends what stands behind the last line end, once the feed has properly ended: the last line needs none.
    pub fn finish(&mut self, frames: &mut Vec<Frame>) {
        frames.extend(frame(self.splitter.finish()));
    }
}

fn frame(line: Vec<u8>) -> Option<Frame> {
    (!line.is_empty()).then(|| Frame { name: String::new(), data: text(line) })
}
