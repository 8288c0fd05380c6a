//! What a scenario records: requests, answers, streams and what commands print, as text that is compared with a file.

use std::{env, fs, path::PathBuf};

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::{difference, layout, names::Names};
use crate::harness::{ANTHROPIC, Answer, Client, program::Ended};

/// Headers that every answer has alike; `every_answer.txt` has them.
const OF_EVERY_ANSWER: [&str; 5] = [
    "cache-control",
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "x-content-type-options",
];
/// Headers that belong to the connection, or follow from the body.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];

/// The body of a request, as the client has it.
pub type Body<'a> = Option<&'a Value>;

pub struct Tape {
    scenario: &'static str,
    text: String,
    names: Names,
    every_header: bool,
}

impl Tape {
    pub fn new(scenario: &'static str) -> Self {
        Self { scenario, text: String::new(), names: Names::default(), every_header: false }
    }

    /// From now on all headers are recorded.
    pub fn with_every_header(&mut self) {
        self.every_header = true;
    }

    /// What happens next, for whoever reads the file.
    pub fn note(&mut self, text: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}## {text}\n"));
    }

    /// A text that shall have this name wherever it appears.
    pub fn call(&mut self, text: &str, name: &str) {
        self.names.call(text, name);
    }

    /// A request of LAP's dialect and its answer.
    pub async fn lap(&mut self, client: &Client, method: Method, path: &str, body: Body<'_>) -> Answer {
        self.send(client, method, path, &[], body).await
    }

    pub async fn get(&mut self, client: &Client, path: &str) -> Answer {
        self.lap(client, Method::GET, path, None).await
    }

    pub async fn post(&mut self, client: &Client, path: &str, body: &Value) -> Answer {
        self.lap(client, Method::POST, path, Some(body)).await
    }

    /// A request as the official SDKs send it, and its answer.
    pub async fn sdk(&mut self, client: &Client, method: Method, path: &str, body: Body<'_>) -> Answer {
        self.send(client, method, path, &ANTHROPIC, body).await
    }

    pub async fn send(
        &mut self,
        client: &Client,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Answer {
        self.send_text(client, method, path, headers, body.map(ToString::to_string)).await
    }

    /// The same with a body that need not be JSON.
    pub async fn send_text(
        &mut self,
        client: &Client,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        self.asked(&method, path, headers, body.as_deref());
        let answer = client.send(method, path, headers, body).await;
        self.answered(&answer);
        answer
    }

    pub fn asked(&mut self, method: &Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) {
        let mut lines = format!("{method} {path}\n");
        for (name, value) in headers {
            lines.push_str(&format!("{name}: {value}\n"));
        }
        self.text.push('\n');
        let lines = self.names.text(&lines);
        self.lines("> ", &lines);
        let body = body.map(|body| self.body(body)).unwrap_or_default();
        self.lines("> ", &body);
    }

    pub fn answered(&mut self, answer: &Answer) {
        self.head(answer.status, &answer.headers);
        if let (Some(header), Ok(body)) =
            (answer.headers.get("request-id"), serde_json::from_str::<Value>(&answer.text))
        {
            let told = body.get("request_id").and_then(Value::as_str);
            assert!(told.is_none_or(|told| told == header), "{told:?} is not {header:?}");
        }
        let body = self.body(&answer.text);
        self.lines("< ", &body);
    }

    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        let mut lines: Vec<String> = headers
            .iter()
            .filter(|(name, _)| self.every_header || !OF_EVERY_ANSWER.contains(&name.as_str()))
            .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        let head = self.names.text(&lines.join("\n"));
        self.lines("< ", &format!("{}\n{head}", status.as_u16()));
    }

    /// JSON, laid out; anything else as it is.
    fn body(&mut self, text: &str) -> String {
        match layout::Json::read(text) {
            Some(json) => self.names.json(&json).laid_out(),
            None => self.names.text(text),
        }
    }

    fn lines(&mut self, mark: &str, text: &str) {
        for line in text.lines() {
            self.text.push_str(format!("{mark}{line}").trim_end());
            self.text.push('\n');
        }
    }

    /// Opens a stream; nothing of it is recorded but its head.
    pub async fn open(&mut self, client: &Client, path: &str, headers: &[(&str, &str)]) -> Live {
        self.asked(&Method::GET, path, headers, None);
        let response = client.request(Method::GET, path, headers, None).send().await.unwrap();
        self.head(response.status(), response.headers());
        Live { response, raw: Vec::new(), shown: 0 }
    }

    /// Records a stream up to the event with this name, which must come.
    pub async fn until(&mut self, live: &mut Live, name: &str) -> Value {
        loop {
            let frame = live.frame().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            self.frame(&frame);
            if frame.lines().any(|line| line.strip_prefix("event: ") == Some(name)) {
                let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// Records a stream to its end.
    pub async fn rest(&mut self, mut live: Live) {
        while let Some(frame) = live.frame().await {
            self.frame(&frame);
        }
        self.text.push_str("(the stream ends)\n");
    }

    /// Opens a stream and records it to its end.
    pub async fn stream(&mut self, client: &Client, path: &str, headers: &[(&str, &str)]) {
        let live = self.open(client, path, headers).await;
        self.rest(live).await;
    }

    /// The events of a session until nothing more will happen, behind one of them.
    pub async fn turn(&mut self, client: &Client, session: &str, after: u64) {
        let path = format!("/v1/sessions/{session}/events/stream?until=idle");
        let last = after.to_string();
        let headers: &[_] = if after == 0 { &[] } else { &[("last-event-id", last.as_str())] };
        self.stream(client, &path, headers).await;
    }

    /// A frame of a stream. Comments come as they like once the stream has begun.
    pub fn frame(&mut self, frame: &str) {
        if frame.lines().all(|line| line.starts_with(':')) {
            return;
        }
        self.text.push('\n');
        for line in frame.lines() {
            let line = if let Some(data) = line.strip_prefix("data: ") {
                let json = layout::Json::read(data).unwrap_or_else(|| panic!("no JSON: {data}"));
                format!("data: {}", self.names.json(&json).in_a_line())
            } else if line.starts_with("retry: ") {
                "retry: <retry>".to_owned()
            } else {
                self.names.text(line)
            };
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    /// A command and what it printed.
    pub fn command(&mut self, words: &[&str], ended: &Ended) {
        let words = self.names.text(&words.join(" "));
        self.text.push_str(&format!("\n$ lap {words}\n(ends with {})\n", ended.code.unwrap()));
        for (mark, printed) in [("", &ended.stdout), ("stderr: ", &ended.stderr)] {
            let printed = match layout::Json::read(printed) {
                Some(json) => self.names.json(&json).laid_out(),
                None => self.names.text(printed),
            };
            self.lines(mark, &printed);
        }
    }

    /// Compares what was recorded with the file, or writes the file.
    pub fn done(self) {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/wire/corpus/{}.txt", self.scenario));
        if env::var_os("LAP_RECORD_WIRE").is_some() {
            fs::write(&path, &self.text).unwrap();
            return;
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        if known != self.text {
            let scenario = self.scenario;
            panic!(
                "tests/wire/corpus/{scenario}.txt says otherwise (-) than the host (+); tests/wire/mod.rs says what to do:\n{}",
                difference::between(&known, &self.text)
            );
        }
    }
}

/// A stream that is read as it comes.
pub struct Live {
    response: reqwest::Response,
    raw: Vec<u8>,
    /// How many bytes of it were given out as frames.
    shown: usize,
}

impl Live {
    /// The next frame, without the empty line behind it; nothing at the end.
    pub async fn frame(&mut self) -> Option<String> {
        loop {
            let rest = &self.raw[self.shown..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let frame = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.shown += end + 2;
                return Some(frame);
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.raw.extend_from_slice(&chunk);
        }
    }

    /// Reads on, and records nothing, to the first frame whose event is like this.
    pub async fn find(&mut self, is: impl Fn(&str, &Value) -> bool) -> String {
        loop {
            let frame = self.frame().await.expect("the stream ended");
            let name = frame.lines().find_map(|line| line.strip_prefix("event: "));
            let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
            if let (Some(name), Some(data)) = (name, data)
                && is(name, &serde_json::from_str(data).unwrap())
            {
                return frame;
            }
        }
    }
}
