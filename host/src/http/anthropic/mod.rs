//! The dialect of Anthropic's Managed Agents API, which its official SDKs speak: on the same agents, sessions and events
//! as the platform's own dialect, on every runtime. A file for each noun.
//!
//! An object has the keys that the vendor's has, also those that are null, and no others. Fields of a request that
//! nobody here knows are refused: a wish that is dropped in silence is worse than one that is refused.
//!
//! * `parameters.rs` the query of a URL · `page.rs` pages and their cursors · `runtime.rs` which runtime is meant
//! * `tools.rs` an agent's tools with every choice made ·
//!   `input.rs` events as clients send them · `history.rs` events as a list · `metadata.rs` what clients note on their objects
//! * `forward.rs` what goes on to the vendor's API as it is · `refusal.rs` what is told when that fails

pub(super) mod agents;
pub(super) mod environments;
pub(super) mod events;
pub(super) mod forward;
mod history;
mod input;
pub(super) mod metadata;
pub(super) mod models;
pub(super) mod page;
pub(super) mod parameters;
mod refusal;
pub(super) mod runtime;
pub(super) mod sessions;
mod tools;

use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::clock;

/// A time, which this dialect writes as text.
#[derive(Clone, Copy)]
pub(super) struct Timestamp(
    /// Milliseconds since the epoch.
    pub(super) u64,
);

impl Timestamp {
    /// The same in microseconds, as clients compare it.
    pub(super) const fn us(self) -> u64 {
        self.0.saturating_mul(1000)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&clock::rfc3339_of(self.0))
    }
}

/// What is told of something that was deleted.
#[derive(Serialize)]
pub(super) struct Deleted<I> {
    pub(super) id: I,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

/// The beta that the requests for agents, environments, sessions and events ask for.
pub(super) const BETA: &str = "managed-agents-2026-04-01";

/// The one for memory stores, which came later and is not needed where the other is asked for.
pub(super) const MEMORY_BETA: &str = "agent-memory-2026-07-22";

/// The one for dreams.
pub(super) const DREAMS_BETA: &str = "dreaming-2026-04-21";

/// The status of an error where that dialect has fewer of them.
pub(super) const fn status(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        StatusCode::GONE => StatusCode::NOT_FOUND,
        status => status,
    }
}

/// The name of an error by its status.
pub(super) fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        status if status < 500 => "invalid_request_error",
        _ => "api_error",
    }
}
