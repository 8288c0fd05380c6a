//! The overview: how everything is, each line with what was really tried, and the first steps on a host that is new.

use axum::response::Response;
use maud::{Markup, html};

use super::{
    super::error::Error,
    answers::{Runtime, Runtimes, Session, Status},
    api::Api,
    credentials,
    elements::{Tone, badge, grouped, moment, size, unscripted},
    layout::{Frame, Section, page},
    runtimes, status,
};

/// Where `lap simulate` listens unless it is told otherwise.
const SIMULATED: &str = "http://127.0.0.1:4100";

/// How many of the sessions that run are named.
const RUNNING: usize = 10;

pub(in super::super) async fn overview(api: Api) -> Result<Response, Error> {
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    let running: Vec<Session> = api.get(&format!("/session?status=running&limit={RUNNING}")).await?;
    let status: Option<Status> = if api.viewer.administers() { Some(api.get("/api/status").await?) } else { None };
    let frame = Frame { section: Section::Overview, title: "Overview", scripts: &["overview.js"], viewer: api.viewer };
    Ok(page(&frame, &content(&runtimes, &running, status.as_ref())))
}

/// `status` is for those who manage the host.
fn content(runtimes: &[Runtime], running: &[Session], status: Option<&Status>) -> Markup {
    let connected = runtimes.iter().any(Runtime::has_credential);
    html! {
        header.top { h1 { "Overview" } @if connected { a.button.primary href="/console/agents/new" { "New agent" } } }
        (unscripted())
        div.stack {
            @if let (false, Some(status)) = (connected, status) { (first_steps(status)) }
            section aria-labelledby="checks" {
                h2 #checks { "Health" }
                ul.checks {
                    @if let Some(status) = status { (host(status)) }
                    @for runtime in runtimes { (check(runtime, status.is_some())) }
                }
            }
            section aria-labelledby="running" {
                h2 #running { "Running now" }
                @if running.is_empty() {
                    p.quiet { "No session runs a turn. " a href="/console/sessions" { "All sessions" } }
                } @else {
                    ul.checks {
                        @for session in running {
                            li {
                                a.what href={ "/console/sessions/" (session.id) } { (session.title) }
                                span.how { code { (session.runtime) } " · " (moment(session.time.updated)) }
                                (status::status(&session.status))
                            }
                        }
                    }
                    p { a href="/console/sessions?status=running" { "All that run" } }
                }
            }
        }
    }
}

fn line(what: &str, how: &Markup, state: &Markup) -> Markup {
    html! { li { span.what { (what) } span.how { (how) } (state) } }
}

fn host(status: &Status) -> Markup {
    let Status { version, started_at, sessions, store, vault, .. } = status;
    let writes = if store.fenced { badge(Tone::Bad, "Takes no writes") } else { badge(Tone::Good, "Takes writes") };
    html! {
        (line("Host", &html! { "version " (version) ", started " (moment(*started_at)) }, &badge(Tone::Good, "Up")))
        (line("Store", &html! {
            (size(store.bytes)) ", " (grouped(sessions.stored)) " sessions, " (grouped(sessions.live)) " of them live"
            @if store.fenced { ". A commit has failed: look into the log of the host, and start it again." }
        }, &writes))
        (line("Vault", &html! { (size(vault.bytes)) ", key " code { (vault.key_id) } }, &badge(Tone::Good, "Open")))
    }
}

/// A runtime: the worst that is known of it.
fn check(runtime: &Runtime, administers: bool) -> Markup {
    html! {
        li {
            a.what href={ "/console/runtimes/" (runtime.id) } { (runtime.name) }
            span.how {
                @if let Some(failure) = &runtime.failure {
                    (failure)
                } @else if !runtime.has_credential() {
                    "no credential is stored"
                    @if administers { ": " a href={ "/console/settings/credentials#credential-" (runtime.id) } { "store one" } }
                } @else {
                    "last probe " (credentials::told(runtime.probe.as_ref()))
                }
            }
            @if runtimes::fares_well(runtime) { (credentials::state(runtime)) } @else { (runtimes::state(runtime)) }
        }
    }
}

fn first_steps(status: &Status) -> Markup {
    html! {
        section.card aria-labelledby="first" {
            h2 #first { "First steps" }
            p.quiet { "No runtime has a credential yet. A simulated vendor on this machine needs none of your own." }
            ol.steps {
                li {
                    p { "Start the simulated vendor beside this host:" }
                    pre { code { "lap simulate" } }
                    p.hint { "It answers every prompt, costs nothing and listens at " code { (SIMULATED) } "." }
                }
                li {
                    p { "Let the runtime " code { (status.default_runtime) } " use it: a made-up key is stored, and tried." }
                    form #simulated method="post" data-runtime=(status.default_runtime) data-base=(SIMULATED) {
                        button.primary type="submit" disabled data-scripted { "Use the simulated vendor" }
                    }
                    p.hint { "Or store a real key under " a href="/console/settings/credentials" { "Credentials" } "." }
                }
                li { p { a href="/console/agents/new" { "Make an agent" } " and start a session from it." } }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn runtime(more: &Value) -> Runtime {
        let mut runtime = json!({
            "id": "r1", "name": "R", "default_api_base": "https://vendor.example", "credential_provider_name": "V",
            "api_base": null, "masked_api_key": null, "source": "bundled", "component": null,
            "state": "loaded", "failure": null, "health": null,
        });
        runtime.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(runtime).unwrap()
    }

    fn status(fenced: bool) -> Status {
        serde_json::from_value(json!({
            "version": "0.1.0", "started_at": 0, "sessions": {"live": 1, "stored": 1234}, "default_runtime": "r1",
            "store": {"bytes": 2048, "fenced": fenced}, "vault": {"key_id": "abcd", "bytes": 1},
        }))
        .unwrap()
    }

    #[test]
    fn a_new_host_offers_the_simulated_vendor_until_there_is_a_credential() {
        let html = content(&[runtime(&json!({}))], &[], Some(&status(false))).into_string();
        assert!(html.contains("lap simulate") && html.contains(r#"data-base="http://127.0.0.1:4100""#), "{html}");
        let html = content(&[runtime(&json!({"masked_api_key": "sk-...x"}))], &[], Some(&status(false))).into_string();
        assert!(!html.contains("lap simulate") && html.contains("never"), "{html}");
    }

    #[test]
    fn a_store_that_takes_no_writes_says_what_to_do() {
        let html = content(&[], &[], Some(&status(true))).into_string();
        assert!(
            html.contains("Takes no writes") && html.contains("start it again") && html.contains("1,234"),
            "{html}"
        );
    }

    #[test]
    fn what_fails_is_seen_before_what_its_credential_does() {
        let failing = json!({"masked_api_key": "sk-...x", "state": "failed", "failure": "<lost>"});
        let html = content(&[runtime(&failing)], &[], Some(&status(false))).into_string();
        assert!(
            html.contains("&lt;lost&gt;") && html.contains("Fails") && !html.contains("Stored, never tried"),
            "{html}"
        );
    }

    #[test]
    fn who_does_not_manage_the_host_sees_no_key_id_and_no_door_to_credentials() {
        let html = content(&[runtime(&json!({}))], &[], None).into_string();
        assert!(!html.contains("Vault") && !html.contains("/settings/credentials"), "{html}");
    }
}
