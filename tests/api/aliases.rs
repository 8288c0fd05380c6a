//! Aliases: the same runtime more than once, each time with another key for another place.

use http::Method;
use lap::session::Retention;
use lap_simulator::{
    Endpoint, Faults, Options, Script, Simulator,
    fault::{self, RequestFault},
    record::Credential,
    script::Step,
};
use serde_json::{Value, json};

use crate::harness::{
    ANTHROPIC, Answer, RUNTIME, UPSTREAM_KEY, World, anywhere,
    variant::{ID, Variant},
};

const ALIAS: &str = "local-opencode";
const PATH: &str = "/api/runtime-harnesses";
/// The credential of the second upstream, which the first one refuses.
const OTHER_KEY: &str = "sk-ant-canary-of-the-second-Qw8e";

fn second(script: Script) -> Simulator {
    let options = Options { api_key: Some(OTHER_KEY.to_owned()), ..Options::default() };
    Simulator::start(anywhere(), script, options).unwrap()
}

fn wish(base: &str) -> Value {
    json!({"alias": ALIAS, "api_spec": RUNTIME, "api_base": base, "api_key": OTHER_KEY})
}

/// A host with the vendor's own credential and an alias at a second upstream.
async fn world(script: Script) -> (World, Simulator) {
    let (world, other) = (World::start(script.clone()).await, second(script));
    world.client.post(PATH, &wish(&other.base_url())).await.ok();
    (world, other)
}

fn named(list: &Value, alias: &str) -> Option<Value> {
    list["harnesses"].as_array().unwrap().iter().find(|item| item["alias"] == alias).cloned()
}

async fn runtime(world: &World, id: &str) -> Value {
    world.client.get(&format!("/api/agent-runtimes/{id}")).await.ok()
}

async fn runs(world: &World, session: &str) {
    assert_eq!(world.client.turn(session).await.last().unwrap().name, "session.status_idle");
}

/// Every request that an upstream has seen came with its own key and with no trace of the other one.
fn saw_only(simulator: &Simulator, key: &str, other: &str) {
    let requests = simulator.recorder().requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.credential, Some(Credential::ApiKey(key.to_owned())), "{}", request.path);
        assert!(!format!("{:?}{:?}", request.headers, request.body).contains(other), "{}", request.path);
    }
}

