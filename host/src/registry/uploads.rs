//! Components that were uploaded and not yet added. They lie in files without a name in the data directory, so that a
//! crash leaves nothing of them, and do not take memory while their operator thinks.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, Write},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ring::digest::{Context, SHA256};

use crate::id::ComponentDigest;

/// How many wait at once; one more, and the first of them is forgotten.
const WAITING_MAX: usize = 8;

pub(super) struct Uploads {
    directory: PathBuf,
    waiting: Mutex<VecDeque<(ComponentDigest, File)>>,
}

/// A component that is coming in.
pub struct Upload {
    file: File,
    context: Context,
    bytes: u64,
}

impl Upload {
    /// Takes the next piece. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.context.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece)
    }

    /// How many bytes have come.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Uploads {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(ComponentDigest, File)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> io::Result<Upload> {
        Ok(Upload { file: tempfile::tempfile_in(&self.directory)?, context: Context::new(&SHA256), bytes: 0 })
    }

    /// Keeps what has come, under its digest.
    pub(super) fn keep(&self, upload: Upload) -> ComponentDigest {
        let digest = ComponentDigest::from(upload.context.finish());
        let mut waiting = self.waiting();
        waiting.retain(|(known, _)| *known != digest);
        waiting.push_back((digest, upload.file));
        if waiting.len() > WAITING_MAX {
            waiting.pop_front();
        }
        digest
    }

    /// What was uploaded under this digest, if it still waits. Blocks on the disk.
    pub(super) fn read(&self, digest: ComponentDigest) -> io::Result<Option<Vec<u8>>> {
        // Held while the file is read, since a file has one position.
        let mut waiting = self.waiting();
        let Some((_, file)) = waiting.iter_mut().find(|(known, _)| *known == digest) else { return Ok(None) };
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Forgets what has been added.
    pub(super) fn forget(&self, digest: ComponentDigest) {
        self.waiting().retain(|(known, _)| *known != digest);
    }
}
