//! Sealed values: encrypted, and bound to the place where they belong.
//!
//! A sealed record, version 1 of the format:
//! ```text
//!      0   1 B  format = 1
//!      1   1 B  algorithm: 1 AES-256-GCM, 2 ChaCha20-Poly1305
//!      2   4 B  term of the DEK, big endian
//!      6   8 B  version of the record, big endian
//!     14  12 B  nonce
//!     26   n B  ciphertext
//!   26+n  16 B  tag
//! AAD = "rh-seal" 01 | algorithm | term | version | store (16 B) | lp(table) | lp(owner) | lp(id) | lp(field)
//!       lp(x) = length as u16, then the bytes
//! ```
//! A sealed batch of events has no version (its seqs are never written twice) and binds its place by seq. In version 2 of the
//! format it also says what came before it, see [`crate::chain`]:
//! ```text
//!      0   1 B  format = 2, 1 B algorithm, 4 B term, 12 B nonce, n B ciphertext, 16 B tag
//! AAD = "rh-stream" 02 | algorithm | term | store (16 B) | session (16 B) | first seq (8 B) | count (4 B)
//! plaintext = link (32 B) | the events
//! ```
//! Version 1 has 01 in both places, and no link. It is read, and not written any more.

use std::{fmt, sync::Arc};

use ring::hmac;
use zeroize::Zeroizing;

use crate::{
    aead::{Algorithm, Key, NONCE_BYTES, TAG_BYTES},
    chain::{Digest, LINK_BYTES, Link},
    keys::Dek,
};

/// Of a record, and of a batch of events that has no link.
const FORMAT: u8 = 1;
/// Of a batch of events with a link.
const LINKED: u8 = 2;
const PREFIX_BYTES: usize = 6;
const RECORD_HEADER_BYTES: usize = PREFIX_BYTES + 8;
const STREAM_AAD_BYTES: usize = 10 + 1 + 4 + 16 + 16 + 8 + 4;

/// Where a sealed value belongs. Moved to any other place it cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// Whose record it is; empty where there are no owners.
    pub owner: &'a str,
    /// The record's id within table and owner.
    pub id: &'a str,
    /// The part of the record.
    pub field: &'a str,
}

impl Place<'_> {
    fn refuse(&self, fault: IntegrityFault) -> IntegrityError {
        IntegrityError { record: format!("{}/{}/{}", self.table, self.id, self.field), fault }
    }
}

/// Stored bytes that are not what was stored there last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record} {fault}")]
pub struct IntegrityError {
    /// Table, id and field, or the events.
    pub record: String,
    /// What is wrong with it.
    pub fault: IntegrityFault,
}

/// What is wrong with a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityFault {
    /// Too short to be a sealed value.
    #[error("is cut off")]
    Short,
    /// Of a format that this version does not know.
    #[error("has format {0}, which this version does not know")]
    Format(u8),
    /// Of a cipher that this version does not know.
    #[error("names cipher {0}, which this version does not know")]
    Algorithm(u8),
    /// Sealed under a key that is not in the store.
    #[error("was sealed under the key of term {0}, which is not in this store")]
    Term(u32),
    /// Altered, or sealed for another place.
    #[error("was altered, or belongs elsewhere")]
    Altered,
    /// An older version than the store's own list says.
    #[error("is version {stored} where version {listed} belongs: an old record was put back")]
    Stale {
        /// The version of the record that is there.
        stored: u64,
        /// The version that the store's list names.
        listed: u64,
    },
    /// In the store's own list, but not there.
    #[error("is missing")]
    Missing,
    /// There, but not in the store's own list.
    #[error("should not exist")]
    Unexpected,
    /// Opened, and not understood.
    #[error("holds something that this version does not understand")]
    Malformed,
}

/// Seals and opens values of one store. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Inner>);

struct Inner {
    store: [u8; 16],
    /// For new values; older ones name theirs.
    algorithm: Algorithm,
    /// Seals and opens.
    active: Dek,
    /// Only open.
    older: Vec<Dek>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// `active` seals; `older` only opens.
    #[must_use]
    pub fn new(store: [u8; 16], algorithm: Algorithm, active: Dek, older: Vec<Dek>) -> Self {
        Self(Arc::new(Inner { store, algorithm, active, older }))
    }

    /// The key of this store for MACs with one purpose. It changes when the store's keys do, so it is for what can be made
    /// again.
    #[must_use]
    pub fn mac_key(&self, purpose: &str) -> hmac::Key {
        self.0.active.mac_key(purpose)
    }

