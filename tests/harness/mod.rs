//! A world for a test: a simulated upstream, a host in this process, and a client that speaks HTTP to it.

mod client;
pub mod dice;
pub mod guests;
pub mod program;
pub mod proxy;
pub mod puppet;
pub mod responses;
pub mod store;
pub mod threads;
pub mod variant;
pub mod workshop;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use lap::{Ended, Host, config::Config};
use lap_simulator::{Options, Script, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::client::{Answer, Client, Event};

/// The credential of the upstream. A test that finds it anywhere else has found a leak.
pub const UPSTREAM_KEY: &str = "sk-ant-canary-6yT0wqZrVb3nKfXc";
pub const MASTER_KEY: &str = "sk-master-of-the-tests";
/// What the official SDKs send with each request for agents, environments, sessions and events.
pub const ANTHROPIC: [(&str, &str); 2] =
    [("anthropic-version", "2026-10-21"), ("anthropic-beta", "managed-agents-2026-04-01")];
pub const RUNTIME: &str = "claude_managed_agents";

pub struct World {
    pub simulator: Simulator,
    pub client: Client,
    host: Option<Host>,
    folder: TempDir,
}

pub fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn simulator(script: Script) -> Simulator {
    let options = Options { api_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    Simulator::start(anywhere(), script, options).unwrap()
}

/// Settings of a host in this process; what strangers have made is compiled by the real program.
fn config(folder: &Path) -> Config {
    Config { program: env!("CARGO_BIN_EXE_lap").into(), ..Config::demo(anywhere(), folder, MASTER_KEY) }
}

/// What of a log, or of an upstream's history, was processed, as the upstream has it: a client's event has its id there. What
/// the host alone says of a prompt is left out.
pub fn processed(events: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let is_the_host_s = |event: &Value| {
        let id = event["id"].as_str().unwrap_or_default();
        event["type"] == "user.message" && id.starts_with("msg_") && event.get("upstream_id").is_none()
    };
    let as_upstream = |mut event: Value| {
        if let Some(theirs) = event.as_object_mut().and_then(|event| event.remove("upstream_id")) {
            event["id"] = theirs;
        }
        event
    };
    let events = events.into_iter().filter(|event| !event["processed_at"].is_null() && !is_the_host_s(event));
    events.map(as_upstream).collect()
}

impl World {
    /// A host that has never seen anything.
    pub async fn empty(script: Script) -> Self {
        let folder = store::fresh().await;
        let host = Host::start(config(folder.path())).await.unwrap();
        let client = Client::new(host.address(), MASTER_KEY);
        Self { simulator: simulator(script), client, host: Some(host), folder }
    }

    /// A host whose only runtime is the bundled one under another manifest, with a stored credential.
    pub async fn under(manifest: &str, script: Script) -> Self {
        let folder = store::fresh().await;
        let config = config(folder.path());
        let (_, component) = lap::bundled()[0];
        let host = Host::start_with(config, &[(manifest, component)]).await.unwrap();
        let client = Client::new(host.address(), MASTER_KEY);
        let world = Self { simulator: simulator(script), client, host: Some(host), folder };
        world.client.connect(&world.simulator.base_url()).await;
        world
    }

    /// A host with a runtime of [`guests`] beside the bundled one, and a stored credential for each.
    pub async fn with_guest(component: &[u8], script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::demo(anywhere(), folder.path(), MASTER_KEY);
        let host = Host::start_with(config, &[lap::bundled()[0], (guests::MANIFEST, component)]).await.unwrap();
        let client = Client::new(host.address(), MASTER_KEY);
        let world = Self { simulator: simulator(script), client, host: Some(host), folder };
        world.client.connect(&world.simulator.base_url()).await;
        world.client.connect_to("hostile", &world.simulator.base_url()).await;
        world
    }

    /// A host with a stored credential.
    pub async fn start(script: Script) -> Self {
        let world = Self::empty(script).await;
        world.client.connect(&world.simulator.base_url()).await;
        world
    }

    /// Stops the host properly and starts it again on the same store.
    pub async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    /// The same, with other settings.
    pub async fn restart_with(&mut self, settings: impl Fn(&mut Config)) {
        self.host.take().unwrap().shutdown().await;
        let config = || {
            let mut config = config(self.folder.path());
            settings(&mut config);
            config
        };
        let host = loop {
            // The committer's thread of the old host may still be letting go of the file.
            match Host::start(config()).await {
                Ok(host) => break host,
                Err(error) if error.exit_code() == 69 => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        self.client = Client::new(host.address(), MASTER_KEY);
        self.host = Some(host);
    }

    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// Done when the host says that it should not go on.
    pub async fn ended(&self) -> Ended {
        self.host.as_ref().unwrap().ended().await
    }

    pub async fn agent(&self) -> String {
        self.client.agent(&json!({})).await
    }

    /// Starts a session of a new agent.
    pub async fn session(&self, prompt: &str) -> String {
        let agent = self.agent().await;
        self.client.session(&agent, Some(prompt)).await
    }

    /// The simulator's name of a session.
    pub async fn upstream_id(&self, session: &str) -> String {
        let session = self.client.get(&format!("/session/{session}")).await.ok();
        session["provider_session_id"].as_str().unwrap().to_owned()
    }

    /// What the upstream said and was told, as it would be in the log: without what the stream alone shows twice.
    pub async fn truth(&self, session: &str) -> Vec<Value> {
        self.simulator.events(&self.upstream_id(session).await)
    }
}
