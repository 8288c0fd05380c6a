//! How often the power goes and the disk fails, and the controls: a log that loses must be seen to lose.
//!
//! `LAP_TRIALS=<factor>` multiplies how much is tried, `LAP_SEED=<number>` says with which run it begins; what fails
//! prints the seed that begins with it.

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use lap_seal::Sealer;
use tokio::runtime::{Builder, Runtime};

use super::{
    Dice,
    cut::Cutter,
    disk::{Disk, Failure, Fault, Trace},
    oracle::{Oracle, Verdict},
    workload::{Coverage, Ledger, Run, Stop},
};
use crate::{
    events::{StartError, table},
    vault::{Vault, VaultKey},
};

/// Power cuts of one run of the test, those during recovery among them: a minute on four cores that do nothing else.
const CUTS: usize = 200_000;
/// Images of each place where the power may go.
const IMAGES: usize = 3;
/// Of so many logs that came through a cut one must take an append.
const APPENDS: usize = 4;
/// Of so many images one is also cut while it recovers.
const RECOVERIES: usize = 60;
/// Images of each place during a recovery.
const RECOVERY_IMAGES: usize = 1;

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

fn trials(count: usize) -> usize {
    count * usize::try_from(number("LAP_TRIALS", 1)).unwrap()
}

fn first_seed() -> u64 {
    number("LAP_SEED", 1)
}

