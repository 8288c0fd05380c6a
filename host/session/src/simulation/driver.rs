//! The simulated driver: it carries out what the machine says, on a simulated clock, and decides nothing. Its process may be
//! gone at any moment, and another one begins with what is durable.

use std::time::Duration;

use super::{
    faults::Mutant,
    network::{Feed, UnderWay},
    world::World,
};
use crate::{Action, Call, Commit, Event, Kept, Machine, Moment, Now, Prompt, QueueLimit, Reply, Start, Ticket};

pub(super) const SESSION: &str = "ses_7";

/// What clients say again and again.
pub(super) const REPEATED: &str = "go on";

/// The beginning of the simulated time, by the wall clock.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// A commit under way.
pub(super) struct Writing {
    pub(super) lands: Moment,
    pub(super) told: Moment,
    pub(super) landed: bool,
    pub(super) commit: Commit,
    pub(super) kept: Kept,
    pub(super) prompts: Vec<(u64, Prompt)>,
}

/// What is gone after a crash.
pub(super) struct Process {
    pub(super) machine: Machine,
    pub(super) began: Moment,
    pub(super) writing: Option<Writing>,
    pub(super) call: Option<UnderWay>,
    pub(super) feed: Option<Feed>,
    pub(super) reading: bool,
    /// Prompts whose commit has not begun.
    pub(super) given: Vec<(Ticket, Prompt)>,
}

impl World {
    pub(super) fn crash(&mut self) {
        self.tally.crashes += 1;
        let lands = self.dice.permille(500) && self.process.as_ref().is_some_and(|process| process.writing.is_some());
        if lands {
            self.land();
        }
        if let Some(process) = self.process.take() {
            self.hang_up(process.call.as_ref());
        }
        // Where it is not durable that the prompt waits, the next process does not know for how long it was to.
        let known = self.disk.kept.state.in_doubt().is_some() && self.disk.kept.waiting.is_some();
        self.wire.retain(|sent| !sent.held || known);
        self.crashed();
        let down = if self.faults.habits.plain { Duration::from_millis(50) } else { self.dice.ms(50..60_000) };
        self.restart = Some(self.now + down);
        self.next_crash = self.now + down + self.dice.rarely(self.faults.crash);
    }

    pub(super) fn start(&mut self) {
        let state = self.disk.kept.state;
        let row = |number: u64| self.disk.rows[usize::try_from(number).unwrap()].prompt.clone();
        let current = state.has_current().then(|| row(state.sent()));
        let start = Start {
            session: SESSION.to_owned(),
            kept: self.disk.kept.clone(),
            next_seq: self.disk.log.len() as u64 + 1,
            queue: state.waiting().map(row).collect(),
            queue_limit: QueueLimit::default(),
            current,
            archived: false,
            named: self.faults.named,
            credential: self.credential,
            fresh: !std::mem::replace(&mut self.started, true),
            seed: self.dice.roll(),
            secret: u128::from(self.dice.roll()).to_le_bytes(),
        };
        let mut machine = Machine::new(start, EPOCH_MS + self.now_ms());
        machine.mutant = self.faults.mutant;
        self.process = Some(Process {
            machine,
            began: self.now,
            writing: None,
            call: None,
            feed: None,
            reading: false,
            given: Vec::new(),
        });
        self.began();
        self.tell(Event::Time);
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.now.as_millis()).unwrap()
    }

    pub(super) fn tell(&mut self, event: Event) {
        let at_ms = EPOCH_MS + self.now_ms();
        let Some(process) = &mut self.process else { return };
        self.steps += 1;
        let now = Now { at: self.now - process.began, unix_ms: at_ms };
        if self.trace {
            let event = match &event {
                Event::Frames(frames) => {
                    format!("Frames {:?}", frames.pieces().map(|(_, data)| data).collect::<Vec<_>>())
                }
                event => format!("{event:.300?}"),
            };
            eprintln!("{:?} {event:.500}", self.now);
        }
        let actions = process.machine.on(event, now);
        self.before_actions(&actions);
        for action in actions {
            if self.trace {
                let text = match &action {
                    Action::Call(Call::OnFrames(frames)) => format!("OnFrames {}", frames.len()),
                    action => format!("{action:?}"),
                };
                eprintln!("    {text:.500}");
            }
            self.carry_out(action);
        }
        self.after_actions();
    }

    pub(super) fn carry_out(&mut self, action: Action) {
        let (now, commit_ms) = (self.now, self.faults.commit_ms);
        let Some(process) = &mut self.process else { return };
        match action {
            Action::Commit(commit) => {
                let lands = now + self.dice.ms(1..commit_ms);
                let told = lands + self.dice.ms(0..3);
                let early = self.faults.mutant == Some(Mutant::CommittedTooEarly);
                let (lands, told) = if early { (lands + Duration::from_secs(1), now) } else { (lands, told) };
                let take = |&(ticket, number): &(Ticket, u64)| {
                    let at = process.given.iter().position(|(given, _)| *given == ticket)?;
                    Some((number, process.given.swap_remove(at).1))
                };
                let prompts = commit.prompts.iter().filter_map(take).collect();
                let kept = process.machine.kept().clone();
                let writing = Writing { lands, told, landed: early, commit, kept, prompts };
                if process.writing.replace(writing).is_some() {
                    self.broken("one commit", "a commit begins while another one is under way");
                }
            }
            Action::Call(call) => self.begin(call),
            Action::Abandon => {
                let call = process.call.take();
                self.hang_up(call.as_ref());
            }
            Action::CloseFeed => {
                process.feed = None;
                process.reading = false;
            }
            Action::Read => process.reading = true,
            Action::Reply(ticket, reply) => {
                let lost = self.faults.mutant == Some(Mutant::ReplyLost) && self.dice.permille(20);
                if !lost {
                    self.replied(ticket, &reply);
                }
            }
            Action::Remove { tickets, .. } => {
                for ticket in tickets {
                    self.replied(ticket, &Reply::Done);
                }
                self.process = None;
                self.removed();
            }
            Action::Amend(_) => {
                let made = !self.dice.permille(200);
                self.tell(Event::Amended { made });
            }
            Action::Note(_) | Action::Ended(_) | Action::Shown { .. } => {}
            Action::Leave => {
                if process.writing.is_some() || process.call.is_some() {
                    self.broken("leave", "something is under way");
                } else if self.dice.permille(900) {
                    self.left();
                    self.process = None;
                }
            }
        }
    }

    /// The commit is durable, whether it is told or not.
    pub(super) fn land(&mut self) {
        let forgets = self.faults.mutant == Some(Mutant::DiskForgets) && self.dice.permille(5);
        let Some(writing) = self.process.as_mut().and_then(|process| process.writing.as_mut()) else { return };
        if std::mem::replace(&mut writing.landed, true) {
            return;
        }
        let (commit, prompts) = (std::mem::take(&mut writing.commit), std::mem::take(&mut writing.prompts));
        let kept = writing.kept.clone();
        if !forgets {
            self.durable(&commit, prompts, kept);
        }
    }
}
