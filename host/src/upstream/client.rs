//! The one HTTP client, and a session's handle on it.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::{
    feed::Feed,
    network::{NetworkPolicy, Resolver},
    origin::{BaseUrlError, Origin},
    request::{Refusal, Request, Slot},
    response::Response,
    scrub::Scrubber,
};
use crate::vault::{Credential, OpenCredentialError, Secret, Vault};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole answer; for a stream, until its headers are here.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// Shorter than the idle limits of common load balancers: a connection that is about to be closed is not used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const HEADERS_MAX: usize = 128;
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The answer instead of a stream: an error text, of which so much is kept.
const STATUS_BODY_BYTES_MAX: usize = 64 * 1024;

/// The HTTP client of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    policy: Arc<NetworkPolicy>,
}

/// The TLS library or the client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up")]
pub struct ClientError(#[source] reqwest::Error);

impl Client {
    /// A client that goes where the policy admits.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(policy: NetworkPolicy) -> Result<Self, ClientError> {
        // An error says that a provider is installed already, which is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let http = builder(&policy).build().or_else(|error| {
            // A machine without root certificates can still reach what is on it; `https` then fails as untrusted.
            tracing::warn!(reason = cause(&error), "no root certificates: https upstreams will be refused");
            builder(&policy).tls_certs_only([]).build().map_err(ClientError)
        })?;
        Ok(Self { http, policy })
    }
}

/// Everything that could send a request, or its credential, elsewhere is off.
fn builder(policy: &Arc<NetworkPolicy>) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        // reqwest would follow, and strip only the headers that it knows for credentials.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .dns_resolver(Resolver(Arc::clone(policy)))
        .user_agent(concat!("lap/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .http1_max_headers(HEADERS_MAX)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

/// Why a session gets no upstream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The base URL is not, or no longer, one that requests may go to.
    #[error(transparent)]
    Base(#[from] BaseUrlError),
    /// The vault does not hand the credential out.
    #[error(transparent)]
    Credential(#[from] OpenCredentialError),
    /// The credential cannot stand in the header, or cannot be searched for.
    #[error("the credential cannot be attached")]
    Attach,
}

/// Why a request has no answer. No text holds a credential or a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The request breaks a rule; nothing was sent.
    #[error("{0}")]
    Refused(String),
    /// There is no connection; nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke or time ran out when the request may have been sent: whether it had an effect is unknown.
    #[error("{0}")]
    Interrupted(String),
    /// The answer is larger than 16 MiB. The request was sent.
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
}

impl From<Refusal> for SendError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// There is no answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer is no success. Of its body, 64 KiB are kept.
    #[error("the upstream answered with status {}", .0.status)]
    Status(Response),
}

/// One runtime's upstream under one credential, whatever is stored meanwhile: who keeps one keeps the credential in memory.
/// Cheap to clone; sessions of the same credential can share one.
#[derive(Clone)]
pub struct Upstream(Arc<Bound>);

struct Bound {
    client: Client,
    credential: Credential,
    slot: Slot,
    /// Marked as sensitive, so that nothing prints it. Requests share its memory, which is cleared with the last of them.
    value: HeaderValue,
    scrubber: Arc<Scrubber>,
}

/// An upstream that is not kept: it is there as long as somebody else has it.
#[derive(Clone, Default)]
pub struct WeakUpstream(Weak<Bound>);

impl WeakUpstream {
    /// The upstream, if somebody has it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Upstream> {
        self.0.upgrade().map(Upstream)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.0.credential).finish()
    }
}

impl Upstream {
    /// Opens a credential for requests below its own base URL. Blocks on the vault.
    ///
    /// # Errors
    /// When the policy does not admit the base URL, or the vault does not give the credential.
    pub fn open(client: &Client, vault: &Vault, credential: &Credential, slot: &Slot) -> Result<Self, OpenError> {
        client.policy.admits(&credential.base)?;
        let secret = vault.open_credential(&credential.runtime, credential.version, &credential.base.origin())?;
        let value = header_value(slot, &secret).map_err(|_| OpenError::Attach)?;
        let scrubber = Arc::new(Scrubber::new(&secret).map_err(|_| OpenError::Attach)?);
        Ok(Self(Arc::new(Bound {
            client: client.clone(),
            credential: credential.clone(),
            slot: slot.clone(),
            value,
            scrubber,
        })))
    }

