//! A session stays on the version that it was made on, whatever becomes of its runtime.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::json;

use crate::harness::{
    World,
    variant::{ID, Variant},
};

/// A turn of some seconds, in which something happens all the time.
fn long() -> Script {
    Script::of([Step::Repeat(Repeat { count: 150, every_ms: 50, bytes: 100, ..Repeat::default() })])
}

async fn world(script: Script, first: &Variant) -> (World, String) {
    let world = World::empty(script).await;
    first.add(&world.client).await;
    world.client.connect_to(ID, &world.simulator.base_url()).await;
    let agent = world.client.agent(&json!({"runtime": ID})).await;
    (world, agent)
}

/// The versions that have sent requests of each upstream session.
fn by_session(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for request in world.simulator.recorder().requests() {
        let Some(rest) = request.path.strip_prefix("/v1/sessions/") else { continue };
        let version = request.headers["anthropic-version"].to_str().unwrap().to_owned();
        versions.entry(rest.split('/').next().unwrap().to_owned()).or_default().push(version);
    }
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_during_a_hundred_turns_changes_none_of_them() {
    let (first, second) = (Variant::of(1), Variant::of(2));
    let (mut world, agent) = world(long(), &first).await;
    world.restart_with(|config| config.guests_max = 128).await;
    let client = &world.client;
    let sessions = join_all((0..100).map(|_| client.session_on(ID, &agent, Some("go")))).await;
    for session in &sessions {
        client.stream(session, "", &[]).await.take(3).await;
    }
    second.add(client).await;
    let fresh = client.session_on(ID, &agent, Some("new")).await;
    for session in &sessions {
        assert_eq!(client.status(session).await, "running", "the turns were over before the upgrade");
    }
    for session in sessions.iter().chain([&fresh]) {
        assert_eq!(client.turn(session).await.last().unwrap().name, "session.status_idle");
    }
    // So does the next turn.
    world.simulator.set_script(Script::of([Step::message("done")]));
    for session in &sessions {
        client.prompt(session, "and on").await;
    }
    for session in &sessions {
        assert_eq!(client.turn(session).await.last().unwrap().name, "session.status_idle");
    }
    let by_session = by_session(&world);
    for session in &sessions {
        let versions = &by_session[&world.upstream_id(session).await];
        assert!(versions.len() >= 3 && versions.iter().all(|version| *version == first.version), "{versions:?}");
        assert_eq!(client.get(&format!("/session/{session}")).await.ok()["component"], first.digest());
    }
    assert_eq!(client.get(&format!("/session/{fresh}")).await.ok()["component"], second.digest());
    let versions = &by_session[&world.upstream_id(&fresh).await];
    assert!(versions.iter().all(|version| *version == second.version), "{versions:?}");

    let old = format!("/api/agent-runtimes/{ID}/versions/{}", first.digest());
    let needed = client.delete(&old).await;
    assert_eq!(needed.status, 409);
    assert!(["version_in_use", "runtime_in_use"].contains(&needed.code().as_str()), "{}", needed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_not_removed_under_a_running_turn() {
    let first = Variant::of(1);
    let (world, agent) = world(long(), &first).await;
    let client = &world.client;
    let session = client.session_on(ID, &agent, Some("go")).await;
    client.stream(&session, "", &[]).await.take(3).await;
    let removed = client.delete(&format!("/api/agent-runtimes/{ID}")).await;
    assert_eq!((removed.status.as_u16(), removed.code().as_str()), (409, "runtime_in_use"));
    assert_eq!(removed.header("retry-after"), "30");
    assert_eq!(client.turn(&session).await.last().unwrap().name, "session.status_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_versions_and_pins_and_loads_an_old_one_on_demand() {
    let (first, second) = (Variant::of(1), Variant::of(2));
    let (mut world, agent) = world(Script::of([Step::message("done")]), &first).await;
    let session = world.client.session_on(ID, &agent, Some("one")).await;
    world.client.turn(&session).await;
    second.add(&world.client).await;
    let before = world.client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
    world.restart_with(|config| ID.clone_into(&mut config.default_runtime)).await;
    let client = &world.client;
    let after = client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
    for part in ["component", "allow", "forward", "auth"] {
        assert_eq!(after[part], before[part], "{part}");
    }
    for version in 0..2 {
        for part in ["component", "bytes", "manifest", "grant", "added_at", "current", "imports"] {
            assert_eq!(after["versions"][version][part], before["versions"][version][part], "{part}");
        }
    }
    assert_eq!(after["versions"][1]["state"], "unloaded", "nobody has needed it yet");
    client.prompt(&session, "two").await;
    assert_eq!(client.turn(&session).await.last().unwrap().name, "session.status_idle");
    let detail = client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
    assert_eq!(detail["versions"][1]["state"], "loaded");
    let by_session = by_session(&world);
    let versions = &by_session[&world.upstream_id(&session).await];
    assert!(versions.iter().all(|version| *version == first.version), "{versions:?}");
}
