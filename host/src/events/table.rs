//! The tables of `events.redb`, and how a row looks. Nobody else of this module names a key, but `reservation.rs`, which
//! has tables of its own.

mod copy;

use std::{
    fs::OpenOptions,
    io,
    ops::Bound,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use lap_seal::{Place, Sealer, StreamKey};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition, TableHandle,
    WriteTransaction, backends::FileBackend,
};

pub use self::copy::{Counts, Moment, VerifyError};
use super::{ReadError, Shared, record::Batch, reservation};
use crate::{disk::Overlay, id::SessionId};

/// The page cache. Live readers are served from memory; this is for those who read history. A backup reads all of it
/// and fills the cache, so this is also most of what a backup adds to the memory of a host that nobody has asked yet.
const CACHE_BYTES: usize = 24 * 1024 * 1024;

pub(super) type Key = [u8; 24];

const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
const EVENTS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("events");
const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");
const MESSAGES: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("messages");
/// The index of a session's events: which of its upstream's the log has.
const SEGMENTS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("segments");
/// What is large about a session and seldom changes.
const FACTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("facts");
/// Sessions that are over or gone here and may go on upstream.
const ORPHANS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("orphans");
/// How many of those are kept in mind; the one that was made first is forgotten for one more.
const ORPHANS_MAX: u64 = 10_000;
/// Deleted sessions whose events are not all removed yet.
const DOOMED: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("doomed");
/// The sessions that have something to do: few, however many sessions there are.
const UNSETTLED: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("unsettled");

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file cannot be made or opened.
    #[error("the event log's file cannot be opened")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("the event log is in use by another process")]
    InUse,
    /// The database refuses the file.
    #[error("the event log cannot be read: {0}")]
    Database(redb::Error),
    /// What the file holds is no log any more.
    #[error("the event log is damaged: put back a backup")]
    Damaged,
    /// The committer has no thread.
    #[error("no thread for the event log")]
    Thread(#[source] io::Error),
}

/// Any error of the database; redb has one type for each step.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct DatabaseError(redb::Error);

impl<E: Into<redb::Error>> From<E> for DatabaseError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<DatabaseError> for ReadError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error.0)
    }
}

impl From<DatabaseError> for StartError {
    fn from(error: DatabaseError) -> Self {
        match error.0 {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            other => Self::Database(other),
        }
    }
}

pub(super) type DatabaseResult<T> = Result<T, DatabaseError>;

pub(super) fn create(path: &Path) -> Result<Database, StartError> {
    with_tables(new_file(path)?)
}

#[cfg(test)]
pub(super) fn create_on(disk: impl StorageBackend) -> Result<Database, StartError> {
    with_tables(database_on(disk)?)
}

fn with_tables(db: Database) -> Result<Database, StartError> {
    let transaction = begin(&db)?;
    make_tables(&transaction)?;
    transaction.commit().map_err(DatabaseError::from)?;
    Ok(db)
}

/// A database without tables.
fn new_file(path: &Path) -> Result<Database, StartError> {
    let file = crate::vault::create_private_file(path)?;
    database_on(FileBackend::new(file).map_err(DatabaseError::from)?)
}

fn make_tables(transaction: &WriteTransaction) -> DatabaseResult<()> {
    transaction.open_table(JOURNAL)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(MESSAGES)?;
    transaction.open_table(SEGMENTS)?;
    transaction.open_table(FACTS)?;
    transaction.open_table(ORPHANS)?;
    transaction.open_table(UNSETTLED)?;
    transaction.open_table(DOOMED)?;
    reservation::make_tables(transaction)
}

pub(super) fn open(path: &Path) -> Result<Database, StartError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    open_on(FileBackend::new(file).map_err(DatabaseError::from)?)
}

pub(super) fn open_on(disk: impl StorageBackend) -> Result<Database, StartError> {
    // The database would make an empty file into an empty log.
    if disk.len()? == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the event log's file is empty").into());
    }
    // It panics over some files that something else has written to.
    panic::catch_unwind(AssertUnwindSafe(|| database_on(disk))).map_err(|_| StartError::Damaged)?
}

