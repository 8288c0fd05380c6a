//! Requests and answers that take long, and end when their client is no principal any more: its key was revoked or has
//! expired.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::principal::Principal;

/// The same response, whose body breaks off as soon as the principal's time is over: an error, so that its reader does not
/// take that for the end. A body that is whole already goes out at once and stays as it is.
pub(super) fn bounded(response: Response, principal: Principal) -> Response {
    if !principal.can_end() || response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Bounded::new(body, principal)))
}

/// The same for a request: what is not here by then is not read, and the body never comes to its end. So nothing of it is
/// carried out, however late it comes and whoever reads it.
pub(super) fn bounded_request(request: Request, principal: Principal) -> Request {
    if !principal.can_end() || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Bounded::new(body, principal)))
}

/// True when it is why a body broke off.
pub(super) fn is_over(error: &(dyn Error + 'static)) -> bool {
    let mut behind = Some(error);
    while let Some(error) = behind {
        if error.is::<Over>() {
            return true;
        }
        behind = error.source();
    }
    false
}

impl Bounded {
    fn new(body: Body, principal: Principal) -> Self {
        Self { body, over: Box::pin(async move { principal.ended().await }) }
    }
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
