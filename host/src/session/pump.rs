//! Carries out what `state.rs` decides for one session: follows its feed, sends its prompts, appends its events.
//!
//! One task, the only writer of the session's log. It lives while there is something to do and a little longer, and
//! loses nothing when it ends: the session's record and the log are all that the next one needs. It stands between the
//! session's side (`desk.rs`) and the upstream's side (`line.rs`).

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Core, DeleteError, InterruptError, Link, LinkError,
    backoff::Backoff,
    desk::{Desk, Stop, Waited},
    event::Seen,
    feed::{FRAMES_PER_CALL, Item},
    line::{Line, Place, StepError},
    live::Command,
    state::{Input, Phase},
};
use crate::{
    events::Writer,
    id::SessionId,
    runtime::{self, Body, CallError, Effect, Ending, ErrorKind, Fault, Frame, Frames, Outcome},
};

/// How long a pump stays connected after its turn: a conversation's next prompt then finds everything ready.
const LINGER: Duration = Duration::from_secs(30);

/// Tries to end a session upstream while it still winds down.
const CLOSE_TRIES: u32 = 6;

/// What a pump can go on with instead of making it.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) link: Link,
}

pub(super) struct Pump {
    core: Arc<Core>,
    desk: Desk,
    line: Line,
    seen: Seen,
    /// True when the upstream may have events that the log lacks.
    behind: bool,
    /// True while it is not known whether the prompt sent last arrived.
    unconfirmed: bool,
    connecting: Backoff,
    sending: Backoff,
}

