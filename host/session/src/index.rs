//! The index of a log: the fingerprints of its events, stored beside it in segments, so that what the log has is known without
//! reading it. What the segments do not cover yet is read from the log, and is about one segment long.

use crate::dedup::{Fingerprint, Secret};

/// How many fingerprints a segment has, at the least. Few in tests, so that a simulated day has many segments.
const SEGMENT: usize = if cfg!(test) { 12 } else { 4096 };

/// The most that one has: a log of before there was an index becomes several at once.
const SEGMENT_MAX: usize = 2 * SEGMENT;

/// How many events of the log may be behind the last segment, whatever the upstream has shown of them: a log of the host's own
/// events has no fingerprints, and is not read from its beginning for that.
const UNCOVERED_MAX: u64 = 4 * SEGMENT as u64;

/// Part of the index. It is stored in the commit of the last event that it covers, or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its place among the segments of the session, from 0.
    pub number: u64,
    /// This one and those before it cover the log up to this event.
    pub last: u64,
    /// What the fingerprints are made with: the same in all segments of a session.
    pub secret: Secret,
    /// Those of events that the upstream has shown; not each event has one.
    pub fingerprints: Vec<Fingerprint>,
}

/// Bytes that are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored segment cannot be read")]
pub struct Malformed;

const FORMAT: u8 = 1;

impl Segment {
    /// As it is stored, little-endian: format (1 byte, now 1), last event (8), secret (16), and 8 for each fingerprint.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25 + 8 * self.fingerprints.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.last.to_le_bytes());
        bytes.extend_from_slice(&self.secret);
        self.fingerprints.iter().for_each(|fingerprint| bytes.extend_from_slice(&fingerprint.to_le_bytes()));
        bytes
    }

    /// Reads the segment of this number.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(number: u64, bytes: &[u8]) -> Result<Self, Malformed> {
        let (&[FORMAT], rest) = bytes.split_first_chunk().ok_or(Malformed)? else { return Err(Malformed) };
        let (last, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (fingerprints, []) = rest.as_chunks() else { return Err(Malformed) };
        let fingerprints = fingerprints.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        Ok(Self { number, last: u64::from_le_bytes(*last), secret: *secret, fingerprints })
    }
}

/// What of the index is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// How many segments are stored, and up to which event they cover the log.
    segments: u64,
    stored: u64,
    /// The fingerprints behind that, up to this event.
    covered: u64,
    fingerprints: Vec<Fingerprint>,
    /// True while that is the log's last event.
    complete: bool,
    /// While the log is recalled: events that came into it meanwhile.
    meanwhile: Vec<(u64, Option<Fingerprint>)>,
}

impl Index {
    /// Of a log that has these events, none of which the upstream has shown; or of one of which nothing is known yet.
    pub(crate) fn new(events: Option<u64>) -> Self {
        Self { covered: events.unwrap_or_default(), complete: events.is_some(), ..Self::default() }
    }

    /// The index is about to be read, and what of the log it does not cover.
    pub(crate) fn recall(&mut self) {
        *self = Self::default();
    }

    /// A segment was read. They come in order.
    pub(crate) fn recall_segment(&mut self, segment: &Segment) {
        (self.segments, self.stored, self.covered) = (segment.number + 1, segment.last, segment.last);
    }

    /// The last event that stored segments cover.
    pub(crate) const fn stored(&self) -> u64 {
        self.stored
    }

    /// An event of the log was read.
    pub(crate) fn recalled(&mut self, seq: u64, fingerprint: Option<Fingerprint>) {
        if seq == self.covered + 1 {
            self.covered = seq;
            self.fingerprints.extend(fingerprint);
        }
    }

    /// All was read; the log's last event is this one. What is not complete is made so at the next recall.
    pub(crate) fn end_recall(&mut self, last: u64) {
        for (seq, fingerprint) in std::mem::take(&mut self.meanwhile) {
            self.recalled(seq, fingerprint);
        }
        self.complete = self.covered == last;
    }

    /// An event comes into the log.
    pub(crate) fn pushed(&mut self, seq: u64, fingerprint: Option<Fingerprint>) {
        if self.complete {
            self.recalled(seq, fingerprint);
        } else {
            self.meanwhile.push((seq, fingerprint));
        }
    }

