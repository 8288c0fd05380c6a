//! The other end of `GET /api/backup`: asks a running host for a backup and passes it on as it comes.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use super::probe::reachable;

/// For how long a host may copy its rows before it answers. It says nothing meanwhile, and a log of 100 GiB takes some
/// ten minutes.
const HEAD_WAIT: Duration = Duration::from_secs(60 * 60);
/// For how long the bytes may pause after that.
const PIECE_WAIT: Duration = Duration::from_secs(60);
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nothing listens there.
    #[error("nothing answers at {address}: {source}")]
    Silent {
        /// Where the host should be.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It answers, and refuses.
    #[error("the host at {address} refuses with {status}: {message}")]
    Refused {
        /// Where it listens.
        address: SocketAddr,
        /// The status.
        status: StatusCode,
        /// Its own words.
        message: String,
    },
    /// The connection broke before the end.
    #[error("the connection to {address} broke off before the backup was whole: {reason}")]
    Broken {
        /// Where the host listens.
        address: SocketAddr,
        /// How.
        reason: String,
    },
    /// What came cannot be written.
    #[error("the backup cannot be written: {0}")]
    Write(#[source] io::Error),
}

/// Asks the host that listens at `listen` for a backup and writes it to `to`. Whether it is whole is for the caller to
/// check. `to` may block: nothing else goes on in this process.
///
/// # Errors
/// When the host does not answer or refuses, the connection breaks, or `to` fails.
pub async fn download(listen: SocketAddr, key: &str, to: &mut (impl Write + Send)) -> Result<(), DownloadError> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let broken = |reason: &dyn std::fmt::Display| DownloadError::Broken { address, reason: reason.to_string() };
    let stream = timeout(PIECE_WAIT, TcpStream::connect(address)).await;
    let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(|source| DownloadError::Silent { address, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // Ends by itself when `sender` and the response are gone; its errors are those of the response.
    tokio::spawn(connection);
    let request = Request::get("/api/backup")
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let response = timeout(HEAD_WAIT, sender.send_request(request)).await;
    let mut response = response.map_err(|_| broken(&"it did not answer in time"))?.map_err(|error| broken(&error))?;
    if response.status() != StatusCode::OK {
        return Err(DownloadError::Refused { address, status: response.status(), message: refusal(response).await });
    }
    while let Some(frame) = timeout(PIECE_WAIT, response.frame()).await.map_err(|_| broken(&"it fell silent"))? {
        if let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() {
            to.write_all(&piece).map_err(DownloadError::Write)?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Refusal {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    message: String,
}

/// What a host says in its error, as far as it is one of ours.
async fn refusal(response: Response<Incoming>) -> String {
    let body = timeout(PIECE_WAIT, Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
    let parsed = bytes.and_then(|bytes| serde_json::from_slice::<Refusal>(&bytes).ok());
    parsed.map_or_else(|| "it does not say why; is it a host of this version?".to_owned(), |it| it.error.message)
}
