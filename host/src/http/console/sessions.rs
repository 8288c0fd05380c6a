//! The sessions: filtered and paged by the host, live by one feed, ended one by one or many at once.

use std::collections::HashMap;

use axum::response::Response;
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{
    super::{Query, error::Error},
    answers::{Agent, Agents, Runtime, Runtimes, Session, Time, Usage},
    api::Api,
    elements::{Action, empty, grouped, moment, unscripted},
    layout::{Frame, Section, page},
    status::{self, STATUSES},
    viewer::Viewer,
};

/// How many a page has.
const PAGE: usize = 50;

/// How many agents there are to choose from. The others lead to their sessions from their own page.
const AGENTS: usize = 200;

/// What stands for an id in the row that scripts copy.
const ANY: &str = "{id}";

/// What of the sessions somebody wants to see. The form sends what is empty, too.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(in super::super) struct Filter {
    status: String,
    agent: String,
    runtime: String,
    q: String,
    after: String,
}

impl Filter {
    /// The query for the same sessions, from after one of them.
    fn query(&self, after: &str) -> String {
        let pairs = [
            ("status", &*self.status),
            ("agent", &self.agent),
            ("runtime", &self.runtime),
            ("q", &self.q),
            ("after", after),
        ];
        let given = pairs.iter().filter(|(_, value)| !value.trim().is_empty());
        let given =
            given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value.trim(), NON_ALPHANUMERIC)));
        given.collect::<Vec<_>>().join("&")
    }

    fn is_any(&self) -> bool {
        self.query("").is_empty()
    }
}

pub(in super::super) async fn sessions(api: Api, Query(filter): Query<Filter>) -> Result<Response, Error> {
    let path = format!("/session?limit={PAGE}&{}", filter.query(&filter.after));
    let found = api.piece::<Vec<Session>>(path.trim_end_matches('&')).await?;
    let Agents { agents } = api.get(&format!("/api/agents?order=desc&limit={AGENTS}")).await?;
    let Runtimes { runtimes } = api.get("/api/agent-runtimes").await?;
    let all = All {
        sessions: &found.items,
        next: found.next.as_deref(),
        filter: &filter,
        agents: &agents,
        runtimes: &runtimes,
    };
    let frame = Frame { section: Section::Sessions, title: "Sessions", scripts: &["sessions.js"], viewer: api.viewer };
    Ok(page(&frame, &content(&all, api.viewer)))
}

/// What the page shows.
struct All<'a> {
    sessions: &'a [Session],
    next: Option<&'a str>,
    filter: &'a Filter,
    agents: &'a [Agent],
    runtimes: &'a [Runtime],
}

fn content(all: &All<'_>, viewer: Viewer) -> Markup {
    let names: HashMap<&str, &str> = all.agents.iter().map(|agent| (&*agent.id, &*agent.name)).collect();
    html! {
        header.top {
            h1 { "Sessions" }
            div.actions { span #feed role="status" {} a.button.primary href="/console/agents" { "New session" } }
        }
        (unscripted())
        (filters(all))
        @if viewer.writes() { (bulk()) }
        div #sessions {
            @if all.sessions.is_empty() {
                (nothing(all.filter, all.next.is_some()))
            }
            div.scroll hidden[all.sessions.is_empty()] {
                table {
                    caption.unseen { "Sessions, the latest first" }
                    thead { tr {
                        @if viewer.writes() { th.tick scope="col" { span.unseen { "Selected" } } }
                        th scope="col" { "Title" } th scope="col" { "Agent and runtime" }
                        th scope="col" { "Status" } th.number scope="col" { "Queued" } th.number scope="col" { "Tokens" }
                        th scope="col" { "Changed" } th scope="col" { "Made" }
                        @if viewer.writes() { th scope="col" { span.unseen { "Actions" } } }
                    } }
                    tbody #rows data-first[all.filter.after.is_empty()] data-status=(all.filter.status)
                        data-agent=(all.filter.agent) data-runtime=(all.filter.runtime) data-text=(all.filter.q) data-page=(PAGE)
                    {
                        @for session in all.sessions { (row(session, names.get(&*session.agent_id).copied(), viewer)) }
                    }
                }
            }
        }
        (pages(all))
        (models(&names, viewer))
    }
}

