//! Drives one session: tells the session machine what happens and carries out what it answers. Decides nothing.
//!
//! One task, the only writer of the session's log. It lives while there is something to do and a little longer, and loses
//! nothing when it ends: the session's record and the log are all that the next one needs.

use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    future::pending,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use lap_session::{
    Action, Call, Cause, Commit, Done, Event, Failure, Machine, Now, Opened, Page, Reply, Segment, Start, Ticket,
    UpstreamEnd,
};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    Core, DeleteError, InputError, InterruptError, KillError, Link, PromptError,
    admission::Turn,
    changes::Changed,
    failure::StepError,
    feed::{Feed, Item},
    live::Command,
    orphans::Orphan,
    resting::Rest,
    sends::Sending,
    stored::{Change, Facts, Message, Session},
};
use crate::{
    blocking::blocking,
    clock,
    disk::Room,
    events::{self, AppendError, EventLog, Limit, ReadError, Reader, Receipt, Record, Run, Writer, WriterError},
    id::SessionId,
    runtime::{self, CallError, Frames, Instance, Listen},
    upstream::Framing,
};

/// Events of the log that are recalled at once, and their size in bytes; and the same for segments of its index.
const RECALL_EVENTS: u64 = 4096;
const RECALL_BYTES: usize = 1024 * 1024;
const RECALL_SEGMENTS: Limit = Limit { rows: 64, bytes: 4 * 1024 * 1024 };

/// How many lines of a session the operator's log has in this time.
const NOTES_MAX: u32 = 20;
const NOTES_TIME: Duration = Duration::from_mins(1);

/// How many failures are kept in mind for those who are told of them later.
const FAILURES_MAX: usize = 8;

/// How long another writer of the session, who is just leaving, is waited for.
const WRITER_WAIT: Duration = Duration::from_millis(5);
const WRITER_TRIES: u32 = 400;

/// How long it is waited before a session whose driver panicked goes on, and how often it does.
const RESTART_WAIT: Duration = Duration::from_secs(1);
const RESTARTS_MAX: u32 = 5;

/// What a driver can go on with instead of making it.
pub(super) struct OpenedSession {
    pub(super) found: Found,
    pub(super) link: Link,
    pub(super) turn: Option<Turn>,
}

/// What a driver begins with: what the log has of its session.
pub(super) struct Found {
    pub(super) writer: Writer,
    pub(super) session: Session,
    /// The prompts that are not known to be answered: the one that was sent last, and those that wait.
    pub(super) current: Option<lap_session::Prompt>,
    pub(super) queue: Vec<lap_session::Prompt>,
}

impl Found {
    /// Nothing where there is no such session. Blocks on the file.
    ///
    /// # Errors
    /// When somebody else is the session's writer, or its rows cannot be read.
    fn read(core: &Core, id: SessionId) -> Result<Option<Self>, WriterError> {
        let writer = core.writer(id)?;
        // Read anew: while nobody had the writer, somebody may have changed it.
        let Some(bytes) = core.log.session(id)? else { return Ok(None) };
        let session = Session::read(id, &bytes)?;
        let (current, queue) = unanswered(core, &session)?;
        Ok(Some(Self { writer, session, current, queue }))
    }
}

