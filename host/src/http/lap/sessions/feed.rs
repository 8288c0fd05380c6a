//! All sessions as they change, for lists that are kept up to date: one stream of server-sent events.
//!
//! A reader costs what it is shown: it notes which sessions have changed, and looks at them a few times a second, at a
//! bounded number each time, so that a session that changes often is looked at once for all of it. What changes after a
//! look is noted again, so the last change of a session is always shown. A reader that does not keep up is told to read
//! the list anew.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use tokio::{
    select,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::item::Item;
use crate::{
    events::ReadError,
    http::{app::Draining, principal::Principal, sse},
    id::SessionId,
    session::{Changed, Listener, News, Sessions},
};

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(250);

/// At how many sessions one look looks.
const LOOKS: usize = 128;

/// A look ends with the session that reaches this size.
const LOOK_BYTES: usize = 16 * 1024;

/// How many sessions may wait to be looked at. Reading the list is less work than more.
const NOTED: usize = 16 * 1024;

/// Of how many sessions it is remembered what was shown last. Of more, the same may be shown twice.
const REMEMBERED: usize = 4096;

/// Says that the reader does not know what it missed.
const RESET: &str = "event: reset\ndata: {}\n\n";

pub(in crate::http) async fn feed(
    _: Principal,
    State(draining): State<Draining>,
    sessions: Sessions,
    headers: HeaderMap,
) -> Response {
    let changes = sessions.changes();
    let look = move |id| shown(&sessions, id);
    // The greeting has an id, which browsers give back when they come again.
    let again = headers.contains_key("last-event-id");
    let feed = Feed::new(look, changes, draining, again);
    sse::response(Body::from_stream(stream::unfold(feed, Feed::next)))
}

/// What a list shows of a session now, as a frame.
fn shown(sessions: &Sessions, id: SessionId) -> Result<String, ReadError> {
    let json = match sessions.get(id)? {
        Some(session) => serde_json::to_string(&Item::from(&session)),
        None => return Ok(format!("event: session.deleted\ndata: {{\"id\":\"{id}\"}}\n\n")),
    };
    // Plain data that was JSON before. A client's own may have line breaks between its tokens.
    let json = json.unwrap_or_default().replace(['\n', '\r'], " ");
    Ok(format!("event: session.updated\ndata: {json}\n\n"))
}

/// The sessions that have changed since they were looked at, each once, in the order of that.
#[derive(Default)]
struct Noted {
    order: VecDeque<SessionId>,
    known: HashSet<SessionId>,
}

impl Noted {
    /// False when there is no room.
    fn note(&mut self, id: SessionId) -> bool {
        if self.known.len() >= NOTED {
            return self.known.contains(&id);
        }
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        true
    }

    fn take(&mut self) -> Option<SessionId> {
        let id = self.order.pop_front()?;
        self.known.remove(&id);
        Some(id)
    }
}

/// What was noted and what was shown: goes where it may block, and comes back.
#[derive(Default)]
struct Desk {
    noted: Noted,
    /// A hash of the frame that a session was last shown as.
    shown: HashMap<SessionId, u64>,
    hasher: RandomState,
}

impl Desk {
    /// The frames of sessions that are not what was shown last.
    fn look(&mut self, look: &impl Fn(SessionId) -> Result<String, ReadError>) -> Result<String, ReadError> {
        let mut frames = String::new();
        for _ in 0..LOOKS {
            if frames.len() >= LOOK_BYTES {
                break;
            }
            let Some(id) = self.noted.take() else { break };
            let frame = look(id)?;
            if self.shown.len() >= REMEMBERED && !self.shown.contains_key(&id) {
                self.shown.clear();
            }
            let hash = self.hasher.hash_one(&frame);
            if self.shown.insert(id, hash) != Some(hash) {
                frames.push_str(&frame);
            }
        }
        Ok(frames)
    }
}

enum Stage {
    /// Nothing was sent yet; `again` when the reader was here before.
    Greeting {
        again: bool,
    },
    Open,
    /// The last words were sent.
    Over,
}

