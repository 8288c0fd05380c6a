//! What happened in a run: the calls that were made, the events that came of them, and what there is to complain about.

use std::time::{Duration, Instant};

use lap_model::contract::Effect;
use lap_session::event::{self, OwnIds};
use serde_json::Value;

use super::{
    scenario::kind_name,
    script::{self, Script},
};
use crate::runtime::{Answer, Call, CallError, Error, Fault, Frame, Instance};

/// Tries that a call has within its budget of processor time.
const CPU_TRIES: u32 = 3;

/// A call that was made, and how it ended.
pub(super) struct Made {
    pub(super) call: Call,
    pub(super) result: Result<Answer, CallError>,
    pub(super) log: Vec<String>,
    pub(super) took: Duration,
    /// The requests that were answered until its end.
    pub(super) sent: usize,
}

/// An event of the runtime's, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) kind: String,
    /// The runtime's, where it gives one.
    pub(super) id: Option<String>,
    pub(super) effect: Effect,
    pub(super) json: String,
    /// All that it says but its id.
    pub(super) content: Value,
}

impl Event {
    /// Reads an event of the log; `own` are the ids that the host gave.
    pub(super) fn read(kind: &str, json: &str, effect: Effect, own: &OwnIds) -> Self {
        let of_the_runtime = || {
            event::head(json)
                .ok()?
                .id
                .filter(|id| !own.has(id) && !event::is_message_id(id))
                .map(std::borrow::Cow::into_owned)
        };
        let id = event::upstream_id(json).or_else(of_the_runtime);
        let mut content: Value = serde_json::from_str(json).unwrap_or_default();
        if let Some(members) = content.as_object_mut() {
            members.retain(|name, _| !matches!(name.as_str(), "id" | "upstream_id"));
        }
        Self { kind: kind.to_owned(), id, effect, json: json.to_owned(), content }
    }
}

/// Something that a runtime should not have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The number of the call that it is about, where it is about one.
    pub(super) call: Option<usize>,
    pub(super) message: String,
}

/// All that is known of a run.
#[derive(Default)]
pub(super) struct Run {
    pub(super) calls: Vec<Made>,
    pub(super) events: Vec<Event>,
    pub(super) complaints: Vec<Complaint>,
    /// What the feed of each step brings.
    pub(super) frames: Vec<Vec<Frame>>,
    pub(super) state_bytes: usize,
    /// Requests that were answered, in order.
    pub(super) sent: Vec<script::Sent>,
    /// The error that a fault of the upstream led to, with the number of its call.
    pub(super) failed: Option<usize>,
    /// True when the upstream has answered for its history, since the feed broke where it did.
    pub(super) history: bool,
    /// True when the host has given a turn up that the upstream had taken.
    pub(super) given_up: bool,
}

impl Run {
    /// The error that a call ended in.
    pub(super) fn declared(&self, call: usize) -> Option<&Error> {
        match &self.calls.get(call)?.result {
            Err(CallError::Declared(error)) => Some(error),
            _ => None,
        }
    }
}

/// Makes a call, again if it has computed for too long: on a machine that is busy with other things the wait for a processor
/// counts, too, and a guest that is really that slow is so three times.
pub(super) async fn performed(
    instance: &mut Instance,
    call: &Call,
    script: &Script,
) -> (Result<Answer, CallError>, Duration) {
    let before = script.place().clone();
    let mut tries = 0;
    loop {
        let began = Instant::now();
        let result = instance.perform(call).await;
        tries += 1;
        if tries == CPU_TRIES || !matches!(result, Err(CallError::Fault(Fault::Cpu))) {
            return (result, began.elapsed());
        }
        *script.place() = before.clone();
    }
}

/// True when two calls ended alike; of crashes only the kind is compared.
pub(super) fn alike(one: &Result<Answer, CallError>, other: &Result<Answer, CallError>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(CallError::Declared(one)), Err(CallError::Declared(other))) => one == other,
        (Err(CallError::Fault(one)), Err(CallError::Fault(other))) => {
            std::mem::discriminant(one) == std::mem::discriminant(other)
        }
        _ => false,
    }
}

/// How a call ended, for people.
pub(super) fn outcome(result: &Result<Answer, CallError>) -> String {
    match result {
        Ok(answer) => script::short(&serde_json::to_string(answer).unwrap_or_default()),
        Err(error) => told(error),
    }
}

/// An error with all that is known of it.
pub(super) fn told(error: &CallError) -> String {
    match error {
        CallError::Declared(error) => format!("{} ({:?})", kind_name(error.kind), error.message),
        CallError::Fault(fault @ Fault::Trap(text)) => format!("{fault}: {}", trap(text)),
        CallError::Fault(fault) => fault.to_string(),
    }
}

/// The reason and the innermost functions of a trap.
fn trap(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<_> =
        lines.filter(|line| !line.starts_with("Caused by") && !line.starts_with("error while")).collect();
    let reason = lines.last().copied().unwrap_or_default();
    let frames = lines.iter().filter(|line| line.contains("!")).take(4).copied();
    std::iter::once(reason).chain(frames).collect::<Vec<_>>().join("; ")
}
