//! What is kept of clients' keys, sealed in `vault.redb`: the pepper, a row for each key and each sign-in, and when keys
//! were used.
//!
//! The uses of all keys are one row of their own, so that noting them changes no key.

use std::collections::BTreeMap;

use lap_seal::{IntegrityError, IntegrityFault};
use lap_store::Table;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::{
    Vault,
    table::{self, Also, RowError, SealedTable},
};
use crate::{
    access::{OwnerId, Role},
    id::{ClientKeyId, Reserved},
};

const PEPPER: Table = Table::new("client_pepper");
const KEYS: Table = Table::new("client_keys");
/// By the key that they stand for, and an id of their own.
const SIGN_INS: Table = Table::new("sign_ins");
const USES: Table = Table::new("client_key_uses");

/// What this module has in `vault.redb`, for a backup.
pub(crate) static TABLES: &[Table] = &[PEPPER, KEYS, SIGN_INS, USES];

/// The key of the one row of a table that has one.
const ONLY: &[u8] = b"1";

/// Opens every row of every table.
///
/// # Errors
/// Names the first row that is not what was written.
pub fn verify(vault: &Vault) -> Result<(), RowError> {
    table::verify(vault, &[PEPPER, KEYS, SIGN_INS, USES])
}

/// The HMAC of a text under the pepper.
pub(super) type Tag = [u8; 32];

#[derive(Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) tag: Tag,
    pub(super) label: Option<String>,
    pub(super) role: Role,
    /// Nothing where it sees everybody's.
    pub(super) owner: Option<OwnerId>,
    pub(super) created_ms: u64,
    pub(super) expires_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSignIn {
    pub(super) tag: Tag,
    /// The master key's, if that is the one it stands for: with another one it is over.
    pub(super) master: Option<Tag>,
    pub(super) expires_ms: u64,
}

/// Which sign-in: the key that it stands for, all zero for the master key, and an id that sorts by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SignInKey {
    of: [u8; 16],
    id: [u8; 16],
}

impl SignInKey {
    pub(super) fn fresh(of: Option<ClientKeyId>) -> Self {
        Self { of: owner(of), id: Reserved::fresh().to_bytes() }
    }

    /// The key that it stands for; nothing for the master key.
    pub(super) fn of(&self) -> Option<ClientKeyId> {
        (self.of != [0; 16]).then(|| ClientKeyId::from_bytes(self.of))
    }

    /// The first and the last that a key could have.
    pub(super) fn range(of: Option<ClientKeyId>) -> (Self, Self) {
        (Self { of: owner(of), id: [0; 16] }, Self { of: owner(of), id: [0xff; 16] })
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.of, self.id].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (of, id) = bytes.split_first_chunk()?;
        Some(Self { of: *of, id: id.try_into().ok()? })
    }
}

fn owner(of: Option<ClientKeyId>) -> [u8; 16] {
    of.map_or([0; 16], ClientKeyId::to_bytes)
}

pub(super) struct Rows {
    pepper: SealedTable,
    keys: SealedTable,
    sign_ins: SealedTable,
    uses: SealedTable,
}

impl Rows {
    pub(super) fn new(vault: &Vault) -> Self {
        let table = |table| SealedTable::new(vault, table);
        Self { pepper: table(PEPPER), keys: table(KEYS), sign_ins: table(SIGN_INS), uses: table(USES) }
    }

    /// The pepper, which is made once for each store. Where there are keys already it must be there: another one would
    /// quietly make all of them wrong.
    pub(super) fn pepper(&self, fill: impl FnOnce(&mut [u8])) -> Result<Zeroizing<[u8; 32]>, RowError> {
        if let Some(row) = self.pepper.get(ONLY)? {
            return Ok(Zeroizing::new(row.parse()?));
        }
        if !self.keys.keys()?.is_empty() {
            let record = "client_pepper".to_owned();
            return Err(IntegrityError { record, fault: IntegrityFault::Missing }.into());
        }
        let mut pepper = Zeroizing::new([0; 32]);
        fill(&mut pepper[..]);
        self.pepper.put(ONLY, &*pepper, Also::Nothing)?;
        Ok(pepper)
    }

    pub(super) fn keys(&self) -> Result<Vec<(ClientKeyId, StoredKey)>, RowError> {
        let rows = self.keys.each()?.into_iter();
        rows.map(|(key, row)| {
            let id = key[..].try_into().map_err(|_| malformed("client_keys"))?;
            Ok((ClientKeyId::from_bytes(id), row?.parse()?))
        })
        .collect()
    }

    pub(super) fn put_key(&self, id: ClientKeyId, key: &StoredKey) -> Result<(), RowError> {
        self.keys.put(&id.to_bytes(), key, Also::Nothing)
    }

    /// Removes a key and its sign-ins.
    pub(super) fn remove_key(&self, id: ClientKeyId) -> Result<(), RowError> {
        let sign_ins = Also::Remove(&self.sign_ins, id.to_bytes().to_vec());
        self.keys.remove(&id.to_bytes(), sign_ins).map(|_| ())
    }

    pub(super) fn sign_ins(&self) -> Result<Vec<(SignInKey, StoredSignIn)>, RowError> {
        let rows = self.sign_ins.each()?.into_iter();
        rows.map(|(key, row)| {
            let key = SignInKey::read(&key).ok_or_else(|| malformed("sign_ins"))?;
            Ok((key, row?.parse()?))
        })
        .collect()
    }

    /// Puts a sign-in in the place of others.
    pub(super) fn put_sign_in(
        &self,
        key: SignInKey,
        sign_in: &StoredSignIn,
        instead_of: &[SignInKey],
    ) -> Result<(), RowError> {
        self.sign_ins.put(&key.to_bytes(), sign_in, self.without(instead_of))
    }

    pub(super) fn remove_sign_ins(&self, keys: &[SignInKey]) -> Result<(), RowError> {
        let Some((first, others)) = keys.split_first() else { return Ok(()) };
        self.sign_ins.remove(&first.to_bytes(), self.without(others)).map(|_| ())
    }

    fn without(&self, keys: &[SignInKey]) -> Also<'_> {
        Also::All(keys.iter().map(|key| Also::Remove(&self.sign_ins, key.to_bytes())).collect())
    }

    pub(super) fn uses(&self) -> Result<BTreeMap<ClientKeyId, u64>, RowError> {
        self.uses.get(ONLY)?.map_or_else(|| Ok(BTreeMap::new()), |row| row.parse())
    }

    pub(super) fn put_uses(&self, uses: &BTreeMap<ClientKeyId, u64>) -> Result<(), RowError> {
        self.uses.put(ONLY, uses, Also::Nothing)
    }
}

fn malformed(table: &str) -> RowError {
    RowError::Malformed(table.to_owned())
}

#[cfg(test)]
pub(super) const fn pepper_table() -> Table {
    PEPPER
}
