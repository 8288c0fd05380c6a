//! Starts: the first one, and those that must not succeed.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Stdio,
    time::Duration,
};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::harness::{
    Client, MASTER_KEY, RUNTIME,
    program::{Ended, Program, ended, files, lap},
};

async fn serve(directory: &Path, more: &[&str]) -> Ended {
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--guests-max", "16"], more].concat();
    ended(lap(directory, &arguments).env("LAP_MASTER_KEY", MASTER_KEY)).await
}

/// A refusal is one line for people, a code for their scripts, and no change of anything.
async fn refuses(directory: &Path, more: &[&str], code: i32, words: &[&str]) {
    let before = files(directory);
    let ended = serve(directory, more).await;
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout, "", "it must not say that it listens");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("lap: "), "one line: {}", ended.stderr);
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in: {}", lines[0]);
    }
    let after = files(directory);
    assert!(before == after, "the refusal of {words:?} changed a file");
}

/// A directory with a store that a host has made, and nobody uses.
async fn store() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::serve(directory.path(), &[], "").await;
    let (status, _) = program.terminate().await;
    assert!(status.success());
    // The cache is the engine's own, which cleans it up when it likes.
    fs::remove_dir_all(directory.path().join("data/cache")).unwrap();
    directory
}

#[tokio::test]
async fn a_command_whose_reader_is_gone_has_said_enough_and_one_that_cannot_tell_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let create = |name: &str, out: Stdio| {
        let mut command = lap(directory.path(), &["runtime", "new", name, "--lang", "rust"]);
        command.stdout(out).stderr(Stdio::piped());
        async move { command.spawn().unwrap().wait_with_output().await.unwrap() }
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = create("first", writer.into()).await;
    assert_eq!((gone.status.code(), String::from_utf8_lossy(&gone.stderr).as_ref()), (Some(0), ""));
    let full = create("second", full().into()).await;
    let said = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(said.starts_with("lap: standard output cannot be written to: ") && said.lines().count() == 1, "{said}");
    assert_eq!(full.status.code(), Some(1));
    assert!(["first", "second"].iter().all(|name| directory.path().join(name).join("runtime.toml").is_file()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_can_hear_serves_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let serve = ["serve", "--listen", &address.to_string(), "--guests-max", "16"];
    for round in 0..2 {
        let mut command = lap(directory.path(), &serve);
        command.env("LAP_MASTER_KEY", MASTER_KEY).stdout(full()).stderr(Stdio::piped());
        if round == 1 {
            command.stderr(full());
        }
        let mut child = command.spawn().unwrap();
        // Whoever read what it says is gone.
        drop(child.stderr.take());
        let client = Client::new(address, MASTER_KEY);
        let answers = async {
            while client.try_send(Method::GET, "/readyz", &[], None).await.is_err() {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
            }
        };
        timeout(Duration::from_secs(60), answers).await.expect("it does not serve");
        let wish = json!({"runtime": RUNTIME, "agent_id": "agent_of_nobody"});
        for _ in 0..3 {
            let answer = client.post("/session", &wish).await;
            assert!(answer.status.is_client_error(), "{}", answer.text);
        }
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_stands_still_holds_nobody_up_and_is_told_what_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // At this level each request is a line.
    let serve = ["serve", "--listen", &address.to_string(), "--guests-max", "16", "--log-level", "lap=debug"];
    let mut command = lap(directory.path(), &serve);
    let mut child = command.env("LAP_MASTER_KEY", MASTER_KEY).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let client = Client::new(address, MASTER_KEY);
    let answers = async {
        while client.try_send(Method::GET, "/readyz", &[], None).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
        }
        // More than a pipe holds, and than waits.
        for _ in 0..8000 {
            assert_eq!(client.get("/healthz").await.status, 200);
        }
    };
    timeout(Duration::from_secs(120), answers).await.expect("it does not serve");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = async {
        let mut seen = 0;
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            if line.contains("lines of the log were lost") {
                return (seen, line);
            }
            seen += 1;
        }
    };
    let (seen, told) = timeout(Duration::from_secs(60), told).await.expect("it does not tell what is lost");
    let lost: usize = told.rsplit_once("lines=").unwrap().1.trim_end().parse().unwrap();
    assert!(seen > 400 && lost > 1000 && seen + lost < 9000, "{seen} {lost}");
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().await.unwrap().success());
}

