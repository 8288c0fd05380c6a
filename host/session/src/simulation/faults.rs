//! How the world treats a session: what may go wrong, how often, and for how long.

use std::time::Duration;

use lap_model::contract::ErrorKind;

use super::{Dice, upstream::Habits};
use crate::{
    Moment,
    failure::{Cause, Failure},
};

pub(super) const NEVER: Moment = Duration::from_hours(100_000);

/// Rules that are broken on purpose, to see that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The driver tells that a commit is durable before it is.
    CommittedTooEarly,
    /// The driver loses an answer.
    ReplyLost,
    /// The feed leaves something out, and so does the history.
    EventsLost,
    /// The driver tells of what a guest has mapped after the one that failed.
    FaultHidden,
    /// An interrupt is lost on its way, and said to be taken.
    InterruptLost,
    /// A crash loses the last commit, although it was told to be durable.
    DiskForgets,
    /// The driver begins calls with the credential that it had first.
    OldCredential,
    /// The machine: an end of the host's own goes into no log.
    NoIdle,
    /// The machine: a prompt is taken without a word.
    TakenSilently,
    /// The machine: what waits is withdrawn without a word.
    WithdrawnSilently,
    /// The machine: a prompt in doubt is sent again without a look.
    NoLook,
    /// The machine: what came behind a failed batch is mapped.
    MapsOn,
    /// The machine: calls do not wait for the commit.
    Hasty,
    /// The machine: the index lacks what it has of an event.
    IndexForgets,
    /// The machine: a prompt that arrives unwanted is left alone.
    Lenient,
}

/// Shares in a thousand, means and bounds.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    pub(super) habits: Habits,
    pub(super) connect: u64,
    pub(super) send: u64,
    /// How often a feed or the history is refused for good.
    pub(super) refused: u64,
    /// How long a feed lives, on average.
    pub(super) feed: Duration,
    /// How often a feed dies without a word, so that only the watchdog notices.
    pub(super) silent: u64,
    /// How often a feed is none, by its head.
    pub(super) odd: u64,
    /// How often a feed brings something that is no event; 0 for never.
    pub(super) signs: Duration,
    pub(super) duplicate: u64,
    pub(super) swap: u64,
    /// How often a feed begins with what was shown before.
    pub(super) replay: u64,
    /// By how much the history may lag behind the stream.
    pub(super) lag: Duration,
    pub(super) newest_first: bool,
    /// True when the upstream has sessions, and not just turns.
    pub(super) named: bool,
    /// How long the upstream takes for a message at the most, and whether it goes on when its client hangs up.
    pub(super) takes: u64,
    pub(super) finishes: bool,
    /// True when the answer to a message shows it.
    pub(super) echoes: bool,
    /// How often a call takes very long.
    pub(super) slow: u64,
    /// How long a guest takes at the most.
    pub(super) guest_ms: u64,
    /// How often a guest breaks off, and asks for another feed.
    pub(super) fault: u64,
    pub(super) relisten: u64,
    /// How long a commit takes at the most.
    pub(super) commit_ms: u64,
    pub(super) crash: Duration,
    pub(super) outage: Duration,
    /// The upstream stands still, and then goes on with what it was asked.
    pub(super) hang: Duration,
    /// No room for a guest.
    pub(super) full: Duration,
    /// Credentials change, are refused, and are removed.
    pub(super) credential: Duration,
    pub(super) prompt: Duration,
    /// How many prompts are followed by interrupts, other prompts, inputs, changes.
    pub(super) interrupt: u64,
    pub(super) company: u64,
    pub(super) amend: u64,
    /// How often a client ends the session for good, or removes it, before the day is over.
    pub(super) kill: u64,
    pub(super) delete: u64,
    /// How often the upstream takes the wish to stop or to end and does nothing, or refuses it.
    pub(super) deaf: u64,
    pub(super) refuses: u64,
    pub(super) mutant: Option<Mutant>,
}

