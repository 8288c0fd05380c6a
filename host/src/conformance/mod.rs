//! `lap runtime check`: what authors ask of a runtime before a host ever sees it. Everything here is offline: no host, no
//! data directory, no network.
//!
//! * `check`: what a file is, what it asks for, and everything that is wrong with it
//!
//! Must not know any vendor.

mod check;

pub use self::check::{Check, Problem};
