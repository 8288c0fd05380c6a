//! The vault in a backup: its rows of one moment, and `store.json`; and a store made of them.

use std::{fs, io, path::Path};

use lap_store::{
    Store, Table, View,
    copy::{CopyError, Fill, FillError, Sink},
};

use super::{
    DATABASE_FILE, DEKS, META, OPTIONS, OpenError, Vault, VaultKey, check_key, create_private_file,
    credentials::CREDENTIALS,
    identity::{FILE, Identity, IdentityError},
    manifest::MANIFEST,
    marks::MARKS,
    private_file,
    probe::PROBES,
};

/// Every table of the vault's own; those of other modules in its file are for them to name.
static TABLES: &[Table] = &[META, DEKS, MANIFEST, CREDENTIALS, PROBES, MARKS];

/// Those and the tables of other modules.
fn all_tables(others: &'static [&'static [Table]]) -> impl Iterator<Item = Table> {
    TABLES.iter().chain(others.iter().copied().flatten()).copied()
}

/// The rows of `vault.redb` at one moment. The file cannot reuse what this sees, so it must not be kept.
pub struct VaultMoment(View);

impl VaultMoment {
    /// Tells `to` of all rows, those of `others` in the same file too.
    pub(crate) fn copy(&self, others: &'static [&'static [Table]], to: &mut Sink<'_>) -> Result<(), CopyError> {
        self.0.copy(all_tables(others), to)
    }
}

impl Vault {
    /// The rows as they are now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn moment(&self) -> Result<VaultMoment, CopyError> {
        Ok(VaultMoment(self.store.view()?))
    }

    /// Begins a new `vault.redb`, to be filled with the rows of a copy. Without a `store.json` it is no store.
    pub(crate) fn fill(directory: &Path, others: &'static [&'static [Table]]) -> Result<Fill, FillError> {
        let file = create_private_file(&directory.join(DATABASE_FILE))?;
        Ok(Fill::new(Store::create(file, OPTIONS)?, all_tables(others).collect()))
    }

    /// Opens a `vault.redb` beside which no `store.json` is yet, and checks every credential in it.
    ///
    /// # Errors
    /// As for [`Vault::open`].
    #[allow(clippy::needless_pass_by_value, reason = "the key's memory is cleared here")]
    pub fn open_copy(directory: &Path, store: &StoreFile, key: VaultKey) -> Result<Self, OpenError> {
        Self::open_as(directory, &store.identity, &key, Store::open)
    }
}

/// What `store.json` says. It holds no secret.
pub struct StoreFile {
    text: Vec<u8>,
    identity: Identity,
}

impl StoreFile {
    /// That of a directory.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let text = fs::read(directory.join(FILE))?;
        let identity = Identity::parse(&text)?;
        Ok(Self { text, identity })
    }

    /// The one with this text; nothing when it cannot be understood.
    #[must_use]
    pub fn parse(text: Vec<u8>) -> Option<Self> {
        let identity = Identity::parse(&text).ok()?;
        Some(Self { text, identity })
    }

    /// What was read.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The store's number.
    #[must_use]
    pub fn store(&self) -> [u8; 16] {
        self.identity.store()
    }

    /// Refuses a key that is not one of the store's.
    ///
    /// # Errors
    /// As for [`Vault::open`].
    pub fn check_key(&self, directory: &Path, key: &VaultKey) -> Result<(), OpenError> {
        check_key(directory, &self.identity, key)
    }

    /// Makes the directory a store: at once and durably.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        private_file::replace(&directory.join(FILE), &self.text)
    }
}

impl From<IdentityError> for io::Error {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}
