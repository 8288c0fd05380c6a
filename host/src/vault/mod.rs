//! The vault: upstream credentials, encrypted at rest, and the keys that everything else at rest is sealed with.
//!
//! A store is a directory with `store.json` (which store, which key; `identity.rs`) and `vault.redb`. A credential
//! belongs to a runtime and is bound to one base URL; it comes out again only for that URL's origin. Nothing here lists
//! or prints one. All calls block on the disk: an async caller uses a blocking thread.
//!
//! * `key_file.rs`: the operator's key, from which all others follow: see `host/seal`, which seals
//! * `credentials.rs`, `manifest.rs`: the records, and the sealed list that says which of them must exist · `probe.rs`: what
//!   came of trying one
//! * `secret.rs`: a credential in memory
//! * `access/`: clients' keys, of which the store has no text
//! * `marks.rs`: which requests were carried out, in the commit that did so
//! * `table.rs`: sealed rows of other modules in the same file
//! * `copy.rs`: what a backup holds, sealed as it is
//!
//! What this protects against is somebody who reads or edits the files. Putting back the whole directory of an earlier
//! day is not found out.

mod access;
mod copy;
mod credentials;
mod identity;
mod key_file;
mod manifest;
mod marks;
mod private_file;
mod probe;
mod secret;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

pub use lap_seal::VaultKey;
use lap_seal::{Algorithm, Dek, IntegrityError, Kek, KeyId, Sealer, random};
use lap_store::{ALL, Direction, Limit, Options, Store, Table};
use tokio::sync::watch;
use zeroize::Zeroizing;

pub(crate) use self::{
    access::TABLES as CLIENT_KEY_TABLES,
    marks::noted,
    table::{Also, Row, SealedTable, verify as verify_rows},
};
pub use self::{
    access::{Client, ClientKeys, KeyView, MintError, NewKey, SIGN_IN_FOR, Shown, verify as verify_client_keys},
    table::RowError,
};
pub use self::{
    copy::{StoreFile, VaultMoment},
    credentials::{CREDENTIAL_ROWS, Credential, OpenCredentialError, StoreError},
    key_file::{KeyFileError, generate_key_file, load_key_file},
    marks::{Mark, Marks},
    private_file::{create_private_file, rename_private_file},
    probe::{Finding, Probe},
    secret::{Secret, UnusableSecret},
};
use self::{
    identity::{Identity, IdentityError},
    manifest::Manifest,
};

const DATABASE_FILE: &str = "vault.redb";
/// The event log's file, which belongs to another module and never stands alone.
const EVENTS_FILE: &str = "events.redb";

/// A plain open would trust the pages of a file that was closed properly, and might panic later on altered ones.
const OPTIONS: Options =
    Options { cache_bytes: 16 * 1024 * 1024, checks_all: true, recovers_at_once: false, forgets: false };

const META: Table = Table::of_text("meta");
/// Wrapped DEKs by term. The highest term seals; the others open what they sealed.
const DEKS: Table = Table::of_u32("deks");

/// In `META`: the id of the vault's key, then a known text wrapped by it.
const KEY_CHECK: &str = "key-check";
const KEY_CHECK_TEXT: &[u8] = b"this store, this key";

/// What a directory holds, as far as the vault is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing of a store, or not even the directory.
    Empty,
    /// A store, which may or may not open.
    Store,
    /// Parts of a store; the sentence says which is missing.
    Damaged(String),
}

/// Why a store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one.
    #[error("{} holds a store already", .0.display())]
    Exists(PathBuf),
    /// There are parts of one.
    #[error("{} holds parts of a store: {reason}", .path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The system refuses.
    #[error("the store in {} cannot be made: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database refuses.
    #[error("the database in {} cannot be made: {source}", .path.display())]
    Database {
        /// The directory.
        path: PathBuf,
        /// What the database says.
        source: lap_store::OpenError,
    },
}

