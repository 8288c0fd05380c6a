//! The client on the wire, against an upstream that records every byte and answers whatever a test wants.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::vault::{OpenCredentialError, Secret, Vault, VaultKey};

const KEY: &str = "sk-ant-canary-7Qx2mWv9ZpL4tRb8";

/// An upstream that answers each request with the same bytes and then closes.
struct Evil {
    base: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Evil {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (Arc::clone(&seen), answer.into());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                record.lock().unwrap().push(request);
                // A client that has seen enough may have gone.
                let _gone = stream.write_all(&answer).await;
            }
        });
        Self { base, seen }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert_ne!(count, 0, "the head is not complete: {text}");
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if count == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// The header values whose memory was cleared in this process.
static CLEARED: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(super) fn cleared(value: &str) {
    CLEARED.lock().unwrap().push(value.to_owned());
}

fn is_cleared(value: &str) -> bool {
    CLEARED.lock().unwrap().iter().any(|known| known == value)
}

pub(super) fn vault() -> Vault {
    let directory = tempfile::tempdir().unwrap();
    let key = VaultKey::generate();
    Vault::init(directory.path(), &key).unwrap();
    Vault::open(directory.path(), key).unwrap()
}

fn upstream(base: &str) -> Upstream {
    let vault = vault();
    let runtime = "claude".parse().unwrap();
    let credential = vault.put_credential(&runtime, Secret::new(KEY.to_owned()), base.parse().unwrap()).unwrap();
    let client = Client::new(NetworkPolicy::default()).unwrap();
    Upstream::open(&client, &vault, &credential, &Slot::new("x-api-key", "").unwrap()).unwrap()
}

fn get(path: &str) -> Request {
    let (query, headers) = (Vec::new(), Vec::new());
    Request { method: Method::Get, path: path.to_owned(), query, headers, body: None }
}

fn refused(outcome: &Result<Response, SendError>) -> bool {
    matches!(outcome, Err(SendError::Refused(_)))
}

fn times(needle: &str, text: &str) -> usize {
    text.matches(needle).count()
}

#[tokio::test]
async fn a_request_goes_straight_to_its_host() {
    let evil = Evil::answering(answer("200 OK\r\nX-Request-Id: r1", "{\"ok\":true}")).await;
    let request = Request {
        method: Method::Post,
        query: vec![("limit".to_owned(), "1 0".to_owned())],
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Some("{\"a\":1}".to_owned()),
        ..get("/sessions")
    };
    let response = upstream(&format!("{}/v1", evil.base)).send(request).await.unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "{\"ok\":true}"));
    assert!(response.headers.contains(&("x-request-id".to_owned(), "r1".to_owned())), "{:?}", response.headers);
    let [wire] = evil.requests().try_into().unwrap();
    let host = evil.base.strip_prefix("http://").unwrap();
    assert!(wire.starts_with("POST /v1/sessions?limit=1%200 HTTP/1.1\r\n"), "{wire}");
    assert_eq!(times(&format!("\r\nhost: {host}\r\n"), &wire), 1, "{wire}");
    assert_eq!(times(&format!("\r\nx-api-key: {KEY}\r\n"), &wire), 1, "{wire}");
    assert_eq!(times(KEY, &wire), 1, "{wire}");
    assert_eq!(times("\r\ncontent-type:", &wire), 1, "{wire}");
    for absent in ["accept-encoding", "referer", "cookie", "transfer-encoding", "authorization"] {
        assert_eq!(times(absent, &wire), 0, "{wire}");
    }
    assert!(wire.ends_with("\r\n\r\n{\"a\":1}"), "{wire}");
}

