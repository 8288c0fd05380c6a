//! A cursor turned into a stream of server-sent events.
//!
//! The stream pulls: it holds a place in the log and nothing else while it waits, so a slow client costs its place. Each
//! event is a frame of `id`, `event` and `data`; the id is what a client gives back to go on behind it. Comments keep
//! proxies from closing what is silent.

use std::{
    fmt::Write,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::{task::yield_now, time::sleep};

use super::{app::Draining, dialect::Dialect, error::Error, on_disk};
use crate::{
    clock,
    events::{Page, ReadError, Reader},
    id::SessionId,
    session::{Sessions, Status},
};

/// What is written at once, unless one event is larger. For a client that does not read there are at most two of these,
/// because hyper takes another before the last bytes of one are gone, and what the kernel holds.
const CHUNK_BYTES: usize = 16 * 1024;
const CHUNK_EVENTS: u64 = 256;

/// Proxies close what is silent for a minute, some after 15 seconds.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// Clients reconnect after a time between these, so that after a restart they do not come in one wave.
const RETRY_MS: std::ops::Range<u64> = 2000..5000;

/// What a client asks of a stream in its URL.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    until: Option<Until>,
}

/// When a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    /// As soon as nothing will happen any more before a client does something.
    Idle,
}

/// Where a stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With the event behind this one; 0 is before the first.
    After(u64),
    /// With what happens from now on.
    Now,
}

impl Start {
    /// What the client has names the place, in the header as browsers send it, or in the URL. Otherwise a client of the
    /// Anthropic dialect expects no replay, and any other the session from its beginning.
    fn of(headers: &HeaderMap, after: Option<&str>, dialect: Dialect) -> Result<Self, Error> {
        let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("not text"));
        match last.filter(|last| !last.is_empty()).or(after.filter(|after| !after.is_empty())) {
            Some(cursor) => cursor_of(cursor).map(Self::After),
            None if dialect == Dialect::Anthropic => Ok(Self::Now),
            None => Ok(Self::After(0)),
        }
    }
}

/// Reads the seq of an event as a client gives it back.
pub(super) fn cursor_of(text: &str) -> Result<u64, Error> {
    seq_of(text).ok_or_else(|| {
        let message = "the cursor must be the id of an event: a number, as in the stream's `id:` lines";
        Error::new(StatusCode::BAD_REQUEST, "cursor_invalid", message)
    })
}

