//! The simulator as its clients see it, byte by byte: every test is a world of its own, reached over TCP.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;

use std::time::{Duration, Instant};

use client::{Bench, End, HEADERS, each, kinds, prompt};
use lap_simulator::{
    CutBy, Endpoint, Faults, Options, Script, Simulator,
    fault::{Answer, Cut, CutAt, ErrorAnswer, ListLag, RequestFault, StreamFault},
    record::Credential,
    script::{Heartbeat, HeartbeatForm, Repeat, Step},
};
use serde_json::{Value, json};

const IDLE: &str = "session.status_idle";
const RUNNING: &str = "session.status_running";

fn stream_fault(fault: StreamFault) -> Script {
    Script::default().with_faults(Faults { streams: vec![fault], ..Faults::default() })
}

fn request_fault(endpoint: Endpoint, answer: Answer) -> Faults {
    let fault = RequestFault { endpoint: Some(endpoint), answer, ..RequestFault::default() };
    Faults { requests: vec![fault], ..Faults::default() }
}

fn repeat(count: u64, every_ms: u64) -> Script {
    Script::of([Step::Repeat(Repeat { count, every_ms, bytes: 300, stamp: true })])
}

fn cut(after_frames: u64, at: CutAt, by: CutBy) -> StreamFault {
    StreamFault { times: 1, cut: Some(Cut { after_frames, at, by }), ..StreamFault::default() }
}

#[tokio::test]
async fn a_prompt_runs_the_turn_of_the_script() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    let sent = bench.prompt("hé").await.json();
    assert_eq!(sent["data"][0]["processed_at"], Value::Null);
    let events = stream.until(IDLE).await;
    let types = [
        "user.message",
        "user.message",
        RUNNING,
        "span.model_request_start",
        "agent.message",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "span.model_request_end",
        IDLE,
    ];
    assert_eq!(kinds(&events), types);
    assert_eq!(events[0], sent["data"][0]);
    assert_eq!((&events[1]["id"], events[1]["processed_at"].as_str().unwrap().len()), (&events[0]["id"], 24));
    let text = "You said: “hé” — let me look around.";
    assert_eq!(events[4]["content"], json!([{"type": "text", "text": text}]));
    assert_eq!(events[5]["input"], json!({"command": "ls"}));
    assert_eq!(events[6]["tool_use_id"], events[5]["id"]);
    assert_eq!(events[8]["model_request_start_id"], events[3]["id"]);
    let mut idle = events[9].clone();
    for own in ["id", "processed_at"] {
        assert!(idle.as_object_mut().unwrap().remove(own).unwrap().is_string());
    }
    assert_eq!(idle, json!({"type": IDLE, "stop_reason": {"type": "end_turn"}, "stop_details": null}));
    let listed = bench.get(&bench.events_path()).await.json();
    assert_eq!(listed, json!({"data": events[1..], "next_page": null}));
    assert_eq!(bench.simulator.events(&bench.session), events[1..]);
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_service() {
    let options = Options { api_key: Some("key".to_owned()), ..Options::default() };
    let bench = Bench::with(Script::default(), options).await;
    let [key, version, beta] = HEADERS else { unreachable!() };
    let bearer = "authorization: Bearer key";
    let table: [(&str, &[&str], u16, &str); 8] = [
        ("/v1/nothing", &[], 404, "Not found"),
        ("/v1/agents", &[], 401, "Authentication failed"),
        ("/v1/agents", &["x-api-key: other", version, beta], 401, "Authentication failed"),
        ("/v1/agents", &[key], 404, "not found"),
        ("/v1/agents", &[key, beta], 400, "anthropic-version: header is required"),
        ("/v1/agents?beta=true", &[key, beta, version], 200, ""),
        ("/v1/agents", &[bearer, beta, "anthropic-version: 2026-10-21"], 200, ""),
        ("/v1/models", &[bearer, version], 200, ""),
    ];
    for (path, headers, status, message) in table {
        let answer = bench.call("GET", path, headers, "").await.unwrap();
        if status == 200 {
            assert_eq!((answer.status, answer.header("request-id").is_some()), (200, true), "{path} {headers:?}");
        } else {
            let (got, _, said) = answer.error();
            assert_eq!((got, said.as_str()), (status, message), "{path} {headers:?}");
        }
    }
    let last = bench.simulator.recorder().requests_of(Endpoint::AgentsList).pop().unwrap();
    assert_eq!(last.credential, Some(Credential::Bearer("key".to_owned())));
    assert_eq!(bench.simulator.recorder().count(Endpoint::AgentsList), 6);
}

