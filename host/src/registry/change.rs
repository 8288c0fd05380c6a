//! How versions come and go. Every change is durable before it is in force, and in force with one step: whoever asks sees
//! the runtime as it was or as it becomes.

use std::{io, sync::Arc};

use tokio::sync::OwnedMutexGuard;

use super::{
    Entry, Registry, Shared, Version, Versions,
    review::{Review, Side, review},
    rows::{ComponentError, Components, StoredVersion},
};
use crate::{
    blocking::blocking,
    clock,
    id::{ComponentDigest, RuntimeId},
    runtime::{Artifact, ArtifactError, CONTRACT, InvalidManifest, LoadError, Manifest, Runtime},
    vault::{Mark, RowError},
};

/// What an operator wants new sessions of a runtime to get.
pub struct NewVersion {
    /// A component that was uploaded, or is a version of this runtime already.
    pub component: ComponentDigest,
    /// The text of `runtime.toml`.
    pub manifest: String,
    /// What the operator was shown and agrees to; see [`Review::grant`].
    pub grant: Option<String>,
}

/// What came of it.
pub struct Added {
    /// The runtime.
    pub id: RuntimeId,
    /// False when it was so already.
    pub changed: bool,
}

/// Why a version was not added. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// The bytes are no component.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The bytes are a module, of which its author's tools make a component.
    #[error(
        "these bytes are a core module, and a host takes components: `lap runtime add` makes one of it, and so does \
         `wasm-tools component new`"
    )]
    Module,
    /// The component is refused.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// Nothing was uploaded under this digest, or too long ago.
    #[error("no component {0} was uploaded")]
    NotUploaded(ComponentDigest),
    /// The name belongs to a runtime that is part of the program.
    #[error("{0} is part of this program")]
    Bundled(RuntimeId),
    /// The name is an alias of another runtime.
    #[error("{0} is an alias")]
    Alias(RuntimeId),
    /// What is kept of the runtime cannot be read.
    #[error("what is stored of the runtime is damaged: {0}")]
    Damaged(Arc<str>),
    /// The operator has not agreed to this.
    #[error("not granted")]
    Ungranted(Box<Review>),
    /// The upload cannot be read again.
    #[error("the upload cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] RowError),
}

/// Why new sessions do not get another version. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no added runtime of this name.
    #[error("no such runtime")]
    Unknown,
    /// It is part of the program.
    #[error("the runtime is part of the program")]
    Bundled,
    /// It is an alias, and has no versions of its own.
    #[error("it is an alias")]
    Alias,
    /// What is kept of it cannot be read.
    #[error("what is stored of the runtime is damaged: {0}")]
    Damaged(Arc<str>),
    /// It has no such version.
    #[error("no such version")]
    NoVersion,
    /// There is none before the current one.
    #[error("there is no earlier version")]
    NoEarlier,
    /// Its component cannot be loaded.
    #[error("the version cannot be loaded: {0}")]
    Broken(Arc<str>),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] RowError),
}

/// Why something was not removed. It is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError<E> {
    /// There is nothing to remove.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// New sessions get it.
    #[error("it is the current version")]
    Current,
    /// Somebody works with it just now.
    #[error("it is in use")]
    Running,
    /// These aliases stand for it.
    #[error("it has aliases")]
    Aliased(Vec<RuntimeId>),
    /// So many sessions need it.
    #[error("{0} sessions are on it")]
    Needed(u64),
    /// Whether somebody needs it cannot be found out.
    #[error("the sessions cannot be read")]
    Unread(E),
}

impl<E> From<RowError> for RemoveError<E> {
    fn from(error: RowError) -> Self {
        Self::Change(error.into())
    }
}

/// A version that is about to be added.
struct Candidate {
    component: ComponentDigest,
    bytes: Arc<[u8]>,
    imports: Vec<String>,
    manifest: Manifest,
    text: String,
}

impl Candidate {
    fn side(&self) -> Side<'_> {
        Side {
            component: self.component,
            bytes: self.bytes.len() as u64,
            imports: &self.imports,
            manifest: &self.manifest,
            text: &self.text,
        }
    }
}