/// `goes_on` where the host has not looked at all sessions.
fn nothing(filter: &Filter, goes_on: bool) -> Markup {
    if goes_on {
        empty(
            "No session is like that among the ones looked at so far.",
            &html! { p { "The next page looks further back." } },
        )
    } else if filter.is_any() && filter.after.is_empty() {
        empty(
            "There are no sessions yet.",
            &html! { p { "A session is a conversation with an agent, kept here event by event." } },
        )
    } else {
        empty("No session is like that.", &html! { p { a href="/console/sessions" { "Show all" } } })
    }
}

fn filters(all: &All<'_>) -> Markup {
    let Filter { status, agent, runtime, q, .. } = all.filter;
    let unknown_agent = !agent.is_empty() && all.agents.iter().all(|known| known.id != *agent);
    html! {
        form.filters method="get" action="/console/sessions" role="search" aria-label="Filter the sessions" {
            div.field { label for="filter-q" { "Text" } input #filter-q type="search" name="q" value=(q) placeholder="Title or id"; }
            div.field { label for="filter-status" { "Status" }
                select #filter-status name="status" {
                    option value="" { "Any" }
                    @for (name, _, word) in STATUSES { option value=(name) selected[name == status] { (word) } }
                }
            }
            div.field { label for="filter-agent" { "Agent" }
                select #filter-agent name="agent" {
                    option value="" { "Any" }
                    @if unknown_agent { option value=(agent) selected { (agent) } }
                    @for known in all.agents { option value=(known.id) selected[known.id == *agent] { (known.name) } }
                }
            }
            div.field { label for="filter-runtime" { "Runtime" }
                select #filter-runtime name="runtime" {
                    option value="" { "Any" }
                    @for known in all.runtimes { option value=(known.id) selected[known.id == *runtime] { (known.name) } }
                }
            }
            button type="submit" { "Filter" }
            @if !all.filter.is_any() { a.button href="/console/sessions" { "Clear" } }
        }
    }
}

/// What is done to many at once. Only scripts can tell which were selected.
fn bulk() -> Markup {
    html! {
        div.bulk #bulk hidden {
            label.bare { input #select-all type="checkbox"; " Select all on this page" }
            button.danger.small #kill-selected type="button" disabled { "Kill selected" }
            span #bulk-told role="status" {}
        }
    }
}

fn row(session: &Session, agent: Option<&str>, viewer: Viewer) -> Markup {
    let Session { id, title, agent_id, runtime, queued, usage, time, .. } = session;
    let interrupt = Action {
        label: "Interrupt",
        of: title,
        call: &format!("POST /session/{id}/interrupt"),
        done: "The turn is interrupted.",
        ..Action::default()
    };
    html! {
        tr data-session=(id) data-state=(session.status) {
            @if viewer.writes() {
                td.tick { input type="checkbox" disabled data-scripted aria-label={ "Select " (title) }; }
            }
            th scope="row" { a data-slot="title" href={ "/console/sessions/" (id) } { (title) } }
            td.two-lines {
                a data-slot="agent" href={ "/console/agents/" (agent_id) } { (agent.unwrap_or(agent_id)) }
                code.quiet data-slot="runtime" { (runtime) }
            }
            td data-slot="status" { (status::status(&session.status)) }
            td.number data-slot="queued" { (queued) }
            td.number data-slot="tokens" { (tokens(usage.as_ref())) }
            td data-slot="updated" { (moment(time.updated)) }
            td data-slot="created" { (moment(time.created)) }
            @if viewer.writes() {
                td.actions-cell {
                    span data-when="running" { (interrupt.button()) }
                    button.danger type="button" disabled data-scripted data-kill=(id) { "Kill" span.unseen { " " (title) } }
                }
            }
        }
    }
}

/// What went in and what came out; what nobody tells is not zero.
fn tokens(usage: Option<&Usage>) -> Markup {
    let tokens = usage.and_then(Usage::tokens);
    html! { @match tokens { Some(tokens) => (grouped(tokens.read().saturating_add(tokens.output))), None => span.quiet { "n/a" } } }
}

