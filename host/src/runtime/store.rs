//! One Store, which is one guest: what it holds, what it may use up, and how a call into it can end.

use std::{sync::Arc, time::Duration};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::{
    Fault,
    bindings::Runtime as World,
    component::Component,
    engine::{CORE_INSTANCES_MAX, MEMORIES_MAX, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX},
    idle::Room,
    lane::{Pace, Tick},
    outlet::Outlet,
    wasi,
};

/// The time that a guest may compute in one call.
pub const CALL_CPU: Duration = Duration::from_millis(200);
/// The time that a call may take with all its waiting.
pub const CALL_WALL: Duration = Duration::from_mins(2);
/// Requests of one call.
pub(super) const CALL_SENDS: u32 = 64;
/// What a guest may write into the log in one call.
pub(super) const CALL_LOG_BYTES: usize = 64 * 1024;
/// Calls of the host in one call, WASI's included.
pub const CALL_HOST_CALLS: u32 = 10_000;
/// Handles of WASI's that a guest may hold.
const HANDLES_MAX: usize = 1_000;
/// Bytes that may come out of a guest in one call, before the values in it are looked at.
const LIFT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A call meets the next tick, which may come at once and only begins to count; see [`Pace::tick`].
const FIRST_TICKS: u64 = 1;

/// What a guest's imports work on.
pub(super) struct Guest {
    pub(super) component: Arc<Component>,
    /// Absent while the component only describes itself.
    pub(super) outlet: Option<Arc<dyn Outlet>>,
    pub(super) pace: Arc<Pace>,
    pub(super) sends_left: u32,
    pub(super) log_bytes_left: usize,
    host_calls_left: u32,
    memory: Memory,
    wasi: Option<Box<(WasiCtx, ResourceTable)>>,
}

/// The books of a guest's memory, over all its memories and tables.
#[derive(Default)]
struct Memory {
    bytes: usize,
    elements: usize,
    /// Set when growth was refused: the guest will trap, and this is why.
    denied: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(current).saturating_add(desired);
        let allowed = bytes <= MEMORY_BYTES_MAX;
        if allowed {
            self.bytes = bytes;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_sub(current).saturating_add(desired);
        let allowed = elements <= TABLE_ELEMENTS_MAX;
        if allowed {
            self.elements = elements;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }
}

impl Guest {
    /// Counts a call of the host.
    ///
    /// # Errors
    /// Ends the guest's call when there were too many.
    pub(super) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls_left = self.host_calls_left.saturating_sub(1);
        if self.host_calls_left == 0 { Err(wasmtime::Error::msg("too many calls of the host")) } else { Ok(()) }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // There is no way to end the guest's call from here: the next tick does.
        self.host_calls_left = self.host_calls_left.saturating_sub(1);
        let (ctx, table) = &mut **self.wasi.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(HANDLES_MAX);
            Box::new((wasi::nothing(), table))
        });
        WasiCtxView { ctx, table }
    }
}

/// A guest that can be called. Dropping it, also in the middle of a call, frees all that it has.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    pub(super) world: World,
    _room: Room,
}

impl Live {
    /// A guest with the budget of one call.
    pub(super) async fn start(
        component: Arc<Component>,
        outlet: Option<Arc<dyn Outlet>>,
        pace: Arc<Pace>,
    ) -> Result<Self, Fault> {
        let guest = Guest {
            component: Arc::clone(&component),
            outlet,
            pace,
            sends_left: CALL_SENDS,
            log_bytes_left: CALL_LOG_BYTES,
            host_calls_left: CALL_HOST_CALLS,
            memory: Memory::default(),
            wasi: None,
        };
        let mut store = Store::new(&component.machine().engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(LIFT_BYTES_MAX);
        store.epoch_deadline_callback(|context| {
            let guest = context.data();
            Ok(match guest.pace.tick() {
                Tick::Spent => UpdateDeadline::Interrupt,
                _ if guest.host_calls_left == 0 => UpdateDeadline::Interrupt,
                Tick::Stay => UpdateDeadline::Continue(1),
                Tick::GoOn => UpdateDeadline::Yield(1),
            })
        });
        store.set_epoch_deadline(FIRST_TICKS);
        match component.instantiate(&mut store).await {
            Ok(world) => Ok(Self { store, world, _room: Room(Arc::clone(&component.machine().idle)) }),
            Err(error) => Err(fault(&store, &error)),
        }
    }

    /// Gives the guest the budget of another call. Without this the budgets of all its calls would add up.
    pub(super) fn refill(&mut self, pace: Arc<Pace>) {
        let guest = self.store.data_mut();
        guest.pace = pace;
        guest.sends_left = CALL_SENDS;
        guest.log_bytes_left = CALL_LOG_BYTES;
        guest.host_calls_left = CALL_HOST_CALLS;
        guest.memory.denied = false;
        self.store.set_epoch_deadline(FIRST_TICKS);
    }

    pub(super) fn fault(&self, error: &wasmtime::Error) -> Fault {
        fault(&self.store, error)
    }
}

fn fault(store: &Store<Guest>, error: &wasmtime::Error) -> Fault {
    let guest = store.data();
    if guest.memory.denied {
        return Fault::Memory;
    }
    if guest.host_calls_left == 0 {
        return Fault::HostCalls;
    }
    if error.downcast_ref::<wasmtime::Trap>() == Some(&wasmtime::Trap::Interrupt) {
        return Fault::Cpu;
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Fault::Busy;
    }
    // The whole chain with the guest's backtrace: for the log, not for clients.
    Fault::Trap(format!("{error:?}"))
}
