//! What a response brings, as events of the platform.

use lap_runtime_sdk::{
    Draft, Error, Event, Failure, Frame, Frames, History, Level, ModelUsage, Outcome, Response, Stop, log, write_state,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::{Call, Run, State};

/// The turn waits for what is open.
pub(crate) fn requires_action(id: String, state: &State) -> Draft {
    Event::idle(id, Stop::RequiresAction(state.open.keys().cloned().collect()))
}

/// One thing that the stream of a response says.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    sequence_number: Option<u64>,
    #[serde(default)]
    item: Value,
    #[serde(default)]
    response: Value,
    #[serde(default)]
    message: Option<String>,
}

pub(crate) fn on_frames(mut state: State, frames: &Frames) -> Result<Outcome, Error> {
    let before = state.clone();
    let (mut events, mut ended) = (Vec::new(), false);
    for frame in frames.iter() {
        // What a run says that is over was overtaken by its end.
        let Some(run) = &mut state.run else { break };
        let Ok(said) = serde_json::from_slice::<Said>(frame.data) else {
            log(Level::Debug, "something that no response says is left out");
            continue;
        };
        run.after = run.after.max(said.sequence_number);
        match said.kind.as_str() {
            "response.output_item.done" => item(&mut state, &said.item, &mut events),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                end(&mut state, &said.response, &mut events);
                ended = true;
            }
            "error" => {
                let error = json!({"status": "failed", "error": {"message": said.message}});
                end(&mut state, &error, &mut events);
                ended = true;
            }
            _ => {}
        }
    }
    let changed = (state != before).then(|| write_state(&state)).transpose()?;
    Ok(Outcome { state: changed, events, relisten: ended })
}

fn parsed(arguments: &Value) -> Value {
    let text = arguments.as_str().unwrap_or_default();
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
}

fn texts(content: &Value) -> Vec<Value> {
    let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |part: &Value| part["text"].as_str().or_else(|| part["refusal"].as_str()).map(str::to_owned);
    parts.iter().filter_map(text).map(|text| json!({"type": "text", "text": text})).collect()
}

/// An item that is whole.
fn item(state: &mut State, item: &Value, events: &mut Vec<Event>) {
    let Some(id) = item["id"].as_str() else { return };
    let text = |member: &str| item[member].as_str().unwrap_or_default();
    let mut push = |draft: Draft| events.push(draft.into());
    match text("type") {
        "message" => push(Event::agent_message(id, texts(&item["content"]))),
        "reasoning" => push(Event::agent_thinking(id)),
        "function_call" => {
            state.open.insert(id.to_owned(), Call::Function(text("call_id").to_owned()));
            push(Event::custom_tool_use(id, text("name"), parsed(&item["arguments"])));
        }
        "mcp_approval_request" => {
            state.open.insert(id.to_owned(), Call::Approval);
            push(Event::mcp_tool_use(id, text("server_label"), text("name"), parsed(&item["arguments"])).asking());
        }
        "mcp_call" => {
            let asked = item["approval_request_id"].as_str();
            if asked.is_none() {
                push(Event::mcp_tool_use(id, text("server_label"), text("name"), parsed(&item["arguments"])));
            }
            let result = |said| Event::mcp_tool_result(format!("{id}.result"), asked.unwrap_or(id), said);
            push(item["error"].as_str().map_or_else(|| result(text("output")), |error| result(error).failed()));
        }
        kind @ ("web_search_call" | "code_interpreter_call") => {
            let input = match kind {
                "web_search_call" => json!({"query": item["action"]["query"]}),
                _ => json!({"code": item["code"]}),
            };
            push(Event::tool_use(id, kind.trim_end_matches("_call"), input));
            let result = Event::tool_result(format!("{id}.result"), id, Vec::new());
            push(if item["status"] == "failed" { result.failed() } else { result });
        }
        _ => {}
    }
}

/// A response has come to its end.
fn end(state: &mut State, response: &Value, events: &mut Vec<Event>) {
    let Some(run) = state.run.take() else { return };
    let id = run.id;
    let mut push = |draft: Draft| events.push(draft.into());
    let status = response["status"].as_str().unwrap_or_default();
    let usage = &response["usage"];
    if let (Some(input), Some(output_tokens)) = (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64()) {
        let cache_read_input_tokens = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or_default();
        let input_tokens = input.saturating_sub(cache_read_input_tokens);
        let usage = ModelUsage { input_tokens, output_tokens, cache_read_input_tokens, ..ModelUsage::default() };
        let end = Event::model_request_end(format!("{id}.request_end"), &format!("{id}.request"), usage);
        push(if status == "failed" { end.failed() } else { end });
    }
    let idle = format!("{id}.idle");
    match status {
        "failed" => {
            let message = response["error"]["message"].as_str().unwrap_or("the response failed");
            push(Event::error(format!("{id}.error"), Failure::ModelRequestFailed, message));
            push(Event::idle(idle, Stop::RetriesExhausted));
        }
        "cancelled" => push(Event::idle(idle, Stop::EndTurn)),
        _ => {
            let waits = !state.open.is_empty();
            push(if waits { requires_action(idle, state) } else { Event::idle(idle, Stop::EndTurn) });
            state.last = Some(id);
        }
    }
}

