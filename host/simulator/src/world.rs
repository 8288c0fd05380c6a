//! Everything that the simulated service knows.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    underway::Underway,
};

/// One simulated service.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) ids: Arc<Ids>,
    pub(crate) recorder: Recorder,
    pub(crate) underway: Underway,
    // Ids ascend, so the maps are in order of creation.
    agents: Mutex<BTreeMap<String, Agent>>,
    environments: Mutex<BTreeMap<String, Environment>>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    /// Deleted sessions, where they are to be remembered.
    deleted: Mutex<BTreeMap<String, Arc<Session>>>,
    library: Mutex<Library>,
    /// Keys that are refused, whatever the options say.
    revoked: Mutex<BTreeSet<String>>,
    script: Mutex<Arc<Script>>,
    armed: Mutex<Armed>,
}

impl World {
    pub(crate) fn new(script: Script, options: Options) -> Self {
        Self {
            ids: Arc::new(Ids::new()),
            recorder: Recorder::new(options.requests_kept),
            underway: Underway::default(),
            options,
            agents: Mutex::default(),
            environments: Mutex::default(),
            sessions: Mutex::default(),
            deleted: Mutex::default(),
            library: Mutex::default(),
            revoked: Mutex::default(),
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

    /// Refuses a key from now on.
    pub(crate) fn revoke(&self, key: &str) {
        lock(&self.revoked).insert(key.to_owned());
    }

    /// True for a key that clients may use.
    pub(crate) fn takes(&self, key: &str) -> bool {
        let expected = self.options.api_key.as_deref();
        !key.is_empty() && expected.is_none_or(|expected| expected == key) && !lock(&self.revoked).contains(key)
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions().get(id).cloned()
    }

    /// Takes a session away: from now on nothing is known of it.
    pub(crate) fn forget(&self, id: &str) {
        if let Some(session) = self.sessions().remove(id)
            && self.options.remember_deleted
        {
            lock(&self.deleted).insert(id.to_owned(), session);
        }
    }

    /// The session, or what is remembered of it.
    pub(crate) fn remembered(&self, id: &str) -> Option<Arc<Session>> {
        self.session(id).or_else(|| lock(&self.deleted).get(id).cloned())
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

    pub(crate) fn request_fault(&self, endpoint: Option<Endpoint>, body: &[u8]) -> Option<RequestFault> {
        lock(&self.armed).request(endpoint, body)
    }

    pub(crate) fn stream_fault(&self) -> Option<StreamFault> {
        lock(&self.armed).stream()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        lock(&self.script).heartbeat
    }

    pub(crate) fn list_lag(&self) -> ListLag {
        self.faults().list
    }

    /// The faults as they are now.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        lock(&self.armed).faults()
    }

    pub(crate) fn status_lag_ms(&self) -> u64 {
        self.faults().status_lag_ms
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
