//! A session's way to its upstream: every request goes with the credential that is stored when it is sent.
//!
//! A guest lives for many turns, and a credential may be replaced or removed in any of them. So a guest has no upstream but
//! this, which asks the upstream cache each time. A request under way is not cut.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;

use super::LinkError;
use crate::{
    id::RuntimeId,
    runtime::Outlet,
    upstream::{CurrentError, Request, Response, SendError, Slot, Upstream, Upstreams, WeakUpstream},
};

/// The upstream of a runtime at one base URL, under whichever credential is stored for it.
pub(super) struct CurrentUpstream {
    upstreams: Upstreams,
    runtime: RuntimeId,
    slot: Slot,
    base: String,
    /// What the latest request went with. It is not kept: a guest that is idle must not keep a removed credential in memory.
    last: Mutex<WeakUpstream>,
    /// Why the latest request found no way to the upstream, if it did not.
    unaddressed: Mutex<Option<LinkError>>,
}

impl From<CurrentError> for LinkError {
    fn from(error: CurrentError) -> Self {
        match error {
            CurrentError::NoCredential => Self::NoCredential,
            CurrentError::BadCredential(reason) => Self::BadCredential(reason),
            CurrentError::Moved => Self::Moved,
        }
    }
}

impl CurrentUpstream {
    pub(super) fn new(upstreams: Upstreams, runtime: RuntimeId, slot: Slot, base: String) -> Self {
        Self { upstreams, runtime, slot, base, last: Mutex::default(), unaddressed: Mutex::default() }
    }

    /// The upstream under the credential that is stored now. What is not a single request, such as a feed, notes the version
    /// of its credential and looks again when [`Upstreams::changes`] tells of a change.
    ///
    /// # Errors
    /// When there is no credential, it cannot be used, or it goes to another base.
    pub(super) fn current(&self) -> Result<Upstream, LinkError> {
        Ok(self.upstreams.current(&self.runtime, &self.slot, Some(&self.base))?)
    }

    /// Where it is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Why the guest's latest request found no way to the upstream, if it did not; told once. The guest itself is given a
    /// sentence, of which it may make anything.
    pub(super) fn take_unaddressed(&self) -> Option<LinkError> {
        self.unaddressed().take()
    }

    fn unaddressed(&self) -> MutexGuard<'_, Option<LinkError>> {
        self.unaddressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Option<Upstream> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

impl Outlet for CurrentUpstream {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let upstream = match self.current() {
                Ok(upstream) => upstream,
                // Nothing was sent, and nothing will be until an operator has done something about it.
                Err(error) => {
                    let refused = SendError::Refused(error.to_string());
                    *self.unaddressed() = Some(error);
                    return Err(refused);
                }
            };
            *self.unaddressed() = None;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = upstream.downgrade();
            upstream.send(request).await
        })
    }

    /// What comes from an upstream was searched for the credential that it was asked with, before the guest had it. This is
    /// the second search, for the credentials that are in memory.
    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for upstream in [self.last(), self.current().ok()].into_iter().flatten() {
            let clean = match upstream.scrub(&text) {
                Cow::Owned(clean) => clean,
                Cow::Borrowed(_) => continue,
            };
            text = Cow::Owned(clean);
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        runtime::Handle,
    };

    use super::*;
    use crate::{
        upstream::{Client, Method, NetworkPolicy},
        vault::{Secret, Vault, VaultKey},
    };

    const FIRST: &str = "sk-canary-of-the-first-credential";
    const SECOND: &str = "sk-canary-of-the-second-credential";

    fn vault() -> Vault {
        let (directory, key) = (tempfile::tempdir().unwrap(), VaultKey::generate());
        Vault::init(directory.path(), &key).unwrap();
        Vault::open(directory.path(), key).unwrap()
    }

    fn put(vault: &Vault, key: &str, base: &str) {
        let secret = Secret::new(key.to_owned());
        vault.put_credential(&"claude".parse().unwrap(), secret, base.parse().unwrap()).unwrap();
    }

    fn outlet(vault: &Vault, base: &str) -> CurrentUpstream {
        let client = Client::new(NetworkPolicy::default()).unwrap();
        let upstreams = Upstreams::new(client, vault.clone(), &Handle::current());
        let slot = Slot::new("x-api-key", "").unwrap();
        CurrentUpstream::new(upstreams, "claude".parse().unwrap(), slot, base.to_owned())
    }

    fn get() -> Request {
        let (query, headers) = (Vec::new(), Vec::new());
        Request { method: Method::Get, path: "/a".to_owned(), query, headers, body: None }
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn answer(stream: &mut TcpStream) {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn each_request_has_the_credential_of_its_moment_and_none_is_cut() {
        let (vault, listener) = (vault(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let base = format!("http://{}", listener.local_addr().unwrap());
        put(&vault, FIRST, &base);
        let outlet = outlet(&vault, &base);
        let upstream = async {
            let (mut first, _) = listener.accept().await.unwrap();
            assert!(head(&mut first).await.contains(&format!("\r\nx-api-key: {FIRST}\r\n")));
            put(&vault, SECOND, &base);
            let both = format!("{FIRST} {SECOND} .");
            assert_eq!(outlet.scrub(&both), "[redacted] [redacted] .", "the first one is still in use");
            answer(&mut first).await;
        };
        let (answered, ()) = tokio::join!(outlet.send(get()), upstream);
        assert_eq!(answered.unwrap().status, 200);
        let upstream = async {
            let (mut second, _) = listener.accept().await.unwrap();
            assert!(head(&mut second).await.contains(&format!("\r\nx-api-key: {SECOND}\r\n")));
            answer(&mut second).await;
        };
        assert_eq!(tokio::join!(outlet.send(get()), upstream).0.unwrap().status, 200);
    }

    #[tokio::test]
    async fn a_request_without_a_credential_for_its_base_is_not_sent_and_says_why() {
        let (vault, base) = (vault(), "http://127.0.0.1:9");
        let outlet = outlet(&vault, base);
        put(&vault, FIRST, base);
        assert!(outlet.current().is_ok());
        put(&vault, SECOND, "http://127.0.0.1:10");
        let SendError::Refused(why) = outlet.send(get()).await.unwrap_err() else { unreachable!("it is not sent") };
        assert!(why.contains("another base URL"), "{why}");
        assert!(matches!(outlet.take_unaddressed(), Some(LinkError::Moved)));
        assert!(outlet.take_unaddressed().is_none(), "it is told once");
        vault.remove_credential(&"claude".parse().unwrap()).unwrap();
        let SendError::Refused(why) = outlet.send(get()).await.unwrap_err() else { unreachable!("it is not sent") };
        assert!(why.contains("no credential is stored"), "{why}");
        assert!(matches!(outlet.current(), Err(LinkError::NoCredential)));
    }
}
