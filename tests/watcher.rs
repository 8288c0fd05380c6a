//! The page of a session as a browser without scripts gets it: its log in parts, as a conversation and event by event.

use http::StatusCode;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::json;

use crate::harness::{RUNTIME, World};

async fn shown(world: &World, path: &str) -> String {
    let answer = world.client.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    assert!(answer.header("content-security-policy").starts_with("default-src 'self';"), "{path}");
    for inline in [" style=", "<style", " onclick=", "<script>", "javascript:"] {
        assert!(!answer.text.contains(inline), "{path} has {inline}");
    }
    answer.text
}

/// The numbers of the events that a page shows one by one.
fn seqs(html: &str) -> Vec<u64> {
    html.split("id=\"seq-").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_session_s_page_has_all_of_it_and_nothing_of_it_is_markup() {
    let hostile = "<img src=x onerror=alert(1)>";
    let script = Script::of([
        Step::message(hostile),
        Step::tool_use("bash", json!({"command": hostile})),
        Step::ToolResult { text: hostile.to_owned(), is_error: true },
    ]);
    let world = World::start(script).await;
    let agent = world.client.agent(&json!({"name": hostile})).await;
    let made = json!({"runtime": RUNTIME, "agent_id": agent, "title": hostile, "prompt": hostile});
    let session = world.client.post("/session", &made).await.ok();
    let id = session["id"].as_str().unwrap();
    let events = world.client.turn(id).await;

    let html = shown(&world, &format!("/console/sessions/{id}")).await;
    assert!(!html.contains("<img"), "{html}");
    for part in [
        RUNTIME,
        session["component"].as_str().unwrap(),
        "data-status=\"idle\"",
        ">failed<",
        "end turn",
        &format!("data-head=\"{}\"", events.len()),
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    let html = shown(&world, &format!("/console/sessions/{id}?view=events")).await;
    assert!(!html.contains("<img"), "{html}");
    assert_eq!(seqs(&html), (1..=events.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_log_is_shown_from_its_end_and_leads_to_each_of_its_parts() {
    let world = World::start(Script::of([Step::Repeat(Repeat { count: 450, ..Repeat::default() })])).await;
    let agent = world.client.agent(&json!({})).await;
    let id = world.client.session(&agent, Some("Hello")).await;
    let last = world.client.turn(&id).await.len() as u64;
    let path = format!("/console/sessions/{id}?view=events");

    let mut html = shown(&world, &path).await;
    let mut found = seqs(&html);
    assert_eq!(found, (last - 199..=last).collect::<Vec<_>>(), "the latest");
    while let Some((_, after)) = html.split_once(">First</a> <a href=\"?view=events&amp;after=") {
        html = shown(&world, &format!("{path}&after={}", after.split('"').next().unwrap())).await;
        found = seqs(&html).into_iter().take_while(|seq| *seq < found[0]).chain(found.iter().copied()).collect();
    }
    assert_eq!(found, (1..=last).collect::<Vec<_>>(), "by its links, all of it");
    let around = seqs(&shown(&world, &format!("{path}&at=123")).await);
    assert!(around.contains(&123) && around.len() == 200, "{around:?}");
}

#[tokio::test]
async fn a_page_of_no_session_says_so() {
    let world = World::empty(Script::default()).await;
    for path in [
        "/console/sessions/ses_0",
        "/console/sessions/ses_01a2167193e4765d9e1e57ecb736fc75",
        "/console/sessions/%3Cb%3E",
    ] {
        let answer = world.client.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text.contains("session_not_found") && !answer.text.contains("<b>"), "{}", answer.text);
    }
    let bad = world.client.get("/console/sessions/ses_0?view=secret").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}
