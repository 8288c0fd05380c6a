//! One version of an added runtime: what is known of it, and its component, which is in memory only while it is needed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{Shared, rows::StoredVersion};
use crate::runtime::{InvalidManifest, Manifest, Profile, Runtime};

/// For how long a component that could not be loaded is not tried again: each try costs a compilation.
const RETRY: Duration = Duration::from_secs(10);

pub(super) struct Version {
    pub(super) stored: StoredVersion,
    pub(super) profile: Arc<Profile>,
    slot: Mutex<Slot>,
    /// Held while the component is being loaded, so that those who want it at the same time load it once.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slot {
    loaded: Weak<Runtime>,
    /// The same, for a version that new sessions get: it stays although nobody needs it just now.
    kept: Option<Arc<Runtime>>,
    failed: Option<(Arc<str>, Instant)>,
}

/// What is known of a version's component in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is in memory.
    Loaded,
    /// Nobody has needed it lately.
    Unloaded,
    /// It could not be loaded, for this reason.
    Failed(Arc<str>),
}

impl Version {
    pub(super) fn new(stored: StoredVersion) -> Result<Self, InvalidManifest> {
        let manifest: Manifest = stored.manifest.parse()?;
        let profile = Profile {
            id: manifest.id.clone(),
            component: stored.component,
            component_bytes: stored.component_bytes,
            manifest,
            description: stored.description.clone(),
        };
        let (slot, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { stored, profile: Arc::new(profile), slot, turn })
    }

    /// The same for a component that has just been probed.
    pub(super) fn probed(stored: StoredVersion, runtime: &Arc<Runtime>) -> Self {
        let slot = Slot { loaded: Arc::downgrade(runtime), ..Slot::default() };
        let profile = Arc::clone(runtime.profile());
        Self { stored, profile, slot: Mutex::new(slot), turn: tokio::sync::Mutex::default() }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime, if it is in memory.
    pub(super) fn loaded(&self) -> Option<Arc<Runtime>> {
        self.slot().loaded.upgrade()
    }

    /// True while somebody beside this registry works with it.
    pub(super) fn is_needed(&self) -> bool {
        let slot = self.slot();
        slot.loaded.strong_count() > usize::from(slot.kept.is_some())
    }

    /// Keeps the component in memory from now on, or from its next use.
    pub(super) fn keep(&self, runtime: Arc<Runtime>) {
        self.slot().kept = Some(runtime);
    }

    /// Lets the component go once nobody needs it.
    pub(super) fn let_go(&self) {
        self.slot().kept = None;
    }

    pub(super) fn health(&self) -> Health {
        let slot = self.slot();
        match &slot.failed {
            _ if slot.loaded.strong_count() > 0 => Health::Loaded,
            Some((reason, _)) => Health::Failed(Arc::clone(reason)),
            None => Health::Unloaded,
        }
    }

    /// Brings the component into memory. Not to be given up half-way: who needs it should spawn this.
    pub(super) async fn load(&self, shared: &Arc<Shared>) -> Result<Arc<Runtime>, Arc<str>> {
        let _turn = self.turn.lock().await;
        if let Some(runtime) = self.loaded() {
            return Ok(runtime);
        }
        if let Some((reason, at)) = &self.slot().failed
            && at.elapsed() < RETRY
        {
            return Err(Arc::clone(reason));
        }
        let probed = self.probe(shared).await;
        let mut slot = self.slot();
        match probed {
            Ok(runtime) => {
                let runtime = Arc::new(runtime);
                slot.loaded = Arc::downgrade(&runtime);
                slot.failed = None;
                Ok(runtime)
            }
            Err(reason) => {
                let reason: Arc<str> = reason.into();
                slot.failed = Some((Arc::clone(&reason), Instant::now()));
                Err(reason)
            }
        }
    }

    async fn probe(&self, shared: &Arc<Shared>) -> Result<Runtime, String> {
        let (store, digest) = (Arc::clone(shared), self.stored.component);
        let read = tokio::task::spawn_blocking(move || store.rows.component(digest)).await;
        let bytes = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let manifest = self.profile.manifest.clone();
        shared.loader.stranger(manifest, bytes).await.map_err(|error| error.to_string())
    }
}
