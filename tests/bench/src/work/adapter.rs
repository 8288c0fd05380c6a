//! The bundled runtime as a component beside the same code compiled for this machine: what the border costs an event.

use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use claude_managed_agents::ClaudeManagedAgents;
use lap::{
    runtime::{self, CacheKey, Frames, Instance, Loader, LoaderSettings, Runtimes},
    upstream::{Client, NetworkPolicy, Slot, Upstream},
    vault::{Secret, Vault, VaultKey},
};
use lap_runtime_sdk::{self as sdk, Runtime as _};

use super::{Lab, spread, times};
use crate::{
    api::{RUNTIME, UPSTREAM_KEY},
    report::{Goal, Report, Row, Unit},
    world::EVENT_BYTES,
};

const STATE: &str = r#"{"session":"sesn_01"}"#;

/// Each window maps so many events; several windows of each kind take turns.
const EVENTS: usize = 50_000;
const WINDOWS: usize = 15;

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    eprintln!("adapter …");
    let directory = lab.site.directory()?;
    let mut guest = Guest::load(directory.path()).await?;
    let windows = lab.or_quick(WINDOWS, 3);
    for (size, measure) in [(16, "an event, in batches of 16"), (64, "an event, in batches of 64")] {
        let frames = frames(size);
        agree(&mut guest, &frames).await?;
        let (mut native, mut component, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        // The first window of each warms up.
        for window in 0..=windows {
            let times = (native_ns(&frames), guest.ns(&frames).await?, bare_ns(&frames));
            if window > 0 {
                native.push(times.0);
                component.push(times.1);
                bare.push(times.2);
            }
        }
        report.row(Row {
            work: "adapter",
            measure,
            unit: Unit::Nanoseconds,
            compared: Some(times(&component, &native)?),
            straight: Some(spread(native)?),
            host: spread(component)?,
            goal: Some(Goal::TimesAtMost(2.5)),
        });
        let bare = spread(bare)?.median;
        report.note(format!(
            "adapter: natively, {bare:.0} ns of {measure} are the mapping, and the rest is the copy of the frames that \
             it takes as its own"
        ));
    }
    Ok(())
}

/// A frame's name and data.
type Frame = (&'static str, String);

/// Frames as the upstream sends them, of several kinds.
fn frames(count: usize) -> Vec<Frame> {
    let frame = |at: usize| {
        let (name, inner) = match at % 4 {
            0 => ("agent.message", r#""content":[{"type":"text","text":"TEXT"}]"#),
            1 => ("agent.tool_use", r#""name":"bash","input":{"command":"TEXT"},"evaluated_permission":"allow""#),
            2 => ("agent.tool_result", r#""tool_use_id":"sevt_1","content":[{"type":"text","text":"TEXT"}]"#),
            _ => ("span.model_request_end", r#""model_request_start_id":"sevt_1","is_error":false,"note":"TEXT""#),
        };
        let head = format!(r#"{{"id":"sevt_019v981wh{at:010}","type":"{name}","#);
        let tail = r#","processed_at":"2026-11-23T14:32:50.631Z"}"#;
        let text_bytes = EVENT_BYTES - head.len() - inner.len() - tail.len() + "TEXT".len();
        let inner = inner.replace("TEXT", &"lorem ipsum ".repeat(text_bytes / 12 + 1)[..text_bytes]);
        (name, format!("{head}{inner}{tail}"))
    };
    (0..count).map(frame).collect()
}

fn pieces(frames: &[Frame]) -> impl ExactSizeIterator<Item = (&str, &str)> {
    frames.iter().map(|(name, data)| (*name, data.as_str()))
}

/// The frames as the native code takes them.
fn copied(frames: &[Frame]) -> sdk::Frames {
    pieces(frames).collect()
}

/// The frames as the host hands them to the component: packed from the upstream's.
fn packed(frames: &[Frame]) -> Frames {
    Frames::packed(pieces(frames))
}

/// What the host would do if the runtime were compiled into it: the frames stay the host's, as with the component.
fn native_ns(frames: &[Frame]) -> f64 {
    timed(frames, || {
        let began = Instant::now();
        map(copied(black_box(frames)));
        began.elapsed()
    })
}

/// The mapping alone, its input being there already.
fn bare_ns(frames: &[Frame]) -> f64 {
    timed(frames, || {
        let input = copied(black_box(frames));
        let began = Instant::now();
        map(input);
        began.elapsed()
    })
}

fn map(frames: sdk::Frames) {
    let outcome = ClaudeManagedAgents::on_frames(&mut sdk::Script::default(), STATE.to_owned(), frames);
    drop(black_box(outcome));
}

fn timed(frames: &[Frame], once: impl Fn() -> Duration) -> f64 {
    let spent: Duration = (0..EVENTS / frames.len()).map(|_| once()).sum();
    per_event_ns(spent, frames)
}

fn per_event_ns(spent: Duration, frames: &[Frame]) -> f64 {
    spent.as_secs_f64() * 1e9 / (EVENTS / frames.len() * frames.len()) as f64
}

/// The component, called as the host calls it.
struct Guest {
    instance: Instance,
    state: String,
}

impl Guest {
    async fn load(directory: &std::path::Path) -> Result<Self> {
        let settings = LoaderSettings {
            cache: directory,
            key: CacheKey::of_this_process()?,
            guests: 16,
            program: "/proc/self/exe".into(),
        };
        let runtimes = Runtimes::load(&Loader::start(settings)?, lap::bundled()).await?;
        let runtime = runtimes.get(RUNTIME).context("the manifest has another id")?;
        // The mapping sends nothing, but a guest has an upstream.
        let key = VaultKey::generate();
        let store = directory.join("store");
        fs::create_dir(&store)?;
        Vault::init(&store, &key)?;
        let vault = Vault::open(&store, key)?;
        let secret = Secret::new(UPSTREAM_KEY.to_owned());
        let credential = vault.put_credential(&RUNTIME.parse()?, secret, "http://127.0.0.1:9".parse()?)?;
        let slot = Slot::new(&runtime.profile().auth().header, &runtime.profile().auth().scheme)?;
        let upstream = Upstream::open(&Client::new(NetworkPolicy::default())?, &vault, &credential, &slot)?;
        Ok(Self { instance: runtime.instance(std::sync::Arc::new(upstream)), state: STATE.to_owned() })
    }

    async fn ns(&mut self, frames: &[Frame]) -> Result<f64> {
        let began = Instant::now();
        for _ in 0..EVENTS / frames.len() {
            let outcome = self.instance.on_frames(&self.state, &packed(black_box(frames))).await?;
            drop(black_box(outcome));
        }
        Ok(per_event_ns(began.elapsed(), frames))
    }
}

/// Both must say the same, or they are not the same mapping.
async fn agree(guest: &mut Guest, frames: &[Frame]) -> Result<()> {
    let component = guest.instance.on_frames(&guest.state, &packed(frames)).await?;
    let native = ClaudeManagedAgents::on_frames(&mut sdk::Script::default(), STATE.to_owned(), copied(frames));
    let native = native.map_err(|error| anyhow::anyhow!(error.message))?;
    let passed = |at: usize| {
        let theirs = component.events.get(at).map(|event| &event.body);
        let ours = native.events.get(at).map(|event| &event.body);
        matches!((theirs, ours), (Some(&runtime::Body::Frame(theirs)), Some(&sdk::Body::Frame(ours)))
            if theirs == ours && theirs as usize == at)
    };
    ensure!((0..frames.len()).all(passed), "component and native code map differently");
    Ok(())
}
