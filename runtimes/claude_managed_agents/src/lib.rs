//! The bundled runtime for Anthropic's Claude Managed Agents, and for every server that speaks their API.
//!
//! For the host, which runs it as a component. In reading order:
//!
//! * `agent`: what sessions of an agent share upstream, and how its tools are said there
//! * `session`: a session upstream: opened, sent to, listed, closed
//! * `events`: the feed; the hot path
//!
//! Must not keep anything between two calls, and must not panic. Events pass through unchanged: this API's events are
//! the platform's events.

mod agent;
mod events;
mod session;

use lap_runtime_sdk::{
    AgentSpec, Description, Error, Feed, Frames, History, Input, Method, Model, Outcome, Request, Runtime,
    SessionOpened, SessionSpec, Tool, Upstream,
};
use serde::{Deserialize, Serialize};

/// The runtime; a name without a value, because a runtime is functions only.
pub struct ClaudeManagedAgents;

lap_runtime_sdk::export!(ClaudeManagedAgents);

impl Runtime for ClaudeManagedAgents {
    fn describe() -> Description {
        Description {
            id: "claude_managed_agents".to_owned(),
            name: "Claude Agents".to_owned(),
            default_base: "https://api.anthropic.com".to_owned(),
            provider_id: "anthropic".to_owned(),
            provider_name: "Anthropic".to_owned(),
            auth_header: "x-api-key".to_owned(),
            auth_scheme: String::new(),
            tools: agent::TOOLS.iter().map(Tool::from).collect(),
        }
    }

    fn provision(upstream: &mut dyn Upstream, agent: AgentSpec) -> Result<String, Error> {
        agent::provision(upstream, &agent)
    }

    fn open(upstream: &mut dyn Upstream, session: SessionSpec) -> Result<SessionOpened, Error> {
        session::open(upstream, &session)
    }

    fn listen(_: &mut dyn Upstream, state: String) -> Result<Feed, Error> {
        session::listen(&state)
    }

    fn send(upstream: &mut dyn Upstream, state: String, inputs: Vec<Input>) -> Result<Outcome, Error> {
        session::send(upstream, &state, &inputs)
    }

    fn on_frames(_: &mut dyn Upstream, _: String, frames: Frames) -> Result<Outcome, Error> {
        Ok(events::on_frames(&frames))
    }

    fn catch_up(upstream: &mut dyn Upstream, state: String, cursor: Option<String>) -> Result<History, Error> {
        session::catch_up(upstream, &state, cursor.as_deref())
    }

    fn close(upstream: &mut dyn Upstream, state: String) -> Result<(), Error> {
        session::close(upstream, &state)
    }

    fn models(upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
        models(upstream)
    }
}

/// The form of the API that this runtime is written for.
fn of_this_version(request: Request) -> Request {
    request.header("anthropic-version", "2023-06-01").header("anthropic-beta", "managed-agents-2026-04-01")
}

fn get(path: &str) -> Request {
    of_this_version(Request::get(path))
}

fn post(path: &str, body: &impl Serialize) -> Result<Request, Error> {
    Ok(of_this_version(Request::post(path, body)?))
}

fn delete(path: &str) -> Request {
    of_this_version(Request::new(Method::Delete, path))
}

/// Anthropic's list, or that of a server which took its form from elsewhere.
fn models(upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(alias = "models")]
        data: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        id: Option<String>,
        name: Option<String>,
        display_name: Option<String>,
    }
    let response = upstream.call(get("/v1/models").query("limit", "1000"))?;
    let page: Page = response.json()?;
    let model = |listed: Listed| {
        let id = listed.id.or_else(|| listed.name.clone())?;
        let name = listed.display_name.or(listed.name).unwrap_or_else(|| id.clone());
        Some(Model { id, name })
    };
    Ok(page.data.into_iter().filter_map(model).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{ErrorKind, Header, Script};

    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn every_request_names_the_version_and_only_a_body_has_a_type() {
        let version =
            [header("anthropic-version", "2023-06-01"), header("anthropic-beta", "managed-agents-2026-04-01")];
        assert_eq!(get("/").headers, version);
        assert_eq!(delete("/").headers, version);
        let posted = post("/", &"").unwrap();
        assert_eq!(posted.headers[0], header("content-type", "application/json"));
        assert_eq!(posted.headers[1..], version);
    }

    #[test]
    fn it_describes_the_tools_that_it_can_choose_from() {
        let description = ClaudeManagedAgents::describe();
        let ids: Vec<_> = description.tools.iter().map(|tool| tool.id.as_str()).collect();
        assert_eq!(ids, ["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"]);
        assert!(description.tools.iter().all(|tool| tool.enabled_by_default && !tool.description.is_empty()));
        assert_eq!(description.tools[0].name, "Shell");
        assert_eq!((description.auth_header.as_str(), description.auth_scheme.as_str()), ("x-api-key", ""));
    }

    #[test]
    fn models_are_read_in_each_form() {
        let model = |id: &str, name: &str| Model { id: id.to_owned(), name: name.to_owned() };
        for (body, expected) in [
            (
                r#"{"data":[{"type":"model","id":"claude-opus-4-5","display_name":"Claude Opus 4.5"}],"has_more":false}"#,
                vec![model("claude-opus-4-5", "Claude Opus 4.5")],
            ),
            (r#"{"object":"list","data":[{"id":"a"},{"name":"b"},{}]}"#, vec![model("a", "a"), model("b", "b")]),
            (r#"{"models":[{"name":"c"}]}"#, vec![model("c", "c")]),
        ] {
            let mut script = Script::new([(200, body)]);
            assert_eq!(models(&mut script).unwrap(), expected);
            assert_eq!(script.requests, [get("/v1/models").query("limit", "1000")]);
        }
    }

    #[test]
    fn a_list_of_models_that_is_none_is_the_upstreams_fault() {
        let error = models(&mut Script::new([(200, "[]")])).unwrap_err();
        assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)));
    }
}
