//! Someone who follows a session's stream through everything, as a client that resumes does.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use super::plan::Dialect;
use crate::harness::{ANTHROPIC, Client};

/// What was seen, and how it ended.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The events with their numbers, in the order in which they came.
    pub events: Vec<(u64, Value)>,
    /// The host ended the stream and knows the session no more.
    pub gone: bool,
}

pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows behind the event `after`, wherever the host is; returns once the stream is open.
    pub async fn attached(hosts: watch::Receiver<Client>, session: &str, dialect: Dialect, after: u64) -> Self {
        let (seen, (counted, count)) = (Arc::default(), watch::channel(0));
        let (open, mut opened) = watch::channel(false);
        let following = Following { seen: Arc::clone(&seen), counted, open, dialect, last: after };
        let task = tokio::spawn(following.run(hosts, session.to_owned()));
        opened.wait_for(|open| *open).await.unwrap();
        Self { seen, count, task }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until something that was seen is like this.
    pub async fn saw(&mut self, is: impl Fn(&Seen) -> bool) {
        let seen = Arc::clone(&self.seen);
        // Its task counts as long as it follows; after that nothing more is seen.
        self.count.wait_for(|_| is(&seen.lock().unwrap())).await.map(drop).unwrap_or_default();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// After so many streams without an event it waits for another host: this one has nothing to say, or ends.
const BARREN_MAX: u32 = 3;

/// How a stream ended.
enum End {
    /// There will be no other.
    Over,
    /// It may go on where it was.
    Broken,
    /// There was none.
    Refused,
}

struct Following {
    seen: Arc<Mutex<Seen>>,
    counted: watch::Sender<usize>,
    open: watch::Sender<bool>,
    dialect: Dialect,
    last: u64,
}

impl Following {
    async fn run(mut self, mut hosts: watch::Receiver<Client>, session: String) {
        let mut barren = 0;
        loop {
            let client = hosts.borrow_and_update().clone();
            let before = self.last;
            match self.read(&client, &session).await {
                End::Over => {
                    self.counted.send_modify(|count| *count += 1);
                    return;
                }
                End::Broken => barren = if self.last == before { barren + 1 } else { 0 },
                End::Refused => barren = BARREN_MAX,
            }
            if barren >= BARREN_MAX && hosts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reads one stream to its end.
    async fn read(&mut self, client: &Client, session: &str) -> End {
        let (path, last) = (format!("/v1/sessions/{session}/events/stream"), self.last.to_string());
        let mut headers = vec![("last-event-id", last.as_str())];
        if self.dialect == Dialect::Vendor {
            headers.extend(ANTHROPIC);
        }
        let Ok(mut response) = client.request(Method::GET, &path, &headers, None).send().await else {
            return End::Refused;
        };
        if response.status() == 404 {
            self.seen.lock().unwrap().gone = true;
            return End::Over;
        }
        if response.status() != 200 {
            return End::Refused;
        }
        self.open.send_replace(true);
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk);
            while let Some(end) = text.windows(2).position(|bytes| bytes == b"\n\n") {
                let frame: Vec<u8> = text.drain(..end + 2).collect();
                if self.frame(std::str::from_utf8(&frame).unwrap()) {
                    return End::Over;
                }
            }
        }
        End::Broken
    }

    /// True when the session is over with it.
    fn frame(&mut self, frame: &str) -> bool {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let Some(event) = field("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap()) else {
            return false;
        };
        if let Some(number) = field("id: ") {
            self.last = number.parse().unwrap();
        }
        let over = event["type"] == "session.status_terminated" || event["type"] == "session.deleted";
        let deleted = event["type"] == "session.deleted";
        let mut seen = self.seen.lock().unwrap();
        seen.gone |= deleted;
        seen.events.push((self.last, event));
        drop(seen);
        self.counted.send_modify(|count| *count += 1);
        over
    }
}
