//! Thousands of turns against an upstream with all its faults at random. In the end each session's log is what the
//! upstream said, once each, and each prompt has arrived once.
//!
//! A world is a simulated upstream with faults of its own and a host; its sessions get prompts one after the other, or
//! while a turn runs, and now and then an interrupt. What is compared are the events that the upstream has come to: a
//! message that waits there is shown by the stream and not by the history, so whether the log has it depends on cuts. The
//! order is compared too, except where the upstream itself tells things late or out of order.
//!
//! `LAP_TRIALS=<factor>` multiplies the turns; `LAP_SEED` makes them others.

use std::collections::HashMap;

use futures_util::future::join_all;
use lap_simulator::{
    CutBy, Endpoint, Faults, Script,
    fault::{Answer, Cut, CutAt, ErrorAnswer, ListLag, RequestFault, StreamFault},
    script::{Repeat, Step},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    World,
    dice::{Dice, trials},
    processed,
};

/// Turns in a normal run.
const TURNS: u64 = 10_000;
const SESSIONS: u64 = 20;
const TURNS_OF_A_SESSION: u64 = 5;
/// Worlds at the same time.
const WORLDS: usize = 24;

fn script(dice: &mut Dice) -> Script {
    let (count, bytes, every_ms) = (1 + dice.below(12), dice.below(300), dice.below(4));
    let mut steps = vec![Step::message("Grüße, 世界 🌍 {prompt}")];
    steps.push(Step::Repeat(Repeat { count, bytes: bytes.try_into().unwrap(), every_ms, ..Repeat::default() }));
    steps.push(Step::message("äöü 漢字 🎉"));
    Script::of(steps)
}

fn faults(dice: &mut Dice) -> Faults {
    let mut requests = Vec::new();
    for endpoint in [Endpoint::EventsSend, Endpoint::EventsStream, Endpoint::EventsList] {
        for _ in 0..dice.below(6) {
            let (skip, times, answer) = (dice.below(60), 1 + dice.below(3), answer(dice));
            requests.push(RequestFault {
                endpoint: Some(endpoint),
                skip,
                times,
                delay_ms: dice.below(30),
                answer,
                ..RequestFault::default()
            });
        }
    }
    let streams = (0..dice.below(40)).map(|_| stream(dice)).collect();
    let list = ListLag { newest: 0, younger_ms: if dice.below(4) == 0 { 500 } else { 0 } };
    Faults { requests, streams, list, status_lag_ms: dice.below(200), ..Faults::default() }
}

fn answer(dice: &mut Dice) -> Answer {
    let (status, kind) = match dice.below(8) {
        0 => return Answer::HangUp,
        1 => return Answer::Lost,
        2 => return Answer::Real,
        3 => (429, "rate_limit_error"),
        4 => (529, "overloaded_error"),
        5 => (503, "api_error"),
        _ => (500, "api_error"),
    };
    let mut error = ErrorAnswer { status, kind: kind.to_owned(), ..ErrorAnswer::default() };
    if dice.below(2) == 0 {
        error.headers.insert("retry-after".to_owned(), dice.below(2).to_string());
    }
    Answer::Error(error)
}

fn stream(dice: &mut Dice) -> StreamFault {
    let at = match dice.below(4) {
        0 => CutAt::Boundary,
        1 => CutAt::Character,
        _ => CutAt::Byte(dice.below(400).try_into().unwrap()),
    };
    let by = [CutBy::Close, CutBy::Reset, CutBy::End][usize::try_from(dice.below(3)).unwrap()];
    let cut = Cut { after_frames: dice.below(12), at, by };
    let every = |dice: &mut Dice| if dice.below(4) == 0 { 2 + dice.below(4) } else { 0 };
    StreamFault {
        skip: dice.below(30),
        times: 1 + dice.below(3),
        replay: dice.below(4) == 0,
        cut: (dice.below(3) > 0).then_some(cut),
        pieces: if dice.below(3) == 0 { vec![1 + usize::try_from(dice.below(40)).unwrap(), 3] } else { Vec::new() },
        duplicate_every: every(dice),
        swap_every: every(dice),
        crlf: dice.below(4) == 0,
        ..StreamFault::default()
    }
}

