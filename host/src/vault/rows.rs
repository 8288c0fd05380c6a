//! Rows as they lie in their tables: read out of one database, put into another, and not opened on the way.
//!
//! For a backup. What is sealed stays sealed, so copying needs no key. The bytes of keys and values are written in a
//! form of our own, and not in the database's, which may change with its version and trusts what it is given.

use std::io;

use redb::{
    Database, ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle, Value, WriteTransaction,
};

/// What one commit of a new database takes, and so what is in memory at once beside one row.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// Rows of a few bytes cost more in memory than their bytes.
const COMMIT_ROWS: usize = 4096;

/// What a copy is told of a database, in this order: a table, its rows, the next table.
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

/// Takes the items of a database. Its errors end the copy.
pub type Sink<'a> = dyn FnMut(Item<'_>) -> io::Result<()> + 'a;

/// Why the rows of a database were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Database(#[source] Box<redb::Error>),
    /// Who takes the rows has failed.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// Why a new database was not filled.
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
    /// The database fails.
    #[error("the database cannot be written: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The database that was made does not pass the check of its own.
    #[error("the new database did not pass its check")]
    Unsound,
}

fn unreadable(error: impl Into<redb::Error>) -> CopyError {
    CopyError::Database(Box::new(error.into()))
}

fn unwritable(error: impl Into<redb::Error>) -> FillError {
    FillError::Database(Box::new(error.into()))
}

/// A type of keys or values, and how it looks in a copy.
pub(crate) trait Column: Value + 'static {
    fn write(value: &Self::SelfType<'_>, into: &mut Vec<u8>);

    /// `None` for what `write` has not written.
    fn read(bytes: &[u8]) -> Option<Self::SelfType<'_>>;
}

