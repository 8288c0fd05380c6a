//! The feed of all sessions: what a list that is kept up to date is told.

use lap::upstream::{Frame, SseParser};
use lap_simulator::{Script, script::Step};
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, Client, World};

struct Feed {
    response: reqwest::Response,
    parser: SseParser,
    frames: std::vec::IntoIter<Frame>,
}

impl Feed {
    async fn open(client: &Client, headers: &[(&str, &str)]) -> Self {
        let request = client.request(http::Method::GET, "/api/sessions/stream", headers, None);
        let mut response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        let greeting = response.chunk().await.unwrap().unwrap();
        assert!(greeting.starts_with(b"id: 0\nretry: "), "{greeting:?}");
        let (mut parser, mut frames) = (SseParser::default(), Vec::new());
        parser.push(&greeting, &mut frames).unwrap();
        Self { response, parser, frames: frames.into_iter() }
    }

    /// The next thing that it tells, with the name of it; nothing at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Some((frame.name, serde_json::from_str(&frame.data).unwrap()));
            }
            let mut frames = Vec::new();
            self.parser.push(&self.response.chunk().await.unwrap()?, &mut frames).unwrap();
            self.frames = frames.into_iter();
        }
    }

    /// What it tells until an item is like this, which is the last.
    async fn until(&mut self, is: impl Fn(&str, &Value) -> bool) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        loop {
            let (name, item) = self.next().await.expect("the feed ended");
            told.push((name, item));
            let (name, item) = told.last().unwrap();
            if is(name, item) {
                return told;
            }
        }
    }
}

fn long_turn() -> Script {
    Script::of([Step::message("working"), Step::Delay { ms: 600_000 }, Step::message("never said")])
}

#[tokio::test]
async fn a_list_is_told_of_a_new_session_of_its_turn_its_title_and_its_end() {
    let world = World::start(Script::default()).await;
    let agent = world.agent().await;
    let mut feed = Feed::open(&world.client, &[]).await;
    let environment = "{\"a\":\r\n 1}";
    let body = format!(
        r#"{{"runtime":"claude_managed_agents","agent_id":"{agent}","prompt":"Hello","environment":{environment}}}"#
    );
    let made = world.client.send(http::Method::POST, "/session", &[], Some(body)).await.ok();
    let id = made["id"].as_str().unwrap();
    let told = feed.until(|_, item| item["status"] == "idle" && item["usage"]["output_tokens"].is_u64()).await;
    assert!(told.iter().all(|(name, item)| name == "session.updated" && item["id"] == id), "{told:?}");
    assert_eq!(told.last().unwrap().1, world.client.get(&format!("/session/{id}")).await.ok(), "the item of the list");
    let title = json!({"title": "Another title"}).to_string();
    let path = format!("/v1/sessions/{id}");
    world.client.send(http::Method::POST, &path, &ANTHROPIC, Some(title)).await.ok();
    feed.until(|_, item| item["title"] == "Another title").await;
    assert_eq!(world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
    let told = feed.until(|name, _| name == "session.deleted").await;
    assert_eq!(told.last().unwrap().1, json!({"id": id}));
}

#[tokio::test]
async fn a_list_is_told_of_what_waits_and_of_an_interrupt_without_every_step() {
    const PROMPTS: usize = 60;
    let world = World::start(long_turn()).await;
    let mut feed = Feed::open(&world.client, &[]).await;
    let id = world.session("Hello").await;
    feed.until(|_, item| item["status"] == "running").await;
    let began = std::time::Instant::now();
    for _ in 0..PROMPTS {
        assert_eq!(world.client.prompt(&id, "this one waits").await.status, 204);
    }
    let told = feed.until(|_, item| item["queued"] == PROMPTS).await;
    let looks = usize::try_from(began.elapsed().as_millis() / 250).unwrap() + 2;
    assert!(told.len() <= looks, "{} in {:?}", told.len(), began.elapsed());
    let answer = world.client.post(&format!("/session/{id}/interrupt"), &json!({})).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    feed.until(|_, item| item["status"] == "idle" && item.get("queued").is_none()).await;
}

#[tokio::test]
async fn the_feed_ends_with_its_host_and_begins_with_a_reset_for_who_comes_again() {
    let mut world = World::start(Script::default()).await;
    let mut feed = Feed::open(&world.client, &[]).await;
    world.restart().await;
    assert_eq!(feed.next().await, None);
    let mut feed = Feed::open(&world.client, &[("last-event-id", "0")]).await;
    assert_eq!(feed.next().await, Some(("reset".to_owned(), json!({}))));
}
