//! One request and its response, whatever the route: a name for it, refusal of keys in URLs, a body for each error,
//! headers that keep browsers from guessing, and a line in the log.

use std::sync::{Mutex, PoisonError};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    anthropic, console,
    dialect::{Dialect, Speaks},
    error::{Error, Refusal, Retry},
    json,
    unread::Watched,
};
use crate::{id::RequestId, telemetry::Allowance};

/// Query parameters that other platforms take keys from. Every proxy on the way would have written them down.
const KEY_PARAMETERS: [&str; 3] = ["key", "api_key", "token"];

/// The route that took a request, as in the table; in the extensions of its response. The log names no path but this
/// one, for a path may hold what its sender did not mean to show.
#[derive(Clone, Copy)]
pub(super) struct Template {
    pub(super) path: &'static str,
    pub(super) speaks: Speaks,
}

/// Answers one request.
pub(super) async fn exchange(mut router: Router, request: Request<Incoming>) -> Response {
    let id = RequestId::fresh();
    let started = Instant::now();
    let method = request.method().clone();
    let (parts, body) = request.into_parts();
    let hinted = Dialect::of(&parts.headers);
    let (body, ended) = Watched::new(body);
    let mut response = if has_key(parts.uri.query().unwrap_or_default()) {
        key_in_url().into_response()
    } else {
        let Ok(response) = router.call(Request::from_parts(parts, Body::new(body))).await;
        response
    };
    if !ended.get() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let template = response.extensions().get::<Template>().copied();
    let form = template.map_or(Form::Json(hinted), |template| match template.speaks {
        Speaks::Browser => Form::Page,
        speaks => Form::Json(speaks.dialect(hinted)),
    });
    let template = template.map_or("-", |template| template.path);
    let (response, refusal) = finish(response, form, id);
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    match refusal {
        Some(Error { code, cause: Some(cause), .. }) if may_log(&FAILURES) => {
            tracing::warn!(target: "lap::access", request = %id, %method, route = template, status, ms, code, cause);
        }
        Some(Error { code, cause: None, .. }) if may_log(&REFUSALS) => {
            tracing::info!(target: "lap::access", request = %id, %method, route = template, status, ms, code);
        }
        Some(_) => {}
        // Clients poll: what went well is for those who look for it.
        None => tracing::debug!(target: "lap::access", request = %id, %method, route = template, status, ms),
    }
    response
}

/// Lines of requests that were refused, and of those that failed. Anybody who reaches the port can cause the former, and some
/// of the latter.
static REFUSALS: Mutex<Allowance> = Mutex::new(Allowance::new(100));
static FAILURES: Mutex<Allowance> = Mutex::new(Allowance::new(100));

/// Whether there is a line about one more of them.
fn may_log(lines: &Mutex<Allowance>) -> bool {
    let left_out = lines.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
    if let Some(requests @ 1..) = left_out {
        tracing::warn!(target: "lap::access", requests, "there is no line about so many requests that were refused or failed");
    }
    left_out.is_some()
}

/// Answers a request that nobody looks at.
pub(super) fn refuse(error: Error) -> Response {
    let id = RequestId::fresh();
    if may_log(&REFUSALS) {
        tracing::info!(target: "lap::access", request = %id, status = error.status.as_u16(), code = error.code);
    }
    finish(error.into_response(), Form::Json(Dialect::Lap), id).0
}

/// True when a parameter has one of the names; its value does not matter, for an empty one shows the same habit.
fn has_key(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        KEY_PARAMETERS.iter().any(|key| name.eq_ignore_ascii_case(key))
    })
}

fn key_in_url() -> Error {
    let message = "a key does not belong into a URL, which proxies log: send it as `Authorization: Bearer <key>`, and replace \
                   this one if it was real";
    Error::new(StatusCode::BAD_REQUEST, "key_in_url", message)
}

/// The stable code of an error, in either dialect.
const CODE: HeaderName = HeaderName::from_static("lap-error-code");

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Detail<'a>,
    request_id: RequestId,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a RawValue>,
    /// What the platform's own dialect says beyond that.
    #[serde(flatten)]
    more: Option<More>,
}

#[derive(Serialize)]
struct More {
    code: &'static str,
    retryable: bool,
}

/// In the extensions of a response that says for itself what is wrong, whatever its status.
#[derive(Clone, Copy)]
pub(super) struct Whole;

/// What the body of an error is.
#[derive(Debug, Clone, Copy)]
enum Form {
    Json(Dialect),
    /// Something that people read.
    Page,
}

