//! `store.json`: which store this is and which key it needs, in clear text beside the database.
//!
//! It exists so that a wrong key is found before the database is opened: opening one may write to it.

use std::{io, path::Path};

use lap_seal::{KeyId, random};

use super::private_file;

pub(super) const FILE: &str = "store.json";

/// 2 since batches of events say what is before them, and sessions' records what belongs to them. A store of format 1 is read,
/// and becomes one of format 2 at its first start, before anything else is written.
const FORMAT: u32 = 2;
const FORMAT_BEFORE: u32 = 1;

/// What `store.json` says.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    format: u32,
    store: StoreId,
    /// The keys that may open the store: one, or two while the key is changed.
    pub(super) vault_keys: Vec<KeyId>,
}

/// Why `store.json` says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{FILE} cannot be understood: {0}")]
    Malformed(serde_json::Error),
    #[error("{FILE} has format {0}, which this version does not know")]
    Format(u32),
}

impl Identity {
    /// A new store for this key.
    pub(super) fn fresh(key: KeyId) -> Self {
        let mut store = [0; 16];
        random(&mut store);
        Self { format: FORMAT, store: StoreId(u128::from_be_bytes(store)), vault_keys: vec![key] }
    }

    /// What every sealed value of the store is bound to.
    pub(super) fn store(&self) -> [u8; 16] {
        self.store.0.to_be_bytes()
    }

    pub(super) fn read(directory: &Path) -> Result<Self, IdentityError> {
        Self::parse(&std::fs::read(directory.join(FILE))?)
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, IdentityError> {
        let identity: Self = serde_json::from_slice(text).map_err(IdentityError::Malformed)?;
        match identity.format {
            FORMAT | FORMAT_BEFORE => Ok(identity),
            other => Err(IdentityError::Format(other)),
        }
    }

    /// Makes a store of an older format known as one of this one, which older programs refuse.
    pub(super) fn renew(&mut self, directory: &Path) -> io::Result<()> {
        if self.format == FORMAT {
            return Ok(());
        }
        self.format = FORMAT;
        self.write(directory)
    }

    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        private_file::replace(&directory.join(FILE), &text)
    }
}

/// A store's number: 32 hex digits in the file.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
struct StoreId(u128);

impl From<StoreId> for String {
    fn from(id: StoreId) -> Self {
        format!("{:032x}", id.0)
    }
}

impl TryFrom<String> for StoreId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("a store's id is 32 hex digits");
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(|_| "a store's id is 32 hex digits")
    }
}
