//! Sessions that are ended for good: here at once, upstream as far as the host can see to it, and what it says of that.

use http::Method;
use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer, ErrorAnswer, RequestFault},
    script::Step,
};
use serde_json::{Value, json};

use crate::harness::{RUNTIME, World};

const TERMINATED: &str = "session.status_terminated";
const BEING_ENDED: &str = "the session is being ended upstream; its last event tells what came of that";

fn long_turn() -> Script {
    Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")])
}

/// Kills a session. What is known of its end upstream may come later than the answer, as the session's last event.
async fn kill(world: &World, id: &str) -> Value {
    let killed = world.client.post(&format!("/session/{id}/kill"), &json!({})).await.ok();
    assert_eq!((&killed["id"], &killed["status"]), (&json!(id), &json!("terminated")));
    if killed["upstream"]["detail"] != BEING_ENDED {
        return killed["upstream"].clone();
    }
    assert_eq!(killed["upstream"]["verified"], json!(false));
    let last = world.client.turn(id).await.pop().unwrap();
    assert_eq!(last.name, TERMINATED);
    last.json["upstream"].clone()
}

/// The one event of a log that says that its session is over, which is the last.
async fn last(world: &World, id: &str) -> Value {
    let log = world.client.list(id).await;
    assert_eq!(log.iter().filter(|event| event["type"] == TERMINATED).count(), 1);
    let last = log.last().unwrap().clone();
    assert_eq!(last["type"], TERMINATED);
    last
}

fn always(endpoint: Option<Endpoint>, answer: Answer) -> Faults {
    let fault = RequestFault { endpoint, times: 1_000_000, answer, ..RequestFault::default() };
    Faults { requests: vec![fault], ..Faults::default() }
}

#[tokio::test]
async fn a_session_that_is_killed_in_its_turn_is_gone_upstream_and_its_log_can_be_read() {
    let world = World::start(long_turn()).await;
    let id = world.session("Hello").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    let before = world.client.list(&id).await;
    assert_eq!(world.client.prompt(&id, "this one waits").await.status, 204);

    let upstream = kill(&world, &id).await;
    assert_eq!(upstream["verified"], json!(true), "{upstream}");
    assert_eq!(world.simulator.sessions().len(), 0, "it would go on, and cost");
    while stream.next().await.unwrap().name != TERMINATED {}
    let (event, log) = (last(&world, &id).await, world.client.list(&id).await);
    assert_eq!((&log[..before.len()], &event["upstream"]), (&before[..], &upstream));
    assert_eq!(world.client.turn(&id).await.len(), log.len(), "nothing more will happen");

    let session = world.client.get(&format!("/session/{id}")).await.ok();
    assert_eq!((&session["status"], session.get("queued")), (&json!("terminated"), None));
    assert!(session["usage"]["active_ms"].is_u64(), "its turn is over: {session}");
    let messages = world.client.get(&format!("/session/{id}/message")).await.ok();
    assert_eq!(messages[1]["info"]["status"], "withdrawn");
    let refused = world.client.prompt(&id, "one more").await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (409, "session_terminated"));

    assert_eq!(kill(&world, &id).await, upstream, "it is looked again");
    assert_eq!(world.client.list(&id).await, log);
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
}

#[tokio::test]
async fn a_session_at_rest_is_killed_too_and_one_that_nobody_knows_is_not_found() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    assert_eq!(kill(&world, &id).await["verified"], json!(true));
    assert_eq!((world.client.list(&id).await.len(), world.simulator.sessions().len()), (1, 0));
    last(&world, &id).await;
    world.client.delete(&format!("/session/{id}")).await.ok();
    for nobody in [&*id, "nobody"] {
        let refused = world.client.post(&format!("/session/{nobody}/kill"), &json!({})).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (404, "session_not_found"), "{}", refused.text);
    }
}

