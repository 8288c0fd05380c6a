//! The host's side: what is durable, a pump that does what its course says, and a network with faults between it and
//! the upstream.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Dice, Moment, Tally, upstream::Upstream};
use crate::{
    id::SessionId,
    runtime::{Effect, ErrorKind},
    session::{
        course::{Course, Step, Verdict},
        ending,
        event::{OwnIds, check, session_error, status_terminated},
        intake::{Intake, Sought},
        state::{Input, Phase, State},
        usage::Usage,
    },
};

const NEVER: Moment = Duration::from_hours(100_000);
/// What clients say again and again.
const REPEATED: &str = "go on";

/// How the world treats a session; shares in a thousand.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    connect: u64,
    send: u64,
    /// How long a feed lives, on average.
    feed: Duration,
    /// How often a feed dies without a word, so that only the watchdog notices.
    silent: u64,
    duplicate: u64,
    swap: u64,
    /// How often a feed begins with what was shown before.
    replay: u64,
    /// By how much the history may lag behind the stream.
    lag: Duration,
    newest_first: bool,
    crash: Duration,
    outage: Duration,
    prompt: Duration,
    /// How many prompts are followed by an interrupt.
    interrupt: u64,
    /// How often a client ends the session for good before the day is over.
    kill: u64,
    /// How often the upstream takes the wish to end the session and does nothing.
    deaf: u64,
}

impl Faults {
    pub(super) fn any(dice: &mut Dice) -> Self {
        let mut some = |share: u64, max: u64| if dice.permille(share) { dice.below(max) } else { 0 };
        let (connect, send, silent) = (some(700, 300), some(700, 400), some(500, 300));
        let (duplicate, swap, replay, lag) = (some(300, 300), some(200, 200), some(300, 500), some(300, 900));
        Self {
            connect,
            send,
            feed: Duration::from_secs(20 + dice.below(900)),
            silent,
            duplicate,
            swap,
            replay,
            lag: Duration::from_millis(lag),
            newest_first: dice.permille(700),
            crash: Duration::from_mins(20 + dice.below(600)),
            outage: Duration::from_mins(100 + dice.below(1000)),
            prompt: Duration::from_mins(3 + dice.below(40)),
            interrupt: dice.below(300),
            kill: 250,
            deaf: if dice.permille(300) { dice.below(1000) } else { 0 },
        }
    }

    pub(super) fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    fn none() -> Self {
        let never = NEVER;
        Self {
            connect: 0,
            send: 0,
            feed: never,
            silent: 0,
            duplicate: 0,
            swap: 0,
            replay: 0,
            lag: Duration::ZERO,
            newest_first: true,
            crash: never,
            outage: never,
            prompt: never,
            interrupt: 0,
            kill: 0,
            deaf: 0,
        }
    }

    /// True when the log may have another order than the upstream, because the upstream itself tells things out of
    /// order or late.
    fn disorder(&self) -> bool {
        self.swap > 0 || !self.lag.is_zero()
    }
}

struct Prompt {
    text: String,
    /// When it was withdrawn, or its turn given up: it may have arrived before that, and must not arrive later.
    withdrawn: Option<Moment>,
}

/// What the pump follows.
struct Feed {
    /// The next thing that it shows.
    place: usize,
    latency: Duration,
    dies: Moment,
    noticed: Moment,
}

/// What is gone after a crash.
struct Pump {
    course: Course,
    intake: Intake,
    feed: Option<Feed>,
    began: Moment,
}

/// What ended a call.
#[derive(PartialEq)]
enum Called {
    Answered,
    /// A client wants something that does not wait.
    GivenUp,
    Crashed,
}

/// What a client wants that does not wait.
enum Urgent {
    Interrupt,
    Kill,
}

pub(super) struct Host {
    dice: Dice,
    faults: Faults,
    now: Moment,
    upstream: Upstream,
    session: SessionId,
    state: State,
    log: Vec<String>,
    prompts: Vec<Prompt>,
    pump: Option<Pump>,
    next_prompt: Moment,
    next_interrupt: Moment,
    next_kill: Moment,
    next_crash: Moment,
    outage: (Moment, Moment),
    /// What ended the last call, and is to be done.
    urgent: Option<Urgent>,
    /// What the host has said of the session's end upstream, once a client has ended it.
    ended: Option<bool>,
    disordered: bool,
    tally: Tally,
}

