//! Drives the session machine through a scenario: tells it what happens there, and carries out what it answers with calls of
//! the runtime. Decides nothing about a session; the knobs say what happens beside the scenario.
//!
//! The log is in memory and time is virtual: it passes only when the machine waits for nothing else. So a run is the same
//! however often it is repeated.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use lap_session::{
    Action, Commit, Done, Failure, Kept, Machine, Moment, Now, Opened, Page, QueueLimit, Reply, Start, State, Ticket,
    event::{self, OwnIds},
    state::Stop,
    usage::Usage,
};

use super::{
    guest::{Guest, Over},
    knobs::Knobs,
    pieces::Framing,
    run::{Event, Run},
    scenario::{Rule, Scenario},
    script::{self, Script},
};
use crate::{
    runtime::{
        Answer, Body, Call, CallError, ErrorKind, Feed, Frames, History, Input, Listen, Outcome, Runtime, SessionOpened,
    },
    session::Message,
};

/// The wall clock stands still, so that what the host says of time is the same in all runs.
const UNIX_MS: u64 = 1_800_000_000_000;

/// How long it is quiet between two steps: the machine's looks into a history that may lag behind take as long.
const PAUSE: Duration = Duration::from_secs(4);

/// A session that has not come to rest after so long never does: the machine gives a turn up within an hour.
const UNREST_MAX: Duration = Duration::from_hours(2);

/// Drives a runtime through a scenario.
pub(super) async fn drive(runtime: &Runtime, scenario: &Scenario, script: Arc<Script>, knobs: &Knobs) -> Run {
    let mut guest = Guest::new(runtime, knobs, Arc::clone(&script));
    script.enter(scenario.upstream.clone());
    if let Ok(opened) = open(&mut guest, scenario).await {
        let mut driver = Driver::new(guest, scenario, opened);
        // What ended it stands in the run.
        let _ended_early: Result<(), Over> = driver.all().await;
        guest = driver.guest;
    }
    guest.finish()
}

/// What comes before a session is there.
async fn open(guest: &mut Guest<'_>, scenario: &Scenario) -> Result<SessionOpened, Over> {
    let Answer::Provision(provision) = guest.trying(Call::Provision { agent: scenario.agent() }).await? else {
        return Err(Over);
    };
    match guest.trying(Call::Open { session: scenario.session(provision) }).await? {
        Answer::Opened(opened) => Ok(opened),
        _ => Err(Over),
    }
}

/// What is read from the upstream.
#[derive(Clone, Copy)]
pub(super) enum Connection {
    Closed,
    Quiet,
    Stream(Framing),
}

/// A session in a scenario; `steps.rs` says what happens to it.
pub(super) struct Driver<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) knobs: &'a Knobs,
    pub(super) guest: Guest<'a>,
    pub(super) machine: Machine,
    pub(super) now: Moment,
    ids: OwnIds,
    log: Vec<String>,
    /// What the guest has reported and the log says already, and before which of its events that would stand.
    shown: VecDeque<(u64, Event)>,
    pub(super) feed: Connection,
    /// True while the machine waits for what the feed brings.
    pub(super) reading: bool,
    pub(super) tickets: u64,
    /// What a client has asked for and was not answered.
    pub(super) asked: Option<Ticket>,
    /// The error that the step's act may end in.
    pub(super) expected: Option<ErrorKind>,
    /// True when the host has failed a client, who may try again.
    pub(super) failed: bool,
    /// True once a client has done what the scenario does not know of: any declared error is an answer then.
    pub(super) aside: bool,
    /// True once the session is removed.
    pub(super) removed: bool,
}

