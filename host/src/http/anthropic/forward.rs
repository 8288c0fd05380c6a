//! What goes on to the vendor's API as it is, because that API is what this dialect speaks: files, skills, vaults, memory
//! stores, and a session's threads and resources.
//!
//! A runtime's manifest says which of it the runtime has. The upstream gets the client's request without the client's key,
//! and the client gets the answer without the host's. Bodies pass in pieces. Of all ids only a session's is another one
//! there: it is exchanged in paths, in queries and in answers.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use axum::{
    body::Body,
    extract::{FromRef, FromRequestParts, Request},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    super::{
        app::{App, Draining},
        error::{Error, no_credential},
        offered, on_disk,
        paced::Paced,
        principal::Principal,
    },
    events::not_found,
    parameters::Parameters,
    refusal,
    runtime::Chosen,
};
use crate::{
    id::SessionId,
    registry::Registry,
    runtime::Profile,
    session::{LinkError, Session, Sessions},
    upstream::{self, Answer, FeedError, ForwardError, Outgoing, Renaming, SendError, Upstream},
};

/// The largest body of a request: the vendor takes files of 500 MB.
const BODY_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The headers of a request that are meant for the vendor's API. Above all no key: the host attaches its own.
const OF_REQUESTS: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

/// The headers of an answer that are meant for the client, with all that begin like the last one.
const OF_ANSWERS: [&str; 3] = ["content-type", "content-disposition", "retry-after"];
const OF_ANSWERS_PREFIX: &str = "anthropic-";

/// Query parameters that name a session.
const SESSION_PARAMETERS: [&str; 2] = ["scope_id", "session_id"];

/// What stands for a session's id in a manifest.
const SESSION: &str = "{session}";

/// A segment of a path: all but the unreserved characters of RFC 3986 are encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a request is handed on with.
pub(in super::super) struct Means {
    registry: Registry,
    /// Those that the principal sees: nobody else's are named upstream.
    sessions: Sessions,
    draining: Draining,
}

impl FromRequestParts<App> for Means {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let sessions = Sessions::from_request_parts(parts, app).await?;
        Ok(Self { registry: Registry::from_ref(app), sessions, draining: app.draining() })
    }
}

/// A request that belongs to the account as a whole.
pub(in super::super) async fn of_account(
    _: Principal,
    means: Means,
    chosen: Chosen,
    request: Request,
) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    let mut query = Parameters::from_request_parts(&mut parts, &()).await?.into_pairs();
    let path = parts.uri.path().to_owned();
    // A list may be that of a session, which then says where it is.
    let named = query.iter_mut().filter(|(name, _)| SESSION_PARAMETERS.contains(&name.as_str()));
    let mut named = named.filter_map(|(_, value)| value.parse::<SessionId>().ok().map(|id| (id, value)));
    let way = match named.next() {
        None => {
            let id = chosen.runtime();
            let runtime = offered(&means.registry, id.as_str())?;
            declared(&runtime, &parts.method, &path, &path)?;
            let sessions = means.sessions.clone();
            let upstream = on_disk(move || sessions.upstream(&id)).await?;
            Way { upstream: upstream.map_err(|error| unlinked(error, &runtime))?, session: None }
        }
        Some((id, value)) => {
            let way = Way::of_session(&means, id, &parts.method, &path, &path).await?;
            way.theirs().clone_into(value);
            way
        }
    };
    pass_on(&way, &parts, path, query, body, means.draining).await
}

/// A request that belongs to one session.
pub(in super::super) async fn of_session(_: Principal, means: Means, request: Request) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    let query = Parameters::from_request_parts(&mut parts, &()).await?.into_pairs();
    let (before, id, behind) =
        around_session(parts.uri.path()).ok_or_else(|| Error::of_status(StatusCode::NOT_FOUND))?;
    let session = id.parse().map_err(|_| not_found(id))?;
    let pattern = format!("{before}{SESSION}{behind}");
    let way = Way::of_session(&means, session, &parts.method, &pattern, behind).await?;
    let path = format!("{before}{}{behind}", utf8_percent_encode(way.theirs(), SEGMENT));
    pass_on(&way, &parts, path, query, body, means.draining).await
}

/// A request that no runtime has: it would let agents run upstream that this host does not know.
pub(in super::super) async fn refused(_: Principal, request: Request) -> Error {
    let noun = noun(request.uri().path());
    let message = format!(
        "{noun} are not served here: agents would run upstream without this host's sessions, and nobody here would see \
         what they do; start a session instead"
    );
    Error::unsupported(message)
}

