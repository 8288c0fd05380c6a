//! The way out: the only HTTP client, and the only place where a credential leaves the vault.
//!
//! A guest names a relative path; everything that says where a request goes and as whom is the host's. So a request is
//! checked and built here (`request.rs`, `path.rs`), goes to the one origin that its credential is bound to
//! (`origin.rs`, `network.rs`), follows no redirect, asks no environment, and what comes back is freed of the credential
//! before anybody reads it (`response.rs`, `scrub.rs`). Whoever sends asks for the upstream under the credential that is
//! stored at that moment (`cache.rs`). Streams are cut into frames as they come (`feed.rs`, `sse.rs`,
//! `lines.rs`). What clients may ask of the upstream itself passes through in pieces, both ways (`forward.rs`, `words.rs`).
//!
//! Nothing here retries or reconnects: whether a request may be sent twice is for the session to say.

mod cache;
mod client;
mod feed;
mod forward;
mod lines;
mod network;
mod origin;
mod path;
mod request;
mod response;
mod scrub;
mod sse;
#[cfg(test)]
mod tests;
mod words;

pub use self::{
    cache::{CurrentError, Upstreams},
    client::{Client, ClientError, OpenError, SendError, StreamError, Upstream, WeakUpstream},
    feed::{Feed, FeedError, Frames, Framing},
    forward::{Answer, ForwardError, Outgoing},
    lines::{LineParser, TooLong},
    network::{Denied, Network, NetworkPolicy, NetworkPolicyError},
    origin::{BaseUrl, BaseUrlError, Origin, Scheme},
    path::PathFault,
    request::{Method, Refusal, Request, Slot, SlotError},
    response::Response,
    scrub::Scrubber,
    sse::{Frame, SseParser},
    words::Renaming,
};
