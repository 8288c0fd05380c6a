//! The master key: where it comes from, and the file that the host keeps it in by itself.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::ConfigError;
use crate::vault::create_private_file;

/// Where the master key may stand in the environment; the first one that is set counts.
const KEY_VARIABLES: [&str; 2] = ["LAP_MASTER_KEY", "LITELLM_MASTER_KEY"];
/// The longest key that a client can show.
const KEY_BYTES_MAX: usize = 128;

/// Where the master key comes from. It is never an argument, which other users of the machine could see.
#[derive(Clone)]
pub enum MasterKeySource {
    /// It stands in the environment, or a test has made it up.
    Given(Zeroizing<String>),
    /// It stands in a file, which must exist.
    File(PathBuf),
    /// It stands in this file, where it is made when there is none.
    Own(PathBuf),
}

impl fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where to look for the key; never the key.
impl fmt::Display for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("the environment"),
            Self::File(path) | Self::Own(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why there is no key for the API. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or written.
    #[error("the master key in {} cannot be used: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("the file {} {fault}: put a key into it, on one line", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        fault: KeyFault,
    },
    /// Somebody else could have chosen the key.
    #[error("others may write to {path}, which holds the master key: run `chmod go-w {path}`", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// No client could show it.
    #[error("holds more than {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// It holds what cannot stand in a header, or a space.
    #[error("holds characters that a key cannot have")]
    Character,
}

fn check_key(text: &str) -> Result<(), KeyFault> {
    if text.is_empty() {
        return Err(KeyFault::Empty);
    }
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(KeyFault::Character) }
}

impl MasterKeySource {
    /// The key that stands in the environment. One that is set and empty is a slip, not a wish to be open to anybody.
    pub(super) fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, ConfigError> {
        for name in KEY_VARIABLES {
            let Some(value) = variable(name) else { continue };
            let text = value
                .into_string()
                .map_err(|_| ConfigError::Variable { variable: name, fault: KeyFault::Character })?;
            let text = Zeroizing::new(text);
            check_key(&text).map_err(|fault| ConfigError::Variable { variable: name, fault })?;
            return Ok(Some(Self::Given(text)));
        }
        Ok(None)
    }

    /// The key of a host that has one: no key is made.
    ///
    /// # Errors
    /// When the file is missing or cannot be used.
    pub fn read(&self) -> Result<Zeroizing<String>, MasterKeyError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) | Self::Own(path) => read_key(path),
        }
    }

    /// The key; made and written to its file where the host keeps it itself and there is none yet.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load(&self) -> Result<Zeroizing<String>, MasterKeyError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) => read_key(path),
            Self::Own(path) => match path.try_exists() {
                Ok(false) => make_key(path).map_err(|source| MasterKeyError::Io { path: path.clone(), source }),
                // What cannot be looked at is reported by the attempt to read it.
                Ok(true) | Err(_) => read_key(path),
            },
        }
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, MasterKeyError> {
    let io = |source| MasterKeyError::Io { path: path.to_owned(), source };
    let unusable = |fault| MasterKeyError::Unusable { path: path.to_owned(), fault };
    // Others may read it: that is how containers are given their secrets. Who writes it decides who gets in.
    if fs::metadata(path).map_err(io)?.mode() & 0o022 != 0 {
        return Err(MasterKeyError::Exposed { path: path.to_owned() });
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(io)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(KeyFault::Character))?.trim_end();
    check_key(text).map_err(unusable)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn make_key(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut random[..]).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let key = Zeroizing::new(format!("sk-lap-{}", &*Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&random[..]))));
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = create_private_file(path)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_of_its_own_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/master.key");
        let source = MasterKeySource::Own(path.clone());
        let made = source.load().unwrap();
        assert!(made.starts_with("sk-lap-") && made.len() == "sk-lap-".len() + 43);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*source.load().unwrap(), *made);
        assert_eq!(*MasterKeySource::File(path.clone()).load().unwrap(), *made);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(source.load(), Err(MasterKeyError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, "\n").unwrap();
        assert!(matches!(source.load(), Err(MasterKeyError::Unusable { fault: KeyFault::Empty, .. })));
    }
}
