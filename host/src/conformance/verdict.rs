//! What has to come of a variant, measured by a run in which nothing went wrong.

use lap_model::contract::Effect;
use lap_session::event;

use super::{
    hostile::Variant,
    knobs::{Edit, Resume},
    run::{Complaint, Event, Run},
    scenario::{Step, effect_name, kind_name},
    script::{self, Fault},
};
use crate::runtime::{Call, ErrorKind, Input};

/// What is wrong with the events of a step, by its scenario.
pub(super) fn of_step(number: usize, step: &Step, events: &[Event]) -> Vec<String> {
    let (number, mut messages) = (number + 1, Vec::new());
    if let Some(expected) = &step.events {
        let fits = expected.len() == events.len()
            && expected.iter().zip(events).all(|(expected, event)| {
                expected.kind == event.kind
                    && expected.id.as_ref().is_none_or(|id| event.id.as_ref() == Some(id))
                    && expected.contains.iter().all(|text| event.json.contains(text.as_str()))
            });
        if !fits {
            let expected: Vec<_> = expected.iter().map(|expected| expected.kind.as_str()).collect();
            let found: Vec<_> = events.iter().map(|event| script::short(&event.json)).collect();
            let (expected, found) = (expected.join(", "), found.join(", "));
            messages.push(format!("step {number}: expected the events [{expected}], got [{found}]"));
        }
    }
    if let Some(expected) = step.turn {
        let last = events.iter().rev().map(|event| event.effect).find(|effect| *effect != Effect::None);
        if last != Some(expected) {
            let (expected, found) = (effect_name(expected), last.map_or("nothing", effect_name));
            messages.push(format!("step {number}: expected the turn to be {expected}, and it is {found}"));
        }
    }
    messages
}

/// What is wrong with a run, beside what the driver has complained about already.
pub(super) fn verdict(variant: &Variant, happy: &Run, run: &Run) -> Vec<Complaint> {
    let knobs = &variant.knobs;
    if let Some((request, fault)) = knobs.fault {
        return failed_well(request, fault, happy, run);
    }
    // What a guest makes of events in another order, or of a turn that a client stopped, is its own affair.
    if knobs.aside.is_some()
        || matches!(knobs.edit, Some(Edit::Swapped { .. } | Edit::Altered { .. }))
        || run.failed.is_some()
    {
        return no_repeats(run);
    }
    let gap = knobs.cut.is_some_and(|cut| cut.resume == Resume::Gap);
    if gap && !run.history {
        return Vec::new();
    }
    let mut complaints = no_repeats(run);
    let inserted = matches!(knobs.edit, Some(Edit::Inserted { .. }));
    let repeats = matches!(knobs.edit, Some(Edit::Doubled)) || knobs.cut.is_some();
    let of_next_year = |event: &Event| event.kind == "of.next_year" || event.kind == event::OMITTED;
    // Of events without an id the host cannot tell whether they are the same.
    let counts = |event: &&Event| (!repeats || event.id.is_some()) && !(inserted && of_next_year(event));
    // Of what grows from frame to frame nobody can tell that a frame came twice, and a new member may be handed on.
    let looks_inside = !matches!(knobs.edit, Some(Edit::Doubled | Edit::Extended));
    let expected: Vec<_> = happy.events.iter().filter(counts).collect();
    let found: Vec<_> = run.events.iter().filter(counts).collect();
    if complaints.is_empty()
        && run.complaints.is_empty()
        && let Some(message) = differs(&expected, &found, looks_inside)
    {
        complaints.push(Complaint { call: run.calls.len().checked_sub(1), message });
    }
    complaints
}

/// How events differ from those that were expected.
fn differs(expected: &[&Event], found: &[&Event], looks_inside: bool) -> Option<String> {
    let faces = |events: &[&Event]| -> Vec<_> {
        events.iter().map(|event| (event.kind.clone(), event.id.clone(), event.effect)).collect()
    };
    let (missing, more) = (difference(&faces(expected), &faces(found)), difference(&faces(found), &faces(expected)));
    match (missing.is_empty(), more.is_empty()) {
        (true, true) if faces(expected) != faces(found) => {
            let kinds =
                |events: &[&Event]| events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>().join(", ");
            let (expected, found) = (kinds(expected), kinds(found));
            Some(format!("the events are in another order than without it: [{found}], and not [{expected}]"))
        }
        (true, true) => {
            let mut pairs = expected.iter().zip(found).filter(|_| looks_inside);
            let (one, other) = pairs.find(|(one, other)| one.content != other.content)?;
            let (kind, id) = (&one.kind, one.id.as_deref().unwrap_or("without an id"));
            let (one, other) = (script::short(&one.json), script::short(&other.json));
            Some(format!("{kind} {id} says something else than without it: {other}, and not {one}"))
        }
        (_, true) => Some(format!("events are lost: [{}]", missing.join(", "))),
        (true, _) => Some(format!("there are events more than without it: [{}]", more.join(", "))),
        _ => Some(format!("events are lost: [{}], and others have come: [{}]", missing.join(", "), more.join(", "))),
    }
}

type Face = (String, Option<String>, Effect);

