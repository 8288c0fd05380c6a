//! Requests that are none, or that two readers would read as two different ones. Each has a `DELETE` behind it or in it:
//! whoever reads wrongly carries it out.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{
    Front,
    wire::{Answer, End, answers, exchange},
};
use crate::harness::MASTER_KEY;

/// Longer than the host takes for anything here, and shorter than it waits for a head.
const SILENCE: Duration = Duration::from_secs(5);

/// What the host may say to a request.
enum Says {
    /// This status, and it closes the connection.
    And(u16),
    /// Nothing: it closes the connection.
    Nothing,
}

/// Requests with `BEHIND` for the `DELETE`, `KEY` for the line with the key, and what the host says to it.
const CASES: &[(&str, Says)] = &[
    // Two lengths: chunks win, and the connection ends.
    (
        "POST /api/agents HTTP/1.1\r\nKEYcontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nBEHIND",
        Says::And(400),
    ),
    (
        "POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\nBEHIND",
        Says::And(400),
    ),
    ("GET /health HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(200)),
    ("GET /health HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nBEHIND", Says::And(400)),
    // A body that nobody reads: where the next request begins is this client's word.
    ("GET /health HTTP/1.1\r\ncontent-length: 5\r\n\r\nhelloBEHIND", Says::And(200)),
    ("GET /health HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(200)),
    ("GET /health HTTP/1.1\r\ncontent-length: 5, 6\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length: +0\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length: -1\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length: 0x0\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length: 0 0\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length:\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\ncontent-length : 0\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\nx: y\r\n content-length: 99\r\n\r\nBEHIND", Says::And(400)),
    // Encodings that are not chunks.
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: identity\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: xchunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding : chunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(400)),
    (
        "POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\nBEHIND",
        Says::And(400),
    ),
    ("POST /api/agents HTTP/1.0\r\nKEYtransfer-encoding: chunked\r\n\r\n0\r\n\r\nBEHIND", Says::And(400)),
    // Chunks that are none.
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n-1\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n0x0\r\n\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n10000000000000000\r\nBEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n2\r\n{}BEHIND", Says::And(400)),
    ("POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n2\n{}\n0\n\nBEHIND", Says::And(400)),
    (
        "POST /api/agents HTTP/1.1\r\nKEYtransfer-encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\nBEHIND",
        Says::And(400),
    ),
    // Heads that are none.
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0BEHIND", Says::Nothing),
    ("GET /health\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/2.0\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1 x\r\n\r\nBEHIND", Says::And(400)),
    ("GET  /health HTTP/1.1\r\n\r\nBEHIND", Says::And(400)),
    ("G\0T /health HTTP/1.1\r\n\r\nBEHIND", Says::And(400)),
    ("GET /heal\0th HTTP/1.1\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\nx: a\0b\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\nx\0: a\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\nx: a\rb: c\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\nno colon\r\n\r\nBEHIND", Says::And(400)),
    ("GET /health HTTP/1.1\r\n: no name\r\n\r\nBEHIND", Says::And(400)),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}BEHIND", Says::And(400)),
    // What this host is not there for. The connection may go on, so this is the last word on it.
    ("CONNECT lap:443 HTTP/1.1\r\nconnection: close\r\n\r\n", Says::And(404)),
    ("OPTIONS * HTTP/1.1\r\nconnection: close\r\n\r\n", Says::And(404)),
    ("BREW /health HTTP/1.1\r\nconnection: close\r\n\r\n", Says::And(405)),
    ("GET /api/agents/%00 HTTP/1.1\r\nKEYconnection: close\r\n\r\n", Says::And(404)),
    ("GET /api/agents/%ff%fe HTTP/1.1\r\nKEYconnection: close\r\n\r\n", Says::And(400)),
    ("GET /api/agents/%zz HTTP/1.1\r\nKEYconnection: close\r\n\r\n", Says::And(404)),
    ("GET /session/%2e%2e/%2e%2e/health HTTP/1.1\r\nKEYconnection: close\r\n\r\n", Says::And(404)),
    ("GET /session/../health HTTP/1.1\r\nKEYconnection: close\r\n\r\n", Says::And(404)),
    ("GET //health HTTP/1.1\r\nconnection: close\r\n\r\n", Says::And(404)),
    ("GET http://elsewhere/health HTTP/1.1\r\nconnection: close\r\n\r\n", Says::And(200)),
    (
        "GET /health HTTP/1.1\r\nupgrade: h2c\r\nconnection: close, upgrade, http2-settings\r\nhttp2-settings: AA\r\n\r\n",
        Says::And(200),
    ),
];

