//! Stores that older versions have written, and what the present one makes of them: it reads all, goes on with what was left,
//! and restores their backups.
//!
//! A folder here is named after the commit of the version. `make.py` made it with the program of that version, which it says
//! how to run; it is never made again. The store in it was left by a `kill -9` in the middle of a turn, with two prompts in
//! its queue, and has sessions in every other state, too: `listing.json` is what the old host answered of them just before.
//! The third party's component in it is a small one of `harness/guests.rs`, under the name `hostile`.
//!
//! The credentials in a store point to one address for ever, on a loopback network that nothing else uses, where a test that
//! wants an upstream starts the simulator and hands it the sessions of then (`upstream.json`). Tests take turns there, also
//! with those of other processes. Elsewhere than on Linux that address has to be configured before:
//! `ifconfig lo0 alias 127.83.69.35`.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::{self, Stdio},
    time::Duration,
};

use lap_simulator::{Options, Past, Script, Simulator, script::Step};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::harness::{
    ANTHROPIC, Client,
    dice::Dice,
    processed,
    program::{Program, ended, lap},
};

const UPSTREAM: &str = "127.83.69.35:18350";
/// The credential in the store.
const UPSTREAM_KEY: &str = "sk-ant-fixture-of-a-store";
/// Sessions to which nothing happens unless a client does something.
const AT_REST: [&str; 8] =
    ["finished", "asking", "failed", "terminated", "archived", "interrupted", "aliased", "killed"];

/// A copy of what db69350 left.
struct Fixture {
    directory: TempDir,
    master_key: String,
    /// What the host said then.
    listing: Value,
    /// While it is held nobody else is at the upstream's address.
    _address: File,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/store/db69350")
}

