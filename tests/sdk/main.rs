//! The official Python SDK against the simulator: what it accepts is what a runtime may rely on.
//!
//! `LAP_SDK_PYTHON` names an interpreter with the packages of `requirements.txt`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{env, net::SocketAddr};

use lap_simulator::{Options, Script, Simulator};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_main_flow_works_against_the_simulator() {
    let python = env::var("LAP_SDK_PYTHON").expect("LAP_SDK_PYTHON names a Python with the SDK");
    let options = Options { api_key: Some("sk-ant-sdk".to_owned()), ..Options::default() };
    let simulator = Simulator::start(SocketAddr::from(([127, 0, 0, 1], 0)), Script::default(), options).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sdk/simulator_main_flow.py");
    let ended = Command::new(python)
        .arg(script)
        .env("ANTHROPIC_BASE_URL", simulator.base_url())
        .env("ANTHROPIC_API_KEY", "sk-ant-sdk")
        .output()
        .await
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}\n{}", said(&ended.stdout), said(&ended.stderr));
}