/// What cannot be written to.
fn full() -> fs::File {
    fs::File::options().write(true).open("/dev/full").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_what_it_needs_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::serve(directory.path(), &[], "").await;
    let data = directory.path().join("data");
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["1", "1"], "its memory can be dumped");
    for file in ["master.key", "vault.key", "vault.redb", "events.redb"] {
        assert_eq!(fs::metadata(data.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    let key = fs::read_to_string(data.join("master.key")).unwrap();
    let key = key.trim();
    let output = program.output();
    assert!(output.contains("master.key") && output.contains("vault.key"), "{output}");
    assert!(!output.contains(key), "a key is not for the screen");
    assert_eq!(program.client.with_key(Some(key)).get("/api/agents").await.status, 200);
    assert_eq!(program.client.with_key(Some("sk-other")).get("/api/agents").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_fit_changes_nothing() {
    let directory = store().await;
    let key = directory.path().join("data/vault.key");
    let right = fs::read(&key).unwrap();
    let write = |bytes: &[u8], mode| {
        fs::write(&key, bytes).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (bytes, mode, words) in [
        (&[7_u8; 32][..], 0o600, ["does not open this store", "k:"]),
        (&right[..], 0o644, ["vault.key", "chmod"]),
        (b"short", 0o600, ["vault.key", "32"]),
        (&[b'!'; 44], 0o600, ["vault.key", "32"]),
    ] {
        write(bytes, mode);
        refuses(directory.path(), &[], 78, &words).await;
    }
    fs::remove_file(&key).unwrap();
    refuses(directory.path(), &[], 78, &["vault.key"]).await;
    fs::create_dir(&key).unwrap();
    refuses(directory.path(), &[], 78, &["vault.key"]).await;
    fs::remove_dir(&key).unwrap();
    write(&right, 0o600);
    Program::serve(directory.path(), &[], "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_whole_is_refused_by_name() {
    for file in ["vault.redb", "store.json", "events.redb"] {
        let directory = store().await;
        fs::remove_file(directory.path().join("data").join(file)).unwrap();
        refuses(directory.path(), &[], 78, &[file]).await;
    }
    let directory = store().await;
    fs::write(directory.path().join("data/events.redb"), "").unwrap();
    refuses(directory.path(), &[], 78, &["events.redb"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_meant_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lap.toml"), "\nlistn = 1\n").unwrap();
    refuses(directory.path(), &["--config", "lap.toml"], 78, &["lap.toml", "line 2", "listn"]).await;
    refuses(directory.path(), &["--allow-upstream", "10.0.0.1/8"], 78, &["10.0.0.1/8"]).await;
    refuses(directory.path(), &["--log-level", "=="], 78, &["log level"]).await;
    fs::write(directory.path().join("file"), "").unwrap();
    refuses(directory.path(), &["--data-dir", "file"], 78, &["file"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_leaves_the_first_alone() {
    let directory = tempfile::tempdir().unwrap();
    let first = Program::serve(directory.path(), &[], "").await;
    let second = serve(directory.path(), &[]).await;
    assert_eq!(second.code, Some(69), "{}", second.stderr);
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    let port = first.client.base.strip_prefix("http://").unwrap().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let third = ended(&mut lap(elsewhere.path(), &["serve", "--guests-max", "16", "--listen", &port])).await;
    assert_eq!(third.code, Some(69), "{}", third.stderr);
    assert!(third.stderr.contains(&port), "{}", third.stderr);
    assert_eq!(first.client.get("/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bent_vault_is_refused_or_whole_and_never_a_crash() {
    let directory = store().await;
    let path = directory.path().join("data/vault.redb");
    let right = fs::read(&path).unwrap();
    for step in 0..12 {
        let mut bent = right.clone();
        let at = right.len() / 12 * step + 137;
        bent[at] ^= 0x10;
        fs::write(&path, &bent).unwrap();
        match Program::try_serve(directory.path(), &[], "").await {
            // The byte does not matter.
            Ok(program) => program.kill().await,
            Err(ended) => {
                assert_eq!(ended.code, Some(78), "byte {at}: {}", ended.stderr);
                assert!(!ended.stderr.contains("panicked"), "byte {at}: {}", ended.stderr);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_commands_do_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let demo = ended(lap(directory.path(), &["demo", "--once"]).env("TMPDIR", directory.path())).await;
    assert_eq!(demo.code, Some(0), "{}", demo.stderr);
    for line in
        ["session.status_running", "agent.message", "agent.tool_use", "agent.tool_result", "session.status_idle"]
    {
        assert!(demo.stdout.contains(line), "{line}: {}", demo.stdout);
    }
    let told = demo.stdout.lines().filter(|line| line.starts_with("user.message")).count();
    assert_eq!(told, 1, "the log has the message when it came and when it was processed: {}", demo.stdout);
    fs::write(directory.path().join("bad.toml"), "nonsense = 1").unwrap();
    let simulate = ended(&mut lap(directory.path(), &["simulate", "--script", "bad.toml"])).await;
    assert_eq!((simulate.code, simulate.stderr.contains("bad.toml")), (Some(1), true), "{}", simulate.stderr);
    let program = Program::serve(directory.path(), &[], "").await;
    let address = program.client.base.strip_prefix("http://").unwrap().to_owned();
    let check = async || ended(&mut lap(directory.path(), &["healthcheck", "--listen", &address])).await.code;
    assert_eq!(check().await, Some(0));
    program.kill().await;
    assert_eq!(check().await, Some(1));
}
