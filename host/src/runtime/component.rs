//! From compiled code to something that can be instantiated: checked by its imports and exports before any of its code runs.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::timeout;
use wasmtime::{
    Engine, Store,
    component::{Component as Compiled, HasSelf, Linker, types::ComponentItem},
};

use super::{
    Description, Fault,
    bindings::{Runtime as World, RuntimePre},
    compile::CompileError,
    engine::Machine,
    inspect::ShapeError,
    lane::{Lost, Pace},
    manifest::Manifest,
    store::{CALL_WALL, Guest, Live},
    watch::Watch,
};
use crate::id::ComponentDigest;

/// The contract that this host serves.
pub const CONTRACT: &str = "0.1";

/// WASI packages that a standard library drags in. They are served with nothing granted.
const WASI_SERVED: [&str; 5] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random"];

/// Why a component is not taken. Each says what its author or the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no component, or one that this engine cannot compile.
    #[error("not a WebAssembly component that this host can compile: {0:#}")]
    Invalid(wasmtime::Error),
    /// It is too large for a compiler, or no component at all.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// It could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The host stops.
    #[error("the host was stopped before the component was loaded; load it again")]
    Interrupted,
    /// It wants something that runtimes do not get.
    #[error("the component imports `{import}`, which runtimes do not get: {advice}")]
    ForeignImport {
        /// The interface.
        import: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// It is built for a contract that this host does not serve.
    #[error(
        "the component needs lap:runtime {found}, and this host has {CONTRACT}: rebuild it with wit/lap-runtime/{CONTRACT}, or use a newer host"
    )]
    OtherContract {
        /// The version of its interface.
        found: String,
    },
    /// It does not export the adapter.
    #[error(
        "the component does not export `lap:runtime/adapter@{CONTRACT}`: export the world `runtime` of wit/lap-runtime/{CONTRACT}"
    )]
    NoAdapter,
    /// Component and manifest do not belong together.
    #[error("the component does not fit its manifest: {0}")]
    Manifest(String),
    /// It failed when it was asked to describe itself.
    #[error("the component cannot describe itself: {0}")]
    Describe(#[from] Fault),
}

impl LoadError {
    /// A word for programs that does not change.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::Shape(ShapeError::Malformed(_)) | Self::Compile(CompileError::Refused(_)) => {
                "invalid"
            }
            Self::Shape(ShapeError::TooLarge { .. }) | Self::Compile(CompileError::Limit(_)) => "too_large",
            Self::Compile(CompileError::Crashed(_)) => "compiler_crashed",
            Self::Compile(CompileError::Unavailable(_)) | Self::Interrupted => "unavailable",
            Self::ForeignImport { .. } => "foreign_import",
            Self::OtherContract { .. } => "contract",
            Self::NoAdapter => "no_adapter",
            Self::Manifest(_) => "mismatch",
            Self::Describe(_) => "describe",
        }
    }
}

/// A compiled component with its manifest, ready to be instantiated.
pub(super) struct Component {
    pub(super) manifest: Manifest,
    /// Of the component as bytes.
    pub(super) digest: ComponentDigest,
    machine: Arc<Machine>,
    /// What is noted of all guests of this component.
    pub(super) watch: Arc<Watch>,
    prepared: RuntimePre<Guest>,
}

impl Component {
    /// Compiles in this process, for an author's own component on the author's own machine.
    pub(super) fn load(machine: &Arc<Machine>, bytes: &[u8], manifest: Manifest) -> Result<Self, LoadError> {
        let compiled = Compiled::new(&machine.engine, bytes).map_err(LoadError::Invalid)?;
        // Its author wants to see every crash.
        let watch = Arc::new(Watch::without_quarantine());
        Self::new(machine, &compiled, ComponentDigest::of(bytes), watch, manifest)
    }

