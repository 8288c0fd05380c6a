//! The values that every layer speaks of: plain data, no I/O, no clock, no lock.
//!
//! For all crates of the host. This crate depends on none of them, so that two layers can hand a value to each other
//! without knowing each other.
//!
//! * [`contract`]: the words of the contract between host and runtimes, as the session machine uses them
//! * [`draft`]: events that have no place in a log yet
//! * [`time`]: times as events carry them

pub mod contract;
pub mod draft;
pub mod time;
