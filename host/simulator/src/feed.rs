//! The body of a stream: pulls from the session's window by cursor, and lets a fault shape what it pulls.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    fault::{CutBy, Noise},
    line::Line,
    record::OpenStream,
    script::{Heartbeat, HeartbeatForm},
    session::Session,
    shape::{Piece, Shaper},
    window::{Read, ReaderId},
};

/// How many signs of life come in one piece when they come without a pause.
const BEATS_AT_ONCE: usize = 64;

/// One open stream.
pub(crate) struct Feed {
    session: Arc<Session>,
    reader: ReaderId,
    line: Arc<Line>,
    /// None for a stream without fault, which hands on chunks as they are.
    shaper: Option<Shaper>,
    pending: VecDeque<Piece>,
    pulse: Option<Pulse>,
    /// Nothing more comes, but the body does not end.
    mute: bool,
    /// This comes for ever, as fast as it is read.
    noise: Option<Bytes>,
    _open: OpenStream,
}

impl Feed {
    pub(crate) fn new(
        session: Arc<Session>,
        line: Arc<Line>,
        heartbeat: Heartbeat,
        fault: Option<crate::fault::StreamFault>,
        open: OpenStream,
    ) -> Self {
        let (reader, past) = session.attach(fault.as_ref().is_some_and(|fault| fault.replay));
        let mut shaper = fault.map(Shaper::new);
        let mut pending = VecDeque::new();
        if let Some(shaper) = &mut shaper {
            shaper.open(&mut pending);
            for frame in past {
                shaper.shape(frame.bytes(), &mut pending);
            }
        }
        Self {
            session,
            reader,
            line,
            shaper,
            pending,
            pulse: Pulse::new(heartbeat),
            mute: false,
            noise: None,
            _open: open,
        }
    }

    /// The next thing to do, from what is pending or else from the window.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        loop {
            if let Some(piece) = self.pending.pop_front() {
                return Poll::Ready(piece);
            }
            match ready!(self.session.poll_read(self.reader, cx)) {
                Read::Chunk(chunk) => match &mut self.shaper {
                    None => return Poll::Ready(Piece::Bytes(chunk)),
                    Some(shaper) => shaper.shape(&chunk, &mut self.pending),
                },
                Read::End => return Poll::Ready(Piece::Cut(CutBy::End)),
                Read::Cut(by) => return Poll::Ready(Piece::Cut(by)),
            }
        }
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let feed = self.get_mut();
        if let Some(noise) = &feed.noise {
            return Poll::Ready(Some(Ok(Frame::data(noise.clone()))));
        }
        let Poll::Ready(piece) = feed.poll_piece(cx) else {
            let beat = feed.pulse.as_mut().filter(|_| !feed.mute);
            return beat.map_or(Poll::Pending, |pulse| pulse.poll(cx).map(|beat| Some(Ok(Frame::data(beat)))));
        };
        match piece {
            Piece::Bytes(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Piece::Cut(CutBy::End) => return Poll::Ready(None),
            Piece::Cut(by) => feed.line.cut(by),
            // hyper flushes when a body has nothing for it, and then asks again.
            Piece::Flush => cx.waker().wake_by_ref(),
            Piece::Mute => {
                feed.mute = true;
                feed.session.mute(feed.reader);
                cx.waker().wake_by_ref();
            }
            Piece::Noise(Noise { every_ms, form, .. }) => {
                feed.session.mute(feed.reader);
                match every_ms {
                    0 => feed.noise = Some(beat(form).repeat(BEATS_AT_ONCE).into()),
                    _ => feed.pulse = Pulse::new(Heartbeat { every_ms, form }),
                }
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.session.detach(self.reader);
    }
}

const fn beat(form: HeartbeatForm) -> &'static [u8] {
    match form {
        HeartbeatForm::Comment => b": heartbeat\n\n",
        HeartbeatForm::Ping => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
    }
}

/// The clock of heartbeats.
struct Pulse {
    sleep: Pin<Box<Sleep>>,
    every: Duration,
    beat: Bytes,
}

impl Pulse {
    fn new(heartbeat: Heartbeat) -> Option<Self> {
        let every = Duration::from_millis(heartbeat.every_ms);
        let beat = Bytes::from_static(beat(heartbeat.form));
        (!every.is_zero()).then(|| Self { sleep: Box::pin(sleep_until(Instant::now() + every)), every, beat })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        ready!(self.sleep.as_mut().poll(cx));
        self.sleep.as_mut().reset(Instant::now() + self.every);
        Poll::Ready(self.beat.clone())
    }
}
