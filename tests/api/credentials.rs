//! Credentials: stored, masked, used, removed, and seen by nobody.

use lap_simulator::{
    Endpoint, Faults, Options, Script, Simulator, fault::RequestFault, record::Credential, script::Step,
};
use serde_json::{Value, json};

use crate::harness::{RUNTIME, UPSTREAM_KEY, World, anywhere, guests::guest};

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

/// A session that would go on if there were a credential says so.
async fn waits_for_a_credential(world: &World, session: &str) {
    while world.client.status(session).await != "rescheduling" {
        tokio::task::yield_now().await;
    }
    let shown = world.client.get(&format!("/session/{session}")).await.ok();
    assert_eq!(shown["waits_for"]["reason"], "no credential is stored for the runtime", "{shown}");
    assert!(shown["waits_for"]["next_try_at"].is_string(), "{shown}");
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
    waits_for_a_credential(&world, &session).await;
    assert_eq!(world.simulator.recorder().count(Endpoint::EventsSend), 0);
    world.client.connect(&world.simulator.base_url()).await;
    assert_eq!(world.client.turn(&session).await.last().unwrap().name, "session.status_idle", "it goes on by itself");
    assert_eq!(world.client.status(&session).await, "idle");
}

/// The guest is told that its request was refused, and may call that what it likes; the client is told what it is.
#[tokio::test]
async fn a_credential_that_goes_while_a_session_is_made_is_what_the_answer_says() {
    for elsewhere in [false, true] {
        let world = World::start(Script::default()).await;
        let agent = world.agent().await;
        let slow =
            RequestFault { endpoint: Some(Endpoint::AgentsCreate), times: 1, delay_ms: 500, ..RequestFault::default() };
        world.simulator.set_faults(Faults { requests: vec![slow], ..Faults::default() });
        let made = json!({"runtime": RUNTIME, "agent_id": agent});
        let changed = async {
            while world.simulator.recorder().count(Endpoint::AgentsCreate) == 0 {
                tokio::task::yield_now().await;
            }
            if elsewhere {
                world.client.connect("http://127.0.0.1:9").await;
            } else {
                world.client.delete(&path()).await.ok();
            }
        };
        let (refused, ()) = tokio::join!(world.client.post("/session", &made), changed);
        let expected = if elsewhere { (409, "base_moved") } else { (400, "no_credential") };
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), expected, "{}", refused.text);
    }
}

#[tokio::test]
async fn a_credential_that_cannot_be_used_is_refused_by_name() {
    let world = World::empty(Script::default()).await;
    let base = world.simulator.base_url();
    for (body, text) in [
        (json!({"api_key": " ", "api_base": base}), "api_key"),
        (json!({"api_base": base}), "api_key"),
        (json!({"api_key": "sk-secret-of-mine", "api_bse": base}), "api_bse"),
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

async fn probe(world: &World, runtime: &str) -> Value {
    let path = format!("/api/agent-runtimes/{runtime}/credentials/probe");
    world.client.post(&path, &json!({})).await.ok()["probe"].clone()
}

/// What the list says of a runtime.
async fn listed(world: &World, runtime: &str) -> Value {
    let list = world.client.get("/api/agent-runtimes").await.ok();
    list["runtimes"].as_array().unwrap().iter().find(|item| item["id"] == runtime).unwrap().clone()
}

#[tokio::test]
async fn a_credential_that_works_is_said_to_until_it_is_replaced() {
    let mut world = World::start(Script::default()).await;
    let before = listed(&world, RUNTIME).await;
    assert_eq!((&before["connected"], &before["probe"]), (&json!(true), &json!(null)), "it was not tried yet");
    let probed = probe(&world, RUNTIME).await;
    let models =
        world.client.get(&format!("/v1/models?runtime={RUNTIME}")).await.ok()["data"].as_array().unwrap().len();
    assert!(models > 0 && probed["at"].as_u64() > Some(1_700_000_000_000), "{probed}");
    assert_eq!(probed, json!({"ok": true, "at": probed["at"], "models": models}));
    let asked = world.simulator.recorder().requests_of(Endpoint::ModelsList);
    assert_eq!(asked[0].credential, Some(Credential::ApiKey(UPSTREAM_KEY.to_owned())));
    assert_eq!(listed(&world, RUNTIME).await["probe"], probed);
    world.restart().await;
    assert_eq!(listed(&world, RUNTIME).await["probe"], probed, "it is kept with the credential");
    world.client.connect(&world.simulator.base_url()).await;
    assert_eq!(listed(&world, RUNTIME).await["probe"], json!(null));
    probe(&world, RUNTIME).await;
    world.client.delete(&path()).await.ok();
    assert_eq!(listed(&world, RUNTIME).await["probe"], json!(null));
}

#[tokio::test]
async fn a_credential_that_the_upstream_refuses_is_not_connected() {
    const WRONG: &str = "sk-ant-nobody-knows-this-one";
    let world = World::empty(Script::default()).await;
    let body = json!({"api_key": WRONG, "api_base": world.simulator.base_url()});
    world.client.put(&path(), &body).await.ok();
    let refused = probe(&world, RUNTIME).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("upstream_auth")));
    assert!(!refused["message"].as_str().unwrap().is_empty() && !refused.to_string().contains(WRONG), "{refused}");
    let item = listed(&world, RUNTIME).await;
    assert_eq!((&item["connected"], &item["probe"]), (&json!(false), &refused));
    world.client.connect(&world.simulator.base_url()).await;
    assert_eq!(listed(&world, RUNTIME).await["connected"], json!(true));
    assert_eq!(probe(&world, RUNTIME).await["ok"], json!(true));
}

