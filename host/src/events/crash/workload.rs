//! What is asked of the log on such a disk, and the ledger: what was asked when, and what was acknowledged when.
//!
//! A run is steps of two commits. The disk holds the first append of a step in the middle of its commit until all
//! other wishes of the step wait, which the committer then takes as one. So the ledger knows every commit.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use lap_seal::Sealer;
use lap_store::Store;
use tokio::runtime::Runtime;

use super::{
    Dice,
    disk::{Disk, Trace},
};
use crate::{
    events::{AppendError, Draft, EventLog, JournalLimits, Record, StartError, Writer, table},
    id::SessionId,
};

const SESSIONS_MAX: usize = 5;
const STEPS: usize = 6;

/// Limits under which only full rows leave the journal.
pub(super) const PATIENT: JournalLimits =
    JournalLimits { age: Duration::from_secs(3600), bytes: 1 << 30, move_bytes: 64 * 1024 };

/// What a session was sent, and with which commit.
pub(super) struct Story {
    pub(super) id: SessionId,
    /// The text of all its events, in order.
    pub(super) events: Vec<String>,
    turns: Vec<Turn>,
}

struct Turn {
    commit: usize,
    after: State,
}

/// What there is of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// The version of its record; 0 when there is no record, and so no session.
    pub(super) version: u64,
    pub(super) head: u64,
    pub(super) messages: u64,
}

/// When a commit was asked for and acknowledged, in calls of the disk.
#[derive(Clone, Copy)]
struct Span {
    asked: usize,
    acknowledged: Option<usize>,
}

/// All that was asked of a log.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) stories: Vec<Story>,
    commits: Vec<Span>,
    /// After how many calls there was a log at all.
    pub(super) begins: usize,
}

/// How much of what ran had to do with the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coverage {
    /// Steps after which the journal held something.
    pub(super) journaled: usize,
    /// Steps after which `events` had more rows than before.
    pub(super) moved: usize,
    pub(super) deleted: usize,
    /// Times when the journal was left to age until it was empty.
    pub(super) aged: usize,
}

impl Story {
    /// What there is of the session after the first `commits`.
    pub(super) fn after(&self, commits: usize) -> State {
        let turns = self.turns.partition_point(|turn| turn.commit < commits);
        turns.checked_sub(1).map_or(State::default(), |last| self.turns[last].after)
    }

    fn now(&self) -> State {
        self.after(usize::MAX)
    }
}

impl Ledger {
    /// The commits that hold for certain after so many calls, and those that may.
    pub(super) fn commits_at(&self, calls: usize) -> (usize, usize) {
        let acknowledged = |span: &Span| span.acknowledged.is_some_and(|at| at <= calls);
        let certain = self.commits.iter().rposition(acknowledged).map_or(0, |last| last + 1);
        (certain, self.commits.partition_point(|span| span.asked < calls))
    }

    /// The commits that were acknowledged, and those that were asked for.
    pub(super) fn commits(&self) -> (usize, usize) {
        self.commits_at(usize::MAX)
    }
}

pub(super) fn record_text(session: SessionId, version: u64) -> String {
    format!("{version} is the version of {session}")
}

pub(super) fn message_text(session: SessionId, number: u64) -> String {
    format!("message {number} to {session}")
}

/// One wish, before it is in the ledger.
struct Wish {
    story: usize,
    kind: WishKind,
}

enum WishKind {
    Append { events: Vec<String>, version: Option<u64>, message: Option<u64>, after: State },
    Delete,
}

/// A log, its disk and its ledger.
pub(super) struct Run<'a> {
    pub(super) disk: Disk,
    pub(super) ledger: Ledger,
    pub(super) coverage: Coverage,
    sealer: &'a Sealer,
    runtime: &'a Runtime,
    dice: Dice,
    limits: JournalLimits,
    /// False when the log's commits reach no disk, so that nothing can be held there.
    holds: bool,
}

/// The log refused an append, as it must after a failure of the disk.
#[derive(Debug)]
pub(super) struct Fenced;