    /// The credential that it uses, without the secret.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.0.credential
    }

    /// The same without keeping it.
    #[must_use]
    pub fn downgrade(&self) -> WeakUpstream {
        WeakUpstream(Arc::downgrade(&self.0))
    }

    /// Where the credential stands in a request.
    pub(super) fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Takes the credential out of text that did not come as an answer of this handle's, such as a guest's message.
    #[must_use]
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.scrubber.scrub(text)
    }

    /// The same in place, which costs nothing when there is nothing to remove.
    pub fn scrub_in_place(&self, text: &mut String) {
        self.0.scrubber.scrub_in_place(text);
    }

    /// Sends a request and waits for the whole answer, at most 60 seconds.
    ///
    /// # Errors
    /// When there is no whole answer; the variant says whether the request may have been sent.
    pub async fn send(&self, request: Request) -> Result<Response, SendError> {
        let request = self.prepare(request, &[])?;
        let exchange = async {
            let mut response = self.execute(request).await?;
            let declared = response.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64);
            if declared {
                return Err(SendError::TooLarge);
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.broke(&error))? {
                if body.len() + chunk.len() > BODY_BYTES_MAX {
                    return Err(SendError::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Response::new(response.status(), response.headers(), body, &self.0.scrubber))
        };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Sends a request whose answer is read while it comes. Its headers must come within 60 seconds.
    ///
    /// # Errors
    /// When there is no answer, or it is no success.
    pub async fn stream(&self, request: Request) -> Result<Feed, StreamError> {
        let defaults = [
            (header::ACCEPT, HeaderValue::from_static("text/event-stream")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let request = self.prepare(request, &defaults)?;
        let exchange = async { Ok(Feed::new(self.opened(request).await?, Arc::clone(&self.0.scrubber))) };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(self.late().into()))
    }

    /// Sends a request and returns once the answer has begun and is a success.
    pub(super) async fn opened(&self, request: reqwest::Request) -> Result<reqwest::Response, StreamError> {
        let mut response = self.execute(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (body, cut) = beginning(&mut response, STATUS_BODY_BYTES_MAX).await;
        let mut answer = Response::new(response.status(), response.headers(), body, &self.0.scrubber);
        if cut {
            // The cut may have left half a credential, which no search finds.
            let kept = answer.body.len().saturating_sub(self.0.scrubber.longest());
            answer.body.truncate(answer.body.floor_char_boundary(kept));
        }
        Err(StreamError::Status(answer))
    }

    /// Checks and builds the request and, last, attaches the credential.
    pub(super) fn prepare(
        &self,
        request: Request,
        defaults: &[(HeaderName, HeaderValue)],
    ) -> Result<reqwest::Request, SendError> {
        let wire = request.into_wire(&self.0.credential.base, &self.0.slot)?;
        let mut request = reqwest::Request::new(wire.method, wire.url);
        let headers = request.headers_mut();
        *headers = wire.headers;
        for (name, value) in defaults {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        headers.insert(self.0.slot.header.clone(), self.0.value.clone());
        *request.body_mut() = wire.body.map(reqwest::Body::from);
        Ok(request)
    }

    async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, SendError> {
        self.0.client.http.execute(request).await.map_err(|error| {
            let origin = self.origin();
            if error.is_connect() {
                SendError::Unreachable(
                    self.scrub(&format!("{origin} cannot be reached: {}", cause(&error))).into_owned(),
                )
            } else {
                self.broke(&error)
            }
        })
    }

    fn broke(&self, error: &reqwest::Error) -> SendError {
        let text = format!("the connection to {} broke: {}", self.origin(), cause(error));
        SendError::Interrupted(self.scrub(&text).into_owned())
    }

    pub(super) fn late(&self) -> SendError {
        SendError::Interrupted(format!("{} did not answer within {} seconds", self.origin(), DEADLINE.as_secs()))
    }

    pub(super) fn scrubber(&self) -> Arc<Scrubber> {
        Arc::clone(&self.0.scrubber)
    }

    fn origin(&self) -> Origin {
        self.0.credential.base.origin()
    }
}

/// The beginning of an error's body, and whether more follows. What cannot be read of it is missing.
async fn beginning(response: &mut reqwest::Response, bytes_max: usize) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
            body.truncate(bytes_max);
            return (body, true);
        }
    }
    (body, false)
}

/// What a header's value is made of, without a copy: cleared when the last clone of the value is gone.
///
/// Out of reach are the copies that others make: hyper writes a request's head into the buffer of its connection, which is
/// written over by later requests and freed, not cleared, with the connection; and the kernel has what was sent.
struct Attached(Zeroizing<String>);

#[cfg(test)]
impl Drop for Attached {
    fn drop(&mut self) {
        super::tests::cleared(&self.0);
    }
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn header_value(slot: &Slot, secret: &Secret) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let (scheme, secret) = (slot.scheme.as_str(), secret.expose());
    // The room is taken at once: a text that grows leaves a copy of itself behind.
    let mut text = Zeroizing::new(String::with_capacity(scheme.len() + 1 + secret.len()));
    if !scheme.is_empty() {
        text.push_str(scheme);
        text.push(' ');
    }
    text.push_str(secret);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(Attached(text)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost cause of a client's error: it names neither URL nor header, as the outer ones do.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut innermost: &dyn Error = match error.source() {
        Some(source) => source,
        None => return "the request failed".to_owned(),
    };
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
