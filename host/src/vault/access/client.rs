//! Who somebody is that has shown a key, and for how long.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::{
    KeyView,
    rows::{SignInKey, StoredKey},
};
use crate::{
    access::{Role, Scope},
    clock,
    id::ClientKeyId,
};

/// The longest sleep towards an end: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// For how long something is valid.
pub(super) struct Tenure {
    expires_ms: Option<u64>,
    ended: watch::Sender<bool>,
}

impl Tenure {
    fn new(expires_ms: Option<u64>) -> Self {
        Self { expires_ms, ended: watch::Sender::new(false) }
    }

    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        *self.ended.borrow() || self.expires_ms.is_some_and(|at| at <= now)
    }

    async fn over(&self) {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            // An error says that the sender is gone, but it is `self`'s.
            () = async { drop(ended.wait_for(|ended| *ended).await) } => {}
            () = expired(self.expires_ms) => {}
        }
    }
}

async fn expired(at: Option<u64>) {
    let Some(at) = at else { return pending().await };
    loop {
        let left = at.saturating_sub(clock::unix_ms());
        if left == 0 {
            return;
        }
        sleep(Duration::from_millis(left).min(LOOK_AGAIN)).await;
    }
}

/// A key, without its text.
pub(super) struct Key {
    /// Nothing for the master key.
    pub(super) id: Option<ClientKeyId>,
    name: Arc<str>,
    label: Option<String>,
    role: Role,
    scope: Scope,
    created_ms: u64,
    /// 0 until it is used.
    used_ms: AtomicU64,
    pub(super) tenure: Tenure,
}

impl Key {
    pub(super) fn master() -> Self {
        Self {
            id: None,
            name: "master".into(),
            label: None,
            role: Role::Admin,
            scope: Scope::All,
            created_ms: 0,
            used_ms: AtomicU64::new(0),
            tenure: Tenure::new(None),
        }
    }

    pub(super) fn view(&self, id: ClientKeyId) -> KeyView {
        KeyView {
            id,
            label: self.label.clone(),
            role: self.role,
            owner: self.scope.owner().cloned(),
            created_ms: self.created_ms,
            used_ms: Some(self.used_ms.load(Ordering::Relaxed)).filter(|used| *used > 0),
            expires_ms: self.tenure.expires_ms,
        }
    }
}

impl StoredKey {
    pub(super) fn into_key(self, id: ClientKeyId, used_ms: Option<u64>) -> Key {
        Key {
            id: Some(id),
            name: id.to_string().into(),
            label: self.label,
            role: self.role,
            scope: self.owner.map_or(Scope::All, Scope::Of),
            created_ms: self.created_ms,
            used_ms: AtomicU64::new(used_ms.unwrap_or(0)),
            tenure: Tenure::new(self.expires_ms),
        }
    }
}

/// A browser that stands for a key.
pub(super) struct SignIn {
    pub(super) key: SignInKey,
    pub(super) tenure: Tenure,
}

impl SignIn {
    pub(super) fn new(key: SignInKey, expires_ms: u64) -> Self {
        Self { key, tenure: Tenure::new(Some(expires_ms)) }
    }
}

/// Somebody who has shown a key, or what stands for one. A handle: cheap to clone, and valid no longer than the key is.
#[derive(Clone)]
pub struct Client {
    key: Arc<Key>,
    sign_in: Option<Arc<SignIn>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.name())
    }
}

impl Client {
    pub(super) const fn of(key: Arc<Key>) -> Self {
        Self { key, sign_in: None }
    }

    pub(super) const fn through(key: Arc<Key>, sign_in: Arc<SignIn>) -> Self {
        Self { key, sign_in: Some(sign_in) }
    }

    pub(super) const fn key(&self) -> &Arc<Key> {
        &self.key
    }

    pub(super) const fn sign_in(&self) -> Option<&Arc<SignIn>> {
        self.sign_in.as_ref()
    }

    pub(super) fn used(&self, now: u64) {
        self.key.used_ms.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        self.key.tenure.is_over(now) || self.sign_in.as_ref().is_some_and(|sign_in| sign_in.tenure.is_over(now))
    }

    /// A name that no other key has, whatever becomes of its text: the key's id, or `master`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// What people call the key.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.key.label.as_deref()
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.key.role
    }

    /// Whose things it sees.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.key.scope
    }

    /// False for one that is valid for as long as the host runs.
    #[must_use]
    pub fn can_end(&self) -> bool {
        self.key.id.is_some() || self.sign_in.is_some()
    }

    /// Returns once the key, or the sign-in that stands for it, was revoked or has expired.
    pub async fn ended(&self) {
        match &self.sign_in {
            None => self.key.tenure.over().await,
            Some(sign_in) => tokio::select! {
                () = self.key.tenure.over() => {}
                () = sign_in.tenure.over() => {}
            },
        }
    }
}
