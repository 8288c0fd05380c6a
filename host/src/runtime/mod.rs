//! Runtimes: WebAssembly components that map a platform's requests and events to a vendor's, and can do no I/O.
//!
//! For `session`, which calls them. A call ends in one of three ways: a value, an error that the guest declares, or a
//! [`Fault`]. After a fault, and after a call that was dropped half-way, the guest is gone and the next call gets a
//! new one; nothing is lost, because a guest's state is a value that the caller keeps.
//!
//! Must not know any vendor, and must not decide what a client sees.

mod allowance;
mod artifact;
mod bindings;
mod cache;
mod call;
mod compile;
mod component;
mod engine;
mod idle;
mod inspect;
mod lane;
mod loader;
mod manifest;
mod model;
mod outlet;
mod profile;
mod quarantine;
mod record;
mod store;
mod trial;
mod v0_1;
mod wasi;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
pub use lap_model::contract::Frames;
use tokio::time::timeout;
use wasmtime::Store;

pub use self::{
    artifact::{ARTIFACT_BYTES_MAX, Artifact, ArtifactError, Kind, Symbols, digest},
    bindings::lap::runtime::types::{
        AgentSpec, Body, Description, Effect, Ending, Error, ErrorKind, Event, Feed, Frame, History, Input, Method,
        Model, Outcome, Request, SessionOpened, SessionSpec, Tool,
    },
    cache::CacheKey,
    call::{Answer, Call},
    compile::{COMMAND as COMPILE_COMMAND, CompileError, child as compile},
    component::{CONTRACT, LoadError},
    engine::{EngineError, GUESTS_MAX, MEMORY_BYTES_MAX},
    inspect::{COMPONENT_BYTES_MAX, ShapeError, inspect},
    loader::{Loader, LoaderSettings},
    manifest::{Auth, Invalid as InvalidManifest, Manifest, Rule},
    outlet::{Level, Outlet},
    profile::Profile,
    quarantine::{Health, HealthState},
    record::{Answered, Asked, Ended, Exchange, Header, Recorded, Recordings},
    store::{CALL_CPU, CALL_HOST_CALLS, CALL_WALL},
    trial::{Trial, TrialError},
};
use self::{
    bindings::exports::lap::runtime::adapter::Guest as Adapter,
    component::Component,
    idle::Place,
    lane::{Lost, Pace},
    quarantine::Fate,
    record::Recorder,
    store::Live,
};
use crate::{
    id::{RuntimeId, SessionId},
    upstream,
};

/// The longest message of a guest that clients see.
const MESSAGE_CHARS_MAX: usize = 500;

/// How the guest failed, where it was not the upstream and not the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// As many guests live as the host allows; nothing is wrong with this one.
    #[error("the host runs as many sessions as it can; try again later")]
    Busy,
    /// It computed for longer than [`CALL_CPU`].
    #[error("the runtime computed for too long")]
    Cpu,
    /// It wanted more than [`MEMORY_BYTES_MAX`] of memory, or too large a table.
    #[error("the runtime needs too much memory")]
    Memory,
    /// A call took longer than [`CALL_WALL`] in all.
    #[error("the runtime did not answer in time")]
    Wall,
    /// It called the host more often than [`CALL_HOST_CALLS`] in one call.
    #[error("the runtime called the host too often")]
    HostCalls,
    /// It has crashed again and again, with whatever sessions, and is left alone for a while. It was not called.
    #[error("the runtime has crashed again and again and is in quarantine")]
    Quarantined {
        /// When it may be tried again.
        retry_after: Duration,
    },
    /// It broke off. The text is for the log.
    #[error("the runtime crashed")]
    Trap(String),
    /// It answered something that the contract forbids.
    #[error("the runtime broke its contract: {0}")]
    Contract(&'static str),
}

impl Fault {
    fn lost() -> Self {
        Self::Trap("the host panicked in the call, or stops".to_owned())
    }

    /// Whether the component is to blame.
    const fn blame(&self) -> Fate {
        match self {
            Self::Cpu | Self::Memory | Self::HostCalls | Self::Trap(_) | Self::Contract(_) => Fate::Crashed,
            // It may have waited for an upstream.
            Self::Wall | Self::Busy | Self::Quarantined { .. } => Fate::Unknown,
        }
    }
}

/// Why a call gave no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The guest says so; the message is fit for clients.
    #[error("{}", .0.message)]
    Declared(Error),
    /// The guest is at fault.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The runtimes that are part of the program.
pub struct Runtimes {
    loaded: BTreeMap<RuntimeId, Arc<Runtime>>,
}

