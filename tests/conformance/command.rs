//! `lap runtime check` and `lap runtime test`, as authors run them.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::root;

pub(super) fn lap(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lap")).args(arguments).current_dir(directory).output().unwrap()
}

/// A project's folder with a bundled component and its manifest.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, component) = lap::bundled()[1];
    std::fs::write(folder.path().join("runtime.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("it.wasm"), component).unwrap();
    folder
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_fitting_component_is_accepted_with_all_that_it_asks_for() {
    let folder = project();
    let output = lap(&["runtime", "check", "it.wasm"], folder.path());
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for fact in
        ["contract   0.1.0", "credential authorization: Bearer <credential>", "id         openai_responses", "sha256:"]
    {
        assert!(text.contains(fact), "{fact}: {text}");
    }
    assert!(!text.contains("warning"), "{text}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let folder = project();
    let manifest = std::fs::read_to_string(folder.path().join("runtime.toml")).unwrap();
    let manifest = manifest.replace("\"openai_responses\"", "\"other\"").replace("\"authorization\"", "\"x-key\"");
    std::fs::write(folder.path().join("other.toml"), manifest).unwrap();
    let output = lap(&["runtime", "check", "it.wasm", "--manifest", "other.toml", "--json"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let check: Value = serde_json::from_slice(&output.stdout).unwrap();
    let codes: Vec<_> = check["problems"].as_array().unwrap().iter().map(|problem| &problem["code"]).collect();
    assert_eq!(codes, ["mismatch", "mismatch"], "{check}");
    assert_eq!((&check["accepted"], &check["asks"]["id"]), (&Value::Bool(false), &"openai_responses".into()));
}

#[test]
fn what_cannot_be_read_is_another_thing_than_what_is_refused() {
    let folder = project();
    let output = lap(&["runtime", "check", "missing.wasm"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.wasm cannot be read"));
    std::fs::write(folder.path().join("text.wasm"), "(component)").unwrap();
    for command in ["check", "test"] {
        let output = lap(&["runtime", command, "text.wasm"], folder.path());
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains("name the .wasm file that your build tool makes"));
    }
    std::fs::write(folder.path().join("bad.toml"), "title = 1").unwrap();
    let output = lap(&["runtime", "test", "it.wasm", "--scenario", "bad.toml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.toml: "));
}

#[test]
fn a_variant_runs_alone_and_a_wrong_expectation_is_found() {
    let folder = project();
    let scenarios = root().join("runtimes/openai_responses/scenarios");
    let scenarios = scenarios.to_str().unwrap();
    let only = ["runtime", "test", "it.wasm", "--scenario", scenarios, "--only", "turns/fault/429", "--json"];
    let output = lap(&only, folder.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let faults: Vec<_> =
        report["rows"].as_array().unwrap().iter().filter(|row| row["title"] == "requests that fail").collect();
    assert_eq!(faults.len(), 1, "{report}");

    let turns = std::fs::read_to_string(format!("{scenarios}/turns.toml")).unwrap();
    let wrong = turns.replace("\"id\":\"gpt-5-mini\"", "\"id\":\"gpt-6\"");
    std::fs::write(folder.path().join("wrong.toml"), wrong).unwrap();
    let output = lap(&["runtime", "test", "it.wasm", "--scenario", "wrong.toml"], folder.path());
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("FAIL  it lists the models") && text.contains("again: --only wrong/as-written"), "{text}");
}
