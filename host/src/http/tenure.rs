//! Answers that take long, and end when their reader is no principal any more: its key was revoked or has expired.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::principal::Principal;

/// The same response, whose body breaks off as soon as the principal's time is over: an error, so that its reader does not
/// take that for the end. A body that is whole already goes out at once and stays as it is.
pub(super) fn bounded(response: Response, principal: Principal) -> Response {
    if !principal.can_end() || response.body().size_hint().exact().is_some() {
        return response;
    }
    let over = Box::pin(async move { principal.ended().await });
    response.map(|body| Body::new(Bounded { body, over }))
}

struct Bounded {
    body: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the key of this request was revoked or has expired")]
struct Over;

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // First: what happens after the end is nothing for this reader.
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new(Over))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
