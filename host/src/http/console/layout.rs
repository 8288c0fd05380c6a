//! What all pages have in common: the frame, the way around, and how an error looks.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, html};

use super::{super::error::Error, assets};
use crate::id::RequestId;

/// Nothing of anybody else's, nothing inline, in no frame.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The places of the console, in the order of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Sessions,
    Agents,
    Runtimes,
    Credentials,
    Keys,
}

impl Section {
    const WORK: [Self; 4] = [Self::Overview, Self::Sessions, Self::Agents, Self::Runtimes];
    const SETTINGS: [Self; 2] = [Self::Credentials, Self::Keys];

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Sessions => "Sessions",
            Self::Agents => "Agents",
            Self::Runtimes => "Runtimes",
            Self::Credentials => "Credentials",
            Self::Keys => "Keys",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Sessions => "/console/sessions",
            Self::Agents => "/console/agents",
            Self::Runtimes => "/console/runtimes",
            Self::Credentials => "/console/settings/credentials",
            Self::Keys => "/console/keys",
        }
    }
}

/// A page but for what is on it.
pub(super) struct Frame<'a> {
    /// Where it is.
    pub(super) section: Section,
    /// What it is called, in the window's title.
    pub(super) title: &'a str,
    /// The modules that it runs, by the names of their files.
    pub(super) scripts: &'a [&'a str],
}

/// A page of the console.
pub(super) fn page(frame: &Frame<'_>, content: &Markup) -> Response {
    let body = html! {
        a.skip href="#content" { "Skip to content" }
        header.side {
            a.brand href="/console" { "lap" }
            nav aria-label="Console" {
                ul { @for section in Section::WORK { (entry(section, frame.section)) } }
                h2 { "Settings" }
                ul { @for section in Section::SETTINGS { (entry(section, frame.section)) } }
            }
            form.sign-out method="post" action="/console/sign-out" { button.plain type="submit" { "Sign out" } }
        }
        main #content tabindex="-1" { (content) }
        div #notices role="status" aria-live="polite" {}
    };
    respond(document(frame.title, frame.scripts, &body))
}

fn entry(section: Section, current: Section) -> Markup {
    html! {
        li { a href=(section.path()) aria-current=[(section == current).then_some("page")] { (section.name()) } }
    }
}

/// A page without a way around: there is only one thing to do.
pub(super) fn bare(title: &str, content: &Markup) -> Markup {
    document(title, &[], &html! { main.bare #content { (content) } })
}

fn document(title: &str, scripts: &[&str], body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · lap" }
                link rel="icon" href=(assets::path("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::path("console.css"));
                @for script in scripts { script type="module" src=(assets::path(script)) {} }
            }
            body { (body) }
        }
    }
}

/// A page with the headers that keep it to itself.
pub(super) fn respond(page: Markup) -> Response {
    let mut response = Html(page.into_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Under `no-referrer` the forms of a page have no origin either, which is checked.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A page for an error.
pub(super) fn refusal(error: &Error, request: RequestId) -> Response {
    let content = html! {
        h1 { (error.status.canonical_reason().unwrap_or("Error")) }
        p.problem role="alert" { (error.message) }
        p.quiet { code { (error.code) } " · " code { (request) } }
        p { a href="/console" { "Back to the overview" } }
    };
    let mut response = respond(bare("Error", &content));
    *response.status_mut() = error.status;
    response
}
