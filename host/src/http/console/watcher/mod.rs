//! The page of a session: what it is, and its log. With scripts, `assets/watcher/` takes the page over and follows the log;
//! without, it is a part of the log, as a conversation or event by event, and links to the other parts.
//!
//! * `controls.rs` what works with scripts alone · `record.rs` the log for readers without

mod controls;
mod record;

use axum::{extract::Path, response::Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::record::Record;
use super::{
    super::{Query, error::Error, lap::sessions::named},
    answers::{Runtime, Session, Usage},
    api::Api,
    assets,
    elements::{digest, grouped, moment},
    layout::{Frame, Section, page},
    status,
};

/// How many events a page shows without scripts.
const SHOWN: u64 = 200;

/// How the log is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum View {
    #[default]
    Conversation,
    /// Bars need scripts; without them it is the conversation.
    Timeline,
    Events,
}

impl View {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Conversation, "conversation", "Conversation"),
        (Self::Timeline, "timeline", "Timeline"),
        (Self::Events, "events", "Events"),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Timeline => "timeline",
            Self::Events => "events",
        }
    }
}

#[derive(Deserialize)]
pub(in super::super) struct Wish {
    #[serde(default)]
    view: View,
    /// The event before the first.
    #[serde(default)]
    after: Option<u64>,
    /// An event that is to be among those that are shown.
    #[serde(default)]
    at: Option<u64>,
}

impl Wish {
    /// The event before the first that is shown, of a log that ends with `last`.
    fn start(&self, last: u64) -> u64 {
        let latest = last.saturating_sub(SHOWN);
        match (self.after, self.at) {
            (Some(after), _) => after.min(last),
            (None, Some(at)) => at.saturating_sub(SHOWN / 2).min(latest),
            (None, None) => latest,
        }
    }
}

#[derive(Deserialize)]
struct Agent {
    name: String,
}

/// What is told of a session from elsewhere, as far as that is still there.
struct About {
    /// Its agent's name.
    agent: Option<String>,
    /// What its runtime stands for, where that is an alias.
    alias_of: Option<String>,
}

/// A part of the log.
#[derive(Deserialize)]
struct Part {
    data: Vec<Box<RawValue>>,
    last_seq: u64,
}

pub(in super::super) async fn watcher(
    api: Api,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Error> {
    let id = named(&id)?;
    let session: Session = api.get(&format!("/session/{id}")).await?;
    let agent = api.get::<Agent>(&format!("/api/agents/{}", session.agent_id)).await;
    // A session outlives its agent.
    let agent = agent.ok().map(|agent| agent.name);
    // And its runtime.
    let runtime = api.get::<Runtime>(&format!("/api/agent-runtimes/{}", session.runtime)).await.ok();
    let about = About { agent, alias_of: runtime.and_then(|runtime| runtime.alias_of) };
    let events = format!("/v1/sessions/{id}/events");
    let Part { last_seq, .. } = api.get(&format!("{events}?limit=1")).await?;
    let after = wish.start(last_seq);
    let part: Part = api.get(&format!("{events}?after={after}&limit={SHOWN}")).await?;
    let record = Record::read(&part.data, after, part.last_seq);
    let frame = Frame {
        section: Section::Sessions,
        title: &session.title,
        scripts: &["watcher/watcher.js"],
        viewer: api.viewer,
    };
    Ok(page(&frame, &content(&session, &about, &record, wish.view, api.viewer.writes())))
}

fn content(session: &Session, about: &About, record: &Record, view: View, writes: bool) -> Markup {
    html! {
        link rel="stylesheet" href=(assets::path("watcher.css"));
        div.watcher.reader[!writes] data-session=(session.id) data-head=(record.last()) {
            (head(session, about))
            div.bar {
                nav #tabs.tabs aria-label="Views of the log" {
                    @for (each, name, words) in View::ALL {
                        a #{ "tab-" (name) } href={ "?view=" (name) } data-view=(name) aria-current=[(each == view).then_some("page")] { (words) }
                    }
                }
                (controls::search())
            }
            div #static { (record.show(view)) }
            (controls::panels())
            (controls::dock())
            (controls::keys())
        }
    }
}

