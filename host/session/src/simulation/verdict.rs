//! What must be true: at every step, whenever something becomes durable or is answered, and at the end of a day.
//! Each rule has a name, which stands before the colon of what is said of its breach.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use super::{
    Tally,
    clients::{Wish, message_id},
    driver::{REPEATED, SESSION},
    world::{Disk, Row, World},
};
use crate::{
    Action, Call, Commit, Kept, Moment, Phase, Prompt, Reply, Ticket,
    event::{self, OwnIds},
    state::Stop,
};

/// By when a client is answered, beside what commits take.
const HEARD: Duration = Duration::from_millis(100);

/// By when an interrupt has stopped its turn, or there is a word about it.
const STOPPED: Duration = Duration::from_secs(12);
const WORD: Duration = Duration::from_millis(10_500);

/// For how long a call may hang.
const HANGS: Duration = Duration::from_mins(1);

/// For how long a session may be at work on nothing.
const IDLE_MAX: Duration = Duration::from_mins(75);

/// Steps of the machine in a minute in which nothing happens outside, and for each thing that does.
const STEPS_MAX: u64 = 900;
const STEPS_EACH: u64 = 12;

struct Asked {
    at: Moment,
    wish: Wish,
    /// How often it was answered.
    answers: u32,
    /// The prompt that was on its way or being answered, for an interrupt.
    current: Option<String>,
    stops: bool,
    /// How many events the log had.
    logged: usize,
}

struct Stopping {
    text: String,
    since: Moment,
}

#[derive(Default)]
pub(super) struct Checks {
    /// The rule that was broken first, and how.
    pub(super) broken: Option<String>,
    pub(super) removed: bool,
    asked: HashMap<Ticket, Asked>,
    /// The ids of the log's events, and whether they were processed.
    keys: HashSet<(String, bool)>,
    /// Prompts and wishes of which the host itself has said that they were processed.
    told: HashSet<String>,
    /// The events that said so.
    own_words: HashSet<String>,
    /// What the guest has reported in each of its states.
    outcomes: HashMap<u64, Vec<String>>,
    /// Behind which event the last prompt was accepted, and the last event that ends a wait.
    last_accept: usize,
    last_end: usize,
    /// Prompts whose end the log does not show yet.
    open: BTreeSet<String>,
    stopping: Vec<Stopping>,
    /// When something went wrong last that may keep the host from stopping a turn.
    trouble: Moment,
    pub(super) deaf: Moment,
    /// When a feed was open last.
    deafened: Moment,
    word: Option<Moment>,
    /// True between a guest's fault and the next feed.
    faulted: bool,
    /// Since when nothing has happened upstream that a session could be at work on.
    idle: Moment,
    upstream: usize,
    minute: (u64, u64),
    /// What the host has said of the session's end upstream.
    over: Option<bool>,
    killed: bool,
    /// True when the machine has said just now that there is nothing to do.
    leaves: bool,
}

impl Checks {
    pub(super) fn reported(&mut self, state: u64, events: Vec<String>) {
        self.outcomes.insert(state, events);
    }
}

impl World {
    pub(super) fn broken(&mut self, rule: &str, how: impl std::fmt::Display) {
        let now = self.now;
        self.checks.broken.get_or_insert_with(|| format!("{rule}: {how} (at {now:?})"));
    }

    pub(super) fn asked(&mut self, ticket: Ticket, wish: Wish) {
        let Some(process) = &self.process else { return };
        let machine = &process.machine;
        let state = machine.kept().state;
        let unsent = machine.to_send.is_some();
        let current = machine.current.as_ref().filter(|_| state.in_turn() && !unsent);
        let current = current.and_then(|prompt| event::message_text(&prompt.json));
        // Who interrupts again hears of the same stop.
        let stops = state.interruptible() && !unsent && state.stop() == Stop::None;
        self.checks.idle = self.now;
        self.checks
            .asked
            .insert(ticket, Asked { at: self.now, wish, answers: 0, current, stops, logged: self.disk.log.len() });
        self.checks.minute.1 = self.checks.minute.1.saturating_sub(STEPS_EACH);
    }