impl Registry {
    /// Lets new sessions of a runtime get another component or manifest, once the operator has agreed to exactly what
    /// that changes. The component is loaded and asked who it is before that. A mark is noted with it, and with all changes.
    ///
    /// # Errors
    /// When something of it is refused, or not granted.
    pub async fn add(&self, new: NewVersion, mark: Option<Mark>) -> Result<Added, AddError> {
        let turn = self.turn().await;
        let manifest: Manifest = new.manifest.parse()?;
        let id = manifest.id.clone();
        if self.0.bundled.get(id.as_str()).is_some() {
            return Err(AddError::Bundled(id));
        }
        if self.alias(id.as_str()).is_some() {
            return Err(AddError::Alias(id));
        }
        let known = match self.added().get(&id) {
            Some(Entry::Damaged(reason)) => return Err(AddError::Damaged(Arc::clone(reason))),
            Some(Entry::Whole(versions)) => Some(versions.clone()),
            None => None,
        };
        let current = known.as_ref().and_then(Versions::current).cloned();
        let unchanged = |current: &Arc<Version>| {
            current.stored.component == new.component && current.stored.manifest == new.manifest
        };
        if current.as_ref().is_some_and(unchanged) {
            return Ok(Added { id, changed: false });
        }
        let given = new.grant.clone();
        let candidate = self.candidate(new, manifest, known.as_ref()).await?;
        let old = current.as_ref().map(|current| Side::of(&current.stored, &current.profile.manifest));
        let review = review(old.as_ref(), &candidate.side());
        if given.as_deref() != Some(review.grant.as_str()) {
            return Err(AddError::Ungranted(Box::new(review)));
        }
        self.put_in_force(turn, candidate, review.grant, known, mark).await?;
        Ok(Added { id, changed: true })
    }

    /// Reads what is to be added, and refuses what can be refused by its names. Nothing of it runs.
    async fn candidate(
        &self,
        new: NewVersion,
        manifest: Manifest,
        known: Option<&Versions>,
    ) -> Result<Candidate, AddError> {
        let NewVersion { component, manifest: text, .. } = new;
        let (shared, kept) = (Arc::clone(&self.0), known.is_some_and(|known| known.get(component).is_some()));
        let bytes = blocking(move || read(&shared, component, kept)).await?;
        // What is made of a module is not what its digest names.
        if Artifact::is_module(&bytes) {
            return Err(AddError::Module);
        }
        let artifact = Artifact::read(&bytes)?;
        if manifest.contract != CONTRACT {
            return Err(LoadError::OtherContract { found: manifest.contract }.into());
        }
        if let Some(refused) = artifact.objections().into_iter().next() {
            return Err(refused.into());
        }
        let Artifact { imports, .. } = artifact;
        Ok(Candidate { component, bytes: bytes.into(), imports, manifest, text })
    }

    /// Probes a version and lets new sessions get it.
    async fn put_in_force(
        &self,
        turn: Turn,
        candidate: Candidate,
        grant: String,
        known: Option<Versions>,
        mark: Option<Mark>,
    ) -> Result<(), AddError> {
        let Candidate { component, bytes, imports, manifest, text } = candidate;
        let id = manifest.id.clone();
        let (loader, probed) = (self.0.loader.clone(), bytes.to_vec());
        let probing = self.0.executor.spawn(async move { loader.stranger(manifest, probed).await });
        let runtime = Arc::new(probing.await.map_err(io::Error::other)??);
        let stored = StoredVersion {
            component,
            component_bytes: bytes.len() as u64,
            imports,
            manifest: text,
            description: runtime.description().clone(),
            added_ms: clock::unix_ms(),
            grant,
        };
        let version = Arc::new(Version::probed(stored, &runtime));
        let mut versions = known.unwrap_or_else(|| Versions { current: component, all: Vec::new() });
        let is_new = versions.get(component).is_none();
        versions.all.retain(|known| known.stored.component != component);
        versions.all.push(version);
        versions.current = component;
        self.commit(turn, move |registry| {
            let components = if is_new { Components::Store(component, &bytes) } else { Components::Stay };
            registry.0.rows.put(&id, &versions.stored(), &components, mark.as_ref())?;
            registry.0.uploads.forget(component);
            registry.swap(&id, versions, runtime);
            Ok::<_, RowError>(())
        })
        .await?;
        Ok(())
    }

