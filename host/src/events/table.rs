//! The tables of `events.redb`, and how a row looks. Nobody else of this module names a key, but `reservation.rs`, which
//! has tables of its own.

mod copy;

use std::{
    io,
    ops::{Bound, ControlFlow},
    path::Path,
};

use lap_seal::{Link, Place, Sealer, StreamKey};
#[cfg(test)]
use lap_store::Disk;
use lap_store::{ALL, Cause, Commit, Direction, Limit, OpenError, Options, Rows, RowsMut, Store, Table, between};

pub use self::copy::{Counts, Moment, VerifyError};
use super::{
    ReadError, Shared,
    record::{Batch, Chain, End},
    reservation,
    standing::{Anchor, Standing},
};
use crate::id::SessionId;

/// The page cache. Live readers are served from memory; this is for those who read history. A backup reads all of it
/// and fills the cache, so this is also most of what a backup adds to the memory of a host that nobody has asked yet.
const CACHE_BYTES: usize = 24 * 1024 * 1024;

/// A log of 4 GiB opens at once after a crash.
const fn options(forgets: bool) -> Options {
    Options { cache_bytes: CACHE_BYTES, checks_all: false, recovers_at_once: true, forgets }
}

pub(super) type Key = [u8; 24];

pub(super) const JOURNAL: Table = Table::of_u64("journal");
pub(super) const EVENTS: Table = Table::of_24("events");
const SESSIONS: Table = Table::of_16("sessions");
const MESSAGES: Table = Table::of_24("messages");
/// The index of a session's events: which of its upstream's the log has.
const SEGMENTS: Table = Table::of_24("segments");
/// What is large about a session and seldom changes.
const FACTS: Table = Table::of_16("facts");
/// Sessions that are over or gone here and may go on upstream.
const ORPHANS: Table = Table::of_16("orphans");
/// How many of those are kept in mind; the one that was made first is forgotten for one more.
const ORPHANS_MAX: u64 = 10_000;
/// Deleted sessions whose events are not all removed yet.
const DOOMED: Table = Table::set_of_16("doomed");
/// The sessions that have something to do: few, however many sessions there are.
const UNSETTLED: Table = Table::set_of_16("unsettled");

/// How often the store was opened to be written to, under the key 0.
const EPOCH: Table = Table::of_u64("epoch");
const EPOCH_KEY: [u8; 8] = [0; 8];

/// Every table of `events.redb`.
static TABLES: &[Table] = &[
    JOURNAL,
    EVENTS,
    SESSIONS,
    MESSAGES,
    SEGMENTS,
    FACTS,
    ORPHANS,
    UNSETTLED,
    DOOMED,
    EPOCH,
    reservation::RESERVATIONS,
    reservation::EXPIRIES,
];

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
    Database(#[source] Cause),
    /// What the file holds is no log any more.
    #[error("the event log is damaged: put back a backup")]
    Damaged,
    /// The committer has no thread.
    #[error("no thread for the event log")]
    Thread(#[source] io::Error),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::Io(error),
            OpenError::InUse => Self::InUse,
            OpenError::Refused(cause) => Self::Database(cause),
            OpenError::Damaged => Self::Damaged,
        }
    }
}

impl From<lap_store::Error> for StartError {
    fn from(error: lap_store::Error) -> Self {
        OpenError::from(error).into()
    }
}

pub(super) type StoreResult<T> = Result<T, lap_store::Error>;

pub(super) fn create(path: &Path) -> Result<Store, StartError> {
    with_tables(new_file(path)?)
}

#[cfg(test)]
pub(super) fn create_on(disk: impl Disk) -> Result<Store, StartError> {
    with_tables(Store::create_on(disk, options(false))?)
}

fn with_tables(store: Store) -> Result<Store, StartError> {
    let commit = store.begin()?;
    make_tables(&commit)?;
    commit.commit()?;
    Ok(store)
}

