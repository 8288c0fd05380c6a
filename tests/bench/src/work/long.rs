//! A prompt into a session that has been silent for long enough to be put away: what the length of its log costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use super::{Lab, spread};
use crate::{
    api::Api,
    frames::Frames,
    load::Load,
    report::{Compared, Goal, Report, Row, Unit},
    stats::Spread,
    world::{Turn, World},
};

/// Behind this nothing of a session is in memory.
const SILENCE: Duration = Duration::from_secs(35);
/// Sessions of each length.
const SESSIONS: usize = 5;
/// The simulator's short turn, whatever the script says.
const PROMPT: &str = "hello";

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let short = first_events_ms(lab, 10).await?;
    row(report, "a short one", short, None)?;
    let lengths = lab.or_quick(
        [(100_000, "100,000 events"), (1_000_000, "1,000,000 events")],
        [(10_000, "10,000 events"), (100_000, "100,000 events")],
    );
    for (events, name) in lengths {
        let times = first_events_ms(lab, events).await?;
        row(report, name, times, Some(short.median))?;
    }
    Ok(())
}

/// How long it takes from a prompt to the first event of its answer.
async fn first_events_ms(lab: &Lab, events: u64) -> Result<Spread> {
    eprintln!("long, {events} events …");
    let sessions = if events > 500_000 { 2 } else { SESSIONS };
    let world = World::start(&lab.site, Turn { events, every_ms: 0 }).await?;
    let patience = Duration::from_mins(5);
    let load = Load { turns: sessions, readers: 1, events, spread: Duration::ZERO, patience };
    let run = load.run(&world, &world.through).await?;
    if let Some(problem) = run.problem(events) {
        bail!("{problem}");
    }
    drop(run);
    let list = world.through.get("/session?limit=100").await?;
    let list = list.as_array().context("no list of sessions")?;
    sleep(SILENCE).await;
    let mut times = Vec::new();
    for session in list {
        let id = session["id"].as_str().context("a session without an id")?;
        times.push(first_event_ms(&world.through, id).await?);
    }
    spread(times)
}

async fn first_event_ms(api: &Api, session: &str) -> Result<f64> {
    let mut connection = api.connect().await?;
    let page = api.get(&format!("/v1/sessions/{session}/events?limit=1")).await?;
    let last = page["last_seq"].as_u64().context("no event")?;
    let asked = Instant::now();
    api.prompt(&mut connection, session, PROMPT).await?;
    let (mut body, mut frames, mut answered) = (api.stream_after(session, last).await?, Frames::new(), false);
    while !answered {
        if !body.read(&mut frames.text).await? {
            bail!("the stream broke off");
        }
        frames.take(|event| answered |= event.kind == b"agent.message");
    }
    Ok(asked.elapsed().as_secs_f64() * 1e3)
}

fn row(report: &mut Report, measure: &'static str, times: Spread, short: Option<f64>) -> Result<()> {
    let compared = short.map(|short| spread([times.median / short]).map(Compared::Times)).transpose()?;
    let goal = compared.is_some().then_some(Goal::TimesAtMost(1.5));
    report.row(Row { work: "long", measure, unit: Unit::Milliseconds, straight: None, host: times, compared, goal });
    Ok(())
}
