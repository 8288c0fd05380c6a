//! What is new in what a guest reported, and what it does to the turn: a pure function, of the log as far as it is known.

use super::{
    event::{self, Head, OwnIds},
    seen::Seen,
    state::{Input, State},
    usage::Usage,
};
use crate::{
    clock,
    events::Draft,
    runtime::{self, Effect},
};

/// What a session's intake knows beside its state.
pub(super) struct Intake {
    pub(super) seen: Seen,
    /// The ids that the host gives.
    pub(super) ids: OwnIds,
    /// When the upstream ended a turn last, in microseconds since the epoch.
    ended_us: Option<i64>,
}

/// The prompt of which it is not known whether it has arrived.
pub(super) struct Sought {
    kind: String,
    /// What a message says.
    text: Option<String>,
}

impl Sought {
    /// A message with this content.
    pub(super) fn message(content: &str) -> Self {
        let text = event::message_text(&format!("{{\"content\":{content}}}")).unwrap_or_default();
        Self { kind: "user.message".to_owned(), text: Some(text) }
    }

    /// An input as it was sent; nothing for one that is no prompt.
    pub(super) fn new(input: &runtime::Input) -> Option<Self> {
        match input {
            runtime::Input::Message(content) => Some(Self::message(content)),
            runtime::Input::Other(json) => {
                let kind = event::check(json).ok()?.kind.into_owned();
                Some(Self { kind, text: None })
            }
            runtime::Input::Interrupt => None,
        }
    }

    /// True when the event is the upstream's echo of the prompt, and not of an earlier one with the same text.
    fn is(&self, head: &Head<'_>, json: &str, seen: &Seen) -> bool {
        head.kind == self.kind
            && !seen.contains_counterpart(head)
            && self.text.as_ref().is_none_or(|text| event::message_text(json).is_some_and(|said| said == *text))
    }
}

/// What is to be stored.
pub(super) struct Taken {
    pub(super) draft: Draft,
    pub(super) state: State,
    /// What the session has used after this, where it is not what it was.
    pub(super) usage: Option<Usage>,
}

impl Intake {
    pub(super) fn new(ids: OwnIds) -> Self {
        Self { seen: Seen::default(), ids, ended_us: None }
    }

    /// Takes what a guest reported: each event that the log does not have, with its effect. `next_seq` is the place of
    /// the first.
    pub(super) fn take<'a>(
        &mut self,
        state: State,
        usage: &Usage,
        next_seq: u64,
        sought: Option<&Sought>,
        events: impl Iterator<Item = (&'a str, Effect)>,
    ) -> Taken {
        let mut taken = Taken { draft: Draft::default(), state, usage: None };
        let now_ms = clock::unix_ms();
        for (json, effect) in events {
            let head = match event::check(json) {
                Ok(head) => head,
                Err(error) => {
                    tracing::warn!(%error, "something that is no event is left out");
                    continue;
                }
            };
            if head.id.as_deref().is_some_and(|id| self.ids.has(id)) {
                tracing::warn!("an event under an id of the host's own is left out");
                continue;
            }
            let echo = sought.is_some_and(|sought| sought.is(&head, json, &self.seen));
            // An event that the log has has no effect either.
            if !self.seen.insert(&head, json) {
                continue;
            }
            if echo {
                taken.decide(Input::Taken);
            }
            let mut line = event::on_one_line(json);
            if !head.timed {
                line = event::with_time(&line, &clock::rfc3339_of(now_ms)).into();
            }
            if head.id.is_none() {
                let seq = next_seq + taken.draft.len() as u64;
                let id = if head.timed { self.ids.id(seq) } else { self.ids.timed_id(seq) };
                line = event::with_id(&line, &id).into();
            }
            taken.draft.push(&head.kind, &line);
            taken.count(usage, &head, json, now_ms);
            if let Some(input) = self.input_of(effect, &head) {
                taken.decide(input);
            }
        }
        taken
    }

    /// Notes an event of the log, which comes in order from the first. True when it is the echo that is looked for.
    pub(super) fn recall(&mut self, json: &str, sought: Option<&Sought>) -> bool {
        let Ok(head) = event::check(json) else { return false };
        let echo = sought.is_some_and(|sought| sought.is(&head, json, &self.seen));
        self.seen.recall(&head, json, &self.ids);
        echo
    }

    fn input_of(&mut self, effect: Effect, head: &Head<'_>) -> Option<Input> {
        let at_us = || head.processed_at.and_then(|at| clock::parse_us(at.trim_matches('"')));
        Some(match effect {
            Effect::None => return None,
            // News that were overtaken by the end of their turn: an upstream's history may be out of order.
            Effect::Started if self.ended_us > at_us() && at_us().is_some() => return None,
            Effect::Started => Input::Started,
            Effect::Rescheduled => Input::Rescheduled,
            Effect::Waiting | Effect::Ended | Effect::Failed => {
                self.ended_us = self.ended_us.max(at_us());
                match effect {
                    Effect::Waiting => Input::Waits,
                    Effect::Ended => Input::Ended,
                    _ => Input::Failed,
                }
            }
            Effect::Terminated => Input::Terminated,
        })
    }
}

