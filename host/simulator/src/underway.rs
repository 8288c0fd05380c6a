//! Requests that are being carried out, so that a test can wait until nothing more comes of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// How many requests send events to each session just now.
#[derive(Clone, Default)]
pub(crate) struct Underway {
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    ended: watch::Sender<()>,
}

/// Counts as one of them for as long as it lives.
pub(crate) struct Begun {
    underway: Underway,
    session_id: String,
}

impl Underway {
    pub(crate) fn begin(&self, session_id: &str) -> Begun {
        *self.lock().entry(session_id.to_owned()).or_default() += 1;
        Begun { underway: self.clone(), session_id: session_id.to_owned() }
    }

    pub(crate) fn has(&self, session_id: &str) -> bool {
        self.lock().contains_key(session_id)
    }

    /// Told whenever one has ended.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut counts = self.underway.lock();
        if let Some(count) = counts.get_mut(&self.session_id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.session_id);
            }
        }
        drop(counts);
        self.underway.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_requests_until_the_last_of_them_has_ended() {
        let underway = Underway::default();
        let (first, second) = (underway.begin("a"), underway.begin("a"));
        assert!(underway.has("a") && !underway.has("b"));
        drop(second);
        assert!(underway.has("a"));
        drop(first);
        assert!(!underway.has("a"));
    }
}
