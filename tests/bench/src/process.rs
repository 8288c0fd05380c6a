//! What the kernel knows of a process: its CPU time, its memory, its connections.

use std::{collections::HashSet, fs, net::SocketAddr, time::Instant};

use anyhow::{Context, Result};
use serde::Serialize;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The most that was ever resident.
    pub(crate) peak: u64,
}

/// Reads a process's memory.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        number.with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory { resident: kib("VmRSS")? * 1024, peak: kib("VmHWM")? * 1024 })
}

/// How many established TCP connections over IPv4 a process has to an address.
pub(crate) fn connections(pid: u32, to: SocketAddr) -> Result<usize> {
    const ESTABLISHED: &str = "01";
    let mut sockets = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor that was closed meanwhile is no connection.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    let remote = format!(":{:04X}", to.port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, _, to, state, _, _, _, _, _, inode, ..]
            if to.ends_with(&remote) && state == ESTABLISHED && sockets.contains(inode))
    };
    Ok(table.lines().skip(1).filter(ours).count())
}

/// CPU seconds that were used in a stretch of time, and by whom.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Used {
    pub(crate) wall: f64,
    pub(crate) host: f64,
    pub(crate) simulator: f64,
    pub(crate) client: f64,
    /// Everything else that ran on the machine, the kernel's own work for nobody included.
    pub(crate) others: f64,
}

/// A stretch of time that is being measured.
pub(crate) struct Meter {
    host: u32,
    simulator: u32,
    began: Instant,
    before: [f64; 4],
}

impl Meter {
    pub(crate) fn start(host: u32, simulator: u32) -> Result<Self> {
        Ok(Self { host, simulator, began: Instant::now(), before: Self::read(host, simulator)? })
    }

    pub(crate) fn stop(&self) -> Result<Used> {
        let now = Self::read(self.host, self.simulator)?;
        let [host, simulator, client, all] = std::array::from_fn(|part| now[part] - self.before[part]);
        let others = (all - host - simulator - client).max(0.0);
        Ok(Used { wall: self.began.elapsed().as_secs_f64(), host, simulator, client, others })
    }

    fn read(host: u32, simulator: u32) -> Result<[f64; 4]> {
        Ok([of_process(host)?, of_process(simulator)?, of_process(std::process::id())?, of_machine()?])
    }
}

fn seconds(ticks: u64) -> f64 {
    // A machine's ticks stay far below 2^53.
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn of_process(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path}: the process has ended"))?;
    // The name, in brackets, may hold anything; behind it stand the fields from the third on.
    let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} has no name"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(seconds(ticks))
}

/// The time that all CPUs were busy.
fn of_machine() -> Result<f64> {
    const IDLE: [usize; 2] = [3, 4];
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat has no total")?;
    // Those behind the eighth are counted within the others.
    let fields = line.split_whitespace().take(8).enumerate().filter(|(at, _)| !IDLE.contains(at));
    Ok(seconds(fields.filter_map(|(_, field)| field.parse::<u64>().ok()).sum()))
}
