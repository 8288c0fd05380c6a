//! The words of the contract between host and runtimes, `wit/lap-runtime/0.1/types.wit`, that decide on a session.
//!
//! The engine's bindings have types of their own, which are generated; these are what the session machine sees, so that it
//! knows no engine.

/// What a call maps at most: what a guest can do within its budget, with a wide margin.
pub const FRAMES_PER_CALL: usize = 512;
/// The same in bytes. A frame that is larger has a call of its own.
pub const BYTES_PER_CALL: usize = 1024 * 1024;

/// What an event says about the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The turn goes on as it was.
    None,
    /// A turn runs.
    Started,
    /// The turn waits for the client.
    Waiting,
    /// The turn is over.
    Ended,
    /// The turn is over because of an error.
    Failed,
    /// The upstream works on after a fault of its own.
    Rescheduled,
    /// The session is over for good.
    Terminated,
}

/// Why something failed, as a runtime declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The upstream refuses the stored credential.
    Auth,
    /// Too many requests.
    Throttled,
    /// A budget or a plan is used up.
    Quota,
    /// The upstream has no capacity just now.
    Overloaded,
    /// The upstream refuses the request as such.
    BadRequest,
    /// The upstream has no such thing.
    NotFound,
    /// The upstream is in another state than the request needs.
    Conflict,
    /// The upstream no longer has something that was made earlier.
    Gone,
    /// The runtime cannot do what was asked.
    Unsupported,
    /// The upstream failed, cannot be reached, or answered something that cannot be understood.
    Upstream,
    /// The runtime or the host is at fault.
    Internal,
}

/// How a feed came to its end without the host's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The upstream closed the response properly.
    Clean,
    /// The connection broke.
    Cut,
    /// Nothing came for longer than the host waits.
    Silent,
}

/// What an event reported by a guest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// What the frame with this index says, unchanged.
    Frame(u32),
    /// This JSON.
    Json(String),
}

/// An event that a guest reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// What it says.
    pub body: Body,
    /// What it does to the turn.
    pub effect: Effect,
}

/// What a guest makes of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The guest's new state; nothing where it stays as it was.
    pub state: Option<String>,
    /// What it reports, in order.
    pub events: Vec<Reported>,
    /// True when it wants another feed.
    pub relisten: bool,
}

/// One piece of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The name of a server-sent event; empty elsewhere.
    pub name: String,
    /// What it says.
    pub data: String,
}

/// Frames that arrived together, packed: the name and the data of each in turn, as UTF-8, in one run of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames {
    /// All pieces.
    pub bytes: Vec<u8>,
    /// Where each piece ends in `bytes`; two for each frame.
    pub ends: Vec<u32>,
}

impl Frames {
    /// No frame: for calls whose events cannot name one.
    #[must_use]
    pub const fn none() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Packs frames into batches of at most 512 frames and 1 MiB, in their order. One that is larger has a batch of its own.
    pub fn pack<'a>(frames: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Self> {
        let (mut batches, mut batch) = (Vec::new(), Self::none());
        for (name, data) in frames {
            if !batch.is_empty() && !batch.has_room_for(1, name.len() + data.len()) {
                batches.push(std::mem::replace(&mut batch, Self::none()));
            }
            batch.push(name, data);
        }
        if !batch.is_empty() {
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

    /// True when one call can map these and so many more.
    #[must_use]
    pub const fn has_room_for(&self, frames: usize, bytes: usize) -> bool {
        self.len() + frames <= FRAMES_PER_CALL && self.bytes.len() + bytes <= BYTES_PER_CALL
    }

    /// Adds the frames of another batch behind these.
    pub fn append(&mut self, other: &Self) {
        let before = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end.saturating_add(before)));
    }

    /// The name and the data of each frame, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, &str)> {
        let frames = u32::try_from(self.len()).unwrap_or(u32::MAX);
        (0..frames).map_while(|index| {
            let at = index as usize * 2;
            let from = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
            let name = self.bytes.get(from as usize..*self.ends.get(at)? as usize)?;
            Some((std::str::from_utf8(name).ok()?, self.data(index)?))
        })
    }

    /// Adds a frame.
    pub fn push(&mut self, name: &str, data: &str) {
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
        let mut batch = Frames::packed(frames.into_iter());
        assert_eq!((batch.data(0), batch.data(1), batch.data(2)), (Some("1"), Some("grüß"), Some("")));
        assert_eq!((batch.data(3), batch.data(u32::MAX)), (None, None));
        assert_eq!(batch.pieces().collect::<Vec<_>>(), frames);
        batch.append(&Frames::packed([("c", "2")].into_iter()));
        assert_eq!((batch.len(), batch.data(2), batch.data(3)), (4, Some(""), Some("2")));
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
