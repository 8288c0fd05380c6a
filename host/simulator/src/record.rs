//! What happened, for those who test against the simulator.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use tokio::sync::watch;

use crate::endpoint::Endpoint;

/// A request as it arrived, whatever was answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// The endpoint; none for an unknown path.
    pub endpoint: Option<Endpoint>,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query as it came, without `?`.
    pub query: Option<String>,
    /// How the client said who it is.
    pub credential: Option<Credential>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The header that carried the key, and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// `x-api-key: KEY`
    ApiKey(String),
    /// `authorization: Bearer KEY`
    Bearer(String),
}

impl Credential {
    /// The key, whichever header carried it.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::ApiKey(key) | Self::Bearer(key) => key,
        }
    }

    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let bearer = || text(header::AUTHORIZATION.as_str())?.strip_prefix("Bearer ").map(str::to_owned);
        text("x-api-key").map(|key| Self::ApiKey(key.to_owned())).or_else(|| bearer().map(Self::Bearer))
    }
}

impl Request {
    pub(crate) fn new(
        endpoint: Option<Endpoint>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Self {
        Self {
            endpoint,
            method: method.clone(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            credential: Credential::of(headers),
            headers: headers.clone(),
            body: body.clone(),
        }
    }
}

/// How many streams are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Now.
    pub open: usize,
    /// At the same time, at most.
    pub open_max: usize,
    /// So far, including those that have ended.
    pub opened: usize,
}

/// Counts everything and keeps the latest requests.
pub struct Recorder {
    requests: Mutex<VecDeque<Request>>,
    requests_kept: usize,
    counts: [AtomicU64; Endpoint::COUNT],
    streams: watch::Sender<Streams>,
}

impl Recorder {
    pub(crate) fn new(requests_kept: usize) -> Self {
        Self {
            requests: Mutex::default(),
            requests_kept,
            counts: [const { AtomicU64::new(0) }; Endpoint::COUNT],
            streams: watch::Sender::default(),
        }
    }

    /// The requests so far, oldest first; of very many only the latest.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.kept().iter().cloned().collect()
    }

    /// Those of one endpoint.
    #[must_use]
    pub fn requests_of(&self, endpoint: Endpoint) -> Vec<Request> {
        self.kept().iter().filter(|request| request.endpoint == Some(endpoint)).cloned().collect()
    }

    /// Returns the kept requests and forgets them; counts stay.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.kept()).into()
    }

    /// How many requests came to an endpoint, whatever was answered.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.counts[endpoint as usize].load(Ordering::Relaxed)
    }

    /// The streams of this moment.
    #[must_use]
    pub fn streams(&self) -> Streams {
        *self.streams.borrow()
    }

    /// The streams from now on, for a test that waits: `watch_streams().wait_for(|streams| streams.open == 2)`.
    #[must_use]
    pub fn watch_streams(&self) -> watch::Receiver<Streams> {
        self.streams.subscribe()
    }

    pub(crate) fn add(&self, request: Request) {
        if let Some(endpoint) = request.endpoint {
            self.counts[endpoint as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = self.kept();
        kept.push_back(request);
        if kept.len() > self.requests_kept {
            kept.pop_front();
        }
    }

    pub(crate) fn open_stream(&self) -> OpenStream {
        self.streams.send_modify(|streams| {
            streams.open += 1;
            streams.opened += 1;
            streams.open_max = streams.open_max.max(streams.open);
        });
        OpenStream(self.streams.clone())
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as an open stream for as long as it lives.
pub(crate) struct OpenStream(watch::Sender<Streams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|streams| streams.open -= 1);
    }
}
