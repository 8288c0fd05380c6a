//! A simulated Responses API of OpenAI: responses that run in the background and can be read from any place.
//!
//! A prompt chooses what happens: `/custom` calls a function, `/ask` wants leave for a tool of an MCP server, `/long` takes
//! half a minute, `/pages` says 1,200 things, `/fail` fails; any other is answered with a search in between. It refuses what
//! that API refuses: unknown fields, a response before this one that is not there, outputs of calls that nobody made.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::UPSTREAM_KEY;

/// A response: what it has said, and how far it is.
struct Run {
    /// What its stream says, each with its number.
    said: watch::Sender<Vec<Value>>,
    whole: Mutex<Value>,
    /// Calls of functions and requests for leave that wait for the response after this one.
    asked: Mutex<HashSet<String>>,
}

#[derive(Clone, Default)]
pub struct Responses {
    runs: Arc<Mutex<HashMap<String, Arc<Run>>>>,
    /// How often a stream is cut after so many things, before it is let go on.
    cuts: Arc<Mutex<u32>>,
}

impl Responses {
    /// Serves on a port of its own; the base URL.
    pub async fn serve(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/responses", post(create))
            .route("/v1/responses/{id}", get(retrieve))
            .route("/v1/responses/{id}/cancel", post(cancel))
            .route(
                "/v1/models",
                get(async || Json(json!({"object": "list", "data": [{"id": "gpt-5", "object": "model"}]}))),
            )
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    /// The next so many streams break off after two things.
    pub fn cut(&self, streams: u32) {
        *self.cuts.lock().unwrap() = streams;
    }

    fn run(&self, id: &str) -> Option<Arc<Run>> {
        self.runs.lock().unwrap().get(id).cloned()
    }
}

fn refuse(status: u16, message: &str) -> Response {
    let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
}

fn id(prefix: &str) -> String {
    format!("{prefix}_{}", uuid())
}

fn uuid() -> String {
    lap::id::SessionId::fresh().to_string().replace("ses_", "")
}

const FIELDS: [&str; 8] =
    ["model", "instructions", "input", "tools", "previous_response_id", "background", "store", "stream"];

async fn create(State(all): State<Responses>, headers: HeaderMap, Json(wish): Json<Value>) -> Response {
    if headers.get("authorization").is_none_or(|key| *key != format!("Bearer {UPSTREAM_KEY}")) {
        return refuse(401, "Incorrect API key provided");
    }
    let fields = wish.as_object().unwrap();
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return refuse(400, &format!("Unknown parameter: '{unknown}'."));
    }
    if wish["background"] != true || wish["store"] != true || !wish["model"].is_string() {
        return refuse(400, "this simulator has responses in the background only");
    }
    let input = wish["input"].as_array().unwrap();
    if let Some(previous) = wish["previous_response_id"].as_str() {
        let Some(previous) = all.run(previous) else { return refuse(400, "Previous response not found.") };
        let mut asked = previous.asked.lock().unwrap().clone();
        for item in input {
            let named = item["call_id"].as_str().or_else(|| item["approval_request_id"].as_str());
            if named.is_some_and(|call| !asked.remove(call)) {
                return refuse(400, "No tool call found for this output.");
            }
        }
        if !asked.is_empty() {
            return refuse(400, "No tool output found for a function call.");
        }
    }
    let response = id("resp");
    let whole = json!({"id": response, "object": "response", "status": "in_progress", "output": []});
    let run = Arc::new(Run {
        said: watch::Sender::new(Vec::new()),
        whole: Mutex::new(whole.clone()),
        asked: Mutex::default(),
    });
    all.runs.lock().unwrap().insert(response, Arc::clone(&run));
    let items = items(input);
    tokio::spawn(async move { run.go(items).await });
    Json(whole).into_response()
}

