//! What a session reads from its upstream, as frames, whatever form the upstream chose.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

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
    upstream::{self, Frame, Request, Response, SendError},
};

/// After so long without a byte a feed counts as dead: the other side may be gone without a word.
const SILENCE: Duration = Duration::from_secs(90);

/// Bytes and chunks without a frame among them that are read before whoever follows is told: comments, or the pieces of
/// one large frame.
const EMPTY_BYTES: usize = 256 * 1024;
const EMPTY_CHUNKS: u32 = 1024;

/// How much is read of a stream while its session does something else. What comes during a slow commit is mapped and
/// committed together behind it, so that a session falls behind its upstream by about one commit however slow that is.
const GATHERED_BYTES: usize = 64 * 1024;

/// What to follow.
pub(super) enum Feed {
    /// Nothing.
    Closed,
    /// Connected, as far as the runtime has anything to follow.
    Quiet,
    /// A response that goes on.
    Stream { frames: Box<upstream::Frames>, deadline: Instant, gathered: Gathered },
    /// The same request, again and again.
    Poll {
        upstream: Arc<CurrentUpstream>,
        request: Request,
        every: Duration,
        next: Instant,
        /// The request under way, which waits while something else is read or nothing is to be read.
        asking: Option<BoxFuture<'static, Result<Response, SendError>>>,
    },
}

/// What was read of a stream and was not told.
#[derive(Default)]
pub(super) struct Gathered {
    frames: Vec<Frame>,
    bytes: usize,
    chunks: u32,
    ended: Option<Ending>,
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
        Self::Stream { frames: Box::new(frames), deadline: Instant::now() + SILENCE, gathered: Gathered::default() }
    }

    pub(super) fn poll(upstream: Arc<CurrentUpstream>, request: Request, every: Duration) -> Self {
        Self::Poll { upstream, request, every, next: Instant::now(), asking: None }
    }

    /// Waits for frames, if they are `wanted` now, and only gathers them otherwise; may be dropped at any time without losing
    /// one.
    pub(super) async fn read(&mut self, wanted: bool) -> Item {
        match wanted {
            true => self.next().await,
            false => match self.gather().await {},
        }
    }

    /// Waits for frames.
    async fn next(&mut self) -> Item {
        match self {
            Self::Closed | Self::Quiet => pending().await,
            Self::Stream { frames, deadline, gathered } => loop {
                if let Some(item) = gathered.take() {
                    return item;
                }
                gathered.read(frames, deadline).await;
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
    /// Reads what comes of a stream while nobody waits for it, for the next call of [`Self::next`]. Never over.
    async fn gather(&mut self) -> Infallible {
        if let Self::Stream { frames, deadline, gathered } = self {
            while gathered.ended.is_none() && gathered.bytes < GATHERED_BYTES {
                gathered.read(frames, deadline).await;
            }
        }
        pending().await
    }
}

impl Gathered {
    /// Waits for bytes, or the end.
    async fn read(&mut self, frames: &mut upstream::Frames, deadline: &mut Instant) {
        let before = frames.bytes();
        let outcome = timeout_at(*deadline, frames.read(&mut self.frames)).await;
        *deadline = Instant::now() + SILENCE;
        self.bytes += usize::try_from(frames.bytes() - before).unwrap_or(usize::MAX);
        self.chunks += 1;
        self.ended = match outcome {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some(Ending::Clean),
            Ok(Err(_)) => Some(Ending::Cut),
            Err(_) => Some(Ending::Silent),
        };
    }

    /// What there is to tell. Frames come before the end behind them, also where that is a cut: they are whole.
    fn take(&mut self) -> Option<Item> {
        let much = self.bytes >= EMPTY_BYTES || self.chunks >= EMPTY_CHUNKS;
        if self.frames.is_empty() && !much {
            return self.ended.map(Item::Ended);
        }
        (self.bytes, self.chunks) = (0, 0);
        let frames = std::mem::take(&mut self.frames);
        Some(Item::Frames(Frames::pack(frames.iter().map(|frame| (frame.name.as_str(), frame.data.as_str())))))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{FutureExt, StreamExt, stream};
    use tokio::{task::yield_now, time::sleep};

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
    async fn what_comes_while_nobody_waits_is_told_together_up_to_a_bound() {
        // As a connection gives it: never two pieces at once.
        let piece = Bytes::from(format!("data: {}\n\n", "x".repeat(1016)));
        let pieces = stream::iter(std::iter::repeat_n(piece, 100)).then(async |piece| {
            yield_now().await;
            Ok(piece)
        });
        let mut feed = Feed::stream(upstream::Frames::of(Box::pin(pieces)));
        for told in [64, 36] {
            for _ in 0..500 {
                assert!(feed.gather().now_or_never().is_none());
            }
            let item = feed.next().await;
            assert!(matches!(item, Item::Frames(batches) if batches.iter().map(Frames::len).sum::<usize>() == told));
        }
        assert!(matches!(feed.next().await, Item::Ended(Ending::Clean)));
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
