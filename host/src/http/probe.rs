//! Asks a host on this machine how it is, for where there is no shell and no curl: in a container's health check.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const WAIT: Duration = Duration::from_secs(5);

/// Why a host is not well.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not answer.
    #[error("nothing answers at {address}: {source}")]
    Silent {
        /// Where it should.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It says so itself.
    #[error("the host at {address} is not ready: {answer}")]
    NotReady {
        /// Where it listens.
        address: SocketAddr,
        /// The first line of its answer.
        answer: String,
    },
}

/// Asks the host that listens at `listen` whether it is ready.
///
/// # Errors
/// When it is not, or does not answer within 5 seconds.
pub async fn probe(listen: SocketAddr) -> Result<(), ProbeError> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answered = timeout(WAIT, ask(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answered.map_err(|source| ProbeError::Silent { address, source })?;
    if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(ProbeError::NotReady { address, answer }) }
}

/// Who listens everywhere listens here.
pub(super) fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        named => named,
    }
}

/// The status line.
async fn ask(address: SocketAddr) -> io::Result<String> {
    const ENOUGH_BYTES: u64 = 4096;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ENOUGH_BYTES).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