fn sealer() -> Sealer {
    let directory = tempfile::tempdir().unwrap();
    let key = VaultKey::generate();
    Vault::init(directory.path(), &key).unwrap();
    Vault::open(directory.path(), key).unwrap().sealer()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Runs `run` for one seed after the other, on all cores, until `count` says that there were `enough`; with a panic
/// that names the seed when one panics.
fn for_seeds(enough: usize, count: &AtomicUsize, run: impl Fn(u64, &Oracle<'_>) + Sync) {
    let sealer = sealer();
    let (next, failed) = (AtomicU64::new(first_seed()), AtomicBool::new(false));
    let failures = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(4, usize::from).min(16) {
            scope.spawn(|| {
                let runtime = runtime();
                let oracle = Oracle { sealer: &sealer, runtime: &runtime };
                while count.load(Ordering::Relaxed) < enough && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, &oracle))) {
                        failed.store(true, Ordering::Relaxed);
                        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failures.lock().unwrap().insert(seed, said);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "again with LAP_SEED=<seed>: {failures:#?}");
}

/// What a test has done, for its summary.
#[derive(Default)]
struct Tally {
    runs: AtomicUsize,
    cuts: AtomicUsize,
    in_recovery: AtomicUsize,
    appends: AtomicUsize,
    coverage: Mutex<Coverage>,
}

impl Tally {
    fn add(&self, coverage: Coverage) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mut sum = self.coverage.lock().unwrap();
        sum.journaled += coverage.journaled;
        sum.moved += coverage.moved;
        sum.deleted += coverage.deleted;
        sum.aged += coverage.aged;
    }
}

fn record(seed: u64, oracle: &Oracle<'_>) -> (Trace, Ledger, Coverage) {
    let mut run = Run::new(Disk::recording(Vec::new()), oracle.sealer, oracle.runtime, seed);
    run.work().unwrap();
    let coverage = run.coverage;
    let (trace, ledger) = run.into_parts();
    (trace, ledger, coverage)
}

/// Cuts the power everywhere in one run, and in some of the recoveries that follow.
fn cut_everywhere(seed: u64, oracle: &Oracle<'_>, tally: &Tally) {
    let (trace, ledger, coverage) = record(seed, oracle);
    tally.add(coverage);
    let mut dice = Dice(!seed);
    let mut cutter = Cutter::new(&trace);
    for place in ledger.begins..=trace.calls.len() {
        cutter.go(place, &mut dice);
        let commits = ledger.commits_at(place);
        for number in 0..if cutter.is_settled() { 1 } else { IMAGES } {
            let image = cutter.image(&mut dice);
            let again = dice.odds(1, RECOVERIES).then(|| image.clone());
            let verdict = if dice.odds(1, APPENDS) {
                tally.appends.fetch_add(1, Ordering::Relaxed);
                oracle.judge_and_append(&ledger, image, commits)
            } else {
                oracle.judge(&ledger, image, commits)
            };
            tally.cuts.fetch_add(1, Ordering::Relaxed);
            if let Err(verdict) = verdict {
                panic!("run {seed}, cut after call {place} of {}, image {number}: {verdict:?}", trace.calls.len());
            }
            if let Some(image) = again {
                let (recovered, cut) = cut_recovery(oracle, &ledger, image, commits, &mut dice);
                tally.cuts.fetch_add(cut, Ordering::Relaxed);
                tally.in_recovery.fetch_add(cut, Ordering::Relaxed);
                if let Err((at, verdict)) = recovered {
                    panic!("run {seed}, cut after call {place}, image {number}, then after call {at}: {verdict:?}");
                }
            }
        }
    }
}

/// Cuts the power everywhere while a log is opened. What it showed once it was open must be there for ever.
fn cut_recovery(
    oracle: &Oracle<'_>,
    ledger: &Ledger,
    image: Vec<u8>,
    commits: (usize, usize),
    dice: &mut Dice,
) -> (Result<(), (usize, Verdict)>, usize) {
    let (found, trace) = match oracle.recover(ledger, image, commits) {
        Ok(recovered) => recovered,
        Err(verdict) => return (Err((0, verdict)), 0),
    };
    let mut cutter = Cutter::new(&trace);
    let mut cuts = 0;
    for place in 1..=trace.calls.len() {
        cutter.go(place, dice);
        let commits = if place == trace.calls.len() { (found, found) } else { commits };
        for _ in 0..RECOVERY_IMAGES {
            cuts += 1;
            if let Err(verdict) = oracle.judge(ledger, cutter.image(dice), commits) {
                return (Err((place, verdict)), cuts);
            }
        }
    }
    (Ok(()), cuts)
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let (tally, start) = (Tally::default(), Instant::now());
    for_seeds(trials(CUTS), &tally.cuts, |seed, oracle| cut_everywhere(seed, oracle, &tally));
    let (cuts, in_recovery) = (tally.cuts.into_inner(), tally.in_recovery.into_inner());
    let appends = tally.appends.into_inner();
    let coverage = tally.coverage.into_inner().unwrap();
    let (runs, seconds) = (tally.runs.into_inner(), start.elapsed().as_secs_f64());
    println!(
        "{cuts} power cuts ({in_recovery} during recovery, {appends} with an append then) in {runs} runs from seed {}: \
         0 lost; {:.0}/s; {coverage:?}",
        first_seed(),
        f64::from(u32::try_from(cuts).unwrap()) / seconds,
    );
    assert!(in_recovery >= cuts / 10, "{in_recovery} of {cuts} during recovery");
    let Coverage { journaled, moved, deleted, aged } = coverage;
    assert!(journaled > 0 && moved > 0 && deleted > 0 && aged > 0, "{coverage:?}");
}

/// What the power cuts of some runs show, on a log or a disk that is not what it should be.
#[derive(Debug, Default)]
struct Seen {
    kept: AtomicUsize,
    lost: AtomicUsize,
    broken: AtomicUsize,
}

impl Seen {
    /// Cuts once everywhere in a run where something has been acknowledged.
    fn cut(&self, mut cutter: Cutter<'_>, ledger: &Ledger, calls: usize, dice: &mut Dice, oracle: &Oracle<'_>) {
        for place in ledger.begins..=calls {
            cutter.go(place, dice);
            let commits = ledger.commits_at(place);
            if commits.0 == 0 {
                continue;
            }
            match oracle.judge(ledger, cutter.image(dice), commits) {
                Ok(_) => self.kept.fetch_add(1, Ordering::Relaxed),
                Err(Verdict::Lost { .. }) => self.lost.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.broken.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    fn percent_lost(&self, control: &str) -> usize {
        let [kept, lost, broken] = [&self.kept, &self.lost, &self.broken].map(|count| count.load(Ordering::Relaxed));
        println!("control, {control}: {kept} kept, {lost} lost, {broken} broken, from seed {}", first_seed());
        100 * (lost + broken) / (kept + lost + broken).max(1)
    }
}

#[test]
fn a_log_that_commits_without_a_sync_is_seen_to_lose() {
    let (seen, runs) = (Seen::default(), AtomicUsize::new(0));
    for_seeds(trials(100), &runs, |seed, oracle| {
        let mut run = Run::new(Disk::recording(Vec::new()), oracle.sealer, oracle.runtime, seed).without_holding();
        run.forget_commits().unwrap();
        let (trace, ledger) = run.into_parts();
        seen.cut(Cutter::new(&trace), &ledger, trace.calls.len(), &mut Dice(!seed), oracle);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert!(seen.percent_lost("commits without a sync") > 50, "{seen:?}");
    assert!(seen.lost.load(Ordering::Relaxed) > 0, "{seen:?}");
}

#[test]
fn a_disk_whose_syncs_lie_is_seen_to_lose() {
    let (seen, runs) = (Seen::default(), AtomicUsize::new(0));
    for_seeds(trials(8), &runs, |seed, oracle| {
        let (trace, ledger, _) = record(seed, oracle);
        seen.cut(Cutter::lying(&trace, 50), &ledger, trace.calls.len(), &mut Dice(!seed), oracle);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert!(seen.percent_lost("half of the syncs lie") > 10, "{seen:?}");
    assert!(seen.lost.load(Ordering::Relaxed) > 0, "{seen:?}");
}

/// How many runs with a failing call there were, and how they ended.
#[derive(Debug, Default)]
struct Failures {
    runs: AtomicUsize,
    not_started: AtomicUsize,
    fenced: AtomicUsize,
    unnoticed: AtomicUsize,
    images: AtomicUsize,
}

/// What is on a disk of which a call failed, and what may be if the power goes as well.
fn judge_failed(run: Run<'_>, fault: Fault, seed: u64, oracle: &Oracle<'_>, failures: &Failures) {
    let content = run.disk.content();
    let (trace, ledger) = run.into_parts();
    let commits = ledger.commits();
    let mut dice = Dice(!seed ^ fault.call as u64);
    let mut images = vec![content];
    let mut cutter = Cutter::new(&trace);
    cutter.go(trace.calls.len(), &mut dice);
    images.extend((0..4).map(|_| cutter.image(&mut dice)));
    for (number, image) in images.into_iter().enumerate() {
        failures.images.fetch_add(1, Ordering::Relaxed);
        if let Err(verdict) = oracle.judge_and_append(&ledger, image, commits) {
            panic!("run {seed}, {fault:?}, image {number}: {verdict:?}");
        }
    }
}

/// One run again and again, of which one call after the other fails.
fn fail_everywhere(seed: u64, oracle: &Oracle<'_>, failures: &Failures, enough: usize) {
    for call in 1.. {
        let mut failed = false;
        for failure in [Failure::Io, Failure::Full, Failure::Short] {
            let fault = Fault { call, failure, lasting: call % 2 == 0 };
            let mut run = Run::new(Disk::failing(fault), oracle.sealer, oracle.runtime, seed);
            let ended = run.work();
            assert!(run.disk.wait_until_closed(), "run {seed}, {fault:?}: the database panicked as it closed");
            failed |= run.disk.failed();
            failures.runs.fetch_add(1, Ordering::Relaxed);
            let how = match (&ended, run.disk.failed()) {
                (Ok(()), false) => continue,
                // The disk failed as the log was closed, when nobody waits for an answer any more.
                (Ok(()), true) => &failures.unnoticed,
                (Err(Stop::Start(StartError::Io(_) | StartError::Database(_))), true) => &failures.not_started,
                (Err(Stop::Fenced(_)), true) => &failures.fenced,
                (Err(stop), _) => panic!("run {seed}, {fault:?}: {stop:?}"),
            };
            how.fetch_add(1, Ordering::Relaxed);
            if run.ledger.begins > 0 {
                judge_failed(run, fault, seed, oracle, failures);
            }
        }
        if !failed || failures.runs.load(Ordering::Relaxed) >= enough {
            return;
        }
    }
}

#[test]
fn a_disk_that_fails_stops_the_log_and_loses_nothing_that_was_acknowledged() {
    let (failures, enough) = (Failures::default(), trials(6_000));
    for_seeds(enough, &failures.runs, |seed, oracle| fail_everywhere(seed, oracle, &failures, enough));
    println!("a failing call each, from seed {}: {failures:?}, 0 lost", first_seed());
    for count in [&failures.not_started, &failures.fenced, &failures.images] {
        assert!(count.load(Ordering::Relaxed) > 0, "{failures:?}");
    }
}

#[test]
fn an_empty_file_does_not_become_an_empty_log() {
    let error = table::open_on(Disk::plain(Vec::new()), false).unwrap_err();
    assert_eq!(error.to_string(), "the event log's file cannot be opened");
}
