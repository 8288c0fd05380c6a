//! 64 turns as fast as they are read: how many events a second come out, every one of them durable.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Lab, Rounds, spread, times};
use crate::{
    load::{Load, Run},
    report::{Goal, Report, Row, Unit},
    world::Turn,
};

const TURNS: usize = 64;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let events = lab.or_quick(20_000, 2_000);
    let patience = Duration::from_mins(3);
    let load = Load { turns: TURNS, readers: 1, events, spread: Duration::ZERO, patience };
    let rounds = Rounds::run(lab, report, "flat", Turn { events, every_ms: 0 }, load).await?;
    let rates = |runs: &[Run]| runs.iter().map(|run| run.rate().context("no events")).collect::<Result<Vec<_>>>();
    let (straight, host) = (rates(&rounds.straight)?, rates(&rounds.host)?);
    report.row(Row {
        work: "flat",
        measure: "events",
        unit: Unit::PerSecond,
        compared: Some(times(&host, &straight)?),
        straight: Some(spread(straight)?),
        host: spread(host)?,
        goal: Some(Goal::AtLeast(100_000.0)),
    });
    Ok(())
}
