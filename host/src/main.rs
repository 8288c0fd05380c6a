//! Arguments in, exit code out: everything else is in the library.
//!
//! Exit codes: 0 after an orderly end, 1 when a task failed (`demo`, `healthcheck`, `backup`, `restore`, `key`) or something
//! is wrong with a runtime (`runtime`), 2 for arguments and for files of a runtime that cannot be read, 69 when another
//! process uses the store or the port, 74 when the disk or the system failed and another start may do, 78 for what a
//! start cannot mend: settings, keys, a damaged store.

use std::{
    fmt::Display,
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;
use lap::{
    Ended, Host, backup,
    config::{Args, BackupArgs, Command, Config, RestoreArgs, ServeArgs},
    http, print, runtime, telemetry,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Events are many small pieces of memory that one thread makes and another gives back. Measured beside glibc and mimalloc:
/// docs/operations.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Memory that a load has needed is given back about a second after it, also when nothing else happens.
#[allow(unsafe_code, reason = "jemalloc takes its settings from a symbol of this name, which nothing else has")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8; 60] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

const EX_FAILED: u8 = 1;
const EX_IOERR: u8 = 74;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match Args::parse().command {
        // It limits its process, and wants no other thread in it.
        Command::Compile => runtime::compile(),
        command => {
            without_core_dumps();
            run(command)
        }
    }
}

/// No memory of this process, which has keys in it, goes to a disk when it crashes. The limit is one byte and not none: where the
/// kernel gives dumps to a program (`core_pattern`), it does so under every limit but this one.
fn without_core_dumps() {
    let limit = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        say(stderr(), format_args!("a crash would write the memory of this process to a disk: {error}"));
    }
}

#[tokio::main]
async fn run(command: Command) -> ExitCode {
    let ended = match command {
        Command::Compile => return runtime::compile(),
        Command::Serve(args) => serve(args).await,
        Command::Healthcheck(args) => healthcheck(args).await,
        Command::Backup(args) => backup(args).await,
        Command::Restore(args) => restore(&args),
        Command::Demo(args) => lap::demo::run(args).await.map_err(|error| failed(EX_FAILED, format_args!("{error:#}"))),
        Command::Simulate(args) => {
            lap::simulate::run(args).await.map_err(|error| failed(EX_FAILED, format_args!("{error:#}")))
        }
        Command::Runtime(args) => match lap::commands::runtime(args).await {
            Ok(ended) => return ended.exit_code().into(),
            Err(error) => Err(failed(error.exit_code(), error)),
        },
        Command::Key(args) => lap::manage::key(args).await.map_err(|error| failed(error.exit_code(), error)),
    };
    ended.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

/// Says in one line why the program ends.
fn failed(code: u8, why: impl Display) -> ExitCode {
    say(stderr(), why);
    code.into()
}

/// Says something to whoever looks. Whether it can be written, to a full disk or to a reader that is gone, decides nothing.
fn say(mut to: impl Write, what: impl Display) {
    if let Err(error) = writeln!(to, "lap: {what}") {
        tracing::debug!(%error, "a line could not be written");
    }
}

async fn serve(args: ServeArgs) -> Result<(), ExitCode> {
    let config = Config::new(args).map_err(|error| failed(EX_CONFIG, error))?;
    let _flush = telemetry::start(&config.log).map_err(|error| failed(EX_CONFIG, error))?;
    let ended = ended_by_signal().map_err(|error| failed(EX_FAILED, error))?;
    let (data_dir, key) = (config.data_dir.clone(), config.master_key.clone());
    tokio::pin!(ended);
    loop {
        let host = Host::start(config.clone()).await.map_err(|error| failed(error.exit_code(), error))?;
        let (address, data) = (host.address(), data_dir.display());
        say(stdout(), format_args!("http://{address} · data in {data} · master key in {key}"));
        let why = tokio::select! {
            () = &mut ended => None,
            why = host.ended() => Some(why),
        };
        host.shutdown().await;
        match why {
            None => return Ok(()),
            Some(Ended::Failed(what)) => {
                return Err(failed(EX_IOERR, format_args!("{what}: start again to read what the disk has")));
            }
            Some(Ended::Thawed) => tracing::info!("the data directory can be written to again: starting anew"),
        }
    }
}

/// Done at the first signal that asks the process to end. Signals are noticed from now on.
fn ended_by_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn healthcheck(args: ServeArgs) -> Result<(), ExitCode> {
    let config = Config::new(args).map_err(|error| failed(EX_CONFIG, error))?;
    http::probe(config.listen).await.map_err(|error| failed(EX_FAILED, error))
}

async fn backup(args: BackupArgs) -> Result<(), ExitCode> {
    let BackupArgs { file, host } = args;
    let config = Config::new(host).map_err(|error| failed(EX_CONFIG, error))?;
    let key = config.master_key.read().map_err(|error| failed(EX_CONFIG, error))?;
    let ended = ended_by_signal().map_err(|error| failed(EX_FAILED, error))?;
    let fetched = tokio::select! {
        fetched = lap::fetch(&config, &key, &file) => fetched.map_err(|error| failed(EX_FAILED, error))?,
        () = ended => return Err(failed(EX_FAILED, "there is no backup: it was interrupted")),
    };
    print::line(fetched).map_err(|error| failed(EX_FAILED, error))
}

fn restore(args: &RestoreArgs) -> Result<(), ExitCode> {
    let restored = backup::restore(&args.file, &args.data_dir, args.vault_key_file.as_deref());
    print::line(restored.map_err(|error| failed(error.exit_code(), error))?).map_err(|error| failed(EX_FAILED, error))
}
