//! Clients that take their time, hundreds of them at once, beside one that does not.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};

use super::{
    Front,
    process::{open_files, until},
    wire::{Answer, answers},
};
use crate::harness::MASTER_KEY;

/// Of each kind.
const CLIENTS: usize = 100;

/// What the host gives a slow client, and a busy machine some more.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// How a slow client is slow.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// It never says anything.
    Silent,
    /// A byte of a head, now and then.
    Head,
    /// The same behind a good request.
    SecondHead,
    /// The head at once, and a byte of the body now and then.
    Body,
    /// The same without a key.
    BodyOfNobody,
}

impl Slow {
    /// What it sends at once, and what byte by byte.
    fn words(self) -> (String, String) {
        let post = |key: &str| format!("POST /api/agents HTTP/1.1\r\nhost: x\r\n{key}content-length: 900\r\n\r\n");
        match self {
            Self::Silent => (String::new(), String::new()),
            Self::Head => ("GET /health HTTP/1.1\r\nx: ".to_owned(), "y".repeat(900)),
            Self::SecondHead => {
                ("GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\n".to_owned(), "y".repeat(900))
            }
            Self::Body => (post(&format!("authorization: Bearer {MASTER_KEY}\r\n")), " ".repeat(900)),
            Self::BodyOfNobody => (post(""), " ".repeat(900)),
        }
    }

    /// Everything that it hears until it is cut off.
    async fn hears(self, address: &str) -> Vec<Answer> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (at_once, slowly) = self.words();
        stream.write_all(at_once.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        let mut heard = Vec::new();
        let speak = async {
            let mut ticks = interval(Duration::from_millis(250));
            for byte in slowly.as_bytes() {
                ticks.tick().await;
                if to.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let listen = async {
            // A reset is an end too.
            while from.read_buf(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
        };
        let cut = async {
            tokio::select! { () = speak => {}, () = listen => {} }
        };
        assert!(timeout(WAIT_MAX, cut).await.is_ok(), "{self:?} was not cut off");
        answers(&heard)
    }

    fn expected(self) -> &'static [(u16, &'static str)] {
        match self {
            Self::Silent | Self::Head => &[],
            Self::SecondHead => &[(200, "")],
            Self::Body => &[(408, "body_timeout")],
            Self::BodyOfNobody => &[(401, "unauthorized")],
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_off_in_time_and_a_good_one_is_served_meanwhile() {
    let front = Front::start().await;
    let pid = front.program.pid();
    let before = open_files(pid);
    let kinds = [Slow::Silent, Slow::Head, Slow::SecondHead, Slow::Body, Slow::BodyOfNobody];
    let slow = join_all(kinds.iter().cycle().take(kinds.len() * CLIENTS).map(async |kind| {
        let heard = kind.hears(front.address()).await;
        let heard: Vec<_> = heard.iter().map(|answer| (answer.status, answer.code())).collect();
        let expected: Vec<_> = kind.expected().iter().map(|&(status, code)| (status, code.to_owned())).collect();
        assert_eq!(heard, expected, "{kind:?}");
    }));
    let good = async {
        let mut stream = TcpStream::connect(front.address()).await.unwrap();
        let mut ticks = interval(Duration::from_millis(500));
        let mut answer = [0; 4096];
        loop {
            ticks.tick().await;
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let bytes = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("no answer").unwrap();
            assert!(answer[..bytes].starts_with(b"HTTP/1.1 200 "), "{}", answer[..bytes].escape_ascii());
        }
    };
    tokio::select! {
        _ = slow => {}
        () = good => {}
    }
    let gone = || open_files(pid) <= before;
    until("the slow clients' sockets are gone", WAIT_MAX, gone).await;
    front.is_unharmed().await;
}
