//! Carries out a stream fault: whole frames in, pieces out. No I/O, so each fault is tested as a function.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    event::FRAME_END,
    fault::{Cut, CutAt, CutBy, Noise, StreamFault},
};

/// What a stream does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// What was sent so far leaves before anything else is sent.
    Flush,
    /// The stream breaks, once everything before has left.
    Cut(CutBy),
    /// Nothing more, ever.
    Mute,
    /// Nothing more but signs of life.
    Noise(Noise),
}

/// One faulty stream.
pub(crate) struct Shaper {
    fault: StreamFault,
    /// Frames that came so far.
    seen: u64,
    /// Frames that left so far.
    sent: u64,
    /// A frame that lets its follower pass.
    held: Option<Bytes>,
    /// It is over, broken or mute.
    done: bool,
}

impl Shaper {
    pub(crate) const fn new(fault: StreamFault) -> Self {
        Self { fault, seen: 0, sent: 0, held: None, done: false }
    }

    /// What comes before the first frame: a stream can break there too.
    pub(crate) fn open(&mut self, to: &mut VecDeque<Piece>) {
        self.stop_if_due(to);
    }

    /// Shapes a chunk of whole frames.
    pub(crate) fn shape(&mut self, chunk: &Bytes, to: &mut VecDeque<Piece>) {
        let mut start = 0;
        for (at, _) in chunk.windows(FRAME_END.len()).enumerate().filter(|(_, bytes)| *bytes == FRAME_END) {
            let end = at + FRAME_END.len();
            self.frame(chunk.slice(start..end), to);
            start = end;
        }
        // Bytes of a script that are no whole frame pass as they are.
        if start < chunk.len() && !self.done {
            to.push_back(Piece::Bytes(chunk.slice(start..)));
        }
    }

    fn frame(&mut self, frame: Bytes, to: &mut VecDeque<Piece>) {
        self.seen += 1;
        if is_of_session(&frame)
            && let Some(held) = self.held.take()
        {
            self.send(&held, to);
        }
        if self.held.is_none() && nth(self.seen, self.fault.swap_every) && !is_of_session(&frame) {
            self.held = Some(frame);
            return;
        }
        let copies = if nth(self.seen, self.fault.duplicate_every) { 2 } else { 1 };
        for _ in 0..copies {
            self.send(&frame, to);
        }
        if let Some(held) = self.held.take() {
            self.send(&held, to);
        }
    }

    fn send(&mut self, frame: &Bytes, to: &mut VecDeque<Piece>) {
        if self.done || self.fault.omit.iter().any(|kind| is_named(frame, kind)) {
            return;
        }
        let frame = if self.fault.crlf { with_crlf(frame) } else { frame.clone() };
        if let Some((end, by)) = self.cut_within(&frame) {
            self.split(frame.slice(..end), to);
            to.push_back(Piece::Cut(by));
            self.done = true;
            return;
        }
        self.split(frame, to);
        self.sent += 1;
        self.stop_if_due(to);
    }

    /// Where this frame breaks off, if it does.
    fn cut_within(&self, frame: &Bytes) -> Option<(usize, CutBy)> {
        let cut = self.fault.cut.filter(|cut| self.sent >= cut.after_frames)?;
        let end = match cut.at {
            CutAt::Boundary => return None,
            CutAt::Byte(bytes) => bytes.min(frame.len()),
            // One byte into the first character that has more than one.
            CutAt::Character => frame.iter().position(|byte| !byte.is_ascii())? + 1,
        };
        Some((end, cut.by))
    }

    fn stop_if_due(&mut self, to: &mut VecDeque<Piece>) {
        if let Some(Cut { after_frames, at: CutAt::Boundary, by }) = self.fault.cut
            && after_frames == self.sent
        {
            to.push_back(Piece::Cut(by));
            self.done = true;
        } else if self.fault.silence_after == Some(self.sent) {
            to.push_back(Piece::Mute);
            self.done = true;
        } else if let Some(noise) = self.fault.noise.filter(|noise| noise.after_frames == self.sent) {
            to.push_back(Piece::Noise(noise));
            self.done = true;
        }
    }

