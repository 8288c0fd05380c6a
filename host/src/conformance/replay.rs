//! A recorded session once more: each call as it was, against the answers that were recorded, and what comes out differently.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::script::short;
use crate::{
    runtime::{Asked, Ended, Exchange, Header, Level, Outlet, Recorded, Runtime},
    upstream::{Request, Response, SendError},
};

/// Differences that are told; one leads to the next.
const DIFFERENCES_MAX: usize = 20;

/// A recording, read.
#[derive(Debug)]
pub struct Recording {
    /// What was recorded, as its first line says.
    pub header: Header,
    /// The digests of all components that it has calls of, in order.
    pub components: Vec<String>,
    calls: Vec<Recorded>,
    /// True when its last line is cut, as a crash may leave it.
    pub cut: bool,
}

/// A recording that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecording {
    /// It does not begin as one.
    #[error("it does not begin with the header of a recording")]
    NoHeader,
    /// It is of another version.
    #[error("it is a recording of version {0}, and this program reads version 1")]
    Version(u32),
    /// A line is no call.
    #[error("line {line} is no recorded call: {source}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
}

impl std::str::FromStr for Recording {
    type Err = InvalidRecording;

    fn from_str(text: &str) -> Result<Self, InvalidRecording> {
        let first = text.lines().next().and_then(|line| serde_json::from_str::<Header>(line).ok());
        let header = first.ok_or(InvalidRecording::NoHeader)?;
        if header.recording != 1 {
            return Err(InvalidRecording::Version(header.recording));
        }
        let mut components = vec![header.component.clone()];
        let (mut calls, mut cut) = (Vec::new(), false);
        for (number, line) in (1..).zip(text.lines()).skip(1) {
            if let Ok(header) = serde_json::from_str::<Header>(line) {
                if !components.contains(&header.component) {
                    components.push(header.component);
                }
                continue;
            }
            match serde_json::from_str(line) {
                Ok(call) => calls.push(call),
                Err(source) if source.is_eof() && number == text.lines().count() => cut = true,
                Err(source) => return Err(InvalidRecording::Line { line: number, source }),
            }
        }
        Ok(Self { header, components, calls, cut })
    }
}

/// What came of a replay.
#[derive(Debug, Serialize)]
pub struct Replay {
    /// Calls that were made.
    pub calls: usize,
    /// Where the component that was recorded and the one that was replayed differ, in order.
    pub differences: Vec<Difference>,
    /// Calls whose end was not the guest's doing, and that are left out.
    pub skipped: usize,
    /// True when the replayed component is the recorded one.
    pub same_component: bool,
}

/// One thing that came out differently.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The number of the call in the recording, from 1.
    pub call: usize,
    /// What was called.
    pub export: &'static str,
    /// What differs.
    pub what: &'static str,
    /// What was recorded.
    pub expected: String,
    /// What came now.
    pub got: String,
    /// What the guest wrote into its log now.
    pub log: Vec<String>,
}

/// Replays a recording with a component of this digest.
pub async fn replay(runtime: &Runtime, digest: &str, recording: &Recording) -> Replay {
    let same_component = recording.components.iter().all(|recorded| recorded == digest);
    let mut replay = Replay { calls: 0, differences: Vec::new(), skipped: 0, same_component };
    let playback = Arc::new(Playback::default());
    let mut instance = runtime.instance(Arc::clone(&playback) as _);
    for (number, recorded) in (1..).zip(&recording.calls) {
        // That the host was full, or the upstream slow, says nothing of the guest.
        if matches!(&recorded.ended, Ended::Fault(fault) if fault == "busy" || fault == "wall") {
            replay.skipped += 1;
            continue;
        }
        playback.load(&recorded.exchanges);
        let ended = Ended::of(&instance.perform(&recorded.call).await);
        replay.calls += 1;
        let heard = playback.unload();
        let asked: Vec<&Asked> = recorded.exchanges.iter().map(|exchange| &exchange.request).collect();
        let requests = first_difference(&asked, &heard.asked)
            .map(|place| ("the requests", text(&asked.get(place)), text(&heard.asked.get(place))));
        let outcome = (ended != recorded.ended).then(|| ("the outcome", text(&recorded.ended), text(&ended)));
        for (what, expected, got) in [requests, outcome].into_iter().flatten() {
            if replay.differences.len() < DIFFERENCES_MAX {
                let (expected, got) = around_the_difference(&expected, &got);
                let (export, log) = (recorded.call.export(), heard.log.clone());
                replay.differences.push(Difference { call: number, export, what, expected, got, log });
            }
        }
    }
    replay
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn first_difference(expected: &[&Asked], got: &[Asked]) -> Option<usize> {
    let longer = expected.len().max(got.len());
    (0..longer).find(|place| expected.get(*place).copied() != got.get(*place))
}

/// Both texts from shortly before the place where they part.
fn around_the_difference(expected: &str, got: &str) -> (String, String) {
    const CHARS_BEFORE: usize = 60;
    let same = expected.chars().zip(got.chars()).take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(CHARS_BEFORE);
    let cut = |text: &str| {
        let rest: String = text.chars().skip(from).collect();
        format!("{}{}", if from > 0 { "…" } else { "" }, short(&rest))
    };
    (cut(expected), cut(got))
}

/// The upstream of a recording: answers what it answered, in the same order.
#[derive(Default)]
struct Playback(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    due: VecDeque<Exchange>,
    asked: Vec<Asked>,
    log: Vec<String>,
}

impl Playback {
    fn load(&self, exchanges: &[Exchange]) {
        *self.heard() = Heard { due: exchanges.iter().cloned().collect(), ..Heard::default() };
    }

    fn unload(&self) -> Heard {
        std::mem::take(&mut *self.heard())
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Result<Response, SendError> {
        let mut heard = self.heard();
        let asked = Asked::from(request);
        // A request that was changed gets the answer of the one that goes to the same place.
        let place = heard.due.iter().position(|due| due.request == asked).or_else(|| {
            heard.due.iter().position(|due| due.request.method == asked.method && due.request.path == asked.path)
        });
        heard.asked.push(asked);
        match place.and_then(|place| heard.due.remove(place)) {
            Some(exchange) => exchange.answer.into(),
            None => Err(SendError::Unreachable("the recording has no answer to this request".to_owned())),
        }
    }
}

impl Outlet for Playback {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move { self.answer(&request) })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn heard(&self, _: Level, line: &str) {
        Playback::heard(self).log.push(line.to_owned());
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            let Difference { call, export, what, expected, got, log } = difference;
            writeln!(f, "DIFFERS  call {call}, {export}: {what}\n  expected  {expected}\n  got       {got}")?;
            for line in log {
                writeln!(f, "  guest     {line:?}")?;
            }
        }
        let component =
            if self.same_component { "the recorded component" } else { "another component than the recorded" };
        let skipped = match self.skipped {
            0 => String::new(),
            count => format!(" ({count} left out that the host ended)"),
        };
        let verdict = match self.differences.len() {
            0 => "all the same".to_owned(),
            1 => format!("1 difference, in call {}", self.differences[0].call),
            count => format!("{count} differences, the first in call {}", self.differences[0].call),
        };
        writeln!(f, "{} calls replayed{skipped} with {component}: {verdict}", self.calls)
    }
}
