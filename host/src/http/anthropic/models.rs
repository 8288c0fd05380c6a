//! Models: those that the runtime's credential may use. Where the runtime forwards this part of its upstream's API, the
//! upstream tells itself; otherwise the host tells what the runtime knows, which is ids and names.

use axum::{
    extract::{FromRequestParts, Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;

use super::{
    super::{
        Query,
        dialect::Dialect,
        error::{Error, no_credential},
        json, lap, offered,
        principal::Principal,
    },
    Timestamp, forward,
    parameters::{Parameters, invalid},
    runtime::Chosen,
};
use crate::{
    registry::Registry,
    runtime::Model,
    session::{LinkError, ModelsError, Sessions},
    upstream,
};

/// How many models a page has, and at the most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 1000;

/// A page of the older style.
#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Item<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    display_name: &'a str,
    created_at: Timestamp,
    /// The runtime lists what can be used.
    lifecycle: &'static str,
    line: Unknown,
    capabilities: Unknown,
    max_input_tokens: Unknown,
    max_tokens: Unknown,
    deprecated_at: Unknown,
    retires_at: Unknown,
}

/// What a runtime does not tell: null.
type Unknown = Option<()>;

impl<'a> From<&'a Model> for Item<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            id: &model.id,
            kind: "model",
            display_name: if model.name.is_empty() { &model.id } else { &model.name },
            // The epoch stands for a date of release that is not known.
            created_at: Timestamp(0),
            lifecycle: "active",
            line: None,
            capabilities: None,
            max_input_tokens: None,
            max_tokens: None,
            deprecated_at: None,
            retires_at: None,
        }
    }
}

/// The models, in the dialect of the request.
pub(in super::super) async fn list(
    principal: Principal,
    State(registry): State<Registry>,
    sessions: Sessions,
    means: forward::Means,
    chosen: Chosen,
    request: Request,
) -> Result<Response, Error> {
    if Dialect::of(request.headers()) == Dialect::Lap {
        let (mut parts, _) = request.into_parts();
        let whose = Query::from_request_parts(&mut parts, &()).await?;
        return lap::runtimes::models(principal, State(registry), sessions, whose).await;
    }
    if forwards(&registry, &chosen, request.uri().path()) {
        return forward::of_account(principal, means, chosen, request).await;
    }
    let (mut parts, _) = request.into_parts();
    let parameters = Parameters::from_request_parts(&mut parts, &()).await?;
    let models = known(&registry, &sessions, chosen).await?;
    let page =
        page(&models, parameters.text("after_id"), parameters.text("before_id"), parameters.limit(LIMIT, LIMIT_MAX)?)?;
    Ok(json::json(StatusCode::OK, &page))
}

/// One model.
pub(in super::super) async fn retrieve(
    principal: Principal,
    State(registry): State<Registry>,
    sessions: Sessions,
    means: forward::Means,
    Path(id): Path<String>,
    chosen: Chosen,
    request: Request,
) -> Result<Response, Error> {
    if forwards(&registry, &chosen, request.uri().path()) {
        return forward::of_account(principal, means, chosen, request).await;
    }
    let models = known(&registry, &sessions, chosen).await?;
    let model = models.iter().find(|model| model.id == id);
    let model =
        model.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "model_not_found", format!("model {id} not found")))?;
    Ok(json::json(StatusCode::OK, &Item::from(model)))
}

fn forwards(registry: &Registry, chosen: &Chosen, path: &str) -> bool {
    let runtime = registry.get(chosen.id().as_str());
    runtime.is_some_and(|runtime| runtime.forwards(upstream::Method::Get, path))
}

/// The models as the runtime tells them.
async fn known(registry: &Registry, sessions: &Sessions, chosen: Chosen) -> Result<Vec<Model>, Error> {
    let id = chosen.runtime();
    let runtime = offered(registry, id.as_str())?;
    sessions.models(&id).await.map_err(|error| match error {
        ModelsError::Link(LinkError::NoCredential) => no_credential(&runtime.description().provider_name),
        other => other.into(),
    })
}

/// The models behind one or before one, in the runtime's order.
fn page<'a>(models: &'a [Model], after: Option<&str>, before: Option<&str>, limit: usize) -> Result<Page<'a>, Error> {
    let place = |name: &str, id: &str| {
        let place = models.iter().position(|model| model.id == id);
        place.ok_or_else(|| invalid(&format!("{name}: there is no such model")))
    };
    let first = after.map_or(Ok(0), |id| place("after_id", id).map(|place| place + 1))?;
    let end = before.map_or(Ok(models.len()), |id| place("before_id", id))?;
    let range = &models[first.min(end)..end];
    // Whoever walks backwards wants the neighbours of the model that was named.
    let shown = match (after, before) {
        (None, Some(_)) => &range[range.len().saturating_sub(limit)..],
        _ => &range[..range.len().min(limit)],
    };
    Ok(Page {
        data: shown.iter().map(Item::from).collect(),
        has_more: shown.len() < range.len(),
        first_id: shown.first().map(|model| &*model.id),
        last_id: shown.last().map(|model| &*model.id),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn models() -> Vec<Model> {
        ["a", "b", "c", "d"].map(|id| Model { id: id.to_owned(), name: String::new() }).into()
    }

    #[test]
    fn pages_lead_from_model_to_model_in_both_directions() {
        let models = models();
        let ids = |after, before, limit| {
            let page = page(&models, after, before, limit).unwrap();
            let ids: String = page.data.iter().map(|item| item.id).collect();
            (ids, page.has_more, page.first_id.map(str::to_owned), page.last_id.map(str::to_owned))
        };
        let told = |ids: &str, more: bool| {
            let end = |id: Option<char>| id.map(String::from);
            (ids.to_owned(), more, end(ids.chars().next()), end(ids.chars().last()))
        };
        assert_eq!(ids(None, None, 3), told("abc", true));
        assert_eq!(ids(Some("c"), None, 3), told("d", false));
        assert_eq!(ids(Some("d"), None, 3), told("", false));
        assert_eq!(ids(None, Some("d"), 2), told("bc", true));
        assert_eq!(ids(None, Some("b"), 2), told("a", false));
        assert_eq!(ids(Some("c"), Some("b"), 2), told("", false));
        assert!(page(&models, Some("x"), None, 1).is_err_and(|error| error.message.starts_with("after_id")));
    }

    #[test]
    fn a_model_has_the_keys_of_the_vendors_and_tells_nothing_that_is_not_known() {
        let told: Value = serde_json::to_value(Item::from(&models()[0])).unwrap();
        let expected = json!({
            "id": "a", "type": "model", "display_name": "a", "created_at": "1970-01-01T00:00:00.000Z", "lifecycle": "active",
            "line": null, "capabilities": null, "max_input_tokens": null, "max_tokens": null, "deprecated_at": null,
            "retires_at": null,
        });
        assert_eq!(told, expected);
    }
}
