//! Guests that are in no call. A guest is a cache: all that matters of it is the state that its calls give back. So one that
//! rests gives way at once to one that is called, the one that has rested for the longest first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Fault, store::Live};

/// For how long a call waits for room while all guests are in calls.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// All resting guests of an engine.
#[derive(Default)]
pub(super) struct Idle {
    guests: Mutex<Guests>,
    /// Told whenever a guest comes to rest or goes.
    room: Notify,
}

#[derive(Default)]
struct Guests {
    next: u64,
    /// By when they came to rest.
    resting: BTreeMap<u64, Live>,
}

impl Idle {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the guest that has rested for the longest. False when none rests.
    fn give_way(&self) -> bool {
        // It is dropped behind the lock.
        let oldest = self.guests().resting.pop_first();
        oldest.is_some()
    }

    /// Starts a guest, with `start`, which may be asked again; one that rests gives way to it where there is no room.
    ///
    /// # Errors
    /// Those of `start`; [`Fault::Busy`] when all guests are in calls and go on to be.
    pub(super) async fn make_room<F>(&self, start: impl Fn() -> F) -> Result<Live, Fault>
    where
        F: Future<Output = Result<Live, Fault>>,
    {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            // Before the try, so that whoever goes while it is made is heard.
            let room = self.room.notified();
            let started = start().await;
            if !matches!(started, Err(Fault::Busy)) {
                return started;
            }
            if !self.give_way() && timeout_at(deadline, room).await.is_err() {
                return started;
            }
        }
    }
}

/// Where one guest rests between its calls.
pub(super) struct Place {
    idle: Arc<Idle>,
    number: Option<u64>,
}

impl Place {
    pub(super) const fn new(idle: Arc<Idle>) -> Self {
        Self { idle, number: None }
    }

    /// The guest that rests here, unless it has given way.
    pub(super) fn take(&mut self) -> Option<Live> {
        let number = self.number.take()?;
        self.idle.guests().resting.remove(&number)
    }

    pub(super) fn put(&mut self, live: Live) {
        let replaced = {
            let mut guests = self.idle.guests();
            let number = guests.next;
            guests.next += 1;
            guests.resting.insert(number, live);
            let before = self.number.replace(number);
            before.and_then(|before| guests.resting.remove(&before))
        };
        drop(replaced);
        self.idle.room.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Held by each guest, behind all else that it has: tells that there is room when it goes.
pub(super) struct Room(pub(super) Arc<Idle>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.room.notify_one();
    }
}
