//! What the host hands on to the vendor's API: bytes, ids, headers and errors, both ways, and what does not pass.

use http::{Method, StatusCode};
use lap::http::{Speaks, routes};
use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer as Fault, ErrorAnswer, RequestFault, StreamFault},
    script::Step,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};

use crate::harness::{
    Answer, MASTER_KEY, RUNTIME, UPSTREAM_KEY, World,
    puppet::{Part, Puppet},
};

const VERSION: (&str, &str) = ("anthropic-version", "2026-10-21");
const BETA: (&str, &str) = ("anthropic-beta", "managed-agents-2026-04-01");
const MEMORY: (&str, &str) = ("anthropic-beta", "agent-memory-2026-07-22");

async fn ask(world: &World, method: Method, path: &str, body: Option<&Value>) -> Answer {
    world.client.send(method, path, &[VERSION, BETA], body.map(Value::to_string)).await
}

async fn get(world: &World, path: &str) -> Answer {
    ask(world, Method::GET, path, None).await
}

/// A host whose upstream is a puppet.
async fn before(puppet: &Puppet) -> World {
    let world = World::empty(Script::default()).await;
    world.client.connect(&puppet.base).await;
    world
}

const BOUNDARY: &str = "b0undary";

/// A form with one file.
fn form(name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: image/x-noise\r\n\r\n"
    );
    [head.as_bytes(), bytes, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

fn upload(world: &World, form: Vec<u8>) -> reqwest::RequestBuilder {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    world.client.request(Method::POST, "/v1/files", &[VERSION, ("content-type", &kind)], None).body(form)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_as_it_went() {
    let world = World::start(Script::default()).await;
    let noise: Vec<u8> = (0..3_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let made: Value = upload(&world, form("a \u{e4}.bin", &noise)).send().await.unwrap().json().await.unwrap();
    assert_eq!((&made["type"], &made["size_bytes"]), (&json!("file"), &json!(noise.len())));
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/files/{id}");
    assert_eq!(get(&world, &path).await.ok(), made);
    assert_eq!(get(&world, "/v1/files?limit=1&beta=true").await.ok()["data"], json!([made]));

    let content = world.client.request(Method::GET, &format!("{path}/content"), &[VERSION], None).send().await.unwrap();
    assert_eq!(content.headers()["content-type"], "image/x-noise");
    assert_eq!(content.headers()["content-length"], *noise.len().to_string());
    assert!(content.headers()["content-disposition"].to_str().is_err(), "the name is passed on as it is");
    assert!(content.bytes().await.unwrap() == noise, "other bytes came back");

    let deleted = ask(&world, Method::DELETE, &path, None).await.ok();
    assert_eq!(deleted, json!({"id": id, "type": "file_deleted"}));
    let gone = get(&world, &path).await;
    assert_eq!((gone.status.as_u16(), gone.header("lap-error-code")), (404, "upstream_not_found"));
}

#[tokio::test]
async fn memory_stores_and_vaults_are_the_upstreams() {
    let world = World::start(Script::default()).await;
    let memory = async |method, path: &str, body: Option<Value>| {
        world.client.send(method, path, &[VERSION, MEMORY], body.map(|body| body.to_string())).await
    };
    let store = memory(Method::POST, "/v1/memory_stores", Some(json!({"name": "n"}))).await.ok();
    let path = format!("/v1/memory_stores/{}", store["id"].as_str().unwrap());
    let note = json!({"path": "/a", "content": "c"});
    let made = memory(Method::POST, &format!("{path}/memories"), Some(note)).await.ok();
    let found = memory(Method::GET, &format!("{path}/memories/{}", made["id"].as_str().unwrap()), None).await.ok();
    assert_eq!((&found, &found["content"]), (&made, &json!("c")));
    assert_eq!(get(&world, &path).await.ok(), store, "the older beta does as well");
    let nobody = world.client.send(Method::GET, &path, &[VERSION], None).await;
    assert_eq!((nobody.status.as_u16(), nobody.header("lap-error-code")), (404, "beta_missing"));
    assert_eq!(memory(Method::DELETE, &path, None).await.ok()["type"], "memory_store_deleted");

    let vault = ask(&world, Method::POST, "/v1/vaults", Some(&json!({"display_name": "v"}))).await.ok();
    assert_eq!(get(&world, "/v1/vaults").await.ok(), json!({"data": [vault], "next_page": null}));
}

#[tokio::test]
async fn the_upstream_gets_the_hosts_key_and_of_the_clients_headers_only_those_for_it() {
    let puppet = Puppet::answering("200 OK", &["{}"]).await;
    let world = before(&puppet).await;
    let headers = [
        VERSION,
        BETA,
        ("anthropic-beta", "files-api-2025-04-14"),
        ("x-api-key", MASTER_KEY),
        ("cookie", "c=1"),
        ("user-agent", "spy"),
        ("x-forwarded-for", "192.0.2.1"),
        ("accept-encoding", "gzip"),
        ("lap-runtime", RUNTIME),
        ("anthropic-workspace-id", "w"),
    ];
    let query = "beta=true&ids%5B%5D=a%26b&created_at[gte]=1%2B2";
    world.client.send(Method::GET, &format!("/v1/files?{query}"), &headers, None).await.ok();
    world.client.send(Method::POST, "/v1/skills", &[VERSION], Some("{\"a\":1}".to_owned())).await.ok();
    let [list, create] = puppet.heard().try_into().unwrap();
    assert!(
        list.starts_with("GET /v1/files?beta=true&ids%5B%5D=a%26b&created_at%5Bgte%5D=1%2B2 HTTP/1.1\r\n"),
        "{list}"
    );
    assert!(create.ends_with("\r\n\r\n{\"a\":1}") && create.contains("\r\ncontent-length: 7\r\n"), "{create}");
    assert!(!create.contains("transfer-encoding"), "{create}");
    for wire in [&list, &create] {
        assert!(wire.contains(&format!("\r\nx-api-key: {UPSTREAM_KEY}\r\n")), "{wire}");
        assert!(wire.contains("\r\nanthropic-version: 2026-10-21\r\n"), "{wire}");
        assert!(wire.contains(&format!("\r\nhost: {}\r\n", puppet.base.strip_prefix("http://").unwrap())), "{wire}");
        for absent in
            [MASTER_KEY, "authorization", "cookie", "spy", "192.0.2.1", "encoding", "lap-runtime", "workspace"]
        {
            assert!(!wire.contains(absent), "{absent}: {wire}");
        }
    }
    assert!(list.contains("managed-agents-2026-04-01") && list.contains("files-api-2025-04-14"), "{list}");
}

#[tokio::test]
async fn of_the_answers_headers_those_pass_that_are_for_the_client() {
    let head = "201 Created\r\ncontent-type: text/html\r\ncontent-disposition: attachment\r\nretry-after: 7\r\n\
                anthropic-organization-id: o\r\nset-cookie: s=1\r\nrequest-id: req_theirs\r\nserver: s\r\nx-a: 1\r\n\
                access-control-allow-origin: *\r\nlocation: https://elsewhere.example";
    let puppet = Puppet::answering(head, &["<b>"]).await;
    let answer = get(&before(&puppet).await, "/v1/files").await;
    assert_eq!((answer.status, &*answer.text), (StatusCode::CREATED, "<b>"));
    let header = |name: &str| answer.header(name).to_owned();
    assert_eq!(["content-type", "content-disposition", "retry-after"].map(header), ["text/html", "attachment", "7"]);
    assert_eq!((answer.header("anthropic-organization-id"), answer.header("content-length")), ("o", "3"));
    assert!(answer.header("request-id").starts_with("req_") && answer.header("request-id") != "req_theirs");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "an answer is not taken for a page of the host's");
    for absent in ["set-cookie", "server", "x-a", "access-control-allow-origin", "location"] {
        assert!(!answer.headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn a_key_that_the_upstream_sends_back_is_found_wherever_it_is_cut() {
    let text = format!("{{\"a\":\"{UPSTREAM_KEY}\",\"b\":\"sk-ant-can\"}}");
    let key_at = text.find("sk-").unwrap();
    let mut cuts: Vec<_> = (0..6).map(|step| key_at + 1 + step * 5).collect();
    cuts.push(text.len() - 3);
    for cut in cuts {
        let (first, second) = text.split_at(cut);
        let puppet = Puppet::answering("200 OK\r\nanthropic-echo: k", &[first, second]).await;
        let answer = get(&before(&puppet).await, "/v1/files/f/content").await;
        assert_eq!(answer.text, text.replace(UPSTREAM_KEY, &"*".repeat(UPSTREAM_KEY.len())));
        assert_eq!(answer.header("content-length"), text.len().to_string());
    }
    let puppet = Puppet::answering(&format!("200 OK\r\nanthropic-echo: k {UPSTREAM_KEY}"), &[]).await;
    assert_eq!(get(&before(&puppet).await, "/v1/files").await.header("anthropic-echo"), "k [redacted]");
    let error =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": UPSTREAM_KEY}}).to_string();
    let puppet = Puppet::answering("400 Bad Request", &[&error]).await;
    assert_eq!(get(&before(&puppet).await, "/v1/files").await.json()["error"]["message"], "[redacted]");
}

#[tokio::test]
async fn an_answer_that_nobody_can_read_or_that_leads_elsewhere_is_not_passed_on() {
    for head in
        ["200 OK\r\ncontent-encoding: gzip", "302 Found\r\nlocation: https://elsewhere.example", "404 Not Found"]
    {
        let puppet = Puppet::answering(head, &["<html>"]).await;
        let answer = get(&before(&puppet).await, "/v1/files").await;
        assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (502, "upstream_unavailable"), "{head}");
        assert_eq!((answer.header("x-should-retry") == "true", puppet.heard().len()), (!head.contains("gzip"), 1));
    }
}

#[tokio::test]
async fn the_vendors_errors_keep_their_status_and_words_under_the_hosts_request_id() {
    let world = World::start(Script::default()).await;
    let cases = [
        (400, "invalid_request_error", 400, "invalid_request_error", "upstream_rejected", "false"),
        (404, "not_found_error", 404, "not_found_error", "upstream_not_found", "false"),
        (409, "memory_path_conflict_error", 409, "memory_path_conflict_error", "upstream_conflict", "false"),
        (429, "rate_limit_error", 429, "rate_limit_error", "upstream_throttled", "true"),
        (529, "overloaded_error", 529, "overloaded_error", "upstream_overloaded", "true"),
        (401, "authentication_error", 502, "api_error", "upstream_auth", "false"),
        (403, "permission_error", 502, "api_error", "upstream_auth", "false"),
    ];
    for (status, kind, told, told_kind, code, again) in cases {
        let headers = [("retry-after".to_owned(), "3".to_owned())].into();
        let error = ErrorAnswer {
            status,
            kind: kind.to_owned(),
            message: "why".to_owned(),
            headers,
            echo_credential: true,
            ..ErrorAnswer::default()
        };
        let answer = Fault::Error(error);
        let fault = RequestFault { endpoint: Some(Endpoint::MemoryStoresList), answer, ..RequestFault::default() };
        world.simulator.set_faults(Faults { requests: vec![fault], ..Faults::default() });
        let answer = get(&world, "/v1/memory_stores").await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (told, code), "{status}");
        assert_eq!((&body["error"]["type"], answer.header("x-should-retry")), (&json!(told_kind), again), "{status}");
        assert!(body["error"]["message"].as_str().unwrap().contains("why"), "{body}");
        assert!(!answer.text.contains(UPSTREAM_KEY), "{body}");
        assert_eq!(body["request_id"], answer.header("request-id"));
        assert_eq!(answer.headers.contains_key("retry-after"), again == "true");
    }
    // Whether a POST that failed upstream was carried out nobody knows.
    for (method, endpoint, again) in
        [(Method::GET, Endpoint::VaultsList, "true"), (Method::POST, Endpoint::VaultsCreate, "false")]
    {
        for answer in [Fault::Error(ErrorAnswer::default()), Fault::Lost, Fault::HangUp] {
            let fault = RequestFault { endpoint: Some(endpoint), answer, ..RequestFault::default() };
            world.simulator.set_faults(Faults { requests: vec![fault], ..Faults::default() });
            let answer = ask(&world, method.clone(), "/v1/vaults", Some(&json!({"display_name": "v"}))).await;
            assert_eq!((answer.status.is_server_error(), answer.header("x-should-retry")), (true, again));
        }
    }
}

#[tokio::test]
async fn a_path_with_two_meanings_goes_nowhere() {
    let world = World::start(Script::default()).await;
    let address = world.client.base.strip_prefix("http://").unwrap();
    let paths = [
        "/v1/files/%2e%2e",
        "/v1/files/..",
        "/v1/files/..%2fagents",
        "/v1/files/a%2fb",
        "/v1/files/a%5cb",
        "/v1/files/a%252fb",
        "/v1/files/%2e%2e/content",
        "/v1/files/..;x/content",
        "/v1/files/a%00",
        "/v1/files//content",
        "/v1//files",
        "//v1/files",
        "/v1/files/",
        "/v1/files/%",
        "/v1/files/a/../../agents",
        "/v1/vaults/../credentials",
        "/v1/skills/x/versions/%2E%2E/content",
        "/v1/sessions/%7Bsession%7D/threads",
        "/v1/sessions/../threads",
    ];
    for path in paths {
        // A raw socket: clients mend such paths.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\nanthropic-version: 1\r\n\
             anthropic-beta: {}\r\nconnection: close\r\n\r\n",
            BETA.1
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
        assert!(!answer.contains("upstream_not_found"), "{path}: {answer}");
    }
    assert!(world.simulator.recorder().requests().is_empty(), "something was sent");
}

#[tokio::test]
async fn a_session_has_its_own_name_on_each_side() {
    let world = World::start(Script::of([Step::message("hello")])).await;
    let id = world.session("go").await;
    world.client.turn(&id).await;
    let theirs = world.upstream_id(&id).await;
    let list = get(&world, &format!("/v1/sessions/{id}/threads?limit=5")).await.ok();
    let thread = list["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list["data"][0]["session_id"], *id);
    let path = format!("/v1/sessions/{id}/threads/{thread}");
    let answer = get(&world, &path).await;
    assert_eq!((&answer.ok()["session_id"], answer.text.contains(&theirs)), (&json!(id), false));
    let events = get(&world, &format!("{path}/events")).await.ok();
    assert!(events["data"].as_array().unwrap().iter().any(|event| event["type"] == "agent.message"));

    // An id that another one begins with, and one inside of a text, are not the session's.
    let said = json!({
        "type": "session.updated", "session_id": theirs, "text": format!("about {theirs} and \"{theirs}\""),
        "other": format!("{theirs}0"), "processed_at": "2026-11-23T10:00:00Z",
    });
    // The upstream's stream comes in pieces of five bytes, so that most ids are cut.
    let streams = vec![StreamFault { pieces: vec![5], ..StreamFault::default() }];
    world.simulator.set_faults(Faults { streams, ..Faults::default() });
    let mut stream =
        world.client.request(Method::GET, &format!("{path}/stream"), &[VERSION, BETA], None).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!(!stream.headers().contains_key("content-length"));
    world.simulator.inject(&theirs, said.as_object().unwrap().clone()).unwrap();
    let mut text = String::new();
    while !text.contains("\"other\"") || !text.ends_with("\n\n") {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).find(|data| data.contains("other")).unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&event["session_id"], &event["other"], &event["text"]), (&json!(id), &said["other"], &said["text"]));
    let asked = world.simulator.recorder().requests();
    let asked: Vec<_> = asked.iter().filter(|request| request.path.contains("/threads")).collect();
    assert!(asked.iter().all(|request| request.path.starts_with(&format!("/v1/sessions/{theirs}/threads"))));
    assert_eq!((asked.len(), asked[0].query.as_deref()), (4, Some("limit=5")));
}

#[tokio::test]
async fn a_session_that_a_query_names_is_named_as_the_upstream_does() {
    let world = World::start(Script::default()).await;
    let id = world.session("go").await;
    world.client.turn(&id).await;
    get(&world, &format!("/v1/files?scope_id={id}&limit=3")).await.ok();
    let theirs = world.upstream_id(&id).await;
    let [asked] = world.simulator.recorder().requests_of(Endpoint::FilesList).try_into().unwrap();
    assert_eq!(asked.query, Some(format!("scope_id={theirs}&limit=3")));
    let unknown = get(&world, "/v1/files?scope_id=ses_00000000000070008000000000000000").await;
    assert_eq!((unknown.status.as_u16(), unknown.header("lap-error-code")), (404, "session_not_found"));
    assert_eq!(world.simulator.recorder().count(Endpoint::FilesList), 1);
}

#[tokio::test]
async fn ids_are_exchanged_in_an_error_and_after_a_restart() {
    let mut world = World::start(Script::of([Step::message("hello")])).await;
    let id = world.session("go").await;
    world.client.turn(&id).await;
    let theirs = world.upstream_id(&id).await;
    let missing = get(&world, &format!("/v1/sessions/{id}/threads/none")).await;
    assert_eq!((missing.status.as_u16(), missing.header("lap-error-code")), (404, "upstream_not_found"));
    world.simulator.set_faults(Faults {
        requests: vec![RequestFault {
            endpoint: Some(Endpoint::ThreadsList),
            answer: Fault::Error(ErrorAnswer {
                status: 404,
                message: format!("Session {theirs} has none"),
                ..ErrorAnswer::default()
            }),
            ..RequestFault::default()
        }],
        ..Faults::default()
    });
    let missing = get(&world, &format!("/v1/sessions/{id}/threads")).await.json();
    assert_eq!(missing["error"]["message"], format!("Session {id} has none"));
    world.restart().await;
    assert_eq!(get(&world, &format!("/v1/sessions/{id}/threads")).await.ok()["data"][0]["session_id"], *id);
}

#[tokio::test]
async fn an_unknown_session_is_refused_here() {
    let world = World::start(Script::default()).await;
    let fresh = "ses_00000000000070008000000000000000";
    for id in [fresh, "sesn_upstream", "x"] {
        for (method, tail) in [
            (Method::GET, "threads"),
            (Method::GET, "threads/t/stream"),
            (Method::POST, "threads/t/archive"),
            (Method::POST, "resources"),
            (Method::DELETE, "resources/r"),
        ] {
            let answer = ask(&world, method, &format!("/v1/sessions/{id}/{tail}"), None).await;
            assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (404, "session_not_found"), "{id}");
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains(id));
        }
    }
    assert!(world.simulator.recorder().requests().is_empty());
}

