//! The TCP connection below an HTTP one, so that a stream can break as connections break.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::fault::CutBy;

/// Says to a connection that it must break.
#[derive(Default)]
pub(crate) struct Line(OnceLock<CutBy>);

impl Line {
    /// Breaks the connection as soon as everything written before has left.
    pub(crate) fn cut(&self, by: CutBy) {
        // Already broken: the first way counts.
        self.0.set(by).unwrap_or_default();
    }
}

/// A connection that breaks when its line says so.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) line: Arc<Line>,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once its own buffers are empty, so here, and not before, the cut loses no byte sent before it.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.line.0.get() {
            None => Pin::new(&mut self.stream).poll_flush(cx),
            Some(by) => {
                if *by == CutBy::Reset {
                    // With this the kernel answers the drop of the socket with a reset.
                    self.stream.set_zero_linger()?;
                }
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
