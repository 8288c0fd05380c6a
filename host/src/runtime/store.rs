//! One Store, which is one guest: what it holds, what it may use up, and how a call into it can end.

use std::{sync::Arc, time::Duration};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::{
    Fault,
    bindings::Runtime as World,
    component::Component,
    engine::{MEMORIES_MAX, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX, TICK},
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
/// Bytes that may come out of a guest in one call, before the values in it are looked at.
const LIFT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a guest's imports work on.
pub(super) struct Guest {
    pub(super) component: Arc<Component>,
    /// Absent while the component only describes itself.
    pub(super) outlet: Option<Arc<dyn Outlet>>,
    pub(super) sends_left: u32,
    pub(super) log_bytes_left: usize,
    ticks_left: u32,
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
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (ctx, table) = &mut **self.wasi.get_or_insert_with(|| Box::new((wasi::nothing(), ResourceTable::new())));
        WasiCtxView { ctx, table }
    }
}

/// A guest that can be called. Dropping it, also in the middle of a call, frees all that it has.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    pub(super) world: World,
}

impl Live {
    pub(super) async fn start(component: Arc<Component>, outlet: Option<Arc<dyn Outlet>>) -> Result<Self, Fault> {
        let guest = Guest {
            component: Arc::clone(&component),
            outlet,
            sends_left: 0,
            log_bytes_left: 0,
            ticks_left: 0,
            memory: Memory::default(),
            wasi: None,
        };
        let mut store = Store::new(component.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(LIFT_BYTES_MAX);
        store.epoch_deadline_callback(|mut context| {
            let guest = context.data_mut();
            guest.ticks_left = guest.ticks_left.saturating_sub(1);
            Ok(if guest.ticks_left == 0 { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        refill(&mut store);
        match component.instantiate(&mut store).await {
            Ok(world) => Ok(Self { store, world }),
            Err(error) => Err(fault(&store, &error)),
        }
    }

    /// Gives the guest the budget of one call. Without this the budgets of all its calls would add up.
    pub(super) fn refill(&mut self) {
        refill(&mut self.store);
    }

    pub(super) fn fault(&self, error: &wasmtime::Error) -> Fault {
        fault(&self.store, error)
    }
}

fn refill(store: &mut Store<Guest>) {
    let guest = store.data_mut();
    guest.ticks_left = u32::try_from(CALL_CPU.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
    guest.sends_left = CALL_SENDS;
    guest.log_bytes_left = CALL_LOG_BYTES;
    store.set_epoch_deadline(1);
}

fn fault(store: &Store<Guest>, error: &wasmtime::Error) -> Fault {
    let guest = store.data();
    if guest.memory.denied {
        return Fault::Memory;
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
