//! Where a session stands, and what each thing that happens does to it: no lock, nothing that waits. `mod.rs` holds the
//! lock around this and decides who is woken. No other file decides on a session's state.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::Profile;
use crate::{
    clock::Moment,
    event::{Batch, Event, Frame, Pattern},
    history::History,
    id::Ids,
    incoming::{Incoming, Input, Refused, Reply},
    past,
    script::{Burden, StopReason},
    window::Window,
};

/// A session's status on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Nothing runs.
    Idle,
    /// A turn runs.
    Running,
    /// Over for good.
    Terminated,
}

/// A prompt whose event is in the history already.
pub(crate) struct Prompt {
    position: u64,
    id: String,
    kind: &'static str,
    body: Map<String, Value>,
    /// It is shown as processed from the start.
    processed: bool,
    pub(crate) text: String,
}

/// How a turn is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The session is idle.
    Idle(StopReason),
    /// The session is over too.
    Terminated,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A turn runs.
    Running,
    /// A turn waits for the client: to the client the session is idle.
    Waiting,
    Terminated,
}

/// An event that the turn asked the client to answer.
struct Asked {
    id: String,
    reply: Option<Reply>,
}

pub(super) struct State {
    ids: Arc<Ids>,
    phase: Phase,
    pub(super) profile: Profile,
    pub(super) history: History,
    pub(super) window: Window,
    /// Prompts whose turns are still to come.
    queue: VecDeque<Prompt>,
    asked: Vec<Asked>,
    /// The turn is told to stop, and has not stopped yet.
    interrupted: bool,
    /// How many holds shall not hold.
    released: u64,
    /// When it was last announced that nothing runs.
    idle_since: Moment,
    /// Whether a turn runs, for those who wait for its end.
    pub(super) busy: watch::Sender<bool>,
}

impl Status {
    /// As a filter names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Terminated => "terminated",
        }
    }
}

impl State {
    pub(super) fn new(ids: Arc<Ids>, profile: Profile, backlog_bytes_max: usize) -> Self {
        Self {
            ids,
            phase: Phase::Idle,
            idle_since: profile.updated_at,
            profile,
            history: History::default(),
            window: Window::new(backlog_bytes_max),
            queue: VecDeque::new(),
            asked: Vec::new(),
            interrupted: false,
            released: 0,
            busy: watch::Sender::new(false),
        }
    }

    /// A session that another simulator has played so far.
    pub(super) fn past(
        ids: Arc<Ids>,
        profile: Profile,
        backlog_bytes_max: usize,
        events: &[Map<String, Value>],
    ) -> Self {
        let mut state = Self::new(ids, profile, backlog_bytes_max);
        for event in events {
            let text = |key: &str| event.get(key).and_then(Value::as_str);
            let frame = Frame::of_json(text("type").unwrap_or_default(), event);
            state.history.push(frame, text("processed_at").and_then(Moment::parse));
        }
        state.asked = past::unanswered(events).into_iter().map(|id| Asked { id, reply: None }).collect();
        if past::is_terminated(events) {
            state.phase = Phase::Terminated;
        } else if !state.asked.is_empty() {
            state.phase = Phase::Waiting;
        }
        state
    }

    /// How many questions wait for the client's answer.
    pub(super) fn waiting(&self) -> usize {
        if self.phase == Phase::Waiting { self.unanswered().len() } else { 0 }
    }

    /// One hold less shall hold.
    pub(super) const fn release(&mut self) {
        self.released += 1;
    }

    /// Whether a hold shall not hold any more, which counts once.
    pub(super) const fn take_release(&mut self) -> bool {
        let released = self.released > 0;
        self.released = self.released.saturating_sub(1);
        released
    }

    /// The status as a request sees it, so many milliseconds behind what the stream says.
    pub(super) fn status(&self, lag_ms: u64) -> Status {
        let lag_ms = i64::try_from(lag_ms).unwrap_or(i64::MAX);
        let lags = || lag_ms > 0 && Moment::now().ms_since(self.idle_since) < lag_ms;
        match self.phase {
            Phase::Terminated => Status::Terminated,
            Phase::Running => Status::Running,
            Phase::Idle | Phase::Waiting => {
                if lags() {
                    Status::Running
                } else {
                    Status::Idle
                }
            }
        }
    }

