//! Work for several runtimes at once, and for each of them one piece at a time: an upstream that hangs holds up what is to be
//! done at itself, and nothing else.

use std::{collections::HashSet, future::pending};

use tokio::task::JoinSet;

use crate::id::RuntimeId;

#[derive(Default)]
pub(super) struct Workers {
    tasks: JoinSet<RuntimeId>,
    busy: HashSet<RuntimeId>,
}

impl Workers {
    /// Begins a piece of work for a runtime, unless one is under way for it.
    pub(super) fn begin(&mut self, runtime: RuntimeId, work: impl Future<Output = ()> + Send + 'static) {
        if self.busy.insert(runtime.clone()) {
            self.tasks.spawn(async move {
                work.await;
                runtime
            });
        }
    }

    /// Waits until a piece of work is over; without end while none is under way.
    pub(super) async fn over(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(runtime)) => drop(self.busy.remove(&runtime)),
            // It crashed, and nobody knows whose it was.
            Some(Err(_)) => self.busy.clear(),
            None => pending().await,
        }
    }
}
