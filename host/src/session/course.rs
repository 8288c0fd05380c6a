//! What a pump does next, as a pure function of what happened and of the time: no I/O, no clock, no lock.
//!
//! `pump.rs` carries the steps out and reports what came of them; `simulation.rs` does the same with a world of its own,
//! through years of faults.

use std::time::Duration;

use super::{backoff::Backoff, state::State};
use crate::runtime::ErrorKind;

/// A time, counted from the beginning of the pump.
pub(super) type Moment = Duration;

/// How long a pump stays connected after its turn: a conversation's next prompt then finds everything ready.
const LINGER: Duration = Duration::from_secs(30);

/// How long after the look before each look into the upstream's history comes. One look is not enough: a history may
/// lag behind the stream, and then neither has what came between two streams.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2)];

/// A feed that lived for so long was a good one, whether it brought news or not.
const STEADY: Duration = Duration::from_secs(10);

/// How often it is tried to end a session upstream, and for how long at the most.
const END_TRIES: u32 = 7;
const END_PATIENCE: Duration = Duration::from_secs(30);

/// How long it is waited before the second of these tries; twice as long before each after that.
const END_WAIT: Duration = Duration::from_millis(100);

/// When nothing is planned. The feed has a watchdog of its own.
const NEVER: Duration = Duration::from_hours(1);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Open the feed, and then fill the gap before it if there may be one.
    Connect {
        /// True when there may be one.
        look_back: bool,
    },
    /// Look into the upstream's history while the feed goes on.
    LookBack,
    /// Send the waiting prompt of this number.
    Send(u64),
    /// Give up to look for the prompt sent last: it did not arrive.
    Requeue,
    /// The same for the answer of a client, who has not been told either that it arrived: the turn waits for it again.
    Unanswered,
    /// Try to end the session upstream, and look whether it is.
    End,
    /// Nothing until something happens, or until this moment.
    Wait(Moment),
    /// Nothing any more.
    Leave,
}

/// What a failure means for the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another try may succeed, and the prompt did not arrive.
    Again,
    /// Another try may succeed, but the prompt may have arrived: look first.
    InDoubt,
    /// No other try.
    Fail,
}

/// Where a pump stands, beyond what its session's state says.
#[derive(Debug)]
pub(super) struct Course {
    /// Since when the feed has been open.
    connected: Option<Moment>,
    /// True when the upstream may have events that the log lacks.
    behind: bool,
    /// The next look into the history, as an index of [`LOOKS`], and when.
    look: Option<(usize, Moment)>,
    connecting: Backoff,
    sending: Backoff,
    /// Tries to end the session upstream, while there are to be any.
    ending: Option<Ending>,
    /// When something happened last that matters for how long to stay.
    touched: Moment,
    /// Where the next chance comes from.
    chance: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    tries: u32,
    since: Moment,
    until: Moment,
}

impl Ending {
    const fn beginning(now: Moment) -> Self {
        Self { tries: 0, since: now, until: now }
    }
}

impl Course {
    /// For a pump that begins. `fresh` when the session was made a moment ago, so that there is nothing to look for;
    /// `seed` decides how waits are spread.
    pub(super) fn new(fresh: bool, seed: u64) -> Self {
        Self {
            connected: None,
            behind: !fresh,
            look: None,
            connecting: Backoff::default(),
            sending: Backoff::default(),
            ending: None,
            touched: Moment::ZERO,
            chance: seed,
        }
    }

    /// What to do now.
    pub(super) fn next(&self, state: State, now: Moment) -> Step {
        if state.is_ending() || self.ending.is_some() {
            let due = self.ending.map_or(now, |ending| ending.until);
            return if now >= due { Step::End } else { Step::Wait(due) };
        }
        let look = self.look.filter(|_| self.connected.is_some()).map(|(_, at)| at);
        if look.is_some_and(|at| now >= at) {
            return Step::LookBack;
        }
        let look = look.unwrap_or(now + NEVER);
        if state.settled() {
            let leaves = self.touched + LINGER;
            return if now >= leaves { Step::Leave } else { Step::Wait(leaves.min(look)) };
        }
        if self.connected.is_none() {
            let due = self.connecting.is_due(now);
            return if due { Step::Connect { look_back: self.behind } } else { Step::Wait(self.connecting.until()) };
        }
        if state.in_doubt().is_some() && self.look.is_none() {
            return Step::Requeue;
        }
        if state.is_answering() && self.look.is_none() {
            return Step::Unanswered;
        }
        match state.sendable() {
            Some(number) if self.sending.is_due(now) => Step::Send(number),
            Some(_) => Step::Wait(self.sending.until().min(look)),
            None => Step::Wait(look),
        }
    }

