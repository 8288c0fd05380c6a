//! A simulated vendor, to try the adapter on: the Example Chat API of VENDOR.md over real HTTP, in memory.
//!
//! ```text
//! cargo run --example vendor [PORT]
//! ```
//!
//! For this machine and for trusted clients only: it reads one request from each connection, and limits nothing.

use std::{
    collections::HashMap,
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

const HEARTBEAT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Vendor {
    conversations: Mutex<HashMap<String, Arc<Conversation>>>,
}

#[derive(Default)]
struct Conversation {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    entries: Vec<Value>,
    /// The turn that runs, by the id of its first entry.
    runs: Option<String>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    key: Option<String>,
    body: Value,
}

type Answer = (u16, Value);

fn main() -> io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(4200_u16);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("a simulated vendor at http://{}", listener.local_addr()?);
    let vendor = Arc::new(Vendor::default());
    for connection in listener.incoming() {
        let (vendor, mut connection) = (Arc::clone(&vendor), connection?);
        // A client that has gone is no loss.
        thread::spawn(move || _ = vendor.serve(&mut connection));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339, by the proleptic Gregorian calendar (days to civil date after Howard Hinnant).
fn timestamp() -> String {
    let now = now();
    let (days, second) = (now.as_secs() / 86_400 + 719_468, now.as_secs() % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, era * 400 + year) } else { (month - 9, era * 400 + year + 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", now.subsec_millis())
}

fn refuse(status: u16, message: &str) -> Answer {
    (status, json!({"error": {"message": message}}))
}

impl Request {
    fn read(connection: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            key: None,
            body: Value::Null,
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => request.key = value.trim().strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        request.body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(request)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name).map(|pair| pair.1)
    }
}

impl Vendor {
    fn serve(&self, connection: &mut TcpStream) -> io::Result<()> {
        let request = Request::read(connection)?;
        let (status, body) = match self.answer(&request) {
            Ok(answer) => answer,
            Err(streamed) => return streamed.stream(connection),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    }

    /// What to answer, or the conversation to stream.
    fn answer(&self, request: &Request) -> Result<Answer, Arc<Conversation>> {
        if request.key.as_deref().is_none_or(|key| key == "wrong") {
            return Ok(refuse(401, "no such key"));
        }
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        Ok(match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["v1", "models"]) => (200, json!({"models": [{"id": "example-1", "name": "Example 1"}]})),
            ("POST", ["v1", "conversations"]) => {
                let mut conversations = lock(&self.conversations);
                let id = format!("conv_{:x}", now().as_nanos());
                conversations.insert(id.clone(), Arc::default());
                (201, json!({"id": id}))
            }
            (method, ["v1", "conversations", id, rest @ ..]) => {
                let Some(conversation) = lock(&self.conversations).get(*id).cloned() else {
                    return Ok(refuse(404, "no such conversation"));
                };
                match (method, rest) {
                    ("GET", ["stream"]) => return Err(conversation),
                    ("GET", ["entries"]) => (200, conversation.page(request)),
                    ("POST", ["prompts"]) => conversation.prompt(request.body["text"].as_str().unwrap_or_default()),
                    ("POST", ["stop"]) => conversation.stop(),
                    ("DELETE", []) => {
                        lock(&self.conversations).remove(*id);
                        (204, Value::Null)
                    }
                    _ => refuse(405, "no such method"),
                }
            }
            _ => refuse(404, "no such path"),
        })
    }
}

impl Told {
    fn tell(&mut self, mut entry: Value) -> String {
        let id = format!("ent_{}", self.entries.len() + 1);
        entry["id"] = id.as_str().into();
        entry["at"] = timestamp().into();
        self.entries.push(entry);
        id
    }

    /// The end of a turn, unless it is over.
    fn end(&mut self, mut done: Value) -> bool {
        let ran = self.runs.take().is_some();
        if ran {
            done["kind"] = "done".into();
            self.tell(done);
        }
        ran
    }
}

impl Conversation {
    fn change<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        let changed = change(&mut lock(&self.told));
        self.changed.notify_all();
        changed
    }

    fn prompt(self: &Arc<Self>, text: &str) -> Answer {
        let started = self.change(|told| {
            if told.runs.is_some() {
                return None;
            }
            let turn = told.tell(json!({"kind": "prompt", "text": text}));
            told.tell(json!({"kind": "working"}));
            told.runs = Some(turn.clone());
            Some(turn)
        });
        let Some(turn) = started else { return refuse(409, "it answers another prompt") };
        let (conversation, text, id) = (Arc::clone(self), text.to_owned(), turn.clone());
        thread::spawn(move || conversation.work(&turn, &text));
        (202, json!({"id": id}))
    }

    fn work(&self, turn: &str, text: &str) {
        // Nothing is said in a turn that was stopped.
        let step = |next: &dyn Fn(&mut Told) -> Option<String>| {
            thread::sleep(STEP);
            self.change(|told| if told.runs.as_deref() == Some(turn) { next(told) } else { None })
        };
        let say = |entry: Value| step(&|told| Some(told.tell(entry.clone())));
        let end = |done: Value| {
            step(&|told| {
                told.end(done.clone());
                None
            })
        };
        match text {
            "/fail" => {
                end(json!({"reason": "failed", "error": "the model broke"}));
            }
            "/long" => {
                let mut numbers = 0..600;
                while numbers.next().is_some_and(|n| say(json!({"kind": "answer", "text": n.to_string()})).is_some()) {}
            }
            _ => {
                if let Some(lookup) = say(json!({"kind": "lookup", "query": text})) {
                    say(json!({"kind": "found", "lookup": lookup, "text": "nothing is known of it"}));
                }
                say(json!({"kind": "answer", "text": format!("You said: {text}")}));
            }
        }
        end(json!({"reason": "finished"}));
    }

    fn stop(&self) -> Answer {
        if self.change(|told| told.end(json!({"reason": "stopped"}))) {
            (202, json!({"stopped": true}))
        } else {
            refuse(409, "there is nothing to stop")
        }
    }

    /// A page of entries, the latest first.
    fn page(&self, request: &Request) -> Value {
        let told = lock(&self.told);
        let before = request.parameter("before");
        let end = before.and_then(|id| told.entries.iter().position(|entry| entry["id"] == id));
        let end = end.unwrap_or(told.entries.len());
        let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
        let page = &told.entries[end.saturating_sub(limit)..end];
        let next = if page.len() < end { page.first().map(|entry| entry["id"].clone()) } else { None };
        json!({"entries": page.iter().rev().collect::<Vec<_>>(), "next": next})
    }

    /// Tells what comes from now on, until the client goes.
    fn stream(&self, connection: &mut TcpStream) -> io::Result<()> {
        let mut next = lock(&self.told).entries.len();
        connection
            .write_all(b"HTTP/1.1 200 \r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n")?;
        loop {
            let new = {
                let told = lock(&self.told);
                let waited = self.changed.wait_timeout_while(told, HEARTBEAT, |told| told.entries.len() == next);
                waited.unwrap_or_else(PoisonError::into_inner).0.entries[next..].to_vec()
            };
            next += new.len();
            if new.is_empty() {
                connection.write_all(b": nothing new\n\n")?;
            }
            for entry in new {
                write!(connection, "event: entry\ndata: {entry}\n\n")?;
            }
        }
    }
}
