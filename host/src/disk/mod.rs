//! The disk of the data directory: how much room it has, and what a host does while that is little.
//!
//! For whoever starts a host, refuses requests, reads feeds or makes backups. A part of the disk is a reserve. Below it
//! nothing new is taken, and what runs goes on; when most of the reserve is gone as well, feeds are not read any more. A
//! commit that finds no room all the same ends the process, since nobody knows what the disk holds then; a host that starts on
//! a disk without room, or that cannot be written to, reads what is there and takes nothing ([`Frozen`]).
//!
//! Must not know what is stored.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// How often it is looked while there is room, and while there is little.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_OFTEN: Duration = Duration::from_millis(100);

/// Of the reserve, what is left to interrupts and deletions when feeds are not read any more: this part.
const LAST_PART: u64 = 8;
/// A disk may be smaller than the reserve: it never takes more than this part of it.
const DISK_PART: u64 = 10;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// More than the reserve.
    Enough,
    /// The reserve is in use: nothing new is taken.
    Little,
    /// Most of the reserve is gone, too: feeds are not read.
    None,
}

/// What a disk says of itself, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// What this process may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// How the capacity of a directory's disk is learnt.
#[derive(Clone)]
pub struct Probe(Arc<Ask>);

type Ask = dyn Fn(&Path) -> io::Result<Capacity> + Send + Sync;

impl Probe {
    /// Asks `probe` in place of the system.
    pub fn new(probe: impl Fn(&Path) -> io::Result<Capacity> + Send + Sync + 'static) -> Self {
        Self(Arc::new(probe))
    }
}

impl Default for Probe {
    /// Asks the system.
    fn default() -> Self {
        Self::new(|directory| {
            let disk = rustix::fs::statvfs(directory)?;
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            Ok(Capacity { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
        })
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe(..)")
    }
}

/// Why nothing is written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Frozen {
    /// There was no room when the host started.
    #[error(
        "the disk of the data directory was full when the host started: what is stored can be read, and nothing is taken"
    )]
    Full,
    /// The system lets nobody write there.
    #[error("the data directory cannot be written to: what is stored can be read, and nothing is taken")]
    ReadOnly,
}

/// Why something new is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Only the reserve is left.
    #[error(
        "the disk of the data directory has little room: {free_bytes} bytes are free, and the last {reserve_bytes} are kept for \
         what runs already; nothing new is taken until there is more"
    )]
    Little {
        /// What is free.
        free_bytes: u64,
        /// What is kept.
        reserve_bytes: u64,
    },
    /// Nothing is written at all.
    #[error(transparent)]
    Frozen(#[from] Frozen),
}

/// The disk of a data directory. A handle: clones share everything.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// As it was wished, in bytes.
    reserve: u64,
    probe: Probe,
    frozen: Option<Frozen>,
    seen: Mutex<Seen>,
    /// Those who wait are woken when the room is another one, and not with every byte.
    room: watch::Sender<Room>,
}

/// What the last look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How much room there is.
    pub room: Room,
    /// What is free, in bytes.
    pub free_bytes: u64,
    /// What is kept, in bytes.
    pub reserve_bytes: u64,
}

impl Seen {
    fn of(Capacity { free, total }: Capacity, reserve: u64, before: Room) -> Self {
        let reserve = reserve.min(total / DISK_PART);
        // What has run short must be well above the mark again, or it would change with every file.
        let above = |mark: u64, was_below: bool| free >= mark + if was_below { mark / LAST_PART } else { 0 };
        let room = if above(reserve, before != Room::Enough) {
            Room::Enough
        } else if above(reserve / LAST_PART, before == Room::None) {
            Room::Little
        } else {
            Room::None
        };
        Self { room, free_bytes: free, reserve_bytes: reserve }
    }
}

impl Disk {
    /// The disk of `directory`, which exists, with so many bytes kept as the reserve. It is frozen when `files` cannot be
    /// written to or there is no room; one that cannot be asked counts as roomy.
    #[must_use]
    pub fn look(directory: PathBuf, reserve: u64, probe: Probe, files: &[PathBuf]) -> Self {
        let capacity = (probe.0)(&directory).unwrap_or(Capacity { free: u64::MAX, total: u64::MAX });
        let seen = Seen::of(capacity, reserve, Room::Enough);
        let is_read_only = |file: &PathBuf| {
            let opened = OpenOptions::new().write(true).open(file);
            opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
        };
        let frozen = if files.iter().any(is_read_only) {
            Some(Frozen::ReadOnly)
        } else {
            (seen.room == Room::None).then_some(Frozen::Full)
        };
        if let Some(frozen) = frozen {
            tracing::error!(directory = %directory.display(), free_bytes = seen.free_bytes, "{frozen}");
        }
        Self(Arc::new(Shared {
            directory,
            reserve,
            probe,
            frozen,
            seen: Mutex::new(seen),
            room: watch::Sender::new(seen.room),
        }))
    }

