//! Cut at every byte: of the stream that the host reads, of the requests that it sends, of the stream that a client
//! reads. A log is what the upstream said, and a client that comes back has seen all of it.

use std::{ops::RangeInclusive, sync::Arc};

use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    Client, MASTER_KEY, World,
    dice::Dice,
    processed,
    proxy::{Direction, Place, Proxy},
};

/// Sessions at the same time; fewer than guests may live.
const LANES: usize = 48;

/// Twenty events with what the turn has around it.
fn script() -> Script {
    let messages = Repeat { count: 13, every_ms: 0, bytes: 0, ..Repeat::default() };
    Script::of([Step::message("Grüße 🌍 {prompt}"), Step::Repeat(messages), Step::message("漢字")])
}

/// A host whose upstream is behind a proxy.
struct Cut {
    world: World,
    proxy: Proxy,
    agent: String,
}

impl Cut {
    async fn new() -> Arc<Self> {
        let world = World::start(script()).await;
        let upstream = world.simulator.base_url();
        let proxy = Proxy::before(upstream.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()).await;
        world.client.connect(&format!("http://{}", proxy.address)).await;
        let agent = world.agent().await;
        Arc::new(Self { world, proxy, agent })
    }

    /// A session that has not begun, and its name upstream.
    async fn session(&self) -> (String, String) {
        let id = self.world.client.session(&self.agent, None).await;
        let upstream = self.world.upstream_id(&id).await;
        (id, upstream)
    }

    /// Runs a turn, and looks at what came of it.
    async fn turn(&self, id: &str, upstream: &str, case: &str) {
        let client = &self.world.client;
        assert_eq!(client.prompt(id, "los").await.status, 204);
        let events = client.turn(id).await;
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{case}: a gap");
        assert_eq!(events.last().unwrap().name, "session.status_idle", "{case}");
        let seen = processed(events.into_iter().map(|event| event.json));
        let truth = processed(self.world.simulator.events(upstream));
        assert_eq!(seen, truth, "{case}");
        let count = |kind: &str| seen.iter().filter(|event| event["type"] == kind).count();
        assert_eq!((count("user.message"), count("session.status_idle")), (1, 1), "{case}");
    }

    /// Its guest is free for another session then.
    async fn end(&self, id: &str) {
        assert_eq!(self.world.client.delete(&format!("/session/{id}")).await.ok(), json!(true));
    }

    /// How many bytes a request or its answer has when nothing is cut.
    async fn length(&self, of: fn(&str) -> Place) -> usize {
        let (id, upstream) = self.session().await;
        self.proxy.count(of(&upstream));
        self.turn(&id, &upstream, "uncut").await;
        let length = self.proxy.counted(&of(&upstream));
        self.end(&id).await;
        length
    }

    /// A session for each of the places; how many of them were cut.
    async fn at_each(self: &Arc<Self>, offsets: RangeInclusive<usize>, of: fn(&str) -> Place) -> usize {
        let (mut running, mut cuts) = (JoinSet::new(), 0);
        for offset in offsets {
            if running.len() == LANES {
                cuts += usize::from(running.join_next().await.unwrap().unwrap());
            }
            let this = Arc::clone(self);
            running.spawn(async move {
                let (id, upstream) = this.session().await;
                let place = of(&upstream);
                let reset = Dice::of(offset as u64).below(2) == 0;
                this.proxy.cut(place.clone(), offset, reset);
                this.turn(&id, &upstream, &format!("{place:?} cut after {offset} bytes, reset: {reset}")).await;
                let cut = this.proxy.has_cut(&place);
                this.end(&id).await;
                cut
            });
        }
        cuts + running.join_all().await.into_iter().filter(|cut| *cut).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_the_upstream_is_cut_at_every_byte() {
    let cut = Cut::new().await;
    let stream = |upstream: &str| (format!("/{upstream}/events/stream"), Direction::Answer);
    let length = cut.length(stream).await;
    let cuts = cut.at_each(0..=length, stream).await;
    // The last bytes are those of a heartbeat or of nothing: the turn is over before they come.
    assert!(cuts > length * 9 / 10, "{cuts} of {length}");
    println!("{cuts} cuts at each byte of a stream of 20 events: 0 lost, 0 doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_the_upstream_are_cut_at_every_byte() {
    let cut = Cut::new().await;
    for of in [
        (|upstream: &str| (format!("/{upstream}/events/stream"), Direction::Request)) as fn(&str) -> Place,
        |upstream| (format!("POST /v1/sessions/{upstream}/events"), Direction::Request),
        |upstream| (format!("POST /v1/sessions/{upstream}/events"), Direction::Answer),
    ] {
        let length = cut.length(of).await;
        let cuts = cut.at_each(0..=length - 1, of).await;
        assert_eq!(cuts, length, "each byte of {:?}", of(""));
        println!("{cuts} cuts at each byte of {:?}: 0 lost, 0 doubled", of(""));
    }
}

/// The whole frames in what a client has read, by their ids.
fn frames(text: &[u8]) -> Vec<(u64, String)> {
    let text = String::from_utf8_lossy(text);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let frame = |frame: &str| Some((frame.strip_prefix("id: ")?.split('\n').next()?.parse().ok()?, frame.to_owned()));
    whole.split("\n\n").filter_map(frame).collect()
}

/// Reads a stream until it ends or breaks.
async fn read(http: &reqwest::Client, base: &str, id: &str, after: u64) -> Vec<u8> {
    let url = format!("{base}/v1/sessions/{id}/events/stream?until=idle");
    let request = http.get(url).bearer_auth(MASTER_KEY).header("last-event-id", after).send();
    let mut text = Vec::new();
    let Ok(mut response) = request.await else { return text };
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_at_any_byte_comes_back_and_misses_nothing() {
    let world = World::start(script()).await;
    let id = world.session("los").await;
    world.client.turn(&id).await;
    let Client { base, .. } = &world.client;
    let whole = frames(&read(&reqwest::Client::new(), base, &id, 0).await);
    assert!(whole.len() > 20 && whole.iter().zip(1..).all(|((id, _), seq)| *id == seq));

    let proxy = Arc::new(Proxy::before(base.trim_start_matches("http://").parse().unwrap()).await);
    let place = (id.clone(), Direction::Answer);
    proxy.count(place.clone());
    let through = format!("http://{}", proxy.address);
    read(&reqwest::Client::new(), &through, &id, 0).await;
    let length = proxy.counted(&place);
    for offset in 0..length {
        let http = reqwest::Client::new();
        proxy.cut(place.clone(), offset, offset % 2 == 0);
        let mut seen = frames(&read(&http, &through, &id, 0).await);
        assert!(proxy.has_cut(&place), "at {offset}");
        let last = seen.last().map_or(0, |(id, _)| *id);
        seen.extend(frames(&read(&http, &through, &id, last).await));
        assert_eq!(seen, whole, "cut at {offset}");
    }
    println!("{length} cuts at each byte of a client's stream: 0 lost, 0 doubled");
}
