//! Agents: created, read, changed, paused, deleted.

use lap_simulator::{Endpoint, Script};
use serde_json::json;

use crate::harness::{Answer, RUNTIME, World};

#[tokio::test]
async fn an_agent_is_stored_with_lap_s_fields_and_defaults() {
    let mut world = World::empty(Script::default()).await;
    let body = json!({"name": "a", "owner_id": "o", "runtime": RUNTIME, "model": "m", "system": "s", "tools": [1]});
    let made = world.client.post("/api/agents", &body).await;
    assert_eq!(made.status, 201);
    let agent = made.json();
    for (field, value) in [
        ("name", json!("a")),
        ("owner_id", json!("o")),
        ("model", json!("m")),
        ("system", json!("s")),
        ("tools", json!([1])),
        ("harness", json!("claude-code")),
        ("timezone", json!("UTC")),
        ("max_runtime_minutes", json!(30)),
        ("on_failure", json!("pause_and_notify")),
        ("vault_keys", json!([])),
        ("description", json!(null)),
        ("session_id", json!(null)),
    ] {
        assert_eq!(agent[field], value, "{field}");
    }
    assert_eq!(agent["config"]["runtime"], RUNTIME);
    let path = format!("/api/agents/{}", agent["id"].as_str().unwrap());
    world.restart().await;
    assert_eq!(world.client.get(&path).await.ok(), agent, "it is the same after a restart");
}

#[tokio::test]
async fn agents_are_listed_by_owner() {
    let world = World::empty(Script::default()).await;
    let mine = world.client.agent(&json!({"owner_id": "me"})).await;
    let yours = world.client.agent(&json!({"owner_id": "you"})).await;
    let ids = async |query: &str| -> Vec<String> {
        let body = world.client.get(&format!("/api/agents{query}")).await.ok();
        let agents = body["agents"].as_array().unwrap().iter();
        agents.map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("").await, [mine.clone(), yours]);
    assert_eq!(ids("?owner_id=me").await, [mine]);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_clears_what_it_nulls() {
    let world = World::empty(Script::default()).await;
    let id = world.client.agent(&json!({"description": "d"})).await;
    let path = format!("/api/agents/{id}");
    let changed = world.client.patch(&path, &json!({"system": "new"})).await.ok();
    assert_eq!((&changed["system"], &changed["description"]), (&json!("new"), &json!("d")));
    let cleared = world.client.patch(&path, &json!({"description": null})).await.ok();
    assert_eq!((&cleared["system"], &cleared["description"]), (&json!("new"), &json!(null)));
    assert_eq!(world.client.patch(&path, &json!({"name": " "})).await.status, 400);
    assert_eq!(world.client.delete(&path).await.ok(), json!({"ok": true}));
    assert_eq!(world.client.get(&path).await.status, 404);
    assert_eq!(world.client.delete(&path).await.status, 404);
}

#[tokio::test]
async fn a_paused_agent_starts_no_session_until_it_is_resumed() {
    let world = World::start(Script::default()).await;
    let id = world.agent().await;
    let paused = world.client.post(&format!("/api/agents/{id}/pause"), &json!({})).await.ok();
    assert_eq!(paused, json!({"id": id, "status": "paused"}));
    let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": id})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(world.simulator.recorder().count(Endpoint::SessionsCreate), 0);
    let resumed = world.client.post(&format!("/api/agents/{id}/resume"), &json!({})).await.ok();
    assert_eq!(resumed, json!({"id": id, "status": "active"}));
    world.client.session(&id, None).await;
}

#[tokio::test]
async fn the_model_of_the_session_beats_the_agent_s() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent, "environment": {"model": "claude-haiku-4-5"}});
    world.client.post("/session", &body).await.ok();
    let sent = &world.simulator.recorder().requests_of(Endpoint::AgentsCreate)[0];
    let sent: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(sent["model"]["id"], "claude-haiku-4-5");
}

#[tokio::test]
async fn a_long_list_of_agents_has_pages() {
    let world = World::empty(Script::default()).await;
    for owner in ["ann", "bob", "ann", "bob", "ann"] {
        world.client.agent(&json!({"owner_id": owner})).await;
    }
    let ids = |answer: &Answer| -> Vec<String> {
        answer.ok()["agents"].as_array().unwrap().iter().map(|agent| agent["id"].to_string()).collect()
    };
    let whole = world.client.get("/api/agents").await;
    let made = ids(&whole);
    assert_eq!((made.len(), whole.headers.get("x-next-page")), (5, None));
    let mut latest_first = made.clone();
    latest_first.reverse();
    for (order, expected) in [("", &made), ("&order=asc", &made), ("&order=desc", &latest_first)] {
        let (mut found, mut after) = (Vec::new(), String::new());
        for expected in [2, 1] {
            let answer = world.client.get(&format!("/api/agents?owner_id=ann&limit=2{order}{after}")).await;
            let page = ids(&answer);
            assert_eq!(page.len(), expected);
            match answer.headers.get("x-next-page") {
                Some(next) => after = format!("&after={}", next.to_str().unwrap()),
                None => assert_eq!(expected, 1),
            }
            found.extend(page);
        }
        let of_ann: Vec<_> = expected.iter().step_by(2).cloned().collect();
        assert_eq!(found, of_ann, "{order}");
    }
    assert_eq!(world.client.get("/api/agents?order=sideways").await.status, 400);
    assert_eq!(world.client.get("/api/agents?after=x").await.code(), "cursor_invalid");
}
