//! Whether a component that crashes again and again may run: a pure state machine, no clock in it.
//!
//! Five crashes within a minute and its calls are refused for a second. Then one call may try: if it crashes as well, twice
//! as long, up to five minutes; if not, all may run again. Calls that are under way are left alone.

use std::{collections::VecDeque, time::Duration};

/// A point in time, counted from any fixed one.
pub(super) type Moment = Duration;

/// So many crashes …
const CRASHES: usize = 5;
/// … within so long.
const WINDOW: Duration = Duration::from_mins(1);
const FIRST_REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_mins(5);
/// After so long without a rest the next one is a first one again: one good call alone proves little.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How a runtime's component fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// What is done with its calls.
    pub state: HealthState,
    /// Its crashes since the host started.
    pub crashes: u64,
}

/// What is done with the calls of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// They are made.
    Well,
    /// They are refused: it has crashed again and again.
    Quarantined {
        /// When one may try again.
        left: Duration,
    },
    /// One is made, to see whether it crashes again; the others are refused.
    Probing,
}

/// Leave for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Ordinary,
    /// The one call after a rest.
    Probe,
}

/// How a call ended, as far as the component is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Well,
    Crashed,
    /// It was dropped half-way, or somebody else is to blame: that tells nothing.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Quarantine {
    state: State,
    /// The latest crashes, oldest first.
    crashes: VecDeque<Moment>,
    crashes_ever: u64,
    /// The rest before the next one.
    rest: Duration,
    rested_until: Moment,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Resting {
        until: Moment,
    },
    Probing,
}

impl Quarantine {
    /// Lets a call begin, or says how long to wait.
    pub(super) fn admit(&mut self, now: Moment) -> Result<Leave, Duration> {
        match self.state {
            State::Free => Ok(Leave::Ordinary),
            State::Resting { until } if until > now => Err(until - now),
            State::Resting { .. } => {
                self.state = State::Probing;
                Ok(Leave::Probe)
            }
            State::Probing => Err(FIRST_REST),
        }
    }

    /// Takes note of the end of a call.
    pub(super) fn ended(&mut self, leave: Leave, how: Fate, now: Moment) {
        if how == Fate::Crashed {
            self.crashes_ever += 1;
        }
        match (leave, how) {
            (Leave::Probe, Fate::Well) => self.state = State::Free,
            (Leave::Probe, Fate::Crashed) => self.rest(now),
            // The next one may try.
            (Leave::Probe, Fate::Unknown) => self.state = State::Resting { until: now },
            (Leave::Ordinary, Fate::Crashed) if self.state == State::Free => {
                self.crashes.retain(|&crash| now.saturating_sub(crash) < WINDOW);
                self.crashes.push_back(now);
                if self.crashes.len() >= CRASHES {
                    self.rest(now);
                }
            }
            // It began before the rest.
            (Leave::Ordinary, _) => {}
        }
    }

    fn rest(&mut self, now: Moment) {
        let forgotten = self.rest.is_zero() || now.saturating_sub(self.rested_until) > FORGOTTEN;
        self.rest = if forgotten { FIRST_REST } else { (self.rest * 2).min(REST_MAX) };
        self.rested_until = now + self.rest;
        self.state = State::Resting { until: self.rested_until };
        self.crashes.clear();
    }

