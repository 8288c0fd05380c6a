//! The list of sessions: which of them a client wants to see, page by page.

use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use super::item::Item;
use crate::{
    access::Stretch,
    events::{ReadError, Span},
    http::{Query, error::Error, json, limit::Wanted, on_disk, principal::Principal},
    id::{AgentId, SessionId},
    session::{Session, Sessions, Status},
};

/// How many sessions a page has, and at the most.
const LIMIT: usize = 1000;

/// How many are looked at for one page, so that a filter that leaves all of them out costs one request no more than this.
const SCAN: usize = 8192;

/// How many are read at once.
const CHUNK: usize = 256;

/// Which sessions a client wants to see, as it says it.
#[derive(Deserialize)]
pub(in crate::http) struct Wish {
    #[serde(default)]
    limit: Wanted,
    /// The last session of the page before, as in `x-next-page`.
    #[serde(default)]
    after: Option<String>,
    /// One status, or several with commas between them.
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    runtime: Option<String>,
    /// Part of the title or of the id, in either case.
    #[serde(default)]
    q: Option<String>,
}

/// Which sessions are in the list.
struct Filter {
    /// Any where this is empty.
    statuses: Vec<Status>,
    agent: Option<AgentId>,
    runtime: Option<String>,
    /// In lower case.
    part: Option<String>,
    /// True when it names something that no session can have.
    nothing: bool,
}

impl Filter {
    fn of(wish: Wish) -> Result<Self, Error> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let statuses = given(wish.status).unwrap_or_default();
        let statuses = statuses.split(',').filter(|status| !status.is_empty()).map(status).collect::<Result<_, _>>()?;
        let agent = given(wish.agent).map(|id| id.parse::<AgentId>());
        Ok(Self {
            statuses,
            nothing: matches!(agent, Some(Err(_))),
            agent: agent.and_then(Result::ok),
            runtime: given(wish.runtime),
            part: given(wish.q).map(|part| part.to_lowercase()),
        })
    }

    /// The one place that decides whether a session is in the list.
    fn wants(&self, session: &Session) -> bool {
        let has = |part: &String| {
            session.title.to_lowercase().contains(part.as_str()) || session.id.to_string().contains(part.as_str())
        };
        !self.nothing
            && (self.statuses.is_empty() || self.statuses.contains(&session.status()))
            && self.agent.is_none_or(|agent| agent == session.agent)
            && self.runtime.as_deref().is_none_or(|runtime| runtime == session.runtime.as_str())
            && self.part.as_ref().is_none_or(has)
    }
}

fn status(name: &str) -> Result<Status, Error> {
    Status::ALL.into_iter().find(|status| status.as_str() == name).ok_or_else(|| {
        let known = Status::ALL.map(Status::as_str).join(", ");
        let message = format!("the query of the URL: `status` must be of {known}, with commas between several");
        Error::new(StatusCode::BAD_REQUEST, "query_invalid", message)
    })
}

/// Some of the sessions that were looked for.
struct Page {
    sessions: Vec<Session>,
    /// Behind which one to go on, where there are more to look at.
    next: Option<SessionId>,
}

/// The latest first, from the one made before `before`: at most `limit`, of at most `scan` that are looked at.
fn page(
    read: impl Fn(Span, usize) -> Result<Stretch<Session, SessionId>, ReadError>,
    filter: &Filter,
    before: Option<SessionId>,
    limit: usize,
    scan: usize,
) -> Result<Page, ReadError> {
    let (mut found, mut place) = (Vec::new(), before);
    let mut left = scan;
    while left > 0 {
        let asked = left.min(CHUNK);
        let chunk = read(Span::Before(place), asked)?;
        left -= asked;
        for session in chunk.found {
            let wanted = filter.wants(&session);
            // One more tells that there are more.
            if wanted && found.len() == limit {
                return Ok(Page { sessions: found, next: place });
            }
            place = Some(session.id);
            if wanted {
                found.push(session);
            }
        }
        place = chunk.next;
        if place.is_none() {
            return Ok(Page { sessions: found, next: None });
        }
    }
    Ok(Page { sessions: found, next: place })
}

