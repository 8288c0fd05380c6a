//! For how long sessions are kept. Whole sessions go, upstream too, and never one that has something to do.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{select, task::spawn_blocking, time::sleep};

use super::{ReadError, Sessions, stored::Session, workers::Workers};
use crate::{
    clock,
    events::Span,
    id::{RuntimeId, SessionId},
};

/// How long after one look at all sessions the next one comes.
const EVERY: Duration = Duration::from_mins(10);

/// Sessions that are read at once.
const PAGE: usize = 256;

/// Sessions of one runtime that are removed at once.
const AT_ONCE: usize = 8;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// A session goes when nothing has happened to it for so long. Nothing for ever.
    pub age: Option<Duration>,
    /// When all events together are larger, the sessions go to which nothing has happened for the longest. Nothing for
    /// any size.
    pub bytes: Option<u64>,
}

/// What must be known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Summary {
    id: SessionId,
    runtime: RuntimeId,
    version: u64,
    updated_ms: u64,
    bytes: u64,
    settled: bool,
}

impl Retention {
    /// True when some sessions go.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.age.is_some() || self.bytes.is_some()
    }

    /// The sessions that go, of all that there are; the oldest first.
    fn outdated(self, mut all: Vec<Summary>, now_ms: u64) -> Vec<Summary> {
        let age_ms = self.age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut bytes: u64 = all.iter().map(|session| session.bytes).sum();
        all.retain(|session| session.settled);
        all.sort_by_key(|session| session.updated_ms);
        let goes = |session: &Summary| {
            let goes = now_ms.saturating_sub(session.updated_ms) > age_ms || bytes > self.bytes.unwrap_or(u64::MAX);
            bytes -= if goes { session.bytes } else { 0 };
            goes
        };
        all.into_iter().filter(goes).collect()
    }
}

impl Sessions {
    /// Removes what is not to be kept, now and again and again. One runtime's sessions do not wait for those of another, whose
    /// upstream may hang.
    pub async fn retain(self, retention: Retention) {
        let mut workers = Workers::default();
        loop {
            match self.outdated(retention, clock::unix_ms()).await {
                Ok(outdated) => {
                    for (runtime, outdated) in outdated {
                        let sessions = self.clone();
                        workers.begin(runtime, async move { sessions.remove_outdated(outdated).await });
                    }
                }
                Err(error) => tracing::error!(%error, "sessions cannot be looked through for what is to be kept"),
            }
            let next = sleep(EVERY);
            tokio::pin!(next);
            loop {
                select! {
                    () = &mut next => break,
                    () = workers.over() => {}
                }
            }
        }
    }

    /// The sessions that go, by their runtime; the oldest first.
    async fn outdated(&self, retention: Retention, now_ms: u64) -> Result<HashMap<RuntimeId, Vec<Summary>>, ReadError> {
        let sessions = self.clone();
        let all = spawn_blocking(move || sessions.summaries()).await;
        let mut outdated = HashMap::<_, Vec<_>>::new();
        // A look that crashed has found nothing.
        for session in retention.outdated(all.unwrap_or_else(|_| Ok(Vec::new()))?, now_ms) {
            outdated.entry(session.runtime.clone()).or_default().push(session);
        }
        Ok(outdated)
    }

    /// Removes sessions of one runtime, several at once. Some stay, because they could not be ended upstream or came to life
    /// again.
    async fn remove_outdated(&self, outdated: Vec<Summary>) {
        let removals = stream::iter(outdated).map(|session| self.remove_one(session)).buffer_unordered(AT_ONCE);
        let (removed, kept) = removals
            .fold(
                (0, 0),
                async |(removed, kept), is_removed| {
                    if is_removed { (removed + 1, kept) } else { (removed, kept + 1) }
                },
            )
            .await;
        tracing::info!(removed, kept, "sessions that were not to be kept any longer");
    }

    async fn remove_one(&self, session: Summary) -> bool {
        self.delete_as_of(session.id, Some(session.version)).await.unwrap_or_else(|error| {
            tracing::warn!(session = %session.id, %error, "a session that is not to be kept cannot be removed");
            false
        })
    }

    fn summaries(&self) -> Result<Vec<Summary>, ReadError> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = self.list(Span::Before(before), PAGE)?;
            all.extend(page.found.iter().map(Summary::of));
            before = page.next;
            if before.is_none() {
                return Ok(all);
            }
        }
    }
}

impl Summary {
    fn of(session: &Session) -> Self {
        let Session { id, version, updated_ms, bytes, ref runtime, .. } = *session;
        Self { id, runtime: runtime.clone(), version, updated_ms, bytes, settled: session.settled() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn session(number: u8, updated_ms: u64, bytes: u64, settled: bool) -> Summary {
        let runtime = "test".parse().unwrap();
        Summary { id: SessionId::from_bytes([number; 16]), runtime, version: 1, updated_ms, bytes, settled }
    }

    fn gone(retention: Retention, all: &[Summary]) -> Vec<u8> {
        retention.outdated(all.to_vec(), 10_000).iter().map(|session| session.id.to_bytes()[0]).collect()
    }

    #[test]
    fn what_is_old_goes_unless_it_has_something_to_do() {
        let all = [
            session(1, 9_500, 1, true),
            session(2, 3_999, 1, true),
            session(3, 4_000, 1, true),
            session(4, 0, 1, false),
        ];
        let age = Retention { age: Some(Duration::from_secs(6)), bytes: None };
        assert_eq!(gone(age, &all), [2]);
        assert_eq!(gone(Retention::default(), &all), [0_u8; 0]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let all =
            [session(1, 30, 50, true), session(2, 10, 50, true), session(3, 20, 50, true), session(4, 0, 50, false)];
        let size = |bytes| Retention { age: None, bytes: Some(bytes) };
        assert_eq!(gone(size(200), &all), [0_u8; 0]);
        assert_eq!(gone(size(199), &all), [2]);
        assert_eq!(gone(size(120), &all), [2, 3]);
        assert_eq!(gone(size(0), &all), [2, 3, 1], "what works stays, whatever its size");
    }
}
