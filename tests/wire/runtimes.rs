//! Runtimes: those that there are, credentials, probes, aliases, and one that is added.

use http::Method;
use serde_json::json;

use super::{Tape, script, world};
use crate::harness::{Client, RUNTIME, World, guests, variant};

const HARNESSES: &str = "/api/runtime-harnesses";

#[tokio::test]
async fn credentials() {
    let world = World::empty(script()).await;
    let (mut tape, client) = (Tape::new("credentials"), &world.client);
    let path = format!("/api/agent-runtimes/{RUNTIME}/credentials");
    tape.note("Before there is one");
    tape.get(client, "/api/agent-runtimes").await;
    tape.post(client, &format!("{path}/probe"), &json!({})).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.note("What is none");
    for body in [
        json!({}),
        json!({"api_key": " "}),
        json!({"api_key": "k", "api_base": "ftp://x"}),
        json!({"api_key": "k", "api_base": "http://10.0.0.1"}),
    ] {
        tape.lap(client, Method::PUT, &path, Some(&body)).await;
    }
    tape.lap(client, Method::PUT, "/api/agent-runtimes/nope/credentials", Some(&json!({"api_key": "k"}))).await;
    tape.note("One that the upstream takes");
    let body = json!({"api_key": crate::harness::UPSTREAM_KEY, "api_base": world.simulator.base_url()});
    tape.lap(client, Method::PUT, &path, Some(&body)).await;
    tape.post(client, &format!("{path}/probe"), &json!({})).await;
    tape.get(client, &format!("/api/agent-runtimes/{RUNTIME}")).await;
    tape.note("One that it refuses");
    let body = json!({"api_key": "sk-ant-a-wrong-key-of-the-test", "api_base": world.simulator.base_url()});
    client.put(&path, &body).await.ok();
    tape.post(client, &format!("{path}/probe"), &json!({})).await;
    tape.get(client, &format!("/api/agent-runtimes/{RUNTIME}")).await;
    tape.note("Removed");
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.get(client, "/api/agent-runtimes/nope").await;
    tape.done();
}

#[tokio::test]
async fn aliases() {
    let (world, mut tape) = world("aliases").await;
    let client = &world.client;
    tape.get(client, HARNESSES).await;
    tape.note("What is none");
    let base = world.simulator.base_url();
    let wish = |alias: &str, spec: &str| json!({"alias": alias, "api_spec": spec, "api_base": base, "api_key": "k-1-of-an-alias"});
    for body in [
        json!({}),
        wish("a b", RUNTIME),
        wish(RUNTIME, RUNTIME),
        wish("x", "nope"),
        json!({"alias": "x", "api_spec": RUNTIME, "api_base": "", "api_key": "k"}),
    ] {
        tape.post(client, HARNESSES, &body).await;
    }
    tape.note("One, and what cannot be beside it");
    tape.post(client, HARNESSES, &wish("local-opencode", RUNTIME)).await;
    tape.post(client, HARNESSES, &wish("local-opencode", RUNTIME)).await;
    tape.post(client, HARNESSES, &wish("other", "local-opencode")).await;
    tape.note("Changed");
    let path = format!("{HARNESSES}/local-opencode");
    tape.lap(client, Method::PUT, &path, Some(&json!({"api_key": crate::harness::UPSTREAM_KEY}))).await;
    tape.lap(client, Method::PUT, &path, Some(&json!({"api_base": "http://127.0.0.1:9"}))).await;
    tape.lap(client, Method::PUT, &format!("{HARNESSES}/nope"), Some(&json!({"api_key": "k"}))).await;
    tape.lap(client, Method::PUT, &format!("{HARNESSES}/{RUNTIME}"), Some(&json!({"api_key": "k"}))).await;
    tape.note("A session on it");
    let agent = world.agent().await;
    let session = client.session_on("local-opencode", &agent, Some("/short hello")).await;
    tape.turn(client, &session, 0).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.get(client, "/api/agent-runtimes/local-opencode").await;
    tape.note(
        "What stands in the way of its removal, and its removal; a session with a turn just over still has its key",
    );
    tape.lap(client, Method::DELETE, &format!("/api/agent-runtimes/{RUNTIME}"), None).await;
    client.delete(&format!("/session/{session}")).await.ok();
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.lap(client, Method::DELETE, &format!("{HARNESSES}/{RUNTIME}"), None).await;
    tape.done();
}

/// Asks for a runtime to be added.
async fn ask(tape: &mut Tape, client: &Client, digest: &str, manifest: &str, grant: Option<&str>) -> serde_json::Value {
    let mut body = json!({"component": digest, "manifest": manifest});
    if let Some(grant) = grant {
        body["grant"] = grant.into();
    }
    tape.post(client, "/api/agent-runtimes", &body).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_added() {
    let (world, mut tape) = world("a_runtime_that_is_added").await;
    let client = &world.client;
    let component = guests::guest_named("hostile", "", &[]);
    let (digest, manifest) = (variant::digest(&component), guests::MANIFEST);
    let size = component.len().to_string();
    tape.call(&size, "size");
    tape.note("It was not sent yet");
    ask(&mut tape, client, &digest, manifest, None).await;
    tape.lap(client, Method::PUT, "/api/components/sha256:x", None).await;
    tape.note("It is sent, looked at, and granted");
    let sent = variant::upload(client, &digest, component).await;
    tape.asked(&Method::PUT, &format!("/api/components/{digest}"), &[], Some("(the component)"));
    tape.answered(&sent);
    let asked = ask(&mut tape, client, &digest, manifest, None).await;
    let grant = asked["error"]["details"]["grant"].as_str().unwrap();
    ask(&mut tape, client, &digest, manifest, Some("grant_of_somebody_else")).await;
    ask(&mut tape, client, &digest, manifest, Some(grant)).await;
    ask(&mut tape, client, &digest, manifest, None).await;
    tape.note("What cannot be done with it");
    let path = "/api/agent-runtimes/hostile";
    tape.get(client, path).await;
    tape.post(client, &format!("{path}/rollback"), &json!({})).await;
    tape.lap(client, Method::DELETE, &format!("{path}/versions/{digest}"), None).await;
    ask(&mut tape, client, &digest, "id = 1", None).await;
    tape.note("It goes");
    tape.lap(client, Method::DELETE, path, None).await;
    tape.get(client, path).await;
    tape.lap(client, Method::DELETE, path, None).await;
    tape.done();
}
