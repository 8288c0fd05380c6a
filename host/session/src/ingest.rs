//! What is new in what a guest reported: each event that the log does not have, as the log will have it.

use std::{borrow::Cow, collections::VecDeque};

use icu_normalizer::ComposingNormalizerBorrowed;
use lap_model::{
    contract::Effect,
    time::{parse_us, rfc3339_of},
};

use crate::{
    dedup::{Fingerprint, Secret, Seen},
    event::{self, Arrived, Forwarded, Head, Invalid, OwnIds},
    index::{Index, Segment},
    interface::QueueLimit,
    state::Input,
};

/// Wishes to stop a turn that is over now, of which the upstream's own event has not come yet. What it shows of older ones is
/// taken for events of its own.
const LATE_INTERRUPTS_MAX: usize = 8;

/// Wishes to stop one turn that stand in the log. More say nothing new.
const INTERRUPTS_MAX: usize = 64;

/// Prompts that the session waits for no more, and that the upstream may show still. What it shows of older ones is taken for
/// events of its own.
const LATE_MAX: usize = 8;

/// The same while the log is recalled: those that wait here still are among them until it is known which those are.
const RECALLED_MAX: usize = LATE_MAX + QueueLimit::PROMPTS_MOST + 1;

/// What is known of a session's events beside its state.
pub struct Ingest {
    /// Which events the log has.
    pub seen: Seen,
    /// The ids that the host gives.
    pub ids: OwnIds,
    /// What is stored of which events the log has.
    pub(crate) index: Index,
    /// When the upstream ended a turn last, in microseconds since the epoch.
    ended_us: Option<i64>,
    /// Wishes to stop a turn whose own event the upstream has yet to show.
    interrupts: VecDeque<Wish>,
    /// What the upstream calls the latest of those that it has shown, and what the host does.
    shown: Option<(String, String)>,
    /// Prompts that were withdrawn, or whose turn is over, before the upstream has shown that it came to them.
    late: VecDeque<Sought>,
}

/// A client's wish to stop a turn, as far as the upstream has not shown that it came to it.
struct Wish {
    /// Its id in the log.
    id: String,
    /// The upstream's id of it, once that is known.
    theirs: Option<String>,
    forwarded: Forwarded,
    /// True once the log says what became of it. What the upstream shows later follows under the same id.
    told: bool,
}

/// What a client's event says, as far as the upstream shows it again.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    /// The text of a message, and what stands in it beside text: an upstream may write its content in another way. The text is
    /// in its [`spelling`].
    Message(String, Vec<serde_json::Value>),
    /// All that another event says.
    Members(serde_json::Map<String, serde_json::Value>),
}

impl Said {
    fn of(kind: &str, json: &str) -> Self {
        match kind {
            "user.message" => {
                Self::Message(spelling(&event::message_text(json).unwrap_or_default()), event::attachments(json))
            }
            _ => Self::Members(serde_json::from_str(json).unwrap_or_default()),
        }
    }

    fn is_in(&self, json: &str) -> bool {
        match self {
            Self::Message(text, attachments) => {
                let shown = event::attachments(json);
                event::message_text(json).is_some_and(|said| spelling(&said) == *text)
                    && attachments.len() == shown.len()
                    && attachments.iter().zip(&shown).all(|(sent, shown)| agrees(sent, shown))
            }
            Self::Members(members) => serde_json::from_str(json).is_ok_and(|event: serde_json::Value| {
                members.iter().all(|(name, value)| value.is_null() || event[name] == *value)
            }),
        }
    }
}

