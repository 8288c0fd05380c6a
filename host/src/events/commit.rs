//! The one thread that writes: takes whatever waits, commits it as one transaction, then shows it to readers.

use std::{
    collections::{HashMap, VecDeque},
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Weak, atomic::Ordering, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{AppendError, Channel, Held, Shared, Tail, lock, record::Batch, reservation, standing::Standing, table};
use crate::id::SessionId;

/// How much one commit takes at the most; more waits for the next.
const OPS_MAX: usize = 1024;
/// How long it is waited for something to commit before some more of a deleted session is removed.
const SWEEP_PAUSE: Duration = Duration::from_millis(1);
/// From this size on the batches of a session get a row of their own at once.
const ROW_BYTES: usize = 16 * 1024;
/// What a channel keeps in memory for readers close behind, beyond what the journal needs; the latest batch in any case.
const TAIL_BYTES: usize = 16 * 1024;

/// What may stay in the journal, and how fast it leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalLimits {
    /// For how long small batches may stay.
    pub(super) age: Duration,
    /// How many bytes may stay, and so be in memory, before the oldest are moved early.
    pub(super) bytes: usize,
    /// What a commit moves at the least when there is something to move: below this a transaction is not worth it.
    pub(super) move_bytes: usize,
}

impl JournalLimits {
    pub(super) const NORMAL: Self =
        Self { age: Duration::from_secs(1), bytes: 16 * 1024 * 1024, move_bytes: 64 * 1024 };
}

type Ack = oneshot::Sender<Result<(), AppendError>>;

pub(super) enum Op {
    Append(Append),
    /// `orphan` says whether it may go on upstream.
    Delete {
        session: SessionId,
        orphan: table::SealedRecord,
        ack: Ack,
    },
    /// A record that does not need a session's writer.
    Note {
        record: table::SealedRecord,
        ack: Ack,
    },
    Reserve {
        row: reservation::Row,
        now_ms: u64,
        ack: ReserveAck,
    },
    Fulfil {
        row: reservation::Row,
        ack: Ack,
    },
}

/// Takes the row that was there already.
type ReserveAck = oneshot::Sender<Result<Option<reservation::Row>, AppendError>>;

pub(super) struct Append {
    pub(super) channel: Arc<Channel>,
    pub(super) events: Option<(Batch, Vec<u8>)>,
    pub(super) records: Vec<table::SealedRecord>,
    pub(super) receipts: Vec<reservation::Receipt>,
    pub(super) settled: bool,
    /// Where the session stands behind it.
    pub(super) standing: Standing,
    pub(super) ack: Ack,
    /// Both are given back when the commit is over.
    pub(super) _held: Option<Arc<Held>>,
    pub(super) _room: OwnedSemaphorePermit,
}

/// A session's batches that are in the journal only.
struct Pending {
    channel: Arc<Channel>,
    since: Instant,
    framed: Vec<u8>,
    first: u64,
    /// The journal row of each batch.
    commits: Vec<u64>,
}

struct Committer {
    shared: Weak<Shared>,
    limits: JournalLimits,
    next_commit: u64,
    pending: HashMap<SessionId, Pending>,
    pending_bytes: usize,
    /// Sessions by the time when their oldest pending batch came. An entry of a moved session is stale: its time differs.
    oldest: VecDeque<(Instant, SessionId)>,
    /// For each journal row, how many of its batches are pending still.
    journal: VecDeque<(u64, usize)>,
    /// Deleted sessions that have rows still.
    doomed: VecDeque<SessionId>,
}

/// What a commit will do once it holds.
#[derive(Default)]
struct Outcome {
    acks: Vec<(Ack, Result<(), AppendError>)>,
    published: Vec<Published>,
    moved: Vec<Arc<Channel>>,
    deleted: Vec<SessionId>,
    /// In the order of the `Reserve`s among the changes.
    reserved: Vec<ReserveAck>,
    /// What the appends held, until their commit is over.
    given_back: Vec<(Option<Arc<Held>>, OwnedSemaphorePermit)>,
}

/// What readers and the next writer of a session learn of an append.
struct Published {
    channel: Arc<Channel>,
    batch: Option<Batch>,
    settled: bool,
    standing: Standing,
}

pub(super) fn spawn(
    shared: Weak<Shared>,
    limits: JournalLimits,
    ops: mpsc::Receiver<Op>,
    next_commit: u64,
    doomed: Vec<SessionId>,
) -> io::Result<()> {
    let committer = Committer {
        shared,
        limits,
        next_commit,
        pending: HashMap::new(),
        pending_bytes: 0,
        oldest: VecDeque::new(),
        journal: VecDeque::new(),
        doomed: doomed.into(),
    };
    let run = move || {
        let shared = committer.shared.clone();
        // The database panics over some files that something else has written to.
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| committer.run(&ops))) {
            if let Some(shared) = shared.upgrade() {
                shared.fenced.send_replace(true);
            }
            panic::resume_unwind(panic);
        }
    };
    thread::Builder::new().name("committer".to_owned()).spawn(run)?;
    Ok(())
}