impl Faults {
    /// A day of anything.
    pub(super) fn any(dice: &mut Dice) -> Self {
        let mut some = |share: u64, max: u64| if dice.permille(share) { dice.below(max) } else { 0 };
        let (connect, send, silent) = (some(700, 300), some(700, 400), some(500, 300));
        let (duplicate, swap, replay, lag) = (some(300, 300), some(200, 200), some(300, 500), some(300, 900));
        let (odd, refused, slow, fault) = (some(200, 300), some(150, 60), some(400, 40), some(300, 30));
        let (relisten, deaf, refuses) = (some(200, 100), some(300, 1000), some(200, 300));
        let habits = Habits {
            plain: false,
            asks: some(300, 500),
            untold: some(100, 100),
            endless: some(100, 60),
            deep: some(200, 30),
            deadly: some(60, 20),
            forgetful: some(60, 20),
            joins: some(500, 1000),
            mute: false,
        };
        let sometimes = |dice: &mut Dice, share: u64, least: u64, more: u64| {
            if dice.permille(share) { Duration::from_mins(least + dice.below(more)) } else { NEVER }
        };
        Self {
            habits,
            connect,
            send,
            refused,
            feed: Duration::from_secs(20 + dice.below(900)),
            silent,
            odd,
            signs: if dice.permille(50) { dice.ms(1..30_000) } else { NEVER },
            duplicate,
            swap,
            replay,
            lag: Duration::from_millis(lag),
            newest_first: dice.permille(700),
            named: dice.permille(800),
            takes: if dice.permille(600) { 300 } else { 3 },
            finishes: dice.permille(700),
            echoes: dice.permille(500),
            slow,
            guest_ms: if dice.permille(100) { 2000 } else { 15 },
            fault,
            relisten,
            commit_ms: if dice.permille(200) { 40 } else { 6 },
            crash: Duration::from_mins(20 + dice.below(600)),
            outage: Duration::from_mins(100 + dice.below(1000)),
            hang: sometimes(dice, 200, 30, 600),
            full: sometimes(dice, 200, 30, 600),
            credential: sometimes(dice, 300, 10, 600),
            prompt: Duration::from_mins(3 + dice.below(40)),
            interrupt: dice.below(400),
            company: dice.below(200),
            amend: dice.below(100),
            kill: 200,
            delete: 50,
            deaf,
            refuses,
            mutant: None,
        }
    }

    pub(super) fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    /// An upstream that shows nobody's prompts, and is all right otherwise: what has arrived cannot be told from what has not.
    pub(super) fn mute(dice: &mut Dice) -> Self {
        let Self { crash, feed, replay, newest_first, named, takes, .. } = Self::any(dice);
        let habits = Habits { mute: true, asks: 300, ..Habits::default() };
        Self { habits, crash, feed, replay, newest_first, named, takes, ..Self::none() }
    }

    pub(super) fn with(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    pub(super) fn none() -> Self {
        Self {
            habits: Habits::default(),
            connect: 0,
            send: 0,
            refused: 0,
            feed: NEVER,
            silent: 0,
            odd: 0,
            signs: NEVER,
            duplicate: 0,
            swap: 0,
            replay: 0,
            lag: Duration::ZERO,
            newest_first: true,
            named: true,
            takes: 3,
            finishes: true,
            echoes: false,
            slow: 0,
            guest_ms: 2,
            fault: 0,
            relisten: 0,
            commit_ms: 3,
            crash: NEVER,
            outage: NEVER,
            hang: NEVER,
            full: NEVER,
            credential: NEVER,
            prompt: NEVER,
            interrupt: 0,
            company: 0,
            amend: 0,
            kill: 0,
            delete: 0,
            deaf: 0,
            refuses: 0,
            mutant: None,
        }
    }

    /// One turn of 20 seconds at an upstream that needs 100 ms for its prompt, and nothing goes wrong by itself.
    pub(super) fn plain() -> Self {
        let habits = Habits { plain: true, ..Habits::default() };
        Self { habits, takes: 100, echoes: true, commit_ms: 4, ..Self::none() }
    }

    /// True when the log may have another order than the upstream, because the upstream itself tells things out of
    /// order or late.
    pub(super) fn disorder(&self) -> bool {
        self.swap > 0 || !self.lag.is_zero() || self.habits.untold > 0
    }
}

/// What a failing request fails with.
pub(super) fn failure(dice: &mut Dice) -> Failure {
    let asked = dice.permille(500).then(|| dice.ms(0..1_200_000));
    let (kind, retry_after) = match dice.below(100) {
        0..70 => (ErrorKind::Upstream, None),
        70..85 => (ErrorKind::Overloaded, asked),
        85..98 => (ErrorKind::Throttled, asked),
        98 => (ErrorKind::BadRequest, None),
        _ => (ErrorKind::Auth, None),
    };
    Failure { retry_after, ..declared(kind) }
}

pub(super) fn declared(kind: ErrorKind) -> Failure {
    Failure::of(kind, format!("{kind:?}"))
}

pub(super) fn failed(cause: Cause) -> Failure {
    Failure { cause, message: format!("{cause:?}"), retry_after: None }
}