    pub(super) fn health(&self, now: Moment) -> Health {
        let state = match self.state {
            State::Free => HealthState::Well,
            State::Resting { until } => HealthState::Quarantined { left: until.saturating_sub(now) },
            State::Probing => HealthState::Probing,
        };
        Health { state, crashes: self.crashes_ever }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn crash(quarantine: &mut Quarantine, now: Moment) {
        let leave = quarantine.admit(now).unwrap();
        quarantine.ended(leave, Fate::Crashed, now);
    }

    fn resting(at: Moment) -> Quarantine {
        let mut quarantine = Quarantine::default();
        (0..5).for_each(|_| crash(&mut quarantine, at));
        quarantine
    }

    #[test]
    fn five_crashes_within_a_minute_are_too_many_and_over_a_longer_time_are_not() {
        let mut quarantine = Quarantine::default();
        for n in 0..100 {
            crash(&mut quarantine, SECOND * 15 * n);
        }
        assert_eq!(quarantine.health(SECOND * 1500), Health { state: HealthState::Well, crashes: 100 });
        let mut quarantine = resting(SECOND * 60);
        assert_eq!(quarantine.admit(SECOND * 60), Err(SECOND));
        assert_eq!(quarantine.health(SECOND * 60).state, HealthState::Quarantined { left: SECOND });
    }

    #[test]
    fn after_a_rest_one_call_tries_and_the_others_wait_for_it() {
        let mut quarantine = resting(SECOND);
        assert_eq!(quarantine.admit(SECOND * 2), Ok(Leave::Probe));
        assert_eq!(quarantine.admit(SECOND * 2), Err(SECOND));
        assert_eq!(quarantine.health(SECOND * 2).state, HealthState::Probing);
        quarantine.ended(Leave::Probe, Fate::Well, SECOND * 2);
        assert_eq!(quarantine.admit(SECOND * 2), Ok(Leave::Ordinary));
    }

    #[test]
    fn each_crash_of_a_try_doubles_the_rest_up_to_five_minutes() {
        let (mut quarantine, mut now, mut rests) = (resting(SECOND), SECOND, Vec::new());
        for _ in 0..11 {
            let rest = quarantine.admit(now).unwrap_err();
            rests.push(rest.as_secs());
            now += rest;
            crash(&mut quarantine, now);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_try_that_was_dropped_tells_nothing_and_the_next_may_try() {
        let mut quarantine = resting(SECOND);
        assert_eq!(quarantine.admit(SECOND * 2), Ok(Leave::Probe));
        quarantine.ended(Leave::Probe, Fate::Unknown, SECOND * 3);
        assert_eq!(quarantine.admit(SECOND * 3), Ok(Leave::Probe));
    }

    #[test]
    fn one_good_call_does_not_make_the_next_rest_a_first_one_and_ten_quiet_minutes_do() {
        let mut quarantine = resting(SECOND);
        let recover = |quarantine: &mut Quarantine, now| {
            let leave = quarantine.admit(now).unwrap();
            quarantine.ended(leave, Fate::Well, now);
        };
        recover(&mut quarantine, SECOND * 2);
        (0..5).for_each(|_| crash(&mut quarantine, SECOND * 3));
        assert_eq!(quarantine.admit(SECOND * 3), Err(SECOND * 2));
        recover(&mut quarantine, SECOND * 5);
        (0..5).for_each(|_| crash(&mut quarantine, SECOND * 1000));
        assert_eq!(quarantine.admit(SECOND * 1000), Err(SECOND));
    }

    #[test]
    fn calls_from_before_the_rest_change_nothing() {
        let mut quarantine = resting(SECOND);
        quarantine.ended(Leave::Ordinary, Fate::Crashed, SECOND);
        quarantine.ended(Leave::Ordinary, Fate::Well, SECOND);
        assert_eq!(quarantine.admit(SECOND), Err(SECOND));
        assert_eq!(quarantine.health(SECOND).crashes, 6);
    }

    #[test]
    fn a_thousand_attempts_of_a_component_that_always_crashes_run_it_a_few_times() {
        let (mut quarantine, mut ran) = (Quarantine::default(), 0);
        for n in 0..1000 {
            let now = Duration::from_millis(60 * n);
            if let Ok(leave) = quarantine.admit(now) {
                ran += 1;
                quarantine.ended(leave, Fate::Crashed, now);
            }
        }
        assert_eq!(ran, 10, "five, and one after 1, 2, 4, 8 and 16 seconds");
    }
}