#[tokio::test]
async fn what_would_run_agents_elsewhere_is_refused_in_words() {
    let world = World::start(Script::default()).await;
    let nouns = ["deployments", "deployment_runs", "dreams", "work"];
    let mut refused = 0;
    for route in routes().iter().filter(|route| route.elsewhere) {
        let Speaks::Anthropic { betas } = route.speaks else { panic!("{} is the vendor's", route.path) };
        let path = route.path.replace("{id}", "x").replace(['{', '}'], "");
        if !nouns.iter().any(|noun| path.split('/').any(|segment| segment == *noun)) {
            continue;
        }
        let headers = [VERSION, ("anthropic-beta", betas[0])];
        let answer = world.client.send(route.method.clone(), &path, &headers, None).await;
        assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (501, "unsupported"), "{path}");
        assert_eq!((answer.header("x-should-retry"), &answer.json()["error"]["type"]), ("false", &json!("api_error")));
        refused += 1;
    }
    assert_eq!(refused, 8 + 2 + 5 + 8);
    assert!(world.simulator.recorder().requests().is_empty());
}

#[tokio::test]
async fn a_runtime_has_what_its_manifest_declares_and_nothing_else() {
    let (bundled, _) = lap::bundled()[0];
    let (granted, _) = bundled.split_once("[[forward]]").unwrap();
    let more = "[[forward]]\nmethods = [\"GET\"]\npath = \"/v1/sessions/{session}/threads\"\n\
                [[forward]]\nmethods = [\"GET\"]\npath = \"/v1/files\"\n";
    let world = World::under(&format!("{granted}{more}"), Script::default()).await;
    let id = world.session("go").await;
    world.client.turn(&id).await;
    drop(world.simulator.recorder().take_requests());
    let refused = [
        (Method::POST, "/v1/files".to_owned(), "files"),
        (Method::DELETE, "/v1/files/f".to_owned(), "files"),
        (Method::GET, "/v1/skills".to_owned(), "skills"),
        (Method::GET, "/v1/memory_stores/m/memories".to_owned(), "memory_stores"),
        (Method::GET, format!("/v1/vaults?session_id={id}"), "vaults"),
        (Method::POST, format!("/v1/sessions/{id}/threads/t/archive"), "threads"),
        (Method::GET, format!("/v1/sessions/{id}/resources"), "resources"),
    ];
    for (method, path, noun) in refused {
        let answer = ask(&world, method.clone(), &path, None).await;
        assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (501, "unsupported"), "{method} {path}");
        assert_eq!(answer.header("x-should-retry"), "false");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(RUNTIME) && message.contains(noun) && message.contains(method.as_str()), "{message}");
    }
    assert!(world.simulator.recorder().requests().is_empty());
    assert_eq!(get(&world, &format!("/v1/sessions/{id}/threads")).await.ok()["data"][0]["session_id"], *id);
    assert_eq!(get(&world, "/v1/files").await.ok()["data"], json!([]));

    // The runtime itself tells its models, as far as it knows them.
    let models = get(&world, "/v1/models?limit=5").await.ok();
    let model = &models["data"][0];
    assert_eq!(
        (&models["first_id"], &models["has_more"], &model["id"]),
        (&model["id"], &json!(false), &json!("claude-opus-5-5"))
    );
    assert_eq!((&model["created_at"], &model["max_tokens"]), (&json!("1970-01-01T00:00:00.000Z"), &Value::Null));
    assert_eq!(get(&world, "/v1/models/claude-opus-5-5").await.ok(), *model);
    let missing = get(&world, "/v1/models/none").await;
    assert_eq!((missing.status.as_u16(), missing.header("lap-error-code")), (404, "model_not_found"));
}

