//! Where a session stands: the part of the machine that outlives a process, as a pure function of what happens.
//!
//! Only `Machine::decide` changes a state. It is stored with the session's record, so its members have
//! defaults for records that were written before they existed.

use serde::{Deserialize, Serialize};

/// Where the session's turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No turn runs; the last one ended well, or there was none.
    Idle,
    /// A prompt is on its way. Unless a call is under way just now, nobody knows whether it has arrived.
    Sent,
    /// The prompt has arrived, and the upstream has not said anything of its turn yet.
    Taken,
    /// The upstream works.
    Running,
    /// The upstream had a fault and says that it will go on by itself.
    Rescheduling,
    /// The turn waits for the client: it is not over.
    Waiting,
    /// The client's answer is on its way. Unless a call is under way just now, nobody knows whether it has arrived.
    Answering,
    /// No turn runs; the last one failed.
    Failed,
    /// A client has ended the session for good; the host has yet to see to it upstream.
    Ending,
    /// Over for good.
    Terminated,
}

/// Everything that decides what a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    phase: Phase,
    /// How many prompts the session was given; they are numbered from 0.
    prompts: u64,
    /// The prompts before this number were sent or withdrawn; those from it on wait.
    next: u64,
    /// The prompt sent last.
    sent: u64,
    /// The log's last event when it was sent: what says that it has arrived stands behind that.
    sent_after: u64,
    /// True while it would wait again if it turned out that it never arrived.
    wanted: bool,
    /// True while the upstream cannot be reached, or does not take what is to be sent.
    cut: bool,
    /// What is to be done to stop the turn.
    #[serde(skip_serializing_if = "Stop::is_none")]
    stop: Stop,
    /// True when the feed was refused for good: the next prompt goes to the runtime before another feed is asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// How many turns the host has given up that may go on upstream, one after the other: their late ends are not the end of
    /// the next turn.
    #[serde(skip_serializing_if = "is_zero")]
    abandoned: u32,
    /// True when the prompt on its way was sent to a turn that waits for the client: until the upstream comes to the prompt,
    /// what it says is of that turn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
    /// True once the runtime has shown a prompt as the upstream's: then what it says of a turn can be told from what it says
    /// of the one before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shows: bool,
    /// The upstream has come to the prompt sent last.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    begun: bool,
    /// True when the prompt sent last was sent to a turn that waited for the client, and its own turn was not seen to start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    joined: bool,
    /// True when a turn was stopped of which it is not known whether it was that of the prompt sent last, or the one that it was
    /// sent to: in that case the prompt's is still to start, and nobody wants it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    haunted: bool,
    /// The log shows the end of the prompt sent last: that it was processed, or withdrawn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    /// The version of the credential under which the upstream said that it has no such session any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
}

/// What is to be done to stop a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Nothing: nobody has interrupted it.
    #[default]
    None,
    /// The upstream is to be told, before anything else.
    Wanted,
    /// The upstream was told, and its end of the turn is awaited.
    Sent,
}

impl Stop {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A client gives a prompt.
    Prompt,
    /// The waiting prompt is about to be sent, with the log at this event.
    Send(u64),
    /// What was sent last, a prompt or an answer, has arrived.
    Taken,
    /// The prompt sent last did not arrive.
    NotArrived,
    /// The turn cannot go on: the upstream refuses the prompt, cannot be reached any more, or the runtime is at fault.
    /// What waits is withdrawn.
    Fail,
    /// The same, because the feed was refused for good.
    Refused,
    /// The upstream says, under a credential of this version, that it has no such session any more.
    Gone(u64),
    /// The upstream has taken the wish to stop the turn.
    Stopped,
    /// The upstream does not take the wish to stop the turn, which goes on.
    NotStopped,
    /// The upstream shows the prompt sent last.
    Shown,
    /// The log shows the end of the prompt sent last.
    Closed,
    /// A prompt that was withdrawn has arrived after all.
    Unwanted,
    /// The upstream has come to the prompt sent last: what it says of turns from now on is of this one.
    Begun,
    /// A client stops the turn and withdraws what waits.
    Interrupt,
    /// A client answers what the turn waits for.
    Answer,
    /// The answer was not taken, as far as is known.
    NotAnswered,
    /// The upstream cannot be reached.
    Lost,
    /// The upstream can be reached again: its feed is open, or it has taken what was sent.
    Found,
    /// The upstream says that a turn runs.
    Started,
    /// The upstream waits for the client.
    Waits,
    /// The upstream says that the turn is over.
    Ended,
    /// The upstream says that the turn has failed.
    Failed,
    /// The upstream says that it will go on after a fault.
    Rescheduled,
    /// A client ends the session for good. What waits is withdrawn.
    Kill,
    /// The upstream says that the session is over, or the host has seen to that as far as it can.
    Terminated,
}

