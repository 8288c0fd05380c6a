//! Work that blocks on a disk, for callers on an executor, which must not.

use std::panic::resume_unwind;

use tokio::task::spawn_blocking;

/// Does it on a thread that may block. It is done to its end also if the caller leaves.
///
/// # Panics
/// Where the work does.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|crashed| resume_unwind(crashed.into_panic()))
}
