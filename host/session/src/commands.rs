//! What clients want of a session: prompts, interrupts, inputs and changes, its end, its removal.

use std::time::Duration;

use lap_model::contract::ErrorKind;

use crate::{
    Moment, UpstreamEnd,
    backoff::Backoff,
    connection::MISSING_WAIT,
    ending::EndOfSession,
    event::{self, Arrived, Forwarded, Reason, RetryStatus},
    failure::{Cause, Failure, Verdict},
    interface::{Action, Call, Done, Prompt, QueueLimit, Reply, Ticket},
    machine::{Calling, Doubt, HELD_UP, Machine, Sending, WITH_CREDENTIAL},
    state::{Input, Phase, Refused, Stop},
};

/// The inputs that answer what a turn waits for.
const ANSWERS: [&str; 3] = ["user.tool_confirmation", "user.custom_tool_result", "user.tool_result"];

/// How many inputs, and how many wishes to end the session, may wait.
const WAITING_MAX: usize = 64;

/// For how long a feed that was just cut is waited for before an input is refused.
const FEED_WAIT: Duration = Duration::from_secs(1);

/// By when a turn that was to be stopped has ended, or the host ends it.
const STOP_MAX: Duration = Duration::from_mins(1);

/// When the history is looked into for the end of a turn that was to be stopped.
const STOP_LOOKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// Tries to end a session upstream while it still winds down, before it is removed.
const CLOSE_TRIES: u32 = 6;
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// Something for the runtime, a change of what is said of the session, or both.
#[derive(Debug)]
pub(crate) struct GuestInput {
    pub(crate) ticket: Ticket,
    /// What the runtime is given.
    pub(crate) json: Option<String>,
    /// True when it answers what a turn waits for.
    answers: bool,
    amends: bool,
    /// The event that tells others of the change.
    event: Option<String>,
    at_rest: bool,
}

impl GuestInput {
    pub(crate) fn given(ticket: Ticket, json: String) -> Self {
        let answers = ANSWERS.iter().any(|kind| event::head(&json).is_ok_and(|head| head.kind == *kind));
        Self { ticket, json: Some(json), answers, amends: false, event: None, at_rest: false }
    }

    pub(crate) const fn amendment(ticket: Ticket, json: Option<String>, event: Option<String>, at_rest: bool) -> Self {
        Self { ticket, json, answers: false, amends: true, event, at_rest }
    }
}

/// How it goes with stopping a turn.
#[derive(Debug)]
pub(crate) struct StopClock {
    pub(crate) since: Moment,
    /// True once clients were told that it takes long.
    told: bool,
    backoff: Backoff,
    looks: usize,
    /// Why the upstream did not take it the last time.
    why: Option<String>,
    /// True once the upstream has said that it has no such session.
    missing: bool,
}

impl StopClock {
    fn beginning(now: Moment) -> Self {
        Self { since: now, told: false, backoff: Backoff::default(), looks: 0, why: None, missing: false }
    }

    /// The upstream did not take it, and another try may come at once.
    pub(crate) fn refused(&mut self, why: &str) {
        self.why = Some(why.to_owned());
        self.try_again();
    }

    /// The next try may succeed.
    pub(crate) fn try_again(&mut self) {
        self.backoff.reset();
    }

    /// When the next try comes, at the earliest.
    pub(crate) const fn next_try(&self) -> Moment {
        self.backoff.until()
    }

    /// When something is to be done for it: what is due next, and by when there is a word about it.
    pub(crate) fn due(&self, stop: Stop) -> [Moment; 2] {
        let told = if self.told { STOP_MAX } else { HELD_UP };
        let next = match stop {
            Stop::None | Stop::Wanted => self.backoff.until(),
            Stop::Sent => self.since + STOP_LOOKS.get(self.looks).copied().unwrap_or(STOP_MAX),
        };
        [next, self.since + told]
    }
}

/// The removal of a session, while it is ended upstream.
#[derive(Debug)]
pub(crate) struct Deleting {
    tickets: Vec<Ticket>,
    pub(crate) since: Moment,
    pub(crate) until: Moment,
    tries: u32,
    /// Once nothing stands in the way of the removal: why the session may go on upstream, if it may.
    closed: Option<Option<String>>,
}

