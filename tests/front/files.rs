//! More clients than the process may have files.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::timeout,
};

use super::{
    Front,
    process::{open_files, until},
};
use crate::harness::program::Program;

const CLIENTS: usize = 1000;
const WAIT: Duration = Duration::from_secs(20);

async fn asks(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut answer = [0; 4096];
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let bytes = stream.read(&mut answer).await?;
    Ok(answer[..bytes].starts_with(b"HTTP/1.1 200 "))
}

/// Clients that connect and stay, until this is dropped. Some may not even get into the kernel's queue.
fn crowd(address: &str) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let connect = TcpStream::connect(address.to_owned());
        clients.spawn(async {
            let _stream = connect.await;
            std::future::pending::<()>().await;
        });
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_file_left_goes_on_and_recovers() {
    let front = Front::start().await;
    let pid = front.program.pid();
    let before = open_files(pid);
    let mut early = TcpStream::connect(front.address()).await.unwrap();
    assert!(asks(&mut early).await.unwrap());
    let files = before as u64 + 40;
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Some(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()), Resource::Nofile, limit).unwrap();
    let clients = crowd(front.address());
    let exhausted = || front.program.output().contains("no connection can be accepted just now");
    until("the host has no file left", WAIT, exhausted).await;
    assert!(asks(&mut early).await.unwrap(), "the connections that it has go on");
    drop(clients);
    let mut late = TcpStream::connect(front.address()).await.unwrap();
    assert!(timeout(WAIT, asks(&mut late)).await.expect("it does not recover").unwrap());
    drop((early, late));
    until("the clients' sockets are gone", WAIT, || open_files(pid) <= before).await;
    front.is_unharmed().await;
}

/// A host under a limit on files of the shell's: the hard one, and if it is lower the soft one.
async fn limited(directory: &std::path::Path, limits: &str) -> Program {
    let mut shell = Command::new("sh");
    let serve = "serve --listen 127.0.0.1:0 --guests-max 16";
    shell.args(["-c", &format!("{limits}; exec {} {serve}", env!("CARGO_BIN_EXE_lap"))]);
    shell.current_dir(directory).env_clear().kill_on_drop(true);
    Program::start(shell, "").await.unwrap_or_else(|ended| panic!("it ended: {}", ended.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_keeps_files_for_itself_and_clients_wait_for_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let program = limited(directory.path(), "ulimit -Sn 64; ulimit -Hn 256").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(
        files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(),
        ["256", "256"],
        "the soft limit is raised"
    );
    let address = program.client.base.strip_prefix("http://").unwrap().to_owned();
    let before = open_files(program.pid());
    let clients = crowd(&address);
    until("all seats are taken", WAIT, || open_files(program.pid()) == before + 192).await;
    drop(clients);
    let mut late = TcpStream::connect(&address).await.unwrap();
    assert!(timeout(WAIT, asks(&mut late)).await.expect("it does not recover").unwrap());
    let output = program.output();
    assert!(output.contains("possible=192") && !output.contains("just now"), "{output}");
}
