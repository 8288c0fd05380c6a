//! Sealed rows in `vault.redb`: what agents and provisions have in common on disk.

use std::{fmt::Write, ops::Bound, sync::Arc};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use zeroize::Zeroizing;

use crate::vault::{self, IntegrityError, Place, Sealer, StoredTable, Vault};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const AGENTS: Definition = TableDefinition::new("agents");
/// Every version of every agent, by the agent's id and the version's number.
pub(super) const VERSIONS: Definition = TableDefinition::new("agent_versions");
pub(super) const ENVIRONMENTS: Definition = TableDefinition::new("environments");
pub(super) const PROVISIONS: Definition = TableDefinition::new("provisions");

/// What this module has in `vault.redb`, for a backup.
pub(crate) static TABLES: &[&dyn StoredTable] = &[&AGENTS, &VERSIONS, &ENVIRONMENTS, &PROVISIONS];

/// Opens every row of every table.
///
/// # Errors
/// Names the first row that is not what was written.
pub fn verify(vault: &Vault) -> Result<(), StoreError> {
    for table in [AGENTS, VERSIONS, ENVIRONMENTS, PROVISIONS] {
        Table::new(vault, table).verify()?;
    }
    Ok(())
}

/// Why a row was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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

impl StoreError {
    fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// A table of sealed rows.
pub(super) struct Table {
    db: Arc<Database>,
    sealer: Sealer,
    definition: Definition,
}

/// A row that is open for reading.
pub(super) struct Row {
    name: String,
    plain: Zeroizing<Vec<u8>>,
}

impl Row {
    /// The value that was stored.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.plain).map_err(|_| StoreError::Malformed(self.name.clone()))
    }
}

/// What becomes of a row.
enum Change {
    Put(Vec<u8>),
    Remove,
}

