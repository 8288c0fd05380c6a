//! Keys that end while the body of their request is on its way: what comes behind that is not carried out, on any route.

use http::Method;
use lap::http::{Access, RouteInfo, Speaks, routes};
use lap_simulator::Script;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Client, RUNTIME, World};

/// How a key ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    /// The browser that had signed in with it signs out.
    SignedOut,
}

/// A request whose head was read, and whose handler waits for the body.
struct Late {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Late {
    /// Nothing where the handler wants no body: it has answered.
    async fn begin(base: &str, head: &str, body: &str) -> Option<Self> {
        let address = base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The host says so once somebody reads the body.
        let head = format!("{head}host: {address}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut heard).await.unwrap() == 0 {
                return None;
            }
        }
        let mut late = Self { stream, heard };
        if !late.heard.starts_with(b"HTTP/1.1 100") {
            return None;
        }
        late.heard.clear();
        late.stream.write_all(&body.as_bytes()[..1]).await.unwrap();
        Some(late)
    }

    /// Sends the rest, and returns the status of the answer and what it says.
    async fn finish(mut self, body: &str) -> (u16, String) {
        // The host may have closed the connection by then.
        drop(self.stream.write_all(&body.as_bytes()[1..]).await);
        drop(self.stream.read_to_end(&mut self.heard).await);
        let text = String::from_utf8_lossy(&self.heard).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer: {text:?}")), text)
    }
}

/// Everything that a request could have changed.
async fn everything(world: &World) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["/api/agents", "/api/keys", "/api/agent-runtimes", "/session"] {
        let answer = world.client.get(path).await;
        let mut value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        for key in value.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
            key.as_object_mut().unwrap().remove("last_used_at");
        }
        all.push(value);
    }
    all
}

/// What each route takes, and where; a body that it takes as far as one can be made up here.
fn wish(route: &RouteInfo, agent: &str, session: &str) -> (String, String) {
    let id = match route.path {
        path if path.contains("/agents/") => agent,
        path if path.contains("/session") => session,
        path if path.contains("/agent-runtimes/") => RUNTIME,
        _ => "x",
    };
    let path = route.path.replace("{id}", id).replace(['{', '}'], "");
    let body = match route.path {
        "/api/agents" => json!({"name": "late", "owner_id": "local-user", "runtime": RUNTIME, "model": "m"}),
        "/session" => json!({"runtime": RUNTIME, "agent_id": agent, "prompt": "late"}),
        "/session/{id}/prompt_async" | "/session/{id}/message" => json!({"parts": [{"type": "text", "text": "late"}]}),
        "/v1/sessions/{id}/events" => json!({"events": [{"type": "user.interrupt"}]}),
        "/api/agent-runtimes/{id}/credentials" => json!({"api_key": "sk-late-0123456789"}),
        _ => json!({"name": "late"}),
    };
    (path, format!("{body}          "))
}

/// A client of a new key, what it shows, and how it is made to show that no more.
async fn client(world: &World, end: End) -> (String, impl AsyncFnOnce()) {
    let minted = world.client.post("/api/keys", &json!({"role": "admin"})).await.json();
    let (key, id) = (minted["key"].as_str().unwrap().to_owned(), minted["id"].as_str().unwrap().to_owned());
    let browser = world.client.with_key(None);
    let cookie = match end {
        End::Revoked => None,
        End::SignedOut => Some(signed_in(&browser, &key).await),
    };
    let shows = match &cookie {
        None => format!("authorization: Bearer {key}\r\n"),
        Some(cookie) => format!("cookie: {cookie}\r\norigin: {}\r\n", world.client.base),
    };
    let master = world.client.clone();
    let ends = async move || match cookie {
        None => assert_eq!(master.delete(&format!("/api/keys/{id}")).await.status, 204),
        Some(cookie) => {
            let headers = [("cookie", &*cookie), ("origin", &*master.base)];
            let out = browser.send(Method::POST, "/console/sign-out", &headers, None).await;
            assert!(out.status.is_redirection(), "{} {}", out.status, out.text);
            assert_eq!(master.delete(&format!("/api/keys/{id}")).await.status, 204);
        }
    };
    (shows, ends)
}

async fn signed_in(browser: &Client, key: &str) -> String {
    let form = format!("key={key}");
    let headers = [("origin", &*browser.base), ("content-type", "application/x-www-form-urlencoded")];
    let answer = browser.send(Method::POST, "/console/sign-in", &headers, Some(form)).await;
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_body_that_comes_behind_the_end_of_its_key_is_carried_out_on_no_route() {
    let world = World::start(Script::default()).await;
    let (agent, session) = (world.agent().await, world.session("go").await);
    world.client.turn(&session).await;
    for end in [End::Revoked, End::SignedOut] {
        let mut bodies = 0;
        for route in routes().iter().filter(|route| matches!(route.access, Access::Key(_))) {
            if ![Method::POST, Method::PUT, Method::PATCH].contains(&route.method) {
                continue;
            }
            let (path, body) = wish(route, &agent, &session);
            let mut more = vec![String::new()];
            if !route.elsewhere && route.method == Method::POST {
                more.push(format!("idempotency-key: late-{bodies}\r\n"));
            }
            for mut more in more {
                if let Speaks::Anthropic { betas } = route.speaks {
                    more.push_str("anthropic-version: 2023-06-01\r\n");
                    more.extend(betas.first().map(|beta| format!("anthropic-beta: {beta}\r\n")));
                }
                let (shows, ends) = client(&world, end).await;
                let head = format!("{} {path} HTTP/1.1\r\nconnection: close\r\n{shows}{more}", route.method);
                let before = everything(&world).await;
                let late = Late::begin(&world.client.base, &head, &body).await;
                ends().await;
                let Some(late) = late else { continue };
                drop(world.simulator.recorder().take_requests());
                let (status, text) = late.finish(&body).await;
                assert_eq!(status, 401, "{} {path} {end:?}: {text}", route.method);
                let after = everything(&world).await;
                let keys = |all: &[Value]| all[1]["keys"].as_array().map(Vec::len);
                assert_eq!(keys(&after), keys(&before).map(|count| count - 1), "{path}: a key was made");
                assert_eq!((&after[0], &after[2..]), (&before[0], &before[2..]), "{} {path} {end:?}", route.method);
                // What is passed on while it comes has begun to be.
                let sent = world.simulator.recorder().take_requests();
                assert!(route.elsewhere || sent.is_empty(), "{} {path} {end:?} went to the upstream", route.method);
                bodies += 1;
            }
        }
        assert!(bodies >= 20, "{end:?}: {bodies} bodies");
    }
}
