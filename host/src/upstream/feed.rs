//! An answer that is read while it comes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::{
    client::cause,
    lines::{LineParser, TooLong},
    scrub::Scrubber,
    sse::{Frame, SseParser},
};

/// At most so many bytes are cut into frames in one go, so that a fast upstream cannot keep its reader from its other
/// work.
const READ_BYTES_MAX: usize = 256 * 1024;

/// The body of an answer, chunk by chunk. Dropping it closes the connection.
pub struct Feed {
    response: reqwest::Response,
    scrubber: Arc<Scrubber>,
    /// What has come so far.
    bytes: u64,
    /// How it ended. An end that `try_chunk` met is kept for `chunk` to tell.
    ended: Option<Result<(), FeedError>>,
}

/// Why a feed gives no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The connection broke before the answer was complete.
    #[error("the connection broke: {0}")]
    Cut(String),
    /// The upstream sent something that is too large to be taken.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// How the body is cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One value on each line.
    Lines,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed(..)")
    }
}

impl Feed {
    pub(super) fn new(response: reqwest::Response, scrubber: Arc<Scrubber>) -> Self {
        Self { response, scrubber, bytes: 0, ended: None }
    }

    /// The next bytes, as they came: the credential, if it is among them, is still there. `None` is the proper end.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection broke; again at every later call.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FeedError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        let ended = match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.bytes += chunk.len() as u64;
                return Ok(Some(chunk));
            }
            Ok(None) => Ok(()),
            Err(error) => Err(FeedError::Cut(self.scrubber.scrub(&cause(&error)).into_owned())),
        };
        self.ended = Some(ended.clone());
        ended.map(|()| None)
    }

    /// The next bytes, if they are here already. `None` also at the end, which `chunk` tells.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        self.chunk().now_or_never()?.ok().flatten()
    }

    /// What the answer's head says that makes it no feed; for clients. What comes is read all the same.
    #[must_use]
    pub fn oddity(&self, framing: Framing) -> Option<String> {
        let status = self.response.status().as_u16();
        if matches!(status, 202 | 204) {
            return Some(format!("the upstream answered with status {status} where its events were to come"));
        }
        let kind = self.response.headers().get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let is_events = kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"text/event-stream"));
        (framing == Framing::Sse && !is_events)
            .then(|| "the upstream answered with something else than a stream of events".to_owned())
    }

    /// Cuts the body into frames.
    #[must_use]
    pub fn frames(self, framing: Framing) -> Frames {
        let splitter = match framing {
            Framing::Sse => Splitter::Sse(SseParser::default()),
            Framing::Lines => Splitter::Lines(LineParser::default()),
        };
        Frames { feed: self, splitter }
    }
}

/// The body of an answer, frame by frame, without the credential.
#[derive(Debug)]
pub struct Frames {
    feed: Feed,
    splitter: Splitter,
}

#[derive(Debug)]
enum Splitter {
    Sse(SseParser),
    Lines(LineParser),
}

impl Frames {
    /// How many bytes have come so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.feed.bytes
    }

    /// Waits for bytes and appends the frames that they complete, with those of all bytes that are here already: one
    /// call gives what one call of the guest should get. There may be none, as after a comment.
    ///
    /// Gives `false` at the proper end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection broke or the upstream sent too large an event. Frames that came before are appended.
    pub async fn read(&mut self, frames: &mut Vec<Frame>) -> Result<bool, FeedError> {
        let first = frames.len();
        let goes_on = match self.feed.chunk().await? {
            Some(chunk) => self.split(chunk, frames).map(|()| true),
            None => {
                if let Splitter::Lines(lines) = &mut self.splitter {
                    lines.finish(frames);
                }
                Ok(false)
            }
        };
        for frame in &mut frames[first..] {
            self.feed.scrubber.scrub_in_place(&mut frame.name);
            self.feed.scrubber.scrub_in_place(&mut frame.data);
        }
        Ok(goes_on?)
    }

    fn split(&mut self, first: Bytes, frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let (mut bytes, mut next) = (0, Some(first));
        while let Some(chunk) = next {
            match &mut self.splitter {
                Splitter::Sse(parser) => parser.push(&chunk, frames)?,
                Splitter::Lines(parser) => parser.push(&chunk, frames)?,
            }
            bytes += chunk.len();
            next = if bytes < READ_BYTES_MAX { self.feed.try_chunk() } else { None };
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
impl Frames {
    /// The events of a body that a test makes up as it goes.
    pub(crate) fn of(body: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Self {
        let response = http::Response::new(reqwest::Body::wrap_stream(body)).into();
        let secret = crate::vault::Secret::new("sk-of-a-test-0123456789".to_owned());
        Feed::new(response, Arc::new(Scrubber::new(&secret).unwrap())).frames(Framing::Sse)
    }
}
