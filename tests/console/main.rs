//! The console, as its users use it: in a browser, against the real program and a simulated upstream.
//!
//! Each test is a world and a script of `flows/`, which drives the browser and asserts. `LAP_CONSOLE_DIR` names a folder
//! with what `.ci/run` installs: `node/` with `node/package.json`. The browser is `LAP_CHROMIUM`, or Debian's. What is
//! missing fails the test.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod harness;

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use harness::{
    MASTER_KEY, UPSTREAM_KEY, anywhere,
    program::{self, Program},
    proxy::{Direction, Proxy},
    simulator,
    variant::Variant,
};
use lap_simulator::{Script, Simulator};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

fn installed() -> PathBuf {
    let installed = env::var_os("LAP_CONSOLE_DIR").expect("LAP_CONSOLE_DIR names the folder with the browser's driver");
    fs::canonicalize(installed).unwrap()
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/console")
}

/// A host behind a proxy that can lose connections, and its upstream.
struct World {
    directory: TempDir,
    simulator: Simulator,
    proxy: Proxy,
    /// Where the host listens, also after a restart.
    listen: SocketAddr,
    host: Option<Program>,
}

async fn serve(directory: &Path, listen: SocketAddr) -> Program {
    let listen = listen.to_string();
    let arguments = ["serve", "--listen", &listen, "--guests-max", "64", "--master-key-file", "key-of-the-api"];
    let host = Program::start(program::lap(directory, &arguments), MASTER_KEY).await;
    host.unwrap_or_else(|ended| panic!("it ended: {}", ended.stderr))
}

impl World {
    async fn start(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        let host = serve(directory.path(), anywhere()).await;
        let listen = host.client.base.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = Proxy::before(listen).await;
        Self { directory, simulator: simulator(script), proxy, listen, host: Some(host) }
    }

    /// Carries out what a script cannot do itself.
    async fn obey(&mut self, command: &str) {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("kill", "") => self.host.take().unwrap().kill().await,
            ("build", day) => {
                let variant = Variant::of(day.parse().unwrap());
                fs::write(self.directory.path().join("copy.wasm"), variant.component).unwrap();
                fs::write(self.directory.path().join("runtime.toml"), variant.manifest).unwrap();
            }
            ("start", "") => self.host = Some(serve(self.directory.path(), self.listen).await),
            // The answer is cut as soon as another byte of it comes; one that goes on already, too.
            ("cut", path) => self.proxy.cut((path.to_owned(), Direction::Answer), 0, true),
            _ => panic!("a script wants `{command}`"),
        }
    }

    /// Runs a script of `flows/` to its end, which must be a good one.
    async fn plays(mut self, flow: &str) {
        let mut script = Command::new("node");
        script.arg(here().join("flows").join(flow));
        script.env("LAP_CONSOLE_DIR", installed());
        script.env("LAP_CONSOLE_BASE", format!("http://{}", self.proxy.address)).env("LAP_CONSOLE_KEY", MASTER_KEY);
        script.env("LAP_CONSOLE_UPSTREAM", self.simulator.base_url()).env("LAP_CONSOLE_UPSTREAM_KEY", UPSTREAM_KEY);
        script.env("LAP_CONSOLE_FILES", self.directory.path());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut script = script.spawn().expect("`node` runs the scripts");
        let mut commands = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut answers = script.stdin.take().unwrap();
        while let Some(command) = commands.next_line().await.unwrap() {
            self.obey(&command).await;
            answers.write_all(b"done\n").await.unwrap();
        }
        let status = script.wait().await.unwrap();
        let said = self.host.as_ref().map(Program::output).unwrap_or_default();
        assert!(status.success(), "{flow} ended with {status}; the host said\n{said}");
    }
}

fn script() -> Script {
    include_str!("script.toml").parse().unwrap()
}

macro_rules! flows {
    ($($(#[$doc:meta])* $name:ident plays $flow:literal;)*) => {$(
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            World::start(script()).await.plays($flow).await;
        }
    )*};
}

flows! {
    a_key_is_shown_once_and_then_a_cookie_that_no_script_reads plays "sign-in.mjs";
    a_turn_is_watched_live_to_its_end plays "live.mjs";
    a_reader_at_the_end_stays_there_and_one_who_scrolls_up_too plays "follow.mjs";
    a_lost_network_and_a_killed_host_cost_no_event_and_double_none plays "lost-network.mjs";
    tools_are_approved_and_denied plays "decisions.mjs";
    ten_thousand_events_stay_smooth_and_each_has_an_address plays "long.mjs";
    strangers_are_led_to_the_sign_in_and_the_frame_is_for_everybody plays "frame.mjs";
    the_documented_flow_is_the_first_steps_of_the_console plays "first-steps.mjs";
    a_new_host_is_tried_with_the_simulated_vendor_once_that_runs plays "simulated.mjs";
    an_alias_is_added_tried_used_and_removed plays "aliases.mjs";
    a_component_is_looked_at_granted_upgraded_and_rolled_back plays "components.mjs";
    hostile_names_and_events_are_text plays "hostile.mjs";
    everything_can_be_done_with_the_keyboard plays "keyboard.mjs";
    a_key_is_minted_shown_once_and_revoked plays "keys.mjs";
    every_page_can_be_read_without_javascript plays "plain.mjs";
    each_role_finds_what_it_may_do plays "roles.mjs";
    the_list_of_sessions_is_live_and_kills_many plays "sessions.mjs";
    a_turn_is_stopped_and_a_session_killed plays "stops.mjs";
    a_session_that_somebody_else_kills_says_so_and_loses_no_words plays "killed-elsewhere.mjs";
    every_page_is_accessible_in_both_colour_schemes plays "accessible.mjs";
    every_page_has_its_picture plays "pictures.mjs";
}

/// The modules that compute without a browser.
#[tokio::test]
async fn what_the_modules_compute_is_right() {
    let mut units = Command::new("node");
    let ended = units.arg("--test").arg(here().join("units")).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!said.contains("# tests 0\n"), "there are no units");
}
