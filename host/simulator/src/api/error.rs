//! Why a request is refused, and how that looks on the wire.

use http::StatusCode;
use serde::Serialize;

use crate::{incoming::Refused, patch::Unfit};

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("Authentication failed")]
    Unauthenticated,
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("Concurrent modification detected. Please fetch the latest version and retry.")]
    Conflict,
    #[error("Request exceeds the maximum size")]
    TooLarge,
}

impl ApiError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn no_such(kind: &str, id: &str) -> Self {
        Self::NotFound(format!("{kind} not found: {id}"))
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The error's `type`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "authentication_error",
            Self::NotFound(_) => "not_found_error",
            Self::Invalid(_) => "invalid_request_error",
            Self::Conflict => "conflict_error",
            Self::TooLarge => "request_too_large",
        }
    }
}

impl From<Unfit> for ApiError {
    fn from(Unfit(message): Unfit) -> Self {
        Self::Invalid(message)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::Invalid(refused.to_string())
    }
}

/// The body of every error.
#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
pub(crate) struct ErrorBody<'a> {
    pub(crate) error: ErrorDetail<'a>,
    pub(crate) request_id: &'a str,
}

#[derive(Serialize)]
pub(crate) struct ErrorDetail<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    pub(crate) message: &'a str,
}
