//! A session's events as a list, in either order, of some kinds, of some time.
//!
//! The log keeps an event that waited and the same event once it was processed or withdrawn. A list shows it once, in its last
//! form.

use std::{
    collections::HashSet,
    ops::{Bound, RangeBounds},
};

use serde::Deserialize;

use super::{
    super::error::Error,
    page::Cursor,
    parameters::{Parameters, invalid},
};
use crate::{
    clock,
    events::{ReadError, Reader},
    id::MessageId,
};

/// How many events a page has, and at the most.
const LIMIT: usize = 1000;

/// A page ends with the event that reaches this size.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What is read of the log at once.
const CHUNK_EVENTS: u64 = 512;
const CHUNK_BYTES: usize = 1024 * 1024;

/// How many events may come between the host's word of an interrupt and the upstream's own, for a list to show the last alone.
const TOLD_AGAIN_MAX: u64 = 4096;

/// Which events a client wants to see.
pub(super) struct Wish {
    ascending: bool,
    /// The seq of the event before the first; behind it, when the latest come first.
    from: Option<u64>,
    limit: usize,
    kinds: HashSet<String>,
    times: (Bound<u64>, Bound<u64>),
}

impl Wish {
    pub(super) fn of(parameters: &Parameters) -> Result<Self, Error> {
        let ascending = parameters.ascending(true)?;
        let from = match Cursor::of(parameters, ascending)? {
            None => None,
            Some(cursor) => Some(u64::try_from(cursor.key).map_err(|_| invalid("invalid page cursor"))?),
        };
        Ok(Self {
            ascending,
            from,
            limit: parameters.limit(LIMIT, LIMIT)?,
            kinds: parameters.array("types").map(str::to_owned).collect(),
            times: parameters.times("created_at")?,
        })
    }

    fn wants(&self, row: &Row) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&row.kind)) && self.is_in_time(row)
    }

    /// What waits, or was withdrawn, is of the time when it came, where its id tells that; otherwise it is in no time.
    fn is_in_time(&self, row: &Row) -> bool {
        if self.times == (Bound::Unbounded, Bound::Unbounded) {
            return true;
        }
        let Head { id, processed_at, .. } = row.head();
        let came = || Some(id.parse::<MessageId>().ok()?.created_ms().saturating_mul(1000));
        let at = processed_at.and_then(|at| clock::parse_us(&at)).and_then(|us| u64::try_from(us).ok());
        at.or_else(came).is_some_and(|us| self.times.contains(&us))
    }
}

struct Row {
    seq: u64,
    kind: String,
    json: String,
}

#[derive(Deserialize, Default)]
struct Head {
    #[serde(default)]
    id: String,
    #[serde(default)]
    processed_at: Option<String>,
    #[serde(default)]
    upstream_id: Option<String>,
}

impl Row {
    fn head(&self) -> Head {
        // The log has valid events only; what cannot be read has neither id nor time.
        serde_json::from_str(&self.json).unwrap_or_default()
    }

    /// The id of an event that the log may have in another form behind it, and how many events behind it at the most.
    fn comes_again(&self) -> Option<(String, u64)> {
        if !self.is_a_client_s() {
            return None;
        }
        let head = self.head();
        if head.processed_at.is_none() {
            return Some((head.id, u64::MAX));
        }
        // The host has said what became of it, and the upstream's own word may follow.
        let told = self.kind == "user.interrupt" && head.upstream_id.is_none();
        told.then_some((head.id, TOLD_AGAIN_MAX))
    }

    /// Only what clients send has more than one form.
    fn is_a_client_s(&self) -> bool {
        self.kind.starts_with("user.") || self.kind.starts_with("system.")
    }
}

/// The body of a page. `reader` gives a cursor behind any event.
pub(super) fn page(wish: &Wish, reader: impl Fn(u64) -> Result<Reader, Error>) -> Result<String, Error> {
    let (rows, more) = if wish.ascending {
        ascending(wish, &reader)?
    } else {
        let head = reader(0)?.head().seq;
        descending(wish, wish.from.unwrap_or(head + 1).min(head + 1), &reader)?
    };
    let mut body = String::from("{\"data\":[");
    for row in &rows {
        if !body.ends_with('[') {
            body.push(',');
        }
        body.push_str(&row.json);
    }
    let last = rows.last().filter(|_| more);
    let next = last.map(|row| Cursor { ascending: wish.ascending, backwards: false, key: row.seq.into() });
    match next {
        Some(cursor) => body.push_str(&format!("],\"next_page\":\"{cursor}\"}}")),
        None => body.push_str("],\"next_page\":null}"),
    }
    Ok(body)
}

/// The wanted events behind the cursor, and whether there are more.
fn ascending(wish: &Wish, open: &impl Fn(u64) -> Result<Reader, Error>) -> Result<(Vec<Row>, bool), Error> {
    let mut page = Shelf::new(wish, open);
    let mut reader = open(wish.from.unwrap_or_default())?;
    loop {
        let found = next(&mut reader, u64::MAX)?;
        if found.is_empty() {
            return Ok((page.rows, false));
        }
        for row in found {
            if !page.put(row)? {
                return Ok((page.rows, true));
            }
        }
    }
}