fn head(session: &Session, about: &About) -> Markup {
    let About { agent, alias_of } = about;
    html! {
        header.watcher-head {
            nav.trail aria-label="Breadcrumb" { a href="/console/sessions" { "Sessions" } " / " span aria-current="page" { code { (session.id) } } }
            div.title-line {
                h1 { (session.title) }
                span #status data-status=(session.status) { (status::status(&session.status)) }
                (status::models())
                (controls::actions(&session.id))
            }
            dl.facts {
                div { dt { "Agent" } dd { a href={ "/console/agents/" (session.agent_id) } { (agent.as_deref().unwrap_or("deleted")) } } }
                div {
                    dt { "Runtime" }
                    dd {
                        a href={ "/console/runtimes/" (session.runtime) } { (session.runtime) }
                        @if let Some(of) = alias_of { ", alias of " (of) }
                        @if let Some(component) = &session.component { " @ " (digest(component)) }
                    }
                }
                div { dt { "Started" } dd { (moment(session.time.created)) } }
                div { dt { "Elapsed" } dd #elapsed { (active(session.usage.as_ref())) } }
                div { dt { "Tokens" } dd #tokens { (tokens(session.usage.as_ref())) } }
                div { dt { "Cost" } dd #cost { (cost(session.usage.as_ref())) } }
                @if session.queued > 0 { div.without-scripts { dt { "Queued" } dd { (grouped(session.queued)) } } }
            }
            (controls::connection())
        }
    }
}

/// What was read and written; what nobody tells is not zero.
fn tokens(usage: Option<&Usage>) -> String {
    let Some(tokens) = usage.and_then(Usage::tokens) else { return "n/a".to_owned() };
    let cached = tokens.cache_read;
    let share = if cached > 0 { format!(" ({} cached)", grouped(cached)) } else { String::new() };
    format!("{} in{share} / {} out", grouped(tokens.read()), grouped(tokens.output))
}

fn cost(usage: Option<&Usage>) -> String {
    usage.and_then(Usage::cost_usd).map_or_else(|| "n/a".to_owned(), |usd| format!("${usd:.4}"))
}

/// For how long its turns have run.
fn active(usage: Option<&Usage>) -> String {
    let seconds = usage.and_then(|usage| usage.active_ms).map(|ms| ms / 1000);
    match seconds {
        None => "n/a".to_owned(),
        Some(seconds) if seconds < 60 => format!("{seconds} s in turns"),
        Some(seconds) => format!("{} min {} s in turns", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn wish(after: Option<u64>, at: Option<u64>) -> Wish {
        Wish { view: View::Events, after, at }
    }

    #[test]
    fn a_page_begins_where_it_is_asked_to_and_otherwise_shows_the_latest() {
        assert_eq!(wish(None, None).start(150), 0);
        assert_eq!(wish(None, None).start(1000), 800);
        assert_eq!(wish(Some(300), None).start(1000), 300);
        assert_eq!(wish(Some(u64::MAX), None).start(1000), 1000);
        assert_eq!(wish(None, Some(500)).start(1000), 400);
        assert_eq!(wish(None, Some(3)).start(1000), 0);
        assert_eq!(wish(None, Some(999)).start(1000), 800);
    }

    fn session(json: &Value) -> Session {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn base() -> Value {
        serde_json::json!({
            "id": "sesn_1", "title": "<b>title</b>", "agent_id": "agent_1", "runtime": "r", "status": "running",
            "component": "sha256:0123456789abcdef", "time": {"created": 0, "updated": 0},
        })
    }

    #[test]
    fn what_a_session_says_of_itself_is_text() {
        let events = [RawValue::from_string(
            r#"{"type":"agent.message","id":"e","content":[{"type":"text","text":"<script>x</script>"}]}"#.to_owned(),
        )
        .unwrap()];
        let record = Record::read(&events, 0, 1);
        let about = About { agent: Some("\"><i>".to_owned()), alias_of: Some("<i>r</i>".to_owned()) };
        for (view, _, _) in View::ALL {
            let html = content(&session(&base()), &about, &record, view, true).into_string();
            assert!(html.contains("alias of &lt;i&gt;r"), "{html}");
            assert!(html.contains("&lt;b&gt;title&lt;/b&gt;") && html.contains("&quot;&gt;&lt;i&gt;"), "{html}");
            assert!(html.contains("&lt;script&gt;x") && !html.contains("<script>") && !html.contains("<i>"), "{html}");
            assert!(!html.contains("style="), "the policy lets no style stand in the page");
        }
    }

    #[test]
    fn usage_that_nobody_reports_is_not_zero() {
        let of = |usage: Value| {
            let usage: Option<Usage> = serde_json::from_value(usage).unwrap();
            [tokens(usage.as_ref()), cost(usage.as_ref()), active(usage.as_ref())]
        };
        assert_eq!(of(serde_json::json!(null)), ["n/a", "n/a", "n/a"]);
        assert_eq!(of(serde_json::json!({"active_ms": 61_900, "reported": [1]})), ["n/a", "n/a", "1 min 1 s in turns"]);
        let all = serde_json::json!({
            "input_tokens": 1000, "output_tokens": 5, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 200,
        });
        assert_eq!(of(all), ["1,210 in (200 cached) / 5 out", "n/a", "n/a"]);
        let own = serde_json::json!({"input_tokens": 1, "reported": {"input_tokens": 7, "output_tokens": 8, "cost_usd": 0.25}});
        assert_eq!(of(own), ["7 in / 8 out", "$0.2500", "n/a"]);
    }
}
