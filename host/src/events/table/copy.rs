//! The log in a backup: its rows of one moment, and a log made of them.

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use lap_seal::Sealer;
use lap_store::{
    ALL, Direction, Table, View,
    copy::{CopyError, Fill, Sink},
};

use super::{
    EVENTS, FACTS, JOURNAL, MESSAGES, ORPHANS, SEGMENTS, SESSIONS, StoreResult, TABLES, framed_first, head_in,
    journaled, new_file, next_framed, numbered_place, open, row_place, session_of, split_key,
};
use crate::{
    events::{EventLog, ReadError, StartError},
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

    /// Opens every record and every batch of events of a log that nobody uses.
    ///
    /// # Errors
    /// Names the first that is not what was written.
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

/// The session of the first record that does not open.
fn first_damaged(view: &View, sealer: &Sealer) -> StoreResult<Option<SessionId>> {
    for table in [SESSIONS, FACTS, ORPHANS] {
        let damaged = first(view, table, |key, sealed| {
            let session = session_of(key);
            sealer.open(&row_place(table, &session.to_string()), sealed).is_err().then_some(session)
        })?;
        if damaged.is_some() {
            return Ok(damaged);
        }
    }
    for table in [MESSAGES, SEGMENTS] {
        let damaged = first(view, table, |key, sealed| {
            let (session, number) = split_key(key);
            let place = (session.to_string(), number.to_string());
            sealer.open(&numbered_place(table, &place.0, &place.1), sealed).is_err().then_some(session)
        })?;
        if damaged.is_some() {
            return Ok(damaged);
        }
    }
    let damaged = first(view, EVENTS, |key, batches| {
        let (session, _) = split_key(key);
        (!batches_open(sealer, session, batches)).then_some(session)
    })?;
    if damaged.is_some() {
        return Ok(damaged);
    }
    first(view, JOURNAL, |_, batches| {
        let mut batches = journaled(batches);
        batches.find(|(session, framed)| !batches_open(sealer, *session, framed)).map(|(session, _)| session)
    })
}

/// The first thing that is found in a row of a table.
fn first<T>(view: &View, table: Table, mut find: impl FnMut(&[u8], &[u8]) -> Option<T>) -> StoreResult<Option<T>> {
    let mut found = None;
    view.rows(table)?.scan(ALL, Direction::Forwards, &mut |key, value| {
        found = find(key, value);
        if found.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
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