    pub(super) fn replied(&mut self, ticket: Ticket, reply: &Reply) {
        let (now, commit_ms) = (self.now, self.faults.commit_ms);
        let Some(asked) = self.checks.asked.get_mut(&ticket) else {
            return self.broken("one answer", format!("{ticket:?} is answered, and did not ask: {reply:?}"));
        };
        asked.answers += 1;
        let last = !matches!((asked.wish, reply), (Wish::Kill, Reply::Done));
        let (answers, wish, since, stops) = (asked.answers, asked.wish, asked.at, asked.stops);
        let logged = asked.logged;
        let current = asked.current.take();
        if last {
            self.checks.asked.remove(&ticket);
        }
        if answers > if wish == Wish::Kill { 2 } else { 1 } {
            return self.broken("one answer", format!("{wish:?} is answered again: {reply:?}"));
        }
        let heard = matches!(wish, Wish::Prompt | Wish::Interrupt | Wish::Kill) && answers == 1;
        if heard && now > since + HEARD + Duration::from_millis(2 * (commit_ms + 3)) {
            return self.broken("heard at once", format!("{wish:?} is answered after {:?}: {reply:?}", now - since));
        }
        match (wish, reply) {
            (Wish::Prompt, Reply::Taken(number)) => {
                let row = usize::try_from(*number).ok().and_then(|number| self.disk.rows.get(number));
                let id = message_id(ticket);
                if row.is_none_or(|row| row.prompt.id != id) {
                    self.broken("durable first", format!("{ticket:?} was taken as {number}, and is not stored so"));
                }
                if !self.checks.keys.contains(&(id, false)) {
                    self.broken("in the log at once", format!("{ticket:?} was taken, and the log does not show it"));
                }
            }
            (Wish::Interrupt, Reply::Done) => {
                self.tally.interrupts += 1;
                // What ends the wait may be durable together with the wish.
                let told = self.disk.log[logged..].iter().any(|json| is_word(json));
                if stops && !told {
                    self.checks.word.get_or_insert(now);
                }
                if let Some(text) = current.filter(|text| text != REPEATED) {
                    self.checks.stopping.push(Stopping { text, since: now });
                }
            }
            (Wish::Kill, Reply::Done) if !self.checks.killed && !self.is_over() => {
                self.broken("durable first", "a kill is answered and not stored");
            }
            (Wish::Kill, Reply::Over(end)) if self.process.as_ref().is_some_and(|process| !process.machine.removed) => {
                self.tally.kills += 1;
                self.tally.unverified += u64::from(!end.verified);
                self.checks.over = Some(end.verified);
                let over = self.upstream.is_gone() || (!self.faults.named && self.upstream.is_idle());
                if end.verified && !over {
                    self.broken("the truth", "the session goes on upstream, and the host says that it does not");
                }
                if self.disk.kept.state.phase() != Phase::Terminated {
                    self.broken("durable first", "a session is over and not stored so");
                }
                self.ends_in_its_end();
            }
            (Wish::Prompt, _) => self.tally.refused += 1,
            _ => {}
        }
    }

    /// A session that is over says so once and last; changes of what is said of it may follow.
    fn ends_in_its_end(&mut self) {
        let kinds = self.disk.log.iter().map(|json| event::head(json).unwrap().kind);
        let rest: Vec<_> = kinds.skip_while(|kind| kind != event::TERMINATED).collect();
        if rest.is_empty() || rest[1..].iter().any(|kind| kind != "session.updated") {
            self.broken("the last event", format!("a session that is over has these at its end: {rest:?}"));
        }
    }

    pub(super) fn called(&mut self, call: &Call) {
        let Some(process) = &self.process else { return };
        let state = process.machine.kept().state;
        if process.call.is_some() {
            return self.broken("one call", format!("{call:?} begins while another one is under way"));
        }
        if process.writing.is_some() || self.disk.kept.state != state {
            return self.broken("durable first", format!("{call:.60?} begins before it is durable why"));
        }
        let may = match call {
            Call::SendPrompt(_) => state.in_doubt().is_some() && state.wanted(),
            Call::SendInterrupt => state.stop() == Stop::Wanted,
            _ => true,
        };
        if !may {
            return self.broken("a reason for each call", format!("{call:.60?} in {state:?}"));
        }
        let over = matches!(state.phase(), Phase::Ending | Phase::Terminated);
        let text = process.machine.current.as_ref().and_then(|prompt| event::message_text(&prompt.json));
        match call {
            Call::OnFrames(_) if self.checks.faulted && !over => {
                self.broken("order behind a fault", "what came behind a failed batch is mapped");
            }
            Call::Connect => self.checks.faulted = false,
            _ => {}
        }
        if matches!(call, Call::SendPrompt(_)) {
            let times = text.map_or(0, |text| self.upstream.arrivals(&text));
            self.tally.resent += u64::from(times > 0);
        }
    }

