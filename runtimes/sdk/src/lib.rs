//! What a runtime in Rust needs: the contract `lap:runtime@0.1` as types, and the few things that every runtime does.
//!
//! For authors of runtimes. Implement [`Runtime`] and name the type in [`export!`]; build the crate as a `cdylib` for
//! `wasm32-unknown-unknown`, and the component has no imports but the contract's own. A runtime reaches its vendor
//! through the [`Upstream`] that it is handed, so its tests run natively, against a [`Script`].
//!
//! * [`Runtime`]: what a runtime does, and what [`export!`] makes of it
//! * [`Upstream`], [`Host`]: the one way out
//! * [`Frames`], [`Piece`]: what arrived, without a copy of each
//! * [`Request`] and [`Response`]: built and read without ceremony
//! * [`Error`]: from a status, a broken connection, an answer that makes no sense
//!
//! Must not know any vendor, and must not panic: a panic is a trap, and costs the call.

#[doc(hidden)]
pub mod bindings;
mod error;
mod frames;
mod log;
mod message;
mod runtime;
mod script;
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
    frames::Piece,
    log::log,
    runtime::{Exported, Runtime},
    script::Script,
    upstream::{Host, Upstream},
};
