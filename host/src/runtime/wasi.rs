//! What a component gets that was built with a stock toolchain: the WASI that its standard library imports, with
//! nothing granted. No file, no environment, no argument; time stands still and chance is fixed, so a replay is exact.

use std::time::Duration;

use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, random::Deterministic};

/// Bytes of chance that one call of the host gives.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

struct Standstill;

impl HostWallClock for Standstill {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Standstill {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

pub(super) fn nothing() -> WasiCtx {
    let chance = || Deterministic::new((0..=u8::MAX).collect());
    WasiCtxBuilder::new()
        .wall_clock(Standstill)
        .monotonic_clock(Standstill)
        .secure_random(chance())
        .insecure_random(chance())
        .insecure_random_seed(0)
        .max_random_size(RANDOM_BYTES_MAX)
        .build()
}
