//! Environments: what sessions run in, as far as their runtime offers a choice.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use lap_store::Direction;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ENVIRONMENTS, StoreError};
use crate::{
    access::{OwnerId, Scope, Stretch},
    clock,
    id::EnvironmentId,
    vault::{Also, Mark, Row, SealedTable, Vault, noted},
};

/// An environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub id: EnvironmentId,
    /// Whose it is. The default one is everybody's.
    #[serde(default = "OwnerId::local")]
    pub owner: OwnerId,
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

/// The environments in a scope: for whoever has this handle there are no others. Clones share everything.
#[derive(Clone)]
pub struct Environments {
    table: Arc<SealedTable>,
    scope: Scope,
    /// Noted with every change.
    mark: Option<Mark>,
}

impl Environments {
    /// Where the sessions of clients run that know no environments. There is always this one; its runtime decides what
    /// it is.
    pub const DEFAULT: EnvironmentId = EnvironmentId::from_bytes([0; 16]);

    /// All environments in the vault's database.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        Self { table: Arc::new(SealedTable::new(vault, ENVIRONMENTS)), scope: Scope::All, mark: None }
    }

    /// Those of them that are in a scope, too.
    #[must_use]
    pub fn within(&self, scope: &Scope) -> Self {
        Self { scope: self.scope.narrowed(scope), ..self.clone() }
    }

    /// The same, and each change notes that the request was carried out.
    #[must_use]
    pub fn noting(&self, mark: Option<Mark>) -> Self {
        Self { mark, ..self.clone() }
    }

    fn holds(&self, environment: &Environment) -> bool {
        environment.id == Self::DEFAULT || self.scope.holds(environment.owner.as_str())
    }

    /// Makes an environment, whose id is a new one. In a scope of one owner it is that owner's.
    ///
    /// # Errors
    /// When the store fails; so for all calls.
    pub fn create(&self, id: EnvironmentId, surroundings: Surroundings) -> Result<Environment, StoreError> {
        let now = clock::unix_ms();
        let owner = self.scope.owner().cloned().unwrap_or_else(OwnerId::local);
        let environment = Environment { id, owner, created_ms: now, updated_ms: now, archived_ms: None, surroundings };
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
        let environment = self.table.get(&id.to_bytes())?.map(|row| row.parse()).transpose()?;
        Ok(environment.filter(|environment| self.holds(environment)))
    }

    /// Environments, the latest made first, from the one made before `before`; at most `limit` are looked at. The default
    /// one is the last.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn before(
        &self,
        before: Option<EnvironmentId>,
        limit: usize,
    ) -> Result<Stretch<Environment, EnvironmentId>, StoreError> {
        let end = before.map(EnvironmentId::to_bytes);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let rows = self.table.rows((Bound::Unbounded, end), Direction::Backwards, limit)?;
        let mut found = rows.iter().map(Row::parse).collect::<Result<Vec<Environment>, _>>()?;
        if found.len() < limit && before != Some(Self::DEFAULT) {
            found.push(Environment::default_one());
        }
        Ok(Stretch::of(found, limit, |environment| environment.id, |environment| self.holds(environment)))
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
        if self.get(id)?.is_none() {
            return Ok(None);
        }
        self.table.update(&id.to_bytes(), |environment: &mut Environment| {
            change(environment)?;
            environment.updated_ms = clock::unix_ms();
            Ok(Some(noted(self.mark.as_ref())))
        })
    }

    /// Removes an environment; false when there is none. Sessions in it live on.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn delete(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        if self.scope != Scope::All && self.get(id)?.is_none() {
            return Ok(false);
        }
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
            owner: OwnerId::local(),
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
        let named = |stretch: Stretch<Environment, EnvironmentId>| {
            stretch.found.into_iter().map(|environment| environment.surroundings.name).collect::<Vec<_>>()
        };
        assert_eq!(named(environments.before(None, 9).unwrap()), ["Default"]);
        let surroundings = Surroundings { name: "mine".to_owned(), ..Environment::default_one().surroundings };
        let mine = environments.create(EnvironmentId::fresh(), surroundings).unwrap().id;
        assert_eq!(named(environments.before(None, 9).unwrap()), ["mine", "Default"]);
        assert_eq!(named(environments.before(None, 1).unwrap()), ["mine"]);
        assert_eq!(named(environments.before(Some(mine), 1).unwrap()), ["Default"]);
        assert!(environments.before(Some(Environments::DEFAULT), 9).unwrap().found.is_empty());
        assert!(!environments.delete(Environments::DEFAULT).unwrap());
        assert!(environments.update::<StoreError>(Environments::DEFAULT, |_| Ok(())).unwrap().is_none());
        let [local, bob] =
            ["local-user", "bob"].map(|owner| environments.within(&Scope::Of(OwnerId::from(owner.to_owned()))));
        assert_eq!(
            named(local.before(None, 9).unwrap()),
            ["mine", "Default"],
            "what no owner has made is the documented one's"
        );
        assert_eq!(named(bob.before(None, 9).unwrap()), ["Default"]);
        assert!(bob.get(mine).unwrap().is_none() && !bob.delete(mine).unwrap());
        assert!(bob.update::<StoreError>(mine, |_| Ok(())).unwrap().is_none());
        assert!(environments.delete(mine).unwrap() && environments.get(mine).unwrap().is_none());
    }
}