/// The environment is the process's, so the request is sent by another process: this test program, with one test.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_ignored() {
    let proxy = Evil::answering(answer("200 OK", "")).await;
    let sent = tokio::task::spawn_blocking({
        let proxy = proxy.base.clone();
        move || {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "upstream::tests::a_request_goes_straight_to_its_host"]);
            for name in ["http_proxy", "https_proxy", "all_proxy"] {
                child.env(name, &proxy).env(name.to_uppercase(), &proxy);
            }
            child.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap()
        }
    });
    let output = sent.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(proxy.requests(), [""; 0]);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = Evil::answering(answer("200 OK", "")).await;
    let port = elsewhere.base.rsplit(':').next().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let same = "/other".to_owned();
        let named = format!("http://localhost:{port}/");
        let relative = format!("//127.0.0.1:{port}/");
        for target in [elsewhere.base.clone(), named, format!("https://127.0.0.1:{port}/"), relative, same] {
            let evil = Evil::answering(answer(&format!("{status} Moved\r\nlocation: {target}"), "")).await;
            let response = upstream(&evil.base).send(get("/a")).await.unwrap();
            assert_eq!(response.status, status, "{target}");
            assert!(response.headers.contains(&("location".to_owned(), target)), "the guest sees where it would go");
            assert_eq!(evil.requests().len(), 1);
        }
    }
    assert_eq!(elsewhere.requests(), [""; 0]);
}

#[tokio::test]
async fn a_refused_request_opens_no_connection() {
    let evil = Evil::answering(answer("200 OK", "")).await;
    let upstream = upstream(&evil.base);
    for path in [
        "http://evil.com/",
        "//evil.com",
        "/\\evil.com",
        "/..",
        "/..%2f",
        "/%2e%2e/",
        "/a?b",
        "/a#b",
        "*",
        "@evil.com",
        ":80/",
    ] {
        assert!(refused(&upstream.send(get(path)).await), "{path}");
    }
    for name in [
        "x-api-key",
        "X-Api-Key",
        "x_api_key",
        "authorization",
        "Authorization",
        "host",
        "content-length",
        "connection",
        "cookie",
    ] {
        let headers = vec![(name.to_owned(), "mine".to_owned())];
        assert!(refused(&upstream.send(Request { headers, ..get("/a") }).await), "{name}");
    }
    assert_eq!(evil.requests(), [""; 0]);
}

#[tokio::test]
async fn an_echoed_credential_is_redacted() {
    let body = format!("{{\"error\":\"invalid x-api-key: {KEY}\"}}");
    let echo = answer(&format!("401 Unauthorized\r\nx-debug: key={KEY}\r\n{KEY}: 1"), &body);
    let evil = Evil::answering(echo).await;
    let upstream = upstream(&evil.base);
    let response = upstream.send(get("/a")).await.unwrap();
    assert!(!format!("{response:?}").to_lowercase().contains(&KEY.to_lowercase()), "{response:?}");
    assert_eq!(response.body, "{\"error\":\"invalid x-api-key: [redacted]\"}");
    assert!(response.headers.contains(&("x-debug".to_owned(), "key=[redacted]".to_owned())), "{response:?}");
    let Err(StreamError::Status(response)) = upstream.stream(get("/a")).await else { unreachable!("it is a 401") };
    assert_eq!((response.status, response.body.as_str()), (401, "{\"error\":\"invalid x-api-key: [redacted]\"}"));
}

#[tokio::test]
async fn cookies_and_hop_by_hop_headers_go_no_further() {
    let head = "200 OK\r\nset-cookie: a=b\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nconnection: x-hop\r\nx-end: 2";
    let evil = Evil::answering(answer(head, "")).await;
    let upstream = upstream(&evil.base);
    for _ in 0..2 {
        let response = upstream.send(get("/a")).await.unwrap();
        let names: Vec<&str> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-end", "content-length"]);
    }
    assert!(evil.requests().iter().all(|wire| !wire.contains("cookie")));
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_too_large() {
    let declared = Evil::answering("HTTP/1.1 200 OK\r\ncontent-length: 16777217\r\n\r\n").await;
    assert_eq!(upstream(&declared.base).send(get("/a")).await, Err(SendError::TooLarge));
    let endless = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(), vec![b'x'; 17 * 1024 * 1024]].concat();
    let endless = Evil::answering(endless).await;
    assert_eq!(upstream(&endless.base).send(get("/a")).await, Err(SendError::TooLarge));
}

