//! The contract 0.1 is frozen: its text does not change, and a component that was built from it once runs for as long as 0.1
//! is promised.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    routing::{delete, get, post},
};
use lap::{
    Host,
    config::Config,
    conformance::{self, Check},
    runtime::{Manifest, Trial},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{root, scenarios};
use crate::harness::{Client, MASTER_KEY, anywhere};

/// Of all files of `wit/lap-runtime/0.1`, names and contents.
const CONTRACT_0_1: &str = "sha256:f33e564046af5e9d16198337e57d0eb9d5dfec22a35c40bc69582565f5154fbc";

/// A component that was built when the contract was frozen. See `tests/guest/golden/README.md`.
const GOLDEN: &[u8] = include_bytes!("../guest/golden/sample.wasm");
const GOLDEN_DIGEST: &str = "sha256:9f1054519194f480fbc242d2d4a22a4917d724e4ba2ec951865ebf7629882ee3";

fn manifest() -> String {
    std::fs::read_to_string(root().join("tests/guest/golden/runtime.toml")).unwrap()
}

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
    let manifest: Manifest = manifest().parse().unwrap();
    let check = Check::run(GOLDEN, Some(Ok(manifest.clone()))).await;
    assert!(check.accepted && check.warnings.is_empty(), "{check}");
    let trial = Trial::start(GOLDEN, Some(manifest)).await.unwrap();
    let report = conformance::test(&trial, &scenarios(&root().join("tests/guest/golden/scenarios")), None).await;
    assert!(report.passed(), "{report}");
}

/// The vendor of the golden component, with one thread and one answer.
#[derive(Clone, Default)]
struct Threads {
    stream: Arc<Mutex<Option<mpsc::UnboundedSender<Bytes>>>>,
}

impl Threads {
    async fn serve(self) -> String {
        let listener = tokio::net::TcpListener::bind(anywhere()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/assistants", post(async || Json(json!({"id": "a1"}))))
            .route("/v1/threads", post(async || Json(json!({"id": "t1"}))))
            .route("/v1/threads/t1", delete(async || Json(json!({}))))
            .route("/v1/threads/t1/events", get(Self::events))
            .route("/v1/threads/t1/messages", post(Self::message))
            .route("/v1/threads/t1/history", get(async || Json(json!({"events": [], "next": null}))))
            .route("/v1/models", get(async || Json(json!({"models": ["model-1"]}))))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    async fn events(State(threads): State<Self>) -> Body {
        let (says, mut said) = mpsc::unbounded_channel();
        *threads.stream.lock().unwrap() = Some(says);
        Body::from_stream(futures_util::stream::poll_fn(move |context| {
            said.poll_recv(context).map(|bytes| bytes.map(Ok::<_, std::convert::Infallible>))
        }))
    }

    async fn message(State(threads): State<Self>, Json(message): Json<Value>) -> Json<Value> {
        let text = message["content"][0]["text"].as_str().unwrap();
        let says = threads.stream.lock().unwrap().clone().unwrap();
        for said in [
            json!({"id": "m1", "kind": "started"}),
            json!({"id": "m2", "kind": "text", "text": format!("You said {text}")}),
            json!({"id": "m3", "kind": "done"}),
        ] {
            says.send(format!("data: {said}\n\n").into()).unwrap();
        }
        Json(json!({}))
    }
}

#[tokio::test]
async fn the_golden_component_runs_a_session_of_this_host() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::demo(anywhere(), folder.path(), MASTER_KEY);
    config.default_runtime = "sample".to_owned();
    let host = Host::start_with(config, &[(&manifest(), GOLDEN)]).await.unwrap();
    let client = Client::new(host.address(), MASTER_KEY);
    client.connect_to("sample", &Threads::default().serve().await).await;
    let agent = client.agent(&json!({"runtime": "sample", "model": "model-1"})).await;
    let body = json!({"runtime": "sample", "agent_id": agent, "prompt": "Hi"});
    let session = client.post("/session", &body).await.ok()["id"].as_str().unwrap().to_owned();
    let events = client.turn(&session).await;
    let names: Vec<_> = events.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["session.status_running", "agent.message", "session.status_idle"]);
    assert_eq!(events[1].json["content"][0]["text"], "You said Hi");
    assert_eq!(client.delete(&format!("/session/{session}")).await.status, 200);
}
