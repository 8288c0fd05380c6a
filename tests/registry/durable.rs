//! What is left of added runtimes after kills, damage and restores.

use std::{fs, path::PathBuf, time::Duration};

use lap_simulator::{Script, Simulator, script::Step};
use lap_store::Table;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::harness::{
    ANTHROPIC, Client, MASTER_KEY, RUNTIME, UPSTREAM_KEY,
    dice::Dice,
    program::{Program, ended, lap},
    simulator,
    store::damage,
    variant::{ID, Variant},
};

/// A directory for a host, and the upstream of its runtimes.
struct Place {
    directory: TempDir,
    simulator: Simulator,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        Self { directory, simulator: simulator(Script::of([Step::message("done")])) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn serve(&self, data: &str) -> Program {
        Program::serve(self.directory.path(), &self.settings(data), MASTER_KEY).await
    }

    fn settings<'a>(&self, data: &'a str) -> [&'a str; 6] {
        ["--master-key-file", "key-of-the-api", "--vault-key-file", "vault.key", "--data-dir", data]
    }

    async fn session(&self, client: &Client) -> String {
        client.connect_to(ID, &self.simulator.base_url()).await;
        let agent = client.agent(&json!({"runtime": ID})).await;
        let session = client.session_on(ID, &agent, Some("hello")).await;
        runs(client, &session).await;
        session
    }
}

async fn runs(client: &Client, session: &str) {
    assert_eq!(client.turn(session).await.last().unwrap().name, "session.status_idle");
}

async fn detail(client: &Client) -> Value {
    client.get(&format!("/api/agent-runtimes/{ID}")).await.ok()
}

