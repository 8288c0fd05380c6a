//! What handlers work with: handles, each of which is as much as its request's principal may see.

use std::{path::PathBuf, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use tokio::sync::watch;

use super::{browser::ConsoleHosts, error::Error, idempotency::Underway, principal::Principal};
use crate::{
    agents::{Agents, Environments},
    backup::Backups,
    disk::Disk,
    events::{ReadError, Reservations, Span},
    id::RuntimeId,
    registry::Registry,
    session::Sessions,
    upstream::NetworkPolicy,
    vault::{ClientKeys, Marks, Vault},
};

/// What an [`App`] is made of.
pub struct Services {
    /// The sessions.
    pub sessions: Sessions,
    /// The agents.
    pub agents: Agents,
    /// The environments.
    pub environments: Environments,
    /// What clients have asked for under a key of their own.
    pub reservations: Reservations,
    /// Which of that was carried out in the vault.
    pub marks: Marks,
    /// Where credentials are stored.
    pub vault: Arc<Vault>,
    /// What makes backups.
    pub backups: Backups,
    /// The runtimes that there are.
    pub registry: Registry,
    /// The keys that clients may show.
    pub keys: ClientKeys,
    /// The names by which browsers may call the host.
    pub console_hosts: ConsoleHosts,
    /// Which base URLs a credential may be stored for.
    pub networks: NetworkPolicy,
    /// The disk of the data directory.
    pub disk: Disk,
    /// Turns true when the event log takes no more writes.
    pub fenced: watch::Receiver<bool>,
    /// The runtime of what is made without naming one.
    pub default_runtime: RuntimeId,
    /// When the host started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// What the store is on disk.
    pub files: StoreFiles,
    /// How many connections may be open.
    pub connections_max: usize,
    /// How many of them one client may have open.
    pub connections_per_ip_max: usize,
}

/// The files of a store.
pub struct StoreFiles {
    /// The log.
    pub events: PathBuf,
    /// The vault.
    pub vault: PathBuf,
}

/// What handlers work with. A handle: clones share everything.
#[derive(Clone)]
pub struct App {
    services: Arc<Services>,
    /// The keyed requests that are being carried out.
    underway: Arc<Underway>,
    /// Turns true when the host shuts down.
    draining: watch::Sender<bool>,
}

impl App {
    /// Ready to be served.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self { services: Arc::new(services), underway: Arc::default(), draining: watch::Sender::new(false) }
    }

    pub(super) fn draining(&self) -> Draining {
        Draining(self.draining.subscribe())
    }

    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(super) fn keys(&self) -> &ClientKeys {
        &self.services.keys
    }

    pub(super) fn console_hosts(&self) -> &ConsoleHosts {
        &self.services.console_hosts
    }

    pub(super) fn reservations(&self) -> &Reservations {
        &self.services.reservations
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.services.marks
    }

    pub(super) const fn underway(&self) -> &Arc<Underway> {
        &self.underway
    }

    pub(super) fn default_runtime(&self) -> &RuntimeId {
        &self.services.default_runtime
    }

    /// How many connections may be open, and how many of one client.
    pub(super) fn connections_max(&self) -> (usize, usize) {
        (self.services.connections_max, self.services.connections_per_ip_max)
    }

    /// True when log or vault take no more writes.
    pub(super) fn is_fenced(&self) -> bool {
        *self.services.fenced.borrow() || *self.services.vault.failed().borrow()
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.services.disk
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.services.started_ms
    }

    pub(super) fn files(&self) -> &StoreFiles {
        &self.services.files
    }

    pub(super) fn vault(&self) -> &Vault {
        &self.services.vault
    }

    /// Whether the log can be read. Blocks on the disk.
    pub(super) fn reads(&self) -> Result<(), ReadError> {
        self.services.sessions.list(Span::Before(None), 1).map(drop)
    }
}

/// What waits for the host to shut down.
#[derive(Clone)]
pub(super) struct Draining(pub(super) watch::Receiver<bool>);

impl Draining {
    /// True once it does.
    pub(super) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it does.
    pub(super) async fn begun(&mut self) {
        // An error says that the host is gone already, which is the same to who waits.
        drop(self.0.wait_for(|draining| *draining).await);
    }
}

macro_rules! handles {
    ($($handle:ty: $app:ident => $from:expr;)*) => {$(
        impl FromRef<App> for $handle {
            fn from_ref($app: &App) -> Self {
                $from
            }
        }
    )*};
}

// What any handler may ask for: what has no owner.
handles! {
    Arc<Vault>: app => Arc::clone(&app.services.vault);
    Backups: app => app.services.backups.clone();
    Registry: app => app.services.registry.clone();
    ClientKeys: app => app.services.keys.clone();
    ConsoleHosts: app => app.services.console_hosts.clone();
    NetworkPolicy: app => app.services.networks.clone();
    Draining: app => app.draining();
}

/// Somebody's things were asked for on a route that asks nobody who they are.
pub struct Unproven;

impl From<Unproven> for Error {
    fn from(_: Unproven) -> Self {
        Self::unauthorized()
    }
}

impl IntoResponse for Unproven {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

macro_rules! owned {
    ($($handle:ty: $field:ident;)*) => {$(
        impl FromRequestParts<App> for $handle {
            type Rejection = Unproven;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Unproven> {
                let principal = Principal::from_request_parts(parts, app).await.map_err(|_| Unproven)?;
                Ok(app.services.$field.within(principal.scope()))
            }
        }
    )*};
}

// What has owners comes bound to what the request's principal sees, and there is no other way to it: for a handler,
// what is another's does not exist, and it cannot forget to ask.
owned! {
    Sessions: sessions;
    Agents: agents;
    Environments: environments;
}
