//! How sessions and agents end: deleted, killed, archived; and agents that pause.

use http::Method;
use lap_simulator::{Endpoint, Faults, fault::RequestFault};
use serde_json::json;

use super::{parts, world};
use crate::harness::RUNTIME;

#[tokio::test]
async fn a_session_that_is_deleted() {
    let (world, mut tape) = world("a_session_that_is_deleted").await;
    let client = &world.client;
    let session = world.session("/short hello").await;
    client.turn(&session).await;
    let path = format!("/session/{session}");
    tape.note("Its open stream ends");
    let mut live = tape.open(client, &format!("/v1/sessions/{session}/events/stream?after=6"), &[]).await;
    tape.until(&mut live, "session.status_idle").await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.rest(live).await;
    tape.note("It is not there any more");
    tape.get(client, &path).await;
    tape.get(client, &format!("{path}/message")).await;
    tape.get(client, &format!("/v1/sessions/{session}/events")).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.lap(client, Method::DELETE, "/session/ses_of_nobody", None).await;
    tape.note("One whose turn runs");
    let session = world.session("/hold").await;
    let path = format!("/session/{session}");
    let mut live = tape.open(client, &format!("/v1/sessions/{session}/events/stream"), &[]).await;
    tape.until(&mut live, "agent.message").await;
    tape.lap(client, Method::DELETE, &path, None).await;
    assert_eq!(world.simulator.sessions().len(), 0);
    tape.note("One whose upstream refuses");
    let session = world.session("/short hello").await;
    client.turn(&session).await;
    let refused = RequestFault::error(Endpoint::SessionsDelete, 1000, 400, "invalid_request_error");
    world.simulator.set_faults(Faults { requests: vec![refused], ..Faults::default() });
    tape.lap(client, Method::DELETE, &format!("/session/{session}"), None).await;
    tape.done();
}

#[tokio::test]
async fn a_session_that_is_killed() {
    let (world, mut tape) = world("a_session_that_is_killed").await;
    let client = &world.client;
    let session = world.session("/hold").await;
    let path = format!("/session/{session}");
    let mut live = tape.open(client, &format!("/v1/sessions/{session}/events/stream"), &[]).await;
    tape.until(&mut live, "agent.message").await;
    tape.post(client, &format!("{path}/prompt_async"), &parts("this one waits")).await;
    tape.note("The kill; what the upstream says of its end may come before it or not, and is not recorded");
    tape.lap(client, Method::POST, &format!("{path}/kill"), None).await;
    let last = live.find(|name, _| name == "session.status_terminated").await;
    let seq = last.lines().next().unwrap().strip_prefix("id: ").unwrap();
    tape.call(&format!("id: {seq}"), "id: the last");
    tape.frame(&last);
    tape.note("What is left of it");
    tape.get(client, &path).await;
    tape.get(client, &format!("{path}/message")).await;
    tape.post(client, &format!("{path}/prompt_async"), &parts("one more")).await;
    tape.post(client, &format!("{path}/interrupt"), &json!({})).await;
    tape.sdk(client, Method::GET, &format!("/v1/sessions/{session}"), None).await;
    tape.note("Again, and deleted");
    tape.post(client, &format!("{path}/kill"), &json!({})).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.note("One at rest");
    let session = world.session("/short hello").await;
    let before = client.turn(&session).await.len();
    tape.post(client, &format!("/session/{session}/kill"), &json!({})).await;
    tape.turn(client, &session, before.try_into().unwrap()).await;
    tape.note("One that nobody knows");
    tape.post(client, "/session/ses_of_nobody/kill", &json!({})).await;
    tape.done();
}

#[tokio::test]
async fn a_session_that_is_archived() {
    let (world, mut tape) = world("a_session_that_is_archived").await;
    let client = &world.client;
    let session = world.session("/hold").await;
    let mut live = tape.open(client, &format!("/v1/sessions/{session}/events/stream"), &[]).await;
    tape.until(&mut live, "agent.message").await;
    let path = format!("/v1/sessions/{session}");
    tape.note("Not while its turn runs");
    tape.sdk(client, Method::POST, &format!("{path}/archive"), Some(&json!({}))).await;
    world.simulator.release(&world.upstream_id(&session).await);
    tape.until(&mut live, "session.status_idle").await;
    client.turn(&session).await;
    tape.note("At rest");
    tape.sdk(client, Method::POST, &format!("{path}/archive"), None).await;
    tape.note("Again");
    tape.sdk(client, Method::POST, &format!("{path}/archive"), None).await;
    tape.note("It takes nothing more, and can be read");
    tape.post(client, &format!("/session/{session}/prompt_async"), &parts("one more")).await;
    tape.sdk(client, Method::POST, &path, Some(&json!({"title": "Another title"}))).await;
    tape.get(client, &format!("/session/{session}")).await;
    tape.sdk(client, Method::GET, "/v1/sessions", None).await;
    tape.sdk(client, Method::GET, "/v1/sessions?include_archived=true&limit=1", None).await;
    tape.sdk(client, Method::DELETE, &path, None).await;
    tape.done();
}

#[tokio::test]
async fn an_agent_that_pauses_and_goes() {
    let (world, mut tape) = world("an_agent_that_pauses_and_goes").await;
    let client = &world.client;
    let agent = world.agent().await;
    let path = format!("/api/agents/{agent}");
    let session = json!({"runtime": RUNTIME, "agent_id": agent});
    let before = client.session(&agent, None).await;
    tape.lap(client, Method::POST, &format!("{path}/pause"), None).await;
    tape.note("It starts no session; those that it has go on");
    tape.post(client, "/session", &session).await;
    tape.sdk(
        client,
        Method::POST,
        "/v1/sessions",
        Some(&json!({"agent": agent, "environment_id": "env_00000000000000000000000000000000"})),
    )
    .await;
    tape.post(client, &format!("/session/{before}/prompt_async"), &parts("/short hello")).await;
    tape.turn(client, &before, 0).await;
    tape.post(client, &format!("{path}/resume"), &json!({})).await;
    tape.post(client, "/session", &session).await;
    tape.note("It is deleted; its sessions stay");
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.get(client, &path).await;
    tape.lap(client, Method::DELETE, &path, None).await;
    tape.post(client, &format!("{path}/pause"), &json!({})).await;
    tape.post(client, "/session", &session).await;
    tape.get(client, &format!("/session/{before}")).await;
    tape.done();
}
