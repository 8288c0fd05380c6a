//! How a session is ended upstream for good, and how the host finds out whether it is: one try, as the guest carries it out.
//!
//! Nothing here touches the session or its log, so a try may be dropped half-way. How often it is tried is for `course.rs`.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::{
    Core, LinkError,
    line::{Line, Place, StepError},
};
use crate::runtime::{CallError, Effect, ErrorKind, Frame, Frames, Instance};

/// For how long one try may take.
const TRY: Duration = Duration::from_secs(10);

/// Pages of a history, the oldest first, that are read for its end.
const PAGES_MAX: usize = 100;

/// What the host knows of a session's end upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamEnd {
    /// True when the upstream itself says that nothing of the session goes on.
    pub verified: bool,
    /// What was seen, for people.
    pub detail: String,
}

/// What came of one try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is over; this was seen.
    Verified(&'static str),
    /// It is not known to be over.
    Unverified {
        /// Why.
        detail: String,
        /// True when another try may tell more.
        again: bool,
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

/// Closes the session upstream and looks what has become of it. `named` when the upstream has a session of its own, and not
/// just turns.
pub(super) async fn attempt(line: &mut Line, core: &Core, place: &Place, named: bool) -> Attempt {
    let tried = timeout(TRY, async {
        let (_, instance) = line.guest(core, place).await?;
        let closed = instance.close(&place.guest).await;
        let seen = look(instance, place).await;
        Ok::<_, LinkError>(judge(closed, seen, named))
    });
    match tried.await {
        Ok(Ok(attempt)) => attempt,
        Ok(Err(error)) => Attempt::Unverified { detail: format!("the upstream was not asked: {error}"), again: false },
        Err(_) => {
            let detail = format!("the upstream did not answer within {} seconds", TRY.as_secs());
            Attempt::Unverified { detail, again: true }
        }
    }
}

async fn look(instance: &mut Instance, place: &Place) -> Result<Sight, CallError> {
    let (mut cursor, mut last) = (None::<String>, None);
    for _ in 0..PAGES_MAX {
        let mut history = match instance.catch_up(&place.guest, cursor.as_deref()).await {
            Err(CallError::Declared(error)) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => {
                return Ok(Sight::Gone);
            }
            history => history?,
        };
        if history.newest_first {
            history.frames.reverse();
        }
        for frames in Frames::pack(history.frames.iter().map(Frame::pieces)) {
            let outcome = instance.on_frames(&place.guest, &frames).await?;
            let mut effects = outcome.events.iter().map(|event| event.effect);
            last = effects.rfind(|effect| *effect != Effect::None).or(last);
        }
        cursor = history.next.filter(|_| !history.newest_first);
        if cursor.is_none() {
            break;
        }
    }
    Ok(Sight::There(last))
}

fn judge(closed: Result<(), CallError>, seen: Result<Sight, CallError>, named: bool) -> Attempt {
    let refused = match (closed, seen) {
        (_, Ok(Sight::Gone)) => return Attempt::Verified("the upstream knows no such session any more"),
        (_, Ok(Sight::There(Some(Effect::Terminated)))) => {
            return Attempt::Verified("the upstream says that the session is over for good");
        }
        (Ok(()), Ok(Sight::There(Some(Effect::Ended | Effect::Failed)))) if !named => {
            return Attempt::Verified("the upstream has no sessions, and says that the last turn of this one is over");
        }
        (Ok(()), Ok(Sight::There(None))) if !named => {
            let detail = "the upstream has no sessions, and nothing of a turn of this one was there to look at";
            return Attempt::Unverified { detail: detail.to_owned(), again: false };
        }
        (Ok(()), Ok(Sight::There(_))) => {
            let detail = "the upstream took the wish to end the session and still shows it";
            return Attempt::Unverified { detail: detail.to_owned(), again: true };
        }
        (Err(error), _) | (Ok(()), Err(error)) => error,
    };
    let refused = StepError::from(refused);
    let again = match refused.verdict().0 {
        // A conflict: it winds down after an interrupt.
        ErrorKind::Conflict | ErrorKind::Throttled | ErrorKind::Overloaded | ErrorKind::Upstream => true,
        ErrorKind::Auth
        | ErrorKind::Quota
        | ErrorKind::BadRequest
        | ErrorKind::NotFound
        | ErrorKind::Gone
        | ErrorKind::Unsupported
        | ErrorKind::Internal => false,
    };
    Attempt::Unverified { detail: format!("the session could not be ended upstream: {refused}"), again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime;

    fn failed<T>(kind: ErrorKind) -> Result<T, CallError> {
        Err(CallError::Declared(runtime::Error { kind, message: "why".to_owned(), retry_after_ms: None, status: None }))
    }

    /// Whether it is verified, and if not, whether it is tried again.
    fn of(closed: Result<(), CallError>, seen: Result<Sight, CallError>, named: bool) -> (bool, bool) {
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
}