/// What is written to another table in the same transaction.
pub(super) enum Also<'a> {
    Nothing,
    /// A new row.
    Put(&'a Table, Vec<u8>, Vec<u8>),
    /// Every row whose key begins so goes.
    Remove(&'a Table, Vec<u8>),
}

impl Table {
    pub(super) fn new(vault: &Vault, definition: Definition) -> Self {
        Self { db: vault.database(), sealer: vault.sealer(), definition }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::database)?;
        let table = match transaction.open_table(self.definition) {
            // Nothing was ever written to it.
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(StoreError::database)?,
        };
        let row = table.get(key).map_err(StoreError::database)?;
        row.map(|sealed| self.open(key, sealed.value())).transpose()
    }

    /// Opens every row, one after the other.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::database)?;
        let table = match transaction.open_table(self.definition) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table.map_err(StoreError::database)?,
        };
        for row in table.iter().map_err(StoreError::database)? {
            let (key, sealed) = row.map_err(StoreError::database)?;
            self.open(key.value(), sealed.value())?;
        }
        Ok(())
    }

    /// The rows with keys of a range, the last first if `backwards`; at most `limit`.
    pub(super) fn rows(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::database)?;
        let table = match transaction.open_table(self.definition) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table.map_err(StoreError::database)?,
        };
        let mut rows = table.range::<&[u8]>(range).map_err(StoreError::database)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = if backwards { rows.next_back() } else { rows.next() }
        {
            let (key, sealed) = row.map_err(StoreError::database)?;
            found.push(self.open(key.value(), sealed.value())?);
        }
        Ok(found)
    }

    pub(super) fn put(&self, key: &[u8], value: &impl serde::Serialize, also: Also<'_>) -> Result<(), StoreError> {
        let plain = self.plain(key, value)?;
        self.change(key, |_| Ok::<_, StoreError>(Some((Change::Put(plain), also, ())))).map(|_| ())
    }

    /// Changes a row, reading it and writing it as one; `change` says what else is written, or that nothing is. Nothing
    /// when there is no such row.
    pub(super) fn update<'a, T, E>(
        &self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Result<Option<Also<'a>>, E>,
    ) -> Result<Option<T>, E>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
        E: From<StoreError>,
    {
        let mut unchanged = None;
        let changed = self.change(key, |row| -> Result<_, E> {
            let Some(row) = row else { return Ok(None) };
            let mut value = row.parse()?;
            match change(&mut value)? {
                Some(also) => Ok(Some((Change::Put(self.plain(key, &value)?), also, value))),
                None => {
                    unchanged = Some(value);
                    Ok(None)
                }
            }
        })?;
        Ok(changed.or(unchanged))
    }

    /// Removes a row; false when there was none.
    pub(super) fn remove(&self, key: &[u8], also: Also<'_>) -> Result<bool, StoreError> {
        let removed = self.change(key, |row| Ok::<_, StoreError>(row.map(|_| (Change::Remove, also, ()))));
        removed.map(|removed| removed.is_some())
    }

    /// One write transaction around one row, and what goes with it. `None` of `decide` leaves everything as it is.
    fn change<'a, T, E: From<StoreError>>(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<Row>) -> Result<Option<(Change, Also<'a>, T)>, E>,
    ) -> Result<Option<T>, E> {
        let mut transaction = self.db.begin_write().map_err(StoreError::database)?;
        // As for the credentials: the commit survives a crash during the recovery after it, too.
        transaction.set_two_phase_commit(true);
        let done = {
            let mut table = transaction.open_table(self.definition).map_err(StoreError::database)?;
            let sealed = table.get(key).map_err(StoreError::database)?.map(|row| row.value().to_vec());
            let version = sealed.as_deref().and_then(vault::version).unwrap_or(0) + 1;
            let row = sealed.map(|sealed| self.open(key, &sealed)).transpose()?;
            let Some((change, also, done)) = decide(row)? else { return Ok(None) };
            match change {
                Change::Put(plain) => {
                    let sealed = self.sealer.seal(&self.place(&hex(key)), version, &plain);
                    table.insert(key, &sealed[..]).map_err(StoreError::database)?;
                }
                Change::Remove => {
                    table.remove(key).map_err(StoreError::database)?;
                }
            }
            also.write(&transaction)?;
            done
        };
        transaction.commit().map_err(|error| StoreError::OutcomeUnknown(Box::new(error.into())))?;
        Ok(Some(done))
    }

    /// A value as [`Also::Put`] takes it.
    pub(super) fn row(&self, key: Vec<u8>, value: &impl serde::Serialize) -> Result<Also<'_>, StoreError> {
        let plain = self.plain(&key, value)?;
        Ok(Also::Put(self, key, plain))
    }

    fn name(&self) -> &str {
        self.definition.name()
    }

    fn place<'a>(&'a self, id: &'a str) -> Place<'a> {
        Place { table: self.name(), owner: "", id, field: "row" }
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Row, StoreError> {
        let id = hex(key);
        let plain = self.sealer.open(&self.place(&id), sealed)?;
        Ok(Row { name: format!("{}/{id}", self.name()), plain })
    }

    fn plain(&self, key: &[u8], value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|_| StoreError::Malformed(format!("{}/{}", self.name(), hex(key))))
    }
}

impl Also<'_> {
    fn write(self, transaction: &redb::WriteTransaction) -> Result<(), StoreError> {
        match self {
            Also::Nothing => {}
            Also::Put(table, key, plain) => {
                let sealed = table.sealer.seal(&table.place(&hex(&key)), 1, &plain);
                let mut rows = transaction.open_table(table.definition).map_err(StoreError::database)?;
                rows.insert(&key[..], &sealed[..]).map_err(StoreError::database)?;
            }
            Also::Remove(table, prefix) => {
                let mut end = prefix.clone();
                end.resize(prefix.len() + 4, 0xff);
                let mut rows = transaction.open_table(table.definition).map_err(StoreError::database)?;
                rows.retain_in::<&[u8], _>(&prefix[..]..=&end[..], |_, _| false).map_err(StoreError::database)?;
            }
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
