//! The runtimes: what there is, what each may do, and how one is added, upgraded, rolled back and removed.

use axum::{extract::Path, response::Response};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    super::error::Error,
    answers::{Authority, Health, Runtime, RuntimeDetail, Runtimes, Version},
    api::Api,
    credentials,
    elements::{Action, Field, Tone, badge, digest, empty, moment_of, size, unscripted},
    layout::{Frame, Section, page},
    viewer::Viewer,
};

pub(in super::super) async fn runtimes(api: Api) -> Result<Response, Error> {
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    Ok(page(&frame("Runtimes", api.viewer), &list(&runtimes, api.viewer)))
}

pub(in super::super) async fn runtime(api: Api, Path(id): Path<String>) -> Result<Response, Error> {
    let detail: RuntimeDetail =
        api.get(&format!("/api/agent-runtimes/{}", utf8_percent_encode(&id, NON_ALPHANUMERIC))).await?;
    Ok(page(&frame(&detail.runtime.name, api.viewer), &one(&detail, api.viewer)))
}

const fn frame(title: &str, viewer: Viewer) -> Frame<'_> {
    Frame { section: Section::Runtimes, title, scripts: &["runtimes.js"], viewer }
}

/// True when sessions can work with its component.
pub(super) fn fares_well(runtime: &Runtime) -> bool {
    runtime.state != "failed" && runtime.health.as_ref().is_none_or(|health| health.state == "well")
}

/// How its component is.
pub(super) fn state(runtime: &Runtime) -> Markup {
    match (&*runtime.state, runtime.health.as_ref().map(|health| &*health.state)) {
        ("failed", _) => badge(Tone::Bad, "Fails"),
        (_, Some("quarantined")) => badge(Tone::Bad, "Quarantined"),
        (_, Some("probing")) => badge(Tone::Warn, "On trial"),
        ("unloaded", _) => badge(Tone::Plain, "Unloaded"),
        _ => badge(Tone::Good, "Loaded"),
    }
}

fn list(runtimes: &[Runtime], viewer: Viewer) -> Markup {
    html! {
        h1 { "Runtimes" }
        p.lead {
            "A runtime speaks to a vendor's agents, as a WebAssembly component that can do no more than its manifest grants."
        }
        (unscripted())
        div.stack {
            @if runtimes.is_empty() {
                (empty("This host has no runtimes.", &html! {}))
            } @else {
                div.scroll {
                    table {
                        caption.unseen { "Runtimes" }
                        thead { tr {
                            th scope="col" { "Name" } th scope="col" { "Id" } th scope="col" { "Source" } th scope="col" { "Component" }
                            th scope="col" { "State" } th scope="col" { "Credential" }
                        } }
                        tbody { @for runtime in runtimes { (row(runtime)) } }
                    }
                }
            }
            @if viewer.administers() { (form("Add a runtime", "Review what it may do")) }
        }
    }
}

fn row(runtime: &Runtime) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/console/runtimes/" (runtime.id) } { (runtime.name) } }
            td { code { (runtime.id) } }
            td { @if runtime.is_alias() { "Alias of " (original(runtime)) } @else { (source(runtime)) } }
            td { @if let Some(component) = &runtime.component { (digest(component)) } @else { span.quiet { "unknown" } } }
            td { (state(runtime)) }
            td { (credentials::state(runtime)) }
        }
    }
}

/// The runtime that an alias stands for.
fn original(runtime: &Runtime) -> Markup {
    html! {
        @match &runtime.alias_of {
            Some(of) => a href={ "/console/runtimes/" (of) } { code { (of) } },
            None => "a runtime that cannot be told",
        }
    }
}

fn source(runtime: &Runtime) -> &'static str {
    if is_bundled(runtime) { "Bundled" } else { "Added" }
}

fn is_bundled(runtime: &Runtime) -> bool {
    runtime.source == "bundled"
}

fn one(detail: &RuntimeDetail, viewer: Viewer) -> Markup {
    let RuntimeDetail { runtime, authority, versions } = detail;
    let manages = viewer.administers() && !is_bundled(runtime) && !runtime.is_alias();
    html! {
        nav.trail aria-label="Breadcrumb" {
            a href="/console/runtimes" { "Runtimes" } " / " span aria-current="page" { (runtime.name) }
        }
        header.top { div { h1 { (runtime.name) } p.quiet { code { (runtime.id) } } } (state(runtime)) }
        (unscripted())
        div.stack #runtime {
            (facts(runtime, viewer))
            @if let Some(authority) = authority {
                section.card aria-labelledby="grants" { h2 #grants { "What new sessions' version may do" } (grants(authority)) }
            }
            @if !versions.is_empty() {
                section aria-labelledby="versions" {
                    h2 #versions { "Versions" }
                    div.cards { @for version in versions { (card(runtime, version, manages)) } }
                }
            }
            @if manages {
                (form("Upgrade", "Review what changes"))
                (removal(runtime))
            }
        }
    }
}

