//! A part of a log for readers without scripts: as a conversation, or event by event.

use std::collections::{HashMap, HashSet};

use maud::{Markup, html};
use serde_json::{Value, value::RawValue};

use super::{SHOWN, View};

/// A part of a log.
pub(super) struct Record {
    events: Vec<Numbered>,
    /// The event before the first.
    after: u64,
    /// The last of the whole log.
    last: u64,
}

struct Numbered {
    seq: u64,
    event: Value,
}

impl Record {
    /// The events behind `after`, of a log that ends with `last`.
    pub(super) fn read(events: &[Box<RawValue>], after: u64, last: u64) -> Self {
        // What the host took into the log is JSON; should it not be, its place stays.
        let read = |(seq, json): (u64, &RawValue)| Numbered {
            seq,
            event: serde_json::from_str(json.get()).unwrap_or_default(),
        };
        Self {
            events: (after.saturating_add(1)..).zip(events.iter().map(AsRef::as_ref)).map(read).collect(),
            after,
            last,
        }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn show(&self, view: View) -> Markup {
        html! {
            noscript { p.note { "This page follows the session, and shows the timeline, with JavaScript. Reading works without it." } }
            (self.links(view))
            @if self.events.is_empty() {
                p.quiet { "Nothing has happened here." }
            } @else if view == View::Events {
                ol.rows aria-label="Events" { @for numbered in &self.events { (raw(numbered)) } }
            } @else {
                ol.rows aria-label="Conversation" { (self.conversation()) }
            }
            (self.links(view))
        }
    }

    /// The way to the other parts.
    fn links(&self, view: View) -> Markup {
        let end = self.events.last().map_or(self.after, |numbered| numbered.seq);
        let link = |words: &str, after: u64| html! { a href={ "?view=" (view.name()) "&after=" (after) } { (words) } };
        html! {
            nav.parts aria-label="Parts of the log" {
                @if self.after > 0 { (link("First", 0)) " " (link("Earlier", self.after.saturating_sub(SHOWN))) " " }
                @if end > self.after { span { "Events " (self.after + 1) " to " (end) " of " (self.last) } }
                @if end < self.last { " " (link("Later", end)) " " a href={ "?view=" (view.name()) } { "Latest" } }
            }
        }
    }

    fn conversation(&self) -> Markup {
        let by_use: HashMap<&str, &Value> =
            self.events.iter().filter_map(|Numbered { event, .. }| Some((used(event)?, event))).collect();
        let uses = self.events.iter().filter(|numbered| is_use(kind(&numbered.event)));
        let uses: HashSet<&str> = uses.filter_map(|numbered| numbered.event["id"].as_str()).collect();
        // A client's event comes twice, when it begins to wait and when it is processed or withdrawn; it is told where it
        // began.
        let of_clients = self.events.iter().filter(|numbered| kind(&numbered.event).starts_with("user."));
        let latest: HashMap<&str, &Value> =
            of_clients.filter_map(|Numbered { event, .. }| Some((event["id"].as_str()?, event))).collect();
        let mut told = HashSet::new();
        html! {
            @for Numbered { seq, event } in &self.events {
                @let id = event["id"].as_str().unwrap_or_default();
                @let again = latest.contains_key(id) && !told.insert(id);
                @if !again && !used(event).is_some_and(|id| uses.contains(id)) {
                    (row(*seq, latest.get(id).copied().unwrap_or(event), by_use.get(id).copied()))
                }
            }
        }
    }
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap_or_default()
}

fn is_use(kind: &str) -> bool {
    matches!(kind, "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use")
}

/// The tool use that an event is the result of.
fn used(event: &Value) -> Option<&str> {
    let name = match kind(event) {
        "agent.tool_result" | "user.tool_result" => "tool_use_id",
        "agent.mcp_tool_result" => "mcp_tool_use_id",
        "user.custom_tool_result" => "custom_tool_use_id",
        _ => return None,
    };
    event[name].as_str()
}

/// An event as a part of the conversation, with the result that it has.
fn row(seq: u64, event: &Value, result: Option<&Value>) -> Markup {
    let kind = kind(event);
    match kind {
        "user.message" => said("user", "User", seq, event),
        "agent.message" => said("agent", "Agent", seq, event),
        _ if is_use(kind) => tool(seq, event, result),
        "session.error" => html! {
            li.row.error {
                div.row-head { strong.who { "Error" } span.badge.bad { (text(&event["error"]["type"])) } (place(seq, event)) }
                div.body.text { (text(&event["error"]["message"])) }
            }
        },
        "session.status_idle" | "session.status_terminated" => html! {
            li.row.end {
                div.row-head {
                    span.turn-words { (text(&event["stop_reason"]["type"]).replace('_', " ")) @if kind.ends_with("terminated") { "terminated" } }
                    (place(seq, event))
                }
            }
        },
        "session.status_running" | "span.model_request_start" | "span.model_request_end" => html! {},
        "agent.thinking" if content(event).is_empty() => html! {},
        _ => html! {
            li.row.note {
                details {
                    summary.row-head {
                        span.who { (kind) }
                        span.line { (one_line(&content(event))) }
                        @if withdrawn(event).is_some() { (waits(event)) }
                        (place(seq, event))
                    }
                    pre { (pretty(event)) }
                }
            }
        },
    }
}

/// Why a client's event will not be sent; nothing for one that was, or that may be yet.
fn withdrawn(event: &Value) -> Option<&str> {
    match &event["withdrawn"] {
        Value::Null | Value::Bool(false) => None,
        told => Some(told["reason"].as_str().unwrap_or("nobody says why")),
    }
}

/// Where an event stands that was not processed.
fn waits(event: &Value) -> Markup {
    html! {
        @match withdrawn(event) {
            Some(why) => { span.badge.bad { "withdrawn" } span.line { (one_line(why)) } }
            None if event["processed_at"].is_null() => { span.badge.warn { "queued" } }
            None => {}
        }
    }
}

fn said(class: &str, who: &str, seq: u64, event: &Value) -> Markup {
    html! {
        li class={ "row " (class) } {
            div.row-head {
                span.who { (who) }
                (waits(event))
                (place(seq, event))
            }
            div.body.text { (content(event)) }
        }
    }
}

fn tool(seq: u64, event: &Value, result: Option<&Value>) -> Markup {
    let (tone, words) = match result {
        Some(result) if result["is_error"] == true => ("bad", "failed"),
        Some(_) => ("good", "done"),
        None => ("busy", "no result yet"),
    };
    html! {
        li.row.tool {
            details {
                summary.row-head {
                    span.who { (text(&event["name"])) }
                    code.line { (one_line(&event["input"].to_string())) }
                    span class={ "badge " (tone) } { (words) }
                    (place(seq, event))
                }
                div.body {
                    h4 { "Input" }
                    pre { (pretty(&event["input"])) }
                    @if let Some(result) = result { h4 { "Result" } pre { (content(result)) } }
                }
            }
        }
    }
}

/// An event as it is.
fn raw(Numbered { seq, event }: &Numbered) -> Markup {
    html! {
        li.row.event id={ "seq-" (seq) } {
            details {
                summary.row-head {
                    span.type { (kind(event)) }
                    span.line { (one_line(&summary(event))) }
                    (place(*seq, event))
                }
                pre { (pretty(event)) }
            }
        }
    }
}

/// When an event was, and the way to it.
fn place(seq: u64, event: &Value) -> Markup {
    let at = event["processed_at"].as_str();
    html! {
        span.where {
            @if let Some(at) = at { time datetime=(at) { (at.get(11..19).unwrap_or(at)) } }
            " " a href={ "?view=events&at=" (seq) "#seq-" (seq) } { (seq) }
        }
    }
}

fn summary(event: &Value) -> String {
    let said = content(event);
    if let Some(why) = withdrawn(event) {
        return format!("withdrawn: {why} · {said}");
    }
    if !said.is_empty() {
        return said;
    }
    let parts = [&event["name"], &event["input"], &event["error"]["message"], &event["stop_reason"]["type"]];
    parts.into_iter().map(text).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The text of a message's or a tool's content.
fn content(event: &Value) -> String {
    match &event["content"] {
        Value::Array(blocks) => blocks.iter().map(block).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => text(other),
    }
}

fn block(block: &Value) -> String {
    match (block["type"].as_str(), block["text"].as_str()) {
        (Some("text"), Some(text)) => text.to_owned(),
        (Some("image" | "document" | "redacted"), _) => format!("[{}]", text(&block["type"])),
        _ => block.to_string(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    const MOST: usize = 240;
    let start: String = text.chars().take(MOST * 2).collect();
    let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some(_) => line.chars().take(MOST - 1).chain(['…']).collect(),
        None => line,
    }
}

fn pretty(value: &Value) -> String {
    // A value that was JSON is JSON again.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn record(events: &[&str], after: u64, last: u64) -> Record {
        let events: Vec<_> = events.iter().map(|json| RawValue::from_string((*json).to_owned()).unwrap()).collect();
        Record::read(&events, after, last)
    }

    const TURN: [&str; 7] = [
        r#"{"type":"user.message","id":"u","processed_at":null,"content":[{"type":"text","text":"Look around"}]}"#,
        r#"{"type":"user.message","id":"u","processed_at":"2026-11-26T05:00:00Z","content":[{"type":"text","text":"Look around"}]}"#,
        r#"{"type":"session.status_running","id":"r","processed_at":"2026-11-26T05:00:00Z"}"#,
        r#"{"type":"agent.tool_use","id":"t","name":"bash","input":{"command":"ls <x>"},"processed_at":"2026-11-26T05:00:01Z"}"#,
        r#"{"type":"agent.tool_result","id":"o","tool_use_id":"t","is_error":true,"content":[{"type":"text","text":"no such <x>"}]}"#,
        r#"{"type":"session.error","id":"e","error":{"type":"billing_error","message":"No money."}}"#,
        r#"{"type":"session.status_idle","id":"i","stop_reason":{"type":"end_turn"}}"#,
    ];

    #[test]
    fn a_conversation_pairs_tools_with_results_and_tells_each_message_once() {
        let html = record(&TURN, 0, 7).show(View::Conversation).into_string();
        assert_eq!(html.matches("Look around").count(), 1, "{html}");
        assert!(html.contains("05:00:00") && !html.contains("queued"), "in its last form: {html}");
        assert!(html.contains("<li class=\"row user\">"), "an element has one list of classes: {html}");
        assert_eq!(html.matches("no such &lt;x&gt;").count(), 1, "{html}");
        assert_eq!(html.matches("<li").count(), 4, "the message, the tool, the error and the end: {html}");
        assert!(
            html.contains(">failed<")
                && html.contains("billing_error")
                && html.contains("No money.")
                && html.contains("end turn")
        );
    }

    #[test]
    fn a_message_that_will_not_be_sent_says_so_and_why() {
        let queued =
            r#"{"type":"user.message","id":"u","processed_at":null,"content":[{"type":"text","text":"Go on"}]}"#;
        let told = queued.replace("null", r#"null,"withdrawn":{"reason":"the turn <failed>","at":1}"#);
        for events in [&[&*told][..], &[queued, &told]] {
            let html = record(events, 0, 2).show(View::Conversation).into_string();
            assert!(html.contains(">withdrawn<") && html.contains("the turn &lt;failed&gt;"), "{html}");
            assert!(!html.contains("queued") && html.matches("Go on").count() == 1, "{html}");
            let html = record(events, 0, 2).show(View::Events).into_string();
            assert!(html.contains("withdrawn: the turn &lt;failed&gt; · Go on"), "{html}");
        }
        let outcome = r#"{"type":"user.define_outcome","id":"o","processed_at":null,"withdrawn":{"reason":7}}"#;
        let html = record(&[outcome], 0, 1).show(View::Conversation).into_string();
        assert!(html.contains(">withdrawn<") && html.contains("nobody says why"), "{html}");
        assert!(record(&[queued], 0, 1).show(View::Conversation).into_string().contains(">queued<"));
    }

    #[test]
    fn the_events_are_all_there_with_their_numbers_and_nothing_of_them_is_markup() {
        let html = record(&TURN, 40, 47).show(View::Events).into_string();
        for seq in 41..=47 {
            assert!(html.contains(&format!("id=\"seq-{seq}\"")), "{seq}: {html}");
        }
        assert!(html.contains("ls &lt;x&gt;") && !html.contains("<x>"), "{html}");
    }

    #[test]
    fn a_part_leads_to_the_parts_before_and_behind_it() {
        let html = record(&TURN[..3], 400, 900).show(View::Events).into_string();
        for part in [
            "?view=events&amp;after=0",
            "?view=events&amp;after=200",
            "?view=events&amp;after=403",
            "Events 401 to 403 of 900",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        let html = record(&TURN, 0, 7).show(View::Events).into_string();
        assert!(!html.contains("after="), "all is there: {html}");
        assert!(record(&[], 0, 0).show(View::Conversation).into_string().contains("Nothing has happened here."));
    }

    #[test]
    fn events_of_any_shape_are_shown() {
        let odd = [
            "1",
            "null",
            r#"{"type":5,"id":[]}"#,
            r#"{"type":"agent.message","content":"plain <b>"}"#,
            r#"{"type":"agent.tool_use"}"#,
        ];
        let html = record(&odd, 0, 5).show(View::Conversation).into_string();
        assert!(html.contains("plain &lt;b&gt;"), "{html}");
        assert_eq!(record(&odd, 0, 5).show(View::Events).into_string().matches("id=\"seq-").count(), 5);
        assert_eq!(one_line(&"é ".repeat(300)).chars().count(), 240);
    }
}
