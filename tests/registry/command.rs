//! `lap runtime add`, `list`, `rollback` and `remove`, run as a user runs them, against a host that serves.

use std::{fs, path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::harness::{
    MASTER_KEY,
    program::{Ended, Program, ended, lap},
    variant::{ID, Variant},
};

struct Desk {
    directory: TempDir,
    program: Program,
}

impl Desk {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        let program = Program::serve(directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
        Self { directory, program }
    }

    /// Writes a project's files, as a build does.
    fn build(&self, variant: &Variant) {
        write(self.directory.path(), "echo.wasm", &variant.component);
        write(self.directory.path(), "runtime.toml", variant.manifest.as_bytes());
    }

    fn settings(&self) -> Vec<String> {
        let address = self.program.client.base.strip_prefix("http://").unwrap().to_owned();
        ["--listen", &address, "--master-key-file", "key-of-the-api"].map(str::to_owned).to_vec()
    }

    async fn runtime(&self, words: &[&str]) -> Ended {
        let settings = self.settings();
        let settings = settings.iter().map(String::as_str);
        let arguments: Vec<_> = ["runtime"].into_iter().chain(words.iter().copied()).chain(settings).collect();
        ended(&mut lap(self.directory.path(), &arguments)).await
    }

    async fn current(&self) -> String {
        let detail = self.program.client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
        detail["component"].as_str().unwrap().to_owned()
    }
}

/// In one step, so that nobody sees half of a file.
fn write(directory: &Path, name: &str, bytes: &[u8]) {
    fs::write(directory.join("new"), bytes).unwrap();
    fs::rename(directory.join("new"), directory.join(name)).unwrap();
}

fn well(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for word in words {
        assert!(ended.stdout.contains(word), "{word:?} is not in: {}", ended.stdout);
    }
}

fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.lines().count() == 1 && ended.stderr.starts_with("lap: "), "one line: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
}

fn short(variant: &Variant) -> String {
    variant.digest()["sha256:".len()..][..12].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_s_whole_life_from_a_shell() {
    let desk = Desk::new().await;
    let (first, second) = (Variant::of(1), Variant::of(2));
    desk.build(&first);
    let asked = desk.runtime(&["add", "echo.wasm"]).await;
    refused(&asked, 1, &["nothing was changed", "--grant grant_"]);
    assert!(asked.stdout.contains("+ auth      x-api-key: …\n"), "{}", asked.stdout);
    let grant = asked.stderr.split_whitespace().find(|word| word.starts_with("grant_")).unwrap();
    let grant = grant.trim_end_matches(',');
    well(
        &desk.runtime(&["add", "echo.wasm", "--grant", grant]).await,
        &[&format!("new sessions get {}", short(&first))],
    );
    well(&desk.runtime(&["add", "echo.wasm"]).await, &["as before"]);

    desk.build(&second);
    refused(&desk.runtime(&["add", "echo.wasm", "--grant", grant]).await, 1, &["--grant grant_"]);
    let added = desk.runtime(&["add", "echo.wasm", "--manifest", "runtime.toml", "--yes"]).await;
    well(&added, &["- component", "+ component", &format!("and no longer {}", short(&first))]);
    assert!(!added.stdout.contains("allow"), "what is as before is not shown: {}", added.stdout);

    let list = desk.runtime(&["list"]).await;
    well(&list, &["RUNTIME", "claude_managed_agents", "bundled", &short(&second)]);
    let versions = desk.runtime(&["list", ID]).await;
    well(&versions, &[&format!("*  {}", short(&second)), &format!("   {}", short(&first))]);
    let json = desk.runtime(&["list", ID, "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap()["component"], second.digest());

    well(&desk.runtime(&["rollback", ID]).await, &[&short(&first)]);
    assert_eq!(desk.current().await, first.digest());
    refused(&desk.runtime(&["rollback", ID]).await, 1, &["no version that was added before"]);
    well(&desk.runtime(&["rollback", ID, "--to", &short(&second)]).await, &[&short(&second)]);
    refused(&desk.runtime(&["rollback", ID, "--to", "zz"]).await, 1, &["0 versions", "begin with \"zz\""]);
    refused(&desk.runtime(&["remove", ID]).await, 1, &["say --yes"]);
    well(&desk.runtime(&["remove", ID, "--version", &short(&first), "--yes"]).await, &["was removed"]);
    well(&desk.runtime(&["remove", ID, "--yes"]).await, &["was removed"]);
    refused(&desk.runtime(&["list", ID]).await, 1, &["has no runtime"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_or_a_host_is_not_is_said_in_one_line() {
    let desk = Desk::new().await;
    refused(&desk.runtime(&["add", "echo.wasm"]).await, 2, &["no runtime.toml", "--manifest"]);
    write(desk.directory.path(), "runtime.toml", b"");
    refused(&desk.runtime(&["add", "echo.wasm"]).await, 2, &["echo.wasm", "cannot be read"]);
    write(desk.directory.path(), "echo.wasm", b"(module)");
    refused(&desk.runtime(&["add", "echo.wasm"]).await, 1, &["not WebAssembly"]);
    let (bundled, component) = lap::bundled()[0];
    write(desk.directory.path(), "echo.wasm", component);
    write(desk.directory.path(), "runtime.toml", bundled.as_bytes());
    refused(&desk.runtime(&["add", "echo.wasm", "--yes"]).await, 1, &["part of this program", "another `id`"]);
    let nowhere = ["runtime", "list", "--listen", "127.0.0.1:1", "--master-key-file", "key-of-the-api"];
    refused(&ended(&mut lap(desk.directory.path(), &nowhere)).await, 1, &["nothing answers", "--listen"]);
    let keyless = ["runtime", "list", "--master-key-file", "no-key"];
    refused(&ended(&mut lap(desk.directory.path(), &keyless)).await, 78, &["no-key"]);
}

/// `lap runtime add --watch`, line by line.
struct Watch {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(desk: &Desk) -> Self {
        let settings = desk.settings();
        let settings = settings.iter().map(String::as_str);
        let arguments: Vec<_> =
            ["runtime", "add", "echo.wasm", "--watch", "--yes"].into_iter().chain(settings).collect();
        let mut command = lap(desk.directory.path(), &arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// Reads on until a line has this text.
    async fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_follows_good_builds_and_keeps_the_last_one_while_a_build_is_broken() {
    let desk = Desk::new().await;
    let (first, second, third) = (Variant::of(1), Variant::of(2), Variant::of(3));
    desk.build(&first);
    let mut watch = Watch::start(&desk);
    watch.until(&format!("new sessions get {}", short(&first))).await;
    watch.until("watching echo.wasm and").await;
    write(desk.directory.path(), "echo.wasm", &second.component);
    watch.until(&format!("new sessions get {}", short(&second))).await;
    write(desk.directory.path(), "echo.wasm", &second.component[..1000]);
    watch.until("the last good one stays").await;
    assert_eq!(desk.current().await, second.digest());
    write(desk.directory.path(), "echo.wasm", &third.component);
    watch.until(&format!("new sessions get {}", short(&third))).await;
    write(desk.directory.path(), "runtime.toml", first.manifest.replace("x-api-key", "authorization").as_bytes());
    let line = watch.until("the last good one stays").await;
    assert!(line.contains("auth header: the component says"), "{line}");
    assert_eq!(desk.current().await, third.digest());
    // Builds that nobody is on go when the next one comes.
    let detail = desk.program.client.get(&format!("/api/agent-runtimes/{ID}")).await.ok();
    assert_eq!(detail["versions"].as_array().unwrap().len(), 1, "{detail}");
}
