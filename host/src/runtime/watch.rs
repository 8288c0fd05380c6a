//! What is noted of all guests of one component, whoever's they are: crashes, and what they write into the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Fault,
    allowance::{Allowance, Line},
    quarantine::{Fate, Health, Leave, Moment, Quarantine},
};
use crate::id::ComponentDigest;

pub(super) struct Watch {
    began: Instant,
    /// Absent where a component may crash as often as it does.
    quarantine: Option<Mutex<Quarantine>>,
    log: Mutex<Allowance>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), quarantine: Some(Mutex::default()), log: Mutex::default() }
    }

    pub(super) fn without_quarantine() -> Self {
        Self { quarantine: None, ..Self::new() }
    }

    /// Lets a call begin.
    ///
    /// # Errors
    /// While the component is in quarantine.
    pub(super) fn admit(&self) -> Result<Pass<'_>, Fault> {
        let leave = self.quarantine().map_or(Ok(Leave::Ordinary), |mut quarantine| quarantine.admit(self.now()));
        match leave {
            Ok(leave) => Ok(Pass { watch: self, leave, how: Fate::Unknown }),
            Err(left) => Err(Fault::Quarantined { retry_after: left.max(RETRY_MIN) }),
        }
    }

    /// Asks whether a line may go into the operator's log.
    pub(super) fn line(&self, bytes: usize) -> Line {
        self.log().take(self.now(), bytes)
    }

    /// Takes note of a line that goes beyond what its call may write.
    pub(super) fn line_dropped(&self) {
        self.log().dropped();
    }

    pub(super) fn health(&self) -> Health {
        let now = self.now();
        self.quarantine().map_or_else(|| Quarantine::default().health(now), |quarantine| quarantine.health(now))
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    fn log(&self) -> MutexGuard<'_, Allowance> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quarantine(&self) -> Option<MutexGuard<'_, Quarantine>> {
        // Whoever panicked with it left it whole.
        self.quarantine.as_ref().map(|quarantine| quarantine.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The watches of all components by what they are. One that is loaded anew has not become a better one.
#[derive(Default)]
pub(super) struct Watches(Mutex<HashMap<ComponentDigest, Arc<Watch>>>);

impl Watches {
    pub(super) fn of(&self, component: ComponentDigest) -> Arc<Watch> {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watches.entry(component).or_insert_with(|| Arc::new(Watch::new())))
    }
}

/// Clients are told whole seconds.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// A call under way. Dropped, it tells how the call ended: nothing, unless `ended` was told.
pub(super) struct Pass<'a> {
    watch: &'a Watch,
    leave: Leave,
    how: Fate,
}

impl Pass<'_> {
    pub(super) fn ended(mut self, how: Fate) {
        self.how = how;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(mut quarantine) = self.watch.quarantine() {
            quarantine.ended(self.leave, self.how, self.watch.now());
        }
    }
}