fn read(file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

fn settings(data: &str) -> [&str; 6] {
    ["--master-key-file", "master.key", "--vault-key-file", "vault.key", "--data-dir", data]
}

impl Fixture {
    async fn unpack() -> Self {
        let address = tokio::task::spawn_blocking(|| {
            let file = File::create(env::temp_dir().join("lap-tests-127.83.69.35.lock")).unwrap();
            file.lock().unwrap();
            file
        });
        let directory = tempfile::tempdir().unwrap();
        let mut tar = process::Command::new("tar");
        tar.arg("-xzf").arg(folder().join("store.tar.gz")).arg("-C").arg(directory.path());
        assert!(tar.status().unwrap().success(), "tar cannot unpack the store");
        let master_key = fs::read_to_string(directory.path().join("master.key")).unwrap().trim().to_owned();
        Self { directory, master_key, listing: read("listing.json"), _address: address.await.unwrap() }
    }

    async fn serve(&self, data: &str) -> Program {
        Program::serve(self.directory.path(), &settings(data), &self.master_key).await
    }

    /// The session with this name in the fixture.
    fn id(&self, name: &str) -> &str {
        self.listing["names"][name].as_str().unwrap()
    }

    /// What its log had.
    fn events(&self, name: &str) -> &[Value] {
        self.listing["events"][self.id(name)].as_array().unwrap()
    }

    /// All that the old host told is told by this one, but for the session whose turn runs.
    async fn is_told_by(&self, client: &Client) {
        for name in AT_REST {
            let id = self.id(name);
            assert_eq!(client.list(id).await, self.events(name), "{name}");
            let messages = client.get(&format!("/session/{id}/message")).await.ok();
            assert_eq!(messages, self.listing["messages"][id], "{name}");
            let session = client.get(&format!("/session/{id}")).await.ok();
            assert_eq!(settled(&session), settled(&self.listing["sessions"][id]), "{name}");
            let session = client.send(http::Method::GET, &format!("/v1/sessions/{id}"), &ANTHROPIC, None).await.ok();
            assert_eq!(settled(&session), settled(&self.listing["anthropic"][id]), "{name}");
        }
        let listed = client.get("/session").await.ok();
        assert_eq!(listed.as_array().unwrap().len(), AT_REST.len() + 1);
        let running = client.list(self.id("running")).await;
        assert_eq!(running[..self.events("running").len()], *self.events("running"));

        let agents = client.get("/api/agents").await.ok();
        assert_eq!(agents, self.listing["agents"]);
        let agent = agents["agents"][0]["id"].as_str().unwrap();
        let versions = client.send(http::Method::GET, &format!("/v1/agents/{agent}/versions"), &ANTHROPIC, None).await;
        assert_eq!(versions.ok(), self.listing["versions"]);
        let harnesses = client.get("/api/runtime-harnesses").await.ok();
        let fields = ["alias", "api_spec", "api_base", "connected", "masked_api_key"];
        assert_eq!(only(&harnesses["harnesses"], fields), only(&self.listing["harnesses"]["harnesses"], fields));
        let runtimes = client.get("/api/agent-runtimes").await.ok();
        let fields = ["id", "source", "connected", "api_base", "masked_api_key"];
        assert_eq!(only(&runtimes["runtimes"], fields), only(&self.listing["runtimes"]["runtimes"], fields));
        let component = |runtimes: &Value| {
            let mut all = runtimes["runtimes"].as_array().unwrap().iter();
            all.find(|runtime| runtime["source"] == "added").unwrap()["component"].clone()
        };
        assert_eq!(
            component(&runtimes),
            component(&self.listing["runtimes"]),
            "the bytes of a third party's component"
        );

        assert_eq!(client.get("/api/keys").await.ok(), self.listing["keys"]);
        let key = fs::read_to_string(self.directory.path().join("client.key")).unwrap();
        let me = client.with_key(Some(key.trim())).get("/api/me").await.ok();
        assert_eq!((&me["role"], &me["owner_id"]), (&json!("member"), &json!("ada")));
    }
}

/// A session without what another build or another time changes: the bundled component, and how old it is.
fn settled(session: &Value) -> Value {
    let mut session = session.clone();
    session.as_object_mut().unwrap().remove("component");
    if let Some(stats) = session.get_mut("stats").and_then(Value::as_object_mut) {
        stats.remove("duration_seconds");
    }
    session
}

/// Some fields of each of a list.
fn only<const N: usize>(list: &Value, fields: [&str; N]) -> Vec<[Value; N]> {
    list.as_array().unwrap().iter().map(|item| fields.map(|field| item[field].clone())).collect()
}

/// The upstream of then, at its address, which knows no session yet.
fn upstream() -> Simulator {
    let options = Options { api_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let script = Script::of([Step::message("You said: “{prompt}”")]);
    Simulator::start(UPSTREAM.parse().unwrap(), script, options).unwrap()
}

/// The sessions of then, by the names that they have in the fixture.
fn pasts() -> Map<String, Value> {
    read("upstream.json").as_object().unwrap().clone()
}

fn past(name: &str) -> Past {
    serde_json::from_value(pasts()[name].clone()).unwrap()
}

fn texts(events: &[Value]) -> Vec<&str> {
    let said = events.iter().filter(|event| event["type"] == "agent.message");
    said.map(|event| event["content"][0]["text"].as_str().unwrap()).collect()
}

async fn prompt(client: &Client, session: &str, text: &str) {
    let answer = client.prompt(session, text).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
}

/// The log of the session whose turn ran, once nothing more will happen: what was, what the upstream said, and the queue's
/// turns.
async fn went_on(fixture: &Fixture, client: &Client, simulator: &Simulator) {
    let id = fixture.id("running");
    client.turn(id).await;
    let log = client.list(id).await;
    assert_eq!(log[..fixture.events("running").len()], *fixture.events("running"), "what was told stays");
    let wanted = ["working", "Done alone.", "You said: “first in the queue”", "You said: “second in the queue”"];
    assert_eq!(texts(&log), wanted);
    assert_eq!(
        processed(log.clone()),
        processed(simulator.events(past("running").id())),
        "all that the upstream said, once"
    );
    let session = client.get(&format!("/session/{id}")).await.ok();
    assert_eq!((&session["status"], session.get("queued")), (&json!("idle"), None), "{session}");
    let messages = client.get(&format!("/session/{id}/message")).await.ok();
    let waits = messages.as_array().unwrap().iter().any(|message| message["info"].get("status").is_some());
    assert!(!waits, "{messages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_db69350_is_read_as_it_was_written() {
    let fixture = Fixture::unpack().await;
    let program = fixture.serve("data").await;
    fixture.is_told_by(&program.client).await;
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_db69350_is_taken_over_whole_though_each_start_on_it_is_killed() {
    const KILLS: u64 = 30;
    let fixture = Fixture::unpack().await;
    let mut dice = Dice::of(6);
    for kill in 0..KILLS {
        let arguments = [&["serve", "--listen", "127.0.0.1:0", "--guests-max", "16"][..], &settings("data")].concat();
        let mut command = lap(fixture.directory.path(), &arguments);
        let mut host = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Both files are open after some ten milliseconds. Then the runtimes are compiled, and sessions go on.
        let life = Duration::from_millis(dice.below(if kill % 3 == 0 { 1_000 } else { 50 }));
        assert!(timeout(life, host.wait()).await.is_err(), "it ended by itself");
        host.kill().await.unwrap();
    }
    let program = fixture.serve("data").await;
    fixture.is_told_by(&program.client).await;
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ran_at_the_kill_goes_on_and_what_waited_is_answered() {
    let fixture = Fixture::unpack().await;
    let simulator = upstream();
    // The first sight of the prompt was shown by the stream alone, so the upstream's history has one event less.
    let (past, later) = past("running").split(fixture.events("running").len() - 1);
    let theirs = past.id().to_owned();
    simulator.adopt(past);
    let program = fixture.serve("data").await;
    while simulator.recorder().streams().open == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(program.client.status(fixture.id("running")).await, "running");
    assert!(!later.is_empty());
    for event in later {
        simulator.inject(&theirs, event).unwrap();
    }
    went_on(&fixture, &program.client, &simulator).await;
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ended_while_no_host_ran_is_shown_to_its_end_and_what_waited_is_answered() {
    let fixture = Fixture::unpack().await;
    let simulator = upstream();
    simulator.adopt(past("running"));
    let program = fixture.serve("data").await;
    went_on(&fixture, &program.client, &simulator).await;
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_upstream_has_lost_the_session_ends_in_an_error() {
    let fixture = Fixture::unpack().await;
    let _simulator = upstream();
    let program = fixture.serve("data").await;
    let id = fixture.id("running");
    let events = program.client.turn(id).await;
    let error = events.iter().rfind(|event| event.name == "session.error").unwrap();
    assert_eq!(error.json["error"]["retry_status"]["type"], "exhausted");
    let last = events.last().unwrap();
    assert_eq!((&*last.name, &last.json["stop_reason"]["type"]), ("session.status_idle", &json!("retries_exhausted")));
    assert_eq!(program.client.status(id).await, "error");
    let messages = program.client.get(&format!("/session/{id}/message")).await.ok();
    let states: Vec<_> = messages.as_array().unwrap().iter().map(|message| &message["info"]["status"]).collect();
    assert_eq!(states, [&Value::Null, &json!("withdrawn"), &json!("withdrawn")]);
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_db69350_take_prompts_and_answers() {
    let fixture = Fixture::unpack().await;
    let simulator = upstream();
    for name in ["finished", "failed", "interrupted", "aliased", "asking"] {
        simulator.adopt(past(name));
    }
    let program = fixture.serve("data").await;
    let client = &program.client;
    for name in ["finished", "failed", "interrupted", "aliased"] {
        let (id, before) = (fixture.id(name), fixture.events(name));
        prompt(client, id, "and now?").await;
        client.turn(id).await;
        let log = client.list(id).await;
        assert_eq!(log[..before.len()], *before, "{name}");
        assert_eq!(texts(&log[before.len()..]), ["You said: “and now?”"], "{name}");
        assert_eq!(client.status(id).await, "idle", "{name}");
    }
    let (id, before) = (fixture.id("asking"), fixture.events("asking"));
    let tool = &before.iter().find(|event| event["type"] == "agent.tool_use").unwrap()["id"];
    let verdict = json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": tool, "result": "allow"}]});
    client.post(&format!("/v1/sessions/{id}/events"), &verdict).await.ok();
    let log = client.turn(id).await;
    assert!(log[before.len()..].iter().any(|event| event.name == "agent.tool_result"));
    assert_eq!(client.status(id).await, "idle");
    for (name, code) in
        [("terminated", "session_terminated"), ("killed", "session_terminated"), ("archived", "session_archived")]
    {
        assert_eq!(client.prompt(fixture.id(name), "and now?").await.code(), code, "{name}");
    }
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_db69350_is_restored_and_gives_the_same() {
    let fixture = Fixture::unpack().await;
    let directory = fixture.directory.path();
    let words = ["restore", "lap.backup", "--data-dir", "restored", "--vault-key-file", "vault.key"];
    let restored = ended(&mut lap(directory, &words)).await;
    assert_eq!((restored.code, &*restored.stderr), (Some(0), ""), "{}", restored.stdout);
    for words in ["9 sessions", "1 agents", "everything opens"] {
        assert!(restored.stdout.contains(words), "{words:?} is not in: {}", restored.stdout);
    }
    let program = fixture.serve("restored").await;
    fixture.is_told_by(&program.client).await;
    program.kill().await;
    let simulator = upstream();
    simulator.adopt(past("running"));
    let program = fixture.serve("restored").await;
    went_on(&fixture, &program.client, &simulator).await;
    program.kill().await;
}
