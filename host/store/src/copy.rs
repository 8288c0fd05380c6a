//! Rows as they lie in their tables: read out of one store, put into another, and not opened on the way.
//!
//! For a backup. What is sealed stays sealed, so copying needs no key. The bytes of keys and values are written in a
//! form of our own, and not in the database's, which may change with its version and trusts what it is given.

use std::{io, ops::ControlFlow};

use crate::{ALL, Cause, Direction, Error, OpenError, Row, Store, Table, View};

/// What one commit of a new store takes, and so what is in memory at once beside one row.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// Rows of a few bytes cost more in memory than their bytes.
const COMMIT_ROWS: usize = 4096;

/// What a copy is told of a store, in this order: a table, its rows, the next table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// The rows that follow are of the table with this name.
    Table(&'a str),
    /// A row.
    Row {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// Takes the items of a store. Its errors end the copy.
pub type Sink<'a> = dyn FnMut(Item<'_>) -> io::Result<()> + 'a;

/// Why the rows of a store were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store cannot be read.
    #[error("the database cannot be read: {0}")]
    Store(#[from] Error),
    /// Who takes the rows has failed.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// Why a new store was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The file cannot be made.
    #[error("the file cannot be made: {0}")]
    Io(#[from] io::Error),
    /// The rows are of a table that is not known here.
    #[error("there is a table {0:?}, which this version does not know")]
    UnknownTable(String),
    /// A row does not fit its table.
    #[error("a row of the table {0:?} cannot be understood")]
    Malformed(String),
    /// The store fails.
    #[error("the database cannot be written: {0}")]
    Failed(#[source] Cause),
    /// The store that was made does not pass the check of its own.
    #[error("the new database did not pass its check")]
    Unsound,
}

impl From<Error> for FillError {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(cause) | Error::OutcomeUnknown(cause) => Self::Failed(cause),
            Error::Malformed(table) => Self::Malformed(table.to_owned()),
        }
    }
}

impl From<OpenError> for FillError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::Io(error),
            OpenError::InUse => Self::Io(io::ErrorKind::WouldBlock.into()),
            OpenError::Refused(cause) => Self::Failed(cause),
            OpenError::Damaged => Self::Unsound,
        }
    }
}

impl View {
    /// Tells `to` of all these tables. One that was never written to is passed over.
    ///
    /// # Errors
    /// When one cannot be read, or `to` fails.
    pub fn copy(&self, tables: impl IntoIterator<Item = Table>, to: &mut Sink<'_>) -> Result<(), CopyError> {
        for table in tables {
            let Some(rows) = self.written(table)? else { continue };
            to(Item::Table(table.name()))?;
            let mut told = Ok(());
            rows.scan(ALL, Direction::Forwards, &mut |key, value| {
                told = to(Item::Row { key, value });
                if told.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            told?;
        }
        Ok(())
    }
}

/// A new store that is filled with rows.
pub struct Fill {
    store: Store,
    tables: Vec<Table>,
    current: Option<Table>,
    rows: Vec<Row>,
    bytes: usize,
}

impl Fill {
    /// Of a store without rows, which may get rows of these tables.
    #[must_use]
    pub const fn new(store: Store, tables: Vec<Table>) -> Self {
        Self { store, tables, current: None, rows: Vec::new(), bytes: 0 }
    }

    /// Takes the next item of a copy.
    ///
    /// # Errors
    /// When it does not belong here, or the disk fails.
    pub fn take(&mut self, item: Item<'_>) -> Result<(), FillError> {
        match item {
            Item::Table(name) => {
                self.commit()?;
                let known = self.tables.iter().copied().find(|table| table.name() == name);
                self.current = Some(known.ok_or_else(|| FillError::UnknownTable(name.to_owned()))?);
                // Written also when no row follows: a table that was there is there.
                self.commit()
            }
            Item::Row { key, value } => {
                self.rows.push((key.to_vec(), value.to_vec()));
                self.bytes += key.len() + value.len();
                if self.bytes >= COMMIT_BYTES || self.rows.len() >= COMMIT_ROWS { self.commit() } else { Ok(()) }
            }
        }
    }

    fn commit(&mut self) -> Result<(), FillError> {
        let Some(table) = self.current else {
            // Rows without a table before them.
            return if self.rows.is_empty() { Ok(()) } else { Err(FillError::Malformed(String::new())) };
        };
        let commit = self.store.begin()?;
        let mut rows = commit.rows(table)?;
        self.rows.iter().try_for_each(|(key, value)| rows.put(key, value))?;
        drop(rows);
        commit.commit()?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes what is left, checks the whole store and closes it. All of it is durable after that.
    ///
    /// # Errors
    /// When the disk fails, or does not give back what was written.
    pub fn finish(mut self) -> Result<(), FillError> {
        self.commit()?;
        if self.store.into_checked()? { Ok(()) } else { Err(FillError::Unsound) }
    }
}
