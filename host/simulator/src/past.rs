//! A session of another simulator, as that one's API showed it, for hosts whose store is older than the simulator: its
//! `sessions.retrieve`, and all of its `sessions.events.list`, oldest first.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{clock::Moment, session::Profile};

/// What was shown of a session.
#[derive(Debug, Clone, Deserialize)]
pub struct Past {
    pub(crate) session: Shown,
    pub(crate) events: Vec<Map<String, Value>>,
}

/// The fields of a session that go on; others are left out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) environment_id: String,
    agent: Map<String, Value>,
    title: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    budget: Option<Value>,
    #[serde(default)]
    resources: Vec<Value>,
    #[serde(default)]
    vault_ids: Vec<String>,
    created_at: Option<String>,
    archived_at: Option<String>,
}

impl Past {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.session.id
    }

    /// The same session as it was when it had said so many events, and what it has said since.
    #[must_use]
    pub fn split(mut self, count: usize) -> (Self, Vec<Map<String, Value>>) {
        let later = self.events.split_off(count.min(self.events.len()));
        (self, later)
    }
}

impl Shown {
    pub(crate) fn created_at(&self) -> Moment {
        moment(self.created_at.as_deref()).unwrap_or_else(Moment::now)
    }

    pub(crate) fn profile(&self) -> Profile {
        Profile {
            agent: Arc::new(self.agent.clone()),
            title: self.title.clone(),
            metadata: self.metadata.clone(),
            budget: self.budget.clone(),
            resources: self.resources.clone(),
            vault_ids: self.vault_ids.clone(),
            updated_at: self.created_at(),
            archived_at: moment(self.archived_at.as_deref()),
        }
    }
}

fn moment(text: Option<&str>) -> Option<Moment> {
    text.and_then(Moment::parse)
}

/// The events that wait for the client's answer at the end of a history.
pub(crate) fn unanswered(events: &[Map<String, Value>]) -> Vec<String> {
    let mut asked: Vec<String> = Vec::new();
    for event in events {
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        match text("type") {
            Some("session.status_idle") => {
                let ids = event.get("stop_reason").and_then(|reason| reason.get("event_ids")?.as_array());
                asked = ids.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect();
            }
            Some("session.status_running" | "session.status_terminated") => asked.clear(),
            Some("user.tool_confirmation" | "user.custom_tool_result") => {
                let answered = text("tool_use_id").or_else(|| text("custom_tool_use_id"));
                asked.retain(|id| answered != Some(id));
            }
            _ => {}
        }
    }
    asked
}

/// Whether a history ends with the session.
pub(crate) fn is_terminated(events: &[Map<String, Value>]) -> bool {
    events.iter().any(|event| event.get("type").is_some_and(|kind| kind == "session.status_terminated"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn events(list: &Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(list.clone()).unwrap()
    }

    #[test]
    fn what_waits_is_what_was_asked_last_and_not_answered() {
        let asks =
            json!({"type": "session.status_idle", "stop_reason": {"type": "requires_action", "event_ids": ["a", "b"]}});
        let allowed = json!({"type": "user.tool_confirmation", "tool_use_id": "a"});
        let ended = json!({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}});
        assert_eq!(unanswered(&events(&json!([asks]))), ["a", "b"]);
        assert_eq!(unanswered(&events(&json!([asks, allowed]))), ["b"]);
        assert!(unanswered(&events(&json!([asks, ended]))).is_empty());
        assert!(unanswered(&events(&json!([asks, {"type": "session.status_running"}]))).is_empty());
        assert!(unanswered(&[]).is_empty());
    }
}
