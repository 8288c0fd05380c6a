//! The processes that are measured: a simulated upstream, and a host in front of it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    api::{Api, HOST_KEY, UPSTREAM_KEY},
    process::Meter,
};

/// For how long a program may take to say where it listens.
const START_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile; starts are measured with this error.
const START_LOOK: Duration = Duration::from_micros(500);
/// For how long a program may take to end.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Where things are, for all worlds.
pub(crate) struct Site {
    /// The program under test.
    pub(crate) lap: PathBuf,
    /// Where data directories are made.
    pub(crate) directory: PathBuf,
    /// The control group that hosts are put in.
    pub(crate) cgroup: Option<PathBuf>,
}

/// What the simulated agent does when it is prompted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) events: u64,
    /// 0 is as fast as they are read.
    pub(crate) every_ms: u64,
}

/// What names the turn of the script.
pub(crate) const PROMPT: &str = "/bench go";
/// About the size of an event, which is that of a short message.
pub(crate) const EVENT_BYTES: usize = 600;

impl Turn {
    fn script(self) -> String {
        let Self { events, every_ms } = self;
        format!(
            "[turns.bench]\n\
             steps = [\n  {{ step = \"repeat\", count = {events}, every_ms = {every_ms}, bytes = {EVENT_BYTES}, \
             stamp = true }},\n]\n"
        )
    }
}

/// A host and a simulated upstream, new and empty.
pub(crate) struct World {
    pub(crate) straight: Arc<Api>,
    pub(crate) through: Arc<Api>,
    pub(crate) host: Program,
    pub(crate) simulator: Program,
    /// Removed at the end, when the programs have ended.
    directory: TempDir,
}

impl World {
    pub(crate) async fn start(site: &Site, turn: Turn) -> Result<Self> {
        let directory = site.directory()?;
        let host = site.host(directory.path())?;
        Self::around(site, turn, host, directory).await
    }

    /// The same, around a host that runs already, with what it keeps in `directory`.
    pub(crate) async fn around(site: &Site, turn: Turn, host: Program, directory: TempDir) -> Result<Self> {
        let script = directory.path().join("script.toml");
        fs::write(&script, turn.script())?;
        let mut simulate = Command::new(&site.lap);
        simulate.args(["simulate", "--listen", "127.0.0.1:0", "--api-key", UPSTREAM_KEY, "--script"]).arg(&script);
        let simulator = Program::start(&mut simulate, &directory.path().join("simulator.log"))?;
        let straight = Api::straight(simulator.address).await.context("the simulator")?;
        let through = Api::host(host.address, simulator.address).await.context("the host")?;
        Ok(Self { straight, through, host, simulator, directory })
    }

    /// The last line of the host's log, for the one who asks why.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("host.log")).unwrap_or_default();
        log.lines().rev().find(|line| !line.contains(" INFO ")).unwrap_or_default().to_owned()
    }

    /// The data directory of the host.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Starts the host anew, once it has ended.
    pub(crate) fn start_host(&mut self, site: &Site) -> Result<()> {
        self.host = site.host(self.directory.path())?;
        Ok(())
    }

    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::start(self.host.pid(), self.simulator.pid())
    }
}

impl Site {
    pub(crate) fn directory(&self) -> Result<TempDir> {
        tempfile::Builder::new().prefix("lap-bench-").tempdir_in(&self.directory).context("no data directory")
    }

    /// Starts a host with its data in `directory`.
    pub(crate) fn host(&self, directory: &Path) -> Result<Program> {
        self.serve(Command::new(&self.lap), directory)
    }

    /// The same, where each sync of a file takes so much longer. Needs `strace`, which makes the program slower otherwise, too.
    pub(crate) fn host_on_slow_disk(&self, directory: &Path, sync_ms: u64) -> Result<Program> {
        // Traced by a grandchild, so that the program is this one's child, and ends as any other.
        let mut traced = Command::new("strace");
        traced.args(["-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync,fsync", "-e"]);
        traced.arg(format!("inject=fdatasync,fsync:delay_exit={}", sync_ms * 1000));
        traced.args(["-o", "/dev/null", "--"]).arg(&self.lap);
        self.serve(traced, directory)
    }

    fn serve(&self, mut program: Command, directory: &Path) -> Result<Program> {
        program.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.join("data"));
        program.env("LAP_MASTER_KEY", HOST_KEY);
        let host = Program::start(&mut program, &directory.join("host.log"))?;
        if let Some(group) = &self.cgroup {
            fs::write(group.join("cgroup.procs"), host.pid().to_string()).context("the control group")?;
        }
        Ok(host)
    }
}

/// A child process that serves HTTP.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Program {
    /// Starts it; it listens when this returns. What it prints goes into the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
        let mut child = child.with_context(|| format!("{} does not start", command.get_program().display()))?;
        match address(&mut child, log) {
            Ok(address) => Ok(Self { address, child }),
            Err(error) => {
                // It may have ended, which is as well.
                child.kill().unwrap_or_default();
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()
    }

    /// As [`Program::stop`], for a program whose place another one will take.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_WAIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(1));
        }
        bail!("process {} does not end", self.pid())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended, which is as well.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// Waits until a program has printed where it listens.
fn address(child: &mut Child, log: &Path) -> Result<SocketAddr> {
    let began = Instant::now();
    loop {
        let printed = fs::read_to_string(log)?;
        if let Some(address) = listens_at(&printed) {
            return Ok(address);
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}: {}", printed.trim_end());
        }
        ensure!(began.elapsed() < START_WAIT, "it does not say where it listens: {}", printed.trim_end());
        sleep(START_LOOK);
    }
}

/// The first `http://ADDRESS:PORT` on a whole line.
fn listens_at(printed: &str) -> Option<SocketAddr> {
    let (lines, _) = printed.rsplit_once('\n')?;
    lines.split("http://").skip(1).find_map(|rest| {
        let end =
            rest.find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':' | '[' | ']')).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// Builds the program as its users do, and says where it is.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root).args(["build", "--release", "--locked", "--package", "lap", "--bin", "lap"]);
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = build.spawn().context("no cargo")?;
    let mut executable = None;
    for line in BufReader::new(child.stdout.take().context("cargo says nothing")?).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        if message["target"]["name"] == "lap"
            && let Some(path) = message["executable"].as_str()
        {
            executable = Some(PathBuf::from(path));
        }
    }
    ensure!(child.wait()?.success(), "lap cannot be built");
    executable.context("cargo built no lap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_programs_print() {
        for (printed, expected) in [
            ("lap: http://127.0.0.1:4000 · data in /tmp\n", Some("127.0.0.1:4000")),
            ("INFO made http://no/ thing\nlap: a simulated API at http://127.0.0.1:41\n", Some("127.0.0.1:41")),
            ("at http://[::1]:7/ and http://127.0.0.1:8\n", Some("[::1]:7")),
            ("lap: http://127.0.0.1:400", None),
            ("", None),
        ] {
            assert_eq!(listens_at(printed).map(|address| address.to_string()).as_deref(), expected, "{printed}");
        }
    }
}
