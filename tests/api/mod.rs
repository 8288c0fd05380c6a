//! The API over HTTP, as its clients use it.

mod access;
mod agents;
mod aliases;
mod arbitrary;
mod credentials;
mod dialect;
mod disk;
mod flow;
mod forward;
mod idempotency;
mod key_command;
mod keys;
mod kill;
mod late;
mod matrix;
mod orphans;
mod owners;
mod refusals;
mod sessions;
mod shares;
mod sign_in;
mod status;
