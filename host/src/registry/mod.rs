//! The runtimes of this host: those that are part of the program, those that its operator has added, each with its
//! versions, and aliases of both.
//!
//! For `session`, which runs on them, and for `http`, which shows and changes them. A version is a component, known by the
//! digest of its bytes, under the manifest that the operator has granted to it. New sessions get the current version; a
//! session stays on the one that it was made on for as long as that is there. A component is in memory while somebody
//! needs it, and one that cannot be loaded is a runtime that fails, never a host that does not start.
//!
//! * Pure: `review.rs` what a version would change, and the grant that names it
//! * `version.rs` a component that is loaded when it is needed · `rows.rs` what is kept · `uploads.rs` what is not yet kept
//! * `change.rs` how versions come and go · `alias.rs` other names, with credentials of their own · `view.rs` what is shown
//!
//! Must not know sessions, and must not decide whether one needs a version: who removes something says so.

mod alias;
mod change;
mod review;
mod rows;
mod uploads;
mod version;
mod view;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::runtime::Handle;

pub(crate) use self::rows::TABLES;
use self::{
    alias::{Alias, Aliases},
    rows::{Rows, StoredRuntime},
    uploads::Uploads,
    version::Version,
};
pub use self::{
    alias::{AliasError, NewAlias, RemoveAliasError},
    change::{AddError, Added, ChangeError, NewVersion, RemoveError},
    review::{Change, Review, Subject, rules, slot},
    rows::verify,
    uploads::Upload,
    version::Health,
    view::{Source, VersionView, View},
};
use crate::{
    id::{ComponentDigest, RuntimeId},
    runtime::{Loader, Profile, Runtime, Runtimes},
    vault::{RowError, Vault},
};

/// All runtimes. A handle: clones share everything.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    loader: Loader,
    bundled: Runtimes,
    rows: Rows,
    uploads: Uploads,
    /// Where components are loaded and asked who they are.
    executor: Handle,
    added: Mutex<BTreeMap<RuntimeId, Entry>>,
    /// What each stands for, or why its row does not open.
    aliases: Mutex<Aliases>,
    /// Held by whoever changes what there is: changes come one after the other.
    changing: Arc<tokio::sync::Mutex<()>>,
}

/// An added runtime.
enum Entry {
    Whole(Versions),
    /// Its row does not open, for this reason.
    Damaged(Arc<str>),
}

#[derive(Clone)]
struct Versions {
    current: ComponentDigest,
    /// The first added first; never empty, and the current one is among them.
    all: Vec<Arc<Version>>,
}

impl Versions {
    fn get(&self, component: ComponentDigest) -> Option<&Arc<Version>> {
        self.all.iter().find(|version| version.stored.component == component)
    }

    fn current(&self) -> Option<&Arc<Version>> {
        self.get(self.current)
    }

    fn stored(&self) -> StoredRuntime {
        StoredRuntime {
            current: self.current,
            versions: self.all.iter().map(|version| version.stored.clone()).collect(),
        }
    }
}

/// Why a session has no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is none of this name.
    #[error("this host has no such runtime")]
    Unknown,
    /// It is there and cannot be loaded; the text says why.
    #[error("the runtime cannot be loaded: {0}")]
    Broken(Arc<str>),
}

impl Registry {
    /// The bundled runtimes and those that are kept in the vault's database. Nothing is loaded yet. Uploads lie in
    /// `directory`; components are loaded on `executor`.
    ///
    /// # Errors
    /// When the database cannot be read. A row that does not open is no error but a runtime that fails.
    pub fn open(
        loader: Loader,
        bundled: Runtimes,
        vault: &Vault,
        directory: PathBuf,
        executor: Handle,
    ) -> Result<Self, RowError> {
        let rows = Rows::new(vault);
        let mut added = BTreeMap::new();
        for (id, stored) in rows.all()? {
            if bundled.get(id.as_str()).is_some() {
                tracing::warn!(runtime = %id, "an added runtime has the name of a bundled one, which goes before it");
            }
            let entry = stored.map_err(|error| error.to_string()).and_then(entry).unwrap_or_else(|reason| {
                tracing::error!(runtime = %id, reason, "an added runtime cannot be read; remove it, and add it again");
                Entry::Damaged(reason.into())
            });
            added.insert(id, entry);
        }
        let aliases = Mutex::new(alias::read(&rows)?);
        let (uploads, added, changing) = (Uploads::new(directory), Mutex::new(added), Arc::default());
        Ok(Self(Arc::new(Shared { loader, bundled, rows, uploads, executor, added, aliases, changing })))
    }

    fn added(&self) -> MutexGuard<'_, BTreeMap<RuntimeId, Entry>> {
        self.0.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runtime's full name, also where nothing but that can be read of it.
    #[must_use]
    pub fn named(&self, id: &str) -> Option<RuntimeId> {
        let alias = || self.alias(id).map(|alias| alias.name);
        let bundled = self.0.bundled.get(id).map(|runtime| runtime.id().clone());
        bundled.or_else(|| self.added().keys().find(|known| known.as_str() == id).cloned()).or_else(alias)
    }

