//! What is wrong with a try, told from what was seen of it: no I/O, so it is tried on made-up tries itself.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::{follower::Seen, plan::Stops};

/// In which time a command is answered, at the latest.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A prompt that was sent to the host.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub text: String,
    pub acknowledged: bool,
    /// The number of the last event that the follower had seen when it was sent.
    pub after: u64,
    /// It came before what stops the turn, which concerns it too.
    pub stopped: bool,
}

/// All that is known of a try.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub stops: Stops,
    pub prompts: Vec<Prompt>,
    pub seen: Seen,
    /// The log afterwards, from its first event; none where the session is gone.
    pub log: Option<Vec<Value>>,
    /// The status of each message afterwards, by its text; none where it has none.
    pub messages: Vec<(String, Option<String>)>,
    /// The session's status afterwards; none where it is gone.
    pub status: Option<String>,
    /// It came to rest in time, as the host says.
    pub rested: bool,
    /// What the upstream said and was told.
    pub upstream: Vec<Value>,
    /// Which of it was there once the command could have had its effect.
    pub upstream_then: Vec<Value>,
    /// The upstream still has the session.
    pub upstream_has_it: bool,
    /// How long the command took, where it has to be answered in time.
    pub took: Option<Duration>,
    /// What the answer of the command showed as processed.
    pub claimed: Vec<Value>,
    /// An answer that no command should get.
    pub refused: Option<String>,
    /// The session answered one more prompt; none where it is over.
    pub goes_on: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// An acknowledged prompt is neither in the log nor is its message withdrawn.
    Lost,
    /// It is withdrawn, and the log does not say so.
    Untold,
    /// The log shows it as one that waits, though nothing waits any more.
    LeftQueued,
    /// It is shown as withdrawn, though nothing that was asked for withdraws it.
    Dropped,
    /// It is shown as withdrawn, and the upstream has worked on it.
    Mistold,
    /// Whoever followed it has seen nothing that ends the wait.
    NoEnd,
    /// The session did not come to rest.
    Unrest,
    /// The turn came to its natural end upstream, though it was stopped.
    RanOn,
    /// The upstream has it still, or the log does not say that it has not.
    LeftUpstream,
    /// Something is told as processed that never reached the upstream.
    MadeUp,
    /// A prompt reached the upstream twice.
    Doubled,
    /// What the follower saw is not what the list has.
    Torn,
    /// The command was answered late.
    Late,
    /// A command got an answer that it should not.
    Refused,
    /// The next prompt was not answered.
    Dead,
}

impl Wrong {
    pub const ALL: [Self; 15] = [
        Self::Lost,
        Self::Untold,
        Self::LeftQueued,
        Self::Dropped,
        Self::Mistold,
        Self::NoEnd,
        Self::Unrest,
        Self::RanOn,
        Self::LeftUpstream,
        Self::MadeUp,
        Self::Doubled,
        Self::Torn,
        Self::Late,
        Self::Refused,
        Self::Dead,
    ];
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What the script's turns say last.
pub fn natural_end(prompt: &str) -> String {
    format!("the end of {prompt}")
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap_or_default()
}

fn text(event: &Value) -> &str {
    event["content"][0]["text"].as_str().unwrap_or_default()
}

fn is_prompt(event: &Value, prompt: &str) -> bool {
    kind(event) == "user.message" && text(event) == prompt
}

fn is_processed(event: &Value) -> bool {
    event["processed_at"].is_string()
}

/// What ends the wait of a client that follows; the host's own `session.error` is followed by one of these.
fn is_end(event: &Value) -> bool {
    matches!(kind(event), "session.status_idle" | "session.status_terminated" | "session.deleted")
}

fn natural_end_at(upstream: &[Value], prompt: &str) -> Option<usize> {
    let end = natural_end(prompt);
    upstream.iter().position(|event| kind(event) == "agent.message" && text(event) == end)
}

impl Evidence {
    /// Everything that is wrong, each once.
    pub fn wrong(&self) -> Vec<Wrong> {
        let of_prompts = self.prompts.iter().flat_map(|prompt| self.of_prompt(prompt));
        let mut wrong: Vec<_> = of_prompts.chain(self.of_session()).collect();
        wrong.sort();
        wrong.dedup();
        wrong
    }

