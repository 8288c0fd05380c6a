//! Years of faults for one session: its state, its course, its intake and its log, against an upstream, clients and a
//! clock that are simulated. A run is made of its seed alone, so a run that fails can be seen again.
//!
//! `upstream.rs` is the vendor, `host.rs` carries out what the course says, as `pump.rs` does, over a network with
//! faults. A day of a session's life is one run. At its end the faults stop, the session gets a last prompt, and then:
//!
//! * the log has each event of the upstream once, and in its order unless the upstream itself disordered them;
//! * each prompt that was acknowledged has arrived once; one that was withdrawn at most once, and not after that;
//! * the session is idle, as its upstream is; or, where a client has ended it, it is over, says so once and last, and is gone
//!   upstream where the host says that it saw that.
//!
//! `LAP_TRIALS=<factor>` multiplies the days, `LAP_SEED=<seed>` repeats one of them.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod host;
mod upstream;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use self::host::{Faults, Host};
use super::course::{Moment, splitmix};

/// Days that a normal run simulates.
const DAYS: u64 = 1000;

/// Everything that is left to chance.
pub(super) struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        splitmix(&mut self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    /// True in so many of a thousand cases.
    fn permille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// A place in a list of this length.
    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// More than 0, and at most 1.
    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1_000_000) + 1).unwrap_or(1)) / 1_000_000.0
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }

    /// Waits for things that come at any time, with this mean.
    fn rarely(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.share().ln())
    }
}

/// What a run had in it, so that nobody has to believe that faults happened.
#[derive(Debug, Default)]
struct Tally {
    prompts: u64,
    events: u64,
    connects: u64,
    crashes: u64,
    doubts: u64,
    resent: u64,
    interrupts: u64,
    failed: u64,
    kills: u64,
    /// Kills of which the host could not see that they were heeded.
    unverified: u64,
    /// Prompts to sessions that were over.
    refused: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.prompts += other.prompts;
        self.events += other.events;
        self.connects += other.connects;
        self.crashes += other.crashes;
        self.doubts += other.doubts;
        self.resent += other.resent;
        self.interrupts += other.interrupts;
        self.failed += other.failed;
        self.kills += other.kills;
        self.unverified += other.unverified;
        self.refused += other.refused;
    }
}

fn day(seed: u64, faults: fn(&mut Dice) -> Faults) -> Result<Tally, String> {
    let mut dice = Dice::new(seed);
    let faults = faults(&mut dice);
    let mut host = Host::new(dice, faults);
    host.live(Duration::from_hours(24));
    host.calm_down();
    host.verdict()
}

/// Runs days until one fails; that one's seed and reason, or what all of them had.
fn days(count: u64, faults: fn(&mut Dice) -> Faults) -> Result<Tally, (u64, String)> {
    if let Ok(seed) = std::env::var("LAP_SEED") {
        let seed = seed.parse().unwrap();
        return day(seed, faults).map_err(|reason| (seed, reason));
    }
    let next = AtomicU64::new(1);
    let work = || {
        let mut total = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count {
                return Ok(total);
            }
            total += day(seed, faults).map_err(|reason| (seed, reason)).inspect_err(|_| {
                next.store(count + 1, Ordering::Relaxed);
            })?;
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total = Tally::default();
    for result in results {
        total += result?;
    }
    Ok(total)
}

fn trials() -> u64 {
    std::env::var("LAP_TRIALS").map_or(1, |factor| factor.parse().unwrap())
}

#[test]
fn a_thousand_days_of_faults_lose_and_double_nothing() {
    let count = DAYS * trials();
    match days(count, Faults::any) {
        Ok(tally) => {
            println!("{count} simulated days: 0 lost, 0 doubled; {tally:?}");
            assert!(tally.kills > 0 && tally.unverified > 0 && tally.unverified < tally.kills, "{tally:?}");
        }
        Err((seed, reason)) => panic!("LAP_SEED={seed}: {reason}"),
    }
}

#[test]
fn a_history_that_lags_longer_than_the_host_looks_is_noticed_by_this_test() {
    // The positive control: the promise ends where the host's patience does, and the checks see it.
    let lagging = |dice: &mut Dice| Faults::any(dice).with_lag(Moment::from_secs(60));
    let (_, reason) = days(200, lagging).unwrap_err();
    assert!(reason.contains("times upstream") || reason.contains("lacks") || reason.contains("order"), "{reason}");
}

#[test]
fn a_run_is_made_of_its_seed() {
    let one = |seed| format!("{:?}", day(seed, Faults::any).map(|tally| format!("{tally:?}")));
    assert_eq!(one(7), one(7));
    assert_ne!(one(7), one(8));
}