    /// Lets new sessions get an earlier version again: this one, or the one that was added before the current one. The
    /// grant under which it was added holds. Returns which.
    ///
    /// # Errors
    /// When there is none, or it cannot be loaded any more.
    pub async fn roll_back(
        &self,
        id: &str,
        to: Option<ComponentDigest>,
        mark: Option<Mark>,
    ) -> Result<ComponentDigest, ChangeError> {
        let turn = self.turn().await;
        let (id, mut versions) = self.changeable(id)?;
        let target = match to {
            Some(component) => versions.get(component).ok_or(ChangeError::NoVersion)?,
            None => {
                let place = versions.all.iter().position(|version| version.stored.component == versions.current);
                let before = place.and_then(|place| versions.all.get(place.checked_sub(1)?));
                before.ok_or(ChangeError::NoEarlier)?
            }
        };
        let (component, loading, shared) = (target.stored.component, Arc::clone(target), Arc::clone(&self.0));
        let loaded = self.0.executor.spawn(async move { loading.load(&shared).await }).await;
        let loaded = loaded.unwrap_or_else(|crashed| Err(crashed.to_string().into()));
        let runtime = loaded.map_err(ChangeError::Broken)?;
        versions.current = component;
        self.commit(turn, move |registry| {
            registry.0.rows.put(&id, &versions.stored(), &Components::Stay, mark.as_ref())?;
            registry.swap(&id, versions, runtime);
            Ok::<_, RowError>(())
        })
        .await?;
        Ok(component)
    }

    /// Removes an added runtime with all its versions. `running` says whether a session works with it just now.
    ///
    /// # Errors
    /// When there is none, or one does.
    pub async fn remove<E>(
        &self,
        id: &str,
        running: impl AsyncFnOnce(&RuntimeId) -> Result<bool, E>,
    ) -> Result<(), RemoveError<E>> {
        let turn = self.turn().await;
        let (id, components) = match self.changeable(id) {
            Ok((id, versions)) => (id, versions.all.iter().map(|version| version.stored.component).collect()),
            // That is the way to be rid of it.
            Err(ChangeError::Damaged(_)) => (self.named(id).ok_or(ChangeError::Unknown)?, Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let aliases = self.aliases_of(&id);
        if !aliases.is_empty() {
            return Err(RemoveError::Aliased(aliases));
        }
        if running(&id).await.map_err(RemoveError::Unread)? {
            return Err(RemoveError::Running);
        }
        self.commit(turn, move |registry| registry.drop_all(&id, &components)).await?;
        Ok(())
    }

    /// Removes a version that new sessions do not get. `needed` counts the sessions that are on it, by whatever name.
    ///
    /// # Errors
    /// When there is none, or somebody needs it.
    pub async fn remove_version<E>(
        &self,
        id: &str,
        component: ComponentDigest,
        needed: impl AsyncFnOnce(&[RuntimeId]) -> Result<u64, E>,
    ) -> Result<(), RemoveError<E>> {
        // Nothing becomes current meanwhile.
        let turn = self.turn().await;
        let (id, mut versions) = self.stored(id)?;
        let version = Arc::clone(versions.get(component).ok_or(ChangeError::NoVersion)?);
        if versions.current == component && self.0.bundled.get(id.as_str()).is_none() {
            return Err(RemoveError::Current);
        }
        // Whoever makes a session holds the component until the session is stored, so from here on no session of it is made
        // that the count does not see.
        if version.is_needed() {
            return Err(RemoveError::Running);
        }
        let names = [self.aliases_of(&id), vec![id.clone()]].concat();
        match needed(&names).await.map_err(RemoveError::Unread)? {
            0 => {}
            sessions => return Err(RemoveError::Needed(sessions)),
        }
        versions.all.retain(|known| !Arc::ptr_eq(known, &version));
        self.commit(turn, move |registry| {
            // The last of what a bundled runtime goes before.
            let Some(last) = versions.all.last() else { return registry.drop_all(&id, &[component]) };
            if versions.current == component {
                versions.current = last.stored.component;
            }
            registry.0.rows.put(&id, &versions.stored(), &Components::Remove(&[component]), None)?;
            registry.added().insert(id, Entry::Whole(versions));
            Ok::<_, RowError>(())
        })
        .await?;
        Ok(())
    }

    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.0.changing).lock_owned().await
    }

