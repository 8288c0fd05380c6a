//! What goes wrong with an upstream, as the session machine is told of it.

use std::time::Duration;

use lap_model::contract::ErrorKind;
use lap_session::{Cause, Failure};
use serde::Deserialize;

use super::LinkError;
use crate::{
    runtime::{CallError, Fault},
    upstream::{Response, SendError, StreamError},
};

/// How long it is waited for room for another guest.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How much of an answer without a sentence of its own is shown.
const TEXT_CHARS_MAX: usize = 300;

/// Why a step with the upstream did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the feed was refused: {0}")]
    Feed(#[from] StreamError),
}

impl From<&StepError> for Failure {
    fn from(error: &StepError) -> Self {
        match error {
            StepError::Link(error) => {
                let cause = match error {
                    LinkError::NoCredential => Cause::NoCredential,
                    LinkError::UnknownRuntime
                    | LinkError::BrokenRuntime(_)
                    | LinkError::BadCredential(_)
                    | LinkError::Moved => Cause::NoUpstream,
                };
                Self { cause, message: error.to_string(), retry_after: None }
            }
            StepError::Call(error) => Self::from(error),
            StepError::Feed(StreamError::Send(error)) => Self::of(ErrorKind::Upstream, error.to_string()),
            StepError::Feed(StreamError::Status(answer)) => refusal(answer),
        }
    }
}

impl From<&CallError> for Failure {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Fault(fault) => {
                let (cause, retry_after) = match fault {
                    Fault::Busy => (Cause::NoRoom, Some(ROOM_WAIT)),
                    Fault::Quarantined { retry_after } => (Cause::Quarantined, Some(*retry_after)),
                    Fault::Wall => (Cause::Slow, None),
                    Fault::Cpu | Fault::Memory | Fault::HostCalls | Fault::Trap(_) | Fault::Contract(_) => {
                        (Cause::Fault, None)
                    }
                };
                Self { cause, message: fault.to_string(), retry_after }
            }
            CallError::Declared(error) => Self {
                cause: Cause::Declared(error.kind.into()),
                message: error.message.clone(),
                retry_after: error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())),
            },
        }
    }
}

/// What it means that the upstream refuses a feed, in its own words.
pub(super) fn refusal(answer: &Response) -> Failure {
    let kind = match answer.status {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::Quota,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        410 => ErrorKind::Gone,
        429 => ErrorKind::Throttled,
        503 | 529 => ErrorKind::Overloaded,
        // The server's lost patience, and no fault of the request.
        408 | 425 => ErrorKind::Upstream,
        400..=499 => ErrorKind::BadRequest,
        _ => ErrorKind::Upstream,
    };
    let status = answer.status;
    let message = match sentence(&answer.body) {
        Some(sentence) => format!("the upstream answered with status {status}: {sentence}"),
        None => format!("the upstream answered with status {status}"),
    };
    Failure { retry_after: answer.retry_after(), ..Failure::of(kind, message) }
}

/// Why a polled feed cannot go on; nothing where the connection failed, which is a cut.
pub(super) fn poll_refused(error: &SendError) -> Option<Failure> {
    match error {
        SendError::Refused(_) => Some(Failure::of(ErrorKind::BadRequest, error.to_string())),
        SendError::TooLarge => Some(Failure::of(ErrorKind::Upstream, error.to_string())),
        SendError::Unreachable(_) | SendError::Interrupted(_) => None,
    }
}

/// What an error's body says, in any of the shapes that vendors use.
fn sentence(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        error: Option<serde_json::Value>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        detail: Option<serde_json::Value>,
    }
    let said = match serde_json::from_str::<Told>(body) {
        Ok(Told { error, message, detail }) => {
            let of_error = error.as_ref().and_then(|error| error.as_str().or_else(|| error["message"].as_str()));
            let of_detail = detail.as_ref().and_then(serde_json::Value::as_str);
            of_error.or(message.as_deref()).or(of_detail).unwrap_or(body).to_owned()
        }
        Err(_) => body.to_owned(),
    };
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let said: String = said.trim().chars().take(TEXT_CHARS_MAX).map(shown).collect();
    (!said.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_vendor_s_words() {
        for (body, said) in [
            (r#"{"type":"error","error":{"type":"x","message":"prompt is too long"}}"#, Some("prompt is too long")),
            (r#"{"error":"no such model"}"#, Some("no such model")),
            (r#"{"message":"quota\nexceeded"}"#, Some("quota exceeded")),
            (r#"{"detail":"Not Found"}"#, Some("Not Found")),
            ("<html>Bad gateway</html>", Some("<html>Bad gateway</html>")),
            ("  ", None),
        ] {
            assert_eq!(sentence(body).as_deref(), said, "{body}");
        }
        assert_eq!(sentence(&"x".repeat(1000)).map(|said| said.len()), Some(TEXT_CHARS_MAX));
    }

    #[test]
    fn each_status_has_its_kind() {
        let kind = |status| refusal(&Response { status, headers: Vec::new(), body: String::new() }).kind();
        for (status, expected) in [
            (400, ErrorKind::BadRequest),
            (401, ErrorKind::Auth),
            (403, ErrorKind::Auth),
            (404, ErrorKind::NotFound),
            (408, ErrorKind::Upstream),
            (409, ErrorKind::Conflict),
            (410, ErrorKind::Gone),
            (425, ErrorKind::Upstream),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Upstream),
            (503, ErrorKind::Overloaded),
            (529, ErrorKind::Overloaded),
        ] {
            assert_eq!(kind(status), expected, "{status}");
        }
    }
}
