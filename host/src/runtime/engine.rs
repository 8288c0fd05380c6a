//! The one wasmtime engine of the process: what guests may use, and what a guest's life may cost.

use std::{io, sync::Arc, thread, time::Duration};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::{idle::Idle, lane::Lane};

/// How often a running guest is looked at.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// The most guests that may live at once. Each takes about six memory mappings, and Linux allows a process 65,530.
pub const GUESTS_MAX: u32 = 6_000;

/// The memory of one guest, summed over its memories.
pub const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The elements of one guest's tables, summed.
pub(super) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// A component made by componentize-py has 38 core instances.
pub(super) const CORE_INSTANCES_MAX: u32 = 64;

/// A component made by jco has three memories.
pub(super) const MEMORIES_MAX: u32 = 4;

/// Tables of one component.
pub(super) const TABLES_MAX: u32 = 64;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses the configuration on this machine.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(wasmtime::Error),
    /// The threads that tick and compute cannot be started.
    #[error("no threads for the WebAssembly engine")]
    Thread(#[from] io::Error),
}

/// What guests run on.
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) lane: Lane,
    pub(super) idle: Arc<Idle>,
}

/// Makes the engine for at most `guests` guests at once.
///
/// The address space for their memories is reserved now, 6 GiB for each guest, and nothing of it is used yet.
///
/// # Errors
/// When the machine cannot run it.
pub(super) fn start(guests: u32) -> Result<Arc<Machine>, EngineError> {
    let mut config = code();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(guests.min(GUESTS_MAX))));
    let engine = Engine::new(&config).map_err(EngineError::Engine)?;
    let ticking = engine.weak();
    thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    })?;
    Ok(Arc::new(Machine { engine, lane: Lane::start()?, idle: Arc::default() }))
}

fn pool(guests: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances((guests * 3).max(CORE_INSTANCES_MAX))
        .total_memories((guests * 3 / 2).max(MEMORIES_MAX))
        .total_tables((guests * 2).max(TABLES_MAX))
        .total_stacks(guests)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX);
    pool
}

/// Compiles for the engine of [`start`], and runs nothing: no address space is reserved, so a limit on that can hold, and
/// no thread is started beside the one that compiles.
pub(super) fn compiling() -> Config {
    let mut config = code();
    config.parallel_compilation(false);
    config
}

/// All that machine code depends on.
fn code() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Component-model async costs a third of a call's time and had a host-side memory bug: guests are synchronous.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .max_wasm_stack(512 * 1024)
        .async_stack_size(1024 * 1024);
    config
}