/// One status at the most, then the end.
fn judge(case: &str, says: &Says, answers: &[Answer], end: End) {
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let expected = match says {
        Says::And(status) => &[*status][..],
        Says::Nothing => &[],
    };
    assert_eq!((&*statuses, end), (expected, End::Closed), "{}", case.escape_debug());
}

fn delete(agent: &str) -> String {
    format!("DELETE /api/agents/{agent} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\n\r\n")
}

fn filled(case: &str, agent: &str) -> String {
    let key = format!("host: x\r\nauthorization: Bearer {MASTER_KEY}\r\n");
    case.replace("KEY", &key).replace("BEHIND", &delete(agent))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_malformed_request_is_carried_out() {
    let front = Front::start().await;
    for (case, says) in CASES {
        let request = filled(case, &front.agent);
        let (answers, end) = exchange(front.address(), request.as_bytes(), SILENCE).await;
        judge(case, says, &answers, end);
        front.is_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let front = Front::start().await;
    let behind = delete(&front.agent);
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n{behind}", "a".repeat(15_000));
    let longer_path = format!("GET /{} HTTP/1.1\r\n\r\n{behind}", "a".repeat(70_000));
    let long_header = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n{behind}", "y".repeat(17_000));
    let endless_header = format!("GET /health HTTP/1.1\r\nx: {}", "y".repeat(4 << 20));
    let flood = |count: usize| format!("GET /health HTTP/1.1\r\n{}connection: close\r\n\r\n", "x: y\r\n".repeat(count));
    for (request, status) in [
        (longer_path, 431),
        (long_header, 431),
        (endless_header, 431),
        (format!("{}{behind}", flood(101)), 431),
        (flood(10_000), 431),
        (flood(90), 200),
        (long_path.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").replace(&behind, ""), 404),
    ] {
        let (answers, end) = exchange(front.address(), request.as_bytes(), SILENCE).await;
        judge(&request[..60], &Says::And(status), &answers, end);
        front.is_unharmed().await;
    }
}

/// Shows that the `DELETE` does harm when it is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_whole_request_is_carried_out() {
    let front = Front::start().await;
    let request = filled("GET /health HTTP/1.1\r\nhost: x\r\n\r\nBEHIND", &front.agent);
    let (answers, end) = exchange(front.address(), request.as_bytes(), Duration::from_secs(2)).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!((&*statuses, end), (&[200, 200][..], End::Silence));
    assert_eq!(front.program.client.get(&format!("/api/agents/{}", front.agent)).await.status, 404);
}

/// hyper 1.12 puts its own 400 into the midst of an answer that is still being sent, or panics, when the body of the
/// request for that answer ends meanwhile and something malformed follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_does_not_get_into_an_answer_that_is_still_being_sent() {
    let front = Front::start().await;
    for _ in 0..100 {
        front.program.client.agent(&json!({"system": "s".repeat(20_000)})).await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(front.address().parse().unwrap()).await.unwrap();
    let head = format!(
        "GET /api/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\ncontent-length: 2\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    stream.write_all(b"{}no request\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    let answers = answers(&answer);
    assert_eq!((answers.len(), answers[0].status, answers[0].whole), (1, 200, true));
    let listed: serde_json::Value = serde_json::from_str(&answers[0].body).unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 101);
    front.is_unharmed().await;
}
