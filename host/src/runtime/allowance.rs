//! How much the guests of one component may write into the operator's log: a pure token bucket, no clock in it.

use super::quarantine::Moment;

/// Lines for each second, and at once after a silence.
const LINES_PER_SECOND: u32 = 100;
const LINES_AT_ONCE: u32 = 200;
/// Bytes for each second, and at once after a silence.
const BYTES_PER_SECOND: u32 = 64 * 1024;
const BYTES_AT_ONCE: u32 = 256 * 1024;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is written, and so is that so many were not since the last one.
    Write { dropped: u64 },
    /// There were too many.
    Drop,
}

#[derive(Debug)]
pub(super) struct Allowance {
    lines: f64,
    bytes: f64,
    at: Moment,
    dropped: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { lines: LINES_AT_ONCE.into(), bytes: BYTES_AT_ONCE.into(), at: Moment::ZERO, dropped: 0 }
    }
}

impl Allowance {
    pub(super) fn take(&mut self, now: Moment, bytes: usize) -> Line {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.lines = (self.lines + seconds * f64::from(LINES_PER_SECOND)).min(LINES_AT_ONCE.into());
        self.bytes = (self.bytes + seconds * f64::from(BYTES_PER_SECOND)).min(BYTES_AT_ONCE.into());
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.lines < 1.0 || self.bytes < bytes {
            self.dropped += 1;
            return Line::Drop;
        }
        self.lines -= 1.0;
        self.bytes -= bytes;
        Line::Write { dropped: std::mem::take(&mut self.dropped) }
    }

    /// Takes note of a line that was dropped for another reason.
    pub(super) const fn dropped(&mut self) {
        self.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_to_so_many_lines_a_second_and_counted() {
        let (mut log, mut written, mut missing) = (Allowance::default(), 0, 0);
        for n in 0..10_000 {
            if let Line::Write { dropped } = log.take(Duration::from_millis(n), 100) {
                (written, missing) = (written + 1, missing + dropped);
            }
        }
        assert!((1_195..=1_200).contains(&written), "{written} lines in ten seconds");
        let last = log.take(Duration::from_secs(12), 100);
        assert_eq!(last, Line::Write { dropped: 10_000 - written - missing }, "none is forgotten");
        assert_eq!(log.take(Duration::from_secs(12), 100), Line::Write { dropped: 0 });
    }

    #[test]
    fn long_lines_are_fewer() {
        let (mut log, mut bytes) = (Allowance::default(), 0);
        for n in 0..1_000 {
            if log.take(Duration::from_millis(10 * n), 8192) != Line::Drop {
                bytes += 8192;
            }
        }
        assert!(bytes <= 256 * 1024 + 10 * 64 * 1024, "{bytes} bytes in ten seconds");
        assert!(bytes >= 256 * 1024 + 9 * 64 * 1024, "{bytes} bytes in ten seconds");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut log = Allowance::default();
        while log.take(Duration::from_secs(5), 1) != Line::Drop {}
        assert_eq!(log.take(Duration::from_secs(4), 1), Line::Drop);
    }
}