/// What ends a driver before its time. The session is as its record says, and is resumed at the next start.
enum Stop {
    Store(AppendError),
    Read(ReadError),
    Deleted,
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What a client waits for.
enum Asked {
    Prompt { message: Message, done: oneshot::Sender<Result<Message, PromptError>> },
    Interrupt { done: oneshot::Sender<Result<(), InterruptError>> },
    Input { done: oneshot::Sender<Result<(), InputError>> },
    Amend { change: Box<Change>, refused: Option<String>, done: oneshot::Sender<Result<Session, InputError>> },
    Kill { durable: Option<oneshot::Sender<Result<(), KillError>>>, over: oneshot::Sender<UpstreamEnd> },
    Delete { done: oneshot::Sender<Result<bool, DeleteError>> },
}

/// What a call under way gives back.
struct Called {
    guest: Option<(Link, Instance)>,
    done: Result<Done, StepError>,
    /// What it has opened.
    feed: Option<Feed>,
    /// What of the log was read, while it is recalled.
    recalled: Option<(Reader, Result<Recalled, ReadError>)>,
}

/// What of a log was read.
enum Recalled {
    /// Of its index; nothing once all of that was read.
    Segments(Vec<Segment>),
    /// The index is of no use.
    NoIndex(ReadError),
    /// Of its events, behind that; nothing once all were read.
    Events(events::Page),
}

/// What a commit under way gives back: the writer, whether it is durable, and what others are told then.
type Stored = (Writer, Result<(), AppendError>, Option<Changed>);

struct Driver {
    core: Arc<Core>,
    machine: Machine,
    session: Session,
    /// Those that an amendment has changed, until they are durable: the log shows older ones until then.
    facts: Option<Facts>,
    /// True when they are not in a commit yet.
    facts_changed: bool,
    writer: Option<Writer>,
    inbox: mpsc::Receiver<Command>,
    asked: HashMap<Ticket, Asked>,
    /// What is noted with the commit that fulfils a wish; of those among `asked`.
    receipts: HashMap<Ticket, Receipt>,
    next_ticket: u64,
    guest: Option<(Link, Instance)>,
    feed: Feed,
    reading: bool,
    calling: Option<BoxFuture<'static, Called>>,
    /// The version of the credential that the guest's requests go with.
    credential: Option<u64>,
    /// True when the guest of the call under way is of another credential: the next call gets a new one.
    outdated: bool,
    /// True when the runtime's version has changed behind a call that was given up, and the record does not say so yet.
    pinned: bool,
    /// Lines for the operator, and since when they are counted.
    notes: u32,
    notes_since: Instant,
    committing: Option<BoxFuture<'static, Stored>>,
    began: Instant,
    /// What was behind the latest failures, for those who are told of them.
    failures: VecDeque<(Failure, StepError)>,
    /// What is on its way to the upstream, until what came of it is durable.
    sending: Option<Sending>,
    /// The next moment that the machine has asked for, or an earlier one.
    alarm: Pin<Box<Sleep>>,
    left: bool,
    /// While it has something to do: its turn among those of the host.
    turn: Option<Turn>,
    /// While it has not: its place among those that are at rest.
    rest: Option<Rest>,
    /// What the next commit says of whether the session may go on upstream, if it says anything of that.
    unended: Option<Option<Vec<u8>>>,
}

/// Starts a session's driver, and starts it again when it panics. `opened` is what the caller has at hand of a session that
/// it has just made.
pub(super) fn spawn(core: Arc<Core>, id: SessionId, opened: Option<OpenedSession>, inbox: mpsc::Receiver<Command>) {
    let executor = core.executor.clone();
    executor.spawn(async move {
        let (mut opened, mut inbox, mut restarts) = (opened, inbox, 0);
        loop {
            let driven = AssertUnwindSafe(drive(&core, id, opened.take(), inbox)).catch_unwind().await;
            // Whoever comes now starts the next one.
            core.live.remove_dead(id);
            match driven {
                Ok(Ok(()) | Err(Stop::Deleted)) => return,
                Ok(Err(Stop::Store(error))) => {
                    return tracing::error!(session = %id, %error, "a session stops until the host restarts");
                }
                Ok(Err(Stop::Read(error))) => {
                    return tracing::error!(session = %id, %error, "a session stops: its log cannot be read");
                }
                Err(_) => tracing::error!(session = %id, restarts, "a session's driver panicked"),
            }
            restarts += 1;
            if restarts > RESTARTS_MAX {
                tracing::error!(session = %id, "a session stops until somebody wants something of it, or the host restarts");
                return;
            }
            sleep(RESTART_WAIT * 2_u32.pow(restarts - 1)).await;
            match core.live.start(id) {
                Some(next) => inbox = next,
                // A client's wish has started one meanwhile.
                None => return,
            }
        }
    });
}

async fn drive(
    core: &Arc<Core>,
    id: SessionId,
    opened: Option<OpenedSession>,
    inbox: mpsc::Receiver<Command>,
) -> Result<(), Stop> {
    let fresh = opened.is_some();
    let (found, guest, turn) = match opened {
        Some(OpenedSession { found, link, turn }) => {
            let instance = link.instance_of(id, core);
            (found, Some((link, instance)), turn)
        }
        None => (find(core, id).await?, None, None),
    };
    let mut driver = Driver::new(core, id, found, guest, fresh, inbox);
    driver.turn = turn;
    driver.run().await
}

/// What the log has, with the right to append to it. Whoever has that is about to leave.
async fn find(core: &Arc<Core>, id: SessionId) -> Result<Found, Stop> {
    for _ in 0..WRITER_TRIES {
        let reader = Arc::clone(core);
        match blocking(move || Found::read(&reader, id)).await {
            Ok(found) => return found.ok_or(Stop::Deleted),
            Err(WriterError::Read(error)) => return Err(error.into()),
            Err(WriterError::Taken) => sleep(WRITER_WAIT).await,
        }
    }
    Err(Stop::Store(AppendError::Fenced))
}

impl Driver {
    fn new(
        core: &Arc<Core>,
        id: SessionId,
        found: Found,
        guest: Option<(Link, Instance)>,
        fresh: bool,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let Found { writer, session, current, queue } = found;
        let credential = core.credential_of(&session);
        let start = Start {
            session: id.to_string(),
            kept: session.kept(),
            next_seq: writer.next_seq(),
            queue,
            queue_limit: core.queue_limit,
            current,
            archived: session.archived_ms.is_some(),
            named: session.upstream_id.is_some(),
            credential,
            fresh,
            seed: core.chance(&id),
            secret: core.secret(id),
        };
        let began = Instant::now();
        Self {
            core: Arc::clone(core),
            machine: Machine::new(start, clock::unix_ms()),
            session,
            facts: None,
            facts_changed: false,
            writer: Some(writer),
            inbox,
            asked: HashMap::new(),
            receipts: HashMap::new(),
            next_ticket: 0,
            guest,
            feed: Feed::Closed,
            reading: false,
            calling: None,
            credential,
            outdated: false,
            pinned: false,
            notes: 0,
            notes_since: began,
            committing: None,
            failures: VecDeque::new(),
            sending: None,
            began,
            alarm: Box::pin(sleep_until(began)),
            left: false,
            turn: None,
            rest: None,
            unended: None,
        }
    }

