//! What an operator is told of the host.

use lap_simulator::{Script, script::Step};
use serde_json::json;

use crate::harness::{RUNTIME, World};

#[tokio::test]
async fn the_status_of_the_host_counts_its_sessions_and_names_its_vault_key() {
    let world = World::start(Script::of([Step::message("working"), Step::Delay { ms: 600_000 }])).await;
    let before = world.client.get("/api/status").await.ok();
    assert_eq!(before["sessions"], json!({"live": 0, "stored": 0}));
    assert_eq!((&before["version"], &before["default_runtime"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(RUNTIME)));
    assert_eq!(before["store"]["fenced"], json!(false));
    let key = before["vault"]["key_id"].as_str().unwrap();
    assert!(key.starts_with("k:") && key.len() == 18, "{key}");
    for part in ["store", "vault"] {
        assert!(before[part]["bytes"].as_u64().unwrap() > 0, "{before}");
    }
    let (made, agent) = (world.session("Hello").await, world.agent().await);
    world.client.session(&agent, None).await;
    let session = world.client.get(&format!("/session/{made}")).await.ok();
    let after = world.client.get("/api/status").await.ok();
    assert_eq!(after["sessions"], json!({"live": 1, "stored": 2}));
    assert_eq!(after["started_at"], before["started_at"]);
    assert!(before["started_at"].as_u64() <= session["time"]["created"].as_u64());
}
