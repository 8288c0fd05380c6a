//! What a runtime is and what it may do, known without its component at hand.

use super::{Auth, Description, Manifest};
use crate::{
    id::{ComponentDigest, RuntimeId},
    upstream::Method,
};

/// A runtime, as far as it can be told without running it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The component.
    pub component: ComponentDigest,
    /// Its size.
    pub component_bytes: u64,
    /// What it may do.
    pub manifest: Manifest,
    /// What it says of itself.
    pub description: Description,
}

impl Profile {
    /// The runtime's name.
    #[must_use]
    pub const fn id(&self) -> &RuntimeId {
        &self.manifest.id
    }

    /// What it says of itself.
    #[must_use]
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// Where its credential goes.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.manifest.auth
    }

    /// True when the host hands such a request of a client's on to the upstream; see [`Manifest::forwards`].
    #[must_use]
    pub fn forwards(&self, method: Method, path: &str) -> bool {
        self.manifest.forwards(method, path)
    }
}
