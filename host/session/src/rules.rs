//! What the machine promises, one test for each rule. `simulation` looks for what these do not think of.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use lap_model::contract::{Body, Effect, Ending, ErrorKind, Frames, Outcome, Reported};

use crate::{
    Action, Call, Cause, Done, Event, Failure, Kept, Machine, Moment, Now, Opened, Page, Phase, Prompt, QueueLimit,
    Refused, Reply, Segment, Start, State, Ticket, event, usage::Usage,
};

const SECOND: Duration = Duration::from_secs(1);

/// A session whose commits are durable at once, and whose log is read at once.
struct Play {
    machine: Machine,
    now: Moment,
    /// The call under way.
    call: Option<Call>,
    log: Vec<String>,
    segments: Vec<Segment>,
    replies: Vec<(u64, Reply)>,
    tickets: u64,
    /// True when the next piece of the feed may be read.
    reads: bool,
    /// How often the feed was closed.
    closed: u32,
    /// True when the driver may end.
    leaves: bool,
    /// True when changes cannot be made.
    unchangeable: bool,
}

/// What a process begins with that takes up a session.
fn start(kept: Kept, next_seq: u64) -> Start {
    Start {
        session: "ses_a".to_owned(),
        kept,
        next_seq,
        queue: Vec::new(),
        queue_limit: QueueLimit::default(),
        current: None,
        archived: false,
        named: true,
        credential: Some(1),
        fresh: false,
        seed: 7,
        secret: [7; 16],
    }
}

impl Play {
    fn new() -> Self {
        Self::of(State::NEW)
    }

    fn of(state: State) -> Self {
        let (guest, usage) = (String::new(), Usage::default());
        let kept = Kept { state, guest, usage, bytes: 0, version: 1, waiting: None };
        let machine = Machine::new(Start { fresh: true, ..start(kept, 1) }, 0);
        Self {
            machine,
            now: Moment::ZERO,
            call: None,
            log: Vec::new(),
            segments: Vec::new(),
            replies: Vec::new(),
            tickets: 0,
            reads: false,
            closed: 0,
            leaves: false,
            unchangeable: false,
        }
    }

    fn on(&mut self, event: Event) {
        self.leaves = false;
        let unix_ms = u64::try_from(self.now.as_millis()).unwrap();
        for action in self.machine.on(event, Now { at: self.now, unix_ms }) {
            match action {
                Action::Commit(commit) => {
                    self.log.extend(commit.draft.events().map(|(_, json)| json.to_owned()));
                    self.segments.extend(commit.segments);
                    self.on(Event::Committed);
                }
                Action::Call(call) => {
                    assert!(self.call.is_none(), "{call:?} while {:?}", self.call);
                    self.call = Some(call);
                }
                Action::Abandon => self.call = None,
                Action::Read => self.reads = true,
                Action::CloseFeed => self.closed += 1,
                Action::Leave => self.leaves = true,
                Action::Amend(_) => self.on(Event::Amended { made: !self.unchangeable }),
                Action::Reply(Ticket(ticket), reply) => self.replies.push((ticket, reply)),
                _ => {}
            }
        }
        // The log is at hand.
        if matches!(self.call, Some(Call::Recall)) {
            for segment in &self.segments {
                self.machine.recall_segment(segment);
            }
            let after = self.machine.recalls_after();
            for (json, seq) in self.log.iter().zip(1..).filter(|(_, seq)| *seq > after) {
                self.machine.recall(seq, json);
            }
            self.ends("recall", Ok(Done::Recalled));
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn prompt(&mut self, text: &str) -> Option<Reply> {
        let ticket = self.ticket();
        let json = format!(r#"{{"type":"user.message","content":[{{"type":"text","text":"{text}"}}]}}"#);
        self.on(Event::Prompt { ticket, prompt: Prompt { id: message_id(text), json } });
        self.answer(ticket)
    }

    fn interrupt(&mut self) -> Option<Reply> {
        let ticket = self.ticket();
        self.on(Event::Interrupt { ticket });
        self.answer(ticket)
    }

    fn answer(&self, ticket: Ticket) -> Option<Reply> {
        self.replies.iter().rfind(|(of, _)| *of == ticket.0).map(|(_, reply)| reply.clone())
    }

    /// The name of the call under way.
    fn calls(&self) -> &'static str {
        match &self.call {
            None => "nothing",
            Some(Call::Connect) => "connect",
            Some(Call::CatchUp(_)) => "catch-up",
            Some(Call::OnFrames(_)) => "on-frames",
            Some(Call::OnEnd(_)) => "on-end",
            Some(Call::SendPrompt(_)) => "send",
            Some(Call::SendInput(_)) => "input",
            Some(Call::SendInterrupt) => "interrupt",
            Some(Call::Close) => "close",
            Some(Call::Recall) => "recall",
        }
    }

    /// The call under way, which must be this one, ends so.
    fn ends(&mut self, call: &str, done: Result<Done, Failure>) {
        assert_eq!(self.calls(), call, "{:?}", self.state());
        self.call = None;
        self.on(Event::Done(done));
    }

    fn fails(&mut self, call: &str, kind: ErrorKind) {
        self.ends(call, Err(Failure::of(kind, format!("{kind:?}"))));
    }

    fn taken(&mut self, call: &str) {
        self.ends(call, Ok(outcome(Vec::new(), Frames::none())));
    }

    fn connected(&mut self) {
        self.ends("connect", Ok(Done::Connected(Opened::default())));
    }

    /// The same session in another process.
    fn restarted(self) -> Self {
        let mut later = Self::of(self.state());
        (later.log, later.segments) = (self.log, self.segments);
        later.machine.next_seq = later.log.len() as u64 + 1;
        later.machine.connection = crate::connection::Connection::new(false, 7);
        later
    }

    /// A feed behind the first, and an empty history before it.
    fn connected_again(&mut self) {
        self.connected();
        self.looked();
    }

    fn looked(&mut self) {
        self.ends("catch-up", Ok(Done::Page(Page { frames: Vec::new(), newest_first: true, next: None })));
    }

    /// The feed brings an event, which the guest reports with this effect.
    fn brings(&mut self, json: &str, effect: Effect) {
        self.on(Event::Frames(Frames::packed([("", json)].into_iter())));
        let Some(Call::OnFrames(frames)) = &self.call else { panic!("{}", self.calls()) };
        let done = outcome(vec![Reported { body: Body::Frame(0), effect }], frames.clone());
        self.ends("on-frames", Ok(done));
    }

    /// Time passes, and the machine is told when something is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.due().filter(|due| *due <= until) {
            assert!(due > self.now, "due in the past");
            self.now = due;
            self.on(Event::Time);
        }
        self.now = until;
    }