    async fn run(mut self) -> Result<(), Stop> {
        let (mut credentials, mut room) = (self.core.upstreams.changes(), self.core.disk.room());
        // All drivers wait for these, which seldom come: none joins and leaves the queue with each event.
        let mut credential_comes = Box::pin(change_of(&mut credentials));
        let mut room_comes = Box::pin(change_of(&mut room));
        self.tell(Event::Time).await?;
        while !self.left {
            let armed = self.arm();
            if self.machine.is_at_rest() {
                self.turn = None;
                self.rest.get_or_insert_with(|| self.core.resting.enter());
            } else {
                self.rest = None;
                self.turn.get_or_insert_with(|| self.core.admission.count(&self.session.owner));
            }
            let has_room = *room.borrow() != Room::None;
            select! {
                command = self.inbox.recv() => {
                    // The list of live drivers holds a sender as long as this one lives, unless its session is gone.
                    let Some(command) = command else { return Err(Stop::Deleted) };
                    // Whoever has just stored a credential means what follows to be done with it.
                    if credentials.has_changed().unwrap_or_default() {
                        credential_comes.set(change_of(&mut credentials));
                        self.credential_changed().await?;
                    }
                    self.obey(command).await?;
                }
                (writer, stored, changed) = ready(&mut self.committing) => {
                    self.committing = None;
                    self.writer = Some(writer);
                    stored.map_err(Stop::Store)?;
                    self.sent_durably();
                    if !self.facts_changed {
                        self.facts = None;
                    }
                    if let Some(changed) = changed {
                        self.core.changes.announce(changed);
                    }
                    self.tell(Event::Committed).await?;
                }
                called = ready(&mut self.calling) => {
                    self.calling = None;
                    self.called(called).await?;
                    self.sent_durably();
                }
                item = self.feed.read(self.reading), if has_room => {
                    self.reading = false;
                    self.read(item).await?;
                }
                () = &mut credential_comes => {
                    credential_comes.set(change_of(&mut credentials));
                    self.credential_changed().await?;
                }
                () = over(self.rest.as_ref()) => self.tell(Event::GiveWay).await?,
                () = &mut room_comes => room_comes.set(change_of(&mut room)),
                () = &mut self.alarm, if armed => self.tell(Event::Time).await?,
            }
        }
        Ok(())
    }

    /// Some credential was stored or removed, perhaps the one of this session.
    async fn credential_changed(&mut self) -> Result<(), Stop> {
        let version = self.core.credential_of(&self.session);
        if version != self.credential {
            // What its runtime is, and whether there is one, is asked anew.
            self.credential = version;
            self.guest = None;
            self.outdated = self.calling.is_some();
        }
        self.tell(Event::Credential(version)).await
    }

    /// What came of a call that sends is durable once nothing is under way any more: the host may end.
    fn sent_durably(&mut self) {
        if self.calling.is_none() && self.committing.is_none() {
            self.sending = None;
        }
    }

    fn now(&self) -> Now {
        Now { at: self.began.elapsed(), unix_ms: clock::unix_ms() }
    }

    /// Sets the alarm for what the machine waits for; false when that is nothing. One that rings too early does no harm.
    fn arm(&mut self) -> bool {
        let Some(due) = self.machine.due() else { return false };
        let due = self.began + due;
        if self.alarm.is_elapsed() || due < self.alarm.deadline() {
            self.alarm.as_mut().reset(due);
        }
        true
    }

    /// Tells the machine, and carries out what it answers.
    async fn tell(&mut self, event: Event) -> Result<(), Stop> {
        // Only a guest that is made anew can be of another version.
        if self.guest.is_none() && self.calling.is_none() && self.pin() {
            self.act_on(Event::RecordChanged).await?;
        }
        self.act_on(event).await?;
        // A call that was begun behind one that was given up has a guest of its own.
        if std::mem::take(&mut self.pinned) {
            self.act_on(Event::RecordChanged).await?;
        }
        Ok(())
    }

