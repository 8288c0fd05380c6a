//! What a runtime is and what it may do, known without its component at hand.

use super::{Auth, Description, Manifest};
use crate::{
    id::{ComponentDigest, RuntimeId},
    upstream::Method,
};

/// A runtime, as far as it can be told without running it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// What clients call it, whose credential it uses: the name in its manifest, or an alias.
    pub id: RuntimeId,
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
        &self.id
    }

    /// The same under another name, with no base of its own: whoever names it says where its requests go.
    #[must_use]
    pub fn under(&self, alias: &RuntimeId) -> Self {
        let (id, name) = (alias.to_string(), alias.to_string());
        let description = Description { id, name, default_base: String::new(), ..self.description.clone() };
        Self { id: alias.clone(), description, ..self.clone() }
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
