//! Readers that ask for a stream and never read it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    Front,
    process::{MIB, open_files, resident_bytes, until},
};
use crate::harness::{Client, MASTER_KEY, dice::trials, simulator};

/// At a factor of 5 these are the thousand that the host must bear.
const READERS: u64 = 200;
const READERS_MAX: u64 = 1000;

/// What they may cost in all.
const GROWTH_MAX: u64 = 64 * MIB;

/// For how long one may stay.
const STAY_MAX: Duration = Duration::from_secs(60);

/// A reader that has asked, and reads no more than the head of the answer. Its kernel takes as little as it can.
async fn stalled(address: &str, session: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /v1/sessions/{session}/events/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

async fn reads_all(client: &Client, session: &str) -> u64 {
    let mut stream = client.stream(session, "until=idle", &[]).await;
    while stream.chunk().await.is_some() {}
    let text = String::from_utf8(std::mem::take(&mut stream.raw)).unwrap();
    let seqs: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "a gap or a duplicate");
    seqs.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_cost_little_and_are_cut_off_while_others_read_on() {
    let simulator = simulator(Script::of([Step::Repeat(Repeat { count: 3000, bytes: 1000, ..Repeat::default() })]));
    let front = Front::start().await;
    let client = &front.program.client;
    client.connect(&simulator.base_url()).await;
    let session = client.session(&front.agent, Some("Hello")).await;
    let events = reads_all(client, &session).await;
    assert!(events > 3000);
    let pid = front.program.pid();
    let (files, memory) = (open_files(pid), resident_bytes(pid));

    let readers = READERS.saturating_mul(trials()).min(READERS_MAX);
    let stalled = join_all((0..readers).map(|_| stalled(front.address(), &session))).await;
    let since = Instant::now();
    assert!(open_files(pid) as u64 >= files as u64 + readers);
    assert_eq!(reads_all(client, &session).await, events, "a reader beside them");
    client.prompt(&session, "again").await;
    assert!(reads_all(client, &session).await > 2 * events - 100, "what happens meanwhile");
    let mut most = 0;
    let cut = || {
        most = most.max(resident_bytes(pid));
        // The client's own connections come and go.
        open_files(pid) <= files + 8
    };
    until("those that do not read are cut off", STAY_MAX, cut).await;
    let grown = most.saturating_sub(memory);
    println!("{readers} readers: {} KiB more, cut off after {:?}", grown >> 10, since.elapsed());
    assert!(grown < GROWTH_MAX, "{grown} bytes more for {readers} readers");
    drop(stalled);
    front.is_unharmed().await;
}
