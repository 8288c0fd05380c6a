//! Who may: every route of the table, with every kind of caller, before anything of the body is read.

use http::Method;
use lap::http::{Access, Speaks, routes};
use lap_simulator::Script;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{MASTER_KEY, World};

#[tokio::test]
async fn every_route_lets_in_who_may_and_nobody_else() {
    let world = World::empty(Script::default()).await;
    let strangers = [None, Some(""), Some("sk-wrong"), Some("sk-master-of-the-test"), Some("sk-master-of-the-tests0")];
    let long = "k".repeat(4096);
    for route in routes() {
        let path = route.path.replace("{id}", "x");
        for key in strangers.into_iter().chain([Some(long.as_str())]) {
            let answer = world.client.with_key(key).send(route.method.clone(), &path, &[], None).await;
            let sent_away =
                answer.headers.get("location").is_some_and(|to| to.as_bytes().starts_with(b"/console/sign-in?"));
            let refused = if route.speaks == Speaks::Browser { sent_away } else { answer.status == 401 };
            let may = route.access == Access::Anyone;
            assert_eq!(refused, !may, "{} {path} with {key:?}: {}", route.method, answer.status);
            if refused && !sent_away {
                assert_eq!(answer.json()["error"]["message"], "unauthorized");
            }
        }
        // The head is enough: a stream has no end.
        let answer = world.client.request(route.method.clone(), &path, &[], None).send().await.unwrap();
        assert_ne!(answer.status(), 401, "{} {path} with the key", route.method);
    }
}

#[tokio::test]
async fn the_key_is_taken_from_either_header() {
    let world = World::empty(Script::default()).await;
    let anonymous = world.client.with_key(None);
    let bearer = format!("bearer {MASTER_KEY}");
    for header in [("x-api-key", MASTER_KEY), ("authorization", bearer.as_str())] {
        let answer = anonymous.send(Method::GET, "/api/agents", &[header], None).await;
        assert_eq!(answer.status, 200, "{}", header.0);
    }
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read() {
    let world = World::empty(Script::default()).await;
    let address = world.client.base.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    // The body that is announced never comes.
    let head =
        "POST /api/agents HTTP/1.1\r\nhost: lap\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}
