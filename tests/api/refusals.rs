//! What clients are told when the upstream refuses, and when they ask for what cannot be.

use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer, ErrorAnswer, RequestFault},
    script::Step,
};
use serde_json::json;

use crate::harness::{MASTER_KEY, RUNTIME, UPSTREAM_KEY, World};

fn fault(endpoint: Endpoint, answer: ErrorAnswer) -> Faults {
    let fault =
        RequestFault { endpoint: Some(endpoint), times: 1000, answer: Answer::Error(answer), ..Default::default() };
    Faults { requests: vec![fault], ..Faults::default() }
}

#[tokio::test]
async fn each_refusal_of_the_upstream_says_what_happened_and_whether_to_retry() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    for (status, expected, code, retryable) in [
        (401, 502, "upstream_auth", false),
        (403, 502, "upstream_auth", false),
        (402, 402, "upstream_quota", false),
        (400, 422, "upstream_rejected", false),
        (429, 429, "upstream_throttled", true),
        (529, 503, "upstream_overloaded", true),
        (500, 502, "upstream_unavailable", true),
    ] {
        let headers = [("retry-after".to_owned(), "7".to_owned())].into();
        let answer = ErrorAnswer { status, message: "because".to_owned(), headers, ..ErrorAnswer::default() };
        world.simulator.set_faults(fault(Endpoint::SessionsCreate, answer));
        let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
        let body = refused.json();
        assert_eq!((refused.status.as_u16(), &*refused.code()), (expected, code), "{status}: {}", refused.text);
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("gateway_error")));
        assert_eq!(body["error"]["retryable"], retryable, "{status}: {}", refused.text);
        assert_eq!(body["request_id"], refused.header("request-id"));
        assert!(body["error"]["message"].as_str().unwrap().contains("because"), "{}", refused.text);
        if matches!(status, 429 | 529) {
            assert_eq!(refused.header("retry-after"), "7");
        }
    }
    let listed = world.client.get("/session").await.ok();
    assert_eq!(listed, json!([]), "a session that was not opened is none");
}

#[tokio::test]
async fn a_date_to_come_back_at_becomes_a_number_of_seconds() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    for (date, seconds) in [("Wed, 21 Oct 2015 07:28:00 GMT", "0"), ("Fri, 31 Dec 2100 23:59:59 GMT", "4294967")] {
        let headers = [("retry-after".to_owned(), date.to_owned())].into();
        let answer = ErrorAnswer { status: 429, headers, ..ErrorAnswer::default() };
        world.simulator.set_faults(fault(Endpoint::SessionsCreate, answer));
        let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
        assert_eq!((&*refused.code(), refused.header("retry-after")), ("upstream_throttled", seconds), "{date}");
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_named() {
    let world = World::empty(Script::default()).await;
    let agent = world.agent().await;
    // Nobody listens on the one port, and nobody speaks TLS on the other.
    let cleartext = world.simulator.base_url().replace("http://", "https://");
    for base in ["http://127.0.0.1:9", cleartext.trim_end_matches('/')] {
        world.client.connect(base).await;
        let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (502, "upstream_unavailable"), "{base}");
        assert_eq!(refused.json()["error"]["retryable"], true, "{}", refused.text);
        assert!(refused.text.contains(base), "{}", refused.text);
    }
}

#[tokio::test]
async fn an_echoed_credential_reaches_no_client() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let answer = ErrorAnswer { status: 401, echo_credential: true, ..ErrorAnswer::default() };
    world.simulator.set_faults(fault(Endpoint::SessionsCreate, answer));
    let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    assert!(refused.text.contains("[redacted]") && !refused.text.contains(UPSTREAM_KEY), "{}", refused.text);
}

#[tokio::test]
async fn an_error_page_of_a_proxy_is_told_in_a_sentence() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let body = Some("<html><body><h1>502 Bad Gateway</h1></body></html>".to_owned());
    let answer = ErrorAnswer { status: 502, body, ..ErrorAnswer::default() };
    world.simulator.set_faults(fault(Endpoint::SessionsCreate, answer));
    let refused = world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (502, "upstream_unavailable"));
    assert!(!refused.text.contains("<html>"), "{}", refused.text);
}

