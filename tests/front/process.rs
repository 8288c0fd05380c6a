//! What a process holds, as Linux says it.

use std::{fs, time::Duration};

use tokio::time::{interval, timeout};

const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// Bytes of memory that the process has in use.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * KIB
}

/// Files and sockets that the process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Looks again and again whether something has come to pass.
pub async fn until(what: &str, wait_max: Duration, mut come: impl FnMut() -> bool) {
    let look = async {
        let mut ticks = interval(Duration::from_millis(50));
        while !come() {
            ticks.tick().await;
        }
    };
    assert!(timeout(wait_max, look).await.is_ok(), "not within {} s: {what}", wait_max.as_secs());
}
