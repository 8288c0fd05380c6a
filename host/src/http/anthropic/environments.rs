//! Environments: made, shown, changed, put away, deleted.

use axum::{extract::Path, response::Response};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        error::Error,
        idempotency::{Attempt, replayed},
        json::{self, Json},
        on_disk,
        principal::Principal,
    },
    Deleted, Timestamp,
    metadata::{self, Metadata},
    page::{self, Cursor, collect},
    parameters::Parameters,
};
use crate::{
    agents::{Environment, Environments, Surroundings},
    clock,
    id::EnvironmentId,
};

const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;

/// How many environments a page has, and at the most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// The managers whose packages an environment may have.
const MANAGERS: [&str; 6] = ["apt", "cargo", "gem", "go", "npm", "pip"];

/// An environment as clients see it.
#[derive(Serialize)]
struct Item<'a> {
    id: EnvironmentId,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    description: Option<&'a str>,
    config: &'a RawValue,
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
}

impl<'a> From<&'a Environment> for Item<'a> {
    fn from(environment: &'a Environment) -> Self {
        let Surroundings { name, description, config, metadata, scope } = &environment.surroundings;
        Self {
            id: environment.id,
            kind: "environment",
            name,
            description: description.as_deref(),
            config,
            metadata,
            scope: scope.as_deref(),
            created_at: Timestamp(environment.created_ms),
            updated_at: Timestamp(environment.updated_ms),
            archived_at: environment.archived_ms.map(Timestamp),
        }
    }
}

fn answer(environment: &Environment) -> Response {
    json::json(StatusCode::OK, &Item::from(environment))
}

fn not_found(id: &str) -> Error {
    Error::new(StatusCode::NOT_FOUND, "environment_not_found", format!("environment {id} not found"))
}

fn named(id: &str) -> Result<EnvironmentId, Error> {
    id.parse().map_err(|_| not_found(id))
}

/// The environment that a change is for. The default one is nobody's to change.
fn own(id: &str) -> Result<EnvironmentId, Error> {
    let named = named(id)?;
    if named == Environments::DEFAULT {
        let message = format!("environment {id} is the default one and cannot be changed; make another one");
        return Err(Error::new(StatusCode::BAD_REQUEST, "environment_default", message));
    }
    Ok(named)
}

/// What a client says of a field: nothing, null, or a value.
type Wish<T> = Option<Option<T>>;

/// Tells null from nothing.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Wish<T>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What a client wants an environment to be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Wishes {
    name: Option<String>,
    #[serde(deserialize_with = "present")]
    description: Wish<String>,
    #[serde(deserialize_with = "present")]
    config: Wish<Config>,
    #[serde(deserialize_with = "present")]
    metadata: Wish<metadata::Patch>,
    #[serde(deserialize_with = "present")]
    scope: Wish<Scope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Organization,
    Account,
}

