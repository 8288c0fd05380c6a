//! A backup of the running host: first into a file without a name, then, however long that takes, to the client.
//!
//! The database cannot reuse a page that a reader still sees, so a client must not decide how long the rows are read:
//! a slow one would make the files grow, and with them the time of every commit. Between rows and client lies the
//! spool, a file in the data directory that nobody else can open and that is gone with this process. It takes as much
//! room as the rows do, for as long as the client reads; a disk that is full would end the log, so the spool never takes
//! the disk's reserve. There is one at a time.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use lap_store::copy::CopyError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::format::{Head, Part, Writer};
use crate::{
    clock,
    disk::{Disk, Seen},
    events::EventLog,
    vault::{StoreFile, Vault},
};

/// How much is written between two looks at what is free.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another one is being made or read.
    #[error("another backup is under way")]
    Busy,
    /// The disk has no room for it.
    #[error("the disk of the data directory has no room for a backup: {free_bytes} bytes are free")]
    Full {
        /// What is left.
        free_bytes: u64,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for the backup any more")]
    Cancelled,
    /// The rows cannot be read, or the spool not written.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The system refuses.
    #[error("the backup cannot be spooled: {0}")]
    Io(#[source] io::Error),
}

/// Ends the making of a backup when it is dropped.
#[derive(Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes backups. A handle: clones share everything.
#[derive(Clone)]
pub struct Backups(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    log: EventLog,
    vault: Vault,
    disk: Disk,
    turn: Arc<Semaphore>,
}

/// A whole backup, on its way. Its place in the queue is free once it is dropped.
pub struct Spooled {
    file: File,
    bytes: u64,
    _turn: OwnedSemaphorePermit,
}

impl Spooled {
    /// How long it is.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.bytes
    }
}

impl io::Read for Spooled {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Backups {
    /// Of the store in `directory`, whose parts these are.
    #[must_use]
    pub fn new(directory: PathBuf, disk: Disk, log: EventLog, vault: Vault) -> Self {
        Self(Arc::new(Shared { directory, log, vault, disk, turn: Arc::new(Semaphore::new(1)) }))
    }

    /// Makes a backup of all that was acknowledged before. Blocks while the rows are copied; `cancel` can end that.
    ///
    /// # Errors
    /// When another is under way, nobody waits for this one, or the disk fails or is full.
    pub fn spool(&self, cancel: &Cancel) -> Result<Spooled, SpoolError> {
        self.spool_until(&cancel.0)
    }

    /// As [`Self::spool`], for who leaves the [`Cancel`] with somebody else.
    pub fn spooling(&self, cancel: &Cancel) -> impl FnOnce() -> Result<Spooled, SpoolError> + Send + 'static {
        let (backups, cancelled) = (self.clone(), Arc::clone(&cancel.0));
        move || backups.spool_until(&cancelled)
    }

    fn spool_until(&self, cancelled: &AtomicBool) -> Result<Spooled, SpoolError> {
        let shared = &self.0;
        let turn = Arc::clone(&shared.turn).try_acquire_owned().map_err(|_| SpoolError::Busy)?;
        let file = tempfile::tempfile_in(&shared.directory).map_err(SpoolError::Io)?;
        let mut spool =
            Spool { shared, cancelled, to: BufWriter::with_capacity(BUFFER_BYTES, file), unchecked: LOOK_BYTES };
        let written = spool.write();
        // The reason stands beside the error that it became on its way through the database's rows.
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(CopyError::Sink(error)) => return Err(error.downcast().unwrap_or_else(SpoolError::Io)),
            Err(error) => return Err(error.into()),
        };
        let mut file = spool.to.into_inner().map_err(|error| SpoolError::Io(error.into_error()))?;
        file.rewind().map_err(SpoolError::Io)?;
        Ok(Spooled { file, bytes, _turn: turn })
    }
}

/// The file that a backup is written to, with an eye on what is free.
struct Spool<'a> {
    shared: &'a Shared,
    cancelled: &'a AtomicBool,
    to: BufWriter<File>,
    unchecked: u64,
}

impl Spool<'_> {
    fn write(&mut self) -> Result<u64, CopyError> {
        let shared = self.shared;
        // No other process can change it while this one has the database open.
        let store_file = StoreFile::read(&shared.directory)?;
        let head = Head { store: store_file.store(), unix_ms: clock::unix_ms() };
        let log = shared.log.moment()?;
        let vault = shared.vault.moment()?;
        let mut writer = Writer::new(self, head)?;
        vault.copy(super::IN_VAULT, &mut |item| writer.item(Part::Vault, item))?;
        drop(vault);
        log.copy(&mut |item| writer.item(Part::Events, item))?;
        drop(log);
        Ok(writer.finish(&store_file)?.1)
    }

    fn look(&mut self) -> Result<(), SpoolError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(SpoolError::Cancelled);
        }
        if self.unchecked >= LOOK_BYTES {
            self.unchecked = 0;
            let Seen { free_bytes, reserve_bytes, .. } = self.shared.disk.measure().map_err(SpoolError::Io)?;
            if free_bytes < reserve_bytes.saturating_add(LOOK_BYTES) {
                return Err(SpoolError::Full { free_bytes });
            }
        }
        Ok(())
    }
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look().map_err(io::Error::other)?;
        let written = self.to.write(bytes)?;
        self.unchecked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        backup::check,
        disk::{Capacity, Probe},
        vault::{generate_key_file, load_key_file},
    };

    const RESERVE_BYTES: u64 = 256 * 1024 * 1024;

    fn backups(free: u64) -> (TempDir, Backups) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let key = || load_key_file(&path.join("vault.key")).unwrap();
        generate_key_file(&path.join("vault.key")).unwrap();
        Vault::init(path, &key()).unwrap();
        let vault = Vault::open(path, key()).unwrap();
        let log = EventLog::create(&path.join("events.redb"), vault.sealer()).unwrap();
        let probe = Probe::new(move |_| Ok(Capacity { free, total: u64::MAX }));
        let disk = Disk::look(path.to_owned(), RESERVE_BYTES, probe, &[]);
        let backups = Backups::new(path.to_owned(), disk, log, vault);
        (directory, backups)
    }

    #[test]
    fn one_backup_at_a_time_is_made_and_is_whole_and_leaves_no_file() {
        let (directory, backups) = backups(u64::MAX);
        let before = std::fs::read_dir(directory.path()).unwrap().count();
        let spooled = backups.spool(&Cancel::default()).unwrap();
        assert!(matches!(backups.spool(&Cancel::default()), Err(SpoolError::Busy)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), before);
        let bytes = spooled.length();
        assert_eq!(check(spooled).unwrap().bytes(), bytes);
        backups.spool(&Cancel::default()).unwrap();
    }

    #[test]
    fn the_last_room_of_the_disk_is_for_the_log() {
        let (_directory, backups) = backups(RESERVE_BYTES + LOOK_BYTES - 1);
        assert!(matches!(backups.spool(&Cancel::default()), Err(SpoolError::Full { .. })));
        assert!(matches!(backups.spool(&Cancel::default()), Err(SpoolError::Full { .. })), "its place is free again");
    }

    #[test]
    fn a_backup_that_nobody_waits_for_ends() {
        let (_directory, backups) = backups(u64::MAX);
        let cancel = Cancel::default();
        let spooling = backups.spooling(&cancel);
        drop(cancel);
        assert!(matches!(spooling(), Err(SpoolError::Cancelled)));
    }
}
