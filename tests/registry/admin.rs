//! What an operator does with runtimes through HTTP, and what is refused.

use lap_simulator::Script;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Answer, Event, MASTER_KEY, World,
    variant::{ID, Variant, digest, upload},
};

fn refused(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{}", answer.text);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(words), "{words:?} is not in: {message}");
}

/// The lines of a review that begin with these words.
fn lines(review: &Value, what: &str) -> Vec<(Option<String>, Option<String>)> {
    let changes = review["changes"].as_array().unwrap().iter().filter(|change| change["what"] == what);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    changes.map(|change| (text(&change["was"]), text(&change["becomes"]))).collect()
}

async fn versions(world: &World) -> Vec<(String, bool)> {
    let detail = world.client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
    let versions = detail["versions"].as_array().unwrap().iter();
    versions.map(|it| (it["component"].as_str().unwrap().to_owned(), it["current"].as_bool().unwrap())).collect()
}

/// The first words of the answer to an upload of so many bytes, of which none comes.
async fn announced(world: &World, bytes: usize) -> String {
    let address = world.client.base.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /api/components/{} HTTP/1.1\r\nhost: lap\r\nx-api-key: {MASTER_KEY}\r\ncontent-length: {bytes}\r\n\r\n",
        digest(b"")
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

fn last(events: &[Event]) -> &str {
    &events.last().unwrap().name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_added_once_its_operator_agrees_to_exactly_what_it_asks_for() {
    let world = World::empty(Script::default()).await;
    let (client, first) = (&world.client, Variant::of(1));
    let uploaded = first.upload(client).await;
    assert_eq!(uploaded.status, 201);
    assert_eq!(uploaded.json(), json!({"component": first.digest(), "bytes": first.component.len()}));

    let asked = first.ask(client, None).await;
    refused(&asked, 409, "grant_required", "`details.changes`");
    assert_eq!(asked.json()["error"]["retryable"], false);
    let review = asked.json()["error"]["details"].clone();
    assert_eq!((&review["runtime"], &review["replaces"]), (&json!(ID), &json!(null)));
    assert_eq!(lines(&review, "component"), [(None, Some(first.digest()))]);
    assert_eq!(lines(&review, "auth"), [(None, Some("x-api-key: …".to_owned()))]);
    assert!(lines(&review, "import").contains(&(None, Some("lap:runtime/upstream@0.1.0".to_owned()))));
    assert!(lines(&review, "allow").contains(&(None, Some("GET /v1/models".to_owned()))), "{review}");
    assert!(!lines(&review, "forward").is_empty());
    assert_eq!(client.get(&format!("/api/agent-runtimes/{ID}")).await.code(), "runtime_not_found", "nothing was added");

    let wider = first.manifest.replace("path = \"/v1/models\"", "path = \"/v1\"");
    let body = json!({"component": first.digest(), "manifest": wider, "grant": review["grant"]});
    refused(&client.post("/api/agent-runtimes", &body).await, 409, "grant_required", "grant");

    let grant = review["grant"].as_str();
    let added = first.ask(client, grant).await;
    assert_eq!(added.status, 201, "{}", added.text);
    let detail = added.json();
    assert_eq!((&detail["id"], &detail["source"], &detail["state"]), (&json!(ID), &json!("added"), &json!("loaded")));
    assert_eq!((&detail["component"], &detail["versions"][0]["grant"]), (&json!(first.digest()), &review["grant"]));
    assert_eq!(detail["versions"][0]["manifest"], first.manifest);
    assert_eq!(client.get(&format!("/api/agent-runtimes/{ID}")).await.ok(), detail);
    let again = first.ask(client, grant).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, detail), "the same again changes nothing");

    client.connect_to(ID, &world.simulator.base_url()).await;
    let agent = client.agent(&json!({"runtime": ID})).await;
    let session = client.session_on(ID, &agent, Some("hello")).await;
    assert_eq!(last(&client.turn(&session).await), "session.status_idle");
    assert_eq!(client.get(&format!("/session/{session}")).await.ok()["component"], first.digest());
    let requests = world.simulator.recorder().requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.headers["anthropic-version"] == *first.version));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_shows_what_differs_and_can_be_taken_back() {
    let world = World::empty(Script::default()).await;
    let (client, first, mut second) = (&world.client, Variant::of(1), Variant::of(2));
    first.add(client).await;
    second.manifest.push_str("\n[[allow]]\nmethods = [\"DELETE\"]\npath = \"/v1/organizations\"\n");
    second.upload(client).await;
    let review = second.ask(client, None).await.json()["error"]["details"].clone();
    assert_eq!(review["replaces"], first.digest());
    assert_eq!(lines(&review, "component"), [(Some(first.digest()), Some(second.digest()))]);
    assert_eq!(lines(&review, "allow"), [(None, Some("DELETE /v1/organizations".to_owned()))]);
    assert_eq!(review["changes"].as_array().unwrap().len(), 2, "nothing else differs: {review}");
    second.add(client).await;
    assert_eq!(versions(&world).await, [(second.digest(), true), (first.digest(), false)]);

    let back = format!("/api/agent-runtimes/{ID}/rollback");
    let detail = client.post(&back, &json!({})).await.ok();
    assert_eq!(detail["component"], first.digest());
    refused(&client.post(&back, &json!({})).await, 409, "no_earlier_version", "name one with `to`");
    let forward = client.post(&back, &json!({"to": second.digest()})).await.ok();
    assert_eq!(forward["component"], second.digest());
    let unknown = client.post(&back, &json!({"to": digest(b"never seen")})).await;
    refused(&unknown, 404, "runtime_version_not_found", "lists those that it has");
    refused(&client.post(&back, &json!({"to": "latest"})).await, 400, "digest_invalid", "sha256");

    // A grant is for what it was given for: after the way back, the way forth is another one.
    client.post(&back, &json!({"to": first.digest()})).await.ok();
    refused(&second.ask(client, Some("grant_0")).await, 409, "grant_required", "grant");
    let versioned = |component: &str| format!("/api/agent-runtimes/{ID}/versions/{component}");
    refused(&client.delete(&versioned(&first.digest())).await, 409, "version_current", "roll back");
    assert_eq!(client.delete(&versioned(&second.digest())).await.ok(), json!({"ok": true}));
    assert_eq!(versions(&world).await, [(first.digest(), true)]);
    refused(&client.delete(&versioned(&second.digest())).await, 404, "runtime_version_not_found", "no such version");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_for_the_same_component_needs_a_grant_and_no_upload() {
    let world = World::empty(Script::default()).await;
    let (client, mut first) = (&world.client, Variant::of(1));
    first.add(client).await;
    first.manifest = first.manifest.replace("path = \"/v1/models\"", "path = \"/v1/models/of/mine\"");
    let review = first.ask(client, None).await.json()["error"]["details"].clone();
    assert_eq!(lines(&review, "allow").len(), 2, "{review}");
    assert!(lines(&review, "component").is_empty() && lines(&review, "size").is_empty());
    let changed = first.ask(client, review["grant"].as_str()).await;
    assert_eq!(changed.status, 201, "{}", changed.text);
    assert_eq!(versions(&world).await, [(first.digest(), true)]);
    assert_eq!(changed.json()["versions"][0]["manifest"], first.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_runtime_is_refused_with_the_way_out_and_changes_nothing() {
    let world = World::empty(Script::default()).await;
    let (client, first) = (&world.client, Variant::of(1));
    let other = upload(client, &digest(b"something else"), first.component.clone()).await;
    refused(&other, 400, "digest_mismatch", &first.digest());
    refused(&upload(client, "sha256:12", Vec::new()).await, 400, "digest_invalid", "64 hex digits");
    assert_eq!(announced(&world, 32 * 1024 * 1024 + 1).await, "HTTP/1.1 413");
    refused(&Variant::of(9).ask(client, None).await, 404, "component_missing", "PUT /api/components/");

    let ask = async |component: &[u8], manifest: &str| {
        assert_eq!(upload(client, &digest(component), component.to_vec()).await.status, 201);
        client.post("/api/agent-runtimes", &json!({"component": digest(component), "manifest": manifest})).await
    };
    let sockets = wat::parse_str(r#"(component (import "wasi:sockets/tcp@0.2.6" (instance)))"#).unwrap();
    refused(&ask(&sockets, &first.manifest).await, 422, "component_refused", "wasi:sockets/tcp@0.2.6");
    let module = wat::parse_str("(module)").unwrap();
    refused(&ask(&module, &first.manifest).await, 422, "component_refused", "core module");
    refused(&ask(b"hello world", &first.manifest).await, 422, "component_refused", "not WebAssembly");
    refused(&ask(&first.component, "id = 1").await, 400, "manifest_invalid", "manifest");
    let (bundled, _) = lap::bundled()[0];
    refused(&ask(&first.component, bundled).await, 409, "runtime_bundled", "another `id`");
    let later = first.manifest.replace("contract = \"0.1\"", "contract = \"0.2\"");
    refused(&ask(&first.component, &later).await, 422, "component_refused", "0.2");

    // These show only when the component is asked who it is, for which it must be granted.
    for (manifest, words) in [
        (first.manifest.replace(ID, "another_name"), "id: the component says"),
        (first.manifest.replace("x-api-key", "authorization"), "auth header: the component says"),
    ] {
        let asked = ask(&first.component, &manifest).await;
        let grant = asked.json()["error"]["details"]["grant"].clone();
        let body = json!({"component": first.digest(), "manifest": manifest, "grant": grant});
        refused(&client.post("/api/agent-runtimes", &body).await, 422, "component_refused", words);
    }
    let ids = client.get("/api/agent-runtimes").await.ok();
    let ids: Vec<_> = ids["runtimes"].as_array().unwrap().iter().map(|it| it["source"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bundled", "bundled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bundled_runtimes_are_shown_and_cannot_be_changed() {
    let world = World::empty(Script::default()).await;
    let client = &world.client;
    let detail = client.get("/api/agent-runtimes/claude_managed_agents").await.ok();
    let (_, component) = lap::bundled()[0];
    assert_eq!((&detail["source"], &detail["component"]), (&json!("bundled"), &json!(digest(component))));
    assert_eq!((&detail["auth"], &detail["versions"]), (&json!("x-api-key: …"), &json!([])));
    let path = "/api/agent-runtimes/claude_managed_agents";
    refused(&client.delete(path).await, 409, "runtime_bundled", "part of this program");
    let back = client.post(&format!("{path}/rollback"), &json!({})).await;
    refused(&back, 409, "runtime_bundled", "part of this program");
    refused(&client.delete("/api/agent-runtimes/nobody").await, 404, "runtime_not_found", "lists those");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_runtime_leaves_sessions_that_say_so() {
    let world = World::empty(Script::default()).await;
    let client = &world.client;
    Variant::of(1).add(client).await;
    client.connect_to(ID, &world.simulator.base_url()).await;
    let agent = client.agent(&json!({"runtime": ID})).await;
    let session = client.session_on(ID, &agent, Some("hello")).await;
    client.turn(&session).await;
    let events = client.list(&session).await;
    let path = format!("/api/agent-runtimes/{ID}");
    assert_eq!(client.delete(&path).await.ok(), json!({"ok": true}));
    refused(&client.get(&path).await, 404, "runtime_not_found", "lists those");
    assert_eq!(client.list(&session).await, events, "its events stay");
    let created = client.post("/session", &json!({"runtime": ID, "agent_id": agent})).await;
    assert_eq!(created.code(), "unsupported_runtime");
    // The pump that has just run the turn holds its component still; after a restart nobody does.
    let mut world = world;
    world.restart().await;
    let client = &world.client;
    client.prompt(&session, "and now?").await;
    let events = client.turn(&session).await;
    assert_eq!(last(&events), "session.status_idle");
    let text = events.iter().rfind(|event| event.name == "session.error").unwrap().json.to_string();
    assert!(text.contains("does not have the session's runtime any more"), "{text}");
    let input = json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow"}]});
    let refused_input = client.post(&format!("/v1/sessions/{session}/events"), &input).await;
    assert!(!refused_input.status.is_success());
    assert_eq!(client.delete(&format!("/session/{session}")).await.status, 200, "and can be deleted");
}
