//! Connections: accepted up to a number, bounded in what each may hold and for how long, and drained at the end.
//!
//! axum's own `serve` installs no timer, so that no limit on slow headers would be in force; hence this loop.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{App, Draining, exchange::exchange, router};

/// For how long a client may take to send a request's head, and an idle connection may stay.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// For how long requests under way may go on once the host shuts down.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// How long to wait when the system has no file or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The largest head of a request, and what hyper holds for a client that does not read.
const BUFFER_BYTES: usize = 16 * 1024;

/// What the kernel holds for a client that does not read; it doubles this.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// For how long a client may leave what was sent unread before the kernel gives it up. It resumes by cursor.
#[cfg(target_os = "linux")]
const UNREAD_MAX_MS: u32 = 30_000;

/// Serves until `shutdown` is done, then lets requests under way end, streams at once.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let router = router(&app);
    let room = Arc::new(Semaphore::new(app.connections_max()));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(connection(stream, router.clone(), app.draining(), permit));
            }
            // The client gave up before it was served.
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted just now");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    app.drain();
    let drained = timeout(DRAIN_WAIT, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "requests were cut off: they did not end in time");
        connections.shutdown().await;
    }
}

/// The next connection once there is room for it. Others wait in the kernel's queue.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, mut draining: Draining, _room: OwnedSemaphorePermit) {
    if let Err(error) = set_up(&stream) {
        tracing::debug!(%error, "a connection was lost as soon as it was made");
        return;
    }
    let service = service_fn(move |request| {
        let answer = exchange(router.clone(), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT).max_buf_size(BUFFER_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = draining.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MAX_MS)?;
    Ok(())
}
