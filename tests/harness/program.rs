//! The real program, run as a user runs it, with nothing of the developer's environment.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use super::Client;

/// `lap` with arguments, in a directory; not started yet.
pub fn lap(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lap"));
    command.args(arguments).current_dir(directory).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// What a command printed and how it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub async fn ended(command: &mut Command) -> Ended {
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A host that serves.
pub struct Program {
    child: Child,
    pub client: Client,
    output: Arc<Mutex<String>>,
    drains: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts `lap serve` on a free port and waits until it says where it listens.
    pub async fn serve(directory: &Path, more: &[&str], key: &str) -> Self {
        Self::try_serve(directory, more, key).await.unwrap_or_else(|ended| panic!("it ended: {}", ended.stderr))
    }

    /// The same, for a host that may refuse.
    pub async fn try_serve(directory: &Path, more: &[&str], key: &str) -> Result<Self, Ended> {
        let arguments = [&["serve", "--listen", "127.0.0.1:0", "--guests-max", "16"], more].concat();
        Self::start(lap(directory, &arguments), key).await
    }

    /// The same, for a command of the caller's that becomes `lap serve`.
    pub async fn start(mut command: Command, key: &str) -> Result<Self, Ended> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let (address, mut found) = watch::channel(None);
        let drains = vec![
            drain(child.stdout.take().unwrap(), Arc::clone(&output), address.clone()),
            drain(child.stderr.take().unwrap(), Arc::clone(&output), address),
        ];
        let said = found.wait_for(Option::is_some).await.map(|address| *address);
        if let Ok(Some(address)) = said {
            return Ok(Self { child, client: Client::new(address, key), output, drains });
        }
        let code = child.wait().await.unwrap().code();
        let stderr = output.lock().unwrap().clone();
        Err(Ended { code, stdout: String::new(), stderr })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Everything that it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// SIGKILL, while somebody still uses its client.
    pub fn kill_now(&self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// SIGKILL, and waits until nothing is left of it.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and waits for the orderly end.
    pub async fn terminate(mut self) -> (ExitStatus, String) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().await.unwrap();
        for drain in &mut self.drains {
            drain.await.unwrap();
        }
        (status, self.output())
    }
}

fn drain(
    from: impl AsyncRead + Unpin + Send + 'static,
    to: Arc<Mutex<String>>,
    address: watch::Sender<Option<std::net::SocketAddr>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("lap: http://") {
                address.send_replace(rest.split_whitespace().next().and_then(|address| address.parse().ok()));
            }
            let mut to = to.lock().unwrap();
            to.push_str(&line);
            to.push('\n');
        }
    })
}

/// Every file below a directory, with its bytes.
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