impl<'a> Driver<'a> {
    fn new(mut guest: Guest<'a>, scenario: &'a Scenario, opened: SessionOpened) -> Self {
        let SessionOpened { state: text, upstream_id, .. } = opened;
        guest.run.state_bytes = text.len();
        let session = scenario.session(String::new()).id;
        let (state, usage) = (State::NEW, Usage::default());
        let start = Start {
            session: session.clone(),
            kept: Kept { state, guest: text, usage, bytes: 0, version: 0, waiting: None },
            next_seq: 1,
            queue: Vec::new(),
            queue_limit: QueueLimit::default(),
            current: None,
            archived: false,
            named: upstream_id.is_some(),
            // Without a version nothing is gone for good: what failed once is tried again.
            credential: None,
            fresh: true,
            seed: 0,
            secret: [0; 16],
        };
        Self {
            scenario,
            knobs: guest.knobs,
            guest,
            machine: Machine::new(start, UNIX_MS),
            now: Moment::ZERO,
            ids: OwnIds::of(&session),
            log: Vec::new(),
            shown: VecDeque::new(),
            feed: Connection::Closed,
            reading: false,
            tickets: 0,
            asked: None,
            expected: None,
            failed: false,
            aside: false,
            removed: false,
        }
    }

    /// The upstream answers so from now on.
    pub(super) fn enter(&self, rules: &[Rule]) {
        self.guest.script.enter(rules.iter().chain(&self.scenario.upstream).cloned().collect());
    }

    // ---- time

    pub(super) fn is_settled(&self) -> bool {
        self.machine.kept().state.settled()
    }

    /// True while it is for the machine to go on, and not for the upstream or a client.
    fn is_at_it(&self) -> bool {
        let state = self.machine.kept().state;
        let sends = state.sendable().is_some() || state.in_doubt().is_some() || state.is_answering();
        let connects = !self.reading && !state.settled();
        !self.removed && (self.asked.is_some() || sends || connects || state.stop() == Stop::Wanted)
    }

    /// Lets time pass for as long as the machine waits for nothing else.
    pub(super) async fn pass(&mut self) -> Result<(), Over> {
        let until = self.now + UNREST_MAX;
        while self.is_at_it() {
            let Some(due) = self.machine.due() else { break };
            if due > until {
                self.guest.complain("the session does not come to rest, and no event comes of it".to_owned());
                return Err(Over);
            }
            self.wait_until(due).await?;
        }
        Ok(())
    }

    /// Nothing happens between two steps.
    pub(super) async fn pause(&mut self) -> Result<(), Over> {
        self.pass().await?;
        let until = self.now + PAUSE;
        while let Some(due) = self.machine.due().filter(|due| *due <= until && !self.removed) {
            self.wait_until(due).await?;
        }
        self.now = self.now.max(until);
        self.pass().await
    }

    async fn wait_until(&mut self, due: Moment) -> Result<(), Over> {
        self.now = self.now.max(due);
        self.tell(lap_session::Event::Time).await
    }

    // ---- the machine

    /// Tells the machine, and carries out what it answers. Commits and calls are over at once.
    pub(super) async fn tell(&mut self, event: lap_session::Event) -> Result<(), Over> {
        let mut events = VecDeque::from([event]);
        let mut actions = VecDeque::new();
        while let Some(event) = events.pop_front() {
            if self.removed {
                break;
            }
            let before = self.machine.kept().state;
            actions.extend(self.machine.on(event, Now { at: self.now, unix_ms: UNIX_MS }));
            while let Some(action) = actions.pop_front() {
                match action {
                    Action::Commit(commit) => {
                        self.keep(&commit, before);
                        events.push_back(lap_session::Event::Committed);
                    }
                    Action::Call(call) => {
                        let done = self.call(call).await?;
                        events.push_back(lap_session::Event::Done(done));
                    }
                    Action::Shown { seq, json, effect } => {
                        let kind = event::head(&json).map_or_else(|_| String::new(), |head| head.kind.into_owned());
                        self.shown.push_back((seq, Event::read(&kind, &json, effect, &self.ids)));
                    }
                    Action::CloseFeed => (self.feed, self.reading) = (Connection::Closed, false),
                    Action::Read => self.reading = true,
                    Action::Reply(ticket, reply) => self.reply(ticket, &reply),
                    Action::Remove { .. } => (self.removed, self.asked) = (true, None),
                    // No call takes any time; and what clients are told of a session is no matter of its runtime's.
                    Action::Amend(_) => events.push_back(lap_session::Event::Amended { made: true }),
                    Action::Abandon | Action::Ended(_) | Action::Note(_) | Action::Leave => {}
                }
            }
        }
        self.report_shown(u64::MAX);
        if self.guest.run.given_up { Err(Over) } else { Ok(()) }
    }

