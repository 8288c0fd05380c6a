//! Proof of who asks. Only this file makes a [`Principal`]; a handler that needs one takes it as an argument.

use axum::extract::FromRequestParts;
use futures_util::FutureExt;
use http::{HeaderMap, Method, header, request::Parts};
use zeroize::Zeroizing;

use super::{
    browser::{self, ConsoleHosts},
    error::Error,
};
use crate::{
    access::{OwnerId, Role, Scope},
    vault::{Client, ClientKeys, RowError, Shown},
};

/// Somebody who has shown a valid key. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Principal(Client);

impl Principal {
    /// The principal of a request; nothing when it shows nothing, or what it shows is wrong. With the cookie it is a
    /// browser's.
    ///
    /// # Errors
    /// When a browser may not send it: it was led here, or made to change something, by somebody else's page.
    pub(super) fn prove(
        keys: &ClientKeys,
        hosts: &ConsoleHosts,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Error> {
        if let Some(key) = presented(headers) {
            return Ok(Self::of_key(keys, key));
        }
        let Some(pass) = browser::pass(headers) else { return Ok(None) };
        hosts.check(headers)?;
        browser::check_origin(method, headers)?;
        Ok(keys.find(Shown::SignIn(pass)).map(Self))
    }

    /// The principal of a key.
    pub(super) fn of_key(keys: &ClientKeys, key: &str) -> Option<Self> {
        keys.find(Shown::Key(key)).map(Self)
    }

    /// What a browser shows from now on in place of the key. Blocks on the disk.
    pub(super) fn sign_in(&self, keys: &ClientKeys) -> Result<Zeroizing<String>, RowError> {
        keys.sign_in(&self.0)
    }

    /// Ends what [`Self::sign_in`] began. Blocks on the disk.
    pub(super) fn sign_out(&self, keys: &ClientKeys) -> Result<(), RowError> {
        keys.sign_out(&self.0)
    }

    /// A name that stays the same when the key is changed, and that no other principal has.
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }

    /// What people call it.
    pub(super) fn label(&self) -> Option<&str> {
        self.0.label()
    }

    /// What it may do.
    pub(super) fn role(&self) -> Role {
        self.0.role()
    }

    /// Whose things it sees.
    pub(super) fn scope(&self) -> &Scope {
        self.0.scope()
    }

    /// Whose is what it makes without saying whose.
    pub(super) fn owner(&self) -> OwnerId {
        self.scope().owner().cloned().unwrap_or_else(OwnerId::local)
    }

    /// Refuses a principal that may not do what is for `role`.
    pub(super) fn must_be(&self, role: Role) -> Result<(), Error> {
        if self.role().includes(role) { Ok(()) } else { Err(Error::role_required(role, self.role())) }
    }

    /// False for one that is a principal for as long as the host runs.
    pub(super) fn can_end(&self) -> bool {
        self.0.can_end()
    }

    /// Returns once its key was revoked or has expired.
    pub(super) async fn ended(&self) {
        self.0.ended().await;
    }

    /// True from then on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended().now_or_never().is_some()
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
        parts.extensions.get().cloned().ok_or_else(Error::unauthorized)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::agents::tests::vault;

    const KEY: &str = "sk-lap-0123456789";

    fn proven(headers: &[(&'static str, &str)]) -> bool {
        let (_directory, vault) = vault();
        let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let keys = ClientKeys::open(&vault, KEY).unwrap();
        Principal::prove(&keys, &ConsoleHosts::default(), &Method::GET, &pairs.collect()).unwrap().is_some()
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
    }
}
