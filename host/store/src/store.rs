//! An open store, what it holds at one moment, and a change of it.

use std::{fmt, fs::File, path::Path, sync::Arc};

use redb::{Database, ReadTransaction, WriteTransaction};

use crate::{
    Disk, Error, OpenError, Overlay, Table,
    redb::{self as engine},
    rows::{Direction, Rows, RowsMut, Span, Visit},
};

/// How a store is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much of it is kept in memory, in bytes.
    pub cache_bytes: usize,
    /// True to read and check all of it when it is opened. A file that was altered may otherwise end the process later.
    pub checks_all: bool,
    /// True for a store that opens at once after a crash however large it is, at the price of slightly larger commits.
    pub recovers_at_once: bool,
    /// True for a store whose commits do not outlive it. For tests, which prove by it that they see a loss.
    pub forgets: bool,
}

/// An open store. A handle: clones share everything, and the last one closes it.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    options: Options,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(..)")
    }
}

impl Store {
    /// Makes a store in a file without a byte, which no other process has open.
    ///
    /// # Errors
    /// When the file is in use, or the disk fails.
    pub fn create(file: File, options: Options) -> Result<Self, OpenError> {
        Ok(Self::of(engine::on_file(file, &options)?, options))
    }

    /// Makes a store on a disk without a byte.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create_on(disk: impl Disk, options: Options) -> Result<Self, OpenError> {
        Ok(Self::of(engine::on_disk(disk, &options)?, options))
    }

    /// Opens the store in a file.
    ///
    /// # Errors
    /// When the file is missing or empty, another process has it open, or it holds no store.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let file = File::options().read(true).write(true).open(path)?;
        engine::refuse_empty(file.metadata()?.len())?;
        Ok(Self::of(engine::on_file(file, &options)?, options))
    }

    /// Opens the store in a file that cannot be written to. What is committed ends with it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_frozen(path: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_on(Overlay::open(path)?, options)
    }

    /// Opens the store that a disk holds.
    ///
    /// # Errors
    /// When the disk fails, or holds no store.
    pub fn open_on(disk: impl Disk, options: Options) -> Result<Self, OpenError> {
        engine::refuse_empty(disk.len()?)?;
        Ok(Self::of(engine::on_disk(disk, &options)?, options))
    }

    fn of(db: Database, options: Options) -> Self {
        Self { db: Arc::new(db), options }
    }

    /// What it holds now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn view(&self) -> Result<View, Error> {
        Ok(View { transaction: engine::view(&self.db)?, db: Arc::clone(&self.db) })
    }

    /// Begins a change. Waits until no other one is under way.
    ///
    /// # Errors
    /// When it takes no changes any more.
    pub fn begin(&self) -> Result<Commit, Error> {
        Ok(Commit { transaction: engine::begin(&self.db, &self.options)? })
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// When it cannot be read. False when it is not sound.
    pub(crate) fn into_checked(self) -> Result<bool, Error> {
        let Some(mut db) = Arc::into_inner(self.db) else { return Ok(false) };
        let is_sound = db.check_integrity().map_err(Error::failed)?;
        db.close().map_err(Error::failed)?;
        Ok(is_sound)
    }
}

/// What a store holds at one moment. Its pages are not used again while it is there, nor is the store closed, so it must not be
/// kept.
pub struct View {
    transaction: ReadTransaction,
    /// Behind the transaction, which ends before the database is closed.
    db: Arc<Database>,
}

impl View {
    /// The rows of a table. One that was never written to has none.
    ///
    /// # Errors
    /// When it cannot be read, or was made with another form.
    pub fn rows(&self, table: Table) -> Result<Box<dyn Rows>, Error> {
        Ok(self.written(table)?.unwrap_or_else(|| Box::new(Nothing)))
    }

    /// The rows of a table that was written to once.
    pub(crate) fn written(&self, table: Table) -> Result<Option<Box<dyn Rows>>, Error> {
        engine::rows(&self.db, &self.transaction, table)
    }
}

/// The rows of a table that was never written to.
struct Nothing;

impl Rows for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn scan(&self, _: Span<'_>, _: Direction, _: &mut Visit<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn count(&self) -> Result<u64, Error> {
        Ok(0)
    }
}

/// A change of a store, of any number of tables. It is given up when it is dropped.
pub struct Commit {
    transaction: WriteTransaction,
}

impl Commit {
    /// The rows of a table, which is made if it is missing. A table is open once at a time.
    ///
    /// # Errors
    /// When it cannot be read, is open, or was made with another form.
    pub fn rows(&self, table: Table) -> Result<Box<dyn RowsMut + '_>, Error> {
        engine::rows_mut(&self.transaction, table)
    }

    /// Makes the change, durably.
    ///
    /// # Errors
    /// When the disk fails, and nobody knows whether the change holds.
    pub fn commit(self) -> Result<(), Error> {
        self.transaction.commit().map_err(|error| Error::OutcomeUnknown(error.into()))
    }
}
