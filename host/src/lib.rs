//! `lap`: a host for agent runtimes that you need not trust.
//!
//! One binary serves an HTTP API on sessions of agents and drives each vendor's runtime through a WebAssembly
//! component that can do no I/O. Read the modules in this order:
//!
//! ```text
//! client ── http ── session ── runtime ── upstream ── the vendor
//!                      │                     │
//!                      └──── events          └──── vault
//! ```
//!
//! * [`http`]: wire in, wire out
//! * [`agents`]: what people define, and what it has become upstream
//! * [`session`]: one driver for each session that has something to do; what decides is `host/session`, a crate of its own
//! * [`registry`]: which runtimes there are, in which versions
//! * [`runtime`]: guests, and what they may use up
//! * [`upstream`]: the only HTTP client
//! * [`events`]: the log
//! * [`vault`]: credentials, and the keys that everything at rest is sealed with
//! * [`disk`]: how much room there is, and what that means
//! * [`backup`]: all of `events` and `vault` in one file, and back
//! * [`conformance`]: what authors of runtimes ask of them, offline; [`manage`]: what operators do with those of a running
//!   host; [`commands`] calls both
//! * [`kit`]: a new project for an author of a runtime
//! * [`config`], [`telemetry`], [`mod@print`], `blocking`, [`id`], [`access`], [`clock`]
//!
//! The rules, which `tests/tidy.rs` checks: only `http` knows axum, statuses and JSON shapes · only `config` reads the
//! environment · only `clock` asks the time · only `runtime` names wasmtime, and only its `cache.rs` and
//! `lane.rs` are unsafe · nobody names redb: that is `host/store`, a crate of its own · no module does cryptography, digests and MACs
//! aside: that is `host/seal`, another one · only `session` appends to the log · only `upstream` opens a secret · only `main`,
//! `demo` and `simulate` use `anyhow`. Code points downwards: `session` never names `http`, and nobody names a vendor.

pub mod access;
pub mod agents;
pub mod backup;
mod blocking;
pub mod clock;
pub mod commands;
pub mod config;
pub mod conformance;
pub mod demo;
pub mod disk;
pub mod events;
pub mod http;
pub mod id;
pub mod kit;
pub mod manage;
pub mod print;
pub mod registry;
pub mod runtime;
pub mod session;
pub mod simulate;
pub mod telemetry;
pub mod upstream;
pub mod vault;

mod fetch;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod host;

pub use fetch::{FetchError, Fetched, fetch};
pub use host::{Ended, Host, StartError, bundled};
