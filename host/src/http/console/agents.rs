//! Agents: the list, and one page to make, look at and change one.

use axum::{extract::Path, response::Response};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{
    super::{Query, error::Error},
    answers::{Agent, Agents, Runtime, Runtimes},
    api::Api,
    elements::{Action, Field, Tone, badge, empty, moment, unscripted},
    layout::{Frame, Section, page},
    viewer::Viewer,
};

/// How many a page of the list has.
const PAGE: usize = 50;

#[derive(Deserialize)]
pub(in super::super) struct From {
    #[serde(default)]
    after: Option<String>,
}

pub(in super::super) async fn agents(api: Api, Query(from): Query<From>) -> Result<Response, Error> {
    let after = from.after.map(|id| format!("&after={}", utf8_percent_encode(&id, NON_ALPHANUMERIC)));
    let path = format!("/api/agents?order=desc&limit={PAGE}{}", after.as_deref().unwrap_or_default());
    let piece = api.piece::<Agents>(&path).await?;
    Ok(page(
        &frame("Agents", api.viewer),
        &list(&piece.items.agents, piece.next.as_deref(), after.is_some(), api.viewer),
    ))
}

pub(in super::super) async fn new_agent(api: Api) -> Result<Response, Error> {
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    let content = html! {
        (trail("New agent"))
        h1 { "New agent" }
        (unscripted())
        (form(None, &runtimes, api.viewer))
    };
    Ok(page(&frame("New agent", api.viewer), &content))
}

pub(in super::super) async fn agent(api: Api, Path(id): Path<String>) -> Result<Response, Error> {
    let agent: Agent = api.get(&format!("/api/agents/{}", utf8_percent_encode(&id, NON_ALPHANUMERIC))).await?;
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    Ok(page(&frame(&agent.name, api.viewer), &detail(&agent, &runtimes, api.viewer)))
}

const fn frame(title: &str, viewer: Viewer) -> Frame<'_> {
    Frame { section: Section::Agents, title, scripts: &["agents.js"], viewer }
}

fn trail(here: &str) -> Markup {
    html! { nav.trail aria-label="Breadcrumb" { a href="/console/agents" { "Agents" } " / " span aria-current="page" { (here) } } }
}

fn list(agents: &[Agent], next: Option<&str>, later: bool, viewer: Viewer) -> Markup {
    html! {
        header.top {
            h1 { "Agents" }
            @if viewer.writes() { a.button.primary href="/console/agents/new" { "New agent" } }
        }
        @if agents.is_empty() {
            (empty(if later { "There are no more agents." } else { "There are no agents yet." }, &html! {
                p { "An agent is a name, a model and a system prompt on a runtime. Sessions are started from it." }
            }))
        } @else {
            div.scroll {
                table {
                    caption.unseen { "Agents, the latest first" }
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Runtime" } th scope="col" { "Model" }
                        th scope="col" { "State" } th scope="col" { "Owner" } th scope="col" { "Made" }
                    } }
                    tbody { @for agent in agents { (row(agent)) } }
                }
            }
        }
        @if later || next.is_some() {
            nav.pages aria-label="Pages" {
                @if later { a href="/console/agents" { "First page" } }
                @if let Some(next) = next { a href={ "/console/agents?after=" (next) } { "Next page" } }
            }
        }
    }
}

fn row(agent: &Agent) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/console/agents/" (agent.id) } { (agent.name) } }
            td { @match agent.runtime() { Some(id) => code { (id) }, None => span.quiet { "none" } } }
            td { code { (agent.model()) } }
            td { (state(agent)) }
            td { (agent.owner_id) }
            td { (moment(agent.created_at)) }
        }
    }
}

fn state(agent: &Agent) -> Markup {
    if agent.is_paused() { badge(Tone::Warn, "Paused") } else { badge(Tone::Good, "Active") }
}

fn detail(agent: &Agent, runtimes: &[Runtime], viewer: Viewer) -> Markup {
    let path = format!("/api/agents/{}", agent.id);
    html! {
        (trail(&agent.name))
        div #agent {
            header.top {
                div {
                    h1 { (agent.name) }
                    p.quiet {
                        code { (agent.id) } " · made " (moment(agent.created_at)) " · "
                        a href={ "/console/sessions?agent=" (agent.id) } { "its sessions" }
                    }
                }
                (state(agent))
            }
            (unscripted())
            div.stack {
                @if viewer.writes() { (start(agent, runtimes)) }
                (form(Some(agent), runtimes, viewer))
                @if viewer.writes() {
                    section.card aria-labelledby="state-name" {
                        h2 #state-name { "Pause or delete" }
                        div.actions { (switch(agent, &path)) (removal(agent, &path)) }
                    }
                }
            }
        }
    }
}

