//! From the start of the program, after a crash and with a large log, to its first answer and until turns go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lap::{
    events::{Draft, EventLog},
    id::SessionId,
    vault::{Vault, load_key_file},
};
use serde_json::json;
use tokio::time::sleep;

use super::{Lab, spread};
use crate::{
    api::{Api, Side},
    frames::Frames,
    report::{Goal, Report, Row, Unit},
    wire::{Body, Connection},
    world::{PROMPT, Turn, World},
};

/// The largest event, so that the log grows quickly.
const EVENT_BYTES: usize = 1024 * 1024 - 64;
/// Turns that run when the host is killed.
const TURNS: usize = 100;
/// What the goal speaks of.
const GOAL_MS: f64 = 2000.0;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let events = lab.or_quick(4096, 256);
    eprintln!("restart with a log of {events} MiB …");
    let mut world = World::start(&lab.site, Turn { events: 10_000, every_ms: 100 }).await?;
    world.host.terminate()?;
    grow(&world, events).await?;
    world.start_host(&lab.site)?;
    let api = Api::host(world.host.address, world.simulator.address).await?;
    let mut connection = api.connect().await?;
    let mut sessions = Vec::new();
    for _ in 0..TURNS {
        sessions.push(api.start(&mut connection, PROMPT).await?);
    }
    let mut heads = Vec::new();
    for session in &sessions {
        heads.push(Following::from(&api, session, 0).await?.until(3).await?);
    }
    let (mut answered, mut resumed) = (Vec::new(), Vec::new());
    for _ in 0..lab.or_quick(5, 2) {
        world.host.kill()?;
        let began = Instant::now();
        world.start_host(&lab.site)?;
        ready(&world).await?;
        answered.push(began.elapsed().as_secs_f64() * 1e3);
        let api = Api::at(Side::Host, world.host.address);
        for (session, head) in sessions.iter().zip(&mut heads) {
            // Two more than the log can have had: these came through the new process.
            let log = api.get(&format!("/v1/sessions/{session}/events?after={head}")).await?;
            let known = *head + log["data"].as_array().map_or(0, Vec::len) as u64;
            *head = Following::from(&api, session, known).await?.until(known + 1).await?;
        }
        resumed.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let row = |measure, values| -> Result<Row> {
        let (host, goal) = (spread(values)?, Some(Goal::AtMost(GOAL_MS)));
        Ok(Row { work: "restart", measure, unit: Unit::Milliseconds, straight: None, host, compared: None, goal })
    };
    report.row(row("after a crash, to the first 200", answered)?);
    report.row(row("until 100 turns go on", resumed)?);
    report.note(format!(
        "restart: the log has {events} MiB; each time the host was killed with SIGKILL in {TURNS} turns"
    ));
    Ok(())
}

/// Appends events to a log that no host uses.
async fn grow(world: &World, events: usize) -> Result<()> {
    let data = world.data();
    let vault = Vault::open(&data, load_key_file(&data.join("vault.key"))?)?;
    let log = EventLog::open(&data.join("events.redb"), vault.sealer())?;
    let event = json!({"type": "agent.message", "text": "x".repeat(EVENT_BYTES - 64)}).to_string();
    let mut writer = log.writer(SessionId::fresh(), true)?;
    for _ in 0..events {
        let mut draft = Draft::default();
        draft.push("agent.message", &event);
        writer.append(draft, Vec::new(), true).await?;
    }
    Ok(())
}

async fn ready(world: &World) -> Result<()> {
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {}\r\n\r\n", world.host.address);
    let mut connection = Connection::open(world.host.address).await?;
    while connection.call(request.as_bytes()).await.context("GET /readyz")?.status != 200 {
        sleep(Duration::from_micros(500)).await;
    }
    Ok(())
}

/// A stream that is read as far as needed.
struct Following {
    body: Body,
    frames: Frames,
    seen: u64,
}

impl Following {
    async fn from(api: &Api, session: &str, after: u64) -> Result<Self> {
        Ok(Self { body: api.stream_after(session, after).await?, frames: Frames::new(), seen: after })
    }

    /// Reads to the event `seq`, and says which was the last.
    async fn until(mut self, seq: u64) -> Result<u64> {
        while self.seen < seq {
            ensure!(self.body.read(&mut self.frames.text).await?, "a stream ended");
            self.frames.take(|event| self.seen = event.id.unwrap_or(self.seen));
        }
        Ok(self.seen)
    }
}
