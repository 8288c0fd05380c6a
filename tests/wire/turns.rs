//! Turns through LAP's dialect: plain ones, ones that wait for the client, ones that fail, prompts that queue.

use http::Method;
use serde_json::{Value, json};

use super::{parts, world};
use crate::harness::{RUNTIME, World};

/// A new session, not recorded.
async fn session(world: &World, prompt: &str) -> String {
    world.session(prompt).await
}

fn prompt_path(session: &str) -> String {
    format!("/session/{session}/prompt_async")
}

fn events_path(session: &str) -> String {
    format!("/v1/sessions/{session}/events")
}

fn stream_path(session: &str) -> String {
    format!("/v1/sessions/{session}/events/stream")
}

/// How many events the log has.
async fn head(world: &World, session: &str) -> u64 {
    world.client.list(session).await.len().try_into().unwrap()
}

#[tokio::test]
async fn a_plain_turn() {
    let (world, mut tape) = world("a_plain_turn").await;
    let client = &world.client;
    tape.note("An agent and a session with a prompt, with all fields that LAP's composer sends");
    let agent = json!({
        "name": "my-agent", "owner_id": "local-user", "runtime": RUNTIME, "model": "claude-opus-4-5",
        "system": "You are a helpful assistant.",
    });
    let agent = tape.post(client, "/api/agents", &agent).await.json();
    let wish = json!({
        "runtime": RUNTIME, "agent": agent["id"], "prompt": "Grüße, 世界 🌍", "environment": {"ref": "main"},
        "timezone": "Europe/Kyiv",
    });
    let session = tape.post(client, "/session", &wish).await.json()["id"].as_str().unwrap().to_owned();
    tape.note("The stream, opened after the turn began, ends with it");
    tape.turn(client, &session, 0).await;
    tape.note("What is there after the turn");
    for path in [
        format!("/session/{session}"),
        format!("/session/{session}/message"),
        events_path(&session),
        format!("/session/{session}/runtime_events/list?limit=2&after=3"),
    ] {
        tape.get(client, &path).await;
    }
    tape.note("The same stream under its other name");
    tape.stream(client, &format!("/session/{session}/runtime_events?until=idle&after=8"), &[]).await;
    tape.done();
}

