//! What agents have upstream, made once for each key however many sessions ask for it at once.
//!
//! One task at a time is at work on a key: it looks into the store, and makes and stores what is not there. The others wait
//! and look then. Whoever fails leaves the next one to try; whoever comes meanwhile waits behind all of them. The place where
//! they wait goes with the last of them, and with nobody before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Mutex as Turns, OwnedMutexGuard},
    task::block_in_place,
};

use super::CreateError;
use crate::{
    agents::{Provision, Provisions, StoreError},
    id::AgentId,
};

/// What a provision is made of, as a digest.
pub(super) type Key = [u8; 32];

/// The provisions of all agents, and who is making one just now.
pub(super) struct Provisioning {
    provisions: Provisions,
    turns: Mutex<HashMap<Key, Arc<Turns<()>>>>,
}

impl From<StoreError> for CreateError {
    fn from(error: StoreError) -> Self {
        Self::Provision(error.to_string())
    }
}

impl Provisioning {
    pub(super) fn new(provisions: Provisions) -> Self {
        Self { provisions, turns: Mutex::default() }
    }

    /// What was made of what `key` stands for; `make` makes it where there is none.
    ///
    /// # Errors
    /// Those of `make`, and of the store.
    pub(super) async fn get_or_make<E: From<StoreError>>(
        &self,
        key: Key,
        agent: AgentId,
        make: impl AsyncFnOnce() -> Result<String, E>,
    ) -> Result<Provision, E> {
        if let Some(known) = self.get(&key)? {
            return Ok(known);
        }
        let _alone = self.alone(key).await;
        // Somebody may have made it between the look above and this turn.
        if let Some(known) = self.get(&key)? {
            return Ok(known);
        }
        let value = make().await?;
        Ok(block_in_place(|| self.provisions.put(&key, agent, &value))?)
    }

    /// Forgets a provision that is no longer there upstream, unless another one has been made in its place.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn forget(&self, key: Key, gone: &Provision) -> Result<(), StoreError> {
        // Nobody puts another one there between the look and the removal.
        let _alone = self.alone(key).await;
        if self.get(&key)?.as_ref() == Some(gone) {
            block_in_place(|| self.provisions.remove(&key))?;
        }
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Provision>, StoreError> {
        match self.provisions.cached(key) {
            Some(known) => Ok(Some(known)),
            None => block_in_place(|| self.provisions.get(key)),
        }
    }