impl Host {
    pub(super) fn new(mut dice: Dice, faults: Faults) -> Self {
        let upstream = Upstream::new(dice.roll());
        let mut host = Self {
            dice,
            disordered: faults.disorder(),
            faults,
            now: Moment::ZERO,
            upstream,
            session: SessionId::from_bytes([7; 16]),
            state: State::NEW,
            log: Vec::new(),
            prompts: Vec::new(),
            pump: None,
            next_prompt: Moment::ZERO,
            next_interrupt: NEVER,
            next_kill: NEVER,
            next_crash: NEVER,
            outage: (NEVER, NEVER),
            urgent: None,
            ended: None,
            tally: Tally::default(),
        };
        host.next_crash = host.dice.rarely(host.faults.crash);
        if host.dice.permille(host.faults.kill) {
            host.next_kill = host.dice.ms(0..86_400_000);
        }
        host.plan_outage();
        host
    }

    fn plan_outage(&mut self) {
        let begins = self.now + self.dice.rarely(self.faults.outage);
        let lasts = self.dice.ms(1000..2_400_000);
        self.outage = (begins, begins + lasts);
    }

    pub(super) fn live(&mut self, until: Moment) {
        while self.now < until {
            let before = self.state;
            self.step(until);
            if self.state != before
                && let Some(pump) = &mut self.pump
            {
                pump.course.touch(self.now - pump.began);
            }
        }
    }

    /// No more faults, a last prompt, and time for all of it to end.
    pub(super) fn calm_down(&mut self) {
        self.faults = Faults::none();
        (self.next_interrupt, self.next_kill, self.next_crash) = (NEVER, NEVER, NEVER);
        self.outage = (NEVER, NEVER);
        self.next_prompt = NEVER;
        self.live(self.now + Duration::from_hours(2));
        self.next_prompt = self.now;
        self.live(self.now + Duration::from_hours(2));
    }

    fn course(&mut self) -> Option<&mut Course> {
        self.pump.as_mut().map(|pump| &mut pump.course)
    }

    /// The time, as the pump counts it.
    fn moment(&self) -> Moment {
        self.pump.as_ref().map_or(Moment::ZERO, |pump| self.now - pump.began)
    }

    fn step(&mut self, until: Moment) {
        let Some(pump) = &self.pump else {
            self.sleep(until);
            return;
        };
        match pump.course.next(self.state, self.now - pump.began) {
            Step::Connect { look_back } => self.connect(look_back),
            Step::LookBack => self.look_back(),
            Step::Send(number) => self.send(number),
            Step::Requeue => {
                self.tally.resent += 1;
                self.decide(Input::NotArrived);
            }
            Step::Unanswered => self.decide(Input::NotAnswered),
            Step::End => self.end(),
            Step::Wait(at) => {
                let at = pump.began + at;
                self.wait(at.min(until));
            }
            Step::Leave => self.pump = None,
        }
    }

    fn decide(&mut self, input: Input) {
        self.state = self.state.apply(input).unwrap_or(self.state);
    }

    /// Lets time pass until something comes from outside. True when a client wants something that does not wait.
    fn sleep(&mut self, until: Moment) -> bool {
        let next = until.min(self.next_prompt).min(self.next_interrupt).min(self.next_kill).min(self.next_crash);
        self.now = self.now.max(next);
        self.upstream.advance(self.now);
        if self.now >= self.outage.1 {
            self.plan_outage();
        }
        if self.now >= self.next_crash {
            self.crash();
        } else if self.now >= self.next_prompt {
            self.prompt();
        } else if self.now >= self.next_interrupt {
            self.next_interrupt = NEVER;
            self.urgent = self.pump.is_some().then_some(Urgent::Interrupt);
        } else if self.now >= self.next_kill {
            self.next_kill = NEVER;
            self.urgent = Some(Urgent::Kill);
            if self.pump.is_none() {
                self.start();
                self.obey();
            }
        }
        self.urgent.is_some()
    }