    /// A turn that runs.
    fn running() -> Self {
        let mut play = Self::new();
        play.prompt("go");
        play.connected();
        play.taken("send");
        play.brings(&status("a", "running"), Effect::Started);
        play
    }

    /// A prompt that may have arrived, of an upstream that asks to wait so long before another try.
    fn in_doubt_for(wait: Duration) -> Self {
        let mut play = Self::new();
        play.prompt("go");
        play.connected();
        play.ends("send", Err(Failure { retry_after: Some(wait), ..Failure::of(ErrorKind::Overloaded, "busy") }));
        play
    }

    fn state(&self) -> State {
        self.machine.kept().state
    }

    /// The types of the log's events, but for what says that a prompt waits.
    fn kinds(&self) -> Vec<String> {
        let waits = |json: &str| json.contains("user.message") && json.ends_with(r#""processed_at":null}"#);
        self.log.iter().filter(|json| !waits(json)).map(|json| event::head(json).unwrap().kind.into_owned()).collect()
    }

    fn last(&self) -> &str {
        self.log.last().map_or("", String::as_str)
    }
}

/// An id of a message that is made of its text.
fn message_id(text: &str) -> String {
    let hex: String = text.bytes().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{hex:0>32}")
}

fn outcome(events: Vec<Reported>, frames: Frames) -> Done {
    Done::Outcome { outcome: Outcome { state: None, events, relisten: false }, frames }
}

/// A prompt that the upstream has come to.
fn theirs(id: &str, text: &str) -> String {
    format!(
        r#"{{"type":"user.message","id":"{id}","content":[{{"type":"text","text":"{text}"}}],"processed_at":"2026-01-01T00:00:00Z"}}"#
    )
}

fn status(id: &str, status: &str) -> String {
    format!(r#"{{"type":"session.status_{status}","id":"{id}","processed_at":"2026-01-01T00:00:00Z"}}"#)
}

#[test]
fn a_prompt_stands_in_the_log_when_it_is_taken_and_once_more_when_the_upstream_came_to_it() {
    let mut play = Play::new();
    play.prompt("go");
    let (id, waits) = (message_id("go"), r#""processed_at":null}"#);
    assert!(play.log.len() == 1 && play.last().contains(&id) && play.last().ends_with(waits), "{}", play.last());
    play.connected();
    play.taken("send");
    let theirs = |at: &str| {
        format!(r#"{{"type":"user.message","id":"m","content":[{{"type":"text","text":"go"}}],"processed_at":{at}}}"#)
    };
    play.brings(&theirs("null"), Effect::None);
    assert_eq!(play.log.len(), 1, "{}", play.last());
    play.brings(&theirs(r#""2026-01-01T00:00:00Z""#), Effect::None);
    assert!(play.log.len() == 2 && play.last().contains(r#""upstream_id":"m""#), "{}", play.last());
    assert_eq!(event::head(play.last()).unwrap().id.as_deref(), Some(&*id));
    play.brings(&status("a", "idle"), Effect::Ended);
    assert_eq!(play.kinds(), ["user.message", "session.status_idle"]);
}

#[test]
fn of_a_runtime_that_shows_no_prompts_the_host_says_when_one_was_processed() {
    for end in [Effect::Ended, Effect::Failed, Effect::Waiting] {
        let mut play = Play::running();
        play.brings(&status("b", "idle"), end);
        assert_eq!(play.kinds(), ["session.status_running", "user.message", "session.status_idle"], "{end:?}");
        let told = event::head(&play.log[2]).unwrap();
        assert_eq!((told.id.as_deref(), told.is_processed()), (Some(&*message_id("go")), true), "{}", play.log[2]);
    }
}

#[test]
fn an_interrupt_follows_the_prompt_that_is_on_its_way() {
    let mut play = Play::new();
    assert_eq!(play.prompt("go"), Some(Reply::Taken(0)));
    play.connected();
    assert_eq!(play.interrupt(), Some(Reply::Done), "heard at once");
    assert_eq!(play.calls(), "send", "and not before its prompt");
    play.taken("send");
    play.taken("interrupt");
    assert_eq!(play.state().phase(), Phase::Taken);
    play.brings(&status("a", "idle"), Effect::Ended);
    assert!(play.state().settled());
}

#[test]
fn a_prompt_that_hangs_holds_an_interrupt_up_for_ten_seconds() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.interrupt();
    play.pass(10 * SECOND - Duration::from_millis(1));
    assert_eq!(play.calls(), "send");
    play.pass(Duration::from_millis(1));
    assert_eq!(play.calls(), "interrupt");
    play.taken("interrupt");
    // It turns out to have arrived: what was told before that has stopped nothing.
    play.looked();
    play.brings(
        r#"{"type":"user.message","id":"m","content":[{"type":"text","text":"go"}],"processed_at":null}"#,
        Effect::None,
    );
    play.taken("interrupt");
}

#[test]
fn an_interrupt_that_hangs_is_tried_again_and_there_is_a_word_about_it_and_an_end_after_a_minute() {
    let mut play = Play::running();
    play.interrupt();
    play.pass(10 * SECOND);
    assert!(play.last().contains("retrying"), "{}", play.last());
    while play.state().in_turn() {
        play.pass(SECOND);
    }
    assert_eq!(play.now, Duration::from_secs(60));
    let expected = ["session.error", "session.error", "user.message", "user.interrupt", "session.status_idle"];
    assert_eq!(play.kinds()[2..], expected);
    assert!(play.last().contains("retries_exhausted") && play.state().settled());
}

#[test]
fn an_upstream_that_refuses_an_interrupt_is_not_asked_for_ever_and_connects_go_on() {
    let mut play = Play::running();
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.interrupt();
    play.fails("interrupt", ErrorKind::Throttled);
    play.pass(Duration::from_millis(60));
    assert_eq!(play.calls(), "connect", "meanwhile it listens again");
    play.pass(SECOND);
    assert_eq!(play.calls(), "interrupt");
}

#[test]
fn a_prompt_that_is_interrupted_before_it_is_sent_is_withdrawn_and_the_wait_ends() {
    let mut play = Play::new();
    play.prompt("go");
    assert_eq!(play.interrupt(), Some(Reply::Done));
    assert_eq!(play.kinds(), ["user.interrupt", "user.message", "session.status_idle"]);
    assert!(play.log[2].contains(r#""withdrawn":{"reason":"interrupted","arrived":"no"}"#), "{}", play.log[2]);
    assert!(play.log[1].contains(r#""forwarded":false"#) && play.state().settled());
}

#[test]
fn an_answer_that_is_lost_leaves_a_prompt_in_doubt_until_three_looks_have_not_found_it() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    for wait in [1, 2] {
        assert!(play.state().in_doubt().is_some() && play.call.is_none());
        play.pass(wait * SECOND);
        play.looked();
    }
    assert_eq!(play.calls(), "send", "it has not arrived");
}

#[test]
fn after_a_feed_that_is_refused_for_good_the_next_prompt_is_sent_first_and_one_that_is_taken_heals_it() {
    let mut play = Play::new();
    play.prompt("one");
    play.fails("connect", ErrorKind::NotFound);
    assert_eq!(play.kinds(), ["session.error", "user.message", "session.status_idle"]);
    assert!(play.state().settled() && play.state().phase() == Phase::Failed);
    play.prompt("two");
    play.taken("send");
    play.connected_again();
    play.brings(&status("a", "idle"), Effect::Ended);
    assert!(play.state().settled() && !play.state().sends_first());
}

#[test]
fn a_look_that_is_refused_when_no_turn_runs_fails_none() {
    let mut play = Play::running();
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.pass(SECOND);
    play.connected_again();
    play.brings(&status("b", "idle"), Effect::Ended);
    play.pass(SECOND);
    play.fails("catch-up", ErrorKind::NotFound);
    assert_eq!(play.state().phase(), Phase::Idle);
    assert_eq!(play.kinds(), ["session.status_running", "user.message", "session.status_idle"]);
}

#[test]
fn a_credential_that_is_refused_is_waited_for_and_the_turn_goes_on_at_the_next_one() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Auth);
    let waiting = play.machine.kept().waiting.clone().unwrap();
    assert_eq!((waiting.reason.as_str(), play.state().is_cut()), ("Auth", true));
    assert_eq!(play.calls(), "nothing");
    play.on(Event::Credential(Some(2)));
    play.connected_again();
    play.taken("send");
    assert_eq!((play.machine.kept().waiting.clone(), play.state().phase()), (None, Phase::Taken));
}

#[test]
fn a_credential_that_stays_refused_ends_the_turn_after_a_quarter_of_an_hour() {
    let mut play = Play::new();
    play.prompt("go");
    while play.state().phase() != Phase::Failed {
        play.fails("connect", ErrorKind::Auth);
        play.pass(61 * SECOND);
    }
    assert!(play.now > Duration::from_mins(15) && play.now < Duration::from_mins(18), "{:?}", play.now);
    assert!(play.last().contains("retries_exhausted"));
}

#[test]
fn a_session_that_is_to_give_way_goes_once_it_is_at_rest_and_stays_for_another_prompt() {
    let mut play = Play::running();
    play.on(Event::GiveWay);
    assert!(!play.leaves, "a turn runs");
    play.brings(&status("b", "idle"), Effect::Ended);
    play.pass(SECOND);
    assert!(!play.leaves, "it was not at rest when it was told");
    play.on(Event::GiveWay);
    assert!(play.leaves);
    // The driver could not: a command had come.
    play.prompt("again");
    play.taken("send");
    play.brings(&status("c", "running"), Effect::Started);
    play.brings(&status("d", "idle"), Effect::Ended);
    play.pass(SECOND);
    assert!(!play.leaves && play.machine.due().is_some());
    play.pass(31 * SECOND);
    assert!(play.leaves);
}

#[test]
fn a_feed_that_was_opened_with_another_credential_is_closed() {
    let mut play = Play::running();
    let closed = play.closed;
    play.on(Event::Credential(None));
    assert_eq!(play.closed, closed + 1);
    play.ends("connect", Err(Failure { cause: Cause::NoCredential, message: "none".to_owned(), retry_after: None }));
    assert!(play.state().is_cut() && play.state().in_turn());
}

#[test]
fn a_removed_credential_that_a_new_guest_misses_lets_the_turn_wait() {
    let mut play = Play::running();
    play.on(Event::FeedEnded(Ending::Cut));
    play.ends("on-end", Err(Failure { cause: Cause::NoCredential, message: "none".to_owned(), retry_after: None }));
    assert!(play.state().is_cut() && play.state().in_turn());
}

#[test]
fn nothing_is_taken_by_a_session_that_is_being_deleted() {
    let mut play = Play::new();
    let ticket = play.ticket();
    play.on(Event::Delete { ticket, version: None });
    assert_eq!((play.calls(), play.prompt("go")), ("close", Some(Reply::Busy)));
    play.fails("close", ErrorKind::Upstream);
    assert!(matches!(play.answer(ticket), Some(Reply::Failed(_))));
    assert_eq!(play.prompt("go"), Some(Reply::Taken(0)), "it exists still");
}

#[test]
fn what_breaks_off_behind_a_turn_does_not_make_it_a_failed_one() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Ended);
    let told = play.log.len();
    play.on(Event::Frames(Frames::packed([("ping", "{}")].into_iter())));
    play.ends("on-frames", Err(Failure { cause: Cause::Fault, message: "trap".to_owned(), retry_after: None }));
    assert_eq!((play.state().phase(), play.log.len()), (Phase::Idle, told));
    play.prompt("again");
    assert_eq!(play.calls(), "connect");
}

#[test]
fn an_approval_that_was_not_sent_is_not_given_behind_an_interrupt() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Waiting);
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    let ticket = play.ticket();
    play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
    assert_eq!((play.calls(), play.answer(ticket)), ("nothing", None), "the feed was cut a moment ago");
    assert_eq!(play.interrupt(), Some(Reply::Done));
    assert_eq!(play.answer(ticket), Some(Reply::Withdrawn));
    while play.calls() != "interrupt" {
        match play.calls() {
            "connect" => play.connected(),
            "nothing" => play.pass(SECOND),
            _ => play.looked(),
        }
    }
}

#[test]
fn an_answer_that_may_have_arrived_is_looked_for_before_the_turn_waits_again() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Waiting);
    let ticket = play.ticket();
    play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
    play.fails("input", ErrorKind::Upstream);
    assert!(!play.state().settled(), "{:?}", play.state());
    assert_eq!(play.calls(), "catch-up");
    while !play.state().settled() {
        if play.calls() == "catch-up" {
            play.looked();
        }
        play.pass(SECOND);
    }
    assert_eq!(play.state().phase(), Phase::Waiting);
}

#[test]
fn a_session_that_is_gone_upstream_says_so_until_there_is_another_credential() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Gone);
    assert_eq!(play.prompt("again"), Some(Reply::Refused(Refused::Gone)));
    play.on(Event::Credential(Some(2)));
    assert_eq!(play.prompt("again"), Some(Reply::Taken(1)));
}

