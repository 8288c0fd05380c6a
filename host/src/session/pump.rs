//! Carries out what `state.rs` decides for one session: follows its feed, sends its prompts, appends its events.
//!
//! One task, the only writer of the session's log. It lives while there is something to do and a little longer, and
//! loses nothing when it ends: the session's record and the log are all that the next one needs. It stands between the
//! session's side (`desk.rs`) and the upstream's side (`line.rs`).

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Core, DeleteError, InputError, InterruptError, KillError, Link, LinkError, UpstreamEnd,
    course::{Course, Moment, Step, Verdict},
    desk::{Desk, Stop, Waited},
    ending::{self, Attempt},
    event::{self, OwnIds},
    feed::Item,
    intake::Intake,
    line::{Line, Place, StepError},
    live::{Command, INBOX},
    state::{Input, Refused},
    stored::Status,
};
use crate::{
    events::Writer,
    id::SessionId,
    runtime::{self, Body, CallError, Effect, Ending, ErrorKind, Fault, Frame, Frames, Outcome},
};

/// Tries to end a session upstream while it still winds down.
const CLOSE_TRIES: u32 = 6;

/// The inputs that answer what a turn waits for.
const ANSWERS: [&str; 3] = ["user.tool_confirmation", "user.custom_tool_result", "user.tool_result"];

/// What a pump can go on with instead of making it.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) link: Link,
}

pub(super) struct Pump {
    core: Arc<Core>,
    desk: Desk,
    line: Line,
    intake: Intake,
    course: Course,
    began: Instant,
    /// Those who wait for the session's end upstream; at most [`INBOX`].
    kills: Vec<oneshot::Sender<Result<UpstreamEnd, KillError>>>,
}

impl Pump {
    /// Starts a session's pump. `opened` is what the caller has at hand of a session that it has just made.
    pub(super) fn spawn(core: Arc<Core>, id: SessionId, opened: Option<Opened>, inbox: mpsc::Receiver<Command>) {
        let executor = core.executor.clone();
        executor.spawn(async move {
            let fresh = opened.is_some();
            let (writer, open) = match opened {
                Some(Opened { writer, link }) => {
                    let instance = link.instance_of(id, &core);
                    (writer, Some((link, instance)))
                }
                None => match core.writer(id) {
                    Ok(writer) => (writer, None),
                    Err(error) => {
                        tracing::error!(session = %id, %error, "a session cannot be pumped");
                        return core.live.remove(id);
                    }
                },
            };
            let stopped = match Desk::new(Arc::clone(&core), id, writer, inbox) {
                Ok(Some(desk)) => {
                    let pump = Self {
                        core: Arc::clone(&core),
                        desk,
                        line: Line::new(open),
                        intake: Intake::new(OwnIds::of(id)),
                        course: Course::new(fresh, RandomState::new().hash_one(id)),
                        began: Instant::now(),
                        kills: Vec::new(),
                    };
                    pump.run().await
                }
                Ok(None) => Err(Stop::Deleted),
                Err(error) => Err(error.into()),
            };
            if let Err(stop) = stopped {
                report(id, &stop);
                core.live.remove(id);
            }
        });
    }

