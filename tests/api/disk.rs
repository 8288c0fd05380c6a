//! A disk with little room, or none: what is refused then, what goes on, and how it is told.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lap::{
    Ended,
    config::Config,
    disk::{Capacity, Probe},
    http::{RoomWish, routes},
};
use lap_simulator::{Script, script::Step};
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, RUNTIME, World};

const MIB: u64 = 1024 * 1024;

/// A disk whose free room a test decides.
#[derive(Clone)]
struct Disk(Arc<AtomicU64>);

impl Disk {
    fn with_free(mib: u64) -> Self {
        Self(Arc::new(AtomicU64::new(mib * MIB)))
    }

    fn settings(&self) -> impl Fn(&mut Config) {
        let free = Arc::clone(&self.0);
        move |config| {
            let free = Arc::clone(&free);
            config.disk_reserve_bytes = 256 * MIB;
            config.disk_probe =
                Probe::new(move |_| Ok(Capacity { free: free.load(Ordering::Relaxed), total: 10_240 * MIB }));
        }
    }

    /// So much is free from now on, and the host has seen it.
    async fn has(&self, mib: u64, world: &World) {
        self.0.store(mib * MIB, Ordering::Relaxed);
        while room(world).await["free_bytes"] != json!(mib * MIB) {
            tokio::task::yield_now().await;
        }
    }
}

async fn room(world: &World) -> Value {
    world.client.get("/api/status").await.ok()["disk"].clone()
}

fn two_parts() -> Script {
    Script::of([Step::message("first"), Step::Hold, Step::message("second")])
}

/// Asks each route that needs this of the disk: which it is, and the status and the code of its answer.
async fn refusals(world: &World, wish: RoomWish) -> Vec<(String, u16, String)> {
    let mut told = Vec::new();
    for route in routes().iter().filter(|route| route.room == wish) {
        let path = route.path.replace("{id}", "x").replace("{digest}", "x").replace("{component}", "x");
        let answer = world.client.send(route.method.clone(), &path, &ANTHROPIC, Some("{}".to_owned())).await;
        let code = answer.headers.get("lap-error-code").map_or("", |code| code.to_str().unwrap()).to_owned();
        told.push((format!("{} {path}", route.method), answer.status.as_u16(), code));
    }
    told
}

#[tokio::test]
async fn every_route_that_adds_something_is_refused_with_little_room_and_all_that_write_without_any() {
    let (mut world, disk) = (World::empty(Script::default()).await, Disk::with_free(255));
    world.restart_with(disk.settings()).await;
    let refused = refusals(&world, RoomWish::More).await;
    assert!(
        refused.len() > 10 && refused.iter().all(|(_, status, code)| (*status, &**code) == (507, "disk_full")),
        "{refused:?}"
    );
    let spared = refusals(&world, RoomWish::Reserve).await;
    assert!(spared.len() > 10 && spared.iter().all(|(_, status, _)| *status != 507), "{spared:?}");
    disk.0.store(0, Ordering::Relaxed);
    world.restart_with(disk.settings()).await;
    for wish in [RoomWish::More, RoomWish::Reserve] {
        let refused = refusals(&world, wish).await;
        assert!(refused.iter().all(|(_, status, code)| (*status, &**code) == (507, "disk_full")), "{refused:?}");
    }
}

