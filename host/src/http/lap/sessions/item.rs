//! A session as clients see it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    clock,
    id::{AgentId, ComponentDigest, ProvisionId, RuntimeId, SessionId},
    session::{self, Session},
};

/// A session. What is not known is absent, not null; only `usage` is always there.
#[derive(Serialize)]
pub(super) struct Item<'a> {
    id: SessionId,
    title: &'a str,
    agent: AgentId,
    agent_id: AgentId,
    harness: &'a RuntimeId,
    runtime: &'a RuntimeId,
    /// The version of the runtime that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<ComponentDigest>,
    runtime_agent_ref_id: ProvisionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_session_id: Option<&'a str>,
    status: &'static str,
    /// How many of its messages wait for the turn to end.
    #[serde(skip_serializing_if = "is_zero")]
    queued: u64,
    /// Why it waits for its upstream, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<WaitsFor<'a>>,
    /// Null as long as its runtime has reported nothing.
    usage: Option<Usage<'a>>,
    environment: &'a RawValue,
    time: Time,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it serializes by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a session waits for its upstream.
#[derive(Serialize)]
struct WaitsFor<'a> {
    reason: &'a str,
    /// When the next try comes: RFC 3339.
    next_try_at: String,
}

impl<'a> From<&'a session::Waiting> for WaitsFor<'a> {
    fn from(waiting: &'a session::Waiting) -> Self {
        Self { reason: &waiting.reason, next_try_at: clock::rfc3339_of(waiting.next_try_ms) }
    }
}

/// When something was made and changed, in milliseconds since the epoch.
#[derive(Serialize)]
pub(super) struct Time {
    pub(super) created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated: Option<u64>,
}

/// What a session has used, as far as its runtime reports it.
#[derive(Serialize)]
struct Usage<'a> {
    #[serde(flatten)]
    tokens: Option<Tokens>,
    /// For how long its turns have run that are over.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_ms: Option<u64>,
    /// The runtime's own sum, in a form of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
}

impl<'a> Usage<'a> {
    fn of(usage: &'a session::Usage) -> Option<Self> {
        let tokens = usage.tokens.map(|tokens| {
            let session::Tokens { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } =
                tokens;
            Tokens { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens }
        });
        let (active_ms, reported) = (usage.active_us.map(|us| us / 1000), usage.reported.as_deref());
        let known = tokens.is_some() || active_ms.is_some() || reported.is_some();
        known.then_some(Self { tokens, active_ms, reported })
    }
}

impl<'a> From<&'a Session> for Item<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            id: session.id,
            title: &session.title,
            agent: session.agent,
            agent_id: session.agent,
            harness: &session.runtime,
            runtime: &session.runtime,
            component: session.component,
            runtime_agent_ref_id: session.provision,
            provider_session_id: session.upstream_id.as_deref(),
            status: session.status().as_str(),
            queued: session.waiting().end - session.waiting().start,
            waits_for: session.waits_for.as_ref().map(WaitsFor::from),
            usage: Usage::of(&session.usage),
            environment: &session.environment,
            time: Time { created: session.created_ms, updated: Some(session.updated_ms) },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reported_is_not_shown_as_zero() {
        let shown = |usage: &str| {
            let usage: session::Usage = serde_json::from_str(usage).unwrap();
            serde_json::to_string(&Usage::of(&usage)).unwrap()
        };
        assert_eq!(shown("{}"), "null");
        assert_eq!(shown(r#"{"since_us":7}"#), "null", "its first turn runs still");
        assert_eq!(shown(r#"{"active_us":1500999}"#), r#"{"active_ms":1500}"#);
        let counted = r#""output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0"#;
        assert_eq!(
            shown(r#"{"tokens":{"input_tokens":3},"reported":{"x": 1}}"#),
            format!(r#"{{"input_tokens":3,{counted},"reported":{{"x": 1}}}}"#)
        );
    }
}
