//! Short turns, 16 at once, one behind the other at full speed, each in a session of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::{Lab, spread};
use crate::{
    api::Api,
    frames::Frames,
    process::memory,
    report::{Goal, Report, Row, Unit},
    world::{Turn, World},
};

const AT_ONCE: usize = 16;
/// The simulator's turn of five events.
const PROMPT: &str = "hello";
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let length = lab.or_quick(Duration::from_mins(1), Duration::from_secs(10));
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..lab.rounds {
        eprintln!("short turns …");
        let world = World::start(&lab.site, Turn { events: 1, every_ms: 0 }).await?;
        let meter = world.meter()?;
        let began = Instant::now();
        let mut lanes = JoinSet::new();
        for _ in 0..AT_ONCE {
            let api = Arc::clone(&world.through);
            lanes.spawn(async move {
                let mut connection = api.connect().await?;
                let mut turns = 0;
                while began.elapsed() < length {
                    let session = api.start(&mut connection, PROMPT).await?;
                    answered(&api, &session).await?;
                    turns += 1;
                }
                anyhow::Ok(turns)
            });
        }
        let mut turns = 0;
        while let Some(lane) = lanes.join_next().await {
            match lane? {
                Ok(more) => turns += more,
                Err(error) => report.problem(format!("short: a turn was refused or failed: {error:#}")),
            }
        }
        rates.push(f64::from(turns) / began.elapsed().as_secs_f64());
        report.cpu("short", "host", meter.stop()?);
        peaks.push(memory(world.host.pid())?.peak as f64 / MIB);
    }
    let row = |measure, unit, host, goal| Row {
        work: "short",
        measure,
        unit,
        straight: None,
        host,
        compared: None,
        goal: Some(goal),
    };
    report.row(row("turns", Unit::PerSecond, spread(rates)?, Goal::AtLeast(600.0)));
    report.row(row("memory at the peak", Unit::Mebibytes, spread(peaks)?, Goal::AtMost(600.0)));
    Ok(())
}

/// Reads a session's stream to the end of its turn.
async fn answered(api: &Api, session: &str) -> Result<()> {
    let (mut body, mut frames, mut over) = (api.stream(session).await?, Frames::new(), None);
    while over.is_none() {
        if !body.read(&mut frames.text).await? {
            bail!("the stream broke off");
        }
        frames.take(|event| match event.kind {
            b"session.status_idle" => over = over.or(Some(true)),
            b"session.error" | b"session.status_terminated" => over = Some(false),
            _ => {}
        });
    }
    if over == Some(false) {
        bail!("a turn failed");
    }
    Ok(())
}