    async fn alone(&self, key: Key) -> Alone<'_> {
        let turns = Arc::clone(self.turns().entry(key).or_default());
        // Before the wait, so that one who gives up while waiting leaves nothing behind either.
        let mut alone = Alone { all: self, key, turns, turn: None };
        alone.turn = Some(Arc::clone(&alone.turns).lock_owned().await);
        alone
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<Key, Arc<Turns<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for a key or is at work on it.
struct Alone<'a> {
    all: &'a Provisioning,
    key: Key,
    turns: Arc<Turns<()>>,
    /// Nothing while it waits.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.turn = None;
        let mut turns = self.all.turns();
        // The map's and this one's: who comes next gets theirs from the map, which is locked.
        if Arc::strong_count(&self.turns) == 2 {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        pin::{Pin, pin},
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Poll, Waker},
    };

    use tokio::sync::oneshot;

    use super::*;
    use crate::agents::tests::vault;

    const KEY: Key = [7; 32];

    #[derive(Debug, PartialEq)]
    enum Refused {
        Upstream(&'static str),
        Store,
    }

    impl From<StoreError> for Refused {
        fn from(_: StoreError) -> Self {
            Self::Store
        }
    }

    type Made = Result<String, Refused>;
    type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

    /// How many were asked for upstream, and what is told of them when.
    #[derive(Default)]
    struct Vendor {
        asked: AtomicU32,
    }

    impl Vendor {
        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }

        /// A session's call, whose request is answered when the sender is used.
        fn call<'a>(
            &'a self,
            provisioning: &'a Provisioning,
        ) -> (oneshot::Sender<Made>, Boxed<'a, Result<Provision, Refused>>) {
            let (answer, answered) = oneshot::channel::<Made>();
            let call = provisioning.get_or_make(KEY, AgentId::fresh(), async move || {
                self.asked.fetch_add(1, Ordering::Relaxed);
                answered.await.unwrap()
            });
            (answer, Box::pin(call))
        }
    }

    fn poll<T>(future: &mut Boxed<'_, T>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ready<T>(future: &mut Boxed<'_, T>) -> T {
        let Poll::Ready(value) = poll(future) else { unreachable!("it waits for somebody") };
        value
    }

    fn is_waiting<T>(future: &mut Boxed<'_, T>) -> bool {
        poll(future).is_pending()
    }

    // The store's calls block in place, which the executor of one thread does not allow.
    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_comes_meanwhile_waits_and_gets_the_same() {
        let (_directory, vault) = vault();
        let (provisioning, vendor) = (Provisioning::new(Provisions::new(&vault)), Vendor::default());
        let (answer, mut first) = vendor.call(&provisioning);
        let ((_unused, mut second), (_too, mut third)) = (vendor.call(&provisioning), vendor.call(&provisioning));
        assert!(is_waiting(&mut first) && is_waiting(&mut second) && is_waiting(&mut third));
        assert_eq!(vendor.asked(), 1);
        answer.send(Ok("agent_01".to_owned())).unwrap();
        let made = ready(&mut first).unwrap();
        assert_eq!((ready(&mut second), ready(&mut third)), (Ok(made.clone()), Ok(made)));
        drop((first, second, third));
        assert_eq!((vendor.asked(), provisioning.turns().len()), (1, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_failure_leaves_the_turn_to_the_next_and_a_third_waits_behind_it() {
        let (_directory, vault) = vault();
        let (provisioning, vendor) = (Provisioning::new(Provisions::new(&vault)), Vendor::default());
        let (fails, mut first) = vendor.call(&provisioning);
        let (succeeds, mut second) = vendor.call(&provisioning);
        assert!(is_waiting(&mut first) && is_waiting(&mut second));
        fails.send(Err(Refused::Upstream("no"))).unwrap();
        assert_eq!(ready(&mut first), Err(Refused::Upstream("no")));
        drop(first);
        assert!(is_waiting(&mut second));
        assert_eq!(vendor.asked(), 2, "it tries itself");
        let (_unused, mut third) = vendor.call(&provisioning);
        assert!(is_waiting(&mut third));
        assert_eq!(vendor.asked(), 2, "while the second is at it the third does not begin another");
        succeeds.send(Ok("agent_01".to_owned())).unwrap();
        assert_eq!(ready(&mut second).unwrap(), ready(&mut third).unwrap());
        drop((second, third));
        assert_eq!((vendor.asked(), provisioning.turns().len()), (2, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_who_gives_up_leaves_the_turn_and_nothing_else() {
        let (_directory, vault) = vault();
        let (provisioning, vendor) = (Provisioning::new(Provisions::new(&vault)), Vendor::default());
        let (_answer, mut at_work) = vendor.call(&provisioning);
        let (answer, mut waits) = vendor.call(&provisioning);
        let (_unused, mut gives_up) = vendor.call(&provisioning);
        assert!(is_waiting(&mut at_work) && is_waiting(&mut waits) && is_waiting(&mut gives_up));
        drop(gives_up);
        drop(at_work);
        assert!(is_waiting(&mut waits));
        assert_eq!((vendor.asked(), provisioning.turns().len()), (2, 1));
        answer.send(Ok("agent_01".to_owned())).unwrap();
        assert!(ready(&mut waits).is_ok());
        drop(waits);
        assert_eq!(provisioning.turns().len(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_do_not_wait_for_each_other() {
        let (_directory, vault) = vault();
        let (provisioning, vendor) = (Provisioning::new(Provisions::new(&vault)), Vendor::default());
        let (_answer, mut slow) = vendor.call(&provisioning);
        assert!(is_waiting(&mut slow));
        let make = async || Ok::<_, Refused>("agent_02".to_owned());
        let mut other = pin!(provisioning.get_or_make([8; 32], AgentId::fresh(), make));
        assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_provision_that_was_found_gone_is_forgotten() {
        let (_directory, vault) = vault();
        let (provisioning, vendor) = (Provisioning::new(Provisions::new(&vault)), Vendor::default());
        let make = async |value: &str| {
            let make = async || Ok::<_, Refused>(value.to_owned());
            provisioning.get_or_make(KEY, AgentId::fresh(), make).await.unwrap()
        };
        let gone = make("agent_01").await;
        // Two sessions find it gone; the first makes another one before the second forgets it.
        provisioning.forget(KEY, &gone).await.unwrap();
        let anew = make("agent_02").await;
        provisioning.forget(KEY, &gone).await.unwrap();
        assert_eq!(make("agent_03").await, anew);
        // Also one of the same value: it was made since.
        provisioning.forget(KEY, &anew).await.unwrap();
        let same = make("agent_02").await;
        provisioning.forget(KEY, &anew).await.unwrap();
        assert_eq!(make("agent_03").await, same);
        // And while another one is being made, the removal waits and then finds it.
        provisioning.forget(KEY, &same).await.unwrap();
        let (answer, mut making) = vendor.call(&provisioning);
        assert!(is_waiting(&mut making));
        let mut forgets: Boxed<'_, _> = Box::pin(provisioning.forget(KEY, &same));
        assert!(is_waiting(&mut forgets));
        answer.send(Ok("agent_04".to_owned())).unwrap();
        let made = ready(&mut making).unwrap();
        ready(&mut forgets).unwrap();
        assert_eq!(make("agent_05").await, made);
    }
}