/// The kinds of environments.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Config {
    Cloud {
        #[serde(default)]
        networking: Option<Networking>,
        #[serde(default)]
        packages: Option<Packages>,
    },
    SelfHosted {},
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Networking {
    Unrestricted {},
    Limited {
        #[serde(default)]
        allowed_hosts: Option<Vec<String>>,
        #[serde(default)]
        allow_mcp_servers: Option<bool>,
        #[serde(default)]
        allow_package_managers: Option<bool>,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Packages {
    #[serde(rename = "type")]
    _kind: Option<String>,
    apt: Option<Vec<String>>,
    cargo: Option<Vec<String>>,
    gem: Option<Vec<String>>,
    go: Option<Vec<String>>,
    npm: Option<Vec<String>>,
    pip: Option<Vec<String>>,
}

impl Config {
    /// With every choice made that the client left open.
    fn resolved(self) -> Box<RawValue> {
        let value = match self {
            Self::SelfHosted {} => json!({"type": "self_hosted"}),
            Self::Cloud { networking, packages } => {
                let networking = match networking {
                    None | Some(Networking::Unrestricted {}) => json!({"type": "unrestricted"}),
                    Some(Networking::Limited { allowed_hosts, allow_mcp_servers, allow_package_managers }) => json!({
                        "type": "limited",
                        "allowed_hosts": allowed_hosts.unwrap_or_default(),
                        "allow_mcp_servers": allow_mcp_servers.unwrap_or_default(),
                        "allow_package_managers": allow_package_managers.unwrap_or_default(),
                    }),
                };
                let Packages { apt, cargo, gem, go, npm, pip, .. } = packages.unwrap_or_default();
                let packages: Value = MANAGERS
                    .into_iter()
                    .zip([apt, cargo, gem, go, npm, pip])
                    .map(|(manager, packages)| (manager.to_owned(), json!(packages.unwrap_or_default())))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
                json!({"type": "cloud", "networking": networking, "packages": packages})
            }
        };
        // Plain text and values: writing them cannot fail.
        serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

fn default_config() -> Box<RawValue> {
    Config::Cloud { networking: None, packages: None }.resolved()
}

impl Wishes {
    fn check(&self) -> Result<(), Error> {
        if let Some(name) = &self.name
            && (name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX)
        {
            return Err(Error::invalid(format_args!("name: must have 1 to {NAME_CHARS_MAX} characters")));
        }
        match &self.description {
            Some(Some(text)) if text.chars().count() > DESCRIPTION_CHARS_MAX => {
                Err(Error::invalid(format_args!("description: at most {DESCRIPTION_CHARS_MAX} characters")))
            }
            _ => Ok(()),
        }
    }

    fn apply(self, to: &mut Surroundings) -> Result<(), Error> {
        if let Some(name) = self.name {
            to.name = name;
        }
        if let Some(description) = self.description {
            to.description = description;
        }
        if let Some(config) = self.config {
            to.config = config.map_or_else(default_config, Config::resolved);
        }
        if let Some(scope) = self.scope {
            let name = |scope| match scope {
                Scope::Organization => "organization".to_owned(),
                Scope::Account => "account".to_owned(),
            };
            to.scope = scope.map(name);
        }
        match self.metadata {
            None => {}
            Some(None) => to.metadata.clear(),
            Some(Some(patch)) => to.metadata = metadata::patched(&to.metadata, patch)?,
        }
        Ok(())
    }
}

pub(in super::super) async fn create(
    _: Principal,
    attempt: Attempt,
    environments: Environments,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    let look = environments.clone();
    if let Some(environment) = attempt.made(move |id| look.get(id)).await? {
        return Ok(replayed(answer(&environment)));
    }
    wishes.check()?;
    if wishes.name.is_none() {
        return Err(Error::invalid("name: is required"));
    }
    let mut surroundings = Surroundings {
        name: String::new(),
        description: None,
        config: default_config(),
        metadata: Metadata::new(),
        scope: None,
    };
    wishes.apply(&mut surroundings)?;
    let environment = on_disk(move || environments.create(attempt.id(), surroundings)).await??;
    Ok(answer(&environment))
}

pub(in super::super) async fn retrieve(
    _: Principal,
    environments: Environments,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let environment = named(&id)?;
    let known = on_disk(move || environments.get(environment)).await??;
    Ok(answer(&known.ok_or_else(|| not_found(&id))?))
}

pub(in super::super) async fn update(
    _: Principal,
    attempt: Attempt,
    environments: Environments,
    Path(id): Path<String>,
    Json(wishes): Json<Wishes>,
) -> Result<Response, Error> {
    let environment = own(&id)?;
    if attempt.is_replay() {
        let known = on_disk(move || environments.get(environment)).await??;
        return Ok(replayed(answer(&known.ok_or_else(|| not_found(&id))?)));
    }
    wishes.check()?;
    let change = move |environment: &mut Environment| {
        if environment.archived_ms.is_some() {
            let message = format!("environment {} is archived and cannot be changed", environment.id);
            return Err(Error::new(StatusCode::BAD_REQUEST, "environment_archived", message));
        }
        wishes.apply(&mut environment.surroundings)
    };
    let environments = environments.noting(attempt.mark());
    let updated = on_disk(move || environments.update(environment, change)).await??;
    Ok(answer(&updated.ok_or_else(|| not_found(&id))?))
}

/// The latest made first.
pub(in super::super) async fn list(
    _: Principal,
    environments: Environments,
    parameters: Parameters,
) -> Result<Response, Error> {
    let (limit, archived) = (parameters.limit(LIMIT, LIMIT_MAX)?, parameters.flag("include_archived")?);
    let before = Cursor::of(&parameters, false)?.map(|cursor| EnvironmentId::from_bytes(cursor.key.to_be_bytes()));
    on_disk(move || {
        let wanted = |environment: &Environment| archived || environment.archived_ms.is_none();
        let read = |before, limit| environments.before(before, limit);
        let found = collect(before, limit, read, |environment| environment.id, wanted)?;
        let key = |id: EnvironmentId| u128::from_be_bytes(id.to_bytes());
        Ok(page::answer(&found, key, Item::from))
    })
    .await?
}

pub(in super::super) async fn archive(
    _: Principal,
    attempt: Attempt,
    environments: Environments,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let environment = own(&id)?;
    if attempt.is_replay() {
        let known = on_disk(move || environments.get(environment)).await??;
        return Ok(replayed(answer(&known.ok_or_else(|| not_found(&id))?)));
    }
    let change = |environment: &mut Environment| {
        environment.archived_ms.get_or_insert_with(clock::unix_ms);
        Ok::<_, Error>(())
    };
    let environments = environments.noting(attempt.mark());
    let archived = on_disk(move || environments.update(environment, change)).await??;
    Ok(answer(&archived.ok_or_else(|| not_found(&id))?))
}

pub(in super::super) async fn delete(
    _: Principal,
    environments: Environments,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let environment = own(&id)?;
    if on_disk(move || environments.delete(environment)).await?? {
        Ok(json::json(StatusCode::OK, &Deleted { id: environment, kind: "environment_deleted" }))
    } else {
        Err(not_found(&id))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn resolved(json: &str) -> Value {
        let config: Config = serde_json::from_str(json).unwrap();
        serde_json::from_str(config.resolved().get()).unwrap()
    }

    #[test]
    fn a_config_is_shown_with_every_choice_made() {
        let packages = json!({"apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": ["numpy"]});
        assert_eq!(
            resolved(
                r#"{"type":"cloud","networking":{"type":"limited","allowed_hosts":["a"]},"packages":{"pip":["numpy"]}}"#
            ),
            json!({
                "type": "cloud",
                "networking": {"type": "limited", "allowed_hosts": ["a"], "allow_mcp_servers": false, "allow_package_managers": false},
                "packages": packages,
            })
        );
        assert_eq!(resolved(r#"{"type":"self_hosted"}"#), json!({"type": "self_hosted"}));
        for bad in [r#"{"type":"moon"}"#, r#"{"type":"cloud","x":1}"#, r#"{"type":"self_hosted","packages":{}}"#] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
