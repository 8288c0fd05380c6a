//! JSON in and out. A body is bounded in size, in time and in depth before anybody looks at what it says.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

use super::error::{Error, Retry};

/// The largest request body.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// For how long a client may take to begin with its body. What has come lengthens it.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// By how much each byte does: the slowest that is waited for is 1 KiB/s.
const BODY_WAIT_OF_A_BYTE: Duration = Duration::from_nanos(1_000_000_000 / 1024);

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
pub(super) async fn read(mut body: Body) -> Result<Bytes, Error> {
    let (started, mut wait) = (Instant::now(), BODY_WAIT);
    let mut all = BytesMut::new();
    loop {
        if body.size_hint().lower().saturating_add(all.len() as u64) > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        match timeout_at(started + wait, body.frame()).await {
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(Ok(frame))) => {
                // Trailers are nobody's.
                let Ok(bytes) = frame.into_data() else { continue };
                if all.len() + bytes.len() > BODY_BYTES_MAX {
                    return Err(too_large());
                }
                all.extend_from_slice(&bytes);
                wait += BODY_WAIT_OF_A_BYTE * u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            }
            Ok(Some(Err(_))) => return Err(Error::invalid("the body broke off")),
            Err(_) => return Err(too_slow()),
        }
    }
}

fn too_slow() -> Error {
    let message = "the body came too slowly: after 10 seconds it must have come at 1 KiB a second or faster";
    Error::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message).with_retry(Retry::Yes)
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
    use futures_util::{FutureExt, Stream, StreamExt, stream};
    use serde_json::value::RawValue;
    use tokio::time::sleep;

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

    fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        Body::from_stream(pieces.map(Ok::<_, std::io::Error>))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_largest_size() {
        assert_eq!(read(Body::from(vec![b' '; BODY_BYTES_MAX])).await.unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(read(Body::from(vec![b' '; BODY_BYTES_MAX + 1])).await.unwrap_err().status, 413);
        let piece = || Bytes::from(vec![b' '; BODY_BYTES_MAX / 2 + 1]);
        let unannounced = streamed(stream::iter([piece(), piece()]));
        assert_eq!(read(unannounced).await.unwrap_err().status, 413);
        let endless = streamed(stream::repeat_with(|| Bytes::from_static(&[b' '; 1024])));
        assert_eq!(read(endless).await.unwrap_err().status, 413);
    }

    /// The body that comes in pieces of so many bytes, one each second, and how long it took to read or refuse.
    async fn each_second(bytes: usize, pieces: usize) -> (Result<usize, u16>, u64) {
        let started = Instant::now();
        let piece = Bytes::from(vec![b' '; bytes]);
        let pieces = stream::iter(std::iter::repeat_n(piece, pieces));
        let slowly = pieces.then(|piece| sleep(Duration::from_secs(1)).map(|()| piece));
        let read = read(streamed(slowly)).await.map(|all| all.len()).map_err(|error| error.status.as_u16());
        (read, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_a_kibibyte_a_second_or_is_refused() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let started = Instant::now();
        assert_eq!(read(silent).await.unwrap_err().status, 408);
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(each_second(1, 1000).await, (Err(408), 10));
        assert_eq!(each_second(512, 1000).await, (Err(408), 19));
        assert_eq!(each_second(1024, 1000).await, (Ok(1_024_000), 1000));
    }
}