/// The log in a file that cannot be written to.
pub(super) fn open_frozen(path: &Path) -> Result<Database, StartError> {
    match Overlay::open(path) {
        Ok(overlay) => open_on(overlay),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StartError::InUse),
        Err(error) => Err(error.into()),
    }
}

fn database_on(disk: impl StorageBackend) -> Result<Database, StartError> {
    Ok(redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk).map_err(DatabaseError::from)?)
}

/// Quick repair stores the allocator's state with each commit, so that a 4 GiB log opens at once after a crash.
pub(super) fn begin(db: &Database) -> DatabaseResult<WriteTransaction> {
    let mut transaction = db.begin_write()?;
    transaction.set_quick_repair(true);
    #[cfg(test)]
    if FORGETFUL.get() {
        transaction.set_durability(redb::Durability::None)?;
    }
    Ok(transaction)
}

#[cfg(test)]
thread_local! {
    /// True on threads whose commits shall not survive: the tests of crashes prove with them that they see a loss.
    pub(super) static FORGETFUL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Something that is stored with a session beside its events.
pub enum Record {
    /// The session's own record; `version` counts its changes.
    Session {
        /// Higher than in the record before.
        version: u64,
        /// What the session module wants back.
        bytes: Vec<u8>,
    },
    /// What is large about the session and seldom changes.
    Facts(Vec<u8>),
    /// A user message.
    Message {
        /// Its place among the session's messages, from 0.
        number: u64,
        /// What the session module wants back.
        bytes: Vec<u8>,
    },
    /// A part of the index of the session's events.
    Segment {
        /// Its place among the session's segments, from 0.
        number: u64,
        /// What the session module wants back.
        bytes: Vec<u8>,
    },
    /// The session may go on upstream though it is over here, and this is what is needed to end it there; or it does not.
    /// This outlives the session.
    Orphan(Option<Vec<u8>>),
    /// The same, where it is kept in mind still; nothing where it was forgotten.
    OrphanAgain(Vec<u8>),
}

/// A record as it goes into its table.
pub(super) enum SealedRecord {
    Session { key: [u8; 16], sealed: Vec<u8>, settled: bool },
    Facts([u8; 16], Vec<u8>),
    Message(Key, Vec<u8>),
    Segment(Key, Vec<u8>),
    Orphan([u8; 16], Option<Vec<u8>>),
    OrphanAgain([u8; 16], Vec<u8>),
}

impl Record {
    /// `settled` says whether the session has nothing to do with this record.
    pub(super) fn seal(self, sealer: &Sealer, session: SessionId, settled: bool) -> SealedRecord {
        let of_session = |table: PerSession, version, bytes: &[u8]| {
            sealer.seal(&row_place(&table, &session.to_string()), version, bytes)
        };
        let numbered = |table: Numbered, number: u64, bytes: &[u8]| {
            sealer.seal(&numbered_place(&table, &session.to_string(), &number.to_string()), 1, bytes)
        };
        match self {
            Self::Session { version, bytes } => {
                let sealed = of_session(SESSIONS, version, &bytes);
                SealedRecord::Session { key: session.to_bytes(), sealed, settled }
            }
            Self::Facts(bytes) => SealedRecord::Facts(session.to_bytes(), of_session(FACTS, 1, &bytes)),
            Self::Message { number, bytes } => {
                SealedRecord::Message(key(session, number), numbered(MESSAGES, number, &bytes))
            }
            Self::Segment { number, bytes } => {
                SealedRecord::Segment(key(session, number), numbered(SEGMENTS, number, &bytes))
            }
            Self::Orphan(bytes) => {
                SealedRecord::Orphan(session.to_bytes(), bytes.map(|bytes| of_session(ORPHANS, 1, &bytes)))
            }
            Self::OrphanAgain(bytes) => SealedRecord::OrphanAgain(session.to_bytes(), of_session(ORPHANS, 1, &bytes)),
        }
    }
}

/// A table with one sealed row for each session.
type PerSession = TableDefinition<'static, &'static [u8; 16], &'static [u8]>;
/// A table with numbered sealed rows for each session.
type Numbered = TableDefinition<'static, &'static Key, &'static [u8]>;

fn row_place<'a>(table: &'a PerSession, session: &'a str) -> Place<'a> {
    Place { table: table.name(), owner: "", id: session, field: "record" }
}

fn numbered_place<'a>(table: &'a Numbered, session: &'a str, number: &'a str) -> Place<'a> {
    Place { table: table.name(), owner: session, id: number, field: "record" }
}