/// One runtime, ready to run: the component to make instances of, and what is known of it.
pub struct Runtime {
    profile: Arc<Profile>,
    component: Arc<Component>,
    /// The one whose component this is, where this has another name: it is in use as long as this is.
    _original: Option<Arc<Self>>,
}

impl Runtimes {
    /// Loads the runtimes that are part of this program, each from its manifest and component.
    ///
    /// # Errors
    /// When a component is refused.
    pub async fn load(loader: &Loader, sources: &[(&str, &[u8])]) -> Result<Self, StartError> {
        let mut loaded = BTreeMap::new();
        for &(manifest, component) in sources {
            let manifest: Manifest = manifest.parse()?;
            let id = manifest.id.clone();
            let refused = |error| StartError::Component { id: id.clone(), error };
            let runtime = loader.bundled(manifest, component.to_vec()).await.map_err(refused)?;
            loaded.insert(id, Arc::new(runtime));
        }
        Ok(Self { loaded })
    }

    /// The runtime of this name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Runtime>> {
        self.loaded.iter().find(|(known, _)| known.as_str() == id).map(|(_, runtime)| Arc::clone(runtime))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Runtime> {
        self.loaded.values().map(|runtime| &**runtime)
    }
}

/// Why the host has no runtimes.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine cannot run guests.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] manifest::Invalid),
    /// A component is refused.
    #[error("the runtime {id} is refused: {error}")]
    Component {
        /// Its name.
        id: RuntimeId,
        /// Why.
        error: LoadError,
    },
}

impl Runtime {
    /// Asks the component who it is, and refuses what goes beyond its manifest.
    async fn describe(component: Arc<Component>, bytes: usize) -> Result<Self, LoadError> {
        let description = component.describe().await?;
        let mismatches = component.manifest.mismatches(&description);
        if !mismatches.is_empty() {
            return Err(LoadError::Manifest(mismatches.join("; ")));
        }
        Ok(Self::new(component, bytes, description))
    }

    fn new(component: Arc<Component>, bytes: usize, description: Description) -> Self {
        let (digest, manifest) = (component.digest, component.manifest.clone());
        let id = manifest.id.clone();
        let profile = Profile { id, component: digest, component_bytes: bytes as u64, manifest, description };
        Self { profile: Arc::new(profile), component, _original: None }
    }

    /// The same component under another name.
    #[must_use]
    pub fn under(self: &Arc<Self>, alias: &RuntimeId) -> Self {
        let (profile, component) = (Arc::new(self.profile.under(alias)), Arc::clone(&self.component));
        Self { profile, component, _original: Some(Arc::clone(self)) }
    }

    /// What is known of it.
    #[must_use]
    pub const fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// The runtime's name.
    #[must_use]
    pub fn id(&self) -> &RuntimeId {
        self.profile.id()
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.profile.description()
    }

    /// What to follow, when the manifest allows it; otherwise says which rule is missing.
    ///
    /// # Errors
    /// When the manifest has no rule for the feed's request.
    pub fn admit(&self, feed: Feed) -> Result<Listen, String> {
        self.component.listen(feed)
    }

    /// How the component fares, over all sessions.
    #[must_use]
    pub fn health(&self) -> Health {
        self.component.watch.health()
    }

    /// A guest for one turn of one session. It comes to life at its first call.
    #[must_use]
    pub fn instance(&self, outlet: Arc<dyn Outlet>) -> Instance {
        let place = Place::new(Arc::clone(&self.component.machine().idle));
        Instance { component: Arc::clone(&self.component), outlet, place, slow: 0, recorder: None }
    }
}

/// A guest. Its functions are those of the contract, `wit/lap-runtime/0.1/runtime.wit`.
pub struct Instance {
    component: Arc<Component>,
    outlet: Arc<dyn Outlet>,
    /// Where it rests between its calls.
    place: Place,
    /// How many calls still begin on the lane, because one of the latest computed for long.
    slow: u8,
    /// Absent unless the operator wants this session recorded.
    recorder: Option<Box<Recorder>>,
}

/// What to follow, as far as the host is to do something for it.
pub enum Listen {
    /// Nothing yet.
    Nothing,
    /// Server-sent events.
    Sse(upstream::Request),
    /// Lines.
    Lines(upstream::Request),
    /// Answers to the same request, again and again.
    Poll(upstream::Request, Duration),
}

/// Polling more often than this would be an attack on the upstream.
const POLL_MIN: Duration = Duration::from_millis(100);

