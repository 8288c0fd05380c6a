//! Runtimes that come and go while the host runs.

mod admin;
mod command;
mod durable;
mod pinning;
