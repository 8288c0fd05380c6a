//! What readers see, and when.

mod faults;
mod log;
mod readers;
mod responses;
mod retention;
mod toxic;
mod turns;