#[tokio::test]
async fn an_upstream_that_fails_for_a_moment_is_asked_again() {
    let world = World::start(long_turn()).await;
    let id = world.session("Hello").await;
    world.simulator.set_faults(Faults {
        requests: vec![RequestFault::error(Endpoint::SessionsDelete, 2, 500, "api_error")],
        ..Faults::default()
    });
    assert_eq!(kill(&world, &id).await["verified"], json!(true));
    assert_eq!(
        (world.simulator.recorder().count(Endpoint::SessionsDelete), world.simulator.sessions().len()),
        (3_u64, 0_usize)
    );
}

#[tokio::test]
async fn a_session_whose_upstream_cannot_be_reached_is_over_here_and_can_be_seen_to_later() {
    let world = World::start(long_turn()).await;
    let id = world.session("Hello").await;
    world.simulator.set_faults(always(None, Answer::HangUp));
    let unseen = kill(&world, &id).await;
    assert_eq!(unseen["verified"], json!(false), "{unseen}");
    assert!(unseen["detail"].as_str().unwrap().starts_with("the session could not be ended upstream: "), "{unseen}");
    assert_eq!(world.client.status(&id).await, "terminated");
    assert_eq!(last(&world, &id).await["upstream"], unseen);
    assert_eq!(world.simulator.sessions().len(), 1);

    world.simulator.set_faults(Faults::default());
    assert_eq!(kill(&world, &id).await["verified"], json!(true));
    assert_eq!(world.simulator.sessions().len(), 0);
    assert_eq!(last(&world, &id).await["upstream"], unseen, "what is in the log stays");
}

#[tokio::test]
async fn an_upstream_that_only_says_that_it_has_ended_a_session_is_not_believed() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    let body = Some(r#"{"type":"session_deleted"}"#.to_owned());
    let polite = Answer::Error(ErrorAnswer { status: 200, body, ..ErrorAnswer::default() });
    world.simulator.set_faults(always(Some(Endpoint::SessionsDelete), polite));
    let unseen = kill(&world, &id).await;
    assert_eq!(unseen["verified"], json!(false), "{unseen}");
    assert!(unseen["detail"].as_str().unwrap().ends_with("still shows it"), "{unseen}");
    let tries = world.simulator.recorder().count(Endpoint::SessionsDelete);
    assert!((2..=7).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn without_a_way_to_the_upstream_a_kill_says_that_nothing_was_asked() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    world.client.delete(&format!("/api/agent-runtimes/{RUNTIME}/credentials")).await.ok();
    let detail = "the upstream was not asked: no credential is stored for the runtime";
    assert_eq!(kill(&world, &id).await, json!({"verified": false, "detail": detail}));
    assert_eq!(
        (last(&world, &id).await["upstream"]["detail"].as_str(), world.simulator.sessions().len()),
        (Some(detail), 1)
    );
}

#[tokio::test]
async fn what_is_asked_of_a_session_while_it_is_killed_is_refused_and_it_can_be_deleted() {
    let world = World::start(long_turn()).await;
    let id = world.session("Hello").await;
    world.simulator.set_faults(always(Some(Endpoint::SessionsDelete), Answer::Silence));
    let path = format!("/session/{id}/kill");
    let killing = {
        let (client, path) = (world.client.clone(), path.clone());
        tokio::spawn(async move { client.send(Method::POST, &path, &[], None).await })
    };
    while world.simulator.recorder().count(Endpoint::SessionsDelete) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.client.status(&id).await, "terminated", "that it shall end is durable");
    assert_eq!(world.client.prompt(&id, "one more").await.code(), "session_terminated");
    world.simulator.set_faults(Faults::default());
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
    let killed = killing.await.unwrap().ok();
    // Whether it was answered before it was deleted is a matter of milliseconds.
    assert_eq!(killed["upstream"]["verified"], json!(false), "it did not wait for the upstream");
    assert_eq!(world.simulator.sessions().len(), 0);
}
