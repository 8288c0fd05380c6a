//! The other end of the API: asks a running host on behalf of a command of this program.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::probe::reachable;

/// For how long a connection, or a piece of an answer, may take.
pub(super) const PIECE_WAIT: Duration = Duration::from_secs(60);
/// For how long a host may think. Compiling a large component on a slow machine takes a minute or two.
const HEAD_WAIT: Duration = Duration::from_secs(10 * 60);
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nothing listens there.
    #[error("nothing answers at {address}: {source}")]
    Silent {
        /// Where the host should be.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke before the end.
    #[error("the connection to {address} broke off before the answer was whole: {reason}")]
    Broken {
        /// Where the host listens.
        address: SocketAddr,
        /// How.
        reason: String,
    },
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no answer. What was asked for may have been done.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The host refuses.
    #[error("{}", .0.message)]
    Refused(Refused),
}

/// What a host says in its error.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// The stable code; empty where something else than a host of this version answers.
    pub code: String,
    /// For people.
    pub message: String,
    /// What programs need beyond that.
    pub details: Value,
}

/// Asks the host that listens at `listen`. The answer is JSON, and null where the host has nothing to say.
///
/// # Errors
/// When there is no answer, or the host refuses.
pub async fn call(
    listen: SocketAddr,
    key: &str,
    method: Method,
    path: &str,
    body: impl Into<Bytes> + Send,
) -> Result<Value, CallError> {
    let answered = exchange(listen, key, method, path, body.into(), HEAD_WAIT).await?;
    let (address, status) = (answered.address, answered.response.status());
    let broken = |reason: String| Unanswered::Broken { address, reason };
    let bytes = whole(answered.response).await.map_err(broken)?;
    if !status.is_success() {
        return Err(CallError::Refused(refusal(status, &bytes)));
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?)
}

/// The beginning of an answer, and who gives it.
pub(super) struct Answered {
    pub(super) address: SocketAddr,
    pub(super) response: Response<Incoming>,
}

/// Sends one request on a connection of its own.
pub(super) async fn exchange(
    listen: SocketAddr,
    key: &str,
    method: Method,
    path: &str,
    body: Bytes,
    wait: Duration,
) -> Result<Answered, Unanswered> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let broken = |reason: &dyn std::fmt::Display| Unanswered::Broken { address, reason: reason.to_string() };
    let stream = timeout(PIECE_WAIT, TcpStream::connect(address)).await;
    let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(|source| Unanswered::Silent { address, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // Ends by itself when `sender` and the response are gone; its errors are those of the response.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|error| broken(&error))?;
    let response = timeout(wait, sender.send_request(request)).await;
    let response = response.map_err(|_| broken(&"it did not answer in time"))?.map_err(|error| broken(&error))?;
    Ok(Answered { address, response })
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, String> {
    let body = timeout(HEAD_WAIT, Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect()).await;
    let body = body.map_err(|_| "it fell silent".to_owned())?.map_err(|error| error.to_string())?;
    Ok(body.to_bytes())
}

#[derive(Deserialize)]
struct Envelope {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    message: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    details: Value,
}

/// What a host says in its error, as far as it is one of ours.
pub(super) async fn refused(answered: Answered) -> Refused {
    let status = answered.response.status();
    // What cannot be read says nothing.
    refusal(status, &whole(answered.response).await.unwrap_or_default())
}

fn refusal(status: StatusCode, body: &[u8]) -> Refused {
    match serde_json::from_slice(body) {
        Ok(Envelope { error: Detail { message, code, details } }) => Refused { status, code, message, details },
        Err(_) => {
            let message = format!("it refuses with {status} and does not say why; is it a host of this version?");
            Refused { status, code: String::new(), message, details: Value::Null }
        }
    }
}
