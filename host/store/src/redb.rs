//! The store in one file, which [redb](https://docs.rs/redb) keeps: a copy-on-write B-tree.

use std::{
    fs::File,
    io,
    marker::PhantomData,
    ops::{Bound, ControlFlow},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use redb::{
    Database, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError, WriteTransaction, backends::FileBackend,
};

use crate::{
    Error, OpenError, Options, Span, Table,
    column::Column,
    disk::{Beneath, Disk},
    rows::{Direction, Rows, RowsMut, Visit},
    table::Form,
};

pub(crate) fn on_file(file: File, options: &Options) -> Result<Database, OpenError> {
    on(FileBackend::new(file).map_err(OpenError::of)?, options)
}

pub(crate) fn on_disk(disk: impl Disk, options: &Options) -> Result<Database, OpenError> {
    on(Beneath(disk), options)
}

/// The database panics over some files that something else has written to.
fn on(disk: impl StorageBackend, options: &Options) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.checks_all);
    let open = AssertUnwindSafe(|| builder.create_with_backend(disk));
    panic::catch_unwind(open).map_err(|_| OpenError::Damaged)?.map_err(OpenError::of)
}

/// Refuses a file without a byte, of which the database would make an empty one.
pub(crate) fn refuse_empty(len: u64) -> Result<(), OpenError> {
    if len > 0 { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "its file is empty").into()) }
}

pub(crate) fn begin(db: &Database, options: &Options) -> Result<WriteTransaction, Error> {
    let mut transaction = db.begin_write().map_err(Error::failed)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(options.recovers_at_once);
    if options.forgets {
        transaction.set_durability(Durability::None).map_err(Error::failed)?;
    }
    Ok(transaction)
}

pub(crate) fn view(db: &Database) -> Result<ReadTransaction, Error> {
    db.begin_read().map_err(Error::failed)
}

/// Calls a function with the types of a table's keys and values.
macro_rules! typed {
    ($function:ident, $transaction:expr, $table:expr) => {
        match $table.form() {
            Form::Bytes => $function::<&'static [u8], &'static [u8]>($transaction, $table),
            Form::Text => $function::<&'static str, &'static [u8]>($transaction, $table),
            Form::Pair => $function::<(&'static str, &'static str), &'static [u8]>($transaction, $table),
            Form::Number32 => $function::<u32, &'static [u8]>($transaction, $table),
            Form::Number64 => $function::<u64, &'static [u8]>($transaction, $table),
            Form::Fixed16 => $function::<&'static [u8; 16], &'static [u8]>($transaction, $table),
            Form::Fixed24 => $function::<&'static [u8; 24], &'static [u8]>($transaction, $table),
            Form::Fixed32 => $function::<&'static [u8; 32], &'static [u8]>($transaction, $table),
            Form::Set16 => $function::<&'static [u8; 16], ()>($transaction, $table),
            Form::Set40 => $function::<&'static [u8; 40], ()>($transaction, $table),
        }
    };
}

/// The rows of a table as the transaction sees them; nothing where the table was never written to. They keep the database
/// open, which otherwise refuses them once it is closed.
pub(crate) fn rows(
    db: &Arc<Database>,
    transaction: &ReadTransaction,
    table: Table,
) -> Result<Option<Box<dyn Rows>>, Error> {
    typed!(rows_of, (db, transaction), table)
}

fn rows_of<K: Column + Key, V: Column>(
    (db, transaction): (&Arc<Database>, &ReadTransaction),
    table: Table,
) -> Result<Option<Box<dyn Rows>>, Error> {
    match transaction.open_table(TableDefinition::<K, V>::new(table.name())) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        rows => Ok(Some(Box::new(Typed::<_, _, K, V>::new(table, rows.map_err(Error::failed)?, Arc::clone(db))))),
    }
}

/// The rows of a table within a commit. The table is made if it is missing.
pub(crate) fn rows_mut(transaction: &WriteTransaction, table: Table) -> Result<Box<dyn RowsMut + '_>, Error> {
    typed!(rows_mut_of, transaction, table)
}

fn rows_mut_of<K: Column + Key, V: Column>(
    transaction: &WriteTransaction,
    table: Table,
) -> Result<Box<dyn RowsMut + '_>, Error> {
    let rows = transaction.open_table(TableDefinition::<K, V>::new(table.name())).map_err(Error::failed)?;
    Ok(Box::new(Typed::<_, _, K, V>::new(table, rows, ())))
}

/// A table of the database, whose keys and values have these types.
struct Typed<T, D, K, V> {
    table: Table,
    rows: T,
    /// What is to be there as long as this is.
    _db: D,
    types: PhantomData<fn() -> (K, V)>,
}

impl<T, D, K: Column, V: Column> Typed<T, D, K, V> {
    const fn new(table: Table, rows: T, db: D) -> Self {
        Self { table, rows, _db: db, types: PhantomData }
    }

    fn key<'a>(&self, bytes: &'a [u8]) -> Result<K::SelfType<'a>, Error> {
        K::read(bytes).ok_or(Error::Malformed(self.table.name()))
    }

    fn bound<'a>(&self, bound: Bound<&'a [u8]>) -> Result<Bound<K::SelfType<'a>>, Error> {
        Ok(match bound {
            Bound::Included(key) => Bound::Included(self.key(key)?),
            Bound::Excluded(key) => Bound::Excluded(self.key(key)?),
            Bound::Unbounded => Bound::Unbounded,
        })
    }

    fn span<'a>(&self, (start, end): Span<'a>) -> Result<Bounds<K::SelfType<'a>>, Error> {
        Ok((self.bound(start)?, self.bound(end)?))
    }
}

type Bounds<K> = (Bound<K>, Bound<K>);

impl<T: ReadableTable<K, V>, D, K: Column + Key, V: Column> Rows for Typed<T, D, K, V> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.rows.get(self.key(key)?).map_err(Error::failed)?;
        Ok(value.map(|value| V::bytes(&value.value(), &mut Vec::new()).to_vec()))
    }

    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut rows = self.rows.range::<K::SelfType<'_>>(self.span(span)?).map_err(Error::failed)?;
        let (mut spare_key, mut spare_value) = (Vec::new(), Vec::new());
        while let Some(row) = if direction == Direction::Forwards { rows.next() } else { rows.next_back() } {
            let (key, value) = row.map_err(Error::failed)?;
            let (key, value) = (key.value(), value.value());
            if let ControlFlow::Break(()) = visit(K::bytes(&key, &mut spare_key), V::bytes(&value, &mut spare_value)) {
                break;
            }
        }
        Ok(())
    }

    fn count(&self) -> Result<u64, Error> {
        self.rows.len().map_err(Error::failed)
    }
}

impl<K: Column + Key, V: Column> RowsMut for Typed<redb::Table<'_, K, V>, (), K, V> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let key = self.key(key)?;
        let value = V::read(value).ok_or(Error::Malformed(self.table.name()))?;
        self.rows.insert(key, value).map_err(Error::failed)?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<bool, Error> {
        let key = self.key(key)?;
        Ok(self.rows.remove(key).map_err(Error::failed)?.is_some())
    }

    fn remove_span(&mut self, span: Span<'_>, rows_max: usize) -> Result<usize, Error> {
        let span = self.span(span)?;
        let mut rows = self.rows.extract_from_if::<K::SelfType<'_>, _>(span, |_, _| true).map_err(Error::failed)?;
        let mut removed = 0;
        while removed < rows_max
            && let Some(row) = rows.next()
        {
            row.map_err(Error::failed)?;
            removed += 1;
        }
        Ok(removed)
    }
}
