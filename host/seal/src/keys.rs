//! The keys: which follow from which.
//!
//! ```text
//! vault key, 32 bytes (the operator keeps it)          id = first 8 bytes of HMAC(key, "key-id")
//!   └─ HKDF "kek/v1" ─> KEK     wraps the DEKs and the key check
//! DEK, 32 random bytes, one for each term               stored wrapped
//!   ├─ HKDF "mac" | purpose ─> MAC key
//!   ├─ HKDF "rec" | table ─> record key
//!   └─ HKDF "event" | session ─> stream key
//! ```
//!
//! A key is never made by the way: only `generate` makes a new one.

use std::{fmt, str::FromStr};

use ring::{
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
};
use zeroize::Zeroizing;

use crate::aead::{self, Algorithm, Key, Refused};

/// The key that opens a store. It stands outside the store, and without it the store is noise.
// Boxed, so that a move leaves no copy behind.
pub struct VaultKey(Box<Zeroizing<[u8; 32]>>);

impl VaultKey {
    /// A new random key, which is nowhere but in memory.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        aead::random(&mut key.0[..]);
        key
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        key.0.copy_from_slice(bytes);
        key
    }

    /// The bytes, for writing them into a key file.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name of the key. It follows from the key, and tells nothing else about it.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0[..]), b"key-id");
        let mut id = [0; 8];
        id.copy_from_slice(&tag.as_ref()[..8]);
        KeyId(id)
    }

    /// The key that wraps the data keys of a store.
    #[must_use]
    pub fn kek(&self) -> Kek {
        Kek(Key::derive(&extract(&self.0), Algorithm::Aes256Gcm, [b"kek/v1", b""]))
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKey({})", self.id())
    }
}

/// The name of a vault key, such as `k:ab12cd34ef567890`.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The bytes that a store keeps of it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The name with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k:{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not the name of a vault key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a vault key")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let digits = text.strip_prefix("k:").ok_or(InvalidKeyId)?;
        if digits.len() != 16 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidKeyId);
        }
        u64::from_str_radix(digits, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| InvalidKeyId)
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(text: String) -> Result<Self, InvalidKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

fn extract(key: &[u8; 32]) -> Prk {
    Salt::new(HKDF_SHA256, b"lap/vault/v1").extract(key)
}

/// The key that wraps other keys. A wrapped key is `nonce | ciphertext | tag`, bound to its store and its name.
pub struct Kek(Key);

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

impl Kek {
    /// Wraps a key of the store with this id, under a name.
    #[must_use]
    pub fn wrap(&self, store: &[u8; 16], name: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut wrapped = Vec::new();
        self.0.seal(&wrap_aad(store, name), plain, &mut wrapped);
        wrapped
    }

    /// Unwraps what [`Self::wrap`] gave for the same store and name.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn unwrap(&self, store: &[u8; 16], name: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        self.0.open(&wrap_aad(store, name), wrapped).map(Zeroizing::new)
    }
}

fn wrap_aad(store: &[u8; 16], name: &[u8]) -> Vec<u8> {
    [b"rh-wrap\x01".as_slice(), &[Algorithm::Aes256Gcm.byte()], store, name].concat()
}

/// A data encryption key of one term. Of it only what keys are derived from stays in memory.
pub struct Dek {
    pub(crate) term: u32,
    prk: Prk,
}

impl fmt::Debug for Dek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dek(term {})", self.term)
    }
}

impl Dek {
    /// The key of a term. Terms count from 1; a later one seals, and the others open what they sealed.
    #[must_use]
    pub fn new(term: u32, key: &[u8; 32]) -> Self {
        Self { term, prk: extract(key) }
    }

    pub(crate) fn record_key(&self, algorithm: Algorithm, table: &str) -> Key {
        Key::derive(&self.prk, algorithm, [b"rec", table.as_bytes()])
    }

    pub(crate) fn mac_key(&self, purpose: &str) -> hmac::Key {
        match self.prk.expand(&[b"mac", purpose.as_bytes()], hmac::HMAC_SHA256) {
            Ok(okm) => okm.into(),
            // HKDF refuses only more than 8 KiB of output.
            Err(ring::error::Unspecified) => std::process::abort(),
        }
    }

    pub(crate) fn stream_key(&self, algorithm: Algorithm, session: &[u8; 16]) -> Key {
        Key::derive(&self.prk, algorithm, [b"event", session])
    }
}
