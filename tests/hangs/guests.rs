//! Runtimes that poll, and one that never comes to anything.

use std::time::Duration;

use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer, RequestFault},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{PATIENCE, SENTENCE, kinds, refusal, told_end, with_retry_after};
use crate::harness::{World, guests::guest};

const RUNNING: &str = r#"{"type":"session.status_running","id":"begun"}"#;
const IDLE: &str = r#"{"type":"session.status_idle","id":"over","stop_reason":{"type":"end_turn"}}"#;

/// An answer with one event, as it lies in memory: the outcome at `at`, the event behind it, its text at `text_at`.
fn outcome(at: u32, text_at: u32, event: &str, effect: u8) -> String {
    let list = word(at + 32);
    format!(
        r#"(data (i32.const {}) "{list}\01\00\00\00")
           (data (i32.const {}) "\01\00\00\00{}{}\{effect:02x}\00\00\00")
           (data (i32.const {text_at}) "{}")"#,
        at + 16,
        at + 32,
        word(text_at),
        word(u32::try_from(event.len()).unwrap()),
        event.replace('"', "\\22"),
    )
}

fn word(number: u32) -> String {
    number.to_le_bytes().map(|byte| format!("\\{byte:02x}")).concat()
}

/// What `listen` answers, at 10000: a poll of `/v1/models` every 100 ms.
fn poll() -> String {
    let version = "anthropic-version";
    format!(
        r#"(data (i32.const 10000) "{}{}{}{}{}")
           (data (i32.const 10028) "{}{}")
           (data (i32.const 10048) "{}")
           (data (i32.const 8000) "/v1/models")
           (data (i32.const 30000) "{}{}{}{}")
           (data (i32.const 30100) "{version}")
           (data (i32.const 30200) "2023-06-01")"#,
        word(0),
        word(3),
        word(0),
        word(8000),
        word(10),
        word(30000),
        word(1),
        word(100),
        word(30100),
        word(u32::try_from(version.len()).unwrap()),
        word(30200),
        word(10),
    )
}

/// A runtime whose turn begins with its prompt and ends with the first answer that it polls.
fn polling() -> Vec<u8> {
    let data = [poll(), outcome(12_000, 40_000, RUNNING, 1), outcome(14_000, 41_000, IDLE, 3)].concat();
    guest(&data, &[("listen", "(i32.const 10000)"), ("send", "(i32.const 12000)"), ("on-frames", "(i32.const 14000)")])
}

/// A runtime that makes nothing of what it polls but the wish to begin anew.
fn listening_anew() -> Vec<u8> {
    let relisten = r#"(data (i32.const 14024) "\01")"#.to_owned();
    let data = [poll(), outcome(12_000, 40_000, RUNNING, 1), relisten].concat();
    guest(&data, &[("listen", "(i32.const 10000)"), ("send", "(i32.const 12000)"), ("on-frames", "(i32.const 14000)")])
}

fn refused(answer: Answer) -> Faults {
    Faults { requests: vec![RequestFault::always(Endpoint::ModelsList, answer)], ..Faults::default() }
}

async fn session(world: &World) -> String {
    let agent = world.client.agent(&json!({"runtime": "hostile"})).await;
    world.client.session_on("hostile", &agent, Some("go")).await
}

async fn rests(world: &World, id: &str, patience: Duration) -> Vec<Value> {
    let turn = timeout(patience, world.client.turn(id)).await;
    let Ok(turn) = turn else {
        panic!("it hangs, as {:?}: {:?}", world.client.status(id).await, kinds(&world.client.list(id).await))
    };
    turn.into_iter().map(|event| event.json).collect()
}

#[tokio::test]
async fn a_runtime_that_polls_comes_to_the_end_of_its_turn() {
    let world = World::with_guest(&polling(), Script::default()).await;
    let log = rests(&world, &session(&world).await, PATIENCE).await;
    assert!(kinds(&log).ends_with(&["session.status_running", "user.message", "session.status_idle"]), "{log:?}");
}

#[tokio::test]
async fn a_poll_that_is_refused_ends_the_turn_with_what_the_vendor_says() {
    for (status, kind) in
        [(400, "invalid_request_error"), (404, "not_found_error"), (409, "conflict_error"), (410, "gone_error")]
    {
        let faults = refused(Answer::Error(refusal(status, kind)));
        let world = World::with_guest(&polling(), Script::default().with_faults(faults)).await;
        let id = session(&world).await;
        let log = rests(&world, &id, PATIENCE).await;
        assert_eq!(told_end(&log, SENTENCE), Ok(()), "{status}: {log:?}");
        assert_eq!(world.client.status(&id).await, "error");
    }
}

#[tokio::test]
async fn a_poll_that_fails_for_a_while_leaves_the_turn_rescheduling_and_heals() {
    for (status, kind) in [(429, "rate_limit_error"), (500, "api_error"), (503, "api_error"), (529, "overloaded_error")]
    {
        let faults = refused(with_retry_after(1, refusal(status, kind)));
        let world = World::with_guest(&polling(), Script::default().with_faults(faults)).await;
        let id = session(&world).await;
        let lost = timeout(PATIENCE, async { while world.client.status(&id).await != "rescheduling" {} }).await;
        assert!(lost.is_ok(), "{status}: it is {:?}", world.client.status(&id).await);
        world.simulator.set_faults(Faults::default());
        let log = rests(&world, &id, PATIENCE).await;
        assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{log:?}");
        assert!(!kinds(&log).contains(&"session.error"), "{log:?}");
    }
}

#[tokio::test]
async fn a_runtime_that_listens_anew_for_ever_ends_its_turn_in_an_error() {
    let world = World::with_guest(&listening_anew(), Script::default()).await;
    let id = session(&world).await;
    let log = rests(&world, &id, 2 * PATIENCE).await;
    assert_eq!(told_end(&log, ""), Ok(()), "{log:?}");
}
