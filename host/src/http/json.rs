//! JSON in and out. A body is bounded in size, in time and in depth before anybody looks at what it says.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::{error::Error, paced::Paced};

/// The largest request body of JSON.
pub(super) const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// How deep arrays and objects may lie in each other. Raw values go on to guests, whose parsers may recurse.
const DEPTH_MAX: usize = 64;

/// A JSON object as request body. What it is sent as does not matter: whether it is JSON shows when it is read.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        parse(&read(request.into_body()).await?).map(Self)
    }
}

/// A whole body, within the limits. It is copied together as it comes: pieces of a byte each would cost many times what
/// they hold.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    read_within(body, BODY_BYTES_MAX).await
}

/// The same for a body that is no JSON and has a limit of its own.
pub(super) async fn read_within(body: Body, bytes_max: u64) -> Result<Bytes, Error> {
    let mut all = BytesMut::new();
    let mut body = Paced::new(body, bytes_max)?;
    while let Some(piece) = body.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    // Otherwise an array would pass for a struct whose fields it lists.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("the body is not a JSON object"));
    }
    if depth(body) > DEPTH_MAX {
        return Err(Error::invalid(format_args!("arrays and objects lie in each other more than {DEPTH_MAX} deep")));
    }
    serde_json::from_slice(body).map_err(Error::invalid)
}

/// How deep arrays and objects lie in each other, if this is JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A response of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => text(status, body),
        Err(error) => Error::internal(format_args!("a response cannot be written: {error}")).into_response(),
    }
}

/// A response of text that is JSON already.
pub(super) fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Any {
        #[serde(default)]
        value: Option<Box<RawValue>>,
    }

    #[test]
    fn depth_counts_what_is_open_and_not_what_is_text() {
        assert_eq!(depth(b"{}"), 1);
        assert_eq!(depth(br#"{"a":[[1],[2]],"b":{}}"#), 3);
        assert_eq!(depth(br#"{"a":"[[[[\"[[["}"#), 1);
        assert_eq!(depth(br#"{"a":"\\","b":[]}"#), 2);
    }

    #[test]
    fn a_body_is_an_object_that_is_not_too_deep() {
        let nested = |levels: usize| format!("{{\"value\":{}{}}}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        assert!(parse::<Any>(b" {}").unwrap().value.is_none());
        assert!(parse::<Any>(&nested(DEPTH_MAX - 1)).unwrap().value.is_some());
        let bodies = [&b""[..], b"[]", b"null", b"{", b"{} x", b"\xff", &nested(DEPTH_MAX), &nested(100_000)];
        for body in bodies {
            let error = parse::<Any>(body).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "invalid_request"));
            assert!(error.message.starts_with("invalid request json: "));
        }
    }
}
