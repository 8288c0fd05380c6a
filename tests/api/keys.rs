//! Clients' keys over HTTP: made, listed, used within their role, and revoked under whoever uses them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_simulator::Script;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::{Client, World};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A new key, and a client that shows it.
async fn minted(world: &World, wish: &Value) -> (Value, Client) {
    let answer = world.client.post("/api/keys", wish).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let item = answer.json();
    let client = world.client.with_key(item["key"].as_str());
    (item, client)
}

#[tokio::test]
async fn a_key_is_shown_once_and_listed_without_its_text_the_last_made_first() {
    let mut world = World::empty(Script::default()).await;
    assert_eq!(world.client.get("/api/keys").await.ok(), json!({"keys": []}));
    let before = now();
    let (first, client) = minted(&world, &json!({})).await;
    let key = first["key"].as_str().unwrap();
    assert!(key.starts_with("sk-") && key.len() == 67 && key[3..].bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
    assert!(first["id"].as_str().unwrap().starts_with("key_") && first["created_at"].as_u64().unwrap() >= before);
    let expires = now() + 3600;
    let wish = json!({"label": "ci", "role": "reader", "owner_id": "ann", "expires_at": expires});
    let (second, _) = minted(&world, &wish).await;
    let me = client.get("/api/me").await.ok();
    assert_eq!(me, json!({"name": first["id"], "label": null, "role": "member", "owner_id": "local-user"}));
    let shown = |item: &Value, used: bool| {
        let mut item = item.clone();
        item.as_object_mut().unwrap().remove("key");
        if used {
            item["last_used_at"] = json!(now());
        }
        item
    };
    world.restart().await;
    let listed = world.client.get("/api/keys").await;
    assert!(!listed.text.contains(key) && !listed.text.contains(&key[3..]));
    let mut listed = listed.ok()["keys"].as_array().unwrap().clone();
    let used = listed[1]["last_used_at"].take().as_u64().unwrap();
    assert!(used >= before && used <= now(), "when it was used is known after an orderly restart");
    assert_eq!(listed, [shown(&second, false), shown(&first, false)]);
    assert_eq!(listed[0]["expires_at"], expires);
    let master = json!({"name": "master", "label": null, "role": "admin", "owner_id": null});
    assert_eq!(world.client.get("/api/me").await.ok(), master);
}

#[tokio::test]
async fn a_key_opens_what_is_for_its_role_and_is_told_which_one_it_lacks() {
    let world = World::empty(Script::default()).await;
    let (_, reader) = minted(&world, &json!({"role": "reader"})).await;
    let (_, member) = minted(&world, &json!({})).await;
    let (_, admin) = minted(&world, &json!({"role": "admin"})).await;
    let agent = json!({"name": "a", "owner_id": "local-user"});
    assert_eq!(reader.get("/api/agents").await.status, 200);
    let refused = reader.post("/api/agents", &agent).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (403, "role_required"));
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`member`") && message.contains("`reader`"), "{message}");
    assert_eq!(member.post("/api/agents", &agent).await.status, 201);
    for client in [&reader, &member] {
        assert_eq!(client.get("/api/keys").await.code(), "role_required");
        assert_eq!(client.post("/api/keys", &json!({"role": "admin"})).await.code(), "role_required");
        assert_eq!(client.get("/api/backup").await.code(), "role_required");
    }
    assert_eq!(admin.get("/api/keys").await.ok()["keys"].as_array().unwrap().len(), 3);
    assert_eq!(admin.post("/api/keys", &json!({"role": "admin"})).await.status, 201);
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_and_makes_none() {
    let world = World::empty(Script::default()).await;
    for wish in [
        json!({"role": "owner"}),
        json!({"role": "admin", "owner_id": "ann"}),
        json!({"expires_at": now() - 1}),
        json!({"owner_id": ""}),
        json!({"budget": 5}),
    ] {
        let answer = world.client.post("/api/keys", &wish).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (400, "invalid_request"), "{wish}");
    }
    assert_eq!(world.client.get("/api/keys").await.ok(), json!({"keys": []}));
    for id in ["key_0", "key_00000000000000000000000000000001", "x"] {
        let answer = world.client.delete(&format!("/api/keys/{id}")).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "key_not_found"), "{id}");
    }
}

#[tokio::test]
async fn a_revoked_key_ends_its_open_streams_and_nobody_else_s() {
    let world = World::start(Script::default()).await;
    let session = world.session("hello").await;
    world.client.turn(&session).await;
    let (item, client) = minted(&world, &json!({})).await;
    let (_, other) = minted(&world, &json!({})).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = client.stream(&session, "", &[]).await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    let mut stays = other.stream(&session, "", &[]).await;
    let before = world.client.list(&session).await.len();
    let revoked = world.client.delete(&format!("/api/keys/{}", item["id"].as_str().unwrap())).await;
    let at = Instant::now();
    assert_eq!(revoked.status, 204);
    assert_eq!(client.get("/session").await.status, 401);
    world.client.prompt(&session, "again").await;
    for stream in &mut streams {
        let seen = timeout(Duration::from_secs(1).saturating_sub(at.elapsed()), stream.broken_off()).await;
        let seen = seen.expect("a stream of a revoked key is open after a second");
        assert!(seen < before as u64 + 1, "event {seen} came after the end of its reader's key");
    }
    world.client.turn(&session).await;
    let all = world.client.list(&session).await.len();
    assert!(all > before);
    assert_eq!(stays.take(all).await.len(), all);
}

#[tokio::test]
async fn a_key_that_expires_ends_its_open_streams() {
    let world = World::start(Script::default()).await;
    let session = world.session("hello").await;
    world.client.turn(&session).await;
    let (_, client) = minted(&world, &json!({"expires_at": now() + 2})).await;
    let mut stream = client.stream(&session, "", &[]).await;
    timeout(Duration::from_secs(4), stream.broken_off()).await.expect("the stream outlives its key");
    assert_eq!(client.get("/session").await.status, 401);
    let keys = world.client.get("/api/keys").await.ok();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1, "an expired key stays on the list until it is revoked");
}

#[tokio::test]
async fn a_repeated_request_makes_one_key_whose_text_comes_once() {
    let world = World::empty(Script::default()).await;
    let mint = || async {
        let body = Some(json!({"label": "once"}).to_string());
        world.client.send(http::Method::POST, "/api/keys", &[("idempotency-key", "k")], body).await
    };
    let (first, again) = (mint().await, mint().await);
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert!(first.json()["key"].is_string() && again.json().get("key").is_none());
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(world.client.get("/api/keys").await.ok()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_key_of_one_idempotency_key_is_not_another_s() {
    let world = World::empty(Script::default()).await;
    let (_, ann) = minted(&world, &json!({"owner_id": "ann"})).await;
    let (_, bob) = minted(&world, &json!({"owner_id": "bob"})).await;
    let mut ids = Vec::new();
    for (client, owner) in [(&ann, "ann"), (&bob, "bob"), (&world.client, "ann")] {
        let body = Some(json!({"name": "a", "owner_id": owner}).to_string());
        let answer = client.send(http::Method::POST, "/api/agents", &[("idempotency-key", "same")], body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        ids.push(answer.json()["id"].to_string());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}