impl Taken {
    fn count(&mut self, before: &Usage, head: &Head<'_>, json: &str, now_ms: u64) {
        if !matches!(&*head.kind, "span.model_request_end" | "session.usage")
            && !head.kind.starts_with("session.status_")
        {
            return;
        }
        let mut usage = self.usage.clone().unwrap_or_else(|| before.clone());
        let now_us = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        if usage.add(head, json, now_us) {
            self.usage = Some(usage);
        }
    }

    fn decide(&mut self, input: Input) {
        // Only a prompt can be refused.
        self.state = self.state.apply(input).unwrap_or(self.state);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{id::SessionId, session::state::Phase};

    fn intake() -> Intake {
        Intake::new(OwnIds::of(SessionId::fresh()))
    }

    fn sent() -> State {
        State::NEW.apply(Input::Prompt).unwrap().apply(Input::Send(0)).unwrap()
    }

    fn message(id: &str, text: &str, at: &str) -> String {
        format!(
            r#"{{"type":"user.message","id":"{id}","content":[{{"type":"text","text":"{text}"}}],"processed_at":{at}}}"#
        )
    }

    fn status(id: &str, at: &str) -> String {
        format!(r#"{{"type":"session.status","id":"{id}","processed_at":"2026-11-23T10:00:{at}Z"}}"#)
    }

    fn phase(intake: &mut Intake, state: State, events: &[(&str, Effect)], sought: &Sought) -> Phase {
        intake.take(state, &Usage::default(), 1, Some(sought), events.iter().copied()).state.phase()
    }

    #[test]
    fn a_prompt_has_arrived_when_the_upstream_shows_it() {
        let sought = Sought::message(r#"[{"type":"text","text":"go on"}]"#);
        for (event, expected) in [
            (message("b", "go on", "null"), Phase::Taken),
            (message("b", " go on\\n", "\"2026-11-23T10:00:00Z\""), Phase::Taken),
            (message("b", "go away", "null"), Phase::Sent),
            (r#"{"type":"agent.message","id":"b","content":[{"type":"text","text":"go on"}]}"#.to_owned(), Phase::Sent),
        ] {
            assert_eq!(phase(&mut intake(), sent(), &[(&event, Effect::None)], &sought), expected, "{event}");
        }
    }

    #[test]
    fn an_earlier_prompt_with_the_same_text_is_another_one() {
        let (sought, mut intake) = (Sought::message(r#"[{"type":"text","text":"go on"}]"#), intake());
        assert!(!intake.recall(&message("a", "go on", "null"), None));
        let late = message("a", "go on", "\"2026-11-23T10:00:00Z\"");
        assert_eq!(phase(&mut intake, sent(), &[(&late, Effect::None)], &sought), Phase::Sent);
        let ours = message("b", "go on", "null");
        assert!(intake.recall(&ours, Some(&sought)));
    }

    #[test]
    fn the_end_of_a_turn_is_not_undone_by_late_news_of_its_beginning() {
        let sought = Sought::message("[]");
        let (started, ended, next) = (status("a", "01.5"), status("b", "02"), status("c", "02.000001"));
        let late = [(&*ended, Effect::Ended), (&*started, Effect::Started)];
        let mut intake = intake();
        assert_eq!(phase(&mut intake, sent(), &late, &sought), Phase::Idle);
        assert_eq!(phase(&mut intake, sent(), &[(&next, Effect::Started)], &sought), Phase::Running);
        let untimed = r#"{"type":"session.status","id":"d"}"#;
        assert_eq!(phase(&mut intake, sent(), &[(untimed, Effect::Started)], &sought), Phase::Running);
    }

    #[test]
    fn an_event_under_an_id_of_the_host_s_own_is_left_out() {
        let session = SessionId::fresh();
        let mut intake = Intake::new(OwnIds::of(session));
        let forged = status(&OwnIds::of(session).timed_id(7), "01");
        let others = status(&OwnIds::of(SessionId::fresh()).id(7), "02");
        let events = [(&*forged, Effect::Ended), (&*others, Effect::None)];
        let taken = intake.take(sent(), &Usage::default(), 1, None, events.into_iter());
        assert_eq!((taken.draft.len(), taken.state.phase()), (1, Phase::Sent));
    }

    #[test]
    fn a_repeated_event_is_neither_stored_nor_heeded() {
        let mut intake = intake();
        let end = status("a", "01");
        let twice = [(&*end, Effect::Ended), (&*end, Effect::Ended)];
        let taken = intake.take(sent(), &Usage::default(), 1, None, twice.into_iter());
        assert_eq!((taken.draft.len(), taken.state.phase()), (1, Phase::Idle));
        let again = intake.take(sent(), &Usage::default(), 2, None, twice.into_iter());
        assert_eq!((again.draft.len(), again.state.phase()), (0, Phase::Sent));
    }
}
