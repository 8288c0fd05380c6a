//! More sessions than guests: one that rests gives way, and what was acknowledged waits until there is room.

use futures_util::future::join_all;
use lap_simulator::{Script, script::Step};
use serde_json::json;

use crate::harness::{RUNTIME, World};

async fn world_of(guests: u32, script: Script) -> World {
    let mut world = World::start(script).await;
    world.restart_with(|config| config.guests_max = guests).await;
    world
}

#[tokio::test]
async fn short_turns_one_after_the_other_are_never_refused_for_the_guests_of_those_before() {
    let world = world_of(2, Script::default()).await;
    let agent = world.agent().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let id = world.client.session(&agent, Some("Hello")).await;
        assert_eq!(world.client.turn(&id).await.last().unwrap().name, "session.status_idle");
        sessions.push(id);
    }
    // Their drivers live still, and their guests have given way.
    for id in &sessions {
        assert_eq!(world.client.prompt(id, "Hello again").await.status, 204);
        let turn = world.client.turn(id).await;
        assert_eq!(turn.iter().filter(|event| event.name == "session.status_idle").count(), 2, "{turn:?}");
    }
}

#[tokio::test]
async fn more_turns_at_once_than_guests_all_come_to_their_own_end_also_over_a_restart() {
    let repeat = lap_simulator::script::Repeat { count: 10, every_ms: 50, bytes: 100, ..Default::default() };
    let mut world = world_of(2, Script::of([Step::Repeat(repeat), Step::message("done")])).await;
    let agent = world.agent().await;
    let body = json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "Hello"});
    let made = join_all((0..8).map(|_| world.client.post("/session", &body))).await;
    let ids: Vec<_> = made.iter().map(|made| made.ok()["id"].as_str().unwrap().to_owned()).collect();
    world.restart_with(|config| config.guests_max = 2).await;
    let turns = join_all(ids.iter().map(|id| world.client.turn(id))).await;
    for turn in turns {
        assert!(turn.iter().all(|event| event.name != "session.error"), "{turn:?}");
        assert_eq!(turn.last().unwrap().json["stop_reason"]["type"], "end_turn", "{turn:?}");
    }
}
