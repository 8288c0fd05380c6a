//! How readers follow a log: they pull pages behind a cursor, from memory where it reaches and from the file elsewhere.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Channel, Head, Limit, ReadError, Shared, lock,
    record::{Batch, End, Event},
    table,
};
use crate::blocking::blocking;

/// A place in a session's log, and the way on from it.
pub struct Reader {
    channel: Arc<Channel>,
    shared: Arc<Shared>,
    head: watch::Receiver<Head>,
    after: u64,
    /// The last batch that was read to its end.
    behind: Option<End>,
    /// True where the session was found damaged: nothing is to be read for going on with it.
    refuses: bool,
}

/// Some events in a row.
#[derive(Default)]
pub struct Page {
    batches: Vec<Batch>,
    after: u64,
    end: u64,
}

impl Page {
    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let wanted = self.after + 1..=self.end;
        self.batches.iter().flat_map(Batch::events).filter(move |event| wanted.contains(&event.seq))
    }

    /// True when nothing is behind the cursor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end <= self.after
    }
}

impl Reader {
    pub(super) fn new(channel: Arc<Channel>, shared: Arc<Shared>, after: u64) -> Self {
        let head = channel.head.subscribe();
        Self { channel, shared, head, after, behind: None, refuses: false }
    }

    /// The same for who goes on with a session, which may have been found damaged.
    pub(super) fn refusing(mut self, refuses: bool) -> Self {
        self.refuses = refuses;
        self
    }

