//! What is refused, in the words of both dialects: keys, paths, methods, bodies, parameters, and what the upstream refuses.

use http::Method;
use lap_simulator::{
    Endpoint, Faults,
    fault::{Answer, ErrorAnswer, RequestFault},
};
use serde_json::{Value, json};

use super::{Tape, parts, script, world};
use crate::harness::{ANTHROPIC, RUNTIME, World};

const NOBODY: &str = "ses_00000000000000000000000000000000";

fn always(endpoint: Endpoint, answer: ErrorAnswer) -> Faults {
    let fault = RequestFault {
        endpoint: Some(endpoint),
        times: 1_000_000,
        answer: Answer::Error(answer),
        ..RequestFault::default()
    };
    Faults { requests: vec![fault], ..Faults::default() }
}

#[tokio::test]
async fn every_answer() {
    let (world, mut tape) = world("every_answer").await;
    tape.with_every_header();
    tape.note("The headers that every answer has, and no other file shows");
    tape.get(&world.client, "/health").await;
    tape.get(&world.client, "/session").await;
    tape.get(&world.client, "/nowhere").await;
    tape.sdk(&world.client, Method::GET, "/v1/agents", None).await;
    let session = world.session("/short hello").await;
    world.client.turn(&session).await;
    tape.turn(&world.client, &session, 6).await;
    tape.done();
}

#[tokio::test]
async fn keys_that_do_not_open() {
    let (world, mut tape) = world("keys_that_do_not_open").await;
    let nobody = world.client.with_key(None);
    let wrong = world.client.with_key(Some("sk-wrong"));
    tape.note("No key");
    tape.get(&nobody, "/session").await;
    tape.sdk(&nobody, Method::GET, "/v1/agents", None).await;
    tape.note("No key, and a body that is no JSON: the key is looked at first");
    tape.send_text(&nobody, Method::POST, "/api/agents", &[], Some("{".to_owned())).await;
    tape.note("A wrong key, as a bearer token and in the other header");
    tape.get(&wrong, "/session").await;
    tape.send(&nobody, Method::GET, "/session", &[("x-api-key", "sk-wrong")], None).await;
    tape.sdk(&wrong, Method::POST, "/v1/sessions", Some(&json!({}))).await;
    tape.note("A key in the URL");
    for path in ["/session?key=sk-1", "/api/agents?api_key=sk-1", "/v1/sessions/x/events/stream?token=sk-1"] {
        tape.get(&nobody, path).await;
    }
    tape.done();
}

#[tokio::test]
async fn paths_methods_and_bodies() {
    let (world, mut tape) = world("paths_methods_and_bodies").await;
    let client = &world.client;
    let agent = world.agent().await;
    let session = client.session(&agent, None).await;
    tape.note("Unknown paths and other methods");
    tape.get(client, "/nowhere").await;
    tape.get(client, "/api/nothing").await;
    tape.sdk(client, Method::GET, "/v1/nothing", None).await;
    tape.lap(client, Method::PUT, "/session", None).await;
    tape.sdk(client, Method::PUT, "/v1/agents", None).await;
    tape.note("Bodies that are no JSON, no object, or too large");
    for body in ["", "{", "[1]", "null", "\"text\""] {
        tape.send_text(client, Method::POST, "/api/agents", &[], Some(body.to_owned())).await;
        tape.send_text(client, Method::POST, "/v1/agents", &ANTHROPIC, Some(body.to_owned())).await;
    }
    let answer = client.send(Method::POST, "/api/agents", &[], Some("x".repeat(2 << 20))).await;
    tape.asked(&Method::POST, "/api/agents", &[], Some("2 MiB of x"));
    tape.answered(&answer);
    tape.note("Agents");
    for body in [
        json!({}),
        json!({"name": "a"}),
        json!({"name": " ", "owner_id": "x"}),
        json!({"name": 1, "owner_id": "x"}),
        json!({"name": "a", "owner_id": "x", "runtime": "nope"}),
        json!({"name": "a", "owner_id": "x", "config": []}),
    ] {
        tape.post(client, "/api/agents", &body).await;
    }
    tape.get(client, "/api/agents/agent_of_nobody").await;
    tape.lap(client, Method::PATCH, &format!("/api/agents/{agent}"), Some(&json!({"name": ""}))).await;
    tape.lap(client, Method::PATCH, "/api/agents/agent_of_nobody", Some(&json!({"name": "b"}))).await;
    tape.note("Sessions");
    for body in [
        json!({}),
        json!({"runtime": RUNTIME}),
        json!({"runtime": "nope", "agent_id": agent}),
        json!({"agent_id": 1}),
        json!({"runtime": RUNTIME, "agent_id": "agent_of_nobody"}),
        json!({"runtime": "openai_responses", "agent_id": agent}),
        json!({"runtime": RUNTIME, "agent_id": agent, "environment": []}),
    ] {
        tape.post(client, "/session", &body).await;
    }
    tape.note("Prompts");
    for body in
        [json!({}), json!({"parts": []}), json!({"parts": [{"type": "text", "text": " "}]}), json!({"parts": "x"})]
    {
        tape.post(client, &format!("/session/{session}/prompt_async"), &body).await;
        tape.post(client, &format!("/session/{session}/message"), &body).await;
    }
    tape.note("A session that nobody knows");
    for path in ["", "/message", "/runtime_events", "/runtime_events/list"] {
        tape.get(client, &format!("/session/{NOBODY}{path}")).await;
    }
    for path in ["prompt_async", "message"] {
        tape.post(client, &format!("/session/{NOBODY}/{path}"), &parts("hello")).await;
    }
    for path in ["interrupt", "abort", "kill"] {
        tape.lap(client, Method::POST, &format!("/session/{NOBODY}/{path}"), None).await;
    }
    tape.note("Parameters");
    for query in ["limit=x", "status=busy", "after=x", "agent=x"] {
        tape.get(client, &format!("/session?{query}")).await;
    }
    for query in ["limit=x", "after=x", "after=1", "page=x"] {
        tape.get(client, &format!("/v1/sessions/{session}/events?{query}")).await;
    }
    tape.get(client, &format!("/v1/sessions/{session}/events/stream?until=never")).await;
    tape.done();
}

