//! The keys of the API: who may do what, until when. A key is shown once, by the script that minted it.

use axum::response::Response;
use maud::{Markup, html};

use super::{
    super::error::Error,
    answers::{Key, Keys},
    api::Api,
    elements::{Action, Field, Tone, badge, empty, moment, unscripted},
    layout::{Frame, Section, page},
};
use crate::clock;

/// The roles, the least first, with what each may do.
const ROLES: [(&str, &str); 3] = [
    ("reader", "Reader: sees the agents and sessions of its owner"),
    ("member", "Member: starts and changes them, too"),
    ("admin", "Admin: manages the host, and sees everything"),
];

/// For how many days a key may be good.
const DAYS: [(&str, &str); 4] = [("1", "One day"), ("30", "30 days"), ("90", "90 days"), ("365", "One year")];

pub(in super::super) async fn keys(api: Api) -> Result<Response, Error> {
    let Keys { keys } = api.get("/api/keys").await?;
    let frame = Frame { section: Section::Keys, title: "Keys", scripts: &["keys.js"], viewer: api.viewer };
    Ok(page(&frame, &content(&keys, clock::unix_ms() / 1000)))
}

/// `now` is in seconds since the epoch.
fn content(keys: &[Key], now: u64) -> Markup {
    html! {
        h1 { "Keys" }
        p.lead {
            "A key opens this host's API and this console, as far as its role goes. The master key is not among them: it is \
             part of the host's configuration."
        }
        (unscripted())
        div.stack {
            div #keys {
                @if keys.is_empty() {
                    (empty("There are no keys beside the master key.", &html! {
                        p { "Give each client one of its own: it can be revoked without changing the others." }
                    }))
                } @else {
                    (table(keys, now))
                }
            }
            (form())
        }
    }
}

fn table(keys: &[Key], now: u64) -> Markup {
    html! {
        div.scroll {
            table {
                caption.unseen { "Keys, the latest first" }
                thead { tr {
                    th scope="col" { "Label" } th scope="col" { "Role" } th scope="col" { "Owner" } th scope="col" { "Made" }
                    th scope="col" { "Last used" } th scope="col" { "Expires" } th scope="col" { span.unseen { "Actions" } }
                } }
                tbody { @for key in keys { (row(key, now)) } }
            }
        }
    }
}

fn row(key: &Key, now: u64) -> Markup {
    let name = key.label.as_deref().filter(|label| !label.is_empty()).unwrap_or(&key.id);
    let question = format!("Revoke {name}?");
    let revocation = Action {
        label: "Revoke",
        of: name,
        call: &format!("DELETE /api/keys/{}", key.id),
        confirm: Some((
            &question,
            "Whoever uses it is turned away at once, and what it streams ends. This cannot be undone.",
        )),
        done: "The key is revoked.",
        refresh: Some("keys"),
        ..Action::default()
    };
    let tone = if key.role == "admin" { Tone::Warn } else { Tone::Plain };
    html! {
        tr {
            th scope="row" { (name) @if name != key.id { br; code.quiet { (key.id) } } }
            td { (badge(tone, &key.role)) }
            td { @match &key.owner_id { Some(owner) => (owner), None => span.quiet { "everybody's" } } }
            td { (moment(key.created_at.saturating_mul(1000))) }
            td { @match key.last_used_at { Some(at) => (moment(at.saturating_mul(1000))), None => span.quiet { "never" } } }
            td {
                @match key.expires_at {
                    Some(at) if at <= now => (badge(Tone::Bad, "Expired")),
                    Some(at) => (moment(at.saturating_mul(1000))),
                    None => span.quiet { "never" },
                }
            }
            td.actions-cell { (revocation.button()) }
        }
    }
}

fn form() -> Markup {
    let label = Field { id: "label", label: "Label", hint: "What it is for, so that you know which one to revoke." };
    let role = Field { id: "role", label: "Role", hint: "" };
    let owner = Field {
        id: "owner_id",
        label: "Owner",
        hint: "Whose agents and sessions it reaches; local-user by default. An admin's key has none: it reaches everybody's.",
    };
    let expiry = Field { id: "expires_at", label: "Expires", hint: "" };
    html! {
        section.card aria-labelledby="mint-name" {
            h2 #mint-name { "New key" }
            form #mint method="post" {
                (label.around(|described| html! { input #label type="text" name="label" autocomplete="off" aria-describedby=(described); }))
                (role.around(|described| html! {
                    select #role name="role" aria-describedby=(described) {
                        @for (role, words) in ROLES { option value=(role) selected[role == "member"] { (words) } }
                    }
                }))
                (owner.around(|described| html! { input #owner_id type="text" name="owner_id" autocomplete="off" aria-describedby=(described); }))
                (expiry.around(|described| html! {
                    select #expires_at name="expires_at" aria-describedby=(described) {
                        option value="" { "Never" }
                        @for (days, words) in DAYS { option value=(days) selected[days == "90"] { (words) } }
                    }
                }))
                div.actions { button.primary type="submit" disabled data-scripted { "Mint the key" } }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_told_by_its_label_which_is_text() {
        let key = json!({"id": "key_1", "label": "<b>ci</b>", "role": "member", "owner_id": "o", "created_at": 1, "last_used_at": null, "expires_at": 99});
        let key: Key = serde_json::from_value(key).unwrap();
        let html = content(&[key], 100).into_string();
        assert!(html.contains("&lt;b&gt;ci&lt;/b&gt;") && !html.contains("<b>") && html.contains("key_1"), "{html}");
        assert!(
            html.contains("Expired") && html.contains("never") && html.contains("DELETE /api/keys/key_1"),
            "{html}"
        );
    }

    #[test]
    fn without_keys_the_page_says_what_they_are_good_for() {
        assert!(content(&[], 0).into_string().contains("no keys beside the master key"));
    }
}
