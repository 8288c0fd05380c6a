//! Who may do what: every route of the table, asked by everybody that there is, against a table in this folder.
//!
//! `matrix.txt` has a row for each route, with the status that each principal gets. A route without a row fails, and so does a
//! row without a route. What belongs to somebody is asked for by its owner's keys and by another owner's, who must be told
//! what is told of something that does not exist, byte for byte.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use lap::http::{Access, RouteInfo, routes};
use lap_simulator::Script;
use serde_json::{Value, json};

use crate::harness::{ANTHROPIC, Client, RUNTIME, World};

const TABLE: &str = include_str!("matrix.txt");

/// Who asks, in the order of the table's columns.
const WHO: [&str; 8] = ["anonymous", "wrong", "revoked", "expired", "reader", "owner", "other", "admin"];

/// Everybody, and what is Ann's. The reader and the owner are hers, the other is Bob's.
struct Cast {
    world: World,
    clients: BTreeMap<&'static str, Client>,
}

/// What is Ann's.
struct Things {
    agent: String,
    session: String,
    environment: String,
}

impl Cast {
    async fn new() -> Self {
        let world = World::start(Script::default()).await;
        let mut clients = BTreeMap::new();
        clients.insert("anonymous", world.client.with_key(None));
        clients.insert("wrong", world.client.with_key(Some("sk-wrong")));
        clients.insert("admin", world.client.clone());
        let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2;
        for (who, wish) in [
            ("revoked", json!({"role": "admin"})),
            ("expired", json!({"role": "admin", "expires_at": soon})),
            ("reader", json!({"role": "reader", "owner_id": "ann"})),
            ("owner", json!({"owner_id": "ann"})),
            ("other", json!({"owner_id": "bob"})),
        ] {
            let item = world.client.post("/api/keys", &wish).await.json();
            let client = world.client.with_key(item["key"].as_str());
            assert_eq!(client.get("/api/me").await.status, 200, "{who}");
            if who == "revoked" {
                let path = format!("/api/keys/{}", item["id"].as_str().unwrap());
                assert_eq!(world.client.delete(&path).await.status, 204);
            }
            clients.insert(who, client);
        }
        while clients["expired"].get("/api/me").await.status != 401 {
            tokio::task::yield_now().await;
        }
        Self { world, clients }
    }

    async fn things(&self) -> Things {
        let ann = &self.clients["owner"];
        let agent = ann.agent(&json!({"owner_id": "ann"})).await;
        let session = ann.session(&agent, None).await;
        let body = Some(json!({"name": "e"}).to_string());
        let made = ann.send(Method::POST, "/v1/environments", &ANTHROPIC, body).await.ok();
        Things { agent, session, environment: made["id"].as_str().unwrap().to_owned() }
    }
}

/// The id that stands for `{id}` in a path: of something of Ann's, or of nothing.
fn id_for(path: &str, things: Option<&Things>) -> Option<String> {
    let zero = |prefix: &str| format!("{prefix}_{}1", "0".repeat(31));
    let pick =
        |id: fn(&Things) -> &String, prefix: &str| things.map_or_else(|| zero(prefix), |things| id(things).clone());
    let path = path.strip_prefix("/console").unwrap_or(path);
    if path.starts_with("/api/agents/") || path.starts_with("/v1/agents/") || path.starts_with("/agents/") {
        Some(pick(|things| &things.agent, "agent"))
    } else if path.starts_with("/session/") || path.starts_with("/v1/sessions/") || path.starts_with("/sessions/") {
        Some(pick(|things| &things.session, "ses"))
    } else if path.starts_with("/v1/environments/") && !path.contains("/work") {
        Some(pick(|things| &things.environment, "env"))
    } else {
        None
    }
}

