//! The log: what happened in each session, durable before anybody sees it.
//!
//! For the session's one writer, which appends, and for any number of readers, which pull by cursor. A session's
//! events have gapless numbers from 1, given by its writer and checked by the committer; the same number means the
//! same bytes for ever. A slow reader costs its cursor and nothing else.
//!
//! Must not know what an event means, who may read it, or how it looks on the wire.
//!
//! Layout of `events.redb`. A commit must be cheap however many sessions it serves, so it writes what arrived as one
//! row of the *journal*. Batches stay there, and in memory, until enough of one session has come together for a row of
//! its own in *events*; large batches go there at once. A later commit moves them, a little each time.
//!
//! | table | key | value |
//! |---|---|---|
//! | `journal` | commit number | the sealed batches of one commit, of many sessions |
//! | `events` | session, seq of the first event | the sealed batches of one session |
//! | `sessions` | session | the sealed record that the session module keeps |
//! | `messages` | session, number | a sealed user message |
//! | `segments` | session, number | a sealed part of the index of the session's events |
//! | `facts` | session | what is large about it and seldom changes, sealed |
//! | `orphans` | session | what is needed to end it upstream, where it may go on there, sealed |
//! | `doomed` | session | nothing: that it is here says that it is deleted and that rows of it are left |
//! | `unsettled` | session | nothing: that it is here says that it has something to do |
//! | `epoch` | 0 | how often the store was opened to be written to |
//! | `reservations` | digest of a client's key | the sealed id of what is made under that key |
//! | `reservation_expiries` | time, digest of a client's key | nothing: finds what has expired |
//!
//! How rows of a session hold together, so that none can be removed or put back unseen: `standing.rs`.

mod commit;
mod crash;
mod cursor;
mod opened;
mod record;
mod reservation;
mod standing;
mod table;

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64, mpsc},
};

use lap_seal::{Sealer, StreamKey};
pub use lap_store::Limit;
use lap_store::Store;
use tokio::sync::{Semaphore, oneshot, watch};

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use self::table::batches_in;
use self::{commit::JournalLimits, opened::Opened, record::End, standing::Standing};
pub use self::{
    cursor::{Page, Reader},
    record::{Batch, Draft, Event},
    reservation::{Receipt, Reservation, ReservationKey, Reservations, ReserveError, Stage},
    table::{Counts, Moment, Record, Run, Span, StartError, VerifyError},
};
use crate::id::SessionId;

/// What may wait for the committer, in KiB: writers then wait in turn, and with them their upstreams.
const QUEUE_KIB: u32 = 32 * 1024;

/// How many asynchronous readers read the file at once: each has a thread meanwhile, and a page in memory.
const READS_AT_ONCE: usize = 8;

/// Why an append was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk failed during the commit, so nobody knows whether it holds. The log takes no further writes; a restart
    /// reads what the disk has.
    #[error("the event log failed to commit; whether the write holds is unknown until the host restarts")]
    OutcomeUnknown,
    /// Nothing can be written to this log. The write did not happen.
    #[error("the event log can only be read")]
    Frozen,
    /// Another writer has appended to the session. The write did not happen.
    #[error("another writer owns this session")]
    Fenced,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database cannot be read.
    #[error("the event log cannot be read")]
    Database(#[from] lap_store::Error),
    /// What the database holds is not what was written.
    #[error("a record of session {session} is damaged")]
    Damaged {
        /// Whose record.
        session: SessionId,
    },
}

/// How far a session's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The seq of the last event; 0 when there is none.
    pub seq: u64,
    /// True while the session neither runs a turn nor has one waiting.
    pub settled: bool,
    /// True once the session is deleted: nothing follows.
    pub deleted: bool,
}

/// The log of all sessions. A handle: clones share everything.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    sealer: Sealer,
    channels: Mutex<HashMap<SessionId, Weak<Channel>>>,
    opened: Mutex<Opened>,
    reads: Arc<Semaphore>,
    queue: mpsc::Sender<commit::Op>,
    /// True when nothing can be written.
    frozen: bool,
    /// How often the store was opened.
    epoch: u64,
    room: Arc<Semaphore>,
    fenced: watch::Sender<bool>,
}