impl Component {
    /// What to follow, when the manifest allows it.
    fn listen(&self, feed: Feed) -> Result<Listen, String> {
        let admit = |request| v0_1::admit(&self.manifest, request);
        Ok(match feed {
            Feed::None => Listen::Nothing,
            Feed::Sse(request) => Listen::Sse(admit(request)?),
            Feed::Lines(request) => Listen::Lines(admit(request)?),
            Feed::Poll(poll) => {
                let every = Duration::from_millis(poll.every_ms.into()).max(POLL_MIN);
                Listen::Poll(admit(poll.request)?, every)
            }
        })
    }
}

/// A guest that computes for long in one call of so many never does it twice in a row on its caller's thread.
const SLOW_CALLS: u8 = 16;

/// The answer of a guest that is asked: a value or an error of its own, unless it breaks off.
type Answering<'a, T> = BoxFuture<'a, wasmtime::Result<Result<T, Error>>>;

/// Events that one call reports, which maps at most 512 frames.
pub const CALL_EVENTS: usize = 4_096;

/// The longest state of a session, in bytes.
pub const STATE_BYTES_MAX: usize = 64 * 1024;

/// Refuses an outcome that goes beyond the contract.
fn within_bounds(outcome: Outcome) -> Result<Outcome, CallError> {
    if outcome.events.len() > CALL_EVENTS {
        return Err(Fault::Contract("it reports more than 4096 events in one call").into());
    }
    outcome.state.as_deref().map_or(Ok(()), check_state)?;
    Ok(outcome)
}

/// Refuses a state that goes beyond the contract: it is written with every change of its session.
fn check_state(state: &str) -> Result<(), CallError> {
    if state.len() > STATE_BYTES_MAX {
        return Err(Fault::Contract("its state is larger than 64 KiB").into());
    }
    Ok(())
}

