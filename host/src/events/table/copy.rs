//! The log in a backup: its rows of one moment, and a log made of them.

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use lap_seal::{Sealer, StreamKey};
use lap_store::{
    ALL, Direction, Table, View, between,
    copy::{CopyError, Fill, Sink},
};

use super::{
    DOOMED, EPOCH, EVENTS, FACTS, JOURNAL, MESSAGES, ORPHANS, SEGMENTS, SESSIONS, StoreResult, TABLES, UNSETTLED,
    epoch_in, framed_first, head_in, journaled, new_file, next_framed, numbered_place, open, open_batch, open_row,
    opened_record, session_of, split_key,
};
use crate::{
    events::{EventLog, ReadError, StartError, record::End, standing::Anchor},
    id::SessionId,
};

/// The rows of the log at one moment: everything that was acknowledged before. The file cannot reuse what this sees,
/// so it must not be kept.
pub struct Moment(View);

impl Moment {
    /// Tells `to` of all rows.
    ///
    /// # Errors
    /// When they cannot be read, or `to` fails.
    pub fn copy(&self, to: &mut Sink<'_>) -> Result<(), CopyError> {
        self.0.copy(TABLES.iter().copied(), to)
    }
}

impl EventLog {
    /// The rows as they are now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn moment(&self) -> Result<Moment, CopyError> {
        Ok(Moment(self.shared.store.view()?))
    }

    /// Begins a new log in the file `path`, to be filled with the rows of a copy.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn fill(path: &Path) -> Result<Fill, StartError> {
        Ok(Fill::new(new_file(path)?, TABLES.to_vec()))
    }

    /// Counts what a log holds that nobody uses.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn count(path: &Path) -> Result<Counts, StartError> {
        Ok(count(&open(path)?.view()?)?)
    }

    /// Opens every row of a log that nobody uses, and holds those of each session against each other.
    ///
    /// # Errors
    /// Names the session of the first that is not what was written, or that is missing.
    pub fn verify(path: &Path, sealer: &Sealer) -> Result<(), VerifyError> {
        let view = open(path)?.view().map_err(StartError::from)?;
        let damaged = first_damaged(&view, sealer).map_err(StartError::from)?;
        damaged.map_or(Ok(()), |session| Err(ReadError::Damaged { session }.into()))
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Events of all of them.
    pub events: u64,
    /// Messages of their users.
    pub messages: u64,
}

