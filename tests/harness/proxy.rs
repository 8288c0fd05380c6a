//! A proxy on loopback that cuts connections: after so many bytes of a request or of its answer.
//!
//! It follows HTTP as far as it must: the connection is kept alive by both sides, so what a client sends when the last
//! answer is over begins a new request. Which one it is says its first line.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::anywhere;

/// The bytes of a request or of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Request,
    Answer,
}

/// What is cut: the next request whose first line has this text, in this direction.
pub type Place = (String, Direction);

#[derive(Default)]
struct Book {
    /// After how many bytes, and whether by a reset.
    cuts: HashMap<Place, (usize, bool)>,
    /// How many bytes went through; of the requests that `count` was asked of.
    counts: HashMap<Place, usize>,
}

pub struct Proxy {
    pub address: SocketAddr,
    book: Arc<Mutex<Book>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(anywhere()).await.unwrap();
        let (address, book) = (listener.local_addr().unwrap(), Arc::<Mutex<Book>>::default());
        let kept = Arc::clone(&book);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let book = Arc::clone(&kept);
                // A connection that breaks is what this is for.
                tokio::spawn(async move { drop(carry(client, server, &book).await) });
            }
        });
        Self { address, book, accepting }
    }

    /// Cuts the next request of this kind after so many bytes.
    pub fn cut(&self, place: Place, after: usize, reset: bool) {
        self.book.lock().unwrap().cuts.insert(place, (after, reset));
    }

    /// True once the cut was made.
    pub fn has_cut(&self, place: &Place) -> bool {
        !self.book.lock().unwrap().cuts.contains_key(place)
    }

    /// Counts the bytes of requests of this kind from now on.
    pub fn count(&self, place: Place) {
        self.book.lock().unwrap().counts.insert(place, 0);
    }

    pub fn counted(&self, place: &Place) -> usize {
        self.book.lock().unwrap().counts[place]
    }
}

/// One request on its way.
#[derive(Default)]
struct Exchange {
    line: String,
    sent: usize,
    received: usize,
}

impl Exchange {
    /// How much of `bytes` more bytes may pass, and whether the connection ends by a reset then.
    fn pass(&mut self, direction: Direction, bytes: usize, book: &Mutex<Book>) -> (usize, Option<bool>) {
        let mut book = book.lock().unwrap();
        let passed = match direction {
            Direction::Request => &mut self.sent,
            Direction::Answer => &mut self.received,
        };
        let before = *passed;
        *passed += bytes;
        let is_it = |place: &Place| place.1 == direction && self.line.contains(&place.0);
        if let Some(count) = book.counts.iter_mut().find(|(place, _)| is_it(place)).map(|(_, count)| count) {
            *count += bytes;
        }
        let cut = book.cuts.iter().find(|(place, _)| is_it(place)).map(|(place, cut)| (place.clone(), *cut));
        match cut {
            Some((place, (after, reset))) if before + bytes > after => {
                book.cuts.remove(&place);
                (after - before.min(after), Some(reset))
            }
            _ => (bytes, None),
        }
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, book: &Mutex<Book>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = ([0; 4096], [0; 4096]);
    let mut exchange = Exchange::default();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if let Some(line) = first_line(bytes) {
                    exchange = Exchange { line, ..Exchange::default() };
                }
                let (pass, cut) = exchange.pass(Direction::Request, bytes.len(), book);
                server.write_all(&bytes[..pass]).await?;
                if bytes.is_empty() || end(&client, cut)? {
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read?];
                let (pass, cut) = exchange.pass(Direction::Answer, bytes.len(), book);
                client.write_all(&bytes[..pass]).await?;
                if bytes.is_empty() || end(&client, cut)? {
                    return Ok(());
                }
            }
        }
    }
}

/// The first line of a request, if these are the first bytes of one.
fn first_line(bytes: &[u8]) -> Option<String> {
    let begins = ["GET ", "POST ", "PUT ", "DELETE "].iter().any(|method| bytes.starts_with(method.as_bytes()));
    begins.then(|| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned())
}

fn end(client: &TcpStream, cut: Option<bool>) -> io::Result<bool> {
    if cut == Some(true) {
        client.set_zero_linger()?;
    }
    Ok(cut.is_some())
}
