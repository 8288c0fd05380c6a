//! Numbers about numbers.

use serde::Serialize;

/// What came of measuring the same thing several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Nothing was measured, nothing is known.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { median, min, max })
    }
}

/// The value that `per_mille` of a thousand do not exceed, by nearest rank.
pub(crate) fn percentile(values: &mut [u64], per_mille: usize) -> Option<u64> {
    let rank = (values.len() * per_mille).div_ceil(1000).checked_sub(1)?;
    let (_, value, _) = values.select_nth_unstable(rank);
    Some(*value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_value_or_the_mean_of_the_middle_two() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(
            [500, 990, 1000].map(|per_mille| percentile(&mut values, per_mille)),
            [Some(100), Some(198), Some(200)]
        );
        assert_eq!(percentile(&mut [7], 1), Some(7));
        assert_eq!(percentile(&mut [], 500), None);
    }
}
