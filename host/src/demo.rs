//! `lap demo`: the whole main job on this machine, offline. A simulated upstream and a host, both over real HTTP, and
//! a client that does what the documentation says, aloud.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, bail};
use lap_simulator::{Options, Script, Simulator};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    config::{Config, DemoArgs},
    host::Host,
    id::RequestId,
    print::{self, Unprinted},
    upstream::{Frame, SseParser},
};

const RUNTIME: &str = "claude_managed_agents";

/// Shows one turn, then serves until the process is told to end; with `once`, ends after the turn.
///
/// # Errors
/// When something of it does not work.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let upstream_key = format!("sk-ant-demo-{}", RequestId::fresh());
    let options = Options { api_key: Some(upstream_key.clone()), ..Options::default() };
    let simulator = Simulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Script::default(), options)?;
    print::line(format_args!("A simulated Anthropic API listens at {}", simulator.base_url()))?;

    let directory = tempfile::tempdir().context("no temporary directory")?;
    let master_key = format!("sk-demo-{}", RequestId::fresh());
    let config = Config::demo(args.listen, directory.path(), &master_key);
    let host = Host::start(config).await?;
    let client = Demo { http: Client::new(), base: format!("http://{}", host.address()), key: master_key };
    print::line(format_args!("The host listens at {} and stores in {}\n", client.base, directory.path().display()))?;

    client.turn(&simulator.base_url(), &upstream_key).await?;
    if !args.once {
        print::line(format_args!("\nThe host goes on until you press Ctrl-C."))?;
        tokio::signal::ctrl_c().await.context("no signals")?;
    }
    host.shutdown().await;
    Ok(())
}

struct Demo {
    http: Client,
    base: String,
    key: String,
}

