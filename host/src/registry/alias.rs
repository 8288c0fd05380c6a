//! Aliases: other names of runtimes. An alias runs the component of what it stands for, with a credential and a base of its
//! own, and goes before whatever else has its name: a credential that was stored for it is never somebody else's.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use super::{
    Registry,
    rows::{Rows, StoredAlias},
};
use crate::{
    id::RuntimeId,
    upstream::BaseUrl,
    vault::{Mark, RowError, Secret, StoreError},
};

/// By name, what each stands for, or why its row does not open.
pub(super) type Aliases = BTreeMap<RuntimeId, Result<RuntimeId, Arc<str>>>;

/// A name that stands for another runtime.
pub(super) struct Alias {
    pub(super) name: RuntimeId,
    /// What it stands for, which is no alias; or why that cannot be read.
    pub(super) of: Result<RuntimeId, Arc<str>>,
}

/// A wish for an alias.
pub struct NewAlias {
    /// Its name.
    pub name: String,
    /// The runtime that it shall stand for.
    pub of: String,
    /// Its credential.
    pub api_key: Secret,
    /// Where that goes.
    pub base: BaseUrl,
}

/// Why an alias was not added. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// The name is none.
    #[error("an alias has 1 to 64 letters, digits, `_` and `-`")]
    Name,
    /// Something has this name already.
    #[error("there is a runtime {0} already")]
    Taken(RuntimeId),
    /// There is no such runtime.
    #[error("there is no runtime {0}")]
    Unknown(String),
    /// What it shall stand for is an alias itself, of the other one.
    #[error("{0} is an alias itself")]
    OfAlias(RuntimeId),
    /// The credential is none, or the store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an alias was not removed. It is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveAliasError<E> {
    /// It is a runtime of its own.
    #[error("it is no alias")]
    Original,
    /// Somebody works with it just now.
    #[error("it is in use")]
    Running,
    /// Whether somebody works with it cannot be found out.
    #[error("the sessions cannot be read")]
    Unread(E),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn read(rows: &Rows) -> Result<Aliases, RowError> {
    let read = |(name, stored): (RuntimeId, Result<StoredAlias, RowError>)| {
        let of = stored.map(|stored| stored.of).map_err(|error| {
            tracing::error!(alias = %name, %error, "an alias cannot be read; remove it, and add it again");
            Arc::from(error.to_string())
        });
        (name, of)
    };
    Ok(rows.aliases()?.into_iter().map(read).collect())
}

impl Registry {
    pub(super) fn aliases(&self) -> MutexGuard<'_, Aliases> {
        self.0.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The alias of this name.
    pub(super) fn alias(&self, id: &str) -> Option<Alias> {
        let aliases = self.aliases();
        let (name, of) = aliases.iter().find(|(known, _)| known.as_str() == id)?;
        Some(Alias { name: name.clone(), of: of.clone() })
    }

    /// The names that stand for a runtime beside its own.
    pub(super) fn aliases_of(&self, id: &RuntimeId) -> Vec<RuntimeId> {
        let aliases = self.aliases();
        let of = aliases.iter().filter(|(_, of)| of.as_ref().is_ok_and(|of| of == id));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// True when this name is an alias.
    #[must_use]
    pub fn is_alias(&self, id: &str) -> bool {
        self.alias(id).is_some()
    }

    /// Adds an alias with its credential. A mark is noted with that.
    ///
    /// # Errors
    /// When something of it is refused, or the store fails.
    pub async fn add_alias(&self, new: NewAlias, mark: Option<Mark>) -> Result<(), AliasError> {
        let turn = self.turn().await;
        let NewAlias { name, of, api_key, base } = new;
        let name: RuntimeId = name.parse().map_err(|_| AliasError::Name)?;
        if self.named(name.as_str()).is_some() {
            return Err(AliasError::Taken(name));
        }
        let original = self.named(&of).ok_or(AliasError::Unknown(of))?;
        if self.is_alias(original.as_str()) {
            return Err(AliasError::OfAlias(original));
        }
        self.commit(turn, move |registry| {
            let stored = StoredAlias { of: original };
            registry.0.rows.put_alias(&name, &stored, api_key, base, mark.as_ref())?;
            tracing::info!(alias = %name, runtime = %stored.of, "an alias was added");
            registry.aliases().insert(name, Ok(stored.of));
            Ok(())
        })
        .await
    }

    /// Removes an alias with its credential; false when there is none. `running` says whether a session works with it just
    /// now.
    ///
    /// # Errors
    /// When it is no alias, or one does.
    pub async fn remove_alias<E>(
        &self,
        id: &str,
        running: impl AsyncFnOnce(&RuntimeId) -> Result<bool, E>,
    ) -> Result<bool, RemoveAliasError<E>> {
        let turn = self.turn().await;
        let Some(Alias { name, .. }) = self.alias(id) else {
            return if self.named(id).is_some() { Err(RemoveAliasError::Original) } else { Ok(false) };
        };
        if running(&name).await.map_err(RemoveAliasError::Unread)? {
            return Err(RemoveAliasError::Running);
        }
        self.commit(turn, move |registry| {
            registry.0.rows.remove_alias(&name)?;
            registry.aliases().remove(&name);
            tracing::info!(alias = %name, "an alias was removed");
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(true)
    }
}
