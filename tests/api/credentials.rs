//! Credentials: stored, masked, used, removed, and seen by nobody.

use lap_simulator::{Endpoint, Script, record::Credential};
use serde_json::json;

use crate::harness::{RUNTIME, UPSTREAM_KEY, World};

fn path() -> String {
    format!("/api/agent-runtimes/{RUNTIME}/credentials")
}

#[tokio::test]
async fn a_credential_is_shown_masked_and_used_in_its_slot() {
    let world = World::empty(Script::default()).await;
    let before = world.client.get("/api/agent-runtimes").await.ok();
    let runtime = &before["runtimes"][0];
    assert_eq!((&runtime["id"], &runtime["connected"]), (&json!(RUNTIME), &json!(false)));
    assert_eq!((&runtime["api_base"], &runtime["masked_api_key"]), (&json!(null), &json!(null)));
    assert_eq!(runtime["default_api_base"], "https://api.anthropic.com");
    assert_eq!(runtime["tools"].as_array().unwrap().len(), 8);

    let stored = world.client.connect(&world.simulator.base_url()).await;
    let runtime = &stored["runtimes"][0];
    assert_eq!((&runtime["connected"], &runtime["masked_api_key"]), (&json!(true), &json!("sk-ant-...KfXc")));
    assert_eq!(runtime["api_base"], world.simulator.base_url());
    assert!(!stored.to_string().contains(UPSTREAM_KEY));

    let agent = world.agent().await;
    world.client.session(&agent, None).await;
    for request in world.simulator.recorder().requests() {
        assert_eq!(request.credential, Some(Credential::ApiKey(UPSTREAM_KEY.to_owned())));
        assert!(!request.headers.contains_key("authorization"), "{:?}", request.headers);
    }
}

#[tokio::test]
async fn a_removed_credential_serves_nobody() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let session = world.client.session(&agent, None).await;
    assert_eq!(world.client.delete(&path()).await.ok(), json!({"ok": true}));
    assert_eq!(world.client.delete(&path()).await.ok(), json!({"ok": false}));
    let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(world.client.prompt(&session, "Hello").await.status, 204);
    assert_eq!(world.client.turn(&session).await.last().unwrap().name, "session.error");
    assert_eq!(world.simulator.recorder().count(Endpoint::EventsSend), 0);
}

#[tokio::test]
async fn a_credential_that_cannot_be_used_is_refused_by_name() {
    let world = World::empty(Script::default()).await;
    let base = world.simulator.base_url();
    for (body, text) in [
        (json!({"api_key": " ", "api_base": base}), "api_key"),
        (json!({"api_base": base}), "api_key"),
        (json!({"api_key": "k\u{7}", "api_base": base}), "api_key"),
        (json!({"api_key": "sk-secret-of-mine", "api_base": "http://example.com"}), "http"),
        (json!({"api_key": "sk-secret-of-mine", "api_base": "ftp://127.0.0.1"}), "api_base"),
        (json!({"api_key": "sk-secret-of-mine", "api_base": "https://169.254.169.254/"}), "api_base"),
    ] {
        let refused = world.client.put(&path(), &body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert!(refused.text.contains(text), "{body}: {}", refused.text);
        assert!(!refused.text.contains("sk-secret-of-mine"));
    }
    let unknown = world.client.put("/api/agent-runtimes/nope/credentials", &json!({"api_key": "k"})).await;
    assert_eq!(unknown.status, 400, "{}", unknown.text);
}

#[tokio::test]
async fn a_new_credential_is_used_at_once() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    world.client.session(&agent, None).await;
    let body = json!({"api_key": "sk-ant-another-one", "api_base": world.simulator.base_url()});
    world.client.put(&path(), &body).await.ok();
    let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    assert_eq!(refused.code(), "upstream_auth", "the simulator does not know the new one");
}

#[tokio::test]
async fn models_are_the_upstream_s() {
    let world = World::start(Script::default()).await;
    let models = world.client.get(&format!("/v1/models?runtime={RUNTIME}")).await.ok();
    assert_eq!(models["object"], "list");
    assert!(models["data"].as_array().unwrap().iter().all(|model| model["object"] == "model"), "{models}");
}
