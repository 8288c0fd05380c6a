//! A new data directory of a backup.
//!
//! The file is read twice: once to check all of it before anything is written, and once to write it, checked again,
//! since nobody can say what happened to it meanwhile. `events.redb` is made first and `store.json` last, so that at
//! any moment between the two the directory is one that no host starts on.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Seek},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use lap_store::copy::FillError;

use super::format::{self, Contents, FormatError, Part};
use crate::{
    agents,
    events::{self, Counts, EventLog},
    registry,
    vault::{KeyFileError, OpenError, Vault, VaultKey, load_key_file, verify_client_keys},
};

const EVENTS_FILE: &str = "events.redb";
const VAULT_FILE: &str = "vault.redb";
/// What may lie in the directory beforehand: the keys, which are in no backup.
const KEY_FILES: [&str; 2] = ["vault.key", "master.key"];

/// Why nothing was restored. What was written before is removed again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not there.
    #[error("the backup {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The backup is not one, or not whole.
    #[error("the backup {} cannot be used: {source}", .path.display())]
    Unusable {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// There is something in the directory.
    #[error("{} is not empty, it holds {found}: name a new directory", .path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// A file in it.
        found: String,
    },
    /// The directory cannot be made or written.
    #[error("the data directory {} cannot be made: {source}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A database cannot be made of what is in the backup.
    #[error("{}: {source}", .path.display())]
    Fill {
        /// The database's file.
        path: PathBuf,
        /// Why not.
        source: FillError,
    },
    /// The new log cannot be made or read.
    #[error("{}: {source}", .path.display())]
    Log {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: events::StartError,
    },
    /// The key does not open the vault, or not all of it.
    #[error(transparent)]
    Vault(#[from] OpenError),
    /// What the backup holds is whole, but not what a host once sealed.
    #[error("the backup holds damaged records: {0}")]
    Damaged(String),
}

impl RestoreError {
    /// What the process ends with: 78 for a key that cannot be used, 1 for everything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Key(_) | Self::Vault(OpenError::WrongKey { .. }) => 78,
            _ => 1,
        }
    }
}

/// What was restored.
pub struct Restored {
    contents: Contents,
    counts: Counts,
    /// With which key file everything was opened; nothing where none was there.
    opened_with: Option<PathBuf>,
    directory: PathBuf,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contents, counts, opened_with, directory } = self;
        let (agents, credentials) = (contents.agents(), contents.credentials());
        let Counts { sessions, events, messages } = counts;
        writeln!(f, "restored the store {} of {} in {}", contents.store(), contents.time(), directory.display())?;
        writeln!(
            f,
            "{sessions} sessions, {events} events, {messages} messages, {agents} agents, {credentials} credentials"
        )?;
        match opened_with {
            Some(key) => write!(f, "everything opens with the key in {}", key.display()),
            None => write!(
                f,
                "THE KEY IS NOT IN A BACKUP: put the vault's key where `lap serve` looks for it ({}), or name its file \
                 with --vault-key-file; nothing was opened, for want of it",
                directory.join(KEY_FILES[0]).display()
            ),
        }
    }
}

