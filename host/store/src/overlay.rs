//! A file whose writes are kept in memory: what a database needs that is to be read where nothing can be written.
//!
//! A database writes while it opens, since it puts away what a crash has left; those few pages are all that is kept here.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Disk, OpenError};

const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Such a file.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// Up to here the file counts: what is behind was cut off.
    file_len: u64,
    /// What was written, by the number of the block.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Of a file that no other process has open.
    ///
    /// # Errors
    /// When it cannot be read, or another process has it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let len = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { len, file_len: len, blocks: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a block, as they are now.
    fn block(&self, state: &State, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(block) = state.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK_BYTES].into_boxed_slice();
        let start = number * BLOCK;
        let in_file = usize::try_from(state.file_len.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        self.file.read_exact_at(&mut block[..in_file], start)?;
        Ok(block)
    }
}

/// The blocks that bytes lie in: of each its number, where the bytes begin in it, and which of the bytes they are.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = usize::try_from(at % BLOCK).unwrap_or(0);
        let piece = (BLOCK_BYTES - start).min(len - done);
        (piece > 0).then(|| {
            let bytes = done..done + piece;
            done += piece;
            (at / BLOCK, start, bytes)
        })
    })
}

impl Disk for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, start, bytes) in pieces(offset, into.len()) {
            let block = self.block(&state, number)?;
            let len = bytes.len();
            into[bytes].copy_from_slice(&block[start..start + len]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.len {
            state.file_len = state.file_len.min(len);
            let last = len / BLOCK;
            let mut block = self.block(&state, last)?;
            block[usize::try_from(len % BLOCK).unwrap_or(0)..].fill(0);
            state.blocks.split_off(&last);
            state.blocks.insert(last, block);
        }
        state.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (number, start, bytes) in pieces(offset, from.len()) {
            let mut block = self.block(&state, number)?;
            block[start..start + bytes.len()].copy_from_slice(&from[bytes]);
            state.blocks.insert(number, block);
        }
        state.len = state.len.max(offset + from.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Options, Store};

    #[test]
    fn what_is_written_is_read_again_and_the_file_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut expected: Vec<u8> = (0..20_000).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        fs::write(&path, &expected).unwrap();
        let before = expected.clone();
        let overlay = Overlay::open(&path).unwrap();
        let is_as_expected = |expected: &[u8], what: &str| {
            assert_eq!(overlay.len().unwrap(), expected.len() as u64, "{what}");
            for (offset, len) in [(0, expected.len()), (4090, 20), (1, 3), (8192, 4096), (expected.len() - 7, 7)] {
                let mut read = vec![0; len];
                overlay.read(offset as u64, &mut read).unwrap();
                assert!(read == expected[offset..offset + len], "{what}: {len} bytes at {offset}");
            }
        };
        is_as_expected(&expected, "untouched");
        for (offset, len) in [(4000, 200), (0, 1), (8192, 4096), (15_000, 5_000)] {
            overlay.write(offset as u64, &vec![7; len]).unwrap();
            expected[offset..offset + len].fill(7);
            is_as_expected(&expected, "written");
        }
        overlay.set_len(13_000).unwrap();
        expected.truncate(13_000);
        is_as_expected(&expected, "cut");
        overlay.set_len(30_000).unwrap();
        expected.resize(30_000, 0);
        is_as_expected(&expected, "grown: what was cut off is gone");
        assert!(overlay.read(29_990, &mut [0; 11]).is_err(), "behind the end");
        overlay.sync().unwrap();
        drop(overlay);
        assert!(fs::read(&path).unwrap() == before);
    }

    #[test]
    fn a_file_that_another_has_open_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let options = Options { cache_bytes: 1 << 20, checks_all: false, recovers_at_once: false, forgets: false };
        let other = Store::create(File::create_new(&path).unwrap(), options).unwrap();
        assert!(matches!(Overlay::open(&path), Err(OpenError::InUse)));
        drop(other);
        Overlay::open(&path).unwrap();
    }
}
