//! What a session has used, added up from what its runtime reports. What no runtime reports is not there: nothing is
//! estimated.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use lap_model::time::parse_us;

use crate::event::Head;

/// The largest sum of a runtime's own that is kept: it is written with each change of the session's record.
const REPORTED_BYTES_MAX: usize = 16 * 1024;

/// The sum over all turns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens, once a model request has reported some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The runtime's own sum, as JSON, where it reports one; it beats ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Box<RawValue>>,
    /// For how long turns have run, in microseconds, once one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_us: Option<u64>,
    /// Since when one runs, in microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_us: Option<i64>,
}

/// Tokens of model requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Read anew.
    pub input_tokens: u64,
    /// Written.
    pub output_tokens: u64,
    /// Put into the cache of prompts.
    pub cache_creation_input_tokens: u64,
    /// Read from it.
    pub cache_read_input_tokens: u64,
}

#[derive(Deserialize)]
struct Request {
    model_usage: Tokens,
}

#[derive(Deserialize)]
struct Reported {
    usage: Box<RawValue>,
}

impl Usage {
    /// Takes an event that the log did not have. True when it changes the sum.
    pub fn add(&mut self, head: &Head<'_>, json: &str, now_us: i64) -> bool {
        let at = head.processed_at.and_then(|at| parse_us(at.trim_matches('"'))).unwrap_or(now_us);
        match &*head.kind {
            "span.model_request_end" => {
                let Ok(Request { model_usage }) = serde_json::from_str(json) else { return false };
                let sum = self.tokens.get_or_insert_default();
                let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
                add(&mut sum.input_tokens, model_usage.input_tokens);
                add(&mut sum.output_tokens, model_usage.output_tokens);
                add(&mut sum.cache_creation_input_tokens, model_usage.cache_creation_input_tokens);
                add(&mut sum.cache_read_input_tokens, model_usage.cache_read_input_tokens);
                true
            }
            "session.usage" => {
                let Ok(Reported { usage }) = serde_json::from_str(json) else { return false };
                let fits = usage.get().len() <= REPORTED_BYTES_MAX;
                if fits {
                    self.reported = Some(usage);
                }
                fits
            }
            "session.status_running" if self.since_us.is_none() => {
                self.since_us = Some(at);
                true
            }
            "session.status_idle" | "session.status_rescheduled" | "session.status_terminated" => {
                let Some(since) = self.since_us.take() else { return false };
                let active = u64::try_from(at.saturating_sub(since)).unwrap_or_default();
                self.active_us = Some(self.active_us.unwrap_or_default().saturating_add(active));
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::event::check;

    fn sum(events: &[&str]) -> (Usage, Vec<bool>) {
        let mut usage = Usage::default();
        let changed = events.iter().map(|json| usage.add(&check(json).unwrap(), json, 9_000_000)).collect();
        (usage, changed)
    }

    #[test]
    fn tokens_of_all_requests_are_added_up() {
        let request = |usage: &str| format!(r#"{{"type":"span.model_request_end","model_usage":{usage}}}"#);
        let first = request(r#"{"input_tokens":3,"output_tokens":5,"cache_read_input_tokens":7,"speed":null}"#);
        let second = request(r#"{"input_tokens":10,"output_tokens":18446744073709551615}"#);
        let (usage, changed) = sum(&[&first, &second, &request("null"), r#"{"type":"agent.message"}"#]);
        let tokens = Tokens {
            input_tokens: 13,
            output_tokens: u64::MAX,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 7,
        };
        assert_eq!((usage.tokens, changed), (Some(tokens), vec![true, true, false, false]));
        assert_eq!(sum(&[]).0.tokens, None, "nothing reported is not zero");
    }

    #[test]
    fn the_runtimes_own_sum_is_kept_as_it_is() {
        let (usage, _) = sum(&[
            r#"{"type":"session.usage","usage":{"input_tokens":1}}"#,
            r#"{"type":"session.usage","usage":{"input_tokens":2, "x":[]}}"#,
        ]);
        assert_eq!(usage.reported.unwrap().get(), r#"{"input_tokens":2, "x":[]}"#);
    }

    #[test]
    fn a_session_is_active_from_the_beginning_to_the_end_of_each_turn() {
        let at = |kind: &str, second: u32| {
            format!(r#"{{"type":"session.status_{kind}","processed_at":"1970-01-01T00:00:{second:02}Z"}}"#)
        };
        let events = [at("running", 1), at("running", 2), at("idle", 4), at("idle", 5), at("running", 6)];
        let (usage, changed) = sum(&events.each_ref().map(String::as_str));
        assert_eq!((usage.active_us, usage.since_us), (Some(3_000_000), Some(6_000_000)));
        assert_eq!(changed, [true, false, true, false, true]);
        let (usage, _) = sum(&[&at("running", 8), r#"{"type":"session.status_terminated"}"#]);
        assert_eq!(usage.active_us, Some(1_000_000), "without a time of the upstream's, ours");
        assert_eq!(sum(&[r#"{"type":"session.status_idle"}"#]).0.active_us, None);
    }
}