impl Machine {
    pub(crate) fn take_prompt(&mut self, ticket: Ticket, prompt: Prompt) {
        let size = prompt.json.len();
        let QueueLimit { prompts, bytes } = self.queue_limit;
        let full = self.queue.len() >= prompts || (!self.queue.is_empty() && self.queue_bytes + size > bytes);
        let taken = match self.state().apply(Input::Prompt) {
            Err(refused) => Err(Reply::Refused(refused)),
            // It may be gone in a moment, and with it what was acknowledged.
            Ok(_) if self.deleting.is_some() => Err(Reply::Busy),
            Ok(_) if self.archived => Err(Reply::Refused(Refused::Archived)),
            Ok(_) if self.state().is_gone(self.credential) => Err(Reply::Refused(Refused::Gone)),
            Ok(_) if full => Err(Reply::QueueFull),
            Ok(_) => Ok(()),
        };
        match taken {
            Err(reply) => self.reply(ticket, reply),
            Ok(()) => {
                let number = self.state().prompts();
                self.decide(Input::Prompt);
                self.show_waiting(&prompt);
                self.queue_bytes += size;
                self.queue.push_back(prompt);
                self.journal.next().prompts.push((ticket, number));
                self.journal.reply(ticket, Reply::Taken(number));
            }
        }
    }

    /// A prompt stands in the log from when it is taken; the upstream's event of it follows under the same id.
    fn show_waiting(&mut self, prompt: &Prompt) {
        #[cfg(test)]
        if self.mutant == Some(crate::simulation::Mutant::TakenSilently) {
            return;
        }
        self.push_prompt(&prompt.json, &event::waiting(&prompt.json, &prompt.id));
    }

    /// What is sent to the upstream for it follows; that it is wanted is durable and in the log before it is answered.
    pub(crate) fn interrupt(&mut self, ticket: Ticket) {
        // What is durable to be sent and was not sent yet need not be.
        let unsent = self.to_send == Some(Sending::Prompt);
        if unsent {
            self.to_send = None;
            self.not_arrived(Arrived::No);
        }
        self.withdraw_answers();
        let told = self.state().stop() == Stop::Wanted;
        self.decide(Input::Interrupt);
        let stops = self.state().stop() == Stop::Wanted;
        let id = self.own_id();
        if stops && (told || self.ingest.has_interrupts_enough()) {
            // The wish stands in the log and is on its way: another one says nothing new.
            self.stop.get_or_insert_with(|| StopClock::beginning(self.now.at)).try_again();
            self.withdraw_queue(Reason::Interrupted);
        } else if stops {
            self.push_own(event::INTERRUPT, &event::interrupt(&id, true));
            self.ingest.interrupts(id);
            self.stop.get_or_insert_with(|| StopClock::beginning(self.now.at)).try_again();
            self.withdraw_queue(Reason::Interrupted);
        } else if !self.queue.is_empty() {
            self.push_own(event::INTERRUPT, &event::interrupt(&id, false));
            self.withdraw_queue(Reason::Interrupted);
            self.push_idle("end_turn");
        }
        self.reply_durably(ticket, Reply::Done);
    }

    /// What the turn waits for is not given to it any more, where that was not sent yet.
    fn withdraw_answers(&mut self) {
        if self.to_send == Some(Sending::Input) {
            self.to_send = None;
        }
        let under_way = usize::from(self.call == Some(Calling::Input));
        let waiting: Vec<_> = self.inputs.drain(under_way.min(self.inputs.len())..).collect();
        for input in waiting {
            if !input.answers {
                self.inputs.push_back(input);
                continue;
            }
            if under_way == 0 {
                self.decide(Input::NotAnswered);
            }
            self.reply_durably(input.ticket, Reply::Withdrawn);
        }
    }

    /// Answers once what was decided is durable; at once when nothing was.
    pub(crate) fn reply_durably(&mut self, ticket: Ticket, reply: Reply) {
        if self.journal.is_clean() && !self.changed() {
            self.reply(ticket, reply);
        } else {
            self.journal.reply(ticket, reply);
        }
    }

