//! A made-up vendor of threads, and a host with the golden component, which speaks to it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    routing::{delete, get, post},
};
use lap::{Host, config::Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{Client, MASTER_KEY, anywhere};

/// A component that was built when the contract was frozen. See `tests/guest/golden/README.md`.
pub const GOLDEN: &[u8] = include_bytes!("../guest/golden/sample.wasm");
/// Its manifest.
pub const MANIFEST: &str = include_str!("../guest/golden/runtime.toml");

/// A host whose one runtime is the golden component, connected to its vendor.
pub async fn golden_host() -> (Host, Client, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::demo(anywhere(), folder.path(), MASTER_KEY);
    config.default_runtime = "sample".to_owned();
    let host = Host::start_with(config, &[(MANIFEST, GOLDEN)]).await.unwrap();
    let client = Client::new(host.address(), MASTER_KEY);
    client.connect_to("sample", &Threads::default().serve().await).await;
    (host, client, folder)
}

/// The vendor of the golden component, with one thread and one kind of answer.
#[derive(Clone, Default)]
pub struct Threads {
    stream: Arc<Mutex<Option<mpsc::UnboundedSender<Bytes>>>>,
    /// How many things it has said.
    said: Arc<AtomicUsize>,
}

impl Threads {
    pub async fn serve(self) -> String {
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
        let text = format!("You said {text}");
        for mut said in [json!({"kind": "started"}), json!({"kind": "text", "text": text}), json!({"kind": "done"})] {
            said["id"] = format!("m{}", 1 + threads.said.fetch_add(1, Relaxed)).into();
            says.send(format!("data: {said}\n\n").into()).unwrap();
        }
        Json(json!({}))
    }
}
