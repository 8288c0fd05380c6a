//! The suite for authors of runtimes: that it passes what is right, and that it catches what is wrong.

mod bundled;
mod command;
mod golden;
mod mutants;
mod replay;

use std::path::{Path, PathBuf};

use lap::conformance::Named;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The scenarios of a folder.
fn scenarios(folder: &Path) -> Vec<Named> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    let named = |path: PathBuf| {
        let scenario = std::fs::read_to_string(&path).unwrap().parse();
        let scenario = scenario.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Named { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), scenario }
    };
    files.into_iter().map(named).collect()
}
