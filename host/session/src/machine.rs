//! What happens to a session, what is to be done, and in which order.
//!
//! There is at most one call of the guest under way and at most one commit; what was decided is durable before a call that
//! depends on it begins. Clients are heard at any time: what they want is durable and answered whatever call is under way.

use std::{collections::VecDeque, time::Duration};

use lap_model::contract::{Ending, ErrorKind};

use crate::{
    Moment,
    backoff::Backoff,
    commands::{Deleting, GuestInput, StopClock},
    connection::{Connection, End},
    ending::{self, EndOfSession},
    event::{Arrived, Forwarded, OwnIds},
    failure::{Cause, Failure, Verdict, Waiting},
    history::Page,
    index::Segment,
    ingest::{Echo, Ingest, Sought},
    interface::{Action, Call, Done, Event, Kept, Now, Opened, Prompt, QueueLimit, Reply, Start, Ticket},
    journal::{Commit, Journal},
    state::{Input, State, Stop},
};

/// For how long the next prompt waits for the turn of one that nobody wants, which would be taken for its own.
const HAUNT_MAX: Duration = Duration::from_secs(1);

/// How long a session stays connected after its turn: a conversation's next prompt then finds everything ready.
const LINGER: Duration = Duration::from_secs(30);

/// When nothing has come of a turn for so long, the upstream's history is looked into; again after as long.
const QUIET: Duration = Duration::from_mins(3);

/// When nothing has come of a turn for so long, whatever the upstream's history says, the turn is given up.
const QUIET_MAX: Duration = Duration::from_hours(1);

/// Feeds in a row that a guest may ask for without an event or a new state. They come half a minute apart in the end.
pub(crate) const RELISTENS_MAX: u32 = 6;

/// How long a call may go on that holds up what a client wants at once.
pub(crate) const HELD_UP: Duration = Duration::from_secs(10);

/// The call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calling {
    Connect,
    CatchUp,
    OnFrames,
    OnEnd,
    Prompt,
    Input,
    Interrupt,
    /// To end the session: its own steps.
    Ending,
    /// To delete it.
    Deleting,
    Recall,
}

/// What was made durable to be sent, and is sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    Prompt,
    Input,
}

/// Everything that decides about a session.
pub struct Machine {
    pub(crate) now: Now,
    pub(crate) kept: Kept,
    /// The state that the log has, or will have with the commit under way.
    stored: State,
    pub(crate) next_seq: u64,
    pub(crate) archived: bool,
    pub(crate) named: bool,
    pub(crate) credential: Option<u64>,
    pub(crate) queue: VecDeque<Prompt>,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_limit: QueueLimit,
    pub(crate) current: Option<Prompt>,
    /// What the upstream's event of the current prompt looks like.
    pub(crate) sought: Option<Sought>,
    /// Why it is not known whether it has arrived.
    pub(crate) doubt: Option<Doubt>,
    /// What the upstream has said of a prompt: that something is not there. The history tells whether that is the session.
    pub(crate) missing: Option<Failure>,
    /// Why the upstream was not reached last, or did not take what was sent.
    hindrance: Option<Failure>,
    pub(crate) ingest: Ingest,
    pub(crate) journal: Journal,
    pub(crate) connection: Connection,
    pub(crate) sending: Backoff,
    pub(crate) call: Option<Calling>,
    /// When it began.
    call_since: Moment,
    /// True when what the call under way is made with is out of date: its feed is opened again.
    stale: bool,
    pub(crate) to_send: Option<Sending>,
    pub(crate) inputs: VecDeque<GuestInput>,
    /// Why there is no feed, where that is a matter of the credential.
    barred: Option<Failure>,
    /// Changes that the driver is making: nothing is decided until it has said whether it could.
    pub(crate) amending: VecDeque<(Ticket, Option<String>)>,
    pub(crate) stop: Option<StopClock>,
    /// True while a turn is to be stopped since before this process, and the wish for that has not been read from the log yet.
    stops_unread: bool,
    pub(crate) kills: Vec<Ticket>,
    pub(crate) ending: Option<EndOfSession>,
    /// Since when a call holds up the end of the session.
    pub(crate) ends_since: Moment,
    pub(crate) deleting: Option<Deleting>,
    pub(crate) relistens: u32,
    /// Until when the turn of a prompt that nobody wants is waited for before another prompt is sent behind it.
    haunted_until: Moment,
    /// When an event came last, and when the history was last looked into because none did.
    pub(crate) news: Moment,
    quiet_look: Moment,
    /// When something was decided last that matters for how long to stay.
    touched: Moment,
    /// True when others want its room since then.
    gives_way: bool,
    /// True once nothing follows any more.
    pub(crate) removed: bool,
    pub(crate) actions: Vec<Action>,
    /// A rule that a simulation breaks on purpose.
    #[cfg(test)]
    pub(crate) mutant: Option<crate::simulation::Mutant>,
}

