//! A session's events: as a list, page by page, and as a stream.

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{
    super::{
        Query, app::Draining, dialect::Dialect, error::Error, json, limit::Wanted, on_disk, principal::Principal, sse,
    },
    sessions::named,
};
use crate::{id::SessionId, session::Sessions};

/// How many events a page has, and at the most.
const LIMIT: usize = 1000;

/// A page ends with the event that reaches this size.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
pub(in super::super) struct Wish {
    #[serde(default)]
    limit: Wanted,
    /// The seq of the event before the first.
    #[serde(default)]
    after: Option<String>,
    /// What the page before said; it means the same, but clients are not to know.
    #[serde(default)]
    page: Option<String>,
}

pub(in super::super) async fn list(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Error> {
    let session = named(&id)?;
    let cursor = wish.page.or(wish.after).filter(|cursor| !cursor.is_empty());
    let after = cursor.as_deref().map_or(Ok(0), sse::cursor_of)?;
    let limit = wish.limit.within(LIMIT) as u64;
    let body = on_disk(move || page(&sessions, session, after, limit)).await??;
    Ok(json::text(StatusCode::OK, body))
}

/// The events as they are in the log, which are JSON already.
fn page(sessions: &Sessions, session: SessionId, after: u64, limit: u64) -> Result<String, Error> {
    let mut reader = sse::reader(sessions, session, after)?;
    let mut body = String::from("{\"data\":[");
    let end = after.saturating_add(limit);
    while reader.after() < end && body.len() < PAGE_BYTES {
        let events = reader.next_page(end - reader.after(), PAGE_BYTES - body.len())?;
        if events.is_empty() {
            break;
        }
        for event in events.events() {
            if !body.ends_with('[') {
                body.push(',');
            }
            body.push_str(event.json);
        }
    }
    let (shown, last) = (reader.after(), reader.head().seq);
    let next = if shown < last { format!("\"{shown}\"") } else { "null".to_owned() };
    body.push_str(&format!("],\"next_page\":{next},\"last_seq\":{last}}}"));
    Ok(body)
}

pub(in super::super) async fn stream(
    _: Principal,
    sessions: Sessions,
    State(draining): State<Draining>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(wish): Query<sse::Wish>,
) -> Result<Response, Error> {
    sse::respond(sessions, named(&id)?, &headers, &wish, Dialect::of(&headers), draining).await
}
