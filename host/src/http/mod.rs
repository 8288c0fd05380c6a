//! Wire in, wire out. The only module that knows axum, statuses and the JSON that clients see.
//!
//! For `lib.rs`, which calls [`serve`]. Every way in stands in the table [`routes`], with who may use it: the router is
//! made of the table and of nothing else. A key is checked before a byte of the body is read.
//!
//! * `serve.rs` connections · `room.rs` how many · `head.rs` how long a request's head may take ·
//!   `stall.rs` for how long one may take nothing · `farewell.rs` how one ends
//! * `app.rs` what handlers work with, each with what its principal may see
//! * `exchange.rs` what every request and response have in common · `principal.rs` who asks · `tenure.rs` for how long ·
//!   `browser.rs` what browsers add to that · `unread.rs` whether a body was read to its end
//! * `idempotency.rs` requests that may come twice and shall be carried out once
//! * `dialect.rs` which API a request speaks · `paced.rs` bodies as they come ·
//!   `json.rs` bodies of JSON · `limit.rs` how long a page is · `error.rs` what is said of an error · `sse.rs` a cursor turned into a stream
//! * `console/` pages for people, which do nothing that the API does not do
//! * `lap/` the dialect of the LiteLLM Agent Platform, `anthropic/` that of Anthropic's official SDKs: a file for each noun
//! * `probe.rs`, `download.rs`, `call.rs` the other end: ask a running host how it is, for a backup, and for anything else
//!
//! Must not decide anything about a session, an agent or a credential; handlers translate and delegate.

mod anthropic;
mod app;
mod browser;
mod call;
mod console;
mod dialect;
mod download;
mod error;
mod exchange;
mod farewell;
mod head;
mod idempotency;
mod json;
mod lap;
mod limit;
mod paced;
mod principal;
mod probe;
mod room;
mod serve;
mod sse;
mod stall;
mod tenure;
mod unread;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use futures_util::FutureExt;
use http::{Method, StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

pub use self::dialect::Speaks;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use self::sse::seq_of;
use self::{
    anthropic::forward,
    error::Error,
    exchange::Template,
    lap::{
        agents, backup, capabilities, events, harnesses, health, keys, orphans, probe as credential, runtimes,
        sessions, status, versions,
    },
    principal::Principal,
};
pub use self::{
    app::{App, Services, StoreFiles},
    browser::ConsoleHosts,
    call::{CallError, Refused, Unanswered, call},
    download::{DownloadError, download},
    probe::{ProbeError, probe},
    serve::serve,
};
use crate::{access::Role, disk::NoRoom, registry::Registry, runtime::Profile};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can reach the port.
    Anyone,
    /// Whoever shows a valid key, or what a browser got for one, of this role or a higher one.
    Key(Role),
}

/// What a request needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomWish {
    /// Nothing is stored that must last.
    Nothing,
    /// It ends something, or changes a little of what there is: the disk's reserve is for that, too.
    Reserve,
    /// It adds to what is stored.
    More,
}

const fn room_wish(method: &Method) -> RoomWish {
    match *method {
        Method::GET => RoomWish::Nothing,
        Method::DELETE => RoomWish::Reserve,
        _ => RoomWish::More,
    }
}

/// One way in.
pub struct RouteInfo {
    /// The method.
    pub method: Method,
    /// The path, with `{id}` for what varies.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Which API it belongs to.
    pub speaks: Speaks,
    /// True when what it asks for is done upstream and not here.
    pub elsewhere: bool,
    /// What it needs of the disk.
    pub room: RoomWish,
    handler: fn(MethodFilter) -> MethodRouter<App>,
}

impl RouteInfo {
    /// The same, which may use the disk's reserve.
    const fn spared(mut self) -> Self {
        self.room = RoomWish::Reserve;
        self
    }
}

type Handler = fn(MethodFilter) -> MethodRouter<App>;

const READER: Role = Role::Reader;
const MEMBER: Role = Role::Member;
const ADMIN: Role = Role::Admin;