impl Column for u32 {
    fn write(value: &Self, into: &mut Vec<u8>) {
        into.extend_from_slice(&value.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl Column for u64 {
    fn write(value: &Self, into: &mut Vec<u8>) {
        into.extend_from_slice(&value.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl Column for () {
    fn write((): &Self, _: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl Column for &'static [u8] {
    fn write(value: &&[u8], into: &mut Vec<u8>) {
        into.extend_from_slice(value);
    }

    fn read(bytes: &[u8]) -> Option<&[u8]> {
        Some(bytes)
    }
}

impl<const N: usize> Column for &'static [u8; N] {
    fn write(value: &&[u8; N], into: &mut Vec<u8>) {
        into.extend_from_slice(&value[..]);
    }

    fn read(bytes: &[u8]) -> Option<&[u8; N]> {
        bytes.try_into().ok()
    }
}

impl Column for &'static str {
    fn write(value: &&str, into: &mut Vec<u8>) {
        into.extend_from_slice(value.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(bytes).ok()
    }
}

/// The first text is ended by a zero, which no name of ours has.
impl Column for (&'static str, &'static str) {
    fn write((first, second): &(&str, &str), into: &mut Vec<u8>) {
        into.extend_from_slice(first.as_bytes());
        into.push(0);
        into.extend_from_slice(second.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<(&str, &str)> {
        std::str::from_utf8(bytes).ok()?.split_once('\0')
    }
}

/// A table whose rows can be copied. Every definition of a table is one, so a list of them is a list of definitions.
pub(crate) trait StoredTable: Sync {
    fn table_name(&self) -> &str;

    /// Tells `to` of the table and its rows. One that was never written to is passed over.
    fn copy(&self, from: &ReadTransaction, to: &mut Sink<'_>) -> Result<(), CopyError>;

    fn put(&self, to: &WriteTransaction, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), FillError>;
}

impl<K: Column + redb::Key, V: Column> StoredTable for TableDefinition<'static, K, V>
where
    Self: Sync,
{
    fn table_name(&self) -> &str {
        self.name()
    }

    fn copy(&self, from: &ReadTransaction, to: &mut Sink<'_>) -> Result<(), CopyError> {
        let table = match from.open_table(*self) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table.map_err(unreadable)?,
        };
        to(Item::Table(self.name()))?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for row in table.iter().map_err(unreadable)? {
            let (stored_key, stored_value) = row.map_err(unreadable)?;
            key.clear();
            value.clear();
            K::write(&stored_key.value(), &mut key);
            V::write(&stored_value.value(), &mut value);
            to(Item::Row { key: &key, value: &value })?;
        }
        Ok(())
    }

    fn put(&self, to: &WriteTransaction, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), FillError> {
        let malformed = || FillError::Malformed(self.name().to_owned());
        let mut table = to.open_table(*self).map_err(unwritable)?;
        for (key, value) in rows {
            let key = K::read(key).ok_or_else(malformed)?;
            let value = V::read(value).ok_or_else(malformed)?;
            table.insert(key, value).map_err(unwritable)?;
        }
        Ok(())
    }
}

/// Tells `to` of all these tables, as one transaction sees them.
pub(crate) fn copy<'a>(
    from: &ReadTransaction,
    tables: impl IntoIterator<Item = &'a &'static dyn StoredTable>,
    to: &mut Sink<'_>,
) -> Result<(), CopyError> {
    tables.into_iter().try_for_each(|table| table.copy(from, to))
}

/// A new database that is filled with rows.
pub struct Fill {
    db: Database,
    tables: Vec<&'static dyn StoredTable>,
    current: Option<&'static dyn StoredTable>,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Fill {
    pub(crate) fn new(db: Database, tables: Vec<&'static dyn StoredTable>) -> Self {
        Self { db, tables, current: None, rows: Vec::new(), bytes: 0 }
    }

    /// Takes the next item of a copy.
    ///
    /// # Errors
    /// When it does not belong here, or the disk fails.
    pub fn take(&mut self, item: Item<'_>) -> Result<(), FillError> {
        match item {
            Item::Table(name) => {
                self.commit()?;
                let known = self.tables.iter().copied().find(|table| table.table_name() == name);
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
        let transaction = self.db.begin_write().map_err(unwritable)?;
        table.put(&transaction, &self.rows)?;
        transaction.commit().map_err(unwritable)?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes what is left, checks the whole database and closes it. All of it is durable after that.
    ///
    /// # Errors
    /// When the disk fails, or does not give back what was written.
    pub fn finish(mut self) -> Result<(), FillError> {
        self.commit()?;
        if !self.db.check_integrity().map_err(unwritable)? {
            return Err(FillError::Unsound);
        }
        self.db.close().map_err(unwritable)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use redb::{ReadableDatabase, backends::InMemoryBackend};

    use super::*;

    const NUMBERS: TableDefinition<'_, u32, ()> = TableDefinition::new("numbers");
    const LONG: TableDefinition<'_, u64, u64> = TableDefinition::new("long");
    const NAMES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("names");
    const FIXED: TableDefinition<'_, &[u8; 3], &[u8]> = TableDefinition::new("fixed");
    const NEVER: TableDefinition<'_, &str, u32> = TableDefinition::new("never written to");
    static TABLES: &[&dyn StoredTable] = &[&NUMBERS, &LONG, &NAMES, &FIXED, &NEVER];

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    fn items(db: &Database) -> Vec<String> {
        let mut items = Vec::new();
        copy(&db.begin_read().unwrap(), TABLES, &mut |item| {
            items.push(format!("{item:?}"));
            Ok(())
        })
        .unwrap();
        items
    }

    #[test]
    fn a_copy_has_the_same_rows_of_every_type() {
        let source = database();
        let transaction = source.begin_write().unwrap();
        transaction.open_table(NUMBERS).unwrap().insert(7, ()).unwrap();
        transaction.open_table(LONG).unwrap().insert(u64::MAX, 1).unwrap();
        for (key, value) in [(("", ""), ""), (("a", "b"), "c"), (("a", ""), "ü")] {
            transaction.open_table(NAMES).unwrap().insert(key, value).unwrap();
        }
        transaction.open_table(FIXED).unwrap().insert(&[1, 2, 3], &[0, 255][..]).unwrap();
        transaction.commit().unwrap();

        let mut fill = Fill::new(database(), TABLES.to_vec());
        copy(&source.begin_read().unwrap(), TABLES, &mut |item| fill.take(item).map_err(io::Error::other)).unwrap();
        fill.commit().unwrap();
        assert_eq!(items(&fill.db), items(&source));
        assert_eq!(items(&source).len(), 4 + 6, "four tables were written to, with six rows");
        fill.finish().unwrap();
    }

    #[test]
    fn rows_that_cannot_be_of_their_table_are_refused() {
        let refused = |table: &'static str, key: &[u8], value: &[u8]| {
            let mut fill = Fill::new(database(), TABLES.to_vec());
            let taken = fill.take(Item::Table(table)).and_then(|()| fill.take(Item::Row { key, value }));
            taken.and_then(|()| fill.finish()).unwrap_err().to_string()
        };
        for (table, key, value) in [
            ("numbers", &[0; 3][..], &[][..]),
            ("numbers", &[0; 4], &[1]),
            ("long", &[0; 8], &[0; 9]),
            ("names", b"no end", b""),
            ("names", b"\xff\0b", b""),
            ("fixed", b"four", b""),
        ] {
            assert_eq!(refused(table, key, value), format!("a row of the table {table:?} cannot be understood"));
        }
        assert!(refused("other", b"", b"").contains("\"other\", which this version does not know"));
        let mut fill = Fill::new(database(), TABLES.to_vec());
        fill.take(Item::Row { key: b"", value: b"" }).unwrap();
        assert!(matches!(fill.finish(), Err(FillError::Malformed(_))), "a row of no table");
    }
}
