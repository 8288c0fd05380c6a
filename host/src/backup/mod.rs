//! Backups: one file with everything that a store holds, as it is at rest, and a new store made of such a file.
//!
//! For `http`, which hands one out while the host runs, and for `main`. Everything in the tables is sealed, so a backup
//! needs no key and shows nothing; the keys themselves are never in it, and without the vault's key it is of no use.
//!
//! * `format.rs` the file: written, and read with suspicion
//! * `spool.rs` a backup of the running host
//! * `restore.rs` a new data directory
//!
//! Which rows belong together: what the log names (agents, provisions, credentials) was in the vault before it was in
//! the log, and is not needed any more once it is gone from there. So the moment of the log is taken first and that of
//! the vault right after it; the other way round a session could be in the backup without what it was made of.

mod format;
mod restore;
mod spool;

use lap_store::Table;

use crate::{agents, registry, vault::CLIENT_KEY_TABLES};

/// What is in the vault's file beside credentials.
static IN_VAULT: &[&[Table]] = &[agents::TABLES, registry::TABLES, CLIENT_KEY_TABLES];

pub use self::{
    format::{Contents, FormatError, check},
    restore::{RestoreError, Restored, restore},
    spool::{Backups, Cancel, SpoolError, Spooled},
};
