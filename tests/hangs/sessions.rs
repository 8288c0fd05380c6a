//! Sessions that the upstream loses, turns that it does not end, streams that say nothing.

use lap_simulator::{
    CutBy, Endpoint, Faults,
    fault::{Noise, RequestFault, StreamFault},
    script::HeartbeatForm,
};
use serde_json::json;

use super::{ANSWER_MAX, Trial, kinds, script};

async fn working(trial: &Trial, id: &str) {
    let mut stream = trial.client().stream(id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
}

async fn upstream_id(trial: &Trial, id: &str) -> String {
    let session = trial.client().get(&format!("/session/{id}")).await.ok();
    session["provider_session_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_that_somebody_deletes_upstream_in_mid_turn_is_over_here() {
    let trial = Trial::start(script()).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    assert!(trial.simulator.delete_session(&upstream_id(&trial, &id).await));
    let log = trial.rests(&id).await;
    assert!(
        matches!(kinds(&log).last(), Some(&("session.deleted" | "session.status_terminated"))),
        "{:?}",
        kinds(&log)
    );
    assert_eq!(trial.client().status(&id).await, "terminated");
    let refused = trial.client().prompt(&id, "more").await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (409, "session_terminated"));
}

#[tokio::test]
async fn a_session_that_the_upstream_loses_in_mid_turn_ends_its_turn() {
    for by in [CutBy::Close, CutBy::End] {
        let trial = Trial::start(script()).await;
        let id = trial.session("go").await;
        working(&trial, &id).await;
        assert!(trial.simulator.lose_session(&upstream_id(&trial, &id).await, by));
        let log = trial.rests(&id).await;
        let error = log.iter().find(|event| event["type"] == "session.error").expect("an error that says why");
        assert!(error["error"]["message"].as_str().unwrap().contains("not found"), "{error}");
        let last = *kinds(&log).last().unwrap();
        assert!(matches!(last, "session.status_idle" | "session.status_terminated"), "{:?}", kinds(&log));
        assert!(matches!(&*trial.client().status(&id).await, "error" | "terminated"));
        // What comes now has an end, too, or is refused at once.
        let more = trial.client().prompt(&id, "more").await;
        if more.status == 204 {
            let log = trial.rests(&id).await;
            assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{:?}", kinds(&log));
        } else {
            assert!(matches!(more.status.as_u16(), 404 | 409 | 410), "{} {}", more.status, more.text);
        }
        assert_eq!(trial.client().delete(&format!("/session/{id}")).await.ok(), json!(true));
    }
}

#[tokio::test]
async fn a_session_that_the_upstream_has_lost_takes_no_more_prompts_once_that_is_known() {
    let trial = Trial::start(script()).await;
    let id = trial.warm().await;
    assert!(trial.simulator.lose_session(&upstream_id(&trial, &id).await, CutBy::Close));
    for _ in 0..2 {
        let answer = trial.client().prompt(&id, "more").await;
        if answer.status == 204 {
            assert!(kinds(&trial.rests(&id).await).contains(&"session.error"));
        }
    }
    let answer = trial.client().prompt(&id, "more").await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (410, "upstream_gone"), "{}", answer.text);
}

#[tokio::test]
async fn an_interrupt_of_a_session_that_the_upstream_has_lost_is_answered_and_the_turn_ends() {
    let trial = Trial::start(script()).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    assert!(trial.simulator.lose_session(&upstream_id(&trial, &id).await, CutBy::Close));
    trial.interrupt(&id).await;
    let log = trial.rests(&id).await;
    let last = *kinds(&log).last().unwrap();
    assert!(matches!(last, "session.status_idle" | "session.status_terminated"), "{:?}", kinds(&log));
}

