//! Style and scripts, as they are in the binary. Their paths have a digest of all of them, so that a browser may keep them
//! for ever, and a module finds its neighbours by their plain names.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ring::digest::{Context, SHA256};

use super::super::error::Error;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($name:literal $kind:expr;)*) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("assets/", $name)) }),*]
    };
}

static ASSETS: &[Asset] = assets! {
    "agents.js" JS;
    "api.js" JS;
    "console.css" CSS;
    "credentials.js" JS;
    "dialog.js" JS;
    "form.js" JS;
    "icon.svg" SVG;
    "keys.js" JS;
    "overview.js" JS;
    "runtimes.js" JS;
    "session.js" JS;
    "sessions.js" JS;
    "view.js" JS;
    "watcher.css" CSS;
    "watcher/announcer.js" JS;
    "watcher/axis.js" JS;
    "watcher/composer.js" JS;
    "watcher/conversation.js" JS;
    "watcher/decisions.js" JS;
    "watcher/download.js" JS;
    "watcher/events.js" JS;
    "watcher/feed.js" JS;
    "watcher/header.js" JS;
    "watcher/keys.js" JS;
    "watcher/log.js" JS;
    "watcher/prose.js" JS;
    "watcher/sse.js" JS;
    "watcher/story.js" JS;
    "watcher/timeline.js" JS;
    "watcher/view.js" JS;
    "watcher/watcher.js" JS;
    "watcher/window.js" JS;
    "watcher/words.js" JS;
};

/// Of all files, with their names.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let mut context = Context::new(&SHA256);
    for asset in ASSETS {
        context.update(asset.name.as_bytes());
        context.update(&asset.bytes.len().to_be_bytes());
        context.update(asset.bytes);
    }
    context.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// Where a file is to be had.
pub(super) fn path(name: &str) -> String {
    format!("/console/assets/{}/{name}", *DIGEST)
}

/// A file. Another digest is that of another version of the host, whose pages want the files of then.
pub(super) fn serve(digest: &str, name: &str) -> Result<Response, Error> {
    let asset = ASSETS.iter().find(|asset| asset.name == name && digest == *DIGEST);
    let asset = asset.ok_or_else(|| {
        Error::new(StatusCode::NOT_FOUND, "not_found", "the console has no such file; load the page again")
    })?;
    let mut response = asset.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
