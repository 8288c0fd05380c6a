//! Guests that do what they must not: how soon each is stopped and what memory it has cost, and what the neighbours of
//! sixteen guests that compute all the time feel of them.

use std::{
    borrow::Cow,
    path::Path,
    pin::Pin,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lap::{
    Host,
    config::Config,
    runtime::{CacheKey, CallError, Fault, Loader, LoaderSettings, Outlet},
    upstream::{Request, Response, SendError},
};

use super::{Lab, spread, times};
use crate::{
    api::{Api, HOST_KEY},
    guests::{MANIFEST, NOTHING, guest},
    load::{Load, Window},
    process::memory,
    report::{Goal, Report, Row, Unit},
    world::{Program, Turn, World},
};

/// Guests that compute all the time, each for a session.
const COMPUTING: usize = 16;
const NEIGHBOURS: usize = 16;
const EVERY_MS: u64 = 50;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    stops(lab, report).await?;
    neighbours(lab, report).await
}

/// What each does in a call, and what stops it.
const KINDS: [(&str, &str, &str); 5] = [
    ("an endless loop, until it is stopped", "computed", "(loop (br 0)) unreachable"),
    (
        "a loop of `memory.fill` over 60 MB, until it is stopped",
        "computed",
        "(drop (memory.grow (i32.const 900)))
         (loop (memory.fill (i32.const 65536) (i32.const 7) (i32.const 60000000)) (br 0)) unreachable",
    ),
    (
        "a memory that grows, until it is stopped",
        "memory",
        "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
    ),
    ("endless recursion, until it is stopped", "crashed", "(call $deep) unreachable"),
    (
        "a flood of calls of the host, until it is stopped",
        "too often",
        "(loop (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br 0)) unreachable",
    ),
];

async fn stops(lab: &Lab, report: &mut Report) -> Result<()> {
    eprintln!("hostile, one guest …");
    let directory = lab.site.directory()?;
    let settings = LoaderSettings {
        cache: directory.path(),
        key: CacheKey::of_this_process()?,
        guests: 16,
        program: lab.site.lap.clone(),
    };
    let loader = Loader::start(settings)?;
    for (measure, reason, body) in KINDS {
        let (mut stopped, mut grown) = (Vec::new(), Vec::new());
        for nth in 0..lab.or_quick(20, 3) {
            // Another one each time: a component that crashes so often is not called again for a while.
            let items = format!(r#"(func $deep (call $deep)) (data (i32.const 5000) "{nth}")"#);
            let component = guest(&items, &[("send", body)]);
            let runtime = loader.stranger(MANIFEST.parse()?, component).await?;
            let mut instance = runtime.instance(Arc::new(Nowhere));
            let before = memory(std::process::id())?.resident as f64;
            let called = Instant::now();
            let fault = match instance.send("", &[]).await {
                Err(CallError::Fault(fault)) => fault,
                other => anyhow::bail!("{measure}: it was not stopped: {:?}", other.err()),
            };
            stopped.push(called.elapsed().as_secs_f64() * 1e3);
            grown.push((memory(std::process::id())?.resident as f64 - before).max(0.0) / MIB);
            ensure!(fault.to_string().contains(reason) && !matches!(fault, Fault::Busy), "{measure}: {fault}");
        }
        report.row(Row {
            work: "hostile",
            measure,
            unit: Unit::Milliseconds,
            straight: None,
            host: spread(stopped)?,
            compared: None,
            goal: Some(Goal::AtMost(220.0)),
        });
        let grown = spread(grown)?;
        report.note(format!(
            "hostile: after {} the process had {:.1} MiB more ({:.1} at the most)",
            measure.split(',').next().unwrap_or_default(),
            grown.median,
            grown.max,
        ));
    }
    Ok(())
}

/// An upstream that no guest here asks.
struct Nowhere;

impl Outlet for Nowhere {
    fn send(&self, _: Request) -> Pin<Box<dyn Future<Output = Result<Response, SendError>> + Send + '_>> {
        Box::pin(async { Err(SendError::Unreachable("there is nothing".to_owned())) })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text.into()
    }
}

