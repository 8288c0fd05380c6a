//! Every setting, with its unit and default, and where it comes from: a flag, the environment, a file, in this order.
//!
//! Whatever cannot be meant is refused at the start: an unknown field, an empty key, a level that is none. Only this
//! module reads the environment.

mod key;
mod master_key;
mod runtime;

use std::{
    env,
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use zeroize::Zeroizing;

pub use self::{
    key::{KeyArgs, KeyCommand, ListKeysArgs, MintArgs, RevokeArgs},
    master_key::{KeyFault, MasterKeyError, MasterKeySource},
    runtime::{
        AddArgs, CheckArgs, ListArgs, NewArgs, RemoveArgs, ReplayArgs, RollbackArgs, RuntimeArgs, RuntimeCommand,
        TestArgs,
    },
};

use crate::{
    disk::Probe,
    runtime::{COMPILE_COMMAND, GUESTS_MAX},
    session::{QueueLimit, Retention},
    upstream::{NetworkPolicy, NetworkPolicyError},
};

/// This program, whatever has become of the file that it was started from.
const PROGRAM: &str = "/proc/self/exe";
/// Where the host listens unless it is told otherwise: on this machine alone.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4000));
const DATA_DIR: &str = "./data";
/// Each connection costs at most about 100 KiB, most of it in the kernel.
const CONNECTIONS_MAX: usize = 16_384;
/// Each takes some 150 KiB and a connection to its upstream.
const TURNS_MAX: usize = 4000;
/// A team behind one proxy or one office's address has hundreds of streams open; whoever holds this many and does harm
/// leaves fifteen of sixteen to others.
/// What is kept of the disk for what runs already, in MiB.
const DISK_RESERVE_MIB: u32 = 256;
const CONNECTIONS_PER_IP_MAX: usize = 1024;
/// The runtime that has always been there, whose API that dialect is.
const DEFAULT_RUNTIME: &str = "claude_managed_agents";
/// Address space is reserved for each, and several hosts may share a process in tests.
const GUESTS_MAX_OF_A_DEMO: u32 = 64;
const LOG_LEVEL: &str = "info";
const DAY: Duration = Duration::from_hours(24);
const MIB: usize = 1024 * 1024;

/// A host for agent runtimes that you need not trust.
#[derive(Debug, clap::Parser)]
#[command(name = "lap", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve the API
    Serve(ServeArgs),
    /// Show the whole main job on this machine, offline
    Demo(DemoArgs),
    /// Simulate an upstream, for tests and for authors of runtimes
    Simulate(SimulateArgs),
    /// Ask the host that these settings describe whether it is ready; exit with 0 or 1
    Healthcheck(ServeArgs),
    /// Ask the host that these settings describe, while it runs, for a backup of everything but the keys
    Backup(BackupArgs),
    /// Make a new data directory of a backup
    Restore(RestoreArgs),
    /// Write, check and test runtimes
    Runtime(RuntimeArgs),
    /// Make, list and revoke clients' keys of a running host
    Key(KeyArgs),
    /// What the host starts to compile a component; not for people
    #[command(name = COMPILE_COMMAND, hide = true)]
    Compile,
}

/// What `serve` takes.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// A TOML file with settings: those below, with `_` in place of `-`
    #[arg(long, env = "LAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What `backup` takes.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write, which must not exist. The vault's key is not in it: without a copy of that key, kept elsewhere,
    /// a backup is of no use
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `restore` takes.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// A file that `lap backup` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The directory to make, which must be empty or missing; the key files may lie in it already
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// The file with the store's key. With it everything that was restored is opened and checked [default: vault.key
    /// in the new directory, if it is there]
    #[arg(long, env = "LAP_VAULT_KEY_FILE", value_name = "FILE")]
    pub vault_key_file: Option<PathBuf>,
}

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where to listen; a free port of this machine by default
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// End after the turn
    #[arg(long)]
    pub once: bool,
}

/// What `simulate` takes.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:4100", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// What the upstream shall do; by default it answers every prompt
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// The key that it takes; any by default. For made-up keys only: other users of the machine can see it
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

