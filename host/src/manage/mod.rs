//! `lap runtime add`, `list`, `rollback` and `remove`, and `lap key`: what an operator does with the runtimes and the keys of
//! a running host, from a terminal or a script. Everything goes through the host's API; nothing here knows more than `curl`
//! does.
//!
//! * `add.rs` upload, review, grant · `watch.rs` the same again for every build
//! * `keys.rs` clients' keys · `show.rs` what is printed
//!
//! Must not decide what a host takes: it is asked.

mod add;
mod keys;
mod show;
mod watch;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::keys::key;
use self::show::{Runtime, runtimes, versions};
use crate::{
    config::{AddArgs, Config, ConfigError, ListArgs, MasterKeyError, RemoveArgs, RollbackArgs, ServeArgs},
    http::{CallError, Unanswered, call},
    id::ComponentDigest,
    print::{self, Unprinted},
    registry::Review,
    runtime::{ArtifactError, COMPONENT_BYTES_MAX},
};

/// Why a command was not carried out. Each text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// It was done, and nobody can be told.
    #[error(transparent)]
    Unprinted(#[from] Unprinted),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The master key cannot be read.
    #[error(transparent)]
    Key(#[from] MasterKeyError),
    /// There is no host to ask.
    #[error("{0}; start the host, or say where it listens with --listen")]
    NoHost(Unanswered),
    /// The host refuses, or breaks off.
    #[error(transparent)]
    Host(CallError),
    /// The host answers something else than a host of this version does.
    #[error("the host's answer cannot be understood: {0}; is it of this version?")]
    Answer(#[from] serde_json::Error),
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no manifest.
    #[error("there is no runtime.toml beside {} or in this directory: name the manifest with --manifest", .0.display())]
    NoManifest(PathBuf),
    /// The file is no runtime.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No host takes so much.
    #[error(
        "the component has {0} bytes, and a host takes at most {COMPONENT_BYTES_MAX}: build it for release, and strip its \
         debug information"
    )]
    TooLarge(usize),
    /// The operator does not agree.
    #[error("nothing was changed: it was not granted")]
    Declined,
    /// There is nobody to ask.
    #[error("nothing was changed: look at what it asks for, and say --grant {}, or --yes to anything", .0.grant)]
    Ungranted(Box<Review>),
    /// There is nobody to ask.
    #[error("nothing was removed: say --yes, since there is nobody to ask")]
    Unconfirmed,
    /// No version, or more than one, begins so.
    #[error("{found} versions of {id} begin with {prefix:?}; `lap runtime list {id}` shows them all")]
    Version {
        /// The runtime.
        id: String,
        /// What was given.
        prefix: String,
        /// How many do.
        found: usize,
    },
    /// The terminal cannot be read or written.
    #[error("the terminal: {0}")]
    Terminal(io::Error),
}

impl ManageError {
    /// What the process ends with: 78 for settings that cannot be used, 2 for files that cannot be read, 1 for everything
    /// else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Key(_) => 78,
            Self::Unreadable { .. } | Self::NoManifest(_) => 2,
            _ => 1,
        }
    }
}

impl From<CallError> for ManageError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unanswered(silent @ Unanswered::Silent { .. }) => Self::NoHost(silent),
            error => Self::Host(error),
        }
    }
}

/// A running host, and the key that opens it.
struct Remote {
    listen: SocketAddr,
    key: Zeroizing<String>,
}

impl Remote {
    fn new(settings: ServeArgs) -> Result<Self, ManageError> {
        let config = Config::new(settings)?;
        Ok(Self { listen: config.listen, key: config.master_key.read()? })
    }

