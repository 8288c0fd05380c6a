//! What a driver tells the machine, and what the machine answers.

use lap_model::contract::{Effect, Ending, Frames, Outcome};

use crate::{
    Moment,
    dedup::Secret,
    ending::UpstreamEnd,
    failure::{Failure, Waiting},
    history::Page,
    journal::Commit,
    state::{Refused, State},
    usage::Usage,
};

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the machine began.
    pub at: Moment,
    /// By the wall clock, in milliseconds since the epoch: for what people see.
    pub unix_ms: u64,
}

/// Names what a client wants, until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A prompt that waits, or is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The id of its message.
    pub id: String,
    /// The event that it is: a JSON object with a `type`.
    pub json: String,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// A client gives a prompt.
    Prompt {
        /// Who.
        ticket: Ticket,
        /// What.
        prompt: Prompt,
    },
    /// A client stops the turn and withdraws what waits.
    Interrupt {
        /// Who.
        ticket: Ticket,
    },
    /// A client gives the runtime something that begins no turn: a JSON object with a `type`.
    Input {
        /// Who.
        ticket: Ticket,
        /// What.
        json: String,
    },
    /// A client changes what is said of the session. The driver has seen that the change can be meant.
    Amend {
        /// Who.
        ticket: Ticket,
        /// What the runtime is given first.
        input: Option<String>,
        /// The event that tells others.
        event: Option<String>,
        /// True when it must not be made while a turn runs.
        at_rest: bool,
    },
    /// A client ends the session for good.
    Kill {
        /// Who.
        ticket: Ticket,
    },
    /// A client ends the session upstream and removes it here; with a version, only if its record is still that one.
    Delete {
        /// Who.
        ticket: Ticket,
        /// Of the record.
        version: Option<u64>,
    },
    /// The commit under way is durable.
    Committed,
    /// The call under way has ended.
    Done(Result<Done, Failure>),
    /// The feed has brought something; an empty piece when much came of it that is no frame.
    Frames(Frames),
    /// The feed has ended by itself.
    FeedEnded(Ending),
    /// The feed goes on to be asked for and is refused.
    FeedRefused(Failure),
    /// The credential is now one of this version, or there is none.
    Credential(Option<u64>),
    /// The driver has carried out the first [`Action::Amend`] that it has not told of: the change was made, or it cannot be
    /// meant any more because of another one that was made since it was given.
    Amended {
        /// True when it was made.
        made: bool,
    },
    /// Others want the room that the session takes: where it is at rest, it stays no longer.
    GiveWay,
    /// Something of the record that the machine does not know is another now.
    RecordChanged,
    /// A moment of [`crate::Machine::due`] has come.
    Time,
}

/// What came of a call.
#[derive(Debug)]
pub enum Done {
    /// The feed is open.
    Connected(Opened),
    /// A page of the upstream's history.
    Page(Page),
    /// What the guest makes of frames, of the end of a feed, or of an input.
    Outcome {
        /// What it reports.
        outcome: Outcome,
        /// What it was called with.
        frames: Frames,
    },
    /// The session is closed upstream.
    Closed,
    /// The whole log was recalled.
    Recalled,
}

/// A feed that is open.
#[derive(Debug, Default)]
pub struct Opened {
    /// What the upstream said of it that makes it no feed, as far as is known before it brings something: for clients.
    pub odd: Option<String>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Make this durable. [`Event::Committed`] follows.
    Commit(Commit),
    /// Make this call; none is under way. [`Event::Done`] follows.
    Call(Call),
    /// Give the call under way up: the guest goes with it, and no [`Event::Done`] follows.
    Abandon,
    /// Close the feed: nothing of it is told any more.
    CloseFeed,
    /// Read the next piece of the feed. [`Event::Frames`], [`Event::FeedEnded`] or [`Event::FeedRefused`] follows, unless the
    /// feed is closed before that.
    Read,
    /// Make the change that this client wants to the record that is in memory: it goes with the next commit.
    Amend(Ticket),
    /// Answer.
    Reply(Ticket, Reply),
    /// Remove the session with all that is stored of it, and answer then; `unended` says why it may go on upstream.
    /// Nothing follows.
    Remove {
        /// Who is answered.
        tickets: Vec<Ticket>,
        /// Why it could not be ended there.
        unended: Option<String>,
    },
    /// This is known of the session's end upstream: keep in mind what may go on there, and try later.
    Ended(UpstreamEnd),
    /// The runtime reported this event of a client's, which is not stored, because it says no more than the log does.
    Shown {
        /// It would have stood before the event of this place.
        seq: u64,
        /// The event, as the runtime reported it.
        json: String,
        /// What it does to the turn, by the word of its runtime.
        effect: Effect,
    },
    /// A line for the operator's log.
    Note(String),
    /// There is nothing to do any more. The driver may go, unless somebody wants something just now.
    Leave,
}