#[tokio::test]
async fn a_broken_connection_says_whether_the_request_was_sent() {
    for cut in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "junk\r\n\r\n"] {
        let evil = Evil::answering(cut).await;
        let outcome =
            upstream(&evil.base).send(Request { query: vec![("token".into(), "q".into())], ..get("/a") }).await;
        let Err(SendError::Interrupted(text)) = outcome else { unreachable!("{cut:?}: {outcome:?}") };
        assert!(text.contains(&evil.base) && !text.contains("token"), "{text}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = upstream(&base).send(get("/a")).await;
    assert!(matches!(outcome, Err(SendError::Unreachable(text)) if text.contains(&base)));
}

#[tokio::test]
async fn an_https_base_never_falls_back_to_clear_text() {
    let evil = Evil::answering(answer("200 OK", "")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let first = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        buffer[..count].to_vec()
    });
    assert!(matches!(upstream(&base).send(get("/a")).await, Err(SendError::Unreachable(_))));
    let hello = first.await.unwrap();
    assert_eq!(hello.first(), Some(&0x16), "a TLS handshake record");
    assert_eq!(memchr::memmem::find(&hello, KEY.as_bytes()), None);
    assert_eq!(evil.requests(), [""; 0]);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&format!("http://{}", listener.local_addr().unwrap()));
    let sent = tokio::spawn(async move { upstream.send(get("/a")).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_request(&mut stream).await;
    tokio::time::pause();
    assert!(matches!(sent.await.unwrap(), Err(SendError::Interrupted(text)) if text.contains("60 seconds")));
}

#[tokio::test]
async fn a_compressed_body_passes_as_it_is() {
    let body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let evil = Evil::answering([head.as_bytes(), body].concat()).await;
    let response = upstream(&evil.base).send(get("/a")).await.unwrap();
    assert_eq!(response.body, String::from_utf8_lossy(body));
    assert!(response.headers.contains(&("content-encoding".to_owned(), "gzip".to_owned())));
}

#[tokio::test]
async fn a_stream_comes_as_clean_frames_and_ends_truthfully() {
    let events = format!("event: a\ndata: 1\n\n: beat\n\nevent: {KEY}\ndata: <{KEY}>\n\ndata: cut off");
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n", events.len());
    let expected = [("a", "1"), ("[redacted]", "<[redacted]>")];
    let expected = expected.map(|(name, data)| Frame { name: name.to_owned(), data: data.to_owned() });
    for (end, clean) in [("0\r\n\r\n", true), ("", false)] {
        let evil = Evil::answering(format!("{chunked}{end}")).await;
        let feed = upstream(&evil.base).stream(get("/a")).await.unwrap();
        let (mut stream, mut frames) = (feed.frames(Framing::Sse), Vec::new());
        let ended = loop {
            match stream.read(&mut frames).await {
                Ok(true) => {}
                other => break other,
            }
        };
        assert_eq!(frames, expected);
        assert_eq!(ended.is_ok(), clean, "{ended:?}");
        assert_eq!(stream.read(&mut frames).await, ended, "the end stays the end");
        let [wire] = evil.requests().try_into().unwrap();
        assert!(
            wire.contains("\r\naccept: text/event-stream\r\n") && wire.contains("\r\ncache-control: no-store\r\n"),
            "{wire}"
        );
    }
}

#[tokio::test]
async fn what_is_buffered_is_taken_without_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&format!("http://{}", listener.local_addr().unwrap()));
    let headers = vec![("accept".to_owned(), "application/x-ndjson".to_owned())];
    let sent = tokio::spawn(async move { upstream.stream(Request { headers, ..get("/a") }).await.unwrap() });
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(read_request(&mut stream).await.contains("\r\naccept: application/x-ndjson\r\n"));
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let mut feed = sent.await.unwrap();
    assert_eq!(feed.try_chunk(), None);
    stream.write_all(b"one\n").await.unwrap();
    assert_eq!(feed.chunk().await.unwrap().unwrap(), "one\n");
    stream.write_all(b"two\nthree").await.unwrap();
    drop(stream);
    let (mut lines, mut frames) = (feed.frames(Framing::Lines), Vec::new());
    while lines.read(&mut frames).await.unwrap() {}
    let data: Vec<&str> = frames.iter().map(|frame| frame.data.as_str()).collect();
    assert_eq!(data, ["two", "three"]);
}

