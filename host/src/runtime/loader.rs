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
    /// This program, which the loader starts as a child to compile.
    pub program: PathBuf,
}

impl Inner {
    fn keep(&self, digest: ComponentDigest, code: &[u8]) -> Result<Compiled, LoadError> {
        self.cache.keep(&self.machine.engine, &digest.to_string(), code).map_err(LoadError::Invalid)
    }
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
            None => self.compile(digest, &component).await?,
        };
        self.describe(manifest, digest, component.len(), &compiled).await
    }

    /// A runtime of a component that is part of this program.
    ///
    /// # Errors
    /// When the component is refused.
    pub async fn bundled(&self, manifest: Manifest, component: Vec<u8>) -> Result<Runtime, LoadError> {
        let (digest, bytes) = (ComponentDigest::of(&component), component.len());
        let find = move |inner: &Inner| Ok(inner.cache.find(&inner.machine.engine, &digest.to_string()));
        let compiled = match self.blocking(find).await? {
            Some(compiled) => compiled,
            // A compiler leaves 20 MiB of memory behind, which this process would keep for ever.
            None => match self.compile(digest, &component).await {
                Ok(compiled) => compiled,
                Err(error) => {
                    tracing::debug!(%error, "no child compiles a bundled runtime; this process does");
                    let here = move |inner: &Inner| {
                        let code = inner.machine.engine.precompile_component(&component).map_err(LoadError::Invalid)?;
                        inner.keep(digest, &code)
                    };
                    self.blocking(here).await?
                }
            },
        };
        self.describe(manifest, digest, bytes, &compiled).await
    }

    /// Compiles in a child process, and keeps what comes of it.
    async fn compile(&self, digest: ComponentDigest, component: &[u8]) -> Result<Compiled, LoadError> {
        let code = {
            let _alone = self.0.compiling.lock().await;
            compile::in_child(&self.0.program, component).await?
        };
        self.blocking(move |inner| inner.keep(digest, &code)).await
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
