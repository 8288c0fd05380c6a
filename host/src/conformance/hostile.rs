//! What can go wrong in a scenario, derived from a run in which nothing did: each thing is a variant with a name and with a
//! verdict of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    driver::{Complaint, Event, Run},
    knobs::{Aside, Batches, Cut, Edit, Knobs, Lives, Resume},
    scenario::{Scenario, kind_name},
    script::Fault,
};
use crate::{
    runtime::{Call, Effect, Ending, ErrorKind, Frame, Input},
    upstream::{Frame as Parsed, LineParser, SseParser},
};

/// Boundaries between frames that are tried in a step of many frames.
const BOUNDARIES_MAX: usize = 64;

/// Bytes at which the text of a feed is cut; a longer text is cut at fewer places.
const CUTS_MAX: usize = 16 * 1024;

/// Alterations that are tried in one step; of more, every so many.
const ALTERATIONS_MAX: usize = 256;

/// What an upstream may say beside what its runtime knows. The name and the data of each.
const STRANGE: [(&str, &str, &str); 9] = [
    ("empty", "", ""),
    ("no-json", "message", "{\"type\":"),
    ("not-an-object", "", "[[[1, null], \"session.status_idle\"]]"),
    ("number", "", "1e400"),
    ("done", "", "[DONE]"),
    ("unknown-type", "of.next_year", r#"{"type":"of.next_year","id":"x_1","data":{"type":"session.status_idle"}}"#),
    ("type-is-no-text", "", r#"{"type":{"type":"error"},"id":7}"#),
    ("null-everywhere", "", r#"{"type":null,"id":null,"response":null,"item":null,"error":null,"stop_reason":null}"#),
    ("escapes", "", r#"{"\u0074ype":"\ud83d\ude00","id":"\\\"\u0000"}"#),
];

/// A variant of a scenario.
#[derive(Debug)]
pub(super) struct Variant {
    /// Unique within the scenario.
    pub(super) name: String,
    pub(super) group: Group,
    pub(super) knobs: Knobs,
}

/// Variants of one kind, which are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    AsWritten,
    State,
    Twice,
    Pieces,
    Breaks,
    Repeats,
    Strange,
    Altered,
    Giant,
    Faults,
    Interrupts,
}

impl Group {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::AsWritten => "as written",
            Self::State => "instance dropped between calls",
            Self::Twice => "each call made twice",
            Self::Pieces => "feed in other pieces",
            Self::Breaks => "feed broken off",
            Self::Repeats => "frames repeated or swapped",
            Self::Strange => "frames that nobody knows",
            Self::Altered => "frames of another version",
            Self::Giant => "giant frames",
            Self::Faults => "requests that fail",
            Self::Interrupts => "interrupted and closed anywhere",
        }
    }
}

fn variant(name: impl Into<String>, group: Group, knobs: Knobs) -> Variant {
    Variant { name: name.into(), group, knobs }
}

/// The run that the others are measured by.
pub(super) fn as_written() -> Variant {
    variant("as-written", Group::AsWritten, Knobs::default())
}

/// Every variant that follows from a run without faults.
pub(super) fn variants(scenario: &Scenario, happy: &Run) -> Vec<Variant> {
    let each_frame = Knobs { lives: Lives::EachCall, batches: Batches::OneByOne, ..Knobs::default() };
    let mut variants = vec![
        variant("twice", Group::Twice, Knobs { twice: true, lives: Lives::EachCall, ..Knobs::default() }),
        variant("twice-warm", Group::Twice, Knobs { twice: true, ..Knobs::default() }),
        variant("drop/each", Group::State, Knobs { lives: Lives::EachCall, ..Knobs::default() }),
        variant("drop/each-frame", Group::State, each_frame),
        variant("pieces/one-by-one", Group::Pieces, Knobs { batches: Batches::OneByOne, ..Knobs::default() }),
        edited("repeat/each", Group::Repeats, Edit::Doubled),
        edited("strange/more-members", Group::Strange, Edit::Extended),
    ];
    let calls = 1..happy.calls.len();
    variants.extend(
        calls.map(|at| {
            variant(format!("drop/{at}"), Group::State, Knobs { lives: Lives::NewAt(at), ..Knobs::default() })
        }),
    );
    for (step, frames) in happy.frames.iter().enumerate() {
        pieces(&mut variants, scenario, step);
        if !frames.is_empty() {
            breaks(&mut variants, step, frames.len());
            frame_by_frame(&mut variants, step, frames.len());
            alterations(&mut variants, step, frames);
        }
        asides(&mut variants, scenario, step, frames.len());
    }
    faults(&mut variants, happy);
    variants
}

fn edited(name: impl Into<String>, group: Group, edit: Edit) -> Variant {
    variant(name, group, Knobs { edit: Some(edit), ..Knobs::default() })
}

/// A feed's text cut at every byte, as far as that makes a difference for the guest: of all cuts with the same frames
/// before them one is tried.
fn pieces(variants: &mut Vec<Variant>, scenario: &Scenario, step: usize) {
    let mut different = BTreeSet::new();
    for text in &scenario.step[step].feed {
        for byte in cuts(text) {
            let before = frames_before(text, byte);
            if different.insert((text.len(), before)) {
                let batches = Batches::CutAt { step, byte };
                let name = format!("pieces/{}@{byte}", step + 1);
                variants.push(variant(name, Group::Pieces, Knobs { batches, ..Knobs::default() }));
            }
        }
    }
}

fn cuts(text: &str) -> impl Iterator<Item = usize> {
    (1..text.len()).step_by(text.len().div_ceil(CUTS_MAX).max(1))
}

/// How many frames the host's parsers find in the beginning of a text; it may end within a character.
fn frames_before(text: &str, byte: usize) -> usize {
    let (mut frames, beginning): (Vec<Parsed>, _) = (Vec::new(), &text.as_bytes()[..byte]);
    // As lines only where it is none of the other: of server-sent events every line would count.
    let whole = match text.contains("data:") {
        true => SseParser::default().push(beginning, &mut frames),
        false => LineParser::default().push(beginning, &mut frames),
    };
    // What is too long ends the feed at the same place wherever it is cut.
    if whole.is_ok() { frames.len() } else { usize::MAX }
}

fn boundaries(frames: usize) -> impl Iterator<Item = usize> {
    (0..=frames).step_by((frames + 1).div_ceil(BOUNDARIES_MAX).max(1))
}

fn breaks(variants: &mut Vec<Variant>, step: usize, frames: usize) {
    let endings = [("clean", Ending::Clean), ("cut", Ending::Cut), ("silent", Ending::Silent)];
    let resumes = [
        ("", Resume::Continues, false),
        ("told/", Resume::Continues, true),
        ("replayed/", Resume::Replays, true),
        ("gap/", Resume::Gap, true),
    ];
    for after in boundaries(frames) {
        for (how, ending) in endings {
            for (then, resume, told) in resumes {
                // How it ended makes no difference for what comes behind: each is tried once with each ending.
                if then.is_empty() || ending == Ending::Cut {
                    let cut = Some(Cut { step, after, ending, resume, told });
                    let name = format!("break/{then}{how}/{}@{after}", step + 1);
                    variants.push(variant(name, Group::Breaks, Knobs { cut, ..Knobs::default() }));
                }
            }
        }
    }
}

fn frame_by_frame(variants: &mut Vec<Variant>, step: usize, frames: usize) {
    let giant = format!(r#"{{"type":"of.next_year","id":"x_1","text":"{}"}}"#, "ä".repeat(480 * 1024));
    let deep = format!("{}{}", r#"{"type":"of.next_year","a":["#.repeat(20_000), "]}".repeat(20_000));
    let many = format!(r#"{{"type":"of.next_year","a":[{}0]}}"#, "0,".repeat(400_000));
    for at in boundaries(frames).filter(|at| *at < frames) {
        let number = step + 1;
        if at + 1 < frames {
            variants.push(edited(format!("swap/{number}@{at}"), Group::Repeats, Edit::Swapped { step, at }));
        }
        for (what, name, data) in STRANGE {
            let frame = Frame { name: name.to_owned(), data: data.to_owned() };
            let edit = Edit::Inserted { step, at, frame };
            variants.push(edited(format!("strange/{what}/{number}@{at}"), Group::Strange, edit));
        }
        // Each costs a megabyte or two; where they come makes little difference.
        if at == 0 || at + 1 == frames {
            for (what, data) in [("text", &giant), ("deep", &deep), ("many", &many)] {
                let frame = Frame { name: "of.next_year".to_owned(), data: data.clone() };
                let edit = Edit::Inserted { step, at, frame };
                variants.push(edited(format!("giant/{what}/{number}@{at}"), Group::Giant, edit));
            }
        }
    }
}

/// Before each frame another one like it, of which one member is something else: what a vendor's next version may say.
fn alterations(variants: &mut Vec<Variant>, step: usize, frames: &[Frame]) {
    let mut altered = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let Ok(value) = serde_json::from_str::<Value>(&frame.data) else { continue };
        let mut paths = Vec::new();
        members(&value, &mut String::new(), &mut paths);
        for path in paths {
            for (what, other) in [
                ("null", Some(Value::Null)),
                ("text", Some("x_of_next_year".into())),
                ("number", Some(7.into())),
                ("nothing", None),
            ] {
                let mut data = value.clone();
                replace(&mut data, &path, other);
                let frame = Frame { name: frame.name.clone(), data: data.to_string() };
                let name = format!("altered/{}={what}/{}@{at}", &path[1..].replace('/', "."), step + 1);
                altered.push(edited(name, Group::Altered, Edit::Altered { step, at, frame }));
            }
        }
    }
    let every = altered.len().div_ceil(ALTERATIONS_MAX).max(1);
    variants.extend(altered.into_iter().step_by(every));
}

/// The paths of all members of an object and of what is in it, as JSON pointers.
fn members(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(values) => values.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => return,
    };
    for (name, value) in below.into_iter().filter(|(name, _)| !name.contains(['/', '~'])) {
        let length = path.len();
        path.push('/');
        path.push_str(&name);
        paths.push(path.clone());
        members(value, path, paths);
        path.truncate(length);
    }
}

fn replace(value: &mut Value, path: &str, other: Option<Value>) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    match (value.pointer_mut(parent), other) {
        (Some(Value::Object(members)), None) => _ = members.remove(name),
        (Some(parent), Some(other)) => {
            let place = match parent {
                Value::Object(members) => members.get_mut(name),
                Value::Array(values) => name.parse::<usize>().ok().and_then(|at| values.get_mut(at)),
                _ => None,
            };
            if let Some(place) = place {
                *place = other;
            }
        }
        _ => {}
    }
}

fn asides(variants: &mut Vec<Variant>, scenario: &Scenario, step: usize, frames: usize) {
    use super::scenario::Act;
    if matches!(scenario.step[step].act, Some(Act::Close | Act::Models(_))) {
        return;
    }
    for after in boundaries(frames) {
        for (what, aside) in [("interrupt", Aside::Interrupt), ("close", Aside::Close)] {
            let name = format!("{what}/{}@{after}", step + 1);
            let knobs = Knobs { aside: Some(((step, after), aside)), batches: Batches::OneByOne, ..Knobs::default() };
            variants.push(variant(name, Group::Interrupts, knobs));
        }
    }
}

const FAULTS: [(&str, Fault); 16] = [
    ("400", Fault::Status(400, None)),
    ("401", Fault::Status(401, None)),
    ("403", Fault::Status(403, None)),
    ("404", Fault::Status(404, None)),
    ("409", Fault::Status(409, None)),
    ("410", Fault::Status(410, None)),
    ("422", Fault::Status(422, None)),
    ("429", Fault::Status(429, None)),
    ("429-retry-after", Fault::Status(429, Some(7))),
    ("500", Fault::Status(500, None)),
    ("503", Fault::Status(503, None)),
    ("529", Fault::Status(529, None)),
    ("unreachable", Fault::Unreachable),
    ("broken", Fault::Broken),
    ("no-json", Fault::NoJson),
    ("too-large", Fault::TooLarge),
];

pub(super) const fn all_faults() -> &'static [(&'static str, Fault)] {
    &FAULTS
}