#[tokio::test]
async fn a_second_prompt_in_the_same_session() {
    let (world, mut tape) = world("a_second_prompt_in_the_same_session").await;
    let client = &world.client;
    let session = session(&world, "/short first").await;
    client.turn(&session).await;
    let before = head(&world, &session).await;
    tape.post(client, &prompt_path(&session), &parts("/short second")).await;
    tape.turn(client, &session, before).await;
    tape.note("A prompt that is answered with all messages");
    let before = head(&world, &session).await;
    // A turn that is held: otherwise the prompt waits, or does not any more, as it happens.
    client.prompt(&session, "/hold").await;
    while client.list(&session).await.last().unwrap()["type"] != "agent.message" {}
    tape.post(client, &format!("/session/{session}/message"), &parts("/short third")).await;
    world.simulator.release(&world.upstream_id(&session).await);
    tape.turn(client, &session, before).await;
    tape.note("A prompt of several parts, some of which are no text");
    let before = head(&world, &session).await;
    let mixed = json!({"model": {"providerID": "anthropic", "modelID": "claude-opus-4-5"}, "parts": [
        {"type": "text", "text": "/short one line"}, {"type": "file", "url": "x"}, {"type": "text", "text": "and another"},
    ]});
    tape.post(client, &prompt_path(&session), &mixed).await;
    tape.turn(client, &session, before).await;
    tape.get(client, &format!("/session/{session}/message")).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn a_stream_that_is_read_on() {
    let (world, mut tape) = world("a_stream_that_is_read_on").await;
    let client = &world.client;
    let session = session(&world, "Hello").await;
    client.turn(&session).await;
    let path = format!("{}?until=idle", stream_path(&session));
    tape.note("Behind an event, by header, by query, and by both: the header wins");
    tape.stream(client, &path, &[("last-event-id", "8")]).await;
    tape.stream(client, &format!("{path}&after=9"), &[]).await;
    tape.stream(client, &format!("{path}&after=1"), &[("last-event-id", "9")]).await;
    tape.note("Behind the last event, and behind none");
    tape.stream(client, &format!("{path}&after=10"), &[]).await;
    tape.stream(client, &format!("{path}&after=0"), &[]).await;
    tape.note("Behind an event that is not there yet, and behind what is no number");
    for after in ["11", "x", "-1", "1.5"] {
        tape.get(client, &format!("{}?after={after}", stream_path(&session))).await;
    }
    tape.note("A client of the Anthropic dialect sees what happens from now on, and nothing here");
    tape.stream(client, &path, &[("anthropic-beta", "managed-agents-2026-04-01")]).await;
    tape.note("Another session's stream, which is live over two turns");
    let session = world.session("/hold").await;
    let mut live = tape.open(client, &stream_path(&session), &[]).await;
    tape.until(&mut live, "agent.message").await;
    world.simulator.release(&world.upstream_id(&session).await);
    tape.until(&mut live, "session.status_idle").await;
    tape.post(client, &prompt_path(&session), &parts("/short again")).await;
    tape.until(&mut live, "session.status_idle").await;
    tape.done();
}

#[tokio::test]
async fn a_tool_that_needs_leave() {
    let (world, mut tape) = world("a_tool_that_needs_leave").await;
    let client = &world.client;
    let session = session(&world, "/ask").await;
    tape.turn(client, &session, 0).await;
    tape.note("It waits");
    tape.get(client, &format!("/session/{session}")).await;
    let asked = client.list(&session).await;
    let tool = asked.iter().find(|event| event["type"] == "agent.tool_use").unwrap()["id"].clone();
    let verdict = |tool: &Value, result: &str| json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": tool, "result": result}]});
    tape.note("An answer to what nobody asked, and one that is none; it still waits");
    tape.post(client, &events_path(&session), &verdict(&json!("sevt_of_nobody"), "allow")).await;
    tape.post(client, &events_path(&session), &verdict(&tool, "perhaps")).await;
    assert_eq!(client.status(&session).await, "requires_action");
    tape.note("The answer");
    let before = head(&world, &session).await;
    tape.post(client, &events_path(&session), &verdict(&tool, "allow")).await;
    tape.turn(client, &session, before).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("Another session, where the answer is no");
    let session = self::session(&world, "/ask").await;
    let asked = client.turn(&session).await;
    let tool = &asked.iter().find(|event| event.name == "agent.tool_use").unwrap().json["id"];
    let no = json!({"events": [
        {"type": "user.tool_confirmation", "tool_use_id": tool, "result": "deny", "deny_message": "Not that folder."},
    ]});
    tape.post(client, &events_path(&session), &no).await;
    tape.turn(client, &session, asked.len().try_into().unwrap()).await;
    tape.done();
}

#[tokio::test]
async fn a_custom_tool() {
    let (world, mut tape) = world("a_custom_tool").await;
    let client = &world.client;
    let session = session(&world, "/custom").await;
    tape.turn(client, &session, 0).await;
    let asked = client.list(&session).await;
    let tool = &asked.iter().find(|event| event["type"] == "agent.custom_tool_use").unwrap()["id"];
    let result = json!({"events": [{
        "type": "user.custom_tool_result", "custom_tool_use_id": tool,
        "content": [{"type": "text", "text": "12 degrees"}],
    }]});
    let before = head(&world, &session).await;
    tape.post(client, &events_path(&session), &result).await;
    tape.turn(client, &session, before).await;
    tape.note("The same answer again: nothing asks any more");
    tape.post(client, &events_path(&session), &result).await;
    tape.done();
}

#[tokio::test]
async fn two_questions_at_once() {
    let (world, mut tape) = world("two_questions_at_once").await;
    let client = &world.client;
    let session = session(&world, "/both").await;
    tape.turn(client, &session, 0).await;
    let asked = client.list(&session).await;
    let of = |kind: &str| asked.iter().find(|event| event["type"] == kind).unwrap()["id"].clone();
    let (tool, custom) = (of("agent.tool_use"), of("agent.custom_tool_use"));
    let before = head(&world, &session).await;
    tape.note("One answer: the other question still waits");
    let allow = json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": tool, "result": "allow"}]});
    tape.post(client, &events_path(&session), &allow).await;
    let mut live = tape.open(client, &stream_path(&session), &[("last-event-id", &before.to_string())]).await;
    tape.until(&mut live, "session.status_idle").await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("The other one");
    let result = json!({"events": [{
        "type": "user.custom_tool_result", "custom_tool_use_id": custom, "content": [{"type": "text", "text": "cold"}],
    }]});
    tape.post(client, &events_path(&session), &result).await;
    tape.until(&mut live, "session.status_idle").await;
    tape.done();
}

#[tokio::test]
async fn prompts_that_queue() {
    let (world, mut tape) = world("prompts_that_queue").await;
    let client = &world.client;
    let session = session(&world, "/hold").await;
    let mut live = tape.open(client, &stream_path(&session), &[]).await;
    tape.until(&mut live, "agent.message").await;
    tape.note("Two prompts while the turn runs");
    tape.post(client, &prompt_path(&session), &parts("/short second")).await;
    tape.post(client, &format!("/session/{session}/message"), &parts("/short third")).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("The turn ends, and they are sent one after the other");
    world.simulator.release(&world.upstream_id(&session).await);
    for _ in 0..3 {
        tape.until(&mut live, "session.status_idle").await;
    }
    client.turn(&session).await;
    tape.get(client, &format!("/session/{session}/message")).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn a_prompt_instead_of_an_answer() {
    let (world, mut tape) = world("a_prompt_instead_of_an_answer").await;
    let client = &world.client;
    let session = session(&world, "/custom").await;
    let asked = client.turn(&session).await;
    let call = &asked.iter().find(|event| event.name == "agent.custom_tool_use").unwrap().json["id"];
    let behind = asked.len().to_string();
    let mut live = tape.open(client, &stream_path(&session), &[("last-event-id", &behind)]).await;
    tape.note("A prompt while the turn waits for a tool's result: the upstream gets it, and lets it wait");
    tape.post(client, &prompt_path(&session), &parts("/short never mind")).await;
    tape.until(&mut live, "user.message").await;
    while client.get(&format!("/session/{session}")).await.ok().get("queued").is_some() {}
    tape.get(client, &format!("/session/{session}")).await;
    tape.get(client, &format!("/session/{session}/message")).await;
    tape.note("The result; then the prompt has its turn");
    let result = json!({"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": []}]});
    tape.post(client, &events_path(&session), &result).await;
    for _ in 0..2 {
        tape.until(&mut live, "session.status_idle").await;
    }
    client.turn(&session).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn an_interrupt() {
    let (world, mut tape) = world("an_interrupt").await;
    let client = &world.client;
    let session = session(&world, "/hold").await;
    let mut live = tape.open(client, &stream_path(&session), &[]).await;
    tape.until(&mut live, "agent.message").await;
    tape.post(client, &prompt_path(&session), &parts("/short this one waits")).await;
    tape.note("It stops the turn and withdraws what waits");
    tape.lap(client, Method::POST, &format!("/session/{session}/interrupt"), None).await;
    tape.until(&mut live, "session.status_idle").await;
    client.turn(&session).await;
    tape.get(client, &format!("/session/{session}/message")).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("Nothing runs any more: LAP's other word for it, with a body");
    let before = head(&world, &session).await;
    tape.post(client, &format!("/session/{session}/abort"), &json!({})).await;
    tape.turn(client, &session, before).await;
    tape.note("The next prompt");
    tape.post(client, &prompt_path(&session), &parts("/short again")).await;
    tape.turn(client, &session, before).await;
    tape.done();
}

#[tokio::test]
async fn an_interrupt_while_a_tool_waits() {
    let (world, mut tape) = world("an_interrupt_while_a_tool_waits").await;
    let client = &world.client;
    let session = session(&world, "/custom").await;
    client.turn(&session).await;
    let before = head(&world, &session).await;
    tape.lap(client, Method::POST, &format!("/session/{session}/interrupt"), None).await;
    let mut live = tape.open(client, &stream_path(&session), &[("last-event-id", &before.to_string())]).await;
    tape.until(&mut live, "session.status_idle").await;
    client.turn(&session).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.done();
}

#[tokio::test]
async fn turns_that_fail() {
    let (world, mut tape) = world("turns_that_fail").await;
    let client = &world.client;
    tape.note("An error that ends the turn, and the prompt after it");
    let session = session(&world, "/error").await;
    let mut live = tape.open(client, &stream_path(&session), &[]).await;
    // The error already ends the turn here; what follows it may come after a stream that ends with the turn.
    tape.until(&mut live, "session.status_idle").await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.sdk(client, Method::GET, &format!("/v1/sessions/{session}"), None).await;
    tape.post(client, &prompt_path(&session), &parts("/short again")).await;
    tape.until(&mut live, "session.status_idle").await;
    client.turn(&session).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("An error after which the upstream goes on");
    let session = self::session(&world, "/retry").await;
    tape.turn(client, &session, 0).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.note("A session that the upstream ends");
    let session = self::session(&world, "/terminate").await;
    tape.turn(client, &session, 0).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.post(client, &prompt_path(&session), &parts("one more")).await;
    tape.lap(client, Method::POST, &format!("/session/{session}/interrupt"), None).await;
    tape.done();
}

#[tokio::test]
async fn events_of_unknown_types() {
    let (world, mut tape) = world("events_of_unknown_types").await;
    let session = session(&world, "/strange").await;
    tape.turn(&world.client, &session, 0).await;
    tape.done();
}
