//! What a client is told when its request went on to the upstream and there is no success to pass on.
//!
//! An error in the words of the vendor's API keeps its status and its words, for they answer what the client asked. Only
//! where the vendor refuses the host's credential the client is not meant. What is no answer of that API at all, such as a
//! proxy's page, is a failure of the upstream.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::{Error, Retry, UPSTREAM_RETRY, VendorsError};
use crate::upstream::{ForwardError, Response, SendError};

/// An error's body in the vendor's API.
#[derive(Deserialize)]
struct Body {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "type")]
    kind: String,
    message: String,
    #[serde(default)]
    details: Option<Box<RawValue>>,
}

/// `repeatable` says that the request does no more when it is carried out twice.
pub(super) fn of(error: ForwardError, repeatable: bool) -> Error {
    let unavailable = |message| Error::new(StatusCode::BAD_GATEWAY, "upstream_unavailable", message);
    let again = if repeatable { Retry::Yes } else { Retry::No };
    match error {
        ForwardError::Send(SendError::Refused(reason)) => {
            let message = format!("the request cannot be passed on: {reason}");
            Error::new(StatusCode::BAD_REQUEST, "invalid_request", message)
        }
        ForwardError::Send(SendError::Unreachable(reason)) => unavailable(reason).with_retry(Retry::Yes),
        ForwardError::Send(SendError::Interrupted(reason)) if repeatable => unavailable(reason).with_retry(again),
        ForwardError::Send(SendError::Interrupted(reason)) => {
            unavailable(format!("{reason}; whether the request was carried out is not known"))
        }
        ForwardError::Send(error @ SendError::TooLarge) => unavailable(error.to_string()),
        ForwardError::Encoded => unavailable(error.to_string()),
        ForwardError::Status(answer) => answered(&answer, again),
    }
}

fn answered(answer: &Response, again: Retry) -> Error {
    let told = serde_json::from_str::<Body>(&answer.body).ok().map(|body| body.error);
    let later = Retry::After(answer.retry_after().unwrap_or(UPSTREAM_RETRY));
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let error = match (status.as_u16(), told) {
        (401 | 403, told) => {
            let reason = told.map_or_else(|| format!("status {}", status.as_u16()), |told| told.message);
            Error::upstream_auth(&reason)
        }
        (400.., Some(Detail { kind, message, details })) => {
            let (code, retry) = match status.as_u16() {
                402 => ("upstream_quota", Retry::No),
                404 => ("upstream_not_found", Retry::No),
                409 => ("upstream_conflict", Retry::No),
                410 => ("upstream_gone", Retry::No),
                429 => ("upstream_throttled", later),
                503 | 529 => ("upstream_overloaded", later),
                408 | 500.. => ("upstream_unavailable", again),
                _ => ("upstream_rejected", Retry::No),
            };
            let vendors = Some(Box::new(VendorsError { kind, details }));
            Error { vendors, ..Error::new(status, code, message).with_retry(retry) }
        }
        (429, None) => {
            Error::new(status, "upstream_throttled", "the upstream takes no more requests just now").with_retry(later)
        }
        (status, _) => {
            let message = format!("the upstream answered with status {status} and without an error of its API");
            Error::new(StatusCode::BAD_GATEWAY, "upstream_unavailable", message).with_retry(again)
        }
    };
    error.because(format_args!("the upstream answered {}", answer.status))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(status: u16, body: &str, retry_after: Option<&str>) -> Error {
        let headers = retry_after.map(|value| ("retry-after".to_owned(), value.to_owned())).into_iter().collect();
        of(ForwardError::Status(Response { status, headers, body: body.to_owned() }), false)
    }

    #[test]
    fn an_error_of_the_vendors_api_keeps_its_status_and_its_words() {
        let table = [
            (400, "upstream_rejected", Retry::No),
            (402, "upstream_quota", Retry::No),
            (404, "upstream_not_found", Retry::No),
            (409, "upstream_conflict", Retry::No),
            (413, "upstream_rejected", Retry::No),
            (429, "upstream_throttled", Retry::After(UPSTREAM_RETRY)),
            (500, "upstream_unavailable", Retry::No),
            (529, "upstream_overloaded", Retry::After(UPSTREAM_RETRY)),
        ];
        let body = r#"{"type":"error","error":{"type":"its_error","message":"why","details":{"error_code":"c"}},"request_id":"req_theirs"}"#;
        for (status, code, retry) in table {
            let error = told(status, body, None);
            assert_eq!((error.status.as_u16(), error.code, error.retry), (status, code, retry));
            let vendors = error.vendors.unwrap();
            assert_eq!((&*error.message, &*vendors.kind), ("why", "its_error"));
            assert_eq!(vendors.details.unwrap().get(), r#"{"error_code":"c"}"#);
        }
        assert_eq!(told(429, body, Some("7")).retry, Retry::After(Duration::from_secs(7)));
    }

    #[test]
    fn a_refused_credential_is_the_hosts_and_another_answer_is_the_upstreams_fault() {
        let body = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
        for status in [401, 403] {
            let error = told(status, body, None);
            assert_eq!((error.status.as_u16(), error.code), (502, "upstream_auth"));
            assert!(error.message.contains("invalid x-api-key") && error.vendors.is_none());
        }
        for (status, body) in [(404, "<html>"), (500, ""), (302, body), (304, ""), (404, r#"{"error":"text"}"#)] {
            let error = told(status, body, None);
            assert_eq!((error.status.as_u16(), error.code), (502, "upstream_unavailable"), "{status} {body}");
            assert!(error.message.contains(&status.to_string()) && error.vendors.is_none());
        }
        assert_eq!((told(429, "", None).status.as_u16(), told(401, "", None).code), (429, "upstream_auth"));
    }

    #[test]
    fn only_what_may_be_carried_out_twice_may_be_sent_twice() {
        let cut = || ForwardError::Send(SendError::Interrupted("cut".to_owned()));
        assert_eq!((of(cut(), true).retry, of(cut(), false).retry), (Retry::Yes, Retry::No));
        assert!(of(cut(), false).message.contains("not known"));
        let nothing_sent = ForwardError::Send(SendError::Unreachable("no route".to_owned()));
        assert_eq!(of(nothing_sent, false).retry, Retry::Yes);
        let refused = of(ForwardError::Send(SendError::Refused("the path has a dot segment".to_owned())), true);
        assert_eq!((refused.status.as_u16(), refused.retry), (400, Retry::No));
    }
}
