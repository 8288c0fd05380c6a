//! The simulated vendor: takes messages, runs turns, tells a stream what happens, and remembers it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use lap_model::contract::Effect;

use super::Dice;
use crate::Moment;

/// An event as the vendor tells it.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) at: Moment,
    pub(super) json: String,
    /// What tells it from others; nothing for one that says that a message waits.
    pub(super) name: Option<String>,
    /// Its place in the history, which a cursor names.
    pub(super) place: u64,
}

/// Something that a turn will do.
enum Act {
    /// Comes to a message that waits.
    Process(u64),
    Start,
    Say,
    /// Asks the client whether it may go on, and waits.
    Ask,
    End,
}

/// How its turns are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// A turn of a fixed length, for the worlds in which each step is tried.
    pub(super) plain: bool,
    /// How many turns ask the client something, of a thousand.
    pub(super) asks: u64,
    /// How many ends of turns only the history tells.
    pub(super) untold: u64,
    /// How many ends of turns nobody ever tells.
    pub(super) endless: u64,
    /// How many events cannot be stored.
    pub(super) deep: u64,
    /// How many turns end the session for good.
    pub(super) deadly: u64,
    /// How many sessions are lost when a turn ends.
    pub(super) forgetful: u64,
    /// How many interrupts end only the turn that asks, where a message has come behind it.
    pub(super) joins: u64,
    /// It does not show what clients say.
    pub(super) mute: bool,
}

/// A message that has arrived.
pub(super) struct Arrival {
    pub(super) text: String,
    /// When its turn came to its own end, and nobody had stopped it.
    pub(super) ended: Option<Moment>,
}

pub(super) struct Upstream {
    pub(super) habits: Habits,
    /// Everything that a stream shows, in order.
    pub(super) shown: Vec<Told>,
    /// What it remembers, in order. A message that waits here has no time yet.
    pub(super) history: Vec<Told>,
    /// Every message that has arrived, by its number.
    pub(super) arrived: Vec<Arrival>,
    plan: VecDeque<(Moment, Act)>,
    /// Messages that wait for the turn to end.
    queue: VecDeque<u64>,
    /// The message whose turn it is.
    turn: Option<u64>,
    running: bool,
    asking: bool,
    /// True when the next turn begins while one asks, until it starts.
    joined: bool,
    stopped: bool,
    /// True once it was ended for good, or lost.
    gone: bool,
    /// True once it has said that it is over.
    said_over: bool,
    /// Requests that it was asked to interrupt.
    pub(super) interrupts: u64,
    made: u64,
    places: u64,
    dice: Dice,
}

impl Upstream {
    pub(super) fn new(seed: u64, habits: Habits) -> Self {
        Self {
            habits,
            shown: Vec::new(),
            history: Vec::new(),
            arrived: Vec::new(),
            plan: VecDeque::new(),
            queue: VecDeque::new(),
            turn: None,
            running: false,
            asking: false,
            joined: false,
            stopped: false,
            gone: false,
            said_over: false,
            interrupts: 0,
            made: 0,
            places: 0,
            dice: Dice::new(seed),
        }
    }

    /// When it will do something next by itself.
    pub(super) fn next(&self) -> Option<Moment> {
        self.plan.front().map(|(at, _)| *at)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.plan.is_empty() && self.queue.is_empty() && !self.running && !self.asking
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) const fn said_over(&self) -> bool {
        self.said_over
    }

    /// How often this text has arrived.
    pub(super) fn arrivals(&self, text: &str) -> usize {
        self.arrived.iter().filter(|arrival| arrival.text == text).count()
    }

    /// The session is ended: what it would do, it does not.
    pub(super) fn end(&mut self, now: Moment) {
        self.advance(now);
        self.plan.clear();
        self.queue.clear();
        (self.running, self.asking, self.gone) = (false, false, true);
    }

