//! A hostile runtime beside a good one in one host, as its users see both over HTTP.

use http::StatusCode;
use lap_simulator::Script;
use serde_json::{Value, json};

use crate::harness::{World, guests::guest};

/// The data and the answer of a call that reports events: each a JSON text, and whether it ends the turn.
fn reporting(events: &[(&str, bool)]) -> (String, &'static str) {
    let (mut records, mut texts, mut at) = (Vec::new(), Vec::new(), 40_000_u32);
    for (json, ends) in events {
        let length = u32::try_from(json.len()).unwrap();
        for number in [1, at, length, u32::from(*ends) * 3] {
            records.extend(number.to_le_bytes());
        }
        texts.extend(json.bytes());
        at += length;
    }
    let count = u32::try_from(events.len()).unwrap();
    let answer = [0, 0, 0, 0, 20_000, count, 0, 0].map(u32::to_le_bytes).concat();
    let data = |at: u32, bytes: &[u8]| {
        let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!("(data (i32.const {at}) \"{bytes}\")")
    };
    (data(10_000, &answer) + &data(20_000, &records) + &data(40_000, &texts), "(i32.const 10000)")
}

async fn hostile_session(world: &World) -> crate::harness::Answer {
    let agent = world.client.agent(&json!({"runtime": "hostile"})).await;
    world.client.post("/session", &json!({"runtime": "hostile", "agent_id": agent, "prompt": "Hi"})).await
}

async fn health(world: &World, runtime: &str) -> Value {
    let listed = world.client.get("/api/agent-runtimes").await.ok();
    let runtimes = listed["runtimes"].as_array().unwrap().clone();
    runtimes.into_iter().find(|item| item["id"] == runtime).unwrap()["health"].clone()
}

#[tokio::test]
async fn events_that_are_none_are_left_out_and_the_rest_is_stored() {
    let long = format!(r#"{{"type":"{}"}}"#, "t".repeat(65));
    let large = format!(r#"{{"type":"agent.message","text":"{}"}}"#, "x".repeat(1024 * 1024));
    let events = [
        (r#"{"type":"agent.message\nevent: forged\ndata: {}","id":"1"}"#, false),
        ("{\"type\":\"agent\\u0000message\",\"id\":\"2\"}", false),
        (r#"{"type":"AGENT"}"#, false),
        (&*long, false),
        (&*large, false),
        (r#"["agent.message"]"#, false),
        (r#"{"type":"agent.message","id":"3""#, false),
        ("", false),
        ("{\"type\":\"agent.message\",\n\r\n\"id\":\"good\"}", false),
        (r#"{"type":"session.status_idle","id":"end"}"#, true),
    ];
    let (data, answer) = reporting(&events);
    let world = World::with_guest(&guest(&data, &[("send", answer)]), Script::default()).await;
    let session = hostile_session(&world).await.ok()["id"].as_str().unwrap().to_owned();
    let turn = world.client.turn(&session).await;
    let ids = turn.iter().filter_map(|event| event.json["id"].as_str());
    let ids: Vec<_> = ids.filter(|id| !id.starts_with("msg_")).collect();
    assert!(ids.ends_with(&["good", "end"]), "{ids:?}");
    assert!(turn.iter().all(|event| event.name == event.json["type"]), "{turn:?}");
    assert!(!ids.iter().any(|id| ["1", "2", "3"].contains(id)), "{ids:?}");
}

#[tokio::test]
async fn a_runtime_in_quarantine_is_refused_by_name_and_its_neighbour_works() {
    let world = World::with_guest(&guest("", &[("open", "unreachable")]), Script::default()).await;
    assert_eq!(health(&world, "hostile").await, json!({"state": "well", "crashes": 0, "retry_after_ms": null}));
    for _ in 0..5 {
        let answer = hostile_session(&world).await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_GATEWAY, "runtime_fault"), "{}", answer.text);
    }
    let refused = hostile_session(&world).await;
    assert_eq!((refused.status, &*refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "runtime_quarantined"));
    let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("quarantine") && text.contains("neither you nor the upstream"), "{text}");
    assert!((1..=2).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{:?}", refused.headers);
    let shown = health(&world, "hostile").await;
    assert_eq!((&shown["state"], &shown["crashes"]), (&json!("quarantined"), &json!(5)));
    assert!(shown["retry_after_ms"].as_u64().unwrap() <= 1000, "{shown}");

    let session = world.session("Hello").await;
    assert_eq!(world.client.turn(&session).await.last().unwrap().name, "session.status_idle");
    assert_eq!(health(&world, crate::harness::RUNTIME).await["state"], "well");
}

#[tokio::test]
async fn a_prompt_for_a_runtime_in_quarantine_waits_and_is_answered() {
    let (data, answer) = reporting(&[(r#"{"type":"session.status_idle","id":"end"}"#, true)]);
    let calls = [("send", answer), ("models", "unreachable")];
    let world = World::with_guest(&guest(&data, &calls), Script::default()).await;
    let agent = world.client.agent(&json!({"runtime": "hostile"})).await;
    let session = world.client.session_on("hostile", &agent, None).await;
    for _ in 0..5 {
        assert_eq!(world.client.get("/v1/models?runtime=hostile").await.code(), "runtime_fault");
    }
    assert_eq!(health(&world, "hostile").await["state"], "quarantined");
    assert_eq!(world.client.prompt(&session, "Hi").await.status, StatusCode::NO_CONTENT);
    let turn = world.client.turn(&session).await;
    let names: Vec<_> = turn.iter().map(|event| &*event.name).collect();
    assert!(names.ends_with(&["session.status_idle"]) && !names.contains(&"session.error"), "{names:?}");
    assert_eq!(health(&world, "hostile").await, json!({"state": "well", "crashes": 5, "retry_after_ms": null}));
}

#[tokio::test]
async fn a_turn_that_computes_for_ever_ends_in_an_error_and_the_session_lives_on() {
    let (data, answer) = reporting(&[(r#"{"type":"session.status_idle","id":"end"}"#, true)]);
    // The first prompt loops, and so does each; the session takes the next one all the same.
    let body = format!("(loop (br 0)) {answer}");
    let world = World::with_guest(&guest(&data, &[("send", &body)]), Script::default()).await;
    let session = hostile_session(&world).await.ok()["id"].as_str().unwrap().to_owned();
    let turn = world.client.turn(&session).await;
    let error = turn.iter().find(|event| event.name == "session.error").unwrap();
    assert_eq!(error.json["error"]["message"], "the runtime computed for too long");
    assert_eq!(world.client.prompt(&session, "again").await.status, StatusCode::NO_CONTENT);
}