/// The settings, as they stand in flags, environment and file alike. What is absent is decided elsewhere.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Where to listen [default: 127.0.0.1:4000]
    #[arg(long, env = "LAP_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The directory with everything that is stored [default: ./data]
    #[arg(long, env = "LAP_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// A file with the key that clients must show. Without it the key is in `LAP_MASTER_KEY` or `LITELLM_MASTER_KEY`, or
    /// is made at the first start and kept in <data-dir>/master.key
    #[arg(long, env = "LAP_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// The file with the key that the store is encrypted with [default: <data-dir>/vault.key]
    #[arg(long, env = "LAP_VAULT_KEY_FILE", value_name = "FILE")]
    vault_key_file: Option<PathBuf>,
    /// A private network where upstreams may be, such as 10.0.0.0/8, or an origin that may be spoken to in clear text,
    /// such as http://gateway.internal:8080; may be repeated [default: none]
    #[arg(long, env = "LAP_ALLOW_UPSTREAM", value_delimiter = ',', value_name = "NETWORK|ORIGIN")]
    allow_upstream: Option<Vec<String>>,
    /// A name by which browsers may call the host, such as lap.example.com, beside addresses and localhost; may be repeated
    /// [default: none]
    #[arg(long = "console-host", env = "LAP_CONSOLE_HOSTS", value_delimiter = ',', value_name = "NAME")]
    console_hosts: Option<Vec<String>>,
    /// How many connections may be open at the same time [default: 16384]
    #[arg(long, env = "LAP_CONNECTIONS_MAX", value_name = "NUMBER")]
    connections_max: Option<usize>,
    /// How many of them may come from one address, or from one /64 network of IPv6; those from this machine are not
    /// counted [default: 1024]
    #[arg(long, env = "LAP_CONNECTIONS_PER_IP_MAX", value_name = "NUMBER")]
    connections_per_ip_max: Option<usize>,
    /// The runtime of what is made through the Anthropic dialect without naming one [default: claude_managed_agents]
    #[arg(long, env = "LAP_DEFAULT_RUNTIME", value_name = "RUNTIME")]
    default_runtime: Option<String>,
    /// How many guests may be in calls at the same time [default: 6000]
    #[arg(long, env = "LAP_GUESTS_MAX", value_name = "NUMBER")]
    guests_max: Option<u32>,
    /// How many turns may run at the same time; one owner may run four fifths of them, and fewer beside others
    /// [default: 4000]
    #[arg(long, env = "LAP_TURNS_MAX", value_name = "NUMBER")]
    turns_max: Option<usize>,
    /// How many prompts may wait for one session, 1024 at the most [default: 64]
    #[arg(long, env = "LAP_QUEUE_MAX", value_name = "NUMBER")]
    queue_max: Option<usize>,
    /// Their size, unless it is a single one [default: 8]
    #[arg(long, env = "LAP_QUEUE_MIB", value_name = "MIB")]
    queue_mib: Option<usize>,
    /// Remove sessions to which nothing has happened for so many days [default: keep them]
    #[arg(long, env = "LAP_RETAIN_DAYS", value_name = "DAYS")]
    retain_days: Option<u32>,
    /// When all events together are larger, remove the sessions to which nothing has happened for the longest
    /// [default: keep them]
    #[arg(long, env = "LAP_RETAIN_MIB", value_name = "MIB")]
    retain_mib: Option<u32>,
    /// Take nothing new while less than so much is free on the disk of the data directory, of a small disk while less than
    /// a tenth of it is; what runs goes on [default: 256]
    #[arg(long, env = "LAP_DISK_RESERVE_MIB", value_name = "MIB")]
    disk_reserve_mib: Option<u32>,
    /// A directory in which every call of a session's runtime is recorded, with all that people and agents say, for `lap
    /// runtime replay` [default: nothing is recorded]
    #[arg(long, env = "LAP_RECORD_DIR", value_name = "DIRECTORY")]
    record_dir: Option<PathBuf>,
    /// How the log is written [default: text]
    #[arg(long, env = "LAP_LOG_FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or module=level pairs [default: info]
    #[arg(long, env = "LAP_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Settings {
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            data_dir: self.data_dir.or(other.data_dir),
            master_key_file: self.master_key_file.or(other.master_key_file),
            vault_key_file: self.vault_key_file.or(other.vault_key_file),
            allow_upstream: self.allow_upstream.or(other.allow_upstream),
            console_hosts: self.console_hosts.or(other.console_hosts),
            connections_max: self.connections_max.or(other.connections_max),
            connections_per_ip_max: self.connections_per_ip_max.or(other.connections_per_ip_max),
            default_runtime: self.default_runtime.or(other.default_runtime),
            guests_max: self.guests_max.or(other.guests_max),
            turns_max: self.turns_max.or(other.turns_max),
            queue_max: self.queue_max.or(other.queue_max),
            queue_mib: self.queue_mib.or(other.queue_mib),
            retain_days: self.retain_days.or(other.retain_days),
            retain_mib: self.retain_mib.or(other.retain_mib),
            disk_reserve_mib: self.disk_reserve_mib.or(other.disk_reserve_mib),
            record_dir: self.record_dir.or(other.record_dir),
            log_format: self.log_format.or(other.log_format),
            log_level: self.log_level.or(other.log_level),
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: an object on each line.
    Json,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// A level, or `module=level` pairs.
    pub level: String,
}

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The directory with everything that it stores.
    pub data_dir: PathBuf,
    /// Where the key that clients must show comes from.
    pub master_key: MasterKeySource,
    /// The file with the key of the store.
    pub vault_key_file: PathBuf,
    /// Where upstreams may be, beyond the internet and this machine.
    pub networks: NetworkPolicy,
    /// The names by which browsers may call it, in lower case.
    pub console_hosts: Vec<String>,
    /// How many connections may be open.
    pub connections_max: usize,
    /// How many of them may come from one address.
    pub connections_per_ip_max: usize,
    /// The runtime of what is made without naming one.
    pub default_runtime: String,
    /// How many guests may live at once.
    pub guests_max: u32,
    /// How many turns clients may have begun at once.
    pub turns_max: usize,
    /// What may wait for one session.
    pub queue_limit: QueueLimit,
    /// For how long sessions are kept.
    pub retention: Retention,
    /// What is kept of the disk for what runs already, in bytes.
    pub disk_reserve_bytes: u64,
    /// How it is learnt what is free. No setting; a test says it itself.
    pub disk_probe: Probe,
    /// The program that compiles components of strangers, as a child process: this one. No setting; a test, which is
    /// another program, names the real one.
    pub program: PathBuf,
    /// Where calls of runtimes are recorded.
    pub record_dir: Option<PathBuf>,
    /// The log.
    pub log: Log,
}