fn faults(variants: &mut Vec<Variant>, happy: &Run) {
    for request in 0..happy.sent.len() {
        for (what, fault) in FAULTS {
            let knobs = Knobs { fault: Some((request, fault)), ..Knobs::default() };
            variants.push(variant(format!("fault/{what}/{request}"), Group::Faults, knobs));
        }
    }
}

/// A break after which there is something to look back for.
pub(super) fn broken(happy: &Run) -> Option<Variant> {
    let (step, frames) = happy.frames.iter().enumerate().find(|(_, frames)| !frames.is_empty())?;
    let cut = Cut { step, after: frames.len() / 2, ending: Ending::Cut, resume: Resume::Continues, told: true };
    Some(variant("history/as-written", Group::Breaks, Knobs { cut: Some(cut), ..Knobs::default() }))
}

/// The requests of a look back, each failing; `base` is a run with the same break and no fault.
pub(super) fn history_faults(broken: &Variant, base: &Run) -> Vec<Variant> {
    let mut variants = Vec::new();
    let before = |call: usize| call.checked_sub(1).map_or(0, |before| base.calls[before].sent);
    let looks = base.calls.iter().enumerate().filter(|(_, made)| matches!(made.call, Call::CatchUp { .. }));
    for request in looks.flat_map(|(call, made)| before(call)..made.sent) {
        for (what, fault) in FAULTS {
            let knobs = Knobs { fault: Some((request, fault)), ..broken.knobs.clone() };
            variants.push(variant(format!("history/fault/{what}/{request}"), Group::Faults, knobs));
        }
    }
    variants
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
    // Of events without an id the host cannot tell whether they are the same.
    let counts = |event: &&Event| (!repeats || event.id.is_some()) && !(inserted && event.kind == "of.next_year");
    let mut expected: Vec<_> = happy.events.iter().filter(counts).map(face).collect();
    let mut found: Vec<_> = run.events.iter().filter(counts).map(face).collect();
    if knobs.cut.is_some() {
        // A history may be in another order than the feed was.
        expected.sort_unstable();
        found.sort_unstable();
    }
    if expected != found && complaints.is_empty() && run.complaints.is_empty() {
        let missing = difference(&expected, &found);
        let more = difference(&found, &expected);
        let message = match (missing.is_empty(), more.is_empty()) {
            (true, true) => "the events are in another order than without it".to_owned(),
            (_, true) => format!("events are lost: [{}]", missing.join(", ")),
            (true, _) => format!("there are events more than without it: [{}]", more.join(", ")),
            _ => format!("events are lost: [{}], and others have come: [{}]", missing.join(", "), more.join(", ")),
        };
        complaints.push(Complaint { call: run.calls.len().checked_sub(1), message });
    }
    complaints
}