    /// A message arrives.
    pub(super) fn take(&mut self, text: &str, now: Moment) {
        self.advance(now);
        if self.gone {
            return;
        }
        let number = self.arrived.len() as u64;
        self.arrived.push(Arrival { text: text.to_owned(), ended: None });
        let told = Told { at: now, json: message(number, text, "null"), name: None, place: self.place() };
        if !self.habits.mute {
            self.shown.push(told.clone());
            self.history.push(told);
        }
        self.queue.push_back(number);
        self.begin(now);
    }

    /// The client's answer arrives.
    pub(super) fn answer(&mut self, now: Moment) {
        self.advance(now);
        if std::mem::replace(&mut self.asking, false) && !self.gone {
            let mut at = now + self.dice.ms(5..100);
            self.plan.push_back((at, Act::Start));
            at += self.dice.ms(1..3000);
            self.plan.push_back((at, Act::Say));
            at += self.dice.ms(1..3000);
            self.plan.push_back((at, Act::End));
        }
    }

    /// An interrupt arrives.
    pub(super) fn interrupt(&mut self, now: Moment) {
        self.advance(now);
        self.interrupts += 1;
        if self.gone || (self.plan.is_empty() && !self.asking && !self.running) {
            return;
        }
        if std::mem::take(&mut self.joined) && self.dice.permille(self.habits.joins) {
            while let Some((_, Act::Process(number))) =
                self.plan.pop_front_if(|(_, act)| matches!(act, Act::Process(_)))
            {
                self.process(number, now);
            }
            let id = self.name();
            self.publish(now, "user.interrupt", &id, "");
            return self.publish_new(now, "session.status_idle", r#","stop_reason":{"type":"end_turn"}"#);
        }
        // What waits to be looked at still is; what is said is not said any more.
        let acts: Vec<_> = self.plan.drain(..).map(|(_, act)| act).collect();
        for act in acts {
            if let Act::Process(number) = act {
                self.process(number, now);
            }
        }
        (self.stopped, self.asking) = (true, false);
        let id = if self.dice.permille(300) { String::new() } else { self.name() };
        self.publish(now, "user.interrupt", &id, "");
        if !self.running {
            self.publish_new(now, "session.status_running", "");
        }
        self.running = true;
        self.plan.push_back((now + Duration::from_millis(40), Act::End));
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, now: Moment) {
        while self.plan.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, act)) = self.plan.pop_front() else { return };
            match act {
                Act::Process(number) => self.process(number, at),
                Act::Start => {
                    (self.running, self.joined) = (true, false);
                    self.publish_new(at, "session.status_running", "");
                }
                Act::Say => {
                    let deep = self.dice.permille(self.habits.deep);
                    let nested = format!(r#","x":{}{}"#, "[".repeat(70), "]".repeat(70));
                    self.publish_new(at, "agent.message", if deep { &nested } else { "" });
                }
                Act::Ask => {
                    (self.running, self.asking) = (false, true);
                    self.publish_new(at, "session.status_idle", r#","stop_reason":{"type":"requires_action"}"#);
                    self.begin(at);
                }
                Act::End => self.end_turn(at),
            }
        }
    }

