//! What belongs to whom: made by somebody, seen by them and by admins, and used by nobody else.

use http::Method;
use lap_simulator::Script;
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, Answer, Client, RUNTIME, World};

async fn of(world: &World, owner: &str) -> Client {
    let minted = world.client.post("/api/keys", &json!({"owner_id": owner})).await.json();
    world.client.with_key(minted["key"].as_str())
}

async fn theirs(client: &Client, method: Method, path: &str, body: Option<Value>) -> Answer {
    client.send(method, path, &ANTHROPIC, body.map(|body| body.to_string())).await
}

/// An answer as everybody may see it who asks for the same.
fn face(answer: &Answer, id: &str) -> (u16, String) {
    let request = answer.header("request-id");
    (answer.status.as_u16(), answer.text.replace(request, "REQUEST").replace(id, "ID"))
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn everybody_lists_their_own_and_admins_everything() {
    let world = World::start(Script::default()).await;
    let (ann, bob) = (of(&world, "ann").await, of(&world, "bob").await);
    let mut sessions = Vec::new();
    for client in [&ann, &bob, &ann] {
        let made = client.post("/api/agents", &json!({"name": "a", "runtime": RUNTIME})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let environment = theirs(client, Method::POST, "/v1/environments", Some(json!({"name": "e"}))).await.ok();
        let agent = made.json()["id"].as_str().unwrap().to_owned();
        let session = client.session(&agent, None).await;
        sessions.push((agent, session, environment["id"].as_str().unwrap().to_owned()));
    }
    let mine = |places: &[usize]| places.iter().map(|place| &sessions[*place]).collect::<Vec<_>>();
    for (client, places) in [(&ann, &[0, 2][..]), (&bob, &[1]), (&world.client, &[0, 1, 2])] {
        let expected = mine(places);
        let forwards: Vec<_> = expected.iter().map(|(agent, ..)| agent.as_str()).collect();
        let backwards = |pick: fn(&(String, String, String)) -> &str| -> Vec<&str> {
            expected.iter().rev().map(|things| pick(things)).collect()
        };
        let agents = client.get("/api/agents").await.ok();
        assert_eq!(ids(&agents["agents"]), forwards);
        assert_eq!(ids(&client.get("/session").await.ok()), backwards(|things| &things.1));
        let agents = theirs(client, Method::GET, "/v1/agents", None).await.ok();
        assert_eq!(ids(&agents["data"]), backwards(|things| &things.0));
        let listed = theirs(client, Method::GET, "/v1/sessions", None).await.ok();
        assert_eq!(ids(&listed["data"]), backwards(|things| &things.1));
        let environments = theirs(client, Method::GET, "/v1/environments", None).await.ok();
        let mut own = backwards(|things| &things.2);
        own.push("env_00000000000000000000000000000000");
        assert_eq!(ids(&environments["data"]), own);
    }
    let filtered = bob.get("/api/agents?owner_id=ann").await.ok();
    assert_eq!(filtered, json!({"agents": []}));
}

#[tokio::test]
async fn pages_of_one_s_own_have_everything_once() {
    let world = World::start(Script::default()).await;
    let (ann, bob) = (of(&world, "ann").await, of(&world, "bob").await);
    let (mut agents, mut sessions) = (Vec::new(), Vec::new());
    for round in 0..7 {
        let client = if round % 3 == 0 { &ann } else { &bob };
        let agent = client.agent(&json!({"owner_id": if round % 3 == 0 { "ann" } else { "bob" }})).await;
        let session = client.session(&agent, None).await;
        if round % 3 == 0 {
            agents.push(agent);
            sessions.insert(0, session);
        }
    }
    let walk = async |path: &str, list: fn(&Value) -> &Value| {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let answer = ann.get(&format!("{path}?limit=1{next}")).await;
            seen.extend(ids(list(&answer.json())).into_iter().map(str::to_owned));
            match answer.headers.get("x-next-page") {
                Some(page) => next = format!("&after={}", page.to_str().unwrap()),
                None => return seen,
            }
        }
    };
    assert_eq!(walk("/api/agents", |body| &body["agents"]).await, agents);
    assert_eq!(walk("/session", |body| body).await, sessions);
}

#[tokio::test]
async fn nothing_is_made_somebody_else_s() {
    let world = World::start(Script::default()).await;
    let (ann, bob) = (of(&world, "ann").await, of(&world, "bob").await);
    let refused = ann.post("/api/agents", &json!({"name": "a", "owner_id": "bob"})).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (403, "owner_forbidden"));
    let agent = ann.agent(&json!({"owner_id": "ann"})).await;
    let path = format!("/api/agents/{agent}");
    let refused = ann.patch(&path, &json!({"owner_id": "bob"})).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (403, "owner_forbidden"));
    assert_eq!(ann.get(&path).await.ok()["owner_id"], "ann");
    let body = json!({"name": "b", "model": "claude-opus-4-5"});
    let made = theirs(&ann, Method::POST, "/v1/agents", Some(body.clone())).await.ok();
    let made = format!("/api/agents/{}", made["id"].as_str().unwrap());
    assert_eq!(ann.get(&made).await.ok()["owner_id"], "ann");
    assert_eq!(world.client.patch(&made, &json!({"owner_id": "bob"})).await.ok()["owner_id"], "bob");
    assert_eq!((ann.get(&made).await.status.as_u16(), bob.get(&made).await.status.as_u16()), (404, 200));
    let made = theirs(&world.client, Method::POST, "/v1/agents", Some(body)).await.ok();
    let made = format!("/api/agents/{}", made["id"].as_str().unwrap());
    assert_eq!(world.client.get(&made).await.ok()["owner_id"], "local-user", "an admin's is the documented owner's");
}

