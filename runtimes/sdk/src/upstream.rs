//! The one way out of a runtime, as a trait, because natively there is no host to ask.

use crate::{Error, Request, Response, SendError, bindings};

/// Where a runtime's requests go.
pub trait Upstream {
    /// Sends a request and waits for the whole answer. Any status is an answer.
    ///
    /// # Errors
    /// When there is no answer.
    fn send(&mut self, request: Request) -> Result<Response, SendError>;

    /// Sends a request that is expected to succeed.
    ///
    /// # Errors
    /// When there is no answer, or one whose status is not of the 200s.
    fn call(&mut self, request: Request) -> Result<Response, Error> {
        self.send(request)?.success()
    }
}

/// The upstream that the operator configured. Exists within a component only; natively, sending panics.
pub struct Host;

impl Upstream for Host {
    fn send(&mut self, request: Request) -> Result<Response, SendError> {
        bindings::lap::runtime::upstream::send(&request)
    }
}
