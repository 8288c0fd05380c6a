//! Backups of a host that works, and what becomes of them: whole, cut off, bent, killed half-way, restored.
//!
//! A restored host reads the upstream's history and would fill a gap in its log from there. So what a backup holds is
//! looked at while the upstream answers nobody.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use lap_simulator::{
    Faults, Script, Simulator,
    fault::{Answer, RequestFault},
    script::{Repeat, Step},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Event, MASTER_KEY, UPSTREAM_KEY, processed,
    program::{Ended, Program, ended, files, lap},
    simulator,
};

const PROMPT: &str = "canary-prompt-Zk3vQ9";
const SYSTEM: &str = "canary-system-prompt-x8Wq2L";

/// An upstream, a host on it, and a directory for both their things.
struct Place {
    simulator: Simulator,
    directory: TempDir,
    program: Program,
}

fn turn(count: u64, every_ms: u64, bytes: usize) -> Script {
    Script::of([Step::Repeat(Repeat { count, every_ms, bytes, ..Repeat::default() })])
}

impl Place {
    async fn new(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        let program = serve(directory.path(), "data").await;
        let simulator = simulator(script);
        program.client.connect(&simulator.base_url()).await;
        Self { simulator, directory, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn agent(&self) -> String {
        self.program.client.agent(&json!({"system": SYSTEM})).await
    }

    async fn backup(&self, file: &str) -> Ended {
        backup(self.directory.path(), &self.program, file).await
    }

    async fn restore(&self, file: &str, to: &str) -> Ended {
        let more = ["restore", file, "--data-dir", to, "--vault-key-file", "data/vault.key"];
        ended(&mut lap(self.directory.path(), &more)).await
    }

    /// From now on the upstream hangs up on everybody.
    fn upstream_hangs_up(&self) {
        let hang_up = RequestFault { times: u64::MAX, answer: Answer::HangUp, ..RequestFault::default() };
        self.simulator.set_faults(Faults { requests: vec![hang_up], ..Faults::default() });
    }
}

/// A host on the store in `data`, with the keys of the first one.
async fn serve(directory: &Path, data: &str) -> Program {
    let more = ["--master-key-file", "key-of-the-api", "--data-dir", data, "--vault-key-file", "data/vault.key"];
    if !directory.join("data/vault.key").exists() {
        fs::create_dir(directory.join("data")).unwrap();
    }
    Program::serve(directory, &more, MASTER_KEY).await
}

async fn backup(directory: &Path, program: &Program, file: &str) -> Ended {
    let address = program.client.base.strip_prefix("http://").unwrap();
    ended(&mut lap(directory, &["backup", file, "--listen", address, "--master-key-file", "key-of-the-api"])).await
}

fn succeeded(ended: &Ended) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
}

/// A refusal is one line that says what and where.
fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("lap: "), "one line: {}", ended.stderr);
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in: {}", lines[0]);
    }
}

/// How many of the events that were seen are not in a list, or not as they were.
fn lost(seen: &[Event], listed: &[Value]) -> usize {
    seen.iter().filter(|event| listed.get(usize::try_from(event.seq - 1).unwrap()) != Some(&event.json)).count()
}

