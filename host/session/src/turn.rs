//! What upstream and guest say of a turn, what becomes of its prompt, and how it ends.

use lap_model::{
    contract::{Body, Effect, Outcome},
    time::rfc3339_of,
};

use crate::{
    dedup::Fingerprint,
    event::{self, Arrived, Invalid, Reason, RetryStatus},
    failure::{Cause, Failure},
    ingest::{Echo, Skipped, Sought},
    interface::{Action, Reply},
    machine::{Calling, Machine, RELISTENS_MAX},
    state::{Input, Phase, Stop},
};

impl Machine {
    pub(crate) fn now_text(&self) -> String {
        rfc3339_of(self.now.unix_ms)
    }

    /// The id of an event of the host's own, for the next one.
    pub(crate) fn own_id(&self) -> String {
        self.ingest.ids.id(self.next_seq)
    }

    /// Puts an event into the log; `effect` is its runtime's word.
    fn push(&mut self, kind: &str, line: &str, effect: Option<Effect>, fingerprint: Option<Fingerprint>) {
        self.ingest.index.pushed(self.next_seq, fingerprint);
        let next = self.journal.next();
        next.draft.push(kind, line);
        next.effects.push(effect);
        self.kept.bytes += (kind.len() + line.len()) as u64;
        self.next_seq += 1;
    }

    /// Puts an event of the host's own into the log.
    pub(crate) fn push_own(&mut self, kind: &str, line: &str) {
        if let Ok(head) = event::head(line) {
            self.count(&head, line);
        }
        self.push(kind, line, None, None);
    }

    pub(crate) fn push_error(&mut self, failure: &Failure, retry: RetryStatus) {
        let json = event::session_error(&self.own_id(), &self.now_text(), failure, retry);
        self.push_own(event::ERROR, &json);
    }

    pub(crate) fn push_idle(&mut self, stop_reason: &str) {
        #[cfg(test)]
        if self.mutant == Some(crate::simulation::Mutant::NoIdle) {
            return;
        }
        let json = event::status_idle(&self.own_id(), &self.now_text(), stop_reason);
        self.push_own(event::IDLE, &json);
    }

