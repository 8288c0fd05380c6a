//! What clients want, and what befalls the host.

use std::time::Duration;

use super::{driver::REPEATED, world::World};
use crate::{Event, Prompt, Ticket};

/// What a client wants, or what befalls the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Prompt,
    Interrupt,
    Answer,
    Input,
    Amend {
        input: bool,
        at_rest: bool,
    },
    Kill,
    Delete,
    /// Another credential.
    Put,
    /// The vendor refuses the credential from now on.
    Revoke,
    /// No credential any more.
    Remove,
    /// Others want the session's room.
    GiveWay,
    Crash,
    /// The guest's next call breaks off.
    Fault,
    /// The feed is cut.
    Cut,
    /// The feed dies without a word.
    Silence,
}

/// The id of the message that a client's prompt becomes.
pub(super) fn message_id(ticket: Ticket) -> String {
    format!("msg_{:032x}", ticket.0)
}

impl World {
    /// A client says something, and perhaps more behind it.
    pub(super) fn converse(&mut self) {
        self.next_prompt = self.now + self.dice.rarely(self.faults.prompt);
        self.plan.push((self.now, Wish::Prompt));
        let mut at = self.now;
        while self.dice.permille(self.faults.interrupt) {
            let soon = if self.dice.permille(500) { 400 } else { 6000 };
            at += self.dice.ms(0..soon);
            self.plan.push((at, Wish::Interrupt));
        }
        at = self.now;
        while self.dice.permille(self.faults.company) {
            at += self.dice.ms(0..6000);
            self.plan.push((at, Wish::Prompt));
        }
        if self.dice.permille(self.faults.company) {
            let at = self.now + self.dice.ms(0..60_000);
            self.plan.push((at, Wish::GiveWay));
        }
        if self.dice.permille(self.faults.habits.asks) {
            let at = self.now + self.dice.ms(0..60_000);
            self.plan.push((at, Wish::Answer));
        }
        if self.dice.permille(self.faults.amend) {
            let at = self.now + self.dice.ms(0..60_000);
            let amend = Wish::Amend { input: self.dice.permille(500), at_rest: self.dice.permille(300) };
            self.plan.push((at, if self.dice.permille(300) { Wish::Input } else { amend }));
        }
    }

    pub(super) fn change_keys(&mut self) {
        self.next_keys = self.now + self.dice.rarely(self.faults.credential);
        let bad = [Wish::Put, Wish::Revoke, Wish::Remove][self.dice.place(3)];
        self.plan.push((self.now, bad));
        let at = self.now + self.dice.ms(0..1_500_000);
        self.plan.push((at, Wish::Put));
    }

    /// A client wants something, or something happens to the host.
    pub(super) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Crash => return self.crash(),
            Wish::Fault => return self.faulty = true,
            Wish::Cut | Wish::Silence => {
                let late = if wish == Wish::Silence { Duration::from_secs(90) } else { Duration::ZERO };
                if let Some(feed) = self.process.as_mut().and_then(|process| process.feed.as_mut()) {
                    (feed.dies, feed.noticed) = (self.now, self.now + late);
                }
                return;
            }
            Wish::Revoke => return self.refused = self.versions,
            Wish::GiveWay => return self.tell(Event::GiveWay),
            Wish::Put | Wish::Remove => {
                self.versions += 1;
                self.credential = (wish == Wish::Put).then_some(self.versions);
                return self.tell(Event::Credential(self.credential));
            }
            _ => {}
        }
        if let Some(restart) = self.restart {
            let at = restart + self.dice.ms(1..500);
            return self.plan.push((at, wish));
        }
        if self.checks.removed {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let event = match wish {
            Wish::Prompt => {
                self.tally.prompts += 1;
                let text = if self.dice.permille(300) { REPEATED.to_owned() } else { format!("p{}", self.tickets) };
                let json = format!(r#"{{"type":"user.message","content":[{{"type":"text","text":"{text}"}}]}}"#);
                Event::Prompt { ticket, prompt: Prompt { id: message_id(ticket), json } }
            }
            Wish::Interrupt => {
                // What arrives long after it may be over before a slow host has seen it.
                self.wire.retain(|sent| !sent.held);
                Event::Interrupt { ticket }
            }
            Wish::Answer => Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() },
            Wish::Input => Event::Input { ticket, json: r#"{"type":"user.note"}"#.to_owned() },
            Wish::Amend { input, at_rest } => Event::Amend {
                ticket,
                input: input.then(|| r#"{"type":"user.note"}"#.to_owned()),
                event: Some(r#"{"type":"session.updated"}"#.to_owned()),
                at_rest,
            },
            Wish::Kill => Event::Kill { ticket },
            Wish::Delete => Event::Delete { ticket, version: None },
            Wish::Put
            | Wish::Revoke
            | Wish::Remove
            | Wish::GiveWay
            | Wish::Crash
            | Wish::Fault
            | Wish::Cut
            | Wish::Silence => return,
        };
        if self.process.is_none() {
            self.start();
        }
        self.asked(ticket, wish);
        if let (Event::Prompt { prompt, .. }, Some(process)) = (&event, &mut self.process) {
            process.given.push((ticket, prompt.clone()));
        }
        self.tell(event);
    }
}
