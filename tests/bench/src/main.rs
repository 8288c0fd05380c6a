//! Measures what `lap` costs: the same work through the host and straight on the simulated upstream, in one run, with
//! the same client.
//!
//! ```text
//! cargo run --release --manifest-path tests/bench/Cargo.toml
//! ```
//!
//! Prints a table in Markdown. The exit code tells whether everything that was sent came, once and in order; how fast is
//! for the reader to judge, who also sees what else the machine did.
//!
//! * `work/` what is measured, a module each · `load.rs` turns with readers, which most of it is made of
//! * `world.rs` the processes · `process.rs` what the kernel knows of them · `machine.rs` where all this runs
//! * `api.rs` one set of requests for both sides · `reader.rs` a subscriber · `frames.rs`, `wire.rs` what it reads
//! * `report.rs` the table · `stats.rs` medians

mod api;
mod frames;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "the file of the tests, which may fail by panicking")]
#[path = "../../harness/guests.rs"]
mod guests;
mod load;
mod machine;
mod process;
mod reader;
mod report;
mod stats;
mod wire;
mod work;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::{
    machine::Machine,
    report::Report,
    work::{Lab, Work},
    world::Site,
};

/// The client shares the machine with what it measures.
const CLIENT_THREADS: usize = 2;

/// Measures `lap` beside its upstream
#[derive(Parser)]
struct Args {
    /// What to measure [default: all of it]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Work>,
    /// Measure little, to see that everything works
    #[arg(long)]
    quick: bool,
    /// How often each load is run; by default 3 times, and once with --quick
    #[arg(long)]
    rounds: Option<usize>,
    /// The program to measure; by default the one of this repository, which is built first
    #[arg(long, value_name = "FILE")]
    lap: Option<PathBuf>,
    /// The components of the templates, as the test `kit` leaves them in target/kit/components
    #[arg(long, value_name = "DIRECTORY")]
    components: Option<PathBuf>,
    /// Where the data directories are made, which decides what a commit costs; by default where temporary files go
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// A control group that the host is put in once it has started, such as one with little memory
    #[arg(long, value_name = "DIRECTORY")]
    cgroup: Option<PathBuf>,
    /// Be the host with hostile runtimes that is measured, with its data in this directory
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    hostile_host: Option<PathBuf>,
    /// Write the results as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(directory) = args.hostile_host {
        work::hostile::serve(&directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(CLIENT_THREADS).enable_all().build()?;
    // Measuring happens on a worker, as everything else does.
    let report = executor.block_on(async { tokio::spawn(measure(args)).await })??;
    print!("{report}");
    Ok(if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: Args) -> Result<Report> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lap = match args.lap {
        Some(lap) => lap.canonicalize().with_context(|| lap.display().to_string())?,
        None => world::build(&root)?,
    };
    let directory = args.dir.unwrap_or_else(std::env::temp_dir).canonicalize().context("no such directory")?;
    let mut report = Report::new(Machine::look(&root, &lap, &directory)?);
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 3 }).max(1);
    let site = Site { lap, directory, cgroup: args.cgroup };
    let lab = Lab { site, rounds, quick: args.quick, components: args.components };
    let works = if args.only.is_empty() { Work::value_variants() } else { &args.only };
    for work in works {
        if let Err(error) = work.measure(&lab, &mut report).await {
            report.problem(format!("{work:?} could not be measured: {error:#}"));
        }
    }
    if let Some(path) = args.json {
        fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    Ok(report)
}
