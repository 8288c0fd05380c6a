//! How the batches of a session hold together: each says what came before it.
//!
//! A batch opens in its own place alone, but so does another one that was sealed for the same place: by a copy of the store
//! that went on by itself, or before a backup was put back. So a batch carries a digest of the one before it, which carries one
//! in turn. The digests are of the plaintext, so that a change of keys leaves them as they are; what is sealed around them makes
//! them good.
//!
//! A link, big endian: epoch (8 B), version of the session's record (8 B), digest of the batch before (16 B). A digest is the
//! first half of SHA-256 over "rh-chain" 01, whether there is a link (1 B), first seq (8 B), count (4 B), the link and the events.

use std::fmt;

use ring::digest::{Context, SHA256};

pub(crate) const LINK_BYTES: usize = 32;
const DIGEST_BYTES: usize = 16;

/// What stands for a batch of events and, through the links, for all that came before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// What is before the first batch of a log.
    pub const START: Self = Self([0; DIGEST_BYTES]);

    pub(crate) fn of(first_seq: u64, count: u32, link: &[u8], plain: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"rh-chain\x01");
        context.update(&[u8::from(!link.is_empty())]);
        context.update(&first_seq.to_be_bytes());
        context.update(&count.to_be_bytes());
        context.update(link);
        context.update(plain);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&context.finish().as_ref()[..DIGEST_BYTES]);
        Self(digest)
    }

    /// The bytes that a record keeps of it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; DIGEST_BYTES] {
        self.0
    }

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a batch says of the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// In which epoch of the store it was sealed. They only grow.
    pub epoch: u64,
    /// The version of the session's record that was stored with the batch or before it; 0 for none.
    pub record: u64,
    /// The batch before.
    pub before: Digest,
}

impl Link {
    pub(crate) fn to_bytes(self) -> [u8; LINK_BYTES] {
        let mut bytes = [0; LINK_BYTES];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.record.to_be_bytes());
        bytes[16..].copy_from_slice(&self.before.0);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; LINK_BYTES]) -> Self {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let mut before = Digest::START;
        before.0.copy_from_slice(&bytes[16..]);
        Self { epoch: number(0), record: number(8), before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_each_part_and_where_it_ends() {
        let link = Link { epoch: 1, record: 2, before: Digest::START };
        let digest = |first, count, link: &[u8], plain: &[u8]| Digest::of(first, count, link, plain);
        let all = [
            digest(1, 2, &link.to_bytes(), b"events"),
            digest(2, 2, &link.to_bytes(), b"events"),
            digest(1, 3, &link.to_bytes(), b"events"),
            digest(1, 2, &Link { epoch: 2, ..link }.to_bytes(), b"events"),
            digest(1, 2, &Link { record: 3, ..link }.to_bytes(), b"events"),
            digest(1, 2, &Link { before: Digest([1; 16]), ..link }.to_bytes(), b"events"),
            digest(1, 2, &link.to_bytes(), b"event"),
            digest(1, 2, &[], b"events"),
            Digest::START,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
            assert_eq!(Digest::from_bytes(one.to_bytes()), *one);
        }
        assert_eq!(digest(1, 2, &link.to_bytes(), b"events"), all[0]);
        assert_eq!(Link::from_bytes(&link.to_bytes()), link);
    }
}
