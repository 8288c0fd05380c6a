//! What a session may do next, as a pure function: no I/O, no clock, no lock.
//! `pump.rs` feeds inputs in and does what the state then asks for. No other file decides on a state.

use serde::{Deserialize, Serialize};

/// Where the session's turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
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
pub(super) struct State {
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
    /// True while the upstream cannot be reached.
    cut: bool,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
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
    /// A client stops the turn and withdraws what waits.
    Interrupt,
    /// A client answers what the turn waits for.
    Answer,
    /// The answer was not taken, as far as is known.
    NotAnswered,
    /// The upstream cannot be reached.
    Lost,
    /// The upstream can be reached again.
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
    /// There is nothing to send, or a turn runs.
    #[error("there is no prompt that could be sent now")]
    NothingToSend,
}

impl Default for State {
    fn default() -> Self {
        Self::NEW
    }
}

impl State {
    /// A session without prompts.
    pub(super) const NEW: Self =
        Self { phase: Phase::Idle, prompts: 0, next: 0, sent: 0, sent_after: 0, wanted: false, cut: false };

    /// Applies one input.
    ///
    /// # Errors
    /// When the input is a wish that this state does not allow.
    pub(super) fn apply(self, input: Input) -> Result<Self, Refused> {
        match (self.phase, input) {
            (Phase::Terminated | Phase::Ending, Input::Prompt) => return Err(Refused::Terminated),
            (Phase::Ending, Input::Terminated) => return Ok(Self { phase: Phase::Terminated, ..self }),
            (Phase::Terminated | Phase::Ending, _) => return Ok(self),
            _ => {}
        }
        let phase = |phase| Ok(Self { phase, ..self });
        match input {
            Input::Prompt => Ok(Self { prompts: self.prompts + 1, ..self }),
            Input::Send(sent_after) => match self.sendable() {
                Some(sent) => Ok(Self { phase: Phase::Sent, next: sent + 1, sent, sent_after, wanted: true, ..self }),
                None => Err(Refused::NothingToSend),
            },
            Input::Taken if matches!(self.phase, Phase::Sent | Phase::Answering) => phase(Phase::Taken),
            // Nobody waits for it any more: a client has interrupted since.
            Input::NotArrived if self.phase == Phase::Sent && !self.wanted => phase(Phase::Idle),
            Input::NotArrived if self.phase == Phase::Sent => Ok(Self { phase: Phase::Idle, next: self.sent, ..self }),
            Input::Interrupt => Ok(Self { next: self.prompts, wanted: false, ..self }),
            // From here on the upstream works, whether it says so at once or not.
            Input::Answer if self.phase == Phase::Waiting => phase(Phase::Answering),
            Input::NotAnswered if self.phase == Phase::Answering => phase(Phase::Waiting),
            // Once the upstream speaks of the turn, what was sent has arrived, whatever became of the answer.
            Input::Taken | Input::NotArrived | Input::Answer | Input::NotAnswered => Ok(self),
            Input::Lost => Ok(Self { cut: true, ..self }),
            Input::Found => Ok(Self { cut: false, ..self }),
            Input::Started => phase(Phase::Running),
            Input::Waits => phase(Phase::Waiting),
            // A failed turn ends too; what clients shall see is that it failed.
            Input::Ended if self.phase == Phase::Failed => Ok(self),
            Input::Ended => phase(Phase::Idle),
            Input::Failed => phase(Phase::Failed),
            // What waits would meet the same end.
            Input::Fail => Ok(Self { phase: Phase::Failed, next: self.prompts, cut: false, ..self }),
            Input::Rescheduled => phase(Phase::Rescheduling),
            Input::Kill => Ok(Self { phase: Phase::Ending, next: self.prompts, wanted: false, cut: false, ..self }),
            Input::Terminated => Ok(Self { phase: Phase::Terminated, next: self.prompts, cut: false, ..self }),
        }
    }

    /// Where the turn stands.
    #[must_use]
    pub(super) const fn phase(self) -> Phase {
        self.phase
    }

    /// True while the upstream cannot be reached.
    #[must_use]
    pub(super) const fn is_cut(self) -> bool {
        self.cut
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

    /// The prompts that waited `before` and will not be sent any more.
    #[must_use]
    pub(super) fn withdrawn_since(self, before: Self) -> std::ops::Range<u64> {
        let sent = self.phase == Phase::Sent && before.phase != Phase::Sent;
        if sent { self.next..self.next } else { before.next..self.next }
    }

    /// The prompt that may be sent now.
    #[must_use]
    pub(super) fn sendable(self) -> Option<u64> {
        let free = matches!(self.phase, Phase::Idle | Phase::Waiting | Phase::Failed);
        (free && self.next < self.prompts).then_some(self.next)
    }

    /// The prompt of which it is not known whether it has arrived, and the last event before it was sent.
    #[must_use]
    pub(super) fn in_doubt(self) -> Option<(u64, u64)> {
        (self.phase == Phase::Sent).then_some((self.sent, self.sent_after))
    }

    /// True while it is not known whether the client's answer has arrived.
    #[must_use]
    pub(super) const fn is_answering(self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// True while the host has yet to see to the session's end upstream.
    #[must_use]
    pub(super) const fn is_ending(self) -> bool {
        matches!(self.phase, Phase::Ending)
    }

    /// True while the upstream works on a turn.
    #[must_use]
    pub(super) const fn in_turn(self) -> bool {
        use Phase::{Answering, Rescheduling, Running, Sent, Taken};
        matches!(self.phase, Sent | Taken | Running | Rescheduling | Answering)
    }

    /// True when nothing will happen until a client does something.
    #[must_use]
    pub(super) fn settled(self) -> bool {
        !self.in_turn() && !self.is_ending() && self.sendable().is_none()
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
    fn what_was_withdrawn_was_never_sent() {
        use Input::{Fail, Interrupt, Kill, NotArrived, Prompt, Terminated};
        let waiting = after(&[Prompt, SEND, Prompt, Prompt]);
        for input in [Interrupt, Fail, Kill, Terminated] {
            assert_eq!(waiting.apply(input).unwrap().withdrawn_since(waiting), 1..3, "{input:?}");
        }
        let (idle, sent) = (after(&[Prompt]), after(&[Prompt, SEND]));
        assert!(sent.withdrawn_since(idle).is_empty());
        assert!(sent.apply(NotArrived).unwrap().withdrawn_since(sent).is_empty());
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