/// What writer, committer and readers of one session share. Lives while one of them does.
struct Channel {
    session: SessionId,
    key: StreamKey,
    head: watch::Sender<Head>,
    tail: Mutex<Tail>,
    /// Whoever may append.
    holder: Mutex<Weak<Held>>,
    /// What the next writer goes on from; nothing until there was one. The committer renews it.
    standing: Mutex<Option<Standing>>,
    /// The last seq that the committer took; its alone.
    accepted: AtomicU64,
    shared: Weak<Shared>,
}

/// The latest committed batches, oldest first, without a gap, up to the head. All that is not in `events` yet is here.
#[derive(Default)]
struct Tail {
    batches: VecDeque<Batch>,
    bytes: usize,
}

/// Locks a mutex whose holder cannot leave it inconsistent: each critical section is a few lines that do not panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventLog {
    /// Makes an empty log in the file `path`.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(path: &Path, sealer: Sealer) -> Result<Self, StartError> {
        Self::start(table::create(path)?, sealer, JournalLimits::NORMAL, false)
    }

    /// Opens the log in the file `path` and puts away what the last process left in the journal.
    ///
    /// # Errors
    /// When the file is missing, is in use by another process, or cannot be read.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, StartError> {
        Self::start(table::open(path)?, sealer, JournalLimits::NORMAL, false)
    }

    /// The same where nothing can be written: nothing is taken, either.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_frozen(path: &Path, sealer: Sealer) -> Result<Self, StartError> {
        Self::start(table::open_frozen(path)?, sealer, JournalLimits::NORMAL, true)
    }

    fn start(store: Store, sealer: Sealer, limits: JournalLimits, frozen: bool) -> Result<Self, StartError> {
        let table::Beginning { commit: next_commit, epoch } = table::begin(&store)?;
        let doomed = table::doomed(&store)?;
        let (queue, ops) = mpsc::channel();
        let shared = Arc::new(Shared {
            store,
            sealer,
            channels: Mutex::default(),
            opened: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            queue,
            frozen,
            epoch,
            room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            fenced: watch::Sender::new(false),
        });
        commit::spawn(Arc::downgrade(&shared), limits, ops, next_commit, doomed).map_err(StartError::Thread)?;
        Ok(Self { shared })
    }

    /// The right to append to a session; there is one at a time. `settled` is what readers see until the first append.
    ///
    /// # Errors
    /// When the session has a writer, or its log cannot be read.
    pub fn writer(&self, session: SessionId, settled: bool) -> Result<Writer, WriterError> {
        let channel = self.channel(session, settled)?;
        let held = channel.hold().ok_or(WriterError::Taken)?;
        // Nobody else appends from here on, and what the last writer has appended is committed.
        let known = *lock(&channel.standing);
        let standing = match known {
            Some(standing) => standing,
            None => table::standing(&self.shared, session, &channel.key)?,
        };
        Ok(Writer { channel, shared: Arc::clone(&self.shared), standing, held: Some(held) })
    }

    /// A cursor into a session's log, behind the event `after`. `settled` as for [`Self::writer`].
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn reader(&self, session: SessionId, settled: bool, after: u64) -> Result<Reader, ReadError> {
        Ok(Reader::new(self.channel(session, settled)?, Arc::clone(&self.shared), after))
    }

    /// The stored record of a session.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn session(&self, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
        table::session(&self.shared, session)
    }

    /// The stored facts of a session.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn facts(&self, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
        table::facts(&self.shared, session)
    }

    /// Records of sessions, at most `limit`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn sessions(&self, span: Span, limit: usize) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
        table::sessions(&self.shared, span, limit)
    }

    /// How many sessions there are. Costs the same however many that is.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn session_count(&self) -> Result<u64, ReadError> {
        table::session_count(&self.shared.store)
    }

    /// The sessions whose last record said that they were not settled. Costs as much as there are of them, however large
    /// the log is.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unsettled(&self) -> Result<Vec<SessionId>, ReadError> {
        table::unsettled(&self.shared.store)
    }

    /// Numbered user messages of a session.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn messages(&self, session: SessionId, run: Run, limit: Limit) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        table::messages(&self.shared, session, run, limit)
    }

    /// Removes a session: its events, its messages and its record, in one commit. With an `orphan` it may go on upstream,
    /// and that is what is needed to end it there.
    ///
    /// # Errors
    /// When the commit fails.
    pub async fn delete(&self, session: SessionId, orphan: Option<Vec<u8>>) -> Result<(), AppendError> {
        let (ack, done) = oneshot::channel();
        let orphan = Record::Orphan(orphan).seal(&self.shared.sealer, session, &Standing::NEW);
        self.shared.submit(commit::Op::Delete { session, orphan, ack })?;
        done.await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    /// Keeps in mind that a session may go on upstream, with what is needed to end it there; or forgets that.
    ///
    /// # Errors
    /// When the commit fails.
    pub async fn set_orphan(&self, session: SessionId, orphan: Option<Vec<u8>>) -> Result<(), AppendError> {
        self.note(session, Record::Orphan(orphan)).await
    }

    /// Keeps in mind what came of another try to end a session upstream, unless it was forgotten meanwhile.
    ///
    /// # Errors
    /// When the commit fails.
    pub async fn renew_orphan(&self, session: SessionId, orphan: Vec<u8>) -> Result<(), AppendError> {
        self.note(session, Record::OrphanAgain(orphan)).await
    }

    async fn note(&self, session: SessionId, record: Record) -> Result<(), AppendError> {
        let (ack, done) = oneshot::channel();
        let record = record.seal(&self.shared.sealer, session, &Standing::NEW);
        self.shared.submit(commit::Op::Note { record, ack })?;
        done.await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    /// What is kept in mind of sessions that may go on upstream, by when those were made: behind `after`, at most `limit`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn orphans(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
        table::orphans(&self.shared, after, limit)
    }

    /// What is kept in mind of one such session.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn orphan(&self, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
        table::orphan(&self.shared, session)
    }

    /// The ids that are set aside for what clients wish under a key.
    #[must_use]
    pub fn reservations(&self) -> Reservations {
        Reservations::new(Arc::clone(&self.shared))
    }

    /// Turns true when a commit has failed and the process should end, so that the next one reads what the disk has.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.shared.fenced.subscribe()
    }

    fn channel(&self, session: SessionId, settled: bool) -> Result<Arc<Channel>, ReadError> {
        if let Some(channel) = lock(&self.shared.channels).get(&session).and_then(Weak::upgrade) {
            return Ok(channel);
        }
        // Without a channel nothing of the session is under way or in memory: the file knows the head.
        let seq = table::head(&self.shared.store, session)?;
        let key = self.shared.sealer.stream_key(&session.to_bytes());
        let mut channels = lock(&self.shared.channels);
        if let Some(channel) = channels.get(&session).and_then(Weak::upgrade) {
            return Ok(channel);
        }
        let channel = Arc::new(Channel {
            session,
            key,
            head: watch::Sender::new(Head { seq, settled, deleted: false }),
            tail: Mutex::default(),
            holder: Mutex::default(),
            standing: Mutex::default(),
            accepted: AtomicU64::new(seq),
            shared: Arc::downgrade(&self.shared),
        });
        channels.insert(session, Arc::downgrade(&channel));
        Ok(channel)
    }
}

