//! The flow of README.md does what it says, pasted as it stands. Method: its code blocks are given to bash as one script, with
//! the real program and `lap simulate` as the upstream; what differs from a reader's machine is the environment that the
//! page names.

use std::{net::TcpListener, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::harness::{UPSTREAM_KEY, anywhere, program::lap};

/// The code blocks of a section, in order.
fn blocks(page: &str, section: &str) -> Vec<String> {
    let (_, section) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section.split("\n```\n").skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_flow_of_the_readme_runs_as_it_stands() {
    let page = include_str!("../README.md");
    let blocks = blocks(page, "The flow");
    assert!(blocks.len() > 1 && blocks[0].contains("lap serve"), "{blocks:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut upstream = lap(folder.path(), &["simulate", "--listen", "127.0.0.1:0", "--api-key", UPSTREAM_KEY]);
    let mut upstream = upstream.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(upstream.stdout.take().unwrap()).lines();
    let said = said.next_line().await.unwrap().expect("it says where it listens");
    let base = said.split_whitespace().last().unwrap();
    // Nobody listens there but the host that the page starts.
    let free = TcpListener::bind(anywhere()).unwrap().local_addr().unwrap();
    // The host that a reader leaves running ends with the script here, also with one that fails.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n{}\n", blocks.join("\n"));
    let programs = Path::new(env!("CARGO_BIN_EXE_lap")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ended = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .envs([("PATH", &*path), ("LAP_LISTEN", &free.to_string()), ("LAP_GUESTS_MAX", "16")])
        .envs([("ANTHROPIC_API_KEY", UPSTREAM_KEY), ("ANTHROPIC_BASE_URL", base)])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("bash runs the page's commands, with curl and jq");
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}\n{said}\n{complained}", ended.status);
    let events: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events.first(), Some(&"user.message"), "from the first event on: {said}");
    assert!(events.contains(&"agent.message"), "{said}");
    assert_eq!(events.last(), Some(&"session.status_idle"), "until the turn is over: {said}");
    assert!(folder.path().join("data").is_dir());
    assert!(!said.contains(UPSTREAM_KEY), "the key is shown: {said}");
}
