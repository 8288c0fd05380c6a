//! Sealed rows in `vault.redb`: what the modules have in common on disk that keep their things there.

use std::{
    fmt::Write,
    ops::{Bound, ControlFlow},
};

use lap_seal::{IntegrityError, Place, Sealer, version};
use lap_store::{ALL, Cause, Commit, Direction, Limit, Rows, Span, Store, Table, between};
use zeroize::Zeroizing;

use super::{Failed, Vault, note_failure};

/// The key of a row, and the row if it opens.
pub(crate) type Keyed = (Vec<u8>, Result<Row, RowError>);

/// Opens every row of these tables.
pub(crate) fn verify(vault: &Vault, tables: &[Table]) -> Result<(), RowError> {
    tables.iter().try_for_each(|table| SealedTable::new(vault, *table).verify())
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
    OutcomeUnknown(#[source] Cause),
    /// The database refuses. Nothing was changed.
    #[error("the store cannot be read")]
    Database(#[source] lap_store::Error),
}

impl From<lap_store::Error> for RowError {
    fn from(error: lap_store::Error) -> Self {
        match error {
            lap_store::Error::OutcomeUnknown(cause) => Self::OutcomeUnknown(cause),
            other => Self::Database(other),
        }
    }
}

/// A table of sealed rows.
pub(crate) struct SealedTable {
    store: Store,
    sealer: Sealer,
    failed: Failed,
    table: Table,
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

/// What is written to another table in the same commit.
pub(crate) enum Also<'a> {
    Nothing,
    /// A new row.
    Put(&'a SealedTable, Vec<u8>, Vec<u8>),
    /// The row with this key goes.
    RemoveRow(&'a SealedTable, Vec<u8>),
    /// The first rows before this key go, at most so many.
    RemoveBefore(&'a SealedTable, Vec<u8>, usize),
    /// Every row whose key begins so goes.
    Remove(&'a SealedTable, Vec<u8>),
    /// All of these, in their order.
    All(Vec<Also<'a>>),
}

impl SealedTable {
    pub(crate) fn new(vault: &Vault, table: Table) -> Self {
        Self { store: vault.store.clone(), sealer: vault.sealer(), failed: vault.failed.clone(), table }
    }

    /// The rows as they are now.
    fn stored(&self) -> Result<Box<dyn Rows>, RowError> {
        Ok(self.store.view()?.rows(self.table)?)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Row>, RowError> {
        self.stored()?.get(key)?.map(|sealed| self.open(key, &sealed)).transpose()
    }

    /// Opens every row, one after the other.
    pub(crate) fn verify(&self) -> Result<(), RowError> {
        let mut verified = Ok(());
        self.stored()?.scan(ALL, Direction::Forwards, &mut |key, sealed| {
            verified = self.open(key, sealed).map(|_| ());
            if verified.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        verified
    }

    /// Every row with its key, each opened for itself: one that is damaged hides no other.
    pub(crate) fn each(&self) -> Result<Vec<Keyed>, RowError> {
        let rows = self.stored()?.page(ALL, Direction::Forwards, Limit::NONE)?;
        Ok(rows.into_iter().map(|(key, sealed)| (key.clone(), self.open(&key, &sealed))).collect())
    }

    /// The keys of all rows.
    pub(crate) fn keys(&self) -> Result<Vec<Vec<u8>>, RowError> {
        Ok(self.stored()?.keys(ALL)?)
    }

    /// The rows of a span, at most `rows_max`.
    pub(crate) fn rows(&self, span: Span<'_>, direction: Direction, rows_max: usize) -> Result<Vec<Row>, RowError> {
        let rows = self.stored()?.page(span, direction, Limit { rows: rows_max, ..Limit::NONE })?;
        rows.into_iter().map(|(key, sealed)| self.open(&key, &sealed)).collect()
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
        let removed = self.transact(|commit| {
            let removed = commit.rows(self.table)?.remove(key)?;
            if removed {
                also.write(commit)?;
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
        self.transact(|commit| {
            let sealed = commit.rows(self.table).and_then(|rows| rows.get(key)).map_err(RowError::from)?;
            let version = sealed.as_deref().and_then(version).unwrap_or(0) + 1;
            let row = sealed.map(|sealed| self.open(key, &sealed)).transpose()?;
            let Some((plain, also, done)) = decide(row)? else { return Ok(None) };
            let sealed = self.sealer.seal(&self.place(&hex(key)), version, &plain);
            commit.rows(self.table).and_then(|mut rows| rows.put(key, &sealed)).map_err(RowError::from)?;
            also.write(commit)?;
            Ok(Some(done))
        })
    }

    /// One commit, which is given up when `work` fails or has nothing to write.
    fn transact<T, E: From<RowError>>(
        &self,
        work: impl FnOnce(&Commit) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let done = self.try_transact(work);
        if done.is_err() {
            note_failure(&self.store, &self.failed);
        }
        done
    }

    fn try_transact<T, E: From<RowError>>(
        &self,
        work: impl FnOnce(&Commit) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let commit = self.store.begin().map_err(RowError::from)?;
        let Some(done) = work(&commit)? else { return Ok(None) };
        commit.commit().map_err(RowError::from)?;
        Ok(Some(done))
    }

    /// A value as [`Also::Put`] takes it.
    pub(crate) fn row(&self, key: Vec<u8>, value: &impl serde::Serialize) -> Result<Also<'_>, RowError> {
        let plain = self.plain(&key, value)?;
        Ok(Also::Put(self, key, plain))
    }

    const fn name(&self) -> &'static str {
        self.table.name()
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
    pub(super) fn write(self, commit: &Commit) -> Result<(), RowError> {
        match self {
            Also::Nothing => {}
            Also::Put(table, key, plain) => {
                let sealed = table.sealer.seal(&table.place(&hex(&key)), 1, &plain);
                commit.rows(table.table)?.put(&key, &sealed)?;
            }
            Also::RemoveRow(table, key) => {
                commit.rows(table.table)?.remove(&key)?;
            }
            Also::RemoveBefore(table, end, rows_max) => {
                let span = (Bound::Unbounded, Bound::Excluded(&end[..]));
                commit.rows(table.table)?.remove_span(span, rows_max)?;
            }
            Also::Remove(table, prefix) => {
                let mut end = prefix.clone();
                end.resize(prefix.len() + 4, 0xff);
                commit.rows(table.table)?.remove_span(between(&prefix, &end), usize::MAX)?;
            }
            Also::All(all) => all.into_iter().try_for_each(|also| also.write(commit))?,
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