#[tokio::test]
async fn the_same_in_the_other_dialect() {
    let (world, mut tape) = world("the_same_in_the_other_dialect").await;
    let client = &world.client;
    let agent = world.agent().await;
    let session = client.session(&agent, None).await;
    tape.note("What is missing is told in the vendor's order");
    let version = ("anthropic-version", "2023-06-01");
    let beta = ("anthropic-beta", "managed-agents-2026-04-01");
    for headers in [&[][..], &[version], &[beta], &[version, ("anthropic-beta", "message-batches-2024-09-24")]] {
        tape.send(client, Method::GET, "/v1/agents", headers, None).await;
    }
    tape.note("Things that nobody knows");
    for path in ["/v1/agents/x", "/v1/environments/x", "/v1/sessions/x", "/v1/sessions/x/events", "/v1/models/x"] {
        tape.sdk(client, Method::GET, path, None).await;
    }
    tape.note("Bodies");
    for (path, body) in [
        ("/v1/agents", json!({})),
        ("/v1/agents", json!({"name": "a", "model": "m", "colour": "red"})),
        ("/v1/agents", json!({"name": "a", "model": "m", "multiagent": {"type": "coordinator"}})),
        ("/v1/environments", json!({})),
        ("/v1/sessions", json!({})),
        ("/v1/sessions", json!({"agent": agent, "environment_id": "env_x"})),
        ("/v1/sessions", json!({"agent": "agent_x", "environment_id": "env_00000000000000000000000000000000"})),
        (
            "/v1/sessions",
            json!({"agent": {"type": "agent", "id": agent, "version": 7}, "environment_id": "env_00000000000000000000000000000000"}),
        ),
    ] {
        tape.sdk(client, Method::POST, path, Some(&body)).await;
    }
    tape.note("Events");
    for events in [
        json!([]),
        json!([1]),
        json!([{}]),
        json!([{"type": "agent.message"}]),
        json!([{"type": "user.message"}]),
        json!([{"type": "user.message", "content": []}]),
        json!([{"type": "user.message", "content": "text"}]),
        json!([{"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow"}]),
        json!([{"type": "user.custom_tool_result", "custom_tool_use_id": "x"}]),
    ] {
        tape.sdk(client, Method::POST, &format!("/v1/sessions/{session}/events"), Some(&json!({"events": events})))
            .await;
    }
    tape.note("Parameters");
    for query in ["limit=0", "limit=x", "order=up", "page=x", "types[]=x", "created_at[gte]=x"] {
        tape.sdk(client, Method::GET, &format!("/v1/sessions/{session}/events?{query}"), None).await;
    }
    tape.note("What this host does not do");
    for path in ["/v1/deployments", "/v1/dreams", "/v1/environments/x/work"] {
        tape.sdk(client, Method::GET, path, None).await;
    }
    tape.done();
}

