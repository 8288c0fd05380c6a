//! Serves a script until it is interrupted: `cargo run --example serve -- PORT [SCRIPT.toml]`.
//! With `ANTHROPIC_API_KEY` set it takes that key alone.

use std::{env, error::Error, fs, net::Ipv4Addr};

use lap_simulator::{Options, Script, Simulator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "0".to_owned()).parse()?;
    let script = args.next().map(fs::read_to_string).transpose()?;
    let script: Script = script.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let options = Options { api_key: env::var("ANTHROPIC_API_KEY").ok(), ..Options::default() };
    let simulator = Simulator::start((Ipv4Addr::LOCALHOST, port).into(), script, options)?;
    println!("ANTHROPIC_BASE_URL={}", simulator.base_url());
    tokio::signal::ctrl_c().await?;
    simulator.shutdown().await;
    Ok(())
}
