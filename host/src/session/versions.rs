//! Who needs which version of a runtime: asked before one is removed.
//!
//! A session names its version in its record. Counting them reads every record, which takes a second for some hundred
//! thousand sessions; nothing that happens often waits for it.

use std::sync::Arc;

use super::{Session, Sessions};
use crate::{
    access::Scope,
    blocking::blocking,
    events::{ReadError, Span},
    id::{ComponentDigest, RuntimeId, SessionId},
    registry::{RemoveAliasError, RemoveError},
};

/// How many records are read at once.
const PAGE: usize = 1000;

impl Sessions {
    /// Removes a runtime from the registry, unless a session runs a turn on it. The sessions that are left keep their
    /// events and cannot go on.
    ///
    /// # Errors
    /// When it is still there.
    pub async fn remove_runtime(&self, id: &str) -> Result<(), RemoveError<ReadError>> {
        self.core.registry.remove(id, async |id| self.runs_on(id).await).await
    }

    /// Removes a version of a runtime that no session is on.
    ///
    /// # Errors
    /// When it is still there.
    pub async fn remove_version(&self, id: &str, component: ComponentDigest) -> Result<(), RemoveError<ReadError>> {
        let needed = async |names: &[RuntimeId]| self.count_on(names, component).await;
        self.core.registry.remove_version(id, component, needed).await
    }

    /// Removes an alias of a runtime with its credential, unless a session runs a turn on it; false when there is none. The
    /// sessions that are left keep their events and cannot go on.
    ///
    /// # Errors
    /// When it is still there.
    pub async fn remove_alias(&self, id: &str) -> Result<bool, RemoveAliasError<ReadError>> {
        self.core.registry.remove_alias(id, async |id| self.runs_on(id).await).await
    }

    /// True while a session has something to do on a runtime.
    async fn runs_on(&self, runtime: &RuntimeId) -> Result<bool, ReadError> {
        let (log, runtime) = (self.core.log.clone(), runtime.clone());
        blocking(move || {
            for id in log.unsettled()? {
                if let Some(bytes) = log.session(id)?
                    && Session::read(id, &bytes)?.runtime == runtime
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn count_on(&self, names: &[RuntimeId], component: ComponentDigest) -> Result<u64, ReadError> {
        // Whoever asks: everybody's sessions count.
        let everybodys = Self { core: Arc::clone(&self.core), scope: Scope::All };
        let names = names.to_vec();
        blocking(move || {
            let (mut count, mut last) = (0, None::<SessionId>);
            loop {
                let page = everybodys.list(Span::After(last), PAGE)?;
                let on = |session: &&Session| names.contains(&session.runtime) && session.component == Some(component);
                count += page.found.iter().filter(on).count() as u64;
                last = page.next;
                if last.is_none() {
                    return Ok(count);
                }
            }
        })
        .await
    }
}
