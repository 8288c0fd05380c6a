//! Events that are too large or too deep to be kept: something stands in their place, and what they do to the turn is done.

use lap_simulator::{
    Script,
    script::{Burden, Step, Turn},
};
use serde_json::Value;

use super::{Trial, kinds, told_end};

/// What no host keeps: more than 1 MiB, and more than 64 levels.
const BURDENS: [Burden; 3] = [Burden::Bytes(1_200_000), Burden::Levels(70), Burden::Levels(120)];

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Nothing in a log is too large or too deep for who reads it.
fn fits(log: &[Value]) {
    for event in log {
        let (bytes, levels) = (event.to_string().len(), depth(event));
        assert!(bytes <= 1024 * 1024 && levels <= 64, "{} has {bytes} bytes and {levels} levels", event["type"]);
    }
}

fn script(turn: Turn) -> Script {
    let quick = Turn::of([Step::message("done: {prompt}")]);
    let turns = std::iter::once(("quick".to_owned(), quick)).collect();
    Script { default: turn, turns, ..Script::default() }
}

#[tokio::test]
async fn an_event_that_cannot_be_kept_leaves_a_mark_in_its_place() {
    for burden in BURDENS {
        let steps = [Step::message("before"), Step::Heavy { burden }, Step::message("behind")];
        let trial = Trial::start(script(Turn::of(steps))).await;
        let id = trial.session("go").await;
        let log = trial.ended_well(&id).await;
        fits(&log);
        let place = |text: &str| log.iter().position(|event| event["content"][0]["text"] == text).unwrap();
        let (before, behind) = (place("before"), place("behind"));
        assert_eq!(behind, before + 2, "{burden:?}: nothing says that something is missing: {:?}", kinds(&log));
        let mark = &log[before + 1];
        assert_ne!(mark["type"], "agent.message", "whoever knows the type reads members that are not there");
        let told = mark.to_string();
        assert!(told.contains("agent.message"), "{told} does not say of what type the event was");
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_turn_whose_end_cannot_be_kept_fails_with_a_word_of_it() {
    for burden in BURDENS {
        let turn = Turn { idle_burden: Some(burden), ..Turn::of([Step::message("said")]) };
        let trial = Trial::start(script(turn)).await;
        let id = trial.session("go").await;
        let log = trial.rests(&id).await;
        fits(&log);
        assert_eq!(told_end(&log, "cannot be stored"), Ok(()), "{burden:?}: {:?}", kinds(&log));
        assert_eq!(trial.client().status(&id).await, "error");
        trial.goes_on(&id).await;
    }
}
