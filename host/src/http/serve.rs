//! Connections: accepted up to a number, bounded in what each may hold and for how long, and drained at the end.
//!
//! axum's own `serve` installs no timer, so that no limit on slow headers would be in force; hence this loop.

use std::{convert::Infallible, future::Future, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    app::{App, Draining},
    error::Error,
    exchange::{exchange, refuse},
    farewell::Farewell,
    head::{HeadClock, Progress},
    room::{self, Crowded, Room, Seat},
    router,
    stall::Impatient,
};

/// For how long a client may take to send a request's head.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// For how long a connection may stay without a request: longer than the clients and proxies that keep connections for
/// their next requests do (nginx and AWS's load balancer 60 s, Go and hyper 90 s), so that none of them sends one just when
/// the host closes.
const IDLE_WAIT: Duration = Duration::from_secs(120);

/// For how long requests under way may go on once the host shuts down.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// How long to wait when the system has no file or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The largest head of a request, and what hyper holds for a client that does not read.
const BUFFER_BYTES: usize = 16 * 1024;

/// What the kernel holds for a client that does not read; it doubles this.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// For how long a client may take nothing of what waits for it before it is given up. It resumes by cursor.
const UNREAD_WAIT: Duration = Duration::from_secs(30);

/// The same for what the kernel has taken over, also of a connection that is closed here. A peer that is gone without a
/// word shows in nothing else.
#[cfg(target_os = "linux")]
const UNREAD_WAIT_OF_KERNEL_MS: u32 = 30_000;

/// For how long a client with too many connections may take to ask something and read that it must not.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// How many such clients are told why at the same time. Others find the connection closed.
const REFUSALS_MAX: usize = 64;

/// Serves until `shutdown` is done, then lets requests under way end, streams at once.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let router = router(&app);
    let (most, most_of_one) = app.connections_max();
    let room = Room::new(room::possible(most), most_of_one);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address, permit)) => match room.admit(permit, address) {
                Ok(seat) => {
                    connections.spawn(connection(stream, router.clone(), app.draining(), seat));
                }
                Err(Crowded) => {
                    if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                        connections.spawn(refusal(stream, permit));
                    }
                }
            },
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
async fn accept(listener: &TcpListener, room: &Room) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = room.free().await;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address.ip(), permit))
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, draining: Draining, _seat: Seat) {
    if let Err(error) = set_up(&stream) {
        tracing::debug!(%error, "a connection was lost as soon as it was made");
        return;
    }
    converse(stream, router, draining).await;
}

/// Answers what comes, one request after the other.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, mut draining: Draining) {
    let (progress, hurries) = (Progress::default(), draining.clone());
    let head = HeadClock::new(progress.clone(), HEAD_WAIT);
    let stream = Farewell::new(Impatient::new(stream, head, UNREAD_WAIT), move || hurries.has_begun());
    let service = service_fn(move |request| {
        let (answering, answer) = (progress.begin(), exchange(router.clone(), request));
        async move { Ok::<_, Infallible>(answering.through(answer.await)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_WAIT).max_buf_size(BUFFER_BYTES);
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

/// Tells a client that it has too many connections, whatever it asks.
async fn refusal(stream: impl AsyncRead + AsyncWrite + Unpin, _permit: OwnedSemaphorePermit) {
    let service = service_fn(async |_| Ok::<_, Infallible>(refuse(Error::too_many_connections())));
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).header_read_timeout(None).max_buf_size(BUFFER_BYTES);
    let told = timeout(REFUSAL_WAIT, builder.serve_connection(TokioIo::new(stream), service)).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::debug!("a client with too many connections did not wait to be told so");
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_WAIT_OF_KERNEL_MS)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use axum::routing::any;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::watch,
        time::Instant,
    };

    use super::*;

    const WHOLE: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// After how many seconds a client is cut off that says each of these at its second, and how often it was answered.
    async fn cut_off_after(said: &[(u64, &str)]) -> (u64, usize) {
        let slow = any(async || sleep(Duration::from_secs(60)).await);
        let router = Router::new().route("/", any(async |_: String| ())).route("/slow", slow);
        let ((mine, theirs), (_running, draining)) = (duplex(4096), watch::channel(false));
        let (mut from, mut to) = tokio::io::split(theirs);
        let began = Instant::now();
        let speaks = async {
            for (second, words) in said {
                tokio::time::sleep_until(began + Duration::from_secs(*second)).await;
                to.write_all(words.as_bytes()).await.unwrap();
            }
        };
        let hears = async {
            let mut heard = String::new();
            from.read_to_string(&mut heard).await.unwrap();
            (began.elapsed().as_secs(), heard.matches("HTTP/1.1 200 ").count())
        };
        let host = tokio::spawn(converse(mine, router, Draining(draining)));
        let (heard, ()) = tokio::join!(hears, speaks);
        host.await.unwrap();
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_come_soon_and_the_next_request_need_not() {
        assert_eq!(cut_off_after(&[]).await, (10, 0), "says nothing");
        assert_eq!(
            cut_off_after(&[(0, "GET / HT"), (6, "TP/1.1\r\n"), (9, "host: x\r\n")]).await,
            (10, 0),
            "a slow head"
        );
        assert_eq!(cut_off_after(&[(9, WHOLE)]).await, (129, 1), "one request");
        assert_eq!(cut_off_after(&[(0, WHOLE), (110, WHOLE), (220, WHOLE)]).await, (340, 3), "one now and then");
        assert_eq!(cut_off_after(&[(0, WHOLE), (60, "GE"), (69, "T ")]).await, (70, 1), "then a slow head");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stood_still_is_no_slow_client() {
        let ((mine, mut theirs), (_running, draining)) = (duplex(4096), watch::channel(false));
        let router = Router::new().route("/", any(async |_: String| ()));
        let host = tokio::spawn(converse(mine, router, Draining(draining)));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        theirs.write_all(WHOLE.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        drop(theirs);
        host.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_long_body_nor_a_long_answer_is_a_slow_head() {
        let long = [(0, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"), (20, "ab"), (40, "c")];
        assert_eq!(cut_off_after(&long).await, (160, 1), "a long body");
        let slow = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(cut_off_after(&[(0, slow)]).await, (180, 1), "a long answer");
        assert_eq!(cut_off_after(&[(0, slow), (20, WHOLE)]).await, (180, 2), "and another request meanwhile");
    }

    async fn permit() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_too_many_connections_is_told_so_and_let_go() {
        let (mine, mut theirs) = duplex(4096);
        let asks = async {
            theirs.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            theirs.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(async { refusal(mine, permit().await).await }, asks);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("connection: close") && head.contains("retry-after: "), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "too_many_connections");
        assert_eq!(body["error"]["retryable"], true);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_wait_for_its_refusal_is_let_go_too() {
        let (mine, mut theirs) = duplex(4096);
        refusal(mine, permit().await).await;
        assert_eq!(theirs.read(&mut [0; 9]).await.unwrap(), 0);
    }
}
