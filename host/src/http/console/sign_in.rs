//! The page on which somebody shows a key, once; and the way out.

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    super::{
        Query,
        browser::{self, ConsoleHosts},
        error::Error,
        exchange::Whole,
        json, on_disk,
        principal::Principal,
    },
    HOME, layout,
};
use crate::vault::ClientKeys;

/// The largest form: a key, and a path of the console.
const FORM_BYTES_MAX: u64 = 8 * 1024;

#[derive(Deserialize)]
pub(in super::super) struct Wish {
    #[serde(default)]
    next: Option<String>,
}

pub(in super::super) async fn sign_in(Query(wish): Query<Wish>) -> Result<Response, Error> {
    Ok(layout::respond(form(wish.next.as_deref(), None)))
}

/// What the form says.
struct Filled {
    key: Zeroizing<String>,
    next: Option<String>,
}

impl Filled {
    async fn read(body: Body) -> Result<Self, Error> {
        let body = json::read_within(body, FORM_BYTES_MAX).await?;
        let mut filled = Self { key: Zeroizing::new(String::new()), next: None };
        for (name, value) in form_urlencoded::parse(&body) {
            match &*name {
                "key" => filled.key = Zeroizing::new(value.trim().to_owned()),
                "next" => filled.next = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(filled)
    }
}

/// Takes a key and gives a pass for it. It must come from this host's own page, so that nobody is signed in as somebody
/// else without knowing it.
pub(in super::super) async fn signed_in(
    State(keys): State<ClientKeys>,
    State(hosts): State<ConsoleHosts>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    hosts.check(&parts.headers)?;
    browser::check_origin(&parts.method, &parts.headers)?;
    let Filled { key, next } = Filled::read(body).await?;
    let next = next.as_deref().filter(|next| is_here(next)).unwrap_or(HOME);
    let Some(principal) = Principal::of_key(&keys, &key) else {
        let page = form(Some(next), Some("This host has no such key, or it is over."));
        let mut response = layout::respond(page);
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.extensions_mut().insert(Whole);
        return Ok(response);
    };
    let pass = on_disk(move || principal.sign_in(&keys)).await??;
    Ok(onward(next, Some(&pass), &parts.headers))
}

/// Ends the pass of whoever has one.
pub(in super::super) async fn sign_out(
    State(keys): State<ClientKeys>,
    State(hosts): State<ConsoleHosts>,
    request: Request,
) -> Result<Response, Error> {
    let (method, headers) = (request.method(), request.headers());
    hosts.check(headers)?;
    browser::check_origin(method, headers)?;
    if let Some(principal) = Principal::prove(&keys, &hosts, method, headers)? {
        on_disk(move || principal.sign_out(&keys)).await??;
    }
    Ok(onward("/console/sign-in", None, request.headers()))
}

/// Sends a browser on, with a pass or without one.
fn onward(path: &str, pass: Option<&str>, asked: &HeaderMap) -> Response {
    let mut response = Redirect::to(path).into_response();
    if let Some(cookie) = browser::give(pass, asked) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The form; with what was wrong with the last try.
pub(super) fn form(next: Option<&str>, problem: Option<&str>) -> Markup {
    let next = next.filter(|next| is_here(next)).unwrap_or(HOME);
    layout::bare(
        "Sign in",
        &html! {
            form.sign-in method="post" action="/console/sign-in" {
                h1 { "Sign in" }
                p.quiet { "With the host's master key, or with a key that its operator gave you." }
                @if let Some(problem) = problem {
                    p.problem role="alert" { (problem) }
                }
                input type="hidden" name="next" value=(next);
                label for="key" { "Key" }
                input #key type="password" name="key" required autofocus autocomplete="current-password" spellcheck="false"
                    placeholder="sk-…";
                button.primary type="submit" { "Sign in" }
                p.quiet { "The key stays on the host: your browser keeps a pass for twelve hours, which no script can read." }
            }
        },
    )
}

/// True for a path of the console. Anything else would let a link of a stranger's choose where somebody goes.
pub(super) fn is_here(path: &str) -> bool {
    let rest = path.strip_prefix(HOME);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away_by_a_link() {
        for path in ["/console", "/console/", "/console/sessions/sesn_1?view=events", "/console?x=1"] {
            assert!(is_here(path), "{path}");
        }
        for path in [
            "",
            "//evil.example",
            "/consoles",
            "https://evil.example/console",
            "/console\\..",
            "/console/\u{1}",
            "/console/ü",
            "/api/keys",
        ] {
            assert!(!is_here(path), "{path}");
        }
    }

    #[test]
    fn what_somebody_sends_is_text_on_the_page() {
        let page = form(Some("/console/\"><script>"), Some("<b>")).into_string();
        assert!(page.contains("&quot;&gt;&lt;script&gt;") && page.contains("&lt;b&gt;") && !page.contains("<script>"));
    }
}
