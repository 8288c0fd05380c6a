//! Sessions one by one: shapes, lists, interrupt, deletion.

use futures_util::future::join_all;
use http::Method;
use lap_simulator::{Endpoint, Faults, Script, fault::RequestFault, script::Step};
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, RUNTIME, World};

fn long_turn() -> Script {
    Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")])
}

#[tokio::test]
async fn a_session_looks_as_lap_s_clients_expect() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent, "title": "A title", "environment": {"ref": "main"}});
    let made = world.client.post("/session", &body).await.ok();
    let keys: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "agent",
        "agent_id",
        "component",
        "environment",
        "harness",
        "id",
        "provider_session_id",
        "runtime",
        "runtime_agent_ref_id",
        "status",
        "time",
        "title",
        "usage",
    ];
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!((&made["title"], &made["status"]), (&json!("A title"), &json!("idle")));
    assert_eq!((&made["agent"], &made["harness"]), (&json!(agent), &json!(RUNTIME)));
    assert_eq!(made["environment"], json!({"ref": "main"}));
    assert!(made["time"]["created"].is_u64() && made["provider_session_id"].as_str().unwrap().starts_with("sesn_"));
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.client.get(&format!("/session/{id}")).await.ok(), made);
}

#[tokio::test]
async fn sessions_are_listed_the_latest_first_and_in_pages() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, world.client.session(&agent, None).await);
    }
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&world.client.get("/session").await.ok()), made);
    let first = world.client.get("/session?limit=2").await;
    assert_eq!(ids(&first.ok()), made[..2]);
    let rest = world.client.get(&format!("/session?limit=9&after={}", first.header("x-next-page"))).await;
    assert_eq!(ids(&rest.ok()), made[2..]);
    assert!(!rest.headers.contains_key("x-next-page"));
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_withdraws_what_waits() {
    let world = World::start(long_turn()).await;
    for call in ["interrupt", "abort"] {
        let id = world.session("Hello").await;
        let mut stream = world.client.stream(&id, "", &[]).await;
        while stream.next().await.unwrap().name != "agent.message" {}
        assert_eq!(world.client.prompt(&id, "this one waits").await.status, 204);
        let statuses = async || -> Vec<Value> {
            let messages = world.client.get(&format!("/session/{id}/message")).await.ok();
            messages.as_array().unwrap().iter().map(|message| message["info"]["status"].clone()).collect()
        };
        assert_eq!(statuses().await, [json!(null), json!("queued")]);
        assert_eq!(world.client.get(&format!("/session/{id}")).await.ok()["queued"], 1);
        let answer = world.client.post(&format!("/session/{id}/{call}"), &json!({})).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        while stream.next().await.unwrap().name != "session.status_idle" {}
        let rest = world.client.turn(&id).await;
        let waited = rest.iter().rfind(|event| event.json["content"][0]["text"] == "this one waits").unwrap();
        assert_eq!(waited.json["withdrawn"], json!({"reason": "interrupted", "arrived": "no"}));
        assert_eq!(rest.iter().filter(|event| event.name == "user.interrupt").count(), 2, "wanted, and done: {rest:?}");
        assert_eq!(world.client.status(&id).await, "idle");
        assert_eq!(statuses().await, [json!(null), json!("withdrawn")]);
        assert_eq!(world.client.get(&format!("/session/{id}")).await.ok().get("queued"), None);
    }
}

#[tokio::test]
async fn an_interrupt_of_an_idle_session_does_nothing() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    assert_eq!(world.client.post(&format!("/session/{id}/interrupt"), &json!({})).await.status, 204);
    assert_eq!(world.simulator.recorder().count(Endpoint::EventsSend), 0);
}

#[tokio::test]
async fn a_deleted_session_is_gone_here_and_upstream_even_while_it_runs() {
    let world = World::start(long_turn()).await;
    let id = world.session("Hello").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    assert_eq!(world.simulator.sessions().len(), 1);
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
    assert_eq!(world.simulator.sessions().len(), 0, "it would go on, and cost");
    stream.rest().await;
    assert_eq!(world.client.get(&format!("/session/{id}")).await.status, 404);
    assert_eq!(world.client.get(&format!("/v1/sessions/{id}/events")).await.status, 404);
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(false));
}