impl Pump {
    /// Starts a session's pump. `opened` is what the caller has at hand of a session that it has just made.
    pub(super) fn spawn(core: Arc<Core>, id: SessionId, opened: Option<Opened>, inbox: mpsc::Receiver<Command>) {
        let executor = core.executor.clone();
        executor.spawn(async move {
            let fresh = opened.is_some();
            let (writer, open) = match opened {
                Some(Opened { writer, link }) => {
                    let instance = link.instance();
                    (writer, Some((link, instance)))
                }
                None => match core.log.writer(id, false) {
                    Ok(writer) => (writer, None),
                    Err(error) => {
                        tracing::error!(session = %id, %error, "a session cannot be pumped");
                        return core.live.remove(id);
                    }
                },
            };
            let stopped = match Desk::new(Arc::clone(&core), id, writer, inbox) {
                Ok(Some(desk)) => {
                    let unconfirmed = desk.state().phase() == Phase::Sent;
                    let pump = Self {
                        core: Arc::clone(&core),
                        desk,
                        line: Line::new(open),
                        seen: Seen::default(),
                        behind: !fresh,
                        unconfirmed,
                        connecting: Backoff::new(),
                        sending: Backoff::new(),
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
        while self.step().await? {}
        Ok(())
    }

    /// Does what is due, then waits for the next thing. False when the pump has left.
    async fn step(&mut self) -> Result<bool, Stop> {
        self.advance().await?;
        let due = self.due();
        let item = select! {
            command = self.desk.command() => {
                self.obey(command).await?;
                return Ok(true);
            }
            item = self.line.next() => item,
            () = sleep_until(due) => return Ok(!self.may_go()),
        };
        match item {
            Item::Frames(frames) => {
                self.connecting.reset();
                self.map(&frames).await?;
            }
            Item::Ended(ending) => self.feed_ended(ending).await?,
        }
        Ok(true)
    }

    /// When there is something to do without anything happening.
    fn due(&self) -> Instant {
        if !self.wants_feed() {
            self.desk.touched() + LINGER
        } else if self.line.is_closed() {
            self.connecting.until()
        } else if self.desk.state().sendable().is_some() {
            self.sending.until()
        } else {
            // The feed has a watchdog of its own.
            Instant::now() + Duration::from_hours(1)
        }
    }

    fn may_go(&mut self) -> bool {
        !self.wants_feed() && self.desk.touched().elapsed() >= LINGER && self.desk.leave()
    }

    fn wants_feed(&self) -> bool {
        !self.desk.state().settled()
    }

    /// Connects and sends as far as it can be done now.
    async fn advance(&mut self) -> Result<(), Stop> {
        while self.wants_feed() {
            let goes_on = if self.line.is_closed() {
                self.connecting.due() && self.connect().await?
            } else if let Some(number) = self.desk.state().sendable() {
                self.sending.due() && self.send_prompt(number).await?
            } else {
                false
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Opens the feed, before anything is sent, and then fills the gap before it. False when a client interferes.
    async fn connect(&mut self) -> Result<bool, Stop> {
        let place = Place::of(self.desk.session());
        let behind = self.behind;
        if behind {
            self.desk.recall(&mut self.seen)?;
        }
        let connecting = self.line.connect(&self.core, &place, behind.then_some(&self.seen));
        let news = match self.desk.wait(connecting).await {
            Waited::GivenUp => return Ok(false),
            Waited::Done(Err(error)) => {
                self.connect_failed(&error).await?;
                return Ok(true);
            }
            Waited::Done(Ok(news)) => news,
        };
        self.behind = true;
        let something = !news.is_empty();
        self.map(&Frames::pack(news.iter().map(Frame::pieces), FRAMES_PER_CALL)).await?;
        self.seen.bound();
        self.connecting.reset();
        if std::mem::take(&mut self.unconfirmed) && !something {
            // Nothing of the prompt is in the upstream's history: it never arrived.
            self.desk.settle(Input::NotArrived).await?;
        }
        Ok(true)
    }

    async fn connect_failed(&mut self, error: &StepError) -> Result<(), Stop> {
        let (kind, asked) = error.verdict();
        tracing::info!(session = %self.desk.session().id, %error, "a feed cannot be followed");
        if error.passes() && !self.connecting.exhausted() {
            self.connecting.wait(asked);
            return Ok(());
        }
        self.connecting.reset();
        self.desk.fail(kind, &error.to_string()).await
    }

    async fn feed_ended(&mut self, ending: Ending) -> Result<(), Stop> {
        self.line.close_feed();
        self.connecting.wait_little();
        let Some(instance) = self.line.instance() else { return Ok(()) };
        let outcome = instance.on_end(&self.desk.session().guest, ending).await;
        self.take(outcome, &Frames::none()).await
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
    /// again. False when a client interferes.
    async fn send_prompt(&mut self, number: u64) -> Result<bool, Stop> {
        let text = self.desk.prompt(number)?;
        let content = serde_json::json!([{"type": "text", "text": text}]).to_string();
        self.desk.settle(Input::Send).await?;
        let inputs = [runtime::Input::Message(content)];
        let sent = match self.send(&inputs).await {
            Waited::Done(sent) => sent,
            Waited::GivenUp => {
                self.look_before_sending_again();
                return Ok(false);
            }
        };
        let error = match sent {
            Ok(outcome) => {
                self.sending.reset();
                self.take(Ok(outcome), &Frames::none()).await?;
                return Ok(true);
            }
            Err(error) => error,
        };
        let (kind, asked) = error.verdict();
        tracing::info!(session = %self.desk.session().id, %error, "a prompt was not taken");
        if !error.passes() || self.sending.exhausted() {
            self.sending.reset();
            self.fail(&error).await?;
        } else if kind == ErrorKind::Upstream {
            // It may have arrived.
            self.sending.wait(None);
            self.connecting.wait_little();
            self.look_before_sending_again();
        } else {
            self.sending.wait(asked);
            self.desk.settle(Input::NotArrived).await?;
        }
        Ok(true)
    }

    fn look_before_sending_again(&mut self) {
        self.unconfirmed = true;
        self.line.close_feed();
    }

    async fn send(&mut self, inputs: &[runtime::Input]) -> Waited<Result<Outcome, StepError>> {
        let place = Place::of(self.desk.session());
        let (core, line) = (&self.core, &mut self.line);
        self.desk
            .wait(async {
                let (_, instance) = line.guest(core, &place)?;
                Ok(instance.send(&place.guest, inputs).await?)
            })
            .await
    }

    /// Stores and applies what a call brought.
    async fn take(&mut self, outcome: Result<Outcome, CallError>, frames: &Frames) -> Result<(), Stop> {
        let Outcome { state, events, relisten } = match outcome {
            Ok(outcome) => outcome,
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
            self.line.close_feed();
        }
        self.desk.take(read.into_iter(), state, &mut self.seen).await
    }

    /// Ends the turn with an error that clients see. A guest that failed is gone; what it did not map is fetched again
    /// at the next turn.
    async fn fail(&mut self, error: &StepError) -> Result<(), Stop> {
        if let StepError::Call(CallError::Fault(fault)) = error {
            let session = self.desk.session();
            tracing::error!(session = %session.id, runtime = %session.runtime, ?fault, "a runtime failed");
        }
        self.line.close_feed();
        self.desk.fail(error.verdict().0, &error.to_string()).await
    }

    async fn obey(&mut self, command: Command) -> Result<(), Stop> {
        // A client that went away needs no answer.
        match command {
            Command::Prompt { id, text, done } => drop(done.send(self.desk.take_prompt(id, text).await)),
            Command::Interrupt { done } => self.interrupt(done).await?,
            Command::Delete { done } => self.delete(done).await?,
        }
        Ok(())
    }

    async fn interrupt(&mut self, done: oneshot::Sender<Result<(), InterruptError>>) -> Result<(), Stop> {
        let stops = self.desk.state().interruptible();
        self.desk.settle(Input::Interrupt).await?;
        if !stops {
            drop(done.send(Ok(())));
            return Ok(());
        }
        let place = Place::of(self.desk.session());
        let sent = match self.line.guest(&self.core, &place) {
            Ok((_, instance)) => instance.send(&place.guest, &[runtime::Input::Interrupt]).await,
            Err(error) => {
                drop(done.send(Err(error.into())));
                return Ok(());
            }
        };
        match sent {
            Ok(outcome) => {
                drop(done.send(Ok(())));
                self.take(Ok(outcome), &Frames::none()).await
            }
            // The turn may go on; the client is told so, and the feed tells the rest.
            Err(error) => {
                drop(done.send(Err(error.into())));
                Ok(())
            }
        }
    }

    async fn delete(&mut self, done: oneshot::Sender<Result<(), DeleteError>>) -> Result<(), Stop> {
        if let Err(error) = self.close_upstream().await {
            drop(done.send(Err(error)));
            return Ok(());
        }
        let deleted = self.desk.delete().await;
        drop(done.send(deleted.map_err(DeleteError::Store)));
        Err(Stop::Deleted)
    }

    /// Ends the session upstream. One that is gone there, that cannot be ended there, or to which there is no way any
    /// more, is as good as ended.
    async fn close_upstream(&mut self) -> Result<(), DeleteError> {
        let place = Place::of(self.desk.session());
        let mut tries = 0;
        loop {
            let closed = match self.line.guest(&self.core, &place) {
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

fn report(session: SessionId, stop: &Stop) {
    match stop {
        Stop::Store(error) => tracing::error!(%session, %error, "a session stops until the host restarts"),
        Stop::Read(error) => tracing::error!(%session, %error, "a session stops: its log cannot be read"),
        Stop::Deleted => {}
    }
}