struct Feed<L> {
    look: L,
    changes: Listener,
    draining: Draining,
    desk: Desk,
    stage: Stage,
    /// When to look next.
    next_look: Instant,
    /// When there must be a sign of life.
    beat: Instant,
}

/// What wakes a stream up.
enum Woken {
    Told(News),
    Due,
    Silence,
    Shutdown,
}

impl<L: Fn(SessionId) -> Result<String, ReadError> + Clone + Send + 'static> Feed<L> {
    fn new(look: L, changes: Listener, draining: Draining, again: bool) -> Self {
        let now = Instant::now();
        let stage = Stage::Greeting { again };
        Self { look, changes, draining, desk: Desk::default(), stage, next_look: now, beat: now + sse::HEARTBEAT }
    }

    /// The next piece. An error breaks the connection off, so that the client does not take it for the end.
    async fn next(mut self) -> Option<(Result<Bytes, Broken>, Self)> {
        match self.stage {
            Stage::Over => return None,
            Stage::Greeting { again } => {
                self.stage = Stage::Open;
                let reset = if again { RESET } else { "" };
                let greeting = format!("id: 0\nretry: {}\n: here are changes\n\n{reset}", sse::retry_ms());
                return Some(self.say(greeting));
            }
            Stage::Open => {}
        }
        loop {
            let waits = !self.desk.noted.order.is_empty();
            let woken = select! {
                news = self.changes.next() => Woken::Told(news),
                () = sleep_until(self.next_look), if waits => Woken::Due,
                () = sleep_until(self.beat) => Woken::Silence,
                () = self.draining.begun() => Woken::Shutdown,
            };
            match woken {
                Woken::Told(News::Changed(Changed { session, owner: _ })) if self.desk.noted.note(session) => {}
                Woken::Told(News::Changed(_) | News::Missed) => {
                    self.desk.noted = Noted::default();
                    return Some(self.say(RESET));
                }
                Woken::Due => match self.look().await {
                    Ok(frames) if frames.is_empty() => {}
                    Ok(frames) => return Some(self.say(frames)),
                    Err(error) => {
                        tracing::error!(%error, "a stream of sessions broke off");
                        self.stage = Stage::Over;
                        return Some((Err(error), self));
                    }
                },
                Woken::Silence => return Some(self.say(sse::heartbeat())),
                Woken::Shutdown => {
                    self.stage = Stage::Over;
                    return Some(self.say(sse::farewell()));
                }
            }
        }
    }

    fn say(mut self, piece: impl Into<Bytes>) -> (Result<Bytes, Broken>, Self) {
        self.beat = Instant::now() + sse::HEARTBEAT;
        (Ok(piece.into()), self)
    }

    async fn look(&mut self) -> Result<String, Broken> {
        let (mut desk, look) = (std::mem::take(&mut self.desk), self.look.clone());
        let looked = spawn_blocking(move || {
            let frames = desk.look(&look);
            (desk, frames)
        });
        let (desk, frames) = looked.await.map_err(|_| Broken::Crashed)?;
        self.desk = desk;
        self.next_look = Instant::now() + PAUSE;
        Ok(frames?)
    }
}