#[tokio::test]
async fn a_session_that_the_upstream_does_not_end_is_kept_and_can_be_deleted_later() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    world.simulator.set_faults(Faults {
        requests: vec![RequestFault::error(Endpoint::SessionsDelete, 1, 500, "api_error")],
        ..Faults::default()
    });
    let refused = world.client.delete(&format!("/session/{id}")).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (502, "upstream_unavailable"));
    assert_eq!(world.client.status(&id).await, "idle");
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
}

#[tokio::test]
async fn a_message_is_answered_with_all_messages() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    let body = json!({"model": {"modelID": "claude-sonnet-4-6"}, "parts": [
        {"type": "text", "text": "two"}, {"type": "image"}, {"type": "text", "text": "lines"},
    ]});
    let messages = world.client.post(&format!("/session/{id}/message"), &body).await.ok();
    let message = &messages[0];
    assert_eq!((&message["info"]["role"], &message["info"]["sessionID"]), (&json!("user"), &json!(id)));
    assert_eq!((&message["parts"][0]["type"], &message["parts"][0]["text"]), (&json!("text"), &json!("two\nlines")));
    let mut later = world.client.get(&format!("/session/{id}/message")).await.ok();
    // Whether it waits for its turn or is on its way may have changed in between.
    let mut messages = messages;
    for message in [&mut messages[0], &mut later[0]] {
        message["info"].as_object_mut().unwrap().remove("status");
    }
    assert_eq!(later, messages);
}

#[tokio::test]
async fn a_terminated_session_takes_no_prompt() {
    let world = World::start(Script::of([Step::Terminate])).await;
    let id = world.session("Hello").await;
    let events = world.client.turn(&id).await;
    assert_eq!(events.last().unwrap().name, "session.status_terminated");
    assert_eq!(world.client.status(&id).await, "terminated");
    let refused = world.client.prompt(&id, "one more").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_session_shows_what_its_runtime_reports_that_it_has_used() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    let path = format!("/session/{id}");
    assert_eq!(
        world.client.get(&path).await.ok()["usage"],
        json!(null),
        "nothing was reported, and nothing is guessed"
    );
    assert_eq!(world.client.prompt(&id, "Hello").await.status, 204);
    let events = world.client.turn(&id).await;
    let request = events.iter().find(|event| event.name == "span.model_request_end").unwrap();
    let usage = world.client.get(&path).await.ok()["usage"].clone();
    for field in ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"] {
        assert_eq!(usage[field], request.json["model_usage"][field], "{field} of {usage}");
    }
    assert!(usage["active_ms"].is_u64() && usage.get("reported").is_none(), "{usage}");
    assert_eq!(world.client.get("/session").await.ok()[0]["usage"], usage);
}

#[tokio::test]
async fn sessions_are_found_by_status_agent_runtime_and_part_of_title_or_id() {
    let world = World::start(long_turn()).await;
    let (one, other) = (world.agent().await, world.agent().await);
    let titled = json!({"runtime": RUNTIME, "agent_id": one, "title": "Fix the Build"});
    let titled = world.client.post("/session", &titled).await.ok()["id"].as_str().unwrap().to_owned();
    let idle = world.client.session(&other, None).await;
    let running = world.client.session(&other, Some("Hello")).await;
    let part = &titled[4..];
    for (query, expected) in [
        ("status=running".to_owned(), vec![&running]),
        ("status=idle".to_owned(), vec![&idle, &titled]),
        ("status=idle,running".to_owned(), vec![&running, &idle, &titled]),
        ("status=terminated,error".to_owned(), vec![]),
        (format!("agent={other}"), vec![&running, &idle]),
        (format!("agent={other}&status=idle"), vec![&idle]),
        ("agent=nobody".to_owned(), vec![]),
        (format!("runtime={RUNTIME}&q="), vec![&running, &idle, &titled]),
        ("runtime=another".to_owned(), vec![]),
        ("q=the%20bUILD".to_owned(), vec![&titled]),
        (format!("q={}", part.to_uppercase()), vec![&titled]),
        ("q=nothing+like+it".to_owned(), vec![]),
    ] {
        let answer = world.client.get(&format!("/session?{query}")).await;
        assert_eq!(ids(&answer.ok()), expected, "{query}");
        assert!(!answer.headers.contains_key("x-next-page"), "{query}");
    }
    let refused = world.client.get("/session?status=busy").await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (400, "query_invalid"), "{}", refused.text);
}