    /// How far the log goes now.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// The seq of the event before the next one.
    #[must_use]
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// What is stored of the index of the session's events: the segments from number `from` on, which have no gap.
    ///
    /// # Errors
    /// When one cannot be read, or is missing.
    pub fn segments(&self, from: u64, limit: Limit) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let session = self.channel.session;
        if self.refuses {
            return Err(self.damaged());
        }
        let found = table::segments(&self.shared, session, table::Run::From(from), limit)?;
        if found.iter().zip(from..).any(|((number, _), expected)| *number != expected) {
            return Err(ReadError::Damaged { session });
        }
        Ok(found)
    }

    /// What a reader says who cannot use what it was given.
    #[must_use]
    pub fn damaged(&self) -> ReadError {
        ReadError::Damaged { session: self.channel.session }
    }

    /// Moves behind the event `after`.
    pub const fn seek(&mut self, after: u64) {
        self.after = after;
    }

    /// Takes the next events, at most `events_max` of them and none behind the one that reaches `bytes_max`, and moves
    /// behind them. Empty when the cursor is at the head. Blocks where the file has to be read: see [`Self::pull`].
    ///
    /// # Errors
    /// When the log cannot be read; the cursor stays.
    pub fn next_page(&mut self, events_max: u64, bytes_max: usize) -> Result<Page, ReadError> {
        if self.refuses {
            return Err(self.damaged());
        }
        let Some(head) = self.behind() else { return Ok(Page::default()) };
        let batches = match self.at_hand(bytes_max) {
            Ok(batches) => batches,
            Err(memory_from) => {
                let span = (self.after, memory_from);
                table::batches(&self.shared, self.channel.session, &self.channel.key, span, bytes_max)?
            }
        };
        self.take(batches, head, events_max, bytes_max)
    }

    /// The same for asynchronous callers: the file is read on a thread that may block.
    ///
    /// # Errors
    /// As [`Self::next_page`].
    pub async fn pull(&mut self, events_max: u64, bytes_max: usize) -> Result<Page, ReadError> {
        let Some(head) = self.behind() else { return Ok(Page::default()) };
        let batches = match self.at_hand(bytes_max) {
            Ok(batches) => batches,
            Err(memory_from) => {
                let (shared, channel) = (Arc::clone(&self.shared), Arc::clone(&self.channel));
                let turn = Arc::clone(&shared.reads).acquire_owned().await;
                let span = (self.after, memory_from);
                let read = move || {
                    let batches = table::batches(&shared, channel.session, &channel.key, span, bytes_max);
                    drop(turn);
                    batches
                };
                blocking(read).await?
            }
        };
        self.take(batches, head, events_max, bytes_max)
    }

    /// How far the log goes, where that is behind the cursor and there is a log.
    fn behind(&mut self) -> Option<u64> {
        let Head { seq, deleted, .. } = *self.head.borrow_and_update();
        (self.after < seq && !deleted).then_some(seq)
    }

    /// Moves behind a page of these batches.
    fn take(&mut self, batches: Vec<Batch>, head: u64, events_max: u64, bytes_max: usize) -> Result<Page, ReadError> {
        let (Some(first), Some(last)) = (batches.first().map(Batch::first), batches.last().map(Batch::last)) else {
            return self.missing();
        };
        if first > self.after + 1 {
            return self.missing();
        }
        let joins = |end: &End, batch: &Batch| end.seq + 1 != batch.first() || batch.follows(end);
        if let (Some(end), Some(batch)) = (&self.behind, batches.first())
            && !joins(end, batch)
        {
            return Err(self.damaged());
        }
        let end = full(&batches, self.after, last.min(head).min(self.after.saturating_add(events_max)), bytes_max);
        self.keep_opened(&batches, end);
        self.behind = batches.iter().rev().find(|batch| batch.last() <= end).map(Batch::end).or(self.behind);
        let page = Page { batches, after: self.after, end };
        self.after = end;
        Ok(page)
    }

    /// Keeps the batch that goes on behind a page, unless it is in memory anyway.
    fn keep_opened(&self, batches: &[Batch], end: u64) {
        let Some(batch) = batches.iter().find(|batch| batch.last() > end) else { return };
        if lock(&self.channel.tail).batches.front().is_some_and(|oldest| oldest.first() <= batch.first()) {
            return;
        }
        let mut opened = lock(&self.shared.opened);
        // Whoever deletes says so before he forgets what is here.
        if !self.head.borrow().deleted {
            opened.put(self.channel.session, batch.clone());
        }
    }

    /// Events that the log had are not there: the session was deleted a moment ago, or the file is damaged.
    fn missing(&self) -> Result<Page, ReadError> {
        let known = table::session(&self.shared, self.channel.session)?;
        known.map_or(Ok(Page::default()), |_| Err(ReadError::Damaged { session: self.channel.session }))
    }

    /// Batches behind the cursor that are in memory, or the seq from which it has them.
    fn at_hand(&self, bytes_max: usize) -> Result<Vec<Batch>, u64> {
        let tail = lock(&self.channel.tail);
        let memory_from = tail.batches.front().map_or(u64::MAX, Batch::first);
        if memory_from > self.after + 1 {
            drop(tail);
            let opened = lock(&self.shared.opened).take(self.channel.session, self.after + 1);
            return opened.map(|batch| vec![batch]).ok_or(memory_from);
        }
        let start = tail.batches.partition_point(|batch| batch.last() <= self.after);
        let mut bytes = 0;
        let fits = |batch: &&Batch| {
            let fits = bytes < bytes_max;
            bytes += batch.text_bytes();
            fits
        };
        Ok(tail.batches.range(start..).take_while(fits).cloned().collect())
    }

    /// Waits until there is something behind the cursor, or the head says something new.
    pub async fn changed(&mut self) -> Head {
        if self.head.borrow().seq <= self.after {
            // The sender lives in the channel, which this reader holds.
            drop(self.head.changed().await);
        }
        *self.head.borrow_and_update()
    }
}

/// The event that fills a page: the one that reaches `bytes_max`, or `end`. Batches hold as much as came together, so that
/// a page of whole ones would be as large as the upstream likes.
fn full(batches: &[Batch], after: u64, end: u64, bytes_max: usize) -> u64 {
    let mut bytes = 0;
    let mut wanted = batches.iter().flat_map(Batch::events).filter(|event| (after + 1..=end).contains(&event.seq));
    let reaching = wanted.find(|event| {
        bytes += event.kind.len() + event.json.len();
        bytes >= bytes_max
    });
    reaching.map_or(end, |event| event.seq)
}
