//! A session is recorded call by call, without any key, and does the same again when it is replayed; what is changed is found.

use std::path::{Path, PathBuf};

use lap::{
    conformance::{Recording, replay},
    runtime::{Artifact, Manifest, Trial, digest},
};
use lap_simulator::Script;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::command::lap;
use crate::harness::{MASTER_KEY, RUNTIME, UPSTREAM_KEY, World};

/// What a client entrusts to its session, and to nobody else.
const REPOSITORY_KEY: &str = "ghp-canary-8Jd2Lq0s";

/// A session of two turns with the bundled runtime, and what was recorded of it.
async fn recorded() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let recordings = folder.path().join("recordings");
    let mut world = World::start(Script::default()).await;
    world.restart_with(|config| config.record_dir = Some(recordings.clone())).await;
    let agent = world.agent().await;
    let repository =
        json!({"type": "github_repository", "url": "https://github.com/a/b", "authorization_token": REPOSITORY_KEY});
    let body = json!({
        "runtime": RUNTIME, "agent_id": agent, "prompt": "Grüß Gott", "environment": {"resources": [repository]},
    });
    let session = world.client.post("/session", &body).await.ok()["id"].as_str().unwrap().to_owned();
    world.client.turn(&session).await;
    assert_eq!(world.client.prompt(&session, "And now?").await.status, 204);
    world.client.turn(&session).await;
    assert_eq!(world.client.delete(&format!("/session/{session}")).await.status, 200);
    (folder, recordings.join(format!("{session}.ndjson")))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

async fn trial() -> (Trial, String) {
    let bundled = lap::bundled().iter().find(|(manifest, _)| manifest.contains(RUNTIME)).unwrap();
    let artifact = Artifact::read(bundled.1).unwrap();
    let manifest: Manifest = bundled.0.parse().unwrap();
    (Trial::start(&artifact.component, Some(manifest)).await.unwrap(), digest(bundled.1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_does_the_same_again_and_a_change_is_found() {
    let (_folder, path) = recorded().await;
    let recording = text(&path);
    for secret in [UPSTREAM_KEY, REPOSITORY_KEY, MASTER_KEY] {
        assert!(!recording.contains(secret), "{recording}");
    }
    let exports: Vec<String> = recording
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["call"]["export"].as_str().map(str::to_owned))
        .collect();
    for export in ["provision", "open", "listen", "send", "on-frames", "close"] {
        assert!(exports.iter().any(|recorded| recorded == export), "no {export} in {exports:?}");
    }
    let (trial, digest) = trial().await;
    let replayed = replay(&trial.runtime, &digest, &recording.parse::<Recording>().unwrap()).await;
    assert!(replayed.differences.is_empty() && replayed.same_component, "{replayed}");
    assert_eq!(replayed.calls, exports.len());

    // The upstream's id of the session, where `open` was answered it.
    let opened = exports.iter().position(|export| export == "open").unwrap();
    let mut lines: Vec<String> = recording.lines().map(str::to_owned).collect();
    let line = lines.iter_mut().filter(|line| line.contains("\"export\"")).nth(opened).unwrap();
    *line = line.replacen("\\\"id\\\":\\\"sesn_", "\\\"id\\\":\\\"sesn_x", 1);
    let changed: Recording = lines.join("\n").parse().unwrap();
    let replayed = replay(&trial.runtime, &digest, &changed).await;
    assert_eq!((replayed.differences[0].call, replayed.differences[0].export), (opened + 1, "open"), "{replayed}");
    assert!(replayed.differences[0].got.contains("sesn_x") && !replayed.differences[0].expected.contains("sesn_x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_whether_it_is_the_same() {
    let (folder, path) = recorded().await;
    let path = path.to_str().unwrap();
    let output = lap(&["runtime", "replay", path], folder.path());
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("calls replayed with the recorded component: all the same"), "{told}");

    let changed = text(Path::new(path)).replace("Grüß Gott", "Servus");
    let changed = changed.replacen("Servus", "Grüß Gott", 1);
    std::fs::write(folder.path().join("changed.ndjson"), changed).unwrap();
    let output = lap(&["runtime", "replay", "changed.ndjson", "--json"], folder.path());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told["differences"][0]["export"], "send", "{told}");

    std::fs::write(folder.path().join("none.ndjson"), "{}\n").unwrap();
    let output = lap(&["runtime", "replay", "none.ndjson"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not begin with the header of a recording"));
}
