//! Signing in with a browser: a cookie in place of the key, for pages and API alike, and no help to any other site.

use http::Method;
use lap_simulator::Script;
use serde_json::json;

use crate::harness::{Answer, Client, MASTER_KEY, World};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Requests of a browser that may have signed in.
struct Browser {
    client: Client,
    cookie: Option<String>,
}

impl Browser {
    fn new(world: &World) -> Self {
        Self { client: world.client.with_key(None), cookie: None }
    }

    fn of(world: &World, cookie: &str) -> Self {
        Self { cookie: Some(cookie.to_owned()), ..Self::new(world) }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Answer {
        let mut all = headers.to_vec();
        all.extend(self.cookie.as_deref().map(|cookie| ("cookie", cookie)));
        self.client.send(method, path, &all, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// What a page of the host itself makes the browser send.
    async fn post(&self, path: &str, body: &str) -> Answer {
        let origin = ("origin", self.client.base.as_str());
        self.send(Method::POST, path, &[origin], Some(body.to_owned())).await
    }

    async fn form(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![FORM];
        all.extend(headers);
        all.extend(self.cookie.as_deref().map(|cookie| ("cookie", cookie)));
        let request = self.client.request(Method::POST, path, &all, None).body(form.to_owned());
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    async fn sign_in(&mut self, key: &str) -> Answer {
        let base = self.client.base.clone();
        let answer =
            self.form("/console/sign-in", &format!("key={key}&next=/console/keys"), &[("origin", &base)]).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        answer
    }
}

async fn signed_in(world: &World, key: &str) -> Browser {
    let mut browser = Browser::new(world);
    assert_eq!(browser.sign_in(key).await.status, 303);
    browser
}

#[tokio::test]
async fn a_key_is_shown_once_and_a_cookie_opens_pages_and_api_after_that() {
    let world = World::empty(Script::default()).await;
    let mut browser = Browser::new(&world);
    let away = browser.get("/console?x=1").await;
    assert_eq!((away.status.as_u16(), away.header("location")), (303, "/console/sign-in?next=%2Fconsole%3Fx%3D1"));
    assert_eq!(browser.get("/api/me").await.status, 401);
    let answer = browser.sign_in(MASTER_KEY).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console/keys"));
    let cookie = answer.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    assert_eq!(pair.len(), "lap_session=".len() + 64);
    assert!(!cookie.contains(MASTER_KEY));
    assert_eq!(browser.get("/console").await.status, 200);
    assert_eq!(browser.get("/api/me").await.ok()["name"], "master");
    let agent = json!({"name": "a", "owner_id": "local-user"}).to_string();
    assert_eq!(browser.post("/api/agents", &agent).await.status, 201);
    let as_key = world.client.with_key(pair.strip_prefix("lap_session="));
    assert_eq!(as_key.get("/api/me").await.status, 401, "what a browser shows is no key");
}

#[tokio::test]
async fn a_wrong_key_gets_the_form_again_and_no_cookie() {
    let world = World::empty(Script::default()).await;
    let mut browser = Browser::new(&world);
    let answer = browser.sign_in("sk-wrong").await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("no such key") && answer.text.contains("value=\"/console/keys\""), "{}", answer.text);
    assert!(!answer.text.contains("sk-wrong") && answer.headers.get("set-cookie").is_none());
    let base = world.client.base.clone();
    let elsewhere = format!("key={MASTER_KEY}&next=//evil.example");
    let answer = browser.form("/console/sign-in", &elsewhere, &[("origin", &base)]).await;
    assert_eq!(answer.header("location"), "/console");
    let large = format!("key={}", "k".repeat(9000));
    assert_eq!(browser.form("/console/sign-in", &large, &[("origin", &base)]).await.status, 413);
}

#[tokio::test]
async fn behind_a_proxy_that_encrypts_the_cookie_stays_encrypted() {
    let world = World::empty(Script::default()).await;
    let browser = Browser::new(&world);
    let headers = [("x-forwarded-proto", "https"), ("host", "localhost"), ("origin", "https://localhost")];
    let answer = browser.form("/console/sign-in", &format!("key={MASTER_KEY}"), &headers).await;
    assert!(answer.header("set-cookie").ends_with("; Secure"), "{}", answer.header("set-cookie"));
}

#[tokio::test]
async fn no_other_site_can_use_the_cookie() {
    let world = World::empty(Script::default()).await;
    let browser = signed_in(&world, MASTER_KEY).await;
    let agent = || Some(json!({"name": "a", "owner_id": "local-user"}).to_string());
    for headers in
        [&[][..], &[("origin", "http://evil.example")], &[("origin", "null")], &[("sec-fetch-site", "cross-site")]]
    {
        for (method, path) in
            [(Method::POST, "/api/agents"), (Method::DELETE, "/api/keys/x"), (Method::PUT, "/api/components/x")]
        {
            let answer = browser.send(method.clone(), path, headers, agent()).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.code()),
                (403, "origin_refused"),
                "{method} {path} {headers:?}"
            );
        }
        for path in ["/console/sign-in", "/console/sign-out"] {
            assert_eq!(
                browser.form(path, &format!("key={MASTER_KEY}"), headers).await.status,
                403,
                "{path} {headers:?}"
            );
        }
    }
    let read = browser.send(Method::GET, "/api/me", &[("origin", "http://evil.example")], None).await;
    assert!(read.headers.get("access-control-allow-origin").is_none());
    for path in ["/api/me", "/console"] {
        let answer = browser.send(Method::GET, path, &[("host", "evil.example")], None).await;
        assert_eq!(answer.status, 421, "{path}");
    }
    let answer = browser.send(Method::GET, "/api/me", &[("host", "evil.example")], None).await;
    assert_eq!(answer.code(), "host_refused");
    let origin = [("host", "evil.example"), ("origin", "http://evil.example")];
    assert_eq!(browser.form("/console/sign-in", &format!("key={MASTER_KEY}"), &origin).await.status, 421);
    let named = world.client.send(Method::GET, "/api/me", &[("host", "evil.example")], None).await;
    assert_eq!(named.status, 200, "a key is nothing that a browser adds by itself");
    assert_eq!(world.client.get("/api/agents").await.ok()["agents"], json!([]));
}

#[tokio::test]
async fn the_operator_can_name_the_host() {
    let mut world = World::empty(Script::default()).await;
    world.restart_with(|config| config.console_hosts = vec!["lap.example".to_owned()]).await;
    let browser = signed_in(&world, MASTER_KEY).await;
    assert_eq!(browser.send(Method::GET, "/api/me", &[("host", "lap.example:444")], None).await.status, 200);
    assert_eq!(browser.send(Method::GET, "/api/me", &[("host", "other.example")], None).await.status, 421);
}

#[tokio::test]
async fn a_sign_in_outlives_a_restart_and_ends_with_its_key_or_by_signing_out() {
    let mut world = World::empty(Script::default()).await;
    let minted = world.client.post("/api/keys", &json!({"role": "reader"})).await.json();
    let (key, id) = (minted["key"].as_str().unwrap(), minted["id"].as_str().unwrap());
    let cookies = [MASTER_KEY, MASTER_KEY, key];
    let mut browsers = Vec::new();
    for key in cookies {
        browsers.push(signed_in(&world, key).await.cookie.unwrap());
    }
    world.restart().await;
    let seen = async |world: &World| {
        let mut seen = Vec::new();
        for cookie in &browsers {
            seen.push(Browser::of(world, cookie).get("/api/me").await.status.as_u16());
        }
        seen
    };
    assert_eq!(seen(&world).await, [200, 200, 200]);
    assert_eq!(Browser::of(&world, &browsers[2]).post("/api/agents", "{}").await.code(), "role_required");
    let out = Browser::of(&world, &browsers[0]).post("/console/sign-out", "").await;
    assert_eq!((out.status.as_u16(), out.header("location")), (303, "/console/sign-in"));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(seen(&world).await, [401, 200, 200]);
    assert_eq!(world.client.delete(&format!("/api/keys/{id}")).await.status, 204);
    assert_eq!(seen(&world).await, [401, 200, 401]);
    world.restart_with(|config| config.master_key = given("sk-another")).await;
    assert_eq!(seen(&world).await, [401, 401, 401]);
    world.restart().await;
    assert_eq!(seen(&world).await, [401, 401, 401], "an old master key brings none of them back");
}

fn given(key: &str) -> lap::config::MasterKeySource {
    lap::config::MasterKeySource::Given(key.to_owned().into())
}