/// Lets it take no new sessions, or take them again.
fn switch(agent: &Agent, path: &str) -> Markup {
    let (label, what, done) = if agent.is_paused() {
        ("Resume", "resume", "The agent takes new sessions again.")
    } else {
        ("Pause", "pause", "The agent takes no new sessions. Those that run go on.")
    };
    let call = format!("POST {path}/{what}");
    Action { label, call: &call, done, refresh: Some("agent"), ..Action::default() }.button()
}

fn removal(agent: &Agent, path: &str) -> Markup {
    let (question, call) = (format!("Delete {}?", agent.name), format!("DELETE {path}"));
    let consequence = "It cannot be brought back. Its sessions stay as they are.";
    Action {
        label: "Delete",
        call: &call,
        confirm: Some((&question, consequence)),
        done: "The agent is deleted.",
        next: Some("/console/agents"),
        ..Action::default()
    }
    .button()
}

/// The form that starts a session. An agent may leave the runtime to its sessions.
fn start(agent: &Agent, runtimes: &[Runtime]) -> Markup {
    let runtime = agent.runtime();
    let choice = Field { id: "start-runtime", label: "Runtime", hint: "The agent names none." };
    let prompt = Field { id: "start-prompt", label: "Prompt", hint: "Empty starts a session that waits for one." };
    html! {
        section.card aria-labelledby="start-name" {
            h2 #start-name { "Start a session" }
            @if agent.is_paused() {
                p { "The agent is paused. Resume it to start a session." }
            } @else {
                form #start method="post" data-agent=(agent.id) {
                    @match &runtime {
                        Some(id) => input type="hidden" name="runtime" value=(id);,
                        None => (choice.around(|described| options(runtimes, "start-runtime", None, described))),
                    }
                    (prompt.around(|described| html! {
                        textarea #start-prompt name="prompt" rows="3" aria-describedby=(described) {}
                    }))
                    div.actions { button.primary type="submit" disabled data-scripted { "Start session" } }
                }
            }
        }
    }
}

fn options(runtimes: &[Runtime], id: &str, chosen: Option<&str>, described: &str) -> Markup {
    let is_known = chosen.is_none_or(|chosen| runtimes.iter().any(|runtime| runtime.id == chosen));
    html! {
        select id=(id) name="runtime" required aria-describedby=(described) {
            @if chosen.is_none() && runtimes.len() != 1 { option value="" { "Choose a runtime" } }
            @if let (false, Some(chosen)) = (is_known, chosen) { option value=(chosen) selected { (chosen) " (not on this host)" } }
            @for runtime in runtimes {
                option value=(runtime.id) selected[chosen == Some(&*runtime.id)] {
                    (runtime.name)
                    @if let Some(of) = &runtime.alias_of { ", alias of " (of) }
                    @if !runtime.has_credential() { " (no credential)" }
                }
            }
        }
    }
}

/// What an agent is: to make one, or to change the one that is given.
fn form(agent: Option<&Agent>, runtimes: &[Runtime], viewer: Viewer) -> Markup {
    let name = Field { id: "name", label: "Name", hint: "" };
    let runtime = Field { id: "runtime", label: "Runtime", hint: "What its sessions run on." };
    let model =
        Field { id: "model", label: "Model", hint: "One of the list, or any other name that the vendor knows." };
    let system = Field { id: "system", label: "System prompt", hint: "What the agent is told before anything else." };
    let chosen = agent.and_then(Agent::runtime);
    let heading = if agent.is_some() { "Definition" } else { "What it is" };
    html! {
        form #agent-form.card method="post" aria-labelledby="agent-form-name" data-agent=[agent.map(|agent| &agent.id)] {
            h2 #agent-form-name { (heading) }
            (name.around(|described| html! {
                input #name type="text" name="name" required autocomplete="off" aria-describedby=(described)
                    value=[agent.map(|agent| &agent.name)];
            }))
            (runtime.around(|described| options(runtimes, "runtime", chosen.as_deref(), described)))
            (model.around(|described| html! {
                input #model type="text" name="model" required list="models" autocomplete="off" spellcheck="false"
                    aria-describedby={ (described) " models-told" } value=[agent.map(Agent::model)];
                datalist #models {}
                p #models-told.hint role="status" {}
            }))
            (system.around(|described| html! {
                textarea #system name="system" rows="8" aria-describedby=(described) {
                    @if let Some(agent) = agent { (agent.system) }
                }
            }))
            (more(agent))
            @if viewer.writes() {
                div.actions {
                    button.primary type="submit" disabled data-scripted {
                        @if agent.is_some() { "Save changes" } @else { "Make the agent" }
                    }
                }
            }
        }
    }
}

