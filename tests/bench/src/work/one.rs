//! One turn with 20 events a second: what the host adds when it has nothing else to do.

use std::time::Duration;

use anyhow::Result;

use super::{Lab, Rounds};
use crate::{
    load::{Load, Window},
    report::{Goal, Report},
    world::Turn,
};

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let length = lab.or_quick(Duration::from_secs(4), Duration::from_secs(2));
    let windows = Window::several(Duration::from_secs(1), length, 2);
    let events = lab.or_quick(200, 110);
    let patience = Duration::from_mins(1);
    let load = Load { turns: 1, readers: 1, events, spread: Duration::ZERO, patience };
    let rounds = Rounds::run(lab, report, "one", Turn { events, every_ms: 50 }, load).await?;
    report.row(rounds.delay(&windows, 500, "one", Goal::AddedAtMost(2.0))?);
    Ok(())
}
