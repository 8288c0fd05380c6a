//! Pages of lists, and the cursors that lead from one to the next.

use std::{fmt, str::FromStr};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::{
    super::{error::Error, json},
    parameters::{Parameters, invalid},
};
use crate::access::Stretch;

/// A page as clients see it.
#[derive(Serialize)]
pub(in super::super) struct Page<T> {
    pub(in super::super) data: Vec<T>,
    /// Null at the end.
    pub(in super::super) next_page: Option<Cursor>,
}

/// The answer with a page of what was found.
pub(in super::super) fn answer<'a, T, K: Copy, I: Serialize>(
    page: &'a Stretch<T, K>,
    key: impl Fn(K) -> u128,
    item: impl Fn(&'a T) -> I,
) -> Response {
    let next_page = page.next.map(|next| Cursor { ascending: false, backwards: false, key: key(next) });
    json::json(StatusCode::OK, &Page { data: page.found.iter().map(item).collect::<Vec<_>>(), next_page })
}

/// How many rows are read at once where a filter may leave most of them out.
const CHUNK: usize = 256;

/// How many are read at most for one page: where somebody sees few of many, a page is short and has another one behind it.
pub(in super::super) const SCAN: usize = 8192;

/// Reads on from a place until `limit` wanted rows were found and there are more, or [`SCAN`] were looked at.
pub(in super::super) fn collect<T, K: Copy, E>(
    mut place: Option<K>,
    limit: usize,
    read: impl Fn(Option<K>, usize) -> Result<Stretch<T, K>, E>,
    key: impl Fn(&T) -> K,
    wanted: impl Fn(&T) -> bool,
) -> Result<Stretch<T, K>, E> {
    let mut found = Vec::new();
    for _ in 0..SCAN / CHUNK {
        let chunk = read(place, CHUNK)?;
        for row in chunk.found.into_iter().filter(&wanted) {
            if found.len() == limit {
                return Ok(Stretch { next: found.last().map(key), found });
            }
            found.push(row);
        }
        place = chunk.next;
        if place.is_none() {
            break;
        }
    }
    Ok(Stretch { found, next: place })
}

/// A place in a list, which clients take for a mere word: the object that the page begins behind, and in which order the
/// list was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Cursor {
    pub(in super::super) ascending: bool,
    /// True when the page ends before the object instead, as the previous one does.
    pub(in super::super) backwards: bool,
    pub(in super::super) key: u128,
}

impl Cursor {
    /// The cursor of a request, if it has one.
    ///
    /// # Errors
    /// When it is none, or belongs to a list in the other order.
    pub(in super::super) fn of(parameters: &Parameters, ascending: bool) -> Result<Option<Self>, Error> {
        let Some(text) = parameters.text("page") else { return Ok(None) };
        let cursor: Self = text.parse().map_err(|Invalid| invalid("invalid page cursor"))?;
        if cursor.ascending != ascending {
            return Err(invalid("page token order does not match request"));
        }
        Ok(Some(cursor))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.ascending { 'a' } else { 'd' };
        let direction = if self.backwards { 'p' } else { 'n' };
        write!(f, "page_{order}{direction}{:032x}", self.key)
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A word that is no cursor.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Invalid;

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rest = text.strip_prefix("page_").ok_or(Invalid)?;
        let (order, rest) = rest.split_at_checked(1).ok_or(Invalid)?;
        let (direction, key) = rest.split_at_checked(1).ok_or(Invalid)?;
        let ascending = match order {
            "a" => true,
            "d" => false,
            _ => return Err(Invalid),
        };
        let backwards = match direction {
            "p" => true,
            "n" => false,
            _ => return Err(Invalid),
        };
        let hex = key.len() == 32 && key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let key = u128::from_str_radix(key, 16).ok().filter(|_| hex).ok_or(Invalid)?;
        Ok(Self { ascending, backwards, key })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Reads numbers of a row from 1 to `end`, of which even ones are seen.
    fn pages(end: usize, limit: usize) -> Vec<Vec<usize>> {
        let read = |after: Option<usize>, most: usize| {
            let first = after.unwrap_or(0) + 1;
            let row = (first..=end).take(most).collect();
            Ok::<_, ()>(Stretch::of(row, most, |number| *number, |number| number % 2 == 0))
        };
        let (mut pages, mut place) = (Vec::new(), None);
        loop {
            let page = collect(place, limit, read, |number| *number, |number| number % 3 == 0).unwrap();
            pages.push(page.found);
            place = page.next;
            if place.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_together_have_everything_once_and_no_request_reads_without_end() {
        for (end, limit) in [(0, 2), (5, 2), (24, 2), (25, 4), (2 * SCAN + 7, 1000), (3 * SCAN, 5000)] {
            let pages = pages(end, limit);
            let expected: Vec<_> = (1..=end).filter(|number| number % 6 == 0).collect();
            assert_eq!(pages.concat(), expected, "{end} by {limit}");
            assert!(pages.iter().all(|page| page.len() <= limit.min(SCAN / 6 + 1)));
        }
        assert_eq!(pages(24, 2), [vec![6, 12], vec![18, 24]]);
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for (ascending, backwards) in [(true, false), (false, true)] {
            let cursor = Cursor { ascending, backwards, key: u128::MAX - 7 };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let good = Cursor { ascending: true, backwards: false, key: 7 }.to_string();
        for bad in ["", "page_", "page_a", "x", &good[..38], &good.to_uppercase(), &good.replace('n', "x"), "page_ä"] {
            assert_eq!(bad.parse::<Cursor>(), Err(Invalid), "{bad}");
        }
    }
}
