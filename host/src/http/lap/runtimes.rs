//! The runtimes: what they are, which credential they use, which models it may use.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Query,
        error::{Error, no_credential},
        json::{self, Json},
        offered, on_disk,
        principal::Principal,
    },
    probe,
};
use crate::{
    id::{ComponentDigest, RuntimeId},
    registry::{self, Registry, Source, View},
    runtime::{self, Description, HealthState, Profile},
    session::{LinkError, ModelsError, Sessions},
    upstream::{BaseUrl, NetworkPolicy},
    vault::{Secret, Vault},
};

#[derive(Serialize)]
struct List {
    runtimes: Vec<Item>,
}

/// A runtime, as every client sees it.
#[derive(Serialize)]
pub(super) struct Item {
    pub(super) id: RuntimeId,
    pub(super) name: String,
    default_api_base: String,
    credential_provider_id: String,
    credential_provider_name: String,
    pub(super) tools: Vec<Tool>,
    /// True when a credential is stored that the upstream did not refuse when it was tried last.
    pub(super) connected: bool,
    pub(super) api_base: Option<String>,
    pub(super) masked_api_key: Option<String>,
    /// What came of trying the credential that is stored now.
    pub(super) probe: Option<probe::Item>,
    /// `bundled`, `added` or `alias`.
    pub(super) source: &'static str,
    /// The runtime that an alias stands for; nothing for all others.
    pub(super) alias_of: Option<RuntimeId>,
    /// What new sessions get; nothing where that cannot be read.
    component: Option<ComponentDigest>,
    #[serde(flatten)]
    state: Condition,
    health: Option<Health>,
}

/// Whether a component can be loaded.
#[derive(Serialize)]
pub(super) struct Condition {
    /// `loaded`, `unloaded` or `failed`.
    state: &'static str,
    /// Why, where it is `failed`.
    failure: Option<String>,
}

impl From<registry::Health> for Condition {
    fn from(health: registry::Health) -> Self {
        match health {
            registry::Health::Loaded => Self { state: "loaded", failure: None },
            registry::Health::Unloaded => Self { state: "unloaded", failure: None },
            registry::Health::Failed(reason) => Self { state: "failed", failure: Some(reason.to_string()) },
        }
    }
}

/// How the component fares, over all sessions.
#[derive(Serialize)]
struct Health {
    state: &'static str,
    crashes: u64,
    /// Until it is tried again.
    retry_after_ms: Option<u128>,
}

impl From<runtime::Health> for Health {
    fn from(health: runtime::Health) -> Self {
        let (state, left) = match health.state {
            HealthState::Well => ("well", None),
            HealthState::Quarantined { left } => ("quarantined", Some(left)),
            HealthState::Probing => ("probing", None),
        };
        Self { state, crashes: health.crashes, retry_after_ms: left.map(|left| left.as_millis()) }
    }
}

#[derive(Serialize)]
pub(super) struct Tool {
    id: String,
    name: String,
    description: String,
    enabled_by_default: bool,
}

impl Item {
    /// Blocks on the vault.
    pub(super) fn new(view: &View, vault: &Vault) -> Result<Self, Error> {
        let credential = vault.credential(&view.id)?;
        let probe = probe::of(vault, credential.as_ref())?;
        let description = view.profile.as_ref().map(|profile| profile.description().clone());
        // What cannot be read has its name and nothing else.
        let description = description.unwrap_or_else(|| nameless(view.id.as_str()));
        let (source, alias_of) = match &view.source {
            Source::Bundled => ("bundled", None),
            Source::Added => ("added", None),
            Source::Alias(of) => ("alias", of.clone()),
        };
        let tool = |tool: runtime::Tool| {
            let runtime::Tool { id, name, description, enabled_by_default } = tool;
            Tool { id, name, description, enabled_by_default }
        };
        Ok(Self {
            id: view.id.clone(),
            name: description.name,
            default_api_base: description.default_base,
            credential_provider_id: description.provider_id,
            credential_provider_name: description.provider_name,
            tools: description.tools.into_iter().map(tool).collect(),
            connected: credential.is_some() && !probe.as_ref().is_some_and(probe::Item::is_refusal),
            api_base: credential.as_ref().map(|credential| credential.base.to_string()),
            masked_api_key: credential.map(|credential| credential.masked),
            probe,
            source,
            alias_of,
            component: view.profile.as_ref().map(|profile| profile.component),
            state: view.health.clone().into(),
            health: view.conduct.map(Health::from),
        })
    }
}

