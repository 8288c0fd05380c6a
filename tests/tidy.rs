//! The "only" rules of `host/src/lib.rs`, and what must not stand in the source at all, checked over its text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A word, and the files or folders of `host/src` that may use it. Comments and tests do not count.
const ONLY: &[(&str, &[&str])] = &[
    ("axum::", &["http/"]),
    ("StatusCode", &["http/", "upstream/"]),
    ("std::env", &["config.rs"]),
    ("env::var", &["config.rs"]),
    ("SystemTime", &["clock.rs"]),
    ("jiff::", &["clock.rs"]),
    ("rustix::time", &["clock.rs"]),
    ("wasmtime", &["runtime/"]),
    ("unsafe {", &["runtime/cache.rs", "runtime/lane.rs"]),
    ("redb::", &[]),
    // Only `host/seal` encrypts.
    ("ring::aead", &[]),
    ("ring::hkdf", &[]),
    ("reqwest", &["upstream/", "demo.rs"]),
    (".expose()", &["upstream/", "vault/"]),
    ("open_credential(", &["upstream/", "vault/"]),
    // Others ask the upstream cache, which knows what is stored now.
    (" Upstream::open(", &["upstream/"]),
    (".writer(", &["events/", "session/"]),
    ("anyhow", &["main.rs", "demo.rs", "simulate.rs"]),
    ("lap_simulator", &["demo.rs", "simulate.rs"]),
    // Lower modules do not know higher ones.
    ("crate::http", &["http/", "lib.rs", "main.rs"]),
    ("crate::session", &["conformance/", "http/", "session/", "lib.rs"]),
    ("crate::registry", &["backup/", "http/", "manage/", "registry/", "session/", "host.rs", "lib.rs"]),
    // No vendor in the host: runtimes know vendors.
    ("anthropic", &["http/", "demo.rs", "simulate.rs", "config.rs"]),
    // These are defaults of the dialects.
    ("claude", &["demo.rs", "agents/mod.rs", "http/lap/agents.rs", "config.rs"]),
];

/// What stands nowhere in Rust source.
const NEVER: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "dbg!("];

struct Source {
    /// Relative to the folder that was read.
    path: String,
    /// Without comments and without its tests.
    code: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(folder: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap() != "target" {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, code: code_of(&text), text });
            }
        }
    }
    assert!(!sources.is_empty(), "no source in {}", folder.display());
    sources
}

fn code_of(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\n#[allow").next().unwrap_or_default();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn only_the_modules_that_may_do_it_do_it() {
    let mut broken = Vec::new();
    let sources = read(&root().join("host/src"));
    // Worlds that tests of the crate's inside live in.
    let of_tests = sources.iter().filter(|source| source.text.contains("\n#![cfg(test)]\n"));
    let worlds: Vec<_> = of_tests.map(|source| source.path.trim_end_matches("mod.rs")).collect();
    for source in &sources {
        if source.path.ends_with("tests.rs") || worlds.iter().any(|world| source.path.starts_with(world)) {
            continue;
        }
        for (word, allowed) in ONLY {
            let may = allowed.iter().any(|place| source.path.starts_with(place));
            if !may && source.code.contains(word) {
                broken.push(format!("{} has `{word}`, which only {allowed:?} may", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn runtimes_depend_on_the_contract_and_the_sdk_alone() {
    for source in read(&root().join("runtimes")) {
        // No runtime, but a vendor to try one on.
        if source.path == "templates/rust/examples/vendor.rs" {
            continue;
        }
        for word in ["use lap::", "wasmtime", "reqwest", "tokio", "std::net", "std::fs"] {
            assert!(!source.code.contains(word), "{} has `{word}`", source.path);
        }
    }
}

#[test]
fn nothing_is_left_open() {
    for folder in ["host", "runtimes"] {
        for source in read(&root().join(folder)) {
            for word in NEVER {
                assert!(!source.text.contains(word), "{folder}/{} has `{word}`", source.path);
            }
        }
    }
}

#[test]
fn every_module_opens_with_a_front_page() {
    for folder in ["host/src", "host/simulator/src", "runtimes", "tests"] {
        for source in read(&root().join(folder)) {
            assert!(source.text.starts_with("//!"), "{folder}/{} does not say what it is", source.path);
        }
    }
}

/// Browsers get what people read: nothing makes it smaller on the way.
#[test]
fn a_script_of_the_console_is_short_enough_to_be_read() {
    const LINES_MAX: usize = 300;
    let assets = root().join("host/src/http/console/assets");
    for folder in [assets.clone(), assets.join("watcher")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "js") {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
            }
        }
    }
}
