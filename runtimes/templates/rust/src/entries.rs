//! What the vendor tells of a conversation: its entries, one by one on the stream, or a page of them. An entry has the
//! same id wherever it is told, and so have the events that are made of it: the host stores each once.

use lap_runtime_sdk::{Draft, Error, Event, Failure, Frame, History, Level, Piece, Response, Stop, log};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

#[derive(Deserialize)]
struct Entry {
    id: String,
    at: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Prompt { text: String },
    Working,
    Lookup { query: String },
    Found { lookup: String, text: String },
    Answer { text: String },
    Done { reason: Reason, error: Option<String> },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    Finished,
    Stopped,
    Failed,
}

/// The events of a frame: none for one that is no entry, or a kind of entry that this runtime does not know.
pub(crate) fn events(frame: Piece<'_>) -> Vec<Draft> {
    if frame.name != "entry" {
        return Vec::new();
    }
    let Entry { id, at, what } = match serde_json::from_slice(frame.data) {
        Ok(entry) => entry,
        Err(error) => {
            log(Level::Warn, &format!("an entry is left out: {error}"));
            return Vec::new();
        }
    };
    let events = match what {
        What::Prompt { text } => vec![Event::user_message(id, &*text)],
        What::Working => vec![Event::running(id)],
        What::Lookup { query } => vec![Event::tool_use(id, "lookup", json!({"query": query}))],
        What::Found { lookup, text } => vec![Event::tool_result(id, &lookup, &*text)],
        What::Answer { text } => vec![Event::agent_message(id, &*text)],
        What::Done { reason: Reason::Finished | Reason::Stopped, .. } => vec![Event::idle(id, Stop::EndTurn)],
        What::Done { reason: Reason::Failed, error } => {
            let message = error.unwrap_or_else(|| "the vendor gives no reason".to_owned());
            let error = Event::error(format!("{id}.error"), Failure::ModelRequestFailed, &message);
            vec![error, Event::idle(id, Stop::RetriesExhausted)]
        }
    };
    events.into_iter().map(|event| event.at(&at)).collect()
}

/// A page of entries in the shape in which the stream brings them.
pub(crate) fn history(response: &Response) -> Result<History, Error> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        entries: Vec<&'a RawValue>,
        next: Option<String>,
    }
    let page: Page<'_> = response.json()?;
    let frames = page.entries.into_iter().map(|entry| Frame::new("entry", entry.get())).collect();
    Ok(History { frames, newest_first: true, next: page.next })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{Body, Effect, Frames};
    use serde_json::Value;

    use super::*;

    const AT: &str = "2026-11-25T10:00:00Z";

    /// Type, id and effect of each event of a frame.
    fn told(name: &str, data: &str) -> Vec<(String, String, Effect)> {
        let frames: Frames = [(name, data)].into_iter().collect();
        let events = frames.iter().flat_map(events).map(Event::from);
        let told = |event: Event| {
            let Body::Json(json) = event.body else { unreachable!("every event is made here") };
            let json: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["processed_at"], AT);
            (json["type"].as_str().unwrap().to_owned(), json["id"].as_str().unwrap().to_owned(), event.effect)
        };
        events.map(told).collect()
    }

    #[test]
    fn each_entry_is_an_event_with_its_effect() {
        for (entry, kind, effect) in [
            (r#""kind":"prompt","text":"Hi""#, "user.message", Effect::None),
            (r#""kind":"working""#, "session.status_running", Effect::Started),
            (r#""kind":"lookup","query":"Hi""#, "agent.tool_use", Effect::None),
            (r#""kind":"found","lookup":"ent_1","text":"a"#, "", Effect::None),
            (r#""kind":"found","lookup":"ent_1","text":"a""#, "agent.tool_result", Effect::None),
            (r#""kind":"answer","text":"Hello""#, "agent.message", Effect::None),
            (r#""kind":"done","reason":"finished""#, "session.status_idle", Effect::Ended),
            (r#""kind":"done","reason":"stopped""#, "session.status_idle", Effect::Ended),
            (r#""kind":"of_next_year""#, "", Effect::None),
        ] {
            let told = told("entry", &format!(r#"{{"id":"ent_7","at":"{AT}",{entry}}}"#));
            let expected = Vec::from_iter((!kind.is_empty()).then(|| (kind.to_owned(), "ent_7".to_owned(), effect)));
            assert_eq!(told, expected, "{entry}");
        }
        assert_eq!(told("ping", "{}"), []);
    }

    #[test]
    fn a_turn_that_fails_says_why_and_rests() {
        let entry = format!(r#"{{"id":"ent_7","at":"{AT}","kind":"done","reason":"failed","error":"no"}}"#);
        let told = told("entry", &entry);
        let expected = [("session.error", "ent_7.error"), ("session.status_idle", "ent_7")];
        assert_eq!(told, expected.map(|(kind, id)| (kind.to_owned(), id.to_owned(), Effect::Failed)));
    }

    #[test]
    fn a_page_has_the_shape_of_the_stream() {
        let entry = format!(r#"{{"id":"ent_7","at":"{AT}","kind":"working"}}"#);
        let body = format!(r#"{{"entries":[{entry}],"next":"ent_7"}}"#);
        let page = history(&Response { status: 200, headers: Vec::new(), body }).unwrap();
        assert_eq!((&page.frames[..], page.newest_first), (&[Frame::new("entry", entry)][..], true));
        assert_eq!(page.next.as_deref(), Some("ent_7"));
    }
}