/// Why a stream breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a look at a session crashed")]
    Crashed,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{sync::watch, time};

    use super::*;
    use crate::access::{OwnerId, Scope};
    use crate::session::Changes;

    /// What looks at a session, and says how often anything was looked at.
    fn counting() -> (impl Fn(SessionId) -> Result<String, ReadError> + Clone + Send + 'static, Arc<AtomicU32>) {
        let looks = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&looks);
        let look = move |id: SessionId| {
            let look = count.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(format!("{}:{look} ", id.to_bytes()[0]))
        };
        (look, looks)
    }

    fn change(number: u8) -> Changed {
        Changed { session: SessionId::from_bytes([number; 16]), owner: OwnerId::local() }
    }

    fn open<L: Fn(SessionId) -> Result<String, ReadError> + Clone + Send + 'static>(
        look: L,
        changes: &Changes,
    ) -> (Feed<L>, watch::Sender<bool>) {
        let drain = watch::Sender::new(false);
        let feed = Feed::new(look, changes.listen(&Scope::All), Draining(drain.subscribe()), false);
        (Feed { stage: Stage::Open, ..feed }, drain)
    }

    async fn next<L: Fn(SessionId) -> Result<String, ReadError> + Clone + Send + 'static>(
        feed: Feed<L>,
    ) -> (String, Feed<L>) {
        let (piece, feed) = feed.next().await.unwrap();
        (String::from_utf8(piece.unwrap().to_vec()).unwrap(), feed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_changes_often_is_looked_at_a_few_times_a_second_and_for_the_last_time_after_its_last_change()
     {
        let ((look, looks), changes) = (counting(), Changes::default());
        let (feed, _drain) = open(look, &changes);
        let flood = async {
            for _ in 0..1000 {
                changes.announce(change(7));
                time::sleep(Duration::from_millis(1)).await;
            }
            looks.load(Ordering::Relaxed)
        };
        let read = async {
            let mut feed = feed;
            while looks.load(Ordering::Relaxed) < 5 {
                feed = next(feed).await.1;
            }
            feed
        };
        let (before, feed) = tokio::join!(flood, read);
        assert!((4..=5).contains(&before), "{before} looks in one second");
        assert_eq!(looks.load(Ordering::Relaxed), 5, "the one after the last change");
        let (silence, _) = next(feed).await;
        assert_eq!(silence, ": hb\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shown_already_is_not_shown_again() {
        let changes = Changes::default();
        let (feed, drain) = open(|_| Ok("the same".to_owned()), &changes);
        changes.announce(change(1));
        let (first, feed) = next(feed).await;
        changes.announce(change(1));
        let (second, feed) = next(feed).await;
        assert_eq!((&*first, &*second), ("the same", ": hb\n\n"));
        drain.send_replace(true);
        let (last, feed) = next(feed).await;
        assert!(last.starts_with("retry: "), "{last}");
        assert!(feed.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_was_too_slow_is_told_and_then_shown_what_comes() {
        let ((look, _), changes) = (counting(), Changes::default());
        let (feed, _drain) = open(look, &changes);
        for number in 0..10_000_u32 {
            changes.announce(change(u8::try_from(number % 100).unwrap()));
        }
        let (reset, mut feed) = next(feed).await;
        assert_eq!(reset, RESET);
        changes.announce(change(200));
        loop {
            let (frames, rest) = next(feed).await;
            if frames.contains("200:") {
                break;
            }
            feed = rest;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_is_bounded_and_the_next_goes_on() {
        let changes = Changes::default();
        let (feed, _drain) = open(|id: SessionId| Ok(format!("{id} ")), &changes);
        let all: HashSet<_> = (0..1000).map(|_| SessionId::fresh().to_string()).collect();
        for id in &all {
            changes.announce(Changed { session: id.parse().unwrap(), owner: OwnerId::local() });
        }
        let (mut feed, mut shown, began) = (feed, HashSet::new(), Instant::now());
        while shown.len() < all.len() {
            let (frames, rest) = next(feed).await;
            assert!(frames.split_whitespace().count() <= LOOKS);
            shown.extend(frames.split_whitespace().map(str::to_owned));
            feed = rest;
        }
        assert_eq!(shown, all);
        assert!(began.elapsed() >= PAUSE * 7);
    }

    #[tokio::test]
    async fn who_comes_again_is_told_that_it_missed_something() {
        let changes = Changes::default();
        for (again, expected) in [(true, true), (false, false)] {
            let drain = watch::Sender::new(false);
            let look = |_| Ok(String::new());
            let feed = Feed::new(look, changes.listen(&Scope::All), Draining(drain.subscribe()), again);
            let (greeting, _) = next(feed).await;
            assert!(greeting.starts_with("id: 0\nretry: "), "{greeting}");
            assert_eq!(greeting.ends_with(RESET), expected, "{greeting}");
        }
    }
}
