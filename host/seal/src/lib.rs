//! How `lap` seals what it stores: keys, ciphers, and the headers of records. Pure: no file, no clock, no database.
//!
//! For the vault, which reads the operator's key and unwraps the store's, and for whoever stores something under them.
//! What this protects against is somebody who reads or edits the files; a sealed value opens in its own place of its own
//! store alone. That a value is the latest of its place is for its user to see to; the links of [`chain`] help with that.
//!
//! * [`keys`]: which keys there are, and which follow from which
//! * [`record`]: sealed values, bound to store, table, owner, id, field and version; batches of events, bound to their session
//! * [`chain`]: what a batch says of the one before it
//! * [`aead`]: the ciphers, and random bytes
//!
//! Must not know what a value means, or where it is kept.

pub mod aead;
pub mod chain;
pub mod keys;
pub mod record;

pub use self::{
    aead::{Algorithm, Refused, random},
    chain::{Digest, Link},
    keys::{Dek, InvalidKeyId, Kek, KeyId, VaultKey},
    record::{IntegrityError, IntegrityFault, OpenedBatch, Place, Sealer, StreamKey, version},
};