#[test]
fn a_prompt_that_names_what_is_missing_ends_its_turn_and_not_the_session() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::NotFound);
    assert!(play.state().in_doubt().is_some());
    play.looked();
    assert_eq!(play.kinds(), ["session.error", "user.message", "session.status_idle"]);
    assert_eq!(play.prompt("again"), Some(Reply::Taken(1)));
    play.connected_again();
    play.fails("send", ErrorKind::NotFound);
    play.fails("catch-up", ErrorKind::NotFound);
    assert_eq!(play.prompt("once more"), Some(Reply::Refused(Refused::Gone)));
}

#[test]
fn what_the_upstream_says_of_a_replaced_credential_says_nothing_of_the_new_one() {
    for kind in [ErrorKind::NotFound, ErrorKind::Auth, ErrorKind::BadRequest] {
        let mut play = Play::new();
        play.prompt("go");
        play.connected();
        play.on(Event::Credential(Some(2)));
        play.fails("send", kind);
        play.connected_again();
        play.taken("send");
        assert_eq!((play.state().phase(), play.state().is_cut()), (Phase::Taken, false), "{kind:?}");
        play.on(Event::Credential(Some(3)));
        assert_eq!(play.calls(), "connect");
        play.on(Event::Credential(Some(4)));
        play.fails("connect", kind);
        play.connected_again();
        assert!(play.state().in_turn() && !play.state().is_cut(), "{kind:?}");
        play.interrupt();
        play.on(Event::Credential(Some(5)));
        play.fails("interrupt", kind);
        assert_eq!(play.calls(), "interrupt", "{kind:?}");
    }
}

