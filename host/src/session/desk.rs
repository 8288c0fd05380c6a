//! The session's side of a pump: its record, its log, and the clients' wishes. Whatever the upstream does, prompts are
//! taken here at once.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use tokio::{select, sync::mpsc, time::Instant};

use super::{
    Core, PromptError,
    event::{self, Seen},
    live::Command,
    state::{Input, State},
    stored::{Message, Session},
};
use crate::{
    clock,
    events::{AppendError, Draft, ReadError, Record, Writer},
    id::{MessageId, SessionId},
    runtime::{Effect, ErrorKind},
};

/// What ends a pump before its time. The session is as its record says, and is resumed at the next start.
pub(super) enum Stop {
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

pub(super) struct Desk {
    core: Arc<Core>,
    session: Session,
    writer: Writer,
    inbox: mpsc::Receiver<Command>,
    /// Commands that could not be obeyed in the middle of something.
    waiting: VecDeque<Command>,
    /// When the session's state was last looked at because something happened.
    touched: Instant,
}

/// What became of waiting for the upstream.
pub(super) enum Waited<T> {
    Done(T),
    /// A client wants something that cannot wait, so the waiting was given up.
    GivenUp,
}

impl Desk {
    /// Takes the desk of a session. Its record is read anew: the caller's may be older than the last command.
    pub(super) fn new(
        core: Arc<Core>,
        session: SessionId,
        writer: Writer,
        inbox: mpsc::Receiver<Command>,
    ) -> Result<Option<Self>, ReadError> {
        let Some(bytes) = core.log.session(session)? else { return Ok(None) };
        let session = Session::read(session, &bytes)?;
        Ok(Some(Self { core, session, writer, inbox, waiting: VecDeque::new(), touched: Instant::now() }))
    }

    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    pub(super) const fn state(&self) -> State {
        self.session.state
    }

    pub(super) const fn touched(&self) -> Instant {
        self.touched
    }

    /// The next command; one that had to wait comes first.
    pub(super) async fn command(&mut self) -> Command {
        if let Some(command) = self.waiting.pop_front() {
            return command;
        }
        match self.inbox.recv().await {
            Some(command) => command,
            // The list of live pumps holds a sender as long as this pump lives.
            None => std::future::pending().await,
        }
    }

    /// Waits for the upstream, and takes prompts meanwhile: they are acknowledged at once, however slow it is.
    pub(super) async fn wait<T>(&mut self, upstream: impl Future<Output = T>) -> Waited<T> {
        let mut upstream = pin!(upstream);
        loop {
            let command = select! {
                done = &mut upstream => return Waited::Done(done),
                command = self.inbox.recv() => command,
            };
            match command {
                Some(Command::Prompt { id, text, done }) => {
                    let taken = self.take_prompt(id, text).await;
                    // A client that went away needs no answer.
                    drop(done.send(taken));
                }
                Some(urgent) => {
                    self.waiting.push_back(urgent);
                    return Waited::GivenUp;
                }
                None => {}
            }
        }
    }

    /// Leaves the list of live pumps, unless a command waits. The log is free for the next writer before that.
    pub(super) fn leave(&mut self) -> bool {
        self.writer.let_go();
        if self.waiting.is_empty() && self.core.live.leave(self.session.id, &self.inbox) {
            return true;
        }
        self.writer.take_back();
        false
    }

    pub(super) async fn take_prompt(&mut self, id: MessageId, text: String) -> Result<Message, PromptError> {
        let (message, record) = self.session.take_prompt(id, text)?;
        let mut records = self.changed_record();
        records.push(record);
        self.writer.append(Draft::default(), records, self.session.settled()).await?;
        Ok(message)
    }

    /// The text of a prompt that waits.
    pub(super) fn prompt(&self, number: u64) -> Result<String, ReadError> {
        let session = self.session.id;
        let stored = self.core.log.messages(session, number)?.into_iter().next();
        let (_, bytes) = stored.ok_or(ReadError::Damaged { session })?;
        Ok(Message::read(session, &bytes)?.text)
    }

    /// Lets the state decide. Nothing of it is stored yet.
    pub(super) fn decide(&mut self, input: Input) {
        match self.session.state.apply(input) {
            Ok(state) => self.session.state = state,
            Err(refused) => tracing::debug!(session = %self.session.id, ?input, %refused, "late news"),
        }
        self.touched = Instant::now();
    }

    /// Lets the state decide, durably.
    pub(super) async fn settle(&mut self, input: Input) -> Result<(), Stop> {
        self.decide(input);
        self.commit(Draft::default(), true).await
    }

    /// Ends the turn with an error that clients see.
    pub(super) async fn fail(&mut self, kind: ErrorKind, message: &str) -> Result<(), Stop> {
        let id = self.event_id(self.writer.next_seq());
        let mut draft = Draft::default();
        draft.push("session.error", &event::session_error(&id, kind, message));
        self.decide(Input::Fail);
        self.commit(draft, true).await
    }

    /// Stores what a call of the guest brought: events that are new, with what they do to the turn, and the guest's
    /// state, in one commit.
    pub(super) async fn take<'a>(
        &mut self,
        events: impl Iterator<Item = (&'a str, Effect)>,
        guest: Option<String>,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let (before, mut draft) = (self.session.state, Draft::default());
        for (json, effect) in events {
            let head = match event::check(json) {
                Ok(head) => head,
                Err(error) => {
                    tracing::warn!(session = %self.session.id, %error, "something that is no event is left out");
                    continue;
                }
            };
            // An event that the log has has no effect either.
            if !seen.insert(&head) {
                continue;
            }
            let json = event::on_one_line(json);
            if head.id.is_some() {
                draft.push(&head.kind, &json);
            } else {
                let id = self.event_id(self.writer.next_seq() + draft.len() as u64);
                draft.push(&head.kind, &event::with_id(&json, &id));
            }
            if let Some(input) = input_of(effect) {
                self.decide(input);
            }
        }
        let changed = guest.is_some() || before != self.session.state;
        if let Some(guest) = guest {
            self.session.guest = guest;
        }
        self.commit(draft, changed).await
    }

    /// Reads the whole log, so that every event in it is known again.
    pub(super) fn recall(&self, seen: &mut Seen) -> Result<(), ReadError> {
        seen.unbound();
        let mut reader = self.writer.reader(0);
        loop {
            let page = reader.next_page(4096, 1024 * 1024)?;
            if page.is_empty() {
                return Ok(());
            }
            for event in page.events() {
                if let Ok(head) = event::check(event.json) {
                    seen.insert(&head);
                }
            }
        }
    }

    /// Removes the session with all that is stored of it.
    pub(super) async fn delete(&self) -> Result<(), AppendError> {
        self.core.log.delete(self.session.id).await
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

    /// The id of an event that has none from its upstream. Made of its place, so that it is the same however often it
    /// is made.
    fn event_id(&self, seq: u64) -> String {
        let session = self.session.id.to_string();
        let digits = session.strip_prefix("ses_").unwrap_or(&session);
        format!("evt_{digits}_{seq}")
    }
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
