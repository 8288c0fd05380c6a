//! What `lap runtime` takes: a command of its own for each thing that is done with a runtime.

use std::path::PathBuf;

use super::ServeArgs;
use crate::{id::RuntimeId, kit::Language};

/// What `runtime` takes.
#[derive(Debug, clap::Args)]
pub struct RuntimeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RuntimeCommand,
}

/// What can be done with a runtime.
#[derive(Debug, clap::Subcommand)]
pub enum RuntimeCommand {
    /// Write a project for a new runtime: a sample that works, its tests, and a simulated vendor to try it on
    New(NewArgs),
    /// Say whether this host would take a runtime, what it asks for, and everything that is wrong with it; exit with 0
    /// when it fits, with 1 when it is refused, with 2 when a file cannot be read
    Check(CheckArgs),
    /// Put a runtime through everything that an upstream and a client can do to it, offline; exit with 0 when nothing is
    /// wrong, with 1 when something is, with 2 when a file cannot be read
    Test(TestArgs),
    /// Repeat a recorded session with a runtime, and say where it does something else; exit with 0 when it does the same,
    /// with 1 when it does not, with 2 when a file cannot be read
    Replay(ReplayArgs),
    /// Let new sessions of a running host get a runtime, or another version of one, once you have seen what it asks for
    Add(AddArgs),
    /// Show the runtimes of a running host, or the versions of one
    List(ListArgs),
    /// Let new sessions get an earlier version again
    Rollback(RollbackArgs),
    /// Remove an added runtime, or one of its versions
    Remove(RemoveArgs),
}

/// What `runtime add` takes.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// The component, or the module that `cargo build --target wasm32-unknown-unknown` makes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the host shall grant to it [default: runtime.toml beside the file, or else in this directory]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Agree to everything that it asks for
    #[arg(long)]
    pub yes: bool,
    /// Agree to exactly this, which an earlier try has shown
    #[arg(long, value_name = "GRANT", conflicts_with = "yes")]
    pub grant: Option<String>,
    /// Go on with every new build, until Ctrl-C; the last good one stays while a build is broken
    #[arg(long)]
    pub watch: bool,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `runtime list` takes.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The runtime whose versions to show [default: all runtimes]
    #[arg(value_name = "RUNTIME")]
    pub id: Option<String>,
    /// Answer what the host answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `runtime rollback` takes.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The runtime
    #[arg(value_name = "RUNTIME")]
    pub id: String,
    /// The version, by the first digits of its digest [default: the one that was added before the current one]
    #[arg(long, value_name = "DIGEST")]
    pub to: Option<String>,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `runtime remove` takes.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// The runtime
    #[arg(value_name = "RUNTIME")]
    pub id: String,
    /// Remove only this version, by the first digits of its digest
    #[arg(long, value_name = "DIGEST")]
    pub version: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `runtime new` takes.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// The runtime's name in URLs and agents: letters, digits, `_` and `-`, at most 64
    #[arg(value_name = "NAME", value_parser = named)]
    pub name: RuntimeId,
    /// The language to write it in
    #[arg(long, value_enum)]
    pub lang: Language,
    /// Where the project goes, a directory that is missing or empty [default: the name]
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

fn named(text: &str) -> Result<RuntimeId, &'static str> {
    text.parse().map_err(|_| "a name has letters, digits, `_` and `-`, at most 64")
}

/// What `runtime check` takes.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The component, or the module that `cargo build --target wasm32-unknown-unknown` makes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What a host shall grant to it [default: runtime.toml beside the file, or else in this directory]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Answer one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `runtime test` takes.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The component, or the module that `cargo build --target wasm32-unknown-unknown` makes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What a host shall grant to it [default: runtime.toml beside the file, or else in this directory]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// A scenario, or a directory of scenarios; may be repeated [default: scenarios/ beside the manifest]
    #[arg(long, value_name = "FILE|DIRECTORY")]
    pub scenario: Vec<PathBuf>,
    /// Run this alone: what a finding names, or the beginning of it up to a `/`
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Answer one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `runtime replay` takes.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// What a host that was started with --record-dir has recorded of a session
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// The component to replay it with [default: the bundled runtime of the recording's name]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The manifest that the component had [default: runtime.toml beside the file, or else in this directory]
    #[arg(long, value_name = "FILE", requires = "file")]
    pub manifest: Option<PathBuf>,
    /// Answer one JSON object
    #[arg(long)]
    pub json: bool,
}