    /// What the guest has reported before the event of this place. A history shows again what the feed has shown.
    fn report_shown(&mut self, place: u64) {
        while let Some((_, event)) = self.shown.pop_front_if(|(seq, _)| *seq <= place) {
            let is_it =
                |known: &Event| (&known.kind, &known.id, &known.content) == (&event.kind, &event.id, &event.content);
            if !self.guest.run.events.iter().any(is_it) {
                self.guest.run.events.push(event);
            }
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: &Reply) {
        if self.asked == Some(ticket) {
            self.asked = None;
        }
        match reply {
            Reply::Failed(_) | Reply::Unreachable | Reply::Overtaken => self.failed = self.expected.is_none(),
            Reply::Refused(refused) if self.knobs.is_kind() => {
                self.guest.complain(format!("the host does not take what the client does: {refused}"));
            }
            Reply::Done
            | Reply::Taken(_)
            | Reply::Over(_)
            | Reply::Refused(_)
            | Reply::Busy
            | Reply::QueueFull
            | Reply::Withdrawn
            | Reply::Running
            | Reply::Changed => {}
        }
    }

    /// Keeps what is to be made durable. `before` is where the session stood.
    fn keep(&mut self, commit: &Commit, before: State) {
        for ((kind, json), effect) in commit.draft.events().zip(&commit.effects) {
            self.log.push(json.to_owned());
            self.report_shown(self.log.len() as u64);
            match effect {
                Some(effect) => self.guest.run.events.push(Event::read(kind, json, *effect, &self.ids)),
                None if kind == event::ERROR => self.error(json, before),
                None => {}
            }
        }
    }

    /// The host tells its clients of an error of its own. One that comes behind a turn is nobody's.
    fn error(&mut self, json: &str, before: State) {
        let error = serde_json::from_str::<serde_json::Value>(json).unwrap_or_default()["error"].take();
        let is_end = error["retry_status"]["type"] == "exhausted";
        let (run, knobs) = (&mut self.guest.run, self.knobs);
        let explained = self.expected.is_some() || self.aside || knobs.edit.is_some() || run.failed.is_some();
        // Its turn may go on upstream, and the scenario does not say how.
        run.given_up |= is_end && before.in_turn() && before.in_doubt().is_none();
        if is_end && !explained {
            let message = error["message"].as_str().unwrap_or_default();
            self.guest.complain(format!("the host gives the turn up: {message}"));
        }
        self.failed |= !before.settled() && self.expected.is_none();
    }

    // ---- the guest

    /// Makes a call of the machine's. The failure is one that the run explains.
    async fn call(&mut self, call: lap_session::Call) -> Result<Result<Done, Failure>, Over> {
        let state = self.machine.guest().to_owned();
        let (call, frames) = match call {
            lap_session::Call::Recall => {
                (1..).zip(&self.log).for_each(|(seq, json)| self.machine.recall(seq, json));
                return Ok(Ok(Done::Recalled));
            }
            lap_session::Call::Connect => (Call::Listen { state }, None),
            lap_session::Call::CatchUp(cursor) => (Call::CatchUp { state, cursor }, None),
            lap_session::Call::OnFrames(frames) => (Call::OnFrames { state, frames: frames.clone() }, Some(frames)),
            lap_session::Call::OnEnd(ending) => (Call::OnEnd { state, ending: ending.into() }, None),
            lap_session::Call::SendPrompt(json) => (Call::Send { state, inputs: vec![Message::input_of(&json)] }, None),
            lap_session::Call::SendInput(json) => (Call::Send { state, inputs: vec![Input::Other(json)] }, None),
            lap_session::Call::SendInterrupt => (Call::Send { state, inputs: vec![Input::Interrupt] }, None),
            lap_session::Call::Close => (Call::Close { state }, None),
        };
        let (sent, of_the_act) =
            (self.guest.script.place().sent.len(), matches!(call, Call::Send { .. } | Call::Close { .. }));
        let maps = frames.is_some();
        let made = self.guest.make(call).await;
        let answer = match &self.guest.run.calls[made].result {
            Ok(answer) => answer.clone(),
            Err(error @ CallError::Declared(_)) => {
                let failure = Failure::from(error);
                let expected = !maps && (self.aside || (of_the_act && self.expected.is_some()));
                if !expected && !self.guest.fails(made) {
                    return Err(self.guest.over(made));
                }
                // Frames that a guest could not map are its last.
                return if maps { Err(Over) } else { Ok(Err(failure)) };
            }
            Err(CallError::Fault(_)) => return Err(self.guest.over(made)),
        };
        Ok(Ok(match answer {
            Answer::Feed(feed) => self.connect(feed)?,
            Answer::History(History { frames, newest_first, next }) => {
                self.guest.run.history |= self.guest.script.place().sent.len() > sent;
                Done::Page(Page { frames: frames.into_iter().map(Into::into).collect(), newest_first, next })
            }
            Answer::Outcome(outcome) => {
                let frames = frames.unwrap_or_else(Frames::none);
                self.check(&outcome, &frames);
                Done::Outcome { outcome: outcome.into(), frames }
            }
            _ => Done::Closed,
        }))
    }

    /// Opens the feed that the guest asks for.
    fn connect(&mut self, feed: Feed) -> Result<Done, Over> {
        let connection = match &feed {
            Feed::None => Connection::Quiet,
            Feed::Sse(_) => Connection::Stream(Framing::Sse),
            Feed::Lines(_) => Connection::Stream(Framing::Lines),
            Feed::Poll(_) => Connection::Stream(Framing::Poll),
        };
        match self.guest.runtime.admit(feed) {
            Ok(Listen::Nothing) => {}
            Ok(Listen::Sse(request) | Listen::Lines(request) | Listen::Poll(request, _)) => {
                let line = script::line(&request);
                let script = &self.guest.script;
                if let Some(refusal) = script.refusal(&request) {
                    self.guest.complain(format!("it listens to {line}, which is refused: {refusal}"));
                } else if !script.is_feed(&request) && self.knobs.is_kind() {
                    let fix = "add [[upstream]] with this method and path, and feed = true";
                    self.guest
                        .complain(format!("it listens to {line}, which the scenario does not have as a feed: {fix}"));
                }
            }
            Err(reason) => {
                self.guest.complain(format!("its feed is refused: {reason}"));
                return Err(Over);
            }
        }
        self.feed = connection;
        Ok(Done::Connected(Opened::default()))
    }

    /// What every outcome must be, whatever the machine makes of it.
    fn check(&mut self, outcome: &Outcome, frames: &Frames) {
        let state_bytes = outcome.state.as_ref().map_or(0, String::len);
        self.guest.run.state_bytes = self.guest.run.state_bytes.max(state_bytes);
        for reported in &outcome.events {
            let (json, is_frame) = match &reported.body {
                Body::Frame(index) => (frames.data(*index), true),
                Body::Json(json) => (Some(json.as_str()), false),
            };
            match json.map(|json| (json, event::check(json))) {
                None => self.guest.complain("an event names a frame that the call did not bring".to_owned()),
                Some((_, Ok(_))) => {}
                // Handed on as the upstream has said it: a fault of that, and the host leaves it out.
                Some((_, Err(_))) if is_frame && self.knobs.edit.is_some() => {}
                Some((json, Err(invalid))) => {
                    let json = script::short(json);
                    self.guest.complain(format!("what it reports is no event ({invalid}): {json}"));
                }
            }
        }
    }
}