/// Why a store cannot be opened. Nothing is served then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store.
    #[error("{} holds no store", .0.display())]
    Absent(PathBuf),
    /// Parts of the store are missing, or cannot be understood.
    #[error("the store in {} is damaged: {reason}", .path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not this store's key. No byte of the store was changed.
    #[error("key {given} does not open this store (needs {needed})")]
    WrongKey {
        /// The key that was tried.
        given: KeyId,
        /// The key that the store names.
        needed: KeyId,
    },
    /// Another process has it open.
    #[error("the store in {} is in use by another process", .0.display())]
    AlreadyOpen(PathBuf),
    /// A record was altered, moved, put back or removed from outside.
    #[error("the store in {} is damaged: {source}", .path.display())]
    Integrity {
        /// The directory.
        path: PathBuf,
        /// Which record, and how.
        source: IntegrityError,
    },
    /// The system refuses.
    #[error("the store in {} cannot be read: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database refuses its file.
    #[error("the database in {} cannot be opened: {source}", .path.display())]
    Database {
        /// The directory.
        path: PathBuf,
        /// What the database says.
        source: lap_store::OpenError,
    },
}

/// An open store. Cheap to clone; the files are closed with the last clone.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    sealer: Sealer,
    key: KeyId,
    /// The generation of the credentials: how many changes this process has made to them.
    credential_changes: watch::Sender<u64>,
    /// True once a write has failed: nothing is written any more.
    failed: Failed,
}

/// Turns true when the disk has failed under a write.
type Failed = watch::Sender<bool>;