#[tokio::test]
async fn with_little_room_nothing_new_is_taken_and_all_else_goes_on() {
    let (mut world, disk) = (World::start(two_parts()).await, Disk::with_free(1024));
    world.restart_with(disk.settings()).await;
    let agent = world.agent().await;
    let [stopped, deleted, held] = [
        world.client.session(&agent, Some("a")).await,
        world.client.session(&agent, Some("b")).await,
        world.client.session(&agent, Some("c")).await,
    ];
    disk.has(255, &world).await;
    assert_eq!(room(&world).await, json!({"free_bytes": 255 * MIB, "reserve_bytes": 256 * MIB, "room": "little"}));
    assert_eq!(world.client.get("/readyz").await.status, 200);

    let parts = json!({"parts": [{"type": "text", "text": "more"}]});
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "more"}]});
    let interrupt = json!({"type": "user.interrupt"});
    let session = json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "more"});
    for (path, body) in [
        ("/session".to_owned(), session),
        (format!("/session/{held}/prompt_async"), parts.clone()),
        (format!("/session/{held}/message"), parts),
        (format!("/v1/sessions/{held}/events"), json!({"events": [interrupt, message]})),
        ("/api/agents".to_owned(), json!({})),
        ("/api/keys".to_owned(), json!({})),
    ] {
        let refused = world.client.post(&path, &body).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (507, "disk_full"), "{path}");
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{path}");
        let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.contains("267386880 bytes are free") && text.contains("268435456"), "{text}");
    }
    let of_sdk = world.client.send(http::Method::POST, "/v1/sessions", &ANTHROPIC, Some("{}".to_owned())).await;
    assert_eq!(of_sdk.code(), "disk_full");
    assert!(!world.client.list(&held).await.iter().any(|event| event["type"] == "user.interrupt"), "all or nothing");

    let only = json!({"events": [{"type": "user.interrupt"}]});
    assert_eq!(world.client.post(&format!("/v1/sessions/{stopped}/events"), &only).await.status, 200);
    assert_eq!(world.client.turn(&stopped).await.pop().unwrap().name, "session.status_idle");
    assert_eq!(world.client.delete(&format!("/session/{deleted}")).await.ok(), json!(true));
    world.client.connect(&world.simulator.base_url()).await;
    world.simulator.release(&world.upstream_id(&held).await);
    let said: Vec<_> =
        world.client.turn(&held).await.into_iter().filter(|event| event.name == "agent.message").collect();
    assert_eq!(said.len(), 2, "a turn that ran goes on");

    disk.has(1024, &world).await;
    assert_eq!(
        (room(&world).await["room"].as_str(), world.client.prompt(&held, "more").await.status.as_u16()),
        (Some("enough"), 204)
    );
}

#[tokio::test]
async fn without_room_feeds_are_not_read_until_there_is_some() {
    let (mut world, disk) = (World::start(two_parts()).await, Disk::with_free(1024));
    world.restart_with(disk.settings()).await;
    let id = world.session("Hello").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    disk.has(31, &world).await;
    let unready = world.client.get("/readyz").await;
    assert_eq!((unready.status.as_u16(), room(&world).await["room"].as_str()), (503, Some("none")));
    let before = world.client.list(&id).await.len();
    world.simulator.release(&world.upstream_id(&id).await);
    while world.truth(&id).await.last().unwrap()["type"] != "session.status_idle" {
        tokio::task::yield_now().await;
    }
    // Without room for it, the rest of the turn would be here long before these are answered.
    for _ in 0..50 {
        assert_eq!(world.client.list(&id).await.len(), before);
    }
    disk.has(1024, &world).await;
    while stream.next().await.unwrap().name != "session.status_idle" {}
}

/// The files of the store that a start may change, and what is in them.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    ["events.redb", "vault.redb", "store.json"].map(|name| fs::read(directory.join(name)).unwrap()).into()
}

#[tokio::test]
async fn a_host_that_starts_without_room_shows_what_there_is_and_goes_on_when_there_is_some() {
    let (mut world, disk) = (World::start(two_parts()).await, Disk::with_free(1024));
    world.restart_with(disk.settings()).await;
    let id = world.session("Hello").await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
    let log = world.client.list(&id).await;
    disk.0.store(0, Ordering::Relaxed);
    world.restart_with(disk.settings()).await;
    let before = files(world.directory());

    assert_eq!(room(&world).await["room"], "none");
    let unready = world.client.get("/readyz").await;
    assert_eq!(unready.code(), "not_ready");
    assert!(unready.json()["error"]["message"].as_str().unwrap().contains("full when the host started"));
    assert_eq!(world.client.list(&id).await, log);
    assert_eq!(world.client.get("/session").await.ok()[0]["id"], json!(id));
    assert_eq!(world.client.stream(&id, "", &[]).await.take(log.len()).await.len(), log.len());
    for path in ["interrupt", "kill", "prompt_async"] {
        let refused = world.client.post(&format!("/session/{id}/{path}"), &json!({})).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (507, "disk_full"), "{path}");
    }
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.code(), "disk_full");
    let key = json!({"api_key": "sk-ant-another", "api_base": world.simulator.base_url()});
    let put = world.client.put(&format!("/api/agent-runtimes/{RUNTIME}/credentials"), &key).await;
    assert_eq!(put.code(), "disk_full");
    assert!(files(world.directory()) == before, "a file of the store was changed");

    disk.0.store(1024 * MIB, Ordering::Relaxed);
    assert_eq!(world.ended().await, Ended::Thawed);
    world.restart_with(disk.settings()).await;
    world.simulator.release(&world.upstream_id(&id).await);
    assert_eq!(world.client.turn(&id).await.pop().unwrap().name, "session.status_idle");
}
