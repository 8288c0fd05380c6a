//! A simulated Anthropic Managed Agents API on loopback.
//!
//! It answers like the hosted service, as far as an agent host needs it: agents, environments, sessions, their events
//! and the stream of these; and files, memory stores, vaults and threads, as far as a host hands them on. What the agent does is a [`Script`], and so is what goes wrong. No model is asked, nothing
//! is executed, nothing is kept on disk.
//!
//! It serves `lap simulate` and `lap demo`, tests that need a whole world rather than a mock, and benchmarks: events
//! that a script repeats are made in batches and shared as bytes by all readers.
//!
//! ```text
//!   request ──► server ──► api ───► world ──► session ◄── turn plays the script
//!                           │ faults            │ history: lists, the truth for tests
//!   stream ◄── line ◄── feed ◄── shape ◄────────┘ window: what readers have yet to read
//! ```
//!
//! In reading order: [`script`] and [`fault`] (what can be said), `session` (the state and its only lock), `turn` (who
//! plays), `window` and `feed` (how streams read), `shape` and `line` (how they break), `history`, `event`, then the
//! wire in `api`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lap_simulator::{Options, Script, Simulator, script::Step};
//!
//! let script = Script::of([Step::message("Hello, {prompt}!")]);
//! let simulator = Simulator::start("127.0.0.1:0".parse()?, script, Options::default())?;
//! println!("ANTHROPIC_BASE_URL={}", simulator.base_url());
//! # Ok(())
//! # }
//! ```

mod agent;
mod api;
mod clock;
mod endpoint;
mod environment;
mod event;
pub mod fault;
mod feed;
mod history;
mod id;
mod incoming;
mod library;
mod line;
mod past;
mod patch;
pub mod record;
pub mod script;
mod server;
mod session;
mod shape;
mod turn;
mod underway;
mod window;
mod world;

use std::{io, net::SocketAddr, sync::Arc};

use serde_json::{Map, Value};
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::world::World;
pub use crate::{
    endpoint::Endpoint,
    fault::{CutBy, Faults},
    past::Past,
    record::Recorder,
    script::Script,
};

/// How many connections may wait to be accepted; benchmarks open thousands at once.
const BACKLOG: u32 = 4096;

/// What does not belong to a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The key that requests must carry; none takes every key that is not empty.
    pub api_key: Option<String>,
    /// How many events a flat-out `repeat` makes at once: 1 to 1024.
    pub batch: u64,
    /// How many bytes the slowest reader of a stream may be behind before the turn waits for it.
    pub backlog_bytes_max: usize,
    /// How many requests the recorder keeps.
    pub requests_kept: usize,
    /// What deleted sessions said can still be looked at here; for clients they are gone all the same.
    pub remember_deleted: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { api_key: None, batch: 16, backlog_bytes_max: 256 << 10, requests_kept: 10_000, remember_deleted: false }
    }
}

/// A running simulator. Dropping it ends it at once, with all its connections.
pub struct Simulator {
    addr: SocketAddr,
    world: Arc<World>,
    server: JoinHandle<()>,
}

impl Simulator {
    /// Listens on `addr` and serves in the current tokio runtime; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is not a loopback address, or cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(addr: SocketAddr, script: Script, options: Options) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the simulator listens on loopback addresses only",
            ));
        }
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A test that starts a simulator anew wants its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let world = Arc::new(World::new(script, options));
        let server = tokio::spawn(server::serve(listener, Arc::clone(&world)));
        Ok(Self { addr, world, server })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client takes for `https://api.anthropic.com`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What happened so far.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.world.recorder
    }

    /// The ids of all sessions, oldest first; a deleted session is none.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        self.world.sessions().keys().cloned().collect()
    }

    /// Everything that a session ever said and was told, whatever streams and lists delivered; empty for no session, and
    /// for a deleted one unless [`Options::remember_deleted`] is set.
    #[must_use]
    pub fn events(&self, session_id: &str) -> Vec<Value> {
        let session = self.world.remembered(session_id);
        // Events are JSON of our own making.
        let parse = |frame: event::Frame| serde_json::from_slice(frame.json()).unwrap_or_default();
        session.map(|session| session.with_history(|history| history.frames().map(parse).collect())).unwrap_or_default()
    }

    /// How many events those are.
    #[must_use]
    pub fn event_count(&self, session_id: &str) -> u64 {
        self.world.session(session_id).map_or(0, |session| session.with_history(history::History::len))
    }

    /// Lets a session say something outside of its turns, and returns the event's id; none for no session.
    #[must_use]
    pub fn inject(&self, session_id: &str, event: Map<String, Value>) -> Option<String> {
        self.world.session(session_id).map(|session| session.inject(event))
    }

    /// Lets a session's turn go on behind its `hold`, or behind the next one that it comes to; nothing for no session.
    pub fn release(&self, session_id: &str) {
        if let Some(session) = self.world.session(session_id) {
            session.release();
        }
    }

    /// Goes on with a session of another simulator: an upstream outlives the hosts of a test. A turn that waits for the
    /// client ends with its answer; one that ran is taken as over, and whatever it may still say is to be injected.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn adopt(&self, past: Past) {
        self.world.adopt(past);
    }

    /// Deletes a session, in mid-turn or not, as another client of the account may: its streams say `session.deleted` and
    /// end, and from then on nobody knows it. False for no session.
    pub fn delete_session(&self, session_id: &str) -> bool {
        self.world.session(session_id).is_some_and(|session| {
            session.say_deleted();
            self.world.forget(session_id);
            true
        })
    }

    /// Loses a session, in mid-turn or not: its streams break off without a word, and from then on nobody knows it. False
    /// for no session.
    pub fn lose_session(&self, session_id: &str, by: CutBy) -> bool {
        self.world.session(session_id).is_some_and(|session| {
            session.abandon();
            session.cut_streams(by);
            self.world.forget(session_id);
            true
        })
    }

    /// Waits until no request sends events to this session and no turn of it runs; a turn that waits for its client does not
    /// run.
    pub async fn quiet(&self, session_id: &str) {
        let (mut busy, mut ended) =
            (self.world.remembered(session_id).map(|session| session.watch_busy()), self.world.underway.watch());
        loop {
            ended.borrow_and_update();
            let runs = busy.as_mut().is_some_and(|busy| *busy.borrow_and_update());
            if !runs && !self.world.underway.has(session_id) {
                return;
            }
            let turn = async {
                match &mut busy {
                    // The session outlives this look at it, and with it who tells.
                    Some(busy) => busy.changed().await.unwrap_or_default(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = turn => {}
                told = ended.changed() => told.unwrap_or_default(),
            }
        }
    }

    /// Plays another script from the next turn on; faults apply at once and count anew.
    pub fn set_script(&self, script: Script) {
        self.world.set_script(script);
    }

    /// Replaces the faults alone; they count anew. A stream that is open keeps its own.
    pub fn set_faults(&self, faults: Faults) {
        self.world.set_faults(faults);
    }

    /// Refuses a key from now on, as a vendor does whose console somebody has used. Streams that are open go on.
    pub fn revoke(&self, key: &str) {
        self.world.revoke(key);
    }

    /// Breaks all streams that are open now.
    pub fn cut_streams(&self, by: CutBy) {
        self.world.cut_streams(by);
    }

    /// Ends it and returns once nothing listens any more.
    pub async fn shutdown(mut self) {
        self.server.abort();
        // It was aborted, so it ends with just that error.
        (&mut self.server).await.unwrap_or_default();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
        self.world.abandon();
    }
}