#[tokio::test]
async fn pages_of_what_was_looked_for_have_all_of_it_once() {
    let world = World::start(Script::default()).await;
    let (one, other) = (world.agent().await, world.agent().await);
    let mut wanted = Vec::new();
    for _ in 0..5 {
        wanted.insert(0, world.client.session(&one, None).await);
        world.client.session(&other, None).await;
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let answer = world.client.get(&format!("/session?agent={one}&limit=2{after}")).await;
        let page = answer.ok();
        assert_eq!(ids(&page).len(), expected);
        found.extend(ids(&page).into_iter().map(str::to_owned));
        assert_eq!(answer.headers.contains_key("x-next-page"), expected == 2);
        after =
            answer.headers.get("x-next-page").map_or_else(String::new, |id| format!("&after={}", id.to_str().unwrap()));
    }
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn messages_come_in_pages_and_a_new_one_is_answered_with_the_latest() {
    let world = World::start(Script::of([])).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    for number in 0..7 {
        assert_eq!(world.client.prompt(&id, &format!("p{number}")).await.status, 204);
        world.client.turn(&id).await;
    }
    let path = format!("/session/{id}/message");
    let texts = |page: &Value| -> Vec<String> {
        let text = |message: &Value| message["parts"][0]["text"].as_str().unwrap().to_owned();
        page.as_array().unwrap().iter().map(text).collect()
    };
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.client.get(&format!("{path}?limit=3{after}")).await;
        seen.extend(texts(&page.ok()));
        pages += 1;
        match page.headers.get("x-next-page") {
            None => break,
            Some(next) => after = format!("&after={}", next.to_str().unwrap()),
        }
    }
    assert_eq!((seen, pages), ((0..7).map(|number| format!("p{number}")).collect(), 3));
    assert_eq!(texts(&world.client.get(&path).await.ok()).len(), 7);
    assert_eq!(world.client.get(&format!("{path}?after=p3")).await.code(), "cursor_invalid");
    assert_eq!(texts(&world.client.get(&format!("{path}?after=7")).await.ok()), Vec::<String>::new());
    let answered = world.client.post(&path, &json!({"parts": [{"type": "text", "text": "p7"}]})).await;
    assert_eq!(texts(&answered.ok()).last(), Some(&"p7".to_owned()));
    world.client.turn(&id).await;
    for _ in 0..10 {
        assert_eq!(world.client.prompt(&id, &"x".repeat(1_000_000)).await.status, 204);
        world.client.turn(&id).await;
    }
    let page = world.client.get(&path).await;
    let (count, next) = (texts(&page.ok()).len(), page.header("x-next-page").to_owned());
    assert!((16..=17).contains(&count), "as many as fit into some 8 MiB: {count}");
    assert_eq!(next, count.to_string());
    let answered = world.client.post(&path, &json!({"parts": [{"type": "text", "text": "p8"}]})).await;
    let latest = texts(&answered.ok());
    assert_eq!((latest.last(), latest.len()), (Some(&"p8".to_owned()), 10), "the latest, as many as fit");
    assert!(!answered.headers.contains_key("x-next-page"));
}

#[tokio::test]
async fn changes_that_come_together_are_all_kept_and_each_is_told() {
    let world = World::start(Script::default()).await;
    let session = world.client.session(&world.agent().await, None).await;
    let path = format!("/v1/sessions/{session}");
    let changes = (0..16).map(|number| {
        let body = json!({"metadata": {format!("key {number}"): "kept"}}).to_string();
        world.client.send(Method::POST, &path, &ANTHROPIC, Some(body))
    });
    for answer in join_all(changes).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let shown = world.client.send(Method::GET, &path, &ANTHROPIC, None).await.ok();
    assert_eq!(shown["metadata"].as_object().unwrap().len(), 16, "{}", shown["metadata"]);
    let told = world.client.list(&session).await;
    assert_eq!(told.iter().filter(|event| event["type"] == "session.updated").count(), 16);
}
