//! The parts of the page that scripts bring to life; without scripts they are out of sight.

use maud::{Markup, html};

/// What can be done to the session as a whole.
pub(super) fn actions(session: &str) -> Markup {
    html! {
        div.actions.with-scripts {
            button #copy-curl.small type="button" disabled data-scripted { "Copy as curl" }
            button #download.small type="button" disabled data-scripted { "Download NDJSON" }
            button #interrupt.small.writes type="button" disabled { "Interrupt" }
            button #kill.small.danger.writes type="button" disabled { "Kill" }
        }
        a.button.small.without-scripts href={ "/v1/sessions/" (session) "/events" } { "Events as JSON" }
    }
}

/// Whether the page is live.
pub(super) fn connection() -> Markup {
    html! {
        p #connection.with-scripts data-state="connecting" {
            span { "connecting" }
            button #reconnect.plain type="button" hidden disabled data-scripted { "Reconnect now" }
            a #sign-in-again href="/console/sign-in" target="_blank" hidden { "Sign in again" }
        }
    }
}

/// What finds something in the log.
pub(super) fn search() -> Markup {
    const FAMILIES: [(&str, &str); 6] = [
        ("", "All types"),
        ("user.*", "user"),
        ("agent.*", "agent"),
        ("session.*", "session"),
        ("span.*", "span"),
        ("session.error", "errors"),
    ];
    html! {
        form.search.with-scripts role="search" aria-label="Events" {
            span #matched.quiet role="status" {}
            select #kind aria-label="Type of event" {
                @for (value, words) in FAMILIES { option value=(value) { (words) } }
                optgroup label="Types in this log" {}
            }
            input #text type="search" aria-label="Text in events" placeholder="Filter ( / )" autocomplete="off" spellcheck="false";
            button #help.small type="button" aria-label="Keys" title="Keys ( ? )" disabled data-scripted { "?" }
        }
    }
}

/// The three projections of the log.
pub(super) fn panels() -> Markup {
    html! {
        div.panels.with-scripts {
            @for (name, label) in [("conversation", "Conversation"), ("timeline", "Timeline"), ("events", "Events")] {
                section #{ "panel-" (name) } role="tabpanel" aria-labelledby={ "tab-" (name) } hidden {
                    @if name == "timeline" {
                        div.axis {
                            div.axis-tools {
                                label.check for="cut-idle" { input #cut-idle type="checkbox" checked; " Cut idle time" }
                                button #whole.small type="button" hidden disabled data-scripted { "Whole session" }
                            }
                            div.ruler aria-hidden="true" {}
                        }
                    }
                    div.scroller {
                        ol.rows aria-label=(label) {}
                        p.none.quiet hidden {}
                    }
                }
            }
            button #newer type="button" hidden disabled data-scripted {}
        }
    }
}

/// What the session is told.
pub(super) fn dock() -> Markup {
    html! {
        div.dock.with-scripts {
            section #decisions.writes aria-labelledby="decisions-title" hidden {
                h2 #decisions-title { "The agent waits for you" }
                ul {}
            }
            form #composer.writes aria-label="Prompt" {
                ol #queue aria-label="Messages that wait" hidden {}
                div.compose {
                    label.unseen for="prompt" { "Prompt" }
                    textarea #prompt rows="1" placeholder="Say something; during a turn it waits for the turn's end" aria-describedby="prompt-hint" {}
                    button.primary type="submit" disabled data-scripted { "Send" }
                }
                p #prompt-hint.unseen { "Ctrl or Command and Enter send it." }
            }
            p #announcer.unseen role="status" aria-live="polite" {}
        }
    }
}

/// What the keyboard does.
pub(super) fn keys() -> Markup {
    const KEYS: [(&[&str], &str); 10] = [
        (&["1", "2", "3"], "Conversation, Timeline, Events"),
        (&["j", "k"], "Next and previous row; ↓ and ↑ within the list"),
        (&["Enter"], "Open or close the row"),
        (&["Home", "End"], "First event; last event, and follow"),
        (&["/"], "Filter"),
        (&["Esc"], "From the filter back to the list"),
        (&["a"], "To what the agent waits for"),
        (&["c"], "To the prompt"),
        (&["Ctrl Enter"], "Send the prompt"),
        (&["?"], "This"),
    ];
    html! {
        dialog #keys aria-labelledby="keys-title" {
            form method="dialog" {
                h2 #keys-title { "Keys" }
                dl.keys {
                    @for (keys, words) in KEYS {
                        div { dt { @for key in keys { kbd { (key) } } } dd { (words) } }
                    }
                }
                label.check for="single-keys" { input #single-keys type="checkbox" checked; " Single letters and digits are shortcuts" }
                div.actions.end { button autofocus disabled data-scripted { "Close" } }
            }
        }
    }
}
