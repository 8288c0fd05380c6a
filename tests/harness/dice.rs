//! Chance that can be repeated, for campaigns of many trials.

/// Everything that is left to chance in one trial.
pub struct Dice(u64);

impl Dice {
    /// Of a number; `LAP_SEED` makes all trials others.
    pub fn of(number: u64) -> Self {
        let seed = std::env::var("LAP_SEED").map_or(0, |seed| seed.parse().unwrap());
        let mut dice = Self(number.wrapping_mul(0x0100_0000_01b3) ^ seed);
        dice.roll();
        dice
    }

    pub fn roll(&mut self) -> u64 {
        splitmix(&mut self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }
}

/// A number unlike the one before (splitmix64, a public-domain generator by Sebastiano Vigna).
pub fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// By how much a campaign is longer than in a normal run: `LAP_TRIALS`.
pub fn trials() -> u64 {
    std::env::var("LAP_TRIALS").map_or(1, |factor| factor.parse().unwrap())
}