pub(super) fn key(session: SessionId, number: u64) -> Key {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&session.to_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

fn split_key(key: &Key) -> (SessionId, u64) {
    let mut session = [0; 16];
    session.copy_from_slice(&key[..16]);
    let mut number = [0; 8];
    number.copy_from_slice(&key[16..]);
    (SessionId::from_bytes(session), u64::from_be_bytes(number))
}

/// Some sessions in a row, by when they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The latest first, from the one made before this one; from the latest.
    Before(Option<SessionId>),
    /// The first made first, from the one made after this one; from the first.
    After(Option<SessionId>),
}

/// What one commit writes.
#[derive(Default)]
pub(super) struct Changes {
    /// Deleted before anything else is written.
    pub(super) deleted: Vec<SessionId>,
    /// Deleted before, and to be removed to the last row before anything else is written: its id is used again.
    pub(super) cleared: Vec<SessionId>,
    /// Deleted before: some more rows of it are removed.
    pub(super) swept: Option<SessionId>,
    pub(super) journal: Option<(u64, Vec<u8>)>,
    /// Journal rows up to this number are in `events` with this commit.
    pub(super) journal_settled: Option<u64>,
    pub(super) rows: Vec<(Key, Vec<u8>)>,
    pub(super) records: Vec<SealedRecord>,
    pub(super) reservations: Vec<reservation::Change>,
}

impl Changes {
    /// True when there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let Self { deleted, cleared, swept, journal, journal_settled, rows, records, reservations } = self;
        let none = swept.is_none() && journal.is_none() && journal_settled.is_none();
        none && deleted.is_empty()
            && cleared.is_empty()
            && rows.is_empty()
            && records.is_empty()
            && reservations.is_empty()
    }
}

/// What a commit has come to.
#[derive(Default)]
pub(super) struct Written {
    /// What [`reservation::write`] found.
    pub(super) found: Vec<Option<reservation::Row>>,
    /// Sessions that it has deleted, and that have rows still.
    pub(super) doomed: Vec<SessionId>,
    /// True when the session that was to be swept has no rows any more.
    pub(super) is_swept: bool,
}

/// Writes all of it or nothing.
pub(super) fn write(db: &Database, changes: &Changes) -> DatabaseResult<Written> {
    let transaction = begin(db)?;
    let mut written = Written::default();
    for &session in &changes.cleared {
        sweep(&transaction, session, usize::MAX)?;
    }
    for &session in &changes.deleted {
        if !delete(&transaction, session)? {
            written.doomed.push(session);
        }
    }
    if let Some(session) = changes.swept {
        written.is_swept = sweep(&transaction, session, SWEEP_ROWS)?;
    }
    if changes.journal.is_some() || changes.journal_settled.is_some() {
        let mut journal = transaction.open_table(JOURNAL)?;
        if let Some((number, row)) = &changes.journal {
            journal.insert(number, row.as_slice())?;
        }
        if let Some(settled) = changes.journal_settled {
            journal.retain_in(..=settled, |_, _| false)?;
        }
    }
    if !changes.rows.is_empty() {
        let mut events = transaction.open_table(EVENTS)?;
        for (key, row) in &changes.rows {
            events.insert(key, row.as_slice())?;
        }
    }
    write_records(&transaction, &changes.records)?;
    written.found = reservation::write(&transaction, &changes.reservations)?;
    transaction.commit()?;
    Ok(written)
}

