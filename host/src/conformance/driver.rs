//! Drives a runtime through a scenario as a session's pump would: listens before it sends, hands over what the feed brings,
//! looks back after a break, and keeps each event once. Knobs say where it is less kind than a pump.
//!
//! Time, network and disk have no part in it, so a run is the same however often it is repeated.

use std::sync::Arc;

use super::{
    knobs::{Aside, Cut, Knobs, Lives, Resume},
    pieces::{self, Framing},
    run::{Complaint, Event, Made, Run, alike, outcome, performed, told},
    scenario::{Act, Rule, Scenario, Step, effect_name, kind_name},
    script::{self, Script},
};
use crate::{
    runtime::{
        Answer, Body, Call, CallError, Effect, ErrorKind, Feed, Frame, Frames, History, Input, Instance, Listen,
        Outcome, Runtime,
    },
    session::{Seen, check_event},
};

/// Pages of history that are asked for. Only a listing that goes in a circle has more in a scenario.
const PAGES_MAX: usize = 50;

/// Times that a runtime may ask for another feed without anything new in between.
const RELISTENS_MAX: usize = 20;

/// The run cannot go on; why is among its complaints.
struct Over;

/// A runtime in a scenario.
pub(super) struct Driver<'a> {
    scenario: &'a Scenario,
    knobs: &'a Knobs,
    runtime: &'a Runtime,
    script: Arc<Script>,
    instance: Option<Instance>,
    run: Run,
    state: String,
    feed: Connection,
    connected_before: bool,
    seen: Seen,
    /// True while no turn runs.
    settled: bool,
    provision: String,
}

/// What is read from the upstream.
enum Connection {
    Closed,
    Quiet,
    Stream(Framing),
}

/// Drives a runtime through a scenario.
pub(super) async fn drive(runtime: &Runtime, scenario: &Scenario, script: Arc<Script>, knobs: &Knobs) -> Run {
    script.place().fault = knobs.fault;
    let mut driver = Driver {
        scenario,
        knobs,
        runtime,
        script,
        instance: None,
        run: Run::default(),
        state: String::new(),
        feed: Connection::Closed,
        connected_before: false,
        seen: Seen::default(),
        settled: true,
        provision: String::new(),
    };
    driver.seen.unbound();
    // What ended it stands in the run.
    let _ended_early: Result<(), Over> = driver.all().await;
    let place = driver.script.place().clone();
    let mut run = driver.run;
    let complain = |message| Complaint { call: None, message };
    run.complaints.extend(place.refused.iter().map(|request| complain(format!("it sends what is refused: {request}"))));
    let unanswered = place.unanswered.iter().filter(|_| knobs.is_kind());
    run.complaints.extend(
        unanswered.map(|line| complain(format!("it sends {line}, for which the scenario has no [[upstream]] answer"))),
    );
    run.sent = place.sent;
    run
}