/// The host is killed at moments that a die chooses, while an operator adds one version after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_an_addition_leaves_one_version_or_the_other_whole() {
    const KILLS: u64 = 12;
    let place = Place::new();
    let mut dice = Dice::of(5);
    let mut program = place.serve("data").await;
    Variant::of(1).add(&program.client).await;
    let session = place.session(&program.client).await;
    let mut between = 0;
    for kill in 0..KILLS {
        let next = Variant::of(u8::try_from(kill).unwrap() + 2);
        let before = detail(&program.client).await["component"].clone();
        next.upload(&program.client).await;
        let asked = next.ask(&program.client, None).await;
        let grant = asked.json()["error"]["details"]["grant"].as_str().unwrap().to_owned();
        let body = json!({"component": next.digest(), "manifest": next.manifest, "grant": grant}).to_string();
        let client = program.client.clone();
        let mut adding = Box::pin(client.try_send(http::Method::POST, "/api/agent-runtimes", &[], Some(body)));
        // A probe takes some 100 ms, and the commit behind it a few. One kill comes before both.
        let life = Duration::from_millis(if kill == 0 { 0 } else { dice.below(250) });
        let answered = timeout(life, &mut adding).await;
        program.kill_now();
        let answered = match answered {
            Ok(answered) => answered,
            Err(_) => adding.await,
        };
        program.kill().await;
        program = place.serve("data").await;
        let after = detail(&program.client).await;
        assert!([&before, &json!(next.digest())].contains(&&after["component"]), "{after}");
        if answered.is_ok_and(|answer| answer.status == 201) {
            assert_eq!(after["component"], next.digest(), "an acknowledged version was lost");
        }
        between += u32::from(after["component"] == before);
        let agent = program.client.agent(&json!({"runtime": ID})).await;
        let fresh = program.client.session_on(ID, &agent, Some("hello")).await;
        runs(&program.client, &fresh).await;
        let on = program.client.get(&format!("/session/{fresh}")).await.ok()["component"].clone();
        assert_eq!(on, after["component"], "what is current runs");
    }
    assert_ne!(between, 0, "no kill came before the commit");
    program.client.prompt(&session, "still there?").await;
    runs(&program.client, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_versions_pins_and_grants() {
    let place = Place::new();
    let program = place.serve("data").await;
    Variant::of(1).add(&program.client).await;
    let session = place.session(&program.client).await;
    Variant::of(2).add(&program.client).await;
    let alias =
        json!({"alias": "mine", "api_spec": ID, "api_base": place.simulator.base_url(), "api_key": UPSTREAM_KEY});
    program.client.post("/api/runtime-harnesses", &alias).await.ok();
    let address = program.client.base.strip_prefix("http://").unwrap().to_owned();
    let backup = ["backup", "file", "--listen", &address, "--master-key-file", "key-of-the-api"];
    let backed_up = ended(&mut lap(place.directory.path(), &backup)).await;
    assert_eq!((backed_up.code, backed_up.stderr.as_str()), (Some(0), ""));
    let before = detail(&program.client).await;
    program.kill().await;
    let restore = ["restore", "file", "--data-dir", "other", "--vault-key-file", "vault.key"];
    let restored = ended(&mut lap(place.directory.path(), &restore)).await;
    assert!(restored.stdout.contains("everything opens"), "{}", restored.stderr);

    let program = place.serve("other").await;
    let after = detail(&program.client).await;
    for version in 0..2 {
        for part in ["component", "manifest", "grant", "added_at", "current"] {
            assert_eq!(after["versions"][version][part], before["versions"][version][part], "{part}");
        }
    }
    program.client.prompt(&session, "and on").await;
    runs(&program.client, &session).await;
    assert_eq!(program.client.get(&format!("/session/{session}")).await.ok()["component"], Variant::of(1).digest());
    let agent = program.client.agent(&json!({"runtime": "mine"})).await;
    runs(&program.client, &program.client.session_on("mine", &agent, Some("hello")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_alias_fails_and_can_be_removed_and_what_it_stood_for_runs() {
    let place = Place::new();
    let program = place.serve("data").await;
    let alias = json!({
        "alias": "mine", "api_spec": RUNTIME, "api_base": place.simulator.base_url(), "api_key": UPSTREAM_KEY,
    });
    program.client.post("/api/runtime-harnesses", &alias).await.ok();
    program.terminate().await;
    assert!(damage(&place.path("data/vault.redb"), Table::new("aliases")) > 0);
    let program = place.serve("data").await;
    let client = &program.client;
    let broken = client.get("/api/agent-runtimes/mine").await.ok();
    assert_eq!(
        (&broken["state"], &broken["source"], &broken["alias_of"]),
        (&json!("failed"), &json!("alias"), &json!(null))
    );
    let agent = client.agent(&json!({})).await;
    let made = client.post("/session", &json!({"runtime": "mine", "agent_id": agent})).await;
    assert_eq!((made.status.as_u16(), made.code().as_str()), (503, "runtime_broken"));
    client.connect(&place.simulator.base_url()).await;
    runs(client, &client.session(&agent, Some("hello")).await).await;
    assert_eq!(client.delete("/api/runtime-harnesses/mine").await.ok(), json!({"ok": true}));
    client.post("/api/runtime-harnesses", &alias).await.ok();
    runs(client, &client.session_on("mine", &agent, Some("hello")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_runtime_is_one_that_fails_and_the_host_serves_all_others() {
    let place = Place::new();
    let program = place.serve("data").await;
    let first = Variant::of(1);
    first.add(&program.client).await;
    let session = place.session(&program.client).await;
    program.terminate().await;
    assert!(damage(&place.path("data/vault.redb"), Table::new("runtimes")) > 0);

    // Also where it is the default.
    let settings = [&place.settings("data")[..], &["--default-runtime", ID]].concat();
    let program = Program::serve(place.directory.path(), &settings, MASTER_KEY).await;
    let client = &program.client;
    let broken = detail(client).await;
    assert_eq!((&broken["source"], &broken["state"]), (&json!("added"), &json!("failed")));
    assert!(broken["failure"].as_str().unwrap().contains("damaged"), "{broken}");
    assert_eq!(client.get("/api/agent-runtimes").await.ok()["runtimes"].as_array().unwrap().len(), 3);
    let agent = client.agent(&json!({})).await;
    let made = client.post("/session", &json!({"runtime": ID, "agent_id": agent})).await;
    assert_eq!((made.status.as_u16(), made.code().as_str()), (503, "runtime_broken"));
    client.prompt(&session, "and on").await;
    let events = client.turn(&session).await;
    let error = &events.iter().rfind(|event| event.name == "session.error").unwrap().json;
    assert_eq!(events.last().unwrap().name, "session.status_idle");
    assert!(error.to_string().contains("the session's runtime cannot be loaded"), "{error}");

    // Nothing else is touched, and the way out is the one that the refusal names.
    client.connect(&place.simulator.base_url()).await;
    runs(client, &client.session(&client.agent(&json!({})).await, Some("hello")).await).await;
    first.upload(client).await;
    let asked = first.ask(client, None).await;
    assert_eq!((asked.status.as_u16(), asked.code().as_str()), (500, "record_damaged"));
    assert!(asked.text.contains("DELETE /api/agent-runtimes"), "{}", asked.text);
    assert_eq!(client.delete(&format!("/api/agent-runtimes/{ID}")).await.ok(), json!({"ok": true}));
    first.add(client).await;
    client.prompt(&session, "and on").await;
    runs(client, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_changed_on_disk_is_never_run() {
    let place = Place::new();
    let program = place.serve("data").await;
    Variant::of(1).add(&program.client).await;
    let session = place.session(&program.client).await;
    program.terminate().await;
    assert!(damage(&place.path("data/vault.redb"), Table::new("components")) > 0);
    // What was compiled of it before would do, if it were believed.
    let program = place.serve("data").await;
    let client = &program.client;
    client.prompt(&session, "and on").await;
    let events = client.turn(&session).await;
    assert!(events.iter().any(|event| event.name == "session.error"), "{events:?}");
    let broken = detail(client).await;
    assert_eq!((&broken["state"], &broken["component"]), (&json!("failed"), &json!(Variant::of(1).digest())));
    assert!(broken["failure"].as_str().unwrap().contains("was altered"), "{broken}");
    // A good version puts it right for new sessions; the old one's sessions keep saying what is wrong.
    Variant::of(2).add(client).await;
    let fresh = client.session_on(ID, &client.agent(&json!({"runtime": ID})).await, Some("hello")).await;
    runs(client, &fresh).await;
}

/// The log is put back to before it noted that a request was carried out, as a crash leaves it just behind the commit in the
/// vault.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_keyed_request_changed_in_the_vault_is_changed_once_though_the_log_knows_nothing_of_it() {
    let place = Place::new();
    let log = place.path("data/events.redb");
    let mut program = place.serve("data").await;
    Variant::of(1).add(&program.client).await;
    let agent = program.client.agent(&json!({"runtime": ID})).await;
    let agent = format!("/v1/agents/{agent}");
    let alias =
        json!({"alias": "mine", "api_spec": ID, "api_base": place.simulator.base_url(), "api_key": UPSTREAM_KEY});
    program.client.post("/api/runtime-harnesses", &alias).await.ok();
    let rollback = format!("/api/agent-runtimes/{ID}/rollback");
    let wishes = [
        (rollback.as_str(), json!({})),
        ("/api/runtime-harnesses", alias),
        (agent.as_str(), json!({"version": 2, "name": "third"})),
    ];
    let keyed = async |program: &Program| {
        let mut answers = Vec::new();
        for (path, body) in &wishes {
            let vendor_s: &[_] = if path.starts_with("/v1") { &ANTHROPIC } else { &[] };
            let headers = [&[("idempotency-key", "once")], vendor_s].concat();
            answers.push(program.client.send(http::Method::POST, path, &headers, Some(body.to_string())).await);
        }
        answers
    };
    // None of them can be carried out yet.
    assert!(keyed(&program).await.iter().all(|answer| !answer.status.is_success()));
    program.kill().await;
    let before = fs::read(&log).unwrap();
    program = place.serve("data").await;
    Variant::of(2).add(&program.client).await;
    Variant::of(3).add(&program.client).await;
    program.client.delete("/api/runtime-harnesses/mine").await.ok();
    let second = json!({"version": 1, "name": "second"}).to_string();
    program.client.send(http::Method::POST, &agent, &ANTHROPIC, Some(second)).await.ok();
    for answer in keyed(&program).await {
        assert!(answer.status.is_success() && !answer.headers.contains_key("idempotent-replayed"), "{}", answer.text);
    }
    assert_eq!(detail(&program.client).await["component"], Variant::of(2).digest());
    program.kill().await;
    fs::write(&log, before).unwrap();
    program = place.serve("data").await;
    for answer in keyed(&program).await {
        assert!(answer.status.is_success(), "{}", answer.text);
        assert_eq!(answer.header("idempotent-replayed"), "true", "{}", answer.text);
    }
    assert_eq!(detail(&program.client).await["component"], Variant::of(2).digest(), "rolled back twice");
    let named = program.client.send(http::Method::GET, &agent, &ANTHROPIC, None).await.ok();
    assert_eq!((&named["name"], &named["version"]), (&json!("third"), &json!(3)));
}