#[tokio::test]
async fn a_turn_that_ignores_its_interrupt_ends_here_all_the_same() {
    let mut script = script();
    let long = lap_simulator::script::Repeat { count: 10_000, every_ms: 100, ..Default::default() };
    script.default.steps = vec![lap_simulator::script::Step::Repeat(long)];
    script.faults = Faults { interrupts_ignored: true, ..Faults::default() };
    let trial = Trial::start(script).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    trial.interrupt(&id).await;
    let log = trial.rests(&id).await;
    assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{:?}", &kinds(&log)[..4]);
    assert!(kinds(&log).contains(&"session.error"), "nobody is told that the upstream does not stop");
}

#[tokio::test]
async fn a_turn_whose_end_never_comes_ends_with_an_interrupt() {
    let idle = || vec!["session.status_idle".to_owned()];
    let omits = StreamFault { omit: idle(), ..StreamFault::default() };
    for unlisted in [Vec::new(), idle()] {
        let faults = Faults { streams: vec![omits.clone()], unlisted, ..Faults::default() };
        let trial = Trial::start(script().with_faults(faults)).await;
        let id = trial.session("/quick go").await;
        working(&trial, &id).await;
        trial.simulator.quiet(&upstream_id(&trial, &id).await).await;
        trial.interrupt(&id).await;
        let log = trial.rests(&id).await;
        assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{:?}", kinds(&log));
        trial.heals();
        // The stream that leaves it out is open still.
        trial.simulator.cut_streams(CutBy::Close);
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_kill_is_answered_though_the_upstream_has_lost_the_session() {
    let trial = Trial::start(script()).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    assert!(trial.simulator.lose_session(&upstream_id(&trial, &id).await, CutBy::Close));
    let killing = async { trial.client().post(&format!("/session/{id}/kill"), &json!({})).await };
    let killed = tokio::time::timeout(ANSWER_MAX, killing).await.expect("it hangs").ok();
    assert_eq!(killed["upstream"]["verified"], json!(true), "{killed}");
    assert_eq!(kinds(&trial.client().list(&id).await).last(), Some(&"session.status_terminated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_signs_of_life_without_end_holds_up_neither_its_neighbours_nor_an_interrupt() {
    for form in [HeartbeatForm::Comment, HeartbeatForm::Ping] {
        let noise = Some(Noise { after_frames: 4, every_ms: 0, form });
        let trial = Trial::start(script()).await;
        let streams = vec![StreamFault { times: 1, noise, ..StreamFault::default() }];
        trial.simulator.set_faults(Faults { streams, ..Faults::default() });
        let id = trial.session("go").await;
        trial.stands(&id, "running").await;
        let neighbour = trial.warm().await;
        trial.goes_on(&neighbour).await;
        trial.interrupt(&id).await;
        let log = trial.rests(&id).await;
        assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{:?}", kinds(&log));
        trial.heals();
        // Nothing else will ever come over that stream.
        trial.simulator.cut_streams(CutBy::Close);
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_turn_that_the_host_has_given_up_can_be_stopped_where_it_goes_on() {
    let mut script = script();
    let long = lap_simulator::script::Repeat { count: 10_000, every_ms: 100, ..Default::default() };
    script.default.steps = vec![lap_simulator::script::Step::Repeat(long)];
    let trial = Trial::start(script).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    // A feed that is refused for good ends the turn here, and not there.
    trial.fails(RequestFault::error(Endpoint::EventsStream, 1, 400, "invalid_request_error"));
    trial.simulator.cut_streams(CutBy::Close);
    trial.stands(&id, "error").await;
    let upstream = upstream_id(&trial, &id).await;
    let said = |kind: &str| trial.simulator.events(&upstream).iter().filter(|event| event["type"] == kind).count();
    assert_eq!(said("session.status_idle"), 0, "it goes on there");
    trial.interrupt(&id).await;
    let log = trial.rests(&id).await;
    assert_eq!((said("user.interrupt"), said("session.status_idle")), (1, 1));
    assert_eq!(kinds(&log).last(), Some(&"session.status_idle"), "{:?}", kinds(&log));
}