/// What most agents do without.
fn more(agent: Option<&Agent>) -> Markup {
    let description = Field { id: "description", label: "Description", hint: "What it is for." };
    let owner = Field { id: "owner_id", label: "Owner", hint: "Whose keys see it and its sessions." };
    let tools = Field {
        id: "tools",
        label: "Tools (JSON)",
        hint: "A list, as the vendor writes it. Empty leaves the choice to the runtime.",
    };
    let config = Field {
        id: "config",
        label: "Configuration (JSON)",
        hint: "An object: what the runtime shall know beside that, such as skills or mcp_servers.",
    };
    html! {
        details {
            summary { "More" }
            (description.around(|described| html! {
                input #description type="text" name="description" autocomplete="off" aria-describedby=(described)
                    value=[agent.and_then(|agent| agent.description.as_deref())];
            }))
            (owner.around(|described| html! {
                input #owner_id type="text" name="owner_id" required autocomplete="off" aria-describedby=(described)
                    value=(agent.map_or("local-user", |agent| &agent.owner_id));
            }))
            (tools.around(|described| html! {
                textarea.code #tools name="tools" rows="5" spellcheck="false" aria-describedby=(described) {
                    @if let Some(tools) = agent.and_then(|agent| agent.tools.as_deref()) { (tools) }
                }
            }))
            (config.around(|described| html! {
                textarea.code #config name="config" rows="5" spellcheck="false" aria-describedby=(described) {
                    @if let Some(agent) = agent { (agent.more()) }
                }
            }))
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

    fn made(more: &Value) -> Agent {
        let mut agent = json!({
            "id": "agent_1", "name": "</title><script>x</script>", "owner_id": "o", "status": "active", "model": "m-old",
            "system": "</textarea><b>", "description": null, "tools": null, "created_at": 0,
            "config": {"runtime": "r1", "model": "m-new", "skills": [1]},
        });
        agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(agent).unwrap()
    }

    #[test]
    fn a_hostile_name_is_text_wherever_it_stands() {
        let agent = made(&json!({}));
        for html in [list(&[agent], None, false, ADMIN), detail(&made(&json!({})), &[], ADMIN)] {
            let html = html.into_string();
            assert!(
                html.contains("&lt;script&gt;") && !html.contains("<script") && !html.contains("</textarea><b>"),
                "{html}"
            );
        }
    }

    #[test]
    fn the_form_shows_what_sessions_get_and_keeps_what_it_has_no_field_for() {
        let html = detail(&made(&json!({})), &[], ADMIN).into_string();
        assert!(html.contains(r#"value="m-new""#), "config has the last word: {html}");
        assert!(html.contains("&quot;skills&quot;") && !html.contains("&quot;model&quot;"), "{html}");
        assert!(html.contains(r#"<option value="r1" selected>r1 (not on this host)"#), "{html}");
    }

    #[test]
    fn who_may_only_read_finds_nothing_to_press() {
        for html in [list(&[], None, false, READER), detail(&made(&json!({})), &[], READER)] {
            let html = html.into_string();
            assert!(!html.contains("<button") && !html.contains("/console/agents/new"), "{html}");
        }
    }

    #[test]
    fn a_paused_agent_is_resumed_before_it_starts_a_session() {
        let html = detail(&made(&json!({"status": "paused"})), &[], ADMIN).into_string();
        assert!(html.contains("/resume") && !html.contains("Start session") && html.contains(">Paused<"), "{html}");
    }

    #[test]
    fn a_list_leads_on_and_back_and_says_when_it_is_empty() {
        assert!(list(&[], None, false, ADMIN).into_string().contains("no agents yet"));
        let html = list(&[made(&json!({}))], Some("agent_1"), true, ADMIN).into_string();
        assert!(html.contains("/console/agents?after=agent_1") && html.contains("First page"), "{html}");
    }
}
