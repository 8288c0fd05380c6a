//! The official SDKs, as their users use them: against the real program, on each of its runtimes.
//!
//! `LAP_SDK_DIR` names a folder with what `.ci/run` installs: `python-VERSION/bin/python` with each of
//! `python/VERSION.txt`, and `node/` with `node/package.json`. What is missing fails the test.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod harness;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use harness::{MASTER_KEY, anywhere, program, responses::Responses, simulator};
use lap_simulator::{Options, Script, Simulator};
use tokio::process::Command;

/// The versions of the Python SDK: the newest of each of the three headers generations that are in use.
const PYTHON: [&str; 3] = ["2.12.0", "1.17.0", "0.125.0"];

/// The names under which the versions of the TypeScript SDK are installed.
const NODE: [&str; 2] = ["@anthropic-ai/sdk", "sdk-0.137.0"];

/// The version whose types are the measure of what is answered.
const STRICT: &str = PYTHON[0];

fn installed() -> PathBuf {
    let installed = env::var_os("LAP_SDK_DIR").expect("LAP_SDK_DIR names the folder with the SDKs");
    fs::canonicalize(installed).unwrap()
}

fn python(version: &str, script: &str) -> Command {
    let mut command = Command::new(installed().join(format!("python-{version}/bin/python")));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sdk").join(script));
    command
}

/// What a command said, which must have ended well.
async fn succeeds(command: &mut Command) -> String {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&ended.stdout);
    assert!(ended.status.success(), "{command:?}\n{said}\n{}", text(&ended.stderr));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_flow_works_against_the_simulator() {
    let options = Options { api_key: Some("sk-ant-sdk".to_owned()), ..Options::default() };
    let simulator = Simulator::start(anywhere(), Script::default(), options).unwrap();
    let mut flow = python(STRICT, "simulator_main_flow.py");
    succeeds(flow.env("ANTHROPIC_BASE_URL", simulator.base_url()).env("ANTHROPIC_API_KEY", "sk-ant-sdk")).await;
}

/// Runs everything against the real program, checks that every answer is exactly of its type, and returns the program of
/// literals that was compiled for that.
async fn users_are_served(runtime: &str, upstream: &str) -> PathBuf {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--guests-max", "512", "--default-runtime", runtime];
    let arguments = [&arguments[..], &["--master-key-file", "key-of-the-api"]].concat();
    let host = program::Program::start(program::lap(directory.path(), &arguments), MASTER_KEY).await;
    let host = host.unwrap_or_else(|ended| panic!("{}", ended.stderr));
    host.client.connect_to(runtime, upstream).await;
    let users = |command: &mut Command| {
        command.env("ANTHROPIC_BASE_URL", &host.client.base).env("ANTHROPIC_API_KEY", MASTER_KEY);
        command.env("SUITE_RUNTIME", runtime);
    };
    for version in PYTHON {
        let mut suite = python(version, "suite.py");
        users(suite.arg("--record").arg(directory.path().join(version)));
        println!("{}", succeeds(&mut suite).await);
    }
    let node = installed().join("node");
    let suite = "suite.mjs";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sdk/node").join(suite), node.join(suite)).unwrap();
    for package in NODE {
        let mut command = Command::new("node");
        users(command.current_dir(&node).args([suite, package]));
        println!("{}", succeeds(&mut command).await);
    }
    let program = node.join(format!("answers-of-{runtime}.ts"));
    let mut strict = python(STRICT, "strict.py");
    println!("{}", succeeds(strict.arg(directory.path().join(STRICT)).arg(&program)).await);
    succeeds(&mut compiler(&program)).await;
    program
}

fn compiler(program: &Path) -> Command {
    let mut compiler = Command::new(installed().join("node/node_modules/.bin/tsc"));
    let options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"];
    compiler.args(options).arg(program);
    compiler
}

#[tokio::test(flavor = "multi_thread")]
async fn official_sdks_work_on_a_runtime_that_is_built_quite_differently() {
    let upstream = Responses::default().serve().await;
    users_are_served("openai_responses", &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn official_sdks_work_and_every_answer_is_exactly_of_its_type() {
    let script: Script = include_str!("script.toml").parse().unwrap();
    let simulator = simulator(script);
    let program = users_are_served(harness::RUNTIME, &simulator.base_url()).await;
    // The compiler finds what is wrong: one key too many in the first answer.
    let good = fs::read_to_string(&program).unwrap();
    fs::write(&program, good.replacen(" = {", " = {\"extra\": 1, ", 1)).unwrap();
    let refused = compiler(&program).output().await;
    assert!(!refused.unwrap().status.success(), "an extra key is not noticed");
}