/// A response as a whole, in the shape of what its stream says.
pub(crate) fn history(response: &Response, run: &Run) -> Result<History, Error> {
    let response = run.read(response)?;
    let items = response["output"].as_array().map(Vec::as_slice).unwrap_or_default();
    let done = |item: &Value| item["status"].as_str().is_none_or(|status| status != "in_progress");
    let mut frames: Vec<Frame> = items
        .iter()
        .filter(|item| done(item))
        .map(|item| json!({"type": "response.output_item.done", "item": item}))
        .map(|said| Frame::new("response.output_item.done", said.to_string()))
        .collect();
    let status = response["status"].as_str().unwrap_or_default();
    if matches!(status, "completed" | "incomplete" | "failed" | "cancelled") {
        let kind = format!("response.{status}");
        let said = json!({"type": kind, "response": response}).to_string();
        frames.push(Frame::new(kind, said));
    }
    Ok(History { frames, newest_first: false, next: None })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{Body, Effect, ErrorKind, read_state};

    use super::*;

    fn run() -> Run {
        Run { id: "resp_1".to_owned(), after: None }
    }

    fn running() -> State {
        State { run: Some(run()), ..State::default() }
    }

    fn told(state: State, said: &[Value]) -> (State, Vec<(Value, Effect)>) {
        let said: Vec<String> = said.iter().map(Value::to_string).collect();
        let frames: Frames = said.iter().map(|said| ("", said.as_str())).collect();
        let outcome = on_frames(state.clone(), &frames).unwrap();
        let state = outcome.state.map_or(state, |state| read_state(&state).unwrap());
        let value = |event: Event| match event.body {
            Body::Json(json) => (serde_json::from_str(&json).unwrap(), event.effect),
            Body::Frame(_) => unreachable!("events are made here"),
        };
        (state, outcome.events.into_iter().map(value).collect())
    }

    fn done(item: &Value) -> Value {
        json!({"type": "response.output_item.done", "sequence_number": 4, "item": item})
    }

    #[test]
    fn items_become_events_with_their_ids() {
        let call =
            json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}"});
        let search = json!({"type": "web_search_call", "id": "ws_1", "action": {"query": "q"}, "status": "completed"});
        let said = json!({"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hi"}]});
        let usage = json!({"input_tokens": 10, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}});
        let completed = json!({"type": "response.completed", "sequence_number": 9, "response": {"status": "completed", "usage": usage}});
        let (state, events) = told(running(), &[done(&said), done(&search), done(&call), completed]);
        let kinds: Vec<_> = events.iter().map(|(event, _)| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "agent.message",
                "agent.tool_use",
                "agent.tool_result",
                "agent.custom_tool_use",
                "span.model_request_end",
                "session.status_idle",
            ]
        );
        assert_eq!(events[3].0["input"], json!({"a": 1}));
        assert_eq!(events[4].0["model_usage"]["input_tokens"], 6);
        assert_eq!((&events[5].0["stop_reason"]["event_ids"], events[5].1), (&json!(["fc_1"]), Effect::Waiting));
        assert_eq!((state.run, state.last.as_deref()), (None, Some("resp_1")));
        assert_eq!(state.open["fc_1"], Call::Function("call_1".to_owned()));
    }

    #[test]
    fn a_stream_and_the_whole_say_the_same() {
        let message = json!({"type": "message", "id": "msg_1", "status": "completed", "content": [{"type": "output_text", "text": "hi"}]});
        let whole = json!({"id": "resp_1", "status": "failed", "output": [message], "error": {"message": "no"}});
        let streamed = [done(&message), json!({"type": "response.failed", "response": whole})];
        let response = Response { status: 200, headers: Vec::new(), body: whole.to_string() };
        let frames = history(&response, &run()).unwrap().frames;
        let listed: Vec<Value> = frames.iter().map(|frame| serde_json::from_str(&frame.data).unwrap()).collect();
        let (_, from_stream) = told(running(), &streamed);
        let (_, from_whole) = told(running(), &listed);
        assert_eq!(from_stream, from_whole);
        assert_eq!(from_whole[1].0["error"]["message"], "no");
        assert_eq!(from_whole[2].1, Effect::Failed);
    }

    #[test]
    fn what_is_not_the_response_is_no_history() {
        for body in ["<html>", "", r#"{"id":"resp_1"#, "null", "{}", "[]", r#"{"id":"resp_2","status":"completed"}"#] {
            let error =
                history(&Response { status: 200, headers: Vec::new(), body: body.to_owned() }, &run()).unwrap_err();
            assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_left_out_and_what_is_over_stays_over() {
        assert!(told(running(), &[json!("x"), json!({"type": "response.new_thing"}), done(&json!({}))]).1.is_empty());
        let cancelled = json!({"type": "response.cancelled", "response": {"status": "cancelled"}});
        let (state, events) = told(running(), &[cancelled.clone(), cancelled]);
        assert_eq!((events.len(), events[0].1, state.last), (1, Effect::Ended, None));
    }
}
