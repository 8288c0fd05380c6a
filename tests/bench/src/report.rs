//! What is said at the end: a table for people, the same as JSON for programs.

use std::fmt::{self, Write};

use serde::Serialize;

use crate::{machine::Machine, process::Used, stats::Spread};

/// Everything that was found out.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    rows: Vec<Row>,
    cpu: Vec<Cpu>,
    notes: Vec<String>,
    /// Results that are wrong. Slow is not wrong.
    problems: Vec<String>,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) measure: &'static str,
    pub(crate) unit: Unit,
    pub(crate) straight: Option<Spread>,
    pub(crate) host: Spread,
    pub(crate) compared: Option<Compared>,
    pub(crate) goal: Option<Goal>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Nanoseconds,
    Mebibytes,
    Kibibytes,
}

/// The host beside the straight way, window by window.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compared {
    Added(Spread),
    Times(Spread),
}

/// What the median should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Of what the host adds.
    AddedAtMost(f64),
    /// Of the ratio.
    TimesAtMost(f64),
}

#[derive(Serialize)]
struct Cpu {
    work: &'static str,
    side: &'static str,
    used: Used,
}

impl Report {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, rows: Vec::new(), cpu: Vec::new(), notes: Vec::new(), problems: Vec::new() }
    }

    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn cpu(&mut self, work: &'static str, side: &'static str, used: Used) {
        self.cpu.push(Cpu { work, side, used });
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    pub(crate) const fn is_right(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        if !self.rows.is_empty() {
            writeln!(f, "| work | measure | straight | through the host | beside it | goal | |")?;
            writeln!(f, "|---|---|---|---|---|---|---|")?;
        }
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if !self.cpu.is_empty() {
            writeln!(f, "\nCPU seconds of each window:\n")?;
            writeln!(
                f,
                "| work | way | seconds | host | simulator | client | all others |\n|---|---|---|---|---|---|---|"
            )?;
        }
        for Cpu { work, side, used: Used { wall, host, simulator, client, others } } in &self.cpu {
            writeln!(f, "| {work} | {side} | {wall:.1} | {host:.2} | {simulator:.2} | {client:.2} | {others:.2} |")?;
        }
        let notes = self.notes.iter().map(|note| format!("* {note}"));
        let problems = self.problems.iter().map(|problem| format!("* **Wrong:** {problem}"));
        for (at, line) in notes.chain(problems).enumerate() {
            writeln!(f, "{}{line}", if at == 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        let straight = self.straight.map_or("–".to_owned(), |straight| unit.spread(straight));
        let compared = match self.compared {
            None => "–".to_owned(),
            Some(Compared::Added(added)) => format!("+{}", unit.spread(added)),
            Some(Compared::Times(Spread { median, min, max })) => format!("{median:.2}× ({min:.2}–{max:.2})"),
        };
        let goal = self.goal.map_or(String::new(), |goal| match goal {
            Goal::AtLeast(goal) => format!("≥ {}", unit.value(goal)),
            Goal::AtMost(goal) => format!("≤ {}", unit.value(goal)),
            Goal::AddedAtMost(goal) => format!("≤ +{}", unit.value(goal)),
            Goal::TimesAtMost(goal) => format!("≤ {goal}×"),
        });
        let Self { work, measure, host, .. } = self;
        write!(
            f,
            "| {work} | {measure} | {straight} | {} | {compared} | {goal} | {} |",
            unit.spread(*host),
            self.verdict()
        )
    }
}

impl Row {
    fn verdict(&self) -> String {
        let compared = self.compared.map(|(Compared::Added(spread) | Compared::Times(spread))| spread.median);
        let (value, goal, met) = match self.goal {
            None => return String::new(),
            Some(Goal::AtLeast(goal)) => (self.host.median, goal, self.host.median >= goal),
            Some(Goal::AtMost(goal)) => (self.host.median, goal, self.host.median <= goal),
            Some(Goal::AddedAtMost(goal) | Goal::TimesAtMost(goal)) => {
                let value = compared.unwrap_or(f64::INFINITY);
                (value, goal, value <= goal)
            }
        };
        if met { "met".to_owned() } else { format!("missed: {:.2} of it", value / goal) }
    }
}

impl Unit {
    fn spread(self, Spread { median, min, max }: Spread) -> String {
        format!("{} ({}–{})", self.value(median), self.number(min), self.number(max))
    }

    fn value(self, value: f64) -> String {
        let unit = match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => " ms",
            Self::Nanoseconds => " ns",
            Self::Mebibytes => " MiB",
            Self::Kibibytes => " KiB",
        };
        format!("{}{unit}", self.number(value))
    }

    fn number(self, value: f64) -> String {
        let mut text = String::new();
        // Writing into memory cannot fail.
        let _written = match self {
            Self::PerSecond | Self::Nanoseconds => write!(text, "{}", Thousands(value)),
            Self::Milliseconds => write!(text, "{value:.2}"),
            Self::Mebibytes | Self::Kibibytes => write!(text, "{value:.1}"),
        };
        text
    }
}

/// A whole number with commas.
struct Thousands(f64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0);
        for (at, digit) in digits.char_indices() {
            let after = digits.len() - at;
            if at > 0 && after % 3 == 0 && !digits[..at].ends_with('-') {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { median, min: median / 2.0, max: median * 2.0 }
    }

    #[test]
    fn a_row_reads_as_people_write() {
        let row = Row {
            work: "flat",
            measure: "events",
            unit: Unit::PerSecond,
            straight: Some(spread(1_234_567.0)),
            host: spread(98_765.4),
            compared: Some(Compared::Times(spread(0.08))),
            goal: Some(Goal::AtLeast(100_000.0)),
        };
        assert_eq!(
            row.to_string(),
            "| flat | events | 1,234,567/s (617,284–2,469,134) | 98,765/s (49,383–197,531) | 0.08× (0.04–0.16) | \
             ≥ 100,000/s | missed: 0.99 of it |"
        );
    }

    #[test]
    fn a_goal_is_about_what_it_says() {
        let verdict = |compared, goal| {
            let (work, measure, unit) = ("many", "delay", Unit::Milliseconds);
            Row { work, measure, unit, straight: None, host: spread(5.0), compared, goal: Some(goal) }.verdict()
        };
        assert_eq!(verdict(Some(Compared::Added(spread(2.0))), Goal::AddedAtMost(3.0)), "met");
        assert_eq!(verdict(Some(Compared::Added(spread(6.0))), Goal::AddedAtMost(3.0)), "missed: 2.00 of it");
        assert_eq!(verdict(None, Goal::AtMost(5.0)), "met");
        assert_eq!(verdict(None, Goal::AtLeast(10.0)), "missed: 0.50 of it");
    }
}
