//! 200 readers of one session with 20 events a second: each is served from the log, and the upstream has one stream.

use std::time::Duration;

use anyhow::Result;

use super::{Lab, Rounds};
use crate::{
    load::{Load, Window},
    report::{Goal, Report},
    world::Turn,
};

const READERS: usize = 200;

/// Beside the stream, connections on which the sessions and the prompt were sent may be kept for the next request.
const UPSTREAM_CONNECTIONS_MAX: usize = 3;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let length = lab.or_quick(Duration::from_secs(4), Duration::from_secs(2));
    let windows = Window::several(Duration::from_secs(1), length, 2);
    let events = lab.or_quick(200, 110);
    let patience = Duration::from_mins(1);
    let load = Load { turns: 1, readers: READERS, events, spread: Duration::ZERO, patience };
    let rounds = Rounds::run(lab, report, "readers", Turn { events, every_ms: 50 }, load).await?;
    report.row(rounds.delay(&windows, 500, "readers", Goal::AtMost(10.0))?);
    report.row(rounds.delay(&windows, 990, "readers", Goal::AtMost(10.0))?);
    let most = rounds.host.iter().map(|run| run.upstream_connections).max().unwrap_or(0);
    report.note(format!(
        "readers: {most} connections from the host to the upstream while {READERS} readers follow one turn; one is the \
         stream, the others are kept for requests"
    ));
    if !(1..=UPSTREAM_CONNECTIONS_MAX).contains(&most) {
        report.problem(format!("readers: {most} connections to the upstream for one turn"));
    }
    Ok(())
}