    /// Does what is to be done to stop the turn.
    pub(crate) fn go_on_stopping(&mut self) -> bool {
        let stop = self.state().stop();
        if stop == Stop::None {
            self.stop = None;
            return false;
        }
        let now = self.now.at;
        let clock = self.stop.get_or_insert_with(|| StopClock::beginning(now));
        if now >= clock.since + STOP_MAX {
            let message = match (&clock.why, stop) {
                (Some(why), Stop::Wanted) => {
                    format!("the turn could not be stopped upstream within a minute, and may go on there: {why}")
                }
                _ => "the upstream was told to stop the turn and has not ended it within a minute".to_owned(),
            };
            self.fail(&Failure::of(ErrorKind::Upstream, message), Input::Fail);
            return true;
        }
        if self.tell_of_stop() {
            return true;
        }
        let in_doubt = self.state().in_doubt().is_some();
        let Some(clock) = &mut self.stop else { return false };
        match stop {
            // It does not overtake a prompt of which it is not known whether it has arrived.
            Stop::Wanted if in_doubt && now < clock.since + HELD_UP => false,
            Stop::Wanted if clock.backoff.is_due(now) => {
                self.ingest.interrupts_sent(Forwarded::Unknown);
                self.call(Calling::Interrupt, Call::SendInterrupt)
            }
            Stop::Sent if STOP_LOOKS.get(clock.looks).is_some_and(|after| now >= clock.since + *after) => {
                clock.looks += 1;
                if self.connection.is_ready() && self.connection.looking().is_none() {
                    self.connection.look(self.now.at);
                }
                true
            }
            _ => false,
        }
    }

    /// Says that it takes long to stop the turn, and why, whatever call is under way.
    pub(crate) fn tell_of_stop(&mut self) -> bool {
        let (now, stop) = (self.now.at, self.state().stop());
        let waits = |clock: &&mut StopClock| stop != Stop::None && !clock.told && now >= clock.since + HELD_UP;
        let Some(clock) = self.stop.as_mut().filter(waits) else { return false };
        clock.told = true;
        let message = match (&clock.why, stop) {
            (Some(why), Stop::Wanted) => {
                format!("the turn is to be stopped, and the upstream does not take it: {why}")
            }
            (None, Stop::Wanted) => "the turn is to be stopped, and the upstream has not answered yet".to_owned(),
            _ => "the upstream has taken that the turn is to be stopped, and has not ended it yet".to_owned(),
        };
        self.push_error(&Failure::of(ErrorKind::Upstream, message), RetryStatus::Retrying);
        true
    }

    pub(crate) fn interrupt_sent(&mut self, result: Result<Done, Failure>) {
        let failure = match result {
            Ok(Done::Outcome { outcome, frames }) => {
                self.ingest.interrupts_sent(Forwarded::Yes);
                self.decide(Input::Stopped);
                self.take(outcome, &frames, Calling::Interrupt);
                return;
            }
            Ok(_) => return,
            Err(failure) => failure,
        };
        let chance = self.connection.chance();
        // It is asked once more, as for a feed.
        let missing = failure.cause == Cause::Declared(ErrorKind::NotFound) && self.is_gone(&failure);
        let asked_before =
            missing && self.stop.as_mut().is_none_or(|clock| std::mem::replace(&mut clock.missing, true));
        // A guest that breaks off may have another try, too: until a minute is over.
        if failure.verdict() == Verdict::Final && failure.cause != Cause::Fault && (!missing || asked_before) {
            self.ingest.interrupts_sent(Forwarded::No);
            return self.not_stopped(&failure);
        }
        if let Some(clock) = &mut self.stop {
            let retry_after = if missing { Some(MISSING_WAIT) } else { failure.retry_after };
            clock.backoff.wait(self.now.at, retry_after, chance);
            clock.why = Some(failure.message);
        }
    }

    /// The upstream does not take the wish to stop the turn, and never will.
    fn not_stopped(&mut self, failure: &Failure) {
        if self.is_gone(failure) {
            return self.gone(failure, Arrived::Unknown);
        }
        self.decide(Input::NotStopped);
        if self.state().settled() {
            // It waits for the client, who wants no more of it: nothing else ends the wait.
            return self.fail(failure, Input::Fail);
        }
        let message = format!("the turn could not be stopped, and goes on: {}", failure.message);
        self.push_error(&Failure { message, ..failure.clone() }, RetryStatus::Retrying);
        // It may be over there already.
        self.connection.look_for_prompt(self.now.at);
    }

