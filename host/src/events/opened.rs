//! Batches that were opened for one page and are not all taken: the next page of whoever reads there need not open them again.

use std::collections::VecDeque;

use super::record::Batch;
use crate::id::SessionId;

/// How much is kept, for all readers together. It is a page or two for each of a few readers, who come back soon or never.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const BATCHES_MAX: usize = 64;

/// The latest such batches, the latest last.
#[derive(Default)]
pub(super) struct Opened {
    batches: VecDeque<(SessionId, Batch)>,
    bytes: usize,
}

impl Opened {
    /// Takes the batch that holds an event of a session.
    pub(super) fn take(&mut self, session: SessionId, seq: u64) -> Option<Batch> {
        let holds = |(of, batch): &(SessionId, Batch)| *of == session && (batch.first()..=batch.last()).contains(&seq);
        let at = self.batches.iter().position(holds)?;
        let (_, batch) = self.batches.remove(at)?;
        self.bytes -= batch.text_bytes();
        Some(batch)
    }

    pub(super) fn put(&mut self, session: SessionId, batch: Batch) {
        // Another reader may have opened the same.
        drop(self.take(session, batch.first()));
        self.bytes += batch.text_bytes();
        self.batches.push_back((session, batch));
        while self.bytes > BYTES_MAX || self.batches.len() > BATCHES_MAX {
            let Some((_, oldest)) = self.batches.pop_front() else { return };
            self.bytes -= oldest.text_bytes();
        }
    }

    /// Forgets what is deleted.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.batches.retain(|(of, _)| *of != session);
        self.bytes = self.batches.iter().map(|(_, batch)| batch.text_bytes()).sum();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::{super::Draft, *};

    fn batch(first: u64, bytes: usize) -> Batch {
        let mut draft = Draft::default();
        (0..4).for_each(|_| draft.push("a", &"x".repeat(bytes / 4 - 1)));
        Batch::of(draft, first)
    }

    #[test]
    fn the_latest_are_found_by_any_of_their_events_and_take_no_more_than_they_may() {
        let (mut opened, session, other) = (Opened::default(), SessionId::fresh(), SessionId::fresh());
        opened.put(session, batch(1, 1000));
        assert!(opened.take(session, 5).is_none() && opened.take(other, 1).is_none());
        assert_eq!(opened.take(session, 4).unwrap().first(), 1);
        assert!(opened.take(session, 4).is_none() && opened.bytes == 0);
        for number in 0..100 {
            opened.put(session, batch(number * 4 + 1, 1000));
        }
        assert!(opened.batches.len() == BATCHES_MAX && opened.take(session, 1).is_none());
        opened.put(other, batch(1, BYTES_MAX / 2));
        opened.put(other, batch(5, BYTES_MAX / 2));
        assert!(opened.bytes <= BYTES_MAX && opened.batches.len() <= 2, "{}", opened.bytes);
        opened.put(other, batch(9, 2 * BYTES_MAX));
        assert!(opened.batches.is_empty() && opened.bytes == 0);
        opened.put(session, batch(1, 1000));
        opened.forget(session);
        assert!(opened.batches.is_empty() && opened.bytes == 0);
    }
}
