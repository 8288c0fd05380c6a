//! What `lap runtime` takes: a command of its own for each thing that is done with a runtime's file.

use std::path::PathBuf;

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
    /// Say whether this host would take a runtime, what it asks for, and everything that is wrong with it; exit with 0
    /// when it fits, with 1 when it is refused, with 2 when a file cannot be read
    Check(CheckArgs),
    /// Put a runtime through everything that an upstream and a client can do to it, offline; exit with 0 when nothing is
    /// wrong, with 1 when something is, with 2 when a file cannot be read
    Test(TestArgs),
    /// Repeat a recorded session with a runtime, and say where it does something else; exit with 0 when it does the same,
    /// with 1 when it does not, with 2 when a file cannot be read
    Replay(ReplayArgs),
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