#[tokio::test]
async fn a_prompt_that_the_upstream_refuses_ends_in_an_error_that_the_stream_shows() {
    let world = World::start(Script::default()).await;
    let answer = ErrorAnswer { status: 400, message: "too rude".to_owned(), ..ErrorAnswer::default() };
    world.simulator.set_faults(fault(Endpoint::EventsSend, answer));
    let id = world.session("Hello").await;
    let events = world.client.turn(&id).await;
    let [waiting, error, withdrawn, idle] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&*error.name, &*withdrawn.name, &*idle.name), ("session.error", "user.message", "session.status_idle"));
    assert_eq!(error.json["error"]["retry_status"]["type"], "exhausted");
    assert!(error.json["error"]["message"].as_str().unwrap().contains("too rude"), "{}", error.json);
    assert_eq!(withdrawn.json["withdrawn"], json!({"reason": "failed", "arrived": "no"}));
    assert_eq!(withdrawn.json["processed_at"], json!(null));
    assert_eq!((&*waiting.name, &waiting.json["id"]), ("user.message", &withdrawn.json["id"]));
    assert_eq!(idle.json["stop_reason"]["type"], "retries_exhausted", "what the official tool runner ends at");
    assert_eq!(world.client.status(&id).await, "error");
    world.simulator.set_faults(Faults::default());
    assert_eq!(world.client.prompt(&id, "please").await.status, 204);
    assert_eq!(world.client.turn(&id).await.last().unwrap().name, "session.status_idle");
    assert_eq!(world.client.status(&id).await, "idle");
}

#[tokio::test]
async fn an_error_of_the_turn_is_no_error_of_the_session() {
    let world = World::start(Script::of([Step::Error {
        kind: "model_overloaded_error".to_owned(),
        message: "overloaded".to_owned(),
        retry_status: lap_simulator::script::RetryStatus::Exhausted,
    }]))
    .await;
    let id = world.session("Hello").await;
    let events = world.client.turn(&id).await;
    assert!(events.iter().any(|event| event.name == "session.error"));
    assert_eq!(world.client.status(&id).await, "error");
}

#[tokio::test]
async fn what_lap_refuses_is_refused_in_its_words() {
    let world = World::empty(Script::default()).await;
    let agent = world.agent().await;
    let post = async |path: &str, body: serde_json::Value| {
        let answer = world.client.post(path, &body).await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        (answer.status.as_u16(), message)
    };
    let unknown = "agent_00000000000000000000000000000000";
    for (path, body, status, text) in [
        ("/session", json!({"runtime": "nope", "agent_id": agent}), 400, "unsupported runtime: nope"),
        ("/session", json!({"runtime": RUNTIME}), 400, "agent_id is required"),
        ("/session", json!({"runtime": RUNTIME, "agent_id": agent}), 400, "credentials are not configured"),
        ("/api/agents", json!({"name": "a"}), 400, "owner_id"),
        ("/api/agents", json!({"name": " ", "owner_id": "x"}), 400, "name and owner_id required"),
    ] {
        let (found, message) = post(path, body).await;
        assert_eq!(found, status, "{path}: {message}");
        assert!(message.contains(text), "{path}: {message}");
    }
    world.client.connect(&world.simulator.base_url()).await;
    let (status, message) = post("/session", json!({"runtime": RUNTIME, "agent_id": unknown})).await;
    assert_eq!((status, &*message), (404, &*format!("unknown agent: {unknown}")));
    let session = world.client.session(&agent, None).await;
    let (status, message) = post(&format!("/session/{session}/prompt_async"), json!({"parts": []})).await;
    assert_eq!(status, 400);
    assert!(message.contains("prompt text is required"), "{message}");
    let other = world.client.get("/session/ses_00000000000000000000000000000000").await;
    assert_eq!((other.status.as_u16(), &other.json()["error"]["message"]), (404, &json!("session not found")));
}

#[tokio::test]
async fn every_refusal_has_the_one_body() {
    let world = World::start(Script::default()).await;
    let key = format!("key={MASTER_KEY}");
    let big = "x".repeat(2 << 20);
    for (method, path, body, status) in [
        ("GET", "/nowhere", None, 404),
        ("PUT", "/session", None, 405),
        ("POST", "/api/agents", Some("{"), 400),
        ("POST", "/api/agents", Some("[1]"), 400),
        ("POST", "/api/agents", Some(&*big), 413),
        ("GET", &*format!("/session?{key}"), None, 400),
        ("GET", "/v1/sessions/x/events", None, 404),
    ] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = world.client.send(method, path, &[], body.map(str::to_owned)).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
        assert_eq!(answer.json()["error"]["type"], "gateway_error", "{path}");
        assert_eq!(answer.json()["request_id"], answer.header("request-id"), "{path}");
        assert!(!answer.text.contains(MASTER_KEY));
    }
}
