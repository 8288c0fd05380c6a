//! Bodies that are too large, too deep, or without an end.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Front,
    process::{MIB, resident_bytes},
    wire::{Answer, answers, exchange},
};
use crate::harness::MASTER_KEY;

const WAIT: Duration = Duration::from_secs(20);

/// What a client with this key hears that sends one piece until it is cut off, and how many bytes it got rid of.
async fn pours(address: &str, head: &str, piece: &[u8]) -> (Answer, usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.split();
    let mut heard = Vec::new();
    let mut poured = 0;
    let speak = async {
        while to.write_all(piece).await.is_ok() {
            poured += piece.len();
        }
    };
    let listen = async { while from.read_buf(&mut heard).await.is_ok_and(|bytes| bytes > 0) {} };
    let cut = async { tokio::join!(speak, listen) };
    assert!(timeout(WAIT, cut).await.is_ok(), "an endless body was not cut off");
    let mut answers = answers(&heard);
    assert_eq!(answers.len(), 1, "{answers:?}");
    (answers.remove(0), poured)
}

fn head(key: &str, length: &str) -> String {
    format!("POST /api/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n{length}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_refused_and_costs_nothing() {
    let front = Front::start().await;
    let declared = "content-length: 10737418240";
    let chunked = "transfer-encoding: chunked";
    let chunk = |bytes: usize| [format!("{bytes:x}\r\n").as_bytes(), &vec![b' '; bytes], b"\r\n"].concat();
    let (large, small) = (chunk(64 * 1024), chunk(1).repeat(4096));
    let plain = vec![b' '; 64 * 1024];
    let each = async |pieces: &[(&str, &str, &[u8], u16, &str)]| {
        for &(key, length, piece, status, code) in pieces {
            let (answer, poured) = pours(front.address(), &head(key, length), piece).await;
            assert_eq!((answer.status, &*answer.code()), (status, code), "{length}");
            // Six bytes on the wire for each of the small chunks, and what the kernels on both sides take.
            assert!(poured < 24 << 20, "{length}: the host took {poured} bytes");
        }
    };
    let large = [
        (MASTER_KEY, declared, &*plain, 413, "body_too_large"),
        (MASTER_KEY, chunked, &*large, 413, "body_too_large"),
        ("sk-nobody", declared, &*plain, 401, "unauthorized"),
        ("sk-nobody", chunked, &*large, 401, "unauthorized"),
    ];
    // The first ones make the allocator's arenas.
    each(&large).await;
    let before = resident_bytes(front.program.pid());
    for _ in 0..5 {
        each(&large).await;
    }
    each(&[(MASTER_KEY, chunked, &*small, 413, "body_too_large")]).await;
    let grown = resident_bytes(front.program.pid()).saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes more");
    front.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_deep_is_refused_on_every_route_that_reads_one() {
    let front = Front::start().await;
    let deep = |levels: usize| format!("{{\"name\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let bodies = [deep(65), deep(100_000), "[".repeat(1 << 20), "{\"a\":".repeat(150_000)];
    for route in lap::http::routes() {
        let reads = matches!(route.method.as_str(), "POST" | "PUT" | "PATCH");
        let bare = ["/pause", "/resume", "/interrupt", "/abort", "/archive", "/probe", "/kill"]
            .iter()
            .any(|end| route.path.ends_with(end));
        // A component is bytes, whatever they mean.
        let is_json = route.path != "/api/components/{digest}";
        // Forms are bytes, too. What passes to the upstream is not read here.
        let is_json = is_json && route.speaks != lap::http::Speaks::Browser;
        if !reads || bare || !is_json || route.elsewhere {
            continue;
        }
        let path = route.path.replace("{id}", "claude_managed_agents");
        for body in &bodies {
            let request = format!(
                "{} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\nconnection: close\r\n\
                 anthropic-version: 2026-10-21\r\nanthropic-beta: managed-agents-2026-04-01\r\ncontent-length: {}\r\n\r\n{body}",
                route.method,
                body.len()
            );
            let (answers, _) = exchange(front.address(), request.as_bytes(), WAIT).await;
            let found: Vec<_> = answers.iter().map(|answer| (answer.status, answer.code())).collect();
            assert_eq!(found, [(400, "invalid_request".to_owned())], "{} {path}", route.method);
        }
    }
    front.is_unharmed().await;
}
