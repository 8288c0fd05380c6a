//! New sessions without a prompt, 16 at once.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::{Lab, spread, times};
use crate::{
    api::Api,
    report::{Compared, Goal, Report, Row, Unit},
    stats::percentile,
    world::{Turn, World},
};

const AT_ONCE: usize = 16;

/// What came of one window.
struct Made {
    sessions: Vec<String>,
    rate: f64,
    /// At the half and at 99 of 100, in milliseconds.
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let length = lab.or_quick(Duration::from_secs(5), Duration::from_secs(1));
    let (mut straight, mut host) = (Vec::new(), Vec::new());
    for _ in 0..lab.rounds {
        let world = World::start(&lab.site, Turn { events: 1, every_ms: 0 }).await?;
        for (side, api, results) in [("straight", &world.straight, &mut straight), ("host", &world.through, &mut host)]
        {
            eprintln!("create, {side} …");
            // The first one provisions the agent.
            create(api, Duration::ZERO).await?;
            let meter = world.meter()?;
            let made = create(api, length).await.with_context(|| format!("{side}: {}", world.last_words()))?;
            report.cpu("create", side, meter.stop()?);
            let distinct: HashSet<_> = made.sessions.iter().collect();
            if distinct.len() != made.sessions.len() {
                report.problem(format!("create, {side}: an id was given twice"));
            }
            results.push(made);
        }
    }
    rows(report, &straight, &host)
}

fn rows(report: &mut Report, straight: &[Made], host: &[Made]) -> Result<()> {
    let values = |read: fn(&Made) -> f64| -> (Vec<f64>, Vec<f64>) {
        (straight.iter().map(read).collect(), host.iter().map(read).collect())
    };
    let (straight, host) = values(|made| made.rate);
    report.row(Row {
        work: "create",
        measure: "sessions",
        unit: Unit::PerSecond,
        compared: Some(times(&host, &straight)?),
        straight: Some(spread(straight)?),
        host: spread(host)?,
        goal: Some(Goal::AtLeast(3000.0)),
    });
    latency(report, "latency, p50", values(|made| made.p50_ms))?;
    latency(report, "latency, p99", values(|made| made.p99_ms))
}

fn latency(report: &mut Report, measure: &'static str, (straight, host): (Vec<f64>, Vec<f64>)) -> Result<()> {
    let added = host.iter().zip(&straight).map(|(host, straight)| host - straight);
    report.row(Row {
        work: "create",
        measure,
        unit: Unit::Milliseconds,
        compared: Some(Compared::Added(spread(added)?)),
        straight: Some(spread(straight)?),
        host: spread(host)?,
        goal: None,
    });
    Ok(())
}

/// Each of the lanes makes at least one session.
async fn create(api: &Arc<Api>, length: Duration) -> Result<Made> {
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let api = Arc::clone(api);
        lanes.spawn(async move {
            let (mut connection, request) = (api.connect().await?, api.new_session());
            let (mut sessions, mut times) = (Vec::new(), Vec::new());
            while sessions.is_empty() || began.elapsed() < length {
                let asked = Instant::now();
                sessions.push(Api::session_id(connection.call(&request).await?)?);
                times.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            anyhow::Ok((sessions, times))
        });
    }
    let (mut sessions, mut times) = (Vec::new(), Vec::new());
    while let Some(lane) = lanes.join_next().await {
        let (more, their_times) = lane??;
        sessions.extend(more);
        times.extend(their_times);
    }
    let rate = sessions.len() as f64 / began.elapsed().as_secs_f64();
    let mut at =
        |per_mille| percentile(&mut times, per_mille).map(|time| Duration::from_nanos(time).as_secs_f64() * 1e3);
    let (p50_ms, p99_ms) = at(500).zip(at(990)).context("no session")?;
    Ok(Made { sessions, rate, p50_ms, p99_ms })
}
