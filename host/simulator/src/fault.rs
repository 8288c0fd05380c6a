//! What goes wrong: with the answer to a request, with the bytes of a stream, with a list.
//!
//! Faults are armed when a script is set, and count from there. This file says which fault meets which request;
//! `api` carries out those of requests, `shape.rs` those of streams.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{endpoint::Endpoint, script::HeartbeatForm};

/// All faults of a script. Of each list the first entry applies that matches and is not used up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Other answers than the real ones.
    pub requests: Vec<RequestFault>,
    /// Streams that are not delivered as they should be. The turn behind them always goes on.
    pub streams: Vec<StreamFault>,
    /// The list of events lags behind the stream.
    pub list: ListLag,
    /// Events of these types are in no list, now or later.
    pub unlisted: Vec<String>,
    /// Interrupts are taken, are in the history, and stop nothing.
    pub interrupts_ignored: bool,
    /// A session is shown as `running` for so many milliseconds after its stream said that it is idle.
    pub status_lag_ms: u64,
}

/// Another answer than the real one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestFault {
    /// Which requests; none is every request.
    pub endpoint: Option<Endpoint>,
    /// Of those only the ones that send an event of this type, e.g. `user.message`; none is all of them.
    pub event: Option<String>,
    /// So many matching requests pass first.
    pub skip: u64,
    /// So many are met after that.
    pub times: u64,
    /// Milliseconds before the request is looked at and answered.
    pub delay_ms: u64,
    /// So many more milliseconds at the most: other ones for each request, and the same in each run.
    pub jitter_ms: u64,
    /// The request is carried out after that time also if its client has hung up meanwhile.
    pub finishes: bool,
    /// What they get.
    pub answer: Answer,
}

/// What a request gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it should: for a fault that only delays.
    #[default]
    Real,
    /// An error, before anything is looked at.
    Error(ErrorAnswer),
    /// Nothing, ever.
    Silence,
    /// The connection is closed, and nothing was done.
    HangUp,
    /// The connection is closed after the request was carried out.
    Lost,
    /// This in place of the real answer, after the request was carried out.
    Instead(ErrorAnswer),
    /// Nothing, ever, though the request was carried out.
    Swallowed,
}

/// An error answer; by default a 500.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The error's `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error's `message`.
    pub message: String,
    /// Further headers, e.g. `retry-after`; a `content-type` here goes with `body`.
    pub headers: BTreeMap<String, String>,
    /// Sent as it is in place of the JSON.
    pub body: Option<String>,
    /// The credential of the request is repeated in the message.
    pub echo_credential: bool,
}

/// A stream that is not delivered as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamFault {
    /// So many streams pass first.
    pub skip: u64,
    /// So many are met after that.
    pub times: u64,
    /// The stream begins with everything the session ever said.
    pub replay: bool,
    /// Where the stream breaks.
    pub cut: Option<Cut>,
    /// After so many frames nothing more comes, not even a heartbeat, and the connection stays open.
    pub silence_after: Option<u64>,
    /// Each frame comes in pieces of these sizes, in turn; a size of 0 is the rest of the frame.
    pub pieces: Vec<usize>,
    /// Every so-manieth frame comes twice; 0 is never.
    pub duplicate_every: u64,
    /// Every so-manieth frame comes after its follower; those of `session.…` neither wait nor overtake. 0 is never.
    pub swap_every: u64,
    /// Lines end with CR LF.
    pub crlf: bool,
    /// Frames of these types are left out.
    pub omit: Vec<String>,
    /// From some frame on the stream brings signs of life and nothing else.
    pub noise: Option<Noise>,
}

/// Signs of life without end, in place of everything that the session says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// After so many whole frames.
    pub after_frames: u64,
    /// Milliseconds from one to the next; 0 is as fast as the client reads.
    pub every_ms: u64,
    /// What they look like.
    pub form: HeartbeatForm,
}

/// Where and how a stream breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cut {
    /// After so many whole frames.
    pub after_frames: u64,
    /// Where then.
    pub at: CutAt,
    /// In which way.
    pub by: CutBy,
}

/// Where a stream breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutAt {
    /// Between two frames.
    #[default]
    Boundary,
    /// So many bytes into the next frame.
    Byte(usize),
    /// Within the next character of several bytes.
    Character,
}

/// In which way a stream breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutBy {
    /// The connection is closed within the body: the client can tell.
    #[default]
    Close,
    /// The connection is reset.
    Reset,
    /// The body ends as if it were complete.
    End,
}

/// What the list of events does not show yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListLag {
    /// The newest so many events.
    pub newest: u64,
    /// The events of the last so many milliseconds.
    pub younger_ms: i64,
}

impl Default for RequestFault {
    fn default() -> Self {
        Self {
            endpoint: None,
            event: None,
            skip: 0,
            times: 1,
            delay_ms: 0,
            jitter_ms: 0,
            finishes: false,
            answer: Answer::Real,
        }
    }
}

impl Default for ErrorAnswer {
    fn default() -> Self {
        Self {
            status: 500,
            kind: "api_error".to_owned(),
            message: "Internal server error".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            echo_credential: false,
        }
    }
}

impl Default for StreamFault {
    fn default() -> Self {
        Self {
            skip: 0,
            times: u64::MAX,
            replay: false,
            cut: None,
            silence_after: None,
            pieces: Vec::new(),
            duplicate_every: 0,
            swap_every: 0,
            crlf: false,
            omit: Vec::new(),
            noise: None,
        }
    }
}

impl RequestFault {
    /// The next `times` requests of this kind are answered with an error.
    #[must_use]
    pub fn error(endpoint: Endpoint, times: u64, status: u16, kind: &str) -> Self {
        let answer = ErrorAnswer { status, kind: kind.to_owned(), message: kind.to_owned(), ..ErrorAnswer::default() };
        Self { endpoint: Some(endpoint), times, answer: Answer::Error(answer), ..Self::default() }
    }

