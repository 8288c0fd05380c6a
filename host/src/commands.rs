//! `lap runtime`: what is done with a runtime's file where no host is needed. Arguments in, text on stdout and an exit code
//! out; the work is in the modules that are called.
//!
//! Exit codes: 0 when all is well, 1 when something is wrong with the runtime, 2 when a file cannot be read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    config::{CheckArgs, RuntimeArgs, RuntimeCommand},
    conformance::Check,
    runtime::Manifest,
};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Well,
    /// Something is wrong with the runtime, and stdout says what.
    Badly,
}

impl Ended {
    const fn well(well: bool) -> Self {
        if well { Self::Well } else { Self::Badly }
    }

    /// What the process ends with.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Badly => 1,
        }
    }
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The answer cannot be written as JSON.
    #[error("the answer cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

impl CommandError {
    /// What the process ends with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        2
    }
}

/// Carries out a command.
///
/// # Errors
/// When it cannot be carried out; what is wrong with a runtime is no error but an answer.
pub async fn runtime(args: RuntimeArgs) -> Result<Ended, CommandError> {
    match args.command {
        RuntimeCommand::Check(args) => check(args).await,
    }
}

async fn check(args: CheckArgs) -> Result<Ended, CommandError> {
    let file = read(&args.file)?;
    let manifest = manifest(args.manifest, &args.file)?.map(|(_, manifest)| manifest);
    let check = Check::run(&file, manifest).await;
    say(&check, args.json)?;
    Ok(Ended::well(check.accepted))
}

fn say(answer: &(impl Serialize + std::fmt::Display), json: bool) -> Result<(), CommandError> {
    if json {
        println!("{}", serde_json::to_string(answer)?);
    } else {
        print!("{answer}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    fs::read(path).map_err(|source| CommandError::Unreadable { path: path.to_owned(), source })
}

/// The manifest that was named, or the one that lies where a project has it, with the directory that it lies in.
#[expect(clippy::type_complexity, reason = "named once, read once")]
fn manifest(named: Option<PathBuf>, file: &Path) -> Result<Option<(PathBuf, Result<Manifest, String>)>, CommandError> {
    let beside = file.parent().unwrap_or(Path::new("")).join("runtime.toml");
    let usual = || [beside, PathBuf::from("runtime.toml")].into_iter().find(|path| path.is_file());
    let Some(path) = named.or_else(usual) else { return Ok(None) };
    let text = fs::read_to_string(&path).map_err(|source| CommandError::Unreadable { path: path.clone(), source })?;
    let manifest = text.parse::<Manifest>().map_err(|error| format!("{}: {error}", path.display()));
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Some((directory, manifest)))
}