#[tokio::test]
async fn an_idempotency_key_is_refused_where_nobody_would_honour_it() {
    let world = World::start(Script::default()).await;
    for route in routes().iter().filter(|route| route.elsewhere && route.method == Method::POST) {
        let path = route.path.replace("{id}", "x").replace(['{', '}'], "");
        let Speaks::Anthropic { betas } = route.speaks else { panic!("{path}") };
        let headers = [VERSION, ("anthropic-beta", betas.first().unwrap_or(&"none")), ("idempotency-key", "k")];
        let answer = world.client.send(Method::POST, &path, &headers, Some("{}".to_owned())).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("lap-error-code"), answer.header("x-should-retry")),
            (400, "idempotency_unsupported", "false"),
            "{path}"
        );
    }
    assert!(world.simulator.recorder().requests().is_empty());
}

#[tokio::test]
async fn without_a_credential_nothing_is_sent() {
    let world = World::empty(Script::default()).await;
    let answer = get(&world, "/v1/files").await;
    assert_eq!((answer.status.as_u16(), answer.header("lap-error-code")), (400, "no_credential"));
    let unknown = world.client.send(Method::GET, "/v1/files", &[VERSION, ("lap-runtime", "nobody")], None).await;
    assert_eq!((unknown.status.as_u16(), unknown.header("lap-error-code")), (400, "unsupported_runtime"));
}