impl Demo {
    /// The four requests of the documentation, and what the stream says.
    async fn turn(&self, upstream: &str, upstream_key: &str) -> anyhow::Result<()> {
        let credentials = json!({"api_key": upstream_key, "api_base": upstream});
        let path = format!("/api/agent-runtimes/{RUNTIME}/credentials");
        print::line(format_args!("PUT  {path}\n     the key goes into the vault, and no client sees it again"))?;
        self.call(self.http.put(self.url(&path)).json(&credentials)).await?;

        let agent = json!({
            "name": "demo", "owner_id": "local-user", "runtime": RUNTIME, "model": "claude-sonnet-4-6",
            "system": "You are a helpful assistant.",
        });
        print::line(format_args!("POST /api/agents\n     {agent}"))?;
        let agent = self.call(self.http.post(self.url("/api/agents")).json(&agent)).await?;

        let session = json!({"runtime": RUNTIME, "agent_id": agent["id"], "prompt": "What is in this directory?"});
        print::line(format_args!("POST /session\n     {session}"))?;
        let session = self.call(self.http.post(self.url("/session")).json(&session)).await?;
        let id = session["id"].as_str().context("the session has no id")?;
        print::line(format_args!("GET  /v1/sessions/{id}/events/stream?until=idle\n"))?;
        self.watch(id).await?;
        Ok(self.hint(id, &agent["id"])?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn call(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.bearer_auth(&self.key).send().await?;
        let status = answer.status();
        let body: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        if !status.is_success() {
            bail!("the host answered {status}: {}", body["error"]["message"]);
        }
        Ok(body)
    }

    async fn watch(&self, session: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("/v1/sessions/{session}/events/stream?until=idle"));
        let mut stream = self.http.get(url).bearer_auth(&self.key).send().await?.error_for_status()?;
        let (mut parser, mut frames, mut told) = (SseParser::default(), Vec::new(), Told::default());
        while let Some(chunk) = stream.chunk().await? {
            parser.push(&chunk, &mut frames)?;
            frames.drain(..).filter_map(|frame| told.line(&frame)).try_for_each(print::line)?;
        }
        Ok(())
    }

    fn hint(&self, session: &str, agent: &Value) -> Result<(), Unprinted> {
        let Self { base, key, .. } = self;
        print::line(format_args!("\nGo on with curl:\n"))?;
        print::line(format_args!("export MASTER_KEY={key} SESSION={session}"))?;
        print::line(format_args!(
            "curl -N {base}/v1/sessions/$SESSION/events/stream -H \"Authorization: Bearer $MASTER_KEY\" &"
        ))?;
        print::line(format_args!(
            "curl {base}/session/$SESSION/prompt_async -H \"Authorization: Bearer $MASTER_KEY\" \\\n     \
             -H 'content-type: application/json' -d '{{\"parts\":[{{\"type\":\"text\",\"text\":\"And now?\"}}]}}'"
        ))?;
        print::line(format_args!(
            "curl {base}/session -H \"Authorization: Bearer $MASTER_KEY\" \\\n     \
             -H 'content-type: application/json' -d '{{\"runtime\":\"{RUNTIME}\",\"agent_id\":{agent},\"prompt\":\"Hello\"}}'"
        ))?;
        print::line(format_args!("\nOr in a browser, with the same key: {base}/console/sessions/{session}"))
    }
}

/// What people were told already.
#[derive(Default)]
struct Told {
    /// The ids of clients' events.
    of_clients: HashSet<String>,
}

impl Told {
    /// An event for people: its type, and what it says. A client's event comes twice, when it has arrived and when it is
    /// processed: people are told once, unless it will not be sent after all.
    fn line(&mut self, frame: &Frame) -> Option<String> {
        let event: Value = serde_json::from_str(&frame.data).unwrap_or_default();
        let withdrawn = Some(&event["withdrawn"]).filter(|withdrawn| withdrawn.is_object());
        if frame.name.starts_with("user.")
            && let Some(id) = event["id"].as_str()
            && !self.of_clients.insert(id.to_owned())
            && withdrawn.is_none()
        {
            return None;
        }
        let mut said = match (&event["content"][0]["text"], &event["input"], &event["stop_reason"]["type"]) {
            (Value::String(text), _, _) => text.clone(),
            (_, Value::Object(input), _) => format!("{} {}", event["name"].as_str().unwrap_or_default(), json!(input)),
            (_, _, Value::String(reason)) => reason.clone(),
            _ => String::new(),
        };
        if let Some(withdrawn) = withdrawn {
            said = format!("withdrawn: {}: {said}", withdrawn["reason"].as_str().unwrap_or("nobody says why"));
        }
        // One line for each event, whatever it says.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(format!("{:<28} {said}", frame.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of some events.
    fn told(events: &[Value]) -> Vec<String> {
        let mut told = Told::default();
        let frame = |event: &Value| Frame {
            name: event["type"].as_str().unwrap_or_default().to_owned(),
            data: event.to_string(),
        };
        events.iter().filter_map(|event| told.line(&frame(event))).collect()
    }

    #[test]
    fn a_message_that_comes_twice_is_told_once() {
        let message = |id: &str, at: Value| json!({"type": "user.message", "id": id, "processed_at": at, "content": [{"type": "text", "text": "Look\n around"}]});
        let running = json!({"type": "session.status_running", "id": "r"});
        let events = [
            message("a", json!(null)),
            running,
            message("a", json!("2026-11-29T10:00:00Z")),
            message("b", json!(null)),
        ];
        let line = format!("{:<28} Look around", "user.message");
        assert_eq!(told(&events), [line.clone(), format!("{:<28} ", "session.status_running"), line]);
    }

    #[test]
    fn a_message_that_will_not_be_sent_says_why() {
        let mut message = json!({"type": "user.message", "id": "a", "processed_at": null, "content": [{"type": "text", "text": "Go on"}]});
        let mut events = vec![message.clone()];
        message["withdrawn"] = json!({"reason": "the turn failed"});
        events.push(message.clone());
        message["withdrawn"] = json!({});
        let withdrawn = |why: &str| format!("{:<28} withdrawn: {why}: Go on", "user.message");
        assert_eq!(told(&events), [format!("{:<28} Go on", "user.message"), withdrawn("the turn failed")]);
        assert_eq!(told(&[message]), [withdrawn("nobody says why")]);
    }

    #[test]
    fn an_event_without_an_id_is_told_each_time() {
        let event = json!({"type": "user.message", "content": [{"type": "text", "text": "Hi"}]});
        assert_eq!(told(&[event.clone(), event]).len(), 2);
        assert_eq!(told(&[json!(7)]), [format!("{:<28} ", "")]);
    }
}
