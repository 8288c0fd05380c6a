//! What the readers of one session's stream have yet to read. All share the same bytes.
//!
//! Nothing is kept that every reader has read, and nothing at all while there is no reader. A turn that produces flat
//! out asks [`Window::has_room`] and stops until the slowest reader has caught up by half.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::fault::CutBy;

/// Chunks of whole frames, and who has read how many of them.
pub(crate) struct Window {
    chunks: VecDeque<Bytes>,
    /// Number of the first chunk still here.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    readers: Vec<Reader>,
    next_reader: u64,
    /// Nothing more comes, ever.
    ended: bool,
    /// The turn waits for room.
    starved: bool,
}

/// One open stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderId(u64);

struct Reader {
    id: ReaderId,
    /// Number of the chunk to read next; none for a reader that is given nothing more.
    next: Option<u64>,
    cut: Option<CutBy>,
    waker: Option<Waker>,
}

/// What a reader finds.
pub(crate) enum Read {
    Chunk(Bytes),
    /// The stream is over, in the regular way.
    End,
    /// The test breaks it off.
    Cut(CutBy),
}

/// The turn has room again and is to be woken.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomAgain(pub(crate) bool);

impl Window {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 0,
            bytes: 0,
            bytes_max,
            readers: Vec::new(),
            next_reader: 0,
            ended: false,
            starved: false,
        }
    }

    /// Adds a reader of what comes from now on.
    pub(crate) fn attach(&mut self) -> ReaderId {
        let id = ReaderId(self.next_reader);
        self.next_reader += 1;
        self.readers.push(Reader { id, next: Some(self.end()), cut: None, waker: None });
        id
    }

    pub(crate) fn detach(&mut self, id: ReaderId) -> RoomAgain {
        self.readers.retain(|reader| reader.id != id);
        self.trim()
    }

    /// Gives this reader nothing more, and does not wait for it either.
    pub(crate) fn mute(&mut self, id: ReaderId) -> RoomAgain {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.next = None;
        }
        self.trim()
    }

    /// Whether anyone reads; if not there is no need to render anything.
    pub(crate) fn is_read(&self) -> bool {
        self.readers.iter().any(|reader| reader.next.is_some())
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !self.is_read() {
            return;
        }
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        self.wake_all();
    }

    /// Lets readers read what is here, and no more.
    pub(crate) fn end_all(&mut self) {
        self.ended = true;
        self.wake_all();
    }

    /// Breaks every stream off, whatever is still unread.
    pub(crate) fn cut_all(&mut self, by: CutBy) {
        for reader in &mut self.readers {
            reader.cut = Some(by);
        }
        self.wake_all();
    }

    /// Whether the turn may go on; if not it is woken when there is room again.
    pub(crate) fn has_room(&mut self) -> bool {
        self.starved = self.bytes >= self.bytes_max;
        !self.starved
    }

    pub(crate) fn poll(&mut self, id: ReaderId, cx: &mut Context<'_>) -> (Poll<Read>, RoomAgain) {
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else {
            return (Poll::Ready(Read::End), RoomAgain(false));
        };
        if let Some(by) = reader.cut {
            return (Poll::Ready(Read::Cut(by)), RoomAgain(false));
        }
        let unread = reader.next.and_then(|next| usize::try_from(next - self.first).ok());
        if let Some(chunk) = unread.and_then(|index| self.chunks.get(index)) {
            let chunk = chunk.clone();
            reader.next = reader.next.map(|next| next + 1);
            return (Poll::Ready(Read::Chunk(chunk)), self.trim());
        }
        if self.ended && reader.next.is_some() {
            return (Poll::Ready(Read::End), RoomAgain(false));
        }
        match &mut reader.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        (Poll::Pending, RoomAgain(false))
    }

    /// Forgets what every reader has read.
    fn trim(&mut self) -> RoomAgain {
        let slowest = self.readers.iter().filter_map(|reader| reader.next).min().unwrap_or_else(|| self.end());
        while self.first < slowest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.bytes -= chunk.len();
        }
        let again = self.starved && self.bytes <= self.bytes_max / 2;
        self.starved &= !again;
        RoomAgain(again)
    }

    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    fn wake_all(&mut self) {
        for reader in &mut self.readers {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(window: &mut Window, id: ReaderId) -> (Option<Bytes>, bool) {
        match window.poll(id, &mut Context::from_waker(Waker::noop())) {
            (Poll::Ready(Read::Chunk(chunk)), RoomAgain(again)) => (Some(chunk), again),
            (_, RoomAgain(again)) => (None, again),
        }
    }

    #[test]
    fn readers_share_chunks_and_start_at_now() {
        let mut window = Window::new(100);
        window.push("unread".into());
        let early = window.attach();
        window.push("one".into());
        let late = window.attach();
        window.push("two".into());
        assert_eq!(read(&mut window, early).0.as_deref(), Some(&b"one"[..]));
        assert_eq!(read(&mut window, early).0.as_deref(), Some(&b"two"[..]));
        assert_eq!(read(&mut window, early).0, None);
        assert_eq!(read(&mut window, late).0.as_deref(), Some(&b"two"[..]));
        assert_eq!((window.bytes, window.chunks.len()), (0, 0));
    }

    #[test]
    fn room_comes_back_when_the_slowest_has_read_half() {
        let mut window = Window::new(4);
        let (fast, slow) = (window.attach(), window.attach());
        for _ in 0..4 {
            assert!(window.has_room());
            window.push("x".into());
        }
        assert!(!window.has_room());
        assert_eq!([(); 4].map(|()| read(&mut window, fast).1), [false; 4]);
        assert_eq!([(); 4].map(|()| read(&mut window, slow).1), [false, true, false, false]);
    }

    #[test]
    fn who_leaves_or_is_muted_holds_nobody_up() {
        let mut window = Window::new(1);
        let (leaves, muted) = (window.attach(), window.attach());
        window.push("xx".into());
        assert!(!window.has_room());
        assert_eq!(window.detach(leaves), RoomAgain(false));
        assert_eq!(window.mute(muted), RoomAgain(true));
        window.end_all();
        assert!(read(&mut window, muted).0.is_none());
    }
}
