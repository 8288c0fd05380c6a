//! Calls and feeds: what comes of them, when, and what of it reaches the vendor; and the guest between the two.

use std::time::Duration;

use lap_model::contract::{Body, Effect, Ending, ErrorKind, Frame, Frames, Outcome, Reported};

use super::{
    faults::{Mutant, declared, failed, failure},
    upstream::effect,
    world::{Turn, World},
};
use crate::{
    Call, Done, Event, Moment, Opened, Page,
    backoff::ASKED_MAX,
    event,
    failure::{Cause, Failure},
};

/// The time that a call has.
const CALL_MAX: Duration = Duration::from_mins(1);

/// A call under way.
pub(super) struct UnderWay {
    pub(super) id: u64,
    pub(super) ends: Moment,
    pub(super) call: Call,
    pub(super) fate: Result<(), Failure>,
    /// When the feed's head came, and what it begins with.
    pub(super) opened: Moment,
    pub(super) place: usize,
    pub(super) credential: Option<u64>,
}

/// What is read.
pub(super) struct Feed {
    /// The next thing that it shows.
    pub(super) place: usize,
    pub(super) latency: Duration,
    pub(super) dies: Moment,
    pub(super) noticed: Moment,
    pub(super) sign: Moment,
    pub(super) ending: Ending,
    pub(super) credential: Option<u64>,
}

/// On its way to the upstream, whoever waits for the answer.
pub(super) struct Sent {
    pub(super) arrives: Moment,
    pub(super) call: u64,
    pub(super) what: Request,
    /// By a gateway, which has answered and hands it on before it may come again.
    pub(super) held: bool,
}

pub(super) enum Request {
    Prompt(String),
    Answer,
    Interrupt,
    Close,
}

impl World {
    /// The client of a request has gone: what was under way arrives, or not.
    pub(super) fn hang_up(&mut self, call: Option<&UnderWay>) {
        let finishes = self.faults.finishes;
        self.wire.retain(|sent| finishes || call.is_none_or(|call| sent.call != call.id));
    }

    pub(super) fn arrive(&mut self, request: Request) {
        let now = self.now;
        match request {
            Request::Prompt(text) => self.upstream.take(&text, now),
            Request::Answer => self.upstream.answer(now),
            Request::Interrupt => self.upstream.interrupt(now),
            Request::Close => self.upstream.end(now),
        }
    }

    /// Why a call cannot be made at all.
    pub(super) fn barred(&mut self, guest: bool, upstream: bool) -> Option<Failure> {
        if guest && self.full.has(self.now) {
            return Some(failed(Cause::NoRoom));
        }
        if guest && self.now < self.quarantine {
            return Some(failed(Cause::Quarantined));
        }
        (upstream && self.credential.is_none()).then(|| failed(Cause::NoCredential))
    }

    /// A guest that breaks off.
    pub(super) fn breaks(&mut self) -> bool {
        let breaks = std::mem::take(&mut self.faulty) || self.dice.permille(self.faults.fault);
        if breaks && self.dice.permille(200) {
            self.quarantine = self.now + Duration::from_mins(1);
        }
        breaks
    }

    pub(super) fn begin(&mut self, call: Call) {
        self.calls += 1;
        let (id, now) = (self.calls, self.now);
        let asks = !matches!(call, Call::OnFrames(_) | Call::OnEnd(_) | Call::Recall);
        self.called(&call);
        let mut takes = self.dice.ms(1..6);
        let barred = self.barred(!matches!(call, Call::Recall), asks);
        let open = barred.is_none();
        let (fate, opened) = match (barred, &call) {
            (Some(failure), _) => (Err(failure), now),
            (None, Call::Recall) => (Ok(()), now),
            (None, Call::OnFrames(_) | Call::OnEnd(_)) => {
                takes = self.dice.ms(0..self.faults.guest_ms);
                (if self.breaks() { Err(failed(Cause::Fault)) } else { Ok(()) }, now)
            }
            (None, call) => {
                let (fate, arrives, ends) = self.ask(id, call);
                takes = ends - now;
                (fate, arrives)
            }
        };
        let (place, mut credential) = (self.upstream.shown.len(), self.credential);
        if self.faults.mutant == Some(Mutant::OldCredential) {
            credential = Some(1);
        }
        if open {
            self.trouble(&call, &fate);
        }
        let under_way = UnderWay { id, ends: now + takes, call, fate, opened, place, credential };
        if let Some(process) = &mut self.process {
            process.call = Some(under_way);
        }
    }