/// The prompts of a session, and which of them must have arrived.
async fn talk(world: &World, agent: &str, seed: u64) -> (String, HashMap<String, bool>) {
    let (client, mut dice, mut prompts) = (&world.client, Dice::of(seed), HashMap::new());
    let id = client.session(agent, Some("Frage 0")).await;
    prompts.insert("Frage 0".to_owned(), true);
    for turn in 1..TURNS_OF_A_SESSION {
        if dice.below(2) == 0 {
            client.turn(&id).await;
        }
        if dice.below(10) == 0 {
            // What runs or waits now may be stopped before it arrives.
            let stopped = client.post(&format!("/session/{id}/interrupt"), &json!({})).await;
            assert!(matches!(stopped.status.as_u16(), 204 | 400..=599), "{}", stopped.text);
            prompts.values_mut().for_each(|certain| *certain = false);
        }
        let text = format!("Frage {turn}");
        assert_eq!(client.prompt(&id, &text).await.status, 204);
        prompts.insert(text, true);
    }
    client.turn(&id).await;
    (id, prompts)
}

async fn check(world: &World, id: &str, prompts: &HashMap<String, bool>, in_order: bool) -> usize {
    let events = world.client.turn(id).await;
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "a gap");
    let mut seen = processed(events.into_iter().map(|event| event.json));
    seen.retain(|event| !event["id"].as_str().unwrap().starts_with("evt_"));
    let mut truth = processed(world.truth(id).await);
    let ends = |events: &[Value]| events.iter().filter(|event| event["type"] == "session.status_idle").count();
    let count = ends(&truth);
    if !in_order {
        let by_text = |events: &mut Vec<Value>| events.sort_by_key(ToString::to_string);
        by_text(&mut seen);
        by_text(&mut truth);
    }
    if let Some(difference) = difference(&seen, &truth) {
        panic!("{id}, in order: {in_order}: {difference}");
    }
    for (text, certain) in prompts {
        let is_it = |event: &&Value| event["type"] == "user.message" && event["content"][0]["text"] == **text;
        let arrived = truth.iter().filter(is_it).count();
        assert!(arrived == 1 || arrived == 0 && !certain, "{id}: {text:?} arrived {arrived} times");
    }
    assert_eq!(world.client.status(id).await, "idle", "{id}");
    count
}

/// What is wrong with a log.
fn difference(seen: &[Value], truth: &[Value]) -> Option<String> {
    let at = seen.iter().zip(truth).position(|(seen, truth)| seen != truth);
    match at {
        Some(at) => {
            let later = seen.iter().position(|seen| *seen == truth[at]);
            Some(format!("event {at} is {}, not {}, which is at {later:?}", seen[at], truth[at]))
        }
        None if seen.len() != truth.len() => Some(format!("{} events of {}", seen.len(), truth.len())),
        None => None,
    }
}

async fn life(number: u64) -> usize {
    let mut dice = Dice::of(number);
    let (script, faults) = (script(&mut dice), faults(&mut dice));
    let in_order = faults.list.younger_ms == 0 && faults.streams.iter().all(|stream| stream.swap_every == 0);
    let world = World::start(script.with_faults(faults)).await;
    let agent = world.agent().await;
    let seeds: Vec<u64> = (0..SESSIONS).map(|_| dice.roll()).collect();
    let talks = join_all(seeds.into_iter().map(|seed| talk(&world, &agent, seed))).await;
    let mut turns = 0;
    for (id, prompts) in talks {
        turns += check(&world, &id, &prompts, in_order).await;
    }
    turns
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_turns_with_all_faults_are_what_the_upstream_said() {
    let worlds = (TURNS * trials()).div_ceil(SESSIONS * TURNS_OF_A_SESSION);
    let (mut running, mut started, mut turns) = (JoinSet::new(), 0, 0);
    while started < worlds || !running.is_empty() {
        while started < worlds && running.len() < WORLDS {
            started += 1;
            running.spawn(life(started));
        }
        turns += running.join_next().await.unwrap().unwrap();
    }
    println!("{turns} turns ended, in {worlds} worlds: 0 events lost, 0 doubled");
}

#[test]
fn a_log_that_lacks_repeats_or_swaps_an_event_is_noticed() {
    let truth = [json!({"id": "a"}), json!({"id": "b"}), json!({"id": "c"})];
    let [a, b, c] = truth.clone();
    assert_eq!(difference(&truth, &truth), None);
    for wrong in [
        vec![a.clone(), c.clone()],
        vec![a.clone(), b.clone()],
        vec![a.clone(), b.clone(), b.clone(), c.clone()],
        vec![b, a, c],
    ] {
        assert!(difference(&wrong, &truth).is_some(), "{wrong:?}");
    }
}