    async fn act_on(&mut self, event: Event) -> Result<(), Stop> {
        let now = self.now();
        let mut actions: VecDeque<Action> = self.machine.on(event, now).into();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Commit(commit) => self.commit(commit).await?,
                Action::Call(call) => self.call(call),
                Action::Abandon => {
                    (self.calling, self.guest, self.sending) = (None, None, None);
                    self.outdated = false;
                    self.pinned |= self.pin();
                }
                Action::CloseFeed => (self.feed, self.reading) = (Feed::Closed, false),
                Action::Read => self.reading = true,
                Action::Amend(ticket) => {
                    let made = self.amend(ticket).await?;
                    actions.extend(self.machine.on(Event::Amended { made }, now));
                }
                Action::Reply(ticket, reply) => self.reply(ticket, reply),
                Action::Remove { tickets, unended } => return self.remove(tickets, unended).await,
                Action::Ended(end) => {
                    self.ended(&end);
                    // Whoever is told of the end finds it noted: by the commit that tells of it, or by one of its own.
                    if !actions.iter().any(|action| matches!(action, Action::Commit(_))) {
                        self.note_unended().await?;
                    }
                }
                Action::Note(text) => self.note(&text),
                Action::Shown { .. } => {}
                Action::Leave => self.leave(),
            }
        }
        Ok(())
    }

    /// A line for the operator, of which an upstream can cause as many as it likes: so many in a minute at the most.
    fn note(&mut self, text: &str) {
        if self.notes_since.elapsed() >= NOTES_TIME {
            (self.notes_since, self.notes) = (Instant::now(), 0);
        }
        self.notes += 1;
        let (session, runtime) = (self.session.id, &self.session.runtime);
        match self.notes.cmp(&NOTES_MAX) {
            Ordering::Less => tracing::warn!(%session, %runtime, "{text}"),
            Ordering::Equal => {
                tracing::warn!(%session, %runtime, "{text}; no more of it for a minute");
            }
            Ordering::Greater => {}
        }
    }

    async fn read(&mut self, item: Item) -> Result<(), Stop> {
        match item {
            Item::Frames(batches) if batches.is_empty() => self.tell(Event::Frames(Frames::none())).await,
            Item::Frames(batches) => {
                for batch in batches {
                    self.tell(Event::Frames(batch)).await?;
                }
                Ok(())
            }
            Item::Ended(ending) => {
                self.feed = Feed::Closed;
                self.tell(Event::FeedEnded(ending)).await
            }
            Item::Refused(failure) => {
                self.feed = Feed::Closed;
                self.tell(Event::FeedRefused(failure)).await
            }
        }
    }

    /// Leaves the list of live drivers, unless a command waits. The log is free for the next writer before that.
    fn leave(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        writer.let_go();
        self.left = self.core.live.leave(self.session.id, &self.inbox);
        if !self.left {
            writer.take_back();
        }
    }

    // ---- clients

    async fn obey(&mut self, command: Command) -> Result<(), Stop> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (event, asked) = match command {
            Command::Prompt { id, prompt, turn, receipt, done } => {
                self.keep_receipt(ticket, receipt);
                self.turn = self.turn.take().or(turn);
                let message = prompt.into_message(id);
                (Event::Prompt { ticket, prompt: message.prompt() }, Asked::Prompt { message, done })
            }
            Command::Interrupt { receipt, done } => {
                self.keep_receipt(ticket, receipt);
                (Event::Interrupt { ticket }, Asked::Interrupt { done })
            }
            Command::Input { json, receipt, done } => {
                self.keep_receipt(ticket, receipt);
                (Event::Input { ticket, json }, Asked::Input { done })
            }
            Command::Amend { amendment, input, receipt, done } => {
                let super::Amendment { change, event, at_rest } = amendment;
                // Nothing leaves the host before it is known that the change can be meant.
                let facts = self.facts().await?;
                if let Err(message) = self.changed(facts, &*change) {
                    drop(done.send(Err(InputError::Invalid(message))));
                    return Ok(());
                }
                self.keep_receipt(ticket, receipt);
                (Event::Amend { ticket, input, event, at_rest }, Asked::Amend { change, refused: None, done })
            }
            Command::Kill { receipt, durable, over } => {
                self.keep_receipt(ticket, receipt);
                (Event::Kill { ticket }, Asked::Kill { durable: Some(durable), over })
            }
            Command::Delete { version, done } => (Event::Delete { ticket, version }, Asked::Delete { done }),
        };
        self.asked.insert(ticket, asked);
        self.tell(event).await
    }

    fn keep_receipt(&mut self, ticket: Ticket, receipt: Option<Receipt>) {
        self.receipts.extend(receipt.map(|receipt| (ticket, receipt)));
    }

    /// The facts as they are now, also where they are not stored yet.
    async fn facts(&mut self) -> Result<Facts, ReadError> {
        if let Some(facts) = &self.facts {
            return Ok(facts.clone());
        }
        let (id, log) = (self.session.id, self.core.log.clone());
        let stored = blocking(move || log.facts(id)).await?;
        stored.map_or_else(|| Ok(Facts::unknown()), |bytes| Facts::read(id, &bytes))
    }

    /// The record and the facts as a change makes them, or why it does not.
    fn changed(&self, mut facts: Facts, change: &Change) -> Result<(Session, Facts), String> {
        let mut session = self.session.clone();
        change(&mut session, &mut facts)?;
        Ok((session, facts))
    }

    /// Makes a change, unless it cannot be meant any more.
    async fn amend(&mut self, ticket: Ticket) -> Result<bool, Stop> {
        let facts = self.facts().await?;
        let Some(Asked::Amend { change, .. }) = self.asked.get(&ticket) else { return Ok(false) };
        match self.changed(facts, &**change) {
            Ok((session, facts)) => {
                self.machine.set_archived(session.archived_ms.is_some());
                self.session = session;
                self.facts = Some(facts);
                self.facts_changed = true;
                Ok(true)
            }
            // It could be meant when it came, and another one was made since.
            Err(reason) => {
                if let Some(Asked::Amend { refused, .. }) = self.asked.get_mut(&ticket) {
                    *refused = Some(reason);
                }
                Ok(false)
            }
        }
    }

    /// A client that went away needs no answer.
    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        // A wish to end the session has two answers.
        if reply == Reply::Done
            && let Some(Asked::Kill { durable, .. }) = self.asked.get_mut(&ticket)
        {
            if let Some(durable) = durable.take() {
                drop(durable.send(Ok(())));
            }
            return;
        }
        self.receipts.remove(&ticket);
        let Some(asked) = self.asked.remove(&ticket) else { return };
        match asked {
            Asked::Prompt { message, done } => drop(done.send(match reply {
                Reply::Taken(_) => Ok(message),
                Reply::Refused(refused) => Err(refused.into()),
                Reply::QueueFull => Err(PromptError::QueueFull),
                _ => Err(PromptError::Busy),
            })),
            Asked::Interrupt { done } => drop(done.send(match reply {
                Reply::Done => Ok(()),
                _ => Err(InterruptError::Busy),
            })),
            Asked::Input { done } => drop(done.send(self.input_reply(reply))),
            Asked::Amend { done, refused: Some(refused), .. } => drop(done.send(Err(InputError::Invalid(refused)))),
            Asked::Amend { done, .. } => {
                let replied = self.input_reply(reply);
                drop(done.send(replied.map(|()| self.session.clone())));
            }
            Asked::Kill { durable, over } => match (reply, durable) {
                (Reply::Over(end), _) => drop(over.send(end)),
                (_, Some(durable)) => drop(durable.send(Err(KillError::Busy))),
                (_, None) => {}
            },
            Asked::Delete { done } => drop(done.send(match reply {
                Reply::Changed => Ok(false),
                Reply::Failed(failure) => Err(match self.behind(&failure) {
                    Some(StepError::Link(error)) => error.clone().into(),
                    Some(StepError::Call(error)) => error.clone().into(),
                    Some(StepError::Feed(_)) | None => DeleteError::Upstream(declared(failure)),
                }),
                _ => Err(DeleteError::Busy),
            })),
        }
    }

    /// What was behind a failure that clients are told of, each that asks while it lasts. Two that look the same are the same
    /// for whoever is told.
    fn behind(&self, failure: &Failure) -> Option<&StepError> {
        self.failures.iter().find(|(known, _)| known == failure).map(|(_, error)| error)
    }

    fn input_reply(&self, reply: Reply) -> Result<(), InputError> {
        Err(match reply {
            Reply::Done => return Ok(()),
            Reply::Refused(refused) => refused.into(),
            Reply::Running => InputError::Running,
            Reply::Failed(failure) => match self.behind(&failure) {
                Some(StepError::Link(error)) => error.clone().into(),
                Some(StepError::Call(error)) => error.clone().into(),
                Some(StepError::Feed(_)) | None => InputError::Upstream(declared(failure)),
            },
            Reply::Unreachable => {
                let message = "the upstream cannot be reached, so nothing was sent; send it again in a while";
                InputError::Unreachable(message.to_owned())
            }
            Reply::Overtaken => InputError::Unknown,
            Reply::Withdrawn => InputError::Withdrawn,
            _ => InputError::Busy,
        })
    }

    async fn remove(&mut self, tickets: Vec<Ticket>, unended: Option<String>) -> Result<(), Stop> {
        let id = self.session.id;
        let orphan = unended.map(|reason| {
            tracing::warn!(session = %id, reason, "a session is removed here and may go on upstream");
            self.orphan(reason)
        });
        if let Some(committing) = self.committing.take() {
            // What was under way is removed with the rest.
            drop(committing.await);
        }
        let deleted = self.core.log.delete(id, orphan).await;
        self.core.changes.announce(Changed::of(&self.session));
        for ticket in tickets {
            if let Some(Asked::Delete { done }) = self.asked.remove(&ticket) {
                drop(done.send(deleted.map(|()| true).map_err(DeleteError::Store)));
            }
        }
        Err(Stop::Deleted)
    }

    fn ended(&mut self, end: &UpstreamEnd) {
        if !end.verified {
            let (id, detail) = (self.session.id, end.detail.as_str());
            tracing::warn!(session = %id, detail, "a session is over here and may go on upstream");
        }
        self.unended = Some(end.runs_on.then(|| self.orphan(end.detail.clone())));
    }

    /// What is kept in mind of the session when it may go on upstream.
    fn orphan(&self, reason: String) -> Vec<u8> {
        let mut session = self.session.clone();
        session.keep(self.machine.kept());
        Orphan::new(session, reason, self.credential).to_bytes()
    }

    /// Keeps in mind whether the session may go on upstream, where no commit has taken that along.
    async fn note_unended(&mut self) -> Result<(), Stop> {
        let id = self.session.id;
        match self.unended.take() {
            None => Ok(()),
            Some(None) => {
                let log = self.core.log.clone();
                match blocking(move || log.orphan(id)).await? {
                    Some(_) => self.core.log.set_orphan(id, None).await.map_err(Stop::Store),
                    None => Ok(()),
                }
            }
            Some(orphan) => self.core.log.set_orphan(id, orphan).await.map_err(Stop::Store),
        }
    }

    // ---- the store

    async fn commit(&mut self, commit: Commit) -> Result<(), Stop> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let Commit { draft, record, prompts, withdrawn, segments, settled, fulfilled, .. } = commit;
        let receipts = fulfilled.iter().filter_map(|ticket| self.receipt(*ticket)).collect();
        let mut records = Vec::new();
        let mut withdrawn = withdrawn;
        withdrawn.sort_unstable();
        for (ticket, number) in prompts {
            if let Some(Asked::Prompt { message, .. }) = self.asked.get(&ticket) {
                let gone = withdrawn.binary_search(&number).is_ok();
                records.push(Message { withdrawn: gone, ..message.clone() }.record(number));
                withdrawn.retain(|other| *other != number);
            }
        }
        records.extend(withdraw(self.core.log.clone(), self.session.id, withdrawn).await?);
        let changed = record.then(|| {
            self.session.keep(self.machine.kept());
            records.push(self.session.record());
            Changed::of(&self.session)
        });
        // The record says which facts belong to it.
        if record && std::mem::take(&mut self.facts_changed) {
            records.extend(self.facts.as_ref().map(Facts::record));
        }
        records.extend(segments.iter().map(|segment| {
            let (number, bytes) = (segment.number, segment.to_bytes());
            Record::Segment { number, bytes }
        }));
        records.extend(self.unended.take().map(Record::Orphan));
        self.committing = Some(Box::pin(async move {
            let stored = writer.fulfil(draft, records, receipts, settled).await;
            (writer, stored, changed)
        }));
        Ok(())
    }

    /// The receipt for a wish that a commit fulfils.
    fn receipt(&mut self, ticket: Ticket) -> Option<Receipt> {
        let receipt = self.receipts.remove(&ticket);
        // It was given up for another change, and its client is told so.
        let refused = matches!(self.asked.get(&ticket), Some(Asked::Amend { refused: Some(_), .. }));
        receipt.filter(|_| !refused)
    }

    /// Looks which version of the runtime the next guest is of, where the one that the session was made on is gone. That is
    /// part of the record, so that whatever becomes of the host, a turn ends on the version that it began on. True when it is
    /// another one.
    fn pin(&mut self) -> bool {
        let profile = self.core.registry.get_for(&self.session.runtime, self.session.component);
        let found = profile.map(|profile| profile.component);
        let other = found.is_some() && found != self.session.component;
        if other {
            self.session.component = found;
        }
        other
    }

    // ---- the guest

    fn call(&mut self, call: Call) {
        let (core, session, state) = (Arc::clone(&self.core), self.session.place(), self.machine.guest().to_owned());
        let guest = self.guest.take();
        if matches!(call, Call::Recall) {
            let reader = self.writer.as_ref().map(|writer| writer.reader(0));
            self.guest = guest;
            self.calling = reader.map(|reader| recalling(reader, Some(0)));
            return;
        }
        if matches!(call, Call::SendPrompt(_) | Call::SendInput(_) | Call::SendInterrupt) {
            // What was sent before is durable by now.
            self.sending = None;
            let Some(send) = self.core.sends.begin() else {
                // The host ends, and the next start sends it.
                self.guest = guest;
                self.calling = Some(Box::pin(pending()));
                return;
            };
            self.sending = Some(send);
        }
        // What is read of an upstream is to be stored.
        let room = matches!(call, Call::Connect | Call::CatchUp(_)).then(|| self.core.disk.room());
        self.calling = Some(Box::pin(async move {
            if let Some(mut room) = room {
                drop(room.wait_for(|room| *room != Room::None).await);
            }
            let guest = match guest {
                Some(guest) => Ok(guest),
                None => core.link(&session.runtime, session.component, Some(&session.base)).await.map(|link| {
                    let instance = link.instance_of(session.id, &core);
                    (link, instance)
                }),
            };
            let (link, mut instance) = match guest {
                Ok(guest) => guest,
                Err(error) => return Called { guest: None, done: Err(error.into()), feed: None, recalled: None },
            };
            // What maps only needs no upstream; for the rest the credential may have gone since the guest was made.
            let asks = !matches!(call, Call::OnFrames(_) | Call::OnEnd(_));
            if asks && let Err(error) = link.upstream.current() {
                return Called { guest: Some((link, instance)), done: Err(error.into()), feed: None, recalled: None };
            }
            let mut feed = None;
            let done = match call {
                Call::Connect => connect(&link, &mut instance, &state).await.map(|(opened, found)| {
                    feed = Some(found);
                    Done::Connected(opened)
                }),
                call => perform(&mut instance, &state, call).await.map_err(|error| link.cause(error)),
            };
            Called { guest: Some((link, instance)), done, feed, recalled: None }
        }));
    }

    async fn called(&mut self, called: Called) -> Result<(), Stop> {
        let Called { guest, done, feed, recalled } = called;
        let outdated = std::mem::take(&mut self.outdated);
        if guest.is_some() && !outdated {
            self.guest = guest;
        }
        if let Some((mut reader, recalled)) = recalled {
            match recalled {
                Ok(Recalled::Segments(segments)) => {
                    segments.iter().for_each(|segment| self.machine.recall_segment(segment));
                    let next = segments.last().map(|segment| segment.number + 1);
                    if next.is_none() {
                        reader.seek(self.machine.recalls_after());
                    }
                    self.calling = Some(recalling(reader, next));
                    return Ok(());
                }
                Ok(Recalled::NoIndex(error)) => {
                    tracing::error!(session = %self.session.id, %error, "the index of the session's log is made anew");
                    self.machine.recall_without_index();
                    reader.seek(self.machine.recalls_after());
                    self.calling = Some(recalling(reader, None));
                    return Ok(());
                }
                Ok(Recalled::Events(page)) if page.is_empty() => {}
                Ok(Recalled::Events(page)) => {
                    page.events().for_each(|event| self.machine.recall(event.seq, event.json));
                    self.calling = Some(recalling(reader, None));
                    return Ok(());
                }
                Err(error) => {
                    tracing::error!(session = %self.session.id, %error, "the session's log cannot be read");
                    return self.tell(Event::Done(Err(unreadable(&error)))).await;
                }
            }
        }
        if let Some(feed) = feed {
            self.feed = feed;
        }
        match done {
            Ok(done) => self.tell(Event::Done(Ok(done))).await,
            Err(error) => {
                let failure = Failure::from(&error);
                tracing::info!(session = %self.session.id, %error, "a step with the upstream did not succeed");
                if let StepError::Call(CallError::Fault(fault)) = &error {
                    tracing::error!(session = %self.session.id, runtime = %self.session.runtime, ?fault, "a runtime failed");
                }
                self.failures.truncate(FAILURES_MAX - 1);
                self.failures.push_front((failure.clone(), error));
                self.tell(Event::Done(Err(failure))).await
            }
        }
    }
}

