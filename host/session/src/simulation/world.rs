//! The world around the driver: a clock, a disk, clients and faults, and what happens next.

use std::time::Duration;

use super::{
    Dice, Tally,
    clients::Wish,
    driver::Process,
    faults::{Faults, NEVER},
    network::Sent,
    upstream::Upstream,
    verdict::Checks,
};
use crate::{Event, Kept, Moment, Prompt, Segment, State, usage::Usage};

/// A message as it is stored.
pub(super) struct Row {
    pub(super) prompt: Prompt,
    pub(super) withdrawn: bool,
}

/// What is durable.
pub(super) struct Disk {
    pub(super) kept: Kept,
    pub(super) log: Vec<String>,
    pub(super) segments: Vec<Segment>,
    pub(super) rows: Vec<Row>,
}

/// What becomes of the first prompt that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// All is well.
    Plain,
    /// Its answer is lost.
    Lost,
    /// The answer says that something went wrong, and it arrives a moment later.
    Late,
    /// It arrives, and the answer does not come.
    Hangs,
    /// It is refused for the time being.
    Refused,
}

/// A time in which something does not work.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) from: Moment,
    pub(super) to: Moment,
}

impl Window {
    const NONE: Self = Self { from: NEVER, to: NEVER };

    pub(super) fn has(self, now: Moment) -> bool {
        now >= self.from && now < self.to
    }

    /// The next one, once this is past.
    pub(super) fn go_on(&mut self, now: Moment, mean: Duration, longest_ms: u64, dice: &mut Dice) {
        if now >= self.to {
            let from = now + dice.rarely(mean);
            *self = Self { from, to: from + dice.ms(1000..longest_ms) };
        }
    }
}

pub(super) enum What {
    Crash,
    Restart,
    Wish(usize),
    Client,
    Keys,
    Arrives(usize),
    Lands,
    Told,
    CallEnds,
    Feed,
    Due,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    pub(super) now: Moment,
    pub(super) upstream: Upstream,
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    pub(super) wire: Vec<Sent>,
    /// What clients will want.
    pub(super) plan: Vec<(Moment, Wish)>,
    pub(super) next_prompt: Moment,
    pub(super) next_keys: Moment,
    pub(super) next_crash: Moment,
    pub(super) restart: Option<Moment>,
    pub(super) started: bool,
    pub(super) outage: Window,
    pub(super) hang: Window,
    pub(super) full: Window,
    pub(super) quarantine: Moment,
    pub(super) credential: Option<u64>,
    pub(super) versions: u64,
    /// Credentials up to this version are refused.
    pub(super) refused: u64,
    /// The guest's next call breaks off.
    pub(super) faulty: bool,
    /// What becomes of the first prompt.
    pub(super) first: Turn,
    /// True where a call takes very long.
    pub(super) hangs: bool,
    pub(super) look_lag: Duration,
    pub(super) tickets: u64,
    pub(super) calls: u64,
    pub(super) steps: u64,
    pub(super) trace: bool,
    pub(super) disordered: bool,
    /// True where the upstream shows nobody's prompts.
    pub(super) mute: bool,
    pub(super) checks: Checks,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(mut dice: Dice, faults: Faults) -> Self {
        let kept = Kept {
            state: State::NEW,
            guest: "0".to_owned(),
            usage: Usage::default(),
            bytes: 0,
            version: 1,
            waiting: None,
        };
        let mut world = Self {
            upstream: Upstream::new(dice.roll(), faults.habits),
            disk: Disk { kept, log: Vec::new(), segments: Vec::new(), rows: Vec::new() },
            now: Moment::ZERO,
            process: None,
            wire: Vec::new(),
            plan: Vec::new(),
            next_prompt: if faults.prompt < NEVER { Moment::ZERO } else { NEVER },
            next_keys: dice.rarely(faults.credential),
            next_crash: dice.rarely(faults.crash),
            restart: None,
            started: false,
            outage: Window::NONE,
            hang: Window::NONE,
            full: Window::NONE,
            quarantine: Moment::ZERO,
            credential: Some(1),
            versions: 1,
            refused: 0,
            faulty: false,
            first: Turn::Plain,
            hangs: false,
            look_lag: Duration::ZERO,
            tickets: 0,
            calls: 0,
            steps: 0,
            trace: std::env::var_os("LAP_TRACE").is_some(),
            disordered: faults.disorder(),
            mute: faults.habits.mute,
            checks: Checks::default(),
            tally: Tally::default(),
            dice,
            faults,
        };
        for (share, wish) in [(world.faults.kill, Wish::Kill), (world.faults.delete, Wish::Delete)] {
            if world.dice.permille(share) {
                let at = world.dice.ms(0..86_400_000);
                world.plan.push((at, wish));
            }
        }
        for window in [&mut world.outage, &mut world.hang, &mut world.full] {
            *window = Window { from: Moment::ZERO, to: Moment::ZERO };
        }
        world.open_windows();
        world
    }

