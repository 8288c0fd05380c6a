//! A request's body as it comes: bounded in size, and in how long its client may take.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};

use super::{
    error::{Error, Retry},
    tenure,
};

/// For how long a client may take to begin with its body. What has come lengthens it.
const WAIT: Duration = Duration::from_secs(10);

/// By how much each byte does: the slowest that is waited for is 1 KiB/s.
const WAIT_OF_A_BYTE: Duration = Duration::from_nanos(1_000_000_000 / 1024);

/// How long it may be silent, however much has come.
const SILENCE: Duration = Duration::from_secs(30);

/// A body, piece by piece. Time counts while the client is waited for, and not while nobody reads.
pub(super) struct Paced {
    body: Body,
    bytes_max: u64,
    bytes: u64,
    waited: Duration,
}

impl Paced {
    /// # Errors
    /// When the client has announced more than `bytes_max`.
    pub(super) fn new(body: Body, bytes_max: u64) -> Result<Self, Error> {
        let paced = Self { body, bytes_max, bytes: 0, waited: Duration::ZERO };
        paced.fits()?;
        Ok(paced)
    }

    /// How many bytes there will be, where the client has told.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// When the body is too large, comes too slowly, or breaks off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let allowed = WAIT + Duration::from_nanos(self.bytes.saturating_mul(WAIT_OF_A_BYTE.subsec_nanos().into()));
            let started = Instant::now();
            let come = timeout(allowed.saturating_sub(self.waited).min(SILENCE), self.body.frame()).await;
            self.waited += started.elapsed();
            let Some(frame) = come.map_err(|_| too_slow())? else { return Ok(None) };
            let frame = frame.map_err(|error| match tenure::is_over(&error) {
                true => Error::unauthorized(),
                false => Error::invalid("the body broke off"),
            })?;
            // Trailers are nobody's.
            let Ok(piece) = frame.into_data() else { continue };
            self.bytes += piece.len() as u64;
            self.fits()?;
            return Ok(Some(piece));
        }
    }

    fn fits(&self) -> Result<(), Error> {
        let bytes = self.body.size_hint().lower().saturating_add(self.bytes);
        if bytes > self.bytes_max { Err(too_large(self.bytes_max)) } else { Ok(()) }
    }
}

fn too_slow() -> Error {
    let message = "the body came too slowly: after 10 seconds it must have come at 1 KiB a second or faster, and without a \
                   pause of 30 seconds";
    Error::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message).with_retry(Retry::Yes)
}

fn too_large(bytes_max: u64) -> Error {
    let message = format!("the body is larger than {bytes_max} bytes");
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use futures_util::{FutureExt, Stream, StreamExt, stream};
    use tokio::time::sleep;

    use super::*;

    const BYTES_MAX: usize = 1024 * 1024;

    async fn whole(body: Body) -> Result<Vec<u8>, Error> {
        let (mut body, mut all) = (Paced::new(body, BYTES_MAX as u64)?, Vec::new());
        while let Some(piece) = body.next().await? {
            all.extend(piece);
        }
        Ok(all)
    }

    fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        Body::from_stream(pieces.map(Ok::<_, std::io::Error>))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_largest_size() {
        assert_eq!(whole(Body::from(vec![b' '; BYTES_MAX])).await.unwrap().len(), BYTES_MAX);
        assert_eq!(whole(Body::from(vec![b' '; BYTES_MAX + 1])).await.unwrap_err().status, 413);
        let piece = || Bytes::from(vec![b' '; BYTES_MAX / 2 + 1]);
        let unannounced = streamed(stream::iter([piece(), piece()]));
        assert_eq!(whole(unannounced).await.unwrap_err().status, 413);
        let endless = streamed(stream::repeat_with(|| Bytes::from_static(&[b' '; 1024])));
        assert_eq!(whole(endless).await.unwrap_err().status, 413);
    }

    /// The body that comes in pieces of so many bytes, one each second, and how long it took to read or refuse.
    async fn each_second(bytes: usize, pieces: usize) -> (Result<usize, u16>, u64) {
        let started = Instant::now();
        let piece = Bytes::from(vec![b' '; bytes]);
        let pieces = stream::iter(std::iter::repeat_n(piece, pieces));
        let slowly = pieces.then(|piece| sleep(Duration::from_secs(1)).map(|()| piece));
        let read = whole(streamed(slowly)).await.map(|all| all.len()).map_err(|error| error.status.as_u16());
        (read, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_a_kibibyte_a_second_or_is_refused() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let started = Instant::now();
        assert_eq!(whole(silent).await.unwrap_err().status, 408);
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(each_second(1, 1000).await, (Err(408), 10));
        assert_eq!(each_second(512, 1000).await, (Err(408), 19));
        assert_eq!(each_second(1024, 1000).await, (Ok(1_024_000), 1000));
    }
    #[tokio::test(start_paused = true)]
    async fn a_body_that_came_fast_may_not_pause_for_longer_than_others() {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b' '; BYTES_MAX / 2]))]);
        let started = Instant::now();
        let pauses = Body::from_stream(first.chain(stream::pending()));
        assert_eq!(whole(pauses).await.unwrap_err().status, 408);
        assert_eq!(started.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_is_not_the_clients() {
        let pieces = stream::iter(std::iter::repeat_n(Bytes::from_static(b"x"), 3));
        let mut body = Paced::new(streamed(pieces), 3).unwrap();
        while body.next().await.unwrap().is_some() {
            sleep(Duration::from_secs(3600)).await;
        }
        assert_eq!(body.waited, Duration::ZERO);
    }
}
