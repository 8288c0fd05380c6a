//! What a runtime in Rust needs: the contract `lap:runtime@0.1` as types, and the few things that every runtime does.
//!
//! For authors of runtimes. Implement [`Runtime`] and name the type in [`export!`]; build the crate as a `cdylib` for
//! `wasm32-unknown-unknown`, and the component has no imports but the contract's own. A runtime reaches its vendor
//! through the [`Upstream`] that it is handed, so its tests run natively, against a [`Script`].
//!
//! * [`Runtime`]: what a runtime does, and what [`export!`] makes of it
//! * [`Upstream`], [`Host`]: the one way out
//! * [`Frames`], [`Piece`]: what arrived, without a copy of each
//! * [`Event`], [`Draft`]: the platform's events, built by name
//! * [`read_state`], [`write_state`]: what is known of a session, as a struct
//! * [`Request`] and [`Response`], [`text`]: built and read without ceremony
//! * [`Error`]: from a status, a broken connection, an answer that makes no sense
//!
//! Must not know any vendor, and must not panic: a panic is a trap, and costs the call. Where one happens all the same,
//! in a runtime or here, its message and its line are in the operator's log.

#[doc(hidden)]
pub mod bindings;
mod error;
mod event;
mod frames;
mod input;
mod log;
mod message;
mod panic;
mod runtime;
mod script;
mod state;
mod upstream;

pub use self::{
    bindings::lap::runtime::{
        log::Level,
        types::{
            AgentSpec, Body, Description, Effect, Ending, Error, ErrorKind, Event, Feed, Frame, Frames, Header,
            History, Input, Method, Model, Outcome, Poll, Request, Response, SessionOpened, SessionSpec, Tool,
        },
        upstream::SendError,
    },
    event::{Content, Draft, Failure, ModelUsage, Stop},
    frames::Piece,
    input::text,
    log::log,
    message::path_segment,
    runtime::{Exported, Runtime},
    script::Script,
    state::{read_state, write_state},
    upstream::{Host, Upstream},
};
