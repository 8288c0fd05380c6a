//! Which events the log has, as far as it must be known to tell a repeated one.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use siphasher::sip::SipHasher13;

use crate::event::{self, Head, OwnIds};

/// How many events back a repeated one is noticed while the feed goes on undisturbed.
const RECENT: usize = 256;

/// So many new events in a row say that an upstream is through with what it repeats at each connection.
const FRESH: usize = 64;

/// Keeps an upstream from choosing events that are taken for each other.
pub type Secret = [u8; 16];

/// What tells an event from others.
///
/// A hash of 64 bits under a secret: among a million events, two different ones are taken for the same with a probability of
/// 3e-8. It is stored, so it is made the same way for ever.
pub type Fingerprint = u64;

/// The events that the log has.
pub struct Seen {
    secret: Secret,
    known: HashSet<Fingerprint, BuildHasherDefault<AsItIs>>,
    /// The latest of them, in their order.
    latest: VecDeque<Fingerprint>,
    scope: Scope,
}

/// A fingerprint is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How much of the log is known.
enum Scope {
    /// The latest events.
    Recent,
    /// All of it, because the feed's place in it is not known.
    All,
    /// All of it still, for an upstream that repeats itself; the number counts new events in a row.
    Closing(usize),
}

impl Seen {
    /// Nothing is known.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self { secret, known: HashSet::default(), latest: VecDeque::new(), scope: Scope::Recent }
    }

    /// Notes an event of the feed. Nothing when it was known, or waits although it is known to be processed. An event that has
    /// neither an id nor a time is not taken for another one: a client may interrupt twice.
    pub fn insert(&mut self, head: &Head<'_>, json: &str) -> Option<Fingerprint> {
        let fingerprint = self.fingerprint(head, json);
        let fresh = !self.is_overtaken(head) && (self.note(fingerprint) || (head.id.is_none() && !head.is_processed()));
        match &mut self.scope {
            Scope::Closing(row) if fresh => {
                *row += 1;
                if *row >= FRESH {
                    self.scope = Scope::Recent;
                    self.known = self.latest.iter().copied().collect();
                }
            }
            Scope::Closing(row) => *row = 0,
            Scope::Recent | Scope::All => {}
        }
        fresh.then_some(fingerprint)
    }

    /// Notes an event of the log; `own` are the ids that the host gave. Nothing for what the host alone has said of a prompt.
    pub fn recall(&mut self, head: &Head<'_>, json: &str, own: &OwnIds) -> Option<Fingerprint> {
        let fingerprint = self.fingerprint_of_logged(head, json, own)?;
        self.note(fingerprint);
        Some(fingerprint)
    }

    /// Notes what is stored of the log, as far as it goes.
    pub fn recall_fingerprints(&mut self, secret: Secret, fingerprints: &[Fingerprint]) {
        self.secret = secret;
        self.known.reserve(fingerprints.len());
        for fingerprint in fingerprints {
            self.note(*fingerprint);
        }
    }

    /// The fingerprint that the upstream's event had from which this one of the log was made.
    fn fingerprint_of_logged(&self, head: &Head<'_>, json: &str, own: &OwnIds) -> Option<Fingerprint> {
        let is_own = head.message_id().is_some() || head.id.as_deref().is_some_and(|id| own.has(id));
        if let Some(theirs) = event::upstream_id(json).filter(|_| is_own) {
            return Some(self.of_id(&theirs, head.is_processed()));
        }
        if head.kind == event::OMITTED {
            let (theirs, processed) = event::omitted_id(json)?;
            return Some(self.of_id(&theirs, processed));
        }
        match head.id.as_deref() {
            Some(id) if own.has(id) => Some(self.nameless(json, own.has_timed(id))),
            Some(_) if is_own => head.is_processed().then(|| self.nameless(json, false)),
            _ => Some(self.fingerprint(head, json)),
        }
    }

    /// True when the event is known. One of the upstream's history that looks like a known one is that one, whether it
    /// has an id or not.
    pub fn contains(&self, head: &Head<'_>, json: &str) -> bool {
        self.is_overtaken(head) || self.known.contains(&self.fingerprint(head, json))
    }

    /// True for the news that an event waits which has been processed since.
    fn is_overtaken(&self, head: &Head<'_>) -> bool {
        !head.is_processed() && self.contains_counterpart(head)
    }

    /// True when the event is known as one that waited, or, where it waits, as one that was processed.
    pub fn contains_counterpart(&self, head: &Head<'_>) -> bool {
        head.id.as_deref().is_some_and(|id| self.known.contains(&self.of_id(id, !head.is_processed())))
    }

    /// True while nothing of the log is forgotten.
    pub const fn knows_all(&self) -> bool {
        !matches!(self.scope, Scope::Recent)
    }

    /// From now on everything is remembered, and the log has to be recalled: all of it, so that what is forgotten first
    /// afterwards is what came first.
    pub fn unbound(&mut self) {
        self.known.clear();
        self.latest.clear();
        self.scope = Scope::All;
    }

    /// The log could not be recalled: nothing of it is known.
    pub fn forget(&mut self) {
        self.unbound();
        self.scope = Scope::Recent;
    }

    /// Remembers the latest only, once the upstream does not repeat itself any more.
    pub fn bound(&mut self) {
        self.scope = Scope::Closing(0);
    }

    /// The secret that fingerprints are made with.
    #[must_use]
    pub const fn secret(&self) -> Secret {
        self.secret
    }

    fn fingerprint(&self, head: &Head<'_>, json: &str) -> Fingerprint {
        match head.id.as_deref() {
            Some(id) => self.of_id(id, head.is_processed()),
            None => self.nameless(json, false),
        }
    }

    fn of_id(&self, id: &str, processed: bool) -> Fingerprint {
        self.hash(&[if processed { b"p" } else { b"w" }, id.as_bytes()])
    }

    /// The fingerprint of an event without an id: all that it says, in whatever order, but a time that the host gave it.
    fn nameless(&self, json: &str, timed: bool) -> Fingerprint {
        let Ok(serde_json::Value::Object(mut event)) = serde_json::from_str(json) else {
            return self.hash(&[b"?", json.as_bytes()]);
        };
        event.remove("id");
        event.remove("upstream_id");
        if timed {
            event.remove("processed_at");
        }
        self.hash(&[b"n", serde_json::Value::Object(event).to_string().as_bytes()])
    }

    fn hash(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }

    fn note(&mut self, fingerprint: Fingerprint) -> bool {
        let new = self.known.insert(fingerprint);
        if new {
            self.latest.push_back(fingerprint);
            if self.latest.len() > RECENT
                && let Some(old) = self.latest.pop_front()
                && matches!(self.scope, Scope::Recent)
            {
                self.known.remove(&old);
            }
        }
        new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::event::{check, with_id};

    fn insert(seen: &mut Seen, json: &str) -> bool {
        seen.insert(&check(json).unwrap(), json).is_some()
    }

    fn contains(seen: &Seen, json: &str) -> bool {
        seen.contains(&check(json).unwrap(), json)
    }

    #[test]
    fn the_same_id_is_seen_once_queued_and_once_processed() {
        let mut seen = Seen::new([7; 16]);
        let queued = r#"{"type":"user.message","id":"a","processed_at":null}"#;
        let processed = r#"{"type":"user.message","id":"a","processed_at":"t"}"#;
        assert!(insert(&mut seen, queued) && seen.contains_counterpart(&check(processed).unwrap()));
        assert!(insert(&mut seen, processed) && seen.contains_counterpart(&check(queued).unwrap()));
        assert!(!insert(&mut seen, queued) && !insert(&mut seen, processed) && contains(&seen, queued));
    }

    #[test]
    fn that_an_event_waits_is_no_news_once_it_is_processed() {
        let mut seen = Seen::new([7; 16]);
        let queued = r#"{"type":"user.message","id":"a","processed_at":null}"#;
        assert!(insert(&mut seen, r#"{"type":"user.message","id":"a","processed_at":"t"}"#));
        assert!(contains(&seen, queued) && !insert(&mut seen, queued));
    }

    #[test]
    fn events_without_an_id_are_told_apart_by_what_they_say() {
        let (own, mut seen) = (OwnIds::of("ses_a"), Seen::new([7; 16]));
        let waiting = r#"{"type":"user.interrupt","id":"","processed_at":null}"#;
        let timed = r#"{"type":"user.interrupt","id":"","processed_at":"t"}"#;
        assert!(insert(&mut seen, waiting) && insert(&mut seen, waiting), "two interrupts");
        assert!(insert(&mut seen, timed) && !insert(&mut seen, timed), "one interrupt, repeated");
        assert!(contains(&seen, r#"{"processed_at": null, "type": "user.interrupt"}"#), "as a history has it");

        let mut later = Seen::new([7; 16]);
        let logged = with_id(timed, &own.id(4));
        later.recall(&check(&logged).unwrap(), &logged, &own);
        assert!(contains(&later, timed) && !contains(&later, waiting));
    }

    #[test]
    fn what_came_last_is_known_also_after_the_log_was_recalled_a_second_time() {
        let (own, mut seen) = (OwnIds::of("ses_a"), Seen::new([7; 16]));
        let event = |n: usize| format!(r#"{{"type":"agent.message","id":"e{n}","processed_at":"t"}}"#);
        for n in 0..300 {
            assert!(insert(&mut seen, &event(n)));
        }
        seen.unbound();
        for n in 0..300 {
            seen.recall(&check(&event(n)).unwrap(), &event(n), &own);
        }
        seen.bound();
        for n in 300..300 + FRESH {
            assert!(insert(&mut seen, &event(n)));
        }
        for n in 300 + FRESH - RECENT..300 + FRESH {
            assert!(contains(&seen, &event(n)), "{n}");
        }
        assert!(!contains(&seen, &event(0)));
    }

    #[test]
    fn all_is_remembered_until_the_upstream_no_longer_repeats_itself() {
        let event = |n: usize| format!(r#"{{"type":"a","id":"{n}"}}"#);
        let mut seen = Seen::new([7; 16]);
        (0..RECENT + 1).for_each(|n| assert!(insert(&mut seen, &event(n))));
        assert!(!contains(&seen, &event(0)) && contains(&seen, &event(1)));
        seen.unbound();
        (0..4 * RECENT).for_each(|n| assert!(insert(&mut seen, &event(n)), "the log is recalled"));
        seen.bound();
        (1..4 * RECENT).for_each(|n| assert!(!insert(&mut seen, &event(n)), "repeated"));
        (4 * RECENT..4 * RECENT + FRESH - 1).for_each(|n| assert!(insert(&mut seen, &event(n))));
        assert!(contains(&seen, &event(1)));
        assert!(insert(&mut seen, &event(9999)) && !contains(&seen, &event(1)));
    }
}
