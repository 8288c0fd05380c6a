//! A connection that sends any bytes, and a strict reader of what comes back.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// One response of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The code of an error; empty when there is none.
    code: String,
    pub body: String,
    /// All of the body has come.
    pub whole: bool,
}

impl Answer {
    pub fn code(&self) -> String {
        self.code.clone()
    }

    /// One that was made up.
    pub fn of(status: u16, code: &str, body: &str) -> Self {
        Self { status, code: code.to_owned(), body: body.to_owned(), whole: true }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host closed the connection.
    Closed,
    /// Nothing more came, so that this side gave up.
    Silence,
}

/// Sends bytes on a connection of their own, and reads until the host closes it or is silent for so long.
pub async fn exchange(address: &str, bytes: &[u8], silence: Duration) -> (Vec<Answer>, End) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.split();
    let mut received = Vec::new();
    // The host may close before it has read everything: what it said before still counts.
    let send = async { to.write_all(bytes).await.is_ok() };
    let receive = async {
        loop {
            match timeout(silence, from.read_buf(&mut received)).await {
                Ok(Ok(0) | Err(_)) => return End::Closed,
                Ok(Ok(_)) => {}
                Err(_) => return End::Silence,
            }
        }
    };
    let end = {
        tokio::pin!(receive);
        tokio::select! {
            end = &mut receive => end,
            _ = send => receive.await,
        }
    };
    (answers(&received), end)
}

/// The responses in what came.
///
/// # Panics
/// When it is no sequence of responses.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let Some((answer, rest)) = answer(bytes) else {
            panic!("no response: {}", bytes.escape_ascii());
        };
        // "Go on and send your body" is not an answer yet.
        if answer.status != 100 {
            answers.push(answer);
        }
        bytes = rest;
    }
    answers
}

fn answer(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let head_bytes = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let (head, rest) = (std::str::from_utf8(&bytes[..head_bytes]).ok()?, &bytes[head_bytes + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers: Vec<_> = lines.map(|line| line.split_once(": ")).collect::<Option<_>>()?;
    let header = |name: &str| headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|header| header.1);
    let (body, whole, rest) = if header("transfer-encoding") == Some("chunked") && !rest.starts_with(b"HTTP/1.") {
        chunks(rest)?
    } else {
        // A client of HTTP/1.0 gets a stream that ends with the connection.
        let bytes: usize = header("content-length").map_or(Ok(usize::MAX), str::parse).ok()?;
        // The answer to HEAD has the length and not the body.
        if rest.is_empty() || rest.starts_with(b"HTTP/1.") {
            (Vec::new(), true, rest)
        } else {
            let (body, rest) = rest.split_at(bytes.min(rest.len()));
            (body.to_vec(), body.len() == bytes, rest)
        }
    };
    let code = header("lap-error-code").unwrap_or_default().to_owned();
    Some((Answer { status, code, body: String::from_utf8_lossy(&body).into_owned(), whole }, rest))
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let mut body = Vec::new();
    loop {
        let Some(line) = bytes.windows(2).position(|end| end == b"\r\n") else { return Some((body, false, b"")) };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
        let rest = &bytes[line + 2..];
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            return Some((body, false, b""));
        }
        body.extend_from_slice(&rest[..size]);
        bytes = rest[size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, true, bytes));
        }
    }
}

#[test]
fn every_answer_is_found_in_what_came() {
    let found = answers(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\ncontent-length: 99\r\n\r\n\
          HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nab",
    );
    let found: Vec<_> = found.iter().map(|answer| (answer.status, answer.body.as_str(), answer.whole)).collect();
    assert_eq!(found, [(200, "{}", true), (404, "", true), (200, "abc", true), (500, "ab", false)]);
}

#[test]
#[should_panic(expected = "no response")]
fn what_is_no_answer_is_not_taken_for_one() {
    answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}x\r\n\r\n");
}
