//! The same few requests in two dialects: through the host, and straight on the simulated upstream.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{Answer, Body, Connection};

/// The key that the simulator takes.
pub(crate) const UPSTREAM_KEY: &str = "sk-ant-bench-0123456789abcdef";
/// The key that the host takes.
pub(crate) const HOST_KEY: &str = "sk-bench-0123456789abcdef";
/// The runtime that is measured.
pub(crate) const RUNTIME: &str = "claude_managed_agents";

/// Which way the work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Straight,
    Host,
}

/// One side's server, with an agent on it.
pub(crate) struct Api {
    pub(crate) side: Side,
    address: SocketAddr,
    /// The body that makes a session.
    session: Value,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

impl Api {
    /// The simulated upstream, with an agent and an environment.
    pub(crate) async fn straight(address: SocketAddr) -> Result<Arc<Self>> {
        let mut api = Self { side: Side::Straight, address, session: Value::Null };
        let mut connection = Connection::open(address).await?;
        let agent = json!({"name": "bench", "model": "claude-opus-4-5"});
        let agent: Created = api.post(&mut connection, "/v1/agents", &agent).await?;
        let environment = json!({"name": "bench", "config": {"type": "cloud", "networking": {"type": "unrestricted"}}});
        let environment: Created = api.post(&mut connection, "/v1/environments", &environment).await?;
        // What the host's runtime sends.
        api.session = json!({
            "agent": {"type": "agent", "id": agent.id, "version": 1},
            "environment_id": environment.id,
            "title": "bench",
            "metadata": {"local_agent_id": "agent_local", "local_session_id": "ses_local"},
        });
        Ok(Arc::new(api))
    }

    /// The host, with a credential for `upstream` and an agent.
    pub(crate) async fn host(address: SocketAddr, upstream: SocketAddr) -> Result<Arc<Self>> {
        Self::of_runtime(RUNTIME, address, upstream).await
    }

    /// The same with an agent of another runtime.
    pub(crate) async fn of_runtime(runtime: &str, address: SocketAddr, upstream: SocketAddr) -> Result<Arc<Self>> {
        let mut api = Self { side: Side::Host, address, session: Value::Null };
        let mut connection = Connection::open(address).await?;
        let credentials = json!({"api_key": UPSTREAM_KEY, "api_base": format!("http://{upstream}")});
        let path = format!("/api/agent-runtimes/{runtime}/credentials");
        successful(connection.call(&api.request("PUT", &path, Some(&credentials))).await?)?;
        let agent = json!({
            "name": "bench", "owner_id": "local-user", "runtime": runtime, "model": "claude-opus-4-5", "system": "",
        });
        let agent: Created = api.post(&mut connection, "/api/agents", &agent).await?;
        api.session = json!({"runtime": runtime, "agent_id": agent.id});
        Ok(Arc::new(api))
    }

    /// A server that has what it needs, for what asks it about sessions that there are.
    pub(crate) const fn at(side: Side, address: SocketAddr) -> Self {
        Self { side, address, session: Value::Null }
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address).await.context("no connection")
    }

    /// What asks for a new session.
    pub(crate) fn new_session(&self) -> Vec<u8> {
        let path = match self.side {
            Side::Straight => "/v1/sessions",
            Side::Host => "/session",
        };
        self.request("POST", path, Some(&self.session))
    }

    /// The id in the answer to that.
    pub(crate) fn session_id(answer: Answer) -> Result<String> {
        created(answer).map(|created| created.id)
    }

    /// Makes a session that has a prompt. On the host only, whose turns need no reader.
    pub(crate) async fn start(&self, connection: &mut Connection, prompt: &str) -> Result<String> {
        ensure!(self.side == Side::Host, "a turn without a reader is for the host");
        let mut session = self.session.clone();
        session["prompt"] = prompt.into();
        self.post(connection, "/session", &session).await.map(|created| created.id)
    }

    pub(crate) async fn prompt(&self, connection: &mut Connection, session: &str, text: &str) -> Result<()> {
        let (path, body) = match self.side {
            Side::Straight => {
                let message = json!({"type": "user.message", "content": [{"type": "text", "text": text}]});
                (format!("/v1/sessions/{session}/events"), json!({"events": [message]}))
            }
            Side::Host => {
                (format!("/session/{session}/prompt_async"), json!({"parts": [{"type": "text", "text": text}]}))
            }
        };
        successful(connection.call(&self.request("POST", &path, Some(&body))).await?).map(drop)
    }

    /// Opens a session's stream. The host's begins with the session's first event.
    pub(crate) async fn stream(&self, session: &str) -> Result<Body> {
        self.open(&format!("/v1/sessions/{session}/events/stream")).await
    }

    /// Opens a session's stream behind an event; on the host only.
    pub(crate) async fn stream_after(&self, session: &str, after: u64) -> Result<Body> {
        self.open(&format!("/v1/sessions/{session}/events/stream?after={after}")).await
    }

    async fn open(&self, path: &str) -> Result<Body> {
        let (status, body) = self.connect().await?.stream(&self.request("GET", path, None)).await?;
        ensure!(status == 200, "GET {path} was answered with {status}");
        Ok(body)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.connect().await?.call(&self.request("GET", path, None)).await?;
        Ok(serde_json::from_slice(&successful(answer)?.body)?)
    }

    /// Reads an answer of any size to its end, and says how long it was.
    pub(crate) async fn download(&self, path: &str) -> Result<u64> {
        let (mut body, mut piece, mut bytes) = (self.open(path).await?, Vec::new(), 0);
        while body.read(&mut piece).await? {
            bytes += piece.len() as u64;
            piece.clear();
        }
        ensure!(bytes > 0, "GET {path} was answered with nothing");
        Ok(bytes)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        successful(self.connect().await?.call(&self.request("DELETE", path, None)).await?).map(drop)
    }

    async fn post(&self, connection: &mut Connection, path: &str, body: &Value) -> Result<Created> {
        created(connection.call(&self.request("POST", path, Some(body))).await?).with_context(|| format!("POST {path}"))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
        let key = match self.side {
            Side::Straight => format!(
                "x-api-key: {UPSTREAM_KEY}\r\nanthropic-version: 2023-06-01\r\n\
                 anthropic-beta: managed-agents-2026-04-01\r\n"
            ),
            Side::Host => format!("authorization: Bearer {HOST_KEY}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{key}", self.address);
        match body.map(Value::to_string) {
            Some(body) => {
                let length = body.len();
                format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            }
            None => format!("{head}\r\n"),
        }
        .into_bytes()
    }
}

fn created(answer: Answer) -> Result<Created> {
    Ok(serde_json::from_slice(&successful(answer)?.body)?)
}

fn successful(answer: Answer) -> Result<Answer> {
    if !(200..300).contains(&answer.status) {
        bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(answer)
}