/// Settings that a host cannot be started with. Each text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of settings cannot be read.
    #[error("the settings in {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of settings is not one.
    #[error("the settings in {} cannot be understood: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, and what is wrong there.
        reason: String,
    },
    /// An entry of the list of upstreams is none.
    #[error("allow-upstream: {0}")]
    Networks(#[from] NetworkPolicyError),
    /// A name of the host is none.
    #[error(
        "console-host: {0:?} is no name of a host; give it without a scheme and without a port, as in lap.example.com"
    )]
    ConsoleHost(String),
    /// Nothing could be done.
    #[error("{setting} must be at least 1")]
    Zero {
        /// The setting that says so.
        setting: &'static str,
    },
    /// More than a machine can look for when it reads a log again.
    #[error("queue-max must be at most {most}, and is {0}", most = QueueLimit::PROMPTS_MOST)]
    LongQueue(usize),
    /// Every session would go as soon as its turn ends.
    #[error("retain-days and retain-mib must be at least 1; leave them out to keep everything")]
    NothingKept,
    /// A variable of the environment holds no key.
    #[error("{variable} {fault}: set it to a key, or unset it")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with its value.
        fault: KeyFault,
    },
}

impl Config {
    /// What arguments, environment and file amount to. No key file is touched.
    ///
    /// # Errors
    /// Names the setting that cannot be meant.
    pub fn new(args: ServeArgs) -> Result<Self, ConfigError> {
        Self::merge(args, |variable| env::var_os(variable))
    }

    /// Settings for a host whose directory nobody needs tomorrow.
    #[must_use]
    pub fn demo(listen: SocketAddr, data_dir: &Path, master_key: &str) -> Self {
        Self {
            listen,
            data_dir: data_dir.to_owned(),
            master_key: MasterKeySource::Given(Zeroizing::new(master_key.to_owned())),
            vault_key_file: data_dir.join("vault.key"),
            networks: NetworkPolicy::default(),
            console_hosts: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            connections_per_ip_max: CONNECTIONS_PER_IP_MAX,
            default_runtime: DEFAULT_RUNTIME.to_owned(),
            guests_max: GUESTS_MAX_OF_A_DEMO,
            turns_max: TURNS_MAX,
            queue_limit: QueueLimit::default(),
            retention: Retention::default(),
            disk_reserve_bytes: mib(DISK_RESERVE_MIB),
            disk_probe: Probe::default(),
            program: PROGRAM.into(),
            record_dir: None,
            log: Log { format: LogFormat::Text, level: LOG_LEVEL.to_owned() },
        }
    }

