//! What a disk may hold after the power went. What was synced is there; of the rest, any sectors and no others.
//!
//! Of a sector that was written several times any version may have stayed, so the order of writes is lost too. The
//! length of a file is kept in order by the file system's own journal: of the changes of length some first ones stay.

use super::{
    Dice,
    disk::{Call, Trace},
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A trace and a place in it where the power may go.
pub(super) struct Cutter<'a> {
    trace: &'a Trace,
    /// What is there whatever happens.
    durable: Vec<u8>,
    /// Calls from here up to `at` are under way.
    under_way_from: usize,
    at: usize,
    /// How many of a hundred syncs do nothing.
    lies: usize,
}

/// Which part of what is under way stays.
enum Stays {
    Nothing,
    Everything,
    /// All before one call, which is torn, and nothing behind it.
    UpTo(usize),
    /// Each write whole or not at all.
    Writes,
    /// Each sector, so many times of 16.
    Sectors(usize),
    /// All sectors but those of one call.
    AllBut(usize),
    /// One call alone.
    Only(usize),
}

impl Stays {
    /// How many sectors of 16 stay of a write, which is call `number` of those under way.
    fn density(&self, number: usize, dice: &mut Dice) -> usize {
        let whole = |stays: bool| if stays { 16 } else { 0 };
        match self {
            Self::Nothing => 0,
            Self::UpTo(last) => whole(number < *last),
            Self::Writes => whole(dice.odds(1, 2)),
            Self::Sectors(density) => *density,
            Self::AllBut(one) if number == *one => dice.below(16),
            Self::Everything | Self::AllBut(_) => 16,
            Self::Only(one) => whole(number == *one),
        }
    }
}

impl<'a> Cutter<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self { trace, durable: trace.base.clone(), under_way_from: 0, at: 0, lies: 0 }
    }

    /// As [`Self::new`], for a disk of which so many of a hundred syncs do nothing. It keeps the order of its writes:
    /// what is left of a database otherwise is none, and redb may end the process over it.
    pub(super) fn lying(trace: &'a Trace, percent: usize) -> Self {
        Self { lies: percent, ..Self::new(trace) }
    }

    /// Goes on to where `to` calls have been made.
    pub(super) fn go(&mut self, to: usize, dice: &mut Dice) {
        for at in self.at..to {
            match self.trace.calls[at] {
                Call::Sync if self.lies > 0 && dice.odds(self.lies, 100) => {}
                Call::Sync => {
                    self.at = at;
                    self.durable = self.stays(&Stays::Everything, dice);
                    self.under_way_from = at + 1;
                }
                Call::FailedSync => {
                    self.at = at;
                    self.durable = self.image(dice);
                    self.under_way_from = at + 1;
                }
                Call::Write { .. } | Call::SetLen(_) => {}
            }
        }
        self.at = to;
    }

    /// True when everything is durable, so that all images are the same.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way_from == self.at
    }

    /// What the disk may hold if the power goes here.
    pub(super) fn image(&self, dice: &mut Dice) -> Vec<u8> {
        let under_way = self.at - self.under_way_from;
        if under_way == 0 {
            return self.durable.clone();
        }
        let kinds = if self.lies > 0 { 5 } else { 16 };
        let stays = match dice.below(kinds) {
            0 => Stays::Nothing,
            1 => Stays::Everything,
            // What follows up to 4 keeps the order.
            2..=4 => Stays::UpTo(dice.below(under_way)),
            5..=7 => Stays::Writes,
            8..=11 => Stays::Sectors(1 + dice.below(15)),
            12..=13 => Stays::AllBut(dice.below(under_way)),
            _ => Stays::Only(dice.below(under_way)),
        };
        self.stays(&stays, dice)
    }

    fn stays(&self, stays: &Stays, dice: &mut Dice) -> Vec<u8> {
        let under_way = &self.trace.calls[self.under_way_from..self.at];
        let lengths = under_way.iter().filter(|call| matches!(call, Call::SetLen(_))).count();
        let mut lengths_left = match stays {
            Stays::Nothing => 0,
            Stays::Everything | Stays::UpTo(_) => lengths,
            _ => dice.below(lengths + 1),
        };
        let mut image = self.durable.clone();
        for (number, call) in under_way.iter().enumerate() {
            match call {
                Call::SetLen(len) => {
                    if lengths_left > 0 && !matches!(stays, Stays::UpTo(last) if number > *last) {
                        lengths_left -= 1;
                        image.resize(*len, 0);
                    }
                }
                Call::Write { at, bytes } => {
                    let torn = matches!(stays, Stays::UpTo(last) if number == *last);
                    if torn {
                        // A write that is under way has some of its first sectors on the disk, in the plainest case.
                        let sectors = dice.below(bytes.len() / SECTOR + 1);
                        put(&mut image, *at, &bytes[..(sectors * SECTOR).saturating_sub(at % SECTOR)]);
                    } else {
                        let density = stays.density(number, dice);
                        tear(&mut image, *at, bytes, density, dice);
                    }
                }
                Call::Sync | Call::FailedSync => {}
            }
        }
        image
    }
}

/// Writes what fits: nothing is written behind the end of a file whose length was lost.
fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    let end = image.len().min(at + bytes.len());
    if at < end {
        image[at..end].copy_from_slice(&bytes[..end - at]);
    }
}

/// Writes each sector `density` times of 16.
fn tear(image: &mut [u8], at: usize, bytes: &[u8], density: usize, dice: &mut Dice) {
    if density == 16 {
        return put(image, at, bytes);
    }
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
        if dice.odds(density, 16) {
            put(image, at + from, &bytes[from..to]);
        }
        from = to;
    }
}
