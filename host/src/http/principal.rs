//! Proof of who asks. Only this file makes a [`Principal`]; a handler that needs one takes it as an argument.

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use ring::{hmac, rand::SystemRandom};

use super::error::Error;

/// A longer key is refused before it is looked at.
const KEY_BYTES_MAX: usize = 128;

/// The key of the API, in a form that only tells whether another key is the same.
pub struct MasterKey {
    /// Of this process alone, so that the tag says nothing to who reads it elsewhere.
    key: hmac::Key,
    tag: hmac::Tag,
}

/// The system has no source of random bits.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

impl MasterKey {
    /// Takes the key over; its text is the caller's to clear.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(text: &str) -> Result<Self, NoRandom> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandom)?;
        let tag = hmac::sign(&key, text.as_bytes());
        Ok(Self { key, tag })
    }

    /// True for the same key. The time that this takes depends on the length of `presented` alone.
    #[must_use]
    pub fn verify(&self, presented: &str) -> bool {
        presented.len() <= KEY_BYTES_MAX && hmac::verify(&self.key, presented.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

/// Somebody who has shown a valid key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Principal(());

impl Principal {
    /// The principal of a request; nothing when its key is missing or wrong.
    pub(super) fn prove(master: &MasterKey, headers: &HeaderMap) -> Option<Self> {
        presented(headers).is_some_and(|key| master.verify(key)).then_some(Self(()))
    }

    /// A name that stays the same when the key is changed, and that no other principal has.
    #[expect(clippy::unused_self, reason = "all keys belong to one principal so far")]
    pub(super) const fn name(self) -> &'static str {
        "master"
    }
}

/// The key that a request shows: a bearer token, or else `x-api-key`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's case does not matter (RFC 9110, section 11.1).
    let bearer = authorization
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match bearer {
        Some((_, key)) => Some(key.trim()),
        None => headers.get("x-api-key")?.to_str().ok().map(str::trim),
    }
}

/// What the guard of the route has proven. A route that anyone may use has no principal to give.
impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get().copied().ok_or_else(Error::unauthorized)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const KEY: &str = "sk-lap-0123456789";

    fn proven(headers: &[(&'static str, &str)]) -> bool {
        let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Principal::prove(&MasterKey::new(KEY).unwrap(), &pairs.collect()).is_some()
    }

    #[test]
    fn the_key_is_a_bearer_token_or_stands_in_x_api_key() {
        assert!(proven(&[("authorization", "Bearer sk-lap-0123456789")]));
        assert!(proven(&[("authorization", "bEARER  sk-lap-0123456789 ")]));
        assert!(proven(&[("x-api-key", KEY)]));
        assert!(proven(&[("authorization", "Basic Zm9v"), ("x-api-key", KEY)]));
    }

    #[test]
    fn anything_else_is_nobody() {
        assert!(!proven(&[]));
        assert!(!proven(&[("authorization", KEY)]));
        assert!(!proven(&[("authorization", "Bearer")]));
        assert!(!proven(&[("authorization", "Bearer ")]));
        assert!(!proven(&[("authorization", "Bearer sk-lap-012345678")]));
        assert!(!proven(&[("x-api-key", "")]));
        assert!(!proven(&[("x-api-key", "sk-lap-01234567890")]));
        assert!(!proven(&[("authorization", "Bearer wrong"), ("x-api-key", KEY)]), "one key is looked at, not each");
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(!MasterKey::new(&long).unwrap().verify(&long), "an overlong key is refused unseen");
    }
}