/// The number that a text is, written in digits alone.
pub(crate) fn seq_of(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// A reader behind the event `after`, which must exist. Blocks on the file.
pub(super) fn reader(sessions: &Sessions, session: SessionId, after: u64) -> Result<Reader, Error> {
    let reader = sessions.events(session, after)?.ok_or_else(Error::session_not_found)?;
    let head = reader.head().seq;
    if after > head {
        let message = format!("there is no event {after} yet: the session's last one is {head}");
        return Err(Error::new(StatusCode::CONFLICT, "cursor_invalid", message));
    }
    Ok(reader)
}

/// A reader behind the session's last event. Blocks on the file.
pub(super) fn reader_of_now(sessions: &Sessions, session: SessionId) -> Result<Reader, Error> {
    let mut reader = reader(sessions, session, 0)?;
    reader.seek(reader.head().seq);
    Ok(reader)
}

/// The stream of a session's events.
pub(super) async fn respond(
    sessions: Sessions,
    session: SessionId,
    headers: &HeaderMap,
    wish: &Wish,
    dialect: Dialect,
    draining: Draining,
) -> Result<Response, Error> {
    let start = Start::of(headers, wish.after.as_deref(), dialect)?;
    let found = on_disk(move || {
        let reader = match start {
            Start::After(after) => reader(&sessions, session, after)?,
            Start::Now => reader_of_now(&sessions, session)?,
        };
        // One that is being ended has its last event to come.
        let over = sessions.get(session)?.is_some_and(|it| it.settled() && it.status() == Status::Terminated);
        Ok::<_, Error>((reader, over))
    });
    let (reader, over) = found.await??;
    let end = match dialect {
        Dialect::Lap => End::Open,
        Dialect::Anthropic => End::Final { session },
    };
    let frames = Frames { reader, draining, until: wish.until, end, over, stage: Stage::Greeting };
    Ok(response(Body::from_stream(stream::unfold(frames, Frames::next))))
}

/// The answer that a stream of events is.
pub(super) fn response(stream: Body) -> Response {
    let mut response = Response::new(stream);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx would collect the frames of a minute before it sends one.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Frames {
    reader: Reader,
    draining: Draining,
    until: Option<Until>,
    end: End,
    /// True once the session is over for good: when the log was shown, nothing follows.
    over: bool,
    stage: Stage,
}

/// What the end of a session is to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// An event as any other; a deleted session's stream just ends.
    Open,
    /// The end of the stream, told in an event in any case.
    Final { session: SessionId },
}

/// The last event of a session that runs no more.
const TERMINATED: &str = "session.status_terminated";

enum Stage {
    /// Nothing was sent yet.
    Greeting,
    Events,
    /// The last words were sent.
    Over,
}

enum Woken {
    Log,
    Silence,
    Shutdown,
}

impl Frames {
    /// The next piece. An error breaks the connection off, so that the client does not take it for the end.
    async fn next(mut self) -> Option<(Result<Bytes, ReadError>, Self)> {
        match self.stage {
            Stage::Over => return None,
            Stage::Greeting => {
                self.stage = Stage::Events;
                let greeting = format!("retry: {}\n: here are events\n\n", retry_ms());
                return Some((Ok(greeting.into()), self));
            }
            Stage::Events => {}
        }
        loop {
            match self.reader.pull(CHUNK_EVENTS, CHUNK_BYTES).await {
                Ok(page) if page.is_empty() => {}
                Ok(page) => {
                    self.over |= page.events().any(|event| event.kind == TERMINATED);
                    return Some((Ok(frames(&page)), self));
                }
                Err(error) => {
                    tracing::error!(%error, "a stream broke off");
                    self.stage = Stage::Over;
                    return Some((Err(error), self));
                }
            }
            let head = self.reader.head();
            if let End::Final { session } = self.end {
                if head.deleted {
                    self.stage = Stage::Over;
                    return Some((Ok(deleted(session)), self));
                }
                if self.over && head.seq == self.reader.after() {
                    return None;
                }
            }
            if head.deleted || self.until == Some(Until::Idle) && head.settled && head.seq == self.reader.after() {
                return None;
            }
            if head.seq > self.reader.after() {
                // What was published since the page was taken, or is being deleted, shows at the next look.
                yield_now().await;
                continue;
            }
            let woken = tokio::select! {
                _ = self.reader.changed() => Woken::Log,
                () = sleep(HEARTBEAT) => Woken::Silence,
                () = self.draining.begun() => Woken::Shutdown,
            };
            match woken {
                Woken::Log => {}
                Woken::Silence => return Some((Ok(heartbeat()), self)),
                Woken::Shutdown => {
                    self.stage = Stage::Over;
                    return Some((Ok(farewell()), self));
                }
            }
        }
    }
}

fn frames(page: &Page) -> Bytes {
    // Field names, line ends and the digits of any seq.
    const AROUND: usize = 48;
    let bytes = page.events().map(|event| event.kind.len() + event.json.len() + AROUND).sum();
    let mut frames = BytesMut::with_capacity(bytes);
    for event in page.events() {
        // Neither type nor JSON has a line end: the session has checked the one and unfolded the other. Writing into
        // memory cannot fail.
        let _written = write!(frames, "id: {}\nevent: {}\ndata: {}\n\n", event.seq, event.kind, event.json);
    }
    frames.freeze()
}

/// The end of a session that was deleted. Its log is gone, so this is no event of it.
fn deleted(session: SessionId) -> Bytes {
    const KIND: &str = "session.deleted";
    let id = format!("{session}_deleted");
    let event = serde_json::json!({"type": KIND, "id": id, "processed_at": clock::rfc3339()});
    format!("event: {KIND}\ndata: {event}\n\n").into()
}

/// A sign of life.
pub(super) const fn heartbeat() -> Bytes {
    Bytes::from_static(b": hb\n\n")
}

/// The last words of a stream whose host shuts down.
pub(super) fn farewell() -> Bytes {
    format!("retry: {}\n\n", retry_ms()).into()
}

pub(super) fn retry_ms() -> u64 {
    // Each hasher has keys of its own, which the system's random source has a part in.
    let random = RandomState::new().hash_one(());
    RETRY_MS.start + random % (RETRY_MS.end - RETRY_MS.start)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::{
        agents::tests::vault,
        events::{Draft, EventLog},
    };

    fn start(headers: &[(&'static str, &'static str)], after: Option<&str>) -> Result<Start, (u16, &'static str)> {
        let pairs = headers.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let headers: HeaderMap = pairs.collect();
        let dialect = Dialect::of(&headers);
        Start::of(&headers, after, dialect).map_err(|error| (error.status.as_u16(), error.code))
    }

    #[test]
    fn a_stream_starts_where_the_client_was() {
        let beta = ("anthropic-beta", "managed-agents-2026-04-01");
        assert_eq!(start(&[], None), Ok(Start::After(0)));
        assert_eq!(start(&[beta], None), Ok(Start::Now));
        assert_eq!(start(&[beta], Some("3")), Ok(Start::After(3)));
        assert_eq!(start(&[beta, ("last-event-id", "4")], Some("3")), Ok(Start::After(4)));
        assert_eq!(start(&[("last-event-id", "")], Some("3")), Ok(Start::After(3)));
        assert_eq!(start(&[("last-event-id", "")], Some("")), Ok(Start::After(0)));
    }

    #[test]
    fn a_malformed_cursor_is_refused() {
        for cursor in ["+1", "-1", "1.0", "g1.5", " 1", "0x1", "99999999999999999999"] {
            assert_eq!(start(&[], Some(cursor)), Err((400, "cursor_invalid")), "{cursor}");
            assert_eq!(start(&[("last-event-id", "x")], Some("1")), Err((400, "cursor_invalid")));
        }
    }

    #[test]
    fn clients_come_back_at_different_times() {
        let times: std::collections::HashSet<_> = (0..50).map(|_| retry_ms()).collect();
        assert!(times.len() > 10 && times.iter().all(|ms| RETRY_MS.contains(ms)), "{times:?}");
    }

    /// A log with one event of one session, and the stream of it.
    async fn stream_of_one(
        until: Option<Until>,
    ) -> (tempfile::TempDir, EventLog, SessionId, watch::Sender<bool>, Frames) {
        let (directory, vault) = vault();
        let log = EventLog::create(&directory.path().join("events.redb"), vault.sealer()).unwrap();
        let session = SessionId::fresh();
        let mut draft = Draft::default();
        draft.push("session.status_idle", r#"{"type":"session.status_idle"}"#);
        log.writer(session, true).unwrap().append(draft, Vec::new(), true).await.unwrap();
        let drain = watch::Sender::new(false);
        let reader = log.reader(session, true, 0).unwrap();
        let draining = Draining(drain.subscribe());
        let frames = Frames { reader, draining, until, end: End::Open, over: false, stage: Stage::Greeting };
        (directory, log, session, drain, frames)
    }

    async fn next(frames: Frames) -> (String, Frames) {
        let (piece, frames) = frames.next().await.unwrap();
        (String::from_utf8(piece.unwrap().to_vec()).unwrap(), frames)
    }

    #[tokio::test]
    async fn the_first_bytes_come_before_any_event() {
        let (_directory, _log, _session, _drain, frames) = stream_of_one(Some(Until::Idle)).await;
        let (greeting, frames) = next(frames).await;
        assert!(greeting.starts_with("retry: ") && greeting.ends_with("\n\n"), "{greeting}");
        let (event, frames) = next(frames).await;
        assert_eq!(event, "id: 1\nevent: session.status_idle\ndata: {\"type\":\"session.status_idle\"}\n\n");
        assert!(frames.next().await.is_none(), "idle, and everything was shown");
    }

    #[tokio::test]
    async fn a_silent_stream_beats_and_a_drained_one_says_when_to_come_back() {
        let (_directory, _log, _session, drain, frames) = stream_of_one(None).await;
        let (_, frames) = next(frames).await;
        let (_, frames) = next(frames).await;
        tokio::time::pause();
        let (heartbeat, frames) = next(frames).await;
        assert_eq!(heartbeat, ": hb\n\n");
        drain.send_replace(true);
        let (farewell, frames) = next(frames).await;
        assert!(farewell.starts_with("retry: "), "{farewell}");
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_session() {
        let (_directory, log, session, _drain, frames) = stream_of_one(None).await;
        let (_, frames) = next(frames).await;
        let (_, frames) = next(frames).await;
        let (ended, deleted) = tokio::join!(frames.next(), log.delete(session, None));
        assert!(ended.is_none() && deleted.is_ok());
    }

    #[tokio::test]
    async fn a_deleted_session_is_an_event_where_it_is_the_end() {
        let (_directory, log, session, _drain, mut frames) = stream_of_one(None).await;
        frames.end = End::Final { session };
        let (_, frames) = next(frames).await;
        let (_, frames) = next(frames).await;
        let (last, deleted) = tokio::join!(next(frames), log.delete(session, None));
        deleted.unwrap();
        let (last, frames) = last;
        assert!(last.starts_with("event: session.deleted\ndata: {") && last.ends_with("}\n\n"), "{last}");
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn a_session_that_is_over_is_the_end_of_its_stream() {
        let (_directory, log, session, _drain, mut frames) = stream_of_one(None).await;
        frames.end = End::Final { session };
        let (_, frames) = next(frames).await;
        let (_, frames) = next(frames).await;
        let mut draft = Draft::default();
        draft.push(TERMINATED, r#"{"type":"session.status_terminated"}"#);
        log.writer(session, true).unwrap().append(draft, Vec::new(), true).await.unwrap();
        let (last, frames) = next(frames).await;
        assert!(last.contains(TERMINATED), "{last}");
        assert!(frames.next().await.is_none());
    }

    #[test]
    fn a_waiting_stream_is_small() {
        fn size_of_future<F: Future>(_: impl FnOnce(Frames) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Frames::next);
        assert!(bytes <= 2048, "{bytes}");
    }
}