    /// A request: what comes of it, when it arrives, and when it is known.
    pub(super) fn ask(&mut self, id: u64, call: &Call) -> (Result<(), Failure>, Moment, Moment) {
        let (now, plain) = (self.now, self.faults.habits.plain);
        let what = match call {
            Call::SendPrompt(json) => Some(Request::Prompt(event::message_text(json).unwrap())),
            Call::SendInput(json) if json.contains("tool_confirmation") => Some(Request::Answer),
            Call::SendInterrupt => Some(Request::Interrupt),
            Call::Close => Some(Request::Close),
            _ => None,
        };
        let mut arrives =
            now + if plain { Duration::from_millis(self.faults.takes) } else { self.dice.ms(0..self.faults.takes) };
        let mut ends = arrives + self.dice.ms(1..if what.is_some() { 100 } else { 300 });
        let quick = now + self.dice.ms(1..100);
        if self.credential.is_some_and(|version| version <= self.refused) {
            return (Err(declared(ErrorKind::Auth)), quick, quick);
        }
        match (self.upstream.is_gone(), self.upstream.said_over(), what.is_some()) {
            (true, false, _) => return (Err(declared(ErrorKind::NotFound)), quick, quick),
            (true, true, true) => return (Err(declared(ErrorKind::BadRequest)), quick, quick),
            _ => {}
        }
        if self.outage.has(now) {
            let ends = now + self.dice.ms(5..10_000);
            return (Err(declared(ErrorKind::Upstream)), ends, ends);
        }
        if self.hang.has(now) {
            arrives = self.hang.to + self.dice.ms(0..300);
            ends = arrives + self.dice.ms(1..100);
        } else if self.dice.permille(self.faults.slow) {
            ends = arrives + self.dice.ms(1000..70_000);
        }
        let mut fate = if ends > now + CALL_MAX { Err(failed(Cause::Slow)) } else { Ok(()) };
        ends = ends.min(now + CALL_MAX);
        let share = if what.is_some() { self.faults.send } else { self.faults.connect };
        let (mut gets_there, mut heeded, mut held) = (true, true, false);
        if self.breaks() {
            fate = Err(failed(Cause::Fault));
            gets_there = self.dice.permille(500);
            ends = ends.min(quick.max(arrives));
        } else if self.dice.permille(share) {
            let failure = failure(&mut self.dice);
            // An answer that is lost, or that nobody understands; the upstream may be at it still.
            gets_there = failure.leaves_doubt() && self.dice.permille(400);
            // A gateway that says when to come again may hand on until then what it has.
            let later = failure.retry_after.filter(|_| gets_there && matches!(call, Call::SendPrompt(_)));
            if let Some(later) = later.map(|later| later.min(ASKED_MAX)) {
                (arrives, held) = (now + later * u32::try_from(self.dice.below(1000)).unwrap() / 1000, true);
            }
            ends = if gets_there && self.dice.permille(500) { quick } else { ends };
            fate = Err(failure);
        }
        if matches!(call, Call::SendPrompt(_)) {
            match std::mem::replace(&mut self.first, Turn::Plain) {
                Turn::Plain => {}
                Turn::Lost => fate = Err(declared(ErrorKind::Upstream)),
                Turn::Late => (fate, ends) = (Err(declared(ErrorKind::Upstream)), quick.min(arrives)),
                Turn::Hangs => (fate, ends) = (Err(failed(Cause::Slow)), now + CALL_MAX),
                Turn::Refused => (fate, gets_there) = (Err(declared(ErrorKind::Throttled)), false),
            }
        }
        match call {
            Call::SendInterrupt | Call::Close if self.dice.permille(self.faults.refuses) => {
                fate = Err(declared(ErrorKind::Conflict));
                heeded = false;
            }
            Call::SendInterrupt | Call::Close if self.dice.permille(self.faults.deaf) => heeded = false,
            Call::Connect if self.dice.permille(self.faults.refused) => {
                let kind = if self.dice.permille(500) { ErrorKind::NotFound } else { ErrorKind::BadRequest };
                fate = Err(declared(kind));
            }
            _ => {}
        }
        if !heeded {
            self.checks.deaf = self.now;
        }
        let lost = self.faults.mutant == Some(Mutant::InterruptLost) && matches!(call, Call::SendInterrupt);
        if let Some(what) = what.filter(|_| gets_there && heeded && !lost) {
            self.wire.push(Sent { arrives, call: id, what, held });
        }
        (fate, arrives, ends)
    }