/// A wish that the state does not allow. The session stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session takes no more prompts.
    #[error("the session has ended for good; start another one")]
    Terminated,
    /// The session was put away.
    #[error("the session is archived and takes no more events")]
    Archived,
    /// The upstream has no such session any more.
    #[error("the upstream has no such session any more; start another one")]
    Gone,
    /// There is nothing to send, or a turn runs.
    #[error("there is no prompt that could be sent now")]
    NothingToSend,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it serializes by reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for State {
    fn default() -> Self {
        Self::NEW
    }
}

impl State {
    /// A session without prompts.
    pub const NEW: Self = Self {
        phase: Phase::Idle,
        prompts: 0,
        next: 0,
        sent: 0,
        sent_after: 0,
        wanted: false,
        cut: false,
        stop: Stop::None,
        refused: false,
        abandoned: 0,
        asked: false,
        shows: false,
        begun: false,
        joined: false,
        haunted: false,
        closed: false,
        gone: None,
    };

    /// Applies one input.
    ///
    /// # Errors
    /// When the input is a wish that this state does not allow.
    pub fn apply(self, input: Input) -> Result<Self, Refused> {
        let next = self.next(input)?;
        // What has nothing to do waits for nobody.
        Ok(Self { cut: next.cut && !next.settled(), ..next })
    }

