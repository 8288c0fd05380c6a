//! Settings → Credentials: for each runtime the key of its upstream, masked, and whether the upstream takes it; and aliases,
//! which have keys of their own.

use axum::response::Response;
use maud::{Markup, html};

use super::{
    super::error::Error,
    answers::{Probe, Runtime, Runtimes},
    api::Api,
    elements::{Action, Field, Tone, badge, empty, grouped, moment, unscripted},
    layout::{Frame, Section, page},
};

pub(in super::super) async fn credentials(api: Api) -> Result<Response, Error> {
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    let frame =
        Frame { section: Section::Credentials, title: "Credentials", scripts: &["credentials.js"], viewer: api.viewer };
    Ok(page(&frame, &content(&runtimes)))
}

fn content(runtimes: &[Runtime]) -> Markup {
    html! {
        h1 { "Credentials" }
        p.lead {
            "One for each runtime and each alias: the key that this host shows to the vendor. It is sealed on the host, and \
             nobody gets to see it again."
        }
        (unscripted())
        @if runtimes.is_empty() {
            (empty("This host has no runtimes.", &html! { p { a href="/console/runtimes" { "Add one" } " first." } }))
        }
        div.stack {
            div.cards #cards { @for runtime in runtimes { (card(runtime)) } }
            @if runtimes.iter().any(|runtime| !runtime.is_alias()) { (addition(runtimes)) }
        }
    }
}

/// What a name stands for, where it is not a runtime's own.
pub(super) fn meaning(runtime: &Runtime) -> Markup {
    html! {
        @if runtime.is_alias() {
            "alias of "
            @match &runtime.alias_of { Some(of) => code { (of) }, None => "a runtime that cannot be told" }
        }
    }
}

/// The form for another name of a runtime, with a key of its own.
fn addition(runtimes: &[Runtime]) -> Markup {
    let name =
        Field { id: "alias", label: "Name", hint: "What agents and sessions call it: letters, digits, _ and -." };
    let of = Field { id: "alias-of", label: "Runtime", hint: "What it stands for." };
    let base = Field { id: "alias-base", label: "API base", hint: "Where its requests go, and its key with them." };
    let key = Field { id: "alias-key", label: "API key", hint: "It goes to this base only." };
    html! {
        section.card aria-labelledby="alias-name" {
            h2 #alias-name { "Add an alias" }
            p.quiet {
                "The same runtime under another name, with a key of its own: another account, or a server that speaks the \
                 vendor's API."
            }
            form #alias-form method="post" autocomplete="off" {
                (name.around(|described| html! {
                    input #alias type="text" name="alias" required pattern="[A-Za-z0-9_\\-]{1,64}" autocomplete="off"
                        spellcheck="false" aria-describedby=(described);
                }))
                (of.around(|described| html! {
                    select #alias-of name="api_spec" required aria-describedby=(described) {
                        @for runtime in runtimes.iter().filter(|runtime| !runtime.is_alias()) {
                            option value=(runtime.id) { (runtime.name) }
                        }
                    }
                }))
                (base.around(|described| html! {
                    input #alias-base type="url" name="api_base" required autocomplete="off" spellcheck="false"
                        aria-describedby=(described);
                }))
                (key.around(|described| html! {
                    input #alias-key type="password" name="api_key" required autocomplete="off" spellcheck="false"
                        aria-describedby=(described);
                }))
                div.actions { button.primary type="submit" disabled data-scripted { "Add and probe" } }
            }
        }
    }
}

/// A runtime's credential: what is stored, what the last probe said, and the form for another one.
fn card(runtime: &Runtime) -> Markup {
    let Runtime { id, name, .. } = runtime;
    let card = format!("credential-{id}");
    html! {
        section.card id=(card) aria-labelledby={ (card) "-name" } {
            header {
                div { h2 id={ (card) "-name" } { (name) } p.quiet { code { (id) } @if runtime.is_alias() { ", " (meaning(runtime)) } } }
                (state(runtime))
            }
            @if runtime.has_credential() { (stored(runtime, &card)) }
            (form(runtime, &card))
            @if runtime.is_alias() { div.actions { (end(runtime)) } }
        }
    }
}