/// Why a log is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read at all.
    #[error(transparent)]
    Unreadable(#[from] StartError),
    /// Something in it was altered.
    #[error(transparent)]
    Damaged(#[from] ReadError),
}

fn count(view: &View) -> StoreResult<Counts> {
    let (sessions, events) = (view.rows(SESSIONS)?, view.rows(EVENTS)?);
    let mut counts = Counts { sessions: 0, events: 0, messages: view.rows(MESSAGES)?.count()? };
    for key in sessions.keys(ALL)? {
        counts.sessions += 1;
        // Numbers have no gap, so the last one is how many there are.
        counts.events += head_in(&*events, session_of(&key))?;
    }
    // The journal is small: what it may hold fits into a host's memory.
    let mut journaled_heads = HashMap::<SessionId, u64>::new();
    view.rows(JOURNAL)?.scan(ALL, Direction::Forwards, &mut |_, row| {
        for (session, framed) in journaled(row) {
            let count = next_framed(framed).map_or(0, |framed| u64::from(framed.count));
            let head = (framed_first(framed) + count).saturating_sub(1);
            let known = journaled_heads.entry(session).or_default();
            *known = head.max(*known);
        }
        ControlFlow::Continue(())
    })?;
    for (session, head) in journaled_heads {
        if sessions.get(&session.to_bytes())?.is_some() {
            counts.events += head.saturating_sub(head_in(&*events, session)?);
        }
    }
    Ok(counts)
}

/// The session of the first row that does not open, or that contradicts another one.
fn first_damaged(view: &View, sealer: &Sealer) -> StoreResult<Option<SessionId>> {
    let verifier = Verifier { view, sealer, epoch: epoch_in(&*view.rows(EPOCH)?)?, journal: journal(view)? };
    let damaged = first(view, SESSIONS, |key, sealed| {
        let session = session_of(key);
        Ok((!verifier.is_whole(session, sealed)?).then_some(session))
    })?;
    if damaged.is_some() {
        return Ok(damaged);
    }
    let damaged = first(view, ORPHANS, |key, sealed| {
        let session = session_of(key);
        Ok(open_row(sealer, ORPHANS, session, sealed).is_err().then_some(session))
    })?;
    if damaged.is_some() {
        return Ok(damaged);
    }
    // Rows whose session's record was removed.
    for table in [EVENTS, MESSAGES, SEGMENTS, FACTS, UNSETTLED] {
        let mut known = None;
        let damaged = first(view, table, |key, _| {
            let session = session_of(key);
            if known == Some(session) {
                return Ok(None);
            }
            known = Some(session);
            let is_there = |table| Ok(view.rows(table)?.get(&session.to_bytes())?.is_some());
            Ok((!is_there(SESSIONS)? && !is_there(DOOMED)?).then_some(session))
        })?;
        if damaged.is_some() {
            return Ok(damaged);
        }
    }
    Ok(None)
}

/// The first thing that is found in a row of a table.
fn first<T>(
    view: &View,
    table: Table,
    mut find: impl FnMut(&[u8], &[u8]) -> StoreResult<Option<T>>,
) -> StoreResult<Option<T>> {
    let mut found = Ok(None);
    view.rows(table)?.scan(ALL, Direction::Forwards, &mut |key, value| {
        found = find(key, value);
        if matches!(found, Ok(None)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found
}

/// The batches that the journal has of each session.
fn journal(view: &View) -> StoreResult<HashMap<SessionId, Vec<Vec<u8>>>> {
    let mut journal = HashMap::<_, Vec<_>>::new();
    view.rows(JOURNAL)?.scan(ALL, Direction::Forwards, &mut |_, row| {
        for (session, framed) in journaled(row) {
            journal.entry(session).or_default().push(framed.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    Ok(journal)
}

/// Looks at all rows of sessions.
struct Verifier<'a> {
    view: &'a View,
    sealer: &'a Sealer,
    epoch: u64,
    journal: HashMap<SessionId, Vec<Vec<u8>>>,
}

impl Verifier<'_> {
    /// True when all rows of a session open and agree with each other. `sealed` is its record.
    fn is_whole(&self, session: SessionId, sealed: &[u8]) -> StoreResult<bool> {
        let Ok(record) = opened_record(self.sealer, session, sealed) else { return Ok(false) };
        let facts = self.view.rows(FACTS)?.get(&session.to_bytes())?;
        if facts.as_ref().is_some_and(|facts| open_row(self.sealer, FACTS, session, facts).is_err()) {
            return Ok(false);
        }
        let counts = (self.numbered(MESSAGES, session)?, self.numbered(SEGMENTS, session)?);
        let (Some(messages), Some(segments)) = counts else { return Ok(false) };
        let mut walk = Walk::new(self.sealer, session, record.anchor);
        let (from, to) = (super::key(session, 0), super::key(session, u64::MAX));
        self.view.rows(EVENTS)?.scan(between(&from, &to), Direction::Forwards, &mut |_, row| walk.row(row))?;
        for framed in self.journal.get(&session).into_iter().flatten() {
            // One that was moved may still be here.
            if framed_first(framed) > walk.end.seq && walk.row(framed).is_break() {
                break;
            }
        }
        let last = walk.end.chain.link;
        let is_late = last.is_none_or(|link| link.record <= record.version && link.epoch <= self.epoch);
        let agrees = match record.anchor {
            None => true,
            Some(anchor) => {
                let unsettled = self.view.rows(UNSETTLED)?.get(&session.to_bytes())?.is_some();
                let version = facts.as_deref().and_then(lap_seal::version).unwrap_or(0);
                // More may have come since the record was written; none of them goes.
                let are_there = messages >= anchor.messages && segments >= anchor.segments;
                version == anchor.facts && are_there && anchor.settled != unsettled && !anchor.damaged
            }
        };
        Ok(walk.is_whole && walk.met_anchor && is_late && agrees)
    }

    /// How many numbered rows a session has in a table; nothing where one does not open, or is missing.
    fn numbered(&self, table: Table, session: SessionId) -> StoreResult<Option<u64>> {
        let (mut count, mut is_whole, owner) = (0, true, session.to_string());
        let (from, to) = (super::key(session, 0), super::key(session, u64::MAX));
        self.view.rows(table)?.scan(between(&from, &to), Direction::Forwards, &mut |key, sealed| {
            let (_, number) = split_key(key);
            let place = number.to_string();
            is_whole &= number == count && self.sealer.open(&numbered_place(table, &owner, &place), sealed).is_ok();
            count += 1;
            if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(is_whole.then_some(count))
    }
}

/// A walk over the batches of a session, from the first on.
struct Walk {
    key: StreamKey,
    end: End,
    anchor: Option<Anchor>,
    /// True once the batch was there that the record speaks of.
    met_anchor: bool,
    is_whole: bool,
}

impl Walk {
    fn new(sealer: &Sealer, session: SessionId, anchor: Option<Anchor>) -> Self {
        let met_anchor = anchor.is_none_or(|anchor| anchor.seq == 0);
        Self { key: sealer.stream_key(&session.to_bytes()), end: End::START, anchor, met_anchor, is_whole: true }
    }

    fn row(&mut self, mut row: &[u8]) -> ControlFlow<()> {
        while let Some(framed) = next_framed(row) {
            row = framed.rest;
            let batch = open_batch(&self.key, (framed.first, framed.count), framed.sealed);
            let Some(batch) = batch.filter(|batch| batch.follows(&self.end)) else {
                self.is_whole = false;
                return ControlFlow::Break(());
            };
            self.end = batch.end();
            self.met_anchor |= self
                .anchor
                .is_some_and(|Anchor { seq, digest, .. }| (seq, digest) == (self.end.seq, self.end.chain.digest));
        }
        self.is_whole &= row.is_empty();
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use lap_store::Store;

    use super::*;
    use crate::{
        events::{Draft, JournalLimits, Limit, Record, table::create},
        vault::{Vault, VaultKey},
    };

    type Row = (Table, Vec<u8>);

    const SMALL: usize = 20;
    const LARGE: usize = 20_000;

    const TOLD_BY_OTHERS: [Table; 7] = [SESSIONS, FACTS, MESSAGES, SEGMENTS, EVENTS, UNSETTLED, JOURNAL];

    /// By the name of their table and their key: the row, and its value.
    type AllRows = BTreeMap<(&'static str, Vec<u8>), (Row, Vec<u8>)>;

    fn rows(store: &Store) -> AllRows {
        let view = store.view().unwrap();
        let mut rows = BTreeMap::new();
        for table in TOLD_BY_OTHERS.into_iter().chain([EPOCH]) {
            let mut read = |key: &[u8], value: &[u8]| {
                rows.insert((table.name(), key.to_vec()), ((table, key.to_vec()), value.to_vec()));
                ControlFlow::Continue(())
            };
            view.rows(table).unwrap().scan(ALL, Direction::Forwards, &mut read).unwrap();
        }
        rows
    }

    fn put(store: &Store, (table, key): &Row, value: Option<&[u8]>) {
        let commit = store.begin().unwrap();
        match value {
            Some(value) => commit.rows(*table).unwrap().put(key, value).unwrap(),
            None => drop(commit.rows(*table).unwrap().remove(key).unwrap()),
        }
        commit.commit().unwrap();
    }

    fn draft(kind: &str, bytes: usize) -> Draft {
        let mut draft = Draft::default();
        draft.push(kind, &format!(r#"{{"type":"{kind}","x":"{}"}}"#, "x".repeat(bytes)));
        draft
    }

    /// A log with a session that has rows of every kind, and each value that a row of it ever had.
    struct World {
        log: EventLog,
        sealer: Sealer,
        session: SessionId,
        history: Vec<(Row, Vec<u8>)>,
        _directory: tempfile::TempDir,
    }

    impl World {
        /// The last event has so many bytes: a large one leaves the journal empty, a small one stays there.
        async fn new(last_bytes: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let key = VaultKey::generate();
            Vault::init(directory.path(), &key).unwrap();
            let sealer = Vault::open(directory.path(), key).unwrap().sealer();
            // What is small stays in the journal.
            let limits = JournalLimits { age: Duration::from_hours(1), ..JournalLimits::NORMAL };
            let store = create(&directory.path().join("log")).unwrap();
            let log = EventLog::start(store, sealer.clone(), limits, false).unwrap();
            let session = SessionId::fresh();
            let mut world = Self { log, sealer, session, history: Vec::new(), _directory: directory };
            let mut writer = world.log.writer(session, true).unwrap();
            let record = |version: u64| Record::Session { version, bytes: format!("{{\"v\":{version}}}").into_bytes() };
            let message = |number| Record::Message { number, bytes: b"message".to_vec() };
            let steps = [
                (Draft::default(), vec![record(1), Record::Facts(b"facts".to_vec())], true),
                (draft("a", SMALL), vec![record(2), message(0)], false),
                (draft("b", LARGE), vec![], false),
                (draft("c", LARGE), vec![Record::Segment { number: 0, bytes: b"segment".to_vec() }], false),
                (Draft::default(), vec![record(3), Record::Facts(b"other facts".to_vec())], false),
                (draft("d", SMALL), vec![message(1)], false),
                (
                    draft("e", last_bytes),
                    vec![record(4), Record::Segment { number: 1, bytes: b"segment".to_vec() }],
                    true,
                ),
            ];
            for (draft, records, settled) in steps {
                writer.append(draft, records, settled).await.unwrap();
                world.history.extend(rows(&world.log.shared.store).into_values());
            }
            drop(writer);
            world
        }

        fn store(&self) -> &Store {
            &self.log.shared.store
        }

        fn is_damaged(&self) -> bool {
            first_damaged(&self.store().view().unwrap(), &self.sealer).unwrap() == Some(self.session)
        }

        /// True when who wants to append, or to read all of it, is told so.
        async fn is_refused(&self) -> bool {
            let writer = self.log.writer(self.session, true).unwrap();
            let mut recall = writer.reader(0);
            if recall.next_page(1, 1).is_err() || self.log.facts(self.session).is_err() {
                return true;
            }
            let mut reader = self.log.reader(self.session, true, 0).unwrap();
            let mut seq = 0;
            loop {
                let Ok(page) = reader.pull(2, 1024 * 1024).await else { return true };
                if page.is_empty() {
                    return seq != reader.head().seq;
                }
                seq = reader.after();
            }
        }
    }

    #[tokio::test]
    async fn no_row_can_be_removed_or_put_back_as_it_was() {
        for last_bytes in [SMALL, LARGE] {
            none_can_be_removed_or_put_back(last_bytes).await;
        }
    }

    async fn none_can_be_removed_or_put_back(last_bytes: usize) {
        let world = World::new(last_bytes).await;
        assert!(!world.is_damaged() && !world.is_refused().await);
        let now = rows(world.store());
        let (mut removed, mut aged) = (0, 0);
        for (row, value) in now.values().filter(|((table, _), _)| *table != EPOCH) {
            put(world.store(), row, None);
            assert!(world.is_damaged(), "{} {:?} was removed", row.0.name(), row.1);
            put(world.store(), row, Some(value));
            removed += 1;
        }
        // Also what is not there any more.
        for (row, value) in &world.history {
            let latest = now.get(&(row.0.name(), row.1.clone())).map(|(_, value)| value);
            if latest == Some(value) {
                continue;
            }
            put(world.store(), row, Some(value));
            // A batch that was moved may be in the journal still, and does no harm there.
            if row.0 != JOURNAL {
                assert!(world.is_damaged(), "{} {:?} was put back", row.0.name(), row.1);
            }
            put(world.store(), row, latest.map(Vec::as_slice));
            aged += 1;
        }
        assert!(!world.is_damaged() && removed >= 8 && aged >= 5, "{removed} {aged}");
    }

    #[tokio::test]
    async fn whoever_appends_or_reads_finds_what_was_put_back() {
        let world = World::new(LARGE).await;
        let now = rows(world.store());
        let is_old = |(row, value): &&(Row, Vec<u8>)| {
            now.get(&(row.0.name(), row.1.clone())).is_some_and(|(_, latest)| latest != value)
        };
        let old: Vec<_> = world.history.iter().filter(is_old).collect();
        for (row, value) in old.iter().filter(|((table, _), _)| [SESSIONS, FACTS, EVENTS].contains(table)) {
            put(world.store(), row, Some(value));
            assert!(world.is_refused().await, "{} was put back", row.0.name());
            let latest = &now[&(row.0.name(), row.1.clone())].1;
            put(world.store(), row, Some(latest));
        }
        for (row, value) in now.values().filter(|((table, _), _)| [FACTS, EVENTS].contains(table)) {
            put(world.store(), row, None);
            assert!(world.is_refused().await, "{} {:?} was removed", row.0.name(), row.1);
            put(world.store(), row, Some(value));
        }
        assert!(!world.is_refused().await);
    }

    #[tokio::test]
    async fn what_is_appended_to_a_damaged_session_does_not_hide_that_it_is() {
        let world = World::new(LARGE).await;
        let now = rows(world.store());
        let (row, _) = now.values().rfind(|((table, _), _)| *table == EVENTS).unwrap();
        put(world.store(), row, None);
        let mut writer = world.log.writer(world.session, true).unwrap();
        assert_eq!(writer.next_seq(), 4, "the log's end was cut off");
        let record = Record::Session { version: 5, bytes: b"{}".to_vec() };
        writer.append(draft("session.error", LARGE), vec![record], true).await.unwrap();
        assert!(writer.reader(0).next_page(1, 1).is_err());
        drop(writer);
        assert!(world.is_damaged());
        let writer = world.log.writer(world.session, true).unwrap();
        assert!(writer.reader(0).next_page(1, 1).is_err() && writer.reader(0).segments(0, Limit::NONE).is_err());
        // Clients are told what is there.
        let mut reader = world.log.reader(world.session, true, 0).unwrap();
        assert_eq!(reader.pull(10, 1024 * 1024).await.unwrap().events().count(), 4);
    }

    #[tokio::test]
    async fn clients_read_on_behind_a_record_that_was_put_back() {
        let world = World::new(LARGE).await;
        let is_record = |((table, _), _): &&(Row, Vec<u8>)| *table == SESSIONS;
        let (row, old) = world.history.iter().find(is_record).unwrap();
        put(world.store(), row, Some(old));
        let mut writer = world.log.writer(world.session, true).unwrap();
        let record = Record::Session { version: 2, bytes: b"{}".to_vec() };
        writer.append(draft("session.error", LARGE), vec![record], true).await.unwrap();
        drop(writer);
        assert!(world.is_damaged());
        let mut reader = world.log.reader(world.session, true, 0).unwrap();
        let mut read = 0;
        while read < 6 {
            let page = reader.pull(10, 1024).await.unwrap();
            assert!(!page.is_empty(), "{read}");
            read += page.events().count();
        }
    }

    #[tokio::test]
    async fn a_batch_of_a_copy_that_went_on_by_itself_is_found() {
        let world = World::new(LARGE).await;
        let (session, store) = (world.session, world.store());
        let at_the_fork = rows(store);
        let mut forks = Vec::new();
        for text in ["one", "other"] {
            let mut writer = world.log.writer(session, true).unwrap();
            for _ in 0..2 {
                writer.append(draft(text, LARGE), Vec::new(), true).await.unwrap();
            }
            drop(writer);
            let fork = rows(store);
            // Back to the fork, as a backup that is put back.
            for (row, _) in fork.values() {
                let before = at_the_fork.get(&(row.0.name(), row.1.clone()));
                put(store, row, before.map(|(_, value)| &value[..]));
            }
            forks.push(fork);
        }
        let [one, other] = &forks[..] else { unreachable!("two were made") };
        for (row, value) in other.values() {
            put(store, row, Some(value));
        }
        assert!(!world.is_damaged() && !world.is_refused().await);
        let of_one: Vec<_> = one.iter().filter(|(key, value)| other.get(*key) != Some(value)).collect();
        assert_eq!(of_one.len(), 2, "each fork has two rows of its own");
        let (key, (row, value)) = of_one[0];
        put(store, row, Some(value));
        assert!(world.is_damaged() && world.is_refused().await);
        put(store, row, Some(&other[key].1));
        assert!(!world.is_damaged());
    }

    #[tokio::test]
    async fn an_epoch_that_was_put_back_is_found_with_the_first_batch_of_a_later_one() {
        let world = World::new(LARGE).await;
        let epoch = (EPOCH, super::super::EPOCH_KEY.to_vec());
        put(world.store(), &epoch, Some(&0u64.to_be_bytes()));
        assert!(world.is_damaged());
        put(world.store(), &epoch, None);
        assert!(world.is_damaged());
    }
}
