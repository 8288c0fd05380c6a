//! What can go wrong in a scenario, derived from a run in which nothing did: each thing is a variant with a name. What has
//! to come of it stands in `verdict`.

use std::collections::BTreeSet;

use lap_model::contract::Ending;
use serde_json::Value;

use super::{
    knobs::{Aside, Batches, Cut, Edit, Knobs, Lives, Resume},
    run::Run,
    scenario::{Act, Scenario},
    script::{Fault, Sent},
};
use crate::{
    runtime::{Call, Frame},
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

const FAULTS: [(&str, Fault); 18] = [
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
    ("no-json", Fault::Garbled("<html>the suite's proxy says hello</html>")),
    ("half-json", Fault::Garbled(r#"{"id":"of_the_suite","data":[{"type":"#)),
    ("no-body", Fault::Garbled("")),
    ("too-large", Fault::TooLarge),
];

pub(super) const fn all_faults() -> &'static [(&'static str, Fault)] {
    &FAULTS
}

/// False for a fault that is what the upstream answers anyway.
fn hurts(fault: Fault, sent: &Sent) -> bool {
    !(sent.unanswered && fault == Fault::Garbled(""))
}

fn faults(variants: &mut Vec<Variant>, happy: &Run) {
    for (request, sent) in happy.sent.iter().enumerate() {
        for (what, fault) in FAULTS.into_iter().filter(|(_, fault)| hurts(*fault, sent)) {
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
        for (what, fault) in FAULTS.into_iter().filter(|(_, fault)| hurts(*fault, &base.sent[request])) {
            let knobs = Knobs { fault: Some((request, fault)), ..broken.knobs.clone() };
            variants.push(variant(format!("history/fault/{what}/{request}"), Group::Faults, knobs));
        }
    }
    variants
}