    pub(super) fn call_ends(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Some(under_way) = process.call.take() else { return };
        let UnderWay { call, fate, opened, place, credential, .. } = under_way;
        let done = match (fate, call) {
            (Err(failure), call) => {
                self.call_failed(&call, &failure);
                let hidden = self.faults.mutant == Some(Mutant::FaultHidden) && failure.cause == Cause::Fault;
                match call {
                    Call::OnFrames(_) if hidden => {
                        Ok(Done::Outcome { outcome: Outcome::default(), frames: Frames::none() })
                    }
                    _ => Err(failure),
                }
            }
            (Ok(()), Call::Connect) => Ok(Done::Connected(self.open_feed(opened, place, credential))),
            (Ok(()), Call::CatchUp(cursor)) => self.page(cursor.as_deref()).map(Done::Page),
            (Ok(()), Call::OnFrames(frames)) => {
                let outcome = self.map(&frames);
                Ok(Done::Outcome { outcome, frames })
            }
            (Ok(()), Call::OnEnd(_)) => {
                let relisten = self.dice.permille(500);
                self.outcome(Vec::new(), relisten)
            }
            (Ok(()), Call::SendPrompt(json))
                if self.upstream.is_gone() && self.upstream.arrivals(&event::message_text(&json).unwrap()) == 0 =>
            {
                Err(declared(ErrorKind::NotFound))
            }
            (Ok(()), Call::SendPrompt(json)) => {
                let text = event::message_text(&json).unwrap();
                let echo = self.faults.echoes.then(|| self.upstream.arrived.iter().rposition(|a| a.text == text));
                let waits = |number| {
                    let json = format!(
                        r#"{{"type":"user.message","id":"m{number}","content":[{{"type":"text","text":"{text}"}}],"processed_at":null}}"#
                    );
                    Reported { body: Body::Json(json), effect: Effect::None }
                };
                let echo = echo.flatten().map(waits);
                let relisten = self.dice.permille(self.faults.relisten);
                self.outcome(echo.into_iter().collect(), relisten)
            }
            (Ok(()), Call::SendInput(_) | Call::SendInterrupt) => self.outcome(Vec::new(), false),
            (Ok(()), Call::Close) => Ok(Done::Closed),
            (Ok(()), Call::Recall) => {
                let Some(process) = &mut self.process else { return };
                for segment in &self.disk.segments {
                    process.machine.recall_segment(segment);
                }
                let after = process.machine.recalls_after();
                for (json, seq) in self.disk.log.iter().zip(1..).filter(|(_, seq)| *seq > after) {
                    process.machine.recall(seq, json);
                }
                Ok(Done::Recalled)
            }
        };
        self.tell(Event::Done(done));
    }

    pub(super) fn open_feed(&mut self, opened: Moment, place: usize, credential: Option<u64>) -> Opened {
        self.tally.connects += 1;
        // The response's head came half-way: what was shown since is in the feed.
        let place = self.upstream.shown[place..].iter().take_while(|told| told.at <= opened).count() + place;
        let place = if self.dice.permille(self.faults.replay) { place - place.min(400) } else { place };
        let odd = self.dice.permille(self.faults.odd).then(|| "it is text/html".to_owned());
        // What is no feed brings nothing, and is over soon.
        let lives = if odd.is_some() { self.dice.ms(1..200) } else { self.dice.rarely(self.faults.feed) };
        let place = if odd.is_some() { usize::MAX / 2 } else { place };
        let (dies, silent) = (opened + lives, self.dice.permille(self.faults.silent));
        let ending = match (silent, odd.is_some() || self.dice.permille(300)) {
            (true, _) => Ending::Silent,
            (_, true) => Ending::Clean,
            _ => Ending::Cut,
        };
        let noticed = if silent { dies + Duration::from_secs(90) } else { dies.max(self.now) };
        let feed = Feed {
            place,
            latency: self.dice.ms(1..80),
            dies,
            noticed,
            sign: self.now + self.faults.signs,
            ending,
            credential,
        };
        if let Some(process) = &mut self.process {
            process.feed = Some(feed);
        }
        Opened { odd }
    }