/// The latest first. A list that goes on names the session that it goes on behind in `x-next-page`.
pub(in crate::http) async fn list(
    _: Principal,
    sessions: Sessions,
    Query(wish): Query<Wish>,
) -> Result<Response, Error> {
    let limit = wish.limit.within(LIMIT);
    let before = wish.after.as_deref().map(str::parse).transpose().map_err(|_| {
        Error::new(
            StatusCode::BAD_REQUEST,
            "cursor_invalid",
            "`after` must be the id of a session, as in `x-next-page`",
        )
    })?;
    let filter = Filter::of(wish)?;
    on_disk(move || {
        let page = page(|span, limit| sessions.list(span, limit), &filter, before, limit, SCAN)?;
        let mut response = json::json(StatusCode::OK, &page.sessions.iter().map(Item::from).collect::<Vec<_>>());
        if let Some(next) = page.next.and_then(|next| HeaderValue::from_str(&next.to_string()).ok()) {
            response.headers_mut().insert("x-next-page", next);
        }
        Ok(response)
    })
    .await?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(number: u8, title: &str) -> Session {
        let record = json!({
            "id": SessionId::from_bytes([number; 16]), "title": title, "agent": AgentId::fresh(), "runtime": "one",
            "provision": crate::id::ProvisionId::fresh(), "upstream_id": null, "environment": {}, "created_ms": 1,
            "updated_ms": 1, "base": "", "state": {}, "guest": "", "version": 1,
        });
        serde_json::from_value(record).unwrap()
    }

    /// The first byte of each id, and of the one that the next page begins behind.
    fn numbers(page: &Page) -> (Vec<u8>, Option<u8>) {
        let first = |id: SessionId| id.to_bytes()[0];
        (page.sessions.iter().map(|session| first(session.id)).collect(), page.next.map(first))
    }

    #[test]
    fn a_page_ends_where_it_is_full_or_enough_was_looked_at() {
        let all: Vec<_> = (1..=9).map(|number| session(number, if number == 2 { "a Needle" } else { "hay" })).collect();
        let read = |span, limit| {
            let Span::Before(before) = span else { return Err(ReadError::Damaged { session: all[0].id }) };
            let earlier = all.iter().rev().filter(|session| before.is_none_or(|before| session.id < before));
            let earlier = earlier.take(limit).cloned().collect();
            Ok(Stretch::of(earlier, limit, |session: &Session| session.id, |_| true))
        };
        let wish = |q: &str| Wish {
            limit: Wanted::default(),
            after: None,
            status: None,
            agent: None,
            runtime: None,
            q: Some(q.to_owned()),
        };
        let page = |q: &str, before: Option<u8>, limit, scan| {
            let before = before.map(|number| SessionId::from_bytes([number; 16]));
            numbers(&page(read, &Filter::of(wish(q)).unwrap(), before, limit, scan).unwrap())
        };
        assert_eq!(page("", None, 4, 100), (vec![9, 8, 7, 6], Some(6)));
        assert_eq!(page("", Some(6), 5, 100), (vec![5, 4, 3, 2, 1], None));
        assert_eq!(page("needle", None, 4, 100), (vec![2], None));
        assert_eq!(page("needle", None, 4, 3), (vec![], Some(7)), "what was looked at is not looked at again");
        assert_eq!(page("needle", Some(7), 4, 3), (vec![], Some(4)));
        assert_eq!(page("needle", Some(4), 4, 3), (vec![2], Some(1)));
        assert_eq!(page("needle", Some(1), 4, 3), (vec![], None));
        assert_eq!(page("hay", Some(4), 1, 100), (vec![3], Some(2)));
    }
}
