//! What is known of a session. All of it: the upstream has responses only.

use std::collections::BTreeMap;

use lap_runtime_sdk::{Error, ErrorKind, Response, SessionSpec, write_state};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tools;

/// The host keeps at most 64 KiB. What a turn adds needs some of it.
const AGENT_BYTES_MAX: usize = 48 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) model: String,
    /// The system prompt, which every response is told anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) instructions: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Value>,
    /// The response that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Run>,
    /// The last one that came to its end: what the next one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
    /// What the client has to answer, by the event's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) open: BTreeMap<String, Call>,
    /// What it has answered, while others are still open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) answers: Vec<Value>,
}

/// A response that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// The number of the last thing that its stream said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
}

impl Run {
    pub(crate) fn path(&self, tail: &str) -> String {
        format!("/v1/responses/{}{tail}", self.id)
    }

    /// An answer that has to be this response, as it is now.
    ///
    /// # Errors
    /// When it is something else, such as the page of a proxy on the way.
    pub(crate) fn read(&self, answer: &Response) -> Result<Value, Error> {
        let response: Value = answer.json()?;
        if response["id"] == *self.id {
            return Ok(response);
        }
        Err(Error::not_understood(answer, format_args!("it is not the response {}", self.id)))
    }
}

/// Something that the client has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// A function, by the name of its call.
    Function(String),
    /// Leave to use a tool of an MCP server.
    Approval,
}

impl State {
    /// # Errors
    /// When the agent cannot be this API's.
    pub(crate) fn open(session: &SessionSpec) -> Result<Self, Error> {
        session.refuse(&["resources", "vault_ids", "budget"])?;
        let agent = &session.agent;
        let tools = tools::of(agent.tools.as_deref(), &agent.config)?;
        let state = Self { model: agent.model.clone(), instructions: agent.system.clone(), tools, ..Self::default() };
        if write_state(&state)?.len() > AGENT_BYTES_MAX {
            let message = format!("the agent's system prompt and tools are larger than {AGENT_BYTES_MAX} bytes in all");
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        Ok(state)
    }
}
