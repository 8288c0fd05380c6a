//! The console: pages for people, made on the host, that can be read without scripts.
//!
//! For operators and for those who watch sessions. A page shows what the API tells the same principal; whatever it changes,
//! its scripts change through the public API. So there is nothing here that a client cannot do.
//!
//! * `layout.rs` what all pages have in common · `assets.rs` style and scripts · `sign_in.rs` the way in
//!
//! Must not change anything but who has signed in, nor show what the principal could not get from the API.

mod assets;
mod layout;
mod sign_in;

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use http::Uri;
use maud::html;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::layout::{Frame, Section, page};
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

pub(super) use self::sign_in::{sign_in, sign_out, signed_in};

pub(super) async fn overview(_: Principal) -> Response {
    let frame = Frame { section: Section::Overview, title: "Overview", scripts: &[] };
    page(&frame, &html! { h1 { "Overview" } })
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
