//! The file with the vault's key: read strictly, made once.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use base64::{Engine, alphabet, engine};
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::{VaultKey, private_file::create_private_file};

/// 44 characters of base64 and a line end; one more byte shows that a file is too long.
const READ_BYTES_MAX: usize = 46;

/// Why a key file gives no key. Each text names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("the key file {} does not exist: name the right file, or make a new key for a new store", .path.display())]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A new key was asked for where a file is.
    #[error("the key file {} exists already and was left as it is: choose another name", .path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// A directory, a pipe, a device.
    #[error("the key file {} is not a regular file: name a file that holds the key itself", .path.display())]
    NotRegular {
        /// What was named.
        path: PathBuf,
    },
    /// Somebody else could have chosen the key.
    #[error("the key file {} belongs to user {owner}: it must belong to the user that runs lap, or to root", .path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// Somebody else can read the key.
    #[error("the key file {path} has mode {mode:04o}, so other users have access: run `chmod 600 {path}`", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither 32 bytes nor 32 bytes in base64.
    #[error("the key file {} does not hold a key: it must be 32 random bytes, raw or in base64, as `openssl rand -base64 32` prints them", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("the key file {} cannot be used: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads a key from a file: 32 bytes, or 43 or 44 characters of base64 and at most one line end.
///
/// # Errors
/// When the file is not there, is no regular file, belongs to somebody else than this process's user or root, is
/// open to others in any way (`mode & 077`), or holds no key.
pub fn load_key_file(path: &Path) -> Result<VaultKey, KeyFileError> {
    let owned = || path.to_owned();
    // A pipe under this name must not keep the start waiting, so the file is opened without blocking.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(KeyFileError::Missing { path: owned() }),
        Err(error) => return Err(KeyFileError::Io { path: owned(), source: error.into() }),
    };
    // Asked of the open file, not of its name, which could point elsewhere by now.
    let facts = file.metadata().map_err(|source| KeyFileError::Io { path: owned(), source })?;
    if !facts.is_file() {
        return Err(KeyFileError::NotRegular { path: owned() });
    }
    let own = rustix::process::geteuid().as_raw();
    if facts.uid() != own && facts.uid() != 0 {
        return Err(KeyFileError::ForeignOwner { path: owned(), owner: facts.uid() });
    }
    let mode = facts.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(READ_BYTES_MAX));
    let read = file.take(READ_BYTES_MAX as u64).read_to_end(&mut text);
    read.map_err(|source| KeyFileError::Io { path: owned(), source })?;
    decode(&text).ok_or_else(|| KeyFileError::Malformed { path: owned() })
}

/// Makes a new random key and writes it, in base64, into a new file that only this process's user can read.
///
/// # Errors
/// When there is such a file already, which stays as it is, or the system refuses.
pub fn generate_key_file(path: &Path) -> Result<VaultKey, KeyFileError> {
    let key = VaultKey::generate();
    let mut text = Zeroizing::new(String::with_capacity(READ_BYTES_MAX));
    base64::prelude::BASE64_STANDARD.encode_string(key.bytes(), &mut text);
    text.push('\n');
    let write = || {
        let mut file = create_private_file(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    match write() {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(KeyFileError::Io { path: path.to_owned(), source }),
    }
}

fn decode(text: &[u8]) -> Option<VaultKey> {
    if let Ok(raw) = text.try_into() {
        return Some(VaultKey::from_bytes(raw));
    }
    let padding = engine::DecodePaddingMode::Indifferent;
    let config = engine::GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    let base64 = engine::GeneralPurpose::new(&alphabet::STANDARD, config);
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut raw = Zeroizing::new([0; 33]);
    match base64.decode_slice(line, &mut raw[..]) {
        Ok(32) => raw.first_chunk().map(VaultKey::from_bytes),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn file(directory: &Path, bytes: &[u8], mode: u32) -> PathBuf {
        let path = directory.join("key");
        remove(&path);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn remove(path: &Path) {
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_generated_file_gives_the_same_key_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        let made = generate_key_file(&path).unwrap();
        assert_eq!(load_key_file(&path).unwrap().id(), made.id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(matches!(generate_key_file(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn raw_and_base64_keys_are_read_alike() {
        let directory = tempfile::tempdir().unwrap();
        let raw = [0xfb; 32];
        let padded = base64::prelude::BASE64_STANDARD.encode(raw);
        let bare = padded.trim_end_matches('=');
        let texts = [
            raw.to_vec(),
            padded.clone().into(),
            bare.into(),
            format!("{padded}\n").into(),
            format!("{bare}\n").into(),
        ];
        for text in texts {
            let key = load_key_file(&file(directory.path(), &text, 0o400)).unwrap();
            assert_eq!(key.bytes(), &raw);
        }
    }

    #[test]
    fn a_file_without_a_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let padded = base64::prelude::BASE64_STANDARD.encode([7; 32]);
        let texts: [Vec<u8>; 9] = [
            Vec::new(),
            b"\n".to_vec(),
            vec![7; 31],
            vec![7; 33],
            [vec![b'a'; 32], b"\n".to_vec()].concat(),
            vec![b'a'; 64],
            vec![b'!'; 43],
            format!("{padded}\n\n").into(),
            format!(" {padded}").into(),
        ];
        for text in texts {
            let path = file(directory.path(), &text, 0o600);
            let error = load_key_file(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_may_touch_is_refused_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601, 0o777] {
            let path = file(directory.path(), &[7; 32], mode);
            let error = load_key_file(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Exposed { .. }), "{mode:o}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let missing = load_key_file(&directory.path().join("none")).unwrap_err();
        assert!(matches!(missing, KeyFileError::Missing { .. }));
        assert!(matches!(load_key_file(directory.path()), Err(KeyFileError::NotRegular { .. })));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(load_key_file(&pipe), Err(KeyFileError::NotRegular { .. })));
    }
}
