//! `lap runtime`: what is done with a runtime. Arguments in, text on stdout and an exit code out; the work is in the modules
//! that are called.
//!
//! Exit codes: 0 when all is well, 1 when something is wrong with the runtime or a host refuses it, 2 when a file cannot be
//! read, 78 for settings that cannot be used.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    config::{CheckArgs, NewArgs, ReplayArgs, RuntimeArgs, RuntimeCommand, TestArgs},
    conformance::{self, Check, Named, Recording},
    kit::{self, CreateError},
    manage::{self, ManageError},
    print::{self, Unprinted},
    runtime::{Artifact, Manifest, Trial, TrialError},
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
    /// It was done, and nobody can be told.
    #[error(transparent)]
    Unprinted(#[from] Unprinted),
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no project.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A file is not what it should be.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No file was named, and the recorded runtime is none of the bundled ones.
    #[error("the recording is of the runtime {0:?}, which is not bundled: name its component")]
    NotBundled(String),
    /// The component cannot be run.
    #[error("{0}; `lap runtime check` says more")]
    Refused(#[from] TrialError),
    /// The answer cannot be written as JSON.
    #[error("the answer cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// A running host did not do it.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

impl CommandError {
    /// What the process ends with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Create(_)
            | Self::Unreadable { .. }
            | Self::Malformed { .. }
            | Self::NotBundled(_)
            | Self::Refused(_)
            | Self::Unwritable(_) => 2,
            Self::Unprinted(_) => 1,
            Self::Manage(error) => error.exit_code(),
        }
    }
}

/// Carries out a command.
///
/// # Errors
/// When it cannot be carried out; what is wrong with a runtime is no error but an answer.
pub async fn runtime(args: RuntimeArgs) -> Result<Ended, CommandError> {
    match args.command {
        RuntimeCommand::New(args) => new(args),
        RuntimeCommand::Check(args) => check(args).await,
        RuntimeCommand::Test(args) => test(args).await,
        RuntimeCommand::Replay(args) => replay(args).await,
        RuntimeCommand::Add(args) => done(manage::add(args).await),
        RuntimeCommand::List(args) => done(manage::list(args).await),
        RuntimeCommand::Rollback(args) => done(manage::roll_back(args).await),
        RuntimeCommand::Remove(args) => done(manage::remove(args).await),
    }
}

fn done(managed: Result<(), ManageError>) -> Result<Ended, CommandError> {
    Ok(managed.map(|()| Ended::Well)?)
}

fn new(args: NewArgs) -> Result<Ended, CommandError> {
    let NewArgs { name, lang, directory } = args;
    let directory = directory.unwrap_or_else(|| PathBuf::from(name.as_str()));
    kit::create(&name, lang, &directory)?;
    let directory = directory.display();
    let next = "its README.md says how to test, build and run it";
    print::line(format_args!("{directory} holds the runtime {name}, which works; {next}"))?;
    Ok(Ended::Well)
}

async fn check(args: CheckArgs) -> Result<Ended, CommandError> {
    let file = read(&args.file)?;
    let manifest = manifest(args.manifest, &args.file)?.map(|(_, manifest)| manifest);
    let check = Check::run(&file, manifest).await;
    say(&check, args.json)?;
    Ok(Ended::well(check.accepted))
}

async fn test(args: TestArgs) -> Result<Ended, CommandError> {
    let file = read(&args.file)?;
    let found = manifest(args.manifest, &args.file)?;
    let folder = found.as_ref().map(|(directory, _)| directory.join("scenarios"));
    let named = match (args.scenario.is_empty(), folder) {
        (true, Some(folder)) if folder.is_dir() => vec![folder],
        _ => args.scenario,
    };
    let scenarios = scenarios(&named)?;
    let manifest = found.map(|(_, manifest)| manifest);
    // What a host would refuse is not worth a test; all that is wrong with it is said at once.
    let refused = |check: Check| say(&check, args.json).map(|()| Ended::Badly);
    let (Ok(artifact), None | Some(Ok(_))) = (Artifact::read(&file), &manifest) else {
        return refused(Check::run(&file, manifest).await);
    };
    let trial = match Trial::start(&artifact.component, manifest.clone().and_then(Result::ok)).await {
        Ok(trial) if trial.mismatches.is_empty() && artifact.objections().is_empty() => trial,
        _ => return refused(Check::run(&file, manifest).await),
    };
    let report = conformance::test(&trial, &scenarios, args.only.as_deref()).await;
    if scenarios.is_empty() {
        print::note(
            "lap: there are no scenarios, so only what holds for every runtime was tried; name some with --scenario",
        );
    }
    say(&report, args.json)?;
    Ok(Ended::well(report.passed()))
}

async fn replay(args: ReplayArgs) -> Result<Ended, CommandError> {
    let malformed = |path: &Path, reason: String| CommandError::Malformed { path: path.to_owned(), reason };
    let text = String::from_utf8(read(&args.recording)?);
    let text = text.map_err(|error| malformed(&args.recording, error.to_string()))?;
    let recording: Recording =
        text.parse().map_err(|error: conformance::InvalidRecording| malformed(&args.recording, error.to_string()))?;
    let (component, manifest) = match &args.file {
        Some(file) => {
            let manifest = manifest(args.manifest, file)?.map(|(_, manifest)| manifest).transpose();
            (read(file)?, manifest.map_err(|reason| malformed(file, reason))?)
        }
        None => bundled(&recording.header.runtime)?,
    };
    let artifact = Artifact::read(&component);
    let artifact =
        artifact.map_err(|error| malformed(args.file.as_deref().unwrap_or(Path::new("")), error.to_string()))?;
    let trial = Trial::start(&artifact.component, manifest).await?;
    if recording.cut {
        print::note("lap: the recording's last line is cut, and is left out");
    }
    let replay = conformance::replay(&trial.runtime, &artifact.digest(), &recording).await;
    say(&replay, args.json)?;
    Ok(Ended::well(replay.differences.is_empty()))
}

fn bundled(id: &str) -> Result<(Vec<u8>, Option<Manifest>), CommandError> {
    let mut parsed = crate::bundled().iter().filter_map(|(manifest, component)| {
        let manifest: Manifest = manifest.parse().ok()?;
        (manifest.id.as_str() == id).then(|| (component.to_vec(), Some(manifest)))
    });
    parsed.next().ok_or_else(|| CommandError::NotBundled(id.to_owned()))
}

/// The scenarios in these files and directories, by name.
fn scenarios(named: &[PathBuf]) -> Result<Vec<Named>, CommandError> {
    let mut files = Vec::new();
    for path in named {
        let unreadable = |source| CommandError::Unreadable { path: path.clone(), source };
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(unreadable)?;
            let entries = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
            let mut entries = entries.map_err(unreadable)?;
            entries.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
            entries.sort();
            files.extend(entries);
        } else {
            files.push(path.clone());
        }
    }
    let scenario = |path: PathBuf| {
        let text = fs::read_to_string(&path);
        let text = text.map_err(|source| CommandError::Unreadable { path: path.clone(), source })?;
        let malformed =
            |error: conformance::Invalid| CommandError::Malformed { path: path.clone(), reason: error.to_string() };
        let scenario = text.parse().map_err(malformed)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Named { name, scenario })
    };
    files.into_iter().map(scenario).collect()
}

fn say(answer: &(impl Serialize + std::fmt::Display), json: bool) -> Result<(), CommandError> {
    if json {
        print::line(serde_json::to_string(answer)?)?;
    } else {
        print::text(answer)?;
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
