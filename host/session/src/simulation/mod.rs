//! Years of faults for one session: the machine that ships, against a vendor, clients, a disk and a clock that are
//! simulated. A run is made of its seed alone, so a run that fails can be seen again.
//!
//! `driver.rs` carries out what the machine says and decides nothing; `world.rs` says what happens next, `network.rs` what
//! comes of calls, `clients.rs` what is wanted, `faults.rs` what goes wrong; `upstream.rs` is the vendor. `verdict.rs` has what
//! must be true: at every step, and at the end of the day, after the faults have stopped and the session got a last prompt.
//! `steps.rs` tries everything at every step of a turn.
//!
//! `LAP_TRIALS=<factor>` multiplies the days, `LAP_SEED=<seed>` repeats one of them, and `LAP_TRACE=1` prints what happens.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod clients;
mod driver;
mod faults;
mod network;
mod steps;
mod upstream;
mod verdict;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

pub(crate) use self::faults::Mutant;
use self::{faults::Faults, world::World};
use crate::splitmix;

/// The segments of an index, as a mutant stores them.
pub(crate) fn mutated(mut segments: Vec<crate::Segment>, mutant: Option<Mutant>) -> Vec<crate::Segment> {
    if mutant == Some(Mutant::IndexForgets) {
        segments.iter_mut().for_each(|segment| segment.fingerprints.truncate(segment.fingerprints.len() - 1));
    }
    segments
}

/// Days that a normal run simulates.
const DAYS: u64 = 1000;

/// Everything that is left to chance.
pub(crate) struct Dice(u64);

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
        Duration::from_millis(range.start + self.below(range.end.saturating_sub(range.start)))
    }

    /// Waits for things that come at any time, with this mean.
    fn rarely(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.share().ln())
    }
}

/// What a run had in it, so that nobody has to believe that faults happened.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    prompts: u64,
    events: u64,
    connects: u64,
    crashes: u64,
    /// Prompts that were sent again although one with the same text had arrived.
    resent: u64,
    interrupts: u64,
    /// Calls that failed.
    failed: u64,
    kills: u64,
    /// Kills of which the host could not see that they were heeded.
    unverified: u64,
    /// Prompts to sessions that were over, or full.
    refused: u64,
    removed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.prompts += other.prompts;
        self.events += other.events;
        self.connects += other.connects;
        self.crashes += other.crashes;
        self.resent += other.resent;
        self.interrupts += other.interrupts;
        self.failed += other.failed;
        self.kills += other.kills;
        self.unverified += other.unverified;
        self.refused += other.refused;
        self.removed += other.removed;
    }
}

fn day(seed: u64, faults: impl Fn(&mut Dice) -> Faults) -> Result<Tally, String> {
    let mut dice = Dice::new(seed);
    let faults = faults(&mut dice);
    let mut world = World::new(dice, faults);
    world.live(Duration::from_hours(24));
    world.calm_down();
    world.verdict()
}

/// Works on numbers up to `count` on all processors, until one fails; that one and its reason, or what all of them had.
fn each(count: u64, one: impl Fn(u64) -> Result<Tally, String> + Sync) -> Result<Tally, (u64, String)> {
    let next = AtomicU64::new(1);
    let work = || {
        let mut total = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count {
                return Ok(total);
            }
            total += one(seed).map_err(|reason| (seed, reason)).inspect_err(|_| {
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

fn days(count: u64, faults: impl Fn(&mut Dice) -> Faults + Sync) -> Result<Tally, (u64, String)> {
    match std::env::var("LAP_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            day(seed, faults).map_err(|reason| (seed, reason))
        }
        Err(_) => each(count, |seed| day(seed, &faults)),
    }
}

/// By how much more than a normal run is tried.
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
fn prompts_that_the_upstream_does_not_show_have_an_end_that_the_log_shows() {
    let count = 200 * trials();
    if let Err((seed, reason)) = days(count, Faults::mute) {
        panic!("LAP_SEED={seed}: {reason}");
    }
}

#[test]
fn a_history_that_lags_longer_than_the_host_looks_is_noticed_by_this_test() {
    // The positive control: the promise ends where the host's patience does, and the checks see it.
    let lagging = |dice: &mut Dice| Faults::any(dice).with_lag(Duration::from_secs(60));
    let (_, reason) = days(200, lagging).unwrap_err();
    assert!(
        ["sent once", "nothing is lost", "order", "the end"].iter().any(|rule| reason.starts_with(rule)),
        "{reason}"
    );
}

#[test]
fn rules_that_are_broken_on_purpose_are_found() {
    use Mutant::{
        CommittedTooEarly, DiskForgets, EventsLost, FaultHidden, Hasty, IndexForgets, InterruptLost, Lenient, MapsOn,
        NoIdle, NoLook, OldCredential, ReplyLost, TakenSilently, WithdrawnSilently,
    };
    for (mutant, rules) in [
        (CommittedTooEarly, &["durable first"][..]),
        (ReplyLost, &["heard at once", "one answer"]),
        (EventsLost, &["nothing is lost", "a visible end", "the end"]),
        (FaultHidden, &["nothing is lost", "order", "order behind a fault"]),
        (InterruptLost, &["stop means stop"]),
        (DiskForgets, &["numbers", "versions", "durable first", "no session hangs"]),
        (IndexForgets, &["once", "sent once"]),
        (OldCredential, &["the credential"]),
        (NoIdle, &["the end of the wait"]),
        (TakenSilently, &["in the log at once"]),
        (WithdrawnSilently, &["a visible end", "the end of the wait"]),
        (NoLook, &["sent once", "a visible end"]),
        (MapsOn, &["order behind a fault"]),
        (Hasty, &["durable first"]),
        (Lenient, &["stop means stop", "a word about the stop"]),
    ] {
        let faults = |dice: &mut Dice| Faults::any(dice).with(mutant);
        let in_days = || days(400, faults).map_err(|(_, reason)| reason);
        let found = steps::one(Some(mutant)).and_then(|_| in_days());
        let reason = found.expect_err(&format!("{mutant:?} is not found"));
        println!("{mutant:?}: {reason}");
        assert!(rules.iter().any(|rule| reason.contains(&format!("{rule}: "))), "{mutant:?}: {reason}");
    }
}

#[test]
fn a_run_is_made_of_its_seed() {
    let one = |seed| format!("{:?}", day(seed, Faults::any).map(|tally| format!("{tally:?}")));
    assert_eq!(one(7), one(7));
    assert_ne!(one(7), one(8));
}
