//! Clients' keys, for admins; and who somebody is, for themselves.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::{
    error::Error,
    idempotency::{Attempt, replayed},
    json::{self, Json},
    on_disk,
    principal::Principal,
};
use crate::{
    access::{OwnerId, Role},
    clock,
    id::ClientKeyId,
    vault::{ClientKeys, KeyView, MintError, NewKey},
};

/// The longest label and the longest name of an owner, in bytes: people read them in a table.
const TEXT_BYTES_MAX: usize = 256;

/// A key as its operator sees it. Times are seconds since the epoch.
#[derive(Serialize)]
struct Item<'a> {
    id: ClientKeyId,
    label: Option<&'a str>,
    role: Role,
    owner_id: Option<&'a OwnerId>,
    created_at: u64,
    last_used_at: Option<u64>,
    expires_at: Option<u64>,
    /// Once, in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> Item<'a> {
    fn new(view: &'a KeyView, key: Option<&'a str>) -> Self {
        Self {
            id: view.id,
            label: view.label.as_deref(),
            role: view.role,
            owner_id: view.owner.as_ref(),
            created_at: view.created_ms / 1000,
            last_used_at: view.used_ms.map(|ms| ms / 1000),
            expires_at: view.expires_ms.map(|ms| ms / 1000),
            key,
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    keys: Vec<Item<'a>>,
}

/// The last made first.
pub(in super::super) async fn list(_: Principal, State(keys): State<ClientKeys>) -> Response {
    let views = keys.all();
    json::json(StatusCode::OK, &List { keys: views.iter().map(|view| Item::new(view, None)).collect() })
}

/// What a new key shall be. A field that this host does not know could be a limit that it would not keep.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct New {
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    owner_id: Option<String>,
    /// Seconds since the epoch.
    #[serde(default)]
    expires_at: Option<u64>,
}

impl New {
    fn checked(self, id: ClientKeyId) -> Result<NewKey, Error> {
        let role = self.role.unwrap_or(Role::Member);
        if role == Role::Admin && self.owner_id.is_some() {
            return Err(Error::invalid("an admin's key sees everybody's and has no `owner_id`"));
        }
        let text = |name, text: Option<String>| match text {
            Some(text) if text.trim().is_empty() => Err(Error::invalid(format_args!("{name} must not be blank"))),
            Some(text) if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) => Err(Error::invalid(
                format_args!("{name} must have at most {TEXT_BYTES_MAX} bytes and no control characters"),
            )),
            text => Ok(text),
        };
        let expires_ms = self.expires_at.map(|at| at.saturating_mul(1000));
        if expires_ms.is_some_and(|at| at <= clock::unix_ms()) {
            return Err(Error::invalid("expires_at must lie ahead, in seconds since the epoch"));
        }
        let owner = text("owner_id", self.owner_id)?.map_or_else(OwnerId::local, OwnerId::from);
        Ok(NewKey { id, label: text("label", self.label)?, role, owner, expires_ms })
    }
}

/// Makes a key. The route is for admins, who may do everything, so no key can be minted that may do more than its maker.
pub(in super::super) async fn mint(
    _: Principal,
    attempt: Attempt,
    State(keys): State<ClientKeys>,
    Json(new): Json<New>,
) -> Result<Response, Error> {
    let known = keys.clone();
    if let Some(view) = attempt.made(move |id| Ok::<_, Error>(known.get(id))).await? {
        // Without its text, which nobody has any more.
        return Ok(replayed(json::json(StatusCode::CREATED, &Item::new(&view, None))));
    }
    let new = new.checked(attempt.id())?;
    let (view, text) = on_disk(move || keys.mint(new)).await?.map_err(|error| match error {
        MintError::Full => Error::new(StatusCode::CONFLICT, "too_many_keys", format!("{error}; revoke some")),
        MintError::Store(error) => error.into(),
    })?;
    Ok(json::json(StatusCode::CREATED, &Item::new(&view, Some(text.as_str()))))
}

/// Revokes a key: what it has open ends at once.
pub(in super::super) async fn revoke(
    _: Principal,
    State(keys): State<ClientKeys>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let not_found = || Error::new(StatusCode::NOT_FOUND, "key_not_found", "there is no such key");
    let id = id.parse().map_err(|_| not_found())?;
    if on_disk(move || keys.revoke(id)).await?? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(not_found()) }
}

#[derive(Serialize)]
struct Me<'a> {
    name: &'a str,
    label: Option<&'a str>,
    role: Role,
    owner_id: Option<&'a OwnerId>,
}

/// Who asks.
pub(in super::super) async fn me(principal: Principal) -> Response {
    let owner_id = principal.scope().owner();
    let me = Me { name: principal.name(), label: principal.label(), role: principal.role(), owner_id };
    json::json(StatusCode::OK, &me)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<NewKey, String> {
        let new: New = serde_json::from_str(json).map_err(|error| error.to_string())?;
        new.checked(ClientKeyId::fresh()).map_err(|error| error.message)
    }

    #[test]
    fn a_key_is_a_member_of_the_documented_owner_unless_it_is_said_otherwise() {
        let plain = checked("{}").unwrap();
        assert_eq!((plain.label, plain.role, plain.owner.as_str()), (None, Role::Member, "local-user"));
        assert!(plain.expires_ms.is_none());
        let other = checked(r#"{"label":"ci","role":"reader","owner_id":"ann","expires_at":9999999999}"#).unwrap();
        assert_eq!((other.label.as_deref(), other.role, other.owner.as_str()), (Some("ci"), Role::Reader, "ann"));
        assert_eq!(other.expires_ms, Some(9_999_999_999_000));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        for json in [
            r#"{"role":"root"}"#,
            r#"{"role":"admin","owner_id":"ann"}"#,
            r#"{"owner_id":" "}"#,
            r#"{"label":""}"#,
            r#"{"label":"a\nb"}"#,
            r#"{"expires_at":1}"#,
            r#"{"expires_at":-1}"#,
            r#"{"scopes":[]}"#,
            &format!(r#"{{"label":"{}"}}"#, "l".repeat(TEXT_BYTES_MAX + 1)),
        ] {
            assert!(checked(json).is_err(), "{json}");
        }
    }
}
