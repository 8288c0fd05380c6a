//! A session's events as a list, in either order, of some kinds, of some time.
//!
//! The log keeps an event that waited and the same event once it was processed. A list shows it once, in its last form.

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
};

/// How many events a page has, and at the most.
const LIMIT: usize = 1000;

/// A page ends with the event that reaches this size.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What is read of the log at once.
const CHUNK_EVENTS: u64 = 512;
const CHUNK_BYTES: usize = 1024 * 1024;

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

    /// What waits still has no time, and is not in any.
    fn is_in_time(&self, row: &Row) -> bool {
        if self.times == (Bound::Unbounded, Bound::Unbounded) {
            return true;
        }
        let at = row.head().processed_at.and_then(|at| clock::parse_us(&at));
        at.and_then(|us| u64::try_from(us / 1000).ok()).is_some_and(|ms| self.times.contains(&ms))
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
}

impl Row {
    fn head(&self) -> Head {
        // The log has valid events only; what cannot be read has neither id nor time.
        serde_json::from_str(&self.json).unwrap_or_default()
    }

    /// The id of an event that waits.
    fn waiting(&self) -> Option<String> {
        self.may_wait().then(|| self.head()).filter(|head| head.processed_at.is_none()).map(|head| head.id)
    }

    /// Only what clients send may.
    fn may_wait(&self) -> bool {
        self.kind.starts_with("user.") || self.kind.starts_with("system.")
    }
}

/// The body of a page. `reader` gives a cursor behind any event.
pub(super) fn page(wish: &Wish, reader: impl Fn(u64) -> Result<Reader, Error>) -> Result<String, Error> {
    let (mut rows, more) = if wish.ascending {
        ascending(wish, reader(wish.from.unwrap_or_default())?)?
    } else {
        let head = reader(0)?.head().seq;
        descending(wish, wish.from.unwrap_or(head + 1).min(head + 1), &reader)?
    };
    let last = rows.last().map(|row| row.seq);
    let oldest = rows.iter().map(|row| row.seq).min();
    let mut waiting: HashSet<String> = rows.iter().filter_map(Row::waiting).collect();
    if let Some(oldest) = oldest.filter(|_| !waiting.is_empty()) {
        let processed = processed(&mut waiting, reader(oldest)?)?;
        rows.retain(|row| row.waiting().is_none_or(|id| !processed.contains(&id)));
    }
    let mut body = String::from("{\"data\":[");
    for row in &rows {
        if !body.ends_with('[') {
            body.push(',');
        }
        body.push_str(&row.json);
    }
    let next = last.filter(|_| more).map(|seq| Cursor { ascending: wish.ascending, backwards: false, key: seq.into() });
    match next {
        Some(cursor) => body.push_str(&format!("],\"next_page\":\"{cursor}\"}}")),
        None => body.push_str("],\"next_page\":null}"),
    }
    Ok(body)
}

/// The wanted events behind the cursor, and whether there are more.
fn ascending(wish: &Wish, mut reader: Reader) -> Result<(Vec<Row>, bool), Error> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let found = next(&mut reader, u64::MAX)?;
        if found.is_empty() {
            return Ok((rows, false));
        }
        for row in found.into_iter().filter(|row| wish.wants(row)) {
            if rows.len() >= wish.limit || bytes >= PAGE_BYTES {
                return Ok((rows, true));
            }
            bytes += row.json.len();
            rows.push(row);
        }
    }
}

/// The wanted events before `end`, the latest first, and whether there are more.
fn descending(
    wish: &Wish,
    mut end: u64,
    reader: &impl Fn(u64) -> Result<Reader, Error>,
) -> Result<(Vec<Row>, bool), Error> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while end > 1 {
        let start = end.saturating_sub(CHUNK_EVENTS).max(1);
        let mut chunk = Vec::new();
        let mut reader = reader(start - 1)?;
        loop {
            let found = next(&mut reader, end)?;
            if found.is_empty() {
                break;
            }
            chunk.extend(found.into_iter().filter(|row| wish.wants(row)));
        }
        for row in chunk.into_iter().rev() {
            if rows.len() >= wish.limit || bytes >= PAGE_BYTES {
                return Ok((rows, true));
            }
            bytes += row.json.len();
            rows.push(row);
        }
        end = start;
    }
    Ok((rows, false))
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

/// Those of the `waiting` events that were processed later.
fn processed(waiting: &mut HashSet<String>, mut reader: Reader) -> Result<HashSet<String>, ReadError> {
    let mut processed = HashSet::new();
    while !waiting.is_empty() {
        let found = next(&mut reader, u64::MAX)?;
        if found.is_empty() {
            break;
        }
        for row in found.iter().filter(|row| row.may_wait()) {
            let Head { id, processed_at } = row.head();
            if processed_at.is_some() && waiting.remove(&id) {
                processed.insert(id);
            }
        }
    }
    Ok(processed)
}