#[tokio::test]
async fn a_session_is_its_agent_s_owner_s_whoever_began_it_and_stays_so() {
    let mut world = World::start(Script::default()).await;
    let (ann, bob) = (of(&world, "ann").await, of(&world, "bob").await);
    let agent = ann.agent(&json!({"owner_id": "ann"})).await;
    let session = world.client.session(&agent, Some("hello")).await;
    world.client.turn(&session).await;
    let path = format!("/session/{session}");
    world.restart().await;
    let (ann, bob) = (ann.at(&world.client.base), bob.at(&world.client.base));
    assert_eq!((ann.get(&path).await.status.as_u16(), bob.get(&path).await.status.as_u16()), (200, 404));
    assert_eq!(ann.get(&format!("{path}/message")).await.ok().as_array().unwrap().len(), 1);
    world.client.patch(&format!("/api/agents/{agent}"), &json!({"owner_id": "bob"})).await.ok();
    assert_eq!((ann.get(&path).await.status.as_u16(), bob.get(&path).await.status.as_u16()), (200, 404));
    let pinned = json!({"agent": {"type": "agent", "id": agent, "version": 1}, "environment_id": "env_00000000000000000000000000000000"});
    let made = theirs(&bob, Method::POST, "/v1/sessions", Some(pinned)).await.ok();
    let made = format!("/session/{}", made["id"].as_str().unwrap());
    assert_eq!((ann.get(&made).await.status.as_u16(), bob.get(&made).await.status.as_u16()), (404, 200));
}

#[tokio::test]
async fn nothing_of_another_s_can_be_used_in_one_s_own() {
    let world = World::start(Script::default()).await;
    let (ann, bob) = (of(&world, "ann").await, of(&world, "bob").await);
    let agent = ann.agent(&json!({"owner_id": "ann"})).await;
    let mine = bob.agent(&json!({"owner_id": "bob"})).await;
    let environment = theirs(&ann, Method::POST, "/v1/environments", Some(json!({"name": "e"}))).await.ok();
    let environment = environment["id"].as_str().unwrap().to_owned();
    let session = ann.session(&agent, None).await;
    let nothing = |prefix: &str| format!("{prefix}_{}1", "0".repeat(31));
    let no_agent = nothing("agent");
    for (of_ann, of_nobody, id) in [
        (json!({"agent_id": agent}), json!({"agent_id": no_agent}), (&agent, &no_agent)),
        (
            json!({"agent_id": agent, "runtime": RUNTIME}),
            json!({"agent_id": no_agent, "runtime": RUNTIME}),
            (&agent, &no_agent),
        ),
    ] {
        let (a, b) = (bob.post("/session", &of_ann).await, bob.post("/session", &of_nobody).await);
        assert_eq!(face(&a, id.0), face(&b, id.1));
        assert_eq!(a.status, 404);
    }
    let begin = async |agent: &str, environment: &str| {
        theirs(&bob, Method::POST, "/v1/sessions", Some(json!({"agent": agent, "environment_id": environment}))).await
    };
    let no_environment = nothing("env");
    let (a, b) = (begin(&mine, &environment).await, begin(&mine, &no_environment).await);
    assert_eq!((face(&a, &environment), a.status.as_u16()), (face(&b, &no_environment), 404));
    let (a, b) = (
        begin(&agent, "env_00000000000000000000000000000000").await,
        begin(&no_agent, "env_00000000000000000000000000000000").await,
    );
    assert_eq!((face(&a, &agent), a.status.as_u16()), (face(&b, &no_agent), 404));
    let no_session = nothing("ses");
    let filter = |session: &str| format!("/v1/models?scope_id={session}");
    let (a, b) = (
        theirs(&bob, Method::GET, &filter(&session), None).await,
        theirs(&bob, Method::GET, &filter(&no_session), None).await,
    );
    assert_eq!(face(&a, &session), face(&b, &no_session));
    assert_eq!(bob.get("/session").await.ok(), json!([]));
}
