//! An HTTP/1.1 client that costs next to nothing, because it shares the machine with what it measures.
//!
//! One connection, one request at a time, bodies with a length or in chunks. Must not know what is in a body.

use std::{io, net::SocketAddr, str};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What is read at once: little at first, since thousands of connections may be open, and more where more comes.
const READ_BYTES: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;

/// A connection that is kept alive.
pub(crate) struct Connection {
    socket: TcpStream,
    /// What has come and is not used up.
    input: Vec<u8>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// An answer whose body is read while it comes.
pub(crate) struct Body {
    connection: Connection,
    framing: Framing,
}

/// How a body's end is known.
#[derive(Debug, PartialEq)]
enum Framing {
    /// So many bytes are missing.
    Length(usize),
    Chunked(Chunked),
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, PartialEq)]
enum Chunked {
    Size,
    Data(usize),
    /// The line end behind the data.
    DataEnd,
    /// Lines up to an empty one.
    Trailer,
    Over,
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::new() })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Answer> {
        let (status, mut framing) = self.ask(request).await?;
        let mut body = Vec::new();
        while !framing.take(&mut self.input, &mut body)? {
            self.fill().await?;
        }
        Ok(Answer { status, body })
    }

    /// Sends a request and reads the head of the answer.
    pub(crate) async fn stream(mut self, request: &[u8]) -> io::Result<(u16, Body)> {
        let (status, framing) = self.ask(request).await?;
        Ok((status, Body { connection: self, framing }))
    }

    async fn ask(&mut self, request: &[u8]) -> io::Result<(u16, Framing)> {
        self.socket.write_all(request).await?;
        loop {
            if let Some(end) = memmem::find(&self.input, b"\r\n\r\n") {
                let head = str::from_utf8(&self.input[..end]).map_err(|_| malformed("the head is no text"))?;
                let parsed = parse(head)?;
                self.input.drain(..end + 4);
                return Ok(parsed);
            }
            self.fill().await?;
        }
    }

    /// Waits for more input.
    async fn fill(&mut self) -> io::Result<()> {
        let room = self.input.capacity() - self.input.len();
        if room == 0 && self.input.capacity() < READ_BYTES_MAX {
            self.input.reserve(self.input.capacity().max(READ_BYTES));
        }
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(head: &str) -> io::Result<(u16, Framing)> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| malformed("no status"))?;
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()));
    // Without either the body would last to the connection's end; of what is asked here only empty answers lack both.
    let mut framing = Framing::Length(0);
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked(Chunked::Size);
        } else if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().map_err(|_| malformed("no length"))?);
        }
    }
    Ok((status, framing))
}

impl Body {
    /// Waits for more of the body and appends it; false at its end.
    pub(crate) async fn read(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let before = body.len();
        loop {
            if self.framing.take(&mut self.connection.input, body)? {
                return Ok(body.len() > before);
            }
            if body.len() > before {
                return Ok(true);
            }
            self.connection.fill().await?;
        }
    }
}

impl Framing {
    /// Moves from `input` to `body` what is there of it; true at the body's end.
    fn take(&mut self, input: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Length(missing) => {
                let some = input.len().min(*missing);
                body.extend(input.drain(..some));
                *missing -= some;
                Ok(*missing == 0)
            }
            Self::Chunked(state) => {
                let used = state.take(input, body)?;
                input.drain(..used);
                Ok(*state == Chunked::Over)
            }
        }
    }
}

impl Chunked {
    /// Says how much of `input` was used up.
    fn take(&mut self, input: &[u8], body: &mut Vec<u8>) -> io::Result<usize> {
        let mut rest = input;
        loop {
            match self {
                Self::Data(missing) => {
                    let (some, after) = rest.split_at(rest.len().min(*missing));
                    body.extend_from_slice(some);
                    rest = after;
                    *missing -= some.len();
                    if *missing > 0 {
                        break;
                    }
                    *self = Self::DataEnd;
                }
                Self::Size | Self::DataEnd | Self::Trailer => {
                    let Some(end) = memmem::find(rest, b"\r\n") else { break };
                    let (line, after) = (&rest[..end], &rest[end + 2..]);
                    *self = self.behind(line)?;
                    rest = after;
                }
                Self::Over => break,
            }
        }
        Ok(input.len() - rest.len())
    }

    fn behind(&self, line: &[u8]) -> io::Result<Self> {
        match self {
            Self::Size => {
                let size = str::from_utf8(line).ok().and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
                Ok(match size.ok_or_else(|| malformed("no size of a chunk"))? {
                    0 => Self::Trailer,
                    size => Self::Data(size),
                })
            }
            Self::DataEnd if line.is_empty() => Ok(Self::Size),
            Self::Trailer if line.is_empty() => Ok(Self::Over),
            Self::Trailer => Ok(Self::Trailer),
            _ => Err(malformed("a chunk is longer than it says")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"5\r\nhello\r\n0a\r\n, world\r\n!\r\n1\r\n.\r\n0\r\nx-sum: 7\r\n\r\n";

    #[test]
    fn chunks_are_joined_wherever_the_reads_end() {
        for cut in 0..=WIRE.len() {
            let (mut framing, mut body, mut input) = (Framing::Chunked(Chunked::Size), Vec::new(), Vec::new());
            input.extend_from_slice(&WIRE[..cut]);
            let first = framing.take(&mut input, &mut body).unwrap();
            assert_eq!(first, cut == WIRE.len());
            input.extend_from_slice(&WIRE[cut..]);
            input.extend_from_slice(b"HTTP");
            assert!(framing.take(&mut input, &mut body).unwrap());
            assert_eq!((&body[..], &input[..]), (&b"hello, world\r\n!."[..], &b"HTTP"[..]), "{cut}");
        }
    }

    #[test]
    fn a_body_with_a_length_leaves_the_next_answer_alone() {
        let (status, mut framing) = parse("HTTP/1.1 201 Created\r\nContent-Length: 4\r\nx: y").unwrap();
        let (mut input, mut body) = (b"bodyHTTP".to_vec(), Vec::new());
        assert!(framing.take(&mut input, &mut body).unwrap());
        assert_eq!((status, &body[..], &input[..]), (201, &b"body"[..], &b"HTTP"[..]));
        assert_eq!(parse("HTTP/1.1 204 No Content").unwrap(), (204, Framing::Length(0)));
    }
}
