//! Carries out what `state.rs` decides for one session: follows its feed, sends its prompts, appends its events.
//!
//! One task, the only writer of the session's log. It lives while there is something to do and a little longer, and
//! loses nothing when it ends: the session's record and the log are all that the next one needs.

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
    Core, DeleteError, InterruptError, Link, LinkError, PromptError,
    event::{self, Seen},
    feed::{Feed, Item},
    live::Command,
    state::{Input, Phase},
    stored::{Message, Session},
};
use crate::{
    clock,
    events::{AppendError, Draft, ReadError, Record, Writer},
    id::SessionId,
    runtime::{self, Body, CallError, Effect, Ending, ErrorKind, Fault, Frame, Instance, Listen, Outcome},
    upstream::{Framing, Response, StreamError},
};

/// How long a pump stays connected after its turn: a conversation's next prompt then finds everything ready.
const LINGER: Duration = Duration::from_secs(30);

/// Tries in a row, of connecting or of sending, before the turn counts as failed.
const TRIES: u32 = 8;

/// The longest wait that an upstream may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// Frames that one call maps: what the guest can do within its budget, with a wide margin.
const FRAMES_PER_CALL: usize = 512;

/// News that one catch-up takes. A gap larger than this ends the turn in an error, with a word about it.
const NEWS_MAX: usize = 100_000;

/// Tries to end a session upstream while it still winds down.
const CLOSE_TRIES: u32 = 6;

/// What a pump can go on with instead of making it.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) link: Link,
    pub(super) instance: Instance,
}

/// A link that is in use.
struct Connection {
    link: Link,
    instance: Instance,
}

/// Waits between tries, longer each time.
struct Backoff {
    tries: u32,
    until: Instant,
}

pub(super) struct Pump {
    core: Arc<Core>,
    session: Session,
    writer: Writer,
    inbox: mpsc::Receiver<Command>,
    connection: Option<Connection>,
    feed: Feed,
    seen: Seen,
    /// True when the upstream has events that the log may lack.
    behind: bool,
    /// True while it is not known whether the prompt sent last arrived.
    unconfirmed: bool,
    connecting: Backoff,
    sending: Backoff,
    idle_since: Instant,
}

/// What ends a pump before its time. The session is as its record says, and is resumed at the next start.
enum Stop {
    Store(AppendError),
    Read(ReadError),
    Deleted,
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Self {
        Self::Store(error)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Why a step with the upstream did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{message}")]
    Feed { kind: ErrorKind, message: String, retry_after: Option<Duration> },
}

impl Backoff {
    fn new() -> Self {
        Self { tries: 0, until: Instant::now() }
    }