#[test]
fn a_missing_session_is_one_under_the_credential_that_is_stored_now() {
    let missing = || {
        let mut play = Play::new();
        play.prompt("go");
        play.connected();
        play.fails("send", ErrorKind::NotFound);
        assert_eq!(play.calls(), "catch-up");
        play
    };
    let mut replaced = missing();
    replaced.on(Event::Credential(Some(2)));
    replaced.fails("catch-up", ErrorKind::NotFound);
    replaced.connected_again();
    replaced.taken("send");
    assert_eq!(replaced.state().phase(), Phase::Taken);

    let mut throttled = missing();
    throttled.fails("catch-up", ErrorKind::Throttled);
    throttled.pass(10 * SECOND);
    throttled.connected();
    assert!(throttled.state().in_doubt().is_some(), "that says nothing of the session");
    throttled.looked();
    assert_eq!(throttled.kinds(), ["session.error", "user.message", "session.status_idle"]);
}

#[test]
fn an_answer_that_was_refused_under_a_replaced_credential_is_given_under_the_new_one() {
    for kind in [ErrorKind::Gone, ErrorKind::Auth] {
        let mut play = Play::running();
        play.brings(&status("b", "idle"), Effect::Waiting);
        let ticket = play.ticket();
        play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
        play.on(Event::Credential(Some(2)));
        play.fails("input", kind);
        while play.calls() != "input" {
            match play.calls() {
                "connect" => play.connected(),
                _ => play.looked(),
            }
        }
        play.taken("input");
        assert_eq!((play.answer(ticket), play.state().is_gone(Some(2))), (Some(Reply::Done), false), "{kind:?}");
    }
}

#[test]
fn the_beginning_of_a_turn_that_is_over_does_not_begin_it_in_another_process_either() {
    let at = |kind: &str, second: u32| {
        let json =
            format!(r#"{{"type":"session.status_{kind}","id":"{kind}","processed_at":"2026-01-01T00:00:0{second}Z"}}"#);
        json
    };
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.taken("send");
    play.brings(&at("idle", 2), Effect::Ended);
    assert!(play.state().settled());
    let mut later = play.restarted();
    for (json, seq) in later.log.clone().iter().zip(1..) {
        later.machine.recall(seq, json);
    }
    later.prompt("again");
    later.connected_again();
    later.taken("send");
    let before = later.state().phase();
    later.brings(&at("running", 1), Effect::Started);
    assert_eq!(later.state().phase(), before, "it is that of the turn before");
}

#[test]
fn a_session_that_is_missing_for_a_moment_goes_on_with_its_turn() {
    for stays in [false, true] {
        let mut play = Play::running();
        play.on(Event::FeedEnded(Ending::Cut));
        play.taken("on-end");
        play.pass(SECOND);
        play.fails("connect", ErrorKind::NotFound);
        assert!(play.state().in_turn() && play.state().is_cut());
        play.pass(10 * SECOND);
        if stays {
            play.fails("connect", ErrorKind::NotFound);
            assert!(!play.state().in_turn());
        } else {
            play.connected_again();
            assert!(play.state().in_turn() && !play.state().is_cut());
        }
    }
}

#[test]
fn a_prompt_that_was_refused_for_a_while_waits_as_long_in_another_process() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    let failure = Failure { retry_after: Some(600 * SECOND), ..Failure::of(ErrorKind::Throttled, "later") };
    play.ends("send", Err(failure));
    let kept = play.machine.kept().clone();
    assert!(kept.waiting.as_ref().unwrap().to_send && kept.state.in_doubt().is_none());
    let queue = play.machine.queue.iter().cloned().collect();
    let mut later = play.restarted();
    later.machine = Machine::new(Start { queue, ..start(kept, later.log.len() as u64 + 1) }, 2_000);
    later.on(Event::Time);
    later.connected_again();
    later.pass(500 * SECOND);
    assert!(later.calls() != "send" && later.machine.kept().waiting.is_some());
    later.pass(100 * SECOND);
    later.looked();
    assert_eq!(later.calls(), "send");
}

