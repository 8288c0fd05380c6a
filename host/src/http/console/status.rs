//! Where a session stands, as people see it, on every page that shows one.

use maud::{Markup, html};

use super::elements::{Tone, badge};

/// Every status, as the API spells it, how it looks, and what it is called.
pub(super) const STATUSES: [(&str, Tone, &str); 6] = [
    ("idle", Tone::Plain, "Idle"),
    ("running", Tone::Busy, "Running"),
    ("rescheduling", Tone::Warn, "Rescheduling"),
    ("requires_action", Tone::Warn, "Needs you"),
    ("error", Tone::Bad, "Error"),
    ("terminated", Tone::Plain, "Terminated"),
];

/// A status as a badge. One that this page does not know is shown as the API has it.
pub(super) fn status(status: &str) -> Markup {
    let known = STATUSES.iter().find(|(name, ..)| *name == status);
    known.map_or_else(|| badge(Tone::Plain, status), |(_, tone, word)| badge(*tone, word))
}

/// What scripts copy when a status changes.
pub(super) fn models() -> Markup {
    html! { @for (name, tone, word) in STATUSES { template data-status=(name) { (badge(tone, word)) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_word_and_one_that_is_not_known_has_its_own() {
        assert_eq!(status("requires_action").into_string(), r#"<span class="badge warn">Needs you</span>"#);
        assert_eq!(status("<new>").into_string(), r#"<span class="badge">&lt;new&gt;</span>"#);
    }
}
