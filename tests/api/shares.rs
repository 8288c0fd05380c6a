//! How many turns may run: the host's bound, and what one owner has to leave to the others.

use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, RUNTIME, World};

async fn agent_of(client: &Client, owner: &str) -> String {
    client.agent(&json!({"owner_id": owner})).await
}

async fn begun(client: &Client, agent: &str) -> Answer {
    client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "go"})).await
}

fn id_in(answer: &Answer) -> String {
    answer.ok()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_owner_with_many_turns_leaves_room_to_others_and_of_what_is_refused_nothing_is_done() {
    let long = Repeat { count: 2000, every_ms: 50, bytes: 100, ..Default::default() };
    let mut world = World::start(Script::of([Step::Repeat(long)])).await;
    world.restart_with(|config| config.turns_max = 5).await;
    let client = world.client.clone();
    let (ann, bob) = (agent_of(&client, "ann").await, agent_of(&client, "bob").await);
    let mut hers = Vec::new();
    for _ in 0..4 {
        hers.push(id_in(&begun(&client, &ann).await));
    }
    let made = world.simulator.sessions().len();
    let refused = begun(&client, &ann).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str(), refused.header("retry-after")),
        (429, "owner_busy", "1")
    );
    let his = id_in(&begun(&client, &bob).await);
    let full = begun(&client, &bob).await;
    assert_eq!((full.status.as_u16(), full.code().as_str()), (503, "host_busy"));
    assert_eq!(world.simulator.sessions().len(), made + 1, "what was refused was made upstream");
    // One without a prompt begins nothing, and a prompt for it does.
    let idle = client.session(&bob, None).await;
    assert_eq!(client.prompt(&idle, "go").await.code(), "host_busy");
    assert_eq!(client.list(&idle).await, Vec::<Value>::new());
    // What runs takes more, and makes room when it is over.
    assert_eq!(client.prompt(&hers[0], "more").await.status, 204);
    let stopped = client.post(&format!("/session/{his}/abort"), &json!({})).await;
    assert_eq!(stopped.status, 204, "{}", stopped.text);
    client.turn(&his).await;
    assert_eq!(client.prompt(&idle, "go").await.status, 204);
    // A limit that was lowered ends nothing.
    world.restart_with(|config| config.turns_max = 1).await;
    for id in &hers {
        let mut stream = world.client.stream(id, "after=3", &[]).await;
        assert!(stream.take(2).await.iter().all(|event| event.name != "session.error"));
    }
    assert_eq!(world.client.prompt(&his, "go").await.code(), "host_busy");
}
