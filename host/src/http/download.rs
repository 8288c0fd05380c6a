//! The other end of `GET /api/backup`: asks a running host for a backup and passes it on as it comes.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::call::{PIECE_WAIT, Unanswered, exchange, refused};

/// For how long a host may copy its rows before it answers. It says nothing meanwhile, and a log of 100 GiB takes some
/// ten minutes.
const HEAD_WAIT: Duration = Duration::from_secs(60 * 60);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is no answer, or not all of one.
    #[error("there is no backup: {0}")]
    Unanswered(#[from] Unanswered),
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
    let answered = exchange(listen, key, Method::GET, "/api/backup", Bytes::new(), HEAD_WAIT).await?;
    let address = answered.address;
    if answered.response.status() != StatusCode::OK {
        let refused = refused(answered).await;
        return Err(DownloadError::Refused { address, status: refused.status, message: refused.message });
    }
    let broken = |reason: &dyn std::fmt::Display| Unanswered::Broken { address, reason: reason.to_string() };
    let mut response = answered.response;
    while let Some(frame) = timeout(PIECE_WAIT, response.frame()).await.map_err(|_| broken(&"it fell silent"))? {
        if let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() {
            to.write_all(&piece).map_err(DownloadError::Write)?;
        }
    }
    Ok(())
}