fn refused(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{}", answer.text);
    assert!(answer.text.contains(words), "{words:?} is not in {}", answer.text);
    assert!(!answer.text.contains(OTHER_KEY), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_flow_runs_on_an_alias_with_its_own_key_at_its_own_place() {
    let (mut world, other) = world(Script::of([Step::message("done")])).await;
    let listed = world.client.get(PATH).await.ok();
    assert_eq!(listed["harnesses"].as_array().unwrap().last().unwrap()["alias"], ALIAS, "aliases come last");
    let item = named(&listed, ALIAS).unwrap();
    let original = named(&listed, RUNTIME).unwrap();
    assert_eq!((&item["api_spec"], &item["is_default"]), (&json!(RUNTIME), &json!(false)));
    assert_eq!((&original["api_spec"], &original["is_default"]), (&json!(RUNTIME), &json!(true)));
    assert_eq!((&item["display_name"], &item["api_base"]), (&json!(ALIAS), &json!(other.base_url())));
    assert_eq!((&item["connected"], &item["masked_api_key"]), (&json!(true), &json!("sk-ant-...Qw8e")));
    assert_eq!(item["tools"], original["tools"]);
    let seen = runtime(&world, ALIAS).await;
    assert_eq!((&seen["source"], &seen["alias_of"], &seen["versions"]), (&json!("alias"), &json!(RUNTIME), &json!([])));
    assert_eq!(seen["component"], runtime(&world, RUNTIME).await["component"]);
    assert_eq!(runtime(&world, RUNTIME).await["alias_of"], json!(null));

    let agent = world.client.agent(&json!({"runtime": ALIAS})).await;
    let session = world.client.session_on(ALIAS, &agent, Some("Hello")).await;
    runs(&world, &session).await;
    let shown = world.client.get(&format!("/session/{session}")).await.ok();
    assert_eq!((&shown["runtime"], &shown["component"]), (&json!(ALIAS), &seen["component"]));
    assert_eq!(world.simulator.recorder().requests().len(), 0, "nothing of it goes to the vendor");
    let vendors = world.session("Hello").await;
    runs(&world, &vendors).await;

    for (id, expected) in [(ALIAS, &session), (RUNTIME, &vendors)] {
        let probe = world.client.post(&format!("/api/agent-runtimes/{id}/credentials/probe"), &json!({})).await.ok();
        assert_eq!(probe["probe"]["ok"], json!(true), "{probe}");
        let models = world.client.get(&format!("/v1/models?runtime={id}")).await.ok();
        assert!(!models["data"].as_array().unwrap().is_empty(), "{models}");
        let on = world.client.get(&format!("/session?runtime={id}")).await.ok();
        let ids: Vec<_> = on.as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!(ids, [&json!(expected)]);
    }
    assert_eq!(named(&world.client.get(PATH).await.ok(), ALIAS).unwrap()["probe"]["ok"], json!(true));

    world.restart().await;
    assert_eq!(world.client.get(PATH).await.ok()["harnesses"].as_array().unwrap().len(), 3);
    assert_eq!(world.client.prompt(&session, "and on").await.status, 204);
    runs(&world, &session).await;
    let killed = world.client.post(&format!("/session/{session}/kill"), &json!({})).await.ok();
    assert_eq!(killed["upstream"]["verified"], json!(true), "{killed}");
    saw_only(&other, OTHER_KEY, UPSTREAM_KEY);
    saw_only(&world.simulator, UPSTREAM_KEY, OTHER_KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_s_dialect_goes_to_an_alias_that_it_names() {
    let (world, other) = world(Script::of([Step::message("done")])).await;
    let headers = [ANTHROPIC[0], ANTHROPIC[1], ("lap-runtime", ALIAS)];
    let ask = async |method, path: &str, body: Option<Value>| {
        world.client.send(method, path, &headers, body.map(|body| body.to_string())).await.ok()
    };
    ask(Method::GET, "/v1/models", None).await;
    ask(Method::GET, "/v1/vaults", None).await;
    let agent = ask(Method::POST, "/v1/agents", Some(json!({"name": "a", "model": "claude-opus-4-5"}))).await;
    let wish = json!({"agent": agent["id"], "environment_id": format!("env_{}", "0".repeat(32))});
    let session = ask(Method::POST, "/v1/sessions", Some(wish)).await;
    let id = session["id"].as_str().unwrap();
    ask(Method::GET, &format!("/v1/sessions/{id}/threads"), None).await;
    assert_eq!(other.recorder().count(Endpoint::SessionsCreate), 1);
    assert_eq!(world.simulator.recorder().requests().len(), 0);
    saw_only(&other, OTHER_KEY, UPSTREAM_KEY);
}

#[tokio::test]
async fn what_is_wrong_with_an_alias_is_said_and_nothing_is_stored() {
    let (world, other) = (World::start(Script::default()).await, second(Script::default()));
    let base = other.base_url();
    let with = |field: &str, value: Value| {
        let mut wish = wish(&base);
        wish[field] = value;
        wish
    };
    let before = world.client.get(PATH).await.ok();
    for (body, code, words) in [
        (with("alias", json!("no spaces")), "invalid_request", "alias: "),
        (with("alias", json!("")), "invalid_request", "alias: "),
        (with("alias", json!("a".repeat(65))), "invalid_request", "alias: "),
        (with("alias", json!(null)), "invalid_request", "alias is required"),
        (with("alias", json!(RUNTIME)), "alias_taken", RUNTIME),
        (with("api_spec", json!("nope")), "unsupported_runtime", "nope"),
        (with("api_spec", json!(null)), "invalid_request", "api_spec is required"),
        (with("api_base", json!(" ")), "invalid_request", "api_base is required"),
        (with("api_base", json!("http://example.com")), "invalid_request", "api_base: "),
        (with("api_base", json!("https://169.254.169.254/")), "invalid_request", "api_base: "),
        (with("api_key", json!(" ")), "invalid_request", "api_key: "),
        (with("api_key", json!("k\u{7}")), "invalid_request", "api_key: "),
        (with("api_key", json!(null)), "invalid_request", "api_key is required"),
    ] {
        refused(&world.client.post(PATH, &body).await, 400, code, words);
    }
    assert_eq!(world.client.get(PATH).await.ok(), before);
    let never = world.client.put(&format!("/api/agent-runtimes/{ALIAS}/credentials"), &json!({"api_key": "k"})).await;
    refused(&never, 400, "unsupported_runtime", ALIAS);

    world.client.post(PATH, &wish(&base)).await.ok();
    refused(&world.client.post(PATH, &wish(&base)).await, 400, "alias_taken", ALIAS);
    let mut of_alias = with("alias", json!("second"));
    of_alias["api_spec"] = json!(ALIAS);
    refused(&world.client.post(PATH, &of_alias).await, 400, "alias_of_alias", ALIAS);
    for (method, status, code) in [(Method::PUT, 404, "alias_not_found"), (Method::DELETE, 200, "")] {
        let answer = world.client.send(method, &format!("{PATH}/nope"), &[], Some("{}".to_owned())).await;
        match status {
            200 => assert_eq!(answer.ok(), json!({"ok": false})),
            _ => refused(&answer, status, code, "harness not found: nope"),
        }
    }
    for method in [Method::PUT, Method::DELETE] {
        let answer = world.client.send(method, &format!("{PATH}/{RUNTIME}"), &[], Some("{}".to_owned())).await;
        refused(&answer, 400, "not_an_alias", RUNTIME);
    }
    for (method, path) in [(Method::DELETE, ""), (Method::POST, "/rollback")] {
        let path = format!("/api/agent-runtimes/{ALIAS}{path}");
        refused(&world.client.send(method, &path, &[], Some("{}".to_owned())).await, 409, "runtime_is_alias", PATH);
    }
}

#[tokio::test]
async fn a_key_is_never_sent_elsewhere_than_where_it_was_stored_for() {
    let (world, other) = world(Script::default()).await;
    let (path, third) = (format!("{PATH}/{ALIAS}"), second(Script::default()));
    let item = async || named(&world.client.get(PATH).await.ok(), ALIAS).unwrap();
    let before = item().await;
    for blank in [json!({}), json!({"api_key": " ", "api_base": ""}), json!({"api_base": other.base_url()})] {
        assert_eq!(named(&world.client.put(&path, &blank).await.ok(), ALIAS), Some(before.clone()), "{blank}");
    }
    let moved = world.client.put(&path, &json!({"api_base": third.base_url()})).await;
    refused(&moved, 400, "invalid_request", "api_key is required");
    refused(&world.client.put(&path, &json!({"api_base": "ftp://x"})).await, 400, "invalid_request", "api_base: ");
    assert_eq!(item().await, before);

    // Another key without a base stays where the alias is, by either way in, and never goes to the vendor.
    let another = json!({"api_key": "sk-ant-another-one-4321"});
    for path in [&path, &format!("/api/agent-runtimes/{ALIAS}/credentials")] {
        world.client.put(path, &another).await.ok();
        let now = item().await;
        assert_eq!((&now["api_base"], &now["masked_api_key"]), (&before["api_base"], &json!("sk-ant-...4321")));
        world.client.put(path, &json!({"api_key": OTHER_KEY})).await.ok();
    }
    world.client.put(&path, &json!({"api_key": OTHER_KEY, "api_base": third.base_url()})).await.ok();
    assert_eq!(item().await["api_base"], third.base_url());

    let credentials = format!("/api/agent-runtimes/{ALIAS}/credentials");
    assert_eq!(world.client.delete(&credentials).await.ok(), json!({"ok": true}));
    assert_eq!(item().await["connected"], json!(false));
    refused(&world.client.put(&credentials, &another).await, 400, "invalid_request", "api_base is required");
    assert_eq!(runtime(&world, RUNTIME).await["connected"], json!(true), "the other's is untouched");
    assert_eq!(world.simulator.recorder().requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_goes_with_its_key_and_not_under_a_running_turn() {
    let script = Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")]);
    let (mut world, other) = world(script).await;
    let mut longer = wish(&other.base_url());
    longer["alias"] = json!(format!("{ALIAS}-2"));
    world.client.post(PATH, &longer).await.ok();
    let path = format!("{PATH}/{ALIAS}");
    let agent = world.client.agent(&json!({"runtime": ALIAS})).await;
    let session = world.client.session_on(ALIAS, &agent, Some("go")).await;
    let mut stream = world.client.stream(&session, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    refused(&world.client.delete(&path).await, 409, "runtime_in_use", ALIAS);
    world.client.post(&format!("/session/{session}/interrupt"), &json!({})).await;
    world.client.turn(&session).await;
    // The session still follows its upstream, and has nothing of the key.
    assert_eq!(world.client.get("/api/status").await.ok()["sessions"]["live"], 1);
    assert_eq!(world.client.delete(&path).await.ok(), json!({"ok": true}));
    let requests = other.recorder().requests().len();
    assert_eq!(world.client.delete(&path).await.ok(), json!({"ok": false}));
    let listed = world.client.get(PATH).await.ok();
    assert_eq!(named(&listed, ALIAS), None);
    assert!(named(&listed, &format!("{ALIAS}-2")).is_some(), "a name that only begins so is another one's");
    world.client.prompt(&session, "and on").await;
    let told = world.client.turn(&session).await;
    assert!(told.iter().any(|event| event.name == "session.error"), "{told:?}");
    assert_eq!(told.last().unwrap().json["stop_reason"]["type"], "retries_exhausted");
    assert_eq!(other.recorder().requests().len(), requests, "nothing was sent under the key that is gone");
    world.restart().await;
    let listed = world.client.get(PATH).await.ok();
    assert_eq!((named(&listed, ALIAS), listed["harnesses"].as_array().unwrap().len()), (None, 3));
    let refusal = world.client.post("/session", &json!({"runtime": ALIAS, "agent_id": agent})).await;
    refused(&refusal, 400, "unsupported_runtime", ALIAS);
    // The name is free again, and nothing of the old credential is left under it.
    let again =
        json!({"alias": ALIAS, "api_spec": RUNTIME, "api_base": world.simulator.base_url(), "api_key": UPSTREAM_KEY});
    let listed = world.client.post(PATH, &again).await.ok();
    assert_eq!(named(&listed, ALIAS).unwrap()["api_base"], world.simulator.base_url());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_key_of_an_alias_is_used_by_the_next_prompt_of_a_live_session() {
    const NEXT_KEY: &str = "sk-ant-canary-of-the-alias-s-next-key";
    let world = World::empty(Script::default()).await;
    let other = Simulator::start(anywhere(), Script::of([Step::message("done")]), Options::default()).unwrap();
    world.client.post(PATH, &wish(&other.base_url())).await.ok();
    let agent = world.client.agent(&json!({"runtime": ALIAS})).await;
    let session = world.client.session_on(ALIAS, &agent, Some("one")).await;
    runs(&world, &session).await;
    world.client.put(&format!("{PATH}/{ALIAS}"), &json!({"api_key": NEXT_KEY})).await.ok();
    assert_eq!(world.client.get("/api/status").await.ok()["sessions"]["live"], 1);
    world.client.prompt(&session, "two").await;
    runs(&world, &session).await;
    let sends = other.recorder().requests_of(Endpoint::EventsSend);
    let keys: Vec<_> = sends.iter().map(|request| request.credential.as_ref().unwrap().key()).collect();
    assert_eq!(keys, [OTHER_KEY, NEXT_KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_an_added_runtime_is_pinned_to_its_versions_and_keeps_it() {
    let (world, other) =
        (World::empty(Script::of([Step::message("done")])).await, second(Script::of([Step::message("done")])));
    let (client, first, next) = (&world.client, Variant::of(1), Variant::of(2));
    first.add(client).await;
    let mut wish = wish(&other.base_url());
    wish["api_spec"] = json!(ID);
    client.post(PATH, &wish).await.ok();
    let agent = client.agent(&json!({"runtime": ALIAS})).await;
    let session = client.session_on(ALIAS, &agent, Some("one")).await;
    runs(&world, &session).await;
    next.add(client).await;
    client.prompt(&session, "two").await;
    runs(&world, &session).await;
    assert_eq!(client.get(&format!("/session/{session}")).await.ok()["component"], first.digest());
    assert_eq!(runtime(&world, ALIAS).await["component"], next.digest(), "new sessions get the new one");
    let sent = other.recorder().requests();
    assert!(sent.iter().all(|request| request.headers["anthropic-version"] == *first.version));

    let old = client.delete(&format!("/api/agent-runtimes/{ID}/versions/{}", first.digest())).await;
    assert_eq!(old.status, 409, "{}", old.text);
    assert!(["version_in_use", "runtime_in_use"].contains(&&*old.code()), "{}", old.text);
    refused(&client.delete(&format!("/api/agent-runtimes/{ID}")).await, 409, "runtime_aliased", ALIAS);
    assert_eq!(client.delete(&format!("/session/{session}")).await.status, 200);
    while client.delete(&format!("{PATH}/{ALIAS}")).await.status == 409 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.delete(&format!("/api/agent-runtimes/{ID}")).await.ok(), json!({"ok": true}));

    // The other way round: no runtime takes an alias's name.
    let mut wish = self::wish(&other.base_url());
    wish["alias"] = json!(ID);
    client.post(PATH, &wish).await.ok();
    first.upload(client).await;
    refused(&first.ask(client, None).await, 409, "runtime_is_alias", ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_holds_up_the_end_of_no_other_upstream_s_old_sessions() {
    let (mut world, other) = world(Script::of([Step::message("done")])).await;
    let agent = world.agent().await;
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let session = world.client.session_on(ALIAS, &agent, Some("hello")).await;
        runs(&world, &session).await;
        hanging.push(session);
    }
    let last = world.session("hello").await;
    runs(&world, &last).await;
    let silence = RequestFault { times: u64::MAX, answer: fault::Answer::Silence, ..RequestFault::default() };
    other.set_faults(Faults { requests: vec![silence], ..Faults::default() });
    world.restart_with(|config| config.retention = Retention { age: None, bytes: Some(0) }).await;
    // The oldest would come first, and each for as long as an upstream may take.
    while world.client.get(&format!("/session/{last}")).await.status == 200 {
        tokio::task::yield_now().await;
    }
    for session in hanging {
        assert_eq!(world.client.get(&format!("/session/{session}")).await.status, 200);
    }
}