    fn of_prompt(&self, prompt: &Prompt) -> Vec<Wrong> {
        let asked = self.upstream.iter().filter(|event| is_prompt(event, &prompt.text)).count();
        let mut wrong = Vec::new();
        if asked > 1 {
            wrong.push(Wrong::Doubled);
        }
        if prompt.acknowledged && !self.saw_end_of(prompt) {
            wrong.push(Wrong::NoEnd);
        }
        if prompt.stopped && self.ran_on(prompt) {
            wrong.push(Wrong::RanOn);
        }
        if let Some(log) = &self.log {
            wrong.extend(self.of_told(prompt, log, asked > 0));
        }
        wrong
    }

    /// True when the turn came to its natural end behind an interrupt, or so long after the command that none can have come.
    /// A turn whose end is a moment behind the command may have been too fast for it.
    fn ran_on(&self, prompt: &Prompt) -> bool {
        let Some(end) = natural_end_at(&self.upstream, &prompt.text) else { return false };
        let interrupted = self.upstream[..end].iter().any(|event| kind(event) == "user.interrupt");
        interrupted || natural_end_at(&self.upstream_then, &prompt.text).is_none()
    }

    /// What the log makes of a prompt.
    fn of_told(&self, prompt: &Prompt, log: &[Value], arrived: bool) -> Option<Wrong> {
        let told: Vec<_> = log.iter().filter(|event| is_prompt(event, &prompt.text)).collect();
        let withdrawn = told.iter().any(|event| event["withdrawn"]["reason"].is_string() && !is_processed(event));
        let worked_on = self.upstream.iter().any(|event| is_prompt(event, &prompt.text) && is_processed(event));
        if told.iter().any(|event| is_processed(event)) {
            return (!arrived).then_some(Wrong::MadeUp);
        }
        let may_be_withdrawn = prompt.stopped || !prompt.acknowledged;
        match (withdrawn, told.is_empty()) {
            (true, _) if !may_be_withdrawn => Some(Wrong::Dropped),
            // Whether a session that is killed had begun with it nobody can know.
            (true, _) => (worked_on && self.stops == Stops::Turn).then_some(Wrong::Mistold),
            _ if !prompt.acknowledged => None,
            (false, false) => Some(Wrong::LeftQueued),
            (false, true) => {
                let status =
                    self.messages.iter().find(|(text, _)| *text == prompt.text).and_then(|(_, status)| status.as_ref());
                Some(if status.is_some_and(|status| status == "withdrawn") { Wrong::Untold } else { Wrong::Lost })
            }
        }
    }

    /// True when the follower saw an end behind the last that it saw of the prompt, or behind its sending where it saw
    /// nothing of it.
    fn saw_end_of(&self, prompt: &Prompt) -> bool {
        let later: Vec<_> = self.seen.events.iter().filter(|(number, _)| *number > prompt.after).collect();
        let from = later.iter().rposition(|(_, event)| is_prompt(event, &prompt.text)).unwrap_or(0);
        let gone = self.seen.gone && self.stops == Stops::Everything;
        gone || later[from.min(later.len())..].iter().any(|(_, event)| is_end(event))
    }

    fn of_session(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut note = |is: bool, what| wrong.extend(is.then_some(what));
        let moving = matches!(self.status.as_deref(), Some("running" | "rescheduling"));
        note(!self.rested || moving, Wrong::Unrest);
        note(self.upstream_has_it && matches!(self.stops, Stops::Session | Stops::Everything), Wrong::LeftUpstream);
        let verified =
            |event: &Value| kind(event) == "session.status_terminated" && event["upstream"]["verified"] == true;
        let last = self.log.iter().flatten().last();
        note(self.stops == Stops::Session && !last.is_some_and(verified), Wrong::LeftUpstream);
        note(self.is_torn(), Wrong::Torn);
        note(self.took.is_some_and(|took| took > ANSWER_MAX), Wrong::Late);
        note(self.refused.is_some(), Wrong::Refused);
        note(self.goes_on == Some(false), Wrong::Dead);
        let reached = |claim: &Value| {
            let alike = |event: &&Value| kind(event) == kind(claim) && text(event) == text(claim);
            self.upstream.iter().any(|event| alike(&event))
        };
        note(self.claimed.iter().any(|claim| is_processed(claim) && !reached(claim)), Wrong::MadeUp);
        wrong
    }

