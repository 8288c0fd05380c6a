//! Inputs: what begins a turn, answers it, or stops it.

use lap_runtime_sdk::{
    Effect, Error, ErrorKind, Event, Input, Outcome, Request, Stop, Upstream, path_segment, write_state,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    events::requires_action,
    state::{Call, Run, State},
};

#[derive(Serialize)]
struct NewResponse<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: &'a [Value],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tools: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_response_id: Option<&'a str>,
    /// It runs whether somebody reads it or not, and can be read again.
    background: bool,
    store: bool,
}

pub(crate) fn send(upstream: &mut dyn Upstream, mut state: State, inputs: &[Input]) -> Result<Outcome, Error> {
    let mut events = Vec::new();
    for input in inputs {
        match input {
            Input::Message(content) => message(upstream, &mut state, content, &mut events)?,
            Input::Interrupt => interrupt(upstream, &mut state, &mut events)?,
            Input::Other(json) => answer(upstream, &mut state, json, &mut events)?,
        }
    }
    Ok(Outcome { state: Some(write_state(&state)?), events, relisten: true })
}

fn message(
    upstream: &mut dyn Upstream,
    state: &mut State,
    content: &str,
    events: &mut Vec<Event>,
) -> Result<(), Error> {
    let blocks: Vec<Value> = serde_json::from_str(content)
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the message: {error}")))?;
    let parts = blocks.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    // Whatever was asked before is answered by this, for that API wants an answer to each.
    let mut input = std::mem::take(&mut state.answers);
    for (id, call) in std::mem::take(&mut state.open) {
        input.push(answered(&id, &call, "The user said something else instead.", false));
    }
    input.push(json!({"role": "user", "content": parts}));
    let id = begin(upstream, state, &input)?;
    events.push(Event::user_message(format!("{id}.user"), blocks).into());
    began(&id, events);
    Ok(())
}

/// A block of a message, as that API has it.
fn part(block: &Value) -> Result<Value, Error> {
    let source = &block["source"];
    match (block["type"].as_str().unwrap_or_default(), source["type"].as_str().unwrap_or_default()) {
        ("text", _) => Ok(json!({"type": "input_text", "text": block["text"]})),
        ("image", "url") => Ok(json!({"type": "input_image", "image_url": source["url"]})),
        ("image", "base64") => {
            let (media, data) = (source["media_type"].as_str(), source["data"].as_str());
            let url = format!("data:{};base64,{}", media.unwrap_or_default(), data.unwrap_or_default());
            Ok(json!({"type": "input_image", "image_url": url}))
        }
        (kind, _) => {
            let message = format!("a message to OpenAI Responses has text and images, and no {kind}");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// Begins a response.
fn begin(upstream: &mut dyn Upstream, state: &mut State, input: &[Value]) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
    }
    let new = NewResponse {
        model: &state.model,
        instructions: &state.instructions,
        input,
        tools: &state.tools,
        previous_response_id: state.last.as_deref(),
        background: true,
        store: true,
    };
    let Created { id } = upstream.call(Request::post("/v1/responses", &new)?)?.json()?;
    let id = path_segment(id, "response")?;
    state.run = Some(Run { id: id.clone(), after: None });
    Ok(id)
}

fn began(id: &str, events: &mut Vec<Event>) {
    events.push(Event::running(format!("{id}.running")).into());
    events.push(Event::model_request_start(format!("{id}.request")).into());
}

fn answered(id: &str, call: &Call, said: &str, approve: bool) -> Value {
    match call {
        Call::Function(call) => json!({"type": "function_call_output", "call_id": call, "output": said}),
        Call::Approval => json!({"type": "mcp_approval_response", "approval_request_id": id, "approve": approve}),
    }
}

/// An answer to something that the turn waits for.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, alias = "custom_tool_use_id")]
    tool_use_id: String,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    content: Vec<Value>,
    #[serde(default)]
    is_error: Option<bool>,
}