/// A store without tables.
fn new_file(path: &Path) -> Result<Store, StartError> {
    Ok(Store::create(crate::vault::create_private_file(path)?, options(false))?)
}

fn make_tables(commit: &Commit) -> StoreResult<()> {
    TABLES.iter().try_for_each(|table| commit.rows(*table).map(|_| ()))
}

pub(super) fn open(path: &Path) -> Result<Store, StartError> {
    Ok(Store::open(path, options(false))?)
}

#[cfg(test)]
pub(super) fn open_on(disk: impl Disk, forgets: bool) -> Result<Store, StartError> {
    Ok(Store::open_on(disk, options(forgets))?)
}

/// The log in a file that cannot be written to.
pub(super) fn open_frozen(path: &Path) -> Result<Store, StartError> {
    Ok(Store::open_frozen(path, options(false))?)
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
    /// The version of a session's own record.
    pub(super) const fn version(&self) -> Option<u64> {
        match self {
            Self::Session { version, .. } => Some(*version),
            _ => None,
        }
    }

    /// `standing` is where the session stands with the commit that writes this.
    pub(super) fn seal(self, sealer: &Sealer, session: SessionId, standing: &Standing) -> SealedRecord {
        let of_session =
            |table: Table, version, bytes: &[u8]| sealer.seal(&row_place(table, &session.to_string()), version, bytes);
        let numbered = |table: Table, number: u64, bytes: &[u8]| {
            sealer.seal(&numbered_place(table, &session.to_string(), &number.to_string()), 1, bytes)
        };
        match self {
            Self::Session { version, bytes } => {
                let sealed = of_session(SESSIONS, version, &standing.anchor.before(&bytes));
                SealedRecord::Session { key: session.to_bytes(), sealed, settled: standing.anchor.settled }
            }
            Self::Facts(bytes) => {
                SealedRecord::Facts(session.to_bytes(), of_session(FACTS, standing.anchor.facts, &bytes))
            }
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

/// Where the one row of a session lies.
fn row_place(table: Table, session: &str) -> Place<'_> {
    Place { table: table.name(), owner: "", id: session, field: "record" }
}

/// Where a numbered row of a session lies.
const fn numbered_place<'a>(table: Table, session: &'a str, number: &'a str) -> Place<'a> {
    Place { table: table.name(), owner: session, id: number, field: "record" }
}

pub(super) fn key(session: SessionId, number: u64) -> Key {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&session.to_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// What a key says, which has 24 bytes.
fn split_key(key: &[u8]) -> (SessionId, u64) {
    let (session, number) = key.split_first_chunk().unwrap_or((&[0; 16], &[]));
    (SessionId::from_bytes(*session), number.first_chunk().map_or(0, |number| u64::from_be_bytes(*number)))
}

/// The session of a key, which has 16 bytes.
fn session_of(key: &[u8]) -> SessionId {
    SessionId::from_bytes(*key.first_chunk().unwrap_or(&[0; 16]))
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
pub(super) fn write(store: &Store, changes: &Changes) -> StoreResult<Written> {
    let commit = store.begin()?;
    let mut written = Written::default();
    for &session in &changes.cleared {
        sweep(&commit, session, usize::MAX)?;
    }
    for &session in &changes.deleted {
        if !delete(&commit, session)? {
            written.doomed.push(session);
        }
    }
    if let Some(session) = changes.swept {
        written.is_swept = sweep(&commit, session, SWEEP_ROWS)?;
    }
    if changes.journal.is_some() || changes.journal_settled.is_some() {
        let mut journal = commit.rows(JOURNAL)?;
        if let Some((number, row)) = &changes.journal {
            journal.put(&number.to_be_bytes(), row)?;
        }
        if let Some(settled) = changes.journal_settled {
            let settled = settled.to_be_bytes();
            journal.remove_span((Bound::Unbounded, Bound::Included(&settled)), usize::MAX)?;
        }
    }
    if !changes.rows.is_empty() {
        let mut events = commit.rows(EVENTS)?;
        for (key, row) in &changes.rows {
            events.put(key, row)?;
        }
    }
    write_records(&commit, &changes.records)?;
    written.found = reservation::write(&commit, &changes.reservations)?;
    commit.commit()?;
    Ok(written)
}

fn write_records(commit: &Commit, records: &[SealedRecord]) -> StoreResult<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut sessions = commit.rows(SESSIONS)?;
    let mut messages = commit.rows(MESSAGES)?;
    let mut facts = commit.rows(FACTS)?;
    let mut unsettled = commit.rows(UNSETTLED)?;
    for record in records {
        match record {
            SealedRecord::Session { key, sealed, settled } => {
                sessions.put(key, sealed)?;
                // Most records change nothing here, and a page that is not touched is not written.
                let known = unsettled.get(key)?.is_some();
                match settled {
                    true if known => drop(unsettled.remove(key)?),
                    false if !known => unsettled.put(key, &[])?,
                    true | false => {}
                }
            }
            SealedRecord::Facts(key, sealed) => facts.put(key, sealed)?,
            SealedRecord::Message(key, sealed) => messages.put(key, sealed)?,
            SealedRecord::Segment(key, sealed) => commit.rows(SEGMENTS)?.put(key, sealed)?,
            SealedRecord::Orphan(key, orphan) => write_orphan(&mut *commit.rows(ORPHANS)?, key, orphan.as_deref())?,
            SealedRecord::OrphanAgain(key, orphan) => {
                let mut orphans = commit.rows(ORPHANS)?;
                if orphans.get(key)?.is_some() {
                    write_orphan(&mut *orphans, key, Some(orphan))?;
                }
            }
        }
    }
    Ok(())
}

fn write_orphan(orphans: &mut dyn RowsMut, key: &[u8; 16], orphan: Option<&[u8]>) -> StoreResult<()> {
    let Some(orphan) = orphan else { return orphans.remove(key).map(|_| ()) };
    orphans.put(key, orphan)?;
    while orphans.count()? > ORPHANS_MAX
        && let Some((forgotten, _)) = orphans.first(ALL)?
    {
        orphans.remove(&forgotten)?;
        let session = session_of(&forgotten);
        tracing::warn!(%session, "a session that may go on upstream is not kept in mind any longer: there are too many");
    }
    Ok(())
}

/// How many rows of a deleted session one commit removes: a session of gigabytes must not hold up the commits of others.
const SWEEP_ROWS: usize = 64;

/// Deletes a session for everybody who asks for it. True when it has no rows any more; otherwise they are swept later.
fn delete(commit: &Commit, session: SessionId) -> StoreResult<bool> {
    for table in [SESSIONS, FACTS, UNSETTLED] {
        commit.rows(table)?.remove(&session.to_bytes())?;
    }
    let is_swept = sweep(commit, session, SWEEP_ROWS)?;
    if !is_swept {
        commit.rows(DOOMED)?.put(&session.to_bytes(), &[])?;
    }
    Ok(is_swept)
}

/// Removes rows of a deleted session, at most so many. True when none is left.
fn sweep(commit: &Commit, session: SessionId, rows_max: usize) -> StoreResult<bool> {
    let (first, last) = (key(session, 0), key(session, u64::MAX));
    let mut left = rows_max;
    for table in [EVENTS, MESSAGES, SEGMENTS] {
        left -= commit.rows(table)?.remove_span(between(&first, &last), left)?;
        if left == 0 {
            return Ok(false);
        }
    }
    commit.rows(DOOMED)?.remove(&session.to_bytes())?;
    Ok(true)
}

/// Deleted sessions whose events are not all removed yet.
pub(super) fn doomed(store: &Store) -> Result<Vec<SessionId>, StartError> {
    Ok(sessions_in(store, DOOMED)?)
}

/// The sessions of a table that has no values.
fn sessions_in(store: &Store, table: Table) -> StoreResult<Vec<SessionId>> {
    Ok(store.view()?.rows(table)?.keys(ALL)?.iter().map(|key| session_of(key)).collect())
}

/// How many rows there are of a session.
#[cfg(test)]
pub(super) fn rows_of(store: &Store, session: SessionId) -> usize {
    let (first, last) = (key(session, 0), key(session, u64::MAX));
    let read = || -> StoreResult<usize> {
        let view = store.view()?;
        let count = |table| Ok(view.rows(table)?.keys(between(&first, &last))?.len());
        [EVENTS, MESSAGES, SEGMENTS].into_iter().map(count).sum()
    };
    read().unwrap_or(usize::MAX)
}

/// What a log begins with.
pub(super) struct Beginning {
    /// The number of the next journal row.
    pub(super) commit: u64,
    /// How often the store was opened, this time counted.
    pub(super) epoch: u64,
}

/// Moves what the journal holds into `events`, and counts that.
pub(super) fn begin(store: &Store) -> Result<Beginning, StartError> {
    let commit = store.begin()?;
    // A store of an older version lacks the newer tables.
    make_tables(&commit)?;
    let epoch = epoch_in(&*commit.rows(EPOCH)?)? + 1;
    commit.rows(EPOCH)?.put(&EPOCH_KEY, &epoch.to_be_bytes())?;
    let mut last = 0;
    let mut journal = commit.rows(JOURNAL)?;
    let mut events = commit.rows(EVENTS)?;
    let sessions = commit.rows(SESSIONS)?;
    // The journal is small: what it may hold fits into a host's memory.
    for (number, row) in journal.page(ALL, Direction::Forwards, Limit::NONE)? {
        last = number.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        for (session, framed) in journaled(&row) {
            let first = framed_first(framed);
            // A deleted session's batches may still be here, and so may batches that have been moved.
            if sessions.get(&session.to_bytes())?.is_some() && head_in(&*events, session)? < first {
                events.put(&key(session, first), framed)?;
            }
        }
    }
    journal.remove_span(ALL, usize::MAX)?;
    drop((journal, events, sessions));
    commit.commit()?;
    Ok(Beginning { commit: last + 1, epoch })
}

fn epoch_in<R: Rows + ?Sized>(epochs: &R) -> StoreResult<u64> {
    let stored = epochs.get(&EPOCH_KEY)?;
    Ok(stored.as_deref().and_then(<[u8]>::first_chunk).map_or(0, |epoch| u64::from_be_bytes(*epoch)))
}

/// Seals a batch as it lies in a row, with what it says of the log before it: seq of the first event (8 bytes), number of events
/// (4), length (4), the sealed bytes.
pub(super) fn frame(key: &StreamKey, batch: Batch, link: Link) -> (Batch, Vec<u8>) {
    let sealed_bytes = batch.packed_bytes() + StreamKey::OVERHEAD;
    let mut framed = Vec::with_capacity(FRAME_HEAD + sealed_bytes);
    framed.extend_from_slice(&batch.first().to_be_bytes());
    framed.extend_from_slice(&batch.count().to_be_bytes());
    framed.extend_from_slice(&u32::try_from(sealed_bytes).unwrap_or(u32::MAX).to_be_bytes());
    let digest = key.seal((batch.first(), batch.count()), link, &mut framed, |out| batch.pack_onto(out));
    (batch.chained(Chain { link: Some(link), digest }), framed)
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
pub(super) fn head(store: &Store, session: SessionId) -> Result<u64, ReadError> {
    let view = store.view()?;
    // What is left of a deleted session is no part of another one under its id.
    if view.rows(DOOMED)?.get(&session.to_bytes())?.is_some() {
        return Ok(0);
    }
    Ok(head_in(&*view.rows(EVENTS)?, session)?)
}

fn head_in<R: Rows + ?Sized>(events: &R, session: SessionId) -> StoreResult<u64> {
    let (first, last) = (key(session, 0), key(session, u64::MAX));
    let mut head = 0;
    events.scan(between(&first, &last), Direction::Backwards, &mut |_, mut row| {
        while let Some(framed) = next_framed(row) {
            head = framed.first + u64::from(framed.count) - 1;
            row = framed.rest;
        }
        ControlFlow::Break(())
    })?;
    Ok(head)
}

/// Where a session stands that nobody in this process has appended to. That its rows contradict each other is a part of it.
pub(super) fn standing(shared: &Shared, session: SessionId, stream_key: &StreamKey) -> Result<Standing, ReadError> {
    let view = shared.store.view()?;
    if view.rows(DOOMED)?.get(&session.to_bytes())?.is_some() {
        return Ok(Standing::NEW);
    }
    let mut last = None;
    let (from, to) = (key(session, 0), key(session, u64::MAX));
    view.rows(EVENTS)?.scan(between(&from, &to), Direction::Backwards, &mut |_, mut row| {
        while let Some(framed) = next_framed(row) {
            last = Some((framed.first, framed.count, framed.sealed.to_vec()));
            row = framed.rest;
        }
        ControlFlow::Break(())
    })?;
    let end = last.map_or(Ok(End::START), |(first, count, sealed)| {
        let seq = first + u64::from(count) - 1;
        open_batch(stream_key, (first, count), &sealed).map(|batch| batch.end()).ok_or(End { seq, ..End::START })
    });
    let (is_open, end) = (end.is_ok(), end.unwrap_or_else(|end| end));
    let record = view.rows(SESSIONS)?.get(&session.to_bytes())?;
    let record = record.map(|sealed| opened_record(&shared.sealer, session, &sealed)).transpose()?;
    let facts = view.rows(FACTS)?.get(&session.to_bytes())?.as_deref().and_then(lap_seal::version).unwrap_or(0);
    let (version, anchor) = record.map_or((0, None), |record| (record.version, record.anchor));
    let agrees = is_open && agree(&end, (version, anchor.as_ref()), facts, shared.epoch);
    let count = |table| -> StoreResult<u64> { Ok(view.rows(table)?.keys(between(&from, &to))?.len() as u64) };
    let anchor = match anchor {
        Some(anchor) => anchor,
        None => Anchor { facts, messages: count(MESSAGES)?, segments: count(SEGMENTS)?, ..Standing::NEW.anchor },
    };
    let damaged = anchor.damaged || !agrees;
    if damaged {
        tracing::error!(%session, "the rows of a session are not those that were written: restore it from a backup");
    }
    let anchor = Anchor { seq: end.seq, digest: end.chain.digest, damaged, ..anchor };
    let (latest, epoch) = end.chain.link.map_or((0, 0), |link| (link.record, link.epoch));
    Ok(Standing { anchor, record: version.max(latest), epoch })
}

/// Whether the end of a log, the session's record and the version of its facts are of one time. A record is as late as the log's
/// end says at least, and speaks of no event that the log does not have.
fn agree(end: &End, (version, anchor): (u64, Option<&Anchor>), facts: u64, epoch: u64) -> bool {
    let End { seq, chain } = end;
    let is_late = chain.link.is_none_or(|link| link.record <= version && link.epoch <= epoch);
    let is_of_it = |anchor: &Anchor| {
        let has_its_end = anchor.seq < *seq || (anchor.seq, anchor.digest) == (*seq, chain.digest);
        has_its_end && anchor.facts == facts && !anchor.damaged
    };
    is_late && anchor.is_none_or(is_of_it)
}

/// Batches of a session that hold events behind `after` and before `end`: from the first such, until `bytes_max` of
/// sealed bytes have been read.
pub(super) fn batches(
    shared: &Shared,
    session: SessionId,
    stream_key: &StreamKey,
    (after, end): (u64, u64),
    bytes_max: usize,
) -> Result<Vec<Batch>, ReadError> {
    let damaged = || ReadError::Damaged { session };
    let mut batches = Vec::<Batch>::new();
    for (first, count, sealed) in sealed_batches(&shared.store, session, (after, end), bytes_max)? {
        let batch = open_batch(stream_key, (first, count), &sealed).ok_or_else(damaged)?;
        if batches.last().is_some_and(|last| !batch.follows(&last.end())) {
            return Err(damaged());
        }
        batches.push(batch);
    }
    Ok(batches)
}

fn open_batch(stream_key: &StreamKey, (first, count): (u64, u32), sealed: &[u8]) -> Option<Batch> {
    let opened = stream_key.open(first, count, sealed).ok()?;
    let chain = Chain { link: opened.link(), digest: opened.digest() };
    Some(Batch::unpack(first, opened.plain()).ok()?.chained(chain))
}

/// Those batches as they are stored: the seq of the first event, how many there are, and their bytes.
fn sealed_batches(
    store: &Store,
    session: SessionId,
    (after, end): (u64, u64),
    bytes_max: usize,
) -> StoreResult<Vec<(u64, u32, Vec<u8>)>> {
    let events = store.view()?.rows(EVENTS)?;
    let (first, wanted, end_key) = (key(session, 0), key(session, after + 1), key(session, end));
    // The row that holds the event behind the cursor starts at it or before it.
    let mut start = wanted.to_vec();
    events.scan(between(&first, &wanted), Direction::Backwards, &mut |key, _| {
        start = key.to_vec();
        ControlFlow::Break(())
    })?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    let span = (Bound::Included(&start[..]), Bound::Excluded(&end_key[..]));
    events.scan(span, Direction::Forwards, &mut |_, mut row| {
        while let Some(framed) = next_framed(row) {
            row = framed.rest;
            let last = framed.first + u64::from(framed.count) - 1;
            if last > after && framed.first < end && bytes < bytes_max {
                bytes += framed.sealed.len();
                found.push((framed.first, framed.count, framed.sealed.to_vec()));
            }
        }
        if bytes < bytes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

pub(super) fn session(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    row(shared, SESSIONS, session)
}

/// The facts, which must be those that the record speaks of.
pub(super) fn facts(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    let view = shared.store.view()?;
    let sealed = view.rows(FACTS)?.get(&session.to_bytes())?;
    let record = view.rows(SESSIONS)?.get(&session.to_bytes())?;
    let record = record.map(|sealed| opened_record(&shared.sealer, session, &sealed)).transpose()?;
    let version = sealed.as_deref().and_then(lap_seal::version).unwrap_or(0);
    if record.and_then(|record| record.anchor).is_some_and(|anchor| anchor.facts != version) {
        return Err(ReadError::Damaged { session });
    }
    sealed.map(|sealed| open_row(&shared.sealer, FACTS, session, &sealed)).transpose()
}

pub(super) fn orphan(shared: &Shared, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    row(shared, ORPHANS, session)
}

/// A session's row.
fn row(shared: &Shared, table: Table, session: SessionId) -> Result<Option<Vec<u8>>, ReadError> {
    let sealed = shared.store.view()?.rows(table)?.get(&session.to_bytes())?;
    sealed.map(|sealed| open_row(&shared.sealer, table, session, &sealed)).transpose()
}

/// What is in a session's row, without the anchor if it has one.
fn open_row(sealer: &Sealer, table: Table, session: SessionId, sealed: &[u8]) -> Result<Vec<u8>, ReadError> {
    if table == SESSIONS {
        return Ok(opened_record(sealer, session, sealed)?.bytes);
    }
    let opened = sealer.open(&row_place(table, &session.to_string()), sealed);
    Ok(opened.map_err(|_| ReadError::Damaged { session })?.to_vec())
}

/// The record of a session.
struct OpenedRecord {
    version: u64,
    /// Nothing where it was written before there were any.
    anchor: Option<Anchor>,
    bytes: Vec<u8>,
}

fn opened_record(sealer: &Sealer, session: SessionId, sealed: &[u8]) -> Result<OpenedRecord, ReadError> {
    let opened = sealer.open(&row_place(SESSIONS, &session.to_string()), sealed);
    let plain = opened.map_err(|_| ReadError::Damaged { session })?;
    let (anchor, bytes) = Anchor::split(&plain);
    Ok(OpenedRecord { version: lap_seal::version(sealed).unwrap_or(0), anchor, bytes: bytes.to_vec() })
}

pub(super) fn sessions(shared: &Shared, span: Span, limit: usize) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    let limit = Limit { rows: limit, ..Limit::NONE };
    match span {
        Span::Before(end) => {
            let end = end.map(SessionId::to_bytes);
            let end = end.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id[..]));
            rows_of_sessions(shared, SESSIONS, (Bound::Unbounded, end), Direction::Backwards, limit)
        }
        Span::After(start) => rows_behind(shared, SESSIONS, start, limit),
    }
}

/// Sessions that may go on upstream, by when they were made: behind `after`, at most `limit`.
pub(super) fn orphans(
    shared: &Shared,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    rows_behind(shared, ORPHANS, after, Limit { rows: limit, ..Limit::NONE })
}

fn rows_behind(
    shared: &Shared,
    table: Table,
    after: Option<SessionId>,
    limit: Limit,
) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    let start = after.map(SessionId::to_bytes);
    let start = start.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id[..]));
    rows_of_sessions(shared, table, (start, Bound::Unbounded), Direction::Forwards, limit)
}

fn rows_of_sessions(
    shared: &Shared,
    table: Table,
    span: lap_store::Span<'_>,
    direction: Direction,
    limit: Limit,
) -> Result<Vec<(SessionId, Vec<u8>)>, ReadError> {
    let rows = shared.store.view()?.rows(table)?.page(span, direction, limit)?.into_iter();
    rows.map(|(key, sealed)| {
        let id = session_of(&key);
        Ok((id, open_row(&shared.sealer, table, id, &sealed)?))
    })
    .collect()
}

/// The table knows its length.
pub(super) fn session_count(store: &Store) -> Result<u64, ReadError> {
    Ok(store.view()?.rows(SESSIONS)?.count()?)
}

/// The sessions that have something to do.
pub(super) fn unsettled(store: &Store) -> Result<Vec<SessionId>, ReadError> {
    Ok(sessions_in(store, UNSETTLED)?)
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

fn numbered(
    shared: &Shared,
    table: Table,
    session: SessionId,
    run: Run,
    limit: Limit,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let rows = shared.store.view()?.rows(table)?;
    let rows = match run {
        Run::From(from) => {
            let (first, last) = (key(session, from), key(session, u64::MAX));
            rows.page(between(&first, &last), Direction::Forwards, limit)?
        }
        Run::Before(end) => {
            let (first, end) = (key(session, 0), key(session, end));
            let span = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
            let mut rows = rows.page(span, Direction::Backwards, limit)?;
            rows.reverse();
            rows
        }
    };
    let owner = session.to_string();
    let open = |(key, sealed): (Vec<u8>, Vec<u8>)| -> Result<_, ReadError> {
        let (_, number) = split_key(&key);
        let opened = shared.sealer.open(&numbered_place(table, &owner, &number.to_string()), &sealed);
        Ok((number, opened.map_err(|_| ReadError::Damaged { session })?.to_vec()))
    };
    let found = rows.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    // Numbers have no gap: what is missing was removed.
    if found.windows(2).any(|pair| pair[0].0 + 1 != pair[1].0) {
        return Err(ReadError::Damaged { session });
    }
    Ok(found)
}