    /// Seals a value for its place. `version` counts the changes of the record, from 1.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, version: u64, plain: &[u8]) -> Vec<u8> {
        let (dek, algorithm) = (&self.0.active, self.0.algorithm);
        let mut sealed = Vec::with_capacity(RECORD_HEADER_BYTES + NONCE_BYTES + plain.len() + TAG_BYTES);
        sealed.extend_from_slice(&prefix(FORMAT, algorithm, dek.term));
        sealed.extend_from_slice(&version.to_be_bytes());
        let aad = self.record_aad(place, algorithm, dek.term, version);
        dek.record_key(algorithm, place.table).seal(&aad, plain, &mut sealed);
        sealed
    }

    /// Opens the value of a place. Which version it may have is for the caller to say: see [`version`].
    ///
    /// # Errors
    /// When the bytes are not what `seal` gave for this place of this store.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, IntegrityError> {
        let refuse = |fault| place.refuse(fault);
        let Prefix { format, algorithm, dek, rest } = self.prefix_of(sealed).map_err(refuse)?;
        if format != FORMAT {
            return Err(refuse(IntegrityFault::Format(format)));
        }
        let (version, body) = rest.split_first_chunk().ok_or_else(|| refuse(IntegrityFault::Short))?;
        let aad = self.record_aad(place, algorithm, dek.term, u64::from_be_bytes(*version));
        let opened = dek.record_key(algorithm, place.table).open(&aad, body);
        opened.map(Zeroizing::new).map_err(|_| refuse(IntegrityFault::Altered))
    }

    /// Opens the value of a place, which must have this version.
    ///
    /// # Errors
    /// As [`Sealer::open`], and `Stale` for any other version.
    pub fn open_version(
        &self,
        place: &Place<'_>,
        listed: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, IntegrityError> {
        match version(sealed) {
            Some(stored) if stored != listed => Err(place.refuse(IntegrityFault::Stale { stored, listed })),
            _ => self.open(place, sealed),
        }
    }

    /// The key for the events of one session. Deriving it costs about as much as a seal: its user keeps it.
    #[must_use]
    pub fn stream_key(&self, session: &[u8; 16]) -> StreamKey {
        let (dek, algorithm) = (&self.0.active, self.0.algorithm);
        let key = dek.stream_key(algorithm, session);
        StreamKey { sealer: self.clone(), session: *session, algorithm, term: dek.term, key }
    }

    /// The cipher and the key that a sealed value names, and what follows.
    fn prefix_of<'a>(&'a self, sealed: &'a [u8]) -> Result<Prefix<'a>, IntegrityFault> {
        let (&[format, ref algorithm, ref term @ ..], rest) =
            sealed.split_first_chunk::<PREFIX_BYTES>().ok_or(IntegrityFault::Short)?;
        if !matches!(format, FORMAT | LINKED) {
            return Err(IntegrityFault::Format(format));
        }
        let algorithm = Algorithm::from_byte(*algorithm).ok_or(IntegrityFault::Algorithm(*algorithm))?;
        let term = u32::from_be_bytes(*term);
        let mut deks = std::iter::once(&self.0.active).chain(&self.0.older);
        let dek = deks.find(|dek| dek.term == term).ok_or(IntegrityFault::Term(term))?;
        Ok(Prefix { format, algorithm, dek, rest })
    }

    fn record_aad(&self, place: &Place<'_>, algorithm: Algorithm, term: u32, version: u64) -> Vec<u8> {
        let mut aad = Vec::with_capacity(160);
        aad.extend_from_slice(b"rh-seal\x01");
        aad.push(algorithm.byte());
        aad.extend_from_slice(&term.to_be_bytes());
        aad.extend_from_slice(&version.to_be_bytes());
        aad.extend_from_slice(&self.0.store);
        for part in [place.table, place.owner, place.id, place.field] {
            // No name of ours comes near 64 KiB; one that did would keep all its bytes behind the largest length.
            aad.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }

    fn stream_aad(
        &self,
        session: &[u8; 16],
        (format, algorithm, term): (u8, Algorithm, u32),
        (first_seq, count): (u64, u32),
    ) -> [u8; STREAM_AAD_BYTES] {
        let mut aad = [0; STREAM_AAD_BYTES];
        aad[..9].copy_from_slice(b"rh-stream");
        aad[9] = format;
        aad[10] = algorithm.byte();
        aad[11..15].copy_from_slice(&term.to_be_bytes());
        aad[15..31].copy_from_slice(&self.0.store);
        aad[31..47].copy_from_slice(session);
        aad[47..55].copy_from_slice(&first_seq.to_be_bytes());
        aad[55..].copy_from_slice(&count.to_be_bytes());
        aad
    }
}

/// The version that a sealed record says it has; `None` when it is cut off. Proven only once the record is opened.
#[must_use]
pub fn version(sealed: &[u8]) -> Option<u64> {
    let (version, _) = sealed.get(PREFIX_BYTES..)?.split_first_chunk()?;
    Some(u64::from_be_bytes(*version))
}

fn prefix(format: u8, algorithm: Algorithm, term: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = term.to_be_bytes();
    [format, algorithm.byte(), a, b, c, d]
}

/// What a sealed value begins with, and what follows.
struct Prefix<'a> {
    format: u8,
    algorithm: Algorithm,
    dek: &'a Dek,
    rest: &'a [u8],
}

