//! Requests that come twice under one key.

use http::Method;
use serde_json::{Value, json};

use super::{Tape, parts, world};
use crate::harness::{ANTHROPIC, Answer, Client, RUNTIME};

async fn keyed(tape: &mut Tape, client: &Client, key: &str, path: &str, body: &Value) -> Answer {
    tape.send(client, Method::POST, path, &[("idempotency-key", key)], Some(body)).await
}

#[tokio::test]
async fn requests_that_come_twice() {
    let (world, mut tape) = world("requests_that_come_twice").await;
    let client = &world.client;
    tape.note("An agent");
    let agent = json!({"name": "a", "owner_id": "local-user", "runtime": RUNTIME});
    let made = keyed(&mut tape, client, "k-agent", "/api/agents", &agent).await.json()["id"].clone();
    keyed(&mut tape, client, "k-agent", "/api/agents", &agent).await;
    tape.note("The same key with another body");
    keyed(&mut tape, client, "k-agent", "/api/agents", &json!({"name": "b", "owner_id": "local-user"})).await;
    tape.note("A session with a prompt; what the second answer shows is the session as it is now");
    let wish = json!({"runtime": RUNTIME, "agent_id": made, "prompt": "/short hello"});
    let session =
        keyed(&mut tape, client, "k-session", "/session", &wish).await.json()["id"].as_str().unwrap().to_owned();
    client.turn(&session).await;
    keyed(&mut tape, client, "k-session", "/session", &wish).await;
    tape.note("A prompt, an interrupt and a kill");
    let path = format!("/session/{session}/prompt_async");
    let before = client.list(&session).await.len();
    keyed(&mut tape, client, "k-prompt", &path, &parts("/short once")).await;
    client.turn(&session).await;
    keyed(&mut tape, client, "k-prompt", &path, &parts("/short once")).await;
    tape.turn(client, &session, before.try_into().unwrap()).await;
    for _ in 0..2 {
        keyed(&mut tape, client, "k-stop", &format!("/session/{session}/interrupt"), &json!({})).await;
    }
    for _ in 0..2 {
        keyed(&mut tape, client, "k-kill", &format!("/session/{session}/kill"), &json!({})).await;
    }
    tape.note("A key is shown once");
    for _ in 0..2 {
        keyed(&mut tape, client, "k-key", "/api/keys", &json!({"label": "a"})).await;
    }
    tape.note("What was deleted does not come back");
    client.delete(&format!("/session/{session}")).await.ok();
    keyed(&mut tape, client, "k-session", "/session", &wish).await;
    keyed(&mut tape, client, "k-prompt", &path, &parts("/short once")).await;
    tape.note("A first one that failed does not stand in the way");
    let wrong = json!({"runtime": RUNTIME, "agent_id": "agent_of_nobody"});
    for _ in 0..2 {
        keyed(&mut tape, client, "k-wrong", "/session", &wrong).await;
    }
    tape.note("Keys that are none");
    for key in ["", "ü"] {
        keyed(&mut tape, client, key, "/api/agents", &agent).await;
    }
    tape.note("The other dialect");
    let headers = [&ANTHROPIC[..], &[("idempotency-key", "k-sdk")]].concat();
    for name in ["a", "a", "b"] {
        let wish = json!({"name": name, "model": "claude-opus-4-5"});
        tape.send(client, Method::POST, "/v1/agents", &headers, Some(&wish)).await;
    }
    tape.done();
}
