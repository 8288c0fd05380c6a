//! A runtime for a made-up vendor of threads, as plain as one can be: assistants, threads, one stream for each thread, a
//! history in pages.
//!
//! For the tests of the conformance suite. As it is, it passes; an agent whose `config` names a `defect` gets a runtime that
//! is wrong in exactly this way, and the suite must notice. `tests/guest/golden/sample.wasm` is this crate, built once.
#![allow(clippy::panic, clippy::unwrap_used, reason = "to be wrong is what some of it is for")]

use std::sync::atomic::{AtomicU32, Ordering};

use lap_runtime_sdk::{
    AgentSpec, Body, Description, Effect, Ending, Error, ErrorKind, Event, Feed, Frame, Frames, History, Input, Level,
    Method, Model, Outcome, Request, Response, Runtime, SessionOpened, SessionSpec, Upstream, log,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The runtime; a name without a value, because a runtime is functions only.
pub struct Sample;

lap_runtime_sdk::export!(Sample);

/// What is known of a session.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// First, so that it can be told even of half a state.
    #[serde(default)]
    defect: String,
    thread: String,
    /// Calls of tools that nobody has answered.
    #[serde(default)]
    open: Vec<String>,
    #[serde(default)]
    padding: String,
}

impl State {
    fn read(state: &str) -> Result<Self, Error> {
        let read = serde_json::from_str(state);
        if state.contains("trap-on-state") {
            return Ok(read.unwrap());
        }
        read.map_err(|error| Error::new(ErrorKind::Internal, format!("the state: {error}")))
    }

    fn write(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
    }

    fn path(&self, tail: &str) -> String {
        format!("/v1/threads/{}{tail}", self.thread)
    }

    fn has(&self, defect: &str) -> bool {
        self.defect == defect
    }
}

/// What the vendor says.
#[derive(Deserialize)]
struct Said {
    id: String,
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

fn created(upstream: &mut dyn Upstream, request: Request) -> Result<String, Error> {
    let Created { id } = upstream.call(request)?.json()?;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::new(ErrorKind::Upstream, "the upstream's id cannot be part of a path"));
    }
    Ok(id)
}

/// The vendor answers an object to whatever it has done.
fn done(response: &Response) -> Result<(), Error> {
    response.json::<serde_json::Map<String, Value>>().map(drop)
}

/// What an instance remembers from call to call, which a runtime must not do.
static COUNTED: AtomicU32 = AtomicU32::new(0);

impl Runtime for Sample {
    fn describe() -> Description {
        Description {
            id: "sample".to_owned(),
            name: "Sample".to_owned(),
            default_base: "https://threads.example".to_owned(),
            provider_id: "threads".to_owned(),
            provider_name: "Threads".to_owned(),
            auth_header: "authorization".to_owned(),
            auth_scheme: "Bearer".to_owned(),
            tools: Vec::new(),
        }
    }

    fn provision(upstream: &mut dyn Upstream, agent: AgentSpec) -> Result<String, Error> {
        created(upstream, Request::post("/v1/assistants", &json!({"model": agent.model, "system": agent.system}))?)
    }

    fn open(upstream: &mut dyn Upstream, session: SessionSpec) -> Result<SessionOpened, Error> {
        let config: Value = serde_json::from_str(&session.agent.config)
            .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the agent's config: {error}")))?;
        let defect = config["defect"].as_str().unwrap_or_default().to_owned();
        let thread = created(upstream, Request::post("/v1/threads", &json!({"assistant": session.provision}))?)?;
        let state = State { defect, thread, open: Vec::new(), padding: String::new() };
        Ok(SessionOpened { state: state.write()?, upstream_id: Some(state.thread), resources: None })
    }

    fn listen(_: &mut dyn Upstream, state: String) -> Result<Feed, Error> {
        let state = State::read(&state)?;
        if state.has("foreign-feed") {
            return Ok(Feed::Sse(Request::get("/v2/everything")));
        }
        Ok(Feed::Sse(Request::get(state.path("/events")).header("accept", "text/event-stream")))
    }

