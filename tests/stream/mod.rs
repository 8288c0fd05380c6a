//! What readers see, and when.

mod damage;
mod faults;
mod log;
mod readers;
mod responses;
mod retention;
mod sessions;
mod toxic;
mod turns;
