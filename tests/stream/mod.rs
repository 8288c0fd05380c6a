//! What readers see, and when.

mod faults;
mod log;
mod readers;
mod responses;
mod retention;
mod sessions;
mod toxic;
mod turns;