    fn end_turn(&mut self, at: Moment) {
        self.running = false;
        if let Some(turn) = self.turn.take().filter(|_| !std::mem::replace(&mut self.stopped, false)) {
            self.arrived[usize::try_from(turn).unwrap()].ended = Some(at);
        }
        let Habits { deadly, untold, endless, forgetful, .. } = self.habits;
        if self.dice.permille(deadly) {
            self.publish_new(at, "session.status_terminated", "");
            self.plan.clear();
            self.queue.clear();
            (self.gone, self.said_over) = (true, true);
            return;
        }
        if !self.dice.permille(endless) {
            self.publish_new(at, "session.status_idle", r#","stop_reason":{"type":"end_turn"}"#);
            if self.dice.permille(untold) {
                self.shown.pop();
            }
        }
        if self.dice.permille(forgetful) {
            self.end(at);
        }
        self.begin(at);
    }

    /// Plans the next turn, if a message waits and none runs.
    fn begin(&mut self, now: Moment) {
        if self.running || !self.plan.is_empty() || self.gone {
            return;
        }
        let Some(number) = self.queue.pop_front() else { return };
        self.joined = self.asking;
        (self.turn, self.asking, self.stopped) = (Some(number), false, false);
        if self.habits.plain {
            let acts = [(20, Act::Process(number)), (30, Act::Start), (5000, Act::Say), (20_000, Act::End)];
            self.plan.extend(acts.map(|(ms, act)| (now + Duration::from_millis(ms), act)));
            return;
        }
        let mut at = now + self.dice.ms(5..400);
        self.plan.push_back((at, Act::Process(number)));
        at += self.dice.ms(1..50);
        self.plan.push_back((at, Act::Start));
        let longest = if self.dice.permille(50) { 200_000 } else { 3000 };
        for _ in 0..self.dice.below(9) {
            at += self.dice.ms(1..longest);
            self.plan.push_back((at, Act::Say));
        }
        at += self.dice.ms(1..3000);
        let asks = self.dice.permille(self.habits.asks);
        self.plan.push_back((at, if asks { Act::Ask } else { Act::End }));
    }

    /// Comes to a message: it has a time now.
    fn process(&mut self, number: u64, at: Moment) {
        let id = format!("\"m{number}\"");
        let Some(place) = self.history.iter().rposition(|told| told.json.contains(&id)) else { return };
        let json = self.history[place].json.replace("null", &format!("\"{}\"", time(at)));
        let told = Told { at, json, name: Some(format!("m{number}")), place: self.place() };
        // It comes behind what has happened since.
        self.history.remove(place);
        self.history.push(told.clone());
        self.shown.push(told);
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("e{}", self.made)
    }

    fn place(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    fn publish_new(&mut self, at: Moment, kind: &str, more: &str) {
        let id = self.name();
        self.publish(at, kind, &id, more);
    }

    fn publish(&mut self, at: Moment, kind: &str, id: &str, more: &str) {
        // Two events without an id never have the same time.
        let at = self.history.last().map_or(at, |last| at.max(last.at + Duration::from_micros(1)));
        let json = format!(r#"{{"type":"{kind}","id":"{id}","processed_at":"{}"{more}}}"#, time(at));
        let name = if id.is_empty() { time(at) } else { id.to_owned() };
        let told = Told { at, json, name: Some(name), place: self.place() };
        self.history.push(told.clone());
        self.shown.push(told);
    }

    /// How often each text has arrived.
    pub(super) fn texts(&self) -> HashMap<&str, usize> {
        let mut texts = HashMap::new();
        for arrival in &self.arrived {
            *texts.entry(arrival.text.as_str()).or_default() += 1;
        }
        texts
    }
}

fn message(number: u64, text: &str, at: &str) -> String {
    format!(
        r#"{{"type":"user.message","id":"m{number}","content":[{{"type":"text","text":"{text}"}}],"processed_at":{at}}}"#
    )
}

/// What a guest says that an event does to the turn.
pub(super) fn effect(json: &str) -> Effect {
    const STATUS: &str = r#"{"type":"session.status_"#;
    match json.strip_prefix(STATUS) {
        Some(rest) if rest.starts_with("running") => Effect::Started,
        Some(rest) if rest.starts_with("terminated") => Effect::Terminated,
        Some(rest) if rest.contains("requires_action") => Effect::Waiting,
        Some(_) => Effect::Ended,
        None => Effect::None,
    }
}

/// A moment as RFC 3339, in January.
pub(super) fn time(at: Moment) -> String {
    let seconds = at.as_secs();
    let (days, hours, minutes) = (seconds / 86_400 + 1, seconds / 3600 % 24, seconds / 60 % 60);
    format!("2026-01-{days:02}T{hours:02}:{minutes:02}:{:02}.{:06}Z", seconds % 60, at.subsec_micros())
}
