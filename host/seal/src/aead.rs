//! One authenticated cipher with random nonces: what every sealed value rests on.

use std::cell::RefCell;

use ring::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::Prk,
    rand::{SecureRandom, SystemRandom},
};

pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

/// The ciphers that a sealed value may name, by their number on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-256-GCM.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// AES where the processor has instructions for it: without them it is slow, and its time depends on the data.
    #[must_use]
    pub fn preferred() -> Self {
        #[cfg(target_arch = "x86_64")]
        let fast = std::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let fast = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let fast = false;
        if fast { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }

    fn ring(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// The bytes are not what was sealed, or not under this key, or not in this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not what was sealed under this key for this place")]
pub struct Refused;

/// A key of one cipher for one purpose.
pub(crate) struct Key(LessSafeKey);

impl Key {
    /// Derives the key for a purpose, which `info` names. The cipher is part of the purpose: no key serves two.
    pub(crate) fn derive(prk: &Prk, algorithm: Algorithm, info: [&[u8]; 2]) -> Self {
        let [purpose, of] = info;
        match prk.expand(&[purpose, &[algorithm.byte()], of], algorithm.ring()) {
            Ok(okm) => Self(LessSafeKey::new(UnboundKey::from(okm))),
            // HKDF refuses only more than 8 KiB of output.
            Err(ring::error::Unspecified) => std::process::abort(),
        }
    }

    /// Appends nonce, ciphertext and tag. The plaintext is what `write` appends, which is told where it begins; it is encrypted
    /// in its place.
    ///
    /// The nonce is random and not a counter: a failed commit, a restored backup and another host would use a counter's value
    /// for another plaintext.
    pub(crate) fn seal_with<T>(
        &self,
        aad: &[u8],
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>, usize) -> T,
    ) -> T {
        let nonce = NONCES.with_borrow_mut(Nonces::take);
        out.extend_from_slice(&nonce);
        let start = out.len();
        let written = write(out, start);
        let nonce = Nonce::assume_unique_for_key(nonce);
        match self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[start..]) {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            // Refused only above 64 GiB, which no value in memory here can have; to go on would store clear text.
            Err(ring::error::Unspecified) => std::process::abort(),
        }
        written
    }

    /// The same for a plaintext that is there already.
    pub(crate) fn seal(&self, aad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        out.reserve_exact(NONCE_BYTES + plain.len() + TAG_BYTES);
        self.seal_with(aad, out, |out, _| out.extend_from_slice(plain));
    }

    /// Opens what `seal` appended. The buffer is as large as the sealed bytes, so nothing is left behind by growth.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Refused)?;
        let mut plain = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(aad), &mut plain).map_err(|_| Refused)?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// Nonces that are fetched from the system together: a call of the kernel for each batch of events costs as much as sealing it.
const NONCES_AT_ONCE: usize = 256;

thread_local! {
    /// Of this thread: nobody waits for another one. Each is used once and overwritten by the next fetch; none is a secret.
    static NONCES: RefCell<Nonces> = const { RefCell::new(Nonces { fetched: [[0; NONCE_BYTES]; NONCES_AT_ONCE], used: NONCES_AT_ONCE }) };
}

struct Nonces {
    fetched: [[u8; NONCE_BYTES]; NONCES_AT_ONCE],
    used: usize,
}

impl Nonces {
    fn take(&mut self) -> [u8; NONCE_BYTES] {
        if self.used == NONCES_AT_ONCE {
            random(self.fetched.as_flattened_mut());
            self.used = 0;
        }
        self.used += 1;
        self.fetched[self.used - 1]
    }
}

/// Fills with random bytes of the system.
pub fn random(bytes: &mut [u8]) {
    // The source fails only where the platform has none, and then nothing here may go on.
    if SystemRandom::new().fill(bytes).is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn no_nonce_comes_twice_on_any_thread() {
        let take = || {
            let take = |_| NONCES.with_borrow_mut(Nonces::take);
            (0..3 * NONCES_AT_ONCE + 1).map(take).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(take)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4 * (3 * NONCES_AT_ONCE + 1));
        assert!(!all.contains(&[0; NONCE_BYTES]));
    }
}