/// The same turns in one host, alone and beside guests that compute, by turns.
async fn neighbours(lab: &Lab, report: &mut Report) -> Result<()> {
    let window = lab.or_quick(Duration::from_secs(10), Duration::from_secs(3));
    let skipped = Duration::from_secs(2);
    let events = u64::try_from((window + skipped * 2).as_millis())? / EVERY_MS;
    let load = Load {
        turns: NEIGHBOURS,
        readers: 1,
        events,
        spread: Duration::from_secs(1),
        patience: Duration::from_mins(3),
    };
    let windows = Window::several(skipped, window, 1);
    let directory = lab.site.directory()?;
    let mut serve = Command::new(std::env::current_exe()?);
    serve.arg("--hostile-host").arg(directory.path().join("data"));
    let host = Program::start(&mut serve, &directory.path().join("host.log"))?;
    let world = World::around(&lab.site, Turn { events, every_ms: EVERY_MS }, host, directory).await?;
    let hostile = Api::of_runtime("hostile", world.host.address, world.simulator.address).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..lab.rounds.max(lab.or_quick(3, 1)) {
        eprintln!("hostile, neighbours, round {round} …");
        let delay = async |report: &mut Report, delays: &mut Vec<f64>, side| -> Result<()> {
            let run = load.run(&world, &world.through).await.with_context(|| world.last_words())?;
            report.cpu("hostile", side, run.used);
            if let Some(problem) = run.problem(events) {
                report.problem(format!("hostile, {side}: {problem}"));
            }
            for window in &windows {
                delays.push(run.delay_ms(window, 990).context("a window without events")?);
            }
            Ok(())
        };
        delay(report, &mut alone, "alone").await?;
        let before = memory(world.host.pid())?.resident as f64;
        let mut connection = hostile.connect().await?;
        let mut computing = Vec::new();
        for _ in 0..COMPUTING {
            computing.push(hostile.start(&mut connection, "compute").await?);
        }
        delay(report, &mut beside, "beside 16 that compute").await?;
        let after = memory(world.host.pid())?.resident as f64;
        report.note(format!("hostile: round {round}, the host had {:.1} MiB more with them", (after - before) / MIB));
        for session in computing {
            hostile.delete(&format!("/session/{session}")).await?;
        }
    }
    report.row(Row {
        work: "hostile",
        measure: "an event's delay, p99: the host alone (straight), beside 16 guests that compute",
        unit: Unit::Milliseconds,
        compared: Some(times(&beside, &alone)?),
        straight: Some(spread(alone)?),
        host: spread(beside)?,
        goal: Some(Goal::TimesAtMost(1.5)),
    });
    Ok(())
}

/// A guest that polls its upstream ten times a second, and computes for most of its budget whenever it is answered.
fn computing() -> Vec<u8> {
    // `listen` answers with a poll of /v1/models; `send` with one event that starts the turn.
    let event = r#"{"type":"session.status_running","id":"begun"}"#;
    let data = format!(
        r#"(data (i32.const 10000) "\00\00\00\00\03\00\00\00\00\00\00\00\40\1f\00\00\0a\00\00\00")
           (data (i32.const 10028) "\30\75\00\00\01\00\00\00")
           (data (i32.const 30000) "\94\75\00\00\11\00\00\00\f8\75\00\00\0a\00\00\00")
           (data (i32.const 30100) "anthropic-version")
           (data (i32.const 30200) "2023-06-01")
           (data (i32.const 10048) "\64\00\00\00")
           (data (i32.const 8000) "/v1/models")
           (data (i32.const 12016) "\20\4e\00\00\01\00\00\00")
           (data (i32.const 20000) "\01\00\00\00\40\9c\00\00\{:02x}\00\00\00\01\00\00\00")
           (data (i32.const 40000) "{}")"#,
        event.len(),
        event.replace('"', "\\22"),
    );
    let spin = format!(
        "(local $n i32) (local.set $n (i32.const 20000000))
         (loop (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) {NOTHING}"
    );
    let calls = [("listen", "(i32.const 10000)"), ("send", "(i32.const 12000)"), ("on-frames", spin.as_str())];
    guest(&data, &calls)
}

/// Serves, beside the bundled runtime, one whose guests compute. Until it is killed.
pub(crate) fn serve(directory: &Path) -> Result<()> {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    executor.block_on(async {
        let mut config = Config::demo(([127, 0, 0, 1], 0).into(), directory, HOST_KEY);
        config.guests_max = 512;
        let _flush = lap::telemetry::start(&config.log)?;
        let component = computing();
        let host = Host::start_with(config, &[lap::bundled()[0], (MANIFEST, &component)]).await?;
        println!("http://{}", host.address());
        std::future::pending().await
    })
}