    /// Carries out a change where it blocks nobody, and to its end although its caller leaves.
    pub(super) async fn commit<E: Send + 'static>(
        &self,
        turn: Turn,
        change: impl FnOnce(&Self) -> Result<(), E> + Send + 'static,
    ) -> Result<(), E> {
        let registry = self.clone();
        blocking(move || {
            let changed = change(&registry);
            drop(turn);
            changed
        })
        .await
    }

    /// Puts what is stored already in force. Sessions that work with another version keep it.
    fn swap(&self, id: &RuntimeId, versions: Versions, current: Arc<Runtime>) {
        let mut added = self.added();
        if let Some(Entry::Whole(before)) = added.get(id) {
            before.all.iter().for_each(|version| version.let_go());
        }
        if let Some(version) = versions.current() {
            version.keep(current);
        }
        tracing::info!(runtime = %id, component = %versions.current, "new sessions get another version of a runtime");
        added.insert(id.clone(), Entry::Whole(versions));
    }

    fn drop_all(&self, id: &RuntimeId, components: &[ComponentDigest]) -> Result<(), RowError> {
        self.0.rows.remove(id, components)?;
        let mut added = self.added();
        added.remove(id);
        tracing::info!(runtime = %id, "a runtime was removed");
        let whole = |entry: &Entry| match entry {
            Entry::Whole(versions) => Some(versions.all.iter().map(|version| version.stored.component).collect()),
            Entry::Damaged(_) => None,
        };
        // What a row that did not open had named can be told only while all others open.
        let named: Option<Vec<Vec<_>>> = added.values().map(whole).collect();
        drop(added);
        named.map_or(Ok(()), |named| self.0.rows.sweep(&named.concat()))
    }

    /// A runtime that can be changed.
    fn changeable(&self, id: &str) -> Result<(RuntimeId, Versions), ChangeError> {
        if self.alias(id).is_none() && self.0.bundled.get(id).is_some() {
            return Err(ChangeError::Bundled);
        }
        self.stored(id)
    }

    /// The same, also where a bundled runtime goes before it.
    fn stored(&self, id: &str) -> Result<(RuntimeId, Versions), ChangeError> {
        if self.alias(id).is_some() {
            return Err(ChangeError::Alias);
        }
        match self.added().iter().find(|(known, _)| known.as_str() == id) {
            Some((id, Entry::Whole(versions))) => Ok((id.clone(), versions.clone())),
            Some((_, Entry::Damaged(reason))) => Err(ChangeError::Damaged(Arc::clone(reason))),
            None if self.0.bundled.get(id).is_some() => Err(ChangeError::Bundled),
            None => Err(ChangeError::Unknown),
        }
    }
}

/// The right to change what there is.
pub(super) type Turn = OwnedMutexGuard<()>;

/// The bytes of a component, from where they were kept, or else uploaded to.
fn read(shared: &Shared, component: ComponentDigest, kept: bool) -> Result<Vec<u8>, AddError> {
    if !kept {
        return shared.uploads.read(component)?.ok_or(AddError::NotUploaded(component));
    }
    shared.rows.component(component).map_err(|error| match error {
        ComponentError::Row(error) => error.into(),
        ComponentError::Other(_) => AddError::Damaged(error.to_string().into()),
    })
}
