//! What happens in a scenario: what a client does, what the upstream says, and what the knobs add to it.

use lap_session::{Event, Prompt, Ticket, event};

use super::{
    driver::{Connection, Driver},
    guest::Over,
    knobs::{Aside, Cut, Resume},
    pieces::{self, Framing},
    scenario::{Act, Step, kind_name},
    verdict,
};
use crate::runtime::{Answer, Call, CallError, ErrorKind, Frame, Frames, Input};

impl Driver<'_> {
    /// The whole scenario, or as much of it as can come about.
    pub(super) async fn all(&mut self) -> Result<(), Over> {
        for (number, step) in self.scenario.step.iter().enumerate() {
            let ended = self.step(number, step).await;
            let failed = self.guest.run.failed;
            if failed.is_some_and(|call| matches!(self.guest.run.calls[call].call, Call::OnFrames { .. }))
                || self.guest.run.given_up
                || self.knobs.ends_with(number)
            {
                return self.still_works().await;
            }
            ended?;
            let lost = |cut: Cut| cut.step == number && cut.resume == Resume::Gap && !self.guest.run.history;
            if self.knobs.cut.is_some_and(lost) {
                // An upstream without a history has lost what the rest of the scenario goes on from.
                break;
            }
        }
        Ok(())
    }

    /// Whatever has happened, the state is one that can be called with: an error is an answer, and a trap is not.
    async fn still_works(&mut self) -> Result<(), Over> {
        let again = Input::Message(r#"[{"type":"text","text":"Go on."}]"#.to_owned());
        let state = self.machine.guest().to_owned();
        for call in [Call::Listen { state: state.clone() }, Call::Send { state, inputs: vec![again] }] {
            let made = self.guest.make(call).await;
            if let Err(CallError::Fault(_)) = &self.guest.run.calls[made].result {
                return Err(self.guest.over(made));
            }
        }
        Ok(())
    }

    async fn step(&mut self, number: usize, step: &Step) -> Result<(), Over> {
        self.enter(&step.upstream);
        let (first_event, first_call) = (self.guest.run.events.len(), self.guest.run.calls.len());
        if self.removed && !matches!(step.act, Some(Act::Models(_))) {
            self.guest.complain(format!("step {} comes after the session was closed", number + 1));
            return Err(Over);
        }
        self.expected = step.error;
        self.act(step).await?;
        self.act_again(step).await?;
        if let Some(expected) = step.error
            && self.knobs.checks_events()
        {
            self.check_error(number, expected, first_call);
        }
        self.expected = None;
        self.bring(number, step).await?;
        self.guest.script.place().fed = true;
        self.pause().await?;
        self.act_again(step).await?;
        if self.knobs.checks_events() {
            for message in verdict::of_step(number, step, &self.guest.run.events[first_event..]) {
                self.guest.complain(message);
            }
        }
        Ok(())
    }

    /// A client does what the step says.
    async fn act(&mut self, step: &Step) -> Result<(), Over> {
        let ticket = self.ticket();
        let event = match &step.act {
            None => return Ok(()),
            Some(Act::Models(expected)) => return self.models(expected).await,
            Some(Act::Close) => Event::Delete { ticket, version: None },
            Some(Act::Input(Input::Interrupt)) => Event::Interrupt { ticket },
            Some(Act::Input(Input::Message(content))) => {
                let json = format!(r#"{{"type":"user.message","content":{content}}}"#);
                Event::Prompt { ticket, prompt: prompt(ticket, json) }
            }
            // The one other input that begins a turn.
            Some(Act::Input(Input::Other(json)))
                if event::head(json).is_ok_and(|head| head.kind == "user.define_outcome") =>
            {
                Event::Prompt { ticket, prompt: prompt(ticket, json.clone()) }
            }
            Some(Act::Input(Input::Other(json))) => Event::Input { ticket, json: json.clone() },
        };
        self.ask(ticket, event).await
    }

    /// What the upstream's fault has kept a client from, the client does once more.
    async fn act_again(&mut self, step: &Step) -> Result<(), Over> {
        let again = std::mem::take(&mut self.failed) && self.knobs.fault.is_some();
        if again { self.act(step).await } else { Ok(()) }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// A client wants something.
    async fn ask(&mut self, ticket: Ticket, event: Event) -> Result<(), Over> {
        self.asked = Some(ticket);
        self.tell(event).await?;
        self.pass().await
    }

    fn check_error(&mut self, number: usize, expected: ErrorKind, first_call: usize) {
        let of_the_act = |call: &Call| matches!(call, Call::Send { .. } | Call::Close { .. });
        let made = self.guest.run.calls[first_call..].iter().rfind(|made| of_the_act(&made.call));
        let error = made.and_then(|made| match &made.result {
            Err(CallError::Declared(error)) => Some(error.kind),
            _ => None,
        });
        if error != Some(expected) {
            let found = error.map_or("no error", kind_name);
            self.guest.complain(format!(
                "step {}: expected the error {}, got {found}",
                number + 1,
                kind_name(expected)
            ));
        }
    }

    async fn models(&mut self, expected: &[String]) -> Result<(), Over> {
        if let Answer::Models(models) = self.guest.trying(Call::Models).await? {
            let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
            if ids != expected && self.knobs.checks_events() {
                self.guest.complain(format!("it lists the models {ids:?}, and the scenario expects {expected:?}"));
            }
        }
        Ok(())
    }

    /// Brings what the upstream says in a step.
    async fn bring(&mut self, number: usize, step: &Step) -> Result<(), Over> {
        let (mut at, mut brought) = (0, Vec::new());
        self.aside(number, at).await?;
        for segment in &step.feed {
            let Some(framing) = self.follow(number, step).await? else { continue };
            let mut batches = pieces::cut(segment, framing, self.knobs.batches, number);
            if let Some(edit) = &self.knobs.edit {
                edit.apply(number, at, &mut batches);
            }
            let whole = batches.concat();
            brought.extend_from_slice(&whole);
            for batch in batches {
                let batch = match self.knobs.cut.filter(|cut| cut.falls_into(number, at, batch.len())) {
                    Some(cut) => {
                        let (before, after) = batch.split_at(cut.after - at);
                        self.say(before).await?;
                        self.break_off(cut).await?;
                        match cut.resume {
                            Resume::Gap => return Ok(()),
                            Resume::Replays => whole.clone(),
                            Resume::Continues => after.to_vec(),
                        }
                    }
                    None => batch,
                };
                if self.follow(number, step).await?.is_some() {
                    self.say(&batch).await?;
                }
                at += batch.len();
                self.aside(number, at).await?;
            }
        }
        if let Some(cut) = self.knobs.cut.filter(|cut| cut.step == number && cut.after >= at) {
            self.break_off(cut).await?;
        }
        self.guest.run.frames.push(brought);
        Ok(())
    }

    /// Waits until the feed is followed. Nothing where the machine does not read on.
    async fn follow(&mut self, number: usize, step: &Step) -> Result<Option<Framing>, Over> {
        self.pass().await?;
        self.act_again(step).await?;
        match self.feed {
            Connection::Stream(framing) if self.reading => Ok(Some(framing)),
            // A guest that was told everything by the history needs no feed.
            _ if self.is_settled() || self.removed || !self.knobs.is_kind() => Ok(None),
            _ => {
                self.guest.complain(format!("step {} has a feed, and the runtime listens to none", number + 1));
                Err(Over)
            }
        }
    }

    /// The feed brings these.
    async fn say(&mut self, frames: &[Frame]) -> Result<(), Over> {
        for batch in Frames::pack(frames.iter().map(Frame::pieces)) {
            self.reading = false;
            self.tell(Event::Frames(batch)).await?;
        }
        Ok(())
    }

    /// The feed breaks; what the upstream has to say it has said, for whoever looks into its history.
    async fn break_off(&mut self, cut: Cut) -> Result<(), Over> {
        if cut.told {
            self.guest.script.place().fed = true;
        }
        self.guest.run.history = false;
        if matches!(self.feed, Connection::Stream(_)) {
            (self.feed, self.reading) = (Connection::Closed, false);
            self.tell(Event::FeedEnded(cut.ending)).await?;
        }
        self.pass().await
    }

    /// What a client does in the middle of a step.
    async fn aside(&mut self, step: usize, after: usize) -> Result<(), Over> {
        let Some((at, aside)) = self.knobs.aside else { return Ok(()) };
        if at != (step, after) {
            return Ok(());
        }
        self.aside = true;
        let ticket = self.ticket();
        let event = match aside {
            Aside::Interrupt => Event::Interrupt { ticket },
            Aside::Close => Event::Delete { ticket, version: None },
        };
        self.ask(ticket, event).await
    }
}

fn prompt(ticket: Ticket, json: String) -> Prompt {
    Prompt { id: format!("msg_0198c0ffee0070008000{:012}", ticket.0), json }
}