fn answer(upstream: &mut dyn Upstream, state: &mut State, json: &str, events: &mut Vec<Event>) -> Result<(), Error> {
    let invalid = |error: serde_json::Error| Error::new(ErrorKind::BadRequest, format!("the input: {error}"));
    let given: Answer = serde_json::from_str(json).map_err(invalid)?;
    let fits = |call: &Call| match given.kind.as_str() {
        "user.custom_tool_result" => matches!(call, Call::Function(_)),
        "user.tool_confirmation" => matches!(call, Call::Approval),
        _ => false,
    };
    if !matches!(given.kind.as_str(), "user.custom_tool_result" | "user.tool_confirmation") {
        let message =
            format!("OpenAI Responses take results of custom tools and confirmations, and no {:?}", given.kind);
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let id = given.tool_use_id.clone();
    let Some(call) = state.open.get(&id).filter(|call| fits(call)).cloned() else {
        return Err(Error::new(ErrorKind::BadRequest, format!("nothing waits for an answer to {id:?}")));
    };
    let mut said: String = given.content.iter().filter_map(|block| block["text"].as_str()).collect();
    if given.is_error == Some(true) {
        said = format!("The tool failed: {said}");
    }
    state.open.remove(&id);
    state.answers.push(answered(&id, &call, &said, given.result.as_deref() == Some("allow")));
    let mut echo: Value = serde_json::from_str(json).map_err(invalid)?;
    echo["id"] = format!("{id}.answer").into();
    if state.open.is_empty() {
        let input = std::mem::take(&mut state.answers);
        let response = begin(upstream, state, &input)?;
        events.push(Event::json(&echo, Effect::None));
        began(&response, events);
    } else {
        events.push(Event::json(&echo, Effect::None));
        events.push(requires_action(format!("{id}.answer.idle"), state).into());
    }
    Ok(())
}

fn interrupt(upstream: &mut dyn Upstream, state: &mut State, events: &mut Vec<Event>) -> Result<(), Error> {
    let stopped = match state.run.take() {
        Some(run) => {
            cancel(upstream, &run)?;
            run.id
        }
        // What was asked is dropped; the next message says so.
        None if !state.open.is_empty() => format!("{}.open", state.last.as_deref().unwrap_or("session")),
        None => return Ok(()),
    };
    events.push(Event::user_interrupt(format!("{stopped}.interrupt")).into());
    events.push(Event::idle(format!("{stopped}.idle"), Stop::EndTurn).into());
    Ok(())
}

/// One that has ended meanwhile is as good as cancelled.
fn cancel(upstream: &mut dyn Upstream, run: &Run) -> Result<(), Error> {
    let request = Request { body: Some("{}".to_owned()), ..Request::post(run.path("/cancel"), &json!({}))? };
    match upstream.call(request) {
        // Not before the upstream says so itself: a response that goes on costs.
        Ok(answer) => run.read(&answer).map(drop),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::BadRequest | ErrorKind::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn close(upstream: &mut dyn Upstream, state: &State) -> Result<(), Error> {
    state.run.as_ref().map_or(Ok(()), |run| cancel(upstream, run))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use lap_runtime_sdk::Script;

    use super::*;

    fn running() -> State {
        State { run: Some(Run { id: "resp_1".to_owned(), after: None }), ..State::default() }
    }

    fn asked() -> State {
        let open = BTreeMap::from([("fc_1".to_owned(), Call::Function("call_1".to_owned()))]);
        State { last: Some("resp_1".to_owned()), open, ..State::default() }
    }

    #[test]
    fn a_success_that_is_no_answer_is_the_upstreams_fault() {
        let message = Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned());
        let result =
            r#"{"type":"user.custom_tool_result","custom_tool_use_id":"fc_1","content":[{"type":"text","text":"1"}]}"#;
        let inputs =
            [(State::default(), message), (asked(), Input::Other(result.to_owned())), (running(), Input::Interrupt)];
        let nonsense =
            ["<html>", "", r#"{"id":"resp_1"#, "null", "7", "{}", r#"{"id":7}"#, r#"{"error":{"message":"no"}}"#];
        for body in nonsense {
            for (state, input) in &inputs {
                let mut script = Script::new([(200, body)]);
                let error = send(&mut script, state.clone(), std::slice::from_ref(input)).unwrap_err();
                assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body} to {input:?}");
                assert_eq!(script.requests.len(), 1);
            }
            let error = close(&mut Script::new([(200, body)]), &running()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Upstream, "{body}");
        }
        let other = Script::new([(200, r#"{"id":"resp_2","status":"cancelled"}"#)]);
        assert_eq!(close(&mut { other }, &running()).unwrap_err().kind, ErrorKind::Upstream);
    }

    #[test]
    fn what_is_cancelled_or_over_is_stopped() {
        for (status, body) in [(200, r#"{"id":"resp_1","status":"cancelled"}"#), (404, "{}"), (400, "{}"), (409, "{}")]
        {
            assert_eq!(close(&mut Script::new([(status, body)]), &running()), Ok(()), "{status}");
        }
        assert_eq!(close(&mut Script::new([(500, "{}")]), &running()).unwrap_err().kind, ErrorKind::Upstream);
    }
}
