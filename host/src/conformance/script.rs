//! The upstream of a scenario: answers as it is written there, keeps what it was asked, and fails once where a variant wants
//! it to.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;

use super::scenario::{Response, Rule};
use crate::{
    runtime::{Level, Outlet},
    upstream::{self, BaseUrl, Request, SendError, Slot},
};

/// A fault that an upstream can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// An answer with this status, and with `retry-after` in seconds.
    Status(u16, Option<u32>),
    Unreachable,
    /// The connection breaks after the request was sent.
    Broken,
    /// Success, with a body that is no answer of a vendor: what a proxy or a captive portal gives in its place.
    Garbled(&'static str),
    TooLarge,
}

/// A request as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) line: String,
    pub(super) body: Option<String>,
    /// True when the answer has to have no body.
    pub(super) unanswered: bool,
}

/// The upstream, and all that a guest can reach.
pub(super) struct Script {
    base: BaseUrl,
    slot: Slot,
    place: Mutex<Place>,
}

/// Where the scenario stands, as far as the upstream knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    rules: Vec<Rule>,
    /// True once the feed of the step has brought all.
    pub(super) fed: bool,
    /// How many requests until the fault, and which.
    pub(super) fault: Option<(usize, Fault)>,
    /// What every request meets.
    pub(super) down: Option<Fault>,
    /// All requests until now.
    pub(super) sent: Vec<Sent>,
    /// Those of them that the scenario has no answer for.
    pub(super) unanswered: Vec<String>,
    /// Those that break a rule of the contract or the manifest.
    pub(super) refused: Vec<String>,
    /// What the guest wrote into its log, since it was last taken.
    pub(super) log: Vec<String>,
}

/// What the log of one call may grow to here.
const LOG_LINES_MAX: usize = 20;

impl Script {
    pub(super) fn new(base: BaseUrl, slot: Slot) -> Self {
        Self { base, slot, place: Mutex::default() }
    }

    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules from now on, the first that fits first.
    pub(super) fn enter(&self, rules: Vec<Rule>) {
        let mut place = self.place();
        place.rules = rules;
        place.fed = false;
    }

    /// True when the scenario knows the request as a feed.
    pub(super) fn is_feed(&self, request: &Request) -> bool {
        let place = self.place();
        matches!(place.rule(request), Some(Rule { answer: Response::Feed, .. }))
    }

    /// What is wrong with a request, whatever the upstream thinks of it.
    pub(super) fn refusal(&self, request: &Request) -> Option<String> {
        request.check(&self.base, &self.slot).err().map(|refusal| refusal.to_string())
    }

    fn answer(&self, request: &Request) -> Result<upstream::Response, SendError> {
        let refusal = self.refusal(request);
        let mut place = self.place();
        let line = line(request);
        if let Some(refusal) = refusal {
            place.refused.push(format!("{line}: {refusal}"));
            return Err(SendError::Refused(refusal));
        }
        let answer = place.rule(request).map(|rule| rule.answer.clone());
        let unanswered = matches!(&answer, Some(Response::Whole { body, .. }) if body.is_empty());
        place.sent.push(Sent { line: line.clone(), body: request.body.clone(), unanswered });
        let due = match &mut place.fault {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => place.down,
        };
        if let Some(fault) = due {
            place.fault = None;
            return fault.answer();
        }
        match answer {
            Some(Response::Whole { status, headers, body }) => Ok(upstream::Response { status, headers, body }),
            // A feed is the host's to read.
            Some(Response::Feed) | None => {
                place.unanswered.push(line);
                Fault::Status(404, None).answer()
            }
        }
    }
}

impl Place {
    fn rule(&self, request: &Request) -> Option<&Rule> {
        let has = |(name, value): (&String, &String)| request.query.iter().any(|(n, v)| n == name && v == value);
        let body = request.body.as_deref().unwrap_or_default();
        self.rules.iter().find(|rule| {
            rule.method == request.method
                && rule.path == request.path
                && rule.query.iter().all(has)
                && rule.contains.iter().all(|text| body.contains(text.as_str()))
                && (self.fed || !rule.fed)
        })
    }
}

impl Fault {
    fn answer(self) -> Result<upstream::Response, SendError> {
        match self {
            Self::Status(status, retry_after) => {
                let retry_after = retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
                let body = format!(r#"{{"error":{{"message":"the suite answers with {status}"}}}}"#);
                Ok(upstream::Response { status, headers: retry_after.into_iter().collect(), body })
            }
            Self::Unreachable => Err(SendError::Unreachable("the suite cannot be reached".to_owned())),
            Self::Broken => Err(SendError::Interrupted("the connection to the suite broke".to_owned())),
            Self::Garbled(body) => Ok(upstream::Response { status: 200, headers: Vec::new(), body: body.to_owned() }),
            Self::TooLarge => Err(SendError::TooLarge),
        }
    }
}

/// Method, path and query of a request, for people.
pub(super) fn line(request: &Request) -> String {
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{} {}{mark}{}", request.method.as_str(), request.path, query.join("&"))
}

impl Outlet for Script {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<upstream::Response, SendError>> {
        Box::pin(async move { self.answer(&request) })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn heard(&self, _: Level, line: &str) {
        let mut place = self.place();
        if place.log.len() < LOG_LINES_MAX {
            place.log.push(line.to_owned());
        }
    }
}

/// The beginning of a text, for people.
pub(super) fn short(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str(&format!("… ({} bytes)", text.len()));
    }
    shown
}
