//! An upstream on a socket that hears every byte and says exactly what a test wants, in the pieces that it wants.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub struct Puppet {
    pub base: String,
    heard: Arc<Mutex<Vec<String>>>,
    ended: watch::Sender<usize>,
}

/// What it does with a connection.
#[derive(Clone)]
pub enum Part {
    /// Reads one whole request and says these pieces, each in a packet of its own.
    Answer(Vec<Vec<u8>>),
    /// Reads all that comes and says nothing.
    Mute,
}

impl Puppet {
    pub async fn playing(part: Part) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (heard, ended) = (Arc::default(), watch::Sender::new(0));
        let (record, count) = (Arc::clone(&heard), ended.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(play(stream, part.clone(), Arc::clone(&record), count.clone()));
            }
        });
        Self { base, heard, ended }
    }

    /// Answers with this head, without `HTTP/1.1`, and the body in these pieces.
    pub async fn answering(head: &str, pieces: &[&str]) -> Self {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec());
        Self::playing(Part::Answer(std::iter::once(head.into_bytes()).chain(pieces).collect())).await
    }

    /// Everything that was said to it, a text for each connection.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Returns once so many connections have ended.
    pub async fn ended(&self, count: usize) {
        self.ended.subscribe().wait_for(|ended| *ended >= count).await.unwrap();
    }
}

async fn play(mut stream: TcpStream, part: Part, record: Arc<Mutex<Vec<String>>>, ended: watch::Sender<usize>) {
    let place = {
        let mut record = record.lock().unwrap();
        record.push(String::new());
        record.len() - 1
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A reset is an end too.
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        let heard = {
            let mut record = record.lock().unwrap();
            record[place].push_str(&String::from_utf8_lossy(&buffer[..count]));
            record[place].clone()
        };
        match &part {
            _ if count == 0 => break,
            Part::Answer(pieces) if is_whole(&heard) => {
                for piece in pieces {
                    // Its peer may have seen enough. Each packet shall be read for itself.
                    let _gone = stream.write_all(piece).await;
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                }
                break;
            }
            Part::Answer(_) | Part::Mute => {}
        }
    }
    ended.send_modify(|ended| *ended += 1);
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