/// The path up to a session's id, the id, and what follows it.
fn around_session(path: &str) -> Option<(&str, &str, &str)> {
    const BEFORE: &str = "/v1/sessions/";
    let rest = path.strip_prefix(BEFORE)?;
    let (id, behind) = rest.split_at(rest.find('/')?);
    Some((BEFORE, id, behind))
}

/// What a path is about: its first segment, and for what belongs to an environment the one behind that one's id.
fn noun(path: &str) -> &str {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let mut segments = path.trim_start_matches('/').split('/');
    match segments.next().unwrap_or_default() {
        "environments" => "an environment's work items",
        other => other,
    }
}

/// Refuses what the runtime's manifest does not declare. `pattern` is the path as a manifest writes it, and `about` the
/// part of it that says what it is about.
fn declared(runtime: &Profile, method: &Method, pattern: &str, about: &str) -> Result<(), Error> {
    if upstream_method(method).is_some_and(|method| runtime.forwards(method, pattern)) {
        return Ok(());
    }
    let (noun, runtime) = (noun(about), runtime.id());
    let message =
        format!("the runtime {runtime} does not offer {noun} for {method}: its manifest does not forward them");
    Err(Error::unsupported(message))
}

const fn upstream_method(method: &Method) -> Option<upstream::Method> {
    match *method {
        Method::GET => Some(upstream::Method::Get),
        Method::POST => Some(upstream::Method::Post),
        Method::DELETE => Some(upstream::Method::Delete),
        _ => None,
    }
}

fn unlinked(error: LinkError, runtime: &Profile) -> Error {
    match error {
        LinkError::NoCredential => no_credential(&runtime.description().provider_name),
        other => other.into(),
    }
}

/// Where a request goes.
struct Way {
    upstream: Upstream,
    /// The session that it is about, with its name there.
    session: Option<(SessionId, String)>,
}

impl Way {
    async fn of_session(
        means: &Means,
        id: SessionId,
        method: &Method,
        pattern: &str,
        about: &str,
    ) -> Result<Self, Error> {
        let sessions = means.sessions.clone();
        let session = on_disk(move || sessions.get(id)).await??.ok_or_else(|| not_found(&id.to_string()))?;
        let runtime = means.registry.get_for(&session.runtime, session.component).ok_or(LinkError::UnknownRuntime)?;
        declared(&runtime, method, pattern, about)?;
        let Some(theirs) = session.upstream_id.clone() else {
            let message = format!("the runtime {} does not tell what a session is called upstream", runtime.id());
            return Err(Error::unsupported(message));
        };
        let sessions = means.sessions.clone();
        let upstream = on_disk(move || sessions.upstream_of(&session as &Session)).await?;
        let upstream = upstream.map_err(|error| unlinked(error, &runtime))?;
        Ok(Self { upstream, session: Some((id, theirs)) })
    }

    /// The session's name upstream.
    fn theirs(&self) -> &str {
        self.session.as_ref().map_or("", |(_, theirs)| theirs)
    }

    /// The session as this host names it, in text that names it as the upstream does.
    fn renamed(&self, text: &str) -> String {
        match &self.session {
            Some((ours, theirs)) if !theirs.is_empty() => text.replace(theirs, &ours.to_string()),
            _ => text.to_owned(),
        }
    }

    /// The same for a body. An id there is a whole JSON string.
    fn renaming(&self) -> Option<Renaming> {
        let (ours, theirs) = self.session.as_ref()?;
        Renaming::new(format!("\"{theirs}\""), format!("\"{ours}\""))
    }
}

async fn pass_on(
    way: &Way,
    parts: &Parts,
    path: String,
    query: Vec<(String, String)>,
    body: Body,
    draining: Draining,
) -> Result<Response, Error> {
    let method = upstream_method(&parts.method).ok_or_else(|| Error::of_status(StatusCode::METHOD_NOT_ALLOWED))?;
    // The router takes one for an id, and a server may take two slashes for one.
    if path.split('/').skip(1).any(str::is_empty) {
        let message = "the request cannot be passed on: the path has an empty segment";
        return Err(Error::new(StatusCode::BAD_REQUEST, "invalid_request", message));
    }
    let request = upstream::Request { method, path, query, headers: headers(&parts.headers)?, body: None };
    let fault = Fault::default();
    let body = (method == upstream::Method::Post).then(|| outgoing(body, &fault)).transpose()?;
    match way.upstream.forward(request, body).await {
        Ok(answer) => Ok(response(answer, way.renaming(), draining)),
        Err(error) => {
            // The upstream had no chance where the client's own body failed.
            if let (ForwardError::Send(SendError::Interrupted(_)), Some(fault)) = (&error, fault.0.get()) {
                return Err(fault.clone());
            }
            let told = refusal::of(error, method != upstream::Method::Post);
            Err(Error { message: way.renamed(&told.message), ..told })
        }
    }
}