    /// Whether the turn must stop.
    pub(super) fn must_stop(&self) -> bool {
        self.interrupted || self.phase == Phase::Terminated
    }
}

/// What clients do.
impl State {
    /// Takes a client's events, all or none, and opens a turn if one can start. Returns them as the client is shown
    /// them, and the prompt of that turn.
    pub(super) fn take(&mut self, events: Vec<Incoming>) -> Result<(Vec<Frame>, Option<Prompt>), Refused> {
        if self.profile.archived_at.is_some() {
            return Err(Refused::Archived);
        }
        if self.phase == Phase::Terminated {
            return Err(Refused::Terminated);
        }
        for event in &events {
            self.check(event)?;
        }
        let stored = events.into_iter().map(|event| self.store(event)).collect();
        Ok((stored, self.open_turn()))
    }

    /// An answer must answer something.
    fn check(&self, event: &Incoming) -> Result<(), Refused> {
        match &event.input {
            Input::Reply { to, .. } if !self.asked.iter().any(|asked| asked.id == *to && asked.reply.is_none()) => {
                Err(Refused::NothingAsked(to.clone()))
            }
            Input::Reply { .. } | Input::Prompt(_) | Input::Interrupt | Input::Note => Ok(()),
        }
    }

    fn store(&mut self, event: Incoming) -> Frame {
        let Incoming { kind, body, processed, input } = event;
        let id = self.ids.mint("sevt");
        let now = Moment::now();
        let stored = Frame::new(&id, kind, &body, processed.then_some(now));
        self.window.push(stored.bytes().clone());
        let position = self.history.push(stored.clone(), processed.then_some(now));
        match input {
            Input::Prompt(text) => {
                self.queue.push_back(Prompt { position, id, kind, body, processed, text });
                return stored;
            }
            Input::Interrupt => self.interrupted = matches!(self.phase, Phase::Running | Phase::Waiting),
            Input::Reply { to, reply } => {
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.id == to) {
                    asked.reply = Some(reply);
                }
            }
            Input::Note => {}
        }
        if !processed {
            self.processed(position, &Frame::new(&id, kind, &body, Some(now)), now);
        }
        stored
    }

    /// A queued event was processed: it is said again, with a time.
    fn processed(&mut self, position: u64, frame: &Frame, now: Moment) {
        self.window.push(frame.bytes().clone());
        self.history.replace(position, frame.clone(), now);
    }

    pub(super) fn archive(&mut self, lag_ms: u64) -> Result<(), Refused> {
        self.check_at_rest(lag_ms)?;
        self.profile.archived_at.get_or_insert_with(Moment::now);
        Ok(())
    }

    /// Says `session.deleted` and ends the streams.
    pub(super) fn delete(&mut self, lag_ms: u64) -> Result<(), Refused> {
        self.check_at_rest(lag_ms)?;
        self.say_deleted();
        Ok(())
    }

    pub(super) fn say_deleted(&mut self) {
        self.emit(&Event::Deleted {});
        self.window.end_all();
        self.abandon();
    }

    fn check_at_rest(&self, lag_ms: u64) -> Result<(), Refused> {
        if self.status(lag_ms) == Status::Running { Err(Refused::Running) } else { Ok(()) }
    }

    /// It is over, and nobody is told.
    pub(super) fn abandon(&mut self) {
        self.phase = Phase::Terminated;
        self.busy.send_replace(false);
    }
}

/// What turns do.
impl State {
    /// If nothing runs and a prompt waits, its turn begins here and now.
    fn open_turn(&mut self) -> Option<Prompt> {
        if self.phase != Phase::Idle {
            return None;
        }
        let prompt = self.queue.pop_front()?;
        if !prompt.processed {
            let now = Moment::now();
            self.processed(prompt.position, &Frame::new(&prompt.id, prompt.kind, &prompt.body, Some(now)), now);
        }
        self.run();
        Some(prompt)
    }