    /// Set when nothing is written for as long as this host lives.
    #[must_use]
    pub fn frozen(&self) -> Option<Frozen> {
        self.0.frozen
    }

    /// What the last look found.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much room there is, and when that changes.
    #[must_use]
    pub fn room(&self) -> watch::Receiver<Room> {
        self.0.room.subscribe()
    }

    /// Whether something new may be taken.
    ///
    /// # Errors
    /// While only the reserve is left.
    pub fn admit(&self) -> Result<(), NoRoom> {
        self.writes()?;
        let Seen { room, free_bytes, reserve_bytes } = self.seen();
        if room == Room::Enough { Ok(()) } else { Err(NoRoom::Little { free_bytes, reserve_bytes }) }
    }

    /// Whether anything may be written.
    ///
    /// # Errors
    /// When the host has started without room.
    pub fn writes(&self) -> Result<(), Frozen> {
        self.0.frozen.map_or(Ok(()), Err)
    }

    /// What is free now, and what of it is kept, in bytes. Blocks on the system.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn measure(&self) -> io::Result<Seen> {
        let shared = &self.0;
        Ok(Seen::of((shared.probe.0)(&shared.directory)?, shared.reserve, self.seen().room))
    }

    /// Looks again and again, for ever.
    pub async fn watch(self) {
        loop {
            let before = self.seen();
            sleep(if before.room == Room::Enough { LOOK } else { LOOK_OFTEN }).await;
            let disk = self.clone();
            let Ok(Ok(seen)) = spawn_blocking(move || disk.measure()).await else { continue };
            *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            if seen.room == before.room {
                continue;
            }
            self.0.room.send_replace(seen.room);
            let (free_bytes, reserve_bytes) = (seen.free_bytes, seen.reserve_bytes);
            match seen.room {
                Room::Enough => tracing::info!(free_bytes, "the disk of the data directory has room again"),
                Room::Little => tracing::warn!(
                    free_bytes,
                    reserve_bytes,
                    "the disk of the data directory has little room: nothing new is taken, what runs goes on"
                ),
                Room::None => tracing::error!(
                    free_bytes,
                    reserve_bytes,
                    "the disk of the data directory is full: nothing is read from upstreams until there is room"
                ),
            }
        }
    }

    /// Done when a host that has started without room, or where nothing could be written, would find it otherwise now.
    pub async fn thawed(&self) {
        let Some(frozen) = self.0.frozen else { return std::future::pending().await };
        let mut room = self.room();
        loop {
            // As at a start: what makes one frozen is gone.
            let has_room = *room.borrow_and_update() != Room::None;
            if has_room && (frozen == Frozen::Full || self.takes_files().await) {
                return;
            }
            tokio::select! {
                // The sender lives as long as this.
                _ = room.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn takes_files(&self) -> bool {
        let directory = self.0.directory.clone();
        spawn_blocking(move || tempfile::tempfile_in(directory).is_ok()).await.unwrap_or(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn room_is_lost_at_a_mark_and_won_well_above_it() {
        let seen =
            |free: u64, before| Seen::of(Capacity { free: free * MIB, total: 10_240 * MIB }, 256 * MIB, before).room;
        for (free, before, room) in [
            (256, Room::Enough, Room::Enough),
            (255, Room::Enough, Room::Little),
            (287, Room::Little, Room::Little),
            (288, Room::Little, Room::Enough),
            (32, Room::Little, Room::Little),
            (31, Room::Little, Room::None),
            (31, Room::Enough, Room::None),
            (35, Room::None, Room::None),
            (36, Room::None, Room::Little),
            (300, Room::None, Room::Enough),
        ] {
            assert_eq!(seen(free, before), room, "{free} MiB after {before:?}");
        }
    }

    #[test]
    fn a_small_disk_keeps_a_tenth_of_itself() {
        let seen = Seen::of(Capacity { free: 90 * MIB, total: 500 * MIB }, 256 * MIB, Room::Enough);
        assert_eq!((seen.room, seen.reserve_bytes), (Room::Enough, 50 * MIB));
        let seen = Seen::of(Capacity { free: 0, total: 500 * MIB }, 0, Room::Enough);
        assert_eq!(seen.room, Room::Enough, "without a reserve nothing is refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_disk_thaws_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let free = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let probed = Arc::clone(&free);
        let probe = Probe::new(move |_| {
            Ok(Capacity { free: probed.load(std::sync::atomic::Ordering::Relaxed), total: 10_240 * MIB })
        });
        let disk = Disk::look(directory.path().to_owned(), 256 * MIB, probe, &[]);
        assert_eq!((disk.frozen(), disk.admit()), (Some(Frozen::Full), Err(NoRoom::Frozen(Frozen::Full))));
        let watch = tokio::spawn(disk.clone().watch());
        assert!(tokio::time::timeout(LOOK * 5, disk.thawed()).await.is_err());
        free.store(40 * MIB, std::sync::atomic::Ordering::Relaxed);
        disk.thawed().await;
        watch.abort();
    }
}