/// The end of an alias.
fn end(runtime: &Runtime) -> Markup {
    let (question, call) =
        (format!("Remove the alias {}?", runtime.id), format!("DELETE /api/runtime-harnesses/{}", runtime.id));
    let consequence = "Its key goes with it. Its sessions stay and can be read, but do not go on.";
    Action {
        label: "Remove the alias",
        of: &runtime.name,
        call: &call,
        confirm: Some((&question, consequence)),
        done: "The alias and its key are removed.",
        refresh: Some("cards"),
        ..Action::default()
    }
    .button()
}

/// Whether the credential works, in a word.
pub(super) fn state(runtime: &Runtime) -> Markup {
    match &runtime.probe {
        _ if !runtime.has_credential() => badge(Tone::Plain, "No credential"),
        None => badge(Tone::Warn, "Stored, never tried"),
        Some(Probe { ok: Some(true), .. }) => badge(Tone::Good, "Works"),
        Some(Probe { ok: Some(false), .. }) => badge(Tone::Bad, "Does not work"),
        Some(Probe { ok: None, .. }) => badge(Tone::Plain, "Stored"),
    }
}

fn stored(runtime: &Runtime, card: &str) -> Markup {
    let Runtime { id, name, api_base, masked_api_key, probe, .. } = runtime;
    let question = format!("Remove the credential of {name}?");
    let probing = Action {
        label: if probe.is_some() { "Probe again" } else { "Probe" },
        of: name,
        call: &format!("POST /api/agent-runtimes/{id}/credentials/probe"),
        done: "Probed.",
        refresh: Some(card),
        ..Action::default()
    };
    let removal = Action {
        label: if runtime.is_alias() { "Remove the key" } else { "Remove" },
        of: name,
        call: &format!("DELETE /api/agent-runtimes/{id}/credentials"),
        confirm: Some((&question, "Sessions on this runtime cannot go on until another one is stored.")),
        done: "The credential is removed.",
        refresh: Some(card),
        ..Action::default()
    };
    html! {
        dl.facts {
            div { dt { "Key" } dd { code { (masked_api_key.as_deref().unwrap_or("•••")) } } }
            div { dt { "Sent to" } dd { code { (api_base.as_deref().unwrap_or(&runtime.default_api_base)) } } }
            div { dt { "Last probe" } dd { (told(probe.as_ref())) } }
        }
        div.actions { (probing.button()) (removal.button()) }
    }
}

/// What a probe has shown, and when.
pub(super) fn told(probe: Option<&Probe>) -> Markup {
    html! {
        @match probe {
            None => "never",
            Some(Probe { ok: Some(true), at, models, .. }) => {
                (moment(*at))
                @match models {
                    Some(1) => ": the vendor takes it, for 1 model",
                    Some(models) => { ": the vendor takes it, for " (grouped(*models)) " models" }
                    None => ": the vendor takes it",
                }
            }
            Some(Probe { ok: None, at, .. }) => {
                (moment(*at)) ": this runtime has no way to find out; the first session will tell"
            }
            Some(Probe { ok: Some(false), at, code, message, .. }) => {
                (moment(*at)) ": " (message.as_deref().unwrap_or("it failed"))
                @if let Some(code) = code { " " code { (code) } }
            }
        }
    }
}