    fn crash(&mut self) {
        self.tally.crashes += 1;
        self.pump = None;
        self.now += self.dice.ms(50..60_000);
        self.next_crash = self.now + self.dice.rarely(self.faults.crash);
        self.upstream.advance(self.now);
        if !self.state.settled() {
            self.start();
        }
    }

    fn start(&mut self) {
        self.pump = Some(Pump {
            course: Course::new(self.log.is_empty() && self.prompts.len() <= 1, self.dice.roll()),
            intake: Intake::new(OwnIds::of(self.session)),
            feed: None,
            began: self.now,
        });
    }

    fn prompt(&mut self) {
        self.next_prompt = self.now + self.dice.rarely(self.faults.prompt);
        if self.dice.permille(self.faults.interrupt) {
            self.next_interrupt = self.now + self.dice.ms(0..6000);
        }
        let text = if self.dice.permille(300) { REPEATED.to_owned() } else { format!("p{}", self.prompts.len()) };
        let Ok(state) = self.state.apply(Input::Prompt) else {
            self.tally.refused += 1;
            return;
        };
        self.state = state;
        self.prompts.push(Prompt { text, withdrawn: None });
        self.tally.prompts += 1;
        if self.pump.is_none() {
            self.start();
        }
    }

    /// What waits, and what may be on its way, is no longer certain to arrive.
    fn withdraw(&mut self) {
        let waiting = self.state.waiting();
        let sent = self.state.in_doubt().map(|(number, _)| number);
        for number in waiting.chain(sent) {
            self.prompts[usize::try_from(number).unwrap()].withdrawn.get_or_insert(self.now);
        }
    }

    fn obey(&mut self) {
        match self.urgent.take() {
            Some(Urgent::Interrupt) => self.interrupt(),
            Some(Urgent::Kill) => self.kill(),
            None => {}
        }
    }

    fn kill(&mut self) {
        self.tally.kills += 1;
        self.withdraw();
        self.decide(Input::Kill);
        let now = self.moment();
        let Some(pump) = &mut self.pump else { return };
        pump.feed = None;
        pump.course.end(now);
    }

    /// One try to end the session upstream, and to see that it is gone.
    fn end(&mut self) {
        let fails = self.is_out() || self.dice.permille(self.faults.send);
        let lost = fails && !self.is_out() && self.dice.permille(400);
        let deaf = self.dice.permille(self.faults.deaf);
        let takes = self.dice.ms(5..if fails { 10_000 } else { 300 });
        if !deaf && (lost || !fails) {
            self.upstream.end(self.now);
        }
        if self.call(takes) != Called::Answered {
            return self.obey();
        }
        let verified = !fails && self.upstream.is_gone();
        let now = self.moment();
        let Some(course) = self.course() else { return };
        if !verified && course.not_ended(now) == Verdict::Again {
            return;
        }
        course.ended_for_good();
        let upstream = ending::UpstreamEnd { verified, detail: String::new() };
        let id = OwnIds::of(self.session).id(self.log.len() as u64 + 1);
        self.log.push(status_terminated(&id, &upstream));
        self.decide(Input::Terminated);
        self.ended = Some(verified);
        self.tally.unverified += u64::from(!verified);
    }

    fn interrupt(&mut self) {
        self.tally.interrupts += 1;
        let stops = self.state.interruptible();
        self.withdraw();
        self.decide(Input::Interrupt);
        if stops && !self.is_out() && !self.dice.permille(self.faults.send) {
            self.upstream.interrupt(self.now);
        }
    }

    fn fail(&mut self) {
        self.tally.failed += 1;
        self.withdraw();
        self.decide(Input::Fail);
        let id = OwnIds::of(self.session).id(self.log.len() as u64 + 1);
        self.log.push(session_error(&id, ErrorKind::Upstream, "given up"));
        let Some(pump) = &mut self.pump else { return };
        pump.feed = None;
        pump.course.failed();
    }

    fn is_out(&self) -> bool {
        self.now >= self.outage.0 && self.now < self.outage.1
    }

