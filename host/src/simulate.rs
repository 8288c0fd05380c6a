//! `lap simulate`: a simulated upstream on loopback, for trying the host out and for authors of runtimes.

use std::fs;

use anyhow::Context;
use lap_simulator::{Options, Script, Simulator};

use crate::{config::SimulateArgs, print};

/// Serves until the process is told to end.
///
/// # Errors
/// When the script cannot be read or the address cannot be listened on.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let script: Script = match &args.script {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("the script {}", path.display()))?;
            text.parse().with_context(|| format!("the script {}", path.display()))?
        }
        None => Script::default(),
    };
    let options = Options { api_key: args.api_key, ..Options::default() };
    let simulator =
        Simulator::start(args.listen, script, options).with_context(|| format!("cannot listen on {}", args.listen))?;
    print::line(format_args!("lap: a simulated Anthropic API at {}", simulator.base_url()))?;
    tokio::signal::ctrl_c().await.context("no signals")?;
    Ok(())
}
