//! All behaviour tests in one binary. `api` and `stream` go through HTTP, as users do; `guest` and `conformance` go
//! through the contract; `registry` adds, changes and removes runtimes; `crash` runs the real program and kills it,
//! `front` runs it and is rude to it; `pages` reads the console's pages; `readme` pastes the README; `kit` follows the tutorial
//! for authors; `wire` compares what clients are told with what was recorded, and `store` opens what older versions have
//! written; `stops` sends commands close behind prompts, and `hangs` has the upstreams that kept a session from its end.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

mod api;
mod conformance;
mod crash;
mod front;
mod guest;
mod hangs;
mod harness;
mod kit {
    //! `tests/kit/main.rs` does this in all languages.
    mod rust;
    #[allow(dead_code, reason = "the other languages use the rest of it")]
    mod tutorial;
}
mod pages;
mod readme;
mod registry;
mod stops;
mod store;
mod stream;
mod tidy;
mod watcher;
mod wire;
