//! From bytes to a runtime: the engine, the compiler and what it has compiled before.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Mutex;
use wasmtime::component::Component as Compiled;

use super::{
    Manifest, Runtime,
    cache::{Cache, CacheKey},
    compile,
    component::{Component, LoadError},
    engine::{self, EngineError, Machine},
    inspect::inspect,
    quarantine::Health,
    watch::Watches,
};
use crate::id::ComponentDigest;

/// Makes runtimes of components. One for each host; cheap to clone.
///
/// ```text
/// let runtime: Runtime = loader.stranger(manifest, bytes).await?;   // LoadError says in a sentence what is wrong
/// ```
#[derive(Clone)]
pub struct Loader(Arc<Inner>);

struct Inner {
    machine: Arc<Machine>,
    cache: Cache,
    /// Of all components that were loaded, also of those that no session has just now.
    watches: Watches,
    /// Compiles, as a child process.
    program: PathBuf,
    /// Held by the one who compiles: bombs come one at a time.
    compiling: Mutex<()>,
}

/// What a loader is made with.
pub struct LoaderSettings<'a> {
    /// An existing folder for compiled components. It can be emptied at any time.
    pub cache: &'a Path,
    /// What the files there are authenticated with.
    pub key: CacheKey,
    /// How many guests may live at once, [`super::GUESTS_MAX`] at the most.
    pub guests: u32,
    /// This program, which the loader starts as a child to compile what strangers have made.
    pub program: PathBuf,
}

impl Loader {
    /// Starts the engine.
    ///
    /// # Errors
    /// When the machine cannot run guests.
    pub fn start(settings: LoaderSettings<'_>) -> Result<Self, EngineError> {
        let LoaderSettings { cache, key, guests, program } = settings;
        let machine = engine::start(guests)?;
        let cache = Cache::new(cache, key);
        Ok(Self(Arc::new(Inner { machine, cache, watches: Watches::default(), program, compiling: Mutex::new(()) })))
    }

    /// A runtime of a component that somebody else has made. It is compiled in a child process with limits, one at a
    /// time, unless it has been compiled before; then it is asked to describe itself, within the budget of any call.
    /// That may take minutes for a component that is made to take long, and a moment otherwise.
    ///
    /// # Errors
    /// When the component is refused. Only [`compile::CompileError::Unavailable`] is the host's own fault and worth a
    /// second try.
    pub async fn stranger(&self, manifest: Manifest, component: Vec<u8>) -> Result<Runtime, LoadError> {
        let (component, digest, found) = self
            .blocking(|inner| {
                inspect(&component)?;
                let digest = ComponentDigest::of(&component);
                let found = inner.cache.find(&inner.machine.engine, &digest.to_string());
                Ok((component, digest, found))
            })
            .await?;
        let compiled = match found {
            Some(compiled) => compiled,
            None => {
                let code = {
                    let _alone = self.0.compiling.lock().await;
                    compile::in_child(&self.0.program, &component).await?
                };
                let keep = move |inner: &Inner| inner.cache.keep(&inner.machine.engine, &digest.to_string(), &code);
                self.blocking(move |inner| keep(inner).map_err(LoadError::Invalid)).await?
            }
        };
        self.describe(manifest, digest, component.len(), &compiled).await
    }

    /// A runtime of a component that is part of this program, and compiled in this process.
    ///
    /// # Errors
    /// When the component is refused.
    pub async fn bundled(&self, manifest: Manifest, component: Vec<u8>) -> Result<Runtime, LoadError> {
        let (digest, bytes) = (ComponentDigest::of(&component), component.len());
        let compiled = self.blocking(move |inner| {
            let (engine, name) = (&inner.machine.engine, digest.to_string());
            if let Some(compiled) = inner.cache.find(engine, &name) {
                return Ok(compiled);
            }
            let code = engine.precompile_component(&component).map_err(LoadError::Invalid)?;
            inner.cache.keep(engine, &name, &code).map_err(LoadError::Invalid)
        });
        self.describe(manifest, digest, bytes, &compiled.await?).await
    }

    async fn describe(
        &self,
        manifest: Manifest,
        digest: ComponentDigest,
        bytes: usize,
        compiled: &Compiled,
    ) -> Result<Runtime, LoadError> {
        let component = Component::new(&self.0.machine, compiled, digest, self.0.watches.of(digest), manifest)?;
        Runtime::describe(Arc::new(component), bytes).await
    }

    /// How a component fares, whether or not it is loaded now.
    #[must_use]
    pub fn health(&self, component: ComponentDigest) -> Health {
        self.0.watches.of(component).health()
    }

    /// Does what blocks on the disk or computes for long.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_| Err(LoadError::Interrupted))
    }
}
