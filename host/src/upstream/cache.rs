//! The upstream cache: one open handle for each runtime and header slot, and never one of a credential that is not stored.
//!
//! The vault counts the changes of its credentials, the *generation*. A lookup compares generations and takes the handle
//! that it finds; only after a change does it read the vault. A task drops the handles of replaced and removed credentials
//! as soon as a change is announced, whether anybody asks or not. Such a credential's plaintext is then held by requests
//! under way alone, and is cleared with the last of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Handle, sync::watch, task::spawn_blocking};

use super::{
    client::{Client, OpenError, Upstream},
    request::Slot,
};
use crate::{
    id::RuntimeId,
    vault::{OpenCredentialError, Vault},
};

/// The upstreams of this host. Clones share everything.
#[derive(Clone)]
pub struct Upstreams(Arc<Cache>);

/// Why there is no upstream for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurrentError {
    /// No credential is stored for the runtime.
    #[error("no credential is stored for the runtime")]
    NoCredential,
    /// The stored credential cannot be used.
    #[error("the stored credential cannot be used: {0}")]
    BadCredential(String),
    /// The stored credential goes to another base URL than the one that was asked for.
    #[error("the stored credential is one for another base URL")]
    Moved,
}

struct Cache {
    client: Client,
    vault: Vault,
    generation: watch::Receiver<u64>,
    /// By runtime; of each the handles by slot, which is one unless versions of the runtime differ in that.
    entries: Mutex<HashMap<RuntimeId, Vec<Entry>>>,
}

struct Entry {
    upstream: Upstream,
    /// As text, as sessions name it.
    base: String,
    /// The credential was found to be the stored one in this generation.
    generation: u64,
}

impl Entry {
    fn at(&self, base: Option<&str>) -> Result<Upstream, CurrentError> {
        match base {
            Some(base) if base != self.base => Err(CurrentError::Moved),
            _ => Ok(self.upstream.clone()),
        }
    }
}

impl Upstreams {
    /// An empty cache. `executor` runs the task that drops handles; it ends with the cache.
    #[must_use]
    pub fn new(client: Client, vault: Vault, executor: &Handle) -> Self {
        let generation = vault.credential_changes();
        let cache = Arc::new(Cache { client, vault, generation, entries: Mutex::default() });
        // The cache has a sender, by its vault, so this one must not have the cache.
        let (mut changes, known) = (cache.generation.clone(), Arc::downgrade(&cache));
        executor.spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(cache) = known.upgrade() else { return };
                // The executor stops when this fails.
                if spawn_blocking(move || cache.drop_outdated()).await.is_err() {
                    return;
                }
            }
        });
        Self(cache)
    }

    /// The generation of the credentials, which grows with every `PUT` and `DELETE` of a credential or an alias, of any
    /// runtime. Once a new one is seen here, [`Self::current`] knows the change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.generation.clone()
    }

    /// The upstream of a runtime under the credential that is stored now; with a `base`, only if that is where it goes.
    /// A request that is sent with it right away is one under the current credential. Blocks on the vault after a change
    /// of any credential, and not otherwise.
    ///
    /// # Errors
    /// When there is no credential, it cannot be used, or it goes elsewhere.
    pub fn current(&self, runtime: &RuntimeId, slot: &Slot, base: Option<&str>) -> Result<Upstream, CurrentError> {
        let cache = &*self.0;
        let generation = cache.now();
        if let Some(entry) = find(&mut cache.entries(), runtime, slot).filter(|entry| entry.generation == generation) {
            return entry.at(base);
        }
        cache.look_up(runtime, slot, base)
    }
}

