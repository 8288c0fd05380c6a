//! LAP's own objects, in lists and one by one: agents, sessions, capabilities, health.

use http::Method;
use serde_json::json;

use super::world;
use crate::harness::RUNTIME;

#[tokio::test]
async fn agents() {
    let (world, mut tape) = world("agents").await;
    let client = &world.client;
    tape.note("With all fields that LAP's builder sends");
    let full = json!({
        "name": "full", "owner_id": "default", "runtime": RUNTIME, "model": "claude-opus-4-5", "system": "s", "prompt": "p",
        "description": "d", "tools": [{"type": "agent_toolset_20260401"}], "mcp_servers": [], "skills": [],
        "config": {"sub_agents": [], "colour": "red"}, "vault_keys": ["GITHUB_TOKEN"], "setup_commands": ["make"],
        "skill_ids": [], "rule_ids": [], "schedule": {"cron": "0 9 * * 1-5", "timezone": "Europe/Kyiv"},
        "max_runtime_minutes": 5, "on_failure": "pause_and_notify", "harness": "claude-code",
    });
    let agent = tape.post(client, "/api/agents", &full).await.json();
    let path = format!("/api/agents/{}", agent["id"].as_str().unwrap());
    tape.note("With as little as can be");
    tape.post(client, "/api/agents", &json!({"name": "least", "owner_id": "other"})).await;
    tape.note("Changed, field by field, and cleared");
    tape.lap(client, Method::PATCH, &path, Some(&json!({"name": "renamed", "config": {"colour": "blue"}}))).await;
    tape.lap(client, Method::PATCH, &path, Some(&json!({"description": null, "prompt": null, "status": "paused"})))
        .await;
    tape.lap(client, Method::PATCH, &path, Some(&json!({"runtime": "openai_responses", "unknown": 1}))).await;
    tape.get(client, &path).await;
    tape.note("Lists");
    for query in ["", "?owner_id=other", "?owner_id=nobody", "?limit=1", "?order=desc&limit=1"] {
        tape.get(client, &format!("/api/agents{query}")).await;
    }
    let page = client.get("/api/agents?limit=1").await;
    tape.get(client, &format!("/api/agents?limit=1&after={}", page.header("x-next-page"))).await;
    tape.done();
}

#[tokio::test]
async fn sessions() {
    let (world, mut tape) = world("sessions").await;
    let client = &world.client;
    let (one, other) = (world.agent().await, world.agent().await);
    tape.note("Three sessions, the last made last");
    let wish = json!({"title": "The Build", "runtime": RUNTIME, "agent_id": one, "environment": {"repository": "a/b", "ref": "main"}});
    tape.post(client, "/session", &wish).await;
    tape.post(client, "/session", &json!({"agent_id": other, "prompt": ""})).await;
    let running = client.session(&one, Some("/hold")).await;
    let mut live = tape.open(client, &format!("/v1/sessions/{running}/events/stream"), &[]).await;
    tape.until(&mut live, "agent.message").await;
    tape.note("The list, its pages and its filters");
    tape.get(client, "/session").await;
    let page = tape.get(client, "/session?limit=2").await;
    tape.get(client, &format!("/session?limit=2&after={}", page.header("x-next-page"))).await;
    for query in [
        "status=running".to_owned(),
        "status=idle,error&limit=1".to_owned(),
        format!("agent={other}"),
        "runtime=openai_responses".to_owned(),
        "q=BUILD".to_owned(),
        "q=nothing".to_owned(),
    ] {
        tape.get(client, &format!("/session?{query}")).await;
    }
    tape.note("The same in the other dialect");
    let page = tape.sdk(client, Method::GET, "/v1/sessions?limit=2", None).await.json();
    tape.sdk(client, Method::GET, &format!("/v1/sessions?limit=2&page={}", page["next_page"].as_str().unwrap()), None)
        .await;
    for query in [format!("agent_id={other}"), "statuses[]=running".to_owned(), "order=asc&limit=1".to_owned()] {
        tape.sdk(client, Method::GET, &format!("/v1/sessions?{query}"), None).await;
    }
    tape.done();
}

#[tokio::test]
async fn the_stream_of_all_sessions() {
    let (world, mut tape) = world("the_stream_of_all_sessions").await;
    let client = &world.client;
    let agent = world.agent().await;
    let mut live = tape.open(client, "/api/sessions/stream", &[]).await;
    let greeting = live.frame().await.unwrap();
    tape.frame(&greeting);
    tape.note("A session when its turn is over; what was shown before that depends on the clock");
    let session = client.session(&agent, Some("/short hello")).await;
    let over = live.find(|_, item| item["status"] == "idle" && item["usage"]["output_tokens"].is_u64()).await;
    let seq = over.lines().find(|line| line.starts_with("id: ")).map(str::to_owned);
    if let Some(seq) = seq {
        tape.call(&seq, "a later one");
    }
    tape.frame(&over);
    tape.note("It is deleted");
    client.delete(&format!("/session/{session}")).await.ok();
    let gone = live.find(|name, _| name == "session.deleted").await;
    for line in gone.lines().filter(|line| line.starts_with("id: ")) {
        tape.call(line, "a later one");
    }
    tape.frame(&gone);
    tape.note("Who comes again");
    let mut live = tape.open(client, "/api/sessions/stream", &[("last-event-id", "0")]).await;
    for _ in 0..2 {
        let frame = live.frame().await.unwrap();
        tape.frame(&frame);
    }
    tape.done();
}

#[tokio::test]
async fn the_host_about_itself() {
    let (world, mut tape) = world("the_host_about_itself").await;
    let client = &world.client;
    let nobody = client.with_key(None);
    for path in ["/health", "/healthz", "/readyz"] {
        tape.get(&nobody, path).await;
    }
    for path in ["/", "/console"] {
        tape.get(&nobody, path).await;
    }
    for path in ["/api/capabilities", "/api/me", "/api/status"] {
        tape.get(client, path).await;
    }
    tape.done();
}
