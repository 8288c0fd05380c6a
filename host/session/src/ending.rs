//! How a session is ended upstream for good, and how the host finds out whether it is: it closes the session there, and then
//! looks what the upstream shows of it.

use std::time::Duration;

use lap_model::contract::{Effect, ErrorKind, Frame, Frames, Outcome};
use serde::Serialize;

use crate::{
    Moment,
    failure::{Cause, Failure},
    history::Page,
};

/// For how long one try may take.
const TRY: Duration = Duration::from_secs(10);

/// How often it is tried, and for how long at the most.
const TRIES: u32 = 7;
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is waited before the second of these tries; twice as long before each after that.
const WAIT: Duration = Duration::from_millis(100);

/// Pages of a history, the oldest first, that are read for its end.
const PAGES_MAX: usize = 100;

/// What the host knows of a session's end upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamEnd {
    /// True when the upstream itself says that nothing of the session goes on.
    pub verified: bool,
    /// What was seen, for people.
    pub detail: String,
    /// True when the upstream has not taken the wish to end it, or shows it still: it is to be tried again later.
    #[serde(skip)]
    pub runs_on: bool,
}

impl UpstreamEnd {
    /// What is said while nothing is known yet.
    #[must_use]
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self { verified: false, detail: detail.into(), runs_on: false }
    }
}

/// What came of one try.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// It is over; this was seen.
    Verified(&'static str),
    /// It is not known to be over.
    Unverified {
        /// Why.
        detail: String,
        /// True when another try may tell more.
        again: bool,
        /// As of [`UpstreamEnd`].
        runs_on: bool,
    },
}

/// What the upstream shows of a session that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// It knows no such session.
    Gone,
    /// It shows one, whose last word on its turn is this.
    There(Option<Effect>),
}

/// What is to be asked next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Close,
    CatchUp(Option<String>),
    /// Nothing of what comes of it is stored.
    OnFrames(Frames),
    Wait,
    Over(UpstreamEnd),
}

/// The end of a session, while it is tried.
#[derive(Debug)]
pub(crate) struct EndOfSession {
    /// True when the upstream has a session of its own, and not just turns.
    named: bool,
    tries: u32,
    since: Moment,
    /// When the next try begins.
    pub(crate) until: Moment,
    /// The try under way.
    trying: Option<Trying>,
    over: Option<UpstreamEnd>,
}

#[derive(Debug)]
struct Trying {
    began: Moment,
    closed: Option<Result<(), Failure>>,
    cursor: Option<String>,
    pages: usize,
    batches: std::collections::VecDeque<Frames>,
    last: Option<Effect>,
    /// There is more than was read, so that nobody knows the last word.
    cut_off: bool,
}

impl EndOfSession {
    pub(crate) const fn beginning(named: bool, now: Moment) -> Self {
        Self { named, tries: 0, since: now, until: now, trying: None, over: None }
    }

