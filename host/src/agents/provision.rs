//! What agents have upstream: made once, found again by what it was made of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{PROVISIONS, StoreError};
use crate::{
    id::{AgentId, ProvisionId},
    vault::{Also, SealedTable, Vault},
};

/// How many are kept in memory. A session that starts should not have to ask the disk.
const CACHED: usize = 4096;
/// A larger one is not kept in memory.
const CACHED_BYTES: usize = 4096;

/// What an agent has upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// Its name here.
    pub id: ProvisionId,
    /// How its runtime finds it again.
    pub value: String,
}

/// The provisions of all agents. A handle: clones share everything.
#[derive(Clone)]
pub struct Provisions {
    shared: Arc<Shared>,
}

struct Shared {
    table: SealedTable,
    cache: Mutex<HashMap<[u8; 32], Provision>>,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: ProvisionId,
    /// Whose it is, for cleaning up.
    agent: AgentId,
    value: String,
}

impl Provisions {
    /// The provisions in the vault's database.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        Self { shared: Arc::new(Shared { table: SealedTable::new(vault, PROVISIONS), cache: Mutex::default() }) }
    }

    /// The same, where it is in memory.
    #[must_use]
    pub fn cached(&self, key: &[u8; 32]) -> Option<Provision> {
        self.cache().get(key).cloned()
    }

    /// What was made of what `key` stands for. Blocks where it is not in memory.
    ///
    /// # Errors
    /// When the store fails; so for all calls.
    pub fn get(&self, key: &[u8; 32]) -> Result<Option<Provision>, StoreError> {
        if let Some(known) = self.cached(key) {
            return Ok(Some(known));
        }
        let Some(row) = self.shared.table.get(key)? else { return Ok(None) };
        let Stored { id, value, .. } = row.parse()?;
        let provision = Provision { id, value };
        self.keep(*key, &provision);
        Ok(Some(provision))
    }

    /// Remembers what was made. Blocks for as long as a commit takes.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub fn put(&self, key: &[u8; 32], agent: AgentId, value: &str) -> Result<Provision, StoreError> {
        let stored = Stored { id: ProvisionId::fresh(), agent, value: value.to_owned() };
        self.shared.table.put(key, &stored, Also::Nothing)?;
        let provision = Provision { id: stored.id, value: stored.value };
        self.keep(*key, &provision);
        Ok(provision)
    }

    /// Forgets what is no longer upstream. Blocks for as long as a commit takes.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub fn remove(&self, key: &[u8; 32]) -> Result<(), StoreError> {
        self.shared.table.remove(key, Also::Nothing)?;
        self.cache().remove(key);
        Ok(())
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<[u8; 32], Provision>> {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: [u8; 32], provision: &Provision) {
        if provision.value.len() > CACHED_BYTES {
            return;
        }
        let mut cache = self.cache();
        if cache.len() >= CACHED && !cache.contains_key(&key) {
            // Any will do: who is used again comes back at the price of one read.
            let victim = cache.keys().next().copied();
            victim.and_then(|victim| cache.remove(&victim));
        }
        cache.insert(key, provision.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::agents::tests::vault;

    #[test]
    fn a_provision_is_found_again_until_it_is_removed() {
        let (_directory, vault) = vault();
        let provisions = Provisions::new(&vault);
        let key = [7; 32];
        assert_eq!(provisions.get(&key).unwrap(), None);
        let made = provisions.put(&key, AgentId::fresh(), "agt_1").unwrap();
        assert_eq!(provisions.get(&key).unwrap().as_ref(), Some(&made));
        assert_eq!(Provisions::new(&vault).get(&key).unwrap().as_ref(), Some(&made), "from the disk");
        provisions.remove(&key).unwrap();
        assert_eq!(provisions.get(&key).unwrap(), None);
        assert_eq!(Provisions::new(&vault).get(&key).unwrap(), None);
    }

    #[test]
    fn memory_holds_a_bounded_number() {
        let (_directory, vault) = vault();
        let provisions = Provisions::new(&vault);
        let provision = Provision { id: ProvisionId::fresh(), value: String::new() };
        for number in 0..CACHED + 100 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            provisions.keep(key, &provision);
        }
        assert_eq!(provisions.cache().len(), CACHED);
        provisions.keep([9; 32], &Provision { value: "x".repeat(CACHED_BYTES + 1), ..provision });
        assert!(!provisions.cache().contains_key(&[9; 32]));
    }
}
