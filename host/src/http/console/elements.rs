//! What pages are made of: badges, times, numbers, buttons and fields of forms. Text is escaped by maud, always.

use maud::{Markup, html};

use crate::clock;

/// How something is, for those who see colours; the word beside it is for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Busy,
    Warn,
    Bad,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => "badge",
            Self::Good => "badge good",
            Self::Busy => "badge busy",
            Self::Warn => "badge warn",
            Self::Bad => "badge bad",
        }
    }
}

/// A dot and a word.
pub(super) fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class=(tone.class()) { (word) } }
}

/// A time in milliseconds since the epoch. Scripts tell how long ago that was.
pub(super) fn moment(unix_ms: u64) -> Markup {
    moment_of(&clock::rfc3339_of(unix_ms))
}

/// The same for a time of RFC 3339.
pub(super) fn moment_of(exact: &str) -> Markup {
    html! { time datetime=(exact) data-ago { (readable(exact)) } }
}

/// `2026-11-26 05:24 UTC` of a time of RFC 3339.
fn readable(exact: &str) -> String {
    match (exact.get(..10), exact.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => exact.to_owned(),
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// A digest, as long as people compare it; all of it as a tooltip.
pub(super) fn digest(digest: &str) -> Markup {
    let short = digest.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(digest);
    html! { code title=(digest) { (short) } }
}

/// What stands where there is nothing yet.
pub(super) fn empty(title: &str, more: &Markup) -> Markup {
    html! { div.empty { p.title { (title) } (more) } }
}

/// A button that asks the API for something; `view.js` does that.
#[derive(Default)]
pub(super) struct Action<'a> {
    pub(super) label: &'a str,
    /// Method and path.
    pub(super) call: &'a str,
    /// What it is done to, for those who hear the button without seeing where it stands.
    pub(super) of: &'a str,
    pub(super) body: Option<&'a str>,
    /// The question before it, and what follows from it. What is asked about cannot be undone.
    pub(super) confirm: Option<(&'a str, &'a str)>,
    /// What is said after it.
    pub(super) done: &'a str,
    /// The page after it.
    pub(super) next: Option<&'a str>,
    /// What of this page is shown anew.
    pub(super) refresh: Option<&'a str>,
}

impl Action<'_> {
    pub(super) fn button(&self) -> Markup {
        let (confirm, consequence) = self.confirm.unzip();
        html! {
            button type="button" class=[confirm.map(|_| "danger")] disabled data-scripted data-call=(self.call)
                data-body=[self.body] data-confirm=[confirm] data-consequence=[consequence] data-done=(self.done)
                data-action=(self.label) data-next=[self.next] data-refresh=[self.refresh]
            {
                (self.label) @if !self.of.is_empty() { span.unseen { " " (self.of) } }
            }
        }
    }
}

/// A field of a form, with its label and with the place where it is said what is wrong with it.
pub(super) struct Field<'a> {
    /// Unique on the page.
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) hint: &'a str,
}

impl Field<'_> {
    /// `input` gets the ids of what describes it.
    pub(super) fn around(&self, input: impl FnOnce(&str) -> Markup) -> Markup {
        let (hint, error) = (format!("{}-hint", self.id), format!("{}-error", self.id));
        let described = if self.hint.is_empty() { error.clone() } else { format!("{error} {hint}") };
        html! {
            div.field {
                label for=(self.id) { (self.label) }
                (input(&described))
                p.error id=(error) hidden {}
                @if !self.hint.is_empty() { p.hint id=(hint) { (self.hint) } }
            }
        }
    }
}

/// What is said to who has no scripts.
pub(super) fn unscripted() -> Markup {
    html! { noscript { p.note { "To change something here, allow JavaScript for this host. Reading works without it." } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_for_people() {
        let numbers = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")];
        assert!(numbers.iter().all(|(number, text)| grouped(*number) == *text));
        let sizes =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20.0 MiB"), (u64::MAX, "17179869183.9 GiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_time_says_when_it_was_also_without_scripts() {
        let time = moment(1_795_671_843_000).into_string();
        assert_eq!(time, r#"<time datetime="2026-11-26T05:44:03.000Z" data-ago>2026-11-26 05:44 UTC</time>"#);
        assert_eq!(moment(u64::MAX).into_string(), r#"<time datetime="" data-ago></time>"#);
    }

    #[test]
    fn a_button_is_off_until_a_script_can_do_what_it_says() {
        let button = Action {
            label: "Delete",
            call: "DELETE /x",
            of: "<b>",
            confirm: Some(("Sure?", "Gone.")),
            ..Action::default()
        };
        let html = button.button().into_string();
        assert!(
            html.contains(" disabled data-scripted") && html.contains("&lt;b&gt;") && html.contains("class=\"danger\""),
            "{html}"
        );
    }
}
