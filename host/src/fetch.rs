//! `lap backup`: fetches a backup from the running host into a file, which has its name only once it is whole.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    backup::{Contents, FormatError, check},
    config::Config,
    http::{DownloadError, Unanswered, download},
    vault::{create_private_file, rename_private_file},
};

/// Why there is no backup. What was written of it is removed again.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is a file of this name.
    #[error("{} exists and was left as it is: name a new file", .0.display())]
    Exists(PathBuf),
    /// Another one is under way to the same name, or was interrupted.
    #[error(
        "{} exists: another backup is being written to it, or was killed while it was; in that case remove it",
        .0.display()
    )]
    Partial(PathBuf),
    /// The file cannot be written.
    #[error("the backup cannot be written to {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no host to ask.
    #[error(
        "{source}. If the host is stopped, a copy of its directory, {directory}, is a backup, too; if it runs, say where \
         with --listen", directory = .directory.display()
    )]
    NoHost {
        /// Why not.
        source: Unanswered,
        /// Its data directory, according to the settings.
        directory: PathBuf,
    },
    /// The host gave none, or not all of it.
    #[error(transparent)]
    Download(DownloadError),
    /// What was written is not what the host sent.
    #[error("the backup was written, but reading it again shows that it cannot be used: {0}")]
    Unusable(FormatError),
}

/// A backup that is there.
pub struct Fetched {
    contents: Contents,
    file: PathBuf,
    /// Where the settings say that the key is which the backup needs.
    key_file: PathBuf,
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contents, file, key_file } = self;
        let (sessions, agents, credentials) = (contents.sessions(), contents.agents(), contents.credentials());
        writeln!(f, "the store {} of {} is in {}", contents.store(), contents.time(), file.display())?;
        writeln!(f, "{} bytes: {sessions} sessions, {agents} agents, {credentials} credentials", contents.bytes())?;
        write!(
            f,
            "THE KEY IS NOT IN IT: without the vault's key ({}) this backup cannot be used; keep a copy of the key, and \
             not beside the backup",
            key_file.display()
        )
    }
}

/// Asks the host that `config` describes for a backup and writes it to `file`, which must not exist. The backup is
/// durable and was read again when this returns. Dropped before that, it leaves nothing.
///
/// # Errors
/// When the host gives no backup, or the disk does not take it.
pub async fn fetch(config: &Config, key: &str, file: &Path) -> Result<Fetched, FetchError> {
    let io = |source| FetchError::Io { path: file.to_owned(), source };
    let refuse_existing = || match file.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(FetchError::Exists(file.to_owned())),
        Err(error) => Err(io(error)),
    };
    refuse_existing()?;
    let mut partial = Partial::new(file)?;
    download(config.listen, key, &mut partial.file).await.map_err(|error| match error {
        DownloadError::Unanswered(source @ Unanswered::Silent { .. }) => {
            FetchError::NoHost { source, directory: config.data_dir.clone() }
        }
        DownloadError::Write(source) => io(source),
        error => FetchError::Download(error),
    })?;
    partial.file.sync_all().map_err(io)?;
    let contents = check(File::open(&partial.path).map_err(io)?).map_err(FetchError::Unusable)?;
    refuse_existing()?;
    rename_private_file(&partial.path, file).map_err(io)?;
    partial.renamed = true;
    Ok(Fetched { contents, file: file.to_owned(), key_file: config.vault_key_file.clone() })
}

/// The file while it is written, under a name of its own. Removed unless it is renamed.
struct Partial {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Partial {
    fn new(target: &Path) -> Result<Self, FetchError> {
        let path = target.with_added_extension("partial");
        match create_private_file(&path) {
            Ok(file) => Ok(Self { path, file, renamed: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(FetchError::Partial(path)),
            Err(source) => Err(FetchError::Io { path, source }),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed is refused by name the next time.
            drop(fs::remove_file(&self.path));
        }
    }
}