/// A text as it is compared: upstreams compose characters, and write line ends and blanks, in their own way.
fn spelling(text: &str) -> String {
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// True when nothing in what is shown contradicts what was sent. An upstream may leave out the bytes of an image.
fn agrees(sent: &serde_json::Value, shown: &serde_json::Value) -> bool {
    match (sent, shown) {
        (serde_json::Value::Object(sent), serde_json::Value::Object(shown)) => {
            sent.iter().all(|(name, sent)| shown.get(name).is_none_or(|shown| agrees(sent, shown)))
        }
        _ => sent == shown || shown.is_null(),
    }
}

/// A prompt that the log has as one that waits, and whose event the upstream has yet to show.
#[derive(Debug, Clone)]
pub struct Sought {
    /// Its id in the log.
    id: String,
    kind: String,
    said: Said,
    /// The upstream's id of it, once it has shown it; empty where it has none.
    theirs: Option<String>,
    /// True when it was withdrawn: what arrives of it is stopped.
    withdrawn: bool,
}

impl Sought {
    /// `json` is the event of a client's, which is a JSON object with a `type`, and `id` what the log calls it.
    #[must_use]
    pub fn new(id: &str, json: &str) -> Option<Self> {
        let kind = event::head(json).ok()?.kind.into_owned();
        let said = Said::of(&kind, json);
        Some(Self { id: id.to_owned(), kind, said, theirs: None, withdrawn: false })
    }

    /// Its id in the log.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The upstream's id of it, once it has shown it; empty where it has none.
    #[must_use]
    pub fn shown_as(&self) -> Option<&str> {
        self.theirs.as_deref()
    }

    /// It was withdrawn, and may arrive still.
    #[must_use]
    pub fn withdrawn(self) -> Self {
        Self { withdrawn: true, ..self }
    }

    /// True when the event is the upstream's echo of the prompt, and not of an earlier one with the same text.
    fn is(&self, head: &Head<'_>, json: &str, seen: &Seen) -> bool {
        head.kind == self.kind
            && !seen.contains_counterpart(head)
            && !seen.contains(head, json)
            && self.said.is_in(json)
    }

    /// True for an event under the id that the upstream has shown it by.
    fn is_named_by(&self, head: &Head<'_>) -> bool {
        head.id.is_some() && self.theirs.as_deref() == head.id.as_deref()
    }

    /// What an event says of it.
    fn echo(&self, head: &Head<'_>, json: &str, seen: &Seen) -> Echo {
        // One that says nothing of a time says nothing of waiting either.
        let begun = head.is_processed() || !head.timed;
        let is_theirs = |theirs: &str| match head.id.as_deref() {
            Some(id) => id == theirs,
            None => theirs.is_empty() && head.kind == self.kind && self.said.is_in(json),
        };
        match (&self.theirs, begun) {
            (Some(theirs), true) if is_theirs(theirs) => Echo::Begun,
            // The history shows again what the feed has shown.
            (Some(theirs), false) if is_theirs(theirs) => Echo::Arrived,
            (None, true) if self.is(head, json, seen) => Echo::ArrivedAndBegun,
            (None, false) if self.is(head, json, seen) => Echo::Arrived,
            _ => Echo::None,
        }
    }

    /// Notes what the upstream calls it.
    fn shown(&mut self, head: &Head<'_>) {
        self.theirs.get_or_insert_with(|| head.id.as_deref().unwrap_or_default().to_owned());
    }

    /// The upstream's event of it, as the log will have it.
    fn line(&self, json: &str) -> String {
        event::of_own(json, self.theirs.as_deref().filter(|theirs| !theirs.is_empty()), &self.id)
    }
}

/// What an event says of the prompt that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Nothing.
    None,
    /// It has arrived.
    Arrived,
    /// It has arrived, and the upstream has come to it.
    ArrivedAndBegun,
    /// The upstream has come to it.
    Begun,
    /// Another one that was withdrawn has arrived after all.
    Stray {
        /// The upstream has come to that.
        begun: bool,
    },
}

/// A prompt in an event of the upstream's.
struct Recognised {
    echo: Echo,
    /// As the log has it, where it is to stand in it.
    line: Option<String>,
    /// True when that shows the end of the prompt that is looked for.
    closes: bool,
}

/// An event to be stored.
pub struct New<'a> {
    /// Its head, as the upstream gave it.
    pub head: Head<'a>,
    /// Its type in the log.
    pub kind: Cow<'a, str>,
    /// As the log will have it, on one line, with an id and a time.
    pub line: Cow<'a, str>,
    /// What it does to the turn.
    pub input: Option<Input>,
    /// What it says of the prompt that is looked for.
    pub echo: Echo,
    /// Why a placeholder stands for it.
    pub omitted: Option<Invalid>,
    /// True when it shows the end of the prompt that is looked for.
    pub closes: bool,
    /// What tells it from others.
    pub fingerprint: Fingerprint,
}

/// Why something that a guest reported is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// The log has it.
    Known,
    /// It is a client's, and says no more than the log does; of the prompt that is looked for it says this.
    Shown(Echo),
    /// It is no event, for this reason.
    Invalid(Invalid),
    /// It has an id of the host's own.
    OwnId,
}

impl Ingest {
    /// For a session with these ids; `events` is how many the log has, where none of them is the upstream's.
    #[must_use]
    pub fn new(ids: OwnIds, secret: Secret, events: Option<u64>) -> Self {
        Self {
            seen: Seen::new(secret),
            ids,
            index: Index::new(events),
            ended_us: None,
            interrupts: VecDeque::new(),
            shown: None,
            late: VecDeque::new(),
        }
    }

