//! For how long sessions are kept. Whole sessions go, upstream too, and never one that has something to do.

use std::time::Duration;

use tokio::{task::spawn_blocking, time::sleep};

use super::{ReadError, Sessions, stored::Session};
use crate::{clock, events::Span, id::SessionId};

/// How long after one look at all sessions the next one comes.
const EVERY: Duration = Duration::from_mins(10);

/// Sessions that are read at once.
const PAGE: usize = 256;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    id: SessionId,
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
    /// Removes what is not to be kept, now and again and again.
    pub async fn retain(self, retention: Retention) {
        loop {
            match self.sweep(retention, clock::unix_ms()).await {
                Ok((0, 0)) => {}
                Ok((removed, kept)) => tracing::info!(removed, kept, "sessions that were not to be kept any longer"),
                Err(error) => tracing::error!(%error, "sessions cannot be looked through for what is to be kept"),
            }
            sleep(EVERY).await;
        }
    }

    /// How many sessions were removed, and how many stay because they could not be ended upstream or came to life again.
    async fn sweep(&self, retention: Retention, now_ms: u64) -> Result<(usize, usize), ReadError> {
        let sessions = self.clone();
        let all = spawn_blocking(move || sessions.summaries()).await;
        let (mut removed, mut kept) = (0, 0);
        // A look that crashed has found nothing.
        for session in retention.outdated(all.unwrap_or_else(|_| Ok(Vec::new()))?, now_ms) {
            match self.delete_as_of(session.id, Some(session.version)).await {
                Ok(true) => removed += 1,
                Ok(false) => kept += 1,
                Err(error) => {
                    tracing::warn!(session = %session.id, %error, "a session that is not to be kept cannot be removed");
                    kept += 1;
                }
            }
        }
        Ok((removed, kept))
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
        let Session { id, version, updated_ms, bytes, .. } = *session;
        Self { id, version, updated_ms, bytes, settled: session.settled() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8, updated_ms: u64, bytes: u64, settled: bool) -> Summary {
        Summary { id: SessionId::from_bytes([number; 16]), version: 1, updated_ms, bytes, settled }
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
