//! The Anthropic dialect beside the platform's own: one model beneath both, and what the official SDKs do not try.

use http::Method;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, Answer, World};

async fn send(world: &World, method: Method, path: &str, body: &Value) -> Answer {
    let body = (!body.is_null()).then(|| body.to_string());
    world.client.send(method, path, &ANTHROPIC, body).await
}

async fn get(world: &World, path: &str) -> Value {
    send(world, Method::GET, path, &Value::Null).await.ok()
}

async fn events(world: &World, session: &str, events: Value) -> Answer {
    let path = format!("/v1/sessions/{session}/events");
    send(world, Method::POST, &path, &json!({"events": events})).await
}

fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn a_request_is_checked_in_the_order_in_which_the_vendor_checks_it() {
    let world = World::empty(Script::default()).await;
    let nobody = world.client.with_key(None);
    let version = ("anthropic-version", "2023-06-01");
    let beta = ("anthropic-beta", "message-batches-2024-09-24,managed-agents-2026-04-01");
    for (client, path, headers, status, kind) in [
        (&nobody, "/v1/nothing", &[version][..], 404, "not_found_error"),
        (&nobody, "/v1/agents", &[], 401, "authentication_error"),
        (&world.client, "/v1/agents", &[], 404, "not_found_error"),
        (&world.client, "/v1/agents", &[version], 404, "not_found_error"),
        (&world.client, "/v1/agents", &[beta], 400, "invalid_request_error"),
        (&world.client, "/v1/agents/x", &[version, beta], 404, "not_found_error"),
    ] {
        let answer = client.send(Method::GET, path, headers, None).await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["error"]["type"]), (status, &json!(kind)), "{path} {headers:?}");
        assert_eq!(body["request_id"], answer.header("request-id"));
        let keys: Vec<_> = body["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type"], "nothing but what the vendor says");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    for query in ["", "?beta=true"] {
        let answer = world.client.send(Method::GET, &format!("/v1/agents{query}"), &[version, beta], None).await;
        assert_eq!(answer.ok(), json!({"data": [], "next_page": null}));
    }
}

#[tokio::test]
async fn what_one_dialect_makes_the_other_sees_and_drives() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let session = world.client.session(&agent, Some("from the platform")).await;
    world.client.turn(&session).await;
    let shown = get(&world, &format!("/v1/sessions/{session}")).await;
    assert_eq!((&shown["agent"]["id"], &shown["agent"]["version"]), (&json!(agent), &json!(1)));
    assert_eq!((&shown["status"], &shown["title"]), (&json!("idle"), &Value::Null));
    assert!(shown["usage"]["input_tokens"].as_u64().unwrap() > 0 && shown["stats"]["active_seconds"].is_number());
    let environment = shown["environment_id"].as_str().unwrap();
    assert_eq!(get(&world, &format!("/v1/environments/{environment}")).await["name"], "Default");
    assert_eq!(events(&world, &session, json!([message("from an SDK")])).await.status, 200);
    let all = world.client.turn(&session).await;
    assert_eq!(all.iter().filter(|event| event.name == "session.status_idle").count(), 2);
    let texts = world.client.get(&format!("/session/{session}/message")).await.ok();
    assert_eq!([&texts[0]["parts"][0]["text"], &texts[1]["parts"][0]["text"]], ["from the platform", "from an SDK"]);

    let wish = json!({"agent": agent, "environment_id": environment, "title": "theirs"});
    let theirs = send(&world, Method::POST, "/v1/sessions", &wish).await.ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(world.client.prompt(&theirs, "hello").await.status, 204);
    assert_eq!(world.client.turn(&theirs).await.last().unwrap().name, "session.status_idle");
    assert_eq!(world.client.get(&format!("/session/{theirs}")).await.ok()["title"], "theirs");
    let agents = get(&world, "/v1/agents").await["data"].as_array().unwrap().clone();
    assert_eq!((agents.len(), &agents[0]["name"]), (1, &json!("my-agent")));
    // A change in one dialect is a version in the other.
    world.client.patch(&format!("/api/agents/{agent}"), &json!({"system": "Be brief."})).await.ok();
    let changed = get(&world, &format!("/v1/agents/{agent}")).await;
    assert_eq!((&changed["version"], &changed["system"]), (&json!(2), &json!("Be brief.")));
    // The session shows the agent as it was, also when that is gone.
    let shown = get(&world, &format!("/v1/sessions/{session}")).await;
    assert_eq!(shown["agent"]["version"], 1);
    world.client.delete(&format!("/api/agents/{agent}")).await.ok();
    assert_eq!(get(&world, &format!("/v1/sessions/{session}")).await["agent"]["name"], "my-agent");
}

