//! The bytes of events at rest. What arrived together is one batch: packed, sealed and stored as one.
//!
//! A packed batch, little-endian: format (1 byte, now 1), count (4), then for each event the length of its type (1)
//! and of its JSON (4), then the text: type and JSON of each event in turn.

use std::sync::Arc;

pub use lap_model::draft::Draft;
use lap_seal::{Digest, Link};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 5;
const ENTRY_BYTES: usize = 5;

/// Bytes that are no packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored batch cannot be read")]
pub(crate) struct Malformed;

/// One event of a session's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its place in the session, from 1, without gaps.
    pub seq: u64,
    /// Its `type`, as in its JSON.
    pub kind: &'a str,
    /// A JSON object on one line.
    pub json: &'a str,
}

/// Neighbouring events of one session. Never changes, so readers share it.
#[derive(Clone)]
pub struct Batch {
    first: u64,
    packed: Arc<Packed>,
    chain: Chain,
}

/// The lengths of each event's type and JSON, and the text of all.
struct Packed {
    lengths: Vec<(u8, u32)>,
    text: String,
}

/// What a batch says of the log before it, and the next one of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Nothing where batches did not say anything yet.
    pub(super) link: Option<Link>,
    pub(super) digest: Digest,
}

/// Where a batch ends, and the next one begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) seq: u64,
    pub(super) chain: Chain,
}

impl End {
    /// Where a log begins.
    pub(super) const START: Self = Self { seq: 0, chain: Chain { link: None, digest: Digest::START } };
}

impl Batch {
    /// The events of a draft, of which there is one at least, at their place in a log.
    pub(crate) fn of(draft: Draft, first: u64) -> Self {
        let (mut lengths, mut text) = draft.into_parts();
        lengths.shrink_to_fit();
        // It may be in memory for long. What is nearly full is not copied for that.
        if text.capacity() > text.len() + text.len() / 4 {
            text.shrink_to_fit();
        }
        Self { first, packed: Arc::new(Packed { lengths, text }), chain: End::START.chain }
    }

    /// The same, once it is known what it follows.
    pub(super) fn chained(self, chain: Chain) -> Self {
        Self { chain, ..self }
    }

    pub(super) fn end(&self) -> End {
        End { seq: self.last(), chain: self.chain }
    }

    /// True where this one follows the batch that ends there. Behind one that says what is before it each does, and no epoch
    /// or record is older than the one before.
    pub(super) fn follows(&self, end: &End) -> bool {
        let End { seq, chain: Chain { link: earlier, digest } } = end;
        let is_next = match (self.chain.link, earlier) {
            (None, earlier) => earlier.is_none(),
            (Some(link), None) => link.before == *digest,
            (Some(link), Some(earlier)) => {
                link.before == *digest && link.epoch >= earlier.epoch && link.record >= earlier.record
            }
        };
        is_next && self.first == seq + 1
    }

    /// The seq of the first event.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The seq of the last event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.packed.lengths.len() as u64 - 1
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.packed.lengths.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.packed.text.len()
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let mut rest = &*self.packed.text;
        self.packed.lengths.iter().zip(self.first..).filter_map(move |(&(kind_len, json_len), seq)| {
            let (kind, after) = rest.split_at_checked(usize::from(kind_len))?;
            let (json, after) = after.split_at_checked(json_len as usize)?;
            rest = after;
            Some(Event { seq, kind, json })
        })
    }

    pub(super) fn packed_bytes(&self) -> usize {
        HEAD_BYTES + self.packed.lengths.len() * ENTRY_BYTES + self.packed.text.len()
    }

    /// Appends the packed batch.
    pub(super) fn pack_onto(&self, packed: &mut Vec<u8>) {
        packed.push(FORMAT);
        packed.extend_from_slice(&self.count().to_le_bytes());
        for (kind_len, json_len) in &self.packed.lengths {
            packed.push(*kind_len);
            packed.extend_from_slice(&json_len.to_le_bytes());
        }
        packed.extend_from_slice(self.packed.text.as_bytes());
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        self.pack_onto(&mut packed);
        packed
    }

    pub(crate) fn unpack(first: u64, packed: &[u8]) -> Result<Self, Malformed> {
        let (&[FORMAT, c0, c1, c2, c3], rest) = packed.split_first_chunk::<HEAD_BYTES>().ok_or(Malformed)? else {
            return Err(Malformed);
        };
        let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let entries_bytes = count.checked_mul(ENTRY_BYTES).ok_or(Malformed)?;
        let (entries, text) = rest.split_at_checked(entries_bytes).ok_or(Malformed)?;
        let lengths: Vec<(u8, u32)> = entries
            .as_chunks::<ENTRY_BYTES>()
            .0
            .iter()
            .map(|&[kind_len, j0, j1, j2, j3]| (kind_len, u32::from_le_bytes([j0, j1, j2, j3])))
            .collect();
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?.to_owned();
        let spoken_for: usize = lengths.iter().map(|&(kind, json)| usize::from(kind) + json as usize).sum();
        let is_whole = count > 0 && spoken_for == text.len();
        let batch = Self { first, packed: Arc::new(Packed { lengths, text }), chain: End::START.chain };
        // An event cut inside a character would be left out by `events`, and every later seq would be wrong.
        if is_whole && batch.events().count() == count { Ok(batch) } else { Err(Malformed) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut draft = Draft::default();
        draft.push("agent.message", r#"{"type":"agent.message","text":"grüß dich"}"#);
        draft.push("session.status_idle", r#"{"type":"session.status_idle"}"#);
        Batch::of(draft, 41)
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_events() {
        let batch = batch();
        let again = Batch::unpack(41, &batch.pack()).unwrap();
        assert_eq!(again.events().collect::<Vec<_>>(), batch.events().collect::<Vec<_>>());
        assert_eq!((again.first(), again.last()), (41, 42));
        let last = again.events().last().unwrap();
        assert_eq!((last.seq, last.kind), (42, "session.status_idle"));
    }

    #[test]
    fn every_cut_and_every_flipped_length_is_refused_or_whole() {
        let packed = batch().pack();
        for cut in 0..packed.len() {
            assert!(Batch::unpack(1, &packed[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..HEAD_BYTES + 2 * ENTRY_BYTES {
            let mut bent = packed.clone();
            bent[at] ^= 1;
            if let Ok(batch) = Batch::unpack(1, &bent) {
                assert_eq!(batch.events().count(), 2, "byte {at}");
            }
        }
    }
}