fn filled(route: &RouteInfo, things: Option<&Things>) -> String {
    let id = id_for(route.path, things).unwrap_or_else(|| {
        let runtime = route.path.starts_with("/api/agent-runtimes/");
        if runtime { RUNTIME.to_owned() } else { "x_1".to_owned() }
    });
    let segments = route.path.split('/').map(|segment| match segment {
        "{id}" => id.clone(),
        segment if segment.starts_with('{') => "1".to_owned(),
        segment => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

fn name(route: &RouteInfo) -> String {
    format!("{} {}", route.method, route.path)
}

/// Status, headers and body of an answer; of a stream, which may not end, no body.
async fn ask(client: &Client, route: &RouteInfo, path: &str) -> (u16, HeaderMap, String) {
    let headers: &[_] = if path.starts_with("/v1/") { &ANTHROPIC } else { &[] };
    let body = (route.method != Method::GET).then(|| "{}".to_owned());
    let response = client.request(route.method.clone(), path, headers, body).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let stream = headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let text =
        if stream { String::new() } else { String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned() };
    (status, headers, text)
}

/// An answer without what differs from one request to the next.
fn face((status, mut headers, text): (u16, HeaderMap, String), id: &str) -> (u16, Vec<(String, String)>, String) {
    let request = headers.remove("request-id").unwrap();
    headers.remove("date");
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().replace(id, "ID")));
    (status, headers.collect(), text.replace(request.to_str().unwrap(), "REQUEST").replace(id, "ID"))
}

#[tokio::test]
async fn every_route_answers_everybody_as_the_table_says() {
    let cast = Cast::new().await;
    let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (route, cells) = line.split_once('|').unwrap();
        expected.insert(route.trim(), cells.split_whitespace().collect());
    }
    let mut wrong = Vec::new();
    let mut things = cast.things().await;
    for route in routes() {
        let mut row = Vec::new();
        for who in WHO {
            let (status, ..) = ask(&cast.clients[who], route, &filled(route, Some(&things))).await;
            row.push(status.to_string());
            if route.path.ends_with("/credentials") && route.path.starts_with("/api/") && who == "admin" {
                cast.world.client.connect(&cast.world.simulator.base_url()).await;
            }
            // What somebody was let do may have been the end of it.
            if status < 300 && route.method != Method::GET && id_for(route.path, Some(&things)).is_some() {
                things = cast.things().await;
            }
        }
        if expected.remove(&*name(route)) != Some(row.iter().map(String::as_str).collect()) {
            wrong.push(format!("{} | {}", name(route), row.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} routes answer otherwise than the table says:\n{}", wrong.len(), wrong.join("\n"));
    assert!(expected.is_empty(), "these rows have no route: {:?}", expected.keys());
}

#[tokio::test]
async fn the_table_lets_nobody_in_who_has_no_key_and_nobody_write_who_may_read() {
    for route in routes() {
        let line = TABLE.lines().find(|line| line.split('|').next().unwrap().trim() == name(route));
        let cells: Vec<&str> = line.unwrap().split_once('|').unwrap().1.split_whitespace().collect();
        let cell = |who| cells[WHO.iter().position(|known| *known == who).unwrap()];
        let Access::Key(role) = route.access else { continue };
        let closed = if route.path.starts_with("/console") { "303" } else { "401" };
        for who in ["anonymous", "wrong", "revoked", "expired"] {
            assert_eq!(cell(who), closed, "{} by {who}", name(route));
        }
        let refused = |who| cell(who) == "403";
        assert_eq!(refused("reader"), role > lap::access::Role::Reader, "{}", name(route));
        assert_eq!(refused("owner"), role > lap::access::Role::Member, "{}", name(route));
        assert_eq!(refused("owner"), refused("other"), "{}", name(route));
        assert!(!refused("admin"), "{}", name(route));
        let writes =
            route.method != Method::GET && !route.path.starts_with("/v1/de") && !route.path.starts_with("/v1/dr");
        let refuses = route.path.contains("/work");
        assert!(!writes || refuses || refused("reader"), "{} is a write and a reader may", name(route));
    }
}

#[tokio::test]
async fn what_is_another_s_answers_byte_for_byte_as_what_does_not_exist() {
    let cast = Cast::new().await;
    let things = cast.things().await;
    let mut asked = 0;
    for route in routes() {
        let (Some(theirs), Some(nobodys)) = (id_for(route.path, Some(&things)), id_for(route.path, None)) else {
            continue;
        };
        if !route.path.contains("{id}") {
            continue;
        }
        let bob = &cast.clients["other"];
        let of_ann = face(ask(bob, route, &filled(route, Some(&things))).await, &theirs);
        let of_nobody = face(ask(bob, route, &filled(route, None)).await, &nobodys);
        assert_eq!(of_ann, of_nobody, "{}", name(route));
        asked += 1;
    }
    assert!(asked > 35, "{asked} routes of things that have owners");
    let ann = &cast.clients["owner"];
    for path in [format!("/api/agents/{}", things.agent), format!("/session/{}", things.session)] {
        assert_eq!(ann.get(&path).await.status, 200, "it is still there: {path}");
    }
    let environment = format!("/v1/environments/{}", things.environment);
    assert_eq!(ann.send(Method::GET, &environment, &ANTHROPIC, None).await.ok()["archived_at"], Value::Null);
}
