//! What all pages have in common: the frame, the way around, and how an error looks.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, html};

use super::{
    super::{Access, error::Error, routes},
    assets,
    viewer::Viewer,
};
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

    /// True where the guard of its route lets a viewer pass.
    fn is_for(self, Viewer(role): Viewer) -> bool {
        let mut routes = routes().iter().filter(|route| route.path == self.path());
        routes.any(|route| match route.access {
            Access::Anyone => true,
            Access::Key(asked) => role.includes(asked),
        })
    }
}

/// A page but for what is on it.
pub(super) struct Frame<'a> {
    /// Where it is.
    pub(super) section: Section,
    /// What it is called, in the window's title.
    pub(super) title: &'a str,
    /// The modules that it runs beside `view.js`, by the names of their files.
    pub(super) scripts: &'a [&'a str],
    /// Who looks at it.
    pub(super) viewer: Viewer,
}

/// A page of the console.
pub(super) fn page(frame: &Frame<'_>, content: &Markup) -> Response {
    let body = html! {
        a.skip href="#content" { "Skip to content" }
        header.side {
            div {
                a.brand href="/console" { "lap" }
                nav aria-label="Console" {
                    @let open = |section: &Section| section.is_for(frame.viewer);
                    @let settings: Vec<_> = Section::SETTINGS.into_iter().filter(open).collect();
                    ul { @for section in Section::WORK.into_iter().filter(open) { (entry(section, frame.section)) } }
                    @if !settings.is_empty() {
                        h2 { "Settings" }
                        ul { @for section in settings { (entry(section, frame.section)) } }
                    }
                }
                form.sign-out method="post" action="/console/sign-out" { button.plain type="submit" { "Sign out" } }
            }
        }
        main #content tabindex="-1" { (content) }
        div #notices role="status" aria-live="polite" {}
    };
    let scripts: Vec<_> = ["view.js"].iter().chain(frame.scripts).copied().collect();
    respond(document(frame.title, &scripts, &body))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    #[test]
    fn the_menu_has_what_the_guard_lets_pass_and_no_more() {
        let open = |role| {
            let all = Section::WORK.into_iter().chain(Section::SETTINGS);
            all.filter(|section| section.is_for(Viewer(role))).map(Section::name).collect::<Vec<_>>()
        };
        let sections = ["Overview", "Sessions", "Agents", "Runtimes", "Credentials", "Keys"];
        assert_eq!(open(Role::Admin), sections);
        assert_eq!((open(Role::Member), open(Role::Reader)), (sections[..4].to_vec(), sections[..4].to_vec()));
    }
}
