//! Accepts connections and serves each in a task of its own.

use std::{sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::{
    api,
    line::{Line, Socket},
    world::World,
};

/// Serves until it is dropped; its connections end with it.
pub(crate) async fn serve(listener: TcpListener, world: Arc<World>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&world)))),
                // Out of file descriptors, most likely: one may come free.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, world: Arc<World>) {
    // Without it small frames would wait for the client's acknowledgement. A socket that refuses is closed already.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let line = Arc::new(Line::default());
    let socket = Socket { stream, line: Arc::clone(&line) };
    let service = service_fn(|request| api::answer(Arc::clone(&world), Arc::clone(&line), request));
    // Clients leave as they like, and scripts hang up: no error here is news.
    http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.unwrap_or_default();
}
