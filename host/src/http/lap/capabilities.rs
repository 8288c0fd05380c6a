//! What this host can do, for clients that ask before they try.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;

use super::super::{json, principal::Principal, routes};
use crate::registry::Registry;

#[derive(Serialize)]
struct Capabilities<'a> {
    /// Agents of a configuration file, which this host does not have.
    agents: [&'a str; 0],
    endpoints: BTreeSet<&'a str>,
    gateway: &'a str,
    mcp_servers: [&'a str; 0],
    models: [&'a str; 0],
    providers: BTreeSet<&'a str>,
}

pub(in super::super) async fn get(_: Principal, State(registry): State<Registry>) -> Response {
    let runtimes = registry.all();
    let capabilities = Capabilities {
        agents: [],
        endpoints: routes().iter().map(|route| route.path).collect(),
        gateway: "lap",
        mcp_servers: [],
        models: [],
        providers: runtimes.iter().map(|runtime| &*runtime.description().provider_id).collect(),
    };
    json::json(StatusCode::OK, &capabilities)
}
