//! An upstream's answer, without what is nobody's business: cookies, hop-by-hop headers, the credential.

use std::{collections::HashSet, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{scrub::Scrubber, sse::text};
use crate::clock;

/// The longest wait that an upstream can ask for, in seconds: its milliseconds fit into 32 bits. Seven weeks are as good
/// as anything longer.
const RETRY_AFTER_SECONDS_MAX: u64 = u32::MAX as u64 / 1000;

/// A whole answer. Any status is one, redirects too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, in the order of their first appearance. No cookies, no hop-by-hop headers.
    pub headers: Vec<(String, String)>,
    /// As it came, not decompressed. Bytes that are not UTF-8 are replaced.
    pub body: String,
}

const DROPPED: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Response {
    pub(super) fn new(status: http::StatusCode, headers: &HeaderMap, body: Vec<u8>, scrubber: &Scrubber) -> Self {
        let mut body = text(body);
        scrubber.scrub_in_place(&mut body);
        Self { status: status.as_u16(), headers: shown(headers, scrubber), body }
    }

    /// How long the upstream asks to wait before the next try, if it does.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let number = |wanted: &str| {
            let (_, value) = self.headers.iter().find(|(name, _)| name == wanted)?;
            value.trim().parse().ok()
        };
        number("retry-after-ms").map(Duration::from_millis).or_else(|| number("retry-after").map(Duration::from_secs))
    }
}

/// The headers that concern whoever reads the answer.
pub(super) fn shown(headers: &HeaderMap, scrubber: &Scrubber) -> Vec<(String, String)> {
    // `Connection` may name further headers that end at this hop.
    let named: HashSet<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let keep = |name: &str| !DROPPED.contains(&name) && !named.contains(name) && !scrubber.contains(name);
    headers
        .iter()
        .filter(|(name, _)| keep(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), shown_value(name, value, scrubber)))
        .collect()
}

fn shown_value(name: &HeaderName, value: &HeaderValue, scrubber: &Scrubber) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    match (name, wait(&text)) {
        (&header::RETRY_AFTER, Some(seconds)) => seconds.to_string(),
        _ => scrubber.scrub(&text).into_owned(),
    }
}

/// What `Retry-After` says, in seconds. It may be a date instead, which a guest has no clock for; and a number may be
/// larger than any that its readers can hold.
fn wait(value: &str) -> Option<u64> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if is_number { Some(value.parse().unwrap_or(u64::MAX)) } else { clock::seconds_until(value) };
    seconds.map(|seconds| seconds.min(RETRY_AFTER_SECONDS_MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn however_an_upstream_asks_to_wait_it_is_a_number_of_seconds() {
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(RETRY_AFTER_SECONDS_MAX)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("Fri, 31 Dec 2100 23:59:59 GMT", Some(RETRY_AFTER_SECONDS_MAX)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(value), seconds, "{value:?}");
        }
    }

    #[test]
    fn a_wait_in_milliseconds_is_the_more_exact_one() {
        let asked = |pairs: &[(&str, &str)]| {
            let headers = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            Response { status: 429, headers, body: String::new() }.retry_after()
        };
        assert_eq!(asked(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(asked(&[("retry-after", "3"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(asked(&[("retry-after", "soon")]), None);
        assert_eq!(asked(&[]), None);
    }
}
