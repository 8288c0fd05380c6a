//! What a campaign found, as a table of operations.

use std::{fmt, time::Duration};

use super::{
    act::Outcome,
    oracle::Wrong,
    plan::{Operation, Try},
};

/// A line for each operation that was tried.
pub struct Table(Vec<Line>);

struct Line {
    operation: Operation,
    tries: usize,
    /// How many of them are wrong in any way, and in each way.
    failed: usize,
    wrong: [usize; Wrong::ALL.len()],
    took: Vec<Duration>,
}

impl Table {
    pub fn of(played: &[(Try, Outcome)]) -> Self {
        let line = |operation| {
            let of_it: Vec<_> = played.iter().filter(|(tried, _)| tried.operation == operation).collect();
            let count = |wrong| of_it.iter().filter(|(_, outcome)| outcome.wrong.contains(&wrong)).count();
            let mut took: Vec<_> = of_it.iter().filter_map(|(_, outcome)| outcome.took).collect();
            took.sort();
            let failed = of_it.iter().filter(|(_, outcome)| !outcome.wrong.is_empty()).count();
            Line { operation, tries: of_it.len(), failed, wrong: Wrong::ALL.map(count), took }
        };
        Self(Operation::ALL.map(line).into_iter().filter(|line| line.tries > 0).collect())
    }
}

/// The value of which so many per cent are no larger.
fn percentile(sorted: &[Duration], per_cent: usize) -> String {
    let at = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or_else(|| "–".to_owned(), |took| format!("{} ms", took.as_millis()))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<usize> =
            (0..Wrong::ALL.len()).filter(|&wrong| self.0.iter().any(|line| line.wrong[wrong] > 0)).collect();
        write!(f, "| operation | tries | wrong |")?;
        for &wrong in &shown {
            write!(f, " {} |", Wrong::ALL[wrong])?;
        }
        writeln!(f, " p50 | p99 |\n|---|---|---|{}---|---|", "---|".repeat(shown.len()))?;
        for Line { operation, tries, failed, wrong, took } in &self.0 {
            write!(f, "| {} | {tries} | {failed} |", operation.name())?;
            for &index in &shown {
                write!(f, " {} |", wrong[index])?;
            }
            writeln!(f, " {} | {} |", percentile(took, 50), percentile(took, 99))?;
        }
        Ok(())
    }
}

#[test]
fn a_percentile_is_one_of_the_values() {
    let values: Vec<_> = (1..=100).map(Duration::from_millis).collect();
    let of = |count: usize, per_cent| percentile(&values[..count], per_cent);
    assert_eq!([of(100, 50), of(100, 99), of(1, 99), of(0, 99)], ["50 ms", "99 ms", "1 ms", "–"]);
}