    pub(super) fn open_windows(&mut self) {
        let Self { faults, dice, now, .. } = self;
        self.outage.go_on(*now, faults.outage, 2_400_000, dice);
        self.hang.go_on(*now, faults.hang, 90_000, dice);
        self.full.go_on(*now, faults.full, 900_000, dice);
    }

    /// When something happens next.
    pub(super) fn next_at(&mut self) -> Moment {
        self.next().0
    }

    pub(super) fn live_one(&mut self, until: Moment) {
        if self.checks.broken.is_none() && !self.checks.removed {
            self.step(until);
        }
    }

    pub(super) fn live(&mut self, until: Moment) {
        while self.now < until && self.checks.broken.is_none() && !self.checks.removed {
            self.step(until);
        }
    }

    /// No more faults, a last prompt, and time for all of it to end.
    pub(super) fn calm_down(&mut self) {
        let (mutant, endless) = (self.faults.mutant, self.faults.habits.endless > 0);
        self.faults =
            Faults { mutant, newest_first: self.faults.newest_first, named: self.faults.named, ..Faults::none() };
        self.faults.habits.mute = self.mute;
        self.upstream.habits = self.faults.habits;
        (self.outage, self.hang, self.full) = (Window::NONE, Window::NONE, Window::NONE);
        (self.next_crash, self.next_keys, self.next_prompt) = (NEVER, NEVER, NEVER);
        self.plan.clear();
        self.faulty = false;
        self.wish(Wish::Put);
        self.live(self.now + Duration::from_hours(3));
        if endless {
            // The host may still find a turn whose end nobody tells, and waits an hour for it.
            self.wish(Wish::Prompt);
            self.live(self.now + Duration::from_hours(2));
        }
        self.wish(Wish::Prompt);
        self.live(self.now + Duration::from_hours(2));
    }

    /// What happens next, and when: of what comes at the same moment, anything.
    pub(super) fn next(&mut self) -> (Moment, What) {
        let mut best = (self.next_crash, What::Crash);
        let mut ties = 1;
        let dice = &mut self.dice;
        let mut offer = |at: Moment, what: What| {
            if at < best.0 {
                (best, ties) = ((at, what), 1);
            } else if at == best.0 {
                ties += 1;
                if dice.below(ties) == 0 {
                    best.1 = what;
                }
            }
        };
        offer(self.next_prompt, What::Client);
        offer(self.next_keys, What::Keys);
        if let Some(at) = self.restart {
            offer(at, What::Restart);
        }
        for (index, (at, _)) in self.plan.iter().enumerate() {
            offer(*at, What::Wish(index));
        }
        for (index, sent) in self.wire.iter().enumerate() {
            offer(sent.arrives, What::Arrives(index));
        }
        if let Some(process) = &self.process {
            if let Some(writing) = &process.writing {
                if writing.landed { offer(writing.told, What::Told) } else { offer(writing.lands, What::Lands) }
            }
            if let Some(call) = &process.call {
                offer(call.ends, What::CallEnds);
            }
            if let Some(feed) = process.feed.as_ref().filter(|_| process.reading) {
                let next = match self.upstream.shown.get(feed.place) {
                    Some(told) => told.at,
                    None => self.upstream.next().unwrap_or(NEVER),
                };
                let arrives = next + feed.latency;
                let arrives = if arrives <= feed.dies { arrives } else { NEVER };
                let sign = if feed.sign <= feed.dies { feed.sign } else { NEVER };
                offer(arrives.min(sign).min(feed.noticed).max(self.now), What::Feed);
            }
            if let Some(due) = process.machine.due() {
                offer((process.began + due).max(self.now), What::Due);
            }
        }
        best
    }

    pub(super) fn step(&mut self, until: Moment) {
        let (at, what) = self.next();
        self.now = self.now.max(at.min(until));
        self.upstream.advance(self.now);
        self.open_windows();
        if at > until {
            return;
        }
        match what {
            What::Crash => self.wish(Wish::Crash),
            What::Restart => {
                self.restart = None;
                if !self.disk.kept.state.settled() {
                    self.start();
                }
            }
            What::Wish(index) => {
                let (_, wish) = self.plan.swap_remove(index);
                self.wish(wish);
            }
            What::Client => self.converse(),
            What::Keys => self.change_keys(),
            What::Arrives(index) => {
                let sent = self.wire.remove(index);
                self.arrive(sent.what);
            }
            What::Lands => self.land(),
            What::Told => {
                if let Some(process) = &mut self.process {
                    process.writing = None;
                    self.tell(Event::Committed);
                }
            }
            What::CallEnds => self.call_ends(),
            What::Feed => self.feed_brings(),
            What::Due => self.tell(Event::Time),
        }
        self.watch();
    }

    pub(super) fn is_down(&self) -> bool {
        self.restart.is_some()
    }
}
