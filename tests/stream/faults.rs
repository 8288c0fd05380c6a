//! An upstream that breaks: what the log has in the end is what the upstream said, once each, in order.

use lap_simulator::{
    CutBy, Endpoint, Faults, Script,
    fault::{Answer, Cut, CutAt, ErrorAnswer, RequestFault, StreamFault},
    script::{Repeat, Step},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{World, processed};

/// A turn in several languages, long enough to be cut anywhere.
fn script() -> Script {
    let mut steps = vec![Step::message("Grüße, 世界 🌍 {prompt}")];
    steps.push(Step::Repeat(Repeat { count: 40, bytes: 300, every_ms: 2, ..Repeat::default() }));
    steps.extend((0..5).map(|n| Step::message(&format!("Nachricht {n}: äöü 漢字 🎉"))));
    Script::of(steps)
}

async fn survives(name: &str, faults: Faults) {
    let world = World::start(script().with_faults(faults)).await;
    let id = world.session("los").await;
    let events: Vec<Value> = world.client.turn(&id).await.into_iter().map(|event| event.json).collect();
    let truth = world.truth(&id).await;
    assert_eq!(processed(events.clone()), processed(truth), "{name}");
    assert_eq!(events.last().unwrap()["type"], "session.status_idle", "{name}");
    assert_eq!(world.client.status(&id).await, "idle", "{name}");
}

fn stream(fault: StreamFault) -> Faults {
    Faults { streams: vec![fault], ..Faults::default() }
}

fn cut(after_frames: u64, at: CutAt, by: CutBy) -> Faults {
    stream(StreamFault { times: 1, cut: Some(Cut { after_frames, at, by }), ..StreamFault::default() })
}

#[tokio::test]
async fn a_stream_that_is_cut_is_filled_from_the_upstream_s_history() {
    for by in [CutBy::Close, CutBy::Reset, CutBy::End] {
        for at in [CutAt::Boundary, CutAt::Byte(1), CutAt::Byte(40), CutAt::Character] {
            for after_frames in [0, 3, 20] {
                survives(&format!("{by:?} at {at:?} after {after_frames}"), cut(after_frames, at, by)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_again_and_again_is_filled_each_time() {
    let fault = StreamFault {
        times: 4,
        cut: Some(Cut { after_frames: 6, at: CutAt::Byte(7), by: CutBy::Close }),
        ..StreamFault::default()
    };
    survives("four cuts", stream(fault)).await;
}

#[tokio::test]
async fn frames_in_any_pieces_are_whole_events() {
    for pieces in [vec![1], vec![2, 3], vec![7, 0], vec![64]] {
        survives(&format!("{pieces:?}"), stream(StreamFault { pieces, ..StreamFault::default() })).await;
    }
    survives("CR LF", stream(StreamFault { crlf: true, pieces: vec![1], ..StreamFault::default() })).await;
}

#[tokio::test]
async fn an_event_that_comes_twice_is_stored_once() {
    survives("duplicates", stream(StreamFault { duplicate_every: 2, ..StreamFault::default() })).await;
}

#[tokio::test]
async fn an_upstream_that_replays_its_history_adds_nothing() {
    let fault = StreamFault { replay: true, duplicate_every: 3, ..StreamFault::default() };
    let world = World::start(script().with_faults(stream(fault))).await;
    let id = world.session("los").await;
    world.client.turn(&id).await;
    world.simulator.cut_streams(CutBy::Close);
    assert_eq!(world.client.prompt(&id, "nochmal").await.status, 204);
    let events = world.client.turn(&id).await;
    let mut ids: Vec<_> =
        events.iter().map(|event| (event.json["id"].to_string(), event.json["processed_at"].is_null())).collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn a_prompt_whose_answer_is_lost_is_not_sent_twice() {
    let lost =
        RequestFault { endpoint: Some(Endpoint::EventsSend), times: 1, answer: Answer::Lost, ..Default::default() };
    let world = World::start(script().with_faults(Faults { requests: vec![lost], ..Faults::default() })).await;
    let id = world.session("los").await;
    let events = world.client.turn(&id).await;
    let asked = events.iter().filter(|event| event.name == "user.message" && !event.json["processed_at"].is_null());
    assert_eq!(asked.count(), 1);
    assert_eq!(world.simulator.recorder().count(Endpoint::EventsSend), 1);
    assert_eq!(world.client.status(&id).await, "idle");
}

#[tokio::test]
async fn a_prompt_that_did_not_arrive_is_sent_again() {
    for answer in [Answer::HangUp, Answer::Error(ErrorAnswer { status: 500, ..Default::default() })] {
        let fault = RequestFault { endpoint: Some(Endpoint::EventsSend), times: 1, answer, ..Default::default() };
        survives("not arrived", Faults { requests: vec![fault], ..Faults::default() }).await;
    }
}

#[tokio::test]
async fn a_throttled_prompt_is_sent_after_the_time_that_the_upstream_asks_for() {
    let mut fault = RequestFault::error(Endpoint::EventsSend, 2, 429, "rate_limit_error");
    if let Answer::Error(answer) = &mut fault.answer {
        answer.headers.insert("retry-after".to_owned(), "0".to_owned());
    }
    survives("throttled", Faults { requests: vec![fault], ..Faults::default() }).await;
}

#[tokio::test]
async fn a_turn_goes_on_over_a_restart_of_the_host() {
    let mut world = World::start(script()).await;
    let id = world.session("los").await;
    let seen = world.client.stream(&id, "", &[]).await.take(8).await;
    world.restart().await;
    let events = world.client.turn(&id).await;
    assert_eq!(events[..8], seen);
    assert_eq!(processed(events.into_iter().map(|event| event.json)), processed(world.truth(&id).await));
}

#[tokio::test]
async fn a_prompt_is_acknowledged_at_once_though_the_upstream_does_not_answer() {
    for endpoint in [Endpoint::EventsStream, Endpoint::EventsSend] {
        let silent = RequestFault { endpoint: Some(endpoint), times: 1, answer: Answer::Silence, ..Default::default() };
        let world = World::start(script().with_faults(Faults { requests: vec![silent], ..Faults::default() })).await;
        let id = world.session("los").await;
        while world.simulator.recorder().count(endpoint) == 0 {
            tokio::task::yield_now().await;
        }
        // The host waits for an answer that does not come; that is no reason to let clients wait.
        assert_eq!(world.client.prompt(&id, "weiter").await.status, 204);
        assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), serde_json::json!(true));
    }
}

#[tokio::test]
async fn a_history_whose_pages_lead_back_to_each_other_is_read_again_later() {
    let body = Some(r#"{"data":[],"next_page":"again"}"#.to_owned());
    let answer = Answer::Error(ErrorAnswer { status: 200, body, ..Default::default() });
    let circle = RequestFault { endpoint: Some(Endpoint::EventsList), times: 2, answer, ..Default::default() };
    let faults = Faults { requests: vec![circle], ..cut(3, CutAt::Boundary, CutBy::Close) };
    survives("a circle", faults).await;
}

#[tokio::test]
async fn what_an_upstream_says_after_the_end_of_a_turn_is_in_the_log_before_the_next_turn() {
    let world = World::start(script()).await;
    let id = world.session("los").await;
    let count = world.client.turn(&id).await.len();
    let theirs = world.upstream_id(&id).await;
    let say = |text: &str| {
        let said = json!({"type": "agent.message", "content": [{"type": "text", "text": text}]});
        world.simulator.inject(&theirs, said.as_object().unwrap().clone()).unwrap();
    };
    // The host stays connected for a while.
    say("Nachtrag");
    let events = world.client.stream(&id, "", &[]).await.take(count + 1).await;
    assert_eq!(events[count].json["content"][0]["text"], "Nachtrag");
    // Cut off from a session at rest, it has no reason to come back before the next prompt.
    world.simulator.cut_streams(CutBy::Close);
    say("noch einer");
    assert_eq!(world.client.prompt(&id, "weiter").await.status, 204);
    world.client.turn(&id).await;
    let (events, truth) = (world.client.list(&id).await, world.truth(&id).await);
    assert_eq!(processed(events.clone()), processed(truth));
}

#[tokio::test]
async fn a_history_of_large_events_is_read_in_parts() {
    // Thirty megabytes, of which the host takes no more than sixteen at once.
    let results = Repeat { count: 60, bytes: 500_000, ..Repeat::default() };
    let script = Script::of([Step::Repeat(results)]).with_faults(cut(3, CutAt::Boundary, CutBy::Close));
    let world = World::start(script).await;
    let id = world.session("los").await;
    let events = world.client.turn(&id).await;
    let shown = events.iter().filter(|event| event.name == "agent.message");
    assert_eq!((shown.count(), world.client.status(&id).await), (60, "idle".to_owned()));
}

#[tokio::test]
async fn a_session_that_waits_for_its_upstream_refuses_a_flood_and_obeys_an_interrupt_before_what_waits() {
    const ASKED: usize = 200;
    /// What surely is refused: all but what may wait, in two places.
    const REFUSED: usize = ASKED - 128;
    let silent =
        RequestFault { endpoint: Some(Endpoint::EventsSend), times: 1, answer: Answer::Silence, ..Default::default() };
    let world = World::start(script().with_faults(Faults { requests: vec![silent], ..Faults::default() })).await;
    let id = world.session("los").await;
    while world.simulator.recorder().count(Endpoint::EventsSend) == 0 {
        tokio::task::yield_now().await;
    }
    let verdict = json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_of_nobody", "result": "allow"});
    let (path, body) = (format!("/v1/sessions/{id}/events"), json!({"events": [verdict]}));
    let mut asked = JoinSet::new();
    for _ in 0..ASKED {
        let (client, path, body) = (world.client.clone(), path.clone(), body.clone());
        asked.spawn(async move { client.post(&path, &body).await });
    }
    for _ in 0..REFUSED {
        let refused = asked.join_next().await.unwrap().unwrap();
        assert_eq!((refused.status.as_u16(), &*refused.code()), (429, "session_busy"), "{}", refused.text);
    }
    let stopped = world.client.post(&format!("/session/{id}/interrupt"), &json!({})).await;
    assert_eq!(stopped.status, 204, "{}", stopped.text);
    while world.simulator.recorder().count(Endpoint::EventsSend) < 2 {
        tokio::task::yield_now().await;
    }
    let sent = world.simulator.recorder().requests_of(Endpoint::EventsSend);
    let second = String::from_utf8_lossy(&sent[1].body).into_owned();
    assert!(second.contains("user.interrupt"), "it had to wait behind {second}");
    for answer in asked.join_all().await {
        assert!(
            matches!((answer.status.as_u16(), &*answer.code()), (409, "turn_interrupted") | (429, "session_busy")),
            "{} {}",
            answer.status,
            answer.text
        );
    }
}
