//! Lines for the operator's log.

use crate::Level;

/// Writes a line to the operator's log. Natively, where there is no operator, the line is dropped.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::lap::runtime::log::write(level, message);
    #[cfg(not(target_family = "wasm"))]
    {
        _ = (level, message);
    }
}
