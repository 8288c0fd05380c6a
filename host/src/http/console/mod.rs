//! The console: pages for people, made on the host, that can be read without scripts.
//!
//! For operators and for those who watch sessions. A page shows what the API tells the same principal; whatever it changes,
//! its scripts change through the public API. So there is nothing here that a client cannot do.
//!
//! * `layout.rs` what all pages have in common · `elements.rs` what they are made of · `assets.rs` style and scripts ·
//!   `status.rs` where a
//!   session stands · `viewer.rs` what is for whom
//! * `api.rs` the API as a page asks it · `answers.rs` what it tells
//! * a file for each page: `overview.rs`, `runtimes.rs`, `credentials.rs`, `agents.rs`, `sessions.rs`, `keys.rs` ·
//!   `watcher/` a session and its log · `sign_in.rs` the way in
//!
//! Must not change anything but who has signed in, nor show what the principal could not get from the API.

mod agents;
mod answers;
mod api;
mod assets;
mod credentials;
mod elements;
mod keys;
mod layout;
mod overview;
mod runtimes;
mod sessions;
mod sign_in;
mod status;
mod viewer;
mod watcher;

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use http::{StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use self::{
    agents::{agent, agents, new_agent},
    api::Routes,
    credentials::credentials,
    keys::keys,
    overview::overview,
    runtimes::{runtime, runtimes},
    sessions::sessions,
    sign_in::{sign_in, sign_out, signed_in},
    watcher::watcher,
};
use super::{error::Error, principal::Principal};
use crate::id::RequestId;

/// Where the console begins.
const HOME: &str = "/console";

pub(super) async fn root() -> Redirect {
    Redirect::to(HOME)
}

pub(super) async fn asset(Path((digest, name)): Path<(String, String)>) -> Result<Response, Error> {
    assets::serve(&digest, &name)
}

/// What stands at no path of the console.
pub(super) async fn lost(_: Principal) -> Error {
    Error::new(StatusCode::NOT_FOUND, "not_found", "There is no such page.")
}

/// Sends somebody who has not signed in to where that is done, and from there back.
pub(super) fn to_sign_in(wanted: &Uri) -> Response {
    let path = wanted.path_and_query().map_or(HOME, |path| path.as_str());
    let next = utf8_percent_encode(path, NON_ALPHANUMERIC);
    Redirect::to(&format!("/console/sign-in?next={next}")).into_response()
}

/// What people see of an error.
pub(super) fn refusal(error: &Error, request: RequestId) -> Response {
    layout::refusal(error, request)
}
