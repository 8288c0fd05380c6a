//! The sample of each template as a component, beside the one in Rust compiled for this machine: the same mapping of the same
//! frames, in one run. What an event costs, and what an instance that lives through a turn takes.

use std::{
    borrow::Cow,
    fs,
    hint::black_box,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lap::{
    runtime::{self, Artifact, CacheKey, Frames, Instance, Loader, LoaderSettings, Outlet, Runtime},
    upstream,
};
use lap_runtime_sdk::{self as sdk, Runtime as _};

use self::example_chat::ExampleChat;
use super::{Lab, spread, times};
use crate::{
    process::memory,
    report::{Report, Row, Unit},
    world::EVENT_BYTES,
};

#[path = "../../../../runtimes/templates/rust/src/lib.rs"]
#[allow(unreachable_pub, missing_docs, reason = "a crate of its own, elsewhere")]
mod example_chat;

const MANIFEST: &str = include_str!("../../../../runtimes/templates/shared/runtime.toml");
const STATE: &str = r#"{"conversation":"conv_1"}"#;

/// Guests that may live at once; a component of CPython takes up as much of the pool as a dozen others.
const GUESTS: u32 = 512;
/// Frames that arrive together.
const BATCH: usize = 16;
const WINDOWS: usize = 15;

const KIB: f64 = 1024.0;

/// A template's component, as `cargo test --test kit` leaves it.
struct Language {
    file: &'static str,
    speed: &'static str,
    size: &'static str,
    /// Events of one window: about a tenth of a second of work.
    events: usize,
    /// Instances that are made to see what one takes.
    instances: usize,
}

const LANGUAGES: [Language; 3] = [
    Language { file: "rust.wasm", speed: "events, Rust", size: "a live turn, Rust", events: 32_000, instances: 256 },
    Language {
        file: "js.wasm",
        speed: "events, JavaScript",
        size: "a live turn, JavaScript",
        events: 3_200,
        instances: 64,
    },
    Language {
        file: "python.wasm",
        speed: "events, Python",
        size: "a live turn, Python",
        events: 1_600,
        instances: 24,
    },
];

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let Some(components) = &lab.components else {
        report.note(
            "languages: not measured; --components names the folder with the components of the templates".to_owned(),
        );
        return Ok(());
    };
    let frames = frames();
    for language in &LANGUAGES {
        eprintln!("languages, {} …", language.file);
        let runtime = language.load(lab, components).await?;
        let mut instance = runtime.instance(Arc::new(Nowhere));
        agree(&mut instance, &frames).await?;
        let (mut native, mut component) = (Vec::new(), Vec::new());
        // The first window of each warms up.
        for window in 0..=lab.or_quick(WINDOWS, 3) {
            let rates = (native_rate(&frames, language.events), language.rate(&mut instance, &frames).await?);
            if window > 0 {
                native.push(rates.0);
                component.push(rates.1);
            }
        }
        drop(instance);
        report.row(Row {
            work: "languages",
            measure: language.speed,
            unit: Unit::PerSecond,
            compared: Some(times(&component, &native)?),
            straight: Some(spread(native)?),
            host: spread(component)?,
            goal: None,
        });
        report.row(Row {
            work: "languages",
            measure: language.size,
            unit: Unit::Kibibytes,
            compared: None,
            straight: None,
            host: spread([language.resident(&runtime, &frames).await?])?,
            goal: None,
        });
    }
    Ok(())
}

/// No upstream: the mapping sends nothing.
struct Nowhere;

impl Outlet for Nowhere {
    fn send(
        &self,
        _: upstream::Request,
    ) -> Pin<Box<dyn Future<Output = Result<upstream::Response, upstream::SendError>> + Send + '_>> {
        Box::pin(async { Err(upstream::SendError::Unreachable("nowhere".to_owned())) })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }
}

