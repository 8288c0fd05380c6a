//! Sessions that are over or gone here and may go on upstream.

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::{Query, error::Error, json, limit::Wanted, on_disk, principal::Principal};
use crate::{
    access::OwnerId,
    clock,
    id::{RuntimeId, SessionId},
    session::{Orphan, Sessions},
};

/// How many orphans a page has, and at the most.
const LIMIT: usize = 100;

/// An orphan as clients see it. What is not known is absent. Times are RFC 3339.
#[derive(Serialize)]
struct Item<'a> {
    id: SessionId,
    title: &'a str,
    owner_id: &'a OwnerId,
    runtime: &'a RuntimeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_session_id: Option<&'a str>,
    /// Why it could not be ended upstream, the last time.
    reason: &'a str,
    since: String,
    tried_at: String,
    next_try_at: String,
}

impl<'a> From<&'a Orphan> for Item<'a> {
    fn from(orphan: &'a Orphan) -> Self {
        let session = &orphan.session;
        Self {
            id: session.id,
            title: &session.title,
            owner_id: &session.owner,
            runtime: &session.runtime,
            provider_session_id: session.upstream_id.as_deref(),
            reason: &orphan.reason,
            since: clock::rfc3339_of(orphan.since_ms),
            tried_at: clock::rfc3339_of(orphan.tried_ms),
            next_try_at: clock::rfc3339_of(orphan.next_try_ms()),
        }
    }
}

#[derive(Deserialize)]
pub(in super::super) struct Wish {
    #[serde(default)]
    limit: Wanted,
    /// As in `x-next-page`.
    #[serde(default)]
    after: Option<String>,
}

/// The one that was made first comes first. A list that goes on names what it goes on behind in `x-next-page`.
pub(in super::super) async fn list(
    _: Principal,
    sessions: Sessions,
    Query(wish): Query<Wish>,
) -> Result<Response, Error> {
    let after = wish.after.as_deref().map(str::parse).transpose().map_err(|_| {
        let message = "`after` must be the id of a session, as in `x-next-page`";
        Error::new(StatusCode::BAD_REQUEST, "cursor_invalid", message)
    })?;
    let limit = wish.limit.within(LIMIT);
    on_disk(move || {
        let page = sessions.orphans(after, limit)?;
        let mut response = json::json(StatusCode::OK, &page.found.iter().map(Item::from).collect::<Vec<_>>());
        if let Some(next) = page.next.and_then(|next| HeaderValue::from_str(&next.to_string()).ok()) {
            response.headers_mut().insert("x-next-page", next);
        }
        Ok(response)
    })
    .await?
}

/// Takes one off the list: nobody tries to end it any more.
pub(in super::super) async fn forget(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let not_found = || Error::new(StatusCode::NOT_FOUND, "orphan_not_found", "no such session is on the list");
    let id = id.parse().map_err(|_| not_found())?;
    if sessions.forget_orphan(id).await? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(not_found()) }
}
