//! Where `lap` keeps what it keeps: tables of rows in the order of their keys, and commits that hold whole or not at all.
//!
//! For the event log, the vault, and whoever has tables in their files. A store takes and gives bytes; what is secret among them
//! is sealed before it comes here, and opened behind. A row that was committed is there after a crash at any moment; what was
//! not, is not.
//!
//! * [`Table`]: which tables there are · [`Rows`], [`RowsMut`]: what can be asked of one and done to it
//! * [`Store`]: an open store · [`View`]: what it holds at one moment · [`Commit`]: a change of it
//! * [`Disk`], [`Overlay`]: what it lies on
//! * [`copy`]: rows on their way into a backup, and out of it
//! * `redb.rs`: the database. Nothing else names it, and nothing outside of this crate
//!
//! All calls wait for the disk: an async caller uses a thread that may block.

mod column;
pub mod copy;
mod disk;
mod error;
mod overlay;
mod redb;
mod rows;
mod store;
mod table;
mod tests;

pub use self::{
    disk::Disk,
    error::{Cause, Error, OpenError},
    overlay::Overlay,
    rows::{ALL, Direction, Limit, Row, Rows, RowsMut, Span, Visit, between},
    store::{Commit, Options, Store, View},
    table::Table,
};