    fn merge(args: ServeArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let ServeArgs { config, settings } = args;
        let file = config.map_or_else(|| Ok(Settings::default()), |path| read(&path))?;
        // A file that the arguments name beats a key in the environment, which beats a file that the file names.
        let key = match &settings.master_key_file {
            Some(path) => Some(MasterKeySource::File(path.clone())),
            None => MasterKeySource::of_environment(variable)?
                .or_else(|| file.master_key_file.clone().map(MasterKeySource::File)),
        };
        let settings = settings.or(file);
        let data_dir = settings.data_dir.unwrap_or_else(|| DATA_DIR.into());
        let some = |setting, number: Option<usize>, default| match number.unwrap_or(default) {
            0 => Err(ConfigError::Zero { setting }),
            number => Ok(number),
        };
        let connections_max = some("connections-max", settings.connections_max, CONNECTIONS_MAX)?;
        let connections_per_ip_max =
            some("connections-per-ip-max", settings.connections_per_ip_max, CONNECTIONS_PER_IP_MAX)?;
        let turns_max = some("turns-max", settings.turns_max, TURNS_MAX)?;
        let queue_limit = QueueLimit::default();
        let queue_limit = QueueLimit {
            prompts: some("queue-max", settings.queue_max, queue_limit.prompts)?,
            bytes: some("queue-mib", settings.queue_mib, queue_limit.bytes / MIB)?.saturating_mul(MIB),
        };
        if queue_limit.prompts > QueueLimit::PROMPTS_MOST {
            return Err(ConfigError::LongQueue(queue_limit.prompts));
        }
        if settings.retain_days == Some(0) || settings.retain_mib == Some(0) {
            return Err(ConfigError::NothingKept);
        }
        let retention =
            Retention { age: settings.retain_days.map(|days| DAY * days), bytes: settings.retain_mib.map(mib) };
        Ok(Self {
            listen: settings.listen.unwrap_or(LISTEN),
            master_key: key.unwrap_or_else(|| MasterKeySource::Own(data_dir.join("master.key"))),
            vault_key_file: settings.vault_key_file.unwrap_or_else(|| data_dir.join("vault.key")),
            networks: NetworkPolicy::parse(settings.allow_upstream.iter().flatten().map(String::as_str))?,
            console_hosts: settings.console_hosts.into_iter().flatten().map(console_host).collect::<Result<_, _>>()?,
            connections_max,
            connections_per_ip_max,
            default_runtime: settings.default_runtime.unwrap_or_else(|| DEFAULT_RUNTIME.to_owned()),
            guests_max: settings.guests_max.unwrap_or(GUESTS_MAX),
            turns_max,
            queue_limit,
            retention,
            disk_reserve_bytes: mib(settings.disk_reserve_mib.unwrap_or(DISK_RESERVE_MIB)),
            disk_probe: Probe::default(),
            program: PROGRAM.into(),
            record_dir: settings.record_dir,
            log: Log {
                format: settings.log_format.unwrap_or_default(),
                level: settings.log_level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
            },
            data_dir,
        })
    }
}

fn mib(number: u32) -> u64 {
    u64::from(number) * 1024 * 1024
}