    fn is_torn(&self) -> bool {
        let events = &self.seen.events;
        let numbered = events.iter().filter(|(_, event)| kind(event) != "session.deleted");
        let gap = events.windows(2).any(|pair| pair[1].0 != pair[0].0 + 1 && kind(&pair[1].1) != "session.deleted");
        let Some(log) = &self.log else { return gap };
        let listed = |number: u64| usize::try_from(number).ok().and_then(|number| log.get(number.checked_sub(1)?));
        let whole = events.last().is_none_or(|(last, _)| *last == log.len() as u64);
        gap || !whole || numbered.into_iter().any(|(number, event)| listed(*number) != Some(event))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(kind: &str, text: &str) -> Value {
        json!({"type": kind, "content": [{"type": "text", "text": text}], "processed_at": "2026-01-01T00:00:00Z"})
    }

    fn event(kind: &str) -> Value {
        json!({"type": kind, "processed_at": "2026-01-01T00:00:00Z"})
    }

    fn withdrawn(text: &str) -> Value {
        let content = json!([{"type": "text", "text": text}]);
        json!({"type": "user.message", "content": content, "processed_at": null, "withdrawn": {"reason": "interrupted"}})
    }

    fn prompt(text: &str, stopped: bool) -> Prompt {
        Prompt { text: text.to_owned(), acknowledged: true, after: 0, stopped }
    }

    /// A try of which this is the log, and everything else fits.
    fn fitting(stops: Stops, prompts: Vec<Prompt>, log: Vec<Value>) -> Evidence {
        let numbered = (1..).zip(log.clone()).collect();
        let upstream: Vec<_> = log.iter().filter(|event| is_processed(event)).cloned().collect();
        let status_of = |prompt: &Prompt| (prompt.text.clone(), None);
        Evidence {
            stops,
            messages: prompts.iter().map(status_of).collect(),
            prompts,
            seen: Seen { events: numbered, gone: false },
            log: Some(log),
            status: Some("idle".to_owned()),
            rested: true,
            upstream_then: Vec::new(),
            upstream,
            upstream_has_it: stops == Stops::Turn || stops == Stops::Nothing,
            took: Some(Duration::from_millis(5)),
            claimed: Vec::new(),
            refused: None,
            goes_on: Some(true),
        }
    }

    fn answered() -> Evidence {
        let end = natural_end("a");
        let log = vec![said("user.message", "a"), said("agent.message", &end), event("session.status_idle")];
        fitting(Stops::Nothing, vec![prompt("a", false)], log)
    }

    fn interrupted() -> Evidence {
        let log = vec![
            said("user.message", "a"),
            event("session.status_running"),
            event("user.interrupt"),
            withdrawn("b"),
            event("session.status_idle"),
        ];
        fitting(Stops::Turn, vec![prompt("a", true), prompt("b", true)], log)
    }

    fn killed() -> Evidence {
        let over = json!({"type": "session.status_terminated", "upstream": {"verified": true}});
        let log = vec![withdrawn("a"), over];
        Evidence {
            status: Some("terminated".to_owned()),
            goes_on: None,
            ..fitting(Stops::Session, vec![prompt("a", true)], log)
        }
    }

    fn deleted() -> Evidence {
        let seen = Seen { events: vec![(1, said("user.message", "a"))], gone: true };
        let whole = fitting(Stops::Everything, vec![prompt("a", true)], Vec::new());
        Evidence { seen, log: None, status: None, messages: Vec::new(), goes_on: None, ..whole }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_complained_of() {
        for evidence in [answered(), interrupted(), killed(), deleted()] {
            assert_eq!(evidence.wrong(), [], "{evidence:#?}");
        }
    }

    /// The same log for the list and for the follower.
    fn logged(mut evidence: Evidence, log: Vec<Value>) -> Evidence {
        evidence.seen.events = (1..).zip(log.clone()).collect();
        evidence.log = Some(log);
        evidence
    }

    #[test]
    fn each_thing_that_is_wrong_is_noticed() {
        use Wrong::{
            Dead, Doubled, Dropped, Late, LeftQueued, LeftUpstream, Lost, MadeUp, Mistold, NoEnd, RanOn, Refused, Torn,
            Unrest, Untold,
        };
        let (idle, running) = (event("session.status_idle"), event("session.status_running"));
        let bare = |text: &str| {
            let mut event = withdrawn(text);
            event.as_object_mut().unwrap().remove("withdrawn");
            event
        };
        let withdrawn_message = vec![("a".to_owned(), Some("withdrawn".to_owned()))];
        let stopped = |log: Vec<Value>| {
            let upstream = Vec::new();
            Evidence { upstream, ..fitting(Stops::Turn, vec![prompt("a", true)], log) }
        };
        let mut late = answered();
        late.took = Some(ANSWER_MAX + Duration::from_millis(1));
        let mut twice = answered();
        twice.upstream.push(said("user.message", "a"));
        let said_unknown = json!({"type": "session.status_terminated", "upstream": {"verified": false}});
        let told = fitting(Stops::Session, vec![prompt("a", true)], vec![withdrawn("a"), said_unknown]);
        let unverified = Evidence { seen: told.seen, log: told.log, ..killed() };
        let mut ran_on = interrupted();
        ran_on.upstream.push(said("agent.message", &natural_end("a")));
        ran_on.upstream_then.clone_from(&ran_on.upstream);
        let mut never_stopped = interrupted();
        never_stopped.upstream.insert(1, said("agent.message", &natural_end("a")));
        let mut claims = interrupted();
        claims.claimed = vec![said("user.message", "never sent")];
        let mut gap = answered();
        gap.seen.events.remove(1);
        let mut other = answered();
        other.seen.events[1].1 = said("agent.message", "other");
        let mut short = answered();
        short.log.as_mut().unwrap().push(event("session.updated"));
        let mut worked_on = interrupted();
        worked_on.upstream.push(said("user.message", "b"));
        let mut unended = deleted();
        unended.seen.gone = false;
        for (evidence, wrong) in [
            (stopped(vec![]), vec![Lost, NoEnd]),
            (Evidence { messages: withdrawn_message, ..stopped(vec![idle.clone()]) }, vec![Untold]),
            (stopped(vec![bare("a"), idle.clone()]), vec![LeftQueued]),
            (stopped(vec![idle.clone(), withdrawn("a")]), vec![NoEnd]),
            (stopped(vec![withdrawn("a"), event("session.error")]), vec![NoEnd]),
            (stopped(vec![said("user.message", "a"), idle.clone()]), vec![MadeUp]),
            (logged(answered(), vec![withdrawn("a"), idle.clone()]), vec![Dropped]),
            (logged(answered(), vec![said("user.message", "a"), running]), vec![NoEnd]),
            (worked_on, vec![Mistold]),
            (unended, vec![NoEnd]),
            (Evidence { rested: false, ..answered() }, vec![Unrest]),
            (Evidence { status: Some("running".to_owned()), ..answered() }, vec![Unrest]),
            (Evidence { status: Some("rescheduling".to_owned()), ..answered() }, vec![Unrest]),
            (ran_on, vec![RanOn]),
            (never_stopped, vec![RanOn]),
            (Evidence { upstream_has_it: true, ..killed() }, vec![LeftUpstream]),
            (unverified, vec![LeftUpstream]),
            (claims, vec![MadeUp]),
            (twice, vec![Doubled]),
            (gap, vec![Torn]),
            (other, vec![Torn]),
            (short, vec![Torn]),
            (late, vec![Late]),
            (Evidence { refused: Some("502".to_owned()), ..answered() }, vec![Refused]),
            (Evidence { goes_on: Some(false), ..answered() }, vec![Dead]),
        ] {
            assert_eq!(evidence.wrong(), wrong, "{evidence:#?}");
        }
    }

    #[test]
    fn a_turn_that_ended_about_when_the_stop_came_did_not_run_on() {
        let mut evidence = interrupted();
        let end = said("agent.message", &natural_end("a"));
        evidence.upstream.insert(1, end.clone());
        evidence.upstream_then.push(end);
        assert_eq!(evidence.wrong(), []);
    }

    #[test]
    fn a_prompt_that_was_not_acknowledged_may_be_anywhere() {
        for log in [vec![], vec![withdrawn("a"), event("session.status_idle")]] {
            let unanswered = Prompt { acknowledged: false, ..prompt("a", false) };
            assert_eq!(fitting(Stops::Nothing, vec![unanswered], log).wrong(), []);
        }
    }
}
