//! Runtimes that come and go while the host runs.

mod admin;
mod durable;
mod pinning;
