//! The process: puts the parts together, in the order in which they need each other, and takes them apart.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Handle, Runtime as Executor},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    agents::{Agents, Environments, Provisions},
    backup::Backups,
    clock,
    config::{Config, MasterKeyError},
    disk::{Disk, Frozen},
    events::{self, EventLog},
    http::{self, App, ConsoleHosts, Services, StoreFiles},
    registry::Registry,
    runtime::{self, CacheKey, Loader, LoaderSettings, Recordings, Runtimes},
    session::{OperatorWishes, Sessions},
    upstream::{Client, ClientError, Upstreams},
    vault::{
        ClientKeys, InitError, KeyFileError, Marks, OpenError, Presence, RowError, Vault, VaultKey, generate_key_file,
        load_key_file,
    },
};

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The runtimes that are part of this program: the manifest and the component of each.
#[must_use]
pub const fn bundled() -> &'static [(&'static str, &'static [u8])] {
    BUNDLED
}

/// How long drivers may take to leave when the host stops. What they have not committed is fetched again.
const LEAVE: Duration = Duration::from_secs(2);

/// The log's file in the data directory.
const EVENTS_FILE: &str = "events.redb";

/// Why the host does not start. Every text is one line that says what and where.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runtime that shall be the default is none that this host has.
    #[error("there is no runtime {0:?} to be the default; name another one with --default-runtime")]
    DefaultRuntime(String),
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", .path.display())]
    DataDirectory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Parts of the store are missing.
    #[error("the store in {} is damaged: {reason}", .path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The vault's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A new store cannot be made.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The store cannot be opened.
    #[error(transparent)]
    Vault(#[from] OpenError),
    /// The log cannot be opened.
    #[error("{}: {source}", .path.display())]
    Log {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: events::StartError,
    },
    /// A runtime cannot be loaded.
    #[error(transparent)]
    Runtime(#[from] runtime::StartError),
    /// The runtimes that were added cannot be read.
    #[error("the added runtimes cannot be read: {0}")]
    Registry(#[from] RowError),
    /// There is no HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing can be recorded there.
    #[error("the folder for recordings, {}, cannot be used: {source}", .path.display())]
    Recordings {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing of a new store can be written.
    #[error("a new store cannot be made in {}: {reason}", .path.display())]
    NoRoom {
        /// The data directory.
        path: PathBuf,
        /// Why not.
        reason: Frozen,
    },
    /// The master key cannot be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// Clients' keys cannot be read.
    #[error("the keys of clients cannot be read: {0}; restore a backup")]
    ClientKeys(#[source] RowError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("no threads: {0}")]
    Threads(io::Error),
}

impl StartError {
    /// What the process ends with: 69 when something else has what it needs, 74 when the disk or the system fails and another
    /// start may find it otherwise, 78 when the operator must look.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Vault(OpenError::AlreadyOpen(_))
            | Self::Log { source: events::StartError::InUse, .. }
            | Self::Listen { .. } => 69,
            Self::NoRoom { .. } | Self::Threads(_) => 74,
            Self::DataDirectory { source, .. }
            | Self::Log { source: events::StartError::Io(source), .. }
            | Self::Vault(OpenError::Io { source, .. })
                if may_pass(source) =>
            {
                74
            }
            _ => 78,
        }
    }
}

/// True of what the system may do at one time and not at another; not of what is missing, or somebody else's.
fn may_pass(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
    )
}

/// A running host. Dropping it ends it at once, as a crash would: nothing that was acknowledged is lost.
pub struct Host {
    address: SocketAddr,
    log: EventLog,
    vault: Vault,
    disk: Disk,
    looks: Task,
    stop: oneshot::Sender<()>,
    server: Task,
    sessions: Sessions,
    retention: Option<Task>,
    orphans: Option<Task>,
    keys: ClientKeys,
    notes: Task,
    guests: Guests,
}

/// A task that ends with its host.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The threads of drivers and guests. An executor must not be dropped on a thread of another one, so this is told to stop
/// and not waited for.
struct Guests {
    handle: Handle,
    executor: Option<Executor>,
}

impl Guests {
    fn start() -> Result<Self, StartError> {
        let executor = Builder::new_multi_thread().enable_all().thread_name("guest").build();
        let executor = executor.map_err(StartError::Threads)?;
        Ok(Self { handle: executor.handle().clone(), executor: Some(executor) })
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(executor) = self.executor.take() {
            executor.shutdown_background();
        }
    }
}

/// For how long an orderly stop waits for prompts that are on their way: whether one arrives that is broken off, nobody can
/// tell in time. A supervisor's patience is often ten seconds.
const SENDS_WAIT: Duration = Duration::from_secs(8);

/// How many connections may wait to be accepted; the kernel has a bound of its own (`net.core.somaxconn`). Beyond that it
/// forgets some of those whose clients wait for the host to speak first, and the others come a second late.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise the address of a host that has just ended stays taken for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Why a host should not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The disk has failed under a write: the next start reads what it holds.
    Failed(&'static str),
    /// Nothing could be written, and now it can be: another start takes up what this one could not.
    Thawed,
}

impl Host {
    /// Starts a host; it serves when this returns. The first start in an empty data directory makes a store.
    ///
    /// # Errors
    /// When something that it needs is missing or refused. Nothing that was there has been changed then, unless the
    /// text says so.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, BUNDLED).await
    }

    /// The same with other runtimes than the bundled ones: the manifest and the component of each.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(config: Config, runtimes: &[(&str, &[u8])]) -> Result<Self, StartError> {
        let files = StoreFiles { events: config.data_dir.join(EVENTS_FILE), vault: Vault::file(&config.data_dir) };
        let disk = look_at_disk(&config, &files)?;
        let vault = open_vault(&config, &disk)?;
        let keys = ClientKeys::open(&vault, &config.master_key.load()?).map_err(StartError::ClientKeys)?;
        let log = open_log(&config.data_dir, &vault, &disk)?;
        let cache = config.data_dir.join("cache");
        if let Err(source) = make_directory(&cache)
            && disk.frozen().is_none()
        {
            return Err(StartError::DataDirectory { path: cache, source });
        }
        let loader = Loader::start(LoaderSettings {
            cache: &cache,
            key: CacheKey::new(vault.sealer().mac_key("compiled code")),
            guests: config.guests_max,
            program: config.program.clone(),
        });
        let loader = loader.map_err(runtime::StartError::from)?;
        let bundled = Runtimes::load(&loader, runtimes).await?;
        let guests = Guests::start()?;
        let registry = Registry::open(loader, bundled, &vault, config.data_dir.clone(), guests.handle.clone())?;
        let default_runtime = registry.named(&config.default_runtime);
        let default_runtime = default_runtime.ok_or(StartError::DefaultRuntime(config.default_runtime))?;
        let client = Client::new(config.networks.clone())?;
        let upstreams = Upstreams::new(client, vault.clone(), &guests.handle);
        let sessions = Sessions::new(
            log.clone(),
            registry.clone(),
            Provisions::new(&vault),
            upstreams,
            guests.handle.clone(),
            disk.clone(),
            OperatorWishes {
                turns_max: config.turns_max,
                queue_limit: config.queue_limit,
                recordings: recordings(config.record_dir.as_deref())?,
            },
        );
        let listening = |source| StartError::Listen { address: config.listen, source };
        let listener = listen(config.listen).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let is_frozen = disk.frozen().is_some();
        if !is_frozen {
            resume(&sessions);
        }
        guests.handle.spawn(registry.clone().load_all());
        let limited = config.retention.is_limited() && !is_frozen;
        let retention = limited.then(|| Task(tokio::spawn(sessions.clone().retain(config.retention))));
        let orphans = (!is_frozen).then(|| Task(tokio::spawn(sessions.clone().end_orphans())));
        let looks = Task(tokio::spawn(disk.clone().watch()));
        let app = App::new(Services {
            sessions: sessions.clone(),
            agents: Agents::new(&vault),
            environments: Environments::new(&vault),
            reservations: log.reservations(),
            marks: Marks::new(&vault),
            backups: Backups::new(config.data_dir, disk.clone(), log.clone(), vault.clone()),
            disk: disk.clone(),
            vault: Arc::new(vault.clone()),
            registry,
            keys: keys.clone(),
            console_hosts: ConsoleHosts::new(config.console_hosts),
            networks: config.networks,
            fenced: log.fenced(),
            connections_max: config.connections_max,
            connections_per_ip_max: config.connections_per_ip_max,
            default_runtime,
            started_ms: clock::unix_ms(),
            files,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        // The other end going away means the same as a word from it.
        let stopped = async { drop(stopped.await) };
        let server = Task(tokio::spawn(http::serve(listener, app, stopped)));
        let notes = Task(tokio::spawn(keys.clone().keep_notes()));
        Ok(Self { address, log, vault, disk, looks, sessions, stop, server, retention, orphans, keys, notes, guests })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Done when the host should not go on: says why.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        let (mut log, mut vault, disk) = (self.log.fenced(), self.vault.failed(), self.disk.clone());
        async move {
            tokio::select! {
                // An error would say that the log or the vault is gone, which is no better.
                _ = log.wait_for(|failed| *failed) => Ended::Failed("the event log failed to commit"),
                _ = vault.wait_for(|failed| *failed) => Ended::Failed("the vault failed to commit"),
                () = disk.thawed() => Ended::Thawed,
            }
        }
    }

    /// Stops: takes no more connections, ends streams after a word on when to come back, lets requests finish. What
    /// runs upstream runs on, and the next start goes on with it.
    pub async fn shutdown(self) {
        let Self { log, vault, sessions, stop, mut server, retention, orphans, looks, keys, notes, mut guests, .. } =
            self;
        drop((stop, retention, orphans, looks, notes));
        if (&mut server.0).await.is_err() {
            tracing::error!("the server crashed");
        }
        match sessions.close(SENDS_WAIT).await {
            0 => {}
            left => tracing::warn!(left, "prompts are still on their way; the next start looks whether they arrived"),
        }
        if !matches!(tokio::task::spawn_blocking(move || keys.note()).await, Ok(Ok(()))) {
            tracing::warn!("when keys were used last could not be noted");
        }
        if let Some(executor) = guests.executor.take() {
            let left = tokio::task::spawn_blocking(move || executor.shutdown_timeout(LEAVE)).await;
            if left.is_err() {
                tracing::error!("the guests' threads did not stop");
            }
        }
        drop((log, vault));
    }
}

/// How the disk of the data directory is, which is made where it does not exist yet.
fn look_at_disk(config: &Config, files: &StoreFiles) -> Result<Disk, StartError> {
    let path = &config.data_dir;
    let presence = Vault::presence(path).map_err(|source| StartError::DataDirectory { path: path.clone(), source })?;
    let is_new = presence == Presence::Empty;
    if is_new {
        make_directory(path).map_err(|source| StartError::DataDirectory { path: path.clone(), source })?;
    }
    let files = if is_new { Vec::new() } else { vec![files.events.clone(), files.vault.clone()] };
    let disk = Disk::look(path.clone(), config.disk_reserve_bytes, config.disk_probe.clone(), &files);
    match disk.frozen() {
        Some(reason) if is_new => Err(StartError::NoRoom { path: path.clone(), reason }),
        _ => Ok(disk),
    }
}

fn recordings(folder: Option<&Path>) -> Result<Option<Arc<Recordings>>, StartError> {
    let Some(folder) = folder else { return Ok(None) };
    let unusable = |source| StartError::Recordings { path: folder.to_owned(), source };
    let recordings = Recordings::open(folder).map_err(unusable)?;
    tracing::warn!(folder = %folder.display(), "what people and agents say in sessions is recorded here");
    Ok(Some(recordings))
}

/// Sessions that had something to do go on. Nobody waits for that.
fn resume(sessions: &Sessions) {
    let sessions = sessions.clone();
    tokio::task::spawn_blocking(move || match sessions.resume() {
        Ok(0) => {}
        Ok(resumed) => tracing::info!(resumed, "sessions go on where the last process left them"),
        Err(error) => tracing::error!(%error, "sessions cannot be resumed"),
    });
}

fn open_vault(config: &Config, disk: &Disk) -> Result<Vault, StartError> {
    let directory = config.data_dir.as_path();
    let unusable = |source| StartError::DataDirectory { path: directory.to_owned(), source };
    let damaged = |reason: &str| Err(StartError::Damaged { path: directory.to_owned(), reason: reason.to_owned() });
    match Vault::presence(directory).map_err(unusable)? {
        Presence::Damaged(reason) => damaged(&reason),
        Presence::Store => {
            let key = load_key_file(&config.vault_key_file)?;
            // Looked at before anything is opened, and with that perhaps written.
            match fs::metadata(directory.join(EVENTS_FILE)).map(|events| events.len()) {
                Ok(0) => damaged("events.redb is empty"),
                Ok(_) if disk.frozen().is_some() => Ok(Vault::open_frozen(directory, key)?),
                Ok(_) => Ok(Vault::open(directory, key)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => damaged("events.redb is missing"),
                Err(error) => Err(unusable(error)),
            }
        }
        Presence::Empty => {
            let key = first_key(&config.vault_key_file)?;
            Vault::init(directory, &key)?;
            let vault = Vault::open(directory, key)?;
            let path = directory.join(EVENTS_FILE);
            EventLog::create(&path, vault.sealer()).map_err(|source| StartError::Log { path, source })?;
            tracing::info!(data_dir = %directory.display(), "made a new store");
            Ok(vault)
        }
    }
}

/// The key of a new store: the one that the operator has put there, or a new one.
fn first_key(path: &Path) -> Result<VaultKey, StartError> {
    match load_key_file(path) {
        Err(KeyFileError::Missing { .. }) => {
            let key = generate_key_file(path)?;
            tracing::info!(file = %path.display(), key = %key.id(), "made a new vault key; keep a copy of it elsewhere");
            Ok(key)
        }
        loaded => Ok(loaded?),
    }
}

fn open_log(directory: &Path, vault: &Vault, disk: &Disk) -> Result<EventLog, StartError> {
    let path = directory.join(EVENTS_FILE);
    let opened = match disk.frozen() {
        Some(_) => EventLog::open_frozen(&path, vault.sealer()),
        None => EventLog::open(&path, vault.sealer()),
    };
    opened.map_err(|source| StartError::Log { path, source })
}

/// A directory that only its owner may enter. One that exists keeps its mode, with a word about it.
fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "others on this machine may look into this directory; `chmod 700` it");
    }
    Ok(())
}
