//! A backup of everything, while the host runs.

use std::io::Read;

use axum::{body::Body, extract::State, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, header};

use super::super::{error::Error, on_disk, principal::Principal};
use crate::backup::{Backups, Cancel, Spooled};

/// What is read and sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The answer begins when the backup is whole: what is refused has a status, and what is sent a length.
pub(in super::super) async fn get(_: Principal, State(backups): State<Backups>) -> Result<Response, Error> {
    // Dropped with this future, when the client leaves.
    let waits = Cancel::default();
    let spooled = on_disk(backups.spooling(&waits)).await??;
    let length = HeaderValue::from(spooled.length());
    let mut response = Response::new(Body::from_stream(stream::try_unfold(spooled, next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(response)
}

/// The next piece. An error breaks the connection off, so that the client does not take it for the end.
async fn next(mut spooled: Spooled) -> Result<Option<(Bytes, Spooled)>, Box<dyn std::error::Error + Send + Sync>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
        let length = spooled.read(&mut chunk)?;
        chunk.truncate(length);
        Ok::<_, std::io::Error>((chunk.freeze(), spooled))
    });
    let (chunk, spooled) = read.await??;
    Ok((!chunk.is_empty()).then_some((chunk, spooled)))
}