    /// What is to be stored with the next commit, which has all events so far.
    pub(crate) fn take(&mut self, secret: Secret) -> Vec<Segment> {
        let is_short = self.fingerprints.len() < SEGMENT && self.covered - self.stored < UNCOVERED_MAX;
        if !self.complete || is_short {
            return Vec::new();
        }
        let mut fingerprints = std::mem::take(&mut self.fingerprints);
        let mut taken = Vec::with_capacity(fingerprints.len() / SEGMENT);
        loop {
            let rest = if fingerprints.len() > SEGMENT_MAX { fingerprints.split_off(SEGMENT) } else { Vec::new() };
            taken.push(Segment { number: self.segments, last: self.covered, secret, fingerprints });
            self.segments += 1;
            if rest.is_empty() {
                break;
            }
            fingerprints = rest;
        }
        self.stored = self.covered;
        taken
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_written_and_nothing_else_is_one() {
        let segment = Segment { number: 3, last: 700, secret: [5; 16], fingerprints: vec![1, u64::MAX, 7] };
        let bytes = segment.to_bytes();
        assert_eq!(Segment::read(3, &bytes), Ok(segment));
        for cut in (0..bytes.len()).filter(|cut| *cut < 25 || (cut - 25) % 8 != 0) {
            assert_eq!(Segment::read(3, &bytes[..cut]), Err(Malformed), "cut at {cut}");
        }
        assert_eq!(Segment::read(3, &[&[2], &bytes[1..]].concat()), Err(Malformed), "another format");
    }

    #[test]
    fn segments_cover_each_event_once_however_the_log_was_recalled() {
        // Some events have no fingerprint.
        let fingerprint = |seq: u64| (seq > 2 && !seq.is_multiple_of(5)).then_some(seq);
        let mut index = Index::new(Some(2));
        let mut seq = 2;
        let mut stored = Vec::new();
        for round in 0..40 {
            for _ in 0..7 {
                seq += 1;
                index.pushed(seq, fingerprint(seq));
            }
            stored.extend(index.take([1; 16]));
            if round % 3 == 0 {
                index.recall();
                stored.iter().for_each(|segment| index.recall_segment(segment));
                let from = index.stored();
                seq += 1;
                index.pushed(seq, fingerprint(seq));
                // It is read from further back than the segments end, and what came meanwhile may be in it.
                for event in from.saturating_sub(3)..seq + round % 2 {
                    index.recalled(event, fingerprint(event));
                }
                index.end_recall(seq);
                stored.extend(index.take([1; 16]));
            }
        }
        let all: Vec<u64> = stored.iter().flat_map(|segment| segment.fingerprints.clone()).collect();
        let last = stored.last().unwrap().last;
        assert_eq!(all, (1..=last).filter_map(fingerprint).collect::<Vec<_>>(), "in order, and each once");
        assert!(last > 250, "{last}");
        assert!(stored.iter().zip(0..).all(|(segment, number)| segment.number == number));
    }

    #[test]
    fn a_log_of_events_that_no_upstream_has_shown_is_covered_too() {
        let mut index = Index::new(Some(0));
        let mut stored = Vec::new();
        for seq in 1..=1000 {
            index.pushed(seq, (seq % 100 == 0).then_some(seq));
            stored.extend(index.take([1; 16]));
            assert!(seq - index.stored() < UNCOVERED_MAX, "{seq}");
        }
        assert_eq!(stored.len() as u64, 1000 / UNCOVERED_MAX);
        let all: Vec<u64> = stored.iter().flat_map(|segment| segment.fingerprints.clone()).collect();
        assert_eq!(all, (1..=9).map(|hundred| hundred * 100).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_without_an_index_becomes_segments_of_bounded_size_and_a_gap_becomes_none() {
        let mut index = Index::new(None);
        index.recall();
        (1..=1000).for_each(|seq| index.recalled(seq, Some(seq)));
        index.end_recall(1000);
        let taken = index.take([1; 16]);
        assert!(taken.iter().all(|segment| (SEGMENT..=SEGMENT_MAX).contains(&segment.fingerprints.len())));
        assert_eq!(taken.iter().map(|segment| segment.fingerprints.len()).sum::<usize>(), 1000);

        let mut gap = Index::new(None);
        (1..=1000).filter(|seq| *seq != 500).for_each(|seq| gap.recalled(seq, Some(seq)));
        gap.end_recall(1000);
        assert!(gap.take([1; 16]).is_empty());
    }
}