/// Makes a new store in `directory` of the backup in `file`. With `key_file`, or a key in the directory, everything is
/// opened and checked too.
///
/// # Errors
/// When the directory holds anything but keys, the backup is not whole, the key is not its key, or the disk fails.
pub fn restore(file: &Path, directory: &Path, key_file: Option<&Path>) -> Result<Restored, RestoreError> {
    let unusable = |source| RestoreError::Unusable { path: file.to_owned(), source };
    let in_directory = |source| RestoreError::Directory { path: directory.to_owned(), source };
    refuse_occupied(directory)?;
    let mut source = File::open(file).map_err(|source| RestoreError::Unreadable { path: file.to_owned(), source })?;
    let contents = format::check(&source).map_err(unusable)?;
    let key = key_of(directory, key_file)?;
    if let Some((key, _)) = &key {
        contents.store_file.check_key(directory, key)?;
    }
    source.rewind().map_err(|error| unusable(FormatError::Io(error)))?;

    let begun = Begun::new(directory).map_err(in_directory)?;
    let again = begun.fill(&source, file)?;
    if again.digest != contents.digest {
        return Err(unusable(FormatError::Damaged("it changed while it was read")));
    }
    let log = directory.join(EVENTS_FILE);
    let in_log = |source| RestoreError::Log { path: log.clone(), source };
    let counts = EventLog::count(&log).map_err(in_log)?;
    let opened_with = match key {
        Some((key, path)) => {
            let vault = Vault::open_copy(directory, &contents.store_file, key)?;
            agents::verify(&vault).map_err(|error| RestoreError::Damaged(error.to_string()))?;
            registry::verify(&vault).map_err(|error| RestoreError::Damaged(error.to_string()))?;
            verify_client_keys(&vault).map_err(|error| RestoreError::Damaged(error.to_string()))?;
            EventLog::verify(&log, &vault.sealer()).map_err(|error| RestoreError::Damaged(error.to_string()))?;
            Some(path)
        }
        None => None,
    };
    contents.store_file.write(directory).map_err(in_directory)?;
    begun.keep();
    Ok(Restored { contents, counts, opened_with, directory: directory.to_owned() })
}

fn refuse_occupied(directory: &Path) -> Result<(), RestoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| RestoreError::Directory { path: directory.to_owned(), source })?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| RestoreError::Directory { path: directory.to_owned(), source })?;
        let found = entry.file_name().to_string_lossy().into_owned();
        if !KEY_FILES.contains(&found.as_str()) {
            return Err(RestoreError::Occupied { path: directory.to_owned(), found });
        }
    }
    Ok(())
}

/// The key that was named, or the one that lies where a host would look for it.
fn key_of(directory: &Path, named: Option<&Path>) -> Result<Option<(VaultKey, PathBuf)>, RestoreError> {
    let own = directory.join(KEY_FILES[0]);
    let path = named.unwrap_or(&own);
    match load_key_file(path) {
        Err(KeyFileError::Missing { .. }) if named.is_none() => Ok(None),
        key => Ok(Some((key?, path.to_owned()))),
    }
}

/// A directory that is becoming a store. Unless it is kept, what was made in it is removed again.
struct Begun<'a> {
    directory: &'a Path,
    made: bool,
    kept: bool,
}

impl<'a> Begun<'a> {
    fn new(directory: &'a Path) -> io::Result<Self> {
        let made = !directory.try_exists()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Its name is in the directory above, which has its own fsync.
        let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(Self { directory, made, kept: false })
    }