/// Waits for the next change of what is watched, from this call on.
fn change_of<T>(watched: &mut watch::Receiver<T>) -> impl Future<Output = ()> + use<T> {
    watched.mark_unchanged();
    let mut watched = watched.clone();
    async move {
        if watched.changed().await.is_err() {
            // Nobody is left to change it.
            pending::<()>().await;
        }
    }
}

/// Waits until one that rests is to give way; without end for one that does not rest.
async fn over(rest: Option<&Rest>) {
    match rest {
        Some(rest) => rest.is_over().await,
        None => pending().await,
    }
}

/// The value of a future that is there, and then of none.
async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// The messages of these numbers, which are in order, with a word that they will not be sent.
async fn withdraw(log: EventLog, id: SessionId, numbers: Vec<u64>) -> Result<Vec<Record>, ReadError> {
    let Some(&first) = numbers.first() else { return Ok(Vec::new()) };
    let read = move || {
        let stored = log.messages(id, Run::From(first), Limit::NONE)?;
        let wanted = stored.into_iter().filter(|(number, _)| numbers.binary_search(number).is_ok());
        let withdrawn = wanted.map(|(number, bytes)| {
            let message = Message { withdrawn: true, ..Message::read(id, &bytes)? };
            Ok(message.record(number))
        });
        withdrawn.collect()
    };
    blocking(read).await
}