const fn route(role: Role, method: Method, path: &'static str, speaks: Speaks, handler: Handler) -> RouteInfo {
    let room = room_wish(&method);
    RouteInfo { method, path, access: Access::Key(role), speaks, elsewhere: false, room, handler }
}

/// A way in for anybody. What it stores is no more than who has signed in.
const fn unguarded(method: Method, path: &'static str, speaks: Speaks, handler: Handler) -> RouteInfo {
    RouteInfo { method, path, access: Access::Anyone, speaks, elsewhere: false, room: RoomWish::Nothing, handler }
}

const fn open(method: Method, path: &'static str, handler: Handler) -> RouteInfo {
    unguarded(method, path, Speaks::Lap, handler)
}

const fn keyed(role: Role, method: Method, path: &'static str, handler: Handler) -> RouteInfo {
    route(role, method, path, Speaks::Lap, handler)
}

/// A way in that both dialects have.
const fn shared(role: Role, method: Method, path: &'static str, handler: Handler) -> RouteInfo {
    route(role, method, path, Speaks::Both, handler)
}

/// A page of the console.
const fn page(role: Role, path: &'static str, handler: Handler) -> RouteInfo {
    route(role, Method::GET, path, Speaks::Browser, handler)
}

/// The same for what shows nothing that is anybody's.
const fn open_page(path: &'static str, handler: Handler) -> RouteInfo {
    unguarded(Method::GET, path, Speaks::Browser, handler)
}

/// A form that somebody sends who need not have signed in. Its handler checks where it comes from.
const fn open_form(path: &'static str, handler: Handler) -> RouteInfo {
    unguarded(Method::POST, path, Speaks::Browser, handler)
}

/// A way in of the Anthropic dialect.
const fn beta(role: Role, method: Method, path: &'static str, handler: Handler) -> RouteInfo {
    route(role, method, path, Speaks::Anthropic { betas: MANAGED }, handler)
}

/// A way through this host to the vendor's API.
const fn onward(role: Role, method: Method, path: &'static str, betas: Betas, handler: Handler) -> RouteInfo {
    let access = Access::Key(role);
    RouteInfo {
        method,
        path,
        access,
        speaks: Speaks::Anthropic { betas },
        elsewhere: true,
        room: RoomWish::Nothing,
        handler,
    }
}

/// The same for what belongs to the account as a whole: it has no owner here, so it is for admins.
const fn account(method: Method, path: &'static str, betas: Betas) -> RouteInfo {
    onward(ADMIN, method, path, betas, |m| on(m, forward::of_account))
}

/// The same for what belongs to a session.
const fn session(role: Role, method: Method, path: &'static str) -> RouteInfo {
    onward(role, method, path, MANAGED, |m| on(m, forward::of_session))
}

/// What the vendor's API has and this host refuses.
const fn refused(method: Method, path: &'static str, betas: Betas) -> RouteInfo {
    onward(READER, method, path, betas, |m| on(m, forward::refused))
}

/// The betas of which a request must ask for one.
type Betas = &'static [&'static str];

/// What is for everybody. Older SDKs ask for a beta there, too.
const FREE: Betas = &[];
const MANAGED: Betas = &[anthropic::BETA];
const MEMORY: Betas = &[anthropic::MEMORY_BETA, anthropic::BETA];
const DREAMS: Betas = &[anthropic::DREAMS_BETA, anthropic::BETA];