    pub(super) fn feed_brings(&mut self) {
        let (now, signs) = (self.now, self.faults.signs);
        let Some(process) = &mut self.process else { return };
        let Some(feed) = &mut process.feed else { return };
        process.reading = false;
        let shown = self.upstream.shown.get(feed.place..).unwrap_or_default();
        let come = shown.iter().take_while(|told| told.at + feed.latency <= now.min(feed.dies)).count();
        if come > 0 {
            let mut lines: Vec<String> = shown[..come].iter().map(|told| told.json.clone()).collect();
            feed.place += come;
            if self.dice.permille(self.faults.duplicate) {
                let at = self.dice.place(lines.len());
                lines.insert(at, lines[at].clone());
            }
            if lines.len() > 1 && self.dice.permille(self.faults.swap) {
                let at = self.dice.place(lines.len() - 1);
                lines.swap(at, at + 1);
            }
            if self.faults.mutant == Some(Mutant::EventsLost) && self.dice.permille(20) {
                self.upstream.history.retain(|told| told.json != lines[0]);
                lines.remove(0);
            }
            return self.tell(Event::Frames(Frames::packed(lines.iter().map(|line| ("", line.as_str())))));
        }
        if now >= feed.noticed {
            let ending = feed.ending;
            process.feed = None;
            if self.dice.permille(self.faults.connect / 4) {
                let failure = failure(&mut self.dice);
                return self.tell(Event::FeedRefused(failure));
            }
            return self.tell(Event::FeedEnded(ending));
        }
        if now >= feed.sign {
            feed.sign = now + signs;
            let ping = Frames::packed([("ping", "{}")].into_iter());
            let frames = if self.dice.permille(500) { Frames::none() } else { ping };
            return self.tell(Event::Frames(frames));
        }
        process.reading = true;
    }

    /// What a guest makes of frames: each event, with its effect.
    pub(super) fn map(&mut self, frames: &Frames) -> Outcome {
        let mut events = Vec::new();
        for ((_, json), index) in frames.pieces().zip(0..) {
            if json != "{}" {
                let body = if self.dice.permille(100) { Body::Json(json.to_owned()) } else { Body::Frame(index) };
                events.push(Reported { body, effect: effect(json) });
            }
        }
        let relisten = self.dice.permille(self.faults.relisten);
        let keys = frames.pieces().map(|(_, json)| json.to_owned()).collect();
        Outcome { state: self.guest_state(keys), events, relisten }
    }

    pub(super) fn outcome(&mut self, events: Vec<Reported>, relisten: bool) -> Result<Done, Failure> {
        let json = |event: &Reported| match &event.body {
            Body::Json(json) => json.clone(),
            Body::Frame(_) => String::new(),
        };
        let state = self.guest_state(events.iter().map(json).collect());
        Ok(Done::Outcome { outcome: Outcome { state, events, relisten }, frames: Frames::none() })
    }

    /// A guest counts its calls, so that it is seen whether its state is that of the events in the log.
    pub(super) fn guest_state(&mut self, reported: Vec<String>) -> Option<String> {
        let process = self.process.as_ref()?;
        let next = process.machine.guest().parse::<u64>().unwrap() + 1;
        self.checks.reported(next, reported);
        Some(next.to_string())
    }

    /// A page of what the upstream lists: 20 events from the end, or 50 from the beginning.
    pub(super) fn page(&mut self, cursor: Option<&str>) -> Result<Page, Failure> {
        if self.upstream.is_gone() && !self.upstream.said_over() {
            return Err(declared(ErrorKind::NotFound));
        }
        let at: Option<u64> = cursor.map(|cursor| cursor.parse().unwrap());
        if at.is_none() {
            self.look_lag = self.faults.lag.mul_f64(self.dice.share());
        }
        let (lag, now, newest_first) = (self.look_lag, self.now, self.faults.newest_first);
        let listed = self.upstream.history.iter().filter(|told| told.at + lag <= now);
        let mut page: Vec<_> = if newest_first {
            listed.rev().filter(|told| at.is_none_or(|at| told.place < at)).take(20).collect()
        } else {
            listed.filter(|told| at.is_none_or(|at| told.place > at)).take(50).collect()
        };
        let next = page.last().filter(|_| page.len() >= 20).map(|told| told.place.to_string());
        if self.dice.permille(self.faults.duplicate)
            && let Some(&first) = page.first()
        {
            page.insert(0, first);
        }
        let frames = page.iter().map(|told| Frame { name: String::new(), data: told.json.clone() }).collect();
        Ok(Page { frames, newest_first, next })
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.outage.has(self.now)
            || self.hang.has(self.now)
            || self.full.has(self.now)
            || self.now < self.quarantine
            || self.credential.is_none_or(|version| version <= self.refused)
    }
}
