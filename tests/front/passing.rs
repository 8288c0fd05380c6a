//! Files that pass through the host: what they cost it.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::Method;
use lap_simulator::Script;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket},
};

use super::{
    Front,
    process::{MIB, resident_bytes},
};
use crate::harness::simulator;

const FILE_BYTES: usize = 20 << 20;

/// What one file at a time may cost, with what the allocator keeps.
const GROWTH_MAX: u64 = 8 * MIB;

const VERSION: (&str, &str) = ("anthropic-version", "2026-10-21");

/// The bytes of a file at a place, so that none of it need be kept.
fn byte(at: usize) -> u8 {
    at.wrapping_mul(2_654_435_761).to_le_bytes()[2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_passes_both_ways_in_little_memory() {
    let simulator = simulator(Script::default());
    let front = Front::start().await;
    let client = &front.program.client;
    client.connect(&simulator.base_url()).await;
    client.request(Method::GET, "/v1/files", &[VERSION], None).send().await.unwrap().error_for_status().unwrap();
    let pid = front.program.pid();
    let before = resident_bytes(pid);
    let mut most = before;

    let head = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n".as_bytes().to_vec();
    let pieces = (0..FILE_BYTES).step_by(1 << 16).map(|from| (from..from + (1 << 16)).map(byte).collect());
    let tail = b"\r\n--b--\r\n".to_vec();
    let pieces = stream::iter(std::iter::once(head).chain(pieces).chain([tail]));
    let watched = pieces.map(move |piece: Vec<u8>| (resident_bytes(pid), piece));
    let (seen, mut highest) = tokio::sync::mpsc::unbounded_channel();
    let body = watched.map(move |(resident, piece)| {
        seen.send(resident).unwrap();
        Ok::<_, std::io::Error>(piece)
    });
    let headers = [VERSION, ("content-type", "multipart/form-data; boundary=b")];
    let request = client.request(Method::POST, "/v1/files", &headers, None);
    let made = request.body(reqwest::Body::wrap_stream(body)).send().await.unwrap();
    let made: serde_json::Value = made.json().await.unwrap();
    while let Ok(resident) = highest.try_recv() {
        most = most.max(resident);
    }
    assert_eq!(made["size_bytes"], FILE_BYTES, "{made}");

    let path = format!("/v1/files/{}/content", made["id"].as_str().unwrap());
    let mut content = client.request(Method::GET, &path, &[VERSION], None).send().await.unwrap();
    let mut at = 0;
    while let Some(piece) = content.chunk().await.unwrap() {
        assert!(piece.iter().zip(at..).all(|(found, at)| *found == byte(at)), "another byte in what follows {at}");
        at += piece.len();
        most = most.max(resident_bytes(pid));
    }
    assert_eq!(at, FILE_BYTES);
    let grown = most.saturating_sub(before);
    println!("a file of {} MiB both ways: {} KiB more", FILE_BYTES >> 20, grown >> 10);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    front.is_unharmed().await;
}

/// An upstream that takes nothing beyond the head slows the client down; nothing piles up in between.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_holds_its_client_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let deaf = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let front = Front::start().await;
    front.program.client.connect(&base).await;
    let pid = front.program.pid();
    let before = resident_bytes(pid);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(front.address().parse().unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nanthropic-version: 1\r\ncontent-length: {}\r\n\r\n",
        crate::harness::MASTER_KEY,
        400 * MIB
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut sent = 0_u64;
    let piece = vec![b'x'; 1 << 16];
    // It goes on until nothing more is taken for a while.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write(&piece)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 100 * MIB, "somebody swallows it");
    }
    let grown = resident_bytes(pid).saturating_sub(before);
    println!("an upstream that does not read: {} KiB taken from the client, {} KiB more", sent >> 10, grown >> 10);
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    drop(stream);
    deaf.abort();
    front.is_unharmed().await;
}
