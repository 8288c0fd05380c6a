//! The API as a page asks it: by its routes and its guard, with the key that the page was asked for with. So a page shows
//! what a client of the same key gets, and nothing else, and a refusal of the API is the refusal of the page.

use axum::{Router, body::to_bytes, extract::FromRequestParts, response::Response};
use http::{HeaderMap, HeaderName, Request, header, request::Parts};
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::{
    super::{
        error::{Error, Refusal},
        principal::Principal,
    },
    viewer::Viewer,
};

/// What an answer of this host's own may have. Lists come in pages; the largest part is the manifests of a runtime.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What says who asks.
const IDENTITY: [HeaderName; 4] =
    [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), header::COOKIE, header::HOST];

/// The routes of the API, in the extensions of a request for a page.
#[derive(Clone)]
pub(in super::super) struct Routes(pub(in super::super) Router);

/// The API, for the principal of one request.
pub(in super::super) struct Api {
    router: Router,
    identity: HeaderMap,
    /// Who that is.
    pub(super) viewer: Viewer,
}

/// A piece of a list.
pub(super) struct Piece<T> {
    pub(super) items: T,
    /// What `after` must be for the next one; nothing at the end.
    pub(super) next: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Api {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // Who has not proven anything has nothing to ask.
        let principal = Principal::from_request_parts(parts, state).await?;
        let Routes(router) = parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Error::internal("a page of the console was not given the routes of the API"))?;
        let shown = IDENTITY.into_iter().filter_map(|name| Some((name.clone(), parts.headers.get(name)?.clone())));
        Ok(Self { router, identity: shown.collect(), viewer: Viewer::of(&principal) })
    }
}

impl Api {
    /// What is at a path of the API.
    ///
    /// # Errors
    /// Those of the API.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.piece(path).await?.items)
    }

    /// The same for a list that comes in pieces.
    ///
    /// # Errors
    /// Those of the API.
    pub(super) async fn piece<T: DeserializeOwned>(&self, path: &str) -> Result<Piece<T>, Error> {
        let response = self.answer(path).await?;
        let next = response.headers().get("x-next-page").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(Error::internal)?;
        let items = serde_json::from_slice(&body)
            .map_err(|error| Error::internal(format_args!("the console does not understand {path}: {error}")))?;
        Ok(Piece { items, next })
    }

    async fn answer(&self, path: &str) -> Result<Response, Error> {
        let mut request = Request::get(path).body(axum::body::Body::empty()).map_err(Error::internal)?;
        request.headers_mut().clone_from(&self.identity);
        let Ok(mut response) = self.router.clone().call(request).await;
        match response.extensions_mut().remove::<Refusal>() {
            Some(Refusal(error)) => Err((*error).clone()),
            None if response.status().is_success() => Ok(response),
            None => Err(Error::of_status(response.status())),
        }
    }
}