#[tokio::test]
async fn models_are_told_by_the_upstream_and_in_the_platforms_words_to_its_clients() {
    let world = World::start(Script::default()).await;
    let theirs = get(&world, "/v1/models").await.ok();
    assert_eq!((&theirs["has_more"], &theirs["data"][0]["max_tokens"]), (&json!(false), &json!(64_000)));
    let id = theirs["first_id"].as_str().unwrap();
    assert_eq!(get(&world, &format!("/v1/models/{id}")).await.ok(), theirs["data"][0]);
    assert_eq!(get(&world, "/v1/models/none").await.status, 404);
    let platforms = world.client.get(&format!("/v1/models?runtime={RUNTIME}")).await.ok();
    assert_eq!((&platforms["object"], &platforms["data"][0]["id"]), (&json!("list"), &json!(id)));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_upload_leaves_no_whole_request_upstream() {
    let puppet = Puppet::playing(Part::Mute).await;
    let world = before(&puppet).await;
    let framings = ["content-length: 1000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n186A0\r\n"];
    for (place, framing) in framings.into_iter().enumerate() {
        let mut stream = TcpStream::connect(world.client.base.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "POST /v1/files HTTP/1.1\r\nhost: x\r\nx-api-key: {MASTER_KEY}\r\nanthropic-version: 1\r\n{framing}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 50_000]).await.unwrap();
        // It leaves once some of it has arrived there.
        while puppet.heard().get(place).is_none_or(|heard| !heard.contains("xxx")) {
            yield_now().await;
        }
        drop(stream);
        puppet.ended(place + 1).await;
        let heard = puppet.heard()[place].clone();
        assert!(!heard.ends_with("0\r\n\r\n"), "the upstream takes it for whole");
        assert!(heard.matches('x').count() < 60_000);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_anything_is_sent() {
    let puppet = Puppet::playing(Part::Mute).await;
    let world = before(&puppet).await;
    let mut stream = TcpStream::connect(world.client.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nx-api-key: {MASTER_KEY}\r\nanthropic-version: 1\r\ncontent-length: {}\r\n\r\n",
        512 * 1024 * 1024 + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(puppet.heard().is_empty());
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\":".to_vec();
    let puppet = Puppet::playing(Part::Answer(vec![head])).await;
    let world = before(&puppet).await;
    let answer = world.client.request(Method::GET, "/v1/files", &[VERSION], None).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "it was taken for whole");
}