static ROUTES: &[RouteInfo] = &[
    open(Method::GET, "/health", |m| on(m, health::health)),
    open(Method::GET, "/healthz", |m| on(m, health::health)),
    open(Method::GET, "/readyz", |m| on(m, health::ready)),
    open_page("/", |m| on(m, console::root)),
    page(READER, "/console", |m| on(m, console::overview)),
    page(READER, "/console/agents", |m| on(m, console::agents)),
    page(MEMBER, "/console/agents/new", |m| on(m, console::new_agent)),
    page(READER, "/console/agents/{id}", |m| on(m, console::agent)),
    page(READER, "/console/runtimes", |m| on(m, console::runtimes)),
    page(READER, "/console/runtimes/{id}", |m| on(m, console::runtime)),
    page(READER, "/console/sessions", |m| on(m, console::sessions)),
    page(ADMIN, "/console/settings/credentials", |m| on(m, console::credentials)),
    page(ADMIN, "/console/keys", |m| on(m, console::keys)),
    page(READER, "/console/sessions/{id}", |m| on(m, console::watcher)),
    page(READER, "/console/{*rest}", |m| on(m, console::lost)),
    open_page("/console/sign-in", |m| on(m, console::sign_in)),
    open_form("/console/sign-in", |m| on(m, console::signed_in)),
    open_form("/console/sign-out", |m| on(m, console::sign_out)),
    open_page("/console/assets/{digest}/{*name}", |m| on(m, console::asset)),
    keyed(ADMIN, Method::GET, "/api/backup", |m| on(m, backup::get)),
    keyed(ADMIN, Method::GET, "/api/status", |m| on(m, status::get)),
    keyed(READER, Method::GET, "/api/capabilities", |m| on(m, capabilities::get)),
    keyed(READER, Method::GET, "/api/me", |m| on(m, keys::me)),
    keyed(ADMIN, Method::GET, "/api/keys", |m| on(m, keys::list)),
    keyed(ADMIN, Method::POST, "/api/keys", |m| on(m, keys::mint)),
    keyed(ADMIN, Method::DELETE, "/api/keys/{id}", |m| on(m, keys::revoke)),
    keyed(READER, Method::GET, "/api/agent-runtimes", |m| on(m, runtimes::list)),
    keyed(ADMIN, Method::POST, "/api/agent-runtimes", |m| on(m, versions::add)),
    keyed(READER, Method::GET, "/api/agent-runtimes/{id}", |m| on(m, versions::get)),
    keyed(ADMIN, Method::DELETE, "/api/agent-runtimes/{id}", |m| on(m, versions::remove)),
    keyed(ADMIN, Method::POST, "/api/agent-runtimes/{id}/rollback", |m| on(m, versions::roll_back)).spared(),
    keyed(ADMIN, Method::DELETE, "/api/agent-runtimes/{id}/versions/{component}", |m| on(m, versions::remove_version)),
    keyed(ADMIN, Method::PUT, "/api/components/{digest}", |m| on(m, versions::upload)),
    keyed(ADMIN, Method::PUT, "/api/agent-runtimes/{id}/credentials", |m| on(m, runtimes::put_credential)).spared(),
    keyed(ADMIN, Method::DELETE, "/api/agent-runtimes/{id}/credentials", |m| on(m, runtimes::remove_credential)),
    keyed(ADMIN, Method::POST, "/api/agent-runtimes/{id}/credentials/probe", |m| on(m, credential::probe)).spared(),
    keyed(READER, Method::GET, "/api/runtime-harnesses", |m| on(m, harnesses::list)),
    keyed(ADMIN, Method::POST, "/api/runtime-harnesses", |m| on(m, harnesses::create)),
    keyed(ADMIN, Method::PUT, "/api/runtime-harnesses/{id}", |m| on(m, harnesses::update)),
    keyed(ADMIN, Method::DELETE, "/api/runtime-harnesses/{id}", |m| on(m, harnesses::remove)),
    shared(READER, Method::GET, "/v1/models", |m| on(m, anthropic::models::list)),
    keyed(READER, Method::GET, "/api/agents", |m| on(m, agents::list)),
    keyed(MEMBER, Method::POST, "/api/agents", |m| on(m, agents::create)),
    keyed(READER, Method::GET, "/api/agents/{id}", |m| on(m, agents::get)),
    keyed(MEMBER, Method::PATCH, "/api/agents/{id}", |m| on(m, agents::update)),
    keyed(MEMBER, Method::DELETE, "/api/agents/{id}", |m| on(m, agents::delete)),
    keyed(MEMBER, Method::POST, "/api/agents/{id}/pause", |m| on(m, agents::pause)).spared(),
    keyed(MEMBER, Method::POST, "/api/agents/{id}/resume", |m| on(m, agents::resume)).spared(),
    keyed(READER, Method::GET, "/api/sessions/stream", |m| on(m, sessions::feed)),
    keyed(READER, Method::GET, "/api/orphans", |m| on(m, orphans::list)),
    keyed(ADMIN, Method::DELETE, "/api/orphans/{id}", |m| on(m, orphans::forget)),
    keyed(READER, Method::GET, "/session", |m| on(m, sessions::list)),
    keyed(MEMBER, Method::POST, "/session", |m| on(m, sessions::create)),
    keyed(READER, Method::GET, "/session/{id}", |m| on(m, sessions::get)),
    keyed(MEMBER, Method::DELETE, "/session/{id}", |m| on(m, sessions::delete)),
    keyed(READER, Method::GET, "/session/{id}/message", |m| on(m, sessions::messages)),
    keyed(MEMBER, Method::POST, "/session/{id}/message", |m| on(m, sessions::message)),
    keyed(MEMBER, Method::POST, "/session/{id}/prompt_async", |m| on(m, sessions::prompt)),
    keyed(MEMBER, Method::POST, "/session/{id}/kill", |m| on(m, sessions::kill)).spared(),
    keyed(MEMBER, Method::POST, "/session/{id}/interrupt", |m| on(m, sessions::interrupt)).spared(),
    keyed(MEMBER, Method::POST, "/session/{id}/abort", |m| on(m, sessions::interrupt)).spared(),
    keyed(READER, Method::GET, "/session/{id}/runtime_events", |m| on(m, events::stream)),
    keyed(READER, Method::GET, "/session/{id}/runtime_events/list", |m| on(m, events::list)),
    beta(MEMBER, Method::POST, "/v1/agents", |m| on(m, anthropic::agents::create)),
    beta(READER, Method::GET, "/v1/agents", |m| on(m, anthropic::agents::list_all)),
    beta(READER, Method::GET, "/v1/agents/{id}", |m| on(m, anthropic::agents::retrieve)),
    beta(MEMBER, Method::POST, "/v1/agents/{id}", |m| on(m, anthropic::agents::update)),
    beta(MEMBER, Method::POST, "/v1/agents/{id}/archive", |m| on(m, anthropic::agents::archive)).spared(),
    beta(READER, Method::GET, "/v1/agents/{id}/versions", |m| on(m, anthropic::agents::versions)),
    beta(MEMBER, Method::POST, "/v1/environments", |m| on(m, anthropic::environments::create)),
    beta(READER, Method::GET, "/v1/environments", |m| on(m, anthropic::environments::list)),
    beta(READER, Method::GET, "/v1/environments/{id}", |m| on(m, anthropic::environments::retrieve)),
    beta(MEMBER, Method::POST, "/v1/environments/{id}", |m| on(m, anthropic::environments::update)),
    beta(MEMBER, Method::DELETE, "/v1/environments/{id}", |m| on(m, anthropic::environments::delete)),
    beta(MEMBER, Method::POST, "/v1/environments/{id}/archive", |m| on(m, anthropic::environments::archive)).spared(),
    beta(MEMBER, Method::POST, "/v1/sessions", |m| on(m, anthropic::sessions::create)),
    beta(READER, Method::GET, "/v1/sessions", |m| on(m, anthropic::sessions::list)),
    beta(READER, Method::GET, "/v1/sessions/{id}", |m| on(m, anthropic::sessions::retrieve)),
    beta(MEMBER, Method::POST, "/v1/sessions/{id}", |m| on(m, anthropic::sessions::update)),
    beta(MEMBER, Method::DELETE, "/v1/sessions/{id}", |m| on(m, anthropic::sessions::delete)),
    beta(MEMBER, Method::POST, "/v1/sessions/{id}/archive", |m| on(m, anthropic::sessions::archive)).spared(),
    shared(READER, Method::GET, "/v1/sessions/{id}/events", |m| on(m, anthropic::events::page)),
    shared(MEMBER, Method::POST, "/v1/sessions/{id}/events", |m| on(m, anthropic::events::send)).spared(),
    shared(READER, Method::GET, "/v1/sessions/{id}/events/stream", |m| on(m, anthropic::events::stream)),
    route(READER, Method::GET, "/v1/models/{id}", Speaks::Anthropic { betas: FREE }, |m| {
        on(m, anthropic::models::retrieve)
    }),
    account(Method::POST, "/v1/files", FREE),
    account(Method::GET, "/v1/files", FREE),
    account(Method::GET, "/v1/files/{id}", FREE),
    account(Method::GET, "/v1/files/{id}/content", FREE),
    account(Method::DELETE, "/v1/files/{id}", FREE),
    account(Method::POST, "/v1/skills", FREE),
    account(Method::GET, "/v1/skills", FREE),
    account(Method::GET, "/v1/skills/{id}", FREE),
    account(Method::DELETE, "/v1/skills/{id}", FREE),
    account(Method::POST, "/v1/skills/{id}/versions", FREE),
    account(Method::GET, "/v1/skills/{id}/versions", FREE),
    account(Method::GET, "/v1/skills/{id}/versions/{version}", FREE),
    account(Method::DELETE, "/v1/skills/{id}/versions/{version}", FREE),
    account(Method::GET, "/v1/skills/{id}/versions/{version}/content", FREE),
    account(Method::POST, "/v1/vaults", MANAGED),
    account(Method::GET, "/v1/vaults", MANAGED),
    account(Method::GET, "/v1/vaults/{id}", MANAGED),
    account(Method::POST, "/v1/vaults/{id}", MANAGED),
    account(Method::DELETE, "/v1/vaults/{id}", MANAGED),
    account(Method::POST, "/v1/vaults/{id}/archive", MANAGED),
    account(Method::POST, "/v1/vaults/{id}/credentials", MANAGED),
    account(Method::GET, "/v1/vaults/{id}/credentials", MANAGED),
    account(Method::GET, "/v1/vaults/{id}/credentials/{credential}", MANAGED),
    account(Method::POST, "/v1/vaults/{id}/credentials/{credential}", MANAGED),
    account(Method::DELETE, "/v1/vaults/{id}/credentials/{credential}", MANAGED),
    account(Method::POST, "/v1/vaults/{id}/credentials/{credential}/archive", MANAGED),
    account(Method::POST, "/v1/vaults/{id}/credentials/{credential}/mcp_oauth_validate", MANAGED),
    account(Method::POST, "/v1/memory_stores", MEMORY),
    account(Method::GET, "/v1/memory_stores", MEMORY),
    account(Method::GET, "/v1/memory_stores/{id}", MEMORY),
    account(Method::POST, "/v1/memory_stores/{id}", MEMORY),
    account(Method::DELETE, "/v1/memory_stores/{id}", MEMORY),
    account(Method::POST, "/v1/memory_stores/{id}/archive", MEMORY),
    account(Method::POST, "/v1/memory_stores/{id}/memories", MEMORY),
    account(Method::GET, "/v1/memory_stores/{id}/memories", MEMORY),
    account(Method::GET, "/v1/memory_stores/{id}/memories/{memory}", MEMORY),
    account(Method::POST, "/v1/memory_stores/{id}/memories/{memory}", MEMORY),
    account(Method::DELETE, "/v1/memory_stores/{id}/memories/{memory}", MEMORY),
    account(Method::GET, "/v1/memory_stores/{id}/memory_versions", MEMORY),
    account(Method::GET, "/v1/memory_stores/{id}/memory_versions/{version}", MEMORY),
    account(Method::POST, "/v1/memory_stores/{id}/memory_versions/{version}/redact", MEMORY),
    session(READER, Method::GET, "/v1/sessions/{id}/threads"),
    session(READER, Method::GET, "/v1/sessions/{id}/threads/{thread}"),
    session(MEMBER, Method::POST, "/v1/sessions/{id}/threads/{thread}/archive"),
    session(READER, Method::GET, "/v1/sessions/{id}/threads/{thread}/events"),
    session(READER, Method::GET, "/v1/sessions/{id}/threads/{thread}/stream"),
    session(MEMBER, Method::POST, "/v1/sessions/{id}/resources"),
    session(READER, Method::GET, "/v1/sessions/{id}/resources"),
    session(READER, Method::GET, "/v1/sessions/{id}/resources/{resource}"),
    session(MEMBER, Method::POST, "/v1/sessions/{id}/resources/{resource}"),
    session(MEMBER, Method::DELETE, "/v1/sessions/{id}/resources/{resource}"),
    refused(Method::POST, "/v1/deployments", MANAGED),
    refused(Method::GET, "/v1/deployments", MANAGED),
    refused(Method::GET, "/v1/deployments/{id}", MANAGED),
    refused(Method::POST, "/v1/deployments/{id}", MANAGED),
    refused(Method::POST, "/v1/deployments/{id}/archive", MANAGED),
    refused(Method::POST, "/v1/deployments/{id}/pause", MANAGED),
    refused(Method::POST, "/v1/deployments/{id}/unpause", MANAGED),
    refused(Method::POST, "/v1/deployments/{id}/run", MANAGED),
    refused(Method::GET, "/v1/deployment_runs", MANAGED),
    refused(Method::GET, "/v1/deployment_runs/{id}", MANAGED),
    refused(Method::POST, "/v1/dreams", DREAMS),
    refused(Method::GET, "/v1/dreams", DREAMS),
    refused(Method::GET, "/v1/dreams/{id}", DREAMS),
    refused(Method::POST, "/v1/dreams/{id}/archive", DREAMS),
    refused(Method::POST, "/v1/dreams/{id}/cancel", DREAMS),
    refused(Method::GET, "/v1/environments/{id}/work", MANAGED),
    refused(Method::GET, "/v1/environments/{id}/work/poll", MANAGED),
    refused(Method::GET, "/v1/environments/{id}/work/stats", MANAGED),
    refused(Method::GET, "/v1/environments/{id}/work/{work}", MANAGED),
    refused(Method::POST, "/v1/environments/{id}/work/{work}", MANAGED),
    refused(Method::POST, "/v1/environments/{id}/work/{work}/ack", MANAGED),
    refused(Method::POST, "/v1/environments/{id}/work/{work}/heartbeat", MANAGED),
    refused(Method::POST, "/v1/environments/{id}/work/{work}/stop", MANAGED),
];