fn write_records(transaction: &WriteTransaction, records: &[SealedRecord]) -> DatabaseResult<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut messages = transaction.open_table(MESSAGES)?;
    let mut facts = transaction.open_table(FACTS)?;
    let mut unsettled = transaction.open_table(UNSETTLED)?;
    for record in records {
        match record {
            SealedRecord::Session { key, sealed, settled } => {
                sessions.insert(key, sealed.as_slice())?;
                // Most records change nothing here, and a page that is not touched is not written.
                let known = unsettled.get(key)?.is_some();
                match settled {
                    true if known => drop(unsettled.remove(key)?),
                    false if !known => drop(unsettled.insert(key, ())?),
                    true | false => {}
                }
            }
            SealedRecord::Facts(key, sealed) => drop(facts.insert(key, sealed.as_slice())?),
            SealedRecord::Message(key, value) => drop(messages.insert(key, value.as_slice())?),
            SealedRecord::Segment(key, value) => {
                drop(transaction.open_table(SEGMENTS)?.insert(key, value.as_slice())?);
            }
            SealedRecord::Orphan(key, orphan) => write_orphan(transaction, key, orphan.as_deref())?,
            SealedRecord::OrphanAgain(key, orphan) => {
                if transaction.open_table(ORPHANS)?.get(key)?.is_some() {
                    write_orphan(transaction, key, Some(orphan))?;
                }
            }
        }
    }
    Ok(())
}

fn write_orphan(transaction: &WriteTransaction, key: &[u8; 16], orphan: Option<&[u8]>) -> DatabaseResult<()> {
    let mut orphans = transaction.open_table(ORPHANS)?;
    let Some(orphan) = orphan else {
        orphans.remove(key)?;
        return Ok(());
    };
    orphans.insert(key, orphan)?;
    while orphans.len()? > ORPHANS_MAX
        && let Some((forgotten, _)) = orphans.pop_first()?
    {
        let session = SessionId::from_bytes(*forgotten.value());
        tracing::warn!(%session, "a session that may go on upstream is not kept in mind any longer: there are too many");
    }
    Ok(())
}

/// How many rows of a deleted session one commit removes: a session of gigabytes must not hold up the commits of others.
const SWEEP_ROWS: usize = 64;

/// Deletes a session for everybody who asks for it. True when it has no rows any more; otherwise they are swept later.
fn delete(transaction: &WriteTransaction, session: SessionId) -> DatabaseResult<bool> {
    transaction.open_table(SESSIONS)?.remove(&session.to_bytes())?;
    transaction.open_table(FACTS)?.remove(&session.to_bytes())?;
    transaction.open_table(UNSETTLED)?.remove(&session.to_bytes())?;
    let is_swept = sweep(transaction, session, SWEEP_ROWS)?;
    if !is_swept {
        transaction.open_table(DOOMED)?.insert(&session.to_bytes(), ())?;
    }
    Ok(is_swept)
}

/// Removes rows of a deleted session, at most so many. True when none is left.
fn sweep(transaction: &WriteTransaction, session: SessionId, rows_max: usize) -> DatabaseResult<bool> {
    let (first, last) = (key(session, 0), key(session, u64::MAX));
    let mut removed = 0;
    for table in [EVENTS, MESSAGES, SEGMENTS] {
        for row in transaction.open_table(table)?.extract_from_if::<&Key, _>(&first..=&last, |_, _| true)? {
            row?;
            removed += 1;
            if removed >= rows_max {
                return Ok(false);
            }
        }
    }
    transaction.open_table(DOOMED)?.remove(&session.to_bytes())?;
    Ok(true)
}

/// Deleted sessions whose events are not all removed yet.
pub(super) fn doomed(db: &Database) -> Result<Vec<SessionId>, StartError> {
    let read = || -> DatabaseResult<Vec<SessionId>> {
        let doomed = db.begin_read()?.open_table(DOOMED)?;
        doomed.iter()?.map(|row| Ok(SessionId::from_bytes(*row?.0.value()))).collect()
    };
    Ok(read()?)
}