    pub(crate) fn take_input(&mut self, input: GuestInput) {
        let over = matches!(self.state().phase(), Phase::Ending | Phase::Terminated);
        let refused = match &input.json {
            Some(_) if over => Some(Reply::Refused(Refused::Terminated)),
            _ if self.deleting.is_some() => Some(Reply::Busy),
            Some(_) if self.archived => Some(Reply::Refused(Refused::Archived)),
            Some(_) if self.state().is_gone(self.credential) => Some(Reply::Refused(Refused::Gone)),
            _ if input.at_rest && !self.state().settled() => Some(Reply::Running),
            _ if self.inputs.len() >= WAITING_MAX => Some(Reply::Busy),
            _ => None,
        };
        match refused {
            Some(reply) => self.reply(input.ticket, reply),
            None => self.inputs.push_back(input),
        }
        self.amend_what_waits_for_nothing();
    }

    /// Changes of what is said of a session need no upstream; they wait for those before them only.
    fn amend_what_waits_for_nothing(&mut self) {
        while self.inputs.front().is_some_and(|input| input.json.is_none()) {
            if let Some(input) = self.inputs.pop_front() {
                self.amend(input);
            }
        }
    }

    fn amend(&mut self, input: GuestInput) {
        let GuestInput { ticket, event, at_rest, .. } = input;
        if at_rest && !self.state().settled() {
            return self.reply(ticket, Reply::Running);
        }
        self.actions.push(Action::Amend(ticket));
        self.amending.push_back((ticket, event));
    }

    /// The driver has made a change, or has found that it cannot be meant any more.
    pub(crate) fn amended(&mut self, made: bool) {
        let Some((ticket, event)) = self.amending.pop_front() else { return };
        if !made {
            return self.reply(ticket, Reply::Done);
        }
        self.journal.next().record = true;
        // The last event of a session that is over says so.
        if let Some(json) = event.filter(|_| self.state().phase() != Phase::Terminated)
            && let Ok(head) = event::head(&json)
        {
            let line = event::with_id(&event::with_time(&json, &self.now_text()), &self.own_id());
            self.push_own(&head.kind, &line);
        }
        self.journal.reply(ticket, Reply::Done);
    }

    /// Gives the runtime what waits for it. The feed is open before that, so that what comes of it is not missed.
    pub(crate) fn give_input(&mut self) -> bool {
        let Some(input) = self.inputs.front() else { return false };
        if !self.connection.is_ready() {
            let retry_in = self.connection.retry_at().saturating_sub(self.now.at);
            let waits = !self.connection.is_open() && retry_in > FEED_WAIT;
            if waits {
                self.unreachable();
            }
            return waits;
        }
        if input.answers {
            self.decide(Input::Answer);
        }
        self.to_send = Some(Sending::Input);
        true
    }

    /// Nothing can be sent just now.
    pub(crate) fn unreachable(&mut self) {
        self.refuse_to_send(&self.no_way());
    }

    /// Answers those that wait to give the runtime something.
    pub(crate) fn refuse_to_send(&mut self, reply: &Reply) {
        let waiting = std::mem::take(&mut self.inputs);
        for input in waiting {
            if input.json.is_some() {
                self.reply(input.ticket, reply.clone());
            } else {
                self.inputs.push_back(input);
            }
        }
        self.amend_what_waits_for_nothing();
    }

    pub(crate) fn input_sent(&mut self, result: Result<Done, Failure>) {
        let Some(input) = self.inputs.pop_front() else { return };
        match result {
            Ok(Done::Outcome { outcome, frames }) => {
                // Where it answers nothing, the prompt on its way is no less in doubt.
                if self.state().is_answering() {
                    self.decide(Input::Taken);
                }
                self.take(outcome, &frames, Calling::Input);
                if input.amends {
                    self.amend(GuestInput { at_rest: false, ..input });
                } else {
                    self.reply_durably(input.ticket, Reply::Done);
                }
            }
            Ok(_) => {}
            Err(failure) => {
                if input.answers {
                    self.not_answered(failure.leaves_doubt());
                }
                if failure.cause == Cause::Declared(ErrorKind::Gone) {
                    self.gone(&failure, Arrived::Unknown);
                }
                self.reply_durably(input.ticket, Reply::Failed(failure));
            }
        }
        self.amend_what_waits_for_nothing();
    }