/// What a response says, and how long each thing takes.
fn items(input: &[Value]) -> Vec<(Value, Duration)> {
    let at_once = |item: Value| (item, Duration::ZERO);
    let message = |text: &str| json!({"type": "message", "id": id("msg"), "role": "assistant", "content": [{"type": "output_text", "text": text}]});
    let last = input.last().unwrap();
    match last["type"].as_str() {
        Some("function_call_output") => return vec![at_once(message(last["output"].as_str().unwrap()))],
        Some("mcp_approval_response") if last["approve"] == true => {
            let call = json!({
                "type": "mcp_call", "id": id("mcp"), "name": "remove", "server_label": "disk", "arguments": "{}",
                "output": "removed", "error": null, "approval_request_id": last["approval_request_id"],
            });
            return vec![at_once(call), at_once(message("Done."))];
        }
        Some("mcp_approval_response") => return vec![at_once(message("As you wish."))],
        _ => {}
    }
    let prompt = last["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let word = prompt.split_whitespace().next().unwrap_or_default();
    match word {
        "/custom" => vec![at_once(json!({
            "type": "function_call", "id": id("fc"), "call_id": id("call"), "name": "get_weather",
            "arguments": r#"{"city":"Kyiv"}"#,
        }))],
        "/ask" => vec![at_once(json!({
            "type": "mcp_approval_request", "id": id("mcpr"), "name": "remove", "server_label": "disk",
            "arguments": r#"{"path":"build"}"#,
        }))],
        "/long" => (0..600).map(|n| (message(&n.to_string()), Duration::from_millis(50))).collect(),
        "/pages" => (0..1200).map(|n| at_once(message(&n.to_string()))).collect(),
        "/fail" => vec![at_once(json!({"type": "fail"}))],
        _ => {
            let search = json!({"type": "web_search_call", "id": id("ws"), "status": "completed", "action": {"type": "search", "query": "README"}});
            let first = message(&format!("You said: “{prompt}” — let me look around."));
            vec![at_once(first), at_once(search), at_once(message("There is one file."))]
        }
    }
}

impl Run {
    fn say(&self, kind: &str, mut data: Value) {
        self.said.send_modify(|said| {
            data["type"] = kind.into();
            data["sequence_number"] = said.len().into();
            said.push(data);
        });
    }

    fn is_over(&self) -> bool {
        self.whole.lock().unwrap()["status"] != "in_progress"
    }

    fn end(&self, status: &str) {
        let whole = {
            let mut whole = self.whole.lock().unwrap();
            whole["status"] = status.into();
            whole["usage"] = json!({"input_tokens": 120, "output_tokens": 40, "total_tokens": 160, "input_tokens_details": {"cached_tokens": 20}});
            whole.clone()
        };
        self.say(&format!("response.{status}"), json!({"response": whole}));
    }

    async fn go(&self, items: Vec<(Value, Duration)>) {
        self.say("response.created", json!({"response": {}}));
        for (item, takes) in items {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            if self.is_over() {
                return;
            }
            if item["type"] == "fail" {
                self.whole.lock().unwrap()["error"] = json!({"code": "server_error", "message": "The model broke."});
                return self.end("failed");
            }
            let asks = match item["type"].as_str() {
                Some("function_call") => item["call_id"].as_str(),
                Some("mcp_approval_request") => item["id"].as_str(),
                _ => None,
            };
            self.asked.lock().unwrap().extend(asks.map(str::to_owned));
            self.whole.lock().unwrap()["output"].as_array_mut().unwrap().push(item.clone());
            self.say("response.output_item.done", json!({"output_index": 0, "item": item}));
        }
        self.end("completed");
    }
}

async fn cancel(State(all): State<Responses>, Path(id): Path<String>) -> Response {
    let Some(run) = all.run(&id) else { return refuse(404, "Response not found.") };
    if !run.is_over() {
        run.end("cancelled");
    }
    Json(run.whole.lock().unwrap().clone()).into_response()
}

async fn retrieve(
    State(all): State<Responses>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(run) = all.run(&id) else { return refuse(404, "Response not found.") };
    if query.get("stream").is_none_or(|stream| stream != "true") {
        return Json(run.whole.lock().unwrap().clone()).into_response();
    }
    let next = query.get("starting_after").map_or(0, |after| after.parse::<usize>().unwrap() + 1);
    let cut = {
        let mut cuts = all.cuts.lock().unwrap();
        let cut = *cuts > 0;
        *cuts = cuts.saturating_sub(1);
        cut.then_some(next + 2)
    };
    let said = run.said.subscribe();
    let frames = stream::unfold((run, said, next), move |(run, mut said, next)| async move {
        if cut == Some(next) {
            return None;
        }
        loop {
            let frame = said
                .borrow_and_update()
                .get(next)
                .map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
            if let Some(frame) = frame {
                return Some((Ok::<_, Infallible>(frame), (run, said, next + 1)));
            }
            // The end was said by then.
            if run.is_over() && said.borrow().len() <= next {
                return None;
            }
            said.changed().await.ok()?;
        }
    });
    let headers = [("content-type", "text/event-stream; charset=utf-8")];
    (headers, Body::from_stream(frames)).into_response()
}