    /// Looks at an event that a guest reported, which would have this place in the log.
    ///
    /// # Errors
    /// When it is not to be stored.
    pub fn admit<'a>(
        &mut self,
        json: &'a str,
        effect: Effect,
        sought: Option<&mut Sought>,
        seq: u64,
        now_ms: u64,
    ) -> Result<New<'a>, Skipped> {
        let head = event::head(json).map_err(Skipped::Invalid)?;
        if head.id.as_deref().is_some_and(|id| self.ids.has(id)) {
            return Err(Skipped::OwnId);
        }
        let recognised = self.recognise(&head, json, sought);
        // An event that the log has has no effect either.
        let Some(fingerprint) = self.seen.insert(&head, json) else { return Err(Skipped::Known) };
        let input = self.input_of(effect, &head);
        if let Err(invalid) = event::storable(json) {
            let line = event::omitted(&self.ids.timed_id(seq), &rfc3339_of(now_ms), &head, json.len(), invalid);
            let (kind, line, echo) = (event::OMITTED.into(), line.into(), recognised.map_or(Echo::None, |of| of.echo));
            return Ok(New { head, kind, line, input, echo, omitted: Some(invalid), closes: false, fingerprint });
        }
        let interrupt = || if head.kind == event::INTERRUPT { self.of_interrupt(&head, json) } else { None };
        let Recognised { echo, line: own, closes } = match recognised.map_or_else(interrupt, Some) {
            // It says no more than the log does, and does nothing.
            Some(Recognised { echo, line: None, .. }) if input.is_none() => return Err(Skipped::Shown(echo)),
            Some(recognised) => recognised,
            None => Recognised { echo: Echo::None, line: None, closes: false },
        };
        let is_own = own.is_some();
        let mut line = own.map_or_else(|| event::on_one_line(json), Cow::Owned);
        if !head.timed {
            line = event::with_time(&line, &rfc3339_of(now_ms)).into();
        }
        let id = || if head.timed { self.ids.id(seq) } else { self.ids.timed_id(seq) };
        if head.id.is_none() && event::head(&line).is_ok_and(|head| head.id.is_none()) {
            line = event::with_id(&line, &id()).into();
        } else if let Some(theirs) = head.message_id().filter(|_| !is_own) {
            line = event::of_own(&line, Some(theirs), &id()).into();
        }
        Ok(New { kind: head.kind.clone(), head, line, input, echo, omitted: None, closes, fingerprint })
    }

    /// Looks whether an event is the upstream's of a prompt: of the one that is looked for, or of one that may come late. What
    /// the upstream has named before is known by that; the rest by what it says.
    fn recognise(&mut self, head: &Head<'_>, json: &str, sought: Option<&mut Sought>) -> Option<Recognised> {
        let named = self.late.iter().position(|late| late.is_named_by(head));
        if let Some(sought) = sought.filter(|sought| named.is_none() || sought.is_named_by(head)) {
            let echo = sought.echo(head, json, &self.seen);
            if echo != Echo::None {
                sought.shown(head);
                let begun = echo != Echo::Arrived;
                return Some(Recognised { echo, line: begun.then(|| sought.line(json)), closes: begun });
            }
        }
        let is_shown = |late: &Sought| late.echo(head, json, &self.seen) != Echo::None;
        let place = named.or_else(|| self.late.iter().position(is_shown))?;
        let begun = self.late[place].echo(head, json, &self.seen) != Echo::Arrived;
        self.late[place].shown(head);
        let late = if begun { self.late.remove(place)? } else { self.late[place].clone() };
        let echo = if late.withdrawn { Echo::Stray { begun } } else { Echo::None };
        Some(Recognised { echo, line: begun.then(|| late.line(json)), closes: false })
    }

    /// A client's wish to stop the turn stands in the log under this id, and the upstream will show one of its own.
    pub fn interrupts(&mut self, id: String) {
        // The log may be recalled while a wish comes into it.
        if self.interrupts.iter().any(|wish| wish.id == id) {
            return;
        }
        self.interrupts.push_back(Wish { id, theirs: None, forwarded: Forwarded::No, told: false });
        self.bound_interrupts();
    }

    /// Those of which the log shows an end are late; the others are bounded where they are made.
    fn bound_interrupts(&mut self) {
        let mut late = self.interrupts.iter().filter(|wish| wish.told).count();
        self.interrupts.retain(|wish| {
            let goes = wish.told && late > LATE_INTERRUPTS_MAX;
            late -= usize::from(goes);
            !goes
        });
    }

    /// True when so many wishes to stop the turn stand in the log that another one says nothing new.
    pub(crate) fn has_interrupts_enough(&self) -> bool {
        self.interrupts.iter().filter(|wish| !wish.told).count() >= INTERRUPTS_MAX
    }

    /// Of all that the log has no end of yet, this is known.
    pub(crate) fn interrupts_sent(&mut self, forwarded: Forwarded) {
        self.interrupts.iter_mut().filter(|wish| !wish.told).for_each(|wish| wish.forwarded = forwarded);
    }

    /// The wishes of which the log shows no end, and whether they were given to the upstream. Nothing that has a turn ended
    /// waits for them any more.
    pub(crate) fn end_interrupts(&mut self) -> Vec<(String, Forwarded)> {
        let open = self.interrupts.iter_mut().filter(|wish| !wish.told);
        let ended = open.map(|wish| {
            wish.told = true;
            (wish.id.clone(), wish.forwarded)
        });
        let ended = ended.collect();
        self.interrupts.retain(|wish| wish.forwarded != Forwarded::No);
        self.bound_interrupts();
        ended
    }

    /// The upstream's event of a wish to stop the turn, under the id that the wish has in the log. Nothing where no such
    /// wish is there.
    fn of_interrupt(&mut self, head: &Head<'_>, json: &str) -> Option<Recognised> {
        let theirs = head.id.as_deref();
        let known = self.shown.as_ref().filter(|(id, _)| Some(id.as_str()) == theirs).map(|(_, own)| own.clone());
        let wishes = &self.interrupts;
        let unnamed = |told| wishes.iter().position(|wish| wish.theirs.is_none() && wish.told == told);
        let place = match wishes.iter().position(|wish| wish.theirs.is_some() && wish.theirs.as_deref() == theirs) {
            // One that a turn waits for comes before one that is late.
            None if known.is_none() => unnamed(false).or_else(|| unnamed(true)),
            place => place,
        };
        let own = place.map(|place| wishes[place].id.clone()).or(known)?;
        let line = event::of_interrupt(json, theirs, &own)?;
        // That it waits there is what the log says already; one that says nothing of a time does not wait.
        let is_over = head.is_processed() || !head.timed;
        match place {
            Some(place) if is_over => drop(self.interrupts.remove(place)),
            Some(place) => self.interrupts[place].theirs = theirs.map(str::to_owned),
            None => {}
        }
        self.shown = theirs.map(|theirs| (theirs.to_owned(), own));
        let line = is_over.then_some(line);
        Some(Recognised { echo: Echo::None, line, closes: false })
    }

    /// Nobody waits for a turn to be stopped, and the log, which is an old one, does not say what became of some wishes.
    pub fn forget_interrupts(&mut self) {
        self.interrupts.retain(|wish| wish.told);
    }

    /// The session waits for this prompt no more, and the upstream may show it still.
    pub fn later(&mut self, prompt: Sought) {
        if self.late.iter().any(|known| known.id == prompt.id) {
            return;
        }
        self.late.push_back(prompt);
        self.bound_late(LATE_MAX);
    }

    fn bound_late(&mut self, most: usize) {
        self.late.drain(..self.late.len().saturating_sub(most));
    }

    /// Notes an event of the log, which comes in order, and says what it tells of the prompt that is looked for.
    pub fn recall(&mut self, seq: u64, json: &str, sought: Option<&mut Sought>) -> Echo {
        let Ok(head) = event::head(json) else {
            self.index.recalled(seq, None);
            return Echo::None;
        };
        let echo = match head.message_id() {
            Some(id) => self.recall_own(id, &head, json, sought),
            // A log of before prompts stood in it at once has the upstream's event of one that waits.
            None => sought.map_or(Echo::None, |sought| {
                let echo = sought.echo(&head, json, &self.seen);
                if echo != Echo::None {
                    sought.shown(&head);
                }
                if let (Echo::Arrived, Some(id)) = (echo, &head.id) {
                    sought.id = id.clone().into_owned();
                }
                echo
            }),
        };
        if head.kind == event::INTERRUPT
            && let Some(id) = head.id.as_deref().filter(|id| self.ids.has(id))
        {
            let is_told = head.is_processed() || event::is_perhaps_forwarded(json);
            if event::is_the_upstream_s(json) || !event::is_forwarded(json) {
                self.interrupts.retain(|wish| wish.id != id);
            } else if !head.is_processed() {
                // The host's word that it was processed follows this one; an upstream's event without an id does not.
                self.interrupts(id.to_owned());
            }
            if let Some(wish) = self.interrupts.iter_mut().find(|wish| wish.id == id) {
                // Whether it was sent before a restart nobody knows.
                wish.forwarded = if wish.forwarded == Forwarded::No { Forwarded::Unknown } else { wish.forwarded };
                wish.told |= is_told;
            }
            self.bound_interrupts();
        }
        if head.kind == event::IDLE && !head.id.as_deref().is_some_and(|id| self.ids.has(id)) {
            self.ended_us = self.ended_us.max(processed_us(&head));
        }
        let fingerprint = self.seen.recall(&head, json, &self.ids);
        self.index.recalled(seq, fingerprint);
        echo
    }

    /// Notes an event that has the id of a message. What the log shows no end of is looked for, too.
    fn recall_own(&mut self, id: &str, head: &Head<'_>, json: &str, sought: Option<&mut Sought>) -> Echo {
        if sought.is_some_and(|sought| sought.id == id) {
            return if head.is_processed() { Echo::ArrivedAndBegun } else { Echo::None };
        }
        self.late.retain(|late| late.id != id);
        let (told, withdrawn) = (head.is_processed(), event::withdrawn_as(json));
        let is_over = (told && event::is_the_upstream_s(json)) || withdrawn == Some(Arrived::No);
        if !is_over && let Some(late) = Sought::new(id, json) {
            let theirs = event::upstream_id(json);
            self.late.push_back(Sought { theirs, withdrawn: withdrawn.is_some(), ..late });
            self.bound_late(RECALLED_MAX);
        }
        Echo::None
    }

    /// All that is to be recalled was: these prompts wait here still.
    pub fn recalled<'a>(&mut self, waiting: impl Iterator<Item = &'a str>) {
        waiting.for_each(|id| self.late.retain(|late| late.id != id));
        self.bound_late(LATE_MAX);
    }

    /// Notes a segment of the log's index. They come in order, and before the events behind them.
    pub fn recall_segment(&mut self, segment: &Segment) {
        self.seen.recall_fingerprints(segment.secret, &segment.fingerprints);
        self.index.recall_segment(segment);
    }

    /// The log is about to be recalled: its index, and what that does not cover.
    pub fn forget(&mut self) {
        self.seen.unbound();
        self.index.recall();
    }

    fn input_of(&mut self, effect: Effect, head: &Head<'_>) -> Option<Input> {
        let at_us = || processed_us(head);
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

/// When the upstream came to an event, in microseconds since the epoch.
fn processed_us(head: &Head<'_>) -> Option<i64> {
    head.processed_at.and_then(|at| parse_us(at.trim_matches('"')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn ingest() -> Ingest {
        Ingest::new(OwnIds::of("ses_a"), [7; 16], None)
    }

    fn message(id: &str, text: &str, at: &str) -> String {
        format!(
            r#"{{"type":"user.message","id":"{id}","content":[{{"type":"text","text":"{text}"}}],"processed_at":{at}}}"#
        )
    }

    const OWN: &str = "msg_00000000000000000000000000000001";

    fn go_on() -> Sought {
        Sought::new(OWN, r#"{"type":"user.message","content":[{"type":"text","text":"go on"}]}"#).unwrap()
    }

    fn status(id: &str, at: &str) -> String {
        format!(r#"{{"type":"session.status","id":"{id}","processed_at":"2026-11-23T10:00:{at}Z"}}"#)
    }

    fn echo(ingest: &mut Ingest, json: &str, sought: &mut Sought) -> Echo {
        match ingest.admit(json, Effect::None, Some(sought), 1, 0) {
            Ok(New { echo, .. }) | Err(Skipped::Shown(echo)) => echo,
            Err(_) => Echo::None,
        }
    }

    #[test]
    fn a_prompt_has_arrived_when_the_upstream_shows_it() {
        for (event, expected) in [
            (message("b", "go on", "null"), Echo::Arrived),
            (message("b", " go on\\n", "\"2026-11-23T10:00:00Z\""), Echo::ArrivedAndBegun),
            (message("b", "go away", "null"), Echo::None),
            (r#"{"type":"agent.message","id":"b","content":[{"type":"text","text":"go on"}]}"#.to_owned(), Echo::None),
        ] {
            assert_eq!(echo(&mut ingest(), &event, &mut go_on()), expected, "{event}");
        }
        let (mut ingest, mut sought) = (ingest(), go_on());
        assert_eq!(echo(&mut ingest, &message("b", "go on", "null"), &mut sought), Echo::Arrived);
        assert_eq!(echo(&mut ingest, &message("c", "go on", "null"), &mut sought), Echo::None);
        assert_eq!(echo(&mut ingest, &message("b", "go on", "\"2026-11-23T10:00:00Z\""), &mut sought), Echo::Begun);
    }

    #[test]
    fn a_prompt_is_known_in_another_spelling() {
        for (sent, shown, expected) in [
            ("a\\r\\nb  c", "a\\nb c", Echo::ArrivedAndBegun),
            ("cafe\u{301}", "caf\u{e9}", Echo::ArrivedAndBegun),
            ("ab", "a b", Echo::None),
        ] {
            let json = format!(r#"{{"type":"user.message","content":[{{"type":"text","text":"{sent}"}}]}}"#);
            let mut sought = Sought::new(OWN, &json).unwrap();
            assert_eq!(echo(&mut ingest(), &message("b", shown, AT), &mut sought), expected, "{sent}");
        }
    }

    /// The id of the event in the log, what the upstream calls it, and whether it was processed.
    fn in_log(ingest: &mut Ingest, json: &str, sought: Option<&mut Sought>) -> Option<(String, String, bool)> {
        let line = ingest.admit(json, Effect::None, sought, 1, 0).ok()?.line.into_owned();
        let head = event::head(&line).unwrap();
        let id = head.id.clone().unwrap_or_default().into_owned();
        Some((id, event::upstream_id(&line).unwrap_or_default(), head.is_processed()))
    }

    const AT: &str = "\"2026-11-23T10:00:00Z\"";

    #[test]
    fn the_upstream_s_two_words_on_a_prompt_become_the_second_of_the_host_s() {
        let (mut ingest, mut sought) = (ingest(), go_on());
        let (waits, done) = (message("b", "go on", "null"), message("b", "go on", AT));
        for _ in 0..2 {
            assert_eq!(in_log(&mut ingest, &waits, Some(&mut sought)), None, "that it waits the log says already");
            ingest.forget();
        }
        let second = (OWN.to_owned(), "b".to_owned(), true);
        assert_eq!(in_log(&mut ingest, &done, Some(&mut sought)), Some(second));
        assert_eq!(in_log(&mut ingest, &waits, Some(&mut sought)), None, "overtaken");
        assert_eq!(in_log(&mut ingest, &message("c", "go on", AT), Some(&mut sought)).unwrap().0, "c", "another one");
    }

    #[test]
    fn a_withdrawn_prompt_that_arrives_after_all_is_shown_under_its_own_id() {
        let json = r#"{"type":"user.message","content":[{"type":"text","text":"go on"}]}"#;
        let withdrawn = |arrived, theirs| event::withdrawn(json, OWN, theirs, event::Reason::Failed, arrived);
        for (line, id) in [
            (withdrawn(Arrived::Unknown, None), OWN),
            (withdrawn(Arrived::Yes, Some("b")), OWN),
            (withdrawn(Arrived::No, None), "b"),
        ] {
            let mut ingest = ingest();
            ingest.forget();
            ingest.recall(1, &event::waiting(json, OWN), None);
            ingest.recall(1, &line, None);
            assert_eq!(in_log(&mut ingest, &message("b", "go on", AT), None).unwrap().0, id, "{line}");
            assert_eq!(in_log(&mut ingest, &message("b", "go on", AT), None), None);
            assert_eq!(in_log(&mut ingest, &message("c", "go on", AT), None).unwrap().0, "c", "another one");
        }
    }

    #[test]
    fn prompts_with_other_images_are_other_prompts() {
        let image = |data: &str| {
            format!(
                r#"[{{"type":"text","text":"go on"}},{{"type":"image","source":{{"type":"base64","data":"{data}"}}}}]"#
            )
        };
        let event =
            |content: &str| format!(r#"{{"type":"user.message","id":"b","content":{content},"processed_at":{AT}}}"#);
        let sent = format!(r#"{{"type":"user.message","content":{}}}"#, image("cat"));
        let without_bytes = image("cat").replace(r#","data":"cat""#, "");
        for (content, expected) in [
            (image("cat"), Echo::ArrivedAndBegun),
            (without_bytes, Echo::ArrivedAndBegun),
            (image("dog"), Echo::None),
            (r#"[{"type":"text","text":"go on"}]"#.to_owned(), Echo::None),
        ] {
            let mut sought = Sought::new(OWN, &sent).unwrap();
            assert_eq!(echo(&mut ingest(), &event(&content), &mut sought), expected, "{content}");
        }
        let outcome =
            |text: &str| format!(r#"{{"type":"user.define_outcome","description":"{text}","max_iterations":null}}"#);
        for (text, expected) in [("a", Echo::ArrivedAndBegun), ("b", Echo::None)] {
            let mut sought = Sought::new(OWN, &outcome("a")).unwrap();
            let shown = outcome(text).replace("}", &format!(r#","id":"b","processed_at":{AT}}}"#));
            assert_eq!(echo(&mut ingest(), &shown, &mut sought), expected, "{text}");
        }
    }

    #[test]
    fn an_upstream_that_is_such_a_host_itself_is_told_apart_from_this_one() {
        let theirs = "msg_0000000000000000000000000000000a";
        let (mut ingest, mut sought) = (ingest(), go_on());
        let more = r#""upstream_id":"c","withdrawn":{"reason":"killed","arrived":"no"},"content""#;
        let shown = message(theirs, "go on", AT).replace(r#""content""#, more);
        let line = ingest.admit(&shown, Effect::None, Some(&mut sought), 5, 0).unwrap().line.into_owned();
        assert_eq!((event::upstream_id(&line), event::withdrawn_as(&line)), (Some(theirs.to_owned()), None), "{line}");
        // Somebody else's there.
        let other = message("msg_0000000000000000000000000000000b", "never mind", AT);
        let foreign = ingest.admit(&other, Effect::None, None, 6, 0).unwrap().line.into_owned();
        assert_eq!(event::head(&foreign).unwrap().id.as_deref(), Some("evt_a_6"), "{foreign}");
        let mut later = Ingest::new(OwnIds::of("ses_a"), [7; 16], None);
        later.forget();
        for line in [&line, &foreign] {
            later.recall(1, line, None);
        }
        for known in [&shown, &other] {
            assert_eq!(later.admit(known, Effect::None, None, 7, 0).err(), Some(Skipped::Known), "{known}");
        }
        // An id in a member of the upstream's own says nothing of other events.
        let named = r#"{"type":"agent.message","id":"x","upstream_id":"y","processed_at":"t"}"#;
        later.recall(1, named, None);
        assert_eq!(later.admit(named, Effect::None, None, 8, 0).err(), Some(Skipped::Known));
        assert!(
            later.admit(r#"{"type":"agent.message","id":"y","processed_at":"t"}"#, Effect::None, None, 8, 0).is_ok()
        );
    }

    #[test]
    fn what_waits_in_a_log_is_no_sign_that_the_upstream_has_it() {
        let (mut ingest, mut sought) = (ingest(), go_on());
        let json = r#"{"type":"user.message","content":[{"type":"text","text":"go on"}]}"#;
        let other = "msg_00000000000000000000000000000002";
        for id in [OWN, other] {
            assert_eq!(ingest.recall(1, &event::waiting(json, id), Some(&mut sought)), Echo::None);
        }
        let done = event::of_own(&message("b", "go on", AT), Some("b"), OWN);
        assert_eq!(ingest.recall(1, &done, Some(&mut sought)), Echo::ArrivedAndBegun);
    }

    #[test]
    fn a_prompt_whose_end_the_log_shows_is_looked_for_no_more() {
        let json = r#"{"type":"user.message","content":[{"type":"text","text":"go on"}]}"#;
        let done = event::of_own(&message("b", "go on", AT), Some("b"), OWN);
        let mut ingest = ingest();
        for _ in 0..2 {
            ingest.forget();
            ingest.recall(1, &event::waiting(json, OWN), None);
            ingest.recall(2, &done, None);
            ingest.recalled(std::iter::empty());
        }
        assert_eq!(in_log(&mut ingest, &message("c", "go on", AT), None).unwrap().0, "c", "another one");
    }

    #[test]
    fn a_log_of_before_prompts_stood_in_it_at_once_is_gone_on_with() {
        let (mut ingest, mut sought) = (ingest(), go_on());
        ingest.forget();
        assert_eq!(ingest.recall(1, &message("b", "go on", "null"), Some(&mut sought)), Echo::Arrived);
        let second = ("b".to_owned(), String::new(), true);
        assert_eq!(in_log(&mut ingest, &message("b", "go on", AT), Some(&mut sought)), Some(second));
    }

    #[test]
    fn a_prompt_that_the_upstream_has_named_is_known_by_that_and_not_by_its_text() {
        let json = r#"{"type":"user.message","content":[{"type":"text","text":"go on"}]}"#;
        let mut ingest = ingest();
        ingest.forget();
        ingest.recall(1, &event::withdrawn(json, OWN, Some("b"), event::Reason::Failed, Arrived::Yes), None);
        ingest.recalled(std::iter::empty());
        let other = "msg_00000000000000000000000000000002";
        let mut sought = Sought::new(other, json).unwrap();
        for (id, own) in [("b", OWN), ("c", other)] {
            assert_eq!(in_log(&mut ingest, &message(id, "go on", AT), Some(&mut sought)).unwrap().0, own);
        }
    }

    #[test]
    fn only_the_latest_prompts_are_looked_for_behind_their_turns() {
        let mut ingest = ingest();
        for number in 0..=LATE_MAX {
            let json = format!(r#"{{"type":"user.message","content":[{{"type":"text","text":"p{number}"}}]}}"#);
            ingest.later(Sought::new(&format!("msg_{number:032x}"), &json).unwrap());
        }
        assert_eq!(in_log(&mut ingest, &message("a", "p0", AT), None).unwrap().0, "a");
        assert_eq!(in_log(&mut ingest, &message("b", "p1", AT), None).unwrap().0, format!("msg_{:032x}", 1));
    }

    #[test]
    fn an_earlier_prompt_with_the_same_text_is_another_one() {
        let (mut sought, mut ingest) = (go_on(), ingest());
        assert_eq!(ingest.recall(1, &message("a", "go on", "null"), None), Echo::None);
        let late = message("a", "go on", "\"2026-11-23T10:00:00Z\"");
        assert_eq!(echo(&mut ingest, &late, &mut sought), Echo::None);
        assert_eq!(ingest.recall(1, &message("b", "go on", "null"), Some(&mut sought)), Echo::Arrived);
    }

    #[test]
    fn the_end_of_a_turn_is_not_undone_by_late_news_of_its_beginning() {
        let mut ingest = ingest();
        let mut input = |json: &str, effect| ingest.admit(json, effect, None, 1, 0).map_or(None, |new| new.input);
        assert_eq!(input(&status("b", "02"), Effect::Ended), Some(Input::Ended));
        assert_eq!(input(&status("a", "01.5"), Effect::Started), None);
        assert_eq!(input(&status("c", "02.000001"), Effect::Started), Some(Input::Started));
        assert_eq!(input(r#"{"type":"session.status","id":"d"}"#, Effect::Started), Some(Input::Started));
    }

    #[test]
    fn an_event_under_an_id_of_the_host_s_own_is_left_out() {
        let mut ingest = ingest();
        let forged = status(&OwnIds::of("ses_a").timed_id(7), "01");
        assert_eq!(ingest.admit(&forged, Effect::Ended, None, 1, 0).err(), Some(Skipped::OwnId));
        let others = status(&OwnIds::of("ses_b").id(7), "02");
        assert!(ingest.admit(&others, Effect::None, None, 1, 0).is_ok());
    }

    #[test]
    fn a_repeated_event_is_neither_stored_nor_heeded() {
        let mut ingest = ingest();
        let end = status("a", "01");
        assert!(ingest.admit(&end, Effect::Ended, None, 1, 0).is_ok());
        assert_eq!(ingest.admit(&end, Effect::Ended, None, 2, 0).err(), Some(Skipped::Known));
    }

    #[test]
    fn an_event_that_cannot_be_stored_leaves_a_placeholder_once() {
        let mut ingest = ingest();
        let deep = format!(r#"{{"type":"agent.message","id":"a","b":{}1{}}}"#, "[".repeat(99), "]".repeat(99));
        let new = ingest.admit(&deep, Effect::None, None, 7, 0).unwrap();
        assert_eq!((&*new.kind, new.omitted), (event::OMITTED, Some(Invalid::TooDeep)));
        let line = new.line.into_owned();
        assert_eq!(ingest.admit(&deep, Effect::None, None, 8, 0).err(), Some(Skipped::Known));
        let mut later = Ingest::new(OwnIds::of("ses_a"), [7; 16], None);
        later.forget();
        later.recall(1, &line, None);
        assert_eq!(later.admit(&deep, Effect::None, None, 8, 0).err(), Some(Skipped::Known));
    }

    #[test]
    fn an_interrupt_of_an_upstream_without_times_is_the_second_of_the_host_s() {
        let mut ingest = ingest();
        ingest.interrupts("evt_a_4".to_owned());
        let theirs = r#"{"type":"user.interrupt","id":"x"}"#;
        let line = ingest.admit(theirs, Effect::None, None, 5, 0).unwrap().line.into_owned();
        let head = event::head(&line).unwrap();
        assert_eq!((head.id.as_deref(), head.is_processed()), (Some("evt_a_4"), true), "{line}");
        let mut later = Ingest::new(OwnIds::of("ses_a"), [7; 16], None);
        later.forget();
        later.recall(1, &event::interrupt("evt_a_4", true), None);
        later.recall(1, &line, None);
        assert_eq!(later.admit(theirs, Effect::None, None, 6, 0).err(), Some(Skipped::Known));
    }

    #[test]
    fn the_upstream_s_two_words_on_an_interrupt_become_the_second_of_the_host_s() {
        let (waits, done) = (
            r#"{"type":"user.interrupt","id":"x","processed_at":null}"#,
            r#"{"type":"user.interrupt","id":"x","processed_at":"2026-11-23T10:00:00Z"}"#,
        );
        let mut ingest = ingest();
        ingest.interrupts("evt_a_4".to_owned());
        assert_eq!(ingest.admit(waits, Effect::None, None, 5, 0).err(), Some(Skipped::Shown(Echo::None)));
        let line = ingest.admit(done, Effect::None, None, 5, 0).unwrap().line.into_owned();
        assert_eq!(event::head(&line).unwrap().id.as_deref(), Some("evt_a_4"));

        let mut later = Ingest::new(OwnIds::of("ses_a"), [7; 16], None);
        later.forget();
        later.recall(1, &event::interrupt("evt_a_4", true), None);
        assert_eq!(later.interrupts.iter().map(|wish| &*wish.id).collect::<Vec<_>>(), ["evt_a_4"]);
        later.recall(1, &line, None);
        assert!(later.interrupts.is_empty());
        for known in [waits, done] {
            assert_eq!(later.admit(known, Effect::None, None, 6, 0).err(), Some(Skipped::Known));
        }
        later.recall(1, &event::interrupt("evt_a_9", false), None);
        assert!(later.interrupts.is_empty(), "what the host has done alone nobody shows");
    }
}