#[tokio::test]
async fn a_stream_cut_within_a_character_leaves_the_turn_alone() {
    let bench = Bench::start(stream_fault(cut(0, CutAt::Character, CutBy::Close))).await;
    let mut stream = bench.stream().await;
    bench.prompt("plain").await;
    let (events, end) = stream.rest().await;
    assert_eq!((kinds(&events).len(), end), (4, End::Closed));
    let broken = stream.unread();
    assert!(std::str::from_utf8(broken).is_err() && broken.ends_with(b"You said: \xe2"));
    bench.settled(IDLE).await;
    assert_eq!(bench.get(&bench.events_path()).await.json()["data"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn a_stream_breaks_in_the_way_it_is_told() {
    for (by, expected) in [(CutBy::Close, End::Closed), (CutBy::Reset, End::Reset), (CutBy::End, End::Complete)] {
        let bench = Bench::start(stream_fault(cut(3, CutAt::Boundary, by))).await;
        let mut stream = bench.stream().await;
        bench.prompt("x").await;
        let (events, end) = stream.rest().await;
        assert_eq!((events.len(), end), (3, expected), "{by:?}");
        // The fault met one stream; the next is whole.
        let mut stream = bench.stream().await;
        bench.settled(IDLE).await;
        bench.prompt("y").await;
        stream.until(IDLE).await;
    }
}

#[tokio::test]
async fn open_streams_can_be_reset_at_any_time() {
    let bench = Bench::start(Script::default()).await;
    let mut streams = [bench.stream().await, bench.stream().await];
    let mut watch = bench.simulator.recorder().watch_streams();
    assert_eq!(watch.borrow_and_update().open, 2);
    bench.simulator.cut_streams(CutBy::Reset);
    for stream in &mut streams {
        assert_eq!(stream.rest().await, (Vec::new(), End::Reset));
    }
    let streams = *watch.wait_for(|streams| streams.open == 0).await.unwrap();
    assert_eq!((streams.open_max, streams.opened), (2, 2));
}

#[tokio::test]
async fn frames_come_in_pieces_and_are_whole_together() {
    let bench = Bench::start(stream_fault(StreamFault { pieces: vec![1, 7], ..StreamFault::default() })).await;
    let mut stream = bench.stream().await;
    bench.prompt("é").await;
    assert_eq!(stream.chunk().await.unwrap(), b"e");
    assert_eq!(stream.chunk().await.unwrap(), b"vent: u");
    let mut stream = bench.stream().await;
    bench.settled(IDLE).await;
    bench.prompt("é").await;
    stream.until(IDLE).await;
}

#[tokio::test]
async fn duplicates_have_the_same_id_and_neighbours_swap() {
    let bench = Bench::start(stream_fault(StreamFault { duplicate_every: 5, ..StreamFault::default() })).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    let events = stream.until(IDLE).await;
    assert_eq!(events[4], events[5]);
    assert_eq!(events[4]["type"], "agent.message");

    let bench = Bench::start(stream_fault(StreamFault { swap_every: 6, ..StreamFault::default() })).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    let events = kinds(&stream.until(IDLE).await);
    assert_eq!(events[5..7], ["agent.tool_result", "agent.tool_use"]);
}

#[tokio::test]
async fn a_stream_can_replay_or_fall_silent_or_end_lines_differently() {
    let bench = Bench::start(stream_fault(StreamFault { replay: true, ..StreamFault::default() })).await;
    bench.prompt("x").await;
    bench.settled(IDLE).await;
    assert_eq!(bench.stream().await.until(IDLE).await, bench.simulator.events(&bench.session));

    let silent = StreamFault { silence_after: Some(2), ..StreamFault::default() };
    let heartbeat = Heartbeat { every_ms: 1, ..Heartbeat::default() };
    let bench = Bench::start(Script { heartbeat, ..stream_fault(silent) }).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    bench.settled(IDLE).await;
    let mut seen = 0;
    while seen < 2 {
        seen += usize::from(stream.frame().await.unwrap().starts_with("event: "));
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.frame()).await.is_err());

    let bench = Bench::start(stream_fault(StreamFault { crlf: true, ..StreamFault::default() })).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    let text = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    assert!(text.starts_with("event: user.message\r\ndata: {") && text.ends_with("}\r\n\r\n"));
}

#[tokio::test]
async fn quiet_streams_have_heartbeats() {
    for (form, expected) in [
        (HeartbeatForm::Comment, ": heartbeat\n\n"),
        (HeartbeatForm::Ping, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    ] {
        let bench = Bench::start(Script { heartbeat: Heartbeat { every_ms: 1, form }, ..Script::default() }).await;
        let mut stream = bench.stream().await;
        for _ in 0..3 {
            assert_eq!(stream.frame().await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn the_next_requests_fail_as_told_and_then_no_more() {
    let mut fault = RequestFault::error(Endpoint::SessionsCreate, 2, 429, "rate_limit_error");
    if let Answer::Error(error) = &mut fault.answer {
        error.headers.insert("retry-after".to_owned(), "7".to_owned());
    }
    let bench = Bench::start(Script::default()).await;
    bench.simulator.set_faults(Faults { requests: vec![fault], ..Faults::default() });
    let body = json!({"agent": bench.agent, "environment_id": bench.environment});
    for _ in 0..2 {
        let answer = bench.post("/v1/sessions", body.clone()).await;
        assert_eq!(answer.error(), (429, "rate_limit_error".to_owned(), "rate_limit_error".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    assert_eq!(bench.post("/v1/sessions", body).await.status, 200);
    assert_eq!(bench.simulator.sessions().len(), 2);
}

#[tokio::test]
async fn errors_can_be_no_json_or_tell_the_credential() {
    let bench = Bench::start(Script::default()).await;
    let html = ErrorAnswer {
        status: 502,
        headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
        body: Some("<h1>Bad gateway".to_owned()),
        ..ErrorAnswer::default()
    };
    bench.simulator.set_faults(request_fault(Endpoint::ModelsList, Answer::Error(html)));
    let answer = bench.get("/v1/models").await;
    assert_eq!((answer.status, answer.header("content-type")), (502, Some("text/html")));
    assert_eq!(answer.text(), "<h1>Bad gateway");

    let echo = ErrorAnswer { status: 403, message: "no".to_owned(), echo_credential: true, ..ErrorAnswer::default() };
    bench.simulator.set_faults(request_fault(Endpoint::ModelsList, Answer::Error(echo)));
    assert_eq!(bench.get("/v1/models").await.error().2, "no (credential key)");
}

#[tokio::test]
async fn an_answer_can_be_lost_or_never_given_or_late() {
    let bench = Bench::start(Script::default()).await;
    let send = || async {
        let body = json!({"events": [prompt("x")]}).to_string();
        bench.call("POST", &bench.events_path(), HEADERS, &body).await
    };
    bench.simulator.set_faults(request_fault(Endpoint::EventsSend, Answer::HangUp));
    assert!(send().await.is_none());
    assert_eq!(bench.simulator.event_count(&bench.session), 0);
    bench.simulator.set_faults(request_fault(Endpoint::EventsSend, Answer::Lost));
    assert!(send().await.is_none());
    assert_eq!(bench.settled(IDLE).await, 9);
    bench.simulator.set_faults(request_fault(Endpoint::EventsSend, Answer::Silence));
    assert!(tokio::time::timeout(Duration::from_millis(100), send()).await.is_err());
    assert_eq!(bench.simulator.event_count(&bench.session), 9);

    let slow = RequestFault { delay_ms: 80, ..RequestFault::default() };
    bench.simulator.set_faults(Faults { requests: vec![slow], ..Faults::default() });
    let start = Instant::now();
    bench.stream().await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_the_queue_goes_on() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    bench.prompt("/long").await;
    stream.until("agent.message").await;
    let queued = bench.prompt("next").await.json()["data"][0]["id"].clone();
    assert_eq!(bench.status().await, "running");
    bench.send(json!({"type": "user.interrupt"})).await;
    let events = stream.until(IDLE).await;
    let interrupted = ["user.message", "user.interrupt", "user.interrupt", "span.model_request_end", IDLE];
    assert_eq!(kinds(&events), interrupted);
    assert_eq!(each(&events, "/processed_at")[..2], [Value::Null, Value::Null]);
    assert_eq!(events[4]["stop_reason"], json!({"type": "end_turn"}));
    let events = stream.until(IDLE).await;
    assert_eq!((&events[0]["id"], kinds(&events)[1].as_str(), events.len()), (&queued, RUNNING, 9));
    // Idle: nothing to stop.
    bench.send(json!({"type": "user.interrupt"})).await;
    let last = kinds(&bench.simulator.events(&bench.session)).pop();
    assert_eq!((last.as_deref(), bench.status().await.as_str()), (Some("user.interrupt"), "idle"));
    // And the turn after it is not stopped either.
    bench.prompt("x").await;
    assert_eq!(stream.until(IDLE).await.len(), 12);
}

#[tokio::test]
async fn custom_tools_and_confirmations_are_asked_for_together_and_one_by_one() {
    let bench = Bench::start(Script::of([
        Step::custom_tool_use("weather", json!({"city": "Kyiv"})),
        Step::ask("bash", json!({"command": "rm"}), "removed"),
        Step::message("It is {answer}."),
    ]))
    .await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    let events = stream.until(IDLE).await;
    let (tool, ask) = (&events[4], &events[5]);
    assert_eq!((&tool["type"], &tool["input"]), (&json!("agent.custom_tool_use"), &json!({"city": "Kyiv"})));
    assert_eq!((&ask["type"], &ask["evaluated_permission"]), (&json!("agent.tool_use"), &json!("ask")));
    let waits = |ids: Value| json!({"type": "requires_action", "event_ids": ids});
    assert_eq!(events[7]["stop_reason"], waits(json!([tool["id"], ask["id"]])));
    assert_eq!(bench.status().await, "idle");

    let denial =
        json!({"type": "user.tool_confirmation", "tool_use_id": ask["id"], "result": "deny", "deny_message": "no"});
    assert_eq!(bench.send(denial.clone()).await.json()["data"][0]["processed_at"], Value::Null);
    let events = stream.until(IDLE).await;
    assert_eq!(kinds(&events), ["user.tool_confirmation", "user.tool_confirmation", IDLE]);
    assert_eq!(events[2]["stop_reason"], waits(json!([tool["id"]])));
    assert_eq!(bench.send(denial).await.error().0, 400);

    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": tool["id"],
        "content": [{"type": "text", "text": "cold"}]});
    assert!(bench.send(result).await.json()["data"][0]["processed_at"].is_string());
    let events = stream.until(IDLE).await;
    let types = ["user.custom_tool_result", RUNNING, "span.model_request_start", "agent.tool_result", "agent.message"];
    assert_eq!(kinds(&events)[..5], types);
    assert_eq!(events[3]["tool_use_id"], ask["id"]);
    assert_eq!((&events[3]["is_error"], &events[3]["content"][0]["text"]), (&json!(true), &json!("no")));
    assert_eq!(events[4]["content"][0]["text"], "It is cold.");
    assert_eq!(events[6]["stop_reason"], json!({"type": "end_turn"}));
}

#[tokio::test]
async fn a_waiting_turn_can_be_interrupted() {
    let bench = Bench::start(Script::default()).await;
    bench.prompt("/custom").await;
    bench.settled(IDLE).await;
    bench.send(json!({"type": "user.interrupt"})).await;
    bench.settled(IDLE).await;
    let events = bench.simulator.events(&bench.session);
    let ends: Vec<_> = events.iter().filter(|event| event["type"] == IDLE).collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(ends[1]["stop_reason"], json!({"type": "end_turn"}));
}

#[tokio::test]
async fn the_list_of_events_is_paged_and_filtered() {
    let bench = Bench::start(repeat(40, 0)).await;
    bench.prompt("x").await;
    bench.settled(IDLE).await;
    let all = bench.simulator.events(&bench.session);
    for order in ["asc", "desc"] {
        let mut found = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("{}?limit=7&order={order}{page}", bench.events_path());
            let answer = bench.get(&path).await.json();
            found.extend(answer["data"].as_array().unwrap().clone());
            let Some(next) = answer["next_page"].as_str() else { break };
            page = format!("&page={next}");
        }
        if order == "desc" {
            found.reverse();
        }
        assert_eq!(found, all, "{order}");
    }
    let list = async |query: &str| bench.get(&format!("{}?{query}", bench.events_path())).await;
    let spans = list("types[]=span.model_request_start&types%5B%5D=span.model_request_end").await.json();
    assert_eq!(kinds(spans["data"].as_array().unwrap()), ["span.model_request_start", "span.model_request_end"]);
    let since = all[5]["processed_at"].as_str().unwrap();
    let newer = list(&format!("created_at[gte]={since}")).await.json();
    assert!(newer["data"].as_array().unwrap().contains(&all[5]));
    assert_eq!(list("created_at[gt]=2999-01-01T00:00:00Z").await.json()["data"], json!([]));
    assert_eq!(list("page=nonsense").await.error().2, "invalid page cursor");
    assert_eq!(list("order=desc&page=page_asc_after_1").await.error().2, "page token order does not match request");

    let list = ListLag { newest: 3, ..ListLag::default() };
    bench.simulator.set_faults(Faults { list, ..Faults::default() });
    let lagging = bench.get(&bench.events_path()).await.json();
    assert_eq!(lagging["data"], json!(all[..all.len() - 3]));
}

#[tokio::test]
async fn the_list_of_sessions_leads_both_ways() {
    let bench = Bench::start(Script::default()).await;
    for _ in 0..4 {
        bench.new_session().await;
    }
    let mut newest_first = bench.simulator.sessions();
    newest_first.reverse();
    let first = bench.get("/v1/sessions?limit=2").await.json();
    assert_eq!(
        (each(first["data"].as_array().unwrap(), "/id"), &first["prev_page"]),
        (ids(&newest_first[..2]), &Value::Null)
    );
    let next = |page: &Value, key: &str| format!("/v1/sessions?limit=2&page={}", page[key].as_str().unwrap());
    let second = bench.get(&next(&first, "next_page")).await.json();
    assert_eq!(each(second["data"].as_array().unwrap(), "/id"), ids(&newest_first[2..4]));
    let back = bench.get(&next(&second, "prev_page")).await.json();
    assert_eq!(back, first);
    let none = bench.get("/v1/sessions?statuses[]=running").await.json();
    assert_eq!(none, json!({"data": [], "next_page": null, "prev_page": null}));
}

fn ids(ids: &[String]) -> Vec<Value> {
    ids.iter().map(|id| json!(id)).collect()
}

#[tokio::test]
async fn a_running_session_is_not_deleted_and_a_deleted_one_ends_its_streams() {
    let bench = Bench::start(Script::default()).await;
    let path = format!("/v1/sessions/{}", bench.session);
    let mut stream = bench.stream().await;
    bench.prompt("/long").await;
    let (status, _, message) = bench.delete(&path).await.error();
    assert_eq!((status, message.starts_with("Cannot delete session while it is running")), (400, true));
    assert_eq!(bench.post(&format!("{path}/archive"), json!({})).await.error().0, 400);
    bench.send(json!({"type": "user.interrupt"})).await;
    stream.until(IDLE).await;
    assert_eq!(bench.delete(&path).await.json(), json!({"id": bench.session, "type": "session_deleted"}));
    let (events, end) = stream.rest().await;
    assert_eq!((kinds(&events), end), (vec!["session.deleted".to_owned()], End::Complete));
    assert_eq!(bench.get(&path).await.error().0, 404);
}

#[tokio::test]
async fn a_terminated_session_ends_its_streams_and_takes_nothing_more() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    bench.prompt("/terminate").await;
    let (events, end) = stream.rest().await;
    assert_eq!((kinds(&events).pop().as_deref(), end), (Some("session.status_terminated"), End::Complete));
    assert_eq!(bench.status().await, "terminated");
    assert_eq!(bench.send(prompt("x")).await.error().0, 400);
}

#[tokio::test]
async fn an_archived_session_is_shown_and_takes_no_events() {
    let bench = Bench::start(Script::default()).await;
    // As the Python SDK sends it: a content type and no body.
    let path = format!("/v1/sessions/{}/archive", bench.session);
    let archived = bench.call("POST", &path, HEADERS, "").await.unwrap().json();
    assert!(archived["archived_at"].is_string());
    assert_eq!(bench.send(prompt("x")).await.error().0, 400);
    assert_eq!(bench.get("/v1/sessions").await.json()["data"], json!([]));
    let all = bench.get("/v1/sessions?include_archived=true").await.json();
    assert_eq!(all["data"][0], archived);
}

#[tokio::test]
async fn a_stale_update_of_an_agent_conflicts() {
    let bench = Bench::start(Script::default()).await;
    let path = format!("/v1/agents/{}", bench.agent);
    let updated = bench.post(&path, json!({"system": "Be brief.", "version": 1})).await.json();
    assert_eq!((&updated["version"], &updated["system"]), (&json!(2), &json!("Be brief.")));
    let (status, kind, _) = bench.post(&path, json!({"system": null, "version": 1})).await.error();
    assert_eq!((status, kind.as_str()), (409, "conflict_error"));
    let versions = bench.get(&format!("{path}/versions")).await.json();
    assert_eq!(each(versions["data"].as_array().unwrap(), "/version"), [json!(2), json!(1)]);
    assert_eq!(bench.get(&format!("{path}?version=1")).await.json()["system"], Value::Null);

    let session = async |agent: Value| {
        bench.post("/v1/sessions", json!({"agent": agent, "environment_id": bench.environment})).await
    };
    let pinned = session(json!({"type": "agent", "id": bench.agent, "version": 1})).await.json();
    assert_eq!((&pinned["agent"]["version"], pinned["agent"].get("metadata")), (&json!(1), None));
    let overrides = json!({"type": "agent_with_overrides", "id": bench.agent, "model": "claude-haiku-5"});
    assert_eq!(session(overrides).await.json()["agent"]["model"]["id"], "claude-haiku-5");
    let (status, _, message) = session(json!({"type": "agent", "id": bench.agent, "version": 9})).await.error();
    assert_eq!((status, message.as_str()), (404, "agent.version: 9 not found"));
}

#[tokio::test]
async fn an_update_of_a_session_tells_its_streams_what_changed() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    let path = format!("/v1/sessions/{}", bench.session);
    let changes = json!({"title": "T", "metadata": {"k": "v"}, "budget": null});
    let updated = bench.post(&path, changes).await.json();
    assert_eq!((&updated["title"], &updated["metadata"]), (&json!("T"), &json!({"k": "v"})));
    let event = stream.event().await.unwrap();
    assert_eq!((&event["type"], &event["title"]), (&json!("session.updated"), &json!("T")));
    assert_eq!((event.get("budget"), &event["metadata"]), (None, &json!({"k": "v"})));
}

#[tokio::test]
async fn a_flood_arrives_whole_and_does_not_outrun_its_reader() {
    const COUNT: u64 = 60_000;
    let bench = Bench::start(repeat(COUNT, 0)).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    // Nobody reads; what the kernel and the backlog hold is far less than the flood.
    let held_back = bench.held_back().await;
    assert!(held_back < COUNT / 2, "{held_back} of {COUNT}");
    let events = stream.until(IDLE).await;
    let flood: Vec<_> = events.iter().filter(|event| event["type"] == "agent.message").collect();
    for (n, event) in (0..COUNT).zip(&flood) {
        assert_eq!(event["n"], n);
        assert!(event["sent_ns"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000_000_000);
    }
    assert_eq!((flood.len() as u64, bench.simulator.event_count(&bench.session)), (COUNT, COUNT + 5));
    assert_eq!(bench.simulator.events(&bench.session)[3], *flood[0]);

    // Without a reader the turn waits for nobody.
    drop(stream);
    bench.prompt("x").await;
    assert_eq!(bench.settled(IDLE).await, 2 * (COUNT + 5));
}

#[tokio::test]
async fn a_flood_can_be_interrupted_while_it_waits_for_its_reader() {
    let bench = Bench::start(repeat(u64::MAX, 0)).await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    stream.until("agent.message").await;
    bench.held_back().await;
    bench.send(json!({"type": "user.interrupt"})).await;
    assert_eq!(stream.until(IDLE).await.pop().unwrap()["stop_reason"], json!({"type": "end_turn"}));
}

#[tokio::test]
async fn paced_events_do_not_come_early() {
    let bench = Bench::start(repeat(50, 10)).await;
    let mut stream = bench.stream().await;
    let start = Instant::now();
    bench.prompt("x").await;
    let events = stream.until(IDLE).await;
    let took = start.elapsed();
    assert_eq!(events.len(), 56);
    assert!(took >= Duration::from_millis(490), "{took:?}");
}

#[tokio::test]
async fn steps_can_say_what_no_service_should() {
    let odd = json!({"type": "agent.surprise", "id": "sevt_mine", "deep": [1]});
    let bench = Bench::start(Script::of([
        Step::Frame { text: "event: ping\n\n".to_owned() },
        Step::Event { event: odd.as_object().unwrap().clone() },
    ]))
    .await;
    let mut stream = bench.stream().await;
    bench.prompt("x").await;
    stream.until("span.model_request_start").await;
    assert_eq!(stream.frame().await.unwrap(), "event: ping\n\n");
    let event = stream.event().await.unwrap();
    assert_eq!((&event["id"], &event["deep"]), (&json!("sevt_mine"), &json!([1])));
    assert!(event["processed_at"].is_string());
    stream.until(IDLE).await;
    assert_eq!(bench.simulator.events(&bench.session)[3], event);
    let injected = bench.simulator.inject(&bench.session, odd.as_object().unwrap().clone());
    assert_eq!(injected.as_deref(), Some("sevt_mine"));
    assert_eq!(stream.event().await.unwrap()["type"], "agent.surprise");
}

#[tokio::test]
async fn errors_of_a_session_end_the_turn_or_do_not() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    bench.prompt("/error").await;
    let events = stream.until(IDLE).await;
    let error = &events[4]["error"];
    assert_eq!(
        (&error["type"], &error["retry_status"]),
        (&json!("model_overloaded_error"), &json!({"type": "exhausted"}))
    );
    assert_eq!(events[6]["stop_reason"], json!({"type": "retries_exhausted"}));
    bench.prompt("/retry").await;
    let events = stream.until(IDLE).await;
    assert_eq!(kinds(&events)[4..6], ["session.error", "agent.message"]);
    assert_eq!(events[7]["stop_reason"], json!({"type": "end_turn"}));
}

#[tokio::test]
async fn initial_events_start_the_session() {
    let bench = Bench::start(Script::default()).await;
    let create =
        |events: Value| json!({"agent": bench.agent, "environment_id": bench.environment, "initial_events": events});
    let session = bench.post("/v1/sessions", create(json!([prompt("one")]))).await.json();
    let bench = Bench { session: session["id"].as_str().unwrap().to_owned(), ..bench };
    assert_eq!(bench.settled(IDLE).await, 9);
    let create = json!({"agent": bench.agent, "environment_id": bench.environment,
        "initial_events": [{"type": "user.interrupt"}]});
    assert_eq!(bench.post("/v1/sessions", create).await.error().0, 400);
    assert_eq!(bench.simulator.sessions().len(), 2);
}

#[tokio::test]
async fn a_status_can_lag_behind_the_stream() {
    let bench = Bench::start(Script::default()).await;
    bench.simulator.set_faults(Faults { status_lag_ms: 60_000, ..Faults::default() });
    bench.prompt("x").await;
    bench.settled(IDLE).await;
    assert_eq!(bench.status().await, "running");
    assert_eq!(bench.delete(&format!("/v1/sessions/{}", bench.session)).await.error().0, 400);
    bench.simulator.set_faults(Faults::default());
    assert_eq!(bench.status().await, "idle");
}

#[tokio::test]
async fn a_simulator_that_shuts_down_frees_its_port() {
    let bench = Bench::start(Script::default()).await;
    let mut stream = bench.stream().await;
    let addr = bench.simulator.addr();
    bench.simulator.shutdown().await;
    assert!(stream.event().await.is_err());
    let again = Simulator::start(addr, Script::default(), Options::default()).unwrap();
    assert_eq!(again.addr(), addr);
    let outside = Simulator::start(([0, 0, 0, 0], 0).into(), Script::default(), Options::default());
    assert!(outside.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidInput));
}