    /// Every request of this kind is answered like this.
    #[must_use]
    pub fn always(endpoint: Endpoint, answer: Answer) -> Self {
        Self { endpoint: Some(endpoint), times: u64::MAX, answer, ..Self::default() }
    }

    /// Every request that sends an event of this type takes so long, and is carried out whether its client stays or not.
    #[must_use]
    pub fn slow_send(event: &str, delay_ms: u64, jitter_ms: u64) -> Self {
        let event = Some(event.to_owned());
        Self { event, delay_ms, jitter_ms, finishes: true, ..Self::always(Endpoint::EventsSend, Answer::Real) }
    }

    /// As it meets its n-th request: with the delay that chance gives this one.
    fn drawn(&self, nth: u64) -> Self {
        // Multiplied by a large odd number the upper bits of a count are as good as random, and alike in each run.
        let chance = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self { delay_ms: self.delay_ms + chance % (self.jitter_ms + 1), jitter_ms: 0, ..self.clone() }
    }

    fn is_for(&self, endpoint: Option<Endpoint>, body: &[u8]) -> bool {
        (self.endpoint.is_none() || self.endpoint == endpoint)
            && self.event.as_ref().is_none_or(|event| sends(body, event))
    }
}

impl ErrorAnswer {
    /// Any status, with a body that is none of this API's.
    #[must_use]
    pub fn raw(status: u16, content_type: &str, body: &str) -> Self {
        let headers = BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]);
        Self { status, headers, body: Some(body.to_owned()), ..Self::default() }
    }
}

/// True when a request's body sends an event of this type.
fn sends(body: &[u8], event: &str) -> bool {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    let events = body.get("events").and_then(serde_json::Value::as_array);
    events.is_some_and(|events| events.iter().any(|sent| sent.get("type").is_some_and(|kind| kind == event)))
}

/// Faults that count what they have met.
#[derive(Default)]
pub(crate) struct Armed {
    faults: Arc<Faults>,
    requests_met: Vec<u64>,
    streams_met: Vec<u64>,
}

impl Armed {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            requests_met: vec![0; faults.requests.len()],
            streams_met: vec![0; faults.streams.len()],
            faults: Arc::new(faults),
        }
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// The fault of a request that just came.
    pub(crate) fn request(&mut self, endpoint: Option<Endpoint>, body: &[u8]) -> Option<RequestFault> {
        let faults = self.faults.requests.iter().zip(&mut self.requests_met);
        faults
            .filter(|(fault, _)| fault.is_for(endpoint, body))
            .find_map(|(fault, met)| meets(met, fault.skip, fault.times).then(|| fault.drawn(*met)))
    }

    /// The fault of a stream that is about to open.
    pub(crate) fn stream(&mut self) -> Option<StreamFault> {
        let faults = self.faults.streams.iter().zip(&mut self.streams_met);
        faults.into_iter().find_map(|(fault, met)| meets(met, fault.skip, fault.times).then(|| fault.clone()))
    }
}

/// Counts one more, and says whether it is among the `times` after `skip`.
fn meets(met: &mut u64, skip: u64, times: u64) -> bool {
    *met += 1;
    *met > skip && *met - skip <= times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_skips_then_meets_then_makes_way_for_the_next() {
        let first = RequestFault { skip: 1, ..RequestFault::error(Endpoint::AgentsCreate, 2, 429, "rate_limit_error") };
        let second = RequestFault::error(Endpoint::AgentsCreate, 1, 529, "overloaded_error");
        let mut armed = Armed::new(Faults { requests: vec![first.clone(), second.clone()], ..Faults::default() });
        let mut ask = |endpoint| armed.request(Some(endpoint), b"");
        assert_eq!(ask(Endpoint::SessionsCreate), None);
        // The first passes one on, and the second takes it.
        assert_eq!(ask(Endpoint::AgentsCreate), Some(second));
        assert_eq!(ask(Endpoint::AgentsCreate), Some(first.clone()));
        assert_eq!(ask(Endpoint::AgentsCreate), Some(first));
        assert_eq!(ask(Endpoint::AgentsCreate), None);
    }

    #[test]
    fn a_fault_of_one_type_of_event_passes_all_others() {
        let fault = RequestFault::slow_send("user.message", 5, 0);
        let mut armed = Armed::new(Faults { requests: vec![fault.clone()], ..Faults::default() });
        let mut ask = |body: &str| armed.request(Some(Endpoint::EventsSend), body.as_bytes());
        assert_eq!(ask(r#"{"events":[{"type":"user.interrupt"}]}"#), None);
        assert_eq!(ask(r#"{"events":[{"type":"user.interrupt"},{"type":"user.message"}]}"#), Some(fault));
        for other in ["", "user.message", r#"{"events":{"type":"user.message"}}"#] {
            assert_eq!(ask(other), None, "{other}");
        }
    }

    #[test]
    fn delays_differ_from_request_to_request_and_keep_to_their_range() {
        let fault = RequestFault::slow_send("user.message", 100, 50);
        let delays: Vec<_> = (1..100).map(|nth| fault.drawn(nth).delay_ms).collect();
        assert!(delays.iter().all(|delay| (100..=150).contains(delay)), "{delays:?}");
        assert!(delays.contains(&100) && delays.contains(&150), "{delays:?}");
    }

    #[test]
    fn a_stream_fault_lasts_unless_told_otherwise() {
        let mut armed = Armed::new(Faults { streams: vec![StreamFault::default()], ..Faults::default() });
        assert!((0..100).all(|_| armed.stream().is_some()));
    }
}
