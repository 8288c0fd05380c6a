//! A client as curl is one: requests, answers, and a stream that is read as it comes.

use std::net::SocketAddr;

use http::{HeaderMap, Method, StatusCode};
use lap::upstream::{Frame, SseParser};
use serde_json::{Value, json};

use super::{RUNTIME, UPSTREAM_KEY};

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
    key: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text))
    }

    /// The body of an answer that must be a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    pub fn code(&self) -> String {
        self.header("lap-error-code").to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }
}

impl Client {
    pub fn new(address: SocketAddr, key: &str) -> Self {
        // reqwest wants a provider though nothing is encrypted here; that one is there already is no error.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Where an answer leads is part of the answer.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: format!("http://{address}"), key: Some(key.to_owned()) }
    }

    /// The same client with another key, or with none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { http: self.http.clone(), base: self.base.clone(), key: key.map(str::to_owned) }
    }

    /// The same client, of a host elsewhere.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same, to a host that may go away.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> reqwest::Result<Answer> {
        let response = self.request(method, path, headers, body).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// A request that is not sent yet.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        request
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[], Some(body.to_string())).await
    }

    /// A body that is no JSON.
    pub async fn put_bytes(&self, path: &str, body: Vec<u8>) -> Answer {
        let request = self.request(Method::PUT, path, &[], None).header("content-type", "application/wasm");
        let response = request.body(body).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, &[], Some(body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    pub async fn connect(&self, upstream: &str) -> Value {
        self.connect_to(RUNTIME, upstream).await
    }

    /// The same for any runtime.
    pub async fn connect_to(&self, runtime: &str, upstream: &str) -> Value {
        let body = json!({"api_key": UPSTREAM_KEY, "api_base": upstream});
        self.put(&format!("/api/agent-runtimes/{runtime}/credentials"), &body).await.ok()
    }

    /// An agent as in the documentation, with other fields where `more` has them.
    pub async fn agent(&self, more: &Value) -> String {
        let mut agent = json!({
            "name": "my-agent", "owner_id": "local-user", "runtime": RUNTIME, "model": "claude-opus-4-5",
            "system": "You are a helpful assistant.",
        });
        agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post("/api/agents", &agent).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn session(&self, agent: &str, prompt: Option<&str>) -> String {
        self.session_on(RUNTIME, agent, prompt).await
    }

    /// The same on any runtime.
    pub async fn session_on(&self, runtime: &str, agent: &str, prompt: Option<&str>) -> String {
        let answer = self.post("/session", &json!({"runtime": runtime, "agent_id": agent, "prompt": prompt})).await;
        answer.ok()["id"].as_str().unwrap().to_owned()
    }

    pub async fn prompt(&self, session: &str, text: &str) -> Answer {
        self.try_prompt(session, text).await.unwrap()
    }

    /// The same, to a host that may go away.
    pub async fn try_prompt(&self, session: &str, text: &str) -> reqwest::Result<Answer> {
        let body = json!({"parts": [{"type": "text", "text": text}]});
        self.try_send(Method::POST, &format!("/session/{session}/prompt_async"), &[], Some(body.to_string())).await
    }

    pub async fn status(&self, session: &str) -> String {
        let session = self.get(&format!("/session/{session}")).await.ok();
        session["status"].as_str().unwrap().to_owned()
    }

    /// Opens a session's stream; `query` without its `?`.
    pub async fn stream(&self, session: &str, query: &str, headers: &[(&str, &str)]) -> Stream {
        let path = format!("/v1/sessions/{session}/events/stream?{query}");
        let response = self.request(Method::GET, &path, headers, None).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Stream { response, parser: SseParser::default(), frames: Vec::new().into_iter(), raw: Vec::new() }
    }

    /// The events until nothing more will happen.
    pub async fn turn(&self, session: &str) -> Vec<Event> {
        self.stream(session, "until=idle", &[]).await.rest().await
    }

    /// All events of a session, by the list.
    pub async fn list(&self, session: &str) -> Vec<Value> {
        let (mut events, mut page) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/sessions/{session}/events?limit=1000{page}");
            let body = self.get(&path).await.ok();
            events.extend(body["data"].as_array().unwrap().iter().cloned());
            match &body["next_page"] {
                Value::String(next) => page = format!("&page={next}"),
                _ => return events,
            }
        }
    }
}

/// An event as a client of the stream sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub seq: u64,
    pub name: String,
    pub json: Value,
}

pub struct Stream {
    response: reqwest::Response,
    parser: SseParser,
    frames: std::vec::IntoIter<Frame>,
    /// All bytes that came.
    pub raw: Vec<u8>,
}

impl Stream {
    /// The next bytes that hold an event or not; nothing at the end.
    pub async fn chunk(&mut self) -> Option<()> {
        let chunk = self.response.chunk().await.unwrap()?;
        self.raw.extend_from_slice(&chunk);
        let mut frames = Vec::new();
        self.parser.push(&chunk, &mut frames).unwrap();
        self.frames = frames.into_iter();
        Some(())
    }

    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Some(self.event(frame));
            }
            self.chunk().await?;
        }
    }

    /// The parser keeps no ids, so they are read off the bytes, which must have one for each event.
    fn event(&self, frame: Frame) -> Event {
        let json: Value = serde_json::from_str(&frame.data).unwrap();
        assert_eq!(json["type"], frame.name, "the event's name is its type");
        let text = String::from_utf8_lossy(&self.raw);
        let whole = format!("\nevent: {}\ndata: {}\n\n", frame.name, frame.data);
        let (before, _) = text.rsplit_once(&whole).unwrap_or_else(|| panic!("not on one line: {}", frame.data));
        let id = before.rsplit_once("id: ").unwrap().1;
        Event { seq: id.parse().unwrap(), name: frame.name, json }
    }

    /// Reads on until the host breaks the stream off, which it must: the last event's number, or 0.
    pub async fn broken_off(&mut self) -> u64 {
        while let Some(chunk) = self.response.chunk().await.transpose() {
            match chunk {
                Ok(chunk) => self.raw.extend_from_slice(&chunk),
                Err(_) => {
                    let text = String::from_utf8_lossy(&self.raw);
                    let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
                    return last.map_or(0, |last| last.parse().unwrap());
                }
            }
        }
        panic!("the stream ended as if it were whole");
    }

    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("the stream ended"));
        }
        events
    }

    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}
