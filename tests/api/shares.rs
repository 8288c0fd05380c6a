//! How many turns may run: the host's bound, and what one owner has to leave to the others.

use lap::session::QueueLimit;
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

#[tokio::test]
async fn so_many_prompts_wait_for_a_session_as_the_operator_says_and_one_more_is_refused_and_comes_again() {
    let long = Repeat { count: 2000, every_ms: 50, bytes: 100, ..Default::default() };
    let mut world = World::start(Script::of([Step::Repeat(long)])).await;
    for (limit, size) in
        [(QueueLimit { prompts: 3, bytes: 1 << 20 }, 10), (QueueLimit { prompts: 9, bytes: 3000 }, 900)]
    {
        world.restart_with(|config| config.queue_limit = limit).await;
        let client = world.client.clone();
        let session = client.session(&agent_of(&client, "ann").await, Some("go")).await;
        let mut stream = client.stream(&session, "", &[]).await;
        while stream.next().await.unwrap().name != "session.status_running" {}
        let text = "x".repeat(size);
        for _ in 0..3 {
            assert_eq!(client.prompt(&session, &text).await.status, 204);
        }
        let refused = client.prompt(&session, &text).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "queue_full"));
        // Those that wait outlive a restart, as does the limit; what was refused left nothing.
        world.restart_with(|config| config.queue_limit = limit).await;
        let client = world.client.clone();
        assert_eq!(client.prompt(&session, &text).await.code(), "queue_full");
        let messages = client.get(&format!("/session/{session}/message")).await.ok();
        assert_eq!(messages.as_array().map(Vec::len), Some(4));
        assert_eq!(client.post(&format!("/session/{session}/abort"), &json!({})).await.status, 204);
        client.turn(&session).await;
        assert_eq!(client.prompt(&session, &text).await.status, 204);
    }
}