    /// Until it has left the list of live pumps.
    async fn run(mut self) -> Result<(), Stop> {
        loop {
            let before = self.desk.state();
            let goes_on = self.step().await?;
            if self.desk.state() != before {
                self.course.touch(self.now());
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    /// Does what is due. False when the pump has left.
    async fn step(&mut self) -> Result<bool, Stop> {
        if let Some(command) = self.desk.waiting_command() {
            self.obey(command).await?;
            return Ok(true);
        }
        match self.course.next(self.desk.state(), self.now()) {
            Step::Connect { look_back } => self.connect(look_back).await?,
            Step::LookBack => self.look_back().await?,
            Step::Send(number) => self.send_prompt(number).await?,
            Step::Requeue => self.desk.settle(Input::NotArrived).await?,
            Step::Unanswered => self.desk.settle(Input::NotAnswered).await?,
            Step::End => self.end().await?,
            Step::Wait(until) => self.wait(until).await?,
            Step::Leave if self.desk.leave() => return Ok(false),
            // Somebody has just written to it.
            Step::Leave => {
                let command = self.desk.command().await;
                self.obey(command).await?;
            }
        }
        Ok(true)
    }

    async fn wait(&mut self, until: Moment) -> Result<(), Stop> {
        let item = select! {
            command = self.desk.command() => return self.obey(command).await,
            item = self.line.next() => item,
            () = sleep_until(self.began + until) => return Ok(()),
        };
        match item {
            Item::Frames(frames) => self.map(&frames).await,
            Item::Ended(ending) => self.feed_ended(ending).await,
        }
    }

    /// Opens the feed, before anything is sent, and then fills the gap before it.
    async fn connect(&mut self, look_back: bool) -> Result<(), Stop> {
        self.desk.pin().await?;
        let place = Place::of(self.desk.session());
        if look_back {
            self.recall().await?;
        }
        let seen = look_back.then_some(&self.intake.seen);
        let connecting = self.line.connect(&self.core, &place, seen);
        match self.desk.wait(is_urgent, connecting).await {
            // The command comes next, and then another try.
            Waited::GivenUp => Ok(()),
            Waited::Done(Err(error)) => self.not_connected(&error).await,
            Waited::Done(Ok(news)) => {
                self.course.connected(self.now());
                self.take_news(&news).await?;
                if self.desk.state().is_cut() { self.desk.settle(Input::Found).await } else { Ok(()) }
            }
        }
    }

    /// Looks once more for what may lie between the log and the feed.
    async fn look_back(&mut self) -> Result<(), Stop> {
        let place = Place::of(self.desk.session());
        self.recall().await?;
        let looking = self.line.look_back(&self.core, &place, &self.intake.seen);
        match self.desk.wait(is_urgent, looking).await {
            Waited::GivenUp => Ok(()),
            Waited::Done(Err(error)) => self.not_connected(&error).await,
            Waited::Done(Ok(news)) => {
                self.course.looked(self.now());
                self.take_news(&news).await?;
                if !self.course.looks_on() {
                    self.intake.seen.bound();
                }
                Ok(())
            }
        }
    }

    /// Makes sure that all of the log is known, and with it whether the prompt that is looked for has arrived.
    async fn recall(&mut self) -> Result<(), Stop> {
        if self.intake.seen.knows_all() {
            return Ok(());
        }
        let sought = self.desk.sought()?;
        if self.desk.recall(&mut self.intake, sought.as_ref())? {
            self.desk.settle(Input::Taken).await?;
        }
        Ok(())
    }

    async fn take_news(&mut self, news: &[Frame]) -> Result<(), Stop> {
        self.map(&Frames::pack(news.iter().map(Frame::pieces))).await
    }

    async fn not_connected(&mut self, error: &StepError) -> Result<(), Stop> {
        let (kind, asked) = error.verdict();
        tracing::info!(session = %self.desk.session().id, %error, "a feed cannot be followed");
        self.line.close_feed();
        if self.course.not_connected(self.now(), kind, asked) == Verdict::Fail {
            return self.fail(error).await;
        }
        if self.desk.state().is_cut() { Ok(()) } else { self.desk.settle(Input::Lost).await }
    }

    async fn feed_ended(&mut self, ending: Ending) -> Result<(), Stop> {
        self.close_feed();
        let Some(instance) = self.line.instance() else { return Ok(()) };
        let outcome = instance.on_end(&self.desk.session().guest, ending).await;
        self.take(outcome, &Frames::none()).await
    }

    fn close_feed(&mut self) {
        self.line.close_feed();
        self.course.ended(self.now());
    }

    async fn map(&mut self, batches: &[Frames]) -> Result<(), Stop> {
        for frames in batches {
            let Some(instance) = self.line.instance() else { return Ok(()) };
            let outcome = instance.on_frames(&self.desk.session().guest, frames).await;
            self.take(outcome, frames).await?;
        }
        Ok(())
    }

    /// Sends a waiting prompt. That it is being sent is durable first: after a crash the host looks before it sends
    /// again.
    async fn send_prompt(&mut self, number: u64) -> Result<(), Stop> {
        let inputs = [self.desk.prompt(number)?];
        self.desk.settle_send().await?;
        let error = match self.send(is_urgent, &inputs).await {
            Waited::GivenUp => {
                self.course.look_for_prompt(self.now());
                return Ok(());
            }
            Waited::Done(Ok(outcome)) => {
                self.course.sent();
                self.desk.decide(Input::Taken);
                return self.take(Ok(outcome), &Frames::none()).await;
            }
            Waited::Done(Err(error)) => error,
        };
        let (kind, asked) = error.verdict();
        tracing::info!(session = %self.desk.session().id, %error, "a prompt was not taken");
        match self.course.not_sent(self.now(), kind, asked) {
            Verdict::Fail => self.fail(&error).await,
            Verdict::Again => self.desk.settle(Input::NotArrived).await,
            Verdict::InDoubt => Ok(()),
        }
    }

    async fn send(
        &mut self,
        urgent: fn(&Command) -> bool,
        inputs: &[runtime::Input],
    ) -> Waited<Result<Outcome, StepError>> {
        let place = Place::of(self.desk.session());
        let (core, line) = (&self.core, &mut self.line);
        self.desk
            .wait(urgent, async {
                let (_, instance) = line.guest(core, &place).await?;
                Ok(instance.send(&place.guest, inputs).await?)
            })
            .await
    }

    /// Stores and applies what a call brought.
    async fn take(&mut self, outcome: Result<Outcome, CallError>, frames: &Frames) -> Result<(), Stop> {
        let Outcome { state, events, relisten } = match outcome {
            Ok(outcome) => outcome,
            // It was not called: what it was to map is fetched again when it may be.
            Err(error @ CallError::Fault(Fault::Quarantined { .. })) => return self.not_connected(&error.into()).await,
            Err(error) => return self.fail(&error.into()).await,
        };
        let mut read: Vec<(&str, Effect)> = Vec::with_capacity(events.len());
        for event in &events {
            let json = match &event.body {
                Body::Frame(index) => frames.data(*index),
                Body::Json(json) => Some(json.as_str()),
            };
            match json {
                Some(json) => read.push((json, event.effect)),
                None => {
                    let fault = Fault::Contract("it names a frame that is not there");
                    return self.fail(&CallError::from(fault).into()).await;
                }
            }
        }
        if relisten {
            self.close_feed();
        }
        let sought = self.desk.sought()?;
        if self.desk.take(read.into_iter(), state, &mut self.intake, sought.as_ref()).await? {
            self.course.grown();
        }
        if sought.is_some() && self.desk.state().in_doubt().is_none() {
            self.course.sent();
        }
        Ok(())
    }

    /// Ends the turn with an error that clients see. A guest that failed is gone; what it did not map is fetched again
    /// at the next turn.
    async fn fail(&mut self, error: &StepError) -> Result<(), Stop> {
        if let StepError::Call(CallError::Fault(fault)) = error {
            let session = self.desk.session();
            tracing::error!(session = %session.id, runtime = %session.runtime, ?fault, "a runtime failed");
        }
        self.line.close_feed();
        self.course.failed();
        self.desk.fail(error.verdict().0, &error.to_string()).await
    }

    async fn obey(&mut self, command: Command) -> Result<(), Stop> {
        // A client that went away needs no answer.
        match command {
            Command::Prompt { id, prompt, done } => drop(done.send(self.desk.take_prompt(id, prompt).await)),
            Command::Input { json, done } => {
                let given = self.give(json).await?;
                drop(done.send(given));
            }
            Command::Amend { amendment, input, done } => {
                let given = match input {
                    Some(_) if amendment.at_rest && !self.desk.session().settled() => Err(InputError::Running),
                    Some(json) => self.give(json).await?,
                    None => Ok(()),
                };
                let amended = match given {
                    Ok(()) => self.desk.amend(amendment).await,
                    Err(error) => Err(error),
                };
                drop(done.send(amended));
            }
            Command::Interrupt { done } => self.interrupt(done).await?,
            Command::Kill { done } => self.kill(done).await?,
            Command::Delete { version, done } => self.delete(version, done).await?,
        }
        Ok(())
    }

    /// Ends the session for good. That it shall end is durable before anything is done upstream, so that it is gone on with
    /// after a crash. Of one that has ended it is looked again what has become of it upstream.
    async fn kill(&mut self, done: oneshot::Sender<Result<UpstreamEnd, KillError>>) -> Result<(), Stop> {
        if self.kills.len() >= INBOX {
            drop(done.send(Err(KillError::Busy)));
            return Ok(());
        }
        self.desk.settle(Input::Kill).await?;
        self.line.close_feed();
        self.course.end(self.now());
        self.kills.push(done);
        Ok(())
    }

    /// Tries to end the session upstream.
    async fn end(&mut self) -> Result<(), Stop> {
        let session = self.desk.session();
        let (place, named) = (Place::of(session), session.upstream_id.is_some());
        let trying = ending::attempt(&mut self.line, &self.core, &place, named);
        let attempt = match self.desk.wait(|command| matches!(command, Command::Delete { .. }), trying).await {
            Waited::GivenUp => return Ok(()),
            Waited::Done(attempt) => attempt,
        };
        let upstream = match attempt {
            Attempt::Verified(detail) => UpstreamEnd { verified: true, detail: detail.to_owned() },
            Attempt::Unverified { again: true, .. } if self.course.not_ended(self.now()) == Verdict::Again => {
                return Ok(());
            }
            Attempt::Unverified { detail, .. } => UpstreamEnd { verified: false, detail },
        };
        self.course.ended_for_good();
        if self.desk.state().is_ending() {
            self.desk.end(&upstream).await?;
        }
        for done in self.kills.drain(..) {
            // A client that went away needs no answer.
            drop(done.send(Ok(upstream.clone())));
        }
        Ok(())
    }

    /// Gives the runtime an input that begins no turn. The feed is open before that, so that what comes of it is not
    /// missed.
    async fn give(&mut self, json: String) -> Result<Result<(), InputError>, Stop> {
        let session = self.desk.session();
        if session.status() == Status::Terminated {
            return Ok(Err(Refused::Terminated.into()));
        }
        if session.archived_ms.is_some() {
            return Ok(Err(Refused::Archived.into()));
        }
        if !self.course.is_connected() {
            self.connect(self.course.is_behind()).await?;
            if !self.course.is_connected() {
                let message = "the upstream cannot be reached, so nothing was sent; send it again in a while";
                return Ok(Err(InputError::Unreachable(message.to_owned())));
            }
        }
        let answers = ANSWERS.iter().any(|kind| event::check(&json).is_ok_and(|head| head.kind == *kind));
        if answers {
            self.desk.settle(Input::Answer).await?;
        }
        let waited = self.send(is_urgent, &[runtime::Input::Other(json)]).await;
        let error = match waited {
            Waited::Done(Ok(outcome)) => {
                self.course.touch(self.now());
                if answers {
                    self.desk.decide(Input::Taken);
                }
                self.take(Ok(outcome), &Frames::none()).await?;
                return Ok(Ok(()));
            }
            Waited::Done(Err(StepError::Call(error))) => error.into(),
            Waited::Done(Err(StepError::Link(error))) => error.into(),
            Waited::Done(Err(StepError::Feed { .. })) | Waited::GivenUp => InputError::Busy,
        };
        // If it was taken after all, the feed will tell.
        if answers {
            self.desk.settle(Input::NotAnswered).await?;
        }
        Ok(Err(error))
    }

    async fn interrupt(&mut self, done: oneshot::Sender<Result<(), InterruptError>>) -> Result<(), Stop> {
        let stops = self.desk.state().interruptible();
        self.desk.settle(Input::Interrupt).await?;
        if !stops {
            drop(done.send(Ok(())));
            return Ok(());
        }
        // What stops the turn is not held up by what a client says meanwhile, unless that ends the session.
        let ends = |command: &Command| matches!(command, Command::Delete { .. } | Command::Kill { .. });
        let sent = self.send(ends, &[runtime::Input::Interrupt]).await;
        let (answer, outcome) = match sent {
            Waited::Done(Ok(outcome)) => (Ok(()), Some(outcome)),
            // The turn may go on; the client is told so, and the feed tells the rest.
            Waited::Done(Err(StepError::Call(error))) => (Err(error.into()), None),
            Waited::Done(Err(StepError::Link(error))) => (Err(error.into()), None),
            Waited::Done(Err(StepError::Feed { .. })) | Waited::GivenUp => (Err(InterruptError::Busy), None),
        };
        drop(done.send(answer));
        match outcome {
            Some(outcome) => self.take(Ok(outcome), &Frames::none()).await,
            None => Ok(()),
        }
    }

    async fn delete(
        &mut self,
        version: Option<u64>,
        done: oneshot::Sender<Result<bool, DeleteError>>,
    ) -> Result<(), Stop> {
        if version.is_some_and(|version| version != self.desk.session().version) {
            drop(done.send(Ok(false)));
            return Ok(());
        }
        if let Err(error) = self.close_upstream().await {
            drop(done.send(Err(error)));
            return Ok(());
        }
        let deleted = self.desk.delete().await;
        drop(done.send(deleted.map(|()| true).map_err(DeleteError::Store)));
        Err(Stop::Deleted)
    }

    /// Ends the session upstream. One that is gone there, that cannot be ended there, or to which there is no way any
    /// more, is as good as ended.
    async fn close_upstream(&mut self) -> Result<(), DeleteError> {
        let place = Place::of(self.desk.session());
        let mut tries = 0;
        loop {
            let closed = match self.line.guest(&self.core, &place).await {
                Ok((_, instance)) => instance.close(&place.guest).await,
                Err(error @ (LinkError::NoCredential | LinkError::Moved | LinkError::UnknownRuntime)) => {
                    tracing::warn!(session = %self.desk.session().id, %error, "a session is removed here and not upstream");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let Err(error) = closed else { return Ok(()) };
            match &error {
                CallError::Declared(declared) => match declared.kind {
                    ErrorKind::NotFound | ErrorKind::Gone | ErrorKind::Unsupported => return Ok(()),
                    // It winds down after the interrupt.
                    ErrorKind::Conflict if tries < CLOSE_TRIES => {
                        sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
                        tries += 1;
                    }
                    _ => return Err(error.into()),
                },
                CallError::Fault(_) => return Err(error.into()),
            }
        }
    }
}

/// What cannot wait until the upstream has answered.
fn is_urgent(command: &Command) -> bool {
    matches!(command, Command::Interrupt { .. } | Command::Kill { .. } | Command::Delete { .. })
}

fn report(session: SessionId, stop: &Stop) {
    match stop {
        Stop::Store(error) => tracing::error!(%session, %error, "a session stops until the host restarts"),
        Stop::Read(error) => tracing::error!(%session, %error, "a session stops: its log cannot be read"),
        Stop::Deleted => {}
    }
}