fn pages(all: &All<'_>) -> Markup {
    let later = !all.filter.after.is_empty();
    html! {
        @if later || all.next.is_some() {
            nav.pages aria-label="Pages" {
                @if later { a href={ "/console/sessions?" (all.filter.query("")) } { "First page" } }
                @if let Some(next) = all.next { a href={ "/console/sessions?" (all.filter.query(next)) } { "Next page" } }
            }
        }
    }
}

/// What scripts copy: a row, each status, and the agents' names. So there is one place that says how they look.
fn models(names: &HashMap<&str, &str>, viewer: Viewer) -> Markup {
    let (any, nameless) = (ANY.to_owned(), String::new());
    let time = Time { created: 0, updated: 0 };
    let model = Session {
        id: any.clone(),
        title: nameless.clone(),
        agent_id: any,
        runtime: nameless.clone(),
        component: None,
        status: nameless,
        queued: 0,
        usage: None,
        time,
    };
    html! {
        template #row-model { (row(&model, None, viewer)) }
        (status::models())
        template #agent-names { @for (id, name) in names { data value=(id) { (name) } } }
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

    fn session(more: &Value) -> Session {
        let mut session = json!({
            "id": "ses_1", "title": "\"><img src=x>", "agent_id": "agent_1", "runtime": "r1", "status": "running",
            "usage": null, "time": {"created": 1, "updated": 2},
        });
        session.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(session).unwrap()
    }

    fn shown(sessions: &[Session], next: Option<&str>, filter: &Filter, viewer: Viewer) -> String {
        content(&All { sessions, next, filter, agents: &[], runtimes: &[] }, viewer).into_string()
    }

    #[test]
    fn a_hostile_title_is_text_wherever_it_stands() {
        let html = shown(&[session(&json!({}))], None, &Filter::default(), ADMIN);
        assert!(html.contains("&quot;&gt;&lt;img src=x&gt;") && !html.contains("<img"), "{html}");
    }

    #[test]
    fn tokens_are_added_up_and_what_is_not_told_is_not_zero() {
        let told = json!({"usage": {"input_tokens": 1000, "output_tokens": 200, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 4}});
        assert!(shown(&[session(&told)], None, &Filter::default(), ADMIN).contains(">1,234<"));
        let own = json!({"usage": {"input_tokens": 1, "reported": {"input_tokens": 70, "output_tokens": 8}}});
        assert!(
            shown(&[session(&own)], None, &Filter::default(), ADMIN).contains(">78<"),
            "the runtime's own beats the host's"
        );
        for usage in [json!(null), json!({"active_ms": 5})] {
            let html = shown(&[session(&json!({"usage": usage}))], None, &Filter::default(), ADMIN);
            assert!(html.contains("n/a") && !html.contains("data-slot=\"tokens\">0"), "{html}");
        }
    }

    #[test]
    fn who_may_only_read_can_filter_and_no_more() {
        let html = shown(&[session(&json!({}))], None, &Filter::default(), READER);
        assert!(!html.contains("Kill") && !html.contains("Interrupt") && !html.contains("checkbox"), "{html}");
        assert!(html.contains("<button type=\"submit\">Filter</button>"), "{html}");
    }

    #[test]
    fn the_way_to_the_next_page_keeps_the_filter() {
        let filter = Filter {
            status: "idle".to_owned(),
            q: "a&b=\"".to_owned(),
            after: "ses_0".to_owned(),
            ..Filter::default()
        };
        let html = shown(&[], Some("ses_9"), &filter, ADMIN);
        assert!(html.contains("/console/sessions?status=idle&amp;q=a%26b%3D%22&amp;after=ses%5F9"), "{html}");
        assert!(html.contains("looks further back") && html.contains("First page"), "{html}");
    }

    #[test]
    fn without_sessions_the_page_says_why() {
        assert!(shown(&[], None, &Filter::default(), ADMIN).contains("no sessions yet"));
        let filter = Filter { status: "error".to_owned(), ..Filter::default() };
        assert!(shown(&[], None, &filter, ADMIN).contains("Show all"));
    }
}
