//! Which runtime is meant by a request of an API that knows one only.

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;

use super::{super::error::Error, metadata::Metadata};
use crate::{http::App, id::RuntimeId};

/// Names the runtime of a request.
const HEADER: &str = "lap-runtime";

/// The same, as a note on an agent.
const KEY: &str = "lap.runtime";

/// The runtime that a request names in its header, and the one that the operator has chosen for all others.
pub(in super::super) struct Chosen {
    named: Option<RuntimeId>,
    default: RuntimeId,
}

impl Chosen {
    /// The runtime for what has no notes.
    pub(in super::super) fn runtime(self) -> RuntimeId {
        self.named.unwrap_or(self.default)
    }

    /// Its name, for a look at it.
    pub(in super::super) fn id(&self) -> &RuntimeId {
        self.named.as_ref().unwrap_or(&self.default)
    }

    /// The runtime for a new agent with these notes: the header's, or the note's.
    ///
    /// # Errors
    /// When the note names none.
    pub(in super::super) fn for_agent(self, metadata: &Metadata) -> Result<RuntimeId, Error> {
        match (self.named, metadata.get(KEY)) {
            (Some(named), _) => Ok(named),
            (None, Some(name)) => parse(name),
            (None, None) => Ok(self.default),
        }
    }
}

fn parse(name: &str) -> Result<RuntimeId, Error> {
    name.parse().map_err(|_| Error::unsupported_runtime(name))
}

impl<S: Sync> FromRequestParts<S> for Chosen
where
    App: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let named = parts.headers.get(HEADER).map(|value| parse(value.to_str().unwrap_or("?"))).transpose()?;
        Ok(Self { named, default: App::from_ref(state).default_runtime().clone() })
    }
}