    /// An answer was not taken, as far as is known; where it may have been, it is looked for first.
    fn not_answered(&mut self, in_doubt: bool) {
        if in_doubt && self.state().is_answering() {
            self.connection.look_for_prompt(self.now.at);
        } else {
            self.decide(Input::NotAnswered);
        }
    }

    /// Something that could not wait has ended the call that gave an input.
    pub(crate) fn input_overtaken(&mut self) {
        let Some(input) = self.inputs.pop_front() else { return };
        if input.answers {
            self.not_answered(true);
        }
        self.reply_durably(input.ticket, Reply::Overtaken);
        self.amend_what_waits_for_nothing();
    }

    /// Ends the session for good. That it shall end is durable before anything is done upstream, so that it is gone on with
    /// after a crash. Of one that has ended it is looked again what has become of it upstream.
    pub(crate) fn kill(&mut self, ticket: Ticket) {
        if self.kills.len() >= WAITING_MAX {
            return self.reply(ticket, Reply::Busy);
        }
        if self.kills.is_empty() {
            self.ends_since = self.now.at;
        }
        self.kills.push(ticket);
        if !matches!(self.state().phase(), Phase::Ending | Phase::Terminated) {
            let arrived = if self.to_send == Some(Sending::Prompt) { Arrived::No } else { Arrived::Unknown };
            self.withdraw_current(Reason::Killed, arrived);
            self.withdraw_queue(Reason::Killed);
            self.decide(Input::Kill);
            self.forget_current();
            self.close();
        }
        let (named, now) = (self.named, self.now.at);
        self.ending.get_or_insert_with(|| EndOfSession::beginning(named, now));
        self.reply_durably(ticket, Reply::Done);
    }

    pub(crate) fn refuse_inputs(&mut self) {
        // The one that is under way is answered by what comes of it.
        let under_way = usize::from(self.call == Some(Calling::Input));
        let rest: Vec<_> = self.inputs.drain(under_way.min(self.inputs.len())..).collect();
        for input in rest {
            self.reply(input.ticket, Reply::Refused(Refused::Terminated));
        }
    }

    /// It is known what there is to know of the session's end upstream.
    pub(crate) fn over(&mut self, end: &UpstreamEnd) {
        self.ending = None;
        if self.state().is_ending() {
            let json = event::status_terminated(&self.own_id(), &self.now_text(), end);
            self.push_own(event::TERMINATED, &json);
            self.decide(Input::Terminated);
        }
        self.actions.push(Action::Ended(end.clone()));
        for ticket in std::mem::take(&mut self.kills) {
            self.reply_durably(ticket, Reply::Over(end.clone()));
        }
    }

    pub(crate) fn delete(&mut self, ticket: Ticket, version: Option<u64>) {
        if version.is_some_and(|version| version != self.kept.version) {
            return self.reply(ticket, Reply::Changed);
        }
        let now = self.now.at;
        let beginning = || Deleting { tickets: Vec::new(), since: now, until: now, tries: 0, closed: None };
        let deleting = self.deleting.get_or_insert_with(beginning);
        if deleting.tickets.len() >= WAITING_MAX {
            return self.reply(ticket, Reply::Busy);
        }
        deleting.tickets.push(ticket);
    }

    pub(crate) fn go_on_deleting(&mut self) -> bool {
        match &self.deleting {
            Some(Deleting { closed: Some(_), .. }) => self.remove(),
            Some(deleting) if self.now.at >= deleting.until => self.call(Calling::Deleting, Call::Close),
            _ => false,
        }
    }

    /// Removes the session, once everybody else is answered.
    fn remove(&mut self) -> bool {
        let Some(Deleting { tickets, closed: Some(unended), .. }) = self.deleting.take() else { return false };
        self.refuse_inputs();
        let detail = unended.clone().unwrap_or_else(|| "the session was deleted".to_owned());
        for ticket in std::mem::take(&mut self.kills) {
            self.reply(ticket, Reply::Over(UpstreamEnd::unknown(detail.clone())));
        }
        self.removed = true;
        self.actions.push(Action::CloseFeed);
        self.actions.push(Action::Remove { tickets, unended });
        true
    }