    /// Something did not work that may keep the host from what it is to do.
    pub(super) fn trouble(&mut self, call: &Call, fate: &Result<(), crate::Failure>) {
        if let Err(failure) = fate {
            self.tally.failed += 1;
            self.troubled_by(call, failure);
        }
    }

    fn troubled_by(&mut self, call: &Call, failure: &crate::Failure) {
        // That the answer to a prompt is lost is no excuse.
        if !(matches!(call, Call::SendPrompt(_)) && failure.leaves_doubt()) {
            self.checks.trouble = self.now;
        }
    }

    pub(super) fn call_failed(&mut self, call: &Call, failure: &crate::Failure) {
        self.troubled_by(call, failure);
        if matches!(call, Call::OnFrames(_)) && failure.cause == crate::Cause::Fault {
            self.checks.faulted = true;
        }
    }

    pub(super) fn crashed(&mut self) {
        self.checks.asked.clear();
        self.checks.trouble = self.now;
        self.checks.faulted = false;
    }

    pub(super) fn began(&mut self) {
        self.checks.faulted = false;
        if self.checks.word.is_some() {
            self.checks.word = Some(self.now);
        }
        // What is waited for may have ended long ago.
        self.checks.idle = self.now;
    }

    pub(super) fn left(&mut self) {
        if !self.disk.kept.state.settled() {
            self.broken("no session hangs", format!("nobody is at work on {:?}", self.disk.kept.state));
        }
        if !self.checks.asked.is_empty() {
            self.broken("one answer", "the driver goes while somebody waits for an answer");
        }
        self.checks.word = None;
    }

    pub(super) fn removed(&mut self) {
        self.checks.removed = true;
        if let Some((ticket, asked)) = self.checks.asked.iter().next() {
            let text = format!("{ticket:?} ({:?}) is not answered when the session is removed", asked.wish);
            self.broken("one answer", text);
        }
    }

    pub(super) fn before_actions(&mut self, actions: &[Action]) {
        let Some(process) = &self.process else { return };
        let machine = &process.machine;
        self.checks.leaves = actions.iter().any(|action| matches!(action, Action::Leave));
        let commits = actions.iter().any(|action| matches!(action, Action::Commit(commit) if commit.record));
        if commits && machine.stored_state() != machine.kept().state {
            let text = format!("{:?} goes with the events of {:?}", machine.kept().state, machine.stored_state());
            self.broken("a state with its events", text);
        }
    }

    pub(super) fn after_actions(&mut self) {
        let Some(process) = &self.process else { return };
        let (machine, state) = (&process.machine, process.machine.kept().state);
        let now = self.now - process.began;
        let due = machine.due();
        if due.is_some_and(|due| due <= now) {
            return self.broken("time", format!("{due:?} is due at {now:?}, after everything was done"));
        }
        let works = process.call.is_some() || process.writing.is_some() || due.is_some();
        if !state.settled() && !works {
            return self.broken("no session hangs", format!("nothing is done for {state:?}"));
        }
        if !works && !self.checks.leaves && !machine.removed {
            return self.broken("leave", format!("nothing is to be done for {state:?}, and nobody may go"));
        }
        if process.feed.as_ref().is_some_and(|feed| feed.credential != self.credential) {
            return self.broken("the credential", "a feed that was opened with another one is read");
        }
        let minute = self.now.as_secs() / 60;
        if self.checks.minute.0 != minute {
            self.checks.minute = (minute, 0);
        }
        self.checks.minute.1 += 1;
        let signs = if self.faults.signs < Duration::from_secs(1) { 6000 } else { 600 };
        let slack = if self.faults.signs < super::faults::NEVER { signs } else { 0 };
        if self.checks.minute.1 > STEPS_MAX + slack {
            self.broken("no busy loop", format!("{} steps in a minute", self.checks.minute.1));
        }
    }