    fn count(&mut self, head: &event::Head<'_>, json: &str) {
        let counts = matches!(&*head.kind, "span.model_request_end" | "session.usage")
            || head.kind.starts_with("session.status_");
        let now_us = i64::try_from(self.now.unix_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        if counts && self.kept.usage.add(head, json, now_us) {
            self.journal.next().record = true;
        }
    }

    /// True when something was decided that is not in a commit yet.
    pub(crate) fn changed(&self) -> bool {
        self.kept.state != self.stored_state()
    }

    /// What a call of the guest brought: events that are new, with what they do to the turn, and the guest's state, in one
    /// commit. True when there were such events.
    pub(crate) fn take(&mut self, outcome: Outcome, frames: &lap_model::contract::Frames, call: Calling) -> bool {
        let Outcome { state, events, relisten } = outcome;
        let missing = |body: &Body| matches!(body, Body::Frame(index) if frames.data(*index).is_none());
        if events.iter().any(|event| missing(&event.body)) {
            let message = "the runtime broke its contract: it names a frame that is not there".to_owned();
            self.give_up(&Failure { cause: Cause::Fault, message, retry_after: None });
            return false;
        }
        if relisten {
            self.actions.push(Action::CloseFeed);
            self.connection.closed(self.now.at);
        }
        let (before, mut lost) = (self.next_seq, None);
        for event in &events {
            let json = match &event.body {
                Body::Frame(index) => frames.data(*index).unwrap_or_default(),
                Body::Json(json) => json,
            };
            // The last event of a session is that it is over.
            if self.state().phase() == Phase::Terminated {
                break;
            }
            lost = self.admit(json, event.effect).or(lost);
        }
        let grown = self.next_seq > before;
        if grown {
            self.news = self.now.at;
            self.connection.grown();
        }
        let moved = state.as_ref().is_some_and(|state| *state != self.kept.guest);
        if let Some(state) = state {
            self.kept.guest = state;
            self.journal.next().record = true;
        }
        self.forget_current();
        if self.state().phase() == Phase::Terminated {
            self.close();
        }
        self.relistens =
            if grown || moved || call == Calling::OnEnd { 0 } else { self.relistens + u32::from(relisten) };
        if let Some(invalid) = lost {
            let message =
                format!("the upstream ended or held up the turn by an event that cannot be stored: it is {invalid}");
            self.fail(&Failure::of(lap_model::contract::ErrorKind::Upstream, message), Input::Fail);
        } else if self.relistens > RELISTENS_MAX {
            let message =
                format!("the runtime asked for its feed {RELISTENS_MAX} times without an event or a new state");
            self.give_up(&Failure { cause: Cause::Fault, message, retry_after: None });
        }
        grown
    }

    /// Puts an event that a guest reported into the log, if it is new. Says why, when the turn waits for it and readers
    /// cannot see it.
    fn admit(&mut self, json: &str, effect: Effect) -> Option<Invalid> {
        let (seq, now_ms) = (self.next_seq, self.now.unix_ms);
        let new = match self.ingest.admit(json, effect, self.sought.as_mut(), seq, now_ms) {
            Ok(new) => new,
            Err(Skipped::Known) => return None,
            Err(Skipped::Shown(echo)) => {
                self.heard(echo);
                self.actions.push(Action::Shown { seq, json: json.to_owned(), effect });
                return None;
            }
            Err(Skipped::Invalid(reason)) => {
                self.actions.push(Action::Note(format!("something that is no event is left out: {reason}")));
                let ends = matches!(effect, Effect::Waiting | Effect::Ended | Effect::Failed | Effect::Terminated);
                return ends.then_some(reason);
            }
            Err(Skipped::OwnId) => {
                self.actions.push(Action::Note("an event under an id of the host's own is left out".to_owned()));
                return None;
            }
        };
        self.heard(new.echo);
        if let Some(news @ (Input::Waits | Input::Ended | Input::Failed)) = new.input
            && self.state().heeds(news)
            && !new.closes
        {
            self.tell_of_prompt();
            if news != Input::Waits {
                self.tell_of_interrupts();
            }
        }
        if new.input == Some(Input::Terminated) {
            // Where a client has ended it, the host says so, once it has seen to it.
            if self.state().is_ending() {
                return None;
            }
            self.withdraw_current(Reason::Terminated, Arrived::Unknown);
            self.withdraw_queue(Reason::Terminated);
            self.tell_of_interrupts();
        }
        // Withdrawn prompts may stand before it now.
        if self.next_seq == seq {
            self.push(&new.kind, &new.line, Some(effect), Some(new.fingerprint));
        } else {
            let line = self.renumbered(&new.line, seq);
            self.push(&new.kind, &line, Some(effect), Some(new.fingerprint));
        }
        self.count(&new.head, json);
        let (input, omitted) = (new.input, new.omitted);
        if new.closes {
            self.close_prompt();
        }
        if let Some(input) = input {
            self.decide(input);
        }
        let reason = omitted?;
        self.actions
            .push(Action::Note(format!("an event of the upstream is left out, and a placeholder kept: {reason}")));
        if input == Some(Input::Terminated) {
            let detail = "the upstream says that the session is over for good".to_owned();
            let end = crate::UpstreamEnd { verified: true, detail, runs_on: false };
            let json = event::status_terminated(&self.own_id(), &self.now_text(), &end);
            self.push_own(event::TERMINATED, &json);
        }
        matches!(input, Some(Input::Waits | Input::Ended | Input::Failed)).then_some(reason)
    }

    /// The event with the id of its place, where it had one of another place.
    fn renumbered(&self, line: &str, seq: u64) -> String {
        let given = event::head(line).ok().and_then(|head| head.id.map(std::borrow::Cow::into_owned));
        let ids = &self.ingest.ids;
        match given {
            Some(id) if id == ids.id(seq) => event::with_id(line, &ids.id(self.next_seq)),
            Some(id) if id == ids.timed_id(seq) => event::with_id(line, &ids.timed_id(self.next_seq)),
            _ => line.to_owned(),
        }
    }

    /// The turn is over, or waits for the client: the host says that its prompt was processed, where the upstream has not shown
    /// that. What it shows later follows under the same id.
    fn tell_of_prompt(&mut self) {
        let state = self.state();
        if !state.has_current() {
            return;
        }
        let Some(prompt) = self.current.take() else { return };
        let id = self.sought.as_ref().map_or(&*prompt.id, Sought::id);
        let line = event::processed(&prompt.json, id, &self.now_text());
        self.push_prompt(&prompt.json, &line);
        if let Some(sought) = self.sought.take().filter(|_| !state.has_begun()) {
            self.ingest.later(sought);
        }
        self.decide(Input::Closed);
    }

    /// The turn that was to be stopped is over: the host says what became of each wish to stop it, where the upstream has not
    /// shown that. What it shows later follows under the same id.
    pub(crate) fn tell_of_interrupts(&mut self) {
        let at = self.now_text();
        for (id, forwarded) in self.ingest.end_interrupts() {
            self.push_own(event::INTERRUPT, &event::interrupt_over(&id, forwarded, &at));
        }
    }

    /// The log shows that the current prompt was processed.
    pub(crate) fn close_prompt(&mut self) {
        (self.current, self.sought) = (None, None);
        self.decide(Input::Closed);
    }

    /// Puts an event of a prompt's into the log.
    pub(crate) fn push_prompt(&mut self, json: &str, line: &str) {
        let kind = event::head(json).map_or_else(|_| "user.message".to_owned(), |head| head.kind.into_owned());
        self.push_own(&kind, line);
    }

    /// What an event says of the current prompt, or of one that was withdrawn.
    pub(crate) fn heard(&mut self, echo: Echo) {
        if let Echo::Stray { begun } = echo {
            #[cfg(test)]
            if self.mutant == Some(crate::simulation::Mutant::Lenient) {
                return;
            }
            // Whose prompt it is: the upstream shows them.
            self.decide(Input::Shown);
            self.decide(Input::Unwanted);
            // Unless another prompt is on its way: what the upstream says until it comes to that is not of that.
            if begun && self.state().phase() == Phase::Taken && !self.state().has_current() {
                self.decide(Input::Begun);
            }
            return;
        }
        if matches!(echo, Echo::Arrived | Echo::ArrivedAndBegun) && self.state().in_doubt().is_some() {
            self.decide(Input::Taken);
            #[cfg(test)]
            if self.mutant == Some(crate::simulation::Mutant::Lenient) && !self.state().wanted() {
                self.decide(Input::NotStopped);
            }
            self.sending.reset();
        }
        if matches!(echo, Echo::Arrived | Echo::ArrivedAndBegun) {
            self.decide(Input::Shown);
        }
        if matches!(echo, Echo::Begun | Echo::ArrivedAndBegun) {
            self.decide(Input::Begun);
        }
    }

    /// The prompt sent last has not arrived: it waits again, or is withdrawn where nobody wants it any more.
    pub(crate) fn not_arrived(&mut self, arrived: Arrived) {
        let wanted = self.state().wanted();
        self.decide(Input::NotArrived);
        if !wanted {
            self.withdraw_current(Reason::Interrupted, arrived);
            // Where another turn is still to end, the end of that ends the wait.
            if self.state().stop() == Stop::None {
                self.push_idle("end_turn");
            }
        } else if let Some(prompt) = self.current.take() {
            self.queue_bytes += prompt.json.len();
            self.queue.push_front(prompt);
        }
        (self.current, self.sought) = (None, None);
    }

    /// Shows the current prompt as one that will not be answered, unless the upstream has come to it. `arrived` is what is
    /// known of it while nothing is known from the upstream.
    pub(crate) fn withdraw_current(&mut self, reason: Reason, arrived: Arrived) {
        if self.state().has_begun() {
            return self.tell_of_prompt();
        }
        let Some(prompt) = self.current.take() else { return };
        let number = self.state().sent();
        let shown_as = self.sought.as_ref().and_then(Sought::shown_as);
        let arrived = match self.state().phase() {
            _ if shown_as.is_some() => Arrived::Yes,
            Phase::Taken | Phase::Running | Phase::Rescheduling => Arrived::Yes,
            _ => arrived,
        };
        let id = self.sought.as_ref().map_or(&*prompt.id, Sought::id);
        let line = event::withdrawn(&prompt.json, id, shown_as.filter(|theirs| !theirs.is_empty()), reason, arrived);
        self.show_withdrawn(&prompt, &line, (arrived != Arrived::Yes).then_some(number));
        // What nobody waits for and may arrive still is stopped when it does.
        let may_arrive = arrived != Arrived::No && matches!(reason, Reason::Interrupted | Reason::Failed);
        if let Some(sought) = self.sought.take().filter(|_| may_arrive) {
            self.ingest.later(sought.withdrawn());
        }
        self.decide(Input::Closed);
    }

    /// Withdraws what waits.
    pub(crate) fn withdraw_queue(&mut self, reason: Reason) {
        let first = self.state().prompts() - self.queue.len() as u64;
        let queue = std::mem::take(&mut self.queue);
        self.queue_bytes = 0;
        for (prompt, number) in queue.into_iter().zip(first..) {
            let line = event::withdrawn(&prompt.json, &prompt.id, None, reason, Arrived::No);
            self.show_withdrawn(&prompt, &line, Some(number));
        }
    }

    /// `number` is that of a message which has not arrived, as far as is known.
    fn show_withdrawn(&mut self, prompt: &crate::Prompt, line: &str, number: Option<u64>) {
        #[cfg(test)]
        if self.mutant == Some(crate::simulation::Mutant::WithdrawnSilently) {
            return;
        }
        self.push_prompt(&prompt.json, line);
        self.journal.next().withdrawn.extend(number);
    }

    /// The session is over: nothing is read, sent or given any more.
    pub(crate) fn close(&mut self) {
        self.actions.push(Action::CloseFeed);
        self.connection.drop_feed();
        self.refuse_inputs();
        (self.to_send, self.stop, self.kept.waiting) = (None, None, None);
    }

    /// Ends the turn with an error that clients see, and with the event that ends their wait. What waits is withdrawn; what a
    /// guest did not map is fetched again at the next turn.
    pub(crate) fn fail(&mut self, failure: &Failure, input: Input) {
        self.fail_with(failure, input, Arrived::Unknown);
    }

    /// As [`Self::fail`]; `arrived` is what is known of a prompt that is on its way.
    pub(crate) fn fail_with(&mut self, failure: &Failure, input: Input, arrived: Arrived) {
        if matches!(self.state().phase(), Phase::Ending | Phase::Terminated) {
            return;
        }
        if failure.cause == Cause::Fault {
            self.actions.push(Action::Note(format!("a runtime failed: {}", failure.message)));
        }
        self.push_error(failure, RetryStatus::Exhausted);
        self.actions.push(Action::CloseFeed);
        self.withdraw_current(Reason::Failed, arrived);
        self.withdraw_queue(Reason::Failed);
        if arrived == Arrived::No && self.state().in_doubt().is_some() {
            // Nothing of it goes on upstream.
            self.decide(Input::NotArrived);
        }
        self.decide(input);
        self.push_idle("retries_exhausted");
        #[cfg(test)]
        let behind = self.connection.next_batch().filter(|_| self.mutant == Some(crate::simulation::Mutant::MapsOn));
        self.connection.failed();
        #[cfg(test)]
        self.connection.put_back(behind);
        self.sending.reset();
        (self.stop, self.to_send, self.relistens) = (None, None, 0);
        (self.current, self.sought, self.kept.waiting) = (None, None, None);
        self.journal.next().record = true;
        self.refuse_to_send(&Reply::Failed(failure.clone()));
    }
}
