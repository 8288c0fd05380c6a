//! The console's pages as a browser without scripts gets them: who sees which, with what headers, and that they show what
//! the API tells.

use http::{Method, StatusCode};
use lap_simulator::Script;
use serde_json::json;

use crate::harness::{RUNTIME, UPSTREAM_KEY, World};

/// A page of a host, which must be one.
async fn page(world: &World, path: &str) -> String {
    let answer = world.client.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
    assert_eq!(
        answer.header("content-security-policy"),
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "{path}"
    );
    assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
    answer.text
}

const PAGES: [&str; 9] = [
    "/console",
    "/console/agents",
    "/console/agents/new",
    "/console/keys",
    "/console/runtimes",
    "/console/runtimes/claude_managed_agents",
    "/console/sessions",
    "/console/settings/credentials",
    "/console/sessions?status=running&agent=&runtime=&q=",
];

#[tokio::test]
async fn every_page_keeps_to_itself_and_has_nothing_inline() {
    let world = World::empty(Script::default()).await;
    for path in PAGES {
        let html = page(&world, path).await;
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{path}");
        assert_eq!(html.matches("<h1").count(), 1, "{path}");
        assert_eq!(html.matches("<main").count(), 1, "{path}");
        for inline in [" style=", "<style", " onclick=", "<script>", "javascript:"] {
            assert!(!html.contains(inline), "{path} has {inline}");
        }
        let scripts = html.matches("<script").count();
        assert_eq!(html.matches("<script type=\"module\" src=\"/console/assets/").count(), scripts, "{path}");
    }
}

#[tokio::test]
async fn who_has_not_signed_in_is_led_there_and_back() {
    let world = World::empty(Script::default()).await;
    let browser = world.client.with_key(None);
    for (path, next) in [
        ("/console", "%2Fconsole"),
        ("/console/sessions?status=running&q=a%26b", "%2Fconsole%2Fsessions%3Fstatus%3Drunning%26q%3Da%2526b"),
        ("/console/there/is/none", "%2Fconsole%2Fthere%2Fis%2Fnone"),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.header("location"), format!("/console/sign-in?next={next}"));
        assert!(answer.text.is_empty(), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn files_are_kept_for_ever_under_the_name_that_pages_give_them() {
    let world = World::empty(Script::default()).await;
    let html = page(&world, "/console/sessions").await;
    let browser = world.client.with_key(None);
    let files: Vec<&str> = html.split('"').filter(|text| text.starts_with("/console/assets/")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        let answer = browser.get(file).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        // What a module imports lies beside it.
        for import in answer.text.lines().filter(|line| line.starts_with("import ")) {
            let name = import.split('"').nth(1).unwrap().trim_start_matches("./");
            let beside = format!("{}/{name}", file.rsplit_once('/').unwrap().0);
            assert_eq!(browser.get(&beside).await.status, StatusCode::OK, "{file} imports {name}");
        }
    }
    let (folder, name) = files[0].rsplit_once('/').unwrap();
    for path in [format!("/console/assets/0000000000000000/{name}"), format!("{folder}/..%2fmod.rs")] {
        assert_eq!(browser.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_page_too() {
    let world = World::empty(Script::default()).await;
    for (path, code) in [
        ("/console/nowhere", "not_found"),
        ("/console/agents/agent_0", "agent_not_found"),
        ("/console/runtimes/%3Cb%3E", "runtime_not_found"),
    ] {
        let answer = world.client.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text.contains(code) && answer.text.contains("<h1>Not Found</h1>"), "{path}: {}", answer.text);
        assert!(!answer.text.contains("<b>"), "{}", answer.text);
        assert!(answer.header("content-security-policy").starts_with("default-src 'self'"));
    }
    let answer = world.client.get("/console/sessions?after=x").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert!(answer.text.contains("cursor_invalid"), "{}", answer.text);
}

#[tokio::test]
async fn a_page_takes_no_writes() {
    let world = World::empty(Script::default()).await;
    for path in PAGES {
        let answer = world.client.send(Method::POST, path, &[], Some("api_key=x".to_owned())).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn pages_show_what_the_api_tells_and_no_credential() {
    let world = World::start(Script::default()).await;
    let agent = world.client.agent(&json!({"name": "<script>alert(1)</script>"})).await;
    let session = world.client.session(&agent, Some("Hello")).await;
    world.client.turn(&session).await;

    let html = page(&world, "/console/agents").await;
    assert!(html.contains(&format!("/console/agents/{agent}")) && html.contains("&lt;script&gt;alert(1)"), "{html}");
    let html = page(&world, &format!("/console/agents/{agent}")).await;
    assert!(html.contains("You are a helpful assistant.") && html.contains("claude-opus-4-5"), "{html}");
    let html = page(&world, &format!("/console/sessions?agent={agent}")).await;
    assert!(html.contains(&format!("/console/sessions/{session}")) && html.contains(">Idle<"), "{html}");
    let html = page(&world, "/console/sessions?status=error").await;
    assert!(!html.contains(&session) && html.contains("No session is like that"), "{html}");
    let html = page(&world, &format!("/console/runtimes/{RUNTIME}")).await;
    assert!(html.contains("x-api-key") && html.contains("/v1/sessions"), "{html}");
    let html = page(&world, "/console/settings/credentials").await;
    assert!(html.contains("sk-ant-...KfXc") && html.contains(&world.simulator.base_url()), "{html}");
    for path in PAGES {
        let html = page(&world, path).await;
        assert!(!html.contains(UPSTREAM_KEY) && !html.contains("<script>alert"), "{path}");
    }
}

#[tokio::test]
async fn a_list_leads_to_its_next_page() {
    let world = World::start(Script::default()).await;
    let first = world.client.agent(&json!({})).await;
    for _ in 0..49 {
        world.client.agent(&json!({})).await;
    }
    let last = world.client.agent(&json!({})).await;
    let html = page(&world, "/console/agents").await;
    assert!(html.contains(&last) && !html.contains(&first), "the one that was made a moment ago is on the first page");
    let (_, rest) = html.split_once("/console/agents?after=").expect("there are more than a page has");
    let next = rest.split('"').next().unwrap();
    let html = page(&world, &format!("/console/agents?after={next}")).await;
    assert_eq!(html.matches("<th scope=\"row\"").count(), 1, "{html}");
    assert!(html.contains(&first), "{html}");
    assert!(html.contains("First page") && !html.contains("Next page"), "{html}");
}