    /// At every step, whatever has happened.
    pub(super) fn watch(&mut self) {
        if self.is_troubled() {
            self.checks.trouble = self.now;
        }
        // Who hears nothing of the turn cannot know that an interrupt was too early for it.
        match self.process.as_ref().is_some_and(|process| process.feed.is_some()) {
            true => self.checks.deafened = self.now,
            false if self.now > self.checks.deafened + Duration::from_secs(3) => self.checks.trouble = self.now,
            false => {}
        }
        let news = self.upstream.shown.len() + self.upstream.arrived.len();
        if news != self.checks.upstream {
            let steps = STEPS_EACH * (news - self.checks.upstream) as u64;
            self.checks.minute.1 = self.checks.minute.1.saturating_sub(steps);
            (self.checks.upstream, self.checks.idle) = (news, self.now);
        }
        let settled = self.disk.kept.state.settled();
        if settled || self.is_troubled() || self.process.is_none() {
            self.checks.idle = self.now;
        }
        if self.now > self.checks.idle + IDLE_MAX {
            let state = self.disk.kept.state;
            return self.broken("no session hangs", format!("{state:?}, and nothing happens for it"));
        }
        if self.checks.word.is_some_and(|since| self.now > since + WORD) && !self.is_down() && !self.checks.killed {
            return self
                .broken("a word about the stop", "an interrupt has led to nothing, and nothing is said of that");
        }
        let asked = self.checks.asked.values().find(|asked| {
            let bound = HEARD + Duration::from_millis(2 * (self.faults.commit_ms + 3));
            matches!(asked.wish, Wish::Prompt | Wish::Interrupt | Wish::Kill)
                && asked.answers == 0
                && self.now > asked.at + bound + Duration::from_secs(1)
        });
        if let Some(wish) = asked.map(|asked| asked.wish) {
            return self.broken("heard at once", format!("{wish:?} is not answered"));
        }
        self.stop_means_stop();
    }

    fn stop_means_stop(&mut self) {
        let (now, trouble, deaf) = (self.now, self.checks.trouble, self.checks.deaf);
        // Where nothing hangs, a prompt that was overtaken is found at the second look.
        let bound = if self.faults.habits.plain && !self.hangs { Duration::from_secs(3) } else { STOPPED };
        let arrived = &self.upstream.arrived;
        let mut late = None;
        self.checks.stopping.retain(|stop| {
            // An interrupt may go with the one that is under way.
            let deaf = deaf != Moment::ZERO && deaf + HANGS >= stop.since;
            if trouble >= stop.since || deaf || now > stop.since + Duration::from_mins(30) {
                return false;
            }
            let arrival = arrived.iter().rfind(|arrival| arrival.text == stop.text);
            match arrival.and_then(|arrival| arrival.ended) {
                Some(ended) if ended > stop.since + bound => {
                    late = Some(format!("{:?} was stopped at {:?}, and ran to its end", stop.text, stop.since));
                    false
                }
                Some(_) => false,
                None => true,
            }
        });
        if let Some(late) = late {
            self.broken("stop means stop", late);
        }
    }