/// How many rows there are of a session.
#[cfg(test)]
pub(super) fn rows_of(db: &Database, session: SessionId) -> usize {
    let read = || -> DatabaseResult<usize> {
        let (transaction, mut rows) = (db.begin_read()?, 0);
        for table in [EVENTS, MESSAGES, SEGMENTS] {
            let table = transaction.open_table(table)?;
            rows += table.range::<&Key>(&key(session, 0)..=&key(session, u64::MAX))?.count();
        }
        Ok(rows)
    };
    read().unwrap_or(usize::MAX)
}

/// Moves what the journal holds into `events`, and says which number the next journal row takes.
pub(super) fn settle_journal(db: &Database) -> Result<u64, StartError> {
    Ok(settle(db)?)
}

fn settle(db: &Database) -> DatabaseResult<u64> {
    let transaction = begin(db)?;
    // A store of an older version lacks the newer tables.
    make_tables(&transaction)?;
    let mut last = 0;
    {
        let mut journal = transaction.open_table(JOURNAL)?;
        let mut events = transaction.open_table(EVENTS)?;
        let sessions = transaction.open_table(SESSIONS)?;
        for row in journal.iter()? {
            let (number, row) = row?;
            last = number.value();
            for (session, framed) in journaled(row.value()) {
                let first = framed_first(framed);
                // A deleted session's batches may still be here, and so may batches that have been moved.
                let wanted = sessions.get(&session.to_bytes())?.is_some() && head_in(&events, session)? < first;
                if wanted {
                    events.insert(&key(session, first), framed)?;
                }
            }
        }
        journal.retain(|_, _| false)?;
    }
    transaction.commit()?;
    Ok(last + 1)
}

/// A sealed batch in a row: seq of the first event (8 bytes), number of events (4), length (4), the sealed bytes.
pub(super) fn frame(batch: &Batch, sealed: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_HEAD + sealed.len());
    framed.extend_from_slice(&batch.first().to_be_bytes());
    framed.extend_from_slice(&batch.count().to_be_bytes());
    framed.extend_from_slice(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(sealed);
    framed
}

const FRAME_HEAD: usize = 16;

struct Framed<'a> {
    first: u64,
    count: u32,
    sealed: &'a [u8],
    rest: &'a [u8],
}

fn next_framed(row: &[u8]) -> Option<Framed<'_>> {
    let (first, rest) = row.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (sealed, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some(Framed { first: u64::from_be_bytes(*first), count: u32::from_be_bytes(*count), sealed, rest })
}

fn framed_first(framed: &[u8]) -> u64 {
    next_framed(framed).map_or(0, |framed| framed.first)
}

/// A journal row is a sequence of session and framed batch.
pub(super) fn journal_entry(row: &mut Vec<u8>, session: SessionId, framed: &[u8]) {
    row.extend_from_slice(&session.to_bytes());
    row.extend_from_slice(framed);
}

fn journaled(mut row: &[u8]) -> impl Iterator<Item = (SessionId, &[u8])> {
    std::iter::from_fn(move || {
        let (session, framed) = row.split_first_chunk::<16>()?;
        let len = framed.len() - next_framed(framed)?.rest.len();
        let (framed, rest) = framed.split_at(len);
        row = rest;
        Some((SessionId::from_bytes(*session), framed))
    })
}

/// How many batches a row of the journal has, and one of `events`, if the bytes are such a row.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn batches_in(row: &[u8]) -> (usize, usize) {
    let mut rest = row;
    let framed = std::iter::from_fn(|| {
        let framed = next_framed(rest)?;
        rest = framed.rest;
        Some(())
    });
    (journaled(row).count(), framed.count())
}

/// The seq of a session's last event in `events`; 0 when there is none.
pub(super) fn head(db: &Database, session: SessionId) -> Result<u64, ReadError> {
    let read = || -> DatabaseResult<u64> {
        let transaction = db.begin_read()?;
        // What is left of a deleted session is no part of another one under its id.
        if transaction.open_table(DOOMED)?.get(&session.to_bytes())?.is_some() {
            return Ok(0);
        }
        head_in(&transaction.open_table(EVENTS)?, session)
    };
    Ok(read()?)
}

