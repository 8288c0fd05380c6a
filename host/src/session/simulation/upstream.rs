//! The simulated vendor: takes messages, runs turns, tells a stream what happens, and remembers it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{Dice, Moment};
use crate::runtime::Effect;

/// An event as a guest would report it.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) at: Moment,
    pub(super) json: String,
    pub(super) effect: Effect,
    /// What tells it from others; nothing for one that only the stream shows.
    pub(super) name: Option<String>,
}

/// Something that a turn will do.
enum Act {
    /// Comes to a message that waits.
    Process(u64),
    Start,
    Say,
    End,
}

#[derive(Default)]
pub(super) struct Upstream {
    /// Everything that a stream shows, in order.
    pub(super) shown: Vec<Event>,
    /// What it remembers, in order. A message that waits here has no time yet.
    pub(super) history: Vec<Event>,
    /// When each text has arrived.
    pub(super) arrived: HashMap<String, Vec<Moment>>,
    plan: VecDeque<(Moment, Act)>,
    /// Messages that wait for the turn to end: their number and text.
    queue: VecDeque<(u64, String)>,
    running: bool,
    /// True once it was ended for good.
    gone: bool,
    made: u64,
    dice: Option<Dice>,
}

impl Upstream {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Some(Dice::new(seed)), ..Self::default() }
    }

    fn dice(&mut self) -> &mut Dice {
        self.dice.get_or_insert_with(|| Dice::new(0))
    }

    /// When it will do something next by itself.
    pub(super) fn next(&self) -> Option<Moment> {
        self.plan.front().map(|(at, _)| *at)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.plan.is_empty() && self.queue.is_empty() && !self.running
    }

    /// The session is ended: what it would do, it does not.
    pub(super) fn end(&mut self, now: Moment) {
        self.advance(now);
        self.plan.clear();
        self.queue.clear();
        (self.running, self.gone) = (false, true);
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// A message arrives.
    pub(super) fn take(&mut self, text: &str, now: Moment) {
        self.advance(now);
        self.arrived.entry(text.to_owned()).or_default().push(now);
        self.made += 1;
        let number = self.made;
        let waiting = message(number, text, "null");
        self.shown.push(Event { at: now, json: waiting.clone(), effect: Effect::None, name: None });
        self.history.push(Event { at: now, json: waiting, effect: Effect::None, name: None });
        self.queue.push_back((number, text.to_owned()));
        self.begin(now);
    }

    /// An interrupt arrives.
    pub(super) fn interrupt(&mut self, now: Moment) {
        self.advance(now);
        if self.plan.is_empty() {
            return;
        }
        // What waits to be looked at still is; what is said is not said any more.
        let processing: Vec<u64> = self
            .plan
            .drain(..)
            .filter_map(|(_, act)| match act {
                Act::Process(number) => Some(number),
                _ => None,
            })
            .collect();
        for number in processing {
            self.process(number, now);
        }
        self.made += 1;
        let id = if self.dice().permille(300) { String::new() } else { format!("e{}", self.made) };
        self.publish(now, "user.interrupt", &id, Effect::None);
        if !self.running {
            self.publish_new(now, "session.status_running", Effect::Started);
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
                    self.running = true;
                    self.publish_new(at, "session.status_running", Effect::Started);
                }
                Act::Say => self.publish_new(at, "agent.message", Effect::None),
                Act::End => {
                    self.running = false;
                    self.publish_new(at, "session.status_idle", Effect::Ended);
                    self.begin(at);
                }
            }
        }
    }

    /// Plans the next turn, if a message waits and none runs.
    fn begin(&mut self, now: Moment) {
        if self.running || !self.plan.is_empty() {
            return;
        }
        let Some((number, _)) = self.queue.pop_front() else { return };
        let mut at = now + self.dice().ms(5..400);
        self.plan.push_back((at, Act::Process(number)));
        at += self.dice().ms(1..50);
        self.plan.push_back((at, Act::Start));
        let longest = if self.dice().permille(50) { 200_000 } else { 3000 };
        for _ in 0..self.dice().below(9) {
            at += self.dice().ms(1..longest);
            self.plan.push_back((at, Act::Say));
        }
        at += self.dice().ms(1..3000);
        self.plan.push_back((at, Act::End));
    }

    /// Comes to a message: it has a time now, and stands where it stood.
    fn process(&mut self, number: u64, at: Moment) {
        let id = format!("\"m{number}\"");
        let Some(place) = self.history.iter().position(|event| event.json.contains(&id)) else { return };
        let json = self.history[place].json.replace("null", &format!("\"{}\"", time(at)));
        let event = Event { at, json, effect: Effect::None, name: Some(format!("m{number}")) };
        // It comes into the history at this place: what it stood before has happened since.
        self.history.remove(place);
        self.history.push(event.clone());
        self.shown.push(event);
    }

    fn publish_new(&mut self, at: Moment, kind: &str, effect: Effect) {
        self.made += 1;
        let id = format!("e{}", self.made);
        self.publish(at, kind, &id, effect);
    }

    fn publish(&mut self, at: Moment, kind: &str, id: &str, effect: Effect) {
        // Two events without an id never have the same time.
        let at = self.history.last().map_or(at, |last| at.max(last.at + Duration::from_micros(1)));
        let json = format!(r#"{{"type":"{kind}","id":"{id}","processed_at":"{}"}}"#, time(at));
        let name = if id.is_empty() { time(at) } else { id.to_owned() };
        let event = Event { at, json, effect, name: Some(name) };
        self.history.push(event.clone());
        self.shown.push(event);
    }
}

fn message(number: u64, text: &str, at: &str) -> String {
    format!(
        r#"{{"type":"user.message","id":"m{number}","content":[{{"type":"text","text":"{text}"}}],"processed_at":{at}}}"#
    )
}

/// A moment as RFC 3339, in January.
pub(super) fn time(at: Moment) -> String {
    let seconds = at.as_secs();
    let (days, hours, minutes) = (seconds / 86_400 + 1, seconds / 3600 % 24, seconds / 60 % 60);
    format!("2026-01-{days:02}T{hours:02}:{minutes:02}:{:02}.{:06}Z", seconds % 60, at.subsec_micros())
}