    /// A commit becomes durable.
    pub(super) fn durable(&mut self, commit: &Commit, prompts: Vec<(u64, Prompt)>, kept: Kept) {
        let before = self.disk.log.len();
        for (number, prompt) in prompts {
            if number != self.disk.rows.len() as u64 {
                return self.broken("numbers", format!("message {number} is the {}th", self.disk.rows.len()));
            }
            self.checks.open.insert(prompt.id.clone());
            self.checks.last_accept = before;
            self.disk.rows.push(Row { prompt, withdrawn: false });
        }
        let guest = kept.guest.clone();
        for (kind, json) in commit.draft.events() {
            self.disk.log.push(json.to_owned());
            self.append(kind, json, &guest);
        }
        for segment in &commit.segments {
            let (number, last) = (self.disk.segments.len() as u64, self.disk.log.len() as u64);
            if segment.number != number || segment.last > last {
                let text =
                    format!("segment {} covers {} events; there are {number} and {last}", segment.number, segment.last);
                return self.broken("the index", text);
            }
            self.disk.segments.push(segment.clone());
        }
        for number in &commit.withdrawn {
            match self.disk.rows.get_mut(usize::try_from(*number).unwrap()) {
                Some(row) if !row.withdrawn => row.withdrawn = true,
                _ => self.broken("withdrawn once", format!("message {number} is not there, or withdrawn already")),
            }
        }
        let Disk { kept: stored, rows, .. } = &self.disk;
        if commit.record != (kept.version == stored.version + 1) || kept.version < stored.version {
            let text = format!("{} follows {}, record: {}", kept.version, stored.version, commit.record);
            return self.broken("versions", text);
        }
        if !commit.record && (kept.state != stored.state || kept.guest != stored.guest) {
            return self.broken("a state with its events", "the record has changed and is not written");
        }
        if kept.state.prompts() != rows.len() as u64 {
            let text = format!("{} prompts, {} messages", kept.state.prompts(), rows.len());
            return self.broken("numbers", text);
        }
        let mut waiting = kept.state.waiting();
        if waiting.any(|number| rows[usize::try_from(number).unwrap()].withdrawn) {
            return self.broken("withdrawn once", "a message waits that was withdrawn");
        }
        if commit.settled != kept.state.settled() {
            return self.broken("a state with its events", "the commit says another thing than its record");
        }
        if kept.state.settled() && (kept.waiting.is_some() || kept.state.is_cut()) {
            return self.broken("the truth", format!("a session at rest waits for {:?}", kept.waiting));
        }
        if kept.guest != stored.guest {
            self.guest_moves(&guest);
        }
        self.checks.killed |= kept.state.is_ending();
        if commit.record {
            self.disk.kept = kept;
        }
        self.at_rest();
    }

