//! The upstream's side of a pump: the guest, and the feed that it follows. Nothing here touches the session or its log,
//! so all of it may be dropped half-way; a guest that was in the middle of a call is gone then, and the next call gets a
//! new one.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use super::{
    Core, Link, LinkError, event,
    feed::{Feed, Item},
    seen::Seen,
    stored::Session,
};
use crate::{
    id::{ComponentDigest, RuntimeId, SessionId},
    runtime::{CallError, ErrorKind, Fault, Frame, Instance, Listen},
    upstream::{Framing, StreamError},
};

/// News that one catch-up takes, in events and in bytes. A gap larger than this ends the turn in an error, with a word
/// about it.
const NEWS_MAX: usize = 100_000;
const NEWS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Pages that one catch-up reads. An upstream that has another one behind these has lost its place.
const PAGES_MAX: usize = 10_000;

/// Why a step with the upstream did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{message}")]
    Feed { kind: ErrorKind, message: String, retry_after: Option<Duration> },
}

/// Where a session lives, and what its guest knows of it.
pub(super) struct Place {
    session: SessionId,
    runtime: RuntimeId,
    component: Option<ComponentDigest>,
    base: String,
    /// The guest's state.
    pub(super) guest: String,
}

impl Place {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            session: session.id,
            runtime: session.runtime.clone(),
            component: session.component,
            base: session.base.clone(),
            guest: session.guest.clone(),
        }
    }
}

pub(super) struct Line {
    open: Option<(Link, Instance)>,
    feed: Feed,
}

impl Line {
    /// `opened` is what the caller has at hand of a session that it has just made.
    pub(super) const fn new(opened: Option<(Link, Instance)>) -> Self {
        Self { open: opened, feed: Feed::Closed }
    }

    /// The guest, and the way to its upstream.
    pub(super) async fn guest(&mut self, core: &Core, place: &Place) -> Result<&mut (Link, Instance), LinkError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let link = core.link(&place.runtime, place.component, Some(&place.base)).await?;
                let instance = link.instance_of(place.session, core);
                (link, instance)
            }
        };
        let open = self.open.insert(open);
        // The credential may have gone since the guest was made.
        open.0.upstream.current()?;
        Ok(open)
    }

    /// The guest of a feed that has just spoken.
    pub(super) fn instance(&mut self) -> Option<&mut Instance> {
        self.open.as_mut().map(|(_, instance)| instance)
    }

    pub(super) fn close_feed(&mut self) {
        self.feed = Feed::Closed;
    }

    /// Waits for what the feed says; may be dropped at any time without losing anything.
    pub(super) async fn next(&mut self) -> Item {
        self.feed.next().await
    }

    /// Opens the feed; with `seen`, reads then what the upstream remembers and the log does not have, oldest first.
    pub(super) async fn connect(
        &mut self,
        core: &Core,
        place: &Place,
        seen: Option<&Seen>,
    ) -> Result<Vec<Frame>, StepError> {
        let (link, instance) = self.guest(core, place).await?;
        let (outlet, upstream) = (Arc::clone(&link.upstream), link.upstream.current()?);
        let feed = match instance.listen(&place.guest).await? {
            Listen::Nothing => Feed::Quiet,
            Listen::Poll(request, every) => Feed::poll(outlet, request, every),
            Listen::Sse(request) => Feed::stream(upstream.stream(request).await?.frames(Framing::Sse)),
            Listen::Lines(request) => Feed::stream(upstream.stream(request).await?.frames(Framing::Lines)),
        };
        let news = match seen {
            Some(seen) => news(instance, place, seen).await?,
            None => Vec::new(),
        };
        self.feed = feed;
        Ok(news)
    }

    /// Reads what the upstream remembers and the log does not have, oldest first, while the feed goes on.
    pub(super) async fn look_back(&mut self, core: &Core, place: &Place, seen: &Seen) -> Result<Vec<Frame>, StepError> {
        let (_, instance) = self.guest(core, place).await?;
        news(instance, place, seen).await
    }
}