    /// One that is gone upstream, that cannot be ended there, or to which there is no way any more, is removed here all the
    /// same; what may go on there is kept in mind.
    pub(crate) fn delete_step(&mut self, result: Result<(), Failure>) {
        let Some(mut deleting) = self.deleting.take() else { return };
        let unended = match result {
            Ok(()) => None,
            Err(failure) => match failure.cause {
                Cause::Declared(ErrorKind::NotFound | ErrorKind::Gone | ErrorKind::Unsupported) => None,
                // It winds down after the interrupt.
                Cause::Declared(ErrorKind::Conflict) if deleting.tries < CLOSE_TRIES => {
                    deleting.until = self.now.at + CLOSE_WAIT * 2_u32.pow(deleting.tries);
                    deleting.tries += 1;
                    self.deleting = Some(deleting);
                    return;
                }
                Cause::Declared(ErrorKind::Auth | ErrorKind::Quota) | Cause::NoCredential | Cause::NoUpstream => {
                    Some(failure.message)
                }
                _ => {
                    for ticket in deleting.tickets {
                        self.reply(ticket, Reply::Failed(failure.clone()));
                    }
                    return;
                }
            },
        };
        deleting.closed = Some(unended);
        self.deleting = Some(deleting);
    }

    pub(crate) fn prompt_sent(&mut self, result: Result<Done, Failure>) {
        let failure = match result {
            Ok(Done::Outcome { outcome, frames }) => {
                self.sending.reset();
                self.found();
                self.decide(Input::Taken);
                self.take(outcome, &frames, Calling::Prompt);
                return;
            }
            Ok(_) => return,
            Err(failure) => failure,
        };
        // A client has ended the session since.
        if self.state().in_doubt().is_none() {
            return;
        }
        let (now, chance) = (self.now.at, self.connection.chance());
        let arrived =
            if failure.leaves_doubt() || failure.cause == Cause::Fault { Arrived::Unknown } else { Arrived::No };
        let verdict = failure.verdict();
        if matches!(verdict, Verdict::Again | Verdict::AgainWithCredential) && self.sending.is_exhausted(now) {
            return self.fail_with(&failure, Input::Fail, arrived);
        }
        if failure.leaves_doubt() {
            self.sending.wait(now, failure.retry_after, chance);
            self.connection.look_for_prompt(now);
            // Another process is to wait as long, too.
            let waits = failure.retry_after.is_some();
            if waits {
                self.lost_to_send(&failure);
            }
            self.doubt = Some(Doubt { failure, waits });
            return;
        }
        match verdict {
            Verdict::Again => self.sending.wait(now, failure.retry_after, chance),
            Verdict::AgainWithCredential => self.sending.wait(now, Some(WITH_CREDENTIAL), chance),
            Verdict::AgainWithRoom => self.sending.wait_for_room(now, failure.retry_after, chance),
            Verdict::Final if failure.cause == Cause::Declared(ErrorKind::Gone) => return self.gone(&failure, arrived),
            // Something that the prompt names may be what is missing.
            Verdict::Final if self.is_gone(&failure) && self.connection.is_ready() => {
                self.missing = Some(failure);
                return self.connection.look(now);
            }
            Verdict::Final if self.is_gone(&failure) && self.state().sends_first() => {
                return self.gone(&failure, arrived);
            }
            Verdict::Final => return self.fail_with(&failure, Input::Fail, arrived),
        }
        self.not_arrived(Arrived::No);
        self.lost_to_send(&failure);
    }

    /// True when the upstream says that it has no such session, of a request that names nothing else.
    pub(crate) fn is_gone(&self, failure: &Failure) -> bool {
        failure.cause == Cause::Declared(ErrorKind::Gone) || (self.named && failure.says_gone())
    }

    pub(crate) fn gone(&mut self, failure: &Failure, arrived: Arrived) {
        if let Some(version) = self.credential {
            self.decide(Input::Gone(version));
        }
        let message = format!("the upstream has no such session any more: {}", failure.message);
        let failure = Failure { message, cause: Cause::Declared(ErrorKind::Gone), retry_after: None };
        self.fail_with(&failure, Input::Fail, arrived);
    }
}