    fn send(upstream: &mut dyn Upstream, state: String, inputs: Vec<Input>) -> Result<Outcome, Error> {
        let mut state = State::read(&state)?;
        for input in &inputs {
            let request = match input {
                Input::Message(content) => {
                    let content: Vec<Value> = serde_json::from_str(content)
                        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the message: {error}")))?;
                    Request::post(state.path("/messages"), &json!({"content": content}))?
                }
                Input::Interrupt => {
                    assert!(!state.has("trap-on-interrupt"), "nobody interrupts me");
                    Request::post(state.path("/stop"), &json!({}))?
                }
                Input::Other(json) => result(&mut state, json)?,
            };
            let request = if state.has("host-header") { request.header("host", "evil.example") } else { request };
            match upstream.call(request) {
                // A turn that is over needs no stop.
                Err(error) if *input == Input::Interrupt && error.kind == ErrorKind::Conflict => {}
                Err(_) if state.has("ignores-failure") => {}
                Err(error) if state.has("wrong-kind") => return Err(Error { kind: ErrorKind::BadRequest, ..error }),
                Err(error) if state.has("no-retry-after") => return Err(Error { retry_after_ms: None, ..error }),
                Err(error) if state.has("trap-on-failure") => panic!("the upstream said {}", error.message),
                Ok(_) if state.has("ignores-answer") => {}
                other => done(&other?)?,
            }
        }
        Ok(Outcome { state: Some(state.write()?), ..Outcome::none() })
    }

    fn on_frames(_: &mut dyn Upstream, state: String, frames: Frames) -> Result<Outcome, Error> {
        let mut state = State::read(&state)?;
        let before = state.clone();
        let mut events = Vec::new();
        for (place, frame) in frames.iter().enumerate() {
            let nested = frame.data.iter().take_while(|byte| !b"0123456789".contains(byte)).count();
            if state.has("recursion") && nested > 10_000 {
                recurse(nested);
            }
            let said = match serde_json::from_slice::<Said>(frame.data) {
                Ok(said) => said,
                Err(error) if state.has("trap-on-garbage") => panic!("no JSON: {error}"),
                Err(error) => {
                    log(Level::Debug, &format!("something is left out: {error}"));
                    continue;
                }
            };
            if state.has("endless-loop") && said.kind == "done" {
                #[allow(clippy::empty_loop, reason = "that is the defect")]
                loop {}
            }
            if state.has("whole-turns-only") && !told_whole(&frames) {
                continue;
            }
            events.extend(event(&mut state, &said, place));
        }
        let changed = (state != before).then(|| state.write()).transpose()?;
        Ok(Outcome { state: changed, events, relisten: state.has("asks-for-ever") })
    }

    fn on_end(_: &mut dyn Upstream, state: String, ending: Ending) -> Result<Outcome, Error> {
        let state = State::read(&state)?;
        if state.has("end-is-the-end") && ending == Ending::Clean {
            let idle = json!({"type": "session.status_idle", "id": "eof", "stop_reason": {"type": "end_turn"}});
            let event = Event { body: Body::Json(idle.to_string()), effect: Effect::Ended };
            return Ok(Outcome { events: vec![event], ..Outcome::none() });
        }
        Ok(Outcome { relisten: true, ..Outcome::none() })
    }

