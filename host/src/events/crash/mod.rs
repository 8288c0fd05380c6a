//! The log on a disk that loses power and on a disk that fails, for those who change the log or take a new redb.
//!
//! What runs is the log itself: committer, journal, moving, recovery. Only the file beneath it is another one.
//!
//! * `disk.rs`: a disk in memory that remembers every call, and fails the one that it is told to
//! * `cut.rs`: what such a disk may hold after the power went, many times over for one run
//! * `workload.rs`: what is asked of the log, and the ledger of what was asked and acknowledged when
//! * `oracle.rs`: whether a log that was opened after a crash agrees with the ledger
//! * `tests.rs`: how many of what, and the controls that show that a loss is seen
#![cfg(test)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cut;
mod disk;
mod oracle;
mod tests;
mod workload;

/// A small generator of numbers (SplitMix64): the same seed gives the same run on every machine.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// True `part` times of `whole`.
    fn odds(&mut self, part: usize, whole: usize) -> bool {
        self.below(whole) < part
    }
}