    fn next(self, input: Input) -> Result<Self, Refused> {
        match (self.phase, input) {
            (Phase::Terminated | Phase::Ending, Input::Prompt) => return Err(Refused::Terminated),
            (Phase::Ending, Input::Terminated) => return Ok(Self { phase: Phase::Terminated, ..self }),
            (Phase::Terminated | Phase::Ending, _) => return Ok(self),
            _ => {}
        }
        if self.is_of_the_turn_before(input) {
            // Several turns may have been given up, but only one waits for the client.
            let over = matches!(input, Input::Ended | Input::Failed);
            // One of those that were given up: where an upstream shows prompts in words of its own, nothing else tells that
            // what follows is of this one.
            let ended = input == Input::Ended && self.phase == Phase::Taken;
            let abandoned = self.abandoned.saturating_sub(u32::from(ended));
            return Ok(Self { asked: self.asked && !over, abandoned, ..self });
        }
        let phase = |phase| Ok(Self { phase, ..self });
        match input {
            Input::Prompt => Ok(Self { prompts: self.prompts + 1, ..self }),
            Input::Send(sent_after) => match self.sendable() {
                Some(sent) => Ok(Self {
                    phase: Phase::Sent,
                    next: sent + 1,
                    sent,
                    sent_after,
                    wanted: true,
                    begun: false,
                    closed: false,
                    asked: self.phase == Phase::Waiting,
                    joined: self.phase == Phase::Waiting,
                    haunted: false,
                    ..self
                }),
                None => Err(Refused::NothingToSend),
            },
            Input::Taken if self.phase == Phase::Answering => phase(Phase::Taken),
            Input::Taken if self.phase == Phase::Sent => Ok(self.arrived(Phase::Taken)),
            Input::NotArrived if self.phase == Phase::Sent => {
                let next = if self.wanted { self.sent } else { self.next };
                // The turn that it was sent to goes on to wait, and what is to stop it goes on to be tried.
                let (phase, stop) = if self.asked { (Phase::Waiting, self.stop) } else { (Phase::Idle, Stop::None) };
                Ok(Self { phase, next, stop, wanted: false, asked: false, ..self })
            }
            Input::Interrupt => {
                let stop = if self.interruptible() { Stop::Wanted } else { Stop::None };
                Ok(Self { next: self.prompts, wanted: false, stop, ..self })
            }
            Input::Stopped if self.stop == Stop::Wanted => Ok(Self { stop: Stop::Sent, ..self }),
            Input::NotStopped => Ok(Self { stop: Stop::None, ..self }),
            // From here on the upstream works, whether it says so at once or not.
            Input::Answer if self.phase == Phase::Waiting => phase(Phase::Answering),
            Input::NotAnswered if self.phase == Phase::Answering => phase(Phase::Waiting),
            Input::Unwanted if matches!(self.phase, Phase::Idle | Phase::Failed) => {
                Ok(Self { phase: Phase::Taken, stop: Stop::Wanted, begun: false, closed: true, ..self })
            }
            // Its turn comes before that of the prompt that is wanted.
            Input::Unwanted if matches!(self.phase, Phase::Sent | Phase::Taken) && !self.begun => {
                Ok(Self { abandoned: self.abandoned.max(1), ..self })
            }
            Input::Closed => Ok(Self { closed: true, ..self }),
            // Once the upstream speaks of the turn, what was sent has arrived, whatever became of the answer.
            Input::Taken
            | Input::NotArrived
            | Input::Answer
            | Input::NotAnswered
            | Input::Stopped
            | Input::Unwanted => Ok(self),
            Input::Shown => Ok(Self { shows: true, ..self }),
            Input::Begun => Ok(Self { abandoned: 0, asked: false, begun: true, stop: self.stop_of_begun(), ..self }),
            Input::Lost => Ok(Self { cut: true, ..self }),
            Input::Found => Ok(Self { cut: false, refused: false, ..self }),
            // The turn of a prompt that nobody wants, behind the one that was stopped.
            Input::Started if self.haunted && matches!(self.phase, Phase::Idle | Phase::Failed) => {
                Ok(Self { phase: Phase::Running, stop: Stop::Wanted, haunted: false, ..self })
            }
            Input::Started => Ok(Self { joined: self.joined && !self.begun, ..self.arrived(Phase::Running) }),
            // A turn that was given up may be the one that waits. Those before it are over.
            Input::Waits => Ok(Self { abandoned: 0, ..self.arrived(Phase::Waiting) }),
            Input::Rescheduled => Ok(self.arrived(Phase::Rescheduling)),
            Input::Ended => {
                let abandoned = self.abandoned.saturating_sub(1);
                // A failed turn ends too; what clients shall see is that it failed.
                let failed = self.phase == Phase::Failed;
                let ended = if failed { Self { stop: Stop::None, ..self } } else { self.over(Phase::Idle) };
                Ok(Self { abandoned, ..ended })
            }
            // Its end follows, or there is none.
            Input::Failed => Ok(self.over(Phase::Failed)),
            // What waits would meet the same end.
            Input::Fail => {
                let goes_on = self.in_turn() || self.phase == Phase::Waiting;
                let abandoned = self.abandoned.saturating_add(u32::from(goes_on));
                Ok(Self { abandoned, refused: false, ..self.given_up() })
            }
            Input::Refused if self.settled() => Ok(Self { refused: true, ..self }),
            Input::Refused => Ok(Self { refused: true, ..self.next(Input::Fail)? }),
            Input::Gone(version) => Ok(Self { gone: Some(version), ..self }),
            Input::Kill => Ok(Self { phase: Phase::Ending, ..self.given_up() }),
            Input::Terminated => Ok(Self { phase: Phase::Terminated, ..self.given_up() }),
        }
    }

    /// True for news of a turn before, which come when the next prompt is on its way already. Before the upstream shows a
    /// prompt that is in doubt, all news are; of one that has arrived and waits there, where the host has given a turn up, or
    /// where one waits for the client.
    const fn is_of_the_turn_before(self, news: Input) -> bool {
        let of_a_turn =
            matches!(news, Input::Started | Input::Waits | Input::Rescheduled | Input::Ended | Input::Failed);
        let before = match self.phase {
            // What begins a turn may be all that there is to tell that a prompt has arrived.
            Phase::Sent => self.shows || !matches!(news, Input::Started),
            Phase::Taken => self.shows && (self.abandoned > 0 || self.asked),
            _ => false,
        };
        of_a_turn && before
    }

    /// True when news of a turn are of the one that is under way here.
    #[must_use]
    pub const fn heeds(self, news: Input) -> bool {
        !self.is_of_the_turn_before(news)
    }

    /// The upstream works on the prompt, or waits for the client. One that nobody wants any more is stopped.
    const fn arrived(self, phase: Phase) -> Self {
        let unwanted = matches!(self.phase, Phase::Sent) && !self.wanted;
        Self { phase, stop: if unwanted { Stop::Wanted } else { self.stop }, ..self }
    }

