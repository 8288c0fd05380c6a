//! Compiled components on disk. Machine code is run as it is, so each file carries a MAC: what was edited, moved or made
//! by another host is compiled again and never loaded.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use ring::{hmac, rand::SystemRandom};
use wasmtime::{Engine, component::Component as Compiled};

const TAG_BYTES: usize = 32;

/// A file is a tag, and what it covers: this, the component's digest, the code.
const FORMAT: &[u8] = b"lap code 1\0";

/// The key of the MACs: whoever has it can make this host run machine code.
pub struct CacheKey(hmac::Key);

impl CacheKey {
    /// The key that belongs to a store.
    #[must_use]
    pub const fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// A key that nobody else will ever have: what is kept under it is of use to this process alone.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn of_this_process() -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| io::Error::other("the system gives no random bytes"))
    }
}

/// The folder of compiled components. All calls block on the disk.
pub(super) struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    pub(super) fn new(folder: &Path, key: CacheKey) -> Self {
        Self { folder: folder.to_owned(), key: key.0 }
    }

    /// The component as it was compiled earlier, by this version of the engine and for this processor.
    pub(super) fn find(&self, engine: &Engine, digest: &str) -> Option<Compiled> {
        let file = fs::read(self.folder.join(file_name(digest))).ok()?;
        let Some(code) = self.verified(digest, &file) else {
            tracing::warn!(file = file_name(digest), "a compiled component is not what was stored; it is made again");
            return None;
        };
        // One of another version of the engine is no news, and made again.
        load(engine, code).ok()
    }

    fn verified<'a>(&self, digest: &str, file: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, covered) = file.split_at_checked(TAG_BYTES)?;
        hmac::verify(&self.key, covered, tag).ok()?;
        covered.strip_prefix(FORMAT)?.strip_prefix(digest.as_bytes())
    }

    /// Keeps what was compiled, and loads it. A full disk costs the next start some time, and nothing else.
    pub(super) fn keep(&self, engine: &Engine, digest: &str, code: &[u8]) -> wasmtime::Result<Compiled> {
        let compiled = load(engine, code)?;
        if let Err(error) = self.write(digest, code) {
            tracing::warn!(%error, folder = %self.folder.display(), "a compiled component cannot be kept");
        }
        Ok(compiled)
    }

    fn write(&self, digest: &str, code: &[u8]) -> io::Result<()> {
        let path = self.folder.join(file_name(digest));
        let covered = [FORMAT, digest.as_bytes(), code];
        let mut context = hmac::Context::with_key(&self.key);
        covered.iter().for_each(|piece| context.update(piece));
        let tag = context.sign();
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        for piece in [tag.as_ref()].iter().chain(&covered) {
            file.write_all(piece)?;
        }
        file.persist(path)?;
        Ok(())
    }
}

/// `digest` is that of the component, as `sha256:` and hexadecimal digits.
fn file_name(digest: &str) -> String {
    format!("{}.code", digest.trim_start_matches("sha256:"))
}

/// The one place where bytes become code that runs outside of the sandbox's checks.
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: the bytes come from wasmtime's own compiler of this version: `find` has checked that this host has written
    // them, and `keep` has them from the child that it started or from this process. wasmtime itself checks that they
    // were made by its version and for this engine's configuration.
    #[allow(unsafe_code, reason = "wasmtime cannot tell whether machine code is what its compiler made; the MAC can")]
    unsafe {
        Compiled::deserialize(engine, code)
    }
}
