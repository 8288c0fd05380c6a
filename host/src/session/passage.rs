//! The way to an upstream for requests that are no part of a turn: what clients ask of the vendor's own API.
//!
//! For `http`, which hands such requests on. They use the same credential and the same connections as the sessions:
//! each asks for the upstream when it comes, and does not keep it.

use super::{LinkError, Session, Sessions};
use crate::{id::RuntimeId, upstream::Upstream};

impl Sessions {
    /// The upstream of a runtime under its stored credential. Blocks on the vault.
    ///
    /// # Errors
    /// When there is no such runtime, or no credential for it that can be used.
    pub fn upstream(&self, runtime: &RuntimeId) -> Result<Upstream, LinkError> {
        let profile = self.core.registry.get(runtime.as_str()).ok_or(LinkError::UnknownRuntime)?;
        self.core.upstream(&profile, None)
    }

    /// The upstream that a session lives at. Blocks on the vault.
    ///
    /// # Errors
    /// As [`Self::upstream`], and when the credential is now one for another place.
    pub fn upstream_of(&self, session: &Session) -> Result<Upstream, LinkError> {
        let profile = self.core.registry.get_for(&session.runtime, session.component);
        self.core.upstream(&*profile.ok_or(LinkError::UnknownRuntime)?, Some(&session.base))
    }
}