fn facts(runtime: &Runtime, viewer: Viewer) -> Markup {
    html! {
        section.card aria-labelledby="facts" {
            h2 #facts { "What it is" }
            dl.facts {
                div { dt { "Source" } dd {
                    @if runtime.is_alias() { "Alias of " (original(runtime)) ", whose versions it runs" }
                    @else { (source(runtime)) @if is_bundled(runtime) { ": part of this version of the host" } }
                } }
                div { dt { "Component" } dd { code { (runtime.component.as_deref().unwrap_or("unknown")) } } }
                @if let Some(failure) = &runtime.failure { div { dt { "Failure" } dd { (failure) } } }
                @if let Some(health) = &runtime.health { div { dt { "Health" } dd { (conduct(health)) } } }
                div { dt { "Last probe" } dd {
                    (credentials::told(runtime.probe.as_ref())) " "
                    @if viewer.administers() { a href={ "/console/settings/credentials#credential-" (runtime.id) } { "Credential" } }
                } }
            }
        }
    }
}

/// How its calls go.
fn conduct(health: &Health) -> Markup {
    let crashes = match health.crashes {
        0 => "no crash".to_owned(),
        1 => "1 crash".to_owned(),
        crashes => format!("{crashes} crashes"),
    };
    html! {
        @match &*health.state {
            "quarantined" => {
                "It has crashed again and again: calls are refused"
                @if let Some(ms) = health.retry_after_ms { " for " (ms.div_ceil(1000)) " s more" }
            }
            "probing" => "It was in quarantine, and one call tries it now",
            _ => "Its calls go well",
        }
        "; " (crashes) " since the host started."
    }
}

fn grants(authority: &Authority) -> Markup {
    let Authority { contract, auth, allow, forward } = authority;
    html! {
        dl.facts {
            div { dt { "Contract" } dd { code { (contract) } } }
            div { dt { "Credential in" } dd { code { (auth) } } }
            div { dt { "May send" } dd { (rules(allow)) } }
            div { dt { "Passes on" } dd { (rules(forward)) } }
        }
    }
}

fn rules(rules: &[String]) -> Markup {
    html! {
        @if rules.is_empty() { span.quiet { "nothing" } }
        @else { ul { @for rule in rules { li { code { (rule) } } } } }
    }
}

fn card(runtime: &Runtime, version: &Version, manages: bool) -> Markup {
    let Version { component, bytes, imports, current, added_at, state, failure, authority, manifest } = version;
    let (id, short) = (&runtime.id, component.get(..19).unwrap_or(component));
    let back = Action {
        label: "Roll back to it",
        of: short,
        call: &format!("POST /api/agent-runtimes/{id}/rollback"),
        body: Some(&format!("{{\"to\":\"{component}\"}}")),
        done: "New sessions get this version from now on.",
        refresh: Some("runtime"),
        ..Action::default()
    };
    let removal = Action {
        label: "Remove",
        of: short,
        call: &format!("DELETE /api/agent-runtimes/{id}/versions/{component}"),
        confirm: Some(("Remove this version?", "To have it again it must be added again.")),
        done: "The version is removed.",
        refresh: Some("runtime"),
        ..Action::default()
    };
    html! {
        article.card aria-label={ "Version " (short) } {
            header {
                div { h3 { (digest(component)) } p.quiet { (size(*bytes)) ", added " (moment_of(added_at)) } }
                @if *current { (badge(Tone::Good, "Current")) }
                @else if state == "failed" { (badge(Tone::Bad, "Fails")) }
                @else { (badge(Tone::Plain, "Earlier")) }
            }
            @if let Some(failure) = failure { p.problem { (failure) } }
            details {
                summary { "Grants and manifest" }
                (grants(authority))
                h4 { "Imports" } (rules(imports))
                h4 { "Manifest" } pre { code { (manifest) } }
            }
            @if manages && !current { div.actions { (back.button()) (removal.button()) } }
        }
    }
}