fn form(runtime: &Runtime, card: &str) -> Markup {
    let Runtime { id, name, default_api_base, credential_provider_name: provider, .. } = runtime;
    let (key_id, base_id) = (format!("{card}-key"), format!("{card}-base"));
    let key = Field { id: &key_id, label: "API key", hint: &format!("From {provider}.") };
    let usually = format!("Where the vendor listens; usually {default_api_base}.");
    let hint = if runtime.is_alias() { "Where its requests go, and its key with them." } else { &usually };
    let base = Field { id: &base_id, label: "API base", hint };
    let shown = runtime.api_base.as_deref().unwrap_or(default_api_base);
    let body = html! {
        form.inline method="post" data-credential=(id) data-card=(card) data-name=(name) autocomplete="off" {
            (key.around(|described| html! {
                input id=(key_id) type="password" name="api_key" required autocomplete="off" spellcheck="false"
                    aria-describedby=(described);
            }))
            (base.around(|described| html! {
                input id=(base_id) type="url" name="api_base" value=(shown) required[runtime.is_alias()] autocomplete="off" spellcheck="false"
                    aria-describedby=(described);
            }))
            div.actions {
                button.primary type="submit" disabled data-scripted { "Save and probe" span.unseen { " " (name) } }
            }
        }
    };
    if !runtime.has_credential() {
        return body;
    }
    html! { details { summary { "Replace the key" } (body) } }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(more: &Value) -> String {
        let mut runtime = json!({
            "id": "r1", "name": "<i>R</i>", "default_api_base": "https://vendor.example", "credential_provider_name": "V",
            "api_base": "http://127.0.0.1:4100", "masked_api_key": "sk-...x\">",
            "source": "bundled", "component": null, "state": "loaded", "failure": null, "health": null,
        });
        runtime.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        content(&[serde_json::from_value(runtime).unwrap()]).into_string()
    }

    #[test]
    fn a_card_tells_what_is_stored_and_no_word_of_it_is_markup() {
        let html = shown(&json!({}));
        for part in ["&lt;i&gt;R&lt;/i&gt;", "sk-...x&quot;&gt;", "http://127.0.0.1:4100", "Stored, never tried"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert!(!html.contains("<i>"), "{html}");
    }

    #[test]
    fn a_probe_is_told_with_its_time_and_its_reason() {
        let good = shown(&json!({"probe": {"ok": true, "at": 0, "models": 1200}}));
        assert!(
            good.contains(">Works<") && good.contains("1,200 models") && good.contains("1970-01-01T00:00"),
            "{good}"
        );
        let unknown = shown(&json!({"probe": {"ok": null, "at": 0}}));
        assert!(unknown.contains(">Stored<") && unknown.contains("first session will tell"), "{unknown}");
        let bad = shown(&json!({"probe": {"ok": false, "at": 0, "code": "upstream_auth", "message": "<no>"}}));
        assert!(
            bad.contains(">Does not work<") && bad.contains("upstream_auth") && bad.contains("&lt;no&gt;"),
            "{bad}"
        );
    }

    #[test]
    fn without_a_credential_there_is_the_form_with_the_usual_base_and_nothing_to_remove() {
        let html = shown(&json!({"api_base": null, "masked_api_key": null}));
        assert!(html.contains(r#"value="https://vendor.example""#) && html.contains("No credential"), "{html}");
        assert!(!html.contains("DELETE "), "{html}");
    }

    #[test]
    fn a_form_that_no_script_has_taken_over_cannot_be_sent_with_a_key_in_it() {
        let html = shown(&json!({}));
        assert!(html.contains(r#"method="post""#), "a GET would put the key into the URL: {html}");
        assert!(html.contains(r#"type="submit" disabled"#), "{html}");
    }

    #[test]
    fn an_alias_says_what_it_stands_for_and_is_not_offered_as_a_runtime_to_stand_for() {
        let html = shown(&json!({"source": "alias", "alias_of": "<of>"}));
        assert!(html.contains("alias of <code>&lt;of&gt;</code>"), "{html}");
        assert!(html.contains("DELETE /api/runtime-harnesses/r1") && !html.contains("Add an alias"), "{html}");
        let html = shown(&json!({}));
        assert!(html.contains("Add an alias") && html.contains(r#"<option value="r1">"#), "{html}");
        assert!(!html.contains("runtime-harnesses") && !html.contains("alias of"), "{html}");
    }

    #[test]
    fn a_host_without_runtimes_says_where_they_come_from() {
        assert!(content(&[]).into_string().contains("/console/runtimes"));
    }
}