    /// When the try under way has taken too long.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.trying.as_ref().map(|trying| trying.began + TRY)
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Moment) -> Step {
        if let Some(over) = &self.over {
            return Step::Over(over.clone());
        }
        if self.trying.is_none() && now < self.until {
            return Step::Wait;
        }
        let trying = self.trying.get_or_insert_with(|| Trying {
            began: now,
            closed: None,
            cursor: None,
            pages: 0,
            batches: std::collections::VecDeque::new(),
            last: None,
            cut_off: false,
        });
        if trying.closed.is_none() {
            return Step::Close;
        }
        match trying.batches.pop_front() {
            Some(batch) => Step::OnFrames(batch),
            None => Step::CatchUp(trying.cursor.clone()),
        }
    }

    /// The upstream was asked to close the session.
    pub(crate) fn closed(&mut self, closed: Result<(), Failure>, now: Moment) {
        match closed {
            Err(Failure { cause: Cause::NoCredential | Cause::NoUpstream, message, .. }) => {
                let detail = format!("the upstream was not asked: {message}");
                self.tried(Attempt::Unverified { detail, again: false, runs_on: true }, now);
            }
            closed => {
                if let Some(trying) = &mut self.trying {
                    trying.closed = Some(closed);
                }
            }
        }
    }

    /// A page of what the upstream remembers.
    pub(crate) fn page(&mut self, page: Result<Page, Failure>, now: Moment) {
        let Some(trying) = &mut self.trying else { return };
        match page {
            Err(failure) if failure.says_gone() => self.seen(Ok(Sight::Gone), now),
            Err(failure) => self.seen(Err(failure), now),
            Ok(mut page) => {
                if page.newest_first {
                    page.frames.reverse();
                }
                trying.batches = Frames::pack(page.frames.iter().map(Frame::pieces)).into();
                trying.pages += 1;
                let more = page.next.filter(|_| !page.newest_first);
                trying.cut_off = more.is_some() && trying.pages >= PAGES_MAX;
                trying.cursor = more.filter(|_| !trying.cut_off);
                self.look_on(now);
            }
        }
    }

    /// What a page says of the turn.
    pub(crate) fn mapped(&mut self, outcome: &Outcome, now: Moment) {
        let Some(trying) = &mut self.trying else { return };
        let mut effects = outcome.events.iter().map(|event| event.effect);
        trying.last = effects.rfind(|effect| *effect != Effect::None).or(trying.last);
        self.look_on(now);
    }

    /// What was asked last has failed.
    pub(crate) fn failed(&mut self, failure: Failure, now: Moment) {
        match &self.trying {
            Some(Trying { closed: None, .. }) => self.closed(Err(failure), now),
            Some(_) => self.page(Err(failure), now),
            None => {}
        }
    }

    fn look_on(&mut self, now: Moment) {
        let Some(trying) = &self.trying else { return };
        if trying.batches.is_empty() && trying.cursor.is_none() {
            self.seen(Ok(Sight::There(trying.last.filter(|_| !trying.cut_off))), now);
        }
    }

    /// The try was given up, because it took too long.
    pub(crate) fn given_up(&mut self, now: Moment) {
        let detail = format!("the upstream did not answer within {} seconds", TRY.as_secs());
        self.tried(Attempt::Unverified { detail, again: true, runs_on: true }, now);
    }

    fn seen(&mut self, seen: Result<Sight, Failure>, now: Moment) {
        let closed = self.trying.as_mut().and_then(|trying| trying.closed.take()).unwrap_or(Ok(()));
        let attempt = judge(closed, seen, self.named);
        self.tried(attempt, now);
    }

    fn tried(&mut self, attempt: Attempt, now: Moment) {
        self.trying = None;
        self.tries += 1;
        let more = self.tries < TRIES && now < self.since + PATIENCE;
        self.over = match attempt {
            Attempt::Verified(detail) => {
                Some(UpstreamEnd { verified: true, detail: detail.to_owned(), runs_on: false })
            }
            Attempt::Unverified { again: true, .. } if more => None,
            Attempt::Unverified { detail, runs_on, .. } => Some(UpstreamEnd { verified: false, detail, runs_on }),
        };
        self.until = now + WAIT * 2_u32.pow(self.tries - 1);
    }
}

