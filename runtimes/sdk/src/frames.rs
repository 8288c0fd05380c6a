//! Packed frames, one by one: views into the bytes that came over the border.

use crate::{Frame, Frames};

/// A frame where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The name of a server-sent event, or nothing.
    pub name: &'a str,
    /// UTF-8, which the host has made sure of; to read JSON from it, bytes are as good as text.
    pub data: &'a [u8],
}

impl Frames {
    /// The frames, in order. Ends that do not fit the bytes, which the host does not send, cut the rest off.
    pub fn iter(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut from = 0;
        let mut cut = move |end: &u32| {
            let piece = self.bytes.get(from..*end as usize);
            from = *end as usize;
            piece
        };
        self.ends.chunks_exact(2).map_while(move |ends| {
            let (name, data) = (cut(&ends[0])?, cut(&ends[1])?);
            Some(Piece { name: std::str::from_utf8(name).ok()?, data })
        })
    }

    /// How many they are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame {
    /// A frame of a history, in the shape in which the feed brings it.
    #[must_use]
    pub fn new(name: impl Into<String>, data: impl Into<String>) -> Self {
        Self { name: name.into(), data: data.into() }
    }
}

/// Packs frames as the host does; for a runtime's tests.
impl<'a> FromIterator<(&'a str, &'a str)> for Frames {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(frames: I) -> Self {
        let mut packed = Self { bytes: Vec::new(), ends: Vec::new() };
        for (name, data) in frames {
            for piece in [name, data] {
                packed.bytes.extend_from_slice(piece.as_bytes());
                packed.ends.push(u32::try_from(packed.bytes.len()).unwrap_or(u32::MAX));
            }
        }
        packed
    }
}

impl<'a> FromIterator<&'a Frame> for Frames {
    fn from_iter<I: IntoIterator<Item = &'a Frame>>(frames: I) -> Self {
        frames.into_iter().map(|frame| (frame.name.as_str(), frame.data.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_in_pieces() {
        let frames: Frames = [("a", "grüß"), ("", ""), ("b", "{}")].into_iter().collect();
        let pieces: Vec<_> = frames.iter().map(|piece| (piece.name, piece.data)).collect();
        assert_eq!(pieces, [("a", "grüß".as_bytes()), ("", b""), ("b", b"{}")]);
        assert_eq!((frames.len(), frames.is_empty()), (3, false));
    }

    #[test]
    fn ends_that_do_not_fit_cut_the_rest_off() {
        for ends in [vec![1], vec![9, 9], vec![2, 1], vec![0, 99]] {
            let frames = Frames { bytes: b"ab".to_vec(), ends };
            assert_eq!(frames.iter().count(), 0);
        }
    }
}