impl Cache {
    fn now(&self) -> u64 {
        *self.generation.borrow()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<RuntimeId, Vec<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the vault which credential is stored, and opens it where it is another one than the known one.
    fn look_up(&self, runtime: &RuntimeId, slot: &Slot, base: Option<&str>) -> Result<Upstream, CurrentError> {
        let bad = |error: &dyn std::fmt::Display| CurrentError::BadCredential(error.to_string());
        loop {
            // Before the vault is read: a change that comes between is a newer generation.
            let generation = self.now();
            let credential = self.vault.credential(runtime).map_err(|error| bad(&error))?;
            let credential = credential.ok_or(CurrentError::NoCredential)?;
            if let Some(entry) = find(&mut self.entries(), runtime, slot)
                && entry.upstream.credential().version == credential.version
            {
                entry.generation = entry.generation.max(generation);
                return entry.at(base);
            }
            let text = credential.base.to_string();
            if base.is_some_and(|base| base != text) {
                return Err(CurrentError::Moved);
            }
            let upstream = match Upstream::open(&self.client, &self.vault, &credential, slot) {
                Ok(upstream) => upstream,
                // It was replaced or removed since it was looked up, so what there is now is looked up.
                Err(OpenError::Credential(OpenCredentialError::Replaced { .. } | OpenCredentialError::Absent)) => {
                    continue;
                }
                Err(error) => return Err(bad(&error)),
            };
            let mut entries = self.entries();
            // Under the lock: what is put here before the next change is announced is seen by the task that this wakes.
            if self.now() != generation {
                continue;
            }
            let of_runtime = entries.entry(runtime.clone()).or_default();
            of_runtime.retain(|entry| entry.upstream.slot() != slot);
            of_runtime.push(Entry { upstream: upstream.clone(), base: text, generation });
            return Ok(upstream);
        }
    }

    /// Drops the handles of credentials that are not stored any more.
    fn drop_outdated(&self) {
        let generation = self.now();
        let known: Vec<RuntimeId> = self.entries().keys().cloned().collect();
        // The vault is read without the lock. One that cannot be read keeps nobody's credential in memory.
        let stored = |id: RuntimeId| {
            let credential = self.vault.credential(&id).ok().flatten()?;
            Some((id, credential.version))
        };
        let stored: HashMap<RuntimeId, u64> = known.into_iter().filter_map(stored).collect();
        self.entries().retain(|runtime, entries| {
            let version = stored.get(runtime);
            entries.retain_mut(|entry| {
                let is_stored = version == Some(&entry.upstream.credential().version);
                if is_stored {
                    entry.generation = entry.generation.max(generation);
                }
                // One of this generation or a later one was looked up since.
                is_stored || entry.generation >= generation
            });
            !entries.is_empty()
        });
    }
}

fn find<'a>(
    entries: &'a mut HashMap<RuntimeId, Vec<Entry>>,
    runtime: &RuntimeId,
    slot: &Slot,
) -> Option<&'a mut Entry> {
    entries.get_mut(runtime)?.iter_mut().find(|entry| entry.upstream.slot() == slot)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{
        upstream::{NetworkPolicy, WeakUpstream, tests::vault},
        vault::Secret,
    };

    const BASE: &str = "https://api.example.com";

    struct World {
        vault: Vault,
        upstreams: Upstreams,
    }

    impl World {
        /// In a test's executor.
        fn new() -> Self {
            let (vault, client) = (vault(), Client::new(NetworkPolicy::default()).unwrap());
            Self { upstreams: Upstreams::new(client, vault.clone(), &Handle::current()), vault }
        }

        fn put(&self, runtime: &str, base: &str) -> u64 {
            let secret = Secret::new(format!("sk-canary-of-{runtime}"));
            self.vault.put_credential(&runtime.parse().unwrap(), secret, base.parse().unwrap()).unwrap().version
        }

        fn remove(&self, runtime: &str) {
            assert!(self.vault.remove_credential(&runtime.parse().unwrap()).unwrap());
        }

        fn current(&self, runtime: &str, base: Option<&str>) -> Result<Upstream, CurrentError> {
            self.upstreams.current(&runtime.parse().unwrap(), &slot("x-api-key"), base)
        }

        fn version(&self, runtime: &str) -> u64 {
            self.current(runtime, None).unwrap().credential().version
        }
    }

    fn slot(header: &str) -> Slot {
        Slot::new(header, "").unwrap()
    }

    async fn gone(upstream: &WeakUpstream) {
        let gone = async {
            while upstream.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }

    #[tokio::test]
    async fn the_next_lookup_has_the_credential_that_is_stored_then() {
        let world = World::new();
        assert_eq!(world.current("claude", None).unwrap_err(), CurrentError::NoCredential);
        let first = world.put("claude", BASE);
        let upstream = world.current("claude", None).unwrap();
        assert_eq!((world.version("claude"), first), (first, upstream.credential().version));
        let second = world.put("claude", BASE);
        assert!(second > first);
        assert_eq!(world.version("claude"), second);
        world.remove("claude");
        assert_eq!(world.current("claude", None).unwrap_err(), CurrentError::NoCredential);
        assert_eq!(upstream.credential().version, first, "whoever has it can end what it began");
    }

    #[tokio::test]
    async fn a_credential_for_another_base_is_not_what_was_asked_for() {
        let world = World::new();
        world.put("claude", BASE);
        for _ in ["first opened", "then known"] {
            assert_eq!(world.current("claude", Some("https://elsewhere.example")).unwrap_err(), CurrentError::Moved);
            assert!(world.current("claude", Some(BASE)).is_ok());
        }
        world.put("claude", "https://elsewhere.example");
        assert_eq!(world.current("claude", Some(BASE)).unwrap_err(), CurrentError::Moved);
    }

    #[tokio::test]
    async fn a_credential_that_may_go_nowhere_is_not_attached() {
        let world = World::new();
        world.put("claude", "https://10.0.0.1");
        assert!(matches!(world.current("claude", None), Err(CurrentError::BadCredential(_))));
    }

    #[tokio::test]
    async fn a_handle_is_opened_once_for_each_slot() {
        let world = World::new();
        world.put("claude", BASE);
        world.put("other", BASE);
        let runtime = "claude".parse().unwrap();
        let bearer = Slot::new("authorization", "Bearer").unwrap();
        let same = world.current("claude", None).unwrap().downgrade();
        let other = world.upstreams.current(&runtime, &bearer, None).unwrap().downgrade();
        for _ in ["in this generation", "and after the change of another one"] {
            assert_eq!(world.current("claude", None).unwrap().slot(), &slot("x-api-key"));
            assert_eq!(world.upstreams.current(&runtime, &bearer, None).unwrap().slot(), &bearer);
            assert!(same.upgrade().is_some() && other.upgrade().is_some(), "the cache has kept both");
            world.put("other", BASE);
        }
    }

    #[tokio::test]
    async fn a_replaced_or_removed_credential_leaves_unasked_and_the_others_stay() {
        let world = World::new();
        for runtime in ["claude", "other", "third"] {
            world.put(runtime, BASE);
        }
        let [claude, other, third] =
            ["claude", "other", "third"].map(|runtime| world.current(runtime, None).unwrap().downgrade());
        world.put("claude", BASE);
        gone(&claude).await;
        world.remove("other");
        gone(&other).await;
        assert!(third.upgrade().is_some());
    }

    #[tokio::test]
    async fn the_cache_does_not_outlive_its_owner() {
        let World { vault, upstreams } = World::new();
        let (cache, generation) = (Arc::downgrade(&upstreams.0), upstreams.changes());
        drop((vault, upstreams));
        assert!(cache.upgrade().is_none());
        assert!(generation.has_changed().is_err(), "the vault is closed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_given_a_credential_that_was_replaced_before_they_asked() {
        let world = World::new();
        let stored = AtomicU64::new(world.put("claude", BASE));
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while done.load(Ordering::SeqCst) == 0 {
                        let at_least = stored.load(Ordering::SeqCst);
                        assert!(world.version("claude") >= at_least);
                    }
                });
            }
            for _ in 0..50 {
                stored.store(world.put("claude", BASE), Ordering::SeqCst);
            }
            done.store(1, Ordering::SeqCst);
        });
        let last = world.current("claude", None).unwrap().downgrade();
        world.remove("claude");
        gone(&last).await;
    }
}