#[tokio::test]
async fn a_waiting_turn_is_answered_after_a_restart_and_shown_to_its_end() {
    let steps = [Step::ask("bash", json!({"command": "rm"}), "removed"), Step::message("Done.")];
    let mut world = World::start(Script::of(steps)).await;
    let session = world.session("clean up").await;
    let waiting = world.client.turn(&session).await;
    assert_eq!(world.client.status(&session).await, "requires_action");
    let shown = get(&world, &format!("/v1/sessions/{session}")).await;
    assert_eq!(shown["status"], "idle", "that dialect has no such word");
    let tool = waiting.iter().find(|event| event.name == "agent.tool_use").unwrap().json["id"].clone();
    world.restart().await;
    let verdict = |tool: &Value| json!([{"type": "user.tool_confirmation", "tool_use_id": tool, "result": "allow"}]);
    let refused = events(&world, &session, verdict(&json!("sevt_of_nobody"))).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(world.client.status(&session).await, "requires_action", "nothing was answered");
    let answer = events(&world, &session, verdict(&tool)).await.ok();
    assert_eq!((&answer["data"][0]["tool_use_id"], &answer["data"][0]["result"]), (&tool, &json!("allow")));
    let all = world.client.turn(&session).await;
    assert_eq!(all.last().unwrap().json["stop_reason"]["type"], "end_turn");
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=all.len() as u64).collect::<Vec<_>>());
    assert!(all.iter().any(|event| event.name == "agent.tool_result"));
    assert_eq!(world.client.status(&session).await, "idle");
}

#[tokio::test]
async fn what_a_session_is_given_goes_to_the_upstream_and_its_secrets_are_shown_to_nobody() {
    const TOKEN: &str = "ghp_the-clients-own-secret";
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let environment = get(&world, "/v1/environments").await["data"][0]["id"].clone();
    let repository = json!({"type": "github_repository", "url": "https://git.example/a", "authorization_token": TOKEN});
    let wish = json!({"agent": agent, "environment_id": environment, "resources": [repository]});
    let made = send(&world, Method::POST, "/v1/sessions", &wish).await;
    let resource = made.ok()["resources"][0].clone();
    assert_eq!((&resource["type"], &resource["url"]), (&json!("github_repository"), &json!("https://git.example/a")));
    assert!(resource["id"].is_string() && resource["created_at"].is_string(), "as the upstream shows it: {resource}");
    let id = made.ok()["id"].as_str().unwrap().to_owned();
    for path in
        [format!("/v1/sessions/{id}"), format!("/session/{id}"), "/session".to_owned(), "/v1/sessions".to_owned()]
    {
        let headers: &[_] = if path.starts_with("/v1/") { &ANTHROPIC } else { &[] };
        let answer = world.client.send(Method::GET, &path, headers, None).await;
        assert!(answer.status == 200 && !answer.text.contains(TOKEN), "{path}");
    }
}

