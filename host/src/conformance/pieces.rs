//! The text of a feed as the frames that a guest gets, in the pieces in which they come.

use super::knobs::Batches;
use crate::{
    runtime::Frame,
    upstream::{self, LineParser, SseParser},
};

/// How a feed's text is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Framing {
    Sse,
    Lines,
    Poll,
}

/// Cuts a text into frames, with the host's own parser.
pub(super) fn cut(text: &str, framing: Framing, batches: Batches, step: usize) -> Vec<Vec<Frame>> {
    let bytes = text.as_bytes();
    let cut = match batches {
        Batches::CutAt { step: at, byte } if at == step && byte <= bytes.len() => byte,
        _ => bytes.len(),
    };
    let pieces = [&bytes[..cut], &bytes[cut..]];
    let mut read: Vec<Vec<upstream::Frame>> = Vec::new();
    match framing {
        Framing::Poll => read.push(vec![upstream::Frame { name: String::new(), data: text.to_owned() }]),
        Framing::Sse => {
            let mut parser = SseParser::default();
            for piece in pieces {
                let mut frames = Vec::new();
                let whole = parser.push(piece, &mut frames).is_ok();
                read.push(frames);
                // What is too long ends the feed; the guest sees what came before.
                if !whole {
                    break;
                }
            }
        }
        Framing::Lines => {
            let mut parser = LineParser::default();
            for piece in pieces {
                let mut frames = Vec::new();
                let whole = parser.push(piece, &mut frames).is_ok();
                read.push(frames);
                if !whole {
                    break;
                }
            }
            let mut last = Vec::new();
            parser.finish(&mut last);
            read.push(last);
        }
    }
    let frame = |frame: upstream::Frame| Frame { name: frame.name, data: frame.data };
    let read = read.into_iter().map(|batch| batch.into_iter().map(frame).collect::<Vec<_>>());
    let read: Vec<Vec<Frame>> = read.filter(|batch| !batch.is_empty()).collect();
    match batches {
        Batches::OneByOne => read.into_iter().flatten().map(|frame| vec![frame]).collect(),
        Batches::AsTheyCome | Batches::CutAt { .. } => read,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn wherever_a_text_is_cut_its_frames_are_the_same() {
        let text = "event: a\ndata: {\"t\":\"Grüß 🙂\"}\n\n: comment\n\ndata: b\r\n\r\n";
        for framing in [Framing::Sse, Framing::Lines] {
            let whole = cut(text, framing, Batches::AsTheyCome, 0).concat();
            for byte in 0..=text.len() {
                let cut = cut(text, framing, Batches::CutAt { step: 0, byte }, 0);
                assert!(cut.len() <= 3 && cut.concat() == whole, "{byte}");
            }
            let alone = cut(text, framing, Batches::OneByOne, 0);
            assert!(alone.iter().all(|batch| batch.len() == 1) && alone.concat() == whole);
        }
        assert_eq!(cut(text, Framing::Sse, Batches::AsTheyCome, 0).concat().len(), 2);
        assert_eq!(cut(text, Framing::Poll, Batches::OneByOne, 0)[0][0].data, text);
    }
}
