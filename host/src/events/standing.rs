//! Where a session's log stands, and how its rows hold together.
//!
//! A row opens in its own place alone. That it is there still, and that it is the latest of its place, others say:
//!
//! * A batch of events has the digest of the batch before it, the version of the session's record, and the epoch: how often the
//!   store had been opened when it was sealed.
//! * The session's record has an *anchor*: the log's last event and its digest, the version of the facts, how many messages
//!   and segments of the index there are, and whether the session has something to do.
//!
//! So a row that was removed, or put back as it was, contradicts another one. Each new writer looks at the record, the log's end
//! and the facts; readers at the batches that they read; a restore at everything. A writer that finds such a session damaged can
//! tell so in its log, and nothing else is done with it. Rows that were put back together with all that speak of them, such as
//! the file of an earlier day, are not found out.

use lap_seal::{Digest, Link};

use super::table::Record;

/// What the next append to a session goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) anchor: Anchor,
    /// The version of the session's record; 0 where there is none. In a damaged session the log's end may have named a later one.
    pub(super) record: u64,
    /// The epoch that the log's end names.
    pub(super) epoch: u64,
}

impl Standing {
    /// Of a session of which nothing is stored.
    pub(super) const NEW: Self = Self {
        anchor: Anchor {
            seq: 0,
            digest: Digest::START,
            facts: 0,
            messages: 0,
            segments: 0,
            settled: true,
            damaged: false,
        },
        record: 0,
        epoch: 0,
    };

    /// What the next batch of events says of what is before it. `record` is the version that is stored with it, if one is.
    pub(super) fn link(&self, epoch: u64, record: Option<u64>) -> Link {
        // Readers go on behind it, also where a record or an epoch was put back: neither grows less.
        let record = record.unwrap_or_default().max(self.record);
        Link { epoch: epoch.max(self.epoch), record, before: self.anchor.digest }
    }

    /// Takes what a commit writes of a session beside its events.
    pub(super) fn note(&mut self, records: &[Record], settled: bool) {
        if let Some(version) = records.iter().find_map(Record::version) {
            (self.record, self.anchor.settled) = (version.max(self.record), settled);
        }
        for record in records {
            match record {
                // They are never written without the record.
                Record::Facts(_) => self.anchor.facts = self.record,
                Record::Message { number, .. } => self.anchor.messages = self.anchor.messages.max(number + 1),
                Record::Segment { number, .. } => self.anchor.segments = self.anchor.segments.max(number + 1),
                Record::Session { .. } | Record::Orphan(_) | Record::OrphanAgain(_) => {}
            }
        }
    }
}

/// What a session's record says of the other rows of the session, as of the commit that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The log's last event.
    pub(super) seq: u64,
    /// The batch that ends with it.
    pub(super) digest: Digest,
    /// The version of the facts: that of the record which they were written with; 0 where there are none.
    pub(super) facts: u64,
    /// How many messages there are.
    pub(super) messages: u64,
    /// How many segments the index of the events has.
    pub(super) segments: u64,
    /// True when the session has nothing to do.
    pub(super) settled: bool,
    /// True once a row was found that was not what was written: that is not forgotten by what is written later.
    pub(super) damaged: bool,
}

/// No JSON begins so, which records were before they had an anchor.
const MARK: u8 = 2;
const ANCHOR_BYTES: usize = 1 + 8 + 16 + 8 + 8 + 8 + 1;

impl Anchor {
    /// The plaintext of a session's record: big endian, the mark (1 B), seq (8), digest (16), facts (8), messages (8),
    /// segments (8), a bit each for settled and damaged (1), and what the session module wants back.
    pub(super) fn before(&self, record: &[u8]) -> Vec<u8> {
        let mut row = Vec::with_capacity(ANCHOR_BYTES + record.len());
        row.push(MARK);
        row.extend_from_slice(&self.seq.to_be_bytes());
        row.extend_from_slice(&self.digest.to_bytes());
        row.extend_from_slice(&self.facts.to_be_bytes());
        row.extend_from_slice(&self.messages.to_be_bytes());
        row.extend_from_slice(&self.segments.to_be_bytes());
        row.push(u8::from(self.settled) | u8::from(self.damaged) << 1);
        row.extend_from_slice(record);
        row
    }

    /// Both parts of such a plaintext; without an anchor where it was written before there were any.
    pub(super) fn split(row: &[u8]) -> (Option<Self>, &[u8]) {
        let Some((&[MARK, ref anchor @ ..], record)) = row.split_first_chunk::<ANCHOR_BYTES>() else {
            return (None, row);
        };
        let number = |at: usize| anchor[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let digest = anchor[8..].first_chunk().copied().map_or(Digest::START, Digest::from_bytes);
        let (facts, messages, segments, bits) = (number(24), number(32), number(40), anchor[48]);
        let (settled, damaged) = (bits & 1 != 0, bits & 2 != 0);
        (Some(Self { seq: number(0), digest, facts, messages, segments, settled, damaged }), record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_comes_back_and_a_record_without_one_is_whole() {
        for (settled, damaged) in [(true, false), (false, true), (true, true), (false, false)] {
            let anchor = Anchor {
                seq: 1,
                digest: Digest::from_bytes([9; 16]),
                facts: 2,
                messages: 3,
                segments: 4,
                settled,
                damaged,
            };
            assert_eq!(Anchor::split(&anchor.before(b"{}")), (Some(anchor), &b"{}"[..]));
            assert_eq!(Anchor::split(&anchor.before(b"")), (Some(anchor), &b""[..]));
        }
        for record in [&b"{\"id\":1}"[..], b"{}", b"", &[b'{'; 100]] {
            assert_eq!(Anchor::split(record), (None, record));
        }
    }
}
