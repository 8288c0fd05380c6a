//! Who may begin a turn. That is asked before a prompt is acknowledged, so that nothing that was acknowledged is lost to a
//! limit: a turn that is durable goes on over a restart whatever the limits say then.
//!
//! What a session takes beside its turn is bounded where it is taken: guests in calls by `runtime`, which ends those that
//! rest; drivers at rest by `resting.rs`; prompts that wait by the session machine; other wishes by `live.rs`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::access::OwnerId;

/// How many times as many turns as are free one owner may run: alone four fifths of all, and the less the more others run. So
/// there is room left for whoever has none, whatever the others do.
const SHARE: usize = 4;

/// Why no turn may begin. A retry is safe: nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// As many turns run as may run on this host.
    #[error("as many turns run as this host allows; send it again a little later")]
    Full,
    /// The owner runs as many as the others leave.
    #[error(
        "as many turns of this owner run as there is room for beside others; send it again when one of them is over"
    )]
    Share,
    /// Something that has been used up for this owner, in words for the client.
    #[error("{0}")]
    Budget(String),
}

/// What an owner may use up. Asked of each turn before it begins, with nothing of it done.
pub(super) trait Budget: Send + Sync {
    /// Why the owner may not begin another turn, in words for the client; nothing where it may.
    fn exceeded(&self, owner: &OwnerId) -> Option<String>;
}

/// No budgets.
pub(super) struct Unlimited;

impl Budget for Unlimited {
    fn exceeded(&self, _: &OwnerId) -> Option<String> {
        None
    }
}

/// The turns of a host.
pub(super) struct Admission {
    turns_max: usize,
    budget: Box<dyn Budget>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    all: usize,
    by_owner: HashMap<OwnerId, usize>,
}

impl Admission {
    pub(super) fn new(turns_max: usize, budget: impl Budget + 'static) -> Self {
        Self { turns_max, budget: Box::new(budget), running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to begin a turn.
    ///
    /// # Errors
    /// When there is no room, or the owner's share or budget is used up.
    pub(super) fn admit(self: &Arc<Self>, owner: &OwnerId) -> Result<Turn, NotAdmitted> {
        if let Some(why) = self.budget.exceeded(owner) {
            return Err(NotAdmitted::Budget(why));
        }
        let mut running = self.running();
        let free = self.turns_max.saturating_sub(running.all);
        let own = running.by_owner.get(owner).copied().unwrap_or(0);
        if free == 0 {
            return Err(NotAdmitted::Full);
        }
        if own >= free.saturating_mul(SHARE) {
            return Err(NotAdmitted::Share);
        }
        Ok(running.count(self, owner))
    }

    /// Counts a turn that runs whatever the limits are: one that was admitted before the host was started, or that the
    /// upstream has begun by itself.
    pub(super) fn count(self: &Arc<Self>, owner: &OwnerId) -> Turn {
        self.running().count(self, owner)
    }
}

impl Running {
    fn count(&mut self, admission: &Arc<Admission>, owner: &OwnerId) -> Turn {
        self.all += 1;
        *self.by_owner.entry(owner.clone()).or_default() += 1;
        Turn { admission: Arc::clone(admission), owner: owner.clone() }
    }
}

/// A turn that is counted. It is over when this is dropped.
pub(super) struct Turn {
    admission: Arc<Admission>,
    owner: OwnerId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.admission.running();
        running.all -= 1;
        if let Some(own) = running.by_owner.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                running.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn owner(name: &str) -> OwnerId {
        name.to_owned().into()
    }

    /// As many turns as are admitted, and why the next one is not.
    fn fill(admission: &Arc<Admission>, name: &str) -> (Vec<Turn>, NotAdmitted) {
        let mut turns = Vec::new();
        loop {
            match admission.admit(&owner(name)) {
                Ok(turn) => turns.push(turn),
                Err(why) => return (turns, why),
            }
        }
    }

    #[test]
    fn nobody_shuts_others_out_and_what_is_given_back_can_be_had_again() {
        let admission = Arc::new(Admission::new(1000, Unlimited));
        let (first, why) = fill(&admission, "first");
        assert_eq!((first.len(), why), (800, NotAdmitted::Share));
        let (second, _) = fill(&admission, "second");
        assert_eq!(second.len(), 160);
        let mut others = Vec::new();
        for number in 0..3 {
            let (turns, _) = fill(&admission, &format!("other {number}"));
            assert!(!turns.is_empty(), "{number}");
            others.extend(turns);
        }
        drop((first, others));
        let (more, why) = fill(&admission, "second");
        assert_eq!((second.len() + more.len(), why), (800, NotAdmitted::Share));
        drop((second, more));
        let running = admission.running();
        assert!(running.all == 0 && running.by_owner.is_empty());
    }

    #[test]
    fn what_runs_already_is_counted_beyond_the_limit_and_then_nothing_begins() {
        let admission = Arc::new(Admission::new(2, Unlimited));
        let resumed: Vec<_> = (0..5).map(|_| admission.count(&owner("a"))).collect();
        assert_eq!(admission.admit(&owner("b")).err(), Some(NotAdmitted::Full));
        drop(resumed);
        assert!(admission.admit(&owner("b")).is_ok());
    }

    #[test]
    fn a_budget_is_asked_before_anything_else() {
        struct Spent;
        impl Budget for Spent {
            fn exceeded(&self, owner: &OwnerId) -> Option<String> {
                (owner.as_str() == "poor").then(|| "100 of 100 turns of this month".to_owned())
            }
        }
        let admission = Arc::new(Admission::new(1, Spent));
        let why = admission.admit(&owner("poor")).err();
        assert_eq!(why, Some(NotAdmitted::Budget("100 of 100 turns of this month".to_owned())));
        let rich = admission.admit(&owner("rich")).unwrap();
        assert_eq!(admission.admit(&owner("poor")).err(), why);
        drop(rich);
    }
}