#[test]
fn a_prompt_that_is_to_be_sent_again_later_is_in_doubt_until_then() {
    let waiting = || {
        let mut play = Play::in_doubt_for(60 * SECOND);
        play.looked();
        for wait in [1, 2] {
            play.pass(wait * SECOND);
            play.looked();
        }
        play.pass(5 * SECOND);
        assert!(play.state().in_doubt().is_some() && play.state().is_cut() && play.call.is_none());
        play
    };
    let mut found = waiting();
    found.brings(&theirs("m", "go"), Effect::None);
    assert!(!found.state().is_cut() && found.machine.kept().waiting.is_none());
    found.brings(&status("a", "idle"), Effect::Ended);
    found.pass(120 * SECOND);
    assert!(found.state().settled() && found.calls() != "send", "{:?}", found.state());

    let mut stopped = waiting();
    stopped.interrupt();
    assert!(stopped.log.iter().any(|json| json.contains(r#""arrived":"unknown""#)), "{:?}", stopped.log);
    stopped.brings(&theirs("m", "go"), Effect::None);
    assert_eq!(stopped.calls(), "interrupt", "it has turned up, and nobody wants it");

    let mut lost = waiting();
    lost.pass(60 * SECOND);
    lost.looked();
    assert_eq!(lost.calls(), "send");
}

#[test]
fn another_process_waits_as_long_before_a_prompt_in_doubt_is_sent_again() {
    let play = Play::in_doubt_for(60 * SECOND);
    let (kept, json) = (play.machine.kept().clone(), play.machine.current.clone().unwrap().json);
    assert!(kept.waiting.as_ref().unwrap().next_try_ms >= 60_000);
    let mut later = play.restarted();
    later.machine = Machine::new(
        Start { current: Some(Prompt { id: message_id("go"), json }), ..start(kept, later.log.len() as u64 + 1) },
        2_000,
    );
    later.on(Event::Time);
    later.connected_again();
    for wait in [1, 2] {
        later.pass(wait * SECOND);
        later.looked();
    }
    later.pass(50 * SECOND);
    assert_eq!(later.calls(), "nothing");
    later.pass(10 * SECOND);
    later.looked();
    assert_eq!(later.calls(), "send");
}

#[test]
fn a_feed_that_is_cut_behind_a_turn_before_all_looks_were_made_is_opened_once_more() {
    let mut play = Play::running();
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.pass(SECOND);
    play.connected_again();
    play.brings(&status("b", "idle"), Effect::Ended);
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.pass(SECOND);
    play.connected_again();
    for wait in [1, 2] {
        play.pass(wait * SECOND);
        play.looked();
    }
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.pass(29 * SECOND);
    assert_eq!(play.calls(), "nothing");
}

#[test]
fn what_turns_up_of_a_withdrawn_prompt_is_not_taken_for_the_turn_of_the_next() {
    let mut play = Play::new();
    play.prompt("one");
    play.connected();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    for wait in [1, 2] {
        play.pass(wait * SECOND);
        if wait == 1 {
            play.interrupt();
        }
        play.looked();
    }
    play.prompt("two");
    play.taken("send");
    play.brings(&theirs("m", "one"), Effect::None);
    play.brings(&status("a", "running"), Effect::Started);
    play.brings(&status("b", "idle"), Effect::Ended);
    assert_eq!(play.state().phase(), Phase::Taken);
    play.brings(&theirs("n", "two"), Effect::None);
    play.brings(&status("c", "idle"), Effect::Ended);
    assert!(play.state().settled());
}

#[test]
fn an_answer_to_a_turn_that_was_given_up_goes_on_with_it() {
    use crate::state::Input;
    let mut state = State::NEW;
    let given_up = [Input::Prompt, Input::Send(0), Input::Taken, Input::Shown, Input::Begun, Input::Fail];
    for input in given_up.into_iter().chain([Input::Waits, Input::Answer, Input::Taken, Input::Started, Input::Ended]) {
        state = state.apply(input).unwrap();
    }
    assert!(state.phase() == Phase::Idle && state.settled(), "{state:?}");
}

#[test]
fn an_interrupt_that_ends_the_turn_that_waited_is_sent_once_more_when_that_of_the_prompt_behind_it_starts() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Waiting);
    play.prompt("behind");
    play.taken("send");
    play.brings(&theirs("m", "behind"), Effect::None);
    play.interrupt();
    play.prompt("after it");
    play.taken("interrupt");
    play.brings(&status("c", "idle"), Effect::Ended);
    assert!(play.state().phase() == Phase::Idle && play.call.is_none(), "{:?}", play.calls());
    play.brings(&status("d", "running"), Effect::Started);
    play.taken("interrupt");
    play.brings(&status("e", "idle"), Effect::Ended);
    assert_eq!(play.calls(), "send");
    play.taken("send");
    play.brings(&theirs("n", "after it"), Effect::None);
    assert!(play.state().stop() == crate::state::Stop::None && !play.state().is_haunted());
}

#[test]
fn an_answer_is_told_of_the_credential_that_it_cannot_go_with() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Waiting);
    play.on(Event::Credential(None));
    for (cause, version) in [(Cause::NoCredential, 3), (Cause::Declared(ErrorKind::Auth), 4)] {
        let ticket = play.ticket();
        play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
        let failure = Failure { cause, message: "not with this one".to_owned(), retry_after: None };
        play.ends("connect", Err(failure.clone()));
        assert_eq!(play.answer(ticket), Some(Reply::Failed(failure.clone())));
        let again = play.ticket();
        play.on(Event::Input { ticket: again, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
        assert_eq!(play.answer(again), Some(Reply::Failed(failure)));
        play.on(Event::Credential(Some(version)));
    }
    let ticket = play.ticket();
    play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
    play.connected_again();
    play.taken("input");
    assert_eq!(play.answer(ticket), Some(Reply::Done));
}

#[test]
fn a_change_that_cannot_be_made_any_more_is_told_of_to_nobody_else() {
    let mut play = Play::new();
    for (unchangeable, told) in [(true, 0), (false, 1)] {
        play.unchangeable = unchangeable;
        let (ticket, event) = (play.ticket(), Some(r#"{"type":"session.updated"}"#.to_owned()));
        play.on(Event::Amend { ticket, input: None, event, at_rest: false });
        assert_eq!((play.answer(ticket), play.kinds().len()), (Some(Reply::Done), told));
    }
}

#[test]
fn a_throttled_prompt_waits_and_says_why_and_until_when_whatever_its_feed_does() {
    let mut play = Play::running();
    play.brings(&status("b", "idle"), Effect::Ended);
    play.on(Event::FeedEnded(Ending::Cut));
    play.taken("on-end");
    play.pass(SECOND);
    play.prompt("two");
    play.connected_again();
    let asked = Some(Duration::from_secs(90));
    play.ends("send", Err(Failure { retry_after: asked, ..Failure::of(ErrorKind::Throttled, "slowly") }));
    let next_try_ms = u64::try_from(play.now.as_millis()).unwrap() + 90_000;
    play.pass(SECOND);
    play.looked();
    let waiting = play.machine.kept().waiting.clone().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.next_try_ms, play.state().is_cut()), ("slowly", next_try_ms, true));
    play.interrupt();
    assert!(play.machine.kept().waiting.is_none() && !play.state().is_cut() && play.state().settled());
}

#[test]
fn a_full_host_fails_no_turn() {
    let mut play = Play::new();
    play.prompt("go");
    for _ in 0..100 {
        play.ends("connect", Err(Failure { cause: Cause::NoRoom, message: "no room".to_owned(), retry_after: None }));
        play.pass(31 * SECOND);
    }
    play.connected_again();
    play.taken("send");
    assert!(play.state().in_turn() && play.kinds().is_empty());
}

#[test]
fn so_many_prompts_wait_and_so_many_bytes() {
    for limit in [QueueLimit::default(), QueueLimit { prompts: 2, bytes: 1000 }] {
        let full = |expected: usize, text: &str| {
            let mut play = Play::new();
            play.machine.queue_limit = limit;
            for number in 0..expected as u64 {
                assert_eq!(play.prompt(text), Some(Reply::Taken(number)));
            }
            assert_eq!(play.prompt("go"), Some(Reply::QueueFull), "{limit:?}");
        };
        full(limit.prompts, "go");
        // One may have any size.
        full(1, &"x".repeat(limit.bytes));
    }
}

#[test]
fn an_archived_session_takes_no_prompt() {
    let mut play = Play::new();
    play.machine.set_archived(true);
    assert_eq!(play.prompt("go"), Some(Reply::Refused(Refused::Archived)));
}

#[test]
fn a_quiet_turn_is_looked_for_after_three_minutes_and_given_up_after_an_hour() {
    let mut play = Play::running();
    play.pass(Duration::from_mins(3));
    play.looked();
    while play.state().in_turn() {
        play.pass(Duration::from_mins(1));
        if play.call.is_some() {
            play.looked();
        }
    }
    assert_eq!(play.now, Duration::from_mins(60));
    assert_eq!(play.kinds()[1..], ["session.error", "user.message", "session.status_idle"]);
}

#[test]
fn a_turn_that_was_given_up_and_may_go_on_upstream_can_be_stopped_there() {
    let mut play = Play::running();
    while play.state().in_turn() {
        play.pass(Duration::from_mins(1));
        if play.call.is_some() {
            play.looked();
        }
    }
    assert_eq!(play.interrupt(), Some(Reply::Done));
    while play.calls() != "interrupt" {
        match play.calls() {
            "connect" => play.connected(),
            _ => play.looked(),
        }
    }
    play.taken("interrupt");
    assert!(!play.state().settled(), "its end has not come");
    while play.calls() != "nothing" {
        match play.calls() {
            "connect" => play.connected(),
            _ => play.looked(),
        }
    }
    play.brings(&status("z", "idle"), Effect::Ended);
    assert!(play.state().settled());
    let again = play.log.len();
    assert_eq!(play.interrupt(), Some(Reply::Done));
    assert_eq!(play.log.len(), again, "there is nothing to stop any more");
}

#[test]
fn a_feed_that_says_nothing_at_full_speed_is_given_up_after_half_a_minute_and_one_that_brings_an_event_is_not() {
    for brings in [false, true] {
        let mut play = Play::running();
        let began = play.now;
        while play.calls() == "nothing" && play.now < Duration::from_mins(3) {
            if std::mem::take(&mut play.reads) {
                play.on(Event::Frames(Frames::none()));
            }
            play.pass(Duration::from_millis(10));
            if brings && play.now.subsec_millis() == 0 && play.now.as_secs().is_multiple_of(10) {
                play.brings(&format!(r#"{{"type":"agent.message","id":"m{:?}"}}"#, play.now), Effect::None);
            }
        }
        match brings {
            true => assert_eq!(play.calls(), "nothing"),
            false => {
                assert_eq!(play.calls(), "on-end");
                assert!((30..40).contains(&(play.now - began).as_secs()), "{:?}", play.now);
            }
        }
    }
}

#[test]
fn a_guest_that_asks_for_its_feed_again_and_again_is_stopped_with_a_sentence() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.taken("send");
    let mut feeds = 0_u32;
    while play.state().in_turn() {
        if play.calls() == "nothing" {
            play.on(Event::Frames(Frames::packed([("ping", "{}")].into_iter())));
            let relisten = Outcome { state: None, events: Vec::new(), relisten: true };
            play.ends("on-frames", Ok(Done::Outcome { outcome: relisten, frames: Frames::none() }));
            feeds += 1;
            play.pass(31 * SECOND);
        } else if play.calls() == "catch-up" {
            play.looked();
        } else {
            play.connected();
        }
    }
    assert_eq!(feeds, crate::machine::RELISTENS_MAX + 1);
    assert!(play.log[1].contains("asked for its feed"), "{}", play.log[1]);
}

#[test]
fn three_feeds_in_a_row_that_are_none_end_the_turn_and_two_do_not() {
    let mut play = Play::running();
    for odd in 1..=3 {
        play.on(Event::FeedEnded(Ending::Clean));
        play.taken("on-end");
        assert!(play.state().in_turn(), "after {} of them", odd - 1);
        play.pass(31 * SECOND);
        play.ends("connect", Ok(Done::Connected(Opened { odd: Some("it is text/html".to_owned()) })));
        play.looked();
    }
    play.on(Event::FeedEnded(Ending::Clean));
    assert_eq!(play.state().phase(), Phase::Failed);
    assert!(play.log[2].contains("it is text/html"), "{}", play.log[2]);
}

#[test]
fn nothing_behind_a_batch_at_which_the_guest_broke_off_is_mapped() {
    let mut play = Play::running();
    let message = |id: &str| format!(r#"{{"type":"agent.message","id":"{id}","processed_at":"2026-01-01T00:00:00Z"}}"#);
    for id in ["b", "c"] {
        play.on(Event::Frames(Frames::packed([("", message(id).as_str())].into_iter())));
    }
    play.ends("on-frames", Err(Failure { cause: Cause::Fault, message: "trap".to_owned(), retry_after: None }));
    assert_eq!((play.state().phase(), play.calls()), (Phase::Failed, "nothing"));
    play.pass(SECOND);
    assert_eq!(play.calls(), "nothing", "it is fetched again at the next turn");
}

#[test]
fn a_killed_session_tells_its_end_last_and_takes_no_more() {
    let mut play = Play::running();
    let ticket = play.ticket();
    play.on(Event::Kill { ticket });
    assert_eq!(play.answer(ticket), Some(Reply::Done), "heard at once");
    assert_eq!(play.prompt("go"), Some(Reply::Refused(Refused::Terminated)));
    play.ends("close", Ok(Done::Closed));
    play.fails("catch-up", ErrorKind::NotFound);
    assert!(matches!(play.answer(ticket), Some(Reply::Over(end)) if end.verified));
    assert_eq!((play.kinds().last().unwrap().as_str(), play.state().phase()), (event::TERMINATED, Phase::Terminated));
}

#[test]
fn whoever_waits_for_a_session_that_is_removed_is_answered() {
    let mut play = Play::running();
    let (delete, kill) = (play.ticket(), play.ticket());
    play.on(Event::Delete { ticket: delete, version: None });
    play.on(Event::Kill { ticket: kill });
    assert_eq!(play.prompt("late"), Some(Reply::Refused(Refused::Terminated)));
    play.ends("close", Ok(Done::Closed));
    assert!(matches!(play.answer(kill), Some(Reply::Over(end)) if !end.verified));
}

#[test]
fn an_input_that_answers_nothing_says_nothing_of_the_prompt_in_doubt() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    let ticket = play.ticket();
    play.on(Event::Input { ticket, json: r#"{"type":"user.tool_confirmation"}"#.to_owned() });
    play.taken("input");
    assert_eq!((play.answer(ticket), play.state().phase()), (Some(Reply::Done), Phase::Sent));
}

#[test]
fn a_withdrawn_prompt_is_no_sign_that_another_one_with_its_text_has_arrived() {
    let sent = [crate::state::Input::Prompt, crate::state::Input::Send(0)];
    let state = sent.into_iter().fold(State::NEW, |state, input| state.apply(input).unwrap());
    let mut play = Play::of(state);
    let json = r#"{"type":"user.message","content":[{"type":"text","text":"go"}]}"#;
    play.machine.current = Some(Prompt { id: message_id("b"), json: json.to_owned() });
    play.machine.sought = crate::ingest::Sought::new(&message_id("b"), json);
    play.machine
        .recall(1, &event::withdrawn(json, &message_id("a"), None, event::Reason::Interrupted, event::Arrived::No));
    assert_eq!(play.state().phase(), Phase::Sent);
    play.machine.recall(2, &json.replace("\"content\"", "\"id\":\"m\",\"content\""));
    assert_eq!(play.state().phase(), Phase::Taken);
}

#[test]
fn the_end_of_a_turn_is_no_sign_that_a_prompt_in_doubt_has_arrived() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    // What an upstream says of where the session stands, whenever a stream opens.
    play.brings(&status("a", "idle"), Effect::Ended);
    assert_eq!((play.state().phase(), play.kinds()), (Phase::Sent, vec!["session.status_idle".to_owned()]));
    for _ in 0..2 {
        play.pass(2 * SECOND);
        play.looked();
    }
    play.pass(31 * SECOND);
    play.taken("send");
    play.brings(&status("b", "running"), Effect::Started);
    play.brings(&status("c", "idle"), Effect::Ended);
    assert!(play.state().settled() && play.kinds().len() == 4, "{:?}", play.kinds());
}

#[test]
fn there_is_nothing_to_stop_of_a_prompt_that_was_refused() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::BadRequest);
    let before = play.log.len();
    assert_eq!((play.interrupt(), play.calls(), play.log.len()), (Some(Reply::Done), "nothing", before));
    play.prompt("more");
    play.connected_again();
    play.taken("send");
}

#[test]
fn a_prompt_says_what_it_waits_for_also_when_another_one_waited_for_it_before() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.fails("send", ErrorKind::Throttled);
    assert!(play.state().is_cut() && play.machine.kept().waiting.is_some());
    play.interrupt();
    assert!(play.state().settled() && play.machine.kept().waiting.is_none());
    play.prompt("more");
    let waiting = play.machine.kept().waiting.clone();
    assert!(play.state().is_cut() && waiting.is_some_and(|waiting| waiting.reason.contains("Throttled")));
}

