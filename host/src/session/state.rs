//! What a session may do next, as a pure function: no I/O, no clock, no lock.
//! `pump.rs` feeds inputs in and does what the state then asks for. No other file decides on a state.

use serde::{Deserialize, Serialize};

/// Where the session's turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// No turn runs; the last one ended well, or there was none.
    Idle,
    /// A prompt is on its way or has arrived, and the upstream has not said anything of its turn yet.
    Sent,
    /// The upstream works.
    Running,
    /// The upstream had a fault and says that it will go on by itself.
    Rescheduling,
    /// The turn waits for the client: it is not over.
    Waiting,
    /// No turn runs; the last one failed.
    Failed,
    /// Over for good.
    Terminated,
}

/// Everything that decides what a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    phase: Phase,
    /// How many prompts the session was given; they are numbered from 0.
    prompts: u64,
    /// The prompts before this number were sent or withdrawn; those from it on wait.
    next: u64,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// A client gives a prompt.
    Prompt,
    /// The waiting prompt is about to be sent.
    Send,
    /// It is certain that the prompt sent last did not arrive: it waits again.
    NotArrived,
    /// The turn cannot go on: the upstream refuses the prompt, cannot be reached any more, or the runtime is at fault.
    /// What waits is withdrawn.
    Fail,
    /// A client stops the turn and withdraws what waits.
    Interrupt,
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
    /// The upstream says that the session is over.
    Terminated,
}

/// A wish that the state does not allow. The session stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session takes no more prompts.
    #[error("the session has ended for good; start another one")]
    Terminated,
    /// There is nothing to send, or a turn runs.
    #[error("there is no prompt that could be sent now")]
    NothingToSend,
}

impl State {
    /// A session without prompts.
    pub(super) const NEW: Self = Self { phase: Phase::Idle, prompts: 0, next: 0 };

    /// Applies one input.
    ///
    /// # Errors
    /// When the input is a wish that this state does not allow.
    pub(super) fn apply(self, input: Input) -> Result<Self, Refused> {
        if self.phase == Phase::Terminated {
            return if input == Input::Prompt { Err(Refused::Terminated) } else { Ok(self) };
        }
        let phase = |phase| Ok(Self { phase, ..self });
        match input {
            Input::Prompt => Ok(Self { prompts: self.prompts + 1, ..self }),
            Input::Send => match self.sendable() {
                Some(number) => Ok(Self { phase: Phase::Sent, next: number + 1, ..self }),
                None => Err(Refused::NothingToSend),
            },
            // Once the upstream speaks of the turn, the prompt has arrived, whatever became of the answer.
            Input::NotArrived if self.phase == Phase::Sent => {
                Ok(Self { phase: Phase::Idle, next: self.next - 1, ..self })
            }
            Input::NotArrived => Ok(self),
            Input::Interrupt => Ok(Self { next: self.prompts, ..self }),
            Input::Started => phase(Phase::Running),
            Input::Waits => phase(Phase::Waiting),
            // A failed turn ends too; what clients shall see is that it failed.
            Input::Ended if self.phase == Phase::Failed => Ok(self),
            Input::Ended => phase(Phase::Idle),
            Input::Failed => phase(Phase::Failed),
            // What waits would meet the same end.
            Input::Fail => Ok(Self { phase: Phase::Failed, next: self.prompts, ..self }),
            Input::Rescheduled => phase(Phase::Rescheduling),
            Input::Terminated => Ok(Self { phase: Phase::Terminated, next: self.prompts, ..self }),
        }
    }

    /// Where the turn stands.
    #[must_use]
    pub(super) const fn phase(self) -> Phase {
        self.phase
    }

    /// How many prompts the session was given.
    #[must_use]
    pub(super) const fn prompts(self) -> u64 {
        self.prompts
    }

    /// The numbers of the prompts that wait.
    #[must_use]
    pub(super) const fn waiting(self) -> std::ops::Range<u64> {
        self.next..self.prompts
    }

