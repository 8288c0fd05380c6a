//! The versions of runtimes: how an operator adds one, looks at it, goes back and removes it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::BytesMut;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        error::Error,
        idempotency::{Attempt, replayed},
        json::{self, Json},
        on_disk,
        paced::Paced,
        principal::Principal,
    },
    runtimes::{Condition, Item},
};
use crate::{
    clock,
    id::ComponentDigest,
    registry::{AddError, NewVersion, Registry, Upload, VersionView, View, rules, slot},
    runtime::{COMPONENT_BYTES_MAX, Manifest},
    session::Sessions,
    vault::Vault,
};

/// What is written to the disk at once.
const PIECE_BYTES: usize = 1024 * 1024;

#[derive(Serialize)]
struct Uploaded {
    component: ComponentDigest,
    bytes: u64,
}

/// Takes a component in, under its digest. Nothing of it is looked at before it is added.
pub(in super::super) async fn upload(
    _: Principal,
    State(registry): State<Registry>,
    Path(digest): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let announced = digest_of(&digest)?;
    let upload = take(&registry, request.into_body()).await?;
    let bytes = upload.bytes();
    let component = registry.uploaded(upload);
    if component != announced {
        let message = format!(
            "what came has the digest {component}: name that one if the file is the right one, or send the file again"
        );
        return Err(Error::new(StatusCode::BAD_REQUEST, "digest_mismatch", message));
    }
    Ok(json::json(StatusCode::CREATED, &Uploaded { component, bytes }))
}

async fn take(registry: &Registry, body: Body) -> Result<Upload, Error> {
    let mut body = Paced::new(body, COMPONENT_BYTES_MAX as u64)?;
    let beginning = registry.clone();
    let mut upload = on_disk(move || beginning.upload()).await?.map_err(Error::of_disk)?;
    loop {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE_BYTES
            && let Some(more) = body.next().await?
        {
            piece.extend_from_slice(&more);
        }
        if piece.is_empty() {
            return Ok(upload);
        }
        let taken = on_disk(move || upload.take(&piece).map(|()| upload)).await?;
        upload = taken.map_err(Error::of_disk)?;
    }
}

fn digest_of(text: &str) -> Result<ComponentDigest, Error> {
    text.parse().map_err(|_| {
        let message = "a component is named by its digest: `sha256:` and the 64 hex digits that `sha256sum` prints";
        Error::new(StatusCode::BAD_REQUEST, "digest_invalid", message)
    })
}

/// A wish for another version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct New {
    component: String,
    /// The text of `runtime.toml`.
    manifest: String,
    #[serde(default)]
    grant: Option<String>,
}

/// Adds a runtime or another version of one, once the operator has agreed to what that changes.
pub(in super::super) async fn add(
    _: Principal,
    attempt: Attempt,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    let New { component, manifest, grant } = new;
    let component = digest_of(&component)?;
    if attempt.is_replay() {
        let Manifest { id, .. } = manifest.parse().map_err(AddError::Manifest)?;
        return Ok(replayed(shown(StatusCode::CREATED, registry, vault, id.to_string()).await?));
    }
    let added = registry.add(NewVersion { component, manifest, grant }, attempt.mark()).await?;
    let status = if added.changed { StatusCode::CREATED } else { StatusCode::OK };
    shown(status, registry, vault, added.id.to_string()).await
}

pub(in super::super) async fn get(
    _: Principal,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    shown(StatusCode::OK, registry, vault, id).await
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Back {
    /// The version; the one that was added before the current one by default.
    #[serde(default)]
    to: Option<String>,
}

/// Lets new sessions get an earlier version again.
pub(in super::super) async fn roll_back(
    _: Principal,
    attempt: Attempt,
    State(registry): State<Registry>,
    State(vault): State<Arc<Vault>>,
    Path(id): Path<String>,
    Json(back): Json<Back>,
) -> Result<Response, Error> {
    let to = back.to.as_deref().map(digest_of).transpose()?;
    if attempt.is_replay() {
        return Ok(replayed(shown(StatusCode::OK, registry, vault, id).await?));
    }
    registry.roll_back(&id, to, attempt.mark()).await.map_err(|error| Error::of_change(error, &id))?;
    shown(StatusCode::OK, registry, vault, id).await
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
    sessions.remove_runtime(&id).await.map_err(|error| Error::of_removal(error, &id))?;
    Ok(json::json(StatusCode::OK, &Removed { ok: true }))
}

pub(in super::super) async fn remove_version(
    _: Principal,
    sessions: Sessions,
    Path((id, component)): Path<(String, String)>,
) -> Result<Response, Error> {
    let component = digest_of(&component)?;
    sessions.remove_version(&id, component).await.map_err(|error| Error::of_removal(error, &id))?;
    Ok(json::json(StatusCode::OK, &Removed { ok: true }))
}

/// A runtime with all that its operator wants to know of it.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    item: Item,
    /// What new sessions' version may do; nothing where that cannot be read.
    #[serde(flatten)]
    authority: Option<Authority<'a>>,
    /// The latest added first.
    versions: Vec<Version<'a>>,
}

/// What a manifest grants.
#[derive(Serialize)]
struct Authority<'a> {
    contract: &'a str,
    /// The header that the credential goes into, with `…` for the credential.
    auth: String,
    /// What the component may send: methods, a space, and a path with all that is beneath it.
    allow: Vec<String>,
    /// What of clients' requests goes on to the upstream.
    forward: Vec<String>,
}

impl<'a> Authority<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        Self {
            contract: &manifest.contract,
            auth: slot(&manifest.auth),
            allow: rules(&manifest.allow),
            forward: rules(&manifest.forward),
        }
    }
}

#[derive(Serialize)]
struct Version<'a> {
    component: ComponentDigest,
    bytes: u64,
    imports: &'a [String],
    current: bool,
    added_at: String,
    grant: &'a str,
    #[serde(flatten)]
    condition: Condition,
    #[serde(flatten)]
    authority: Authority<'a>,
    manifest: &'a str,
}

impl<'a> From<&'a VersionView> for Version<'a> {
    fn from(view: &'a VersionView) -> Self {
        Self {
            component: view.profile.component,
            bytes: view.profile.component_bytes,
            imports: &view.imports,
            current: view.current,
            added_at: clock::rfc3339_of(view.added_ms),
            grant: &view.grant,
            condition: view.health.clone().into(),
            authority: Authority::of(&view.profile.manifest),
            manifest: &view.manifest,
        }
    }
}

async fn shown(status: StatusCode, registry: Registry, vault: Arc<Vault>, id: String) -> Result<Response, Error> {
    on_disk(move || {
        let view = registry.view(&id).ok_or_else(|| Error::runtime_not_found(&id))?;
        let item = Item::new(&view, &vault)?;
        let View { profile, versions, .. } = &view;
        let authority = profile.as_ref().map(|profile| Authority::of(&profile.manifest));
        Ok(json::json(status, &Detail { item, authority, versions: versions.iter().map(Version::from).collect() }))
    })
    .await?
}
