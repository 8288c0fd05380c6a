//! The runtime for OpenAI's Responses API: what it must have in common with the other one, though nothing upstream is like
//! it.

use http::Method;
use lap_simulator::Script;
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, Event, World, responses::Responses};

const RUNTIME: &str = "openai_responses";

struct Chat {
    world: World,
    upstream: Responses,
    agent: String,
}

impl Chat {
    async fn start() -> Self {
        let world = World::empty(Script::default()).await;
        let upstream = Responses::default();
        world.client.connect_to(RUNTIME, &upstream.clone().serve().await).await;
        let agent = world.client.agent(&json!({"runtime": RUNTIME, "model": "gpt-5"})).await;
        Self { world, upstream, agent }
    }

    async fn session(&self, prompt: &str) -> String {
        let body = json!({"runtime": RUNTIME, "agent_id": self.agent, "prompt": prompt});
        self.world.client.post("/session", &body).await.ok()["id"].as_str().unwrap().to_owned()
    }

    async fn send(&self, session: &str, event: Value) -> u16 {
        let path = format!("/v1/sessions/{session}/events");
        self.world.client.post(&path, &json!({"events": [event]})).await.status.as_u16()
    }
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| &*event.name).collect()
}

fn said(events: &[Event]) -> Vec<&str> {
    let said = events.iter().filter(|event| event.name == "agent.message");
    said.map(|event| event.json["content"][0]["text"].as_str().unwrap()).collect()
}

const TURN: [&str; 10] = [
    "user.message",
    "user.message",
    "session.status_running",
    "span.model_request_start",
    "agent.message",
    "agent.tool_use",
    "agent.tool_result",
    "agent.message",
    "span.model_request_end",
    "session.status_idle",
];