/// How many more news a look may bring.
struct Room {
    events: usize,
    bytes: usize,
}

impl Room {
    const WHOLE: Self = Self { events: NEWS_MAX, bytes: NEWS_BYTES_MAX };

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.events = self.events.checked_sub(1)?;
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

async fn news(instance: &mut Instance, place: &Place, seen: &Seen) -> Result<Vec<Frame>, StepError> {
    let (mut news, mut cursor, mut newest_first) = (Vec::new(), None::<String>, false);
    let (hasher, mut cursors, mut room) = (RandomState::new(), HashSet::new(), Room::WHOLE);
    loop {
        let history = instance.catch_up(&place.guest, cursor.as_deref()).await?;
        newest_first |= history.newest_first;
        let (listed, known) = (history.frames.len(), news.len());
        let unknown = |frame: &Frame| event::check(&frame.data).map_or(true, |head| !seen.contains(&head, &frame.data));
        news.extend(history.frames.into_iter().filter(unknown));
        if news[known..].iter().any(|frame| room.take(frame.data.len()).is_none()) {
            let message = format!(
                "the upstream reports more than {NEWS_MAX} events, or {} MiB of them, that the host has not seen",
                NEWS_BYTES_MAX / (1024 * 1024)
            );
            return Err(StepError::Feed { kind: ErrorKind::Internal, message, retry_after: None });
        }
        cursor = history.next;
        // Behind a page without news lies only what is older still.
        let old = newest_first && listed > 0 && news.len() == known;
        let Some(next) = cursor.as_ref().filter(|_| !old) else { break };
        if !cursors.insert(hasher.hash_one(next)) || cursors.len() > PAGES_MAX {
            let message = "the upstream's history has no end: its pages lead back to each other".to_owned();
            return Err(StepError::Feed { kind: ErrorKind::Upstream, message, retry_after: None });
        }
    }
    if newest_first {
        news.reverse();
    }
    Ok(news)
}

impl From<StreamError> for StepError {
    fn from(error: StreamError) -> Self {
        let (kind, retry_after) = match &error {
            StreamError::Status(answer) => match answer.status {
                401 | 403 => (ErrorKind::Auth, None),
                404 | 410 => (ErrorKind::Gone, None),
                429 => (ErrorKind::Throttled, answer.retry_after()),
                503 | 529 => (ErrorKind::Overloaded, answer.retry_after()),
                // The server's lost patience, and no fault of the request.
                408 => (ErrorKind::Upstream, None),
                400..=499 => (ErrorKind::BadRequest, None),
                _ => (ErrorKind::Upstream, None),
            },
            StreamError::Send(_) => (ErrorKind::Upstream, None),
        };
        Self::Feed { kind, message: error.to_string(), retry_after }
    }
}

impl StepError {
    /// What to tell clients, and for how long the upstream asks to wait.
    pub(super) fn verdict(&self) -> (ErrorKind, Option<Duration>) {
        match self {
            // Neither the runtime nor its upstream was asked for anything yet.
            Self::Call(CallError::Fault(Fault::Quarantined { retry_after })) => {
                (ErrorKind::Overloaded, Some(*retry_after))
            }
            Self::Link(_) | Self::Call(CallError::Fault(_)) => (ErrorKind::Internal, None),
            Self::Call(CallError::Declared(error)) => {
                (error.kind, error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())))
            }
            Self::Feed { kind, retry_after, .. } => (*kind, *retry_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_room_for_so_many_events_and_so_many_bytes() {
        let taken = |bytes: usize| {
            let mut room = Room::WHOLE;
            (0..=NEWS_MAX).take_while(|_| room.take(bytes).is_some()).count()
        };
        assert_eq!(taken(0), NEWS_MAX);
        assert_eq!(taken(1024 * 1024), 256);
        assert_eq!(taken(NEWS_BYTES_MAX + 1), 0);
    }
}
