//! The tutorial in Rust, which needs no more than this repository does, and what an author sees of a panic.

use std::{
    borrow::Cow,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use futures_util::future::{BoxFuture, FutureExt};
use lap::{
    runtime::{Artifact, CallError, Fault, Level, Outlet},
    upstream::{Request, Response, SendError},
};

use crate::harness::workshop::Workshop;

use super::tutorial::{DOCUMENT, answered_through_curl, commands, empty_directory, follow, shell};

const COMPONENT: &str = "target/wasm32-unknown-unknown/release/adapter.wasm";

#[tokio::test]
async fn the_tutorial_leads_from_nothing_to_an_answer_in_rust_and_a_panic_is_heard() {
    let directory = empty_directory();
    answered_through_curl(&follow(&directory, &["rust"]).await);
    a_panic_is_heard(&directory.join("my_chat")).await;
}

/// An upstream with one model, and the operator's log.
#[derive(Default)]
struct OneModel(Mutex<Vec<String>>);

impl Outlet for OneModel {
    fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        let body = r#"{"models":[{"id":"a","name":"A"}]}"#.to_owned();
        async { Ok(Response { status: 200, headers: Vec::new(), body }) }.boxed()
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn heard(&self, level: Level, line: &str) {
        self.0.lock().unwrap().push(format!("{level:?} {line}"));
    }
}

/// The last words of a module without WASI come from the SDK's hook.
async fn a_panic_is_heard(project: &Path) {
    let source = project.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    let (before, after) = text.split_once("        Ok(list.models").unwrap();
    let broken = format!(
        "{before}        assert!(list.models.is_empty(), \"one model is too many\");\n        Ok(list.models{after}"
    );
    fs::write(&source, broken).unwrap();
    let build = commands(DOCUMENT, &["rust"]).into_iter().find(|line| line.starts_with("cargo build"));
    assert!(shell(&build.unwrap(), project).status().await.unwrap().success());

    let manifest = fs::read_to_string(project.join("runtime.toml")).unwrap();
    let module = fs::read(project.join(COMPONENT)).unwrap();
    let component = Artifact::read(&module).unwrap().component;
    let runtime = Workshop::new(4).load(&manifest, &component).await.unwrap();
    let log = Arc::new(OneModel::default());
    let mut instance = runtime.instance(Arc::clone(&log) as Arc<dyn Outlet>);
    let trapped = instance.models().await.unwrap_err();
    assert!(matches!(trapped, CallError::Fault(Fault::Trap(_))), "{trapped}");
    let line = before.lines().count() + 1;
    let heard = format!("Level::Error panicked at src/lib.rs:{line}:9: one model is too many");
    assert_eq!(*log.0.lock().unwrap(), [heard]);
}