/// Reads the next page of the log's index, from this segment on, or of the log itself, off the executor's threads.
fn recalling(mut reader: Reader, segment: Option<u64>) -> BoxFuture<'static, Called> {
    Box::pin(async move {
        let read = blocking(move || {
            let recalled = match segment {
                Some(from) => Ok(segments(&reader, from).map_or_else(Recalled::NoIndex, Recalled::Segments)),
                None => reader.next_page(RECALL_EVENTS, RECALL_BYTES).map(Recalled::Events),
            };
            (reader, recalled)
        });
        // A crash in there is a crash here.
        let read = read.await;
        Called { guest: None, done: Ok(Done::Recalled), feed: None, recalled: Some(read) }
    })
}

fn segments(reader: &Reader, from: u64) -> Result<Vec<Segment>, ReadError> {
    let read = |(number, bytes): (u64, Vec<u8>)| Segment::read(number, &bytes).map_err(|_| reader.damaged());
    reader.segments(from, RECALL_SEGMENTS)?.into_iter().map(read).collect()
}

/// Asks the guest for its feed and opens that.
async fn connect(link: &Link, instance: &mut Instance, state: &str) -> Result<(Opened, Feed), StepError> {
    let listen = instance.listen(state).await.map_err(|error| link.cause::<StepError>(error))?;
    let (request, framing) = match listen {
        Listen::Nothing => return Ok((Opened::default(), Feed::Quiet)),
        Listen::Poll(request, every) => {
            return Ok((Opened::default(), Feed::poll(Arc::clone(&link.upstream), request, every)));
        }
        Listen::Sse(request) => (request, Framing::Sse),
        Listen::Lines(request) => (request, Framing::Lines),
    };
    let feed = link.upstream.current()?.stream(request).await?;
    Ok((Opened { odd: feed.oddity(framing) }, Feed::stream(feed.frames(framing))))
}

