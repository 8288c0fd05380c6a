//! The page on which somebody shows a key, once.

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    super::{Query, error::Error},
    HOME, layout,
};

#[derive(Deserialize)]
pub(in super::super) struct Wish {
    #[serde(default)]
    next: Option<String>,
}

pub(in super::super) async fn sign_in(Query(wish): Query<Wish>) -> Result<Response, Error> {
    Ok(layout::respond(form(wish.next.as_deref(), None)))
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
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])) && !path.contains(['\\', '\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away_by_a_link() {
        for path in ["/console", "/console/", "/console/sessions/sesn_1?view=events", "/console?x=1"] {
            assert!(is_here(path), "{path}");
        }
        for path in ["", "//evil.example", "/consoles", "https://evil.example/console", "/console\\..", "/api/keys"] {
            assert!(!is_here(path), "{path}");
        }
    }

    #[test]
    fn what_somebody_sends_is_text_on_the_page() {
        let page = form(Some("/console/\"><script>"), Some("<b>")).into_string();
        assert!(page.contains("&quot;&gt;&lt;script&gt;") && page.contains("&lt;b&gt;") && !page.contains("<script>"));
    }
}
