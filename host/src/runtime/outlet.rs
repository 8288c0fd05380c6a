//! Where a guest's requests and log lines go. The host's own way out is one of several: a test plays the upstream, and a
//! recorder stands between a guest and either.

use std::borrow::Cow;

use futures_util::future::BoxFuture;

pub use super::bindings::lap::runtime::log::Level;
use crate::upstream::{Request, Response, SendError, Upstream};

/// All that a guest can reach. Its requests are checked against the manifest before they come here.
pub trait Outlet: Send + Sync {
    /// Sends a request and waits for the whole answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>>;

    /// Takes out of a guest's text what nobody may read: the credential, where there is one.
    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str>;

    /// Takes note of a line that the guest wrote, which goes into the operator's log as well.
    fn heard(&self, _level: Level, _line: &str) {}
}

impl Outlet for Upstream {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(Self::send(self, request))
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Self::scrub(self, text)
    }
}