impl Shared {
    fn submit(&self, op: commit::Op) -> Result<(), AppendError> {
        if self.frozen {
            return Err(AppendError::Frozen);
        }
        self.queue.send(op).map_err(|_| AppendError::OutcomeUnknown)
    }
}

impl Channel {
    /// The right to append, if nobody has it.
    fn hold(&self) -> Option<Arc<Held>> {
        let mut holder = lock(&self.holder);
        (holder.strong_count() == 0).then(|| {
            let held = Arc::new(Held);
            *holder = Arc::downgrade(&held);
            held
        })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut channels = lock(&shared.channels);
        // A successor may have taken the place already.
        if channels.get(&self.session).is_some_and(|channel| channel.strong_count() == 0) {
            channels.remove(&self.session);
        }
    }
}

/// Why there is no writer.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// Somebody else appends to this session.
    #[error("the session has a writer already")]
    Taken,
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The one that appends to a session.
pub struct Writer {
    channel: Arc<Channel>,
    shared: Arc<Shared>,
    standing: Standing,
    /// Nothing after [`Writer::let_go`].
    held: Option<Arc<Held>>,
}

/// The right to append to a session. What is on its way to the committer has it too, so that nobody takes the writer's place who
/// does not see that.
struct Held;

impl Writer {
    /// Lets another writer have the session. This one must not append before it has taken it back.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// Undoes [`Writer::let_go`]; for a caller who knows that nobody else has become the writer. The committer refuses
    /// the appends of one who is wrong.
    pub fn take_back(&mut self) {
        self.held = self.channel.hold();
    }

