//! The simulated driver: it carries out what the machine says, on a simulated clock, and decides nothing. Around it are a
//! disk, a network with faults, clients, and a process that may be gone at any moment.

use std::time::Duration;

use lap_model::contract::{Body, Effect, Ending, ErrorKind, Frame, Frames, Outcome, Reported};

use super::{
    Dice, Tally,
    faults::{Faults, Mutant, NEVER, declared, failed, failure},
    upstream::{Upstream, effect},
    verdict::Checks,
};
use crate::{
    Action, Call, Commit, Done, Event, Kept, Machine, Moment, Now, Opened, Page, Prompt, Reply, Start, State, Ticket,
    event,
    failure::{Cause, Failure},
    usage::Usage,
};

pub(super) const SESSION: &str = "ses_7";

/// What clients say again and again.
pub(super) const REPEATED: &str = "go on";

/// The beginning of the simulated time, by the wall clock.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// The time that a call has.
const CALL_MAX: Duration = Duration::from_mins(1);

/// What a client wants, or what befalls the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Prompt,
    Interrupt,
    Answer,
    Input,
    Amend {
        input: bool,
        at_rest: bool,
    },
    Kill,
    Delete,
    /// Another credential.
    Put,
    /// The vendor refuses the credential from now on.
    Revoke,
    /// No credential any more.
    Remove,
    Crash,
    /// The guest's next call breaks off.
    Fault,
    /// The feed is cut.
    Cut,
    /// The feed dies without a word.
    Silence,
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

/// A message as it is stored.
pub(super) struct Row {
    pub(super) prompt: Prompt,
    pub(super) withdrawn: bool,
}

/// What is durable.
pub(super) struct Disk {
    pub(super) kept: Kept,
    pub(super) log: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// A commit under way.
pub(super) struct Writing {
    lands: Moment,
    told: Moment,
    landed: bool,
    commit: Commit,
    kept: Kept,
    prompts: Vec<(u64, Prompt)>,
}

/// A call under way.
pub(super) struct UnderWay {
    id: u64,
    ends: Moment,
    call: Call,
    fate: Result<(), Failure>,
    /// When the feed's head came, and what it begins with.
    opened: Moment,
    place: usize,
    credential: Option<u64>,
}

/// What is read.
pub(super) struct Feed {
    /// The next thing that it shows.
    place: usize,
    latency: Duration,
    dies: Moment,
    noticed: Moment,
    sign: Moment,
    ending: Ending,
    pub(super) credential: Option<u64>,
}

/// What is gone after a crash.
pub(super) struct Process {
    pub(super) machine: Machine,
    pub(super) began: Moment,
    pub(super) writing: Option<Writing>,
    pub(super) call: Option<UnderWay>,
    pub(super) feed: Option<Feed>,
    pub(super) reading: bool,
    /// Prompts whose commit has not begun.
    given: Vec<(Ticket, Prompt)>,
}

/// On its way to the upstream, whoever waits for the answer.
struct Sent {
    arrives: Moment,
    call: u64,
    what: Request,
}

enum Request {
    Prompt(String),
    Answer,
    Interrupt,
    Close,
}

/// A time in which something does not work.
#[derive(Clone, Copy)]
struct Window {
    from: Moment,
    to: Moment,
}

impl Window {
    const NONE: Self = Self { from: NEVER, to: NEVER };

    fn has(self, now: Moment) -> bool {
        now >= self.from && now < self.to
    }

    /// The next one, once this is past.
    fn go_on(&mut self, now: Moment, mean: Duration, longest_ms: u64, dice: &mut Dice) {
        if now >= self.to {
            let from = now + dice.rarely(mean);
            *self = Self { from, to: from + dice.ms(1000..longest_ms) };
        }
    }
}

enum What {
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
    wire: Vec<Sent>,
    /// What clients will want.
    pub(super) plan: Vec<(Moment, Wish)>,
    next_prompt: Moment,
    next_keys: Moment,
    next_crash: Moment,
    restart: Option<Moment>,
    started: bool,
    outage: Window,
    hang: Window,
    full: Window,
    quarantine: Moment,
    pub(super) credential: Option<u64>,
    versions: u64,
    /// Credentials up to this version are refused.
    refused: u64,
    /// The guest's next call breaks off.
    faulty: bool,
    /// What becomes of the first prompt.
    pub(super) first: Turn,
    /// True where a call takes very long.
    pub(super) hangs: bool,
    look_lag: Duration,
    tickets: u64,
    calls: u64,
    pub(super) steps: u64,
    trace: bool,
    pub(super) disordered: bool,
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
            disk: Disk { kept, log: Vec::new(), rows: Vec::new() },
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

