//! Where the numbers come from: a number without its machine says nothing.

use std::{
    fmt,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
    time::Instant,
};

use anyhow::Result;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::stats::Spread;

#[derive(Serialize)]
pub(crate) struct Machine {
    /// Of the source; a program that was given may come from elsewhere.
    commit: String,
    program: PathBuf,
    cores: usize,
    cpu: String,
    kernel: String,
    memory_gib: u64,
    /// Writing 4 KiB at a file's end and making it durable, in milliseconds.
    fsync_ms: Spread,
    /// Of the last minute, before anything was measured.
    load: String,
    open_files_max: u64,
}

impl Machine {
    pub(crate) fn look(root: &Path, program: &Path, directory: &Path) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory_kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            commit: commit(root),
            program: program.to_owned(),
            cores: available_parallelism()?.get(),
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            fsync_ms: fsync_ms(directory)?,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            open_files_max: raise_open_files(),
        })
    }
}

fn commit(root: &Path) -> String {
    let described = Command::new("git").current_dir(root).args(["describe", "--always", "--dirty"]).output();
    let text = described.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or("no commit".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

fn fsync_ms(directory: &Path) -> Result<Spread> {
    let mut file = tempfile::tempfile_in(directory)?;
    let once = |file: &mut File| -> Result<f64> {
        let began = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let times = (0..100).map(|_| once(&mut file)).collect::<Result<Vec<_>>>()?;
    Ok(Spread::of(times).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 }))
}

/// Lets this process, and those that it starts, open as many files as the system allows.
fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, what needs more files says so.
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, program, cores, cpu, kernel, memory_gib, fsync_ms, load, open_files_max } = self;
        let Spread { median, min, max } = fsync_ms;
        writeln!(f, "Commit {commit} · {}", program.display())?;
        writeln!(f, "{cores} cores of {cpu} · {memory_gib} GiB · Linux {kernel}")?;
        writeln!(
            f,
            "fsync of 4 KiB {median:.2} ms ({min:.2}–{max:.2}) · load before {load} · {open_files_max} open files"
        )?;
        writeln!(f, "Median (least–most) of several windows; host, simulator and client share the machine.")
    }
}
