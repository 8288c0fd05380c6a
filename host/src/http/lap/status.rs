//! How the host is, for its operator: what it serves and what that takes on disk. Nothing here reads more than a few numbers.

use std::{fs, path::Path};

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;

use super::super::{App, error::Error, json, on_disk, principal::Principal};
use crate::{
    disk::{self, Frozen, Room, Seen},
    id::RuntimeId,
    session,
};

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    /// In milliseconds since the epoch.
    started_at: u64,
    sessions: Sessions,
    store: Store,
    vault: Vault,
    disk: Disk,
    /// The runtime of what is made without naming one.
    default_runtime: &'a RuntimeId,
}

#[derive(Serialize)]
struct Sessions {
    /// Those that have something to do, or had a moment ago.
    live: usize,
    stored: u64,
}

#[derive(Serialize)]
struct Store {
    bytes: u64,
    /// True when the log takes no more writes until the host is restarted.
    fenced: bool,
}

#[derive(Serialize)]
struct Disk {
    free_bytes: u64,
    reserve_bytes: u64,
    /// What is taken of new things, and why not all of it.
    room: &'static str,
}

impl Disk {
    fn of(disk: &disk::Disk) -> Self {
        let Seen { room, free_bytes, reserve_bytes } = disk.seen();
        let room = match (disk.frozen(), room) {
            (Some(Frozen::ReadOnly), _) => "read_only",
            (Some(Frozen::Full), _) | (None, Room::None) => "none",
            (None, Room::Little) => "little",
            (None, Room::Enough) => "enough",
        };
        Self { free_bytes, reserve_bytes, room }
    }
}

#[derive(Serialize)]
struct Vault {
    key_id: String,
    bytes: u64,
}

pub(in super::super) async fn get(
    _: Principal,
    State(app): State<App>,
    known: session::Sessions,
) -> Result<Response, Error> {
    on_disk(move || {
        let bytes = |file: &Path| Ok::<_, Error>(fs::metadata(file).map_err(Error::of_disk)?.len());
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at: app.started_ms(),
            sessions: Sessions { live: known.running(), stored: known.count()? },
            store: Store { bytes: bytes(&app.files().events)?, fenced: app.is_fenced() },
            vault: Vault { key_id: app.vault().key_id().to_string(), bytes: bytes(&app.files().vault)? },
            disk: Disk::of(app.disk()),
            default_runtime: app.default_runtime(),
        };
        Ok(json::json(StatusCode::OK, &status))
    })
    .await?
}
