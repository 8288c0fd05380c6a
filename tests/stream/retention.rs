//! What is not to be kept goes, here and upstream; what has something to do stays.

use lap::session::Retention;
use lap_simulator::{
    Endpoint, Script,
    script::{Repeat, Step},
};

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_do_not_fit_any_more_go_and_the_one_that_works_stays() {
    let long = Step::Repeat(Repeat { count: 100_000, bytes: 100, every_ms: 5, ..Repeat::default() });
    let mut world = World::start(Script::of([Step::message("done")])).await;
    let (first, second) = (world.session("one").await, world.session("two").await);
    world.client.turn(&first).await;
    world.client.turn(&second).await;
    world.simulator.set_script(Script::of([long]));
    let working = world.session("three").await;
    world.client.stream(&working, "", &[]).await.take(4).await;

    // Less than anything: all that may go goes.
    world.restart_with(|config| config.retention = Retention { age: None, bytes: Some(1) }).await;
    let mut stream = world.client.stream(&working, "", &[]).await;
    while world.simulator.recorder().count(Endpoint::SessionsDelete) < 2 {
        stream.next().await.expect("the one that works goes on");
    }
    for gone in [&first, &second] {
        while world.client.get(&format!("/session/{gone}")).await.status != 404 {
            stream.next().await.expect("the one that works goes on");
        }
    }
    assert_eq!(world.client.status(&working).await, "running");
    let left = world.client.get("/session").await.ok();
    assert_eq!(left.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_used_lately_stays() {
    let mut world = World::start(Script::of([Step::message("done")])).await;
    let session = world.session("one").await;
    world.client.turn(&session).await;
    let age = Some(std::time::Duration::from_hours(24));
    world.restart_with(|config| config.retention = Retention { age, bytes: Some(1024 * 1024) }).await;
    assert_eq!(world.client.prompt(&session, "again").await.status, 204);
    let messages = world.client.turn(&session).await;
    assert_eq!(messages.iter().filter(|event| event.name == "agent.message").count(), 2);
    assert_eq!(world.simulator.recorder().count(Endpoint::SessionsDelete), 0);
}
