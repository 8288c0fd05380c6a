//! Everything that the simulated service knows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Options,
    agent::Agent,
    endpoint::Endpoint,
    environment::Environment,
    fault::{Armed, CutBy, Faults, ListLag, RequestFault, StreamFault},
    id::Ids,
    library::Library,
    past::Past,
    record::Recorder,
    script::{Heartbeat, Script},
    session::Session,
    turn,
};

/// One simulated service.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) ids: Arc<Ids>,
    pub(crate) recorder: Recorder,
    // Ids ascend, so the maps are in order of creation.
    agents: Mutex<BTreeMap<String, Agent>>,
    environments: Mutex<BTreeMap<String, Environment>>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    library: Mutex<Library>,
    script: Mutex<Arc<Script>>,
    armed: Mutex<Armed>,
}

impl World {
    pub(crate) fn new(script: Script, options: Options) -> Self {
        Self {
            ids: Arc::new(Ids::new()),
            recorder: Recorder::new(options.requests_kept),
            options,
            agents: Mutex::default(),
            environments: Mutex::default(),
            sessions: Mutex::default(),
            library: Mutex::default(),
            armed: Mutex::new(Armed::new(script.faults.clone())),
            script: Mutex::new(Arc::new(script)),
        }
    }

    pub(crate) fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Agent>> {
        lock(&self.agents)
    }

    pub(crate) fn environments(&self) -> MutexGuard<'_, BTreeMap<String, Environment>> {
        lock(&self.environments)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        lock(&self.sessions)
    }

    pub(crate) fn library(&self) -> MutexGuard<'_, Library> {
        lock(&self.library)
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions().get(id).cloned()
    }

    pub(crate) fn script(&self) -> Arc<Script> {
        Arc::clone(&lock(&self.script))
    }

    /// From now on; turns that run keep to the script they began with.
    pub(crate) fn set_script(&self, script: Script) {
        *lock(&self.armed) = Armed::new(script.faults.clone());
        *lock(&self.script) = Arc::new(script);
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *lock(&self.armed) = Armed::new(faults);
    }

    pub(crate) fn request_fault(&self, endpoint: Option<Endpoint>) -> Option<RequestFault> {
        lock(&self.armed).request(endpoint)
    }

    pub(crate) fn stream_fault(&self) -> Option<StreamFault> {
        lock(&self.armed).stream()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        lock(&self.script).heartbeat
    }

    pub(crate) fn list_lag(&self) -> ListLag {
        lock(&self.armed).faults().list
    }

    pub(crate) fn status_lag_ms(&self) -> u64 {
        lock(&self.armed).faults().status_lag_ms
    }

    pub(crate) fn adopt(self: &Arc<Self>, past: Past) {
        let session = Arc::new(Session::past(&self.ids, past, self.options.backlog_bytes_max));
        self.sessions().insert(session.id.clone(), Arc::clone(&session));
        let asked = session.waiting();
        if asked > 0 {
            turn::resume(self, &session, asked);
        }
    }

    pub(crate) fn cut_streams(&self, by: CutBy) {
        for session in self.sessions().values() {
            session.cut_streams(by);
        }
    }

    /// Ends every turn, as the service itself ends.
    pub(crate) fn abandon(&self) {
        for session in self.sessions().values() {
            session.abandon();
        }
    }
}

/// No code of ours panics while it holds a lock, and if it did, the test behind it would rather go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