type Face<'a> = (&'a str, Option<&'a str>, &'static str);

fn face(event: &Event) -> Face<'_> {
    (&event.kind, event.id.as_deref(), super::scenario::effect_name(event.effect))
}

fn difference(one: &[Face<'_>], other: &[Face<'_>]) -> Vec<String> {
    let mut left = other.to_vec();
    let mut missing = Vec::new();
    for face in one {
        match left.iter().position(|known| known == face) {
            Some(at) => _ = left.swap_remove(at),
            None => missing.push(format!("{} {} ({})", face.0, face.1.unwrap_or("without an id"), face.2)),
        }
    }
    missing
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
        if matches!(happy.calls[call].call, Call::CatchUp { .. }) && faces(happy) == faces(run) {
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
    let recovers = !matches!(run.calls[failed].call, Call::OnFrames { .. });
    if recovers && run.complaints.is_empty() && faces(happy) != faces(run) {
        complaints.extend(complain(format!("after {} the next try brings other events", describe(fault))));
    }
    complaints
}

fn faces(run: &Run) -> Vec<Face<'_>> {
    run.events.iter().map(face).collect()
}

/// What fails is what the client wanted anyway, or the guest need not read the answer.
fn is_as_good_as_done(call: &Call, fault: Fault) -> bool {
    let stops = match call {
        Call::Close { .. } => true,
        Call::Send { inputs, .. } => inputs.iter().all(|input| *input == Input::Interrupt),
        _ => false,
    };
    match fault {
        Fault::Status(400 | 404 | 405 | 409 | 410 | 422, _) => stops,
        Fault::NoJson => matches!(call, Call::Close { .. } | Call::Send { .. }),
        _ => false,
    }
}

fn describe(fault: Fault) -> String {
    match fault {
        Fault::Status(status, _) => format!("status {status}"),
        Fault::Unreachable => "no connection".to_owned(),
        Fault::Broken => "a broken connection".to_owned(),
        Fault::NoJson => "a page of HTML".to_owned(),
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
        Fault::Status(..) | Fault::Unreachable | Fault::Broken | Fault::NoJson | Fault::TooLarge => {
            &[Upstream, Overloaded]
        }
    }
}
