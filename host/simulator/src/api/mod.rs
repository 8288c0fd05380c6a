//! The wire: which request is refused before it is looked at, which is met by a fault, and who answers the rest.
//!
//! The checks come in the order of the hosted service: unknown path, key, beta header, version header. Only this folder
//! knows statuses and the shapes of bodies.

mod agents;
mod environments;
mod error;
mod events;
mod files;
mod models;
mod page;
mod query;
mod sessions;
mod shelves;
mod threads;

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::sleep;

use self::{
    error::{ApiError, ErrorBody, ErrorDetail},
    query::Query,
    shelves::{MEMORIES, MEMORY_STORES, VAULTS},
};
use crate::{
    endpoint::Endpoint,
    fault::{Answer, ErrorAnswer, RequestFault},
    feed::Feed,
    line::Line,
    record::{self, Credential},
    world::World,
};

/// The service's cap for a request's body.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The body of an answer: whole, or a stream.
pub(crate) type Payload = Either<Full<Bytes>, Box<Feed>>;

/// No answer: the connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the script hangs up")]
pub(crate) struct HangUp;

/// A request that passed all checks.
struct Call<'a> {
    world: &'a Arc<World>,
    line: &'a Arc<Line>,
    /// The first id in the path.
    id: &'a str,
    /// The id of what belongs to that.
    inner_id: &'a str,
    query: Query,
    content_type: Option<&'a str>,
    body: &'a Bytes,
}

/// What a call gives.
enum Answered {
    Json(Vec<u8>),
    Bytes { mime_type: String, filename: String, bytes: Bytes },
    Stream(Box<Feed>),
}

/// Answers one request.
pub(crate) async fn answer(
    world: Arc<World>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, HangUp> {
    let (head, body) = request.into_parts();
    let request_id = world.ids.mint("req");
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(refusal(&ApiError::TooLarge, &request_id));
    };
    let body = body.to_bytes();
    let route = Endpoint::of(&head.method, head.uri.path());
    let endpoint = route.map(|(endpoint, _)| endpoint);
    world.recorder.add(record::Request::new(endpoint, &head.method, &head.uri, &head.headers, &body));
    let fault = world.request_fault(endpoint, &body).unwrap_or_default();
    if !fault.finishes {
        return met(world, line, head, body, request_id, fault).await;
    }
    // A task of its own, which goes on when this one is dropped with its connection. It does not panic and is not aborted.
    let carried = tokio::spawn(met(world, line, head, body, request_id, fault));
    carried.await.unwrap_or(Err(HangUp))
}

