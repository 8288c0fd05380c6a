//! Sessions that could not be ended upstream: they are listed, and are ended once that is possible.

use lap::session::Retention;
use lap_simulator::Script;
use serde_json::{Value, json};

use crate::harness::{RUNTIME, World, simulator};

async fn orphans(world: &World) -> Vec<Value> {
    world.client.get("/api/orphans").await.ok().as_array().unwrap().clone()
}

async fn put_key(world: &World, key: &str) {
    let body = json!({"api_key": key, "api_base": world.simulator.base_url()});
    world.client.put(&format!("/api/agent-runtimes/{RUNTIME}/credentials"), &body).await.ok();
}

/// Two sessions that run upstream, of which one is deleted and one killed while the vendor refuses the key, or while there is
/// none.
async fn deleted_and_killed(world: &World, with_key: bool) -> [String; 2] {
    let agent = world.agent().await;
    let [deleted, killed] = [world.client.session(&agent, None).await, world.client.session(&agent, None).await];
    if with_key {
        put_key(world, "sk-ant-another-one").await;
    } else {
        world.client.delete(&format!("/api/agent-runtimes/{RUNTIME}/credentials")).await.ok();
    }
    assert_eq!(world.client.delete(&format!("/session/{deleted}")).await.ok(), json!(true));
    world.client.post(&format!("/session/{killed}/kill"), &json!({})).await.ok();
    let told = world.client.turn(&killed).await.pop().unwrap();
    assert_eq!(told.json["upstream"]["verified"], json!(false), "{told:?}");
    [deleted, killed]
}

#[tokio::test]
async fn what_could_not_be_ended_upstream_is_listed_and_ended_with_the_next_credential() {
    for with_key in [true, false] {
        let mut world = World::start(Script::default()).await;
        let [deleted, killed] = deleted_and_killed(&world, with_key).await;
        assert_eq!(world.client.get(&format!("/session/{deleted}")).await.status, 404);
        assert_eq!(world.simulator.sessions().len(), 2);
        let listed = orphans(&world).await;
        let ids: Vec<_> = listed.iter().map(|orphan| orphan["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&*deleted, &*killed], "{listed:?}");
        for orphan in &listed {
            assert!(orphan["provider_session_id"].is_string() && orphan["next_try_at"].is_string(), "{orphan}");
            assert!(!orphan["reason"].as_str().unwrap().is_empty(), "{orphan}");
            assert_eq!((&orphan["runtime"], &orphan["owner_id"]), (&json!(RUNTIME), &json!("local-user")));
        }
        world.restart().await;
        assert_eq!(orphans(&world).await, listed, "it is kept in mind");

        world.client.connect(&world.simulator.base_url()).await;
        while !orphans(&world).await.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.simulator.sessions().len(), 0);
        assert_eq!(world.client.status(&killed).await, "terminated");
    }
}

#[tokio::test]
async fn a_killed_session_that_is_ended_by_another_kill_or_by_its_deletion_is_no_orphan() {
    for delete in [false, true] {
        let world = World::start(Script::default()).await;
        let [_, killed] = deleted_and_killed(&world, true).await;
        let path = format!("/session/{killed}");
        // Of the two ends only that of the one that is left waits for the next try.
        let known = world.client.delete(&format!("/api/orphans/{killed}")).await;
        assert_eq!(known.status, 204, "{}", known.text);
        assert_eq!(world.client.delete(&format!("/api/orphans/{killed}")).await.code(), "orphan_not_found");
        if delete {
            assert_eq!(world.client.delete(&path).await.ok(), json!(true));
        } else {
            let again = world.client.post(&format!("{path}/kill"), &json!({})).await.ok();
            assert_eq!(again["upstream"]["verified"], json!(false), "{again}");
        }
        assert_eq!(orphans(&world).await.len(), 2, "it cannot be ended still");
        world.client.connect(&world.simulator.base_url()).await;
        if delete {
            while !orphans(&world).await.is_empty() {
                tokio::task::yield_now().await;
            }
        } else {
            let ended = world.client.post(&format!("{path}/kill"), &json!({})).await.ok();
            assert_eq!(ended["upstream"]["verified"], json!(true), "{ended}");
            assert!(orphans(&world).await.iter().all(|orphan| orphan["id"] != *killed));
        }
    }
}

#[tokio::test]
async fn an_owner_sees_orphans_of_its_own_and_pages_are_as_long_as_was_asked_for() {
    let world = World::start(Script::default()).await;
    let [deleted, killed] = deleted_and_killed(&world, true).await;
    let minted = world.client.post("/api/keys", &json!({"owner_id": "somebody else"})).await.json();
    let other = world.client.with_key(minted["key"].as_str());
    assert_eq!(other.get("/api/orphans").await.ok(), json!([]));
    assert_eq!(other.delete(&format!("/api/orphans/{deleted}")).await.status, 403);

    let first = world.client.get("/api/orphans?limit=1").await;
    assert_eq!((first.ok()[0]["id"].as_str(), first.header("x-next-page")), (Some(&*deleted), &*deleted));
    let second = world.client.get(&format!("/api/orphans?limit=1&after={deleted}")).await.ok();
    assert_eq!(second[0]["id"], json!(killed));
    assert_eq!(world.client.get("/api/orphans?after=x").await.code(), "cursor_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removes_while_the_vendor_refuses_the_key_is_an_orphan() {
    let mut world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let session = world.client.session(&agent, Some("go")).await;
    world.client.turn(&session).await;
    put_key(&world, "sk-ant-another-one").await;
    // Less than anything: all that may go goes.
    world.restart_with(|config| config.retention = Retention { age: None, bytes: Some(1) }).await;
    while world.client.get(&format!("/session/{session}")).await.status != 404 {
        tokio::task::yield_now().await;
    }
    let listed = orphans(&world).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(session)), "{listed:?}");
    world.client.connect(&world.simulator.base_url()).await;
    while !orphans(&world).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.simulator.sessions().len(), 0);
}

#[tokio::test]
async fn an_orphan_is_ended_where_it_lives_and_nowhere_else() {
    let world = World::start(Script::default()).await;
    let [deleted, killed] = deleted_and_killed(&world, true).await;
    // The credential goes to another place now: a key is not sent where it was not stored for.
    let elsewhere = simulator(Script::default());
    world.client.connect(&elsewhere.base_url()).await;
    let listed = orphans(&world).await;
    let ids: Vec<_> = listed.iter().map(|orphan| orphan["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&*deleted, &*killed], "{listed:?}");
    world.client.connect(&world.simulator.base_url()).await;
    while !orphans(&world).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.simulator.sessions().len(), 0);
    assert!(elsewhere.recorder().requests().iter().all(|request| !request.path.contains("/sessions")));
}
