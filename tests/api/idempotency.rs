//! Requests that come twice under one key: what they do is done once.

use futures_util::future::join_all;
use http::Method;
use lap::http::{Access, RouteInfo, routes};
use lap_simulator::{Endpoint, Faults, Script, fault::RequestFault, script::Step};
use serde_json::{Value, json};

use crate::harness::{
    ANTHROPIC, Answer, RUNTIME, World,
    variant::{ID, Variant},
};

const REPLAYED: &str = "idempotent-replayed";

async fn keyed(world: &World, key: &str, path: &str, body: &Value) -> Answer {
    let (headers, key) = (headers(path), ("idempotency-key", key));
    world.client.send(Method::POST, path, &[&headers[..], &[key]].concat(), Some(body.to_string())).await
}

async fn unkeyed(world: &World, path: &str, body: &Value) -> Answer {
    world.client.send(Method::POST, path, &headers(path), Some(body.to_string())).await
}

/// What a path wants of its requests.
fn headers(path: &str) -> Vec<(&'static str, &'static str)> {
    if path.starts_with("/v1/") { ANTHROPIC.to_vec() } else { Vec::new() }
}

fn is_replay(answer: &Answer) -> bool {
    answer.headers.contains_key(REPLAYED)
}

/// One way to post: where, what, and how often its effect has happened.
struct Case {
    path: String,
    body: Value,
    other_body: Value,
    effect: Effect,
}

