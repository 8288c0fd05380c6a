//! An upstream's answer, without what is nobody's business: cookies, hop-by-hop headers, the credential.

use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, header};

use super::{scrub::Scrubber, sse::text};

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
        .map(|(name, value)| (name.as_str().to_owned(), shown_value(value, scrubber)))
        .collect()
}

fn shown_value(value: &HeaderValue, scrubber: &Scrubber) -> String {
    scrubber.scrub(&String::from_utf8_lossy(value.as_bytes())).into_owned()
}
