//! 1,000 turns with 20 events a second each: what the host adds to an event's way.

use std::time::Duration;

use anyhow::Result;

use super::{Lab, Rounds};
use crate::{
    load::{Load, Window},
    report::{Goal, Report},
    world::Turn,
};

const TURNS: usize = 1000;
const EVERY_MS: u64 = 50;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let windows = Window::several(
        lab.or_quick(Duration::from_secs(5), Duration::from_secs(2)),
        lab.or_quick(Duration::from_secs(5), Duration::from_secs(1)),
        3,
    );
    let events = lab.or_quick(400, 120);
    let spread = Duration::from_secs(1);
    let load = Load { turns: TURNS, readers: 1, events, spread, patience: Duration::from_mins(2) };
    let rounds = Rounds::run(lab, report, "many", Turn { events, every_ms: EVERY_MS }, load).await?;
    report.row(rounds.delay(&windows, 500, "many", Goal::AddedAtMost(3.0))?);
    report.row(rounds.delay(&windows, 990, "many", Goal::AddedAtMost(15.0))?);
    Ok(())
}
