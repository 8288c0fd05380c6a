//! The log in a backup: its rows of one moment, and a log made of them. Adding a table to the log adds it here.

use std::{collections::HashMap, path::Path};

use lap_seal::Sealer;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableHandle};

use super::{
    DOOMED, DatabaseError, DatabaseResult, EVENTS, FACTS, JOURNAL, MESSAGES, Numbered, ORPHANS, PerSession, SEGMENTS,
    SESSIONS, UNSETTLED, framed_first, head_in, journaled, new_file, next_framed, numbered_place, open, row_place,
    split_key,
};
use crate::{
    events::{
        EventLog, ReadError, StartError,
        reservation::{EXPIRIES as RESERVATION_EXPIRIES, RESERVATIONS},
    },
    id::SessionId,
    vault::{CopyError, Fill, Sink, StoredTable, copy_rows},
};

/// Every table of `events.redb`.
static TABLES: &[&dyn StoredTable] = &[
    &JOURNAL,
    &EVENTS,
    &SESSIONS,
    &MESSAGES,
    &SEGMENTS,
    &FACTS,
    &ORPHANS,
    &UNSETTLED,
    &DOOMED,
    &RESERVATIONS,
    &RESERVATION_EXPIRIES,
];

/// The rows of the log at one moment: everything that was acknowledged before. The file cannot reuse what this sees,
/// so it must not be kept.
pub struct Moment(ReadTransaction);

impl Moment {
    /// Tells `to` of all rows.
    ///
    /// # Errors
    /// When they cannot be read, or `to` fails.
    pub fn copy(&self, to: &mut Sink<'_>) -> Result<(), CopyError> {
        copy_rows(&self.0, TABLES, to)
    }
}

impl EventLog {
    /// The rows as they are now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn moment(&self) -> Result<Moment, CopyError> {
        let transaction = self.shared.db.begin_read();
        Ok(Moment(transaction.map_err(|error| CopyError::Database(Box::new(error.into())))?))
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
        let db = open(path)?;
        let transaction = db.begin_read().map_err(DatabaseError::from)?;
        Ok(count(&transaction)?)
    }

    /// Opens every record and every batch of events of a log that nobody uses.
    ///
    /// # Errors
    /// Names the first that is not what was written.
    pub fn verify(path: &Path, sealer: &Sealer) -> Result<(), VerifyError> {
        let db = open(path)?;
        let transaction = db.begin_read().map_err(DatabaseError::from).map_err(StartError::from)?;
        let damaged = first_damaged(&transaction, sealer).map_err(StartError::from)?;
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

fn count(transaction: &ReadTransaction) -> DatabaseResult<Counts> {
    let (sessions, events) = (transaction.open_table(SESSIONS)?, transaction.open_table(EVENTS)?);
    let mut counts = Counts { sessions: 0, events: 0, messages: transaction.open_table(MESSAGES)?.len()? };
    for row in sessions.iter()? {
        counts.sessions += 1;
        // Numbers have no gap, so the last one is how many there are.
        counts.events += head_in(&events, SessionId::from_bytes(*row?.0.value()))?;
    }
    // The journal is small: what it may hold fits into a host's memory.
    let mut journaled_heads = HashMap::<SessionId, u64>::new();
    for row in transaction.open_table(JOURNAL)?.iter()? {
        for (session, framed) in journaled(row?.1.value()) {
            let count = next_framed(framed).map_or(0, |framed| u64::from(framed.count));
            let head = (framed_first(framed) + count).saturating_sub(1);
            let known = journaled_heads.entry(session).or_default();
            *known = head.max(*known);
        }
    }
    for (session, head) in journaled_heads {
        if sessions.get(&session.to_bytes())?.is_some() {
            counts.events += head.saturating_sub(head_in(&events, session)?);
        }
    }
    Ok(counts)
}

/// The session of the first record that does not open.
fn first_damaged(transaction: &ReadTransaction, sealer: &Sealer) -> DatabaseResult<Option<SessionId>> {
    let tables: Vec<_> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    // A log that was last open before there was a table lacks it.
    let is_there = |name: &str| tables.iter().any(|table| table == name);
    for table in [SESSIONS, FACTS, ORPHANS].iter().filter(|table: &&PerSession| is_there(table.name())) {
        for row in transaction.open_table(*table)?.iter()? {
            let (key, sealed) = row?;
            let session = SessionId::from_bytes(*key.value());
            if sealer.open(&row_place(table, &session.to_string()), sealed.value()).is_err() {
                return Ok(Some(session));
            }
        }
    }
    for table in [MESSAGES, SEGMENTS].iter().filter(|table: &&Numbered| is_there(table.name())) {
        for row in transaction.open_table(*table)?.iter()? {
            let (key, sealed) = row?;
            let (session, number) = split_key(key.value());
            if sealer.open(&numbered_place(table, &session.to_string(), &number.to_string()), sealed.value()).is_err() {
                return Ok(Some(session));
            }
        }
    }
    for row in transaction.open_table(EVENTS)?.iter()? {
        let (key, batches) = row?;
        let (session, _) = split_key(key.value());
        if !batches_open(sealer, session, batches.value()) {
            return Ok(Some(session));
        }
    }
    for row in transaction.open_table(JOURNAL)?.iter()? {
        let (_, batches) = row?;
        let damaged = journaled(batches.value()).find(|(session, framed)| !batches_open(sealer, *session, framed));
        if let Some((session, _)) = damaged {
            return Ok(Some(session));
        }
    }
    Ok(None)
}

fn batches_open(sealer: &Sealer, session: SessionId, mut row: &[u8]) -> bool {
    let key = sealer.stream_key(&session.to_bytes());
    while let Some(framed) = next_framed(row) {
        if key.open(framed.first, framed.count, framed.sealed).is_err() {
            return false;
        }
        row = framed.rest;
    }
    row.is_empty()
}
