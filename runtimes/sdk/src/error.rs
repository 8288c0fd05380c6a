//! From what went wrong to the contract's error.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, ErrorKind, Response, SendError};

/// The host cuts messages at this many characters; more need not cross the border.
const MESSAGE_CHARS_MAX: usize = 500;

impl Error {
    /// An error that no answer of the upstream stands behind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after_ms: None, status: None }
    }

    /// What an answer means whose status is not of the 200s. The message is the upstream's own where it sent one.
    #[must_use]
    pub fn of_response(response: &Response) -> Self {
        let message = told(&response.body).map_or_else(
            || format!("the upstream answered with status {}", response.status),
            |message| message.chars().take(MESSAGE_CHARS_MAX).collect(),
        );
        Self {
            kind: kind(response.status),
            message,
            retry_after_ms: retry_after_ms(response),
            status: Some(response.status),
        }
    }

    /// An answer whose status says success and which is none. Whether the upstream has done what it was asked is open: the
    /// host looks.
    #[must_use]
    pub fn not_understood(response: &Response, why: impl std::fmt::Display) -> Self {
        let message = format!("the upstream's answer cannot be understood: {why}");
        Self { status: Some(response.status), ..Self::new(ErrorKind::Upstream, message) }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            // The runtime asked for what it may not: its own fault, not the client's.
            SendError::Refused(reason) => Self::new(ErrorKind::Internal, reason),
            SendError::Unreachable(reason) | SendError::Interrupted(reason) => Self::new(ErrorKind::Upstream, reason),
            SendError::TooLarge => Self::new(ErrorKind::Upstream, "the upstream's answer is too large"),
        }
    }
}

fn kind(status: u32) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::Quota,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        409 => ErrorKind::Conflict,
        410 => ErrorKind::Gone,
        429 => ErrorKind::Throttled,
        503 | 529 => ErrorKind::Overloaded,
        // 408 is the server's lost patience, and no fault of the request.
        400..=407 | 411..=499 => ErrorKind::BadRequest,
        _ => ErrorKind::Upstream,
    }
}

/// Dates are left out: a runtime has no clock to compare them with.
fn retry_after_ms(response: &Response) -> Option<u32> {
    let number = |name| response.header(name)?.trim().parse::<u32>().ok();
    number("retry-after-ms").or_else(|| Some(number("retry-after")?.saturating_mul(1000)))
}

/// The sentence in an error body, in the forms that servers use: `{"error":{"message":…}}`, `{"error":…}`,
/// `{"message":…}`, `{"detail":…}`.
fn told(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow, alias = "message", alias = "detail")]
        error: Option<&'a RawValue>,
    }
    let told = serde_json::from_str::<Told<'_>>(body).ok()?.error?.get();
    serde_json::from_str::<String>(told).ok().or_else(|| self::told(told))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::Header;

    fn response(status: u32, headers: &[(&str, &str)], body: &str) -> Response {
        let header = |&(name, value): &(&str, &str)| Header { name: name.to_owned(), value: value.to_owned() };
        Response { status, headers: headers.iter().map(header).collect(), body: body.to_owned() }
    }

    #[test]
    fn each_status_has_its_kind() {
        for (status, kind) in [
            (302, ErrorKind::Upstream),
            (400, ErrorKind::BadRequest),
            (401, ErrorKind::Auth),
            (402, ErrorKind::Quota),
            (403, ErrorKind::Auth),
            (404, ErrorKind::NotFound),
            (405, ErrorKind::Unsupported),
            (408, ErrorKind::Upstream),
            (409, ErrorKind::Conflict),
            (410, ErrorKind::Gone),
            (413, ErrorKind::BadRequest),
            (422, ErrorKind::BadRequest),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Upstream),
            (501, ErrorKind::Unsupported),
            (502, ErrorKind::Upstream),
            (503, ErrorKind::Overloaded),
            (529, ErrorKind::Overloaded),
        ] {
            let error = response(status, &[], "").success().unwrap_err();
            assert_eq!((error.kind, error.status), (kind, Some(status)));
        }
    }

    #[test]
    fn the_message_is_the_upstreams_own() {
        for (body, message) in [
            (r#"{"type":"error","error":{"type":"api_error","message":"out of order"}}"#, "out of order"),
            (r#"{"error":"out of order"}"#, "out of order"),
            (r#"{"message":"out of order"}"#, "out of order"),
            (r#"{"detail":"out of order"}"#, "out of order"),
            (r#"{"error":{"type":"api_error"}}"#, "the upstream answered with status 500"),
            (r#"{"error":7}"#, "the upstream answered with status 500"),
            ("<html>", "the upstream answered with status 500"),
            ("", "the upstream answered with status 500"),
        ] {
            assert_eq!(Error::of_response(&response(500, &[], body)).message, message, "{body}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "ä".repeat(MESSAGE_CHARS_MAX + 1));
        assert_eq!(Error::of_response(&response(500, &[], &long)).message.chars().count(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn retry_after_is_read_in_both_units_and_never_as_a_date() {
        let after = |headers: &[_]| Error::of_response(&response(429, headers, "")).retry_after_ms;
        assert_eq!(after(&[("retry-after", "3")]), Some(3000));
        assert_eq!(after(&[("retry-after", "3"), ("retry-after-ms", "250")]), Some(250));
        assert_eq!(after(&[("retry-after", "4294967")]), Some(4_294_967_000));
        assert_eq!(after(&[("retry-after", "4294968")]), Some(u32::MAX));
        assert_eq!(after(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None);
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn a_request_that_was_refused_is_the_runtimes_own_fault() {
        assert_eq!(Error::from(SendError::Refused("no".to_owned())), Error::new(ErrorKind::Internal, "no"));
        for lost in [SendError::Unreachable("gone".to_owned()), SendError::Interrupted("gone".to_owned())] {
            assert_eq!(Error::from(lost), Error::new(ErrorKind::Upstream, "gone"));
        }
    }
}