fn head_in(events: &impl ReadableTable<&'static Key, &'static [u8]>, session: SessionId) -> DatabaseResult<u64> {
    let Some(row) = events.range::<&Key>(&key(session, 0)..=&key(session, u64::MAX))?.next_back() else { return Ok(0) };
    let (_, row) = row?;
    let (mut rest, mut head) = (row.value(), 0);
    while let Some(framed) = next_framed(rest) {
        head = framed.first + u64::from(framed.count) - 1;
        rest = framed.rest;
    }
    Ok(head)
}

/// Batches of a session that hold events behind `after` and before `end`: from the first such, until `bytes_max` of
/// sealed bytes have been read. Holds a read transaction only while it copies.
pub(super) fn batches(
    shared: &Shared,
    session: SessionId,
    stream_key: &StreamKey,
    (after, end): (u64, u64),
    bytes_max: usize,
) -> Result<Vec<Batch>, ReadError> {
    let read = || -> DatabaseResult<Vec<(u64, u32, Vec<u8>)>> {
        let events = shared.db.begin_read()?.open_table(EVENTS)?;
        let wanted = key(session, after + 1);
        // The row that holds the event behind the cursor starts at it or before it.
        let holder = events.range::<&Key>(&key(session, 0)..=&wanted)?.next_back().transpose()?;
        let start = holder.map_or(wanted, |(key, _)| *key.value());
        let (mut found, mut bytes) = (Vec::new(), 0);
        for row in events.range::<&Key>(&start..&key(session, end))? {
            let (_, row) = row?;
            let mut rest = row.value();
            while let Some(framed) = next_framed(rest) {
                rest = framed.rest;
                let last = framed.first + u64::from(framed.count) - 1;
                if last > after && framed.first < end && bytes < bytes_max {
                    bytes += framed.sealed.len();
                    found.push((framed.first, framed.count, framed.sealed.to_vec()));
                }
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    };
    let damaged = || ReadError::Damaged { session };
    let mut batches = Vec::new();
    for (first, count, sealed) in read()? {
        let packed = stream_key.open(first, count, &sealed).map_err(|_| damaged())?;
        batches.push(Batch::unpack(first, &packed).map_err(|_| damaged())?);
    }
    Ok(batches)
}

pub(super) fn session(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    row(shared, SESSIONS, session)
}

pub(super) fn facts(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    row(shared, FACTS, session)
}

pub(super) fn orphan(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    row(shared, ORPHANS, session)
}

/// A session's row.
fn row(shared: &Shared, table: PerSession, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    let read = || -> DatabaseResult<Option<Vec<u8>>> {
        let rows = shared.db.begin_read()?.open_table(table)?;
        Ok(rows.get(&session.to_bytes())?.map(|value| value.value().to_vec()))
    };
    read()?.map(|sealed| open_row(shared, table, session, &sealed)).transpose()
}

fn open_row(shared: &Shared, table: PerSession, session: SessionId, sealed: &[u8]) -> Result<Vec<u8>, ReadError> {
    let opened = shared.sealer.open(&row_place(&table, &session.to_string()), sealed);
    Ok(opened.map_err(|_| ReadError::Damaged { session })?.to_vec())
}

pub(super) fn sessions(shared: &Shared, span: Span, limit: usize) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    let read = || -> DatabaseResult<Vec<(SessionId, Vec<u8>)>> {
        let sessions = shared.db.begin_read()?.open_table(SESSIONS)?;
        let (start, end) = match span {
            Span::Before(end) => (Bound::Unbounded, end.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_bytes()))),
            Span::After(start) => {
                (start.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_bytes())), Bound::Unbounded)
            }
        };
        let mut rows = sessions.range::<&[u8; 16]>((start.as_ref(), end.as_ref()))?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = if matches!(span, Span::Before(_)) { rows.next_back() } else { rows.next() }
        {
            let (key, value) = row?;
            found.push((SessionId::from_bytes(*key.value()), value.value().to_vec()));
        }
        Ok(found)
    };
    read()?.into_iter().map(|(id, sealed)| Ok((id, open_row(shared, SESSIONS, id, &sealed)?))).collect()
}

