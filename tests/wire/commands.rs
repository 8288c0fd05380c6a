//! What `lap` prints: its helps, and the commands that ask a host.

use std::{fs, path::Path};

use super::Tape;
use crate::harness::{
    MASTER_KEY,
    program::{Program, ended, lap},
};

/// Runs a command and records it.
async fn run(tape: &mut Tape, directory: &Path, words: &[&str]) {
    let ended = ended(&mut lap(directory, words)).await;
    tape.command(words, &ended);
}

#[tokio::test]
async fn helps() {
    let mut tape = Tape::new("helps");
    let directory = tempfile::tempdir().unwrap();
    for words in [
        "--help",
        "serve --help",
        "demo --help",
        "simulate --help",
        "healthcheck --help",
        "backup --help",
        "restore --help",
        "key --help",
        "key mint --help",
        "key list --help",
        "key revoke --help",
        "runtime --help",
        "runtime new --help",
        "runtime check --help",
        "runtime test --help",
        "runtime replay --help",
        "runtime add --help",
        "runtime list --help",
        "runtime rollback --help",
        "runtime remove --help",
        "",
        "nothing",
    ] {
        run(&mut tape, directory.path(), &words.split_whitespace().collect::<Vec<_>>()).await;
    }
    tape.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo() {
    let mut tape = Tape::new("the_demo");
    let directory = tempfile::tempdir().unwrap();
    let words = ["demo", "--once"];
    let ended = ended(&mut lap(directory.path(), &words)).await;
    let store = ended.stdout.split_once("stores in ").unwrap().1.lines().next().unwrap().to_owned();
    tape.call(&store, "a temporary directory");
    // What it logs besides is for operators.
    tape.command(&words, &crate::harness::program::Ended { stderr: String::new(), ..ended });
    tape.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_ask_a_host() {
    let mut tape = Tape::new("commands_that_ask_a_host");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
    let program = Program::serve(directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
    let address = program.client.base.strip_prefix("http://").unwrap();
    let settings = ["--listen", address, "--master-key-file", "key-of-the-api"];
    let ask = async |tape: &mut Tape, words: &[&str]| run(tape, directory.path(), &[words, &settings].concat()).await;
    ask(&mut tape, &["healthcheck"]).await;
    tape.note("Keys");
    ask(&mut tape, &["key", "list"]).await;
    ask(&mut tape, &["key", "mint", "--label", "ci", "--role", "reader", "--owner", "ada"]).await;
    ask(&mut tape, &["key", "mint", "--role", "admin", "--json"]).await;
    ask(&mut tape, &["key", "list"]).await;
    ask(&mut tape, &["key", "list", "--json"]).await;
    let keys = program.client.get("/api/keys").await.ok();
    let id = keys["keys"][1]["id"].as_str().unwrap();
    ask(&mut tape, &["key", "revoke", id]).await;
    ask(&mut tape, &["key", "revoke", id]).await;
    tape.note("Runtimes");
    ask(&mut tape, &["runtime", "list"]).await;
    ask(&mut tape, &["runtime", "list", "claude_managed_agents"]).await;
    ask(&mut tape, &["runtime", "list", "nope"]).await;
    ask(&mut tape, &["runtime", "remove", "nope"]).await;
    tape.note("A host that does not answer, and a wrong key");
    run(&mut tape, directory.path(), &["healthcheck", "--listen", "127.0.0.1:9"]).await;
    run(
        &mut tape,
        directory.path(),
        &["key", "list", "--listen", "127.0.0.1:9", "--master-key-file", "key-of-the-api"],
    )
    .await;
    fs::write(directory.path().join("another"), "sk-another-key").unwrap();
    run(&mut tape, directory.path(), &["key", "list", "--listen", address, "--master-key-file", "another"]).await;
    tape.done();
}