/// Keeps in mind whether a failed write was the disk's fault, after which the database takes no more.
fn note_failure(store: &Store, failed: &Failed) {
    if let Err(error) = store.begin() {
        tracing::error!(%error, "a change of the vault failed; it takes no more until a restart");
        failed.send_replace(true);
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// What a directory holds, by the names of its files alone.
    ///
    /// # Errors
    /// When the system does not let us look.
    pub fn presence(directory: &Path) -> io::Result<Presence> {
        let has = |name: &str| directory.join(name).try_exists();
        let damaged = |reason: &str| Ok(Presence::Damaged(reason.to_owned()));
        match (has(identity::FILE)?, has(DATABASE_FILE)?, has(EVENTS_FILE)?) {
            (true, true, _) => Ok(Presence::Store),
            (false, false, false) => Ok(Presence::Empty),
            (true, false, _) => damaged("store.json is there, but vault.redb is missing"),
            (false, true, false) => {
                damaged("vault.redb is there, but store.json is missing; if a first start was interrupted, remove it")
            }
            (false, true, true) => damaged(
                "vault.redb is there, but store.json is missing; if a restore was interrupted, empty the directory and \
                 restore again",
            ),
            (false, false, true) => damaged(
                "events.redb is there, but store.json and vault.redb are missing; if a restore was interrupted, empty \
                 the directory and restore again",
            ),
        }
    }

    /// Makes a new store in a directory, which is created when it is missing. The store opens with `key` alone.
    ///
    /// # Errors
    /// When the directory holds a store or parts of one, or the disk refuses.
    pub fn init(directory: &Path, key: &VaultKey) -> Result<(), InitError> {
        let path = || directory.to_owned();
        let io = |source| InitError::Io { path: path(), source };
        match Self::presence(directory).map_err(io)? {
            Presence::Empty => {}
            Presence::Store => return Err(InitError::Exists(path())),
            Presence::Damaged(reason) => return Err(InitError::Damaged { path: path(), reason }),
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let identity = Identity::fresh(key.id());
        let database = directory.join(DATABASE_FILE);
        let new = database.with_added_extension("new");
        private_file::remove_leftover(&new).map_err(io)?;
        let file = create_private_file(&new).map_err(io)?;
        let fill = || -> Result<(), lap_store::OpenError> { Ok(fill(&Store::create(file, OPTIONS)?, &identity, key)?) };
        fill().map_err(|error| match error {
            lap_store::OpenError::Io(source) => io(source),
            source => InitError::Database { path: path(), source },
        })?;
        rename_private_file(&new, &database).map_err(io)?;
        // Last: with it the directory is a store.
        identity.write(directory).map_err(io)
    }

    /// Opens the store in a directory and checks every credential in it.
    ///
    /// # Errors
    /// When there is no whole store, the key is not its key, another process has it open, or anything in it is not as
    /// it was written. A wrong key changes no byte of any file.
    // By value: who has opened the store needs its key no more, and dropping it clears the memory.
    #[allow(clippy::needless_pass_by_value, reason = "the key's memory is cleared here")]
    pub fn open(directory: &Path, key: VaultKey) -> Result<Self, OpenError> {
        let vault = Self::open_in(directory, &key, Store::open)?;
        // Before anything is written that an older program cannot read.
        Self::identity(directory)?
            .renew(directory)
            .map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
        Ok(vault)
    }

    /// The same where nothing can be written: what this process changes ends with it.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[allow(clippy::needless_pass_by_value, reason = "the key's memory is cleared here")]
    pub fn open_frozen(directory: &Path, key: VaultKey) -> Result<Self, OpenError> {
        Self::open_in(directory, &key, Store::open_frozen)
    }

    fn open_in(
        directory: &Path,
        key: &VaultKey,
        open: impl FnOnce(&Path, Options) -> Result<Store, lap_store::OpenError>,
    ) -> Result<Self, OpenError> {
        let path = || directory.to_owned();
        match Self::presence(directory).map_err(|source| OpenError::Io { path: path(), source })? {
            Presence::Store => {}
            Presence::Empty => return Err(OpenError::Absent(path())),
            Presence::Damaged(reason) => return Err(OpenError::Damaged { path: path(), reason }),
        }
        Self::open_as(directory, &Self::identity(directory)?, key, open)
    }

    fn identity(directory: &Path) -> Result<Identity, OpenError> {
        let path = directory.to_owned();
        Identity::read(directory).map_err(|error| match error {
            IdentityError::Io(source) => OpenError::Io { path, source },
            other => OpenError::Damaged { path, reason: other.to_string() },
        })
    }

    fn open_as(
        directory: &Path,
        identity: &Identity,
        key: &VaultKey,
        open: impl FnOnce(&Path, Options) -> Result<Store, lap_store::OpenError>,
    ) -> Result<Self, OpenError> {
        let path = || directory.to_owned();
        check_key(directory, identity, key)?;
        let database = |source| OpenError::Database { path: path(), source };
        let store = open(&directory.join(DATABASE_FILE), OPTIONS).map_err(|error| match error {
            lap_store::OpenError::InUse => OpenError::AlreadyOpen(path()),
            lap_store::OpenError::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                OpenError::Io { path: path(), source }
            }
            other => database(other),
        })?;
        let sealer = read_keys(&store, identity, key).map_err(|error| match error {
            KeysError::Store(error) => database(error.into()),
            KeysError::WrongKey(needed) => OpenError::WrongKey { given: key.id(), needed },
            KeysError::Damaged(reason) => OpenError::Damaged { path: path(), reason },
        })?;
        let credential_changes = watch::Sender::default();
        let vault = Self { store, sealer, key: key.id(), credential_changes, failed: Failed::default() };
        vault.verify().map_err(|error| match error {
            StoreError::Integrity(source) => OpenError::Integrity { path: path(), source },
            StoreError::Database(error) => database(error.into()),
            other => OpenError::Damaged { path: path(), reason: other.to_string() },
        })?;
        Ok(vault)
    }

    /// The name of the key that opened the store.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key
    }

    /// The vault's file in the directory of a store.
    #[must_use]
    pub fn file(directory: &Path) -> PathBuf {
        directory.join(DATABASE_FILE)
    }

    /// What seals and opens values of this store.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// Turns true when a change has failed and the process should end, so that the next one reads what the disk has.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }
}

