//! JSON in and out. A body is bounded in size, in time and in depth before anybody looks at what it says.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::error::{Error, Retry};

/// The largest request body.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// For how long a client may take to send its body.
const BODY_WAIT: Duration = Duration::from_secs(30);

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

/// A whole body, within the limits.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    let max = BODY_BYTES_MAX as u64;
    if body.size_hint().lower() > max {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::invalid("the body broke off")),
        Err(_) => {
            let message = format!("the body did not arrive within {} seconds", BODY_WAIT.as_secs());
            Err(Error::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message).with_retry(Retry::Yes))
        }
    }
}

fn too_large() -> Error {
    let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
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

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_largest_size_and_a_longest_time() {
        assert_eq!(read(Body::from(vec![b' '; BODY_BYTES_MAX])).await.unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(read(Body::from(vec![b' '; BODY_BYTES_MAX + 1])).await.unwrap_err().status, 413);
        let chunk = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; BODY_BYTES_MAX / 2 + 1]));
        let unannounced = Body::from_stream(futures_util::stream::iter([chunk(), chunk()]));
        assert_eq!(read(unannounced).await.unwrap_err().status, 413);
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(endless).await.unwrap_err().status, 408);
    }
}
