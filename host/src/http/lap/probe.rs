//! Whether a stored credential works: tried with a request to its upstream, remembered, and shown.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;

use super::super::{
    error::{Error, no_credential},
    idempotency::{Attempt, replayed},
    json, offered, on_disk,
    principal::Principal,
};
use crate::{
    clock,
    registry::Registry,
    session::{Answer, LinkError, PROBE_TIME, Sessions},
    vault::{Credential, Finding, Probe, Vault},
};

/// A probe as clients see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    /// Null where the upstream was asked nothing, so that nobody knows.
    ok: Option<bool>,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<u64>,
}

impl Item {
    /// True when the upstream did not take the credential.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.as_deref() == Some(Error::UPSTREAM_AUTH)
    }
}

impl From<Probe> for Item {
    fn from(Probe { version: _, at_ms: at, finding }: Probe) -> Self {
        let (code, message) = (None, None);
        match finding {
            Finding::Works { models } => Self { ok: Some(true), at, code, message, models: Some(models) },
            Finding::Fails { code, message } => {
                Self { ok: Some(false), at, code: Some(code), message: Some(message), models: None }
            }
            Finding::Untried { message } => Self { ok: None, at, code, message: Some(message), models: None },
        }
    }
}

#[derive(Serialize)]
struct Probed {
    probe: Option<Item>,
}

/// What the upstream answers is the result, and no error of this request.
pub(in super::super) async fn probe(
    _: Principal,
    attempt: Attempt,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let runtime = offered(&registry, &id)?;
    if attempt.is_replay() {
        let known = on_disk(move || of(&vault, vault.credential(runtime.id())?.as_ref())).await??;
        return Ok(replayed(json::json(StatusCode::OK, &Probed { probe: known })));
    }
    let tried = sessions.probe(runtime.id()).await.map_err(|error| match error {
        LinkError::NoCredential => no_credential(&runtime.description().provider_name),
        other => other.into(),
    })?;
    let probe = Probe { version: tried.version, at_ms: clock::unix_ms(), finding: finding(tried.answer) };
    let noted = probe.clone();
    on_disk(move || vault.put_probe(runtime.id(), &noted)).await??;
    Ok(json::json(StatusCode::OK, &Probed { probe: Some(probe.into()) }))
}

/// What is known of the credential that is stored now. Blocks on the vault.
pub(super) fn of(vault: &Vault, credential: Option<&Credential>) -> Result<Option<Item>, Error> {
    let probe = credential.map(|credential| vault.probe(credential)).transpose()?;
    Ok(probe.flatten().map(Item::from))
}

fn finding(answer: Answer) -> Finding {
    let fails = |code: &str, message: String| Finding::Fails { code: code.to_owned(), message };
    match answer {
        Answer::Models(models) => Finding::Works { models: models as u64 },
        Answer::Unasked => {
            let message = "this runtime asks its upstream for no list of models, so the credential was not tried; the first \
                           session will tell";
            Finding::Untried { message: message.to_owned() }
        }
        Answer::Failed(error) => {
            let Error { code, message, .. } = error.into();
            fails(code, message)
        }
        Answer::Silence => {
            let seconds = PROBE_TIME.as_secs();
            fails("upstream_unavailable", format!("the upstream did not answer within {seconds} seconds"))
        }
    }
}
