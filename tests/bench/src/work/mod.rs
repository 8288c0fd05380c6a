//! What is measured, a module for each line of work, and what they share: rounds, each in a world of its own.

mod adapter;
mod create;
mod flat;
pub(crate) mod hostile;
mod languages;
mod long;
mod many;
mod memory;
mod one;
mod readers;
mod restart;
mod short;
mod slow_disk;
mod start;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    api::Api,
    load::{Load, Run, Window},
    report::{Compared, Goal, Report, Row, Unit},
    stats::Spread,
    world::{Site, Turn, World},
};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// 64 turns as fast as they are read
    Flat,
    /// 1,000 turns with 20 events a second each
    Many,
    /// One turn with 20 events a second
    One,
    /// 200 readers of one session
    Readers,
    /// New sessions, 16 at once
    Create,
    /// Short turns, 16 at once, one behind the other
    Short,
    /// A prompt into a long session that was silent
    Long,
    /// One turn with 200 events a second, on a disk whose syncs take 5 ms longer; needs strace
    SlowDisk,
    /// The component beside the same code compiled for this machine
    Adapter,
    /// The components of the templates, in each language, beside the same code compiled for this machine
    Languages,
    /// Guests that compute, crash and grow: how they are stopped, and what their neighbours feel
    Hostile,
    /// What an idle host, a live turn and an idle subscriber take
    Memory,
    /// From the start of the program to the first answer
    Start,
    /// The same after a crash, with turns under way and a log of 4 GiB
    Restart,
}

/// How everything is measured.
pub(crate) struct Lab {
    pub(crate) site: Site,
    pub(crate) rounds: usize,
    /// Rather soon than well.
    pub(crate) quick: bool,
    /// Where the components of the templates are.
    pub(crate) components: Option<PathBuf>,
}

impl Lab {
    const fn or_quick<T: Copy>(&self, well: T, quick: T) -> T {
        if self.quick { quick } else { well }
    }
}

impl Work {
    pub(crate) async fn measure(self, lab: &Lab, report: &mut Report) -> Result<()> {
        match self {
            Self::Flat => flat::measure(lab, report).await,
            Self::Many => many::measure(lab, report).await,
            Self::One => one::measure(lab, report).await,
            Self::Readers => readers::measure(lab, report).await,
            Self::Create => create::measure(lab, report).await,
            Self::Short => short::measure(lab, report).await,
            Self::Long => long::measure(lab, report).await,
            Self::SlowDisk => slow_disk::measure(lab, report).await,
            Self::Adapter => adapter::measure(lab, report).await,
            Self::Languages => languages::measure(lab, report).await,
            Self::Hostile => hostile::measure(lab, report).await,
            Self::Memory => memory::measure(lab, report).await,
            Self::Start => start::measure(lab, report).await,
            Self::Restart => restart::measure(lab, report).await,
        }
    }
}

/// The same load on both sides, round by round.
struct Rounds {
    straight: Vec<Run>,
    host: Vec<Run>,
}

impl Rounds {
    async fn run(lab: &Lab, report: &mut Report, work: &'static str, turn: Turn, load: Load) -> Result<Self> {
        let mut rounds = Self { straight: Vec::new(), host: Vec::new() };
        for _ in 0..lab.rounds {
            // What one round leaves behind, such as connected pumps and a grown log, is none of the next one's business.
            let world = World::start(&lab.site, turn).await?;
            rounds.straight.push(one_side(report, work, "straight", load, &world, &world.straight).await?);
            rounds.host.push(one_side(report, work, "host", load, &world, &world.through).await?);
        }
        Ok(rounds)
    }

    /// A line about the delay at `per_mille`, window by window.
    fn delay(&self, windows: &[Window], per_mille: usize, work: &'static str, goal: Goal) -> Result<Row> {
        let delays = |runs: &[Run]| -> Result<Vec<f64>> {
            let delay =
                |(run, window): (&Run, &Window)| run.delay_ms(window, per_mille).context("a window without events");
            runs.iter().flat_map(|run| windows.iter().map(move |window| (run, window))).map(delay).collect()
        };
        let (straight, host) = (delays(&self.straight)?, delays(&self.host)?);
        let added = host.iter().zip(&straight).map(|(host, straight)| host - straight);
        Ok(Row {
            work,
            measure: if per_mille == 500 { "delay, p50" } else { "delay, p99" },
            unit: Unit::Milliseconds,
            compared: Some(Compared::Added(spread(added)?)),
            straight: Some(spread(straight)?),
            host: spread(host)?,
            goal: Some(goal),
        })
    }
}

async fn one_side(
    report: &mut Report,
    work: &'static str,
    side: &'static str,
    load: Load,
    world: &World,
    api: &std::sync::Arc<Api>,
) -> Result<Run> {
    eprintln!("{work}, {side} …");
    let run = load.run(world, api).await.with_context(|| format!("{side}: {}", world.last_words()))?;
    report.cpu(work, side, run.used);
    if let Some(problem) = run.problem(load.events) {
        report.problem(format!("{work}, {side}: {problem}"));
    }
    Ok(run)
}

fn spread(values: impl IntoIterator<Item = f64>) -> Result<Spread> {
    Spread::of(values).context("nothing was measured")
}

/// By how much the host's values exceed the others, one by one.
fn times(host: &[f64], straight: &[f64]) -> Result<Compared> {
    spread(host.iter().zip(straight).map(|(host, straight)| host / straight)).map(Compared::Times)
}
