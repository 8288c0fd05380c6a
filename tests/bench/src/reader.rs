//! One subscriber: follows a stream to the end of its turn, and keeps a book of what came and when.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, timeout_at};

use crate::{
    api::Side,
    frames::{Event, Frames},
    wire::Body,
};

/// A stream of one session, opened before its turn.
pub(crate) struct Reader {
    body: Body,
    frames: Frames,
    book: Book,
}

/// What a subscriber has seen.
pub(crate) struct Book {
    pub(crate) arrivals: Vec<Arrival>,
    /// The id of the event before, on the side that gives ids.
    last_id: Option<u64>,
    over: bool,
    /// The first thing that was wrong.
    fault: Option<String>,
}

/// One stamped event.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) sent_ns: u64,
    pub(crate) received_ns: u64,
}

impl Arrival {
    pub(crate) const fn delay_ns(self) -> u64 {
        self.received_ns.saturating_sub(self.sent_ns)
    }
}

/// The clock that the simulator stamps with.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Reader {
    pub(crate) fn new(side: Side, body: Body, expected: usize) -> Self {
        let last_id = match side {
            Side::Straight => None,
            Side::Host => Some(0),
        };
        let book = Book { arrivals: Vec::with_capacity(expected), last_id, over: false, fault: None };
        Self { body, frames: Frames::new(), book }
    }

    /// Reads until the turn is over, or it is too late.
    pub(crate) async fn follow(mut self, deadline: Instant) -> Book {
        match timeout_at(deadline, self.read_turn()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.book.blame(|| format!("the stream broke: {error}")),
            Err(_) => self.book.blame(|| "the turn did not end in time".to_owned()),
        }
        self.book
    }

    async fn read_turn(&mut self) -> io::Result<()> {
        while !self.book.over {
            if !self.body.read(&mut self.frames.text).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now_ns = unix_ns();
            self.frames.take(|event| self.book.note(event, now_ns));
        }
        Ok(())
    }
}

impl Book {
    fn note(&mut self, event: &Event<'_>, received_ns: u64) {
        if event.kind.is_empty() {
            return;
        }
        if let Some(last) = self.last_id {
            if event.id != Some(last + 1) {
                self.blame(|| format!("id {:?} came behind {last}", event.id));
            }
            self.last_id = Some(event.id.unwrap_or(last + 1));
        }
        if let Some(stamp) = event.stamp {
            let expected = self.arrivals.len() as u64;
            if stamp.n != expected {
                self.blame(|| format!("event {} came instead of {expected}", stamp.n));
            }
            self.arrivals.push(Arrival { sent_ns: stamp.sent_ns, received_ns });
        }
        match event.kind {
            b"session.status_idle" => self.over = true,
            b"session.error" | b"session.status_terminated" => self.blame(|| "the turn failed".to_owned()),
            _ => {}
        }
    }

    fn blame(&mut self, what: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some(what());
        }
    }

    /// What is wrong with it, if anything is: every event has to come once, in order, and then the end of the turn.
    pub(crate) fn check(&self, expected: u64) -> Option<String> {
        let came = self.arrivals.len() as u64;
        match &self.fault {
            Some(fault) => Some(format!("{fault} ({came} of {expected} events came)")),
            None if came != expected => Some(format!("{came} of {expected} events came")),
            None => None,
        }
    }
}
