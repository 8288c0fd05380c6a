//! The contract 0.1 is frozen: its text does not change, and a component that was built from it once runs for as long as 0.1
//! is promised.

use std::collections::BTreeMap;

use lap::{
    conformance::{self, Check},
    runtime::{Manifest, Trial},
};
use serde_json::json;

use super::{root, scenarios};
use crate::harness::threads::{self, GOLDEN};

/// Of all files of `wit/lap-runtime/0.1`, names and contents.
const CONTRACT_0_1: &str = "sha256:f33e564046af5e9d16198337e57d0eb9d5dfec22a35c40bc69582565f5154fbc";

const GOLDEN_DIGEST: &str = "sha256:9f1054519194f480fbc242d2d4a22a4917d724e4ba2ec951865ebf7629882ee3";

#[test]
fn the_contract_0_1_does_not_change() {
    let folder = root().join("wit/lap-runtime/0.1");
    let files: BTreeMap<_, _> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    let text: String = files.iter().map(|(name, content)| format!("{name}\n{content}\n")).collect();
    assert_eq!(
        lap::runtime::digest(text.as_bytes()),
        CONTRACT_0_1,
        "wit/lap-runtime/0.1 is frozen, its comments included: components out there are built from it. Put it back, and \
         add wit/lap-runtime/0.2 as docs/decisions/009-contract-versions.md says"
    );
}

#[test]
fn the_golden_component_is_the_one_that_was_built_then() {
    assert_eq!(lap::runtime::digest(GOLDEN), GOLDEN_DIGEST, "do not build it again: that it is old is what it is for");
    assert!(GOLDEN.len() < 300 * 1024, "{} bytes", GOLDEN.len());
}

#[tokio::test]
async fn the_golden_component_is_accepted_and_passes() {
    let manifest: Manifest = threads::MANIFEST.parse().unwrap();
    let check = Check::run(GOLDEN, Some(Ok(manifest.clone()))).await;
    assert!(check.accepted && check.warnings.is_empty(), "{check}");
    let trial = Trial::start(GOLDEN, Some(manifest)).await.unwrap();
    let report = conformance::test(&trial, &scenarios(&root().join("tests/guest/golden/scenarios")), None).await;
    // What the suite asks only since then: that an answer is read before it counts as one.
    let since =
        |name: &str| ["no-json", "half-json", "no-body"].iter().any(|fault| name.contains(&format!("/fault/{fault}/")));
    let of_then: Vec<_> = report.findings.iter().map(|finding| &finding.name).filter(|name| !since(name)).collect();
    assert!(of_then.is_empty(), "{report}");
}

#[tokio::test]
async fn the_golden_component_runs_a_session_of_this_host() {
    let (_host, client, _folder) = threads::golden_host().await;
    let agent = client.agent(&json!({"runtime": "sample", "model": "model-1"})).await;
    let body = json!({"runtime": "sample", "agent_id": agent, "prompt": "Hi"});
    let session = client.post("/session", &body).await.ok()["id"].as_str().unwrap().to_owned();
    let events = client.turn(&session).await;
    let names: Vec<_> = events.iter().map(|event| &*event.name).collect();
    // The component shows no prompts: the host says that this one was processed.
    let [waiting, running, said, processed, idle] = &events[..] else { panic!("{names:?}") };
    assert_eq!(
        [&*running.name, &*said.name, &*idle.name],
        ["session.status_running", "agent.message", "session.status_idle"]
    );
    assert_eq!([&*waiting.name, &*processed.name], ["user.message", "user.message"]);
    assert_eq!((&waiting.json["id"], &waiting.json["processed_at"]), (&processed.json["id"], &json!(null)));
    assert!(processed.json["processed_at"].is_string(), "{}", processed.json);
    assert_eq!(said.json["content"][0]["text"], "You said Hi");
    assert_eq!(client.delete(&format!("/session/{session}")).await.status, 200);
}