#[tokio::test]
async fn the_documented_flow_is_the_same_and_turns_follow_each_other() {
    let chat = Chat::start().await;
    let session = chat.session("Hello").await;
    let first = chat.world.client.turn(&session).await;
    assert_eq!(names(&first), TURN);
    assert!(first.iter().all(|event| event.json["id"].is_string()));
    assert!(first[1..].iter().all(|event| event.json["processed_at"].is_string()), "all but the prompt that waits");
    assert_eq!(chat.world.client.prompt(&session, "And now?").await.status, 204);
    let both = chat.world.client.turn(&session).await;
    assert_eq!(names(&both[TURN.len()..]), TURN);
    assert_eq!(both.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_breaks_off_again_and_again_is_read_on_without_a_gap_or_a_duplicate() {
    let chat = Chat::start().await;
    for cuts in [1, 2, 3] {
        chat.upstream.cut(cuts);
        let session = chat.session("Hello").await;
        assert_eq!(names(&chat.world.client.turn(&session).await), TURN, "{cuts} cuts");
    }
    let session = chat.session("/pages").await;
    let whole = chat.world.client.turn(&session).await;
    assert_eq!(said(&whole).len(), 1200);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_turn_goes_on_with_it() {
    let mut chat = Chat::start().await;
    let session = chat.session("/long").await;
    let mut stream = chat.world.client.stream(&session, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    chat.world.restart().await;
    assert_eq!(chat.world.client.post(&format!("/session/{session}/interrupt"), &json!({})).await.status, 204);
    let events = chat.world.client.turn(&session).await;
    let messages = said(&events);
    assert!(!messages.is_empty() && messages.len() < 600);
    let expected: Vec<String> = (0..messages.len()).map(|number| number.to_string()).collect();
    assert_eq!(messages, expected, "nothing is missing and nothing comes twice");
    assert_eq!(events.last().unwrap().json["stop_reason"]["type"], "end_turn");
    assert_eq!(chat.world.client.status(&session).await, "idle");
}

#[tokio::test]
async fn a_question_is_answered_refused_or_left_for_another_message() {
    let mut chat = Chat::start().await;
    let session = chat.session("/custom").await;
    let asked = chat.world.client.turn(&session).await;
    assert_eq!(chat.world.client.status(&session).await, "requires_action");
    let tool = asked.iter().find(|event| event.name == "agent.custom_tool_use").unwrap().json["id"].clone();
    chat.world.restart().await;
    let result = |tool: &Value| json!({"type": "user.custom_tool_result", "custom_tool_use_id": tool, "content": [{"type": "text", "text": "12 degrees"}]});
    assert_eq!(
        chat.send(&session, result(&json!("fc_of_nobody"))).await,
        422,
        "the upstream's refusal, in this dialect"
    );
    assert_eq!(chat.world.client.status(&session).await, "requires_action");
    assert_eq!(chat.send(&session, json!({"type": "user.tool_result", "tool_use_id": tool})).await, 501);
    assert_eq!(chat.send(&session, result(&tool)).await, 200);
    assert_eq!(said(&chat.world.client.turn(&session).await), ["12 degrees"]);

    let session = chat.session("/ask").await;
    chat.world.client.turn(&session).await;
    assert_eq!(chat.world.client.prompt(&session, "never mind").await.status, 204);
    let events = chat.world.client.turn(&session).await;
    assert_eq!(said(&events), ["You said: “never mind” — let me look around.", "There is one file."]);
}

#[tokio::test]
async fn a_failure_is_an_error_and_the_session_goes_on() {
    let chat = Chat::start().await;
    let session = chat.session("/fail").await;
    let events = chat.world.client.turn(&session).await;
    let error = events.iter().find(|event| event.name == "session.error").unwrap();
    assert_eq!(error.json["error"]["message"], "The model broke.");
    assert_eq!(chat.world.client.status(&session).await, "error");
    assert_eq!(chat.world.client.prompt(&session, "again").await.status, 204);
    let events = chat.world.client.turn(&session).await;
    assert_eq!(names(&events[events.len() - TURN.len()..]), TURN);
    let models = chat.world.client.get(&format!("/v1/models?runtime={RUNTIME}")).await.ok();
    assert!(models.to_string().contains("gpt-5"));
}

#[tokio::test]
async fn a_session_keeps_the_tools_that_it_began_with_and_may_get_another_name() {
    let chat = Chat::start().await;
    let session = chat.session("hello").await;
    chat.world.client.turn(&session).await;
    let path = format!("/v1/sessions/{session}");
    let change =
        async |wish: Value| chat.world.client.send(Method::POST, &path, &ANTHROPIC, Some(wish.to_string())).await;
    let refused = change(json!({"agent": {"tools": []}})).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (501, "unsupported"), "{}", refused.text);
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(change(json!({"title": "Named"})).await.ok()["title"], "Named");
}

#[tokio::test]
async fn what_this_api_lacks_is_refused_when_the_session_begins() {
    let chat = Chat::start().await;
    for (environment, status) in [(json!({"resources": []}), 501), (json!({"ref": "main"}), 200)] {
        let body = json!({"runtime": RUNTIME, "agent_id": chat.agent, "environment": environment});
        assert_eq!(chat.world.client.post("/session", &body).await.status, status, "{environment}");
    }
    let agent = chat.world.client.agent(&json!({"runtime": RUNTIME, "system": "s".repeat(60_000)})).await;
    let refused = chat.world.client.post("/session", &json!({"agent_id": agent})).await;
    assert!(refused.status == 422 && refused.text.contains("49152 bytes"), "{}", refused.text);
}

#[tokio::test]
async fn a_killed_session_of_an_upstream_without_sessions_has_its_turn_cancelled() {
    let chat = Chat::start().await;
    let id = chat.session("/long").await;
    let mut stream = chat.world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "session.status_running" {}
    let killed = chat.world.client.post(&format!("/session/{id}/kill"), &json!({})).await.ok();
    assert_eq!((&killed["status"], &killed["upstream"]["verified"]), (&json!("terminated"), &json!(true)), "{killed}");
    let resting = chat.world.client.post("/session", &json!({"runtime": RUNTIME, "agent_id": chat.agent})).await.ok();
    let path = format!("/session/{}/kill", resting["id"].as_str().unwrap());
    let killed = chat.world.client.post(&path, &json!({})).await.ok();
    assert_eq!(killed["upstream"]["verified"], json!(false), "nothing was there to look at: {killed}");
}