    /// Half a second, doubled at each try up to 30 s, and between half and all of it, so that sessions that failed
    /// together do not come back together. An upstream's own wish counts when it is longer.
    fn wait(&mut self, asked: Option<Duration>) {
        let full = Duration::from_millis(500) * 2_u32.pow(self.tries.min(6));
        let chance = u32::try_from(RandomState::new().hash_one(self.tries) % 1000).unwrap_or(0);
        let wait = full.min(Duration::from_secs(30)) * (500 + chance / 2) / 1000;
        self.tries += 1;
        self.until = Instant::now() + wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX));
    }

    fn due(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Pump {
    /// Starts a session's pump. `opened` is what the caller has at hand for a session that it has just made.
    pub(super) fn spawn(core: Arc<Core>, session: Session, opened: Option<Opened>, inbox: mpsc::Receiver<Command>) {
        let executor = core.executor.clone();
        executor.spawn(async move {
            let id = session.id;
            let live = Arc::clone(&core);
            let fresh = opened.is_some();
            let started = match opened {
                Some(Opened { writer, link, instance }) => Ok((writer, Some(Connection { link, instance }))),
                None => core.log.writer(id, session.settled()).map(|writer| (writer, None)),
            };
            match started {
                Ok((writer, connection)) => {
                    let unconfirmed = session.state.phase() == Phase::Sent;
                    let pump = Self {
                        core,
                        session,
                        writer,
                        inbox,
                        connection,
                        feed: Feed::Closed,
                        seen: Seen::default(),
                        behind: !fresh,
                        unconfirmed,
                        connecting: Backoff::new(),
                        sending: Backoff::new(),
                        idle_since: Instant::now(),
                    };
                    pump.run().await;
                }
                Err(error) => tracing::error!(session = %id, %error, "a session cannot be pumped"),
            }
            live.live.remove(id);
        });
    }

    async fn run(mut self) {
        // The record may be newer than the one that the caller had read: commands were handled in between.
        match self.core.log.session(self.session.id) {
            Ok(Some(bytes)) => match Session::read(self.session.id, &bytes) {
                Ok(session) => self.session = session,
                Err(error) => return self.report(&Stop::Read(error)),
            },
            Ok(None) => return,
            Err(error) => return self.report(&Stop::Read(error)),
        }
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(stop) => return self.report(&stop),
            }
        }
    }

    fn report(&self, stop: &Stop) {
        let session = self.session.id;
        match stop {
            Stop::Store(error) => tracing::error!(%session, %error, "a session stops until the host restarts"),
            Stop::Read(error) => tracing::error!(%session, %error, "a session stops: its log cannot be read"),
            Stop::Deleted => {}
        }
    }

    /// Does what is due, then waits for the next thing. False when the pump may go.
    async fn step(&mut self) -> Result<bool, Stop> {
        self.advance().await?;
        let due = self.due();
        let item = select! {
            command = self.inbox.recv() => {
                // The list of live pumps holds a sender, so there is always a command.
                if let Some(command) = command {
                    self.obey(command).await?;
                }
                return Ok(true);
            }
            item = self.feed.next() => item,
            () = sleep_until(due) => return Ok(!self.may_go()),
        };
        match item {
            Item::Frames(frames) => {
                self.connecting.tries = 0;
                self.map(&frames).await?;
            }
            Item::Ended(ending) => self.feed_ended(ending).await?,
        }
        Ok(true)
    }

    /// When there is something to do without anything happening.
    fn due(&self) -> Instant {
        if !self.wants_feed() {
            self.idle_since + LINGER
        } else if self.feed.is_closed() {
            self.connecting.until
        } else if self.session.state.sendable().is_some() {
            self.sending.until
        } else {
            // The feed has a watchdog of its own.
            Instant::now() + Duration::from_hours(1)
        }
    }

    fn may_go(&mut self) -> bool {
        let idle = !self.wants_feed() && self.idle_since.elapsed() >= LINGER;
        idle && self.core.live.leave(self.session.id, &self.inbox)
    }

    fn wants_feed(&self) -> bool {
        !self.session.settled()
    }

    /// Connects and sends as far as it can be done now.
    async fn advance(&mut self) -> Result<(), Stop> {
        while self.wants_feed() {
            if self.feed.is_closed() {
                if !self.connecting.due() {
                    return Ok(());
                }
                match self.connect().await? {
                    Ok(()) => self.connecting.tries = 0,
                    Err(error) => self.connect_failed(&error).await?,
                }
            } else if let Some(number) = self.session.state.sendable() {
                if !self.sending.due() {
                    return Ok(());
                }
                self.send_prompt(number).await?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Opens the feed, before anything is sent, and then fills the gap before it.
    async fn connect(&mut self) -> Result<Result<(), StepError>, Stop> {
        match self.open_feed().await {
            Ok(feed) => self.feed = feed,
            Err(error) => return Ok(Err(error)),
        }
        if !std::mem::replace(&mut self.behind, true) {
            return Ok(Ok(()));
        }
        self.recall()?;
        let news = match self.fetch_news().await {
            Ok(news) => news,
            Err(error) => {
                self.feed = Feed::Closed;
                return Ok(Err(error));
            }
        };
        let something = !news.is_empty();
        for frames in news.chunks(FRAMES_PER_CALL) {
            self.map(frames).await?;
        }
        self.seen.bound();
        if std::mem::take(&mut self.unconfirmed) && !something {
            // Nothing of the prompt is in the upstream's history: it never arrived.
            self.decide(Input::NotArrived);
            self.store().await?;
        }
        Ok(Ok(()))
    }

    fn connection(&mut self) -> Result<&mut Connection, LinkError> {
        let link = match self.connection.take() {
            Some(connection) => return Ok(self.connection.insert(connection)),
            None => self.core.link(&self.session.runtime, Some(&self.session.base))?,
        };
        let instance = link.instance();
        Ok(self.connection.insert(Connection { link, instance }))
    }

    async fn open_feed(&mut self) -> Result<Feed, StepError> {
        let state = self.session.guest.clone();
        let connection = self.connection()?;
        let upstream = &connection.link.upstream;
        let (request, framing) = match connection.instance.listen(&state).await? {
            Listen::Nothing => return Ok(Feed::Quiet),
            Listen::Poll(request, every) => return Ok(Feed::poll(upstream.clone(), request, every)),
            Listen::Sse(request) => (request, Framing::Sse),
            Listen::Lines(request) => (request, Framing::Lines),
        };
        Ok(Feed::stream(upstream.stream(request).await?.frames(framing)))
    }

    /// Reads the whole log, so that every event in it is known again.
    fn recall(&mut self) -> Result<(), ReadError> {
        self.seen.unbound();
        let mut reader = self.writer.reader(0);
        loop {
            let page = reader.next_page(4096, 1024 * 1024)?;
            if page.is_empty() {
                return Ok(());
            }
            for event in page.events() {
                if let Ok(head) = event::check(event.json) {
                    self.seen.insert(&head);
                }
            }
        }
    }

    /// What the upstream remembers and the log does not have, oldest first.
    async fn fetch_news(&mut self) -> Result<Vec<Frame>, StepError> {
        let state = self.session.guest.clone();
        let (mut pages, mut cursor, mut count) = (Vec::new(), None::<String>, 0);
        let mut newest_first = false;
        loop {
            let connection = self.connection()?;
            let history = connection.instance.catch_up(&state, cursor.as_deref()).await?;
            newest_first |= history.newest_first;
            let listed = history.frames.len();
            let unknown = |frame: &Frame| event::check(&frame.data).map_or(true, |head| !self.seen.contains(&head));
            let news: Vec<Frame> = history.frames.into_iter().filter(unknown).collect();
            let all_known = listed > 0 && news.is_empty();
            count += news.len();
            pages.push(news);
            if count > NEWS_MAX {
                let message = format!("the upstream reports more than {NEWS_MAX} events that the host has not seen");
                return Err(StepError::Feed { kind: ErrorKind::Internal, message, retry_after: None });
            }
            cursor = history.next;
            if cursor.is_none() || (newest_first && all_known) {
                break;
            }
        }
        let mut news: Vec<Frame> = pages.into_iter().flatten().collect();
        if newest_first {
            news.reverse();
        }
        Ok(news)
    }

    async fn connect_failed(&mut self, error: &StepError) -> Result<(), Stop> {
        let (kind, asked) = error.verdict();
        tracing::info!(session = %self.session.id, %error, tries = self.connecting.tries, "a feed cannot be followed");
        if error.passes() && self.connecting.tries < TRIES {
            self.connecting.wait(asked);
            return Ok(());
        }
        self.connecting = Backoff::new();
        self.fail(kind, &error.to_string()).await
    }

    async fn feed_ended(&mut self, ending: Ending) -> Result<(), Stop> {
        self.feed = Feed::Closed;
        self.connecting.wait(None);
        if self.connecting.tries == 1 {
            // The first reconnect is quick: most cuts are of a connection and not of a service.
            self.connecting.until = Instant::now() + Duration::from_millis(50);
        }
        let state = self.session.guest.clone();
        let Ok(connection) = self.connection() else { return Ok(()) };
        let outcome = connection.instance.on_end(&state, ending).await;
        self.take(outcome, &[]).await
    }

    async fn map(&mut self, frames: &[Frame]) -> Result<(), Stop> {
        for frames in frames.chunks(FRAMES_PER_CALL) {
            let Some(Connection { instance, .. }) = &mut self.connection else { return Ok(()) };
            let outcome = instance.on_frames(&self.session.guest, frames).await;
            self.take(outcome, frames).await?;
        }
        Ok(())
    }

    /// Sends a waiting prompt. That it is being sent is durable first: after a crash the host looks before it sends
    /// again.
    async fn send_prompt(&mut self, number: u64) -> Result<(), Stop> {
        let Some((_, bytes)) = self.core.log.messages(self.session.id, number)?.into_iter().next() else {
            return Err(ReadError::Damaged { session: self.session.id }.into());
        };
        let text = Message::read(self.session.id, &bytes)?.text;
        let content = serde_json::json!([{"type": "text", "text": text}]).to_string();
        self.decide(Input::Send);
        self.store().await?;
        let state = self.session.guest.clone();
        let sent = match self.connection() {
            Ok(connection) => connection.instance.send(&state, &[runtime::Input::Message(content)]).await,
            Err(error) => return self.fail(ErrorKind::Internal, &error.to_string()).await,
        };
        let Err(CallError::Declared(error)) = &sent else {
            self.sending = Backoff::new();
            return self.take(sent, &[]).await;
        };
        tracing::info!(session = %self.session.id, kind = ?error.kind, tries = self.sending.tries, "a prompt was not taken");
        let again = self.sending.tries < TRIES;
        match error.kind {
            ErrorKind::Throttled | ErrorKind::Overloaded if again => {
                self.sending.wait(error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())));
                self.decide(Input::NotArrived);
                self.store().await
            }
            // It may have arrived: connect anew, and look.
            ErrorKind::Upstream if again => {
                self.sending.wait(None);
                self.connecting.wait(None);
                self.unconfirmed = true;
                self.feed = Feed::Closed;
                Ok(())
            }
            kind => {
                self.sending = Backoff::new();
                let message = error.message.clone();
                self.fail(kind, &message).await
            }
        }
    }

    /// Stores and applies what a call brought.
    async fn take(&mut self, outcome: Result<Outcome, CallError>, frames: &[Frame]) -> Result<(), Stop> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.call_failed(&error).await,
        };
        let (before, mut draft, mut next) = (self.session.state, Draft::default(), self.writer.next_seq());
        for event in &outcome.events {
            let json = match &event.body {
                Body::Frame(index) => frames.get(*index as usize).map(|frame| frame.data.as_str()),
                Body::Json(json) => Some(json.as_str()),
            };
            let Some(json) = json else {
                return self.call_failed(&Fault::Contract("it names a frame that is not there").into()).await;
            };
            match event::check(json) {
                Ok(head) if self.seen.insert(&head) => {
                    let json = event::on_one_line(json);
                    if head.id.is_some() {
                        draft.push(&head.kind, &json);
                    } else {
                        draft.push(&head.kind, &event::with_id(&json, &event_id(self.session.id, next)));
                    }
                    next += 1;
                    if let Some(input) = input_of(event.effect) {
                        self.decide(input);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(session = %self.session.id, %error, "something that is no event is left out");
                }
            }
        }
        if outcome.relisten {
            self.feed = Feed::Closed;
        }
        let changed = outcome.state.is_some() || before != self.session.state;
        if let Some(state) = outcome.state {
            self.session.guest = state;
        }
        self.commit(draft, changed).await
    }

    async fn call_failed(&mut self, error: &CallError) -> Result<(), Stop> {
        // A guest that failed is gone; what it did not map is fetched again at the next turn.
        self.feed = Feed::Closed;
        let kind = match error {
            CallError::Declared(error) => error.kind,
            CallError::Fault(fault) => {
                tracing::error!(session = %self.session.id, runtime = %self.session.runtime, ?fault, "a runtime failed");
                ErrorKind::Internal
            }
        };
        self.fail(kind, &error.to_string()).await
    }

    /// Ends the turn with an error that clients see.
    async fn fail(&mut self, kind: ErrorKind, message: &str) -> Result<(), Stop> {
        let id = event_id(self.session.id, self.writer.next_seq());
        let mut draft = Draft::default();
        draft.push("session.error", &event::session_error(&id, kind, message));
        self.decide(Input::Fail);
        self.commit(draft, true).await
    }

    fn decide(&mut self, input: Input) {
        match self.session.state.apply(input) {
            Ok(state) => self.session.state = state,
            Err(refused) => tracing::debug!(session = %self.session.id, ?input, %refused, "late news"),
        }
        self.idle_since = Instant::now();
    }

    async fn store(&mut self) -> Result<(), Stop> {
        self.commit(Draft::default(), true).await
    }

    /// Appends events, with the session's record when that has changed. All of it or nothing.
    async fn commit(&mut self, draft: Draft, changed: bool) -> Result<(), Stop> {
        let records = if changed { self.changed_record() } else { Vec::new() };
        if draft.is_empty() && records.is_empty() {
            return Ok(());
        }
        Ok(self.writer.append(draft, records, self.session.settled()).await?)
    }

    fn changed_record(&mut self) -> Vec<Record> {
        self.session.version += 1;
        self.session.updated_ms = clock::unix_ms();
        vec![self.session.record()]
    }

    async fn obey(&mut self, command: Command) -> Result<(), Stop> {
        // A client that went away needs no answer.
        match command {
            Command::Prompt { text, done } => {
                let taken = self.take_prompt(text).await;
                drop(done.send(taken));
            }
            Command::Interrupt { done } => self.interrupt(done).await?,
            Command::Delete { done } => return self.delete(done).await,
        }
        Ok(())
    }

    async fn take_prompt(&mut self, text: String) -> Result<Message, PromptError> {
        let (message, record) = self.session.take_prompt(text)?;
        let mut records = self.changed_record();
        records.push(record);
        self.writer.append(Draft::default(), records, false).await?;
        Ok(message)
    }

    async fn interrupt(&mut self, done: oneshot::Sender<Result<(), InterruptError>>) -> Result<(), Stop> {
        let stops = self.session.state.interruptible();
        self.decide(Input::Interrupt);
        self.store().await?;
        if !stops {
            drop(done.send(Ok(())));
            return Ok(());
        }
        let state = self.session.guest.clone();
        let sent = match self.connection() {
            Ok(connection) => connection.instance.send(&state, &[runtime::Input::Interrupt]).await,
            Err(error) => {
                drop(done.send(Err(error.into())));
                return Ok(());
            }
        };
        match sent {
            Ok(outcome) => {
                drop(done.send(Ok(())));
                self.take(Ok(outcome), &[]).await
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
        let deleted = self.core.log.delete(self.session.id).await;
        drop(done.send(deleted.map_err(DeleteError::Store)));
        Err(Stop::Deleted)
    }

    /// Ends the session upstream. One that is gone there already, or whose credential no longer is, is as good as ended.
    async fn close_upstream(&mut self) -> Result<(), DeleteError> {
        let state = self.session.guest.clone();
        for tries in 0.. {
            let instance = match self.connection() {
                Ok(connection) => &mut connection.instance,
                Err(LinkError::NoCredential | LinkError::Moved | LinkError::UnknownRuntime) => {
                    tracing::warn!(session = %self.session.id, "a session is removed here and not upstream: there is no way to it");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            match instance.close(&state).await {
                Ok(()) => return Ok(()),
                Err(CallError::Declared(error)) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => {
                    return Ok(());
                }
                // It winds down after the interrupt.
                Err(CallError::Declared(error)) if error.kind == ErrorKind::Conflict && tries < CLOSE_TRIES => {
                    sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The id of an event that has none from its upstream. Made of its place, so that it is the same however often it is
/// made.
fn event_id(session: SessionId, seq: u64) -> String {
    let session = session.to_string();
    let digits = session.strip_prefix("ses_").unwrap_or(&session);
    format!("evt_{digits}_{seq}")
}

fn input_of(effect: Effect) -> Option<Input> {
    Some(match effect {
        Effect::None => return None,
        Effect::Started => Input::Started,
        Effect::Waiting => Input::Waits,
        Effect::Ended => Input::Ended,
        Effect::Failed => Input::Failed,
        Effect::Rescheduled => Input::Rescheduled,
        Effect::Terminated => Input::Terminated,
    })
}

/// What an upstream asks for in seconds. The other form of the header, a date, is as rare as clocks that agree.
fn retry_after(answer: &Response) -> Option<Duration> {
    let (_, value) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    value.parse().ok().map(Duration::from_secs)
}

impl From<StreamError> for StepError {
    fn from(error: StreamError) -> Self {
        let (kind, retry_after) = match &error {
            StreamError::Status(answer) => match answer.status {
                401 | 403 => (ErrorKind::Auth, None),
                404 | 410 => (ErrorKind::Gone, None),
                429 => (ErrorKind::Throttled, retry_after(answer)),
                503 | 529 => (ErrorKind::Overloaded, retry_after(answer)),
                400..=499 => (ErrorKind::BadRequest, None),
                _ => (ErrorKind::Upstream, None),
            },
            StreamError::Send(_) => (ErrorKind::Upstream, None),
        };
        Self::Feed { kind, message: error.to_string(), retry_after }
    }
}

impl StepError {
    /// What to tell clients, and what the upstream asks for.
    fn verdict(&self) -> (ErrorKind, Option<Duration>) {
        match self {
            Self::Link(_) | Self::Call(CallError::Fault(_)) => (ErrorKind::Internal, None),
            Self::Call(CallError::Declared(error)) => {
                (error.kind, error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())))
            }
            Self::Feed { kind, retry_after, .. } => (*kind, *retry_after),
        }
    }

    /// True when another try may succeed.
    fn passes(&self) -> bool {
        let (kind, _) = self.verdict();
        matches!(kind, ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::Upstream)
    }
}