/// A prompt that was not taken, as far as the answer says, and may have arrived all the same.
pub(crate) struct Doubt {
    pub(crate) failure: Failure,
    /// True once it was looked for and not found, while it is too early to send it again.
    pub(crate) waits: bool,
}

impl Machine {
    /// For a session as its record says.
    #[must_use]
    pub fn new(start: Start, unix_ms: u64) -> Self {
        let Start {
            session,
            kept,
            next_seq,
            queue,
            queue_limit,
            current,
            archived,
            named,
            credential,
            fresh,
            seed,
            secret,
        } = start;
        let queue_bytes = queue.iter().map(|prompt| prompt.json.len()).sum();
        let sought = current.as_ref().and_then(|prompt| Sought::new(&prompt.id, &prompt.json));
        let (mut sending, mut doubt) = (Backoff::default(), None);
        let in_doubt = kept.state.in_doubt().is_some();
        if let Some(waiting) = kept.waiting.as_ref().filter(|waiting| in_doubt || waiting.to_send) {
            sending.goes_on(Duration::from_millis(waiting.next_try_ms.saturating_sub(unix_ms)));
            let failure = Failure::of(ErrorKind::Overloaded, waiting.reason.clone());
            doubt = in_doubt.then_some(Doubt { failure, waits: true });
        }
        let (stored, stops_unread) = (kept.state, kept.state.stop() != Stop::None);
        Self {
            now: Now { at: Moment::ZERO, unix_ms },
            kept,
            stored,
            next_seq,
            archived,
            named,
            credential,
            queue: queue.into(),
            queue_bytes,
            queue_limit,
            current,
            sought,
            doubt,
            missing: None,
            hindrance: None,
            ingest: Ingest::new(OwnIds::of(&session), secret, fresh.then_some(next_seq - 1)),
            journal: Journal::default(),
            connection: Connection::new(fresh, seed),
            sending,
            call: None,
            call_since: Moment::ZERO,
            stale: false,
            to_send: None,
            inputs: VecDeque::new(),
            barred: None,
            amending: VecDeque::new(),
            stop: None,
            stops_unread,
            kills: Vec::new(),
            ending: None,
            ends_since: Moment::ZERO,
            deleting: None,
            relistens: 0,
            haunted_until: Moment::ZERO,
            news: Moment::ZERO,
            quiet_look: Moment::ZERO,
            touched: Moment::ZERO,
            gives_way: false,
            removed: false,
            actions: Vec::new(),
            #[cfg(test)]
            mutant: None,
        }
    }

    /// What is stored of a session that is made with these prompts, which fit into its queue: its record, and its first
    /// commit.
    #[must_use]
    pub fn begin(start: Start, prompts: Vec<Prompt>, unix_ms: u64) -> (Kept, Commit) {
        let mut machine = Self::new(start, unix_ms);
        machine.journal.next().record = true;
        for (ticket, prompt) in (0..).map(Ticket).zip(prompts) {
            machine.take_prompt(ticket, prompt);
        }
        let commit = machine.next_commit().unwrap_or_default();
        (machine.kept, commit)
    }

    /// What is stored with the session's record.
    #[must_use]
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The guest's own state: what each call is made with.
    #[must_use]
    pub fn guest(&self) -> &str {
        &self.kept.guest
    }

    /// True when the session takes no more prompts because it was put away; for a driver that changes it.
    pub const fn set_archived(&mut self, archived: bool) {
        self.archived = archived;
    }