/// Gives an error its body, and every response the headers that all have.
fn finish(mut response: Response, form: Form, id: RequestId) -> (Response, Option<Error>) {
    let status = response.status();
    let known = response.extensions_mut().remove::<Refusal>().map(|refusal| (*refusal.0).clone());
    let whole = response.extensions_mut().remove::<Whole>().is_some();
    let failed = !whole && (status.is_client_error() || status.is_server_error());
    let by_framework = || failed.then(|| Error::of_status(status));
    let refusal = known.or_else(by_framework);
    if let Some(error) = &refusal {
        response = match form {
            Form::Json(dialect) => with_body(&response, error, dialect, id),
            Form::Page => console::refusal(error, id),
        };
    }
    let headers = response.headers_mut();
    // An id is plain ASCII.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("request-id", id);
    }
    for (name, value) in SECURITY {
        headers.entry(name).or_insert_with(|| HeaderValue::from_static(value));
    }
    (response, refusal)
}

/// What a route may set otherwise for its own pages.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn with_body(response: &Response, error: &Error, dialect: Dialect, id: RequestId) -> Response {
    let mut status = error.status;
    let (kind, details, more) = match (dialect, &error.vendors) {
        (Dialect::Lap, _) => (
            "gateway_error",
            error.details.as_deref(),
            Some(More { code: error.code, retryable: error.retry != Retry::No }),
        ),
        (Dialect::Anthropic, Some(vendors)) => (&*vendors.kind, vendors.details.as_deref(), None),
        (Dialect::Anthropic, None) => {
            status = anthropic::status(error.status);
            (anthropic::error_type(status), None, None)
        }
    };
    let detail = Detail { kind, message: &error.message, details, more };
    let mut answer = json::json(status, &Envelope { kind: "error", error: detail, request_id: id });
    let headers = answer.headers_mut();
    // Where the body has no place for it.
    headers.insert(CODE, HeaderValue::from_static(error.code));
    // Official SDKs retry some statuses by themselves; this overrules them.
    let again = if error.retry == Retry::No { "false" } else { "true" };
    headers.insert("x-should-retry", HeaderValue::from_static(again));
    if let Retry::After(delay) = error.retry {
        // Rounded up: a second too early is another refusal.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    for name in [header::ALLOW, header::CONNECTION] {
        if let Some(value) = response.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;

    use super::*;

    async fn finished(response: Response) -> (Response, serde_json::Value) {
        let (response, _) = finish(response, Form::Json(Dialect::Lap), RequestId::fresh());
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 4096).await.unwrap();
        (Response::from_parts(parts, Body::empty()), serde_json::from_slice(&body).unwrap_or_default())
    }

    #[test]
    fn a_key_in_a_url_is_found_however_it_is_spelt() {
        for query in ["key=x", "a=1&api_key=x", "token=", "TOKEN", "%6bey=x", "Api%5FKey=x"] {
            assert!(has_key(query), "{query}");
        }
        for query in ["", "a=key", "keys=1", "after=7&until=idle", "api-key=1"] {
            assert!(!has_key(query), "{query}");
        }
    }

    #[tokio::test]
    async fn an_error_has_one_body_and_names_its_request() {
        let error = Error::new(StatusCode::CONFLICT, "c", "m").with_retry(Retry::After(Duration::from_millis(1200)));
        let (response, body) = finished(error.into_response()).await;
        let headers = response.headers();
        let id = headers["request-id"].to_str().unwrap();
        assert!(id.starts_with("req_"));
        assert_eq!(
            (response.status(), &headers["retry-after"], &headers["x-should-retry"]),
            (StatusCode::CONFLICT, &HeaderValue::from(2), &HeaderValue::from_static("true"))
        );
        let expected = serde_json::json!({"type": "error", "error": {"type": "gateway_error", "message": "m", "code": "c", "retryable": true}, "request_id": id});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn what_the_framework_refuses_gets_the_same_body_and_keeps_its_allow_header() {
        let mut bare = StatusCode::METHOD_NOT_ALLOWED.into_response();
        bare.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        let (response, body) = finished(bare).await;
        assert_eq!(
            (response.headers()["allow"].to_str().unwrap(), body["error"]["code"].as_str()),
            ("GET", Some("method_not_allowed"))
        );
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }

    #[tokio::test]
    async fn a_good_response_keeps_its_own_headers_and_body() {
        let mut response = json::text(StatusCode::OK, "{}");
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        let (response, body) = finished(response).await;
        assert_eq!((response.headers()["cache-control"].to_str().unwrap(), body), ("max-age=1", serde_json::json!({})));
    }
}