fn difference(one: &[Face], other: &[Face]) -> Vec<String> {
    let mut left = other.to_vec();
    let mut missing = Vec::new();
    for face in one {
        match left.iter().position(|known| known == face) {
            Some(at) => _ = left.swap_remove(at),
            None => {
                let (kind, id, effect) = face;
                missing.push(format!("{kind} {} ({})", id.as_deref().unwrap_or("without an id"), effect_name(*effect)));
            }
        }
    }
    missing
}

/// True when both have brought the same.
fn alike(happy: &Run, run: &Run) -> bool {
    let (expected, found): (Vec<_>, Vec<_>) = (happy.events.iter().collect(), run.events.iter().collect());
    differs(&expected, &found, true).is_none()
}

/// The host drops what it has; what is left must not be the same event under another id.
fn no_repeats(run: &Run) -> Vec<Complaint> {
    let ends = run.events.iter().filter(|event| event.effect == Effect::Terminated).count();
    let twice = (ends > 1).then(|| Complaint { call: None, message: "the session is over more than once".to_owned() });
    twice.into_iter().collect()
}

/// A fault of the upstream is an error of the right kind, and the next try succeeds.
fn failed_well(request: usize, fault: Fault, happy: &Run, run: &Run) -> Vec<Complaint> {
    let Some(call) = happy.calls.iter().position(|made| made.sent > request) else { return Vec::new() };
    let (line, export) = (&happy.sent[request].line, happy.calls[call].call.export());
    let complain = |message| vec![Complaint { call: Some(call), message }];
    let Some(failed) = run.failed else {
        // The driver has said how else it ended.
        if !run.complaints.is_empty() || is_as_good_as_done(&happy.calls[call].call, fault) {
            return Vec::new();
        }
        // It may have asked again, for less.
        if matches!(happy.calls[call].call, Call::CatchUp { .. }) && alike(happy, run) {
            return Vec::new();
        }
        let what = describe(fault);
        return complain(format!("{export} succeeds although {line} was answered by {what}: the failure is lost"));
    };
    let Some(error) = run.declared(failed) else { return Vec::new() };
    let kinds = right_kinds(fault);
    let mut complaints = Vec::new();
    if !kinds.contains(&error.kind) {
        let expected: Vec<_> = kinds.iter().map(|kind| kind_name(*kind)).collect();
        complaints.extend(complain(format!(
            "{export} turns {} to {line} into the error {} ({:?}), and it is {}",
            describe(fault),
            kind_name(error.kind),
            error.message,
            expected.join(" or ")
        )));
    }
    if let Fault::Status(_, Some(seconds)) = fault
        && error.retry_after_ms != Some(seconds * 1000)
    {
        let found = error.retry_after_ms;
        complaints.extend(complain(format!(
            "{export} does not hand on `retry-after: {seconds}`: retry-after-ms is {found:?}, and should be {}",
            seconds * 1000
        )));
    }
    if error.message.trim().is_empty() {
        complaints.extend(complain(format!("{export} declares an error without a message")));
    }
    let recovers = !run.given_up && !matches!(run.calls[failed].call, Call::OnFrames { .. });
    if recovers && run.complaints.is_empty() && !alike(happy, run) {
        complaints.extend(complain(format!("after {} the next try brings other events", describe(fault))));
    }
    complaints
}

/// What fails is what the client wanted anyway. An answer that is none is not: whether the upstream has done it, nobody
/// has said.
fn is_as_good_as_done(call: &Call, fault: Fault) -> bool {
    let stops = match call {
        Call::Close { .. } => true,
        Call::Send { inputs, .. } => inputs.iter().all(|input| *input == Input::Interrupt),
        _ => false,
    };
    match fault {
        Fault::Status(400 | 404 | 405 | 409 | 410 | 422, _) => stops,
        _ => false,
    }
}

fn describe(fault: Fault) -> String {
    match fault {
        Fault::Status(status, _) => format!("status {status}"),
        Fault::Unreachable => "no connection".to_owned(),
        Fault::Broken => "a broken connection".to_owned(),
        Fault::Garbled("") => "a success without a body".to_owned(),
        Fault::Garbled(body) if body.starts_with('<') => "a page of HTML".to_owned(),
        Fault::Garbled(_) => "half of a JSON text".to_owned(),
        Fault::TooLarge => "an answer that is too large".to_owned(),
    }
}

fn right_kinds(fault: Fault) -> &'static [ErrorKind] {
    use ErrorKind::{Auth, BadRequest, Conflict, Gone, NotFound, Overloaded, Quota, Throttled, Unsupported, Upstream};
    match fault {
        Fault::Status(401, _) => &[Auth],
        Fault::Status(403, _) => &[Auth, Quota, Unsupported],
        Fault::Status(404, _) => &[NotFound, Gone],
        Fault::Status(409, _) => &[Conflict],
        Fault::Status(410, _) => &[Gone, NotFound],
        Fault::Status(429, _) => &[Throttled, Quota],
        Fault::Status(503 | 529, _) => &[Overloaded, Upstream],
        Fault::Status(400..=499, _) => &[BadRequest, Gone, Conflict, Unsupported],
        Fault::Status(..) | Fault::Unreachable | Fault::Broken | Fault::Garbled(_) | Fault::TooLarge => {
            &[Upstream, Overloaded]
        }
    }
}