    /// Makes both databases of the rows in `source`.
    fn fill(&self, source: &File, file: &Path) -> Result<Contents, RestoreError> {
        let (log_path, vault_path) = (self.directory.join(EVENTS_FILE), self.directory.join(VAULT_FILE));
        let in_vault = |source| RestoreError::Fill { path: vault_path.clone(), source };
        let in_log = |source| RestoreError::Fill { path: log_path.clone(), source };
        let mut log =
            EventLog::fill(&log_path).map_err(|source| RestoreError::Log { path: log_path.clone(), source })?;
        let mut vault = Vault::fill(self.directory, super::IN_VAULT).map_err(in_vault)?;
        let contents = format::read(source, &mut |part, item| {
            let taken = match part {
                Part::Vault => vault.take(item).map_err(in_vault),
                Part::Events => log.take(item).map_err(in_log),
            };
            taken.map_err(Interrupted::Fill)
        });
        let contents = contents.map_err(|error| match error {
            Interrupted::Fill(error) => error,
            Interrupted::Format(source) => RestoreError::Unusable { path: file.to_owned(), source },
        })?;
        vault.finish().map_err(in_vault)?;
        log.finish().map_err(in_log)?;
        Ok(contents)
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

/// Why the second reading ended.
enum Interrupted {
    Format(FormatError),
    Fill(RestoreError),
}

impl From<FormatError> for Interrupted {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The last to go is what keeps a host from starting here. What cannot be removed does so, too.
        for file in ["store.json", "store.json.new", VAULT_FILE, EVENTS_FILE] {
            drop(fs::remove_file(self.directory.join(file)));
        }
        if self.made {
            drop(fs::remove_dir(self.directory));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::Read;

    use lap_store::copy::Item;
    use tempfile::TempDir;

    use super::{
        super::{Backups, Cancel, format::Writer},
        *,
    };
    use crate::{
        events::{Draft, Record},
        id::SessionId,
        vault::generate_key_file,
    };

    /// A directory with a key, and the bytes of a backup of a session of three events.
    async fn backup() -> (TempDir, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let key = directory.path().join("vault.key");
        generate_key_file(&key).unwrap();
        Vault::init(&data, &load_key_file(&key).unwrap()).unwrap();
        let vault = Vault::open(&data, load_key_file(&key).unwrap()).unwrap();
        let log = EventLog::create(&data.join(EVENTS_FILE), vault.sealer()).unwrap();
        let mut draft = Draft::default();
        (1..=3).for_each(|number| draft.push("agent.message", &format!("{{\"number\":{number}}}")));
        let session = Record::Session { version: 1, bytes: b"a session".to_vec() };
        let message = Record::Message { number: 0, bytes: b"a message".to_vec() };
        let mut writer = log.writer(SessionId::fresh(), true).unwrap();
        writer.append(draft, vec![session, message], true).await.unwrap();
        let mut bytes = Vec::new();
        let disk = crate::disk::Disk::look(data.clone(), 0, crate::disk::Probe::default(), &[]);
        Backups::new(data, disk, log, vault).spool(&Cancel::default()).unwrap().read_to_end(&mut bytes).unwrap();
        (directory, bytes)
    }

    /// The same backup with its last bit of one table's values changed, under a digest that is right.
    fn forged(bytes: &[u8], target: &str) -> Vec<u8> {
        let contents = format::check(bytes).unwrap();
        let mut writer = Writer::new(Vec::new(), contents.head).unwrap();
        let mut hit = false;
        format::read::<FormatError>(bytes, &mut |part, item| {
            match item {
                Item::Table(name) => hit = name == target,
                Item::Row { key, value } if hit => {
                    let mut value = value.to_vec();
                    *value.last_mut().unwrap() ^= 1;
                    writer.item(part, Item::Row { key, value: &value }).unwrap();
                    return Ok(());
                }
                Item::Row { .. } => {}
            }
            writer.item(part, item).unwrap();
            Ok(())
        })
        .unwrap();
        writer.finish(&contents.store_file).unwrap().0
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_forged_row_under_a_right_digest_does_not_open_and_nothing_is_left() {
        let (directory, bytes) = backup().await;
        let (file, new, key) =
            (directory.path().join("file"), directory.path().join("new"), directory.path().join("vault.key"));
        for table in ["meta", "deks", "manifest", "sessions", "messages", "journal"] {
            fs::write(&file, forged(&bytes, table)).unwrap();
            let error = restore(&file, &new, Some(&key)).err();
            assert!(matches!(error, Some(RestoreError::Damaged(_) | RestoreError::Vault(_))), "{table}: {error:?}");
            assert!(!new.exists(), "{table}: something is left");
        }
        // A table that is not there changes nothing: the control.
        fs::write(&file, forged(&bytes, "none")).unwrap();
        let restored = restore(&file, &new, Some(&key)).unwrap();
        assert_eq!(restored.counts, Counts { sessions: 1, events: 3, messages: 1 });
        assert_eq!(restored.opened_with, Some(key));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_of_an_unknown_table_are_refused_and_nothing_is_left() {
        let (directory, bytes) = backup().await;
        let contents = format::check(&bytes[..]).unwrap();
        let mut writer = Writer::new(Vec::new(), contents.head).unwrap();
        writer.item(Part::Events, Item::Table("of tomorrow")).unwrap();
        let (file, new) = (directory.path().join("file"), directory.path().join("new"));
        fs::write(&file, writer.finish(&contents.store_file).unwrap().0).unwrap();
        let error = restore(&file, &new, None).err().unwrap().to_string();
        assert!(error.contains("\"of tomorrow\", which this version does not know"), "{error}");
        assert!(!new.exists());
        // A directory that was there stays.
        fs::create_dir(&new).unwrap();
        restore(&file, &new, None).err().unwrap();
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
    }
}