    /// Something has happened. What is to be done for it, in this order.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Action> {
        self.now = now;
        let before = self.kept.state;
        match event {
            Event::Prompt { ticket, prompt } => self.take_prompt(ticket, prompt),
            Event::Interrupt { ticket } => self.interrupt(ticket),
            Event::Input { ticket, json } => self.take_input(GuestInput::given(ticket, json)),
            Event::Amend { ticket, input, event, at_rest } => {
                self.take_input(GuestInput::amendment(ticket, input, event, at_rest));
            }
            Event::Kill { ticket } => self.kill(ticket),
            Event::Delete { ticket, version } => self.delete(ticket, version),
            Event::Committed => {
                for (ticket, reply) in self.journal.committed() {
                    self.reply(ticket, reply);
                }
            }
            Event::Done(done) => self.done(done),
            Event::Frames(frames) => {
                if frames.is_empty() {
                    self.connection.empty(now.at);
                }
                self.connection.came(frames);
                self.end_flood();
            }
            Event::FeedEnded(ending) => self.connection.ended(now.at, ending),
            Event::FeedRefused(failure) => self.connection.refused(failure),
            Event::Credential(version) => self.credential_changed(version),
            Event::Amended { made } => self.amended(made),
            Event::GiveWay => self.gives_way = self.is_at_rest(),
            Event::RecordChanged => self.journal.next().record = true,
            Event::Time => {}
        }
        self.end_doubt();
        self.advance();
        if self.kept.state != before {
            (self.touched, self.gives_way) = (now.at, false);
        }
        std::mem::take(&mut self.actions)
    }

    /// Tells of a segment of the log's index, in order from the first, while [`Call::Recall`] is under way.
    pub fn recall_segment(&mut self, segment: &Segment) {
        self.ingest.recall_segment(segment);
    }

    /// The index cannot be read: the log is, from its first event, and another index is made of that.
    pub fn recall_without_index(&mut self) {
        self.ingest.forget();
    }

    /// Behind which event the log is to be read, once all segments of its index are told.
    #[must_use]
    pub fn recalls_after(&self) -> u64 {
        let (state, stored) = (self.state(), self.ingest.index.stored());
        // What the upstream has said of a prompt that is in doubt, or of a wish to stop, is in the events themselves.
        let looks_closer = state.in_doubt().is_some() || state.stop() != Stop::None || self.stops_unread;
        if looks_closer { stored.min(state.sent_after()) } else { stored }
    }

    /// Tells of an event of the log, in order behind [`Self::recalls_after`], while [`Call::Recall`] is under way.
    pub fn recall(&mut self, seq: u64, json: &str) {
        let sought = if seq > self.kept.state.sent_after() { self.sought.as_mut() } else { None };
        let echo = self.ingest.recall(seq, json, sought);
        self.heard(echo);
        if matches!(echo, Echo::Begun | Echo::ArrivedAndBegun) {
            self.close_prompt();
        }
    }

    fn recalled(&mut self) {
        self.ingest.index.end_recall(self.next_seq - 1);
        self.ingest.recalled(self.queue.iter().chain(&self.current).map(|prompt| &*prompt.id));
        let was_unread = std::mem::take(&mut self.stops_unread);
        match self.state().stop() {
            Stop::Wanted | Stop::Sent => {}
            // A client has ended the session while the log was read.
            Stop::None if was_unread => self.tell_of_interrupts(),
            Stop::None => self.ingest.forget_interrupts(),
        }
    }

    /// When the machine is to be told of [`Event::Time`], if nothing happens before.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        if self.removed {
            return None;
        }
        let now = self.now.at;
        let mut due = Vec::with_capacity(8);
        if let Some(call) = self.call {
            due.extend(self.abandons_at(call));
        }
        if let Some(ending) = &self.ending {
            due.push(ending.until);
        }
        due.extend(self.deleting.as_ref().map(|deleting| deleting.until));
        let stop = self.stop.as_ref().filter(|_| self.kept.state.stop() != Stop::None);
        due.extend(stop.into_iter().flat_map(|stop| stop.due(self.kept.state.stop())));
        due.extend(self.connection.resumes_reading(now));
        if self.ending.is_none() && self.deleting.is_none() {
            due.extend(self.connection.planned());
            if self.needs_feed() {
                due.push(self.connection.retry_at());
            }
            if self.kept.state.sendable().is_some() || self.doubt.is_some() {
                due.extend([self.sending.until(), self.haunted_until]);
            }
            if self.kept.state.in_turn() {
                due.extend([self.quiet_at(), self.news + QUIET_MAX]);
            }
            if self.is_at_rest() {
                due.push(self.leaves_at());
            }
        }
        // What is past waits for something else: a call or a commit.
        due.into_iter().filter(|at| *at > now).min()
    }

    fn quiet_at(&self) -> Moment {
        self.news.max(self.quiet_look) + QUIET
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.actions.push(Action::Reply(ticket, reply));
    }

    /// Lets the state decide.
    pub(crate) fn decide(&mut self, input: Input) {
        // Only wishes are refused, and those are asked about before.
        let next = self.kept.state.apply(input).unwrap_or(self.kept.state);
        if next.stop() == Stop::None && self.kept.state.stop() != Stop::None {
            self.tell_of_interrupts();
        }
        if next.is_haunted() && !self.kept.state.is_haunted() {
            self.haunted_until = self.now.at + HAUNT_MAX;
        }
        self.kept.state = next;
    }

    /// What is said to whoever wants something of the upstream while there is no way to it.
    pub(crate) fn no_way(&self) -> Reply {
        self.barred.clone().map_or(Reply::Unreachable, Reply::Failed)
    }

    pub(crate) const fn state(&self) -> State {
        self.kept.state
    }

    pub(crate) const fn stored_state(&self) -> State {
        self.stored
    }

    /// Does what is due, until something has to be waited for.
    fn advance(&mut self) {
        // A change and what tells of it are one commit.
        if !self.amending.is_empty() {
            return;
        }
        #[cfg(test)]
        let mut steps = 0;
        loop {
            #[cfg(test)]
            {
                steps += 1;
                assert!(steps < 1000, "the machine goes round in circles: {:?}", self.kept.state);
            }
            self.flush();
            if self.removed || !self.step() {
                break;
            }
        }
        if !self.removed && self.connection.reads_on(self.now.at) {
            self.actions.push(Action::Read);
        }
    }

    fn flush(&mut self) {
        if let Some(commit) = self.next_commit() {
            self.actions.push(Action::Commit(commit));
        }
    }

    /// Begins the next commit, if there is something to make durable.
    fn next_commit(&mut self) -> Option<Commit> {
        if self.kept.state != self.stored {
            self.journal.next().record = true;
        }
        let settled = self.kept.state.settled();
        if settled && self.kept.waiting.take().is_some() {
            self.journal.next().record = true;
        }
        let segments = self.ingest.index.take(self.ingest.seen.secret());
        #[cfg(test)]
        let segments = crate::simulation::mutated(segments, self.mutant);
        if !segments.is_empty() {
            self.journal.next().segments.extend(segments);
        }
        let mut commit = self.journal.begin()?;
        commit.settled = settled;
        if commit.record {
            self.kept.version += 1;
        }
        self.stored = self.kept.state;
        Some(commit)
    }

    pub(crate) fn call(&mut self, calling: Calling, call: Call) -> bool {
        self.call = Some(calling);
        self.call_since = self.now.at;
        self.stale = false;
        self.actions.push(Action::Call(call));
        true
    }

    /// Decides one thing. False when there is nothing to decide until something happens.
    fn step(&mut self) -> bool {
        if let Some(call) = self.call {
            let overdue = self.abandons_at(call).is_some_and(|at| self.now.at >= at);
            if overdue {
                self.actions.push(Action::Abandon);
                self.call = None;
                self.abandoned(call);
            }
            return overdue || self.tell_of_stop();
        }
        #[cfg(test)]
        let hasty = self.mutant == Some(crate::simulation::Mutant::Hasty);
        #[cfg(not(test))]
        let hasty = false;
        if !self.journal.is_clean() && !hasty {
            return false;
        }
        if self.deleting.is_some() {
            return self.go_on_deleting();
        }
        // The upstream's word of a wish to stop is recognised, and the host's own said, under the id that the wish has.
        if self.stops_unread {
            return self.recall_log();
        }
        if let Some(sending) = self.to_send.take() {
            return self.send(sending);
        }
        if self.state().is_ending() && self.ending.is_none() {
            self.ending = Some(EndOfSession::beginning(self.named, self.now.at));
        }
        if self.ending.is_some() {
            return self.go_on_ending();
        }
        self.go_on_stopping()
            || self.give_input()
            || self.look_on()
            || self.map()
            || self.tell_ending()
            || self.look_again()
            || self.connect()
            || self.tell_of_wait()
            || self.settle_doubts()
            || self.send_prompt()
            || self.give_up_quiet_turn()
            || self.leave()
    }

    /// Whether anybody needs the feed.
    fn needs_feed(&self) -> bool {
        let first = self.state().sends_first() && self.state().sendable().is_some();
        let unread = self.connection.is_unread() && self.is_at_rest();
        !self.inputs.is_empty() || unread || (!self.state().settled() && !first)
    }

    fn look_on(&mut self) -> bool {
        if self.connection.looking().is_none() {
            return false;
        }
        if !self.ingest.seen.knows_all() {
            return self.recall_log();
        }
        let cursor = self.connection.looking().and_then(|looking| looking.cursor.clone());
        self.call(Calling::CatchUp, Call::CatchUp(cursor))
    }

    fn map(&mut self) -> bool {
        match self.connection.next_batch() {
            Some(frames) => self.call(Calling::OnFrames, Call::OnFrames(frames)),
            None => false,
        }
    }

    /// Tells the guest how its feed has ended; or draws the conclusion, where there is no other feed.
    fn tell_ending(&mut self) -> bool {
        match self.connection.next_ending() {
            None => false,
            Some(End::Told(ending)) => self.call(Calling::OnEnd, Call::OnEnd(ending)),
            Some(End::Refused(failure)) => {
                self.not_connected(&failure);
                true
            }
            Some(End::Hopeless(_)) if self.is_at_rest() => {
                self.connection.failed();
                true
            }
            Some(End::Hopeless(reason)) => {
                self.fail(&Failure::of(ErrorKind::Upstream, reason), Input::Fail);
                true
            }
        }
    }

    /// Looks into the history as it was planned, or because nothing has come of a turn for long.
    fn look_again(&mut self) -> bool {
        let planned = self.connection.planned().is_some_and(|at| self.now.at >= at);
        let quiet = self.state().in_turn() && self.connection.is_ready() && self.now.at >= self.quiet_at();
        if quiet {
            self.quiet_look = self.now.at;
        }
        if planned || quiet {
            self.connection.look(self.now.at);
        }
        planned || quiet
    }

    fn connect(&mut self) -> bool {
        if !self.needs_feed() || !self.connection.may_connect(self.now.at) {
            return false;
        }
        if self.connection.is_behind() && !self.ingest.seen.knows_all() {
            return self.recall_log();
        }
        self.call(Calling::Connect, Call::Connect)
    }

    /// Says what a new prompt waits for, where that is what another one waited for before it was withdrawn.
    fn tell_of_wait(&mut self) -> bool {
        let now = self.now.at;
        if self.state().is_cut() || self.state().sendable().is_none() {
            return false;
        }
        let ready = self.connection.is_ready() || self.state().sends_first();
        let until = if ready { self.sending.until() } else { self.connection.retry_at() };
        let Some(failure) = self.hindrance.clone().filter(|_| until > now) else { return false };
        self.lost(&failure, until);
        true
    }

    fn recall_log(&mut self) -> bool {
        self.ingest.forget();
        self.call(Calling::Recall, Call::Recall)
    }

    /// What was sent and was not found wherever it was looked for has not arrived.
    fn settle_doubts(&mut self) -> bool {
        #[cfg(test)]
        let looks_on = self.connection.looks_on() && self.mutant != Some(crate::simulation::Mutant::NoLook);
        #[cfg(not(test))]
        let looks_on = self.connection.looks_on();
        if !self.connection.is_ready() || looks_on {
            return false;
        }
        if self.state().in_doubt().is_some() {
            if let Some(goes_on) = self.stays_in_doubt() {
                return goes_on;
            }
            self.doubt = None;
            self.not_arrived(Arrived::Unknown);
            return true;
        }
        if self.state().is_answering() {
            self.decide(Input::NotAnswered);
            return true;
        }
        false
    }

    /// A prompt that is to be sent again later is in doubt until then: it may turn up, and is looked for once more just before.
    /// Nothing where that is over; otherwise whether something was decided.
    fn stays_in_doubt(&mut self) -> Option<bool> {
        let doubt = self.doubt.as_mut().filter(|_| self.kept.state.wanted())?;
        let waits = !self.sending.is_due(self.now.at);
        if waits && !doubt.waits {
            doubt.waits = true;
            let failure = doubt.failure.clone();
            self.lost_to_send(&failure);
            return Some(true);
        }
        if !waits && std::mem::take(&mut doubt.waits) {
            self.connection.look(self.now.at);
            return Some(true);
        }
        waits.then_some(false)
    }

    /// It is known what became of a prompt that was in doubt.
    fn end_doubt(&mut self) {
        if self.doubt.is_some() && self.state().in_doubt().is_none() {
            self.doubt = None;
            self.found();
        }
    }

    fn send_prompt(&mut self) -> bool {
        let ready = self.connection.is_ready() || self.state().sends_first();
        let haunted = self.state().is_haunted() && self.now.at < self.haunted_until;
        if self.state().sendable().is_none() || !ready || haunted || !self.sending.is_due(self.now.at) {
            return false;
        }
        let Some(prompt) = self.queue.pop_front() else { return false };
        self.queue_bytes -= prompt.json.len();
        self.decide(Input::Send(self.next_seq - 1));
        self.news = self.now.at;
        self.sought = Sought::new(&prompt.id, &prompt.json);
        (self.doubt, self.missing) = (None, None);
        self.current = Some(prompt);
        self.to_send = Some(Sending::Prompt);
        true
    }

    /// Sends what was made durable to be sent, unless nobody wants it any more.
    fn send(&mut self, sending: Sending) -> bool {
        match sending {
            Sending::Prompt if self.state().in_doubt().is_none() => true,
            Sending::Prompt if !self.state().wanted() => {
                self.not_arrived(Arrived::No);
                true
            }
            Sending::Prompt => {
                let json = self.current.as_ref().map_or_else(String::new, |prompt| prompt.json.clone());
                self.call(Calling::Prompt, Call::SendPrompt(json))
            }
            Sending::Input => match self.inputs.front().and_then(|input| input.json.clone()) {
                Some(json) => self.call(Calling::Input, Call::SendInput(json)),
                None => true,
            },
        }
    }

    fn give_up_quiet_turn(&mut self) -> bool {
        let quiet = self.state().in_turn() && self.connection.is_open() && self.now.at >= self.news + QUIET_MAX;
        if quiet {
            let message =
                "the upstream has said nothing of the turn for an hour, neither on its feed nor in its history";
            self.fail(&Failure::of(ErrorKind::Upstream, message), Input::Fail);
        }
        quiet
    }

    /// From when on a session that is at rest stays no longer: a prompt that follows soon finds its feed open.
    fn leaves_at(&self) -> Moment {
        if self.gives_way { self.touched } else { self.touched + LINGER }
    }

    /// True when nothing is to be done.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.state().settled() && self.inputs.is_empty() && self.ending.is_none() && self.deleting.is_none()
    }

    fn leave(&mut self) -> bool {
        if self.is_at_rest()
            && !self.connection.looks_on()
            && !self.connection.is_unread()
            && self.now.at >= self.leaves_at()
        {
            self.actions.push(Action::Leave);
        }
        false
    }

    /// The call under way has ended.
    fn done(&mut self, done: Result<Done, Failure>) {
        let Some(call) = self.call.take() else { return };
        match (call, done) {
            (Calling::CatchUp, done) if self.missing.is_some() => self.verified(done),
            (call, Err(failure)) if self.stale && failure.is_of_credential() && self.asks_again(call, &failure) => {}
            (Calling::Connect, Ok(Done::Connected(opened))) => self.connected(opened),
            (Calling::CatchUp, Ok(Done::Page(page))) => self.paged(page),
            (Calling::Connect | Calling::CatchUp, Err(failure)) => self.not_connected(&failure),
            (Calling::Recall, Err(failure)) => {
                self.stops_unread = false;
                self.ingest.seen.forget();
                self.not_connected(&failure);
            }
            (Calling::Recall, Ok(_)) => self.recalled(),
            (Calling::OnFrames | Calling::OnEnd, Ok(Done::Outcome { outcome, frames })) => {
                let grown = self.take(outcome, &frames, call);
                if call == Calling::OnFrames && !grown {
                    let took = self.now.at.saturating_sub(self.call_since);
                    self.connection.barren(self.now.at, frames.len(), took);
                    self.end_flood();
                }
            }
            (Calling::OnFrames | Calling::OnEnd, Err(failure)) => self.not_mapped(&failure),
            (Calling::Prompt, result) => self.prompt_sent(result),
            (Calling::Input, result) => self.input_sent(result),
            (Calling::Interrupt, result) => self.interrupt_sent(result),
            (Calling::Ending, result) => self.end_step(result),
            (Calling::Deleting, result) => self.delete_step(result.map(|_| ())),
            // What a driver should not answer changes nothing.
            (_, Ok(_)) => {}
        }
    }

    /// Gives up a feed that says nothing at full speed, as one that has fallen silent.
    fn end_flood(&mut self) {
        if self.connection.is_flooded(self.now.at) {
            self.actions.push(Action::CloseFeed);
            self.connection.ended(self.now.at, Ending::Silent);
        }
    }

    fn connected(&mut self, opened: Opened) {
        self.barred = None;
        self.connection.opened(self.now.at, opened.odd);
        if self.stale {
            return self.reopen();
        }
        if self.connection.is_ready() {
            self.found();
        }
    }

    fn paged(&mut self, page: Page) {
        if self.stale {
            return self.reopen();
        }
        if self.connection.is_looking_for_too_long(self.now.at) {
            let message = "the upstream's history had no end within a quarter of an hour";
            return self.fail(&Failure::of(ErrorKind::Upstream, message), Input::Fail);
        }
        match self.connection.take_page(page, &self.ingest.seen) {
            Ok(true) => {
                self.connection.looked(self.now.at);
                self.found();
                if !self.connection.looks_on() {
                    self.ingest.seen.bound();
                }
            }
            Ok(false) => {}
            Err(failure) => self.not_connected(&failure),
        }
    }

    /// The upstream can be reached.
    pub(crate) fn found(&mut self) {
        // A feed says nothing of a prompt that is not taken yet.
        let waits = self.state().sendable().is_some() || self.doubt.as_ref().is_some_and(|doubt| doubt.waits);
        if waits && !self.sending.is_due(self.now.at) {
            return;
        }
        self.hindrance = None;
        if self.state().is_cut() || self.state().sends_first() {
            self.decide(Input::Found);
        }
        if self.kept.waiting.take().is_some() {
            self.journal.next().record = true;
        }
    }

    /// What is to be asked for again is asked for with what is stored now.
    fn reopen(&mut self) {
        self.actions.push(Action::CloseFeed);
        self.connection.drop_feed();
        self.connection.start_anew();
    }

    /// The history was looked into because a prompt was refused as if the session were not there.
    fn verified(&mut self, history: Result<Done, Failure>) {
        let Some(missing) = self.missing.take().filter(|_| self.state().in_doubt().is_some()) else { return };
        match history {
            Err(failure) if self.is_gone(&failure) => {
                self.connection.look_given_up();
                self.gone(&failure, Arrived::No);
            }
            // That says nothing of the session: its history is asked once more when the upstream can be reached.
            Err(failure) if failure.verdict() != Verdict::Final => {
                self.missing = Some(missing);
                self.not_connected(&failure);
            }
            _ => {
                self.connection.look_given_up();
                self.fail_with(&missing, Input::Fail, Arrived::No);
            }
        }
    }

    /// What the upstream has said of a credential that was replaced meanwhile says nothing of the one that is stored now. True
    /// when the same is asked once more.
    fn asks_again(&mut self, call: Calling, failure: &Failure) -> bool {
        match call {
            Calling::Connect | Calling::CatchUp => self.reopen(),
            Calling::Prompt if self.state().in_doubt().is_some() => self.not_arrived(Arrived::No),
            Calling::Input if !self.inputs.is_empty() => self.to_send = Some(Sending::Input),
            Calling::Interrupt => {
                self.ingest.interrupts_sent(Forwarded::No);
                if let Some(stop) = &mut self.stop {
                    stop.refused(&failure.message);
                }
            }
            _ => return false,
        }
        true
    }

    fn credential_changed(&mut self, version: Option<u64>) {
        if std::mem::replace(&mut self.credential, version) == version {
            return;
        }
        (self.stale, self.barred) = (true, None);
        // It was said under the other one, and the prompt may be sent under this.
        if self.missing.take().is_some() && self.state().in_doubt().is_some() {
            self.not_arrived(Arrived::No);
        }
        // What a prompt in doubt waits for is no matter of the credential.
        if self.doubt.is_none() {
            self.sending.reset();
        }
        if self.connection.is_open() {
            self.reopen();
        } else {
            self.connection.start_anew();
        }
        if let Some(stop) = &mut self.stop {
            stop.try_again();
        }
    }

    /// The feed could not be opened, or the history not be read.
    pub(crate) fn not_connected(&mut self, failure: &Failure) {
        self.actions.push(Action::CloseFeed);
        let was_open = self.connection.is_ready();
        if was_open && failure.verdict() != Verdict::Final {
            // A look has failed while the feed was there: what it brought is mapped, and then it is opened anew.
            self.connection.closed(self.now.at);
            return;
        }
        self.connection.drop_feed();
        if self.is_at_rest() {
            // Nobody waits for it: the next prompt fetches what is missing.
            self.connection.leave_unread();
        }
        self.barred = Some(failure.clone()).filter(|_| failure.verdict() == Verdict::AgainWithCredential);
        self.unreachable();
        let missing = failure.cause == Cause::Declared(ErrorKind::NotFound) && self.state().in_turn();
        if missing && self.connection.is_asked_again(self.now.at) {
            return self.lost(failure, self.connection.retry_at());
        }
        match failure.verdict() {
            Verdict::Again if !self.connection.is_exhausted(self.now.at) => {
                self.connection.wait(self.now.at, failure.retry_after);
                self.lost(failure, self.connection.retry_at());
            }
            Verdict::AgainWithCredential if !self.connection.is_exhausted(self.now.at) => {
                self.connection.wait(self.now.at, Some(WITH_CREDENTIAL));
                self.lost(failure, self.connection.retry_at());
            }
            Verdict::AgainWithRoom => {
                self.connection.wait_for_room(self.now.at, failure.retry_after);
                self.lost(failure, self.connection.retry_at());
            }
            Verdict::Again | Verdict::AgainWithCredential => self.fail(failure, Input::Fail),
            // Nobody waits for it: the next prompt finds out.
            Verdict::Final if self.is_at_rest() => {
                if matches!(failure.cause, Cause::Declared(_)) {
                    self.decide(Input::Refused);
                }
            }
            Verdict::Final if !matches!(failure.cause, Cause::Declared(_)) => self.fail(failure, Input::Fail),
            Verdict::Final => self.fail(failure, Input::Refused),
        }
    }

    /// What the guest was to map is fetched again when it may be.
    fn not_mapped(&mut self, failure: &Failure) {
        match failure.cause {
            // A guest that is made anew needs a credential, whatever it is to do.
            Cause::Quarantined | Cause::NoRoom | Cause::NoCredential => self.not_connected_anew(failure),
            _ => self.give_up(failure),
        }
    }

    /// The guest cannot go on. At rest nobody waits for it, and the next prompt begins with a new feed.
    pub(crate) fn give_up(&mut self, failure: &Failure) {
        if !self.is_at_rest() {
            return self.fail(failure, Input::Fail);
        }
        self.actions.push(Action::Note(format!("what came behind a turn is left: {}", failure.message)));
        self.actions.push(Action::CloseFeed);
        self.connection.failed();
    }

    fn not_connected_anew(&mut self, failure: &Failure) {
        self.connection.drop_feed();
        self.not_connected(failure);
    }

    /// The session waits for its upstream, until this moment.
    pub(crate) fn lost(&mut self, failure: &Failure, until: Moment) {
        if self.state().settled() || self.state().is_ending() {
            return;
        }
        self.decide(Input::Lost);
        self.hindrance = Some(failure.clone());
        let wait_ms = u64::try_from(until.saturating_sub(self.now.at).as_millis()).unwrap_or(u64::MAX);
        let next_try_ms = self.now.unix_ms.saturating_add(wait_ms);
        self.kept.waiting = Some(Waiting { reason: failure.message.clone(), next_try_ms, to_send: false });
        self.journal.next().record = true;
    }

    /// The upstream does not take a prompt now, which is sent again when this moment comes, also by another process.
    pub(crate) fn lost_to_send(&mut self, failure: &Failure) {
        self.lost(failure, self.sending.until());
        if let Some(waiting) = &mut self.kept.waiting {
            waiting.to_send = true;
        }
    }

    /// When a call is given up that holds up what a client wants at once; never for the others.
    fn abandons_at(&self, call: Calling) -> Option<Moment> {
        let deleting = self.deleting.as_ref().map(|deleting| deleting.since);
        let ending = self.kills.first().map(|_| self.ends_since).filter(|_| self.ending.is_some());
        let stop = self.stop.as_ref().filter(|_| self.state().stop() == Stop::Wanted);
        let stopping = stop.map(|stop| stop.since);
        let held_up = |since: Moment| since.max(self.call_since) + HELD_UP;
        match call {
            Calling::Recall => None,
            Calling::Ending => deleting.or(self.ending.as_ref().and_then(EndOfSession::deadline)),
            Calling::Deleting => ending.into_iter().chain(stopping).min().map(held_up),
            // Meanwhile nothing is mapped, so it has less time than other calls.
            Calling::Interrupt => Some(self.call_since + HELD_UP),
            // What was begun is not overtaken: it may arrive, and is stopped then.
            Calling::Prompt | Calling::Input | Calling::OnFrames | Calling::OnEnd => {
                [deleting, ending, stopping].into_iter().flatten().min().map(held_up)
            }
            Calling::Connect | Calling::CatchUp => {
                // An interrupt that the upstream does not take now lets others try until its own next try.
                // One that waits until it is known of its prompt whether it has arrived lets them find out.
                let waits = if self.state().in_doubt().is_some() { HELD_UP } else { Duration::ZERO };
                let stopping = stop.map(|stop| (stop.since + waits).max(stop.next_try()));
                [deleting, ending, stopping].into_iter().flatten().min()
            }
        }
    }

    /// A call was given up.
    fn abandoned(&mut self, call: Calling) {
        match call {
            Calling::Prompt => self.connection.look_for_prompt(self.now.at),
            Calling::Input => self.input_overtaken(),
            Calling::CatchUp if self.connection.is_ready() => self.connection.look_given_up(),
            // What it was to bring or to map is fetched again.
            Calling::Connect | Calling::CatchUp | Calling::OnFrames | Calling::OnEnd => {
                self.actions.push(Action::CloseFeed);
                self.connection.drop_feed();
            }
            Calling::Ending => {
                if let Some(ending) = &mut self.ending {
                    ending.given_up(self.now.at);
                }
            }
            Calling::Interrupt => self.interrupt_sent(Err(too_slow())),
            Calling::Deleting => self.delete_step(Err(too_slow())),
            Calling::Recall => {}
        }
    }

    /// What a turn waits for is over, or it is not known: the current prompt is the current one no more.
    pub(crate) fn forget_current(&mut self) {
        if !self.state().has_current() {
            self.current = None;
            // The upstream may show it still.
            if let Some(sought) = self.sought.take().filter(|_| !self.state().has_begun()) {
                self.ingest.later(sought);
            }
        }
    }

    fn go_on_ending(&mut self) -> bool {
        let Some(ending) = &mut self.ending else { return false };
        match ending.next(self.now.at) {
            ending::Step::Close => self.call(Calling::Ending, Call::Close),
            ending::Step::CatchUp(cursor) => self.call(Calling::Ending, Call::CatchUp(cursor)),
            ending::Step::OnFrames(frames) => self.call(Calling::Ending, Call::OnFrames(frames)),
            ending::Step::Wait => false,
            ending::Step::Over(end) => {
                self.over(&end);
                true
            }
        }
    }

    fn end_step(&mut self, result: Result<Done, Failure>) {
        let now = self.now.at;
        let Some(ending) = &mut self.ending else { return };
        match result {
            Ok(Done::Closed) => ending.closed(Ok(()), now),
            Ok(Done::Page(page)) => ending.page(Ok(page), now),
            Ok(Done::Outcome { outcome, .. }) => ending.mapped(&outcome, now),
            Ok(Done::Connected(_) | Done::Recalled) => {}
            Err(failure) => ending.failed(failure, now),
        }
    }
}

fn too_slow() -> Failure {
    let message = format!("the upstream did not answer within {} seconds", HELD_UP.as_secs());
    Failure { cause: Cause::Slow, message, retry_after: None }
}

/// How long it is waited for another credential before the refused one is tried again: it may be allowed by then.
pub(crate) const WITH_CREDENTIAL: Duration = Duration::from_mins(1);