/// A session is asked for while the upstream answers like this.
async fn refused_by(tape: &mut Tape, world: &World, agent: &str, status: u16) {
    let headers = [("retry-after".to_owned(), "7".to_owned())].into();
    let (kind, message) = ("some_error".to_owned(), "because".to_owned());
    let answer = ErrorAnswer { status, kind, message, headers, ..ErrorAnswer::default() };
    world.simulator.set_faults(always(Endpoint::SessionsCreate, answer));
    tape.note(&format!("The upstream answers {status}"));
    tape.post(&world.client, "/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    let body = json!({"agent": agent, "environment_id": "env_00000000000000000000000000000000"});
    tape.sdk(&world.client, Method::POST, "/v1/sessions", Some(&body)).await;
}

#[tokio::test]
async fn sessions_that_the_upstream_refuses() {
    let (world, mut tape) = world("sessions_that_the_upstream_refuses").await;
    let agent = world.agent().await;
    for status in [400, 401, 402, 403, 404, 409, 410, 413, 422, 429, 500, 503, 529] {
        refused_by(&mut tape, &world, &agent, status).await;
    }
    tape.note("No session was made");
    tape.get(&world.client, "/session").await;
    tape.note("No credential, and one of a runtime that is not there");
    let empty = World::empty(script()).await;
    let agent = empty.agent().await;
    tape.post(&empty.client, "/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    tape.sdk(&empty.client, Method::GET, "/v1/models", None).await;
    tape.done();
}

/// A prompt while the upstream answers like this.
async fn prompt_refused_by(status: u16) -> (World, Tape, String) {
    let scenario: &'static str = match status {
        400 => "a_prompt_that_the_upstream_refuses",
        404 => "a_prompt_to_a_session_that_the_upstream_has_lost",
        _ => unreachable!("{status}"),
    };
    let (world, mut tape) = world(scenario).await;
    let agent = world.agent().await;
    let session = world.client.session(&agent, None).await;
    let answer =
        ErrorAnswer { status, kind: "some_error".to_owned(), message: "because".to_owned(), ..ErrorAnswer::default() };
    world.simulator.set_faults(always(Endpoint::EventsSend, answer));
    tape.note(&format!("The upstream answers {status} to the prompt"));
    tape.post(&world.client, &format!("/session/{session}/prompt_async"), &parts("Hello")).await;
    tape.turn(&world.client, &session, 0).await;
    tape.get(&world.client, &format!("/session/{session}")).await;
    tape.get(&world.client, &format!("/session/{session}/message")).await;
    world.simulator.set_faults(Faults::default());
    (world, tape, session)
}

#[tokio::test]
async fn a_prompt_that_the_upstream_refuses() {
    let (world, mut tape, session) = prompt_refused_by(400).await;
    let before = world.client.list(&session).await.len();
    tape.note("The next one");
    tape.post(&world.client, &format!("/session/{session}/prompt_async"), &parts("/short please")).await;
    tape.turn(&world.client, &session, before.try_into().unwrap()).await;
    tape.get(&world.client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn a_prompt_with_a_credential_that_the_upstream_refuses() {
    let (world, mut tape) = world("a_prompt_with_a_credential_that_the_upstream_refuses").await;
    let agent = world.agent().await;
    let session = world.client.session(&agent, None).await;
    let answer = ErrorAnswer {
        status: 401,
        kind: "some_error".to_owned(),
        message: "because".to_owned(),
        ..ErrorAnswer::default()
    };
    world.simulator.set_faults(always(Endpoint::EventsSend, answer));
    tape.note("The upstream answers 401 to the prompt");
    tape.post(&world.client, &format!("/session/{session}/prompt_async"), &parts("/short Hello")).await;
    while world.client.status(&session).await != "rescheduling" {
        tokio::task::yield_now().await;
    }
    tape.get(&world.client, &format!("/session/{session}")).await;
    tape.note("The credential is replaced, and the turn goes on by itself");
    world.simulator.set_faults(Faults::default());
    world.client.connect(&world.simulator.base_url()).await;
    tape.turn(&world.client, &session, 0).await;
    tape.get(&world.client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn a_prompt_to_a_session_that_the_upstream_has_lost() {
    let (_world, tape, _) = prompt_refused_by(404).await;
    tape.done();
}

#[tokio::test]
async fn an_answer_that_the_upstream_refuses() {
    let (world, mut tape) = world("an_answer_that_the_upstream_refuses").await;
    let client = &world.client;
    let session = world.session("/custom").await;
    let asked = client.turn(&session).await;
    let tool: &Value = &asked.iter().find(|event| event.name == "agent.custom_tool_use").unwrap().json["id"];
    let result = json!({"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": tool, "content": []}]});
    for status in [400, 403, 429, 529] {
        let headers = [("retry-after".to_owned(), "7".to_owned())].into();
        let answer = ErrorAnswer { status, message: "because".to_owned(), headers, ..ErrorAnswer::default() };
        world.simulator.set_faults(always(Endpoint::EventsSend, answer));
        tape.note(&format!("The upstream answers {status}"));
        tape.post(client, &format!("/v1/sessions/{session}/events"), &result).await;
        // Of a gateway that is overloaded nobody knows at once whether it has passed the answer on.
        assert!(status == 529 || client.status(&session).await == "requires_action", "{status}");
        while client.status(&session).await != "requires_action" {
            tokio::task::yield_now().await;
        }
    }
    tape.done();
}
