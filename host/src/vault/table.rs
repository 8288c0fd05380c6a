//! Sealed rows in `vault.redb`: what the modules have in common on disk that keep their things there.

use std::{fmt::Write, ops::Bound, sync::Arc};

use lap_seal::{IntegrityError, Place, Sealer, version};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use zeroize::Zeroizing;

use super::{Failed, Vault, note_failure};

/// The definition of a table of sealed rows, by its name.
pub(crate) type SealedRows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Such a table at one moment.
type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The key of a row, and the row if it opens.
pub(crate) type Keyed = (Vec<u8>, Result<Row, RowError>);

/// Opens every row of these tables.
pub(crate) fn verify(vault: &Vault, tables: &[SealedRows]) -> Result<(), RowError> {
    tables.iter().try_for_each(|table| Table::new(vault, *table).verify())
}

/// Why a row was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A row is not what was written.
    #[error("the store is damaged: {0}")]
    Integrity(#[from] IntegrityError),
    /// A row is whole, but of a form that this version does not understand.
    #[error("the row {0} cannot be understood by this version")]
    Malformed(String),
    /// The commit failed: the change may or may not be on disk. The store takes no more changes until it is reopened.
    #[error("the store could not confirm the change")]
    OutcomeUnknown(#[source] Box<redb::Error>),
    /// The database refuses. Nothing was changed.
    #[error("the store cannot be read")]
    Database(#[source] Box<redb::Error>),
}

impl RowError {
    fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// A table of sealed rows.
pub(crate) struct Table {
    db: Arc<Database>,
    sealer: Sealer,
    failed: Failed,
    definition: SealedRows,
}

/// A row that is open for reading.
pub(crate) struct Row {
    name: String,
    plain: Zeroizing<Vec<u8>>,
}

impl Row {
    /// The value that was stored.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, RowError> {
        serde_json::from_slice(&self.plain).map_err(|_| RowError::Malformed(self.name.clone()))
    }

    /// The bytes that were stored by [`Also::Put`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.plain
    }
}

/// What is written to another table in the same transaction.
pub(crate) enum Also<'a> {
    Nothing,
    /// A new row.
    Put(&'a Table, Vec<u8>, Vec<u8>),
    /// The row with this key goes.
    RemoveRow(&'a Table, Vec<u8>),
    /// Every row whose key begins so goes.
    Remove(&'a Table, Vec<u8>),
    /// All of these, in their order.
    All(Vec<Also<'a>>),
}

impl Table {
    pub(crate) fn new(vault: &Vault, definition: SealedRows) -> Self {
        Self { db: vault.database(), sealer: vault.sealer(), failed: vault.failed.clone(), definition }
    }

    /// The table as it is now; nothing where it was never written to.
    fn read(&self) -> Result<Option<Rows>, RowError> {
        let transaction = self.db.begin_read().map_err(RowError::database)?;
        match transaction.open_table(self.definition) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            table => table.map(Some).map_err(RowError::database),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Row>, RowError> {
        let Some(table) = self.read()? else { return Ok(None) };
        let row = table.get(key).map_err(RowError::database)?;
        row.map(|sealed| self.open(key, sealed.value())).transpose()
    }

    /// Opens every row, one after the other.
    pub(crate) fn verify(&self) -> Result<(), RowError> {
        let Some(table) = self.read()? else { return Ok(()) };
        for row in table.iter().map_err(RowError::database)? {
            let (key, sealed) = row.map_err(RowError::database)?;
            self.open(key.value(), sealed.value())?;
        }
        Ok(())
    }

    /// Every row with its key, each opened for itself: one that is damaged hides no other.
    pub(crate) fn each(&self) -> Result<Vec<Keyed>, RowError> {
        let Some(table) = self.read()? else { return Ok(Vec::new()) };
        let rows = table.iter().map_err(RowError::database)?;
        let opened = rows.map(|row| {
            let (key, sealed) = row.map_err(RowError::database)?;
            Ok((key.value().to_vec(), self.open(key.value(), sealed.value())))
        });
        opened.collect()
    }

    /// The keys of all rows.
    pub(crate) fn keys(&self) -> Result<Vec<Vec<u8>>, RowError> {
        let Some(table) = self.read()? else { return Ok(Vec::new()) };
        let rows = table.iter().map_err(RowError::database)?;
        rows.map(|row| row.map(|(key, _)| key.value().to_vec()).map_err(RowError::database)).collect()
    }

    /// The rows with keys of a range, the last first if `backwards`; at most `limit`.
    pub(crate) fn rows(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, RowError> {
        let Some(table) = self.read()? else { return Ok(Vec::new()) };
        let mut rows = table.range::<&[u8]>(range).map_err(RowError::database)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = if backwards { rows.next_back() } else { rows.next() }
        {
            let (key, sealed) = row.map_err(RowError::database)?;
            found.push(self.open(key.value(), sealed.value())?);
        }
        Ok(found)
    }

    pub(crate) fn put(&self, key: &[u8], value: &impl serde::Serialize, also: Also<'_>) -> Result<(), RowError> {
        let plain = self.plain(key, value)?;
        self.change(key, |_| Ok::<_, RowError>(Some((plain, also, ())))).map(|_| ())
    }

    /// Changes a row, reading it and writing it as one; `change` says what else is written, or that nothing is. Nothing
    /// when there is no such row.
    pub(crate) fn update<'a, T, E>(
        &self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Result<Option<Also<'a>>, E>,
    ) -> Result<Option<T>, E>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
        E: From<RowError>,
    {
        let mut unchanged = None;
        let changed = self.change(key, |row| -> Result<_, E> {
            let Some(row) = row else { return Ok(None) };
            let mut value = row.parse()?;
            match change(&mut value)? {
                Some(also) => Ok(Some((self.plain(key, &value)?, also, value))),
                None => {
                    unchanged = Some(value);
                    Ok(None)
                }
            }
        })?;
        Ok(changed.or(unchanged))
    }

    /// Removes a row, which need not be one that opens; false when there was none.
    pub(crate) fn remove(&self, key: &[u8], also: Also<'_>) -> Result<bool, RowError> {
        let removed = self.transact(|transaction| {
            let mut table = transaction.open_table(self.definition).map_err(RowError::database)?;
            let removed = table.remove(key).map_err(RowError::database)?.is_some();
            // What else is written may be of the same table.
            drop(table);
            if removed {
                also.write(transaction)?;
            }
            Ok::<_, RowError>(removed.then_some(()))
        });
        removed.map(|removed| removed.is_some())
    }

    /// Reads one row and writes it, and what goes with it. `None` of `decide` leaves everything as it is.
    fn change<'a, T, E: From<RowError>>(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<Row>) -> Result<Option<(Vec<u8>, Also<'a>, T)>, E>,
    ) -> Result<Option<T>, E> {
        self.transact(|transaction| {
            let mut table = transaction.open_table(self.definition).map_err(RowError::database)?;
            let sealed = table.get(key).map_err(RowError::database)?.map(|row| row.value().to_vec());
            let version = sealed.as_deref().and_then(version).unwrap_or(0) + 1;
            let row = sealed.map(|sealed| self.open(key, &sealed)).transpose()?;
            let Some((plain, also, done)) = decide(row)? else { return Ok(None) };
            let sealed = self.sealer.seal(&self.place(&hex(key)), version, &plain);
            table.insert(key, &sealed[..]).map_err(RowError::database)?;
            // What else is written may be of the same table.
            drop(table);
            also.write(transaction)?;
            Ok(Some(done))
        })
    }

    /// One write transaction, which is given up when `work` fails or has nothing to write.
    fn transact<T, E: From<RowError>>(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let done = self.try_transact(work);
        if done.is_err() {
            note_failure(&self.db, &self.failed);
        }
        done
    }

    fn try_transact<T, E: From<RowError>>(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut transaction = self.db.begin_write().map_err(RowError::database)?;
        // As for the credentials: the commit survives a crash during the recovery after it, too.
        transaction.set_two_phase_commit(true);
        let Some(done) = work(&transaction)? else { return Ok(None) };
        transaction.commit().map_err(|error| RowError::OutcomeUnknown(Box::new(error.into())))?;
        Ok(Some(done))
    }

    /// A value as [`Also::Put`] takes it.
    pub(crate) fn row(&self, key: Vec<u8>, value: &impl serde::Serialize) -> Result<Also<'_>, RowError> {
        let plain = self.plain(&key, value)?;
        Ok(Also::Put(self, key, plain))
    }

    fn name(&self) -> &str {
        self.definition.name()
    }

    fn place<'a>(&'a self, id: &'a str) -> Place<'a> {
        Place { table: self.name(), owner: "", id, field: "row" }
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Row, RowError> {
        let id = hex(key);
        let plain = self.sealer.open(&self.place(&id), sealed)?;
        Ok(Row { name: format!("{}/{id}", self.name()), plain })
    }

    fn plain(&self, key: &[u8], value: &impl serde::Serialize) -> Result<Vec<u8>, RowError> {
        serde_json::to_vec(value).map_err(|_| RowError::Malformed(format!("{}/{}", self.name(), hex(key))))
    }
}

impl Also<'_> {
    pub(super) fn write(self, transaction: &redb::WriteTransaction) -> Result<(), RowError> {
        match self {
            Also::Nothing => {}
            Also::Put(table, key, plain) => {
                let sealed = table.sealer.seal(&table.place(&hex(&key)), 1, &plain);
                let mut rows = transaction.open_table(table.definition).map_err(RowError::database)?;
                rows.insert(&key[..], &sealed[..]).map_err(RowError::database)?;
            }
            Also::RemoveRow(table, key) => {
                let mut rows = transaction.open_table(table.definition).map_err(RowError::database)?;
                rows.remove(&key[..]).map_err(RowError::database)?;
            }
            Also::Remove(table, prefix) => {
                let mut end = prefix.clone();
                end.resize(prefix.len() + 4, 0xff);
                let mut rows = transaction.open_table(table.definition).map_err(RowError::database)?;
                rows.retain_in::<&[u8], _>(&prefix[..]..=&end[..], |_, _| false).map_err(RowError::database)?;
            }
            Also::All(all) => all.into_iter().try_for_each(|also| also.write(transaction))?,
        }
        Ok(())
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().fold(String::with_capacity(key.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
