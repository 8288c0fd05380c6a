//! One turn on a disk whose every sync takes some milliseconds longer: an event waits for a commit or two, and for no more the
//! longer the turn is.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Lab, spread};
use crate::{
    load::{Load, Window},
    report::{Goal, Report, Row, Unit},
    world::{Turn, World},
};

/// By how much `strace` holds up each `fdatasync`.
const SYNC_MS: u64 = 5;
/// Events in a second, and the time between them.
const RATE: u64 = 200;
const EVERY_MS: u64 = 1000 / RATE;
/// Windows of equal length behind the first seconds, in which everything is set up.
const WINDOWS: u32 = 3;
const SKIPPED: Duration = Duration::from_secs(3);

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let length = lab.or_quick(Duration::from_mins(1), Duration::from_secs(15));
    let events = length.as_secs() * RATE;
    let load = Load { turns: 1, readers: 1, events, spread: Duration::ZERO, patience: length * 3 };
    let windows = Window::several(SKIPPED, (length - SKIPPED) / WINDOWS, WINDOWS);
    let (mut medians, mut latest, mut grown) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lab.rounds {
        eprintln!("slow disk …");
        let directory = lab.site.directory()?;
        let host = lab.site.host_on_slow_disk(directory.path(), SYNC_MS).context("strace is needed")?;
        let world = World::around(&lab.site, Turn { events, every_ms: EVERY_MS }, host, directory).await?;
        let run = load.run(&world, &world.through).await.with_context(|| world.last_words())?;
        if let Some(problem) = run.problem(events) {
            report.problem(format!("slow disk: {problem}"));
        }
        let delay = |window, per_mille| run.delay_ms(window, per_mille).context("a window without events");
        let p99 = windows.iter().map(|window| delay(window, 990)).collect::<Result<Vec<_>>>()?;
        medians.extend(windows.iter().map(|window| delay(window, 500)).collect::<Result<Vec<_>>>()?);
        if let (Some(first), Some(last)) = (p99.first(), p99.last()) {
            grown.push(last / first);
        }
        latest.extend(p99);
    }
    let row = |measure, host, goal| Row {
        work: "slow disk",
        measure,
        unit: Unit::Milliseconds,
        straight: None,
        host,
        compared: None,
        goal,
    };
    report.row(row("delay, p50", spread(medians)?, None));
    report.row(row("delay, p99", spread(latest)?, Some(Goal::AtMost(60.0))));
    report.note(format!(
        "slow disk: each sync takes {SYNC_MS} ms more; the p99 of the last third is {:.2} times that of the first",
        spread(grown)?.median
    ));
    Ok(())
}
