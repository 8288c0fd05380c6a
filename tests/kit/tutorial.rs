//! The tutorial of docs/adapters.md as a script, and what it must come to.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

pub const DOCUMENT: &str = include_str!("../../docs/adapters.md");

/// What a turn of the sample is, as the simulated vendor plays it.
const TURN: [&str; 7] = [
    "user.message",
    "user.message",
    "session.status_running",
    "agent.tool_use",
    "agent.tool_result",
    "agent.message",
    "session.status_idle",
];

/// The commands of a text that are for these readers: those in blocks of `sh`, and of `sh` with one of the words behind it.
pub fn commands(text: &str, readers: &[&str]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let meant = match fence.split_once(' ') {
            Some((shell, reader)) => shell == "sh" && readers.contains(&reader),
            None => fence == "sh",
        };
        if meant {
            commands.extend(block.into_iter().map(str::to_owned));
        }
    }
    commands
}

/// A port that nobody listens on now.
fn free_port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// What this run leaves for the next one.
pub fn target(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_lap")).ancestors().nth(2).unwrap().join("kit").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// An empty directory that is the same at each run: cargo keeps one build of a project for each place that it lies in.
pub fn empty_directory() -> PathBuf {
    let folder = target("rust").join("work");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    folder
}

/// A shell as a reader of the tutorial has it, with `lap` on its path, and nothing of the cargo that runs this test.
pub fn shell(script: &str, directory: &Path) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_lap")).parent().unwrap().to_owned();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let mut shell = Command::new("bash");
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        shell.env_remove(name);
    }
    // What this repository has fetched is what a project needs. Few guests need little address space.
    shell.env("PATH", path).env("CARGO_NET_OFFLINE", "true").env("LAP_GUESTS_MAX", "64").env_remove("RUSTFLAGS");
    shell.arg("-c").arg(script).current_dir(directory).process_group(0).kill_on_drop(true).stdin(Stdio::null());
    shell
}

/// Follows the tutorial in an empty directory, to the letter but for two ports, which may be taken, and for where cargo
/// keeps what it has built; and answers what was said. The project stays in `directory`.
pub async fn follow(directory: &Path, readers: &[&str]) -> String {
    let script = commands(DOCUMENT, readers).join("\n");
    let script = script.replace("4000", &free_port()).replace("4200", &free_port());
    // Whatever was started in the background ends with the script, however that ends.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{script}\n");
    // What crates are compiled to stays for the next run; it lies beside what is removed.
    symlink(target("rust/target"), directory.join("kept")).unwrap();
    let script = script.replace("cd my_chat\n", "cd my_chat\nif [ -f Cargo.toml ]; then ln -s ../kept target; fi\n");

    let mut shell = shell(&script, directory);
    let shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let group = Pid::from_raw(shell.id().unwrap().try_into().unwrap()).unwrap();
    let ended = shell.wait_with_output().await.unwrap();
    // All have ended by themselves, as a rule.
    _ = kill_process_group(group, Signal::KILL);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&ended.stdout);
    assert!(ended.status.success(), "{readers:?}: {:?}\n{said}\n{}", ended.status, text(&ended.stderr));
    said
}

/// The events that curl has shown.
pub fn answered_through_curl(said: &str) {
    let events: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events, TURN, "{said}");
    assert!(said.contains(r#""text":"You said: Hello""#), "{said}");
}

/// The events that the official SDK has printed, on a stream that it opens before it sends.
pub fn answered_through_the_sdk(said: &str) {
    let from_the_sdk = |line: &&str| line.split(' ').next().is_some_and(|kind| TURN.contains(&kind));
    let events: Vec<_> = said.lines().filter(from_the_sdk).collect();
    let expected = [
        "user.message Hello from the SDK",
        "user.message Hello from the SDK",
        "session.status_running",
        "agent.tool_use",
        "agent.tool_result nothing is known of it",
        "agent.message You said: Hello from the SDK",
        "session.status_idle",
    ];
    assert_eq!(events, expected, "{said}");
}
