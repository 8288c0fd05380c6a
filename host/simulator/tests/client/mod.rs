//! A client that shows what is on the wire: status, headers, chunks, and how a connection ends.

use std::{net::SocketAddr, time::Duration};

use lap_simulator::{Options, Script, Simulator};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than any answer takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The headers that every call needs.
pub(crate) const HEADERS: &[&str] =
    &["x-api-key: key", "anthropic-version: 2023-06-01", "anthropic-beta: other-1,managed-agents-2026-04-01"];

/// A simulator, and a session in it.
pub(crate) struct Bench {
    pub(crate) simulator: Simulator,
    pub(crate) session: String,
    pub(crate) agent: String,
    pub(crate) environment: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP ends a body.
    Complete,
    /// The connection was closed before that.
    Closed,
    /// The connection was reset.
    Reset,
}

pub(crate) struct Stream {
    tcp: TcpStream,
    raw: Vec<u8>,
    /// Taken out of the chunks and not read yet.
    text: Vec<u8>,
}

impl Bench {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with(script, Options::default()).await
    }

    pub(crate) async fn with(script: Script, options: Options) -> Self {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), script, options).unwrap();
        let mut bench = Self { simulator, session: String::new(), agent: String::new(), environment: String::new() };
        let agent = json!({"name": "Tester", "model": "claude-opus-5-5"});
        bench.agent = bench.created("/v1/agents", agent).await;
        bench.environment = bench.created("/v1/environments", json!({"name": "Somewhere"})).await;
        bench.session = bench.new_session().await;
        bench
    }

    pub(crate) async fn new_session(&self) -> String {
        let session = json!({"agent": self.agent, "environment_id": self.environment});
        self.created("/v1/sessions", session).await
    }

    async fn created(&self, path: &str, body: Value) -> String {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, HEADERS, &body.to_string()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, HEADERS, "").await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, HEADERS, "").await.unwrap()
    }

    /// None if the connection closes without an answer.
    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Option<Answer> {
        let mut tcp = send(self.simulator.addr(), method, path, headers, body).await;
        let mut raw = Vec::new();
        timeout(PATIENCE, tcp.read_to_end(&mut raw)).await.unwrap().unwrap();
        let head = head_end(&raw)?;
        let text = String::from_utf8(raw[..head].to_vec()).unwrap();
        Some(Answer { status: text[9..12].parse().unwrap(), head: text, body: raw[head..].to_vec() })
    }

    /// Path of the session's events.
    pub(crate) fn events_path(&self) -> String {
        format!("/v1/sessions/{}/events", self.session)
    }

    pub(crate) async fn send(&self, event: Value) -> Answer {
        self.post(&self.events_path(), json!({"events": [event]})).await
    }

    pub(crate) async fn prompt(&self, text: &str) -> Answer {
        let answer = self.send(prompt(text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    pub(crate) async fn status(&self) -> String {
        self.get(&format!("/v1/sessions/{}", self.session)).await.json()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stream(&self) -> Stream {
        let path = format!("{}/stream", self.events_path());
        let mut tcp = send(self.simulator.addr(), "GET", &path, HEADERS, "").await;
        let mut raw = Vec::new();
        let head = loop {
            assert!(timeout(PATIENCE, tcp.read_buf(&mut raw)).await.unwrap().unwrap() > 0, "no head");
            if let Some(head) = head_end(&raw) {
                break head;
            }
        };
        let rest = raw.split_off(head);
        let head = String::from_utf8(raw).unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
        Stream { tcp, raw: rest, text: Vec::new() }
    }

    /// Waits until the session's last event is of this type, and returns how many there are.
    pub(crate) async fn settled(&self, last: &str) -> u64 {
        let newest = format!("{}?order=desc&limit=1", self.events_path());
        timeout(PATIENCE, async { while self.get(&newest).await.json()["data"][0]["type"] != last {} }).await.unwrap();
        self.simulator.event_count(&self.session)
    }

    /// Waits until the session says nothing more though its turn is not over, and returns how many events there are: as
    /// many as fit between it and a reader that does not read. The requests in between give it all the time it needs.
    pub(crate) async fn held_back(&self) -> u64 {
        let one = format!("{}?limit=1", self.events_path());
        let mut quiet = 0;
        let mut count = self.simulator.event_count(&self.session);
        while quiet < 20 {
            self.get(&one).await;
            let now = self.simulator.event_count(&self.session);
            quiet = if now == count { quiet + 1 } else { 0 };
            count = now;
        }
        count
    }
}

async fn send(addr: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    let length = body.len();
    let headers = headers.join("\r\n");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n\r\n{body}"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    tcp
}

fn head_end(raw: &[u8]) -> Option<usize> {
    raw.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

pub(crate) fn prompt(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// The types of events.
pub(crate) fn kinds(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["type"].as_str().unwrap_or("?").to_owned()).collect()
}

/// What these events have at a path, e.g. `"/id"`.
pub(crate) fn each(events: &[Value], path: &str) -> Vec<Value> {
    events.iter().map(|event| event.pointer(path).cloned().unwrap_or_default()).collect()
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Status, error type and message.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!((&body["type"], self.header("request-id")), (&json!("error"), body["request_id"].as_str()));
        let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
        (self.status, text("type"), text("message"))
    }
}

impl Stream {
    /// The next chunk of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Vec<u8>, End> {
        timeout(PATIENCE, async {
            loop {
                if let Some(chunk) = self.take_chunk() {
                    return if chunk.is_empty() { Err(End::Complete) } else { Ok(chunk) };
                }
                match self.tcp.read_buf(&mut self.raw).await {
                    Ok(0) => return Err(End::Closed),
                    Ok(_) => {}
                    Err(_) => return Err(End::Reset),
                }
            }
        })
        .await
        .unwrap()
    }

    fn take_chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.raw.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&self.raw[..line]).unwrap(), 16).unwrap();
        let (start, end) = (line + 2, line + 2 + length);
        if self.raw.len() < end + 2 {
            return None;
        }
        let chunk = self.raw[start..end].to_vec();
        self.raw.drain(..end + 2);
        Some(chunk)
    }

    /// The next frame as it came, up to its empty line.
    pub(crate) async fn frame(&mut self) -> Result<String, End> {
        loop {
            if let Some(end) = self.text.windows(2).position(|window| window == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let frame = std::mem::replace(&mut self.text, rest);
                return Ok(String::from_utf8(frame).unwrap());
            }
            let chunk = self.chunk().await?;
            self.text.extend(chunk);
        }
    }

    /// The next event; its frame must be named as the event is.
    pub(crate) async fn event(&mut self) -> Result<Value, End> {
        let frame = self.frame().await?;
        let (name, data) = frame.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), event["type"].as_str().unwrap());
        Ok(event)
    }

    /// The events up to and with the first of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            match self.event().await {
                Ok(event) => events.push(event),
                Err(end) => unreachable!("{end:?} after {:?}", kinds(&events)),
            }
            if events.last().is_some_and(|event| event["type"] == kind) {
                return events;
            }
        }
    }

    /// The events up to the end, and the end.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, End) {
        let mut events = Vec::new();
        loop {
            match self.event().await {
                Ok(event) => events.push(event),
                Err(end) => return (events, end),
            }
        }
    }

    /// What came of a frame that never became whole.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.text
    }
}