    /// The prompt that may be sent now.
    #[must_use]
    pub(super) fn sendable(self) -> Option<u64> {
        let free = matches!(self.phase, Phase::Idle | Phase::Waiting | Phase::Failed);
        (free && self.next < self.prompts).then_some(self.next)
    }

    /// True while the upstream works on a turn.
    #[must_use]
    pub(super) const fn in_turn(self) -> bool {
        matches!(self.phase, Phase::Sent | Phase::Running | Phase::Rescheduling)
    }

    /// True when nothing will happen until a client does something.
    #[must_use]
    pub(super) fn settled(self) -> bool {
        !self.in_turn() && self.sendable().is_none()
    }

    /// True when an interrupt has something to stop upstream.
    #[must_use]
    pub(super) const fn interruptible(self) -> bool {
        self.in_turn() || matches!(self.phase, Phase::Waiting)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn after(inputs: &[Input]) -> State {
        inputs.iter().fold(State::NEW, |state, &input| state.apply(input).unwrap())
    }

    #[test]
    fn a_turn_runs_from_its_prompt_to_its_end() {
        use Input::{Ended, Prompt, Send, Started};
        assert!(State::NEW.settled());
        let waiting = after(&[Prompt]);
        assert_eq!((waiting.sendable(), waiting.settled()), (Some(0), false));
        let sent = after(&[Prompt, Send]);
        assert_eq!((sent.phase(), sent.sendable(), sent.settled()), (Phase::Sent, None, false));
        let ended = after(&[Prompt, Send, Started, Ended]);
        assert_eq!((ended.phase(), ended.settled()), (Phase::Idle, true));
    }

    #[test]
    fn a_prompt_during_a_turn_waits_for_its_end() {
        use Input::{Ended, Prompt, Send, Started};
        let state = after(&[Prompt, Send, Started, Prompt]);
        assert_eq!((state.sendable(), state.waiting()), (None, 1..2));
        assert_eq!(state.apply(Send), Err(Refused::NothingToSend));
        assert_eq!(state.apply(Ended).unwrap().sendable(), Some(1));
    }

    #[test]
    fn an_interrupt_withdraws_what_waits_and_leaves_the_end_to_the_upstream() {
        use Input::{Interrupt, Prompt, Send, Started};
        let state = after(&[Prompt, Send, Started, Prompt, Prompt, Interrupt]);
        assert_eq!((state.phase(), state.waiting()), (Phase::Running, 3..3));
    }

    #[test]
    fn a_failed_turn_stays_failed_until_the_next_one() {
        use Input::{Ended, Failed, Prompt, Send, Started};
        let failed = after(&[Prompt, Send, Started, Failed, Ended]);
        assert_eq!((failed.phase(), failed.settled()), (Phase::Failed, true));
        let next = failed.apply(Prompt).unwrap().apply(Send).unwrap().apply(Started).unwrap().apply(Ended).unwrap();
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
        use Input::{NotArrived, Prompt, Send, Started};
        assert_eq!(after(&[Prompt, Send, NotArrived]).sendable(), Some(0));
        assert_eq!(after(&[Prompt, Send, Started, NotArrived]).phase(), Phase::Running);
    }

    #[test]
    fn requires_action_is_no_end_and_no_turn_at_work() {
        use Input::{Prompt, Send, Started, Waits};
        let state = after(&[Prompt, Send, Started, Waits]);
        assert!(state.settled() && state.interruptible() && !state.in_turn());
    }

    #[test]
    fn a_terminated_session_takes_nothing() {
        use Input::{Prompt, Send, Started, Terminated};
        let state = after(&[Prompt, Send, Started, Prompt, Terminated]);
        assert_eq!(state.apply(Prompt), Err(Refused::Terminated));
        assert_eq!(state.apply(Started).unwrap(), state);
        assert!(state.settled());
    }
}