    /// What a failing request fails with.
    fn failure(&mut self) -> (ErrorKind, Option<Duration>) {
        let asked = self.dice.permille(500).then(|| self.dice.ms(0..1_200_000));
        match self.dice.below(100) {
            0..70 => (ErrorKind::Upstream, None),
            70..85 => (ErrorKind::Overloaded, asked),
            85..99 => (ErrorKind::Throttled, asked),
            _ => (ErrorKind::Auth, None),
        }
    }

    /// Waits for an answer as long as it takes. Prompts are taken meanwhile, and an interrupt does not wait.
    fn call(&mut self, takes: Duration) -> Called {
        let (answered, crashes) = (self.now + takes, self.tally.crashes);
        while self.now < answered {
            if self.sleep(answered) {
                return Called::GivenUp;
            }
            if self.tally.crashes > crashes {
                return Called::Crashed;
            }
        }
        Called::Answered
    }

    fn connect(&mut self, look_back: bool) {
        self.tally.connects += 1;
        self.recall(look_back);
        let fails = self.is_out() || self.dice.permille(self.faults.connect);
        let takes = self.dice.ms(5..if fails { 10_000 } else { 300 });
        let opened = self.now + takes / 2;
        let place = self.upstream.shown.len();
        let called = self.call(takes);
        if called != Called::Answered {
            return self.given_up(&called);
        }
        if fails {
            return self.not_connected();
        }
        // The response's head came half-way: what was shown since is in the feed.
        let place = self.upstream.shown[place..].iter().take_while(|event| event.at <= opened).count() + place;
        let place = if self.dice.permille(self.faults.replay) { place - place.min(400) } else { place };
        let dies = opened + self.dice.rarely(self.faults.feed);
        let silent = self.dice.permille(self.faults.silent);
        let latency = self.dice.ms(1..80);
        let noticed = if silent { dies + Duration::from_secs(90) } else { dies.max(self.now) };
        let news = if look_back { self.history() } else { Vec::new() };
        let now = self.moment();
        if let Some(pump) = &mut self.pump {
            pump.feed = Some(Feed { place, latency, dies, noticed });
            pump.course.connected(now);
        }
        self.take(&news);
        self.decide(Input::Found);
    }

    fn look_back(&mut self) {
        self.recall(true);
        let fails = self.is_out() || self.dice.permille(self.faults.connect);
        let takes = self.dice.ms(5..300);
        let called = self.call(takes);
        if called != Called::Answered {
            return self.given_up(&called);
        }
        if fails {
            return self.not_connected();
        }
        let news = self.history();
        let now = self.moment();
        if let Some(course) = self.course() {
            course.looked(now);
        }
        self.take(&news);
        if let Some(pump) = &mut self.pump
            && !pump.course.looks_on()
        {
            pump.intake.seen.bound();
        }
    }

    fn given_up(&mut self, called: &Called) {
        if *called == Called::GivenUp {
            self.obey();
        }
    }

    fn not_connected(&mut self) {
        let (kind, asked) = self.failure();
        let now = self.moment();
        let Some(pump) = &mut self.pump else { return };
        pump.feed = None;
        if pump.course.not_connected(now, kind, asked) == Verdict::Fail {
            self.fail();
        } else {
            self.decide(Input::Lost);
        }
    }