    fn run(&mut self) {
        self.phase = Phase::Running;
        self.busy.send_replace(true);
        self.emit(&Event::Running {});
    }

    /// Says an event that the client must answer before the turn goes on.
    pub(super) fn ask(&mut self, event: &Event<'_>) {
        let id = self.emit(event);
        self.asked.push(Asked { id, reply: None });
    }

    fn unanswered(&self) -> Vec<String> {
        self.asked.iter().filter(|asked| asked.reply.is_none()).map(|asked| asked.id.clone()).collect()
    }

    /// If answers are missing: closes the span, says which, and is idle. Returns how many are missing.
    pub(super) fn pause(&mut self, span: &mut Option<String>) -> usize {
        let open = self.unanswered();
        // A turn that another simulator has played so far waits already, and has said so.
        if !open.is_empty() && self.phase != Phase::Waiting {
            self.close_span(span.take());
            self.emit(&Event::requires_action(&open));
            self.rest(Phase::Waiting);
        }
        open.len()
    }

    /// Goes on if no answer is missing any more; asks again if fewer are than before. Returns how many are.
    pub(super) fn resume(&mut self, missing: usize) -> usize {
        let open = self.unanswered();
        if open.is_empty() {
            self.run();
        } else if open.len() < missing {
            self.emit(&Event::requires_action(&open));
        }
        open.len()
    }

    /// The answers to everything asked, with the id of what asked, in its order.
    pub(super) fn take_answers(&mut self) -> Vec<(String, Reply)> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().filter_map(|asked| asked.reply.map(|reply| (asked.id, reply))).collect()
    }

    /// Closes the turn, and opens the next at once if a prompt waits.
    pub(super) fn finish(&mut self, span: Option<String>, ending: Ending, burden: Option<Burden>) -> Option<Prompt> {
        if self.phase == Phase::Terminated {
            return None;
        }
        self.close_span(span);
        self.interrupted = false;
        self.asked.clear();
        match ending {
            Ending::Idle(reason) => {
                if reason == StopReason::RetriesExhausted {
                    self.queue.clear();
                }
                self.emit(&Event::idle(reason, burden));
                self.rest(Phase::Idle);
            }
            Ending::Terminated => {
                self.queue.clear();
                self.emit(&Event::Terminated {});
                self.rest(Phase::Terminated);
                self.window.end_all();
            }
        }
        self.open_turn()
    }

    fn close_span(&mut self, span: Option<String>) {
        if let Some(start) = span {
            self.emit(&Event::span_end(&start));
        }
    }

    fn rest(&mut self, phase: Phase) {
        self.phase = phase;
        self.idle_since = Moment::now();
        self.busy.send_replace(false);
    }
}

/// What the session says.
impl State {
    /// Says an event and returns its id.
    pub(super) fn emit(&mut self, event: &Event<'_>) -> String {
        let id = self.ids.mint("sevt");
        let now = Moment::now();
        self.say(Frame::new(&id, event.kind(), event, Some(now)), now);
        id
    }

    /// Says an event of a script, which need not be a proper one.
    pub(super) fn emit_raw(&mut self, mut event: Map<String, Value>) -> String {
        let now = Moment::now();
        let id = event.entry("id").or_insert_with(|| self.ids.mint("sevt").into());
        let id = id.as_str().unwrap_or_default().to_owned();
        event.entry("processed_at").or_insert_with(|| now.to_string().into());
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.say(Frame::of_json(&kind, &event), now);
        id
    }

    fn say(&mut self, frame: Frame, now: Moment) {
        self.window.push(frame.bytes().clone());
        self.history.push(frame, Some(now));
    }

    pub(super) fn emit_batch(&mut self, pattern: &Arc<Pattern>, first_n: u64, count: u64) {
        let batch = Batch::new(pattern, &self.ids, first_n, count);
        if self.window.is_read() {
            self.window.push(batch.render());
        }
        self.history.push_batch(batch);
    }

    /// Sends bytes to whoever reads now.
    pub(super) fn emit_bytes(&mut self, bytes: Bytes) {
        self.window.push(bytes);
    }
}