#[tokio::test]
async fn an_error_instead_of_a_stream_is_cut_without_half_a_credential() {
    let pad = "x".repeat(64 * 1024 - 10);
    let evil = Evil::answering(answer("500 Oops", &format!("{pad}{KEY}{pad}"))).await;
    let Err(StreamError::Status(response)) = upstream(&evil.base).stream(get("/a")).await else {
        unreachable!("a 500")
    };
    assert_eq!(response.status, 500);
    assert!(response.body.len() <= 64 * 1024 && !response.body.contains(&KEY[..4]));
}

#[tokio::test]
async fn a_policy_that_was_narrowed_binds_stored_credentials_too() {
    let directory = tempfile::tempdir().unwrap();
    let key = VaultKey::generate();
    Vault::init(directory.path(), &key).unwrap();
    let vault = Vault::open(directory.path(), key).unwrap();
    let client = Client::new(NetworkPolicy::default()).unwrap();
    let slot = Slot::new("authorization", "Bearer").unwrap();
    let runtime = "claude".parse().unwrap();
    for base in ["http://gateway.internal", "https://10.0.0.1"] {
        let credential = vault.put_credential(&runtime, Secret::new(KEY.to_owned()), base.parse().unwrap()).unwrap();
        assert!(matches!(Upstream::open(&client, &vault, &credential, &slot), Err(OpenError::Base(_))), "{base}");
    }
    let mut credential = vault.credential(&runtime).unwrap().unwrap();
    credential.base = "https://api.example.com".parse().unwrap();
    let refusal = Upstream::open(&client, &vault, &credential, &slot).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, OpenError::Credential(OpenCredentialError::WrongOrigin { .. })));
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_dialled() {
    let evil = Evil::answering(answer("200 OK", "")).await;
    let port = evil.base.rsplit(':').next().unwrap();
    // Of the system's resolver nothing is assumed: whether it knows the name or not, nothing is dialled.
    let policy = NetworkPolicy::parse([format!("http://evil.localhost:{port}").as_str()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let key = VaultKey::generate();
    Vault::init(directory.path(), &key).unwrap();
    let vault = Vault::open(directory.path(), key).unwrap();
    let base = BaseUrl::parse(&format!("http://evil.localhost:{port}"), &policy).unwrap();
    let credential = vault.put_credential(&"claude".parse().unwrap(), Secret::new(KEY.to_owned()), base).unwrap();
    let client = Client::new(policy).unwrap();
    let upstream = Upstream::open(&client, &vault, &credential, &Slot::new("x-api-key", "").unwrap()).unwrap();
    assert!(matches!(upstream.send(get("/a")).await, Err(SendError::Unreachable(_))));
    assert_eq!(evil.requests(), [""; 0]);
}

#[tokio::test]
async fn a_removed_credential_is_cleared_with_the_last_request_under_way() {
    const KEY: &str = "sk-cleared-with-the-last-request";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (vault, runtime) = (vault(), "claude".parse().unwrap());
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    vault.put_credential(&runtime, Secret::new(KEY.to_owned()), base).unwrap();
    let client = Client::new(NetworkPolicy::default()).unwrap();
    let upstreams = Upstreams::new(client, vault.clone(), &tokio::runtime::Handle::current());
    let upstream = upstreams.current(&runtime, &Slot::new("authorization", "Bearer").unwrap(), None).unwrap();
    let held = upstream.downgrade();
    let sent = tokio::spawn(async move { upstream.send(get("/a")).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(read_request(&mut stream).await.contains(&format!("\r\nauthorization: Bearer {KEY}\r\n")));
    vault.remove_credential(&runtime).unwrap();
    assert!(held.upgrade().is_some() && !is_cleared(&format!("Bearer {KEY}")), "the request has it");
    stream.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
    assert_eq!(sent.await.unwrap().unwrap().status, 200);
    // hyper lets go of a request once it has read the end of the connection, in a task of its own.
    drop(stream);
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !is_cleared(&format!("Bearer {KEY}")) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(held.upgrade().is_none());
}

#[tokio::test]
async fn nothing_prints_the_credential() {
    let evil = Evil::answering(answer("200 OK", "")).await;
    let upstream = upstream(&evil.base);
    let feed = upstream.stream(get("/a")).await.unwrap();
    let printed = format!("{upstream:?} {feed:?}");
    assert!(!printed.contains(&KEY[7..]), "{printed}");
    assert_eq!(upstream.scrub(&format!("guest says {KEY}")), "guest says [redacted]");
}