/// The wanted events before `end`, the latest first, and whether there are more.
fn descending(
    wish: &Wish,
    mut end: u64,
    open: &impl Fn(u64) -> Result<Reader, Error>,
) -> Result<(Vec<Row>, bool), Error> {
    let (mut page, mut step) = (Shelf::new(wish, open), CHUNK_EVENTS);
    while end > 1 {
        let start = end.saturating_sub(step).max(1);
        let Some(chunk) = stretch(start, end, open)? else {
            step = (step / 2).max(1);
            continue;
        };
        step = (step * 2).min(CHUNK_EVENTS);
        for row in chunk.into_iter().rev() {
            if !page.put(row)? {
                return Ok((page.rows, true));
            }
        }
        end = start;
    }
    Ok((page.rows, false))
}

/// The events from `start` on and before `end`; nothing when they are more than a page and not a single one.
fn stretch(start: u64, end: u64, open: &impl Fn(u64) -> Result<Reader, Error>) -> Result<Option<Vec<Row>>, Error> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut reader = open(start - 1)?;
    loop {
        let found = next(&mut reader, end)?;
        if found.is_empty() {
            return Ok(Some(rows));
        }
        bytes += found.iter().map(|row| row.json.len()).sum::<usize>();
        if bytes > PAGE_BYTES && end - start > 1 {
            return Ok(None);
        }
        rows.extend(found);
    }
}

/// The rows of a page in the making.
struct Shelf<'a, O> {
    wish: &'a Wish,
    open: &'a O,
    rows: Vec<Row>,
    bytes: usize,
}

impl<'a, O: Fn(u64) -> Result<Reader, Error>> Shelf<'a, O> {
    const fn new(wish: &'a Wish, open: &'a O) -> Self {
        Self { wish, open, rows: Vec::new(), bytes: 0 }
    }

    /// Puts an event on the page if it is wanted; false when the page is full.
    fn put(&mut self, row: Row) -> Result<bool, Error> {
        if !self.wish.wants(&row) || is_shown_later(&row, self.open)? {
            return Ok(true);
        }
        if self.rows.len() >= self.wish.limit || self.bytes >= PAGE_BYTES {
            return Ok(false);
        }
        self.bytes += row.json.len();
        self.rows.push(row);
        Ok(true)
    }
}

/// The next events before `end`.
fn next(reader: &mut Reader, end: u64) -> Result<Vec<Row>, ReadError> {
    let left = end.saturating_sub(reader.after() + 1).min(CHUNK_EVENTS);
    if left == 0 {
        return Ok(Vec::new());
    }
    let page = reader.next_page(left, CHUNK_BYTES)?;
    let row = |event: crate::events::Event<'_>| Row {
        seq: event.seq,
        kind: event.kind.to_owned(),
        json: event.json.to_owned(),
    };
    Ok(page.events().map(row).collect())
}

/// True for an event that the log has once more in a later form, processed or withdrawn: mostly a few events later.
fn is_shown_later(row: &Row, open: &impl Fn(u64) -> Result<Reader, Error>) -> Result<bool, Error> {
    let Some((id, most)) = row.comes_again() else { return Ok(false) };
    let (mut reader, end) = (open(row.seq)?, row.seq.saturating_add(1).saturating_add(most));
    loop {
        let found = next(&mut reader, end)?;
        if found.is_empty() {
            return Ok(false);
        }
        for later in found.iter().filter(|later| later.kind == row.kind) {
            if later.head().id == id {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        agents::tests::vault,
        events::{Draft, EventLog},
        id::SessionId,
    };

    #[tokio::test]
    async fn what_has_several_forms_is_listed_in_its_last_one() {
        let (directory, vault) = vault();
        let log = EventLog::create(&directory.path().join("events.redb"), vault.sealer()).unwrap();
        let session = SessionId::fresh();
        let mut draft = Draft::default();
        let mut push = |id: &str, rest: &str| {
            draft.push("user.interrupt", &format!(r#"{{"id":"{id}","type":"user.interrupt",{rest}}}"#));
        };
        push("evt_a", r#""processed_at":null"#);
        push("evt_a", r#""processed_at":"1970-01-01T00:00:01Z""#);
        push("evt_b", r#""processed_at":"1970-01-01T00:00:01Z""#);
        push("evt_a", r#""processed_at":"1970-01-01T00:00:01Z","upstream_id":"sevt_a""#);
        push("evt_c", r#""processed_at":null,"forwarded":false"#);
        log.writer(session, true).unwrap().append(draft, Vec::new(), true).await.unwrap();
        let open = |after: u64| Ok(log.reader(session, true, after).unwrap());
        let rows = next(&mut open(0).unwrap(), u64::MAX).unwrap();
        let later: Vec<_> = rows.iter().map(|row| is_shown_later(row, &open).ok()).collect();
        assert_eq!(later, [true, true, false, false, false].map(Some));
    }

    #[test]
    fn events_of_one_millisecond_are_told_apart_by_their_times() {
        let row = |at: &str| Row { seq: 1, kind: "a".to_owned(), json: format!(r#"{{"processed_at":{at}}}"#) };
        let times = (Bound::Excluded(1_000_250), Bound::Included(1_000_750));
        let wish = Wish { ascending: true, from: None, limit: LIMIT, kinds: HashSet::new(), times };
        for (at, wanted) in [("000250", false), ("000251", true), ("000750", true), ("000751", false)] {
            assert_eq!(wish.wants(&row(&format!("\"1970-01-01T00:00:01.{at}Z\""))), wanted, "{at}");
        }
        assert!(!wish.wants(&row("null")), "what waits is in no time");
    }
}