impl Instance {
    /// Calls the guest. The guest is out of `self` meanwhile: if the caller drops this future, the guest goes with it,
    /// since one that was left in the middle of a call must not be entered again. What it is called with is its own,
    /// because the call may go on on another thread.
    async fn call<T: Send + 'static>(
        &mut self,
        function: impl for<'a> FnOnce(&'a Adapter, &'a mut Store<store::Guest>) -> Answering<'a, T> + Send + 'static,
    ) -> Result<T, CallError> {
        let component = Arc::clone(&self.component);
        let pass = component.watch.admit()?;
        let (live, outlet, pace) = (self.place.take(), Arc::clone(&self.outlet), Pace::of_call(self.slow > 0));
        let work = {
            let (component, pace) = (Arc::clone(&component), Arc::clone(&pace));
            async move {
                let mut live = match live {
                    Some(mut live) => {
                        live.refill(pace);
                        live
                    }
                    None => {
                        let start =
                            || Live::start(Arc::clone(&component), Some(Arc::clone(&outlet)), Arc::clone(&pace));
                        component.machine().idle.make_room(start).await?
                    }
                };
                match function(live.world.lap_runtime_adapter(), &mut live.store).await {
                    Ok(answer) => Ok((live, answer)),
                    Err(error) => Err(live.fault(&error)),
                }
            }
        };
        let answered = timeout(CALL_WALL, component.machine().lane.run(Arc::clone(&pace), work)).await;
        self.slow = if pace.was_slow() { SLOW_CALLS } else { self.slow.saturating_sub(1) };
        let answered = answered.unwrap_or(Ok(Err(Fault::Wall))).unwrap_or_else(|Lost| Err(Fault::lost()));
        pass.ended(answered.as_ref().map_or_else(Fault::blame, |_| Fate::Well));
        let (live, answer) = answered?;
        self.place.put(live);
        answer.map_err(|error| CallError::Declared(self.fit_for_clients(error)))
    }

    /// The same guest, whose calls are recorded from now on.
    #[must_use]
    pub fn recorded(mut self, recordings: &Arc<Recordings>, session: SessionId) -> Self {
        let manifest = &self.component.manifest;
        let (id, digest) = (manifest.id.as_str(), self.component.digest.to_string());
        let recorder = Recorder::new(Arc::clone(recordings), session, id, &digest, self.outlet);
        self.outlet = recorder.outlet();
        self.recorder = Some(Box::new(recorder));
        self
    }

    /// Calls the guest, and writes the call down where calls are recorded.
    async fn noted<T: serde::Serialize + Send + 'static>(
        &mut self,
        named: impl FnOnce() -> Call,
        function: impl for<'a> FnOnce(&'a Adapter, &'a mut Store<store::Guest>) -> Answering<'a, T> + Send + 'static,
    ) -> Result<T, CallError> {
        let Some(recorder) = &self.recorder else { return self.call(function).await };
        recorder.begin();
        let call = named();
        let result = self.call(function).await;
        if let Some(recorder) = &mut self.recorder {
            recorder.end(call, &result);
        }
        result
    }

    fn fit_for_clients(&self, mut error: Error) -> Error {
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        error.message = self.outlet.scrub(&error.message).chars().take(MESSAGE_CHARS_MAX).map(shown).collect();
        error
    }

    /// `provision`.
    ///
    /// # Errors
    /// As the guest declares, or by its fault; so for all calls.
    pub async fn provision(&mut self, agent: &AgentSpec) -> Result<String, CallError> {
        let named = || Call::Provision { agent: agent.clone() };
        let owned = agent.clone();
        self.noted(named, |adapter, store| Box::pin(async move { adapter.call_provision(store, &owned).await })).await
    }

    /// `open`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn open(&mut self, session: &SessionSpec) -> Result<SessionOpened, CallError> {
        let named = || Call::Open { session: session.clone() };
        let owned = session.clone();
        let opened =
            self.noted(named, |adapter, store| Box::pin(async move { adapter.call_open(store, &owned).await })).await?;
        check_state(&opened.state)?;
        Ok(opened)
    }

    /// `describe`.
    ///
    /// # Errors
    /// By the guest's fault.
    pub async fn describe(&mut self) -> Result<Description, CallError> {
        self.call(|adapter, store| Box::pin(async move { Ok(Ok(adapter.call_describe(store).await?)) })).await
    }

    /// `listen`, with the request checked against the manifest.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn listen(&mut self, state: &str) -> Result<Listen, CallError> {
        let feed = self.feed(state).await?;
        self.component.listen(feed).map_err(|reason| {
            tracing::warn!(runtime = %self.component.manifest.id, reason, "a runtime wants a feed that is not allowed");
            Fault::Contract("its feed is not among the requests that its manifest allows").into()
        })
    }

    /// `listen`, as the guest answers it.
    async fn feed(&mut self, state: &str) -> Result<Feed, CallError> {
        let named = || Call::Listen { state: state.to_owned() };
        let owned = state.to_owned();
        self.noted(named, |adapter, store| Box::pin(async move { adapter.call_listen(store, &owned).await })).await
    }

    /// `send`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn send(&mut self, state: &str, inputs: &[Input]) -> Result<Outcome, CallError> {
        let named = || Call::Send { state: state.to_owned(), inputs: inputs.to_vec() };
        let (state, inputs) = (state.to_owned(), inputs.to_vec());
        let sent = self
            .noted(named, |adapter, store| Box::pin(async move { adapter.call_send(store, &state, &inputs).await }));
        within_bounds(sent.await?)
    }

    /// `on-frames`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn on_frames(&mut self, state: &str, frames: &Frames) -> Result<Outcome, CallError> {
        let named = || Call::OnFrames { state: state.to_owned(), frames: frames.clone() };
        let (state, frames) = (state.to_owned(), frames.clone().into());
        let mapped = self.noted(named, |adapter, store| {
            Box::pin(async move { adapter.call_on_frames(store, &state, &frames).await })
        });
        within_bounds(mapped.await?)
    }

    /// `on-end`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn on_end(&mut self, state: &str, ending: Ending) -> Result<Outcome, CallError> {
        let named = || Call::OnEnd { state: state.to_owned(), ending };
        let state = state.to_owned();
        let ended = self.noted(named, move |adapter, store| {
            Box::pin(async move { adapter.call_on_end(store, &state, ending).await })
        });
        within_bounds(ended.await?)
    }

    /// `catch-up`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn catch_up(&mut self, state: &str, cursor: Option<&str>) -> Result<History, CallError> {
        let named = || Call::CatchUp { state: state.to_owned(), cursor: cursor.map(str::to_owned) };
        let (state, cursor) = (state.to_owned(), cursor.map(str::to_owned));
        self.noted(named, |adapter, store| {
            Box::pin(async move { adapter.call_catch_up(store, &state, cursor.as_deref()).await })
        })
        .await
    }

    /// `close`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn close(&mut self, state: &str) -> Result<(), CallError> {
        let named = || Call::Close { state: state.to_owned() };
        let owned = state.to_owned();
        self.noted(named, |adapter, store| Box::pin(async move { adapter.call_close(store, &owned).await })).await
    }

    /// `models`.
    ///
    /// # Errors
    /// See [`Self::provision`].
    pub async fn models(&mut self) -> Result<Vec<Model>, CallError> {
        self.noted(|| Call::Models, |adapter, store| Box::pin(async move { adapter.call_models(store).await })).await
    }
}
