//! Who may do what: roles and owners, as plain values that are compared.
//!
//! For `vault`, which keeps them with each client's key, for `agents` and `session`, which show nobody what is another's,
//! and for `http`, which asks a role of each of its routes.
//!
//! Must not know where a key comes from, nor what it opens.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What somebody may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at what is its owner's.
    Reader,
    /// Makes, changes and runs what is its owner's.
    Member,
    /// Does everything, with everybody's.
    Admin,
}

impl Role {
    /// As it is spelt on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// True when this role may do what is for `asked`.
    #[must_use]
    pub fn includes(self, asked: Self) -> bool {
        self >= asked
    }
}

/// Whose something is: a name that the operator and the clients give, and nobody else explains.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// The owner in the documented flow, and of what was made before there were owners.
    #[must_use]
    pub fn local() -> Self {
        Self("local-user".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for OwnerId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<OwnerId> for String {
    fn from(owner: OwnerId) -> Self {
        owner.as_str().to_owned()
    }
}

/// Whose things somebody sees. What is outside of it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// One owner's.
    Of(OwnerId),
}

impl Scope {
    /// True for what belongs to somebody in it.
    #[must_use]
    pub fn holds(&self, owner: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(mine) => mine.as_str() == owner,
        }
    }

    /// As much of another scope as is in this one. Nobody sees more by asking twice.
    #[must_use]
    pub fn narrowed(&self, to: &Self) -> Self {
        match self {
            Self::All => to.clone(),
            Self::Of(_) => self.clone(),
        }
    }

    /// The one owner that there is in it.
    #[must_use]
    pub const fn owner(&self) -> Option<&OwnerId> {
        match self {
            Self::All => None,
            Self::Of(owner) => Some(owner),
        }
    }
}

/// Some of the things in a row: those that somebody may and wants to see.
#[derive(Debug)]
pub struct Stretch<T, K> {
    /// In their order.
    pub found: Vec<T>,
    /// The last one that was looked at, found or not, behind which to go on; nothing at the end of the row.
    pub next: Option<K>,
}

impl<T, K> Stretch<T, K> {
    /// What is found in things that were read in a row, as many as `limit` if the row has that many.
    #[must_use]
    pub fn of(read: Vec<T>, limit: usize, key: impl Fn(&T) -> K, wanted: impl Fn(&T) -> bool) -> Self {
        let next = read.last().filter(|_| read.len() >= limit).map(key);
        Self { found: read.into_iter().filter(wanted).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 3] = [Role::Reader, Role::Member, Role::Admin];

    #[test]
    fn a_role_includes_itself_and_those_before_it_and_no_other() {
        for (place, role) in ROLES.into_iter().enumerate() {
            let included: Vec<_> = ROLES.into_iter().filter(|asked| role.includes(*asked)).collect();
            assert_eq!(included, ROLES[..=place], "{role:?}");
        }
    }

    #[test]
    fn a_stretch_goes_on_behind_what_was_looked_at_and_not_only_behind_what_was_found() {
        let stretch = |read: &[u8], limit| {
            let Stretch { found, next } = Stretch::of(read.to_vec(), limit, |one| *one, |one| one % 2 == 0);
            (found, next)
        };
        assert_eq!(stretch(&[1, 2, 3], 3), (vec![2], Some(3)));
        assert_eq!(stretch(&[1, 2, 3], 4), (vec![2], None));
        assert_eq!(stretch(&[], 1), (vec![], None));
    }

    #[test]
    fn a_scope_of_one_owner_holds_what_is_its_own_alone() {
        let mine = Scope::Of(OwnerId::from("ann".to_owned()));
        assert!(mine.holds("ann"));
        for other in ["", "an", "anna", "Ann", " ann"] {
            assert!(!mine.holds(other) && Scope::All.holds(other), "{other:?}");
        }
        let theirs = Scope::Of(OwnerId::from("bob".to_owned()));
        assert_eq!(
            (Scope::All.narrowed(&mine), mine.narrowed(&Scope::All), mine.narrowed(&theirs)),
            (mine.clone(), mine.clone(), mine.clone())
        );
        assert_eq!((mine.owner().map(OwnerId::as_str), Scope::All.owner()), (Some("ann"), None));
    }
}
