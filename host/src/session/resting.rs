//! Sessions at rest that have a driver still. Their turn is over, and they keep feed and guest for a prompt that may follow
//! soon. They are a cache: the one that has rested for the longest gives way when there are too many of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// How many sessions may rest with a driver. Each takes a connection to its upstream, and some 100 KiB with its guest.
const RESTING_MAX: usize = 512;

/// All of a host.
pub(super) struct Resting {
    max: usize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    /// By when they came to rest.
    taken: BTreeMap<u64, Arc<Notify>>,
}

impl Default for Resting {
    fn default() -> Self {
        Self { max: RESTING_MAX, places: Mutex::default() }
    }
}

impl Resting {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session comes to rest. The one that has rested for the longest is told where there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Rest {
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        let told = Arc::new(Notify::new());
        places.taken.insert(number, Arc::clone(&told));
        if places.taken.len() > self.max
            && let Some((_, oldest)) = places.taken.pop_first()
        {
            oldest.notify_one();
        }
        Rest { resting: Arc::clone(self), number, told }
    }
}

/// The place of one that rests; left when this is dropped.
pub(super) struct Rest {
    resting: Arc<Resting>,
    number: u64,
    told: Arc<Notify>,
}

impl Rest {
    /// Waits until it is to give way; told once.
    pub(super) async fn is_over(&self) {
        self.told.notified().await;
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.resting.places().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_one_that_has_rested_for_the_longest_gives_way_and_is_told_once() {
        let resting = Arc::new(Resting { max: 2, ..Resting::default() });
        let told = |rest: &Rest| rest.is_over().now_or_never().is_some();
        let (first, second) = (resting.enter(), resting.enter());
        assert!(!told(&first) && !told(&second));
        let third = resting.enter();
        assert!(told(&first) && !told(&second) && !told(&third));
        assert!(!told(&first));
        drop(second);
        let fourth = resting.enter();
        assert!(!told(&third) && !told(&fourth));
        drop((first, third, fourth));
        assert!(resting.places().taken.is_empty());
    }
}
