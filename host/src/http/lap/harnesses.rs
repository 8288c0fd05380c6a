//! Aliases of runtimes, which the platform calls runtime harnesses: the same component under another name, with a credential
//! and a base of its own.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        error::Error,
        idempotency::{Attempt, replayed},
        json::{self, Json},
        offered, on_disk,
        principal::Principal,
    },
    probe,
    runtimes::{Item, Tool, base, store},
};
use crate::{
    id::RuntimeId,
    registry::{NewAlias, Registry},
    session::Sessions,
    upstream::NetworkPolicy,
    vault::{Secret, Vault},
};

#[derive(Serialize)]
struct List {
    /// What is no alias first.
    harnesses: Vec<Harness>,
}

#[derive(Serialize)]
struct Harness {
    alias: RuntimeId,
    /// The runtime whose component it runs; nothing where that cannot be read.
    api_spec: Option<RuntimeId>,
    display_name: String,
    api_base: Option<String>,
    /// False for an alias.
    is_default: bool,
    connected: bool,
    masked_api_key: Option<String>,
    probe: Option<probe::Item>,
    tools: Vec<Tool>,
}

impl From<Item> for Harness {
    fn from(item: Item) -> Self {
        let is_default = item.source != "alias";
        Self {
            api_spec: if is_default { Some(item.id.clone()) } else { item.alias_of },
            alias: item.id,
            display_name: item.name,
            api_base: item.api_base,
            is_default,
            connected: item.connected,
            masked_api_key: item.masked_api_key,
            probe: item.probe,
            tools: item.tools,
        }
    }
}

pub(in super::super) async fn list(
    _: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
) -> Result<Response, Error> {
    let harnesses = on_disk(move || {
        let items = registry.views().into_iter().map(|view| Item::new(&view, &vault).map(Harness::from));
        items.collect::<Result<Vec<_>, Error>>()
    });
    let mut harnesses = harnesses.await??;
    harnesses.sort_by_key(|harness| !harness.is_default);
    Ok(json::json(StatusCode::OK, &List { harnesses }))
}

#[derive(Deserialize)]
pub(in super::super) struct New {
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    api_spec: Option<String>,
    #[serde(default)]
    api_base: Option<String>,
    #[serde(default)]
    api_key: Option<Secret>,
}

pub(in super::super) async fn create(
    principal: Principal,
    attempt: Attempt,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    State(networks): State<NetworkPolicy>,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    if attempt.is_replay() {
        return Ok(replayed(list(principal, State(registry), State(vault)).await?));
    }
    let required = |field: &str| Error::invalid(format_args!("{field} is required"));
    let name = new.alias.ok_or_else(|| required("alias"))?;
    let of = new.api_spec.ok_or_else(|| required("api_spec"))?;
    let base = base(new.api_base.as_deref(), &networks)?.ok_or_else(|| required("api_base"))?;
    let api_key = new.api_key.ok_or_else(|| required("api_key"))?;
    registry.add_alias(NewAlias { name, of, api_key, base }, attempt.mark()).await?;
    list(principal, State(registry), State(vault)).await
}

#[derive(Deserialize)]
pub(in super::super) struct Change {
    #[serde(default)]
    api_key: Option<Secret>,
    #[serde(default)]
    api_base: Option<String>,
}

/// What is blank stays as it is; but a key goes nowhere else than where it was stored for, so another base takes a key.
pub(in super::super) async fn update(
    principal: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    State(networks): State<NetworkPolicy>,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Result<Response, Error> {
    if !registry.is_alias(&id) {
        return Err(if registry.named(&id).is_some() { Error::not_an_alias(&id) } else { Error::alias_not_found(&id) });
    }
    let runtime = offered(&registry, &id)?;
    let base = base(change.api_base.as_deref(), &networks)?;
    match (change.api_key.filter(|key| !key.is_blank()), base) {
        (Some(api_key), base) => store(&runtime, api_key, base, &networks, Arc::clone(&vault)).await?,
        (None, None) => {}
        (None, Some(base)) => {
            let (known, looked) = (Arc::clone(&vault), runtime.id().clone());
            let stored = on_disk(move || known.credential(&looked)).await??;
            if stored.is_none_or(|credential| credential.base != base) {
                let message = "api_key is required with another api_base: a key is not sent elsewhere than where it was stored for";
                return Err(Error::invalid(message));
            }
        }
    }
    list(principal, State(registry), State(vault)).await
}

#[derive(Serialize)]
struct Removed {
    ok: bool,
}

pub(in super::super) async fn remove(
    _: Principal,
    sessions: Sessions,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let ok = sessions.remove_alias(&id).await.map_err(|error| Error::of_alias_removal(error, &id))?;
    Ok(json::json(StatusCode::OK, &Removed { ok }))
}
