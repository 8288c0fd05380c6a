//! The tutorial of docs/adapters.md, followed literally in an empty directory and in each language, to the answer through
//! curl and through the official SDK.
//!
//! It fetches what a reader would fetch: packages of npm and of Python. `.ci/run` runs it; Node, npm, Python and curl have
//! to be there.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

mod tutorial;

use std::{fs, path::Path};

use self::tutorial::{
    DOCUMENT, answered_through_curl, answered_through_the_sdk, commands, empty_directory, follow, shell, target,
};

/// Follows the tutorial and keeps the component, which the benchmark takes.
async fn leads_to_an_answer(directory: &Path, language: &str, component: &str) {
    let said = follow(directory, &[language, "sdk"]).await;
    answered_through_curl(&said);
    answered_through_the_sdk(&said);
    let kept = target("components").join(format!("{language}.wasm"));
    fs::copy(directory.join("my_chat").join(component), kept).unwrap();
}

#[tokio::test]
async fn the_tutorial_leads_to_an_answer_in_rust_which_is_formatted_and_without_lints() {
    let directory = empty_directory();
    leads_to_an_answer(&directory, "rust", "target/wasm32-unknown-unknown/release/adapter.wasm").await;
    for check in ["cargo fmt --check", "cargo clippy --all-targets -- -D warnings"] {
        assert!(shell(check, &directory.join("my_chat")).status().await.unwrap().success(), "{check}");
    }
}

#[tokio::test]
async fn the_tutorial_leads_to_an_answer_in_javascript() {
    let directory = tempfile::tempdir().unwrap();
    leads_to_an_answer(directory.path(), "js", "adapter.wasm").await;
}

#[tokio::test]
async fn the_tutorial_leads_to_an_answer_in_python() {
    let directory = tempfile::tempdir().unwrap();
    leads_to_an_answer(directory.path(), "python", "adapter.wasm").await;
}

/// Who is offline has the project's own pages.
#[test]
fn the_pages_of_a_project_have_the_commands_of_the_tutorial() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtimes/templates");
    let page = |path: &str| fs::read_to_string(templates.join(path)).unwrap();
    for language in ["rust", "js", "python"] {
        let pages = [page(&format!("{language}/README.md")), page("shared/RUN.md")].join("\n");
        let pages = commands(&pages.replace("example_chat", "my_chat"), &[]);
        let tutorial = commands(DOCUMENT, &[language, "sdk"]);
        let here = [format!("lap runtime new my_chat --lang {language}"), "cd my_chat".to_owned()];
        assert_eq!(tutorial, [&here[..], &pages[..]].concat(), "{language}");
    }
}
