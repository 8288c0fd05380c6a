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