/// Every way in.
#[must_use]
pub fn routes() -> &'static [RouteInfo] {
    ROUTES
}

fn router(app: &App) -> Router {
    let api = table(app, |route| route.speaks != Speaks::Browser);
    let pages = table(app, |route| route.speaks == Speaks::Browser);
    pages.layer(Extension(console::Routes(api.clone()))).merge(api)
}

/// Some of the routes.
fn table(app: &App, wanted: fn(&RouteInfo) -> bool) -> Router {
    let table = routes().iter().filter(|route| wanted(route)).fold(Router::new(), |router, route| {
        // The table's methods are the standard ones, for each of which there is a filter.
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        let guard = middleware::from_fn_with_state((app.clone(), route), guard);
        router.route(route.path, (route.handler)(filter).route_layer(guard))
    });
    table.with_state(app.clone())
}

/// Lets a request pass to its handler, or not. Nothing of the body is read before that.
async fn guard(State((app, route)): State<(App, &'static RouteInfo)>, mut request: Request, next: Next) -> Response {
    let mut response = match admit(&app, route, &request) {
        Err(refusal) => *refusal,
        Ok(None) => unharmed(next.run(request)).await,
        Ok(Some(principal)) => {
            request.extensions_mut().insert(principal.clone());
            let request = tenure::bounded_request(request, principal.clone());
            let answered = if route.elsewhere {
                unharmed(next.run(request)).await
            } else {
                unharmed(idempotency::answer(&app, principal.clone(), request, next)).await
            };
            tenure::bounded(answered, principal)
        }
    };
    response.extensions_mut().insert(Template { path: route.path, speaks: route.speaks });
    response
}

/// Who asks, where the route wants to know that, if they may; otherwise what they are told.
fn admit(app: &App, route: &RouteInfo, request: &Request) -> Result<Option<Principal>, Box<Response>> {
    let Access::Key(role) = route.access else { return Ok(None) };
    let refused = |error: Error| Box::new(error.into_response());
    let headers = request.headers();
    let proven = Principal::prove(app.keys(), app.console_hosts(), request.method(), headers);
    let Some(principal) = proven.map_err(refused)? else {
        let page = route.speaks == Speaks::Browser;
        return Err(if page { Box::new(console::to_sign_in(request.uri())) } else { refused(Error::unauthorized()) });
    };
    principal.must_be(role).map_err(refused)?;
    route.speaks.check(headers).map_err(refused)?;
    if route.elsewhere {
        idempotency::refuse(request).map_err(refused)?;
    }
    match route.room {
        RoomWish::Nothing => {}
        RoomWish::Reserve => app.disk().writes().map_err(|frozen| refused(NoRoom::from(frozen).into()))?,
        RoomWish::More => app.disk().admit().map_err(|little| refused(little.into()))?,
    }
    Ok(Some(principal))
}

/// The response of a handler, also of one that panics. That is a defect of the host's, and no other request's concern.
async fn unharmed(handled: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(handled).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Error::internal(format_args!("a handler panicked: {}", text.unwrap_or("no text"))).into_response()
    })
}

