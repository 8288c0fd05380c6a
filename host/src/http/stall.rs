//! A stream that breaks off when its peer takes nothing, or sends a request's head too slowly, for `serve.rs`.
//!
//! The kernel's own limit on unread data is Linux's alone, and counts what it has sent and not what waits to be
//! written. This one counts time in which not a byte could be written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::head::HeadClock;

/// A stream whose writes end in an error once one has waited for too long, and its reads once a head has.
pub(super) struct Impatient<S> {
    stream: S,
    head: HeadClock,
    wait_max: Duration,
    /// Runs while a write waits; a stream whose peer reads has none.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) const fn new(stream: S, head: HeadClock, wait_max: Duration) -> Self {
        Self { stream, head, wait_max, deadline: None }
    }

    /// What became of a write, with regard to how long it has waited.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let wait_max = self.wait_max;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(wait_max)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.head.judge(read, buffer.filled().len() > before, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has nothing to flush and shuts down at once, so that neither says whether the peer reads.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::{super::head::Progress, *};

    const WAIT: Duration = Duration::from_secs(30);

    fn impatient<S>(stream: S) -> Impatient<S> {
        Impatient::new(stream, HeadClock::new(Progress::default(), WAIT), WAIT)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_when_the_wait_is_over() {
        let (mine, _theirs) = duplex(4);
        let mut stream = impatient(mine);
        let started = Instant::now();
        let error = stream.write_all(b"12345678").await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_in_time_is_waited_for() {
        let (mine, mut theirs) = duplex(4);
        let mut stream = impatient(mine);
        let started = Instant::now();
        let read = async {
            let mut taken = [0; 12];
            for at in (0..12).step_by(4) {
                sleep(WAIT - Duration::from_secs(1)).await;
                theirs.read_exact(&mut taken[at..at + 4]).await.unwrap();
            }
            taken
        };
        let (written, taken) = tokio::join!(stream.write_all(b"123456789abc"), read);
        assert!(written.is_ok());
        assert_eq!((&taken, started.elapsed().as_secs()), (b"123456789abc", 87));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_writes_counts_for_nothing() {
        let (mine, mut theirs) = duplex(4);
        let mut stream = impatient(mine);
        stream.write_all(b"1234").await.unwrap();
        sleep(WAIT * 10).await;
        let mut taken = [0; 8];
        let (written, _) = tokio::join!(stream.write_all(b"5678"), theirs.read_exact(&mut taken));
        assert!(written.is_ok() && stream.deadline.is_none());
        assert_eq!(&taken, b"12345678");
    }
}
