//! An upstream and a host, which may be another one after a while: in this process, or as the real program.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use lap::{config::Config, session::Retention};
use lap_simulator::{
    Endpoint, Faults, Options, Script, Simulator,
    fault::{Answer, RequestFault},
    script::{Repeat, Step, Turn},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    act::{Act, Outcome},
    oracle::natural_end,
    plan::{DELAY_MS_MAX, Latency, Operation, Try},
};
use crate::harness::{
    Client, MASTER_KEY, World, anywhere,
    program::{Program, lap},
};

/// Sessions that work at the same time, and those that did a moment ago.
const GUESTS: u32 = 512;
/// A key that the upstream refuses.
pub const BAD_KEY: &str = "sk-ant-refused-everywhere";

/// Where sessions live.
pub struct Place {
    pub simulator: Arc<Simulator>,
    hosts: watch::Sender<Client>,
    /// What all sessions belong to that do not need an agent of their own.
    pub agent: String,
}

impl Place {
    async fn new(simulator: Arc<Simulator>, client: Client) -> Self {
        simulator.revoke(BAD_KEY);
        client.connect(&simulator.base_url()).await;
        let agent = client.agent(&json!({})).await;
        Self { simulator, hosts: watch::Sender::new(client), agent }
    }

    /// The client of the host that is there now.
    pub fn client(&self) -> Client {
        self.hosts.borrow().clone()
    }

    pub fn hosts(&self) -> watch::Receiver<Client> {
        self.hosts.subscribe()
    }

    /// Another host has taken the place of the one before.
    fn moved(&self, client: Client) {
        self.hosts.send_replace(client);
    }
}

/// A turn of fifteen events in a second and a half, which goes on well behind the longest delay; one that is over at once; one that asks for leave.
fn script(latency: Latency) -> Script {
    let end = || Step::message(&natural_end("{prompt}"));
    let long = Step::Repeat(Repeat { count: 15, every_ms: 100, bytes: 150, ..Repeat::default() });
    let ask = Step::ask("bash", json!({"command": "rm"}), "removed");
    let turns = [("quick", Turn::of([end()])), ("ask", Turn::of([ask, end()]))];
    let turns = turns.map(|(name, turn)| (name.to_owned(), turn)).into();
    let faults = Faults { requests: latency.faults(), ..Faults::default() };
    Script { default: Turn::of([long, end()]), turns, faults, ..Script::default() }
}

impl Latency {
    fn faults(self) -> Vec<RequestFault> {
        let prompts = |delay_ms, jitter_ms| RequestFault::slow_send("user.message", delay_ms, jitter_ms);
        let all = |delay_ms, jitter_ms| {
            let real = RequestFault::always(Endpoint::EventsSend, Answer::Real);
            RequestFault { endpoint: None, delay_ms, jitter_ms, ..real }
        };
        match self {
            Self::None => Vec::new(),
            Self::Even => vec![prompts(100, 0), all(100, 0)],
            Self::Prompts => vec![prompts(300, 0)],
            Self::Random => vec![prompts(0, 300), all(0, 60)],
        }
    }
}

fn simulator(latency: Latency) -> Arc<Simulator> {
    // Any key but the refused one, so that each runtime can have several.
    let options = Options { remember_deleted: true, ..Options::default() };
    Arc::new(Simulator::start(anywhere(), script(latency), options).unwrap())
}

async fn judged(acts: Vec<Act<'_>>) -> Vec<(Try, Outcome)> {
    join_all(acts.into_iter().map(async |act| (act.tried(), act.outcome().await))).await
}

/// A host in this process.
pub struct Inside {
    pub place: Place,
    world: World,
}

impl Inside {
    pub async fn start(latency: Latency) -> Self {
        let mut world = World::empty(Script::default()).await;
        world.restart_with(|config| config.guests_max = GUESTS).await;
        let place = Place::new(simulator(latency), world.client.clone()).await;
        Self { place, world }
    }

    /// Plays tries whose operation is a restart, all through the same one.
    pub async fn played(self, tries: &[Try], operation: Operation) -> Vec<(Try, Outcome)> {
        let Self { place, mut world } = self;
        let mut acts = join_all(tries.iter().map(|tried| Act::set(&place, *tried))).await;
        let together = Instant::now() + Duration::from_millis(DELAY_MS_MAX + 50);
        let settings = |config: &mut Config| {
            config.guests_max = GUESTS;
            if operation == Operation::RestartAndSweep {
                config.retention = Retention { age: None, bytes: Some(1) };
            }
        };
        let restart = async {
            sleep_until(together).await;
            world.restart_with(settings).await;
            place.moved(world.client.clone());
        };
        tokio::join!(prompted_until(&mut acts, together), restart);
        let outcomes = judged(acts).await;
        drop(world);
        outcomes
    }
}

/// Prompts each session so long before that moment as its try says.
async fn prompted_until(acts: &mut [Act<'_>], together: Instant) {
    join_all(acts.iter_mut().map(async |act| {
        sleep_until(together - act.delay()).await;
        // Whether the answer comes before the host ends is chance; the prompt is an acknowledged one or it is not.
        act.prompt().await;
    }))
    .await;
}

/// The real program, which is killed.
pub struct Killed {
    place: Place,
    program: Program,
    directory: TempDir,
}

impl Killed {
    pub async fn start(latency: Latency) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        let program = serve(&directory).await;
        let place = Place::new(simulator(latency), program.client.clone()).await;
        Self { place, program, directory }
    }

    /// Plays tries, all through the same kill.
    pub async fn played(self, tries: &[Try]) -> Vec<(Try, Outcome)> {
        let Self { place, program, directory } = self;
        let mut acts = join_all(tries.iter().map(|tried| Act::set(&place, *tried))).await;
        let together = Instant::now() + Duration::from_millis(DELAY_MS_MAX + 50);
        let killing = async {
            sleep_until(together).await;
            program.kill().await;
            let program = serve(&directory).await;
            place.moved(program.client.clone());
            program
        };
        let ((), program) = tokio::join!(prompted_until(&mut acts, together), killing);
        let outcomes = judged(acts).await;
        program.kill().await;
        outcomes
    }
}

async fn serve(directory: &TempDir) -> Program {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--guests-max", "64", "--master-key-file", "key-of-the-api"];
    let command = lap(directory.path(), &arguments);
    Program::start(command, MASTER_KEY).await.unwrap_or_else(|ended| panic!("it ended: {}", ended.stderr))
}