fn headers(given: &HeaderMap) -> Result<Vec<(String, String)>, Error> {
    let mut headers = Vec::new();
    for name in &OF_REQUESTS {
        for value in given.get_all(name) {
            let text = value.to_str().map_err(|_| {
                let message = format!("the header {name} has characters that are not visible ASCII");
                Error::new(StatusCode::BAD_REQUEST, "invalid_request", message)
            })?;
            headers.push((name.as_str().to_owned(), text.to_owned()));
        }
    }
    Ok(headers)
}

/// What was wrong with a body while it was on its way.
#[derive(Clone, Default)]
struct Fault(Arc<OnceLock<Error>>);

fn outgoing(
    body: Body,
    fault: &Fault,
) -> Result<Outgoing<impl Stream<Item = io::Result<Bytes>> + Send + use<>>, Error> {
    let body = Paced::new(body, BODY_BYTES_MAX)?;
    let length = body.length();
    let pieces = stream::unfold(Some((body, fault.clone())), async |state| {
        let (mut body, fault) = state?;
        match body.next().await {
            Ok(piece) => Some((Ok(piece?), Some((body, fault)))),
            Err(error) => {
                // One fault is noted, and it is the first.
                let _noted = fault.0.set(error);
                Some((Err(io::ErrorKind::InvalidData.into()), None))
            }
        }
    });
    Ok(Outgoing { length, pieces })
}

fn response(answer: Answer, renaming: Option<Renaming>, draining: Draining) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        // Another name of the session is of another length.
        let kept = OF_ANSWERS.contains(&name.as_str())
            || name.starts_with(OF_ANSWERS_PREFIX)
            || (name == "content-length" && renaming.is_none());
        if kept && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let endless =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if endless {
        // nginx would collect the events of a minute before it sends one.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let passing = Passing { answer, renaming, draining: endless.then_some(draining) };
    let mut response = Response::new(Body::from_stream(stream::unfold(Some(passing), Passing::next)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer on its way.
struct Passing {
    answer: Answer,
    renaming: Option<Renaming>,
    /// For what has no end of its own.
    draining: Option<Draining>,
}

impl Passing {
    /// The next piece. An error breaks the connection off, so that the client does not take it for the end.
    async fn next(state: Option<Self>) -> Option<(Result<Bytes, FeedError>, Option<Self>)> {
        let mut passing = state?;
        loop {
            let come = tokio::select! {
                come = passing.answer.chunk() => come,
                () = begun(&mut passing.draining) => return None,
            };
            match (come, &mut passing.renaming) {
                (Ok(Some(piece)), None) => return Some((Ok(piece), Some(passing))),
                (Ok(Some(piece)), Some(renaming)) => {
                    let renamed = renaming.push(piece);
                    if !renamed.is_empty() {
                        return Some((Ok(renamed), Some(passing)));
                    }
                }
                (Ok(None), None) => return None,
                (Ok(None), Some(renaming)) => return Some((Ok(renaming.finish()), None)),
                (Err(error), _) => {
                    tracing::warn!(%error, "an answer of the upstream's broke off on its way to a client");
                    return Some((Err(error), None));
                }
            }
        }
    }
}

/// Returns when the host shuts down, where that concerns anybody.
async fn begun(draining: &mut Option<Draining>) {
    match draining {
        Some(draining) => draining.begun().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_in_a_path_and_what_a_path_is_about_too() {
        let path = "/v1/sessions/ses_1/threads/t/stream";
        assert_eq!(around_session(path), Some(("/v1/sessions/", "ses_1", "/threads/t/stream")));
        assert_eq!(around_session("/v1/sessions/ses_1"), None);
        assert_eq!(
            (noun("/v1/files/f/content"), noun("/threads/t"), noun("/v1/dreams")),
            ("files", "threads", "dreams")
        );
    }

    #[test]
    fn of_a_requests_headers_those_pass_that_are_meant_for_the_vendor() {
        let given = [
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "c"),
            ("user-agent", "u"),
            ("x-forwarded-for", "f"),
            ("idempotency-key", "i"),
            ("lap-runtime", "r"),
            ("accept-encoding", "gzip"),
            ("accept", "application/json"),
            ("anthropic-beta", "a"),
            ("anthropic-workspace-id", "w"),
        ];
        let given = given.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let passed = headers(&given.collect()).unwrap();
        let passed: Vec<_> = passed.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(passed, [("accept", "application/json"), ("anthropic-beta", "a")]);
    }
}