    fn open_windows(&mut self) {
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
        let mutant = self.faults.mutant;
        self.faults =
            Faults { mutant, newest_first: self.faults.newest_first, named: self.faults.named, ..Faults::none() };
        self.upstream.habits = self.faults.habits;
        (self.outage, self.hang, self.full) = (Window::NONE, Window::NONE, Window::NONE);
        (self.next_crash, self.next_keys, self.next_prompt) = (NEVER, NEVER, NEVER);
        self.plan.clear();
        self.faulty = false;
        self.wish(Wish::Put);
        self.live(self.now + Duration::from_hours(3));
        self.wish(Wish::Prompt);
        self.live(self.now + Duration::from_hours(2));
    }

    /// What happens next, and when: of what comes at the same moment, anything.
    fn next(&mut self) -> (Moment, What) {
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

    /// A client says something, and perhaps more behind it.
    fn converse(&mut self) {
        self.next_prompt = self.now + self.dice.rarely(self.faults.prompt);
        self.plan.push((self.now, Wish::Prompt));
        let mut at = self.now;
        while self.dice.permille(self.faults.interrupt) {
            let soon = if self.dice.permille(500) { 400 } else { 6000 };
            at += self.dice.ms(0..soon);
            self.plan.push((at, Wish::Interrupt));
        }
        at = self.now;
        while self.dice.permille(self.faults.company) {
            at += self.dice.ms(0..6000);
            self.plan.push((at, Wish::Prompt));
        }
        if self.dice.permille(self.faults.habits.asks) {
            let at = self.now + self.dice.ms(0..60_000);
            self.plan.push((at, Wish::Answer));
        }
        if self.dice.permille(self.faults.amend) {
            let at = self.now + self.dice.ms(0..60_000);
            let amend = Wish::Amend { input: self.dice.permille(500), at_rest: self.dice.permille(300) };
            self.plan.push((at, if self.dice.permille(300) { Wish::Input } else { amend }));
        }
    }

    fn change_keys(&mut self) {
        self.next_keys = self.now + self.dice.rarely(self.faults.credential);
        let bad = [Wish::Put, Wish::Revoke, Wish::Remove][self.dice.place(3)];
        self.plan.push((self.now, bad));
        let at = self.now + self.dice.ms(0..1_500_000);
        self.plan.push((at, Wish::Put));
    }

    pub(super) fn is_down(&self) -> bool {
        self.restart.is_some()
    }

    /// A client wants something, or something happens to the host.
    pub(super) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Crash => return self.crash(),
            Wish::Fault => return self.faulty = true,
            Wish::Cut | Wish::Silence => {
                let late = if wish == Wish::Silence { Duration::from_secs(90) } else { Duration::ZERO };
                if let Some(feed) = self.process.as_mut().and_then(|process| process.feed.as_mut()) {
                    (feed.dies, feed.noticed) = (self.now, self.now + late);
                }
                return;
            }
            Wish::Revoke => return self.refused = self.versions,
            Wish::Put | Wish::Remove => {
                self.versions += 1;
                self.credential = (wish == Wish::Put).then_some(self.versions);
                return self.tell(Event::Credential(self.credential));
            }
            _ => {}
        }
        if let Some(restart) = self.restart {
            let at = restart + self.dice.ms(1..500);
            return self.plan.push((at, wish));
        }
        if self.checks.removed {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let event = match wish {
            Wish::Prompt => {
                self.tally.prompts += 1;
                let text = if self.dice.permille(300) { REPEATED.to_owned() } else { format!("p{}", self.tickets) };
                let json = format!(r#"{{"type":"user.message","content":[{{"type":"text","text":"{text}"}}]}}"#);
                Event::Prompt { ticket, prompt: Prompt { id: format!("msg_{}", self.tickets), json } }
            }
            Wish::Interrupt => Event::Interrupt { ticket },
            Wish::Answer => Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() },
            Wish::Input => Event::Input { ticket, json: r#"{"type":"user.note"}"#.to_owned() },
            Wish::Amend { input, at_rest } => Event::Amend {
                ticket,
                input: input.then(|| r#"{"type":"user.note"}"#.to_owned()),
                event: Some(r#"{"type":"session.updated"}"#.to_owned()),
                at_rest,
            },
            Wish::Kill => Event::Kill { ticket },
            Wish::Delete => Event::Delete { ticket, version: None },
            Wish::Put | Wish::Revoke | Wish::Remove | Wish::Crash | Wish::Fault | Wish::Cut | Wish::Silence => return,
        };
        if self.process.is_none() {
            self.start();
        }
        self.asked(ticket, wish);
        if let (Event::Prompt { prompt, .. }, Some(process)) = (&event, &mut self.process) {
            process.given.push((ticket, prompt.clone()));
        }
        self.tell(event);
    }

    fn crash(&mut self) {
        self.tally.crashes += 1;
        let lands = self.dice.permille(500) && self.process.as_ref().is_some_and(|process| process.writing.is_some());
        if lands {
            self.land();
        }
        if let Some(process) = self.process.take() {
            self.hang_up(process.call.as_ref());
        }
        self.crashed();
        let down = if self.faults.habits.plain { Duration::from_millis(50) } else { self.dice.ms(50..60_000) };
        self.restart = Some(self.now + down);
        self.next_crash = self.now + down + self.dice.rarely(self.faults.crash);
    }

    fn start(&mut self) {
        use crate::Phase::{Rescheduling, Running, Sent, Taken};
        let state = self.disk.kept.state;
        let row = |number: u64| self.disk.rows[usize::try_from(number).unwrap()].prompt.clone();
        let current = matches!(state.phase(), Sent | Taken | Running | Rescheduling).then(|| row(state.sent()));
        let start = Start {
            session: SESSION.to_owned(),
            kept: self.disk.kept.clone(),
            next_seq: self.disk.log.len() as u64 + 1,
            queue: state.waiting().map(row).collect(),
            current,
            archived: false,
            named: self.faults.named,
            credential: self.credential,
            fresh: !std::mem::replace(&mut self.started, true),
            seed: self.dice.roll(),
        };
        let mut machine = Machine::new(start, EPOCH_MS + self.now_ms());
        machine.mutant = self.faults.mutant;
        self.process = Some(Process {
            machine,
            began: self.now,
            writing: None,
            call: None,
            feed: None,
            reading: false,
            given: Vec::new(),
        });
        self.began();
        self.tell(Event::Time);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.now.as_millis()).unwrap()
    }

    pub(super) fn tell(&mut self, event: Event) {
        let at_ms = EPOCH_MS + self.now_ms();
        let Some(process) = &mut self.process else { return };
        self.steps += 1;
        let now = Now { at: self.now - process.began, unix_ms: at_ms };
        if self.trace {
            let event = match &event {
                Event::Frames(frames) => {
                    format!("Frames {:?}", frames.pieces().map(|(_, data)| data).collect::<Vec<_>>())
                }
                event => format!("{event:.300?}"),
            };
            eprintln!("{:?} {event:.500}", self.now);
        }
        let actions = process.machine.on(event, now);
        self.before_actions(&actions);
        for action in actions {
            if self.trace {
                let text = match &action {
                    Action::Call(Call::OnFrames(frames)) => format!("OnFrames {}", frames.len()),
                    action => format!("{action:?}"),
                };
                eprintln!("    {text:.500}");
            }
            self.carry_out(action);
        }
        self.after_actions();
    }

    fn carry_out(&mut self, action: Action) {
        let (now, commit_ms) = (self.now, self.faults.commit_ms);
        let Some(process) = &mut self.process else { return };
        match action {
            Action::Commit(commit) => {
                let lands = now + self.dice.ms(1..commit_ms);
                let told = lands + self.dice.ms(0..3);
                let early = self.faults.mutant == Some(Mutant::CommittedTooEarly);
                let (lands, told) = if early { (lands + Duration::from_secs(1), now) } else { (lands, told) };
                let take = |&(ticket, number): &(Ticket, u64)| {
                    let at = process.given.iter().position(|(given, _)| *given == ticket)?;
                    Some((number, process.given.swap_remove(at).1))
                };
                let prompts = commit.prompts.iter().filter_map(take).collect();
                let kept = process.machine.kept().clone();
                let writing = Writing { lands, told, landed: early, commit, kept, prompts };
                if process.writing.replace(writing).is_some() {
                    self.broken("one commit", "a commit begins while another one is under way");
                }
            }
            Action::Call(call) => self.begin(call),
            Action::Abandon => {
                let call = process.call.take();
                self.hang_up(call.as_ref());
            }
            Action::CloseFeed => {
                process.feed = None;
                process.reading = false;
            }
            Action::Read => process.reading = true,
            Action::Reply(ticket, reply) => {
                let lost = self.faults.mutant == Some(Mutant::ReplyLost) && self.dice.permille(20);
                if !lost {
                    self.replied(ticket, &reply);
                }
            }
            Action::Remove { tickets, .. } => {
                for ticket in tickets {
                    self.replied(ticket, &Reply::Done);
                }
                self.process = None;
                self.removed();
            }
            Action::Amend(_) | Action::Note(_) | Action::Ended(_) => {}
            Action::Leave => {
                if process.writing.is_some() || process.call.is_some() {
                    self.broken("leave", "something is under way");
                } else if self.dice.permille(900) {
                    self.left();
                    self.process = None;
                }
            }
        }
    }

    /// The client of a request has gone: what was under way arrives, or not.
    fn hang_up(&mut self, call: Option<&UnderWay>) {
        let finishes = self.faults.finishes;
        self.wire.retain(|sent| finishes || call.is_none_or(|call| sent.call != call.id));
    }

    fn arrive(&mut self, request: Request) {
        let now = self.now;
        match request {
            Request::Prompt(text) => self.upstream.take(&text, now),
            Request::Answer => self.upstream.answer(now),
            Request::Interrupt => self.upstream.interrupt(now),
            Request::Close => self.upstream.end(now),
        }
    }

    /// The commit is durable, whether it is told or not.
    fn land(&mut self) {
        let forgets = self.faults.mutant == Some(Mutant::DiskForgets) && self.dice.permille(5);
        let Some(writing) = self.process.as_mut().and_then(|process| process.writing.as_mut()) else { return };
        if std::mem::replace(&mut writing.landed, true) {
            return;
        }
        let (commit, prompts) = (std::mem::take(&mut writing.commit), std::mem::take(&mut writing.prompts));
        let kept = writing.kept.clone();
        if !forgets {
            self.durable(commit, prompts, kept);
        }
    }

    /// Why a call cannot be made at all.
    fn barred(&mut self, guest: bool, upstream: bool) -> Option<Failure> {
        if guest && self.full.has(self.now) {
            return Some(failed(Cause::NoRoom));
        }
        if guest && self.now < self.quarantine {
            return Some(failed(Cause::Quarantined));
        }
        (upstream && self.credential.is_none()).then(|| failed(Cause::NoCredential))
    }

    /// A guest that breaks off.
    fn breaks(&mut self) -> bool {
        let breaks = std::mem::take(&mut self.faulty) || self.dice.permille(self.faults.fault);
        if breaks && self.dice.permille(200) {
            self.quarantine = self.now + Duration::from_mins(1);
        }
        breaks
    }

    fn begin(&mut self, call: Call) {
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
    fn ask(&mut self, id: u64, call: &Call) -> (Result<(), Failure>, Moment, Moment) {
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
        let (mut gets_there, mut heeded) = (true, true);
        if self.breaks() {
            fate = Err(failed(Cause::Fault));
            gets_there = self.dice.permille(500);
            ends = ends.min(quick.max(arrives));
        } else if self.dice.permille(share) {
            let failure = failure(&mut self.dice);
            // An answer that is lost, or that nobody understands; the upstream may be at it still.
            gets_there = failure.leaves_doubt() && self.dice.permille(400);
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
            self.wire.push(Sent { arrives, call: id, what });
        }
        (fate, arrives, ends)
    }

    fn call_ends(&mut self) {
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
                for (json, seq) in self.disk.log.iter().zip(1..) {
                    process.machine.recall(seq, json);
                }
                Ok(Done::Recalled)
            }
        };
        self.tell(Event::Done(done));
    }

    fn open_feed(&mut self, opened: Moment, place: usize, credential: Option<u64>) -> Opened {
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

    fn feed_brings(&mut self) {
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
    fn map(&mut self, frames: &Frames) -> Outcome {
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

    fn outcome(&mut self, events: Vec<Reported>, relisten: bool) -> Result<Done, Failure> {
        let json = |event: &Reported| match &event.body {
            Body::Json(json) => json.clone(),
            Body::Frame(_) => String::new(),
        };
        let state = self.guest_state(events.iter().map(json).collect());
        Ok(Done::Outcome { outcome: Outcome { state, events, relisten }, frames: Frames::none() })
    }

    /// A guest counts its calls, so that it is seen whether its state is that of the events in the log.
    fn guest_state(&mut self, reported: Vec<String>) -> Option<String> {
        let process = self.process.as_ref()?;
        let next = process.machine.guest().parse::<u64>().unwrap() + 1;
        self.checks.reported(next, reported);
        Some(next.to_string())
    }

    /// A page of what the upstream lists: 20 events from the end, or 50 from the beginning.
    fn page(&mut self, cursor: Option<&str>) -> Result<Page, Failure> {
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