    fn catch_up(upstream: &mut dyn Upstream, state: String, cursor: Option<String>) -> Result<History, Error> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Value>,
            next: Option<String>,
        }
        let state = State::read(&state)?;
        if state.has("forgetful-upstream") {
            return Ok(History { frames: Vec::new(), newest_first: false, next: None });
        }
        if state.has("asks-for-ever") {
            let said = Frame { name: String::new(), data: r#"{"id":"m0","kind":"ping"}"#.to_owned() };
            return Ok(History { frames: vec![said], newest_first: false, next: None });
        }
        if state.has("no-history") {
            upstream.call(Request::get(state.path("/history")))?;
            return Ok(History { frames: Vec::new(), newest_first: false, next: None });
        }
        let request = Request::get(state.path("/history"));
        let request = match cursor {
            Some(cursor) => request.query("page", &cursor),
            None => request,
        };
        let Page { mut events, next } = upstream.call(request)?.json()?;
        if state.has("backwards") {
            events.reverse();
        }
        if state.has("other-words") {
            events.iter_mut().filter(|event| event["kind"] == "text").for_each(|event| event["text"] = "…".into());
        }
        let next = if state.has("endless-history") { Some("1".to_owned()) } else { next };
        let frames = events.iter().map(|event| Frame { name: String::new(), data: event.to_string() }).collect();
        Ok(History { frames, newest_first: false, next })
    }

    fn close(upstream: &mut dyn Upstream, state: String) -> Result<(), Error> {
        let state = State::read(&state)?;
        match upstream.call(Request::new(Method::Delete, state.path(""))) {
            Ok(response) => done(&response),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn models(upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
        #[derive(Deserialize)]
        struct List {
            models: Vec<String>,
        }
        let List { models } = upstream.call(Request::get("/v1/models"))?.json()?;
        Ok(models.into_iter().map(|id| Model { name: id.clone(), id }).collect())
    }
}

/// The result of a tool, which the vendor takes.
fn result(state: &mut State, json: &str) -> Result<Request, Error> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        custom_tool_use_id: String,
        #[serde(default)]
        content: Value,
    }
    let given: Given =
        serde_json::from_str(json).map_err(|error| Error::new(ErrorKind::BadRequest, format!("the input: {error}")))?;
    if given.kind != "user.custom_tool_result" && !state.has("takes-anything") {
        let message = format!("this runtime takes results of custom tools, and no {:?}", given.kind);
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    state.open.retain(|call| *call != given.custom_tool_use_id);
    Request::post(state.path("/results"), &json!({"call": given.custom_tool_use_id, "content": given.content}))
}

/// True when a turn is all there, from its beginning to its end.
fn told_whole(frames: &Frames) -> bool {
    frames.iter().any(|frame| frame.data.windows(6).any(|bytes| bytes == b"\"done\""))
}

fn event(state: &mut State, said: &Said, place: usize) -> Option<Event> {
    let (effect, mut event) = match said.kind.as_str() {
        "started" => {
            COUNTED.fetch_add(1, Ordering::Relaxed);
            (Effect::Started, json!({"type": "session.status_running"}))
        }
        "text" => (Effect::None, json!({"type": "agent.message", "content": [{"type": "text", "text": said.text}]})),
        "call" => {
            state.open.push(said.id.clone());
            state.open.dedup();
            (Effect::None, json!({"type": "agent.custom_tool_use", "name": said.text, "input": {}}))
        }
        "done" if state.has("hidden-state") && COUNTED.load(Ordering::Relaxed) == 0 => return None,
        "done" if state.open.is_empty() => {
            (Effect::Ended, json!({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}))
        }
        "done" => {
            let reason = json!({"type": "requires_action", "event_ids": state.open});
            (Effect::Waiting, json!({"type": "session.status_idle", "stop_reason": reason}))
        }
        kind => {
            assert!(!state.has("trap-on-unknown"), "who has heard of {kind}?");
            return None;
        }
    };
    event["id"] = match state.defect.as_str() {
        "ids-by-place" => format!("{}{place}", state.thread).into(),
        _ => said.id.as_str().into(),
    };
    if state.has("counts") {
        event["count"] = COUNTED.load(Ordering::Relaxed).into();
    }
    if state.has("no-event") {
        event["type"] = "Agent Message".into();
    }
    if state.has("growing-state") {
        state.padding.push_str(&"x".repeat(40 * 1024));
    }
    let body = if state.has("no-such-frame") { Body::Frame(1_000) } else { Body::Json(event.to_string()) };
    Some(Event { body, effect })
}

/// As deep as its text is nested, like a parser that somebody wrote in an afternoon.
fn recurse(depth: usize) -> usize {
    let here = std::hint::black_box([depth; 16]);
    if depth == 0 { here[0] } else { recurse(depth - 1) + here[1] }
}
