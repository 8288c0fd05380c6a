//! How the host is, for whoever can reach it.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::super::{
    App,
    error::{Error, Retry},
    json, on_disk,
};
use crate::disk::Room;

/// The process lives.
pub(in super::super) async fn health() -> Response {
    json::text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Requests can be served: log and vault take writes, the disk can be read, and the host is not about to end.
pub(in super::super) async fn ready(State(app): State<App>) -> Response {
    let not_ready = |why: &str| Error::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why).with_retry(Retry::Yes);
    if app.draining().has_begun() {
        return not_ready("the host is shutting down").into_response();
    }
    if app.is_fenced() {
        return not_ready("a commit failed; the host must be restarted").into_response();
    }
    let disk = app.disk();
    if let Err(frozen) = disk.writes() {
        return not_ready(&frozen.to_string()).into_response();
    }
    if disk.seen().room == Room::None {
        return not_ready("the disk of the data directory is full: nothing is read from upstreams").into_response();
    }
    match on_disk(move || app.reads()).await.and_then(|read| read.map_err(Error::from)) {
        Ok(_) => json::text(StatusCode::OK, r#"{"status":"ready"}"#),
        Err(error) => error.into_response(),
    }
}