    async fn get(&self, path: &str) -> Result<Value, CallError> {
        call(self.listen, &self.key, Method::GET, path, Bytes::new()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        call(self.listen, &self.key, Method::POST, path, body.to_string()).await
    }

    async fn put(&self, path: &str, body: Bytes) -> Result<Value, CallError> {
        call(self.listen, &self.key, Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> Result<Value, CallError> {
        call(self.listen, &self.key, Method::DELETE, path, Bytes::new()).await
    }

    async fn runtime(&self, id: &str) -> Result<Runtime, ManageError> {
        Ok(serde_json::from_value(self.get(&path_of(id)).await?)?)
    }

    /// The version of a runtime whose digest begins so.
    async fn version(&self, id: &str, prefix: &str) -> Result<ComponentDigest, ManageError> {
        let digits = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        let mut versions = self.runtime(id).await?.versions;
        versions.retain(|version| version.component.to_string()["sha256:".len()..].starts_with(digits));
        match &versions[..] {
            [one] => Ok(one.component),
            _ => {
                let (id, prefix, found) = (id.to_owned(), prefix.to_owned(), versions.len());
                Err(ManageError::Version { id, prefix, found })
            }
        }
    }
}

/// A path of the API.
fn path_of(id: &str) -> String {
    format!("/api/agent-runtimes/{}", segment(id))
}

/// A name in a path. What cannot be one is none of the host's either, which says so.
fn segment(id: &str) -> String {
    id.bytes()
        .map(|byte| if byte.is_ascii_graphic() && byte != b'/' && byte != b'?' { byte as char } else { '_' })
        .collect()
}

/// `lap runtime add`.
///
/// # Errors
/// When the host does not take it, or the operator does not agree.
pub async fn add(args: AddArgs) -> Result<(), ManageError> {
    let AddArgs { file, manifest, yes, grant, watch, host } = args;
    let remote = Remote::new(host)?;
    let source = add::Source::new(file, manifest)?;
    let consent = add::Consent { yes, grant };
    if watch {
        watch::run(&remote, &source, &consent).await
    } else {
        add::once(&remote, &source, &consent).await.map(drop)
    }
}

/// `lap runtime list`.
///
/// # Errors
/// When the host does not tell.
pub async fn list(args: ListArgs) -> Result<(), ManageError> {
    #[derive(Deserialize)]
    struct List {
        runtimes: Vec<Runtime>,
    }
    let remote = Remote::new(args.host)?;
    let answer = remote.get(&args.id.as_deref().map_or_else(|| "/api/agent-runtimes".to_owned(), path_of)).await?;
    if args.json {
        print::line(answer)?;
    } else if args.id.is_some() {
        print::text(versions(&serde_json::from_value(answer)?))?;
    } else {
        let List { runtimes: all } = serde_json::from_value(answer)?;
        print::text(runtimes(&all))?;
    }
    Ok(())
}

/// `lap runtime rollback`.
///
/// # Errors
/// When the host does not do it.
pub async fn roll_back(args: RollbackArgs) -> Result<(), ManageError> {
    let remote = Remote::new(args.host)?;
    let to = match &args.to {
        Some(prefix) => Some(remote.version(&args.id, prefix).await?),
        None => None,
    };
    let answer = remote.post(&format!("{}/rollback", path_of(&args.id)), &json!({"to": to})).await?;
    let now: Runtime = serde_json::from_value(answer)?;
    print::line(format_args!("{}: new sessions get {}", now.id, show::component(now.component)))?;
    Ok(())
}

/// `lap runtime remove`.
///
/// # Errors
/// When the host does not do it, or the operator does not agree.
pub async fn remove(args: RemoveArgs) -> Result<(), ManageError> {
    let remote = Remote::new(args.host)?;
    let (path, what) = match &args.version {
        Some(prefix) => {
            let component = remote.version(&args.id, prefix).await?;
            (format!("{}/versions/{component}", path_of(&args.id)), format!("{component} of {}", args.id))
        }
        None => (path_of(&args.id), args.id.clone()),
    };
    if !args.yes {
        match ask(&format!("Remove {what}? Sessions that are left on a runtime without versions cannot go on."))? {
            Some(true) => {}
            Some(false) => return Err(ManageError::Declined),
            None => return Err(ManageError::Unconfirmed),
        }
    }
    remote.delete(&path).await?;
    print::line(format_args!("{what} was removed"))?;
    Ok(())
}

/// Asks whoever sits at the terminal; nothing when nobody does.
fn ask(question: &str) -> Result<Option<bool>, ManageError> {
    let mut answer = String::new();
    let mut input = io::stdin().lock();
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut asked = io::stderr().lock();
    write!(asked, "{question} [y/N] ").and_then(|()| asked.flush()).map_err(ManageError::Terminal)?;
    input.read_line(&mut answer).map_err(ManageError::Terminal)?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
}
