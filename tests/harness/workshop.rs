//! A loader for what tests make, and an upstream that says nothing.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::BoxFuture;
use lap::{
    runtime::{CacheKey, LoadError, Loader, LoaderSettings, Outlet, Runtime},
    upstream::{Request, Response, SendError},
};
use tempfile::TempDir;

/// A loader, and the folder of what it has compiled.
pub struct Workshop {
    pub loader: Loader,
    pub cache: TempDir,
}

impl Workshop {
    /// For `guests` guests at once.
    pub fn new(guests: u32) -> Self {
        Self::with_program(guests, env!("CARGO_BIN_EXE_lap"))
    }

    /// The same, where another program compiles.
    pub fn with_program(guests: u32, program: &str) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let settings = LoaderSettings {
            cache: cache.path(),
            key: CacheKey::of_this_process().unwrap(),
            guests,
            program: program.into(),
        };
        Self { loader: Loader::start(settings).unwrap(), cache }
    }

    /// Loads what a stranger has made.
    pub async fn load(&self, manifest: &str, component: &[u8]) -> Result<Runtime, LoadError> {
        self.loader.stranger(manifest.parse().unwrap(), component.to_vec()).await
    }
}

/// An upstream that never answers, and counts what it is asked.
#[derive(Default)]
pub struct Silent {
    pub asked: AtomicUsize,
    /// True when it answers after all, with nothing.
    pub answers: bool,
}

impl Outlet for Silent {
    fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        self.asked.fetch_add(1, Relaxed);
        if self.answers {
            return Box::pin(async { Ok(Response { status: 200, headers: Vec::new(), body: String::new() }) });
        }
        Box::pin(std::future::pending())
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text.into()
    }
}
