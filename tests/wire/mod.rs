//! The wire, recorded: what clients of both dialects are told, status by status, header by header, event by event, and what
//! commands print. Each scenario is a test, and has one file in `corpus/` with all that was sent and answered.
//!
//! A test fails where the host answers otherwise than its file says, and shows the lines that differ. Such a difference is
//! a fault, or a decision: then a page in docs/decisions names it, and the file is recorded again:
//!
//! ```text
//! LAP_RECORD_WIRE=1 cargo test --test suites wire::                     # all files
//! LAP_RECORD_WIRE=1 cargo test --test suites wire::turns::a_plain_turn  # one file
//! git add --patch tests/wire/corpus                                     # accept one difference after the other
//! ```
//!
//! How to read a file: `##` says what happens, `>` is what a client sends, `<` is what it is answered, and a stream's lines
//! stand as they came. What cannot be the same twice has a name in angle brackets (`names.rs`): ids are numbered in the
//! order of their appearance (`<ses_1>`), those of events within their type (`<sevt agent.message 2>`), so that one event
//! more does not rename all others. JSON keeps the order of its members and is laid out by `layout.rs`. Headers that each
//! answer has alike are in `every_answer.txt` and nowhere else (`tape.rs`).
//!
//! A scenario records what is promised, and no order of two things that are independent of each other: it waits for the one
//! before it begins with the other. A turn that shall run for as long as the scenario wants is held by the simulator
//! (`step = "hold"`).
//!
//! In reading order: `tape.rs`, `names.rs`, `layout.rs`, `difference.rs`; then the scenarios.

mod access;
mod anthropic;
mod commands;
mod difference;
mod endings;
mod guests;
mod layout;
mod names;
mod objects;
mod refusals;
mod repeats;
mod runtimes;
mod tape;
mod turns;

use lap_simulator::Script;

use self::tape::Tape;
use crate::harness::World;

/// What the simulated agent does in all scenarios.
const SCRIPT: &str = include_str!("script.toml");

/// A host with a credential, and a tape for one scenario.
async fn world(scenario: &'static str) -> (World, Tape) {
    (World::start(script()).await, Tape::new(scenario))
}

fn script() -> Script {
    SCRIPT.parse().unwrap()
}

/// The body of a prompt as LAP's own UI sends it: a model, which that API wants, and one part of text.
fn parts(text: &str) -> serde_json::Value {
    serde_json::json!({"model": {"modelID": "claude-opus-4-5"}, "parts": [{"type": "text", "text": text}]})
}

#[test]
fn every_file_of_the_corpus_belongs_to_a_scenario() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/wire");
    let texts = |folder: &std::path::Path, kind: &str| -> Vec<(String, String)> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let of_kind = entries.filter(|path| path.extension().is_some_and(|extension| extension == kind));
        of_kind
            .map(|path| {
                (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
            })
            .collect()
    };
    let scenarios: String = texts(&folder, "rs").into_iter().map(|(_, text)| text).collect();
    for (name, _) in texts(&folder.join("corpus"), "txt") {
        assert!(scenarios.contains(&format!("\"{name}\"")), "corpus/{name}.txt is compared with nothing: remove it");
    }
}