impl Committer {
    fn run(mut self, ops: &mpsc::Receiver<Op>) {
        loop {
            let first = match self.oldest.front() {
                _ if !self.doomed.is_empty() => ops.recv_timeout(SWEEP_PAUSE),
                None => ops.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some((since, _)) => ops.recv_timeout(self.limits.age.saturating_sub(since.elapsed())),
            };
            let taken = match first {
                Ok(op) => std::iter::once(op).chain(ops.try_iter()).take(OPS_MAX).collect(),
                Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
                // What is in the journal stays there: the next start puts it away.
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let Some(shared) = self.shared.upgrade() else { return };
            self.commit(&shared, taken);
        }
    }

    fn commit(&mut self, shared: &Shared, ops: Vec<Op>) {
        let mut outcome = Outcome::default();
        let mut changes = table::Changes::default();
        let mut journal_row = Vec::new();
        for op in ops {
            match op {
                Op::Append(append) => self.admit(append, &mut journal_row, &mut changes, &mut outcome),
                Op::Delete { session, orphan, ack } => {
                    self.forget(session);
                    changes.deleted.push(session);
                    changes.records.push(orphan);
                    outcome.deleted.push(session);
                    outcome.acks.push((ack, Ok(())));
                }
                Op::Note { record, ack } => {
                    changes.records.push(record);
                    outcome.acks.push((ack, Ok(())));
                }
                Op::Reserve { row, now_ms, ack } => {
                    changes.reservations.push(reservation::Change::Reserve { row, now_ms });
                    outcome.reserved.push(ack);
                }
                Op::Fulfil { row, ack } => {
                    changes.reservations.push(reservation::Change::Fulfil(row));
                    outcome.acks.push((ack, Ok(())));
                }
            }
        }
        let journaled = journal_row.len();
        if journaled > 0 {
            changes.journal = Some((self.next_commit, journal_row));
            self.next_commit += 1;
        }
        self.move_old(journaled, &mut changes, &mut outcome);
        self.drop_settled(&mut changes);
        changes.swept = self.doomed.front().copied();
        let fenced = *shared.fenced.borrow();
        let result = match fenced {
            true => Err(()),
            // Writes that were refused, and time that has passed.
            false if changes.is_empty() => Ok(table::Written::default()),
            false => table::write(&shared.store, &changes).map_err(|error| report(&error)),
        };
        match result {
            Ok(written) => {
                if written.is_swept {
                    self.doomed.pop_front();
                }
                self.doomed.extend(written.doomed);
                outcome.publish(shared, written.found);
            }
            Err(()) => {
                // The next start reads what is left to be removed.
                self.doomed.clear();
                shared.fenced.send_replace(true);
                outcome.fail();
            }
        }
    }

    /// Decides where an append's batch goes: into the journal, or with its session's pending ones into a row.
    fn admit(
        &mut self,
        append: Append,
        journal_row: &mut Vec<u8>,
        changes: &mut table::Changes,
        outcome: &mut Outcome,
    ) {
        let Append { channel, events, records, receipts, settled, standing, ack, _held, _room } = append;
        outcome.given_back.push((_held, _room));
        let goes_on_from = events.as_ref().map_or(standing.anchor.seq, |(batch, _)| batch.first() - 1);
        if channel.accepted.load(Ordering::Relaxed) != goes_on_from {
            outcome.acks.push((ack, Err(AppendError::Fenced)));
            return;
        }
        let batch = events.map(|(batch, framed)| {
            channel.accepted.store(batch.last(), Ordering::Relaxed);
            if self.doomed.contains(&channel.session) {
                self.doomed.retain(|session| *session != channel.session);
                changes.cleared.push(channel.session);
            }
            let waiting = self.pending.get(&channel.session).map_or(0, |pending| pending.framed.len());
            if waiting + framed.len() >= ROW_BYTES {
                self.row(&channel, batch.first(), framed, changes);
                outcome.moved.push(Arc::clone(&channel));
            } else {
                table::journal_entry(journal_row, channel.session, &framed);
                self.keep(&channel, batch.first(), framed);
            }
            batch
        });
        changes.records.extend(records);
        changes.reservations.extend(receipts.into_iter().map(|receipt| reservation::Change::Fulfil(receipt.0)));
        outcome.acks.push((ack, Ok(())));
        outcome.published.push(Published { channel, batch, settled, standing });
    }

    /// Notes a batch that this commit writes into the journal.
    fn keep(&mut self, channel: &Arc<Channel>, first: u64, framed: Vec<u8>) {
        let pending = self.pending.entry(channel.session).or_insert_with(|| {
            let since = Instant::now();
            self.oldest.push_back((since, channel.session));
            Pending { channel: Arc::clone(channel), since, framed: Vec::new(), first, commits: Vec::new() }
        });
        self.pending_bytes += framed.len();
        append(&mut pending.framed, framed);
        pending.commits.push(self.next_commit);
        match self.journal.back_mut() {
            Some((number, batches)) if *number == self.next_commit => *batches += 1,
            _ => self.journal.push_back((self.next_commit, 1)),
        }
    }

    /// Writes a row of a session's pending batches and `framed` behind them.
    fn row(&mut self, channel: &Channel, first: u64, framed: Vec<u8>, changes: &mut table::Changes) {
        let (first, mut row) = self.forget(channel.session).map_or((first, Vec::new()), |old| (old.first, old.framed));
        append(&mut row, framed);
        changes.rows.push((table::key(channel.session, first), row));
    }

    /// Takes a session's batches out of the books of the journal.
    fn forget(&mut self, session: SessionId) -> Option<Pending> {
        let pending = self.pending.remove(&session)?;
        self.pending_bytes -= pending.framed.len();
        let front = self.journal.front().map_or(0, |(number, _)| *number);
        for commit in &pending.commits {
            // Rows have consecutive numbers, so a number is an index.
            let at = usize::try_from(commit - front).unwrap_or(usize::MAX);
            if let Some((_, batches)) = self.journal.get_mut(at) {
                *batches -= 1;
            }
        }
        Some(pending)
    }

    /// Moves what has waited for long, a little more than has just come, so that the journal keeps its size.
    fn move_old(&mut self, journaled: usize, changes: &mut table::Changes, outcome: &mut Outcome) {
        let budget = (journaled + journaled / 4).max(self.limits.move_bytes);
        let mut moved = 0;
        while let Some(&(since, session)) = self.oldest.front() {
            let stale = self.pending.get(&session).is_none_or(|pending| pending.since != since);
            let due = since.elapsed() >= self.limits.age || self.pending_bytes > self.limits.bytes;
            if !stale && (!due || moved >= budget) {
                return;
            }
            self.oldest.pop_front();
            if !stale && let Some(pending) = self.forget(session) {
                moved += pending.framed.len();
                changes.rows.push((table::key(session, pending.first), pending.framed));
                outcome.moved.push(pending.channel);
            }
        }
    }

    fn drop_settled(&mut self, changes: &mut table::Changes) {
        while let Some(&(number, 0)) = self.journal.front() {
            self.journal.pop_front();
            changes.journal_settled = Some(number);
        }
    }
}

/// Appends bytes, which are not copied where there are none before them.
fn append(to: &mut Vec<u8>, bytes: Vec<u8>) {
    if to.is_empty() {
        *to = bytes;
    } else {
        to.extend_from_slice(&bytes);
    }
}

fn report(error: &lap_store::Error) {
    tracing::error!(error = %error, "a commit to the event log failed; the log takes no more writes until a restart");
}

impl Outcome {
    fn publish(self, shared: &Shared, found: Vec<Option<reservation::Row>>) {
        for Published { channel, batch, settled, standing } in self.published {
            *lock(&channel.standing) = Some(standing);
            let seq = batch.as_ref().map(Batch::last);
            if let Some(batch) = batch {
                lock(&channel.tail).push(batch);
            }
            channel.head.send_modify(|head| {
                head.seq = seq.unwrap_or(head.seq);
                head.settled = settled;
            });
        }
        for channel in self.moved {
            lock(&channel.tail).trim(TAIL_BYTES);
        }
        for session in self.deleted {
            let channel = lock(&shared.channels).get(&session).and_then(Weak::upgrade);
            if let Some(channel) = channel {
                channel.head.send_modify(|head| head.deleted = true);
            }
            lock(&shared.opened).forget(session);
        }
        // Before its append is acknowledged: a writer that goes then is gone at once.
        drop(self.given_back);
        for (ack, result) in self.acks {
            acknowledge(ack, result);
        }
        for (ack, found) in self.reserved.into_iter().zip(found) {
            acknowledge(ack, Ok(found));
        }
    }

    fn fail(self) {
        // Also those that were refused: what a commit that failed has counted as accepted says nothing about writers.
        for (ack, _) in self.acks {
            acknowledge(ack, Err(AppendError::OutcomeUnknown));
        }
        for ack in self.reserved {
            acknowledge(ack, Err(AppendError::OutcomeUnknown));
        }
    }
}

fn acknowledge<T>(ack: oneshot::Sender<Result<T, AppendError>>, result: Result<T, AppendError>) {
    if ack.send(result).is_err() {
        tracing::debug!("a writer went away before its append was over");
    }
}

impl Tail {
    fn push(&mut self, batch: Batch) {
        self.bytes += batch.text_bytes();
        self.batches.push_back(batch);
    }

    fn trim(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.batches.len() > 1 {
            let Some(batch) = self.batches.pop_front() else { return };
            self.bytes -= batch.text_bytes();
        }
    }
}
