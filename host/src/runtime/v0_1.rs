//! The contract's version 0.1: what its imports do, and how its values look to the rest of the host.

use super::{
    allowance::Line,
    bindings::lap::runtime::{log, types, upstream},
    manifest::Manifest,
    store::Guest,
};
use crate::upstream as wire;

/// The most that one log line of a guest may hold.
const LOG_LINE_BYTES: usize = 8 * 1024;

impl types::Host for Guest {}

impl upstream::Host for Guest {
    async fn send(
        &mut self,
        request: types::Request,
    ) -> wasmtime::Result<Result<types::Response, upstream::SendError>> {
        self.count_host_call()?;
        let refused = |reason: &str| Ok(Err(upstream::SendError::Refused(reason.to_owned())));
        let Some(outlet) = self.outlet.clone() else {
            return refused("no request may be sent from this call");
        };
        if self.sends_left == 0 {
            return refused("one call may not send so many requests");
        }
        self.sends_left -= 1;
        let request = match admit(&self.component.manifest, request) {
            Ok(request) => request,
            Err(reason) => return Ok(Err(upstream::SendError::Refused(reason))),
        };
        let sent = self.pace.at_home(async move { outlet.send(request).await }).await;
        let stopping = || Err(wire::SendError::Interrupted("the host stops".to_owned()));
        Ok(sent.unwrap_or_else(stopping).map(response).map_err(send_error))
    }
}

impl log::Host for Guest {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_host_call()?;
        let bytes = message.len().min(LOG_LINE_BYTES);
        let Some(left) = self.log_bytes_left.checked_sub(bytes) else {
            self.component.watch.line_dropped();
            return Ok(());
        };
        self.log_bytes_left = left;
        let runtime = self.component.manifest.id.as_str();
        let message = match &self.outlet {
            Some(outlet) => outlet.scrub(&message).into_owned(),
            None => message,
        };
        let line = message.get(..message.floor_char_boundary(LOG_LINE_BYTES)).unwrap_or_default();
        if let Some(outlet) = &self.outlet {
            outlet.heard(level, line);
        }
        match self.component.watch.line(bytes) {
            Line::Drop => return Ok(()),
            Line::Write { dropped: 0 } => {}
            Line::Write { dropped } => {
                tracing::warn!(runtime, dropped, "a runtime writes too much: lines are left out");
            }
        }
        // `?` prints control characters escaped: a guest cannot forge lines or colours.
        match level {
            log::Level::Debug => tracing::debug!(runtime, guest = ?line),
            log::Level::Info => tracing::info!(runtime, guest = ?line),
            log::Level::Warn => tracing::warn!(runtime, guest = ?line),
            log::Level::Error => tracing::error!(runtime, guest = ?line),
        }
        Ok(())
    }
}

/// Checks a guest's request against the manifest. `upstream` checks the rest.
pub(super) fn admit(manifest: &Manifest, request: types::Request) -> Result<wire::Request, String> {
    let method = match request.method {
        types::Method::Get => wire::Method::Get,
        types::Method::Post => wire::Method::Post,
        types::Method::Put => wire::Method::Put,
        types::Method::Patch => wire::Method::Patch,
        types::Method::Delete => wire::Method::Delete,
    };
    if !manifest.allows(method, &request.path) {
        let id = &manifest.id;
        return Err(format!("the manifest of {id} does not allow {} {:?}", method.as_str(), request.path));
    }
    let headers = request.headers.into_iter().map(|header| (header.name, header.value)).collect();
    Ok(wire::Request { method, path: request.path, query: request.query, headers, body: request.body })
}

fn response(response: wire::Response) -> types::Response {
    let headers = response.headers.into_iter().map(|(name, value)| types::Header { name, value }).collect();
    types::Response { status: u32::from(response.status), headers, body: response.body }
}

fn send_error(error: wire::SendError) -> upstream::SendError {
    match error {
        wire::SendError::Refused(reason) => upstream::SendError::Refused(reason),
        wire::SendError::Unreachable(reason) => upstream::SendError::Unreachable(reason),
        wire::SendError::Interrupted(reason) => upstream::SendError::Interrupted(reason),
        wire::SendError::TooLarge => upstream::SendError::TooLarge,
    }
}