/// The key for the events of one session. A key of its own keeps the number of random nonces under one key small.
pub struct StreamKey {
    /// For batches of an older term.
    sealer: Sealer,
    session: [u8; 16],
    algorithm: Algorithm,
    term: u32,
    key: Key,
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(..)")
    }
}

/// Opened events, with what they say of the log before them.
pub struct OpenedBatch {
    /// The link, if they have one, and the events.
    bytes: Vec<u8>,
    link: Option<Link>,
    digest: Digest,
}

impl OpenedBatch {
    /// The events as they were sealed.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.bytes[self.link.map_or(0, |_| LINK_BYTES)..]
    }

    /// What they say of the log before them; nothing where they were sealed before batches did.
    #[must_use]
    pub const fn link(&self) -> Option<Link> {
        self.link
    }

    /// What the batch behind them says of them.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl StreamKey {
    /// By how much a sealed batch is longer than its events.
    pub const OVERHEAD: usize = PREFIX_BYTES + NONCE_BYTES + LINK_BYTES + TAG_BYTES;

    /// Appends the sealed events `first_seq` to `first_seq + count - 1`, which `write` appends in the clear: they are sealed in
    /// their place. What the batch behind them says of them is the result.
    pub fn seal(
        &self,
        (first_seq, count): (u64, u32),
        link: Link,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Digest {
        out.extend_from_slice(&prefix(LINKED, self.algorithm, self.term));
        let aad = self.sealer.stream_aad(&self.session, (LINKED, self.algorithm, self.term), (first_seq, count));
        self.key.seal_with(&aad, out, |out, start| {
            out.extend_from_slice(&link.to_bytes());
            write(out);
            let (head, plain) = out[start..].split_at(LINK_BYTES);
            Digest::of(first_seq, count, head, plain)
        })
    }

    /// Opens what `seal` gave for the same events.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn open(&self, first_seq: u64, count: u32, sealed: &[u8]) -> Result<OpenedBatch, IntegrityError> {
        let refuse = |fault| {
            let session = u128::from_be_bytes(self.session);
            IntegrityError { record: format!("events/{session:032x}/{first_seq}+{count}"), fault }
        };
        let Prefix { format, algorithm, dek, rest } = self.sealer.prefix_of(sealed).map_err(refuse)?;
        let aad = self.sealer.stream_aad(&self.session, (format, algorithm, dek.term), (first_seq, count));
        let opened = if (algorithm, dek.term) == (self.algorithm, self.term) {
            self.key.open(&aad, rest)
        } else {
            dek.stream_key(algorithm, &self.session).open(&aad, rest)
        };
        let bytes = opened.map_err(|_| refuse(IntegrityFault::Altered))?;
        if format == FORMAT {
            let digest = Digest::of(first_seq, count, &[], &bytes);
            return Ok(OpenedBatch { bytes, link: None, digest });
        }
        let (head, plain) = bytes.split_first_chunk().ok_or_else(|| refuse(IntegrityFault::Malformed))?;
        let (link, digest) = (Some(Link::from_bytes(head)), Digest::of(first_seq, count, head, plain));
        Ok(OpenedBatch { bytes, link, digest })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { table: "credentials", owner: "", id: "claude", field: "api_key" };

    const LINK: Link = Link { epoch: 7, record: 8, before: Digest::START };

    fn sealed_batch(key: &StreamKey, events: (u64, u32)) -> (Vec<u8>, Digest) {
        let mut sealed = Vec::new();
        let digest = key.seal(events, LINK, &mut sealed, |out| out.extend_from_slice(b"events"));
        assert_eq!(sealed.len(), b"events".len() + StreamKey::OVERHEAD);
        (sealed, digest)
    }

    fn sealer(store: u8) -> Sealer {
        Sealer::new([store; 16], Algorithm::Aes256Gcm, Dek::new(1, &[9; 32]), Vec::new())
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_record_is_found() {
        let sealer = sealer(1);
        let sealed = sealer.seal(&PLACE, 1, b"plain");
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&PLACE, &altered).is_err(), "bit {bit}");
            assert!(sealer.open_version(&PLACE, 1, &altered).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(&PLACE, &sealed[..length]).is_err(), "cut to {length}");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(sealer.open(&PLACE, &longer).unwrap_err().fault, IntegrityFault::Altered);
        assert_eq!(sealer.open(&PLACE, &sealed).unwrap()[..], *b"plain");
    }

    #[test]
    fn a_record_opens_in_its_own_place_alone() {
        let place = Place { table: "credentials", owner: "ab", id: "c", field: "api_key" };
        let sealed = sealer(1).seal(&place, 1, b"plain");
        let elsewhere = [
            Place { table: "manifest", ..place },
            Place { owner: "a", id: "bc", ..place },
            Place { owner: "abc", id: "", ..place },
            Place { owner: "", ..place },
            Place { id: "d", ..place },
            Place { field: "detail", ..place },
            Place { owner: "c", id: "ab", ..place },
        ];
        for other in elsewhere {
            assert_eq!(sealer(1).open(&other, &sealed).unwrap_err().fault, IntegrityFault::Altered, "{other:?}");
        }
        assert_eq!(sealer(2).open(&place, &sealed).unwrap_err().fault, IntegrityFault::Altered, "another store");
        assert_eq!(sealer(1).open(&place, &sealed).unwrap()[..], *b"plain");
    }

    #[test]
    fn unknown_formats_ciphers_and_terms_are_refused_by_name() {
        let sealer = sealer(1);
        let sealed = sealer.seal(&PLACE, 1, b"plain");
        let fault = |at: usize, byte: u8| {
            let mut altered = sealed.clone();
            altered[at] = byte;
            sealer.open(&PLACE, &altered).unwrap_err().fault
        };
        assert_eq!(fault(0, 0), IntegrityFault::Format(0));
        assert_eq!(fault(0, 99), IntegrityFault::Format(99));
        assert_eq!(fault(1, 0), IntegrityFault::Algorithm(0));
        assert_eq!(fault(1, 3), IntegrityFault::Algorithm(3));
        assert_eq!(fault(1, 2), IntegrityFault::Altered, "the other cipher");
        assert_eq!(fault(5, 7), IntegrityFault::Term(7));
    }

    #[test]
    fn both_ciphers_and_older_terms_open() {
        let session = [5; 16];
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let before = Sealer::new([1; 16], algorithm, Dek::new(1, &[9; 32]), Vec::new());
            let after = Sealer::new([1; 16], Algorithm::Aes256Gcm, Dek::new(2, &[8; 32]), vec![Dek::new(1, &[9; 32])]);
            let sealed = before.seal(&PLACE, 3, b"plain");
            assert_eq!((sealed[0], sealed[1]), (1, algorithm.byte()));
            assert_eq!(version(&sealed), Some(3));
            assert_eq!(after.open_version(&PLACE, 3, &sealed).unwrap()[..], *b"plain");
            let (batch, digest) = sealed_batch(&before.stream_key(&session), (1, 2));
            let opened = after.stream_key(&session).open(1, 2, &batch).unwrap();
            assert_eq!((opened.plain(), opened.digest()), (&b"events"[..], digest));
        }
    }

    #[test]
    fn a_batch_that_was_sealed_without_a_link_opens_for_ever() {
        let key = sealer(1).stream_key(&[5; 16]);
        // Sealed by the version of the format before, for these keys, session and events.
        let mut sealed = prefix(FORMAT, key.algorithm, key.term).to_vec();
        let aad = key.sealer.stream_aad(&key.session, (FORMAT, key.algorithm, key.term), (10, 3));
        key.key.seal(&aad, b"events", &mut sealed);
        let opened = key.open(10, 3, &sealed).unwrap();
        assert_eq!((opened.plain(), opened.link()), (&b"events"[..], None));
        assert_eq!(opened.digest(), Digest::of(10, 3, &[], b"events"));
        // Neither passes for the other.
        sealed[0] = LINKED;
        assert!(key.open(10, 3, &sealed).is_err());
        let (mut linked, _) = sealed_batch(&key, (10, 3));
        linked[0] = FORMAT;
        assert!(key.open(10, 3, &linked).is_err());
        assert_eq!(
            sealer(1).open(&PLACE, &[&[LINKED][..], &linked[1..]].concat()).unwrap_err().fault,
            IntegrityFault::Format(2)
        );
    }

    #[test]
    fn a_batch_of_events_opens_for_its_session_and_seqs_alone() {
        let key = sealer(1).stream_key(&[5; 16]);
        let (sealed, digest) = sealed_batch(&key, (10, 3));
        let opened = key.open(10, 3, &sealed).unwrap();
        assert_eq!((opened.plain(), opened.link(), opened.digest()), (&b"events"[..], Some(LINK), digest));
        assert!(key.open(11, 3, &sealed).is_err());
        assert!(key.open(10, 2, &sealed).is_err());
        assert!(sealer(1).stream_key(&[6; 16]).open(10, 3, &sealed).is_err());
        assert!(sealer(2).stream_key(&[5; 16]).open(10, 3, &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(10, 3, &altered).is_err(), "bit {bit}");
        }
        let again = sealed_batch(&key, (10, 3));
        assert_ne!(again.0, sealed, "nonces are random");
        assert_eq!(again.1, digest);
    }
}