#[tokio::test]
async fn a_message_waits_for_the_turn_and_keeps_all_that_it_says() {
    let script = Script::of([Step::message("working"), Step::Delay { ms: 600_000 }]);
    let world = World::start(script).await;
    let session = world.session("first").await;
    let mut stream = world.client.stream(&session, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    let picture = json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
    let content = json!([{"type": "text", "text": "what is"}, picture, {"type": "text", "text": "this?"}]);
    let sent = events(&world, &session, json!([{"type": "user.message", "content": content}])).await.ok();
    assert_eq!((&sent["data"][0]["processed_at"], &sent["data"][0]["content"]), (&Value::Null, &content));
    let waiting = world.client.get(&format!("/session/{session}")).await.ok();
    assert_eq!(waiting["queued"], 1);
    let listed = world.client.get(&format!("/session/{session}/message")).await.ok();
    assert_eq!(listed[1]["info"]["id"], sent["data"][0]["id"], "the message that waits has the id that was told");
    world.client.delete(&format!("/session/{session}")).await.ok();
}

#[tokio::test]
async fn pages_go_both_ways_over_the_same_events() {
    let world = World::start(Script::of([Step::Repeat(Repeat { count: 700, ..Repeat::default() })])).await;
    let session = world.session("go").await;
    let all = world.client.turn(&session).await;
    let processed = all.iter().filter(|event| event.json["processed_at"].is_string());
    let ids: Vec<Value> = processed.map(|event| event.json["id"].clone()).collect();
    for (order, limit) in [("asc", 1000), ("desc", 1000), ("asc", 99), ("desc", 99)] {
        let (mut found, mut page) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/sessions/{session}/events?order={order}&limit={limit}&page={page}");
            let body = get(&world, &path).await;
            let data = body["data"].as_array().unwrap();
            found.extend(data.iter().map(|event| event["id"].clone()));
            match body["next_page"].as_str() {
                Some(next) => {
                    assert_eq!(data.len(), limit, "a page is full as long as there are more");
                    next.clone_into(&mut page);
                }
                None => break,
            }
        }
        if order == "desc" {
            found.reverse();
        }
        assert_eq!(found, ids, "{order} {limit}");
    }
    let path = format!("/v1/sessions/{session}/events?types[]=session.status_idle&types[]=user.message");
    let some = get(&world, &path).await;
    let kinds: Vec<_> = some["data"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["user.message", "session.status_idle"]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_name_of_what_is_wrong() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let environment = get(&world, "/v1/environments").await["data"][0]["id"].clone();
    let session = |more: Value| {
        let mut wish = json!({"agent": agent, "environment_id": environment});
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    let pairs: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("v"))).collect();
    for (path, body, status, word) in [
        ("/v1/agents", json!({"name": "n"}), 400, "model"),
        ("/v1/agents", json!({"name": "n", "model": "m", "nmae": 1}), 400, "nmae"),
        ("/v1/agents", json!({"name": "n", "model": "m", "metadata": pairs}), 400, "metadata"),
        ("/v1/agents", json!({"name": "n", "model": "m", "metadata": {"lap.runtime": "none"}}), 400, "none"),
        ("/v1/agents", json!({"name": "n", "model": "m", "system": "s".repeat(100_001)}), 400, "system"),
        ("/v1/agents", json!({"name": "n", "model": "m", "multiagent": {"type": "coordinator"}}), 501, "multiagent"),
        ("/v1/environments", json!({"name": "n", "config": {"type": "moon"}}), 400, "moon"),
        ("/v1/sessions", json!({"agent": agent}), 400, "environment_id"),
        ("/v1/sessions", session(json!({"agent": {"type": "agent", "id": agent, "version": 7}})), 404, "7 not found"),
        ("/v1/sessions", session(json!({"agent": {"type": "robot", "id": agent}})), 400, "agent.type"),
        ("/v1/sessions", session(json!({"title": "t".repeat(501)})), 400, "title"),
        ("/v1/sessions", session(json!({"initial_events": vec![message("x"); 51]})), 400, "initial_events"),
    ] {
        let answer = send(&world, Method::POST, path, &body).await;
        let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == status && text.contains(word), "{path} {word}: {} {text}", answer.status);
    }
    let path = format!("/v1/environments/{}", environment.as_str().unwrap());
    let refused = send(&world, Method::POST, &path, &json!({"name": "mine"})).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (400, "environment_default"));
}

#[tokio::test]
async fn a_list_shows_a_withdrawn_prompt_once_and_what_waits_is_of_the_time_when_it_came() {
    let script = Script::of([Step::message("working"), Step::Delay { ms: 600_000 }]);
    let world = World::start(script).await;
    let id = world.session("first").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    assert_eq!(world.client.prompt(&id, "second").await.status, 204);
    let prompts = async |query: &str| -> Vec<Value> {
        let page = get(&world, &format!("/v1/sessions/{id}/events?types[]=user.message{query}")).await;
        page["data"].as_array().unwrap().clone()
    };
    assert_eq!(prompts("&created_at[gte]=2020-01-01T00:00:00Z").await.len(), 2, "one of them waits");
    assert_eq!(prompts("&created_at[gte]=2100-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(world.client.post(&format!("/session/{id}/interrupt"), &json!({})).await.status, 204);
    world.client.turn(&id).await;
    for order in ["", "&order=desc"] {
        let listed = prompts(order).await;
        let withdrawn = listed.iter().filter(|event| event["withdrawn"].is_object()).count();
        assert_eq!((listed.len(), withdrawn), (2, 1), "{listed:?}");
    }
}
