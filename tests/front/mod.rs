//! Clients that mean harm, over raw TCP, against the real program: slow ones, large ones, ones that do not speak HTTP,
//! ones that never read, and too many of them.
//!
//! `LAP_TRIALS=<factor>` multiplies how much is tried, `LAP_SEED=<number>` repeats a run of `mutants`.

mod files;
mod malformed;
mod mutants;
mod passing;
mod process;
mod sizes;
mod slow;
mod unread;
mod wire;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{MASTER_KEY, program::Program};

/// A program with a directory of its own, and one agent that nobody may harm.
struct Front {
    program: Program,
    agent: String,
    /// The agent as it is stored.
    before: Value,
    _directory: TempDir,
}

impl Front {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        let program = Program::serve(directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
        let agent = program.client.agent(&json!({})).await;
        let before = program.client.get(&format!("/api/agents/{agent}")).await.ok();
        Self { program, agent, before, _directory: directory }
    }

    /// The address, as text.
    fn address(&self) -> &str {
        self.program.client.base.strip_prefix("http://").unwrap()
    }

    /// Nothing is lost, nothing has crashed, and the next client is served.
    async fn is_unharmed(&self) {
        let after = self.program.client.get(&format!("/api/agents/{}", self.agent)).await.ok();
        assert_eq!(after, self.before);
        let output = self.program.output();
        assert!(!output.contains("panicked"), "{output}");
    }
}