/// Refuses a key that `store.json` does not name, before anything is opened.
fn check_key(directory: &Path, identity: &Identity, key: &VaultKey) -> Result<(), OpenError> {
    let given = key.id();
    match identity.vault_keys.first() {
        _ if identity.vault_keys.contains(&given) => Ok(()),
        Some(&needed) => Err(OpenError::WrongKey { given, needed }),
        None => {
            let reason = "store.json names no key".to_owned();
            Err(OpenError::Damaged { path: directory.to_owned(), reason })
        }
    }
}

/// Fills the database of a new store: key check, first DEK, empty manifest.
fn fill(store: &Store, identity: &Identity, key: &VaultKey) -> Result<(), lap_store::Error> {
    let number = identity.store();
    let kek = key.kek();
    let mut dek = Zeroizing::new([0; 32]);
    random(&mut dek[..]);
    let term = 1;
    let commit = store.begin()?;
    let check = [&key.id().to_bytes()[..], &kek.wrap(&number, KEY_CHECK.as_bytes(), KEY_CHECK_TEXT)].concat();
    commit.rows(META)?.put(KEY_CHECK.as_bytes(), &check)?;
    commit.rows(DEKS)?.put(&u32::to_be_bytes(term), &kek.wrap(&number, &dek_name(term), &dek[..]))?;
    let sealer = Sealer::new(number, Algorithm::preferred(), Dek::new(term, &dek), Vec::new());
    credentials::make_tables(&commit)?;
    Manifest::default().write(&commit, &sealer)?;
    commit.commit()
}

fn dek_name(term: u32) -> Vec<u8> {
    [&b"dek"[..], &term.to_be_bytes()].concat()
}

enum KeysError {
    WrongKey(KeyId),
    Damaged(String),
    Store(lap_store::Error),
}

impl From<lap_store::Error> for KeysError {
    fn from(error: lap_store::Error) -> Self {
        Self::Store(error)
    }
}

/// Checks the key against the database and unwraps the DEKs.
fn read_keys(store: &Store, identity: &Identity, key: &VaultKey) -> Result<Sealer, KeysError> {
    let damaged = |reason: &str| KeysError::Damaged(reason.to_owned());
    let number = identity.store();
    let kek = key.kek();
    let view = store.view()?;
    let check = view.rows(META)?.get(KEY_CHECK.as_bytes())?;
    let check = check.ok_or_else(|| damaged("vault.redb has no key check"))?;
    let (id, wrapped) = check.split_first_chunk().ok_or_else(|| damaged("the key check is cut off"))?;
    // `store.json` names both keys while the key is changed; the database holds one of them.
    if KeyId::from_bytes(*id) != key.id() {
        return Err(KeysError::WrongKey(KeyId::from_bytes(*id)));
    }
    kek.unwrap(&number, KEY_CHECK.as_bytes(), wrapped)
        .map_err(|_| damaged("store.json and vault.redb are of different stores, or were altered"))?;
    let mut deks = Vec::new();
    for (term, wrapped) in view.rows(DEKS)?.page(ALL, Direction::Forwards, Limit::NONE)? {
        let term = term.try_into().map_or(0, u32::from_be_bytes);
        deks.push(unwrap_dek(&kek, &number, term, &wrapped)?);
    }
    let active = deks.pop().ok_or_else(|| damaged("vault.redb has no data key"))?;
    Ok(Sealer::new(number, Algorithm::preferred(), active, deks))
}

fn unwrap_dek(kek: &Kek, store: &[u8; 16], term: u32, wrapped: &[u8]) -> Result<Dek, KeysError> {
    let opened = kek.unwrap(store, &dek_name(term), wrapped).ok();
    let dek = opened.as_ref().and_then(|opened| opened[..].try_into().ok());
    let dek = dek.ok_or_else(|| KeysError::Damaged(format!("the data key of term {term} was altered")))?;
    Ok(Dek::new(term, dek))
}
