//! Environments: what sessions run in, as far as their runtime offers a choice.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ENVIRONMENTS, StoreError};
use crate::{
    clock,
    id::EnvironmentId,
    vault::{Also, Row, Table, Vault},
};

/// An environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub id: EnvironmentId,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// When it was changed last.
    pub updated_ms: u64,
    /// Since when it takes no sessions.
    pub archived_ms: Option<u64>,
    /// What its owner wants it to be.
    pub surroundings: Surroundings,
}

/// What the owner of an environment decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Surroundings {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What the runtime is told: a JSON object.
    pub config: Box<RawValue>,
    /// What clients note on it.
    pub metadata: BTreeMap<String, String>,
    /// Who may use it, where its owner says.
    pub scope: Option<String>,
}

/// All environments. A handle: clones share everything.
#[derive(Clone)]
pub struct Environments {
    table: Arc<Table>,
}

impl Environments {
    /// Where the sessions of clients run that know no environments. There is always this one; its runtime decides what
    /// it is.
    pub const DEFAULT: EnvironmentId = EnvironmentId::from_bytes([0; 16]);

    /// The environments in the vault's database.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        Self { table: Arc::new(Table::new(vault, ENVIRONMENTS)) }
    }

    /// Makes an environment, whose id is a new one.
    ///
    /// # Errors
    /// When the store fails; so for all calls.
    pub fn create(&self, id: EnvironmentId, surroundings: Surroundings) -> Result<Environment, StoreError> {
        let now = clock::unix_ms();
        let environment = Environment { id, created_ms: now, updated_ms: now, archived_ms: None, surroundings };
        self.table.put(&id.to_bytes(), &environment, Also::Nothing)?;
        Ok(environment)
    }

    /// An environment.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn get(&self, id: EnvironmentId) -> Result<Option<Environment>, StoreError> {
        if id == Self::DEFAULT {
            return Ok(Some(Environment::default_one()));
        }
        self.table.get(&id.to_bytes())?.map(|row| row.parse()).transpose()
    }

    /// Environments, the latest made first, from the one made before `before`; at most `limit`. The default one is the
    /// last.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn before(&self, before: Option<EnvironmentId>, limit: usize) -> Result<Vec<Environment>, StoreError> {
        let end = before.map(EnvironmentId::to_bytes);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let rows = self.table.rows((Bound::Unbounded, end), true, limit)?;
        let mut found = rows.iter().map(Row::parse).collect::<Result<Vec<Environment>, _>>()?;
        if found.len() < limit && before != Some(Self::DEFAULT) {
            found.push(Environment::default_one());
        }
        Ok(found)
    }

    /// Changes an environment; nothing when there is none, or it is the default one.
    ///
    /// # Errors
    /// When the change is refused or the store fails.
    pub fn update<E: From<StoreError>>(
        &self,
        id: EnvironmentId,
        change: impl FnOnce(&mut Environment) -> Result<(), E>,
    ) -> Result<Option<Environment>, E> {
        self.table.update(&id.to_bytes(), |environment: &mut Environment| {
            change(environment)?;
            environment.updated_ms = clock::unix_ms();
            Ok(Some(Also::Nothing))
        })
    }

    /// Removes an environment; false when there is none. Sessions in it live on.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn delete(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        self.table.remove(&id.to_bytes(), Also::Nothing)
    }
}

impl Environment {
    fn default_one() -> Self {
        // Text that is JSON.
        let packages = r#"{"apt":[],"cargo":[],"gem":[],"go":[],"npm":[],"pip":[]}"#;
        let config = format!(r#"{{"type":"cloud","networking":{{"type":"unrestricted"}},"packages":{packages}}}"#);
        Self {
            id: Environments::DEFAULT,
            created_ms: 0,
            updated_ms: 0,
            archived_ms: None,
            surroundings: Surroundings {
                name: "Default".to_owned(),
                description: None,
                config: RawValue::from_string(config).unwrap_or_else(|_| RawValue::NULL.to_owned()),
                metadata: BTreeMap::new(),
                scope: None,
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::{super::tests::vault, *};

    #[test]
    fn there_is_always_a_default_environment_and_it_stays_as_it_is() {
        let (_directory, vault) = vault();
        let environments = Environments::new(&vault);
        let named = |found: Vec<Environment>| {
            found.into_iter().map(|environment| environment.surroundings.name).collect::<Vec<_>>()
        };
        assert_eq!(named(environments.before(None, 9).unwrap()), ["Default"]);
        let surroundings = Surroundings { name: "mine".to_owned(), ..Environment::default_one().surroundings };
        let mine = environments.create(EnvironmentId::fresh(), surroundings).unwrap().id;
        assert_eq!(named(environments.before(None, 9).unwrap()), ["mine", "Default"]);
        assert_eq!(named(environments.before(None, 1).unwrap()), ["mine"]);
        assert_eq!(named(environments.before(Some(mine), 1).unwrap()), ["Default"]);
        assert!(environments.before(Some(Environments::DEFAULT), 9).unwrap().is_empty());
        assert!(!environments.delete(Environments::DEFAULT).unwrap());
        assert!(environments.update::<StoreError>(Environments::DEFAULT, |_| Ok(())).unwrap().is_none());
        assert!(environments.delete(mine).unwrap() && environments.get(mine).unwrap().is_none());
    }
}
