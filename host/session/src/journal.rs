//! What is to be made durable, in one commit after the other.

use lap_model::{contract::Effect, draft::Draft};

use crate::{
    index::Segment,
    interface::{Reply, Ticket},
};

/// One commit: all of it or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    /// Events, in order.
    pub draft: Draft,
    /// Of each of these events: what it does to the turn, by the word of its runtime; nothing for one of the host's own.
    pub effects: Vec<Option<Effect>>,
    /// True when the session's record is to be written: the machine's [`crate::Kept`], and what the driver has of it.
    pub record: bool,
    /// New prompts: who gave them, and the numbers of their messages.
    pub prompts: Vec<(Ticket, u64)>,
    /// The numbers of messages that will not be sent any more.
    pub withdrawn: Vec<u64>,
    /// Parts of the log's index.
    pub segments: Vec<Segment>,
    /// True when the session has nothing to do behind this.
    pub settled: bool,
    /// Whose wishes it fulfils: what is noted of them belongs into it.
    pub fulfilled: Vec<Ticket>,
    /// What is said of it to those who have asked, once it is durable.
    replies: Vec<(Ticket, Reply)>,
}

/// What waits for the next commit, and what the last one holds up.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    next: Commit,
    /// While a commit is under way: what is said once it is durable.
    under_way: Option<Vec<(Ticket, Reply)>>,
}

impl Journal {
    /// Adds to the next commit.
    pub(crate) const fn next(&mut self) -> &mut Commit {
        &mut self.next
    }

    /// Says this once the next commit is durable.
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.next.replies.push((ticket, reply));
    }

    /// True when nothing waits and nothing is under way.
    pub(crate) fn is_clean(&self) -> bool {
        self.under_way.is_none() && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        let Commit { draft, effects: _, record, prompts, withdrawn, segments, settled: _, fulfilled: _, replies } =
            &self.next;
        let empty = draft.is_empty() && !record && prompts.is_empty() && withdrawn.is_empty();
        empty && segments.is_empty() && replies.is_empty()
    }

    /// The next commit, when there is one and none is under way.
    pub(crate) fn begin(&mut self) -> Option<Commit> {
        if self.under_way.is_some() || self.is_empty() {
            return None;
        }
        let mut commit = std::mem::take(&mut self.next);
        let replies = std::mem::take(&mut commit.replies);
        let fulfilled = replies.iter().filter(|(_, reply)| matches!(reply, Reply::Done | Reply::Taken(_)));
        commit.fulfilled = fulfilled.map(|(ticket, _)| *ticket).collect();
        self.under_way = Some(replies);
        Some(commit)
    }

    /// The commit under way is durable: what is to be said now.
    pub(crate) fn committed(&mut self) -> Vec<(Ticket, Reply)> {
        self.under_way.take().unwrap_or_default()
    }
}
