//! What is printed: tables, and what a version of a runtime would change.

use std::fmt::Write;

use serde::Deserialize;

use super::add::Done;
use crate::{id::ComponentDigest, registry::Review};

/// What is read of a runtime. Hosts of later versions may tell more.
#[derive(Deserialize)]
pub(super) struct Runtime {
    pub(super) id: String,
    pub(super) component: Option<ComponentDigest>,
    name: String,
    source: String,
    state: String,
    failure: Option<String>,
    connected: bool,
    #[serde(default)]
    pub(super) versions: Vec<Version>,
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) component: ComponentDigest,
    bytes: u64,
    current: bool,
    added_at: String,
    state: String,
    failure: Option<String>,
}

/// A digest as a table has room for: enough digits to tell versions apart, and to name one.
pub(super) fn component(component: Option<ComponentDigest>) -> String {
    component.map_or_else(|| "–".to_owned(), |component| component.to_string()["sha256:".len()..][..12].to_owned())
}

pub(super) fn runtimes(all: &[Runtime]) -> String {
    let mut table = Table::new(&["RUNTIME", "NAME", "SOURCE", "COMPONENT", "STATE", "CREDENTIAL"]);
    for runtime in all {
        let credential = if runtime.connected { "stored" } else { "none" };
        let component = component(runtime.component);
        table.row(&[&runtime.id, &runtime.name, &runtime.source, &component, &runtime.state, credential]);
        table.note(runtime.failure.as_deref());
    }
    table.text()
}

pub(super) fn versions(runtime: &Runtime) -> String {
    if runtime.versions.is_empty() {
        let Runtime { id, source, .. } = runtime;
        let failure = runtime.failure.as_deref().unwrap_or_default();
        return format!("{id} ({source}): {}  {failure}\n", component(runtime.component));
    }
    let mut table = Table::new(&["", "COMPONENT", "ADDED", "BYTES", "STATE"]);
    for version in &runtime.versions {
        let mark = if version.current { "*" } else { "" };
        let (digest, bytes) = (component(Some(version.component)), version.bytes.to_string());
        table.row(&[mark, &digest, &version.added_at, &bytes, &version.state]);
        table.note(version.failure.as_deref());
    }
    table.text()
}

pub(super) fn review(review: &Review) -> String {
    let mut text = match review.replaces {
        Some(old) => format!("{}: in place of {}\n", review.runtime, component(Some(old))),
        None => format!("{}: a new runtime\n", review.runtime),
    };
    for change in &review.changes {
        // Writing to a String cannot fail.
        let _written = write!(text, "{change}");
    }
    text
}

pub(super) fn done(done: &Done) -> String {
    let Done { runtime, replaces } = done;
    let now = component(runtime.component);
    match replaces {
        None => format!("{}: new sessions get {now}", runtime.id),
        Some(old) if Some(*old) == runtime.component => format!("{}: new sessions get {now}, as before", runtime.id),
        Some(old) => format!("{}: new sessions get {now}, and no longer {}", runtime.id, component(Some(*old))),
    }
}

/// Text in columns, each as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    Note(String),
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new() };
        table.row(head);
        table
    }

    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows.push(Row::Cells(cells.iter().map(|cell| (*cell).to_owned()).collect()));
    }

    /// A line of its own beneath a row.
    fn note(&mut self, text: Option<&str>) {
        self.rows.extend(text.map(|text| Row::Note(text.to_owned())));
    }

    pub(super) fn text(&self) -> String {
        let mut widths = Vec::new();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                widths.resize(cells.len().max(widths.len()), 0);
                let wider = |(width, cell): (&mut usize, &String)| *width = (*width).max(cell.chars().count());
                widths.iter_mut().zip(cells).for_each(wider);
            }
        }
        let line = |row: &Row| match row {
            Row::Cells(cells) => {
                let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
                padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
            }
            Row::Note(text) => format!("    {text}\n"),
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_has_no_spaces_at_the_end() {
        let mut table = Table::new(&["", "ONE", "TWO"]);
        table.row(&["*", "ä", "second"]);
        table.note(Some("why"));
        table.row(&["", "longer", ""]);
        assert_eq!(table.text(), "   ONE     TWO\n*  ä       second\n    why\n   longer\n");
    }
}
