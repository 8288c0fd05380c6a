//! What of the console is for whom. The guard of the routes decides; this only spares people what would be refused.

use super::super::principal::Principal;
use crate::access::Role;

/// Who looks at a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Viewer(pub(super) Role);

impl Viewer {
    pub(super) fn of(principal: &Principal) -> Self {
        Self(principal.role())
    }

    /// May start and change what is theirs.
    pub(super) fn writes(self) -> bool {
        self.0.includes(Role::Member)
    }

    /// May manage the host itself.
    pub(super) fn administers(self) -> bool {
        self.0.includes(Role::Admin)
    }
}
