//! Pages of lists: which entries, and the cursors to the neighbours.

use std::{collections::BTreeMap, fmt::Display, ops::Bound, str::FromStr};

use crate::{
    api::{error::ApiError, query::Query},
    clock::Moment,
};

/// In which order a list goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// A position between two entries, named by one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cursor<K> {
    After(K),
    Before(K),
}

/// What a client asks of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ask<K> {
    pub(crate) order: Order,
    pub(crate) cursor: Option<Cursor<K>>,
    pub(crate) limit: usize,
}

/// Some entries, in the order asked for.
pub(crate) struct Page<'a, T> {
    pub(crate) items: Vec<&'a T>,
    pub(crate) next: Option<String>,
    pub(crate) prev: Option<String>,
}

/// The service's cap is not documented for every list; this is that of the list of events.
const LIMIT_MAX: usize = 1000;

impl<K: Display + FromStr> Ask<K> {
    /// Reads `limit`, `page` and `order`.
    pub(crate) fn parse(query: &Query, order_default: Order, limit_default: usize) -> Result<Self, ApiError> {
        let order = match query.get("order") {
            None => order_default,
            Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(ApiError::invalid("order: Input should be 'asc' or 'desc'")),
        };
        let limit = query.get("limit").map_or(Ok(limit_default), str::parse);
        let limit = limit.ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        let limit = limit.ok_or_else(|| ApiError::invalid("limit: Input should be between 1 and 1000"))?;
        let cursor = query.get("page").map(|token| parse_token(token, order)).transpose()?;
        Ok(Self { order, cursor, limit })
    }
}

pub(crate) fn token<K: Display>(order: Order, cursor: &Cursor<K>) -> String {
    let order = order.name();
    match cursor {
        Cursor::After(key) => format!("page_{order}_after_{key}"),
        Cursor::Before(key) => format!("page_{order}_before_{key}"),
    }
}

fn parse_token<K: FromStr>(token: &str, order: Order) -> Result<Cursor<K>, ApiError> {
    let invalid = || ApiError::invalid("invalid page cursor");
    let mut parts = token.splitn(4, '_');
    let (Some("page"), Some(of), Some(side), Some(key)) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid());
    };
    let key = key.parse().map_err(|_| invalid())?;
    let cursor = match side {
        "after" => Cursor::After(key),
        "before" => Cursor::Before(key),
        _ => return Err(invalid()),
    };
    if of == order.name() { Ok(cursor) } else { Err(ApiError::invalid("page token order does not match request")) }
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::Ascending => "asc",
            Self::Descending => "desc",
        }
    }
}

/// The page of `entries` that is asked for, of those that `keep` keeps.
pub(crate) fn page<'a, K, T>(entries: &'a BTreeMap<K, T>, ask: &Ask<K>, keep: impl Fn(&T) -> bool) -> Page<'a, T>
where
    K: Ord + Clone + Display,
{
    let forward = !matches!(ask.cursor, Some(Cursor::Before(_)));
    // The walk leads away from the cursor; a backward one is turned round at the end.
    let ascending = (ask.order == Order::Ascending) == forward;
    let bounds = match &ask.cursor {
        None => (Bound::Unbounded, Bound::Unbounded),
        Some(Cursor::After(key) | Cursor::Before(key)) if ascending => (Bound::Excluded(key), Bound::Unbounded),
        Some(Cursor::After(key) | Cursor::Before(key)) => (Bound::Unbounded, Bound::Excluded(key)),
    };
    let range = entries.range((bounds.0.cloned(), bounds.1.cloned())).filter(|(_, entry)| keep(entry));
    let wanted = ask.limit + 1;
    let mut found: Vec<_> = if ascending { range.take(wanted).collect() } else { range.rev().take(wanted).collect() };
    let more = found.len() > ask.limit;
    found.truncate(ask.limit);
    if !forward {
        found.reverse();
    }
    let last = found.last().filter(|_| more || !forward);
    let first = found.first().filter(|_| if forward { ask.cursor.is_some() } else { more });
    Page {
        next: last.map(|(key, _)| token(ask.order, &Cursor::After(key))),
        prev: first.map(|(key, _)| token(ask.order, &Cursor::Before(key))),
        items: found.into_iter().map(|(_, entry)| entry).collect(),
    }
}

/// A range of time, as `created_at[gte]=…` and its sisters give it.
pub(crate) struct TimeRange {
    bounds: Vec<(Holds, Moment)>,
}

/// Whether a time, on the left, keeps to a bound.
type Holds = fn(&Moment, &Moment) -> bool;

impl TimeRange {
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let bounds: [(&str, Holds); 4] = [
            ("created_at[gt]", Moment::gt),
            ("created_at[gte]", Moment::ge),
            ("created_at[lt]", Moment::lt),
            ("created_at[lte]", Moment::le),
        ];
        let asked = bounds.into_iter().filter_map(|(name, holds)| query.get(name).map(|text| (name, holds, text)));
        let bounds = asked.map(|(name, holds, text)| {
            let invalid = || ApiError::invalid(format!("{name}: Input should be a valid datetime"));
            Moment::parse(text).map(|moment| (holds, moment)).ok_or_else(invalid)
        });
        Ok(Self { bounds: bounds.collect::<Result<_, _>>()? })
    }

    /// What has no time is in no range.
    pub(crate) fn holds(&self, at: Option<Moment>) -> bool {
        self.bounds.iter().all(|(holds, bound)| at.is_some_and(|at| holds(&at, bound)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn ask(query: &str) -> Result<Ask<u32>, ApiError> {
        Ask::parse(&Query::parse(Some(query)), Order::Descending, 3)
    }

    #[test]
    fn pages_lead_to_the_end_and_back() {
        let entries: BTreeMap<u32, u32> = (1..=7).map(|n| (n, n)).collect();
        let mut seen = Vec::new();
        let mut asked = ask("").unwrap();
        let last = loop {
            let page = page(&entries, &asked, |n| *n != 4);
            seen.push(page.items.iter().map(|n| **n).collect::<Vec<_>>());
            match &page.next {
                Some(next) => asked = ask(&format!("page={next}")).unwrap(),
                None => break page,
            }
        };
        assert_eq!(seen, [vec![7, 6, 5], vec![3, 2, 1]]);
        let back = page(&entries, &ask(&format!("page={}", last.prev.unwrap())).unwrap(), |n| *n != 4);
        assert_eq!(back.items, [&7, &6, &5]);
        assert_eq!((back.next.as_deref(), back.prev), (Some("page_desc_after_5"), None));
    }

    #[test]
    fn a_wrong_cursor_says_what_is_wrong() {
        let why = |query| ask(query).unwrap_err().to_string();
        assert_eq!(why("page=page_asc_after_3"), "page token order does not match request");
        for bad in ["page=x", "page=page_desc_beside_3", "page=page_desc_after_x"] {
            assert_eq!(why(bad), "invalid page cursor");
        }
        assert_eq!(why("limit=0"), "limit: Input should be between 1 and 1000");
    }

    #[test]
    fn a_range_excludes_what_has_no_time() {
        let range = TimeRange::parse(&Query::parse(Some("created_at%5Bgte%5D=2026-01-01T00:00:00Z"))).unwrap();
        assert!(range.holds(Moment::parse("2026-01-01T00:00:00Z")));
        assert!(!range.holds(Moment::parse("2025-12-31T23:59:59Z")) && !range.holds(None));
        assert!(TimeRange { bounds: Vec::new() }.holds(None));
    }
}