/// A call of the guest, or something that takes as long.
#[derive(Debug)]
pub enum Call {
    /// Ask the guest for its feed and open it.
    Connect,
    /// Ask the guest what the upstream remembers.
    CatchUp(Option<String>),
    /// Let the guest map these.
    OnFrames(Frames),
    /// Tell the guest how its feed has ended.
    OnEnd(Ending),
    /// Let the guest send a prompt: an event of a client's.
    SendPrompt(String),
    /// Let the guest send what begins no turn.
    SendInput(String),
    /// Let the guest stop the turn.
    SendInterrupt,
    /// Let the guest end the session upstream.
    Close,
    /// Read the index of the log, and tell [`crate::Machine::recall_segment`] of each segment; then read the log behind the event
    /// that [`crate::Machine::recalls_after`] names, and tell [`crate::Machine::recall`] of each.
    Recall,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done, durably.
    Done,
    /// The prompt is taken, durably, as the message of this number.
    Taken(u64),
    /// The state does not allow it.
    Refused(Refused),
    /// Too much waits.
    Busy,
    /// So many prompts wait that there is no room for another.
    QueueFull,
    /// A turn runs, so it was not done.
    Running,
    /// The upstream or the guest did not take it.
    Failed(Failure),
    /// The feed cannot be followed, so nothing was sent.
    Unreachable,
    /// Something that could not wait came in between: it is not known whether it was taken.
    Overtaken,
    /// The turn was stopped before it was sent.
    Withdrawn,
    /// The session is over; this is known of its end upstream.
    Over(UpstreamEnd),
    /// The session is another than the client believes, and was not deleted.
    Changed,
}

/// The part of the machine that is stored with the session's record.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where it stands.
    pub state: State,
    /// The guest's own state.
    pub guest: String,
    /// What turns have used.
    pub usage: Usage,
    /// The size of its events' text.
    pub bytes: u64,
    /// How often the record was written.
    pub version: u64,
    /// What it waits for, while its upstream cannot be reached or does not take what is to be sent.
    pub waiting: Option<Waiting>,
}

/// What may wait for one session beside the turn that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimit {
    /// Prompts, [`QueueLimit::PROMPTS_MOST`] at the most.
    pub prompts: usize,
    /// Their size in bytes. The first one may have any.
    pub bytes: usize,
}

impl QueueLimit {
    /// As much as any session may be given.
    pub const PROMPTS_MOST: usize = 1024;
}

impl Default for QueueLimit {
    fn default() -> Self {
        Self { prompts: 64, bytes: 8 * 1024 * 1024 }
    }
}

/// What a machine begins with.
#[derive(Debug)]
pub struct Start {
    /// The session's id.
    pub session: String,
    /// Its record.
    pub kept: Kept,
    /// The place of the next event in its log.
    pub next_seq: u64,
    /// The prompts that wait.
    pub queue: Vec<Prompt>,
    /// What may wait.
    pub queue_limit: QueueLimit,
    /// The prompt that was sent last, while it is not known to be answered.
    pub current: Option<Prompt>,
    /// True when the session takes no more prompts because it was put away.
    pub archived: bool,
    /// True when the upstream has a session of its own, and not just turns.
    pub named: bool,
    /// The version of the credential, where there is one.
    pub credential: Option<u64>,
    /// True when the session was made a moment ago.
    pub fresh: bool,
    /// Decides how waits are spread.
    pub seed: u64,
    /// What fingerprints are made with, where the log has no index yet.
    pub secret: Secret,
}