/// How a run ended that did not get to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The log did not start.
    Start(StartError),
    /// A commit failed.
    Fenced(Fenced),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<Fenced> for Stop {
    fn from(fenced: Fenced) -> Self {
        Self::Fenced(fenced)
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(disk: Disk, sealer: &'a Sealer, runtime: &'a Runtime, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let limits = match dice.below(4) {
            0 => PATIENT,
            1 => JournalLimits { age: Duration::from_millis(1), move_bytes: 1024, ..PATIENT },
            _ => JournalLimits { bytes: 1024 << dice.below(4), move_bytes: 256 << dice.below(5), ..PATIENT },
        };
        let (ledger, coverage) = (Ledger::default(), Coverage::default());
        Self { disk, ledger, coverage, sealer, runtime, dice, limits, holds: true }
    }

    /// For a log whose commits do not reach the disk.
    pub(super) fn without_holding(self) -> Self {
        Self { holds: false, ..self }
    }

    /// Makes a log, works, closes it, opens it again and works on; or loses the process in between.
    pub(super) fn work(&mut self) -> Result<(), Stop> {
        let log = self.start(table::create_on(self.disk.clone())?)?;
        self.ledger.begins = self.disk.position();
        self.steps(&log, STEPS)?;
        self.close(log);
        let store = table::open_on(self.disk.clone(), false)?;
        self.disk.reopen();
        let log = self.start(store)?;
        self.steps(&log, STEPS)?;
        self.close(log);
        Ok(())
    }

    /// Works on a log whose commits do not survive, and never closes it: closing makes all of them durable.
    pub(super) fn forget_commits(&mut self) -> Result<(), Stop> {
        drop(table::create_on(self.disk.clone())?);
        assert!(self.disk.wait_until_closed(), "the store does not close");
        self.disk.reopen();
        self.ledger.begins = self.disk.position();
        let log = self.start(table::open_on(self.disk.clone(), true)?)?;
        self.steps(&log, 2 * STEPS)?;
        self.disk.power_off();
        drop(log);
        assert!(self.disk.wait_until_closed(), "the database does not close");
        Ok(())
    }

    fn start(&self, store: Store) -> Result<EventLog, StartError> {
        EventLog::start(store, self.sealer.clone(), self.limits, false)
    }

    fn close(&self, log: EventLog) {
        drop(log);
        assert!(self.disk.wait_until_closed(), "the database does not close");
    }

    fn steps(&mut self, log: &EventLog, steps: usize) -> Result<(), Fenced> {
        let mut rows = rows_of_events(log);
        let mut writers: Vec<Option<Writer>> = Vec::new();
        for _ in 0..steps {
            let wishes = self.wishes();
            writers.resize_with(self.ledger.stories.len(), || None);
            if let Err(fenced) = self.step(log, &mut writers, &wishes) {
                self.must_stay_fenced(log, &mut writers);
                return Err(fenced);
            }
            let rows_before = std::mem::replace(&mut rows, rows_of_events(log));
            self.coverage.moved += usize::from(rows > rows_before);
            self.coverage.journaled += usize::from(rows_of_journal(log) != Some(0));
            if self.limits.age < PATIENT.age && self.dice.odds(1, 2) {
                self.wait_for_empty_journal(log);
            }
        }
        Ok(())
    }

    /// What the committer does by itself when nobody asks it for anything.
    fn wait_for_empty_journal(&mut self, log: &EventLog) {
        loop {
            let calls = self.disk.calls();
            if self.disk.failed() || *log.fenced().borrow() {
                return;
            }
            match rows_of_journal(log) {
                Some(0) => break,
                Some(_) => self.disk.wait_for_call_after(calls),
                None => return,
            }
        }
        self.coverage.aged += 1;
    }

    /// Some wishes, each for another session.
    fn wishes(&mut self) -> Vec<Wish> {
        if self.ledger.stories.len() < SESSIONS_MAX && self.dice.odds(1, 2) || self.ledger.stories.is_empty() {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.dice.next().to_be_bytes());
            id[8..].copy_from_slice(&self.dice.next().to_be_bytes());
            let id = SessionId::from_bytes(id);
            self.ledger.stories.push(Story { id, events: Vec::new(), turns: Vec::new() });
        }
        let mut wishes = Vec::new();
        for story in 0..self.ledger.stories.len() {
            let now = self.ledger.stories[story].now();
            let is_new = self.ledger.stories[story].turns.is_empty();
            if now.version == 0 && !is_new {
                continue;
            }
            if is_new || self.dice.odds(3, 5) {
                let kind = if !is_new && self.dice.odds(1, 12) { WishKind::Delete } else { self.append(story, now) };
                wishes.push(Wish { story, kind });
            }
        }
        wishes
    }

    fn append(&mut self, story: usize, now: State) -> WishKind {
        let version = (now.version == 0 || self.dice.odds(1, 3)).then_some(now.version + 1);
        let message = self.dice.odds(1, 4).then_some(now.messages);
        // A commit without any change reaches no disk, and so could not be held there.
        let has_record = version.is_some() || message.is_some();
        let count = [usize::from(!has_record), 1, 1, 1, 1, 2, 3, 8][self.dice.below(8)];
        let bytes = match self.dice.below(12) {
            0 => 16 * 1024 + self.dice.below(4096),
            1..=3 => 1024 + self.dice.below(4096),
            _ => self.dice.below(200),
        };
        let text = |number: usize| {
            let pad = char::from(b'a' + u8::try_from(number % 26).unwrap()).to_string().repeat(bytes / count);
            format!(r#"{{"type":"agent.message","story":{story},"number":{number},"text":"{pad}"}}"#)
        };
        let first = usize::try_from(now.head).unwrap() + 1;
        let events: Vec<String> = (first..first + count).map(text).collect();
        let after = State {
            version: version.unwrap_or(now.version),
            head: now.head + count as u64,
            messages: now.messages + u64::from(message.is_some()),
        };
        WishKind::Append { events, version, message, after }
    }

    /// Two commits: the first wish, and all the others.
    fn step(&mut self, log: &EventLog, writers: &mut [Option<Writer>], wishes: &[Wish]) -> Result<(), Fenced> {
        let first_commit = self.ledger.commits.len();
        // Now, because a writer begins with a read, which may have to wait for a commit that is held.
        for wish in wishes {
            let id = self.ledger.stories[wish.story].id;
            let slot = &mut writers[wish.story];
            match wish.kind {
                WishKind::Append { .. } if slot.is_none() => *slot = Some(log.writer(id, true).map_err(|_| Fenced)?),
                WishKind::Append { .. } => {}
                WishKind::Delete => *slot = None,
            }
        }
        let mut asked: Vec<(usize, Asking<'_>, Poll<Acknowledged>)> = Vec::new();
        let mut writers: Vec<Option<&mut Writer>> = writers.iter_mut().map(Option::as_mut).collect();
        for (place, wish) in wishes.iter().enumerate() {
            let commit = first_commit + usize::from(place > 0);
            self.note(wish, commit);
            let hold = place == 0 && self.holds && wishes.len() > 1;
            if hold {
                self.disk.hold();
            }
            let mut asking = self.ask(log, writers[wish.story].take(), wish);
            // The first poll is what puts the wish into the committer's queue.
            let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            asked.push((commit, asking, polled));
            if hold {
                self.disk.wait_until_held();
            }
        }
        self.disk.release();
        let mut result = Ok(());
        for (commit, asking, polled) in asked {
            let acknowledged = match polled {
                Poll::Ready(acknowledged) => acknowledged,
                Poll::Pending => self.runtime.block_on(asking),
            };
            match acknowledged {
                Ok(()) => self.ledger.commits[commit].acknowledged = Some(self.disk.position()),
                Err(error) => {
                    assert_eq!(error, AppendError::OutcomeUnknown);
                    result = Err(Fenced);
                }
            }
        }
        result
    }

    fn note(&mut self, wish: &Wish, commit: usize) {
        let asked = self.disk.position();
        if commit == self.ledger.commits.len() {
            self.ledger.commits.push(Span { asked, acknowledged: None });
        }
        let story = &mut self.ledger.stories[wish.story];
        let after = match &wish.kind {
            WishKind::Append { events, after, .. } => {
                story.events.extend_from_slice(events);
                *after
            }
            WishKind::Delete => {
                self.coverage.deleted += 1;
                State::default()
            }
        };
        story.turns.push(Turn { commit, after });
    }

    fn ask<'b>(&self, log: &'b EventLog, writer: Option<&'b mut Writer>, wish: &Wish) -> Asking<'b> {
        let id = self.ledger.stories[wish.story].id;
        match (&wish.kind, writer) {
            (WishKind::Append { events, version, message, .. }, Some(writer)) => {
                let mut draft = Draft::default();
                for event in events {
                    draft.push("agent.message", event);
                }
                let mut records = Vec::new();
                records.extend(version.map(|version| session_record(id, version)));
                records.extend(message.map(|number| message_record(id, number)));
                Box::pin(writer.append(draft, records, false))
            }
            _ => Box::pin(log.delete(id, None)),
        }
    }

    /// After a failed commit the log says so, and takes nothing any more.
    fn must_stay_fenced(&self, log: &EventLog, writers: &mut [Option<Writer>]) {
        assert!(self.disk.failed(), "the log refused an append on a disk that works");
        self.disk.release();
        let id = SessionId::from_bytes([7; 16]);
        for writer in writers.iter_mut().flatten() {
            let mut draft = Draft::default();
            draft.push("agent.message", "{}");
            assert!(self.runtime.block_on(writer.append(draft, vec![session_record(id, 1)], true)).is_err());
        }
        assert_eq!(self.runtime.block_on(log.delete(id, None)), Err(AppendError::OutcomeUnknown));
        assert!(*log.fenced().borrow(), "the log does not say that it takes no more");
    }

    pub(super) fn into_parts(self) -> (Trace, Ledger) {
        (self.disk.into_trace(), self.ledger)
    }
}

type Acknowledged = Result<(), AppendError>;
type Asking<'a> = Pin<Box<dyn Future<Output = Acknowledged> + 'a>>;

pub(super) fn session_record(session: SessionId, version: u64) -> Record {
    Record::Session { version, bytes: record_text(session, version).into_bytes() }
}

fn message_record(session: SessionId, number: u64) -> Record {
    Record::Message { number, bytes: message_text(session, number).into_bytes() }
}

/// `None` when the disk does not let it be read.
fn rows_of_journal(log: &EventLog) -> Option<u64> {
    log.shared.store.view().ok()?.rows(table::JOURNAL).ok()?.count().ok()
}

fn rows_of_events(log: &EventLog) -> Option<u64> {
    log.shared.store.view().ok()?.rows(table::EVENTS).ok()?.count().ok()
}
