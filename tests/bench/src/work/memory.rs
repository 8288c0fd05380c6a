//! What the host keeps in memory: idle, for a turn that runs, for a subscriber that waits; at a load's peak, and behind it.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use super::{Lab, spread};
use crate::{
    api::Api,
    load::Load,
    process::{Memory, memory},
    report::{Goal, Report, Row, Unit},
    wire::Body,
    world::{PROMPT, Turn, World},
};

/// At rest memory is looked at after this time.
const REST: Duration = Duration::from_secs(3);
/// What a session keeps of a turn that has ended it keeps for half a minute.
const LINGER: Duration = Duration::from_secs(33);

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

const LANES: usize = 16;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    eprintln!("memory, live turns …");
    turns(lab, report).await?;
    eprintln!("memory, idle subscribers …");
    subscribers(lab, report).await?;
    eprintln!("memory, flat out …");
    flat_out(lab, report).await
}

/// Turns as fast as they are read, and the rest behind them.
async fn flat_out(lab: &Lab, report: &mut Report) -> Result<()> {
    const TURNS: usize = 64;
    let events = lab.or_quick(20_000, 5_000);
    let world = World::start(&lab.site, Turn { events, every_ms: 0 }).await?;
    let load = Load { turns: TURNS, readers: 1, events, spread: Duration::ZERO, patience: Duration::from_mins(3) };
    let run = load.run(&world, &world.through).await?;
    if let Some(problem) = run.problem(events) {
        report.problem(format!("memory: {problem}"));
    }
    sleep(LINGER).await;
    let Memory { resident, peak } = memory(world.host.pid())?;
    row(report, "64 turns flat out, at the peak", Unit::Mebibytes, 400.0, peak as f64 / MIB)?;
    row(report, "half a minute behind them", Unit::Mebibytes, 120.0, resident as f64 / MIB)?;
    backups(&world, report).await
}

/// Backups of what is there, one behind the other, and what they leave in memory and on the disk.
async fn backups(world: &World, report: &mut Report) -> Result<()> {
    const BACKUPS: usize = 12;
    eprintln!("memory, backups …");
    let (before, files) = (memory(world.host.pid())?, names(&world.data())?);
    for _ in 0..BACKUPS {
        world.through.download("/api/backup").await?;
    }
    sleep(REST).await;
    let (after, left) = (memory(world.host.pid())?, names(&world.data())?);
    if left != files {
        report.problem(format!("memory: backups leave files behind: {left:?}"));
    }
    // The database's page cache fills with what is read.
    let grown = after.resident as f64 - before.resident as f64;
    row(report, "left by twelve backups of that", Unit::Mebibytes, 32.0, grown / MIB)
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>> {
    let names = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
    Ok(names.collect::<Result<_, _>>()?)
}

/// Turns that say something now and then, without readers.
async fn turns(lab: &Lab, report: &mut Report) -> Result<()> {
    const TURNS: usize = 1000;
    let world = World::start(&lab.site, Turn { events: 1000, every_ms: 2000 }).await?;
    sleep(REST).await;
    let idle = memory(world.host.pid())?;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let api = Arc::clone(&world.through);
        lanes.spawn(async move {
            let mut connection = api.connect().await?;
            for _ in (lane..TURNS).step_by(LANES) {
                api.start(&mut connection, PROMPT).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    sleep(REST * 2).await;
    let busy = memory(world.host.pid())?;
    let sessions = world.through.get("/session?limit=1000").await?;
    let running = sessions.as_array().map_or(0, |list| list.iter().filter(|one| one["status"] == "running").count());
    ensure!(running == TURNS, "{running} of {TURNS} turns run: {}", world.last_words());
    row(report, "idle host", Unit::Mebibytes, 60.0, idle.resident as f64 / MIB)?;
    row(report, "a live turn", Unit::Kibibytes, 150.0, each(idle, busy, TURNS))?;
    peak(report, &world, "turns")
}

/// Subscribers of sessions whose turn has ended.
async fn subscribers(lab: &Lab, report: &mut Report) -> Result<()> {
    const SESSIONS: usize = 50;
    const SUBSCRIBERS: usize = 10_000;
    let events = 20;
    let world = World::start(&lab.site, Turn { events, every_ms: 0 }).await?;
    let patience = Duration::from_mins(1);
    let load = Load { turns: SESSIONS, readers: 1, events, spread: Duration::ZERO, patience };
    let run = load.run(&world, &world.through).await?;
    if let Some(problem) = run.problem(events) {
        report.problem(format!("memory: {problem}"));
    }
    sleep(lab.or_quick(LINGER, REST)).await;
    let sessions = world.through.get("/session?limit=1000").await?;
    let sessions = sessions.as_array().context("no sessions")?.iter().filter_map(|one| one["id"].as_str());
    let sessions: Vec<_> = sessions.map(str::to_owned).collect();
    ensure!(sessions.len() == SESSIONS, "{} sessions", sessions.len());

    let before = memory(world.host.pid())?;
    let streams = subscribe(&world.through, &sessions, SUBSCRIBERS).await?;
    sleep(REST).await;
    let after = memory(world.host.pid())?;
    ensure!(streams.len() == SUBSCRIBERS, "{} streams", streams.len());
    row(report, "an idle subscriber", Unit::Kibibytes, 32.0, each(before, after, SUBSCRIBERS))?;
    peak(report, &world, "subscribers")
}

/// Opens streams, round robin, and reads each up to the end of its turn.
async fn subscribe(api: &Arc<Api>, sessions: &[String], count: usize) -> Result<Vec<Body>> {
    const LAST: &[u8] = b"event: session.status_idle";
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (api, sessions) = (Arc::clone(api), sessions.to_vec());
        lanes.spawn(async move {
            let mut streams = Vec::new();
            for at in (lane..count).step_by(LANES) {
                let (mut stream, mut text) = (api.stream(&sessions[at % sessions.len()]).await?, Vec::new());
                while memchr::memmem::find(&text, LAST).is_none() {
                    ensure!(stream.read(&mut text).await?, "a stream ended");
                }
                streams.push(stream);
            }
            Ok(streams)
        });
    }
    let mut streams = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        streams.extend(lane??);
    }
    Ok(streams)
}

/// What each of `count` takes, in KiB.
fn each(before: Memory, after: Memory, count: usize) -> f64 {
    (after.resident as f64 - before.resident as f64) / KIB / count as f64
}

fn row(report: &mut Report, measure: &'static str, unit: Unit, goal: f64, value: f64) -> Result<()> {
    let (host, goal) = (spread([value])?, Some(Goal::AtMost(goal)));
    report.row(Row { work: "memory", measure, unit, straight: None, host, compared: None, goal });
    Ok(())
}

fn peak(report: &mut Report, world: &World, of: &str) -> Result<()> {
    let Memory { resident, peak } = memory(world.host.pid())?;
    let (resident, peak) = (resident as f64 / MIB, peak as f64 / MIB);
    report.note(format!("memory, {of}: {resident:.0} MiB resident in the end, {peak:.0} MiB at the most (VmHWM)"));
    Ok(())
}
