//! An upstream at its worst, as its clients see it: answers that are none, requests that take their time, streams that say
//! nothing, sessions that vanish. Every test is a world of its own, reached over TCP.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "the tests of the wire use the rest of it")]
mod client;

use std::time::{Duration, Instant};

use client::{Bench, End, each, kinds, prompt};
use lap_simulator::{
    CutBy, Endpoint, Faults, Options, Script,
    fault::{Answer, ErrorAnswer, Noise, RequestFault, StreamFault},
    script::{Burden, HeartbeatForm, Repeat, Step, Turn},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const IDLE: &str = "session.status_idle";

fn long() -> Script {
    Script::of([Step::Repeat(Repeat { count: 1_000, every_ms: 50, ..Repeat::default() })])
}

fn requests(fault: RequestFault) -> Faults {
    Faults { requests: vec![fault], ..Faults::default() }
}

fn interrupt() -> Value {
    json!({"type": "user.interrupt"})
}

#[tokio::test]
async fn a_slow_prompt_is_taken_though_its_client_has_left_and_an_interrupt_overtakes_it() {
    let bench = Bench::start(Script::default()).await;
    bench.simulator.set_faults(requests(RequestFault::slow_send("user.message", 200, 0)));
    let start = Instant::now();
    let left = timeout(Duration::from_millis(50), bench.send(prompt("x"))).await;
    assert!(left.is_err(), "it was answered at once");
    assert_eq!(bench.send(interrupt()).await.status, 200);
    assert_eq!(kinds(&bench.simulator.events(&bench.session)), ["user.interrupt"], "after {:?}", start.elapsed());
    bench.simulator.quiet(&bench.session).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    let events = kinds(&bench.simulator.events(&bench.session));
    assert_eq!((&*events[1], &**events.last().unwrap()), ("user.message", IDLE), "the turn ran to its end");
}

#[tokio::test]
async fn a_slow_request_without_that_ends_with_its_client() {
    let bench = Bench::start(Script::default()).await;
    let slow = RequestFault { finishes: false, ..RequestFault::slow_send("user.message", 50, 0) };
    bench.simulator.set_faults(requests(slow));
    let left = timeout(Duration::from_millis(10), bench.send(prompt("x"))).await;
    assert!(left.is_err(), "it was answered at once");
    bench.simulator.quiet(&bench.session).await;
    assert_eq!(bench.simulator.event_count(&bench.session), 0);
}

#[tokio::test]
async fn nonsense_is_answered_to_a_request_that_was_carried_out_or_was_not() {
    let bench = Bench::start(Script::default()).await;
    for (content_type, body) in
        [("text/html", "<h1>Sign in</h1>"), ("application/json", ""), ("application/json", "{\"da")]
    {
        let nonsense = || ErrorAnswer::raw(200, content_type, body);
        for (answer, taken) in [(Answer::Error(nonsense()), 0), (Answer::Instead(nonsense()), 1)] {
            bench.simulator.set_faults(requests(RequestFault::always(Endpoint::EventsSend, answer)));
            let before = each(&bench.simulator.events(&bench.session), "/id").len();
            let answered = bench.send(prompt("x")).await;
            assert_eq!((answered.status, &*answered.text()), (200, body));
            assert_eq!(answered.header("content-type"), Some(content_type));
            bench.simulator.quiet(&bench.session).await;
            let after = bench.simulator.events(&bench.session);
            let asked = kinds(&after[before..]).iter().filter(|kind| *kind == "user.message").count();
            assert_eq!(asked, taken, "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_request_may_be_carried_out_and_hang() {
    let bench = Bench::start(Script::default()).await;
    bench.simulator.set_faults(requests(RequestFault::always(Endpoint::EventsSend, Answer::Swallowed)));
    let hangs = timeout(Duration::from_millis(100), bench.send(prompt("x"))).await;
    assert!(hangs.is_err(), "it was answered");
    bench.simulator.quiet(&bench.session).await;
    assert_eq!(kinds(&bench.simulator.events(&bench.session)).last().unwrap(), IDLE);
}

#[tokio::test]
async fn a_stream_is_answered_with_any_status_and_type() {
    let bench = Bench::start(Script::default()).await;
    let answers = [
        (200, "application/json", r#"{"data":[]}"#),
        (202, "application/json", ""),
        (204, "text/event-stream", ""),
        (410, "application/json", r#"{"type":"error"}"#),
    ];
    for (status, content_type, body) in answers {
        let answer = Answer::Error(ErrorAnswer::raw(status, content_type, body));
        bench.simulator.set_faults(requests(RequestFault::always(Endpoint::EventsStream, answer)));
        let answered = bench.get(&format!("{}/stream", bench.events_path())).await;
        assert_eq!(
            (answered.status, &*answered.text(), answered.header("content-type")),
            (status, body, Some(content_type))
        );
    }
}

#[tokio::test]
async fn a_stream_of_noise_brings_signs_of_life_without_end_and_no_event() {
    for (form, beat) in [
        (HeartbeatForm::Comment, ": heartbeat\n\n"),
        (HeartbeatForm::Ping, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    ] {
        for every_ms in [0, 1] {
            let noise = Some(Noise { after_frames: 2, every_ms, form });
            let faults = Faults { streams: vec![StreamFault { noise, ..StreamFault::default() }], ..Faults::default() };
            let bench = Bench::start(Script::default().with_faults(faults)).await;
            let mut stream = bench.stream().await;
            bench.prompt("x").await;
            for _ in 0..2 {
                assert_eq!(stream.event().await.unwrap()["type"], "user.message");
            }
            for _ in 0..200 {
                assert_eq!(stream.frame().await.unwrap(), beat);
            }
            bench.simulator.quiet(&bench.session).await;
            assert_eq!(bench.simulator.events(&bench.session).len(), 9, "the turn goes on behind it");
        }
    }
}

#[tokio::test]
async fn a_type_of_event_is_left_out_of_the_stream_and_of_the_list() {
    let omit = StreamFault { omit: vec![IDLE.to_owned()], ..StreamFault::default() };
    let faults = Faults { streams: vec![omit], ..Faults::default() };
    let bench = Bench::start(Script::default().with_faults(faults.clone())).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    stream.until("span.model_request_end").await;
    bench.prompt("y").await;
    let after = kinds(&stream.until("session.status_running").await);
    assert!(!after.contains(&IDLE.to_owned()), "{after:?}");
    bench.simulator.quiet(&bench.session).await;
    let listed = async || kinds(bench.get(&bench.events_path()).await.json()["data"].as_array().unwrap());
    assert_eq!(listed().await.iter().filter(|kind| *kind == IDLE).count(), 2);
    bench.simulator.set_faults(Faults { unlisted: vec![IDLE.to_owned()], ..faults });
    assert!(!listed().await.contains(&IDLE.to_owned()));
    assert_eq!(bench.simulator.events(&bench.session).len(), 18, "the truth has it");
}

#[tokio::test]
async fn a_session_vanishes_in_mid_turn_with_a_word_or_without_one() {
    let options = Options { remember_deleted: true, ..Options::default() };
    for says in [true, false] {
        let bench = Bench::with(long(), options.clone()).await;
        let mut stream = bench.stream().await;
        bench.prompt("x").await;
        stream.until("agent.message").await;
        let (id, path) = (&bench.session, format!("/v1/sessions/{}", bench.session));
        assert!(if says { bench.simulator.delete_session(id) } else { bench.simulator.lose_session(id, CutBy::Close) });
        let (events, end) = stream.rest().await;
        let last = kinds(&events).pop();
        assert_eq!(
            (last.as_deref() == Some("session.deleted"), end),
            if says { (true, End::Complete) } else { (false, End::Closed) }
        );
        assert_eq!((bench.get(&path).await.error().0, bench.send(prompt("y")).await.error().0), (404, 404));
        assert_eq!(bench.get(&format!("{path}/events/stream")).await.status, 404);
        bench.simulator.quiet(id).await;
        let said = kinds(&bench.simulator.events(id));
        assert_eq!((&*said[0], said.contains(&IDLE.to_owned())), ("user.message", false));
        assert!(!bench.simulator.delete_session(id) && !bench.simulator.lose_session(id, CutBy::Close));
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_in_mid_turn_and_the_stream_goes_on() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    bench.simulator.revoke("another");
    bench.prompt("/long").await;
    stream.until("agent.message").await;
    bench.simulator.revoke("key");
    let (status, kind, _) = bench.send(interrupt()).await.error();
    assert_eq!((status, &*kind), (401, "authentication_error"));
    stream.until("agent.message").await;
}

#[tokio::test]
async fn an_interrupt_is_taken_and_stops_nothing() {
    let steps = [Step::message("working"), Step::Delay { ms: 100 }, Step::message("the end")];
    let faults = Faults { interrupts_ignored: true, ..Faults::default() };
    let bench = Bench::start(Script::of(steps).with_faults(faults)).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    stream.until("agent.message").await;
    assert_eq!(bench.send(interrupt()).await.json()["data"][0]["type"], "user.interrupt");
    let events = stream.until(IDLE).await;
    let types = ["user.interrupt", "user.interrupt", "agent.message", "span.model_request_end", IDLE];
    assert_eq!(kinds(&events), types);
}

#[tokio::test]
async fn events_carry_more_than_anybody_wants_to_keep() {
    let burdens = [Burden::Bytes(2_000_000), Burden::Levels(100)];
    let steps = burdens.map(|burden| Step::Heavy { burden });
    let turn = |burden| Turn { idle_burden: Some(burden), ..Turn::of(steps.clone()) };
    for burden in burdens {
        let bench = Bench::start(Script { default: turn(burden), ..Script::default() }).await;
        let mut stream = bench.stream().await;
        bench.prompt("x").await;
        let events = stream.until(IDLE).await;
        let heavy = [&events[4]["burden"], &events[5]["burden"], &events[7]["burden"]];
        assert_eq!((heavy[0].as_str().unwrap().len(), depth(heavy[1])), (2_000_000, 100));
        assert_eq!(heavy[2], heavy[usize::from(burden == burdens[1])]);
        assert_eq!(events[7]["stop_reason"]["type"], "end_turn");
        bench.prompt("y").await;
        assert_eq!(stream.until(IDLE).await.len(), 8, "and the session goes on");
    }
}

fn depth(value: &Value) -> usize {
    value.get(0).map_or(0, |within| 1 + depth(within))
}
