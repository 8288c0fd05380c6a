//! A client's request that goes on to the upstream as it is: a file up or down, of any length, in pieces.
//!
//! The same rules of path, headers and credential hold as for a guest's request, and the answer is freed of the credential
//! in the same way. Neither body is ever here as a whole: each is read as fast as the other side takes it.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    client::{DEADLINE, SendError, StreamError, Upstream},
    feed::{Feed, FeedError},
    request::Request,
    response::{Response, shown},
    scrub::Scrubbing,
};

/// For how long an answer may say nothing; streams are silent for as long between two heartbeats, and no longer.
const SILENCE: Duration = Duration::from_secs(90);

/// The body of a request, in pieces. An error among them breaks the request off, so that the upstream does not take what
/// it has for all.
pub struct Outgoing<S> {
    /// All of it, in bytes, where that is known before.
    pub length: Option<u64>,
    /// The pieces.
    pub pieces: S,
}

/// Why there is no answer to be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// There is no answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer is no success. Of its body, 64 KiB are kept.
    #[error("the upstream answered with status {}", .0.status)]
    Status(Response),
    /// The answer is compressed, which nobody has asked for and nobody can search for a credential.
    #[error("the upstream answered in an encoding that was not asked for")]
    Encoded,
}

impl From<StreamError> for ForwardError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Send(error) => Self::Send(error),
            StreamError::Status(answer) => Self::Status(answer),
        }
    }
}

/// An upstream's success, whose body is read while it comes. Dropping it closes the connection.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case. No cookies, no hop-by-hop headers.
    pub headers: Vec<(String, String)>,
    feed: Feed,
    scrubbing: Scrubbing,
}

impl Answer {
    /// The next bytes, without the credential and in their length as they came. `None` is the proper end.
    ///
    /// # Errors
    /// When the connection broke, or nothing came for 90 seconds.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FeedError> {
        loop {
            let come = timeout(SILENCE, self.feed.chunk()).await;
            let come =
                come.map_err(|_| FeedError::Cut(format!("nothing came for {} seconds", SILENCE.as_secs())))??;
            let ended = come.is_none();
            let clean = match come {
                Some(chunk) => self.scrubbing.push(chunk),
                None => self.scrubbing.finish(),
            };
            if !clean.is_empty() {
                return Ok(Some(clean));
            }
            if ended {
                return Ok(None);
            }
        }
    }
}

impl Upstream {
    /// Hands a request on. Its answer must begin within 60 seconds after the last piece of the body was taken, and no
    /// piece may wait for longer than that.
    ///
    /// # Errors
    /// When there is no answer, or none to be passed on.
    pub async fn forward<S, E>(&self, request: Request, body: Option<Outgoing<S>>) -> Result<Answer, ForwardError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut request = self.prepare(request, &[])?;
        let progress = Progress::default();
        if let Some(Outgoing { length, pieces }) = body {
            let noted = progress.clone();
            let pieces = pieces.inspect(move |_| noted.note());
            *request.body_mut() = Some(reqwest::Body::wrap_stream(pieces));
            if let Some(length) = length {
                request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
        }
        let response = progress.bound(self.opened(request)).await.ok_or_else(|| self.late())??;
        if response.headers().get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
            return Err(ForwardError::Encoded);
        }
        let scrubber = self.scrubber();
        Ok(Answer {
            status: response.status().as_u16(),
            headers: shown(response.headers(), &scrubber),
            feed: Feed::new(response, Arc::clone(&scrubber)),
            scrubbing: Scrubbing::new(scrubber),
        })
    }
}

/// When a body moved on last.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.last() = Instant::now();
    }

    /// Waits for an answer for as long as the body moves on; nothing when it has stopped for too long.
    async fn bound<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        loop {
            let until = *self.last() + DEADLINE;
            match timeout_at(until, &mut answer).await {
                Ok(answer) => return Some(answer),
                Err(_) if *self.last() + DEADLINE > until => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_takes_nothing_more_is_given_up() {
        let started = Instant::now();
        assert_eq!(Progress::default().bound(pending::<()>()).await, None);
        assert_eq!(started.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_a_little_in_time_is_waited_for() {
        let (started, progress) = (Instant::now(), Progress::default());
        let taking = async {
            for _ in 0..10 {
                sleep(DEADLINE / 2).await;
                progress.note();
            }
            sleep(DEADLINE / 2).await;
        };
        assert_eq!(progress.bound(taking).await, Some(()));
        assert_eq!(started.elapsed(), DEADLINE * 11 / 2);
        let stops = async {
            sleep(DEADLINE / 2).await;
            progress.note();
            pending::<()>().await;
        };
        let started = Instant::now();
        progress.note();
        assert_eq!(progress.bound(stops).await, None);
        assert_eq!(started.elapsed(), DEADLINE * 3 / 2);
    }
}
