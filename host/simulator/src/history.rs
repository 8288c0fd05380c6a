//! Everything a session ever said, in order: what the list of events shows, and the truth that tests compare with.

use crate::{
    clock::Moment,
    event::{Batch, Frame},
    fault::ListLag,
};

/// A log whose entries never move. Only a queued event changes, once, when it is processed.
#[derive(Default)]
pub(crate) struct History {
    entries: Vec<Entry>,
    len: u64,
}

struct Entry {
    /// Position of the first event in it.
    first: u64,
    what: What,
}

enum What {
    /// An event; without a time it is queued.
    One(Frame, Option<Moment>),
    Many(Batch),
}

impl History {
    /// How many events there are.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Appends an event and returns its position.
    pub(crate) fn push(&mut self, frame: Frame, processed_at: Option<Moment>) -> u64 {
        self.append(What::One(frame, processed_at), 1)
    }

    pub(crate) fn push_batch(&mut self, batch: Batch) {
        let count = batch.count();
        self.append(What::Many(batch), count);
    }

    fn append(&mut self, what: What, count: u64) -> u64 {
        let first = self.len;
        self.entries.push(Entry { first, what });
        self.len += count;
        first
    }

    /// A queued event was processed.
    pub(crate) fn replace(&mut self, position: u64, frame: Frame, processed_at: Moment) {
        let index = self.index(position);
        self.entries[index].what = What::One(frame, Some(processed_at));
    }

    /// The event at a position below `len`.
    pub(crate) fn frame(&self, position: u64) -> Frame {
        let entry = &self.entries[self.index(position)];
        match &entry.what {
            What::One(frame, _) => frame.clone(),
            What::Many(batch) => batch.frame(position - entry.first),
        }
    }

    /// Its time; none while it is queued.
    pub(crate) fn processed_at(&self, position: u64) -> Option<Moment> {
        match &self.entries[self.index(position)].what {
            What::One(_, at) => *at,
            What::Many(batch) => Some(batch.at()),
        }
    }

    /// Its type.
    pub(crate) fn kind(&self, position: u64) -> &[u8] {
        match &self.entries[self.index(position)].what {
            What::One(frame, _) => frame.kind(),
            What::Many(_) => Batch::kind().as_bytes(),
        }
    }

    /// All events from the first to the last.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        (0..self.len).map(|position| self.frame(position))
    }

    /// How many events a list shows that lags behind.
    pub(crate) fn shown(&self, lag: ListLag, now: Moment) -> u64 {
        let mut shown = self.len.saturating_sub(lag.newest);
        if lag.younger_ms > 0 {
            let young = |position| self.processed_at(position).is_none_or(|at| now.ms_since(at) < lag.younger_ms);
            while shown > 0 && young(shown - 1) {
                shown -= 1;
            }
        }
        shown
    }

    fn index(&self, position: u64) -> usize {
        self.entries.partition_point(|entry| entry.first <= position) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{Event, Pattern},
        id::Ids,
        script::Repeat,
    };

    fn history() -> History {
        let ids = Ids::new();
        let mut history = History::default();
        let event = Event::Thinking {};
        history.push(Frame::new("sevt_a", event.kind(), &event, None), None);
        let pattern = Arc::new(Pattern::new(&ids, &Repeat::default()));
        history.push_batch(Batch::new(&pattern, &ids, 0, 3));
        history.push(Frame::new("sevt_b", event.kind(), &event, None), None);
        history
    }

    #[test]
    fn positions_run_through_batches() {
        let history = history();
        let kinds: Vec<_> = (0..history.len()).map(|position| history.kind(position).to_vec()).collect();
        let named = |names: [&str; 5]| names.map(|name| name.as_bytes().to_vec()).to_vec();
        let message = "agent.message";
        assert_eq!(kinds, named(["agent.thinking", message, message, message, "agent.thinking"]));
        let mut frames: Vec<_> = history.frames().map(|frame| frame.bytes().clone()).collect();
        frames.dedup();
        assert_eq!(frames.len(), 5);
    }

    #[test]
    fn a_processed_event_keeps_its_place() {
        let mut history = history();
        let now = Moment::now();
        history.replace(4, Frame::new("sevt_b", "user.message", &Event::Thinking {}, Some(now)), now);
        assert_eq!(history.kind(4), b"user.message");
        assert!(history.processed_at(4) == Some(now) && history.processed_at(0).is_none());
    }

    #[test]
    fn a_lagging_list_hides_the_newest() {
        let history = history();
        let shown = |newest, younger_ms| history.shown(ListLag { newest, younger_ms }, Moment::now());
        assert_eq!((shown(0, 0), shown(2, 0), shown(9, 0), shown(0, 60_000)), (5, 3, 0, 0));
    }
}