#[tokio::test]
async fn an_upstream_that_fails_says_nothing_against_the_credential() {
    let fault = RequestFault::error(Endpoint::ModelsList, 1000, 500, "api_error");
    let script = Script::default().with_faults(Faults { requests: vec![fault], ..Faults::default() });
    let world = World::start(script).await;
    let failed = probe(&world, RUNTIME).await;
    assert_eq!((&failed["ok"], &failed["code"]), (&json!(false), &json!("upstream_unavailable")), "{failed}");
    let item = listed(&world, RUNTIME).await;
    assert_eq!((&item["connected"], &item["probe"]), (&json!(true), &failed));
}

#[tokio::test]
async fn a_credential_is_not_tried_by_a_runtime_that_asks_nothing() {
    let world = World::with_guest(&guest("", &[]), Script::default()).await;
    let untried = probe(&world, "hostile").await;
    assert_eq!((&untried["ok"], untried.get("models")), (&json!(null), None), "{untried}");
    assert!(untried["message"].as_str().unwrap().contains("was not tried"), "{untried}");
    assert_eq!(listed(&world, "hostile").await["connected"], json!(true));
}

#[tokio::test]
async fn without_a_credential_there_is_nothing_to_try() {
    let world = World::empty(Script::default()).await;
    for (runtime, code) in [(RUNTIME, "no_credential"), ("nope", "unsupported_runtime")] {
        let path = format!("/api/agent-runtimes/{runtime}/credentials/probe");
        let refused = world.client.post(&path, &json!({})).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (400, code), "{}", refused.text);
    }
    assert_eq!(world.simulator.recorder().requests().len(), 0);
}

/// A host whose session has just ended a turn under `FIRST_KEY`, so that it still follows its upstream, which takes any key.
async fn live(script: Script) -> (World, Simulator, String) {
    let upstream = Simulator::start(anywhere(), script, Options::default()).unwrap();
    let world = World::empty(Script::default()).await;
    store(&world, FIRST_KEY, &upstream).await;
    let session = world.session("one").await;
    (world, upstream, session)
}

const FIRST_KEY: &str = "sk-ant-canary-of-the-first-key";
const SECOND_KEY: &str = "sk-ant-canary-of-the-second-key";

async fn store(world: &World, key: &str, upstream: &Simulator) {
    world.client.put(&path(), &json!({"api_key": key, "api_base": upstream.base_url()})).await.ok();
}

/// The keys that came with what was sent to sessions.
fn keys_of_sends(upstream: &Simulator) -> Vec<String> {
    let sends = upstream.recorder().requests_of(Endpoint::EventsSend);
    sends.into_iter().map(|request| request.credential.unwrap().key().to_owned()).collect()
}

async fn last_of_turn(world: &World, session: &str) -> Value {
    world.client.turn(session).await.pop().unwrap().json
}

async fn is_live(world: &World) -> bool {
    world.client.get("/api/status").await.ok()["sessions"]["live"] == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_key_is_used_by_the_next_prompt_of_a_live_session() {
    let (world, upstream, session) = live(Script::of([Step::message("done")])).await;
    assert_eq!(last_of_turn(&world, &session).await["type"], "session.status_idle");
    store(&world, SECOND_KEY, &upstream).await;
    assert!(is_live(&world).await, "what is tried here is a session that has its guest and its feed");
    assert_eq!(world.client.prompt(&session, "two").await.status, 204);
    assert_eq!(last_of_turn(&world, &session).await["type"], "session.status_idle");
    assert_eq!(keys_of_sends(&upstream), [FIRST_KEY, SECOND_KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_in_the_middle_of_a_turn_has_the_key_of_its_moment() {
    let script = Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")]);
    let (world, upstream, session) = live(script).await;
    let mut stream = world.client.stream(&session, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    store(&world, SECOND_KEY, &upstream).await;
    world.client.post(&format!("/session/{session}/interrupt"), &json!({})).await;
    assert_eq!(last_of_turn(&world, &session).await["type"], "session.status_idle", "its feed was not cut");
    assert_eq!(keys_of_sends(&upstream), [FIRST_KEY, SECOND_KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_not_used_by_a_live_session_which_goes_on_with_the_next_one() {
    let (world, upstream, session) = live(Script::of([Step::message("done")])).await;
    last_of_turn(&world, &session).await;
    world.client.delete(&path()).await.ok();
    assert!(is_live(&world).await);
    let before = upstream.recorder().requests().len();
    assert_eq!(world.client.prompt(&session, "two").await.status, 204);
    waits_for_a_credential(&world, &session).await;
    assert_eq!(upstream.recorder().requests().len(), before, "nothing was sent under it");
    store(&world, SECOND_KEY, &upstream).await;
    assert_eq!(last_of_turn(&world, &session).await["type"], "session.status_idle", "it goes on by itself");
    assert_eq!(keys_of_sends(&upstream), [FIRST_KEY, SECOND_KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_whose_key_is_gone_can_be_deleted() {
    let (world, upstream, session) = live(Script::of([Step::message("done")])).await;
    last_of_turn(&world, &session).await;
    world.client.delete(&path()).await.ok();
    let before = upstream.recorder().requests().len();
    assert_eq!(world.client.delete(&format!("/session/{session}")).await.status, 200);
    assert_eq!(world.client.get(&format!("/session/{session}")).await.status, 404);
    assert_eq!(upstream.recorder().requests().len(), before);
}
