//! Ids as the service gives them out: a prefix and opaque letters.
//!
//! Within a simulator they ascend, so a map by id is also a map by time. Two simulators, or one started anew on the
//! same port, never give out the same id.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Base 32 without letters that look alike, in ASCII order.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of a serial: 50 bits.
const SERIAL_DIGITS: u32 = 10;
/// Digits that tell one run of a simulator from another.
const RUN_DIGITS: u32 = 7;

/// Where all ids of one simulator come from.
pub(crate) struct Ids {
    run: String,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        // Seven digits are 9.5 hours of microseconds; the count keeps two starts within one microsecond apart.
        let run = micros.wrapping_add(RUNS.fetch_add(1, Ordering::Relaxed));
        let mut digits = String::new();
        push_digits(&mut digits, run, RUN_DIGITS);
        Self { run: digits, next: AtomicU64::new(1) }
    }

    /// A new id, e.g. `mint("sesn")`.
    pub(crate) fn mint(&self, prefix: &str) -> String {
        let mut id = self.stem(prefix);
        push_serial(&mut id, self.block(1));
        id
    }

    /// What all ids of this prefix begin with; [`push_serial`] completes it.
    pub(crate) fn stem(&self, prefix: &str) -> String {
        format!("{prefix}_01{}", self.run)
    }

    /// Reserves `count` serials in a row and returns the first.
    pub(crate) fn block(&self, count: u64) -> u64 {
        self.next.fetch_add(count, Ordering::Relaxed)
    }
}

pub(crate) fn push_serial(id: &mut String, serial: u64) {
    push_digits(id, serial, SERIAL_DIGITS);
}

fn push_digits(text: &mut String, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        text.push(char::from(DIGITS[(number >> (5 * place) & 31) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_runs_differ() {
        let ids = Ids::new();
        let first = ids.mint("sevt");
        for _ in 0..40 {
            assert!(ids.mint("sevt") > first);
        }
        assert_eq!(first.len(), "sevt_01".len() + 17);
        assert_ne!(Ids::new().stem("sevt"), ids.stem("sevt"));
    }
}