    /// What new sessions of this runtime get.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Profile>> {
        self.profile(id, None)
    }

    /// The same for a session that was made on the version `pinned`, and stays on it while that is there.
    #[must_use]
    pub fn get_for(&self, id: &RuntimeId, pinned: Option<ComponentDigest>) -> Option<Arc<Profile>> {
        self.profile(id.as_str(), pinned)
    }

    fn profile(&self, id: &str, pinned: Option<ComponentDigest>) -> Option<Arc<Profile>> {
        if let Some(Alias { name, of }) = self.alias(id) {
            return Some(Arc::new(self.chosen(of.ok()?.as_str(), pinned)?.under(&name)));
        }
        self.chosen(id, pinned)
    }

    fn chosen(&self, id: &str, pinned: Option<ComponentDigest>) -> Option<Arc<Profile>> {
        match self.choose(id, pinned)? {
            Chosen::Bundled(runtime) => Some(Arc::clone(runtime.profile())),
            Chosen::Added(version) => Some(Arc::clone(&version.profile)),
        }
    }

    /// What new sessions get, of all runtimes, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Profile>> {
        self.names().iter().filter_map(|id| self.get(id.as_str())).collect()
    }

    /// The runtime that a session goes on with: the version that it was made on, or the current one where that is gone.
    ///
    /// # Errors
    /// When there is none, or it cannot be loaded.
    pub async fn runtime(&self, id: &RuntimeId, pinned: Option<ComponentDigest>) -> Result<Arc<Runtime>, Unavailable> {
        if let Some(Alias { name, of }) = self.alias(id.as_str()) {
            let original = self.original(&of.map_err(Unavailable::Broken)?, pinned).await?;
            return Ok(Arc::new(original.under(&name)));
        }
        self.original(id, pinned).await
    }

    /// The same of a runtime that is no alias.
    async fn original(&self, id: &RuntimeId, pinned: Option<ComponentDigest>) -> Result<Arc<Runtime>, Unavailable> {
        match self.choose(id.as_str(), pinned) {
            Some(Chosen::Bundled(runtime)) => Ok(runtime),
            Some(Chosen::Added(version)) => self.load(id, version).await,
            None => Err(match self.added().get(id) {
                Some(Entry::Damaged(reason)) => Unavailable::Broken(Arc::clone(reason)),
                Some(Entry::Whole(_)) | None => Unavailable::Unknown,
            }),
        }
    }

    /// Loads what new sessions get, one runtime after the other, so that whoever comes first need not wait, and the
    /// operator hears now of what is broken.
    pub async fn load_all(self) {
        for id in self.names() {
            if self.0.bundled.get(id.as_str()).is_none()
                && let Some(version) = self.version(id.as_str(), None)
            {
                // The log has the reason of a failure, and so has whoever looks at the runtime.
                drop(self.load(&id, version).await);
            }
        }
    }

    async fn load(&self, id: &RuntimeId, version: Arc<Version>) -> Result<Arc<Runtime>, Unavailable> {
        if let Some(runtime) = version.loaded() {
            return Ok(runtime);
        }
        let (shared, loading) = (Arc::clone(&self.0), Arc::clone(&version));
        // Goes on when its caller is dropped: others may wait for the same.
        let loaded = self.0.executor.spawn(async move { loading.load(&shared).await }).await;
        let runtime = loaded.unwrap_or_else(|error| Err(error.to_string().into())).map_err(|reason| {
            tracing::error!(runtime = %id, component = %version.stored.component, %reason, "a runtime cannot be loaded");
            Unavailable::Broken(reason)
        })?;
        let added = self.added();
        if matches!(added.get(id), Some(Entry::Whole(versions)) if versions.current == version.stored.component) {
            version.keep(Arc::clone(&runtime));
        }
        Ok(runtime)
    }

    /// All names, each once.
    fn names(&self) -> Vec<RuntimeId> {
        let bundled = self.0.bundled.iter().map(|runtime| runtime.id().clone());
        let mut names: Vec<_> = bundled.chain(self.added().keys().cloned()).collect();
        names.extend(self.aliases().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// A version of an added runtime: this one, or the current one.
    fn version(&self, id: &str, component: Option<ComponentDigest>) -> Option<Arc<Version>> {
        let added = self.added();
        match added.iter().find(|(known, _)| known.as_str() == id)? {
            (_, Entry::Whole(versions)) => {
                component.map_or_else(|| versions.current(), |component| versions.get(component)).cloned()
            }
            (_, Entry::Damaged(_)) => None,
        }
    }

    fn choose(&self, id: &str, pinned: Option<ComponentDigest>) -> Option<Chosen> {
        let bundled = self.0.bundled.get(id);
        let is_bundled = bundled.as_ref().is_some_and(|runtime| Some(runtime.profile().component) == pinned);
        let pinned = pinned.filter(|_| !is_bundled).and_then(|pinned| self.version(id, Some(pinned)));
        let current = || bundled.map(Chosen::Bundled).or_else(|| self.version(id, None).map(Chosen::Added));
        pinned.map(Chosen::Added).or_else(current)
    }

    /// Begins to take a component in. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn upload(&self) -> io::Result<Upload> {
        self.0.uploads.begin()
    }

    /// Keeps a component that has come in whole, until it is added or the host ends.
    #[must_use]
    pub fn uploaded(&self, upload: Upload) -> ComponentDigest {
        self.0.uploads.keep(upload)
    }
}

/// What a session goes on with.
enum Chosen {
    Bundled(Arc<Runtime>),
    Added(Arc<Version>),
}

fn entry(stored: StoredRuntime) -> Result<Entry, String> {
    let StoredRuntime { current, versions } = stored;
    let versions = versions.into_iter().map(|stored| Version::new(stored).map(Arc::new));
    let all: Vec<_> = versions.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let versions = Versions { current, all };
    // One that names a version which is not there was not written by this program.
    versions.current().ok_or("its current version is missing")?;
    Ok(Entry::Whole(versions))
}
