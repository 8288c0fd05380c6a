//! What is on its way to an upstream and must not be done twice: the host waits for it before it ends, and begins nothing new.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// How many there are.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    under_way: usize,
    closed: bool,
}

/// All of a host.
#[derive(Clone, Default)]
pub(super) struct Sends(Arc<watch::Sender<Count>>);

/// One of them, from before its request until what came of it is durable.
pub(super) struct Sending(Sends);

impl Sends {
    /// Begins one; nothing while the host ends.
    pub(super) fn begin(&self) -> Option<Sending> {
        let mut begun = false;
        self.0.send_if_modified(|count| {
            begun = !count.closed;
            count.under_way += usize::from(begun);
            false
        });
        begun.then(|| Sending(self.clone()))
    }

    /// Lets nothing new begin, and waits for those under way, so long at the most. How many are under way still.
    pub(super) async fn close(&self, patience: Duration) -> usize {
        self.0.send_modify(|count| count.closed = true);
        let mut counts = self.0.subscribe();
        let none = timeout(patience, counts.wait_for(|count| count.under_way == 0)).await;
        if none.is_ok() { 0 } else { self.0.borrow().under_way }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.under_way -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_waited_for_and_nothing_new_begins() {
        let sends = Sends::default();
        let (first, second) = (sends.begin(), sends.begin());
        assert!(first.is_some() && second.is_some());
        drop(first);
        assert_eq!(sends.close(Duration::from_secs(8)).await, 1);
        assert!(sends.begin().is_none());
        let (left, ()) = tokio::join!(sends.close(Duration::from_secs(8)), async { drop(second) });
        assert_eq!(left, 0);
    }
}
