//! Turns with readers: the work that most measurements have in common, the same on both sides.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    api::Api,
    process::{Used, connections},
    reader::{Book, Reader, unix_ns},
    stats::percentile,
    world::{PROMPT, World},
};

/// How many requests are under way at once while a load is set up.
const LANES: usize = 16;

/// So many turns with so many readers each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) turns: usize,
    /// Of each turn.
    pub(crate) readers: usize,
    /// Of each turn.
    pub(crate) events: u64,
    /// The time over which the turns start.
    pub(crate) spread: Duration,
    /// When the slowest reader is given up, from the first turn's start on.
    pub(crate) patience: Duration,
}

/// What came of it.
pub(crate) struct Run {
    pub(crate) books: Vec<Book>,
    /// When the first turn was asked for.
    pub(crate) began_ns: u64,
    /// Connections from the host to the simulator, while all turns ran.
    pub(crate) upstream_connections: usize,
    pub(crate) used: Used,
}

/// How long all turns have run when connections are counted.
const SETTLED: Duration = Duration::from_secs(1);

impl Load {
    /// Makes the sessions, opens the readers, prompts, and waits for all that comes.
    pub(crate) async fn run(self, world: &World, api: &Arc<Api>) -> Result<Run> {
        let sessions = new_sessions(api, self.turns).await?;
        let readers = self.open(api, &sessions).await?;
        let meter = world.meter()?;
        let began_ns = unix_ns();
        let deadline = Instant::now() + self.patience;
        let mut following = JoinSet::new();
        for reader in readers {
            following.spawn(reader.follow(deadline));
        }
        self.prompt(api, &sessions).await?;
        sleep(SETTLED).await;
        let upstream_connections = connections(world.host.pid(), world.simulator.address)?;
        let books = following.join_all().await;
        Ok(Run { books, began_ns, upstream_connections, used: meter.stop()? })
    }

    async fn open(self, api: &Arc<Api>, sessions: &[String]) -> Result<Vec<Reader>> {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let api = Arc::clone(api);
            let sessions: Vec<_> =
                sessions.iter().cycle().take(self.turns * self.readers).skip(lane).step_by(LANES).cloned().collect();
            lanes.spawn(async move {
                let mut readers = Vec::new();
                for session in sessions {
                    let expected = usize::try_from(self.events).unwrap_or(0);
                    readers.push(Reader::new(api.side, api.stream(&session).await?, expected));
                }
                anyhow::Ok(readers)
            });
        }
        joined(lanes).await.context("opening the streams")
    }

    async fn prompt(self, api: &Arc<Api>, sessions: &[String]) -> Result<()> {
        let began = Instant::now();
        let mut lanes = JoinSet::new();
        for lane in 0..LANES.min(sessions.len()) {
            let api = Arc::clone(api);
            let share: Vec<_> = sessions.iter().cloned().enumerate().skip(lane).step_by(LANES).collect();
            lanes.spawn(async move {
                let mut connection = api.connect().await?;
                for (at, session) in share {
                    let after = self.spread.mul_f64(at as f64 / self.turns as f64);
                    sleep_until(began + after).await;
                    api.prompt(&mut connection, &session, PROMPT).await?;
                }
                anyhow::Ok(Vec::<()>::new())
            });
        }
        joined(lanes).await.context("prompting").map(drop)
    }
}

/// Makes sessions without a prompt.
pub(crate) async fn new_sessions(api: &Arc<Api>, count: usize) -> Result<Vec<String>> {
    let mut lanes = JoinSet::new();
    for lane in 0..LANES.min(count) {
        let api = Arc::clone(api);
        lanes.spawn(async move {
            let (mut connection, request) = (api.connect().await?, api.new_session());
            let mut sessions = Vec::new();
            for _ in (lane..count).step_by(LANES) {
                sessions.push(Api::session_id(connection.call(&request).await?)?);
            }
            anyhow::Ok(sessions)
        });
    }
    joined(lanes).await.context("making the sessions")
}

async fn joined<T: 'static>(mut lanes: JoinSet<Result<Vec<T>>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        all.extend(lane??);
    }
    Ok(all)
}

impl Run {
    /// What is wrong with what came: one line, or nothing.
    pub(crate) fn problem(&self, expected: u64) -> Option<String> {
        let problems: Vec<_> = self.books.iter().filter_map(|book| book.check(expected)).collect();
        let first = problems.first()?;
        Some(format!(
            "{} of {} readers did not get what was sent; one of them: {first}",
            problems.len(),
            self.books.len()
        ))
    }

    /// Events in a second, over the time from the first to the last.
    pub(crate) fn rate(&self) -> Option<f64> {
        let received = || self.books.iter().flat_map(|book| &book.arrivals).map(|arrival| arrival.received_ns);
        let nanoseconds = received().max()?.saturating_sub(received().min()?);
        Some(received().count() as f64 / Duration::from_nanos(nanoseconds).as_secs_f64())
    }

    /// Delays of the events that were sent in a window of time behind the beginning, at `per_mille`, in milliseconds.
    pub(crate) fn delay_ms(&self, window: &Window, per_mille: usize) -> Option<f64> {
        let from = self.began_ns + nanoseconds(window.from);
        let wanted = from..from + nanoseconds(window.length);
        let arrivals = self.books.iter().flat_map(|book| &book.arrivals);
        let wanted = arrivals.filter(|arrival| wanted.contains(&arrival.sent_ns));
        let mut delays: Vec<_> = wanted.map(|arrival| arrival.delay_ns()).collect();
        percentile(&mut delays, per_mille).map(|delay| Duration::from_nanos(delay).as_secs_f64() * 1e3)
    }
}

/// A window of time, from the first turn's start on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) length: Duration,
}

impl Window {
    /// Windows of equal length behind a first time that is left out, because everything is still being set up in it.
    pub(crate) fn several(skipped: Duration, length: Duration, count: u32) -> Vec<Self> {
        (0..count).map(|at| Self { from: skipped + length * at, length }).collect()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