    /// An event comes into the log.
    fn append(&mut self, kind: &str, json: &str, guest: &str) {
        let (seq, own) = (self.disk.log.len(), OwnIds::of(SESSION));
        let Ok(head) = event::head(json) else {
            return self.broken("events", format!("{json} is none"));
        };
        if head.kind != kind {
            return self.broken("events", format!("{json} is not of the type {kind}"));
        }
        let id = head.id.as_deref().unwrap_or_default();
        let withdrawn = json.contains(r#""withdrawn":"#);
        let known = !self.checks.keys.insert((id.to_owned(), head.is_processed()));
        let is_wish = kind == event::INTERRUPT && own.has(id);
        let is_client_s = event::is_message_id(id) || is_wish;
        // What a wish to stop a turn has come to may be told where it was not processed.
        let in_vain = is_wish && json.contains(r#""forwarded":"#);
        if is_wish && !head.is_processed() && !in_vain {
            self.checks.open.insert(id.to_owned());
        }
        // The host's own word on what a client has said is followed by the upstream's, where that comes late.
        let follows = is_client_s && event::is_the_upstream_s(json) && self.checks.told.remove(id);
        let in_its_place = withdrawn || follows || (in_vain && self.checks.open.contains(id));
        if known && !in_its_place {
            return self.broken("once", format!("the log has {json} twice"));
        }
        // An event of the upstream's without an id gets one of the host's, but the log has no first one under that.
        let is_own_word = event::is_message_id(id) || self.checks.keys.contains(&(id.to_owned(), false));
        if is_client_s && is_own_word && head.is_processed() && !event::is_the_upstream_s(json) {
            self.checks.told.insert(id.to_owned());
            self.checks.own_words.insert(json.to_owned());
        }
        let second = is_wish && (head.is_processed() || (in_vain && known));
        if own.has(id) && !second && id != own.id(seq as u64) && id != own.timed_id(seq as u64) {
            return self.broken("sequence", format!("{json} is the event {seq}"));
        }
        let theirs = event::upstream_id(json).filter(|_| !withdrawn);
        if let Some(theirs) = &theirs
            && (self.checks.keys.contains(&(theirs.clone(), false))
                || !self.checks.keys.insert((theirs.clone(), head.is_processed())))
        {
            return self.broken("once", format!("the log has {json} twice"));
        }
        let reports = |reported: &String| match &theirs {
            None => reported == json,
            Some(theirs) => event::head(reported).is_ok_and(|head| head.id.as_deref() == Some(theirs)),
        };
        let is_theirs = theirs.is_some() || (!own.has(id) && !event::is_message_id(id));
        if is_theirs && kind != event::OMITTED {
            let outcome = self.checks.outcomes.get(&guest.parse().unwrap_or_default());
            if outcome.is_none_or(|outcome| !outcome.iter().any(reports)) {
                return self.broken("the guest's state", format!("{json} stands in the log before its state"));
            }
        }
        if kind == event::IDLE || kind == event::TERMINATED {
            self.checks.last_end = seq;
        }
        if is_word(json) {
            self.checks.word = None;
        }
        if withdrawn || in_vain || head.is_processed() || !head.timed {
            self.checks.open.remove(id);
        }
    }

    /// Everything that the guest reported before this state is in the log with it.
    fn guest_moves(&mut self, guest: &str) {
        let outcome = self.checks.outcomes.get(&guest.parse().unwrap_or_default());
        let Some(outcome) = outcome else {
            return self.broken("the guest's state", format!("{guest} was never its state"));
        };
        let lacks = |json: &&String| {
            let Ok(head) = event::head(json) else { return false };
            let Some(id) = head.id.clone().filter(|_| head.kind != event::INTERRUPT) else { return false };
            // That a prompt waits upstream is what the log says already.
            if head.kind == "user.message" && !head.is_processed() {
                return false;
            }
            let stored = event::storable(json).is_ok();
            let known = |processed| self.checks.keys.contains(&(id.clone().into_owned(), processed));
            stored && !known(head.is_processed()) && !known(true)
        };
        let over = self.checks.killed || self.disk.log.last().is_some_and(|json| json.contains(event::TERMINATED));
        if let Some(lost) = outcome.iter().find(lacks).filter(|_| !over).cloned() {
            self.broken("the guest's state", format!("it is behind {lost}, which the log lacks"));
        }
    }

    /// What must be true when the session has nothing to do.
    fn at_rest(&mut self) {
        let state = self.disk.kept.state;
        if !state.settled() || self.disk.rows.is_empty() {
            return;
        }
        if self.checks.last_end <= self.checks.last_accept {
            let text = format!("nothing behind event {} ends the wait, and it is {state:?}", self.checks.last_accept);
            return self.broken("the end of the wait", text);
        }
        if self.disordered {
            return;
        }
        if let Some(id) = self.checks.open.first().cloned() {
            self.broken("a visible end", format!("the log does not show what became of {id}"));
        }
    }

    /// The names of the upstream's events in the log that were processed, in its order.
    fn logged(&self) -> Vec<String> {
        let own = OwnIds::of(SESSION);
        let mut names = Vec::new();
        for json in &self.disk.log {
            let head = event::head(json).unwrap();
            let (Some(id), Some(at)) = (head.id.as_deref(), head.processed_at) else { continue };
            match &*head.kind {
                event::OMITTED => names.extend(event::omitted_id(json).map(|(id, _)| id)),
                event::INTERRUPT if self.checks.own_words.contains(json) => {}
                event::INTERRUPT if own.has(id) => {
                    let name = event::upstream_id(json).filter(|id| !id.is_empty());
                    names.push(name.unwrap_or_else(|| at.trim_matches('"').to_owned()));
                }
                _ if own.has(id) => {}
                _ if event::is_message_id(id) => names.extend(event::upstream_id(json)),
                _ => names.push(id.to_owned()),
            }
        }
        names
    }

    /// Whether all that was promised has been kept.
    pub(super) fn verdict(mut self) -> Result<Tally, String> {
        if let Some(broken) = self.checks.broken.take() {
            return Err(broken);
        }
        self.tally.steps = self.steps;
        if self.checks.removed {
            self.tally.removed = 1;
            return Ok(self.tally);
        }
        let (mut logged, mut truth) = (self.logged(), Vec::new());
        truth.extend(self.upstream.history.iter().filter_map(|told| told.name.clone()));
        self.tally.events = truth.len() as u64;
        let known: HashSet<&String> = logged.iter().collect();
        let in_order = truth.iter().filter(|name| known.contains(name)).eq(&logged);
        logged.sort();
        truth.sort();
        if let Some(pair) = logged.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("once: the log has {} twice", pair[0]));
        }
        if let Some(more) = logged.iter().find(|name| truth.binary_search(name).is_err()) {
            return Err(format!("the truth: the log has {more}, which the upstream has not"));
        }
        // Who ends a session does not wait for what it may still have said.
        let over = self.checks.killed || self.upstream.is_gone();
        let missing = truth.iter().find(|name| logged.binary_search(name).is_err());
        if let Some(missing) = missing.filter(|_| !over) {
            return Err(format!("nothing is lost: the log lacks {missing}"));
        }
        if !in_order && !self.disordered {
            return Err("order: the log has another order than the upstream".to_owned());
        }
        self.prompts()?;
        let state = self.disk.kept.state;
        let ends = match state.phase() {
            Phase::Terminated => self.checks.killed || self.upstream.said_over(),
            Phase::Idle => self.upstream.is_idle(),
            Phase::Failed => self.upstream.is_gone() && !self.upstream.said_over(),
            _ => false,
        };
        if !ends || !state.settled() || (self.checks.killed && self.checks.over.is_none() && !self.is_over()) {
            return Err(format!("the end: the session ends as {state:?}"));
        }
        if state.phase() == Phase::Terminated {
            self.ends_in_its_end();
        }
        match self.checks.broken.take() {
            Some(broken) => Err(broken),
            None => Ok(self.tally),
        }
    }

