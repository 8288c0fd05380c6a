//! The documented flow: credential, agent, session with a prompt, and a stream that is opened after that.

use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer, RequestFault},
    script::Step,
};
use serde_json::json;

use crate::harness::{RUNTIME, World, processed};

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
async fn the_stream_shows_the_whole_turn_though_it_is_opened_after_the_prompt() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "Hello"});
    let session = world.client.post("/session", &body).await.ok();
    assert_eq!(session["status"], "running");
    assert_eq!((&session["agent_id"], &session["runtime"]), (&json!(agent), &json!(RUNTIME)));
    let id = session["id"].as_str().unwrap();

    let events = world.client.turn(id).await;
    assert_eq!(events.iter().map(|event| &*event.name).collect::<Vec<_>>(), TURN);
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(events[4].json["content"][0]["type"], "text", "content is blocks");
    assert_eq!(events[9].json["stop_reason"]["type"], "end_turn");
    assert_eq!(world.client.status(id).await, "idle");

    // What the upstream said is what the log has, to the last field. Before that stands what the client said.
    let (waiting, told) = (&events[0].json, &events[1].json);
    assert_eq!((&waiting["id"], &waiting["processed_at"]), (&told["id"], &json!(null)));
    assert!(waiting["id"].as_str().unwrap().starts_with("msg_") && told["upstream_id"].is_string(), "{told}");
    let listed = world.client.list(id).await;
    assert_eq!(listed, events.into_iter().map(|event| event.json).collect::<Vec<_>>());
    assert_eq!(processed(listed), world.truth(id).await);
}

#[tokio::test]
async fn a_prompt_is_in_the_log_when_it_is_answered_whatever_the_upstream_does() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let faults = [Endpoint::EventsSend, Endpoint::EventsStream].map(|at| RequestFault::always(at, Answer::Silence));
    world.simulator.set_faults(Faults { requests: faults.into(), ..Faults::default() });
    let id = world.client.session(&agent, Some("one")).await;
    assert_eq!(world.client.prompt(&id, "two").await.status, 204);
    let events = json!([{"type": "user.message", "content": [{"type": "text", "text": "three"}]}]);
    let answered = world.client.post(&format!("/v1/sessions/{id}/events"), &json!({"events": events})).await.ok();
    let log = world.client.list(&id).await;
    let texts: Vec<_> = log.iter().map(|event| event["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert!(log.iter().all(|event| event["processed_at"].is_null()), "{log:?}");
    assert_eq!(answered["data"][0], log[2], "it is answered as it stands there");
    let messages = world.client.get(&format!("/session/{id}/message")).await.ok();
    let ids = messages.as_array().unwrap().iter().map(|message| &message["info"]["id"]);
    assert!(ids.eq(log.iter().map(|event| &event["id"])), "{messages}");
}

#[tokio::test]
async fn a_session_is_answered_for_before_its_turn_is_over() {
    // The upstream's turn waits for a result that nobody sends: an answer that waited for it would never come.
    let script = Script::of([Step::custom_tool_use("ask_human", json!({})), Step::message("thanks")]);
    let world = World::start(script).await;
    let id = world.session("Hello").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "session.status_idle" {}
    assert_eq!(world.client.status(&id).await, "requires_action");
    assert_eq!(world.client.prompt(&id, "one more").await.status, 204);
}

#[tokio::test]
async fn a_second_turn_goes_on_in_the_same_stream() {
    let world = World::start(Script::default()).await;
    let id = world.session("first").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    let first = stream.take(TURN.len()).await;
    assert_eq!(world.client.prompt(&id, "second").await.status, 204);
    let second = stream.take(TURN.len()).await;
    assert_eq!(second.iter().map(|event| &*event.name).collect::<Vec<_>>(), TURN);
    assert_eq!(second[0].seq, first.last().unwrap().seq + 1);
    assert_eq!(second[0].json["content"][0]["text"], "second");
}

#[tokio::test]
async fn prompts_given_during_a_turn_are_sent_in_order_after_it() {
    let world = World::start(Script::of([Step::message("You said {prompt}")])).await;
    let id = world.session("one").await;
    for text in ["two", "three"] {
        assert_eq!(world.client.prompt(&id, text).await.status, 204);
    }
    let events = world.client.turn(&id).await;
    let said: Vec<_> = events.iter().filter(|event| event.name == "agent.message").collect();
    let said: Vec<_> = said.iter().map(|event| event.json["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["You said one", "You said two", "You said three"]);
    let messages = world.client.get(&format!("/session/{id}/message")).await.ok();
    let texts: Vec<_> = messages.as_array().unwrap().iter().map(|message| &message["parts"][0]["text"]).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test]
async fn upstream_agent_and_environment_are_made_once_for_each_version_of_an_agent() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let made = || {
        let count = |endpoint| world.simulator.recorder().count(endpoint);
        [Endpoint::AgentsCreate, Endpoint::EnvironmentsCreate, Endpoint::SessionsCreate].map(count)
    };
    let sessions = (0..8).map(|_| world.client.session(&agent, None));
    let sessions = futures_util::future::join_all(sessions).await;
    assert_eq!(made(), [1, 1, 8], "sessions that start together share what they need");
    assert_eq!(world.client.status(&sessions[0]).await, "idle");
    world.client.patch(&format!("/api/agents/{agent}"), &json!({"system": "Be brief."})).await.ok();
    world.client.session(&agent, None).await;
    world.client.session(&agent, None).await;
    assert_eq!(made(), [2, 2, 10]);
}

#[tokio::test]
async fn what_was_provisioned_is_found_again_after_a_restart() {
    let mut world = World::start(Script::default()).await;
    let agent = world.agent().await;
    world.client.session(&agent, None).await;
    world.restart().await;
    world.client.session(&agent, None).await;
    assert_eq!(world.simulator.recorder().count(Endpoint::AgentsCreate), 1);
}

#[tokio::test]
async fn the_feed_is_open_before_the_prompt_is_sent() {
    let world = World::start(Script::default()).await;
    let id = world.session("Hello").await;
    world.client.turn(&id).await;
    let order: Vec<_> = world.simulator.recorder().requests().into_iter().filter_map(|sent| sent.endpoint).collect();
    let place = |endpoint| order.iter().position(|sent| *sent == endpoint).unwrap();
    assert!(place(Endpoint::EventsStream) < place(Endpoint::EventsSend), "{order:?}");
}
