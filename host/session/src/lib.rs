//! The session machine: everything that decides about a session, as one pure function of event and time.
//!
//! For whoever drives sessions: the host, the conformance suite, and the simulation of this crate. A driver tells the
//! machine what happens ([`Event`]) and what time it is, carries out what the machine answers ([`Action`]), and decides
//! nothing. Nothing here does I/O, asks a clock or takes a lock.
//!
//! * `interface.rs` what happens and what is to be done · [`machine`]: in which order · `commands.rs` what clients want · `turn.rs` what
//!   upstream and guest say · `connection.rs` the feed and the looks into the history · `journal.rs` what is to be made durable
//! * [`state`]: the part of it that outlives a process
//! * [`failure`]: whether another try may help · [`backoff`]: and when
//! * [`event`]: the rules for events · [`ingest`]: what is new in what a guest reports, by [`dedup`] · [`history`]: one look
//!   into what the upstream remembers · [`usage`]: what turns have used
//! * [`ending`]: how a session is ended for good
//! * `rules`: what it promises, one test for each · `simulation`: years of faults
//!
//! Must not know the engine, the store, HTTP, or any vendor.

pub mod backoff;
mod commands;
mod connection;
pub mod dedup;
pub mod ending;
pub mod event;
pub mod failure;
pub mod history;
pub mod index;
pub mod ingest;
mod interface;
mod journal;
pub mod machine;
mod rules;
mod simulation;
pub mod state;
mod turn;
pub mod usage;

use std::time::Duration;

pub use self::{
    ending::UpstreamEnd,
    failure::{Cause, Failure, Waiting},
    history::Page,
    index::Segment,
    interface::{Action, Call, Done, Event, Kept, Now, Opened, Prompt, QueueLimit, Reply, Start, Ticket},
    journal::Commit,
    machine::Machine,
    state::{Phase, Refused, State},
};

/// A time, counted from the beginning of the machine.
pub type Moment = Duration;

/// A number unlike the one before (splitmix64, a public-domain generator by Sebastiano Vigna).
pub const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