/// Sessions that may go on upstream, by when they were made: behind `after`, at most `limit`.
pub(super) fn orphans(
    shared: &Shared,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    let read = || -> DatabaseResult<Vec<(SessionId, Vec<u8>)>> {
        let orphans = shared.db.begin_read()?.open_table(ORPHANS)?;
        let after = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_bytes()));
        let rows = orphans.range::<&[u8; 16]>((after.as_ref(), Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((SessionId::from_bytes(*key.value()), value.value().to_vec()))
        })
        .collect()
    };
    read()?.into_iter().map(|(id, sealed)| Ok((id, open_row(shared, ORPHANS, id, &sealed)?))).collect()
}

/// The table knows its length.
pub(super) fn session_count(db: &Database) -> Result<u64, ReadError> {
    let read = || -> DatabaseResult<u64> { Ok(db.begin_read()?.open_table(SESSIONS)?.len()?) };
    Ok(read()?)
}

/// The sessions that have something to do.
pub(super) fn unsettled(db: &Database) -> Result<Vec<SessionId>, ReadError> {
    let read = || -> DatabaseResult<Vec<SessionId>> {
        let unsettled = db.begin_read()?.open_table(UNSETTLED)?;
        unsettled.iter()?.map(|row| Ok(SessionId::from_bytes(*row?.0.value()))).collect()
    };
    Ok(read()?)
}

pub(super) fn messages(
    shared: &Shared,
    session: SessionId,
    run: Run,
    limit: Limit,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    numbered(shared, MESSAGES, session, run, limit)
}

pub(super) fn segments(
    shared: &Shared,
    session: SessionId,
    run: Run,
    limit: Limit,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    numbered(shared, SEGMENTS, session, run, limit)
}

/// Some of a session's numbered rows, as many as a [`Limit`] allows. They come by number either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The first from this number on.
    From(u64),
    /// The last before this number.
    Before(u64),
}

/// How much is read at once: never more rows, and no more once so many bytes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Rows.
    pub rows: usize,
    /// The size of what is stored.
    pub bytes: usize,
}

impl Limit {
    /// For what is bounded otherwise.
    pub const NONE: Self = Self { rows: usize::MAX, bytes: usize::MAX };
}

fn numbered(
    shared: &Shared,
    table: Numbered,
    session: SessionId,
    run: Run,
    limit: Limit,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let read = || -> DatabaseResult<Vec<(u64, Vec<u8>)>> {
        let rows = shared.db.begin_read()?.open_table(table)?;
        let (start, end) = match run {
            Run::From(from) => (Bound::Included(key(session, from)), Bound::Included(key(session, u64::MAX))),
            Run::Before(end) => (Bound::Included(key(session, 0)), Bound::Excluded(key(session, end))),
        };
        let mut rows = rows.range::<&Key>((start.as_ref(), end.as_ref()))?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < limit.rows
            && bytes < limit.bytes
            && let Some(row) = if matches!(run, Run::From(_)) { rows.next() } else { rows.next_back() }
        {
            let (key, value) = row?;
            bytes += value.value().len();
            found.push((split_key(key.value()).1, value.value().to_vec()));
        }
        if matches!(run, Run::Before(_)) {
            found.reverse();
        }
        Ok(found)
    };
    let owner = session.to_string();
    let open = |(number, sealed): (u64, Vec<u8>)| {
        let opened = shared.sealer.open(&numbered_place(&table, &owner, &number.to_string()), &sealed);
        Ok((number, opened.map_err(|_| ReadError::Damaged { session })?.to_vec()))
    };
    read()?.into_iter().map(open).collect()
}
