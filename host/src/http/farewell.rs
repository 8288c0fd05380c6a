//! A stream that is closed in a way that its peer hears the last word, for `serve.rs`.
//!
//! A socket that is closed while something unread waits in it is reset, and a reset throws away what the peer has not
//! read yet (RFC 9112, 9.6): the refusal of a body that was not looked at, for one. So this one says that no more will
//! come, and then reads what the peer still sends, for a short while.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// For how long what still comes is read, and how much of it.
const WAIT: Duration = Duration::from_secs(2);
const BYTES_MAX: usize = 1024 * 1024;

/// How much is read at a time.
const CHUNK_BYTES: usize = 4096;

/// A stream whose shutdown waits until the peer has closed, too.
pub(super) struct Farewell<S, H> {
    stream: S,
    /// Whether there is no time for that: peers that have said nothing wrong may not look for a while.
    hurries: H,
    /// Runs once the peer was told.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How much was read since then.
    bytes: usize,
}

impl<S, H> Farewell<S, H> {
    pub(super) const fn new(stream: S, hurries: H) -> Self {
        Self { stream, hurries, deadline: None, bytes: 0 }
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Farewell<S, H> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Fn() -> bool + Unpin> AsyncWrite for Farewell<S, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deadline.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if (self.hurries)() {
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(WAIT)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut chunk = [MaybeUninit::uninit(); CHUNK_BYTES];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            // A peer that is gone has heard what it wanted to hear.
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut chunk));
            this.bytes += chunk.filled().len();
            if read.is_err() || chunk.filled().is_empty() || this.bytes > BYTES_MAX {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_read_until_the_peer_closes_too() {
        let (mine, mut theirs) = duplex(64);
        let mut mine = Farewell::new(mine, || false);
        let peer = async {
            assert_eq!(theirs.read(&mut [0; 9]).await.unwrap(), 0, "it hears the end at once");
            theirs.write_all(&[b'x'; 100_000]).await.unwrap();
            drop(theirs);
        };
        let began = Instant::now();
        let (ended, ()) = tokio::join!(mine.shutdown(), peer);
        ended.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_close_is_left_after_a_while() {
        let (mine, mut theirs) = duplex(64);
        let mut mine = Farewell::new(mine, || false);
        let began = Instant::now();
        mine.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), WAIT);
        drop(mine);
        assert!(theirs.write_all(b"x").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_pours_is_left_soon() {
        let (mine, mut theirs) = duplex(64);
        let mut mine = Farewell::new(mine, || false);
        let pours = async { while theirs.write_all(&[b'x'; 64]).await.is_ok() {} };
        let shuts = async {
            mine.shutdown().await.unwrap();
            assert!((BYTES_MAX..BYTES_MAX + CHUNK_BYTES + 64).contains(&mine.bytes), "{}", mine.bytes);
            drop(mine);
        };
        tokio::join!(pours, shuts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_hurries_does_not_wait() {
        let (mine, _theirs) = duplex(64);
        let began = Instant::now();
        Farewell::new(mine, || true).shutdown().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