    fn is_over(&self) -> bool {
        self.disk.kept.state.phase() == Phase::Terminated
    }

    /// Each prompt that was accepted has arrived once, or says that it was withdrawn, and whether it had arrived.
    fn prompts(&self) -> Result<(), String> {
        let mut withdrawn: HashMap<&str, &str> = HashMap::new();
        for json in &self.disk.log {
            let Some((_, rest)) = json.split_once(r#""withdrawn":"#) else { continue };
            let head = event::head(json).map_err(|invalid| format!("events: {json}: {invalid}"))?;
            let row = self.disk.rows.iter().find(|row| head.id.as_deref() == Some(&*row.prompt.id));
            let row = row.ok_or_else(|| format!("a visible end: {json} is no message"))?;
            let arrived =
                ["no", "yes", "unknown"].into_iter().find(|word| rest.contains(&format!("\"arrived\":\"{word}\"")));
            if withdrawn.insert(&row.prompt.id, arrived.unwrap_or_default()).is_some() {
                return Err(format!("withdrawn once: {json}"));
            }
        }
        let mut expected: HashMap<String, (usize, usize)> = HashMap::new();
        let mut unknown = 0;
        for row in &self.disk.rows {
            let text = event::message_text(&row.prompt.json).unwrap_or_default();
            let (least, most) = expected.entry(text).or_default();
            let arrived = withdrawn.get(&*row.prompt.id);
            *least += usize::from(arrived.is_none_or(|arrived| *arrived == "yes"));
            // Of those with the same text nobody can say which one has arrived.
            unknown += usize::from(arrived.is_some_and(|arrived| *arrived == "unknown"));
            *most += usize::from(arrived.is_none_or(|arrived| *arrived != "no"));
        }
        let texts = self.upstream.texts();
        for (text, (least, most)) in expected {
            let least = if text == REPEATED { least.saturating_sub(unknown) } else { least };
            let arrived = texts.get(&*text).copied().unwrap_or_default();
            // What an upstream does not show may be sent again when its answer was lost.
            let most = if self.mute { usize::MAX } else { most };
            if arrived < least || arrived > most {
                return Err(format!(
                    "sent once: {text:?} arrived {arrived} times upstream, not {least} to {most} times"
                ));
            }
        }
        Ok(())
    }
}

/// True for what tells a reader that something came of a wish to stop a turn.
fn is_word(json: &str) -> bool {
    let Ok(head) = event::head(json) else { return false };
    match &*head.kind {
        event::IDLE | event::TERMINATED | event::ERROR => true,
        event::INTERRUPT => head.is_processed(),
        _ => json.contains(r#""withdrawn":"#),
    }
}
