//! Readers of a session: where a stream starts, how it goes on, what it costs.

use std::time::Duration;

use futures_util::future::join_all;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use tokio::time::timeout;

use crate::harness::World;

fn many(count: u64) -> Script {
    Script::of([Step::Repeat(Repeat { count, bytes: 200, ..Repeat::default() })])
}

#[tokio::test]
async fn a_stream_goes_on_right_behind_what_the_client_has() {
    let world = World::start(Script::default()).await;
    let id = world.session("Hello").await;
    let all = world.client.turn(&id).await;
    for after in 0..=all.len() {
        let seq = after.to_string();
        let by_header = world.client.stream(&id, "until=idle", &[("last-event-id", &seq)]).await.rest().await;
        let by_query = world.client.stream(&id, &format!("until=idle&after={seq}"), &[]).await.rest().await;
        assert_eq!(by_header, all[after..], "Last-Event-ID: {seq}");
        assert_eq!(by_query, all[after..], "after={seq}");
    }
    let both = world.client.stream(&id, "until=idle&after=0", &[("last-event-id", "9")]).await.rest().await;
    assert_eq!(both, all[9..], "the header wins");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_is_refused() {
    let world = World::start(Script::default()).await;
    let id = world.session("Hello").await;
    let head = world.client.turn(&id).await.len();
    for (after, status) in [("x", 400), ("-1", 400), ("1.5", 400), ("99999999999999999999999", 400), ("11", 409)] {
        let answer = world.client.get(&format!("/v1/sessions/{id}/events/stream?after={after}")).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (status, "cursor_invalid"), "{after}");
    }
    assert_eq!(head, 10);
}

#[tokio::test]
async fn a_client_of_the_other_dialect_sees_what_happens_from_now_on() {
    let world = World::start(Script::default()).await;
    let id = world.session("Hello").await;
    let before = world.client.turn(&id).await;
    let beta = [("anthropic-beta", "managed-agents-2026-04-01")];
    let mut stream = world.client.stream(&id, "", &beta).await;
    world.client.prompt(&id, "again").await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.seq, before.len() as u64 + 1);
    assert_eq!(first.json["content"][0]["text"], "again");
}

#[tokio::test]
async fn a_stream_says_at_once_that_it_is_there_and_how_to_come_back() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    let mut stream = world.client.stream(&id, "", &[]).await;
    stream.chunk().await.unwrap();
    let greeting = String::from_utf8(stream.raw.clone()).unwrap();
    let retry: u64 = greeting.strip_prefix("retry: ").unwrap().lines().next().unwrap().parse().unwrap();
    assert!((2000..5000).contains(&retry) && greeting.ends_with("\n\n"), "{greeting}");
}

#[tokio::test]
async fn the_list_has_pages_and_the_same_events() {
    let world = World::start(many(2500)).await;
    let id = world.session("Hello").await;
    let streamed: Vec<_> = world.client.turn(&id).await.into_iter().map(|event| event.json).collect();
    assert_eq!(world.client.list(&id).await, streamed);
    let page = world.client.get(&format!("/v1/sessions/{id}/events?limit=3&after=2")).await.ok();
    assert_eq!(page["data"].as_array().unwrap()[..], streamed[2..5]);
    let next = format!("/session/{id}/runtime_events/list?limit=2&page={}", page["next_page"].as_str().unwrap());
    assert_eq!(world.client.get(&next).await.ok()["data"].as_array().unwrap()[..], streamed[5..7]);
    let end = format!("/v1/sessions/{id}/events?after={}", streamed.len());
    assert_eq!(
        world.client.get(&end).await.ok(),
        serde_json::json!({"data": [], "next_page": null, "last_seq": streamed.len()})
    );
    assert_eq!(page["last_seq"], streamed.len(), "also where the page is not the last");
}

#[tokio::test]
async fn a_thousand_readers_see_every_event_and_cost_one_upstream_stream() {
    let world = World::start(many(500)).await;
    let id = world.session("Hello").await;
    let read = async || {
        let mut stream = world.client.stream(&id, "until=idle", &[]).await;
        while stream.chunk().await.is_some() {}
        let text = String::from_utf8(std::mem::take(&mut stream.raw)).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    let seen = join_all((0..1000).map(|_| read())).await;
    let expected: Vec<u64> = (1..=*seen[0].last().unwrap()).collect();
    assert!(expected.len() > 500);
    assert!(seen.iter().all(|ids| *ids == expected), "a reader has a gap or a duplicate");
    assert_eq!(world.simulator.recorder().streams().open_max, 1);
}

#[tokio::test]
async fn a_slow_reader_gets_everything_though_the_session_ran_ahead() {
    let world = World::start(many(20_000)).await;
    let id = world.session("Hello").await;
    let mut slow = world.client.stream(&id, "until=idle", &[]).await;
    slow.take(3).await;
    world.client.stream(&id, "until=idle", &[]).await;
    while world.client.status(&id).await != "idle" {}
    while slow.chunk().await.is_some() {}
    let text = String::from_utf8(std::mem::take(&mut slow.raw)).unwrap();
    let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    assert!(ids.len() > 20_000);
}

#[tokio::test]
async fn events_are_the_same_after_a_restart() {
    let mut world = World::start(many(300)).await;
    let id = world.session("Hello").await;
    let before = world.client.turn(&id).await;
    world.restart().await;
    assert_eq!(world.client.turn(&id).await, before);
    assert_eq!(world.client.prompt(&id, "again").await.status, 204);
    let after = world.client.turn(&id).await;
    assert_eq!(after[..before.len()], before);
    assert!(after.len() > before.len() + 300);
}

#[tokio::test]
async fn a_stream_until_idle_ends_though_a_client_has_just_stopped_nothing() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let id = world.client.session(&agent, None).await;
    let stopped = world.client.post(&format!("/session/{id}/interrupt"), &serde_json::json!({})).await;
    assert_eq!(stopped.status, 204, "{}", stopped.text);
    let ended = timeout(Duration::from_secs(20), world.client.turn(&id)).await;
    assert!(ended.expect("the stream waits for a turn that nobody has asked for").is_empty());
}
