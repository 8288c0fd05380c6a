//! The query of a URL as the official SDKs write it: arrays as `name[]=a&name[]=b`, ranges as `name[gte]=…`.

use std::ops::Bound;

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

use super::super::error::Error;
use crate::clock;

/// The parameters of a request. What nobody asks for is ignored, as `beta=true` of the older SDKs has to be.
pub(in super::super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        pairs.map(|pairs| Self(pairs.0)).map_err(|rejection| invalid(&rejection.body_text()))
    }
}

/// What is wrong with a parameter.
pub(in super::super) fn invalid(message: &str) -> Error {
    Error::new(StatusCode::BAD_REQUEST, "query_invalid", message)
}

impl Parameters {
    /// All of them, in their order.
    pub(in super::super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// A parameter that is there once; an empty one is as good as none.
    pub(in super::super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().rev().find(|(known, _)| known == name);
        value.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The elements of an array.
    pub(in super::super) fn array<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is = move |known: &str| known == name || known.strip_suffix("[]") == Some(name);
        self.0.iter().filter(move |(known, _)| is(known)).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// When it is neither `true` nor `false`.
    pub(in super::super) fn flag(&self, name: &str) -> Result<bool, Error> {
        self.parsed(name, "true or false").map(Option::unwrap_or_default)
    }

    /// # Errors
    /// When it is not such a number.
    pub(in super::super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        self.parsed(name, "a whole number")
    }

    /// How many a page shall have.
    ///
    /// # Errors
    /// When it is no number from 1 to `most`.
    pub(in super::super) fn limit(&self, default: usize, most: usize) -> Result<usize, Error> {
        match self.number("limit")? {
            None => Ok(default),
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| invalid(&format!("limit: must be a number from 1 to {most}"))),
        }
    }

    /// Whether the first made come first; `default` when the client does not say.
    ///
    /// # Errors
    /// When it is neither `asc` nor `desc`.
    pub(in super::super) fn ascending(&self, default: bool) -> Result<bool, Error> {
        match self.text("order") {
            None => Ok(default),
            Some("asc") => Ok(true),
            Some("desc") => Ok(false),
            Some(_) => Err(invalid("order: must be `asc` or `desc`")),
        }
    }

    /// A range of times, in microseconds since the epoch: what happened right behind another thing is told apart from it.
    ///
    /// # Errors
    /// When one of its ends is no time.
    pub(in super::super) fn times(&self, name: &str) -> Result<(Bound<u64>, Bound<u64>), Error> {
        let end = |end: &str| {
            let name = format!("{name}[{end}]");
            let Some(text) = self.text(&name) else { return Ok(None) };
            // What was before the epoch was before everything here.
            let time = clock::parse_us(text).map(|us| u64::try_from(us).unwrap_or_default());
            time.map(Some).ok_or_else(|| invalid(&format!("{name}: must be a time such as 2026-11-23T10:00:00Z")))
        };
        let start = end("gte")?.map(Bound::Included).or(end("gt")?.map(Bound::Excluded));
        let stop = end("lte")?.map(Bound::Included).or(end("lt")?.map(Bound::Excluded));
        Ok((start.unwrap_or(Bound::Unbounded), stop.unwrap_or(Bound::Unbounded)))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(&format!("{name}: must be {wanted}")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::Request;

    use super::*;

    async fn parameters(query: &str) -> Parameters {
        let (mut parts, ()) = Request::get(format!("/x?{query}")).body(()).unwrap().into_parts();
        Parameters::from_request_parts(&mut parts, &()).await.ok().unwrap()
    }

    #[tokio::test]
    async fn parameters_are_read_as_the_sdks_write_them() {
        let query = "beta=true&statuses%5B%5D=idle&statuses[]=running&limit=7&include_archived=true&order=asc&page=";
        let given = parameters(query).await;
        assert_eq!(given.array("statuses").collect::<Vec<_>>(), ["idle", "running"]);
        assert_eq!((given.limit(20, 100).unwrap(), given.flag("include_archived").unwrap()), (7, true));
        assert_eq!((given.ascending(false).unwrap(), given.text("page")), (true, None));
        let none = parameters("").await;
        assert_eq!((none.limit(20, 100).unwrap(), none.flag("include_archived").unwrap()), (20, false));
    }

    #[tokio::test]
    async fn a_range_of_times_has_ends_that_count_and_ends_that_do_not() {
        let given =
            parameters("created_at%5Bgte%5D=1970-01-01T00:00:01Z&created_at[lt]=1970-01-01T01:00:02%2B01:00").await;
        assert_eq!(given.times("created_at").unwrap(), (Bound::Included(1_000_000), Bound::Excluded(2_000_000)));
        assert_eq!(parameters("").await.times("created_at").unwrap(), (Bound::Unbounded, Bound::Unbounded));
    }

    #[tokio::test]
    async fn nonsense_is_refused_by_name() {
        for (query, name) in [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order")]
        {
            let given = parameters(query).await;
            let error = given.limit(20, 100).and(given.ascending(true)).unwrap_err();
            assert!(error.message.starts_with(name) && error.status == 400, "{query}: {}", error.message);
        }
        assert!(parameters("created_at[gt]=yesterday").await.times("created_at").is_err());
        assert!(parameters("flag=1").await.flag("flag").is_err());
    }
}
