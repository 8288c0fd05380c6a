//! How long a request's head takes, for `stall.rs`.
//!
//! hyper has one limit for two things: that nothing comes between two requests, and that a head comes slowly. The first
//! must be long. A client or a proxy keeps connections for its next requests, and one that the host closes just as a request
//! is on its way costs that request. The second must be short, since whoever sends a head byte by byte means no good. So
//! hyper watches the first, and this the second.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// When a deadline passes unnoticed for so long, this process stood still, or the whole machine: the client may have been as
/// quick as anybody, and is given the time once more.
const LATE: Duration = Duration::from_secs(1);

/// What a connection is about, told by the one who serves its requests: twice the number of answered requests, and one
/// more while a request is answered.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// A head is whole. Its request is being answered until the result is dropped.
    pub(super) fn begin(&self) -> Answering {
        self.0.fetch_add(1, Relaxed);
        Answering(self.clone())
    }
}

/// A request is being answered.
pub(super) struct Answering(Progress);

impl Answering {
    /// Until the whole answer has gone out.
    pub(super) fn through(self, response: Response) -> Response {
        response.map(|body| Body::new(Answer { body, _answering: self }))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Relaxed);
    }
}

struct Answer {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long the head that is on its way has taken: the first from the beginning of the connection, every other from its
/// first byte.
pub(super) struct HeadClock {
    progress: Progress,
    wait_max: Duration,
    /// The head that is counted, as [`Progress`] has it.
    head: u64,
    /// Until when it must be whole; nothing before its first byte.
    until: Option<Instant>,
    /// Runs while it is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl HeadClock {
    /// For a connection that begins.
    pub(super) fn new(progress: Progress, wait_max: Duration) -> Self {
        Self { progress, wait_max, head: 0, until: Some(Instant::now() + wait_max), deadline: None }
    }

    /// What became of a read: an error once the head has taken too long. `came` when it brought something.
    pub(super) fn judge(
        &mut self,
        read: Poll<io::Result<()>>,
        came: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.progress.0.load(Relaxed);
        if self.head != now {
            (self.head, self.until, self.deadline) = (now, None, None);
        }
        let is_answered = !now.is_multiple_of(2);
        if is_answered {
            return read;
        }
        if came && self.until.is_none() {
            self.until = Some(Instant::now() + self.wait_max);
        }
        let (Poll::Pending, Some(until)) = (&read, self.until) else { return read };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(deadline.as_mut().poll(cx));
        let now = Instant::now();
        if now.saturating_duration_since(until) < LATE {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.until = Some(now + self.wait_max);
        deadline.as_mut().reset(now + self.wait_max);
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
