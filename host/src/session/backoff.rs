//! Waits between tries, longer each time.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Tries in a row after which there is no other.
const TRIES: u32 = 8;

/// The longest wait that an upstream may ask for.
const ASKED_MAX: Duration = Duration::from_mins(10);

pub(super) struct Backoff {
    tries: u32,
    until: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { tries: 0, until: Instant::now() }
    }

    /// Waits before the next try: half a second, doubled at each, and between half and all of that, so that sessions
    /// that failed together do not come back together. What the upstream asks for counts when it is longer.
    pub(super) fn wait(&mut self, asked: Option<Duration>) {
        let full = (FIRST * 2_u32.pow(self.tries.min(6))).min(LONGEST);
        let chance = u32::try_from(RandomState::new().hash_one(self.tries) % 500).unwrap_or(0);
        self.tries += 1;
        self.until = Instant::now() + (full * (500 + chance) / 1000).max(asked.unwrap_or_default().min(ASKED_MAX));
    }

    /// Waits a moment before the first try, and as long as ever before the others: most cuts are of a connection and
    /// not of a service.
    pub(super) fn wait_little(&mut self) {
        self.wait(None);
        if self.tries == 1 {
            self.until = Instant::now() + Duration::from_millis(50);
        }
    }

    /// All is well: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
        self.until = Instant::now();
    }

    pub(super) fn exhausted(&self) -> bool {
        self.tries >= TRIES
    }

    pub(super) fn due(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) const fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_is_longer_until_the_longest() {
        let mut backoff = Backoff::new();
        assert!(backoff.due() && !backoff.exhausted());
        for full_ms in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            backoff.wait(None);
            let wait = backoff.until() - Instant::now();
            let full = Duration::from_millis(full_ms);
            assert!(wait >= full / 2 && wait <= full && !backoff.due(), "{wait:?} of {full:?}");
        }
        assert!(backoff.exhausted());
        backoff.reset();
        assert!(backoff.due() && !backoff.exhausted());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_may_ask_for_more_but_not_for_ever() {
        let mut backoff = Backoff::new();
        backoff.wait(Some(Duration::from_secs(7)));
        assert_eq!(backoff.until() - Instant::now(), Duration::from_secs(7));
        backoff.wait(Some(Duration::from_hours(1000)));
        assert_eq!(backoff.until() - Instant::now(), ASKED_MAX);
    }
}
