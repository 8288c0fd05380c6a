//! What a session reads from its upstream, as frames, whatever form the upstream chose.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use lap_model::contract::Ending;
use lap_session::Failure;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    failure::{poll_refused, refusal},
    outlet::CurrentUpstream,
};
use crate::{
    runtime::{Frames, Outlet},
    upstream::{self, Request, Response, SendError},
};

/// After so long without a byte a feed counts as dead: the other side may be gone without a word.
const SILENCE: Duration = Duration::from_secs(90);

/// Bytes and chunks without a frame among them that are read before whoever follows is told: comments, or the pieces of
/// one large frame.
const EMPTY_BYTES: usize = 256 * 1024;
const EMPTY_CHUNKS: u32 = 1024;

/// What to follow.
pub(super) enum Feed {
    /// Nothing.
    Closed,
    /// Connected, as far as the runtime has anything to follow.
    Quiet,
    /// A response that goes on.
    Stream { frames: Box<upstream::Frames>, deadline: Instant, empty: Empty },
    /// The same request, again and again.
    Poll {
        upstream: Arc<CurrentUpstream>,
        request: Request,
        every: Duration,
        next: Instant,
        /// The request under way, which goes on while something else is done.
        asking: Option<BoxFuture<'static, Result<Response, SendError>>>,
    },
}

/// What was read of a stream since its last frame and was not told.
#[derive(Default)]
pub(super) struct Empty {
    bytes: usize,
    chunks: u32,
}

/// What came of waiting for a feed.
pub(super) enum Item {
    /// In batches, each for one call; none when much was read that is no frame.
    Frames(Vec<Frames>),
    /// It is over.
    Ended(Ending),
    /// The upstream does not go on with it.
    Refused(Failure),
}

impl Feed {
    pub(super) fn stream(frames: upstream::Frames) -> Self {
        Self::Stream { frames: Box::new(frames), deadline: Instant::now() + SILENCE, empty: Empty::default() }
    }

    pub(super) fn poll(upstream: Arc<CurrentUpstream>, request: Request, every: Duration) -> Self {
        Self::Poll { upstream, request, every, next: Instant::now(), asking: None }
    }

    /// Waits for frames; may be dropped at any time without losing one.
    pub(super) async fn next(&mut self) -> Item {
        match self {
            Self::Closed | Self::Quiet => pending().await,
            Self::Stream { frames, deadline, empty } => loop {
                let (mut read, before) = (Vec::new(), frames.bytes());
                let outcome = timeout_at(*deadline, frames.read(&mut read)).await;
                *deadline = Instant::now() + SILENCE;
                if !read.is_empty() {
                    *empty = Empty::default();
                    // Also when a cut came right behind: what is here is whole, and the next call meets the cut.
                    let frames = read.iter().map(|frame| (frame.name.as_str(), frame.data.as_str()));
                    return Item::Frames(Frames::pack(frames));
                }
                match outcome {
                    Err(_) => return Item::Ended(Ending::Silent),
                    Ok(Ok(false)) => return Item::Ended(Ending::Clean),
                    Ok(Err(_)) => return Item::Ended(Ending::Cut),
                    Ok(Ok(true)) => {}
                }
                empty.bytes += usize::try_from(frames.bytes() - before).unwrap_or(usize::MAX);
                empty.chunks += 1;
                if empty.bytes >= EMPTY_BYTES || empty.chunks >= EMPTY_CHUNKS {
                    *empty = Empty::default();
                    return Item::Frames(Vec::new());
                }
            },
            Self::Poll { upstream, request, every, next, asking } => {
                if asking.is_none() {
                    sleep_until(*next).await;
                }
                let asked = asking.get_or_insert_with(|| {
                    let (upstream, request) = (Arc::clone(upstream), request.clone());
                    Box::pin(async move { upstream.send(request).await })
                });
                let answer = asked.await;
                *asking = None;
                *next = Instant::now() + *every;
                match answer {
                    // There is nothing new.
                    Ok(answer) if matches!(answer.status, 204 | 304) => Item::Frames(Vec::new()),
                    Ok(answer) if answer.status == 200 => {
                        Item::Frames(Frames::pack([("", answer.body.as_str())].into_iter()))
                    }
                    Ok(answer) => Item::Refused(refusal(&answer)),
                    Err(error) => poll_refused(&error).map_or(Item::Ended(Ending::Cut), Item::Refused),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_feed_without_a_sign_of_life_is_over_after_a_while() {
        const PAUSE: Duration = Duration::from_secs(SILENCE.as_secs() - 1);
        let heartbeats = stream::iter(0..3).then(async |_| {
            sleep(PAUSE).await;
            Ok(Bytes::from_static(b": heartbeat\n\n"))
        });
        let mut feed = Feed::stream(upstream::Frames::of(heartbeats.chain(stream::pending())));
        let began = Instant::now();
        assert!(matches!(feed.next().await, Item::Ended(Ending::Silent)));
        assert_eq!(began.elapsed(), 3 * PAUSE + SILENCE);
    }

    #[tokio::test]
    async fn comments_without_end_are_told_of_in_large_pieces_and_small_frames_are_not_held_up() {
        let comment = Bytes::from(format!(":{}\n\n", "x".repeat(1022)));
        let comments = stream::iter(std::iter::repeat_n(comment, 600)).map(Ok);
        let mut feed = Feed::stream(upstream::Frames::of(comments.chain(stream::pending())));
        for _ in 0..2 {
            assert!(matches!(feed.next().await, Item::Frames(frames) if frames.is_empty()));
        }
        let drops = b"data: {}\n\n".iter().map(|byte| Ok(Bytes::copy_from_slice(&[*byte])));
        let mut feed = Feed::stream(upstream::Frames::of(stream::iter(drops.collect::<Vec<_>>())));
        assert!(matches!(feed.next().await, Item::Frames(frames) if frames.len() == 1));
    }
}
