//! Who wants to know that something about a session has changed, and is told which one; what it is now, they look up.
//!
//! For lists that are kept up to date. Nothing is kept for those who do not keep up: they are told that they missed
//! something. While nobody listens, a change costs one look at a counter.

use tokio::sync::broadcast::{self, error::RecvError};

use super::stored::Session;
use crate::{
    access::{OwnerId, Scope},
    id::SessionId,
};

/// How many changes wait for the slowest listener; more are missed by it.
const KEPT: usize = 4096;

/// That a session is new, another, or gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Changed {
    /// Which session.
    pub session: SessionId,
    /// Whose it is.
    pub owner: OwnerId,
}

impl Changed {
    pub(super) fn of(session: &Session) -> Self {
        Self { session: session.id, owner: session.owner.clone() }
    }
}

/// Where changes are announced.
pub(crate) struct Changes(broadcast::Sender<Changed>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Changes {
    /// Says that the record of a session is durable, or that the session is durably gone. Whoever looks after this sees
    /// it.
    pub(crate) fn announce(&self, change: Changed) {
        if self.0.receiver_count() > 0 {
            // An error says that the last listener has just left.
            drop(self.0.send(change));
        }
    }

    pub(crate) fn listen(&self, scope: &Scope) -> Listener {
        Listener { told: self.0.subscribe(), scope: scope.clone() }
    }
}

/// Hears of every change in a scope from now on, unless it is too slow.
pub struct Listener {
    told: broadcast::Receiver<Changed>,
    scope: Scope,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A session has changed.
    Changed(Changed),
    /// Some changes are not told of: the listener was too slow.
    Missed,
}

impl Listener {
    /// The next change. May be dropped without losing one. Never returns once there are no sessions any more.
    pub async fn next(&mut self) -> News {
        loop {
            match self.told.recv().await {
                Ok(change) if self.scope.holds(change.owner.as_str()) => return News::Changed(change),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return News::Missed,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u8) -> Changed {
        Changed { session: SessionId::from_bytes([number; 16]), owner: OwnerId::local() }
    }

    #[tokio::test]
    async fn a_listener_hears_nothing_of_what_is_another_s() {
        let changes = Changes::default();
        let mut listener = changes.listen(&Scope::Of(OwnerId::local()));
        changes.announce(Changed { owner: OwnerId::from("ann".to_owned()), ..change(1) });
        changes.announce(change(2));
        assert_eq!(listener.next().await, News::Changed(change(2)));
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_is_told_and_hears_what_comes_after() {
        let changes = Changes::default();
        let mut listener = changes.listen(&Scope::All);
        for _ in 0..=KEPT {
            changes.announce(change(1));
        }
        changes.announce(change(2));
        assert_eq!(listener.next().await, News::Missed);
        let mut heard = Vec::new();
        while heard.last() != Some(&News::Changed(change(2))) {
            heard.push(listener.next().await);
        }
        assert_eq!(heard.len(), KEPT);
    }
}