/// The query of a URL.
struct Query<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Error::new(StatusCode::BAD_REQUEST, "query_invalid", format!("the query of the URL: {what}"))
        })
    }
}

/// What new sessions of a runtime get.
fn offered(registry: &Registry, id: &str) -> Result<Arc<Profile>, Error> {
    registry.get(id).ok_or_else(|| match registry.named(id) {
        // What is stored of it cannot be read.
        Some(_) => Error::runtime_broken(),
        None => Error::unsupported_runtime(id),
    })
}

/// Does what blocks on the disk where it holds nobody up.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|error| Error::internal(format_args!("a handler panicked: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tells_nothing_is_open_to_anyone() {
        let open = routes().iter().filter(|route| route.access == Access::Anyone).map(|route| route.path);
        assert_eq!(
            open.collect::<Vec<_>>(),
            [
                "/health",
                "/healthz",
                "/readyz",
                "/",
                "/console/sign-in",
                "/console/sign-in",
                "/console/sign-out",
                "/console/assets/{digest}/{*name}"
            ]
        );
    }

    #[test]
    fn only_what_ends_or_mends_something_may_use_the_reserve_of_the_disk() {
        let spared = routes().iter().filter(|route| route.room == RoomWish::Reserve && route.method != Method::DELETE);
        assert_eq!(
            spared.map(|route| route.path).collect::<Vec<_>>(),
            [
                "/api/agent-runtimes/{id}/rollback",
                "/api/agent-runtimes/{id}/credentials",
                "/api/agent-runtimes/{id}/credentials/probe",
                "/api/agents/{id}/pause",
                "/api/agents/{id}/resume",
                "/session/{id}/kill",
                "/session/{id}/interrupt",
                "/session/{id}/abort",
                "/v1/agents/{id}/archive",
                "/v1/environments/{id}/archive",
                "/v1/sessions/{id}/archive",
                // Its handler refuses prompts.
                "/v1/sessions/{id}/events",
            ]
        );
    }

    #[test]
    fn every_method_of_the_table_has_a_filter() {
        assert!(routes().iter().all(|route| MethodFilter::try_from(route.method.clone()).is_ok()));
    }
}
