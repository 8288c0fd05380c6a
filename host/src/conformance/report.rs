//! What the suite has found, for people and for programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::runtime::{CALL_CPU, Description};

/// Findings that people are shown; a program gets all of them.
const SHOWN_MAX: usize = 20;

/// All that the suite has found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The runtime's own name.
    pub runtime: String,
    /// What was tried.
    pub rows: Vec<Row>,
    /// What was wrong.
    pub findings: Vec<Finding>,
    /// Calls that were made, all together.
    pub calls: usize,
    /// The largest state, in bytes.
    pub state_bytes_max: usize,
    /// The longest call of each export.
    #[serde(rename = "longest_us", serialize_with = "micros")]
    pub longest: BTreeMap<&'static str, Duration>,
}

fn micros<S: Serializer>(longest: &BTreeMap<&'static str, Duration>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(longest.iter().map(|(export, took)| (export, took.as_micros())))
}

/// Variants of one kind.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// What was changed about it.
    pub title: &'static str,
    /// How many times.
    pub variants: usize,
    /// How often it went wrong.
    pub failed: usize,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Runs this alone with `--only`.
    pub name: String,
    /// What was called.
    pub export: Option<&'static str>,
    /// With what, shortened.
    pub input: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What the call gave, shortened.
    pub outcome: Option<String>,
    /// What the guest said in that call: its log, and its panic where it writes one.
    pub log: Vec<String>,
}

impl Row {
    pub(super) fn new(scenario: &str, title: &'static str) -> Self {
        Self { scenario: scenario.to_owned(), title, variants: 0, failed: 0 }
    }
}

impl Finding {
    pub(super) const fn of_component(message: String) -> Self {
        let name = String::new();
        Self { name, export: None, input: None, message, outcome: None, log: Vec::new() }
    }
}

impl Report {
    pub(super) fn new(description: &Description) -> Self {
        Self {
            runtime: description.id.clone(),
            rows: Vec::new(),
            findings: Vec::new(),
            calls: 0,
            state_bytes_max: 0,
            longest: BTreeMap::new(),
        }
    }

    /// True when nothing was wrong.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.scenario.len()).max().unwrap_or_default();
        for row in &self.rows {
            let verdict = if row.failed == 0 { "ok".to_owned() } else { format!("{} FAILED", row.failed) };
            writeln!(f, "{:width$}  {:34} {:6}  {verdict}", row.scenario, row.title, row.variants)?;
        }
        // Of findings that say the same the first stands for all.
        let mut alike: Vec<(&Finding, usize)> = Vec::new();
        for finding in &self.findings {
            match alike.iter_mut().find(|(shown, _)| shown.message == finding.message) {
                Some((_, count)) => *count += 1,
                None => alike.push((finding, 0)),
            }
        }
        for (finding, more) in alike.iter().take(SHOWN_MAX) {
            finding.fmt(f)?;
            if *more > 0 {
                writeln!(f, "      and in {more} more variants")?;
            }
        }
        if alike.len() > SHOWN_MAX {
            writeln!(f, "\n… and {} more findings; --json has them all", alike.len() - SHOWN_MAX)?;
        }
        writeln!(f)?;
        if let Some((export, took)) = self.longest.iter().max_by_key(|(_, took)| **took) {
            let budget = CALL_CPU.as_millis();
            writeln!(f, "longest call   {export}, {} µs; a call may compute for {budget} ms", took.as_micros())?;
        }
        writeln!(f, "largest state  {} bytes of 65536", self.state_bytes_max)?;
        let variants: usize = self.rows.iter().map(|row| row.variants).sum();
        let verdict = match self.findings.len() {
            0 => "passed".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        writeln!(f, "{}: {verdict}, in {variants} variants and {} calls", self.runtime, self.calls)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nFAIL  {}", self.message)?;
        if let (Some(export), Some(input)) = (self.export, &self.input) {
            writeln!(f, "      {export}: {input}")?;
        }
        if let Some(outcome) = &self.outcome {
            writeln!(f, "      gave: {outcome}")?;
        }
        for line in &self.log {
            writeln!(f, "      guest: {line:?}")?;
        }
        if self.name.is_empty() { Ok(()) } else { writeln!(f, "      again: --only {}", self.name) }
    }
}
