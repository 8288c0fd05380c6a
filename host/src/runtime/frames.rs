//! Packed frames, as the contract's `frames` has them: made by the session, and looked up by the index that a guest names.

use super::{Frame, Frames};

/// What one call maps at most: what a guest can do within its budget, with a wide margin.
const FRAMES_PER_CALL: usize = 512;
const BYTES_PER_CALL: usize = 1024 * 1024;

impl Frames {
    /// No frame: for calls whose events cannot name one.
    #[must_use]
    pub const fn none() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// Packs frames into batches of at most 512 frames and 1 MiB, in their order. One that is larger has a batch of its own.
    pub fn pack<'a>(frames: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<Self> {
        let mut batches = Vec::with_capacity(frames.len().div_ceil(FRAMES_PER_CALL));
        let mut batch = Self::none();
        for (name, data) in frames {
            let full =
                batch.ends.len() / 2 == FRAMES_PER_CALL || batch.bytes.len() + name.len() + data.len() > BYTES_PER_CALL;
            if full && !batch.ends.is_empty() {
                batches.push(std::mem::replace(&mut batch, Self::none()));
            }
            batch.push(name, data);
        }
        if !batch.ends.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// Packs frames into one batch.
    #[must_use]
    pub fn packed<'a>(frames: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut batch = Self::none();
        frames.for_each(|(name, data)| batch.push(name, data));
        batch
    }

    /// The name and the data of each frame, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, &str)> {
        let frames = u32::try_from(self.ends.len() / 2).unwrap_or(u32::MAX);
        (0..frames).map_while(|index| {
            let at = index as usize * 2;
            let from = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
            let name = self.bytes.get(from as usize..*self.ends.get(at)? as usize)?;
            Some((std::str::from_utf8(name).ok()?, self.data(index)?))
        })
    }

    fn push(&mut self, name: &str, data: &str) {
        for piece in [name, data] {
            self.bytes.extend_from_slice(piece.as_bytes());
            // A batch is a chunk of a feed, far below 4 GiB; an end beyond that would only hide the rest.
            self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        }
    }

    /// The data of the frame with this index.
    #[must_use]
    pub fn data(&self, index: u32) -> Option<&str> {
        let at = (index as usize).checked_mul(2)?;
        let (from, to) = (*self.ends.get(at)?, *self.ends.get(at + 1)?);
        std::str::from_utf8(self.bytes.get(from as usize..to as usize)?).ok()
    }
}

impl Frame {
    /// Name and data, for packing.
    #[must_use]
    pub fn pieces(&self) -> (&str, &str) {
        (&self.name, &self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_again_by_their_index_in_their_batch() {
        let frames = [("a", "1"), ("", "grüß"), ("b", "")];
        let batch = Frames::packed(frames.into_iter());
        assert_eq!((batch.data(0), batch.data(1), batch.data(2)), (Some("1"), Some("grüß"), Some("")));
        assert_eq!((batch.data(3), batch.data(u32::MAX)), (None, None));
        assert_eq!(batch.pieces().collect::<Vec<_>>(), frames);
    }

    #[test]
    fn a_batch_is_what_one_call_can_do() {
        let sizes = |frames: &[(&str, &str)]| {
            let batches = Frames::pack(frames.iter().copied());
            batches.iter().map(|batch| batch.pieces().count()).collect::<Vec<_>>()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&vec![("a", "1"); 2 * FRAMES_PER_CALL + 1]), [FRAMES_PER_CALL, FRAMES_PER_CALL, 1]);
        let (half, whole) = ("x".repeat(BYTES_PER_CALL / 2), "x".repeat(BYTES_PER_CALL + 1));
        let [half, whole, small] = [("", &*half), ("", &*whole), ("", "x")];
        assert_eq!(sizes(&[half, half, half, small]), [2, 2]);
        assert_eq!(sizes(&[whole, small, whole, whole]), [1, 1, 1, 1]);
    }
}