    fn sought(&self) -> Option<Sought> {
        let (number, _) = self.state.in_doubt()?;
        let text = &self.prompts[usize::try_from(number).unwrap()].text;
        Some(Sought::message(&format!(r#"[{{"type":"text","text":"{text}"}}]"#)))
    }

    fn recall(&mut self, look_back: bool) {
        let (sought, sent_after) = (self.sought(), self.state.in_doubt().map_or(0, |(_, after)| after));
        let Some(pump) = &mut self.pump else { return };
        if !look_back || pump.intake.seen.knows_all() {
            return;
        }
        pump.intake.seen.unbound();
        let mut arrived = false;
        for (json, seq) in self.log.iter().zip(1..) {
            arrived |= pump.intake.recall(json, sought.as_ref().filter(|_| seq > sent_after));
        }
        if arrived {
            self.decide(Input::Taken);
        }
    }

    /// What the upstream lists of what the log does not have, oldest first.
    fn history(&mut self) -> Vec<(String, Effect)> {
        let lag = self.faults.lag.mul_f64(self.dice.share());
        let listed: Vec<_> = self.upstream.history.iter().filter(|event| event.at + lag <= self.now).collect();
        let twice = self.dice.permille(self.faults.duplicate);
        let Some(pump) = &self.pump else { return Vec::new() };
        let unknown = |json: &str| !pump.intake.seen.contains(&check(json).unwrap(), json);
        let mut news = Vec::new();
        // In pages of 20, from the end, to the first page without news; or all of it, from the beginning.
        for page in listed.rchunks(20) {
            let before = news.len();
            news.extend(page.iter().rev().filter(|event| unknown(&event.json)).copied());
            if news.len() == before && self.faults.newest_first {
                break;
            }
        }
        if twice && let Some(&first) = news.first() {
            news.insert(0, first);
        }
        news.reverse();
        news.into_iter().map(|event| (event.json.clone(), event.effect)).collect()
    }

    fn send(&mut self, number: u64) {
        let text = self.prompts[usize::try_from(number).unwrap()].text.clone();
        self.decide(Input::Send(self.log.len() as u64));
        let out = self.is_out();
        let fails = out || self.dice.permille(self.faults.send);
        let lost = fails && !out && self.dice.permille(400);
        if lost || !fails {
            self.upstream.take(&text, self.now);
        }
        let takes = if self.dice.permille(20) { self.dice.ms(1000..60_000) } else { self.dice.ms(2..400) };
        match self.call(takes) {
            Called::Answered => {}
            Called::Crashed => return,
            Called::GivenUp => {
                let now = self.moment();
                if let Some(course) = self.course() {
                    course.look_for_prompt(now);
                }
                return self.obey();
            }
        }
        let (kind, asked) = if lost { (ErrorKind::Upstream, None) } else { self.failure() };
        let now = self.moment();
        let Some(course) = self.course() else { return };
        if !fails {
            course.sent();
            return self.decide(Input::Taken);
        }
        match course.not_sent(now, kind, asked) {
            Verdict::Fail => self.fail(),
            Verdict::Again => self.decide(Input::NotArrived),
            Verdict::InDoubt => self.tally.doubts += 1,
        }
    }

    fn wait(&mut self, until: Moment) {
        let arrives = self.arrives();
        let noticed = self.pump.as_ref().and_then(|pump| pump.feed.as_ref()).map_or(NEVER, |feed| feed.noticed);
        if self.sleep(until.min(arrives).min(noticed)) {
            return self.obey();
        }
        let now = self.now;
        let Some(Pump { feed: Some(feed), course, began, .. }) = &mut self.pump else { return };
        let shown = &self.upstream.shown[feed.place..];
        let come = shown.iter().take_while(|event| event.at + feed.latency <= now.min(feed.dies)).count();
        if come > 0 {
            let mut events: Vec<_> = shown[..come].iter().map(|event| (event.json.clone(), event.effect)).collect();
            feed.place += come;
            self.disturb(&mut events);
            self.take(&events);
        } else if now >= feed.noticed {
            course.ended(now - *began);
            if let Some(pump) = &mut self.pump {
                pump.feed = None;
            }
        }
    }

    /// When the feed brings something next.
    fn arrives(&self) -> Moment {
        let Some(feed) = self.pump.as_ref().and_then(|pump| pump.feed.as_ref()) else { return NEVER };
        let next = match self.upstream.shown.get(feed.place) {
            Some(event) => event.at,
            None => self.upstream.next().unwrap_or(NEVER),
        };
        let arrives = next + feed.latency;
        if arrives <= feed.dies { arrives } else { NEVER }
    }

    fn disturb(&mut self, events: &mut Vec<(String, Effect)>) {
        if self.dice.permille(self.faults.duplicate) {
            let at = self.dice.place(events.len());
            events.insert(at, events[at].clone());
        }
        if events.len() > 1 && self.dice.permille(self.faults.swap) {
            let at = self.dice.place(events.len() - 1);
            events.swap(at, at + 1);
        }
    }

    fn take(&mut self, events: &[(String, Effect)]) {
        let sought = self.sought();
        let Some(pump) = &mut self.pump else { return };
        let next = self.log.len() as u64 + 1;
        let reported = events.iter().map(|(json, effect)| (json.as_str(), *effect));
        let taken = pump.intake.take(self.state, &Usage::default(), next, sought.as_ref(), reported);
        self.state = taken.state;
        if !taken.draft.is_empty() {
            self.log.extend(taken.draft.at(next).events().map(|event| event.json.to_owned()));
            pump.course.grown();
        }
        if sought.is_some() && self.state.in_doubt().is_none() {
            pump.course.sent();
        }
    }

    /// The names of the upstream's events in the log that were processed, in its order.
    fn logged(&self) -> Vec<String> {
        let own = OwnIds::of(self.session);
        let mut names = Vec::new();
        for json in &self.log {
            let head = check(json).unwrap();
            let (Some(id), Some(at)) = (head.id.as_deref(), head.processed_at) else { continue };
            if !own.has(id) {
                names.push(id.to_owned());
            } else if !matches!(&*head.kind, "session.error" | "session.status_terminated") {
                names.push(at.trim_matches('"').to_owned());
            }
        }
        names
    }

    /// Whether all that was promised has been kept.
    pub(super) fn verdict(mut self) -> Result<Tally, String> {
        let (mut logged, mut truth) = (self.logged(), Vec::new());
        truth.extend(self.upstream.history.iter().filter_map(|event| event.name.clone()));
        self.tally.events = truth.len() as u64;
        let known: HashSet<&String> = logged.iter().collect();
        let in_order = truth.iter().filter(|name| known.contains(name)).eq(&logged);
        logged.sort();
        truth.sort();
        if let Some(pair) = logged.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the log has {} twice", pair[0]));
        }
        if let Some(more) = logged.iter().find(|name| truth.binary_search(name).is_err()) {
            return Err(format!("the log has {more}, which the upstream has not"));
        }
        // Who ends a session does not wait for what it may still have said.
        let missing = truth.iter().find(|name| logged.binary_search(name).is_err());
        if let Some(missing) = missing.filter(|_| self.ended.is_none()) {
            return Err(format!("the log lacks {missing}"));
        }
        if !in_order && !self.disordered {
            return Err("the log has another order than the upstream".to_owned());
        }
        let mut expected: HashMap<&str, (u64, u64)> = HashMap::new();
        for prompt in &self.prompts {
            let (least, most) = expected.entry(&prompt.text).or_default();
            *least += u64::from(prompt.withdrawn.is_none());
            *most += 1;
            // Of those with the same text nobody can say which one has arrived.
            let arrived = self.upstream.arrived.get(&prompt.text).filter(|_| prompt.text != REPEATED);
            if let Some(late) =
                arrived.into_iter().flatten().find(|at| prompt.withdrawn.is_some_and(|then| **at > then))
            {
                return Err(format!("{:?}, withdrawn at {:?}, arrived at {late:?}", prompt.text, prompt.withdrawn));
            }
        }
        for (text, (least, most)) in expected {
            let arrived = self.upstream.arrived.get(text).map_or(0, Vec::len) as u64;
            if arrived < least || arrived > most {
                return Err(format!("{text:?} arrived {arrived} times upstream, not {least} to {most} times"));
            }
        }
        match self.ended {
            Some(verified) => self.over(verified)?,
            None if self.state.phase() == Phase::Idle && self.state.settled() && self.upstream.is_idle() => {}
            None => return Err(format!("the session ends as {:?}", self.state)),
        }
        Ok(self.tally)
    }

    /// The same for a session that a client has ended.
    fn over(&self, verified: bool) -> Result<(), String> {
        if self.state.phase() != Phase::Terminated || !self.state.settled() {
            return Err(format!("the session ends as {:?}", self.state));
        }
        if verified && !self.upstream.is_gone() {
            return Err("the session goes on upstream, and the host says that it does not".to_owned());
        }
        let ends = |json: &String| check(json).is_ok_and(|head| head.kind == "session.status_terminated");
        let count = self.log.iter().filter(|json| ends(json)).count();
        if count != 1 || !self.log.last().is_some_and(ends) {
            return Err(format!("the log says {count} times that it is over, or not at its end"));
        }
        Ok(())
    }
}
