//! Clients' keys, their roles and their owners.

use http::Method;
use serde_json::json;

use super::world;
use crate::harness::RUNTIME;

#[tokio::test]
async fn keys() {
    let (world, mut tape) = world("keys").await;
    let client = &world.client;
    tape.get(client, "/api/keys").await;
    tape.note("Made: with nothing, with all, and for admins");
    let first = tape.post(client, "/api/keys", &json!({})).await.json();
    let wish = json!({"label": "ci", "role": "reader", "owner_id": "ann", "expires_at": 3_900_000_000_u64});
    tape.post(client, "/api/keys", &wish).await;
    tape.post(client, "/api/keys", &json!({"label": "ops", "role": "admin"})).await;
    tape.note("Refused");
    for body in [
        json!({"role": "boss"}),
        json!({"role": "admin", "owner_id": "ann"}),
        json!({"budget": 1}),
        json!({"expires_at": 1}),
        json!({"label": 1}),
    ] {
        tape.post(client, "/api/keys", &body).await;
    }
    tape.get(client, "/api/keys").await;
    tape.note("Who asks");
    let member = client.with_key(first["key"].as_str());
    tape.get(&member, "/api/me").await;
    tape.get(client, "/api/me").await;
    tape.note("Revoked");
    let path = format!("/api/keys/{}", first["id"].as_str().unwrap());
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.get(&member, "/api/me").await;
    tape.done();
}

#[tokio::test]
async fn roles_and_owners() {
    let (world, mut tape) = world("roles_and_owners").await;
    let client = &world.client;
    let key = async |role: &str, owner: Option<&str>| {
        let made = client.post("/api/keys", &json!({"role": role, "owner_id": owner})).await.json();
        client.with_key(made["key"].as_str())
    };
    let reader = key("reader", Some("ann")).await;
    let (ann, bob) = (key("member", Some("ann")).await, key("member", Some("bob")).await);
    let wish = |owner: &str| json!({"name": "a", "owner_id": owner, "runtime": RUNTIME});
    tape.note("A reader writes");
    tape.post(&reader, "/api/agents", &wish("ann")).await;
    tape.sdk(&reader, Method::POST, "/v1/agents", Some(&json!({"name": "a", "model": "m"}))).await;
    tape.note("A member makes what is an admin's, and an agent of somebody else's");
    tape.post(&ann, "/api/keys", &json!({})).await;
    tape.get(&ann, "/api/status").await;
    tape.post(&ann, "/api/agents", &wish("bob")).await;
    tape.note("What is ann's is not there for bob");
    let agent = tape.post(&ann, "/api/agents", &wish("ann")).await.json()["id"].as_str().unwrap().to_owned();
    let session = ann.session(&agent, None).await;
    for path in [
        format!("/api/agents/{agent}"),
        format!("/session/{session}"),
        format!("/v1/sessions/{session}/events"),
        "/session".to_owned(),
    ] {
        tape.get(&bob, &path).await;
    }
    tape.post(&bob, "/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    tape.lap(&bob, Method::DELETE, &format!("/session/{session}"), None).await;
    tape.post(&bob, &format!("/session/{session}/kill"), &json!({})).await;
    tape.note("A reader of hers looks");
    tape.get(&reader, &format!("/session/{session}")).await;
    tape.done();
}