impl Driver<'_> {
    async fn all(&mut self) -> Result<(), Over> {
        self.enter(&[]);
        let Answer::Provision(provision) = self.trying(Call::Provision { agent: self.scenario.agent() }).await? else {
            return Ok(());
        };
        self.provision = provision;
        let session = self.scenario.session(self.provision.clone());
        let Answer::Opened(opened) = self.trying(Call::Open { session }).await? else { return Ok(()) };
        self.keep_state(opened.state);
        for (number, step) in self.scenario.step.iter().enumerate() {
            let ended = self.step(number, step).await;
            if self.run.failed.is_some_and(|call| matches!(self.run.calls[call].call, Call::OnFrames { .. }))
                || self.knobs.ends_with(number)
            {
                return self.still_works().await;
            }
            ended?;
        }
        Ok(())
    }

    /// Whatever has happened, the state is one that can be called with: an error is an answer, and a trap is not.
    async fn still_works(&mut self) -> Result<(), Over> {
        let again = Input::Message(r#"[{"type":"text","text":"Go on."}]"#.to_owned());
        let state = self.state.clone();
        for call in [Call::Listen { state: state.clone() }, Call::Send { state, inputs: vec![again] }] {
            let made = self.make(call).await;
            if let Err(CallError::Fault(_)) = &self.run.calls[made].result {
                return Err(self.over(made));
            }
        }
        Ok(())
    }

    fn enter(&mut self, rules: &[Rule]) {
        self.script.enter(rules.iter().chain(&self.scenario.upstream).cloned().collect());
    }

    async fn step(&mut self, number: usize, step: &Step) -> Result<(), Over> {
        self.enter(&step.upstream);
        let (first_event, first_call) = (self.run.events.len(), self.run.calls.len());
        let mut error = None;
        match &step.act {
            Some(Act::Input(input)) => error = self.input(input, step.error).await?,
            Some(Act::Close) => _ = self.trying(Call::Close { state: self.state.clone() }).await?,
            Some(Act::Models(expected)) => self.models(expected).await?,
            None => {}
        }
        if let Some(expected) = step.error
            && error != Some(expected)
            && self.knobs.checks_events()
        {
            let found = error.map_or("no error", kind_name);
            let message = format!("step {}: expected the error {}, got {found}", number + 1, kind_name(expected));
            self.complain(Some(first_call), message);
        }
        self.bring(number, step).await?;
        self.script.place().fed = true;
        if self.knobs.checks_events() {
            self.check_step(number, step, first_event);
        }
        Ok(())
    }

    /// What a client gives. Answers the error that the guest declared, where one was expected.
    async fn input(&mut self, input: &Input, expected: Option<ErrorKind>) -> Result<Option<ErrorKind>, Over> {
        if *input != Input::Interrupt {
            self.settled = false;
            self.connect().await?;
        }
        let call = Call::Send { state: self.state.clone(), inputs: vec![input.clone()] };
        if expected.is_some() {
            let made = self.make(call).await;
            return match &self.run.calls[made].result {
                Err(CallError::Declared(error)) => Ok(Some(error.kind)),
                Err(CallError::Fault(_)) => Err(self.over(made)),
                Ok(_) => Ok(None),
            };
        }
        if let Answer::Outcome(outcome) = self.trying(call).await? {
            self.take(outcome, &Frames::none());
        }
        Ok(None)
    }

    async fn models(&mut self, expected: &[String]) -> Result<(), Over> {
        if let Answer::Models(models) = self.trying(Call::Models).await? {
            let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
            if ids != expected && self.knobs.checks_events() {
                let message = format!("it lists the models {ids:?}, and the scenario expects {expected:?}");
                self.complain(self.run.calls.len().checked_sub(1), message);
            }
        }
        Ok(())
    }

    /// Brings what the upstream says in a step.
    async fn bring(&mut self, number: usize, step: &Step) -> Result<(), Over> {
        let (mut at, mut brought) = (0, Vec::new());
        self.aside(number, at).await?;
        for segment in &step.feed {
            let Some(framing) = self.follow(number).await? else { continue };
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
                        self.on_frames(before).await?;
                        self.break_off(cut).await?;
                        match cut.resume {
                            Resume::Gap => return Ok(()),
                            Resume::Replays => whole.clone(),
                            Resume::Continues => after.to_vec(),
                        }
                    }
                    None => batch,
                };
                if self.follow(number).await?.is_some() {
                    self.on_frames(&batch).await?;
                }
                at += batch.len();
                self.aside(number, at).await?;
            }
        }
        if let Some(cut) = self.knobs.cut.filter(|cut| cut.step == number && cut.after >= at) {
            self.break_off(cut).await?;
        }
        self.run.frames.push(brought);
        Ok(())
    }

    /// Makes sure that the feed is followed, as far as there is anything to come. Nothing where a pump would not read on.
    async fn follow(&mut self, number: usize) -> Result<Option<Framing>, Over> {
        if !self.settled {
            for _ in 0..RELISTENS_MAX {
                self.connect().await?;
                if self.settled || !matches!(self.feed, Connection::Closed) {
                    break;
                }
            }
        }
        match self.feed {
            Connection::Stream(framing) => Ok(Some(framing)),
            // A guest that was told everything by the history needs no feed.
            Connection::Quiet | Connection::Closed if self.settled || !self.knobs.is_kind() => Ok(None),
            Connection::Quiet | Connection::Closed => {
                let call = self.run.calls.len().checked_sub(1);
                self.complain(call, format!("step {} has a feed, and the runtime listens to none", number + 1));
                Err(Over)
            }
        }
    }

    /// The feed breaks; what the upstream has to say it has said, for whoever looks into its history.
    async fn break_off(&mut self, cut: Cut) -> Result<(), Over> {
        self.feed = Connection::Closed;
        if cut.told {
            self.script.place().fed = true;
        }
        let call = Call::OnEnd { state: self.state.clone(), ending: cut.ending };
        if let Answer::Outcome(outcome) = self.trying(call).await? {
            self.take(outcome, &Frames::none());
        }
        // What the history brings may lead to another feed, and so on until there is nothing new.
        let mut tries = 0;
        while !self.settled && matches!(self.feed, Connection::Closed) && tries < RELISTENS_MAX {
            self.connect().await?;
            tries += 1;
        }
        Ok(())
    }

    /// What a client does in the middle of a step.
    async fn aside(&mut self, step: usize, after: usize) -> Result<(), Over> {
        let Some((at, aside)) = self.knobs.aside else { return Ok(()) };
        if at != (step, after) {
            return Ok(());
        }
        let state = self.state.clone();
        let call = match aside {
            Aside::Interrupt => Call::Send { state, inputs: vec![Input::Interrupt] },
            Aside::Close => Call::Close { state },
        };
        let made = self.make(call).await;
        match &self.run.calls[made].result {
            Err(CallError::Fault(_)) => Err(self.over(made)),
            Err(CallError::Declared(_)) => Ok(()),
            Ok(Answer::Outcome(outcome)) => {
                let outcome = outcome.clone();
                self.take(outcome, &Frames::none());
                Ok(())
            }
            Ok(_) => Err(Over),
        }
    }

    /// Opens the feed where it is closed; behind the first one it looks back.
    async fn connect(&mut self) -> Result<(), Over> {
        if !matches!(self.feed, Connection::Closed) {
            return Ok(());
        }
        let Answer::Feed(feed) = self.trying(Call::Listen { state: self.state.clone() }).await? else { return Ok(()) };
        let framing = match &feed {
            Feed::None => None,
            Feed::Sse(_) => Some(Framing::Sse),
            Feed::Lines(_) => Some(Framing::Lines),
            Feed::Poll(_) => Some(Framing::Poll),
        };
        let made = self.run.calls.len().checked_sub(1);
        match self.runtime.admit(feed) {
            Ok(Listen::Nothing) => {}
            Ok(Listen::Sse(request) | Listen::Lines(request) | Listen::Poll(request, _)) => {
                let line = script::line(&request);
                if let Some(refusal) = self.script.refusal(&request) {
                    self.complain(made, format!("it listens to {line}, which is refused: {refusal}"));
                } else if !self.script.is_feed(&request) && self.knobs.is_kind() {
                    let fix = "add [[upstream]] with this method and path, and feed = true";
                    self.complain(
                        made,
                        format!("it listens to {line}, which the scenario does not have as a feed: {fix}"),
                    );
                }
            }
            Err(reason) => {
                self.complain(made, format!("its feed is refused: {reason}"));
                return Err(Over);
            }
        }
        self.feed = framing.map_or(Connection::Quiet, Connection::Stream);
        if std::mem::replace(&mut self.connected_before, true) {
            self.look_back().await?;
        }
        Ok(())
    }

    /// Reads what the upstream remembers, and hands over what is new of it.
    async fn look_back(&mut self) -> Result<(), Over> {
        let (mut news, mut cursor, mut newest_first) = (Vec::new(), None::<String>, false);
        for page in 0.. {
            let sent = self.script.place().sent.len();
            let call = Call::CatchUp { state: self.state.clone(), cursor: cursor.clone() };
            let Answer::History(history) = self.trying(call).await? else { return Ok(()) };
            self.run.history |= self.script.place().sent.len() > sent;
            let History { frames, newest_first: order, next } = history;
            newest_first |= order;
            let unknown =
                |frame: &Frame| check_event(&frame.data).map_or(true, |head| !self.seen.contains(&head, &frame.data));
            news.extend(frames.into_iter().filter(unknown));
            if next.is_none() {
                break;
            }
            if page >= PAGES_MAX || next == cursor {
                let last = self.run.calls.len().checked_sub(1);
                self.complain(last, "its history has no end: the cursor goes in a circle".to_owned());
                return Err(Over);
            }
            cursor = next;
        }
        if newest_first {
            news.reverse();
        }
        self.on_frames(&news).await
    }

    async fn on_frames(&mut self, frames: &[Frame]) -> Result<(), Over> {
        if frames.is_empty() {
            return Ok(());
        }
        let packed = Frames::packed(frames.iter().map(Frame::pieces));
        let call = Call::OnFrames { state: self.state.clone(), frames: packed.clone() };
        let made = self.make(call).await;
        match &self.run.calls[made].result {
            Ok(Answer::Outcome(outcome)) => {
                let outcome = outcome.clone();
                self.take(outcome, &packed);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("on-frames ended in an error: {}", told(error));
                if self.knobs.expects_errors() && matches!(error, CallError::Declared(_)) {
                    self.run.failed.get_or_insert(made);
                } else {
                    self.complain(Some(made), message);
                }
                Err(Over)
            }
        }
    }

    /// Keeps what a call brought.
    fn take(&mut self, outcome: Outcome, frames: &Frames) {
        let made = self.run.calls.len().checked_sub(1);
        let Outcome { state, events, relisten } = outcome;
        for event in events {
            let json = match &event.body {
                Body::Frame(index) => frames.data(*index).map(str::to_owned),
                Body::Json(json) => Some(json.clone()),
            };
            let Some(json) = json else {
                self.complain(made, "an event names a frame that the call did not bring".to_owned());
                continue;
            };
            match check_event(&json) {
                Ok(head) => {
                    let (kind, id) =
                        (head.kind.clone().into_owned(), head.id.clone().map(std::borrow::Cow::into_owned));
                    if !self.seen.insert(&head, &json) {
                        continue;
                    }
                    match event.effect {
                        Effect::None => {}
                        Effect::Started | Effect::Rescheduled => self.settled = false,
                        Effect::Waiting | Effect::Ended | Effect::Failed | Effect::Terminated => self.settled = true,
                    }
                    self.run.events.push(Event { kind, id, effect: event.effect, json });
                }
                // Handed on as the upstream has said it: a fault of that, and the host leaves it out.
                Err(_) if matches!(event.body, Body::Frame(_)) && self.knobs.edit.is_some() => {}
                Err(invalid) => {
                    self.complain(made, format!("what it reports is no event ({invalid}): {}", script::short(&json)));
                }
            }
        }
        if let Some(state) = state {
            self.keep_state(state);
        }
        if relisten {
            self.feed = Connection::Closed;
        }
    }

    fn keep_state(&mut self, state: String) {
        self.run.state_bytes = self.run.state_bytes.max(state.len());
        self.state = state;
    }

    /// Makes a call that should succeed, if need be at the second try when the upstream failed at the first.
    async fn trying(&mut self, call: Call) -> Result<Answer, Over> {
        let mut made = self.make(call.clone()).await;
        if self.knobs.expects_errors()
            && self.run.failed.is_none()
            && matches!(self.run.calls[made].result, Err(CallError::Declared(_)))
        {
            self.run.failed = Some(made);
            made = self.make(call).await;
        }
        match &self.run.calls[made].result {
            Ok(answer) => Ok(answer.clone()),
            Err(_) => Err(self.over(made)),
        }
    }

    fn over(&mut self, made: usize) -> Over {
        let made_call = &self.run.calls[made];
        if let Err(error) = &made_call.result {
            let message = format!("{} ended in an error: {}", made_call.call.export(), told(error));
            self.complain(Some(made), message);
        }
        Over
    }

    /// Makes a call and notes how it ended; answers its number.
    async fn make(&mut self, call: Call) -> usize {
        let number = self.run.calls.len();
        let drops = match self.knobs.lives {
            Lives::One => false,
            Lives::EachCall => true,
            Lives::NewAt(at) => at == number,
        };
        if drops {
            self.instance = None;
        }
        let before = self.script.place().clone();
        let made = self.once(&call).await;
        if self.knobs.twice {
            let after = std::mem::replace(&mut *self.script.place(), before.clone());
            let again = self.once(&call).await;
            let repeated = std::mem::replace(&mut *self.script.place(), after.clone());
            if !alike(&made.result, &again.result)
                || after.sent[before.sent.len()..] != repeated.sent[before.sent.len()..]
            {
                let message = format!(
                    "{} gave something else when it was called again with the same arguments: {} and then {}",
                    call.export(),
                    outcome(&made.result),
                    outcome(&again.result)
                );
                self.complain(Some(number), message);
            }
        }
        self.run.calls.push(made);
        number
    }

    async fn once(&mut self, call: &Call) -> Made {
        let mut instance = self.instance.take().unwrap_or_else(|| self.runtime.instance(Arc::clone(&self.script) as _));
        let (result, took) = performed(&mut instance, call, &self.script).await;
        self.instance = Some(instance);
        let mut place = self.script.place();
        let (log, sent) = (std::mem::take(&mut place.log), place.sent.len());
        Made { call: call.clone(), result, log, took, sent }
    }

    fn complain(&mut self, call: Option<usize>, message: String) {
        self.run.complaints.push(Complaint { call, message });
    }

    fn check_step(&mut self, number: usize, step: &Step, first_event: usize) {
        let step_number = number + 1;
        let events = &self.run.events[first_event..];
        let mut complaints = Vec::new();
        if let Some(expected) = &step.events {
            let fits = expected.len() == events.len()
                && expected.iter().zip(events).all(|(expected, event)| {
                    expected.kind == event.kind
                        && expected.id.as_ref().is_none_or(|id| event.id.as_ref() == Some(id))
                        && expected.contains.iter().all(|text| event.json.contains(text.as_str()))
                });
            if !fits {
                let expected: Vec<_> = expected.iter().map(|expected| expected.kind.as_str()).collect();
                let found: Vec<_> = events.iter().map(|event| script::short(&event.json)).collect();
                complaints.push(format!(
                    "step {step_number}: expected the events [{}], got [{}]",
                    expected.join(", "),
                    found.join(", ")
                ));
            }
        }
        if let Some(expected) = step.turn {
            let last = events.iter().rev().map(|event| event.effect).find(|effect| *effect != Effect::None);
            if last != Some(expected) {
                let (expected, found) = (effect_name(expected), last.map_or("nothing", effect_name));
                complaints.push(format!("step {step_number}: expected the turn to be {expected}, and it is {found}"));
            }
        }
        let call = self.run.calls.len().checked_sub(1);
        for message in complaints {
            self.complain(call, message);
        }
    }
}
