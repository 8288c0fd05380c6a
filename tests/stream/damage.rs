//! Rows of the log that somebody else has written to: what can be made anew is, and what cannot is said.

use std::cell::Cell;

use lap::config::Config;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use lap_store::Table;

use crate::harness::{World, processed, store::damage};

const SEGMENTS: Table = Table::of_24("segments");
const EVENTS: Table = Table::of_24("events");
const JOURNAL: Table = Table::of_u64("journal");

/// More events than one segment of an index covers.
fn long() -> Script {
    Script::of([Step::Repeat(Repeat { count: 5_000, every_ms: 0, bytes: 0, ..Repeat::default() })])
}

/// Another host takes up the log, in which every row of these tables is damaged.
async fn restarted_on(world: &mut World, tables: &[Table]) {
    let is_done = Cell::new(false);
    let settings = |config: &mut Config| {
        // A host that finds the files in use is started again.
        if !is_done.replace(true) {
            let rows: usize = tables.iter().map(|table| damage(&config.data_dir.join("events.redb"), *table)).sum();
            assert_eq!(rows > 0, !tables.is_empty());
        }
    };
    world.restart_with(settings).await;
}

/// What follows a prompt behind this event, up to the one that ends the wait for it.
async fn prompted(world: &World, session: &str, seen: usize) -> Vec<String> {
    assert_eq!(world.client.prompt(session, "more").await.status, 204);
    let mut stream = world.client.stream(session, "until=idle", &[("last-event-id", &seen.to_string())]).await;
    stream.rest().await.into_iter().map(|event| event.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_made_anew_of_the_log_and_nothing_comes_twice() {
    let mut world = World::start(long()).await;
    let session = world.session("go").await;
    for round in 0..3 {
        while world.client.status(&session).await != "idle" {
            tokio::task::yield_now().await;
        }
        world.simulator.set_script(Script::of([Step::message("done")]));
        let (seen, truth) = (world.client.list(&session).await, world.truth(&session).await);
        assert!(truth.len() > 5_000, "{}", truth.len());
        let last = seen.len();
        assert!(processed(seen) == processed(truth), "round {round}: the log is not what the upstream has");
        // The index that was made anew is used in the last round.
        restarted_on(&mut world, if round < 2 { &[SEGMENTS] } else { &[] }).await;
        let kinds = prompted(&world, &session, last).await;
        assert_eq!(kinds.last().map(String::as_str), Some("session.status_idle"), "{kinds:?}");
        assert!(kinds.iter().any(|kind| kind == "agent.message"), "{kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_to_a_session_whose_log_is_damaged_has_an_end() {
    let mut world = World::start(Script::of([Step::message("done")])).await;
    let session = world.session("go").await;
    let mut seen = world.client.turn(&session).await.len();
    restarted_on(&mut world, &[EVENTS, JOURNAL]).await;
    for _ in 0..2 {
        let kinds = prompted(&world, &session, seen).await;
        seen += kinds.len();
        assert_eq!(kinds, ["user.message", "session.error", "user.message", "session.status_idle"]);
        assert_eq!(world.client.status(&session).await, "error");
    }
}