#[test]
fn an_interrupt_waits_until_it_is_known_whether_its_prompt_has_arrived() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.interrupt();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    for _ in 0..2 {
        play.pass(2 * SECOND);
        play.looked();
    }
    assert_eq!(play.kinds(), ["user.interrupt", "user.interrupt", "user.message", "session.status_idle"]);
    assert_eq!(play.calls(), "nothing", "there is nothing to stop");
}

#[test]
fn a_withdrawn_prompt_that_arrives_is_stopped_over_a_restart_too() {
    let mut play = Play::new();
    play.prompt("go");
    play.connected();
    play.interrupt();
    play.fails("send", ErrorKind::Upstream);
    play.looked();
    for _ in 0..2 {
        play.pass(2 * SECOND);
        play.looked();
    }
    let theirs = r#"{"type":"user.message","id":"m","content":[{"type":"text","text":"go"}],"processed_at":"2026-01-01T00:00:00Z"}"#;
    let mut later = play.restarted();
    later.prompt("more");
    later.connected();
    let page = Page {
        frames: vec![lap_model::contract::Frame { name: String::new(), data: theirs.to_owned() }],
        newest_first: true,
        next: None,
    };
    later.ends("catch-up", Ok(Done::Page(page)));
    let Some(Call::OnFrames(frames)) = &later.call else { panic!("{}", later.calls()) };
    let frames = frames.clone();
    later.ends("on-frames", Ok(outcome(vec![Reported { body: Body::Frame(0), effect: Effect::None }], frames)));
    assert_eq!(later.calls(), "interrupt", "before the next prompt is sent");
    assert_eq!(event::head(later.last()).unwrap().id.as_deref(), Some(&*message_id("go")));
}