    /// True while the feed is open.
    pub(super) const fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// True when the upstream may have events that the log lacks.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind
    }

    /// Something was decided on the session.
    pub(super) fn touch(&mut self, now: Moment) {
        self.touched = now;
    }

    /// The feed is open, and the gap before it was filled where [`Step::Connect`] asked for that.
    pub(super) fn connected(&mut self, now: Moment) {
        self.connected = Some(now);
        if std::mem::replace(&mut self.behind, true) {
            self.look = Some((1, now + LOOKS[1]));
        }
    }

    /// The history was looked into.
    pub(super) fn looked(&mut self, now: Moment) {
        let next = self.look.map_or(LOOKS.len(), |(look, _)| look + 1);
        self.look = LOOKS.get(next).map(|wait| (next, now + *wait));
    }

    /// True while the history will be looked into again.
    pub(super) const fn looks_on(&self) -> bool {
        self.look.is_some()
    }

    /// The log has grown: the upstream is well.
    pub(super) fn grown(&mut self) {
        self.connecting.reset();
    }

    /// The feed has ended.
    pub(super) fn ended(&mut self, now: Moment) {
        if self.connected.take().is_some_and(|since| now >= since + STEADY) {
            self.connecting.reset();
        }
        self.look = None;
        let chance = self.chance();
        self.connecting.wait_little(now, chance);
    }

    /// The feed could not be opened or the history not be read.
    pub(super) fn not_connected(&mut self, now: Moment, kind: ErrorKind, asked: Option<Duration>) -> Verdict {
        if self.connected.is_some() {
            self.ended(now);
            return Verdict::Again;
        }
        if !passes(kind) || self.connecting.is_exhausted(now) {
            return Verdict::Fail;
        }
        let chance = self.chance();
        self.connecting.wait(now, asked, chance);
        Verdict::Again
    }

    /// The prompt was taken.
    pub(super) fn sent(&mut self) {
        self.sending.reset();
    }

    /// The prompt was not taken, as far as is known.
    pub(super) fn not_sent(&mut self, now: Moment, kind: ErrorKind, asked: Option<Duration>) -> Verdict {
        if !passes(kind) || self.sending.is_exhausted(now) {
            return Verdict::Fail;
        }
        let chance = self.chance();
        self.sending.wait(now, asked, chance);
        if kind == ErrorKind::Upstream {
            self.look_for_prompt(now);
            return Verdict::InDoubt;
        }
        Verdict::Again
    }

    /// Whether the prompt arrived is to be found out.
    pub(super) fn look_for_prompt(&mut self, now: Moment) {
        self.look = Some((0, now + LOOKS[0]));
    }

    /// A client ends the session, or wants to know anew whether it has ended upstream.
    pub(super) fn end(&mut self, now: Moment) {
        self.failed();
        self.ending.get_or_insert(Ending::beginning(now));
    }

    /// A try to end the session upstream has not shown that it is over. Another one may, or there is none.
    pub(super) fn not_ended(&mut self, now: Moment) -> Verdict {
        let ending = self.ending.get_or_insert(Ending::beginning(now));
        ending.tries += 1;
        if ending.tries >= END_TRIES || now >= ending.since + END_PATIENCE {
            return Verdict::Fail;
        }
        ending.until = now + END_WAIT * 2_u32.pow(ending.tries - 1);
        Verdict::Again
    }

    /// There are no more such tries.
    pub(super) fn ended_for_good(&mut self) {
        self.ending = None;
    }

    /// The turn has failed: the next one starts anew.
    pub(super) fn failed(&mut self) {
        self.connected = None;
        self.look = None;
        self.connecting.reset();
        self.sending.reset();
    }

    fn chance(&mut self) -> u64 {
        splitmix(&mut self.chance)
    }
}

/// A number unlike the one before (splitmix64, a public-domain generator by Sebastiano Vigna).
pub(super) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// True when another try may succeed.
const fn passes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::Upstream)
}
