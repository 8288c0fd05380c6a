//! Who runs now: the drivers by session, and the one way to reach them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    DeleteError, InputError, InterruptError, KillError, PromptError, UpstreamEnd,
    admission::Turn,
    stored::{Amendment, Message, Prompt, Session},
};
use crate::{
    events::Receipt,
    id::{MessageId, SessionId},
};

/// How many wishes may wait for one driver, and as many again for the upstream that it waits for. More are refused, so that a
/// client that floods a session harms itself only.
pub(super) const INBOX: usize = 64;

/// What a client wants of a session. A receipt goes into the commit that fulfils it.
pub(super) enum Command {
    /// Take a prompt; with the right to begin a turn, where none runs.
    Prompt {
        id: MessageId,
        prompt: Prompt,
        turn: Option<Turn>,
        receipt: Option<Receipt>,
        done: oneshot::Sender<Result<Message, PromptError>>,
    },
    /// Stop the turn.
    Interrupt { receipt: Option<Receipt>, done: oneshot::Sender<Result<(), InterruptError>> },
    /// Give the runtime an input that does not begin a turn.
    Input { json: String, receipt: Option<Receipt>, done: oneshot::Sender<Result<(), InputError>> },
    /// Change what clients say of the session; with an input, once the runtime has taken that.
    Amend {
        amendment: Amendment,
        input: Option<String>,
        receipt: Option<Receipt>,
        done: oneshot::Sender<Result<Session, InputError>>,
    },
    /// End the session upstream and keep it here. It is answered twice: once that is durable, and with what is known of its
    /// end there.
    Kill {
        receipt: Option<Receipt>,
        durable: oneshot::Sender<Result<(), KillError>>,
        over: oneshot::Sender<UpstreamEnd>,
    },
    /// End the session upstream and remove it here; with a version, only if its record is still that one. The answer is
    /// whether it is gone.
    Delete { version: Option<u64>, done: oneshot::Sender<Result<bool, DeleteError>> },
}

/// The drivers that run.
#[derive(Default)]
pub(super) struct Live {
    inboxes: Mutex<HashMap<SessionId, mpsc::Sender<Command>>>,
}

/// What became of a command.
pub(super) enum Delivery {
    Delivered,
    /// The driver has too much to do.
    Busy,
    /// No driver ran. Here is the inbox of the one that the caller must start now; the command is in it.
    Start(mpsc::Receiver<Command>),
}

impl Live {
    fn inboxes(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<Command>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a command to a session's driver.
    pub(super) fn deliver(&self, session: SessionId, command: Command) -> Delivery {
        let mut inboxes = self.inboxes();
        let command = match inboxes.get(&session) {
            None => command,
            Some(inbox) => match inbox.try_send(command) {
                Ok(()) => return Delivery::Delivered,
                Err(mpsc::error::TrySendError::Full(_)) => return Delivery::Busy,
                // A driver leaves the list before it goes: this one crashed.
                Err(mpsc::error::TrySendError::Closed(command)) => command,
            },
        };
        let (sender, inbox) = mpsc::channel(INBOX);
        // A new channel has room.
        drop(sender.try_send(command));
        inboxes.insert(session, sender);
        Delivery::Start(inbox)
    }

    /// The inbox for a session that shall run without a command. Nothing when it runs already.
    pub(super) fn start(&self, session: SessionId) -> Option<mpsc::Receiver<Command>> {
        let mut inboxes = self.inboxes();
        if inboxes.contains_key(&session) {
            return None;
        }
        let (sender, inbox) = mpsc::channel(INBOX);
        inboxes.insert(session, sender);
        Some(inbox)
    }

    /// Strikes a driver off the list; refused while a command waits for it, which it must take first.
    pub(super) fn leave(&self, session: SessionId, inbox: &mpsc::Receiver<Command>) -> bool {
        let mut inboxes = self.inboxes();
        let free = inbox.is_empty();
        if free {
            inboxes.remove(&session);
        }
        free
    }

    /// Strikes a driver off the list that is gone whatever waited for it; not the one that has taken its place meanwhile.
    pub(super) fn remove_dead(&self, session: SessionId) {
        let mut inboxes = self.inboxes();
        if inboxes.get(&session).is_some_and(mpsc::Sender::is_closed) {
            inboxes.remove(&session);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.inboxes().len()
    }
}
