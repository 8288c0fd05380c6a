//! The dialect of Anthropic's official SDKs: agents, environments, sessions, events and what is forwarded.

use http::Method;
use serde_json::{Value, json};

use super::{Tape, world};
use crate::harness::{ANTHROPIC, World};

const DEFAULT_ENVIRONMENT: &str = "env_00000000000000000000000000000000";

/// What version 1 and later of the Python SDK sends beside what it must.
const PYTHON: [(&str, &str); 6] = [
    ("accept", "application/json"),
    ("user-agent", "Anthropic/Python 2.12.0"),
    ("x-stainless-lang", "python"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-read-timeout", "600"),
    ("anthropic-version", "2023-06-01"),
];

fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

async fn post(tape: &mut Tape, world: &World, path: &str, body: Value) -> Value {
    tape.sdk(&world.client, Method::POST, path, Some(&body)).await.json()
}

async fn get(tape: &mut Tape, world: &World, path: &str) -> Value {
    tape.sdk(&world.client, Method::GET, path, None).await.json()
}

fn id(item: &Value) -> String {
    item["id"].as_str().unwrap().to_owned()
}

/// A session that nothing has been sent to, not recorded.
async fn session(world: &World) -> String {
    let agent = world.agent().await;
    let wish = json!({"agent": agent, "environment_id": DEFAULT_ENVIRONMENT});
    let made = world.client.send(Method::POST, "/v1/sessions", &ANTHROPIC, Some(wish.to_string())).await;
    id(&made.ok())
}

#[tokio::test]
async fn the_flow_of_an_sdk() {
    let (world, mut tape) = world("the_flow_of_an_sdk").await;
    let tools = json!([{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": false}]}]);
    let agent = json!({"name": "Tester", "model": "claude-opus-4-5", "system": "Be brief.", "tools": tools});
    let agent = id(&post(&mut tape, &world, "/v1/agents?beta=true", agent).await);
    let environment = json!({"name": "Somewhere", "config": {"type": "cloud", "networking": {"type": "limited"}}});
    let environment = id(&post(&mut tape, &world, "/v1/environments", environment).await);
    let wish =
        json!({"agent": agent, "environment_id": environment, "title": "Main flow", "metadata": {"case": "sdk"}});
    let session = id(&post(&mut tape, &world, "/v1/sessions", wish).await);
    let path = format!("/v1/sessions/{session}");
    tape.note("The stream is opened first, as the SDKs do");
    let beta = ANTHROPIC[1];
    let mut live = tape.open(&world.client, &format!("{path}/events/stream"), &[&PYTHON[1..], &[beta]].concat()).await;
    post(&mut tape, &world, &format!("{path}/events"), json!({"events": [message("Bonjour, ça va? 你好")]})).await;
    tape.until(&mut live, "session.status_idle").await;
    world.client.turn(&session).await;
    tape.note("The session after its turn");
    get(&mut tape, &world, &path).await;
    get(&mut tape, &world, &format!("{path}/events?limit=3")).await;
    tape.note("The session is changed");
    post(&mut tape, &world, &path, json!({"title": "Renamed", "metadata": {"case": null, "other": "x"}})).await;
    get(&mut tape, &world, "/v1/sessions").await;
    tape.sdk(&world.client, Method::POST, &format!("{path}/archive"), None).await;
    tape.sdk(&world.client, Method::DELETE, &path, None).await;
    get(&mut tape, &world, &path).await;
    tape.done();
}

#[tokio::test]
async fn agents_of_an_sdk() {
    let (world, mut tape) = world("agents_of_an_sdk").await;
    let agent =
        id(&post(&mut tape, &world, "/v1/agents", json!({"name": "one", "model": {"id": "claude-opus-4-5"}})).await);
    let path = format!("/v1/agents/{agent}");
    tape.note("A change makes a version, the same again makes none, and an old version is refused");
    post(&mut tape, &world, &path, json!({"version": 1, "system": "Be brief.", "metadata": {"a": "b"}})).await;
    post(&mut tape, &world, &path, json!({"version": 2, "system": "Be brief."})).await;
    post(&mut tape, &world, &path, json!({"version": 1, "system": "Be long."})).await;
    get(&mut tape, &world, &path).await;
    get(&mut tape, &world, &format!("{path}?version=1")).await;
    get(&mut tape, &world, &format!("{path}?version=9")).await;
    get(&mut tape, &world, &format!("{path}/versions")).await;
    tape.note("An agent of the other dialect, seen from this one");
    let other = world.client.agent(&json!({"name": "theirs", "description": "d", "config": {"mcp_servers": []}})).await;
    get(&mut tape, &world, &format!("/v1/agents/{other}")).await;
    tape.note("Pages");
    let page = get(&mut tape, &world, "/v1/agents?limit=1").await;
    get(&mut tape, &world, &format!("/v1/agents?limit=1&page={}", page["next_page"].as_str().unwrap())).await;
    tape.note("Put away");
    tape.sdk(&world.client, Method::POST, &format!("{path}/archive"), None).await;
    post(&mut tape, &world, &path, json!({"version": 2, "system": "Be long."})).await;
    post(&mut tape, &world, "/v1/sessions", json!({"agent": agent, "environment_id": DEFAULT_ENVIRONMENT})).await;
    get(&mut tape, &world, "/v1/agents").await;
    get(&mut tape, &world, "/v1/agents?include_archived=true").await;
    tape.note("The same agent in the other dialect");
    tape.get(&world.client, &format!("/api/agents/{agent}")).await;
    tape.note("Another runtime, by header and by metadata");
    let wish = json!({"name": "two", "model": "gpt-5"});
    let headers = [&ANTHROPIC[..], &[("lap-runtime", "openai_responses")]].concat();
    tape.send(&world.client, Method::POST, "/v1/agents", &headers, Some(&wish)).await;
    post(
        &mut tape,
        &world,
        "/v1/agents",
        json!({"name": "three", "model": "gpt-5", "metadata": {"lap.runtime": "nope"}}),
    )
    .await;
    tape.done();
}

#[tokio::test]
async fn environments() {
    let (world, mut tape) = world("environments").await;
    let made = post(&mut tape, &world, "/v1/environments", json!({"name": "a", "description": "d"})).await;
    let path = format!("/v1/environments/{}", id(&made));
    get(&mut tape, &world, &path).await;
    post(&mut tape, &world, &path, json!({"name": "b", "description": null})).await;
    get(&mut tape, &world, "/v1/environments").await;
    tape.sdk(&world.client, Method::POST, &format!("{path}/archive"), None).await;
    tape.sdk(&world.client, Method::DELETE, &path, None).await;
    get(&mut tape, &world, &path).await;
    tape.note("The one that is always there");
    let default = format!("/v1/environments/{DEFAULT_ENVIRONMENT}");
    get(&mut tape, &world, &default).await;
    post(&mut tape, &world, &default, json!({"name": "mine"})).await;
    tape.sdk(&world.client, Method::DELETE, &default, None).await;
    tape.done();
}

#[tokio::test]
async fn events_of_an_sdk() {
    let (world, mut tape) = world("events_of_an_sdk").await;
    let session = session(&world).await;
    let path = format!("/v1/sessions/{session}/events");
    tape.note("Several messages at once: the first begins a turn, the others wait");
    let mut live = tape.open(&world.client, &format!("{path}/stream"), &ANTHROPIC).await;
    let events = json!({"events": [message("/hold"), message("/short two")]});
    post(&mut tape, &world, &path, events).await;
    tape.until(&mut live, "agent.message").await;
    tape.note("A message with a picture, while the turn runs");
    let picture = json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
    let content = json!([{"type": "text", "text": "/short what is"}, picture]);
    post(&mut tape, &world, &path, json!({"events": [{"type": "user.message", "content": content}]})).await;
    world.simulator.release(&world.upstream_id(&session).await);
    for _ in 0..3 {
        tape.until(&mut live, "session.status_idle").await;
    }
    world.client.turn(&session).await;
    tape.note("The list, in both orders, in pages, and filtered");
    get(&mut tape, &world, &path).await;
    let page = get(&mut tape, &world, &format!("{path}?order=desc&limit=2")).await;
    get(&mut tape, &world, &format!("{path}?order=desc&limit=2&page={}", page["next_page"].as_str().unwrap())).await;
    get(&mut tape, &world, &format!("{path}?types[]=agent.message&types[]=user.message")).await;
    get(&mut tape, &world, &format!("{path}?created_at[gte]=2100-01-01T00:00:00Z")).await;
    tape.done();
}

#[tokio::test]
async fn an_interrupt_of_an_sdk() {
    let (world, mut tape) = world("an_interrupt_of_an_sdk").await;
    let session = session(&world).await;
    let path = format!("/v1/sessions/{session}/events");
    let mut live = tape.open(&world.client, &format!("{path}/stream"), &ANTHROPIC).await;
    world.client.prompt(&session, "/hold").await;
    tape.until(&mut live, "agent.message").await;
    world.client.prompt(&session, "/short this one waits").await;
    tape.note("It stops the turn and withdraws what waits");
    post(&mut tape, &world, &path, json!({"events": [{"type": "user.interrupt"}]})).await;
    tape.until(&mut live, "session.status_idle").await;
    world.client.turn(&session).await;
    get(&mut tape, &world, &path).await;
    tape.get(&world.client, &format!("/session/{session}/message")).await;
    tape.note("An outcome");
    let outcome = json!({"type": "user.define_outcome", "description": "/short done", "rubric": {"type": "text", "content": "r"}});
    post(&mut tape, &world, &path, json!({"events": [outcome]})).await;
    tape.until(&mut live, "session.status_idle").await;
    tape.done();
}

#[tokio::test]
async fn what_goes_on_to_the_vendor() {
    let (world, mut tape) = world("what_goes_on_to_the_vendor").await;
    tape.note("Models");
    get(&mut tape, &world, "/v1/models").await;
    get(&mut tape, &world, "/v1/models/claude-nothing").await;
    tape.note("LAP's list of them");
    tape.get(&world.client, "/v1/models").await;
    tape.get(&world.client, "/v1/models?runtime=claude_managed_agents").await;
    tape.get(&world.client, "/v1/models?runtime=nope").await;
    tape.note("Files, vaults and memory stores");
    get(&mut tape, &world, "/v1/files").await;
    get(&mut tape, &world, "/v1/files/file_x").await;
    let vault = post(&mut tape, &world, "/v1/vaults", json!({"display_name": "a"})).await;
    tape.sdk(&world.client, Method::DELETE, &format!("/v1/vaults/{}", id(&vault)), None).await;
    post(&mut tape, &world, "/v1/memory_stores", json!({"name": "a"})).await;
    tape.note("The keys of requests are not known there");
    let headers = [&ANTHROPIC[..], &[("idempotency-key", "once")]].concat();
    tape.send(&world.client, Method::POST, "/v1/vaults", &headers, Some(&json!({"display_name": "b"}))).await;
    tape.note("Threads of a session");
    let session = session(&world).await;
    get(&mut tape, &world, &format!("/v1/sessions/{session}/threads")).await;
    get(&mut tape, &world, "/v1/sessions/ses_of_nobody/threads").await;
    tape.note("A runtime without this part, and one that is not there");
    for runtime in ["openai_responses", "nope"] {
        let headers = [&ANTHROPIC[..], &[("lap-runtime", runtime)]].concat();
        tape.send(&world.client, Method::GET, "/v1/files", &headers, None).await;
    }
    tape.done();
}