    /// The seq that the next event will have.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.standing.anchor.seq + 1
    }

    /// Appends events, and stores records, in one commit; waits until it is durable and then shown to readers. `settled`
    /// is what they learn with it, and with a record of the session's own what the next start is told.
    ///
    /// # Errors
    /// When the commit fails. The writer is of no use after that.
    pub async fn append(&mut self, draft: Draft, records: Vec<Record>, settled: bool) -> Result<(), AppendError> {
        self.fulfil(draft, records, Vec::new(), settled).await
    }

    /// The same, and notes in that commit what it fulfils of wishes that may come again.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn fulfil(
        &mut self,
        draft: Draft,
        records: Vec<Record>,
        receipts: Vec<Receipt>,
        settled: bool,
    ) -> Result<(), AppendError> {
        let mut standing = self.standing;
        let version = records.iter().find_map(Record::version);
        let mut events = None;
        if !draft.is_empty() {
            let (batch, link) = (Batch::of(draft, self.next_seq()), standing.link(self.shared.epoch, version));
            let (batch, framed) = table::frame(&self.channel.key, batch, link);
            let End { seq, chain } = batch.end();
            (standing.anchor.seq, standing.anchor.digest) = (seq, chain.digest);
            events = Some((batch, framed));
        }
        standing.note(&records, settled);
        let session = self.channel.session;
        let records = records.into_iter().map(|record| record.seal(&self.shared.sealer, session, &standing)).collect();
        let kib = events.as_ref().map_or(0, |(_, framed)| framed.len()) / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(kib).await;
        let (ack, done) = oneshot::channel();
        self.shared.submit(commit::Op::Append(commit::Append {
            channel: Arc::clone(&self.channel),
            events,
            records,
            receipts,
            settled,
            standing,
            ack,
            _held: self.held.clone(),
            _room: room.map_err(|_| AppendError::OutcomeUnknown)?,
        }))?;
        done.await.unwrap_or(Err(AppendError::OutcomeUnknown))?;
        self.standing = standing;
        Ok(())
    }

    /// A cursor behind the event `after`, for finding out what the log already has. Where the session's rows are not those that
    /// were written it says so, whatever is asked of it.
    #[must_use]
    pub fn reader(&self, after: u64) -> Reader {
        let reader = Reader::new(Arc::clone(&self.channel), Arc::clone(&self.shared), after);
        reader.refusing(self.standing.anchor.damaged)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::vault::{Vault, VaultKey};

    fn log(directory: &Path) -> EventLog {
        let key = VaultKey::generate();
        Vault::init(directory, &key).unwrap();
        let sealer = Vault::open(directory, key).unwrap().sealer();
        EventLog::create(&directory.join("log"), sealer).unwrap()
    }

    /// A session with so many events, each of which has a row of its own.
    async fn large(log: &EventLog, events: usize) -> SessionId {
        let session = SessionId::fresh();
        let mut writer = log.writer(session, true).unwrap();
        let record = Record::Session { version: 1, bytes: b"{}".to_vec() };
        writer.append(Draft::default(), vec![record], true).await.unwrap();
        let json = format!(r#"{{"type":"a","x":"{}"}}"#, "x".repeat(20_000));
        for _ in 0..events {
            let mut draft = Draft::default();
            draft.push("a", &json);
            writer.append(draft, Vec::new(), true).await.unwrap();
        }
        session
    }

    #[tokio::test]
    async fn a_large_session_is_gone_at_once_and_its_rows_go_over_a_restart_and_without_holding_up_others() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path());
        let (deleted, kept) = (large(&log, 300).await, large(&log, 3).await);
        log.delete(deleted, None).await.unwrap();
        assert_eq!((log.session(deleted).unwrap(), log.session_count().unwrap()), (None, 1));
        assert!(table::rows_of(&log.shared.store, deleted) > 0, "all of it went in one commit");
        // Its id may be used again before the last row is gone.
        let mut writer = log.writer(deleted, true).unwrap();
        assert_eq!(writer.next_seq(), 1);
        let mut draft = Draft::default();
        draft.push("b", r#"{"type":"b"}"#);
        let record = Record::Session { version: 1, bytes: b"{}".to_vec() };
        writer.append(draft, vec![record], true).await.unwrap();
        let page = writer.reader(0).next_page(10, 1024).unwrap();
        assert_eq!(page.events().map(|event| event.kind.to_owned()).collect::<Vec<_>>(), ["b"]);
        drop(writer);

        let again = large(&log, 300).await;
        log.delete(again, None).await.unwrap();
        let sealer = log.shared.sealer.clone();
        let path = directory.path().join("log");
        drop((page, log));
        let log = loop {
            match EventLog::open(&path, sealer.clone()) {
                // The committer is just ending.
                Err(StartError::InUse) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        while table::rows_of(&log.shared.store, again) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(table::doomed(&log.shared.store).unwrap().is_empty());
        assert_eq!(log.reader(kept, true, 0).unwrap().head().seq, 3);
    }

    #[tokio::test]
    async fn nobody_takes_the_place_of_a_writer_whose_append_is_on_its_way() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path());
        for _ in 0..200 {
            let session = SessionId::fresh();
            let mut writer = log.writer(session, true).unwrap();
            let mut draft = Draft::default();
            draft.push("a", r#"{"type":"a"}"#);
            let record = Record::Session { version: 1, bytes: b"{}".to_vec() };
            let mut append = Box::pin(writer.append(draft, vec![record], true));
            // It is given to the committer, and then its driver crashes; unless the commit is over already.
            let over = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(!matches!(over, Poll::Ready(Err(_))));
            drop(append);
            drop(writer);
            let next = loop {
                match log.writer(session, true) {
                    Ok(writer) => break writer.next_seq(),
                    Err(WriterError::Taken) => tokio::task::yield_now().await,
                    Err(error) => unreachable!("{error}"),
                }
            };
            assert_eq!(next, 2, "the append was not seen");
        }
    }

    #[tokio::test]
    async fn a_cold_reader_opens_a_batch_once_however_small_its_pages_are() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path());
        let session = SessionId::fresh();
        let mut writer = log.writer(session, true).unwrap();
        // The latest batch is in memory; the one before is not.
        for _ in 0..2 {
            let mut draft = Draft::default();
            (0..100).for_each(|_| draft.push("a", &format!(r#"{{"type":"a","x":"{}"}}"#, "x".repeat(1000))));
            let record = Record::Session { version: 1, bytes: b"{}".to_vec() };
            writer.append(draft, vec![record], true).await.unwrap();
        }
        let mut reader = log.reader(session, true, 0).unwrap();
        let (mut pages, mut seq) = (Vec::new(), 0);
        while seq < 100 {
            let page = reader.pull(10, 1024 * 1024).await.unwrap();
            seq = page.events().last().unwrap().seq;
            pages.push(page);
        }
        let events: Vec<_> = pages.iter().flat_map(Page::events).collect();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
        // All are pieces of one text, which lie one behind the other.
        for pair in events.windows(2) {
            assert_eq!(pair[1].kind.as_ptr(), pair[0].json.as_bytes().as_ptr_range().end);
        }
        assert_eq!(reader.pull(10, 1024 * 1024).await.unwrap().events().next().unwrap().seq, 101);
    }

    #[tokio::test]
    async fn what_came_of_another_try_is_not_kept_of_an_orphan_that_was_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path());
        let session = SessionId::fresh();
        log.set_orphan(session, Some(b"first".to_vec())).await.unwrap();
        log.renew_orphan(session, b"second".to_vec()).await.unwrap();
        assert_eq!(log.orphan(session).unwrap(), Some(b"second".to_vec()));
        log.set_orphan(session, None).await.unwrap();
        log.renew_orphan(session, b"third".to_vec()).await.unwrap();
        assert_eq!(log.orphan(session).unwrap(), None);
    }
}