    /// What was told before the upstream came to the prompt has stopped another turn.
    const fn stop_of_begun(self) -> Stop {
        match (self.stop, self.phase) {
            (Stop::Sent, Phase::Sent | Phase::Taken) if !self.wanted => Stop::Wanted,
            (stop, _) => stop,
        }
    }

    /// The turn is over.
    const fn over(self, phase: Phase) -> Self {
        let haunted = self.haunted || (self.joined && !self.wanted && !self.stop.is_none());
        Self { phase, stop: Stop::None, wanted: false, asked: false, joined: false, haunted, ..self }
    }

    /// The turn is over and nothing waits.
    const fn given_up(self) -> Self {
        Self { next: self.prompts, cut: false, ..self.over(Phase::Failed) }
    }

    /// Where the turn stands.
    #[must_use]
    pub const fn phase(self) -> Phase {
        self.phase
    }

    /// True while the upstream cannot be reached.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        self.cut
    }

    /// How many prompts the session was given.
    #[must_use]
    pub const fn prompts(self) -> u64 {
        self.prompts
    }

    /// The numbers of the prompts that wait.
    #[must_use]
    pub const fn waiting(self) -> std::ops::Range<u64> {
        self.next..self.prompts
    }

    /// True while the turn of a prompt that nobody wants may be still to start.
    #[must_use]
    pub const fn is_haunted(self) -> bool {
        self.haunted
    }

    /// The prompt that may be sent now.
    #[must_use]
    pub fn sendable(self) -> Option<u64> {
        let free = matches!(self.phase, Phase::Idle | Phase::Waiting | Phase::Failed) && self.stop.is_none();
        (free && self.next < self.prompts).then_some(self.next)
    }

    /// The prompt of which it is not known whether it has arrived, and the last event before it was sent.
    #[must_use]
    pub fn in_doubt(self) -> Option<(u64, u64)> {
        (self.phase == Phase::Sent).then_some((self.sent, self.sent_after))
    }

    /// True while it is not known whether the client's answer has arrived.
    #[must_use]
    pub const fn is_answering(self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// True while the host has yet to see to the session's end upstream.
    #[must_use]
    pub const fn is_ending(self) -> bool {
        matches!(self.phase, Phase::Ending)
    }

    /// True while the upstream works on a turn.
    #[must_use]
    pub const fn in_turn(self) -> bool {
        use Phase::{Answering, Rescheduling, Running, Sent, Taken};
        matches!(self.phase, Sent | Taken | Running | Rescheduling | Answering)
    }

    /// True when nothing will happen until a client does something.
    #[must_use]
    pub fn settled(self) -> bool {
        !self.in_turn() && !self.is_ending() && self.stop.is_none() && self.sendable().is_none()
    }

    /// What is to be done to stop the turn.
    #[must_use]
    pub const fn stop(self) -> Stop {
        self.stop
    }

    /// True when the next prompt is to be sent before another feed is asked for.
    #[must_use]
    pub const fn sends_first(self) -> bool {
        self.refused
    }

    /// True when a client still wants the prompt that is on its way.
    #[must_use]
    pub const fn wanted(self) -> bool {
        self.wanted
    }

    /// The log's last event when the last prompt was sent: what says that it has arrived stands behind that.
    #[must_use]
    pub const fn sent_after(self) -> u64 {
        self.sent_after
    }

    /// The number of the prompt sent last.
    #[must_use]
    pub const fn sent(self) -> u64 {
        self.sent
    }

    /// True when the upstream has said, under the credential of this version, that it has no such session.
    #[must_use]
    pub fn is_gone(self, credential: Option<u64>) -> bool {
        self.gone.is_some() && self.gone == credential
    }

    /// True while the prompt sent last is to be shown as processed or withdrawn.
    #[must_use]
    pub const fn has_current(self) -> bool {
        matches!(self.phase, Phase::Sent | Phase::Taken | Phase::Running | Phase::Rescheduling) && !self.closed
    }

    /// True while the turn waits for the client, also when a prompt waits behind it, here or upstream.
    #[must_use]
    pub const fn waits_for_the_client(self) -> bool {
        matches!(self.phase, Phase::Waiting) || (self.asked && matches!(self.phase, Phase::Sent | Phase::Taken))
    }

    /// True once the upstream has come to the prompt sent last.
    #[must_use]
    pub const fn has_begun(self) -> bool {
        self.begun
    }

    /// True when an interrupt has something to stop upstream.
    #[must_use]
    pub const fn interruptible(self) -> bool {
        self.in_turn()
            || matches!(self.phase, Phase::Waiting)
            || (self.abandoned > 0 && matches!(self.phase, Phase::Failed | Phase::Idle))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SEND: Input = Input::Send(7);

    fn after(inputs: &[Input]) -> State {
        inputs.iter().fold(State::NEW, |state, &input| state.apply(input).unwrap())
    }

    #[test]
    fn a_turn_runs_from_its_prompt_to_its_end() {
        use Input::{Ended, Prompt, Started};
        assert!(State::NEW.settled());
        let waiting = after(&[Prompt]);
        assert_eq!((waiting.sendable(), waiting.settled()), (Some(0), false));
        let sent = after(&[Prompt, SEND]);
        assert_eq!((sent.phase(), sent.sendable(), sent.settled()), (Phase::Sent, None, false));
        let ended = after(&[Prompt, SEND, Started, Ended]);
        assert_eq!((ended.phase(), ended.settled()), (Phase::Idle, true));
    }

    #[test]
    fn a_prompt_during_a_turn_waits_for_its_end() {
        use Input::{Ended, Prompt, Started};
        let state = after(&[Prompt, SEND, Started, Prompt]);
        assert_eq!((state.sendable(), state.waiting()), (None, 1..2));
        assert_eq!(state.apply(SEND), Err(Refused::NothingToSend));
        assert_eq!(state.apply(Ended).unwrap().sendable(), Some(1));
    }

    #[test]
    fn an_interrupt_withdraws_what_waits_and_leaves_the_end_to_the_upstream() {
        use Input::{Interrupt, Prompt, Started};
        let state = after(&[Prompt, SEND, Started, Prompt, Prompt, Interrupt]);
        assert_eq!((state.phase(), state.waiting()), (Phase::Running, 3..3));
    }

    #[test]
    fn a_turn_is_stopped_before_anything_else_is_sent() {
        use Input::{Ended, Interrupt, NotStopped, Prompt, Started, Stopped, Waits};
        for before in [&[Prompt, SEND, Started][..], &[Prompt, SEND, Started, Waits]] {
            let stopped = after(before).apply(Interrupt).unwrap().apply(Prompt).unwrap();
            assert_eq!((stopped.stop(), stopped.sendable(), stopped.settled()), (Stop::Wanted, None, false));
            let sent = stopped.apply(Stopped).unwrap();
            assert_eq!((sent.stop(), sent.sendable(), sent.settled()), (Stop::Sent, None, false));
            assert_eq!(
                (sent.apply(Ended).unwrap().stop(), sent.apply(Ended).unwrap().sendable()),
                (Stop::None, Some(1))
            );
            assert_eq!(stopped.apply(NotStopped).unwrap().stop(), Stop::None);
        }
        let idle = after(&[Prompt, Interrupt]);
        assert_eq!((idle.stop(), idle.settled()), (Stop::None, true), "nothing was sent");
    }

    #[test]
    fn a_prompt_that_arrives_although_nobody_wants_it_is_stopped() {
        use Input::{Interrupt, Prompt, Started, Stopped, Taken};
        for arrived in [Taken, Started] {
            let state = after(&[Prompt, SEND, Interrupt, Stopped, arrived]);
            assert_eq!(state.stop(), Stop::Wanted, "{arrived:?}: told too early, so it is told again");
        }
        assert_eq!(after(&[Prompt, SEND, Started, Interrupt, Stopped, Started]).stop(), Stop::Sent);
        let waited = after(&[Prompt, SEND, Taken, Interrupt, Stopped, Input::Begun]);
        assert_eq!(waited.stop(), Stop::Wanted, "it waited behind another turn, which was stopped instead");
    }

    #[test]
    fn the_late_end_of_a_turn_that_was_given_up_ends_no_other() {
        use Input::{Begun, Ended, Fail, Prompt, Shown, Started, Taken};
        let next = after(&[Prompt, SEND, Taken, Shown, Started, Fail, Prompt, SEND, Taken]);
        let late = next.apply(Started).unwrap().apply(Ended).unwrap();
        assert_eq!(late.phase(), Phase::Taken);
        // One whose event the upstream shows in words of its own has an end as well.
        assert_eq!(late.apply(Started).unwrap().apply(Ended).unwrap().phase(), Phase::Idle);
        let twice = after(&[Prompt, SEND, Taken, Shown, Started, Fail, Prompt, SEND, Taken, Fail, Prompt, SEND, Taken]);
        let late = twice.apply(Started).unwrap().apply(Ended).unwrap();
        assert_eq!(late.apply(Started).unwrap().apply(Ended).unwrap().phase(), Phase::Taken, "several were given up");
        assert_eq!(late.apply(Begun).unwrap().apply(Started).unwrap().apply(Ended).unwrap().phase(), Phase::Idle);
        assert_eq!(next.apply(Begun).unwrap().apply(Started).unwrap().apply(Ended).unwrap().phase(), Phase::Idle);
        let silent = after(&[Prompt, SEND, Started, Fail, Prompt, SEND, Taken, Started, Ended]);
        assert_eq!(silent.phase(), Phase::Idle, "of a runtime that never shows prompts nobody could tell");
    }

    #[test]
    fn a_prompt_to_a_turn_that_waits_for_the_client_leaves_it_waiting_when_it_does_not_arrive() {
        use Input::{Begun, Ended, Interrupt, NotArrived, Prompt, Shown, Started, Stopped, Taken, Waits};
        let asked = after(&[Prompt, SEND, Taken, Shown, Started, Waits, Prompt, SEND]);
        let back = asked.apply(NotArrived).unwrap();
        assert_eq!((back.phase(), back.sendable()), (Phase::Waiting, Some(1)));
        let stopped = [Interrupt, Stopped].into_iter().fold(asked, |state, input| state.apply(input).unwrap());
        let left = stopped.apply(NotArrived).unwrap();
        assert_eq!((left.phase(), left.stop()), (Phase::Waiting, Stop::Sent), "it is still to end");
        assert_eq!(left.apply(Ended).unwrap().phase(), Phase::Idle);
        let over = stopped.apply(Ended).unwrap();
        assert_eq!(over.phase(), Phase::Sent, "the turn that waited is over, and not the prompt");
        assert!(over.apply(NotArrived).unwrap().settled());
        let begun = asked.apply(Taken).unwrap().apply(Begun).unwrap();
        assert_eq!(begun.apply(Ended).unwrap().phase(), Phase::Idle);
    }

    #[test]
    fn after_a_refused_feed_the_next_prompt_is_sent_first() {
        use Input::{Found, Prompt, Refused};
        let refused = after(&[Prompt, Refused]);
        assert_eq!((refused.phase(), refused.sends_first()), (Phase::Failed, true));
        assert!(!refused.apply(Found).unwrap().sends_first());
    }

    #[test]
    fn a_session_that_is_gone_is_so_for_the_credential_that_saw_it() {
        let gone = after(&[Input::Gone(3)]);
        assert!(gone.is_gone(Some(3)) && !gone.is_gone(Some(4)) && !gone.is_gone(None) && !State::NEW.is_gone(None));
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let old = r#"{"phase":"sent","prompts":3,"next":2,"sent":1,"sent_after":9,"wanted":true,"cut":false}"#;
        let state: State = serde_json::from_str(old).unwrap();
        assert_eq!((state.in_doubt(), state.stop(), state.sends_first()), (Some((1, 9)), Stop::None, false));
        assert_eq!(serde_json::to_string(&state).unwrap(), old, "what is not so is not written");
    }

    #[test]
    fn a_failed_turn_stays_failed_until_the_next_one() {
        use Input::{Ended, Failed, Prompt, Started};
        let failed = after(&[Prompt, SEND, Started, Failed, Ended]);
        assert_eq!((failed.phase(), failed.settled()), (Phase::Failed, true));
        let next = failed.apply(Prompt).unwrap().apply(SEND).unwrap().apply(Started).unwrap().apply(Ended).unwrap();
        assert_eq!(next.phase(), Phase::Idle);
    }

    #[test]
    fn a_turn_that_the_host_gives_up_leaves_nothing_to_send() {
        use Input::{Fail, Prompt};
        let state = after(&[Prompt, Prompt, Fail]);
        assert_eq!((state.phase(), state.sendable(), state.settled()), (Phase::Failed, None, true));
    }

    #[test]
    fn a_prompt_that_did_not_arrive_waits_again_but_not_once_its_turn_runs() {
        use Input::{NotArrived, Prompt, Started};
        assert_eq!(after(&[Prompt, SEND, NotArrived]).sendable(), Some(0));
        assert_eq!(after(&[Prompt, SEND, Started, NotArrived]).phase(), Phase::Running);
    }

    #[test]
    fn a_prompt_whose_turn_was_interrupted_is_not_sent_again() {
        use Input::{Interrupt, NotArrived, Prompt, Taken};
        let interrupted = after(&[Prompt, SEND, Prompt, Interrupt]);
        assert_eq!((interrupted.in_doubt(), interrupted.sendable()), (Some((0, 7)), None));
        let later = interrupted.apply(Prompt).unwrap();
        assert_eq!(later.apply(NotArrived).unwrap().sendable(), Some(2), "what came after the interrupt");
        assert!(interrupted.apply(NotArrived).unwrap().settled());
        assert_eq!(interrupted.apply(Taken).unwrap().phase(), Phase::Taken);
    }

    #[test]
    fn a_prompt_that_has_arrived_is_never_sent_again() {
        use Input::{NotArrived, Prompt, Taken};
        let taken = after(&[Prompt, SEND, Taken]);
        assert_eq!((taken.in_doubt(), taken.in_turn(), taken.sendable()), (None, true, None));
        assert_eq!(taken.apply(NotArrived).unwrap(), taken);
    }

    #[test]
    fn a_turn_whose_upstream_is_lost_goes_on_once_it_is_found() {
        use Input::{Ended, Found, Lost, Prompt, Started};
        let lost = after(&[Prompt, SEND, Started, Lost]);
        assert!(lost.is_cut() && lost.in_turn());
        let found = lost.apply(Found).unwrap();
        assert_eq!((found.is_cut(), found.phase()), (false, Phase::Running));
        assert!(!after(&[Prompt, SEND, Started, Lost, Input::Fail]).is_cut());
        assert!(found.apply(Ended).unwrap().settled());
    }

    #[test]
    fn requires_action_is_no_end_and_no_turn_at_work() {
        use Input::{Prompt, Started, Waits};
        let state = after(&[Prompt, SEND, Started, Waits]);
        assert!(state.settled() && state.interruptible() && !state.in_turn());
    }

    #[test]
    fn an_answer_is_on_its_way_until_it_is_known_what_became_of_it() {
        use Input::{Answer, NotAnswered, Prompt, Started, Taken, Waits};
        let answering = after(&[Prompt, SEND, Started, Waits, Answer]);
        assert!(answering.is_answering() && answering.in_turn() && answering.in_doubt().is_none());
        assert_eq!(answering.apply(Answer).unwrap(), answering, "a client that asks again");
        assert_eq!(answering.apply(NotAnswered).unwrap().phase(), Phase::Waiting);
        for arrived in [Taken, Started] {
            let arrived = answering.apply(arrived).unwrap();
            assert_eq!(arrived.apply(NotAnswered).unwrap(), arrived);
        }
    }

    #[test]
    fn a_killed_session_heeds_nothing_but_its_end_and_is_not_settled_before() {
        use Input::{Answer, Ended, Found, Interrupt, Kill, Lost, NotArrived, Prompt, Started, Terminated, Waits};
        for before in [&[][..], &[Prompt], &[Prompt, SEND], &[Prompt, SEND, Started], &[Prompt, SEND, Started, Waits]] {
            let killed = after(before).apply(Kill).unwrap();
            assert!(killed.is_ending() && !killed.settled() && killed.sendable().is_none(), "{before:?}");
            assert!(killed.waiting().is_empty() && killed.in_doubt().is_none() && !killed.interruptible());
            assert_eq!(killed.apply(Prompt), Err(Refused::Terminated));
            for news in [Started, Ended, Lost, Found, Interrupt, NotArrived, Answer, Kill] {
                assert_eq!(killed.apply(news).unwrap(), killed, "{news:?}");
            }
            let over = killed.apply(Terminated).unwrap();
            assert_eq!((over.phase(), over.settled()), (Phase::Terminated, true));
            assert_eq!(over.apply(Kill).unwrap(), over);
        }
    }

    #[test]
    fn a_terminated_session_takes_nothing() {
        use Input::{Prompt, Started, Terminated};
        let state = after(&[Prompt, SEND, Started, Prompt, Terminated]);
        assert_eq!(state.apply(Prompt), Err(Refused::Terminated));
        assert_eq!(state.apply(Started).unwrap(), state);
        assert!(state.settled());
    }
}
