//! The session's side of a pump: its record, its log, and the clients' wishes. Whatever the upstream does, prompts are
//! taken here at once.

use std::{collections::VecDeque, ops::Range, pin::pin, sync::Arc};

use tokio::{select, sync::mpsc};

use super::{
    Core, InputError, PromptError,
    changes::Changed,
    ending::UpstreamEnd,
    event::{self, OwnIds},
    intake::{Intake, Sought, Taken},
    live::{Command, INBOX},
    state::{Input, State},
    stored::{Amendment, Facts, Message, Prompt, Session},
};
use crate::{
    clock,
    events::{AppendError, Draft, ReadError, Record, Writer},
    id::{MessageId, SessionId},
    runtime::{self, Effect, ErrorKind},
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
    /// The state that the log has.
    stored: State,
    writer: Writer,
    inbox: mpsc::Receiver<Command>,
    /// Commands that could not be obeyed in the middle of something: at most [`INBOX`], and the one that ended it.
    waiting: VecDeque<Command>,
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
        let stored = session.state;
        Ok(Some(Self { core, session, stored, writer, inbox, waiting: VecDeque::new() }))
    }

    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    pub(super) const fn state(&self) -> State {
        self.session.state
    }

    /// A command that had to wait.
    pub(super) fn waiting_command(&mut self) -> Option<Command> {
        self.waiting.pop_front()
    }

    /// The next command.
    pub(super) async fn command(&mut self) -> Command {
        match self.inbox.recv().await {
            Some(command) => command,
            // The list of live pumps holds a sender as long as this pump lives.
            None => std::future::pending().await,
        }
    }

    /// Waits for the upstream, and takes prompts meanwhile: they are acknowledged at once, however slow it is. Other
    /// commands wait, as far as there is room. One that is `urgent` ends the waiting and comes next.
    pub(super) async fn wait<T>(
        &mut self,
        urgent: fn(&Command) -> bool,
        upstream: impl Future<Output = T>,
    ) -> Waited<T> {
        let mut upstream = pin!(upstream);
        loop {
            let command = select! {
                done = &mut upstream => return Waited::Done(done),
                command = self.inbox.recv() => command,
            };
            match command {
                Some(Command::Prompt { id, prompt, done }) => {
                    let taken = self.take_prompt(id, prompt).await;
                    // A client that went away needs no answer.
                    drop(done.send(taken));
                }
                Some(command) if urgent(&command) => {
                    self.waiting.push_front(command);
                    return Waited::GivenUp;
                }
                // An upstream may be silent for a minute, and clients need not wait for their answers.
                Some(command) if self.waiting.len() >= INBOX => command.refuse(),
                Some(command) => self.waiting.push_back(command),
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

    pub(super) async fn take_prompt(&mut self, id: MessageId, prompt: Prompt) -> Result<Message, PromptError> {
        let (message, record) = self.session.take_prompt(id, prompt)?;
        let mut records = self.changed_record();
        records.push(record);
        self.append(Draft::default(), records).await?;
        Ok(message)
    }

    /// Settles, durably, on the version of the runtime that the session goes on with, where the one that it was made on is
    /// gone: whatever becomes of the host, the turn that begins now ends on that version.
    pub(super) async fn pin(&mut self) -> Result<(), Stop> {
        let profile = self.core.registry.get_for(&self.session.runtime, self.session.component);
        let found = profile.map(|profile| profile.component);
        if found.is_none() || found == self.session.component {
            return Ok(());
        }
        self.session.component = found;
        self.commit(Draft::default(), true).await
    }

    /// A prompt, as the runtime is given it.
    pub(super) fn prompt(&self, number: u64) -> Result<runtime::Input, ReadError> {
        let session = self.session.id;
        let stored = self.core.log.messages(session, number)?.into_iter().next();
        let (_, bytes) = stored.ok_or(ReadError::Damaged { session })?;
        Ok(Message::read(session, &bytes)?.input())
    }

    /// Lets the state decide. Nothing of it is stored yet.
    pub(super) fn decide(&mut self, input: Input) {
        match self.session.state.apply(input) {
            Ok(state) => self.session.state = state,
            Err(refused) => tracing::debug!(session = %self.session.id, ?input, %refused, "late news"),
        }
    }

    /// Lets the state decide, durably.
    pub(super) async fn settle(&mut self, input: Input) -> Result<(), Stop> {
        self.decide(input);
        self.commit(Draft::default(), false).await
    }

    /// As [`Desk::settle`], for the prompt that may be sent now.
    pub(super) async fn settle_send(&mut self) -> Result<(), Stop> {
        self.settle(Input::Send(self.writer.next_seq() - 1)).await
    }

    /// Ends the turn with an error that clients see.
    pub(super) async fn fail(&mut self, kind: ErrorKind, message: &str) -> Result<(), Stop> {
        let id = OwnIds::of(self.session.id).id(self.writer.next_seq());
        let mut draft = Draft::default();
        draft.push("session.error", &event::session_error(&id, kind, message));
        self.decide(Input::Fail);
        self.commit(draft, true).await
    }

    /// Ends the session for good, with a last event that says what is known of its end upstream.
    pub(super) async fn end(&mut self, upstream: &UpstreamEnd) -> Result<(), Stop> {
        let id = OwnIds::of(self.session.id).id(self.writer.next_seq());
        let json = event::status_terminated(&id, upstream);
        if let Ok(head) = event::check(&json) {
            let now_us = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX).saturating_mul(1000);
            self.session.usage.add(&head, &json, now_us);
        }
        let mut draft = Draft::default();
        draft.push("session.status_terminated", &json);
        self.decide(Input::Terminated);
        self.commit(draft, true).await
    }

    /// Changes what clients say of the session.
    pub(super) async fn amend(&mut self, amendment: Amendment) -> Result<Session, InputError> {
        let Amendment { change, event, at_rest } = amendment;
        if at_rest && !self.session.settled() {
            return Err(InputError::Running);
        }
        let id = self.session.id;
        let mut facts =
            self.core.log.facts(id)?.map_or_else(|| Ok(Facts::unknown()), |bytes| Facts::read(id, &bytes))?;
        let mut session = self.session.clone();
        change(&mut session, &mut facts).map_err(InputError::Invalid)?;
        self.session = session;
        let mut records = self.changed_record();
        records.push(facts.record());
        let mut draft = Draft::default();
        if let Some(json) = event
            && let Ok(head) = event::check(&json)
        {
            let at = clock::rfc3339_of(self.session.updated_ms);
            let id = OwnIds::of(id).id(self.writer.next_seq());
            draft.push(&head.kind, &event::with_id(&event::with_time(&json, &at), &id));
        }
        self.session.bytes += draft.text_bytes();
        self.append(draft, records).await?;
        Ok(self.session.clone())
    }

    /// Stores what a call of the guest brought: events that are new, with what they do to the turn, and the guest's
    /// state, in one commit. True when there were such events.
    pub(super) async fn take<'a>(
        &mut self,
        events: impl Iterator<Item = (&'a str, Effect)>,
        guest: Option<String>,
        intake: &mut Intake,
        sought: Option<&Sought>,
    ) -> Result<bool, Stop> {
        let session = &self.session;
        let Taken { draft, state, usage } =
            intake.take(session.state, &session.usage, self.writer.next_seq(), sought, events);
        self.session.state = state;
        let (grown, changed) = (!draft.is_empty(), guest.is_some() || usage.is_some());
        if let Some(usage) = usage {
            self.session.usage = usage;
        }
        if let Some(guest) = guest {
            self.session.guest = guest;
        }
        self.commit(draft, changed).await?;
        Ok(grown)
    }

    /// The prompt of which it is not known whether it has arrived.
    pub(super) fn sought(&self) -> Result<Option<Sought>, ReadError> {
        let Some((number, _)) = self.session.state.in_doubt() else { return Ok(None) };
        Ok(Sought::new(&self.prompt(number)?))
    }

    /// Reads the whole log, so that every event in it is known again. True when it shows that the prompt which is
    /// looked for has arrived.
    pub(super) fn recall(&self, intake: &mut Intake, sought: Option<&Sought>) -> Result<bool, ReadError> {
        intake.seen.unbound();
        let sent_after = self.session.state.in_doubt().map_or(u64::MAX, |(_, after)| after);
        let (mut reader, mut arrived) = (self.writer.reader(0), false);
        loop {
            let page = reader.next_page(4096, 1024 * 1024)?;
            if page.is_empty() {
                return Ok(arrived);
            }
            for event in page.events() {
                arrived |= intake.recall(event.json, sought.filter(|_| event.seq > sent_after));
            }
        }
    }

    /// Removes the session with all that is stored of it.
    pub(super) async fn delete(&self) -> Result<(), AppendError> {
        self.core.log.delete(self.session.id).await?;
        self.core.changes.announce(Changed::of(&self.session));
        Ok(())
    }

    /// Appends events, with the session's record when its state or something else of it has changed. All of it or
    /// nothing.
    async fn commit(&mut self, draft: Draft, changed: bool) -> Result<(), Stop> {
        let changed = changed || self.session.state != self.stored;
        self.session.bytes += draft.text_bytes();
        let mut records = if changed { self.changed_record() } else { Vec::new() };
        let withdrawn = self.session.state.withdrawn_since(self.stored);
        if !withdrawn.is_empty() {
            records.extend(self.withdrawn(withdrawn)?);
        }
        if draft.is_empty() && records.is_empty() {
            return Ok(());
        }
        Ok(self.append(draft, records).await?)
    }

    /// One commit, of which whoever listens for changes hears if the session's own record is in it.
    async fn append(&mut self, draft: Draft, records: Vec<Record>) -> Result<(), AppendError> {
        let changed = records.iter().any(|record| matches!(record, Record::Session { .. }));
        self.writer.append(draft, records, self.session.settled()).await?;
        self.stored = self.session.state;
        if changed {
            self.core.changes.announce(Changed::of(&self.session));
        }
        Ok(())
    }

    /// The messages of these numbers, with a word that they will not be sent.
    fn withdrawn(&self, numbers: Range<u64>) -> Result<Vec<Record>, ReadError> {
        let stored = self.core.log.messages(self.session.id, numbers.start)?;
        let withdrawn = stored.into_iter().filter(|(number, _)| numbers.contains(number)).map(|(number, bytes)| {
            let message = Message { withdrawn: true, ..Message::read(self.session.id, &bytes)? };
            Ok(message.record(number))
        });
        withdrawn.collect()
    }

    fn changed_record(&mut self) -> Vec<Record> {
        self.session.version += 1;
        self.session.updated_ms = clock::unix_ms();
        vec![self.session.record()]
    }
}
