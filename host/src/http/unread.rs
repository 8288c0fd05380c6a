//! What tells whether a request's body was read to its end. A connection whose request was answered before that is not
//! used again: where the next request begins is then the client's word against the host's, and hyper 1.12 may write its
//! own answer to a malformed next head into the midst of one that the client has not taken yet.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};

/// A body that says when it has ended.
pub(super) struct Watched<B> {
    body: B,
    ended: Arc<AtomicBool>,
}

/// Whether that was so.
pub(super) struct Ended(Arc<AtomicBool>);

impl<B: Body> Watched<B> {
    pub(super) fn new(body: B) -> (Self, Ended) {
        let ended = Arc::new(AtomicBool::new(body.is_end_stream()));
        (Self { body, ended: Arc::clone(&ended) }, Ended(ended))
    }
}

impl Ended {
    /// True when nothing of the body is left.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