    fn split(&self, mut bytes: Bytes, to: &mut VecDeque<Piece>) {
        let mut sizes = self.fault.pieces.iter().copied().cycle();
        while !bytes.is_empty() {
            let size = sizes.next().filter(|&size| size > 0).unwrap_or(bytes.len());
            to.push_back(Piece::Bytes(bytes.split_to(size.min(bytes.len()))));
            if !self.fault.pieces.is_empty() {
                to.push_back(Piece::Flush);
            }
        }
    }
}

fn nth(count: u64, every: u64) -> bool {
    every > 0 && count.is_multiple_of(every)
}

/// True for a frame of this name.
fn is_named(frame: &Bytes, kind: &str) -> bool {
    let named = frame.strip_prefix(b"event: ").and_then(|rest| rest.strip_prefix(kind.as_bytes()));
    named.is_some_and(|rest| rest.starts_with(b"\n"))
}

/// Held back, the last event of a turn would wait for a follower that does not come; and nothing that a turn says comes
/// after its end.
fn is_of_session(frame: &Bytes) -> bool {
    frame.starts_with(b"event: session.")
}

fn with_crlf(frame: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(frame.len() + 3);
    for line in frame.split_inclusive(|&byte| byte == b'\n') {
        out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        if line.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &str = "a\n\nb\n\nc\n\nd\n\n";

    /// The pieces joined, with marks for what is not bytes.
    fn shaped(fault: StreamFault, chunk: &str) -> String {
        let mut shaper = Shaper::new(fault);
        let mut pieces = VecDeque::new();
        shaper.open(&mut pieces);
        shaper.shape(&Bytes::copy_from_slice(chunk.as_bytes()), &mut pieces);
        let shown = pieces.into_iter().map(|piece| match piece {
            Piece::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Piece::Flush => "|".to_owned(),
            Piece::Cut(by) => format!("<{by:?}>"),
            Piece::Mute => "<Mute>".to_owned(),
            Piece::Noise(_) => "<Noise>".to_owned(),
        });
        shown.collect()
    }

    fn cut(after_frames: u64, at: CutAt) -> StreamFault {
        StreamFault { cut: Some(Cut { after_frames, at, by: CutBy::Close }), ..StreamFault::default() }
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let none = StreamFault::default;
        let table = [
            (none(), FRAMES),
            (cut(0, CutAt::Boundary), "<Close>"),
            (cut(2, CutAt::Boundary), "a\n\nb\n\n<Close>"),
            (cut(2, CutAt::Byte(2)), "a\n\nb\n\nc\n<Close>"),
            (StreamFault { silence_after: Some(1), ..none() }, "a\n\n<Mute>"),
            (StreamFault { noise: Some(Noise { after_frames: 1, ..Noise::default() }), ..none() }, "a\n\n<Noise>"),
            (StreamFault { pieces: vec![2, 0], ..none() }, "a\n|\n|b\n|\n|c\n|\n|d\n|\n|"),
            (StreamFault { duplicate_every: 2, ..none() }, "a\n\nb\n\nb\n\nc\n\nd\n\nd\n\n"),
            (StreamFault { swap_every: 3, ..none() }, "a\n\nb\n\nd\n\nc\n\n"),
            (StreamFault { crlf: true, ..none() }, "a\r\n\r\nb\r\n\r\nc\r\n\r\nd\r\n\r\n"),
        ];
        for (fault, expected) in table {
            assert_eq!(shaped(fault.clone(), FRAMES), expected, "{fault:?}");
        }
    }

    #[test]
    fn frames_of_a_type_are_left_out() {
        let frames = "event: a\ndata: {}\n\nevent: ab\ndata: {}\n\n";
        let omit = vec!["a".to_owned()];
        let fault = StreamFault { omit, ..StreamFault::default() };
        assert_eq!(shaped(fault, frames), "event: ab\ndata: {}\n\n");
    }

    #[test]
    fn a_cut_in_a_character_waits_for_one() {
        assert_eq!(shaped(cut(0, CutAt::Character), "a\n\nü\n\nc\n\n"), "a\n\n\u{fffd}<Close>");
    }

    #[test]
    fn the_end_of_a_turn_is_neither_held_back_nor_overtakes() {
        let idle = "event: session.status_idle\ndata: {}\n\n";
        let swapped = || StreamFault { swap_every: 1, ..StreamFault::default() };
        assert_eq!(shaped(swapped(), idle), idle);
        assert_eq!(shaped(swapped(), &format!("a\n\nb\n\nc\n\n{idle}")), format!("b\n\na\n\nc\n\n{idle}"));
    }
}
