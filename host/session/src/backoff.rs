//! Waits between tries, longer each time. Pure: it is told what time it is.

use std::time::Duration;

use crate::Moment;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Most cuts are of a connection and not of a service, so the first wait after one is short.
const LITTLE: Duration = Duration::from_millis(50);

/// There is another try within this time after the first failure in a row: as long as a service takes to be deployed
/// anew, or its operators to notice.
const PATIENCE: Duration = Duration::from_mins(15);

/// The longest wait that an upstream may ask for.
pub(crate) const ASKED_MAX: Duration = Duration::from_mins(10);

/// When the next try comes, and whether there is one.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
    /// When the first failure in a row came.
    since: Moment,
    until: Moment,
}

impl Backoff {
    /// Waits before the next try: half a second, doubled at each, and between half and all of that, so that sessions
    /// that failed together do not come back together. What the upstream asks for counts when it is longer. `chance` is
    /// any number, another one at each call.
    pub fn wait(&mut self, now: Moment, asked: Option<Duration>, chance: u64) {
        if self.tries == 0 {
            self.since = now;
        }
        let full = (FIRST * 2_u32.pow(self.tries.min(6))).min(LONGEST);
        let permille = 500 + u32::try_from(chance % 500).unwrap_or(0);
        self.tries += 1;
        self.until = now + (full * permille / 1000).max(asked.unwrap_or_default().min(ASKED_MAX));
    }

    /// As [`Backoff::wait`], but a moment only before the first try.
    pub fn wait_little(&mut self, now: Moment, chance: u64) {
        self.wait(now, None, chance);
        if self.tries == 1 {
            self.until = now + LITTLE;
        }
    }

    /// There was a failure before, in another process, after which the next try comes at this moment.
    pub fn goes_on(&mut self, until: Moment) {
        (self.tries, self.until) = (1, until.min(ASKED_MAX));
    }

    /// As [`Backoff::wait`], for what stands in the way only on the host's own side: there is always another try.
    pub fn wait_for_room(&mut self, now: Moment, asked: Option<Duration>, chance: u64) {
        self.wait(now, asked, chance);
        self.since = now;
    }

    /// What failed until now has not failed: what fails from now on has its own time, and the waits stay long.
    pub const fn found(&mut self, now: Moment) {
        self.since = now;
    }

    /// All is well: the next failure is a first one.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// True when it has gone on for so long that there is no other try.
    #[must_use]
    pub fn is_exhausted(&self, now: Moment) -> bool {
        self.tries > 0 && now >= self.since + PATIENCE
    }

    /// True when the next try may come.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        now >= self.until
    }

    /// When the next try may come.
    #[must_use]
    pub const fn until(&self) -> Moment {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_longer_until_the_longest() {
        let (mut backoff, mut now) = (Backoff::default(), Duration::from_secs(3));
        for (chance, full_ms) in (0..).step_by(171).zip([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
            backoff.wait(now, None, chance);
            let (wait, full) = (backoff.until() - now, Duration::from_millis(full_ms));
            assert!(wait >= full / 2 && wait <= full && !backoff.is_due(now), "{wait:?} of {full:?}");
            now = backoff.until();
            assert!(backoff.is_due(now) && !backoff.is_exhausted(now));
        }
        assert!(backoff.is_exhausted(Duration::from_secs(3) + PATIENCE));
        backoff.reset();
        assert!(backoff.is_due(now) && !backoff.is_exhausted(now + PATIENCE));
    }

    #[test]
    fn the_first_try_after_a_cut_comes_at_once_and_the_others_do_not() {
        let mut backoff = Backoff::default();
        backoff.wait_little(Duration::ZERO, 7);
        assert_eq!(backoff.until(), LITTLE);
        backoff.wait_little(Duration::ZERO, 7);
        assert!(backoff.until() >= FIRST);
    }

    #[test]
    fn an_upstream_may_ask_for_more_but_not_for_ever() {
        let mut backoff = Backoff::default();
        backoff.wait(Duration::ZERO, Some(Duration::from_secs(7)), 0);
        assert_eq!(backoff.until(), Duration::from_secs(7));
        backoff.wait(Duration::ZERO, Some(Duration::from_hours(1000)), 0);
        assert_eq!(backoff.until(), ASKED_MAX);
    }
}