/// Answers a request as its fault wants it.
async fn met(
    world: Arc<World>,
    line: Arc<Line>,
    head: Parts,
    body: Bytes,
    request_id: String,
    fault: RequestFault,
) -> Result<Response<Payload>, HangUp> {
    let route = Endpoint::of(&head.method, head.uri.path());
    let session_id = route.filter(|(endpoint, _)| *endpoint == Endpoint::EventsSend).map(|(_, [id, _])| id);
    let underway = session_id.map(|id| world.underway.begin(id));
    if fault.delay_ms > 0 {
        sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    match fault.answer {
        Answer::Error(error) => return Ok(scripted(&error, &head.headers, &request_id)),
        Answer::Silence => return pending().await,
        Answer::HangUp => return Err(HangUp),
        Answer::Real | Answer::Lost | Answer::Instead(_) | Answer::Swallowed => {}
    }
    let answer = check(&world, route, &head).and_then(|(endpoint, [id, inner_id])| {
        let query = Query::parse(head.uri.query());
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        dispatch(endpoint, &Call { world: &world, line: &line, id, inner_id, query, content_type, body: &body })
    });
    drop(underway);
    match fault.answer {
        Answer::Lost => return Err(HangUp),
        Answer::Swallowed => return pending().await,
        Answer::Instead(other) => return Ok(scripted(&other, &head.headers, &request_id)),
        Answer::Real | Answer::Error(_) | Answer::Silence | Answer::HangUp => {}
    }
    Ok(match answer {
        Ok(Answered::Json(json)) => respond(StatusCode::OK, "application/json", &request_id, whole(json)),
        Ok(Answered::Bytes { mime_type, filename, bytes }) => download(&mime_type, &filename, bytes, &request_id),
        Ok(Answered::Stream(feed)) => stream(feed, &request_id),
        Err(refused) => refusal(&refused, &request_id),
    })
}

/// The checks that come before any look at the body, in the service's order.
fn check<'a>(
    world: &World,
    route: Option<(Endpoint, [&'a str; 2])>,
    head: &Parts,
) -> Result<(Endpoint, [&'a str; 2]), ApiError> {
    let (endpoint, ids) = route.ok_or_else(|| ApiError::NotFound("Not found".to_owned()))?;
    let credential = Credential::of(&head.headers).ok_or(ApiError::Unauthenticated)?;
    // A host that hands on its client's key beside its own is found out.
    if head.headers.contains_key("x-api-key") && head.headers.contains_key(header::AUTHORIZATION) {
        return Err(ApiError::Unauthenticated);
    }
    if !world.takes(credential.key()) {
        return Err(ApiError::Unauthenticated);
    }
    let betas = head.headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    let needed = endpoint.betas();
    if !needed.is_empty() && !betas.flat_map(|list| list.split(',')).any(|beta| needed.contains(&beta.trim())) {
        return Err(ApiError::NotFound("not found".to_owned()));
    }
    if !head.headers.contains_key("anthropic-version") {
        return Err(ApiError::invalid("anthropic-version: header is required"));
    }
    Ok((endpoint, ids))
}

fn dispatch(endpoint: Endpoint, call: &Call<'_>) -> Result<Answered, ApiError> {
    match endpoint {
        Endpoint::AgentsCreate => agents::create(call),
        Endpoint::AgentsRetrieve => agents::retrieve(call),
        Endpoint::AgentsUpdate => agents::update(call),
        Endpoint::AgentsList => agents::list(call),
        Endpoint::AgentsArchive => agents::archive(call),
        Endpoint::AgentsVersionsList => agents::versions(call),
        Endpoint::EnvironmentsCreate => environments::create(call),
        Endpoint::EnvironmentsRetrieve => environments::retrieve(call),
        Endpoint::EnvironmentsUpdate => environments::update(call),
        Endpoint::EnvironmentsList => environments::list(call),
        Endpoint::EnvironmentsDelete => environments::delete(call),
        Endpoint::EnvironmentsArchive => environments::archive(call),
        Endpoint::SessionsCreate => sessions::create(call),
        Endpoint::SessionsRetrieve => sessions::retrieve(call),
        Endpoint::SessionsUpdate => sessions::update(call),
        Endpoint::SessionsList => sessions::list(call),
        Endpoint::SessionsDelete => sessions::delete(call),
        Endpoint::SessionsArchive => sessions::archive(call),
        Endpoint::EventsSend => events::send(call),
        Endpoint::EventsList => events::list(call),
        Endpoint::EventsStream => events::stream(call),
        Endpoint::ModelsList => models::list(),
        Endpoint::ModelsRetrieve => models::retrieve(call),
        Endpoint::FilesCreate => files::create(call),
        Endpoint::FilesList => files::list(call),
        Endpoint::FilesRetrieve => files::retrieve(call),
        Endpoint::FilesContent => files::content(call),
        Endpoint::FilesDelete => files::delete(call),
        Endpoint::MemoryStoresCreate => MEMORY_STORES.create(call),
        Endpoint::MemoryStoresList => MEMORY_STORES.list(call),
        Endpoint::MemoryStoresRetrieve => MEMORY_STORES.retrieve(call, call.id),
        Endpoint::MemoryStoresDelete => MEMORY_STORES.delete(call, call.id),
        Endpoint::MemoriesCreate => MEMORIES.create(call),
        Endpoint::MemoriesList => MEMORIES.list(call),
        Endpoint::MemoriesRetrieve => MEMORIES.retrieve(call, call.inner_id),
        Endpoint::VaultsCreate => VAULTS.create(call),
        Endpoint::VaultsList => VAULTS.list(call),
        Endpoint::VaultsRetrieve => VAULTS.retrieve(call, call.id),
        Endpoint::VaultsDelete => VAULTS.delete(call, call.id),
        Endpoint::ThreadsList => threads::list(call),
        Endpoint::ThreadsRetrieve => threads::retrieve(call),
        Endpoint::ThreadEventsList => threads::events(call),
        Endpoint::ThreadEventsStream => threads::stream(call),
    }
}

impl Call<'_> {
    /// The body, which is an object; an empty body has no fields.
    fn fields(&self) -> Result<Map<String, Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(self.body).map_err(|error| ApiError::invalid(format!("invalid JSON body: {error}")))
    }
}

impl Answered {
    fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        serde_json::to_vec(value).map(Self::Json).map_err(|error| ApiError::invalid(error.to_string()))
    }
}

/// `{"id": …, "type": "…_deleted"}`
#[derive(Serialize)]
struct Deleted<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// A page of a list that leads forward only.
#[derive(Serialize)]
struct Forward<T> {
    data: Vec<T>,
    next_page: Option<String>,
}

fn whole(body: impl Into<Bytes>) -> Payload {
    Either::Left(Full::new(body.into()))
}

fn respond(status: StatusCode, content_type: &'static str, request_id: &str, body: Payload) -> Response<Payload> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), value);
    }
    response
}

/// A file as bytes.
fn download(mime_type: &str, filename: &str, bytes: Bytes, request_id: &str) -> Response<Payload> {
    let mut response = respond(StatusCode::OK, "application/octet-stream", request_id, whole(bytes));
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::try_from(mime_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{filename}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

fn stream(feed: Box<Feed>, request_id: &str) -> Response<Payload> {
    let mut response = respond(StatusCode::OK, "text/event-stream; charset=utf-8", request_id, Either::Right(feed));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn refusal(error: &ApiError, request_id: &str) -> Response<Payload> {
    let body = error_body(error.kind(), &error.to_string(), request_id);
    respond(error.status(), "application/json", request_id, whole(body))
}

fn error_body(kind: &str, message: &str, request_id: &str) -> Vec<u8> {
    // Three texts always serialise.
    serde_json::to_vec(&ErrorBody { error: ErrorDetail { kind, message }, request_id }).unwrap_or_default()
}

/// The error of a script, with all its oddities.
fn scripted(error: &ErrorAnswer, headers: &HeaderMap, request_id: &str) -> Response<Payload> {
    let mut message = error.message.clone();
    if error.echo_credential
        && let Some(credential) = Credential::of(headers)
    {
        message = format!("{message} (credential {})", credential.key());
    }
    let body = error.body.clone().map_or_else(|| error_body(&error.kind, &message, request_id), String::into_bytes);
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, "application/json", request_id, whole(body));
    for (name, value) in &error.headers {
        // A header that HTTP does not know is left out: nobody could receive it.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