fn console_host(name: String) -> Result<String, ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
        return Err(ConfigError::ConsoleHost(name));
    }
    Ok(name.to_ascii_lowercase())
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        let reason = format!("line {line}: {}", error.message().replace('\n', " "));
        ConfigError::Malformed { path: path.to_owned(), reason }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn merged(settings: Settings, file: Option<&str>, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lap.toml");
        let config = file.map(|text| fs::write(&path, text).map(|()| path.clone()).unwrap());
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Config::merge(ServeArgs { config, settings }, variable)
    }

    fn listening(port: u16) -> Settings {
        Settings { listen: Some(SocketAddr::from(([127, 0, 0, 1], port))), ..Settings::default() }
    }

    #[test]
    fn nothing_given_means_this_machine_alone_and_a_key_of_its_own() {
        let config = merged(Settings::default(), None, &[]).unwrap();
        assert_eq!((config.listen.to_string(), config.connections_max), ("127.0.0.1:4000".to_owned(), 16_384));
        assert_eq!(config.connections_per_ip_max, 1024);
        assert_eq!(config.vault_key_file, Path::new("./data/vault.key"));
        assert!(matches!(&config.master_key, MasterKeySource::Own(path) if path == Path::new("./data/master.key")));
    }

    #[test]
    fn a_queue_has_a_bound_which_has_one_itself() {
        let limit = |prompts, mib| {
            let settings = Settings { queue_max: prompts, queue_mib: mib, ..Settings::default() };
            merged(settings, None, &[]).map(|config| config.queue_limit)
        };
        assert_eq!(limit(None, None).unwrap(), QueueLimit { prompts: 64, bytes: 8 << 20 });
        assert_eq!(limit(Some(1024), Some(1)).unwrap(), QueueLimit { prompts: 1024, bytes: 1 << 20 });
        assert!(matches!(limit(Some(1025), None), Err(ConfigError::LongQueue(1025))));
        assert!(matches!(limit(Some(0), None), Err(ConfigError::Zero { setting: "queue-max" })));
        assert!(matches!(limit(None, Some(0)), Err(ConfigError::Zero { setting: "queue-mib" })));
    }

    #[test]
    fn a_flag_beats_the_file_which_beats_the_default() {
        let file =
            "listen = \"127.0.0.1:2\"\ndata_dir = \"/d\"\nallow_upstream = [\"10.0.0.0/8\"]\nlog_format = \"json\"";
        let config = merged(listening(1), Some(file), &[]).unwrap();
        assert_eq!((config.listen.port(), &*config.data_dir), (1, Path::new("/d")));
        let names = merged(Settings::default(), Some("console_hosts = [\"Lap.Example\"]"), &[]).unwrap().console_hosts;
        assert_eq!(names, ["lap.example"]);
        assert_eq!((config.vault_key_file, config.log.format), ("/d/vault.key".into(), LogFormat::Json));
    }

    #[test]
    fn a_part_of_the_disk_is_kept() {
        let reserve = |file| merged(Settings::default(), file, &[]).unwrap().disk_reserve_bytes;
        assert_eq!((reserve(None), reserve(Some("disk_reserve_mib = 7"))), (268_435_456, 7_340_032));
    }

    #[test]
    fn everything_is_kept_unless_it_is_said_for_how_long() {
        assert_eq!(merged(Settings::default(), None, &[]).unwrap().retention, Retention::default());
        let limited = merged(Settings::default(), Some("retain_days = 2\nretain_mib = 3"), &[]).unwrap().retention;
        let expected = Retention { age: Some(Duration::from_hours(48)), bytes: Some(3_145_728) };
        assert_eq!(limited, expected);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let refused = |file: &str| merged(Settings::default(), Some(file), &[]).unwrap_err().to_string();
        assert!(refused("\nlistn = 1").contains("line 2"), "{}", refused("\nlistn = 1"));
        assert!(refused("listn = 1").contains("listn"));
        assert!(refused("allow_upstream = [\"10.0.0.1/8\"]").contains("10.0.0.1/8"));
        assert!(refused("connections_max = 0").contains("connections-max"));
        assert!(refused("retain_days = 0").contains("retain-days") && refused("retain_mib = 0").contains("at least 1"));
        assert!(refused("connections_per_ip_max = 0").contains("connections-per-ip-max"));
        for name in ["", "https://lap.example", "lap.example:443", "*.example", "läp.example"] {
            let text = refused(&format!("console_hosts = [\"a\", {name:?}]"));
            assert!(text.contains("console-host") && text.contains(&format!("{name:?}")), "{text}");
        }
        let missing = ServeArgs { config: Some("/nowhere/lap.toml".into()), ..ServeArgs::default() };
        assert!(matches!(Config::new(missing), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn the_key_s_places_have_an_order() {
        let own_name = ("LAP_MASTER_KEY", "sk-a");
        let other_name = ("LITELLM_MASTER_KEY", "sk-b");
        let file = Some("master_key_file = \"/file\"");
        let named = Settings { master_key_file: Some("/flag".into()), ..Settings::default() };
        let source = |settings, file, environment: &[_]| merged(settings, file, environment).unwrap().master_key;
        assert!(matches!(source(named, file, &[own_name]), MasterKeySource::File(path) if path == Path::new("/flag")));
        let given = source(Settings::default(), file, &[other_name, own_name]);
        assert!(matches!(&given, MasterKeySource::Given(key) if **key == "sk-a"));
        assert!(!format!("{given:?} {given}").contains("sk-a"), "a key is not printed");
        assert!(
            matches!(source(Settings::default(), None, &[other_name]), MasterKeySource::Given(key) if *key == "sk-b")
        );
        assert!(
            matches!(source(Settings::default(), file, &[]), MasterKeySource::File(path) if path == Path::new("/file"))
        );
    }

    #[test]
    fn a_key_that_no_client_can_show_is_refused() {
        for (value, fault) in
            [("", KeyFault::Empty), ("a b", KeyFault::Character), (&"k".repeat(129), KeyFault::TooLong)]
        {
            let error = merged(Settings::default(), None, &[("LAP_MASTER_KEY", value)]).unwrap_err();
            assert!(matches!(error, ConfigError::Variable { fault: found, .. } if found == fault), "{error}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