async fn perform(instance: &mut Instance, state: &str, call: Call) -> Result<Done, CallError> {
    let sent = |outcome: runtime::Outcome| Done::Outcome { outcome: outcome.into(), frames: Frames::none() };
    Ok(match call {
        // Neither is a call of the guest alone.
        Call::Connect | Call::Recall => Done::Recalled,
        Call::CatchUp(cursor) => {
            let runtime::History { frames, newest_first, next } = instance.catch_up(state, cursor.as_deref()).await?;
            Done::Page(Page { frames: frames.into_iter().map(Into::into).collect(), newest_first, next })
        }
        Call::OnFrames(frames) => {
            let outcome = instance.on_frames(state, &frames).await?;
            Done::Outcome { outcome: outcome.into(), frames }
        }
        Call::OnEnd(ending) => sent(instance.on_end(state, ending.into()).await?),
        Call::SendPrompt(json) => sent(instance.send(state, &[Message::input_of(&json)]).await?),
        Call::SendInput(json) => sent(instance.send(state, &[runtime::Input::Other(json)]).await?),
        Call::SendInterrupt => sent(instance.send(state, &[runtime::Input::Interrupt]).await?),
        Call::Close => {
            instance.close(state).await?;
            Done::Closed
        }
    })
}

/// A session whose log cannot be read cannot know what it has of what its upstream repeats.
fn unreadable(error: &ReadError) -> Failure {
    let message = match error {
        ReadError::Damaged { .. } => "the session's log is damaged; the operator must restore it from a backup",
        ReadError::Database(_) => "the session's log cannot be read; the operator must look at the host's disk",
    };
    Failure { cause: Cause::Unreadable, message: message.to_owned(), retry_after: None }
}

/// A failure of the machine's own finding, as the runtime could have declared it.
fn declared(failure: Failure) -> CallError {
    let retry_after_ms = failure.retry_after.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
    let kind = failure.kind().into();
    CallError::Declared(runtime::Error { kind, message: failure.message, retry_after_ms, status: None })
}

/// The prompts of a session that are not known to be answered: the one that was sent last, and those that wait.
fn unanswered(
    core: &Core,
    session: &Session,
) -> Result<(Option<lap_session::Prompt>, Vec<lap_session::Prompt>), ReadError> {
    let waiting = session.waiting();
    let current = session.current();
    let Some(from) = current.or_else(|| (!waiting.is_empty()).then_some(waiting.start)) else {
        return Ok((None, Vec::new()));
    };
    let (mut sent, mut queue) = (None, Vec::new());
    for (number, bytes) in core.log.messages(session.id, Run::From(from), Limit::NONE)? {
        let prompt = Message::read(session.id, &bytes)?.prompt();
        if Some(number) == current {
            sent = Some(prompt);
        } else if waiting.contains(&number) {
            queue.push(prompt);
        }
    }
    Ok((sent, queue))
}
