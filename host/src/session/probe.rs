//! A stored credential is tried: its runtime is asked for the models that it may use, which takes a request upstream.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{LinkError, Sessions};
use crate::{
    id::RuntimeId,
    runtime::{CallError, ErrorKind, Fault, Level, Outlet},
    upstream::{Request, Response, SendError, Upstream},
};

/// For how long an answer is waited for.
pub const PROBE_TIME: Duration = Duration::from_secs(20);

/// What came of trying a credential.
#[derive(Debug)]
pub struct Tried {
    /// The version of the credential.
    pub version: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of trying a credential.
#[derive(Debug)]
pub enum Answer {
    /// The upstream has answered with so many models.
    Models(usize),
    /// The runtime has asked the upstream nothing.
    Unasked,
    /// The upstream or the runtime has refused.
    Failed(CallError),
    /// No answer came within [`PROBE_TIME`].
    Silence,
}

/// The way to the upstream, and whether it was gone.
struct Watched {
    upstream: Upstream,
    answered: AtomicBool,
}

impl Outlet for Watched {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async {
            let answer = self.upstream.send(request).await;
            self.answered.fetch_or(answer.is_ok(), Ordering::Relaxed);
            answer
        })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.upstream.scrub(text)
    }

    fn heard(&self, level: Level, line: &str) {
        self.upstream.heard(level, line);
    }
}

impl Sessions {
    /// Tries a runtime's stored credential with a request to its upstream.
    ///
    /// # Errors
    /// When there is no way to the upstream.
    pub async fn probe(&self, runtime: &RuntimeId) -> Result<Tried, LinkError> {
        let (core, runtime) = (Arc::clone(&self.core), runtime.clone());
        let tried = self.core.executor.spawn(async move {
            let link = core.link(&runtime, None, None).await?;
            // One and the same credential for all of the probe: it is what the result is about.
            let upstream = link.upstream.current()?;
            let version = upstream.credential().version;
            let watched = Arc::new(Watched { upstream, answered: AtomicBool::new(false) });
            let outlet: Arc<dyn Outlet> = Arc::<Watched>::clone(&watched);
            let mut instance = link.runtime.instance(outlet);
            let answer = match timeout(PROBE_TIME, instance.models()).await {
                Err(_) => Answer::Silence,
                Ok(Ok(models)) if watched.answered.load(Ordering::Relaxed) => Answer::Models(models.len()),
                Ok(Ok(_)) => Answer::Unasked,
                Ok(Err(CallError::Declared(error))) if error.kind == ErrorKind::Unsupported => Answer::Unasked,
                Ok(Err(error)) => Answer::Failed(error),
            };
            Ok(Tried { version, answer })
        });
        // A task that crashed, or that ends with the host, says nothing of the credential.
        let gone = || Tried { version: 0, answer: Answer::Failed(CallError::Fault(Fault::Wall)) };
        tried.await.unwrap_or_else(|_| Ok(gone()))
    }
}