fn nameless(id: &str) -> Description {
    Description {
        id: id.to_owned(),
        name: id.to_owned(),
        default_base: String::new(),
        provider_id: String::new(),
        provider_name: String::new(),
        auth_header: String::new(),
        auth_scheme: String::new(),
        tools: Vec::new(),
    }
}

pub(in super::super) async fn list(
    _: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
) -> Result<Response, Error> {
    let runtimes =
        on_disk(move || registry.views().iter().map(|view| Item::new(view, &vault)).collect::<Result<_, Error>>());
    let runtimes = runtimes.await??;
    Ok(json::json(StatusCode::OK, &List { runtimes }))
}

/// A misspelt `api_base` would send the key to the vendor's own address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NewCredential {
    #[serde(default)]
    api_key: Option<Secret>,
    #[serde(default)]
    api_base: Option<String>,
}

pub(in super::super) async fn put_credential(
    principal: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    State(networks): State<NetworkPolicy>,
    Path(id): Path<String>,
    Json(new): Json<NewCredential>,
) -> Result<Response, Error> {
    let runtime = offered(&registry, &id)?;
    let api_key = new.api_key.ok_or_else(|| Error::invalid("api_key is required"))?;
    let base = base(new.api_base.as_deref(), &networks)?;
    store(&runtime, api_key, base, &networks, Arc::clone(&vault)).await?;
    list(principal, State(registry), State(vault)).await
}

/// The base that a client names, if it does.
pub(super) fn base(given: Option<&str>, networks: &NetworkPolicy) -> Result<Option<BaseUrl>, Error> {
    let given = given.map(str::trim).filter(|base| !base.is_empty());
    let parse =
        |base| BaseUrl::parse(base, networks).map_err(|error| Error::invalid(format_args!("api_base: {error}")));
    given.map(parse).transpose()
}

/// Stores a credential for a base: the given one, or the usual one. An alias has no usual one, and keeps the one that it has.
pub(super) async fn store(
    runtime: &Arc<Profile>,
    api_key: Secret,
    given: Option<BaseUrl>,
    networks: &NetworkPolicy,
    vault: Arc<Vault>,
) -> Result<(), Error> {
    let named = if given.is_some() { given } else { base(Some(&runtime.description().default_base), networks)? };
    let runtime = Arc::clone(runtime);
    on_disk(move || {
        let kept = || Ok::<_, Error>(vault.credential(runtime.id())?.map(|credential| credential.base));
        let base = if named.is_some() { named } else { kept()? };
        let base = base.ok_or_else(|| Error::invalid("api_base is required: an alias has no usual one"))?;
        vault.put_credential(runtime.id(), api_key, base)?;
        Ok(())
    })
    .await?
}

pub(in super::super) async fn remove_credential(
    _: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let runtime = registry.named(&id).ok_or_else(|| Error::unsupported_runtime(&id))?;
    let removed = on_disk(move || vault.remove_credential(&runtime)).await??;
    Ok(json::text(StatusCode::OK, format!("{{\"ok\":{removed}}}")))
}

#[derive(Deserialize)]
pub(in super::super) struct Whose {
    #[serde(default)]
    runtime: Option<String>,
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'a str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'a str,
    created: u64,
    owned_by: &'a str,
}

/// The models of a runtime's credential. Without a runtime, those of the host itself: it has none.
pub(in super::super) async fn models(
    _: Principal,
    State(registry): State<Registry>,
    sessions: Sessions,
    Query(whose): Query<Whose>,
) -> Result<Response, Error> {
    let Some(id) = whose.runtime else {
        return Ok(json::json(StatusCode::OK, &Models { object: "list", data: Vec::new() }));
    };
    let runtime = offered(&registry, &id)?;
    let description = runtime.description();
    let models = sessions.models(runtime.id()).await.map_err(|error| match error {
        ModelsError::Link(LinkError::NoCredential) => no_credential(&description.provider_name),
        other => other.into(),
    })?;
    let owned_by = &*description.provider_id;
    let data = models.iter().map(|model| Model { id: &model.id, object: "model", created: 0, owned_by }).collect();
    Ok(json::json(StatusCode::OK, &Models { object: "list", data }))
}