fn judge(closed: Result<(), Failure>, seen: Result<Sight, Failure>, named: bool) -> Attempt {
    let (runs_on, refused) = match (closed, seen) {
        (_, Ok(Sight::Gone)) => return Attempt::Verified("the upstream knows no such session any more"),
        (_, Ok(Sight::There(Some(Effect::Terminated)))) => {
            return Attempt::Verified("the upstream says that the session is over for good");
        }
        (Ok(()), Ok(Sight::There(Some(Effect::Ended | Effect::Failed)))) if !named => {
            return Attempt::Verified("the upstream has no sessions, and says that the last turn of this one is over");
        }
        (Ok(()), Ok(Sight::There(None))) if !named => {
            let detail = "the upstream has no sessions, and nothing of a turn of this one was there to look at";
            return Attempt::Unverified { detail: detail.to_owned(), again: false, runs_on: false };
        }
        (Ok(()), Ok(Sight::There(_))) => {
            let detail = "the upstream took the wish to end the session and still shows it";
            return Attempt::Unverified { detail: detail.to_owned(), again: true, runs_on: true };
        }
        // A runtime that cannot end sessions never will.
        (Err(error), _) => (error.cause != Cause::Declared(ErrorKind::Unsupported), error),
        (Ok(()), Err(error)) => (false, error),
    };
    let again = match refused.cause {
        // A conflict: it winds down after an interrupt.
        Cause::Declared(kind) => {
            matches!(kind, ErrorKind::Conflict | ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::Upstream)
        }
        Cause::Slow | Cause::Quarantined | Cause::NoRoom => true,
        Cause::Fault | Cause::NoCredential | Cause::NoUpstream | Cause::Unreadable => false,
    };
    let detail = format!("the session could not be ended upstream: {}", refused.message);
    Attempt::Unverified { detail, again, runs_on }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed<T>(kind: ErrorKind) -> Result<T, Failure> {
        Err(Failure::of(kind, "why"))
    }

    /// Whether it is verified, and if not, whether it is tried again.
    fn of(closed: Result<(), Failure>, seen: Result<Sight, Failure>, named: bool) -> (bool, bool) {
        match judge(closed, seen, named) {
            Attempt::Verified(_) => (true, false),
            Attempt::Unverified { again, .. } => (false, again),
        }
    }

    #[test]
    fn only_what_the_upstream_itself_shows_is_a_proof() {
        let gone = || Ok(Sight::Gone);
        assert_eq!(of(Ok(()), gone(), true), (true, false));
        assert_eq!(of(failed(ErrorKind::Upstream), gone(), true), (true, false), "the answer was lost, and it is gone");
        let there = |effect| Ok(Sight::There(effect));
        assert_eq!(of(failed(ErrorKind::Unsupported), there(Some(Effect::Terminated)), true), (true, false));
        for effect in [None, Some(Effect::Ended), Some(Effect::Failed), Some(Effect::Started)] {
            assert_eq!(of(Ok(()), there(effect), true), (false, true), "{effect:?}: it may go on");
        }
    }

    #[test]
    fn where_the_upstream_has_only_turns_the_end_of_the_last_one_is_enough() {
        for (effect, expected) in [
            (Some(Effect::Ended), (true, false)),
            (Some(Effect::Failed), (true, false)),
            (Some(Effect::Started), (false, true)),
            (Some(Effect::Waiting), (false, true)),
            (None, (false, false)),
        ] {
            assert_eq!(of(Ok(()), Ok(Sight::There(effect)), false), expected, "{effect:?}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for (kind, again) in [
            (ErrorKind::Conflict, true),
            (ErrorKind::Upstream, true),
            (ErrorKind::Throttled, true),
            (ErrorKind::Auth, false),
            (ErrorKind::Unsupported, false),
        ] {
            assert_eq!(of(failed(kind), Ok(Sight::There(None)), true), (false, again), "{kind:?}");
            assert_eq!(of(Ok(()), failed(kind), true), (false, again), "{kind:?}");
        }
    }

    #[test]
    fn it_is_tried_seven_times_at_the_most_and_never_longer_than_half_a_minute() {
        let (mut end, mut now, mut tries) = (EndOfSession::beginning(true, Moment::ZERO), Moment::ZERO, 0);
        let over = loop {
            match end.next(now) {
                Step::Close => {
                    tries += 1;
                    end.given_up(now);
                }
                Step::Wait => now = end.until,
                Step::Over(over) => break over,
                Step::CatchUp(_) | Step::OnFrames(_) => unreachable!("nothing was closed"),
            }
        };
        assert_eq!((tries, over.verified), (TRIES, false));
        assert!(now < PATIENCE, "{now:?}");
    }
}