impl Language {
    async fn load(&self, lab: &Lab, components: &Path) -> Result<Runtime> {
        let file = components.join(self.file);
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        let artifact = Artifact::read(&bytes)?;
        let cache = lab.site.directory()?;
        let key = CacheKey::of_this_process()?;
        // What this program compiles itself needs no child.
        let settings = LoaderSettings { cache: cache.path(), key, guests: GUESTS, program: "/proc/self/exe".into() };
        Ok(Loader::start(settings)?.bundled(MANIFEST.parse()?, artifact.component.into_owned()).await?)
    }

    async fn rate(&self, instance: &mut Instance, frames: &[String]) -> Result<f64> {
        let state = STATE.to_owned();
        let began = Instant::now();
        for _ in 0..self.events / BATCH {
            drop(black_box(instance.on_frames(&state, &packed(black_box(frames))).await?));
        }
        Ok(rate(self.events, began.elapsed()))
    }

    /// What an instance adds to this process, in KiB, once it has mapped what arrived.
    async fn resident(&self, runtime: &Runtime, frames: &[String]) -> Result<f64> {
        let state = STATE.to_owned();
        let resident = || memory(std::process::id()).map(|memory| memory.resident);
        let before = resident()?;
        let mut live = Vec::new();
        for _ in 0..self.instances {
            let mut instance = runtime.instance(Arc::new(Nowhere));
            instance.on_frames(&state, &packed(frames)).await?;
            live.push(instance);
        }
        Ok(resident()?.saturating_sub(before) as f64 / KIB / live.len() as f64)
    }
}

/// Entries as the vendor sends them, of the kinds of a turn, each as large as the other benchmarks' events.
fn frames() -> Vec<String> {
    let frame = |at: usize| {
        let what = match at % 4 {
            0 => r#""kind":"answer","text":"TEXT""#,
            1 => r#""kind":"lookup","query":"TEXT""#,
            2 => r#""kind":"found","lookup":"ent_1","text":"TEXT""#,
            _ => r#""kind":"prompt","text":"TEXT""#,
        };
        let head = format!(r#"{{"id":"ent_{at:010}","at":"2026-11-23T14:32:50.631Z",{what}}}"#);
        let text_bytes = EVENT_BYTES - head.len() + "TEXT".len();
        head.replace("TEXT", &"lorem ipsum ".repeat(text_bytes / 12 + 1)[..text_bytes])
    };
    (0..BATCH).map(frame).collect()
}

fn pieces(frames: &[String]) -> impl ExactSizeIterator<Item = (&str, &str)> {
    frames.iter().map(|data| ("entry", data.as_str()))
}

/// The frames as the host hands them to a component.
fn packed(frames: &[String]) -> Frames {
    Frames::packed(pieces(frames))
}

fn native(frames: &[String]) -> Result<sdk::Outcome, sdk::Error> {
    ExampleChat::on_frames(&mut sdk::Script::default(), STATE.to_owned(), pieces(frames).collect())
}

fn native_rate(frames: &[String], events: usize) -> f64 {
    let began = Instant::now();
    for _ in 0..events / BATCH {
        _ = black_box(native(black_box(frames)));
    }
    rate(events, began.elapsed())
}

fn rate(events: usize, spent: Duration) -> f64 {
    events as f64 / spent.as_secs_f64()
}

/// All must say the same, or they are not the same mapping.
async fn agree(instance: &mut Instance, frames: &[String]) -> Result<()> {
    let component = instance.on_frames(STATE, &packed(frames)).await?;
    let native = native(frames).map_err(|error| anyhow::anyhow!(error.message))?;
    let parsed = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap_or_default();
    let theirs = component.events.iter().map(|event| match &event.body {
        runtime::Body::Json(json) => parsed(json),
        runtime::Body::Frame(_) => serde_json::Value::Null,
    });
    let ours = native.events.iter().map(|event| match &event.body {
        sdk::Body::Json(json) => parsed(json),
        sdk::Body::Frame(_) => serde_json::Value::Null,
    });
    ensure!(component.events.len() == frames.len() && theirs.eq(ours), "component and native code map differently");
    Ok(())
}