enum Effect {
    Agents,
    Keys,
    /// That there is this alias.
    Alias(&'static str),
    Sessions,
    /// Messages of this session.
    Messages(String),
    /// Environments.
    Environments,
    /// Versions of this agent.
    Versions(String),
    /// Whether what is at this path has a name or title; it is another one before each request.
    Named(String, &'static str),
    /// Whether what is at this path was put away, which cannot be undone.
    Archived(String),
    /// Whether this agent has this status; anything else that sets it is undone before each request.
    Status(String, &'static str),
    /// Whether new sessions of the added runtime get this component; they get the other one before each request.
    Component(String, String),
    /// Interrupts that the upstream was sent of this session.
    Interrupts(String),
    /// Times that the log of this session says that it is over.
    Ends(String),
    /// Times that the credential was tried.
    Probes,
}

fn working() -> Script {
    Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")])
}

impl Case {
    /// A case for a route of the table; a new POST fails here until it has one.
    async fn of(world: &World, route: &str) -> Self {
        let agent = world.agent().await;
        let parts = |text: &str| json!({"parts": [{"type": "text", "text": text}]});
        let case = |path: String, body, other_body, effect| Self { path, body, other_body, effect };
        let note = |text: &str| json!({"note": text});
        match route {
            "/api/agents" => {
                let body = |name: &str| json!({"name": name, "owner_id": "o", "runtime": RUNTIME});
                case(route.to_owned(), body("a"), body("b"), Effect::Agents)
            }
            "/api/keys" => {
                let body = |label: &str| json!({"label": label});
                case(route.to_owned(), body("a"), body("b"), Effect::Keys)
            }
            "/api/runtime-harnesses" => {
                let base = world.simulator.base_url();
                let body = |key: &str| json!({"alias": "a", "api_spec": RUNTIME, "api_base": base, "api_key": key});
                case(route.to_owned(), body("k-1"), body("k-2"), Effect::Alias("a"))
            }
            "/api/agent-runtimes" => {
                let (old, new) = (Variant::of(1), Variant::of(2));
                old.add(&world.client).await;
                new.upload(&world.client).await;
                let asked = new.ask(&world.client, None).await.json();
                let grant = &asked["error"]["details"]["grant"];
                let body = |grant: &Value| json!({"component": new.digest(), "manifest": new.manifest, "grant": grant});
                let effect = Effect::Component(new.digest(), old.digest());
                case(route.to_owned(), body(grant), body(&json!("another")), effect)
            }
            "/api/agent-runtimes/{id}/rollback" => {
                let (old, new) = (Variant::of(3), Variant::of(4));
                old.add(&world.client).await;
                new.add(&world.client).await;
                let body = |variant: &Variant| json!({"to": variant.digest()});
                let effect = Effect::Component(old.digest(), new.digest());
                case(route.replace("{id}", ID), body(&old), body(&new), effect)
            }
            "/session" => {
                let body = |title: &str| json!({"runtime": RUNTIME, "agent_id": agent, "title": title, "prompt": "go"});
                case(route.to_owned(), body("a"), body("b"), Effect::Sessions)
            }
            "/session/{id}/message" | "/session/{id}/prompt_async" => {
                let session = world.client.session(&agent, None).await;
                case(route.replace("{id}", &session), parts("a"), parts("b"), Effect::Messages(session))
            }
            "/api/agents/{id}/pause" => {
                case(route.replace("{id}", &agent), note("a"), note("b"), Effect::Status(agent, "paused"))
            }
            "/api/agents/{id}/resume" => {
                case(route.replace("{id}", &agent), note("a"), note("b"), Effect::Status(agent, "active"))
            }
            "/session/{id}/kill" => {
                let session = world.client.session(&agent, Some("go")).await;
                case(route.replace("{id}", &session), note("a"), note("b"), Effect::Ends(session))
            }
            "/api/agent-runtimes/{id}/credentials/probe" => {
                case(route.replace("{id}", RUNTIME), note("a"), note("b"), Effect::Probes)
            }
            "/session/{id}/interrupt" | "/session/{id}/abort" => {
                let session = world.client.session(&agent, Some("go")).await;
                let mut stream = world.client.stream(&session, "", &[]).await;
                while stream.next().await.unwrap().name != "agent.message" {}
                case(route.replace("{id}", &session), note("a"), note("b"), Effect::Interrupts(session))
            }
            "/v1/agents" => {
                let body = |name: &str| json!({"name": name, "model": "m"});
                case(route.to_owned(), body("a"), body("b"), Effect::Agents)
            }
            "/v1/agents/{id}" => {
                let body = |name: &str| json!({"name": name});
                case(route.replace("{id}", &agent), body("a"), body("b"), Effect::Versions(agent))
            }
            "/v1/environments" => {
                let body = |name: &str| json!({"name": name});
                case(route.to_owned(), body("a"), body("b"), Effect::Environments)
            }
            "/v1/sessions" => {
                let environment = environment(world).await;
                let body = |title: &str| json!({"agent": agent, "environment_id": environment, "title": title});
                case(route.to_owned(), body("a"), body("b"), Effect::Sessions)
            }
            "/v1/environments/{id}" => {
                let path = route.replace("{id}", &environment(world).await);
                case(path.clone(), json!({"name": "a"}), json!({"name": "b"}), Effect::Named(path, "name"))
            }
            "/v1/sessions/{id}" => {
                let path = route.replace("{id}", &world.client.session(&agent, None).await);
                case(path.clone(), json!({"title": "a"}), json!({"title": "b"}), Effect::Named(path, "title"))
            }
            "/v1/agents/{id}/archive" | "/v1/environments/{id}/archive" | "/v1/sessions/{id}/archive" => {
                let id = match route {
                    "/v1/agents/{id}/archive" => agent,
                    "/v1/environments/{id}/archive" => environment(world).await,
                    _ => world.client.session(&agent, None).await,
                };
                let path = route.replace("{id}", &id);
                let thing = path.strip_suffix("/archive").unwrap().to_owned();
                case(path, note("a"), note("b"), Effect::Archived(thing))
            }
            "/v1/sessions/{id}/events" => {
                let session = world.client.session(&agent, None).await;
                let body = |text: &str| json!({"events": [{"type": "user.message", "content": [{"type": "text", "text": text}]}]});
                case(route.replace("{id}", &session), body("a"), body("b"), Effect::Messages(session))
            }
            other => panic!("POST {other} has no case here"),
        }
    }

    /// How often it has happened.
    async fn count(&self, world: &World) -> usize {
        let length = |list: &Value| list.as_array().unwrap().len();
        match &self.effect {
            Effect::Agents => length(&world.client.get("/api/agents").await.ok()["agents"]),
            Effect::Keys => length(&world.client.get("/api/keys").await.ok()["keys"]),
            Effect::Alias(alias) => {
                let found = world.client.get(&format!("/api/agent-runtimes/{alias}")).await;
                usize::from(found.status == 200)
            }
            Effect::Sessions => length(&world.client.get("/session").await.ok()),
            Effect::Environments => length(&get(world, "/v1/environments").await["data"]),
            Effect::Versions(agent) => length(&get(world, &format!("/v1/agents/{agent}/versions")).await["data"]),
            Effect::Named(path, key) => usize::from(get(world, path).await[*key] == "a"),
            Effect::Archived(path) => usize::from(get(world, path).await["archived_at"].is_string()),
            Effect::Messages(session) => length(&world.client.get(&format!("/session/{session}/message")).await.ok()),
            Effect::Status(agent, status) => {
                let agent = world.client.get(&format!("/api/agents/{agent}")).await.ok();
                usize::from(agent["status"] == *status)
            }
            Effect::Component(component, _) => {
                let runtime = world.client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
                usize::from(runtime["component"] == *component)
            }
            Effect::Interrupts(session) => {
                let truth = world.truth(session).await;
                truth.iter().filter(|event| event["type"] == "user.interrupt").count()
            }
            Effect::Ends(session) => {
                let log = world.client.list(session).await;
                log.iter().filter(|event| event["type"] == "session.status_terminated").count()
            }
            Effect::Probes => world.simulator.recorder().requests_of(Endpoint::ModelsList).len(),
        }
    }

    /// Makes it visible whether the effect happens again.
    async fn rearm(&self, world: &World) {
        match &self.effect {
            Effect::Status(agent, status) => {
                let opposite = if *status == "paused" { "active" } else { "paused" };
                world.client.patch(&format!("/api/agents/{agent}"), &json!({"status": opposite})).await.ok();
            }
            Effect::Versions(agent) => {
                world.client.patch(&format!("/api/agents/{agent}"), &json!({"name": "another"})).await.ok();
            }
            Effect::Alias(alias) => {
                world.client.delete(&format!("/api/runtime-harnesses/{alias}")).await.ok();
            }
            Effect::Named(path, key) => {
                unkeyed(world, path, &json!({*key: "another"})).await.ok();
            }
            Effect::Component(_, other) => {
                let path = format!("/api/agent-runtimes/{ID}/rollback");
                world.client.post(&path, &json!({"to": other})).await.ok();
            }
            _ => {}
        }
    }
}

async fn get(world: &World, path: &str) -> Value {
    world.client.send(Method::GET, path, &ANTHROPIC, None).await.ok()
}

async fn environment(world: &World) -> String {
    let made = unkeyed(world, "/v1/environments", &json!({"name": "e"})).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

/// What a client reads off an answer that says which thing it is about.
fn thing(answer: &Answer) -> (u16, Value) {
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let of_messages = || json.as_array().map(|all| all.iter().map(|one| one["info"]["id"].clone()).collect());
    let of_events = || Some(json.get("data")?[0]["id"].clone());
    (answer.status.as_u16(), json.get("id").cloned().or_else(of_messages).or_else(of_events).unwrap_or_default())
}

fn posts() -> impl Iterator<Item = &'static str> {
    // What goes on to the upstream takes no key, nor do the forms of people who have not signed in yet.
    let takes = |route: &&RouteInfo| !route.elsewhere && route.access != Access::Anyone;
    let here = routes().iter().filter(|route| route.method == Method::POST).filter(takes);
    here.map(|route| route.path)
}

#[tokio::test]
async fn every_post_of_the_table_happens_once_under_a_key() {
    let mut world = World::start(working()).await;
    for (number, route) in posts().enumerate() {
        let case = Case::of(&world, route).await;
        let key = &format!("key-{number}");
        case.rearm(&world).await;
        let before = case.count(&world).await;
        let first = keyed(&world, key, &case.path, &case.body).await;
        assert!(first.status.is_success() && !is_replay(&first), "{route}: {} {}", first.status, first.text);
        assert_eq!(case.count(&world).await - before, 1, "{route}");

        case.rearm(&world).await;
        let before = case.count(&world).await;
        let second = keyed(&world, key, &case.path, &case.body).await;
        assert_eq!((thing(&second), second.header(REPLAYED)), (thing(&first), "true"), "{route}: {}", second.text);
        let reused = keyed(&world, key, &case.path, &case.other_body).await;
        assert_eq!((reused.status.as_u16(), &*reused.code()), (409, "idempotency_key_reused"), "{route}");
        assert_eq!(reused.header("x-should-retry"), "false");
        for bad in ["", "a b", &"k".repeat(256)] {
            let refused = keyed(&world, bad, &case.path, &case.body).await;
            assert_eq!(
                (refused.status.as_u16(), &*refused.code()),
                (400, "idempotency_key_invalid"),
                "{route} {bad:?}"
            );
        }
        assert_eq!(case.count(&world).await, before, "{route} has happened again");

        world.restart().await;
        let third = keyed(&world, key, &case.path, &case.body).await;
        assert_eq!((thing(&third), third.header(REPLAYED)), (thing(&first), "true"), "{route} after a restart");
        assert_eq!(case.count(&world).await, before, "{route} has happened again after a restart");

        // The control: the counts above would have shown it.
        if !matches!(case.effect, Effect::Interrupts(_) | Effect::Archived(_) | Effect::Ends(_)) {
            case.rearm(&world).await;
            let before = case.count(&world).await;
            let another = keyed(&world, &format!("{key}-other"), &case.path, &case.body).await;
            assert!(another.status.is_success() && !is_replay(&another), "{route}: {}", another.text);
            assert_eq!(case.count(&world).await - before, 1, "{route} under another key");
        }
    }
}

#[tokio::test]
async fn a_replayed_interrupt_spares_the_next_turn() {
    let world = World::start(working()).await;
    for call in ["interrupt", "abort"] {
        let id = world.session("first").await;
        let mut stream = world.client.stream(&id, "", &[]).await;
        while stream.next().await.unwrap().name != "agent.message" {}
        let path = format!("/session/{id}/{call}");
        assert_eq!(keyed(&world, "k", &path, &json!({})).await.status, 204);
        while stream.next().await.unwrap().name != "session.status_idle" {}
        assert_eq!(world.client.prompt(&id, "second").await.status, 204);
        while stream.next().await.unwrap().name != "agent.message" {}
        let again = keyed(&world, "k", &path, &json!({})).await;
        assert_eq!((again.status.as_u16(), again.header(REPLAYED)), (204, "true"));
        assert_eq!(world.client.status(&id).await, "running");
        // The control: without the key it stops.
        assert_eq!(world.client.post(&path, &json!({})).await.status, 204);
        while stream.next().await.unwrap().name != "session.status_idle" {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_under_one_key_make_one_thing() {
    let world = World::start(working()).await;
    let routes = ["/api/agents", "/session", "/session/{id}/message", "/session/{id}/prompt_async"];
    for route in routes.into_iter().chain(["/v1/agents", "/v1/environments", "/v1/sessions/{id}/events"]) {
        let case = Case::of(&world, route).await;
        let before = case.count(&world).await;
        let all = join_all((0..20).map(|_| keyed(&world, "k", &case.path, &case.body))).await;
        let things: Vec<_> = all.iter().map(thing).collect();
        assert!(things.iter().all(|one| *one == things[0]), "{route}: {things:?}");
        assert!(all[0].status.is_success(), "{route}: {}", all[0].text);
        assert_eq!(all.iter().filter(|answer| !is_replay(answer)).count(), 1, "{route}: one was the first");
        assert_eq!(case.count(&world).await - before, 1, "{route}");
        // The control: without a key each makes one.
        let before = case.count(&world).await;
        join_all((0..3).map(|_| unkeyed(&world, &case.path, &case.body))).await;
        assert_eq!(case.count(&world).await - before, 3, "{route}");
    }
    assert_eq!(world.simulator.recorder().count(Endpoint::SessionsCreate), 1 + 3 + 3, "none was made and dropped");
}

#[tokio::test]
async fn the_same_key_on_another_path_is_another_key() {
    let world = World::start(working()).await;
    let agent = world.agent().await;
    let mut made = Vec::new();
    for path in ["message", "prompt_async"] {
        for _ in 0..2 {
            let id = world.client.session(&agent, None).await;
            let body = json!({"parts": [{"type": "text", "text": "hello"}]});
            let answer = keyed(&world, "k", &format!("/session/{id}/{path}"), &body).await;
            assert!(answer.status.is_success() && !is_replay(&answer), "{}", answer.text);
            made.push(world.client.get(&format!("/session/{id}/message")).await.ok()[0]["info"]["id"].clone());
        }
    }
    made.sort_by_key(Value::to_string);
    made.dedup();
    assert_eq!(made.len(), 4);
}

#[tokio::test]
async fn a_first_that_failed_does_not_stand_for_the_second() {
    let world = World::start(working()).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "go"});
    world.simulator.set_faults(Faults {
        requests: vec![RequestFault::error(Endpoint::SessionsCreate, 1, 529, "overloaded_error")],
        ..Faults::default()
    });
    let refused = keyed(&world, "k", "/session", &body).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (503, "upstream_overloaded"));
    let made = keyed(&world, "k", "/session", &body).await;
    assert!(!is_replay(&made), "this one has made it");
    let id = made.ok()["id"].clone();
    let again = keyed(&world, "k", "/session", &body).await;
    assert_eq!((&again.ok()["id"], again.header(REPLAYED)), (&id, "true"));
    assert_eq!(world.client.get("/session").await.ok().as_array().unwrap().len(), 1);

    // A refusal of the host's own: the agent is paused, and then it is not.
    let paused = world.agent().await;
    let path = format!("/api/agents/{paused}");
    world.client.post(&format!("{path}/pause"), &json!({})).await.ok();
    let body = json!({"runtime": RUNTIME, "agent_id": paused});
    assert_eq!(keyed(&world, "p", "/session", &body).await.code(), "agent_paused");
    world.client.post(&format!("{path}/resume"), &json!({})).await.ok();
    let made = keyed(&world, "p", "/session", &body).await;
    assert!(!is_replay(&made));
    // What is true of the agent later does not matter any more.
    world.client.delete(&path).await.ok();
    assert_eq!(keyed(&world, "p", "/session", &body).await.ok()["id"], made.ok()["id"]);
}

#[tokio::test]
async fn what_was_deleted_does_not_come_back_under_its_key() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let session = json!({"runtime": RUNTIME, "agent_id": agent});
    let id = keyed(&world, "k", "/session", &session).await.ok()["id"].as_str().unwrap().to_owned();
    let prompt = json!({"parts": [{"type": "text", "text": "hello"}]});
    let messages = format!("/session/{id}/message");
    keyed(&world, "k", &messages, &prompt).await.ok();
    let others = [format!("/session/{id}/prompt_async"), format!("/session/{id}/interrupt")];
    for path in &others {
        assert_eq!(keyed(&world, "k", path, &prompt).await.status, 204);
    }
    world.client.turn(&id).await;
    world.client.delete(&format!("/session/{id}")).await.ok();
    let gone = keyed(&world, "k", "/session", &session).await;
    assert_eq!((gone.status.as_u16(), &*gone.code()), (410, "idempotency_gone"));
    for path in others.iter().chain([&messages]) {
        assert_eq!(keyed(&world, "k", path, &prompt).await.code(), "session_not_found", "{path}");
    }
    assert_eq!(world.client.get("/session").await.ok(), json!([]));

    let agent = json!({"name": "n", "owner_id": "o"});
    let id = keyed(&world, "k", "/api/agents", &agent).await.json()["id"].as_str().unwrap().to_owned();
    world.client.delete(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(keyed(&world, "k", "/api/agents", &agent).await.code(), "idempotency_gone");
}

#[tokio::test]
async fn the_work_of_a_client_that_leaves_is_finished_and_found() {
    let world = World::start(working()).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent});
    let count = || world.simulator.recorder().count(Endpoint::SessionsCreate);
    // The upstream takes its time, so that the client leaves before it has answered.
    let slow = RequestFault { endpoint: Some(Endpoint::SessionsCreate), delay_ms: 200, ..RequestFault::default() };
    world.simulator.set_faults(Faults { requests: vec![slow], ..Faults::default() });
    let asked = async {
        while count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = keyed(&world, "k", "/session", &body) => panic!("it was answered before it left: {}", answer.text),
        () = asked => {}
    }
    let second = keyed(&world, "k", "/session", &body).await;
    assert_eq!(second.header(REPLAYED), "true");
    assert_eq!(world.client.get("/session").await.ok().as_array().unwrap().len(), 1);
    assert_eq!(count(), 1);
}