    /// `digest` is that of the component as bytes.
    pub(super) fn new(
        machine: &Arc<Machine>,
        compiled: &Compiled,
        digest: ComponentDigest,
        watch: Arc<Watch>,
        manifest: Manifest,
    ) -> Result<Self, LoadError> {
        if manifest.contract != CONTRACT {
            return Err(LoadError::OtherContract { found: manifest.contract });
        }
        let engine = &machine.engine;
        let needs_wasi = check(engine, compiled)?;
        let prepared = prepare(engine, compiled, needs_wasi).map_err(LoadError::Invalid)?;
        Ok(Self { manifest, digest, machine: Arc::clone(machine), watch, prepared })
    }

    /// Asks the component who it is. Nobody knows yet how long that takes, so it is done on the lane.
    pub(super) async fn describe(self: &Arc<Self>) -> Result<Description, Fault> {
        let (component, pace) = (Arc::clone(self), Pace::of_call(true));
        let asked = self.machine.lane.run(Arc::clone(&pace), async move {
            let mut live = Live::start(component, None, pace).await?;
            let described = live.world.lap_runtime_adapter().call_describe(&mut live.store).await;
            described.map_err(|error| live.fault(&error))
        });
        match timeout(CALL_WALL, asked).await {
            Ok(described) => described.unwrap_or_else(|Lost| Err(Fault::lost())),
            Err(_) => Err(Fault::Wall),
        }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<World> {
        self.prepared.instantiate_async(store).await
    }
}

fn prepare(engine: &Engine, compiled: &Compiled, needs_wasi: bool) -> wasmtime::Result<RuntimePre<Guest>> {
    let mut linker = Linker::<Guest>::new(engine);
    World::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    if needs_wasi {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    }
    RuntimePre::new(linker.instantiate_pre(compiled)?)
}

/// Looks at names only: nothing of the component runs. True when it needs WASI.
fn check(engine: &Engine, compiled: &Compiled) -> Result<bool, LoadError> {
    let shape = compiled.component_type();
    let exported = |item: &ComponentItem| matches!(item, ComponentItem::ComponentInstance(_));
    let exports = shape.exports(engine).filter(|(_, item)| exported(&item.ty)).map(|(name, _)| name);
    let objections = objections(shape.imports(engine).map(|(name, _)| name), exports);
    if let Some(first) = objections.into_iter().next() {
        return Err(first);
    }
    Ok(shape.imports(engine).any(|(import, _)| import.starts_with("wasi:")))
}

/// What keeps this host from taking a component, by the names of what it imports and exports; each fault once.
pub(super) fn objections<'a>(
    imports: impl Iterator<Item = &'a str>,
    exports: impl Iterator<Item = &'a str>,
) -> Vec<LoadError> {
    let (mut objections, mut others) = (Vec::new(), BTreeSet::new());
    let mut other = |interface: &str| others.insert(version(interface).to_owned());
    for import in imports {
        let (package, _) = import.split_once('/').unwrap_or((import, ""));
        let served = WASI_SERVED.contains(&package) && version(import).starts_with("0.2.");
        if package == "lap:runtime" && !serves(import) {
            other(import);
        } else if package != "lap:runtime" && !served {
            objections.push(LoadError::ForeignImport { import: import.to_owned(), advice: advice(package) });
        }
    }
    match exports.filter(|name| name.starts_with("lap:runtime/adapter@")).last() {
        Some(adapter) if serves(adapter) => {}
        Some(adapter) => _ = other(adapter),
        None => objections.push(LoadError::NoAdapter),
    }
    let others = others.into_iter().map(|found| LoadError::OtherContract { found });
    // First what the rest follows from.
    others.chain(objections).collect()
}

fn version(interface: &str) -> &str {
    interface.split_once('@').map_or("", |(_, version)| version)
}

fn serves(interface: &str) -> bool {
    version(interface).strip_prefix(CONTRACT).is_some_and(|rest| rest.starts_with('.'))
}

fn advice(package: &str) -> &'static str {
    match package {
        "wasi:http" | "wasi:sockets" => "send requests with `lap:runtime/upstream`, and let the host dial",
        "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random" => {
            "only WASI 0.2 is served; rebuild for wasm32-wasip2, or for wasm32-unknown-unknown, which needs none"
        }
        _ => "remove the import; a runtime gets `lap:runtime/upstream` and `lap:runtime/log`",
    }
}