#[test]
fn an_end_that_is_no_event_fails_the_turn_that_waits_for_it() {
    let mut play = Play::running();
    play.brings(r#"{"type":"session.status_idle","type":"session.status_idle","id":"b"}"#, Effect::Ended);
    assert_eq!(play.state().phase(), Phase::Failed);
    let mut play = Play::running();
    play.brings(r#"{"type":"session.status_idle","id":5,"processed_at":"2026-01-01T00:00:00Z"}"#, Effect::Ended);
    assert_eq!(play.state().phase(), Phase::Idle, "what is no text is no id");
    assert_eq!(event::head(play.last()).unwrap().id.as_deref(), Some("evt_a_4"), "{}", play.last());
}

const LATE_INTERRUPT: [&str; 2] = [
    r#"{"type":"user.interrupt","id":"x","processed_at":null}"#,
    r#"{"type":"user.interrupt","id":"x","processed_at":"2026-01-01T00:00:00Z"}"#,
];

/// The events of wishes to stop a turn: their ids, whether they were processed, and what the upstream calls them.
fn interrupts(log: &[String]) -> Vec<(String, bool, Option<String>)> {
    let of = |line: &String| {
        let head = event::head(line).unwrap();
        let id = head.id.clone().unwrap_or_default().into_owned();
        (head.kind == event::INTERRUPT).then(|| (id, head.is_processed(), event::upstream_id(line)))
    };
    log.iter().filter_map(of).collect()
}

#[test]
fn an_interrupt_that_comes_behind_the_end_of_its_turn_stays_one_and_has_an_end() {
    for over_restart in [false, true] {
        let mut play = Play::running();
        play.interrupt();
        play.taken("interrupt");
        play.brings(&status("b", "idle"), Effect::Ended);
        assert_eq!(
            play.kinds().last().unwrap(),
            event::IDLE,
            "the end of the interrupt stands before that of the turn"
        );
        let id = interrupts(&play.log)[0].0.clone();
        let expected = vec![(id.clone(), false, None), (id.clone(), true, None)];
        assert_eq!(interrupts(&play.log), expected);
        let mut play = if over_restart {
            let mut later = play.restarted();
            later.prompt("more");
            later.connected_again();
            later.taken("send");
            later
        } else {
            play
        };
        LATE_INTERRUPT.iter().for_each(|event| play.brings(event, Effect::None));
        let theirs = (id, true, Some("x".to_owned()));
        assert_eq!(interrupts(&play.log), [&expected[..], &[theirs]].concat(), "over a restart: {over_restart}");
    }
}

#[test]
fn an_interrupt_that_is_lost_on_its_way_says_so_when_its_turn_is_over() {
    let mut play = Play::running();
    play.interrupt();
    play.fails("interrupt", ErrorKind::Upstream);
    play.brings(&status("b", "idle"), Effect::Ended);
    let last = play.log.iter().rfind(|line| line.contains("user.interrupt")).unwrap();
    assert!(last.contains(r#""forwarded":"unknown""#) && last.contains(r#""processed_at":null"#), "{last}");
    assert_eq!(interrupts(&play.log).len(), 2);
}

/// A turn that was to be stopped when the process ended, in another process that has yet to say so upstream.
fn stopping_over_a_restart() -> (Play, String) {
    let mut play = Play::running();
    play.interrupt();
    let id = interrupts(&play.log)[0].0.clone();
    let mut later = play.restarted();
    later.on(Event::Time);
    (later, id)
}

#[test]
fn a_wish_to_stop_of_an_earlier_process_is_known_before_the_upstream_s_word_of_it_comes() {
    let (mut play, id) = stopping_over_a_restart();
    let theirs = r#"{"type":"user.interrupt","id":"x","processed_at":"2026-01-01T00:00:00Z"}"#;
    let body = |json: &str| Body::Json(json.to_owned());
    let told = vec![
        Reported { body: body(theirs), effect: Effect::None },
        Reported { body: body(&status("b", "idle")), effect: Effect::Ended },
    ];
    play.ends("interrupt", Ok(outcome(told, Frames::none())));
    assert_eq!(interrupts(&play.log), [(id.clone(), false, None), (id, true, Some("x".to_owned()))]);
    assert_eq!(play.state().phase(), Phase::Idle);

    let (mut play, id) = stopping_over_a_restart();
    play.fails("interrupt", ErrorKind::Conflict);
    let last = play.log.iter().rfind(|line| line.contains("user.interrupt")).unwrap();
    assert!(last.contains(&id) && last.contains(r#""forwarded":false"#), "{last}");

    let mut play = Play::running();
    play.interrupt();
    let mut later = play.restarted();
    let ticket = later.ticket();
    later.on(Event::Kill { ticket });
    later.ends("close", Ok(Done::Closed));
    let words = interrupts(&later.log);
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words.iter().all(|(id, ..)| *id == words[0].0), "{words:?}");
}

#[test]
fn an_upstream_that_says_once_that_it_has_no_session_to_stop_is_asked_once_more() {
    let mut play = Play::running();
    play.interrupt();
    play.fails("interrupt", ErrorKind::NotFound);
    assert!(play.state().in_turn());
    play.pass(5 * SECOND);
    play.taken("interrupt");
    play.looked();
    play.brings(&status("b", "idle"), Effect::Ended);
    assert!(play.state().settled() && !play.state().is_gone(Some(1)));

    let mut play = Play::running();
    play.interrupt();
    play.fails("interrupt", ErrorKind::NotFound);
    play.pass(5 * SECOND);
    play.fails("interrupt", ErrorKind::NotFound);
    assert!(play.state().settled() && play.state().is_gone(Some(1)));
}

#[test]
fn the_end_of_a_turn_that_was_given_up_is_no_end_of_the_next_and_the_next_end_is() {
    let mut play = Play::running();
    play.interrupt();
    play.taken("interrupt");
    for _ in 0..3 {
        play.pass(31 * SECOND);
        if play.calls() == "catch-up" {
            play.looked();
        }
    }
    assert!(play.state().settled(), "it was given up: {:?}", play.state());
    play.prompt("more");
    play.connected_again();
    play.taken("send");
    // The upstream shows prompts, and this one in words of its own.
    play.brings(r#"{"type":"user.message","id":"m","content":[{"type":"text","text":"go"}],"processed_at":"2026-01-01T00:00:00Z"}"#, Effect::None);
    play.brings(&status("b", "idle"), Effect::Ended);
    assert!(play.state().in_turn(), "that was the end of the turn before");
    play.brings(&status("c", "running"), Effect::Started);
    play.brings(&status("d", "idle"), Effect::Ended);
    assert!(play.state().settled(), "{:?} {:?}", play.state(), play.kinds());
}