fn removal(runtime: &Runtime) -> Markup {
    let (question, call) = (format!("Remove {}?", runtime.name), format!("DELETE /api/agent-runtimes/{}", runtime.id));
    let action = Action {
        label: "Remove the runtime",
        call: &call,
        confirm: Some((&question, "All its versions go. Its sessions stay and can be read, but do not go on.")),
        done: "The runtime is removed.",
        next: Some("/console/runtimes"),
        ..Action::default()
    };
    html! { section.card aria-labelledby="remove" { h2 #remove { "Remove" } div.actions { (action.button()) } } }
}

/// The form for a component and its manifest: a new runtime, or another version of one.
fn form(title: &str, button: &str) -> Markup {
    let component = Field { id: "component", label: "Component", hint: "A .wasm file: the WebAssembly component." };
    let manifest =
        Field { id: "manifest", label: "Manifest", hint: "Its runtime.toml: what the component asks to be allowed." };
    html! {
        section.card aria-labelledby="add-name" {
            h2 #add-name { (title) }
            p.quiet { "Nothing is added before you have seen and granted what it may do." }
            form #add method="post" {
                (component.around(|described| html! { input #component type="file" name="component" accept=".wasm,application/wasm" required aria-describedby=(described); }))
                (manifest.around(|described| html! { input #manifest type="file" name="manifest" accept=".toml" required aria-describedby=(described); }))
                div.actions { button.primary type="submit" disabled data-scripted { (button) } span #add-told role="status" {} }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::access::Role;

    const ADMIN: Viewer = Viewer(Role::Admin);
    const READER: Viewer = Viewer(Role::Reader);

    fn detail(more: &Value) -> RuntimeDetail {
        let version = |component: &str, current: bool| {
            json!({
                "component": component, "bytes": 2048, "imports": ["lap:runtime/http"], "current": current, "state": "loaded",
                "added_at": "2026-11-26T05:00:00.000Z", "grant": "grant_1", "failure": null, "contract": "0.1", "auth": "h: …",
                "allow": ["GET /v1/<x>"], "forward": [], "manifest": "id = \"<r>\"",
            })
        };
        let mut detail = json!({
            "id": "r1", "name": "<u>R</u>", "default_api_base": "https://vendor.example", "credential_provider_name": "V",
            "api_base": null, "masked_api_key": null, "source": "added", "component": "sha256:aa",
            "state": "loaded", "failure": null, "health": {"state": "well", "crashes": 0, "retry_after_ms": null},
            "contract": "0.1", "auth": "h: …", "allow": ["GET /v1/<x>"], "forward": [],
            "versions": [version("sha256:aa", true), version("sha256:bb", false)],
        });
        detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(detail).unwrap()
    }

    #[test]
    fn what_a_manifest_says_is_text() {
        let html = one(&detail(&json!({})), ADMIN).into_string();
        for part in ["&lt;u&gt;R&lt;/u&gt;", "GET /v1/&lt;x&gt;", "id = &quot;&lt;r&gt;&quot;"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert!(!html.contains("<u>") && !html.contains("<x>"), "{html}");
    }

    #[test]
    fn only_an_earlier_version_can_be_gone_back_to_or_removed() {
        let html = one(&detail(&json!({})), ADMIN).into_string();
        assert_eq!(html.matches("/rollback").count(), 1, "{html}");
        assert!(
            html.contains("DELETE /api/agent-runtimes/r1/versions/sha256:bb") && !html.contains("versions/sha256:aa"),
            "{html}"
        );
    }

    #[test]
    fn nobody_manages_what_is_bundled_and_only_admins_manage_the_rest() {
        for html in
            [one(&detail(&json!({"source": "bundled", "versions": []})), ADMIN), one(&detail(&json!({})), READER)]
        {
            let html = html.into_string();
            assert!(!html.contains("<button") && !html.contains("<form"), "{html}");
        }
        assert!(!list(&[], READER).into_string().contains("<form"));
    }

    #[test]
    fn an_alias_leads_to_what_it_stands_for_and_is_not_managed_here() {
        let html = one(&detail(&json!({"source": "alias", "alias_of": "r0", "versions": []})), ADMIN).into_string();
        assert!(html.contains(r#"Alias of <a href="/console/runtimes/r0">"#), "{html}");
        assert!(!html.contains("<button") && !html.contains("<form"), "{html}");
    }

    #[test]
    fn what_cannot_be_read_is_shown_with_the_reason() {
        let broken = json!({"component": null, "state": "failed", "failure": "its row does not open", "health": null, "contract": null, "versions": []});
        let html = one(&detail(&broken), ADMIN).into_string();
        assert!(
            html.contains("its row does not open") && html.contains(">Fails<") && !html.contains("May send"),
            "{html}"
        );
    }

    #[test]
    fn a_quarantine_says_for_how_long() {
        let html =
            one(&detail(&json!({"health": {"state": "quarantined", "crashes": 3, "retry_after_ms": 1500}})), ADMIN);
        let html = html.into_string();
        assert!(
            html.contains(">Quarantined<") && html.contains("for 2 s more") && html.contains("3 crashes"),
            "{html}"
        );
    }
}