/// The frames of a stream, to the last byte, from the first event on.
fn frames(raw: &[u8], count: usize) -> String {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    let first = text.find("id: 1\n").unwrap();
    text[first..].split_inclusive("\n\n").take(count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_all_that_was_seen_and_a_host_goes_on_from_it() {
    let place = Place::new(turn(1200, 4, 200)).await;
    let client = &place.program.client;
    let agent = place.agent().await;
    let mut sessions = Vec::new();
    for number in 0..4 {
        let id = client.session(&agent, Some(PROMPT)).await;
        let mut stream = client.stream(&id, "", &[]).await;
        let seen = stream.take(30 + 40 * number).await;
        sessions.push((id, seen, stream));
    }
    succeeded(&place.backup("lap.backup").await);
    for (id, _, stream) in &mut sessions {
        assert_eq!(client.status(id).await, "running", "the backup was not under load");
        // Later news, so that the first host is ahead of the backup.
        stream.take(20).await;
    }
    place.upstream_hangs_up();
    place.program.kill().await;
    let directory = place.directory.path();
    let restore = ["restore", "lap.backup", "--data-dir", "other", "--vault-key-file", "data/vault.key"];
    let restored = ended(&mut lap(directory, &restore)).await;
    succeeded(&restored);
    for words in ["4 sessions", "4 messages", "1 agents", "1 credentials", "everything opens"] {
        assert!(restored.stdout.contains(words), "{words}: {}", restored.stdout);
    }

    let program = serve(directory, "other").await;
    let client = &program.client;
    for (id, seen, before) in &sessions {
        assert_eq!(lost(seen, &client.list(id).await), 0);
        let mut after = client.stream(id, "", &[]).await;
        after.take(seen.len()).await;
        assert_eq!(frames(&after.raw, seen.len()), frames(&before.raw, seen.len()), "not a byte has changed");
        let beyond = client.get(&format!("/v1/sessions/{id}/events?after=1000000")).await;
        assert_eq!((beyond.status.as_u16(), beyond.code().as_str()), (409, "cursor_invalid"));
    }
    place.simulator.set_faults(Faults::default());
    for (id, _, _) in &sessions {
        let events = client.turn(id).await;
        assert_eq!(events.last().unwrap().name, "session.status_idle");
        let upstream = client.get(&format!("/session/{id}")).await.ok()["provider_session_id"].clone();
        let truth = place.simulator.events(upstream.as_str().unwrap());
        assert_eq!(processed(events.into_iter().map(|event| event.json)), processed(truth));
    }
    assert_eq!(client.get("/api/agents").await.ok()["agents"][0]["system"], SYSTEM);
    let fresh = client.session(&agent, Some("another turn")).await;
    assert_eq!(client.turn(&fresh).await.last().unwrap().name, "session.status_idle");
}

/// The control of the test above: what came after a backup is not in it, and `lost` says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_a_backup_is_found_missing() {
    let place = Place::new(Script::of([Step::message("You said {prompt}")])).await;
    let client = &place.program.client;
    let id = client.session(&place.agent().await, Some("first")).await;
    let first = client.turn(&id).await;
    succeeded(&place.backup("lap.backup").await);
    client.prompt(&id, "second").await;
    let both = client.turn(&id).await;
    place.upstream_hangs_up();
    succeeded(&place.restore("lap.backup", "other").await);
    let restored = serve(place.directory.path(), "other").await;
    let listed = restored.client.list(&id).await;
    assert_eq!((lost(&first, &listed), lost(&both, &listed)), (0, both.len() - first.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_keys_are_in_a_backup_and_their_text_is_not() {
    let place = Place::new(Script::default()).await;
    let minted = place.program.client.post("/api/keys", &json!({"label": "kept"})).await.json();
    let key = minted["key"].as_str().unwrap();
    succeeded(&place.backup("lap.backup").await);
    let bytes = fs::read(place.path("lap.backup")).unwrap();
    assert!(!bytes.windows(64).any(|window| window == &key.as_bytes()[3..]));
    succeeded(&place.restore("lap.backup", "other").await);
    let restored = serve(place.directory.path(), "other").await;
    assert_eq!(restored.client.with_key(Some(key)).get("/api/me").await.ok()["name"], minted["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_private_and_shows_nothing() {
    let place = Place::new(Script::of([Step::message("You said {prompt}")])).await;
    let id = place.program.client.session(&place.agent().await, Some(PROMPT)).await;
    place.program.client.turn(&id).await;
    let done = place.backup("lap.backup").await;
    succeeded(&done);
    for words in ["1 sessions, 1 agents, 1 credentials", "THE KEY IS NOT IN IT", "vault.key"] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    assert_eq!(fs::metadata(place.path("lap.backup")).unwrap().mode() & 0o777, 0o600);
    assert!(!place.path("lap.backup.partial").exists());
    let bytes = fs::read(place.path("lap.backup")).unwrap();
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    let key = fs::read_to_string(place.path("data/vault.key")).unwrap();
    let raw = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, key.trim()).unwrap();
    let secrets = [UPSTREAM_KEY, MASTER_KEY, PROMPT, SYSTEM, "You said", "my-agent", "api_base", key.trim()];
    for secret in secrets.map(str::as_bytes).into_iter().chain([raw.as_slice()]) {
        assert!(!has(secret), "{:?} is in the backup", String::from_utf8_lossy(secret));
    }
    assert!(has(b"sessions") && has(b"store"), "the search finds nothing at all");
    assert!(!place.program.output().contains(PROMPT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_refused_and_nothing_is_written() {
    let place = Place::new(Script::of([Step::message("You said {prompt}")])).await;
    let id = place.program.client.session(&place.agent().await, Some(PROMPT)).await;
    place.program.client.turn(&id).await;
    succeeded(&place.backup("lap.backup").await);
    let whole = fs::read(place.path("lap.backup")).unwrap();
    let (bent, other) = (place.path("bent"), place.path("other"));
    let refuses = |bytes: &[u8], what: &str| {
        fs::write(&bent, bytes).unwrap();
        let error = lap::backup::restore(&bent, &other, None).err().unwrap_or_else(|| panic!("{what} was restored"));
        assert!(matches!(error, lap::backup::RestoreError::Unusable { .. }), "{what}: {error}");
        assert!(!other.exists(), "{what} left something");
    };
    for length in (0..whole.len()).step_by(whole.len() / 200) {
        refuses(&whole[..length], &format!("the first {length} bytes"));
    }
    for at in (0..whole.len()).step_by(whole.len() / 400) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refuses(&bytes, &format!("a flipped bit of byte {at}"));
    }
    refuses(&[&whole[..], b"\n"].concat(), "a byte too many");
    refuses(&fs::read(place.path("data/vault.redb")).unwrap(), "a database");
    fs::write(&bent, &whole[..whole.len() - 1]).unwrap();
    refused(&place.restore("bent", "other").await, 1, &["bent", "cut off"]);
    fs::write(&bent, "{}").unwrap();
    refused(&place.restore("bent", "other").await, 1, &["bent", "not a backup"]);
    assert!(!other.exists());
    // The control: the same bytes, unbent.
    fs::write(&bent, &whole).unwrap();
    succeeded(&place.restore("bent", "other").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_and_restore_say_in_one_line_what_is_wrong() {
    let place = Place::new(Script::default()).await;
    fs::write(place.path("taken"), "precious").unwrap();
    refused(&place.backup("taken").await, 1, &["taken", "exists"]);
    assert_eq!(fs::read(place.path("taken")).unwrap(), b"precious");
    fs::write(place.path("lap.backup.partial"), "").unwrap();
    refused(&place.backup("lap.backup").await, 1, &["lap.backup.partial", "remove it"]);
    fs::remove_file(place.path("lap.backup.partial")).unwrap();
    refused(&place.backup("nowhere/lap.backup").await, 1, &["nowhere"]);
    let key = place.path("key-of-the-api");
    fs::write(&key, "sk-wrong").unwrap();
    refused(&place.backup("lap.backup").await, 1, &["401", "unauthorized"]);
    fs::write(&key, MASTER_KEY).unwrap();
    let keyless = ended(&mut lap(place.directory.path(), &["backup", "lap.backup", "--data-dir", "none"])).await;
    refused(&keyless, 78, &["master.key"]);
    assert!(!place.path("none").exists(), "a key was made up");

    succeeded(&place.backup("lap.backup").await);
    refused(&place.restore("lap.backup", "data").await, 1, &["data is not empty"]);
    refused(&place.restore("missing", "other").await, 1, &["missing"]);
    fs::create_dir(place.path("other")).unwrap();
    fs::copy(place.path("data/vault.key"), place.path("other/vault.key")).unwrap();
    fs::write(place.path("data/vault.key"), [b'k'; 32]).unwrap();
    let before = files(&place.path("other"));
    refused(&place.restore("lap.backup", "other").await, 78, &["does not open this store"]);
    assert!(files(&place.path("other")) == before, "something was written");
    let own_key = ["restore", "lap.backup", "--data-dir", "other"];
    let restored = ended(&mut lap(place.directory.path(), &own_key)).await;
    succeeded(&restored);
    assert!(restored.stdout.contains("everything opens with the key in other/vault.key"), "{}", restored.stdout);
    let no_key = ended(&mut lap(place.directory.path(), &["restore", "lap.backup", "--data-dir", "third"])).await;
    succeeded(&no_key);
    assert!(no_key.stdout.contains("THE KEY IS NOT IN A BACKUP"), "{}", no_key.stdout);
    for file in ["store.json", "vault.redb", "events.redb"] {
        assert_eq!(fs::metadata(place.path("third").join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(place.path("third")).unwrap().mode() & 0o777, 0o700);

    let address = place.program.client.base.strip_prefix("http://").unwrap().to_owned();
    place.program.kill().await;
    let more = ["backup", "late.backup", "--listen", &address, "--master-key-file", "key-of-the-api"];
    let unreachable = ended(&mut lap(place.directory.path(), &more)).await;
    refused(&unreachable, 1, &[&address, "nothing answers", "a copy of its directory", "data"]);
    assert!(!files(place.directory.path()).iter().any(|(path, _)| path.to_str().unwrap().contains("late")));
}

/// A log of some size: `mib` MiB in one session.
async fn filled(mib: u64) -> (Place, String) {
    const EVENT_BYTES: usize = 8 * 1024;
    let place = Place::new(turn(mib * 128, 0, EVENT_BYTES)).await;
    let id = place.program.client.session(&place.agent().await, Some(PROMPT)).await;
    let mut stream = place.program.client.stream(&id, "until=idle", &[]).await;
    while stream.chunk().await.is_some() {
        stream.raw.clear();
    }
    (place, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_the_next_backup_and_nothing_else() {
    let (place, id) = filled(16).await;
    let address = place.program.client.base.strip_prefix("http://").unwrap();
    let mut idle = TcpStream::connect(address).unwrap();
    let request = format!("GET /api/backup HTTP/1.1\r\nhost: lap\r\nauthorization: Bearer {MASTER_KEY}\r\n\r\n");
    idle.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    idle.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    let answer = place.program.client.get("/api/backup").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str(), answer.header("retry-after")),
        (409, "backup_busy", "10")
    );
    refused(&place.backup("second").await, 1, &["409", "another backup is under way"]);
    assert!(!place.path("second.partial").exists());
    assert_eq!(place.program.client.status(&id).await, "idle");
    drop(idle);
    // Its place is free once the host has noticed.
    while place.backup("second").await.code != Some(0) {}
    assert!(fs::metadata(place.path("second")).unwrap().len() > 16 * 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_however_long_the_log_is() {
    const LOG_MIB: u64 = 64;
    const MORE_KIB: u64 = 32 * 1024;
    let (place, _) = filled(LOG_MIB).await;
    let directory = place.directory;
    let (status, _) = place.program.terminate().await;
    assert!(status.success());
    // A host that has read nothing yet: whatever the backup needs comes on top.
    let program = serve(directory.path(), "data").await;
    program.client.get("/session").await.ok();
    let kib = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // Forgets the peak.
    fs::write(format!("/proc/{}/clear_refs", program.pid()), "5").unwrap();
    let before = kib("VmRSS:");
    succeeded(&backup(directory.path(), &program, "lap.backup").await);
    assert!(fs::metadata(directory.path().join("lap.backup")).unwrap().len() > LOG_MIB * 1024 * 1024);
    let more = kib("VmHWM:") - before;
    assert!(more < MORE_KIB, "{more} KiB more than the {before} before");
}

/// When a restore is killed.
#[derive(Debug, Clone, Copy)]
enum At {
    /// As soon as a file is there.
    File(&'static str),
    /// As soon as the log's file has this many bytes.
    LogBytes(u64),
}

#[tokio::test(flavor = "multi_thread")]
async fn no_host_starts_on_what_a_killed_restore_has_left() {
    const MIB: u64 = 1024 * 1024;
    let (place, id) = filled(24).await;
    succeeded(&place.backup("lap.backup").await);
    let listed = place.program.client.list(&id).await;
    let points = [
        At::File("events.redb"),
        At::File("vault.redb"),
        At::LogBytes(4 * MIB),
        At::LogBytes(9 * MIB),
        At::LogBytes(17 * MIB),
        At::LogBytes(24 * MIB),
        At::File("store.json.new"),
        At::File("store.json"),
    ];
    let mut outcomes = HashSet::new();
    for (number, at) in points.into_iter().enumerate() {
        let name = format!("killed-{number}");
        let directory = place.path(&name);
        let reached = || match at {
            At::File(file) => directory.join(file).exists(),
            At::LogBytes(bytes) => fs::metadata(directory.join("events.redb")).is_ok_and(|log| log.len() >= bytes),
        };
        let more = ["restore", "lap.backup", "--data-dir", &name, "--vault-key-file", "data/vault.key"];
        let mut restore = lap(place.directory.path(), &more).spawn().unwrap();
        while !reached() && restore.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        restore.kill().await.unwrap();
        let whole = directory.join("store.json").exists();
        let more = ["--master-key-file", "key-of-the-api", "--data-dir", &name, "--vault-key-file", "data/vault.key"];
        match Program::try_serve(place.directory.path(), &more, MASTER_KEY).await {
            Ok(program) => {
                assert!(whole, "{at:?}: a host has started on half a store");
                assert!(program.client.list(&id).await == listed, "{at:?}: it is not whole");
            }
            Err(ended) => {
                assert!(!whole, "{at:?}: {}", ended.stderr);
                assert_eq!(ended.code, Some(78), "{at:?}: {}", ended.stderr);
                assert!(ended.stderr.contains("if a restore was interrupted"), "{at:?}: {}", ended.stderr);
                let again = place.restore("lap.backup", &name).await;
                refused(&again, 1, &["is not empty"]);
            }
        }
        outcomes.insert(whole);
        fs::remove_dir_all(&directory).unwrap();
    }
    assert_eq!(outcomes.len(), 2, "all restores were killed too late, or all too early");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_at_once_are_both_whole_or_one_is_refused() {
    let (place, _) = filled(2).await;
    let (first, second) = tokio::join!(place.backup("first"), place.backup("second"));
    let mut made = 0;
    for (done, file) in [(&first, "first"), (&second, "second")] {
        if done.code == Some(0) {
            made += 1;
            succeeded(&place.restore(file, &format!("from-{file}")).await);
        } else {
            refused(done, 1, &["another backup is under way"]);
            assert!(!place.path(file).exists());
        }
    }
    assert!(made >= 1);
}
