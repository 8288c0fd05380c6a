//! Which tries there are, and which of them are played.

use std::fmt;

use crate::harness::dice::Dice;

/// How a session stands when its prompt comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The prompt is its first.
    Fresh,
    /// It has answered one and is at rest.
    Idle,
    /// A turn runs; the prompt waits for its end.
    Running,
    /// A turn waits for leave to use a tool.
    Waiting,
}

/// What comes behind the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Interrupt,
    Abort,
    /// An interrupt, and once that is acknowledged another prompt.
    InterruptThenPrompt,
    /// One request with a message and an interrupt behind it.
    MessageAndInterrupt,
    /// One request with an interrupt and a message behind it.
    InterruptAndMessage,
    Kill,
    Delete,
    Archive,
    PauseAgent,
    ChangeAgent,
    /// Another credential that is as good.
    PutCredential,
    /// One that the upstream refuses, and a good one 300 ms later.
    PutBadCredential,
    /// None for 300 ms.
    DeleteCredential,
    RemoveAlias,
    Restart,
    /// A restart with a retention that removes whatever has nothing to do.
    RestartAndSweep,
    /// `kill -9` of the real program, and a start.
    Kill9,
}

/// How long the upstream takes. Prompts are always taken in the end, whether their client stays or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Latency {
    None,
    /// 100 ms for every request.
    Even,
    /// 300 ms for prompts alone: an interrupt overtakes the one before it.
    Prompts,
    /// Up to 300 ms for prompts, up to 60 ms for everything else.
    Random,
}

/// Whose routes and headers a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    Platform,
    Vendor,
}

/// One of all combinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Try {
    pub operation: Operation,
    pub standing: Standing,
    pub latency: Latency,
    pub dialect: Dialect,
    pub delay_ms: u64,
}

/// Around each point of a turn: the commit, the opening of the feed, the send and its answer at each latency.
const DELAYS_MS: [u64; 13] = [0, 1, 2, 5, 10, 50, 110, 150, 190, 250, 290, 310, 400];

/// The longest of them.
pub const DELAY_MS_MAX: u64 = 400;

/// What an operation is meant to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// Nothing: every prompt is answered.
    Nothing,
    /// The turn and what waits.
    Turn,
    /// The session, whose log stays.
    Session,
    /// The session, and its log with it.
    Everything,
}

impl Standing {
    const ALL: [Self; 4] = [Self::Fresh, Self::Idle, Self::Running, Self::Waiting];
}

impl Latency {
    pub const ALL: [Self; 4] = [Self::None, Self::Even, Self::Prompts, Self::Random];
}

impl Operation {
    pub const ALL: [Self; 17] = [
        Self::Interrupt,
        Self::Abort,
        Self::InterruptThenPrompt,
        Self::MessageAndInterrupt,
        Self::InterruptAndMessage,
        Self::Kill,
        Self::Delete,
        Self::Archive,
        Self::PauseAgent,
        Self::ChangeAgent,
        Self::PutCredential,
        Self::PutBadCredential,
        Self::DeleteCredential,
        Self::RemoveAlias,
        Self::Restart,
        Self::RestartAndSweep,
        Self::Kill9,
    ];

    /// True when it meets all sessions of a host.
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::Restart | Self::RestartAndSweep | Self::Kill9)
    }

    /// True when it meets all sessions of a runtime, so that its session needs one of its own.
    pub const fn is_of_runtime(self) -> bool {
        matches!(self, Self::PutCredential | Self::PutBadCredential | Self::DeleteCredential | Self::RemoveAlias)
    }

    pub const fn stops(self) -> Stops {
        match self {
            Self::Interrupt
            | Self::Abort
            | Self::InterruptThenPrompt
            | Self::MessageAndInterrupt
            | Self::InterruptAndMessage => Stops::Turn,
            Self::Kill => Stops::Session,
            Self::Delete => Stops::Everything,
            Self::Archive
            | Self::PauseAgent
            | Self::ChangeAgent
            | Self::PutCredential
            | Self::PutBadCredential
            | Self::DeleteCredential
            | Self::RemoveAlias
            | Self::Restart
            | Self::RestartAndSweep
            | Self::Kill9 => Stops::Nothing,
        }
    }

    /// As the table has it, and `LAP_STOPS_ONLY` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Abort => "abort",
            Self::InterruptThenPrompt => "interrupt, prompt",
            Self::MessageAndInterrupt => "[message, interrupt]",
            Self::InterruptAndMessage => "[interrupt, message]",
            Self::Kill => "kill",
            Self::Delete => "delete",
            Self::Archive => "archive",
            Self::PauseAgent => "pause agent",
            Self::ChangeAgent => "change agent",
            Self::PutCredential => "other credential",
            Self::PutBadCredential => "bad credential",
            Self::DeleteCredential => "no credential",
            Self::RemoveAlias => "remove alias",
            Self::Restart => "restart",
            Self::RestartAndSweep => "restart, sweep",
            Self::Kill9 => "kill -9",
        }
    }
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, standing, latency, dialect, delay_ms } = self;
        write!(f, "{} {delay_ms} ms behind a prompt, {standing:?}, latency {latency:?}, {dialect:?}", operation.name())
    }
}

/// Every combination once, in one order.
fn all() -> Vec<Try> {
    let mut all = Vec::new();
    for operation in Operation::ALL {
        for standing in Standing::ALL {
            for latency in Latency::ALL {
                for dialect in [Dialect::Platform, Dialect::Vendor] {
                    let of_delay = |delay_ms| Try { operation, standing, latency, dialect, delay_ms };
                    all.extend(DELAYS_MS.map(of_delay));
                }
            }
        }
    }
    all
}

/// So many of the tries with a wanted operation: each combination once before one comes again, each operation as often as
/// the next.
pub fn chosen(count: usize, wanted: impl Fn(Operation) -> bool) -> Vec<Try> {
    let mut dice = Dice::of(0);
    let mut piles: Vec<Vec<Try>> = Operation::ALL
        .into_iter()
        .filter(|operation| wanted(*operation))
        .map(|operation| all().into_iter().filter(|tried| tried.operation == operation).collect())
        .collect();
    for pile in &mut piles {
        for last in (1..pile.len()).rev() {
            pile.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap());
        }
    }
    (0..count).map(|nth| piles[nth % piles.len()][nth / piles.len() % piles[0].len()]).collect()
}

#[test]
fn all_combinations_are_chosen_before_one_comes_again() {
    let count = all().len();
    let mut chosen = chosen(count, |_| true);
    chosen.sort();
    chosen.dedup();
    assert_eq!((chosen.len(), count), (count, 17 * 4 * 4 * 2 * 13));
}

#[test]
fn a_few_tries_are_of_all_operations() {
    for operation in Operation::ALL {
        let tries = chosen(340, |_| true);
        assert_eq!(tries.iter().filter(|tried| tried.operation == operation).count(), 20);
    }
}
