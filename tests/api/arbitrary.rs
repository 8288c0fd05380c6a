//! Any JSON in every field that a client may fill as it likes, in both dialects. Goal: whatever a member writes, nobody's
//! request fails through it. Method: values are drawn, as text, because JSON says more than a parsed value can hold
//! (numbers without an end, a name twice); each goes into each field, alone or inside what the field expects.
//!
//! No answer may be a 5xx, but 501 where the host says that it does not do this, and 502 where the upstream has refused
//! in its own words. Afterwards everybody's lists and the console's pages of agents are still there.

use http::{Method, StatusCode};
use lap_simulator::Script;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{
    ANTHROPIC, Answer, Client, RUNTIME, World,
    dice::{Dice, trials},
    responses::Responses,
};

const OWNER: &str = "ann";
const OTHER_RUNTIME: &str = "openai_responses";
const DEFAULT_ENVIRONMENT: &str = "env_00000000000000000000000000000000";

/// Values that a client may get wrong in any field, as they stand in a body.
const PLAIN: [&str; 24] = [
    "null",
    "true",
    "0",
    "-0.0",
    "7",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890123456789",
    "1e400",
    "-1E-999",
    r#""""#,
    r#""pdf""#,
    r#""\u0000""#,
    r#""\ud83d\ude00 <script>alert(1)</script> \"'&""#,
    "[]",
    "{}",
    "[[],[[]],[[[null]]]]",
    r#"["pdf",7,null,true,[],{},["pdf"]]"#,
    r#"[{"type":"custom"},{"type":7},{"type":null},{"version":{}},{"name":[]}]"#,
    r#"{"":{"":{"":null}}}"#,
    r#"{"__proto__":{"toString":1},"\u0000":"\u0001","a/b~c":"d"}"#,
    r#"{"type":"agent","type":"custom","id":1,"id":2}"#,
    r#"{"type":{"type":{"type":"custom"}},"id":{"id":[]}}"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
];

/// Names that something here reads somewhere, and some that nobody does.
const NAMES: [&str; 24] = [
    "type",
    "id",
    "name",
    "version",
    "url",
    "enabled",
    "configs",
    "default_config",
    "permission_policy",
    "mcp_server_name",
    "input_schema",
    "description",
    "skill_id",
    "content",
    "text",
    "model",
    "runtime",
    "tools",
    "skills",
    "mcp_servers",
    "environment",
    "",
    "\\u0000",
    "$ref",
];

/// Texts that mean something where a `type` stands.
const KINDS: [&str; 8] = [
    "agent_toolset_20260401",
    "mcp_toolset",
    "custom",
    "agent",
    "agent_with_overrides",
    "user.message",
    "text",
    "session.status_idle",
];

/// A value that nobody has thought of.
fn anything(dice: &mut Dice, depth: u32) -> String {
    let listed = |dice: &mut Dice, item: &mut dyn FnMut(&mut Dice) -> String| {
        (0..dice.below(4)).map(|_| item(dice)).collect::<Vec<_>>().join(",")
    };
    match dice.below(if depth == 0 { 2 } else { 5 }) {
        0 => PLAIN[usize::try_from(dice.below(PLAIN.len() as u64)).unwrap()].to_owned(),
        1 => format!("\"{}\"", KINDS[usize::try_from(dice.below(KINDS.len() as u64)).unwrap()]),
        2 => format!("[{}]", listed(dice, &mut |dice| anything(dice, depth - 1))),
        _ => {
            let member = &mut |dice: &mut Dice| {
                let name = NAMES[usize::try_from(dice.below(NAMES.len() as u64)).unwrap()];
                format!("\"{name}\":{}", anything(dice, depth - 1))
            };
            format!("{{{}}}", listed(dice, member))
        }
    }
}

/// All plain values, and some drawn ones.
fn values(dice: &mut Dice) -> Vec<String> {
    PLAIN.into_iter().map(str::to_owned).chain((0..12 * trials()).map(|_| anything(dice, 4))).collect()
}

/// A value as it is, or in a place of one of these shapes, where `@` stands.
fn shaped(dice: &mut Dice, value: &str, shapes: &[&str]) -> String {
    match usize::try_from(dice.below(shapes.len() as u64 + 1)).unwrap().checked_sub(1) {
        Some(shape) => shapes[shape].replace('@', value),
        None => value.to_owned(),
    }
}

/// A client that remembers what must not have been.
struct Probe {
    client: Client,
    faults: Vec<String>,
}

impl Probe {
    async fn send(&mut self, method: Method, path: &str, body: Option<&str>) -> Answer {
        // Both dialects take these headers.
        let answer = self.client.send(method.clone(), path, &ANTHROPIC, body.map(str::to_owned)).await;
        if answer.status.is_server_error() && !is_meant(&answer) {
            self.faults.push(format!(
                "{method} {path} {}\n  {} {}",
                body.unwrap_or_default(),
                answer.status,
                answer.text
            ));
        }
        answer
    }

    async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A list or a page that has to be there, whatever is in it.
    async fn there(&mut self, path: &str) {
        let answer = self.get(path).await;
        if answer.status != StatusCode::OK && !answer.status.is_server_error() {
            self.faults.push(format!("GET {path}\n  {} {}", answer.status, answer.text));
        }
    }

    fn done(self) {
        assert!(self.faults.is_empty(), "{} answers that must not be:\n{}", self.faults.len(), self.faults.join("\n"));
    }
}

/// A refusal that the host means, or that it hands on.
fn is_meant(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::NOT_IMPLEMENTED => answer.code() == "unsupported",
        StatusCode::BAD_GATEWAY => answer.code().starts_with("upstream"),
        _ => false,
    }
}

fn id(answer: &Answer) -> Option<String> {
    /// The rest may have numbers that no value here can hold.
    #[derive(Deserialize)]
    struct Made {
        id: String,
    }
    answer.status.is_success().then(|| serde_json::from_str::<Made>(&answer.text).unwrap().id)
}

/// A host with both bundled runtimes connected, and somebody who may make things on it.
async fn world() -> (World, Probe) {
    let world = World::start(Script::default()).await;
    world.client.connect_to(OTHER_RUNTIME, &Responses::default().serve().await).await;
    let minted = world.client.post("/api/keys", &json!({"owner_id": OWNER})).await.json();
    let client = world.client.with_key(minted["key"].as_str());
    (world, Probe { client, faults: Vec::new() })
}

/// What can be asked about an agent, whatever it is, and a session of it.
async fn used(probe: &mut Probe, dice: &mut Dice, agent: &str) {
    for path in ["/api/agents/ID", "/v1/agents/ID", "/v1/agents/ID/versions", "/console/agents/ID"] {
        probe.there(&path.replace("ID", agent)).await;
    }
    let (path, body) = match dice.below(3) {
        0 => ("/session", json!({"runtime": RUNTIME, "agent_id": agent})),
        1 => ("/session", json!({"runtime": OTHER_RUNTIME, "agent_id": agent})),
        _ => ("/v1/sessions", json!({"agent": agent, "environment_id": DEFAULT_ENVIRONMENT})),
    };
    if let Some(session) = id(&probe.post(path, &body.to_string()).await) {
        seen(probe, &session).await;
    }
}

async fn seen(probe: &mut Probe, session: &str) {
    for path in ["/session/ID", "/v1/sessions/ID"] {
        probe.there(&path.replace("ID", session)).await;
    }
}

/// What everybody sees of everything: its owner, and whoever may see all.
async fn listed(world: &World, mut probe: Probe) {
    let owner = probe.client.clone();
    for client in [owner, world.client.clone()] {
        probe.client = client;
        for path in [
            "/api/agents",
            "/v1/agents?limit=100",
            "/v1/environments?limit=100",
            "/session",
            "/v1/sessions?limit=100",
            "/v1/sessions?memory_store_id=x",
            "/console",
            "/console/agents",
            "/console/agents/new",
            "/console/sessions",
        ] {
            probe.there(path).await;
        }
    }
    probe.done();
}

#[tokio::test]
async fn any_json_in_an_agent_of_the_platforms_dialect_hurts_nobody() {
    let (world, mut probe) = world().await;
    let mut dice = Dice::of(1);
    let changed = probe.client.agent(&json!({"owner_id": OWNER})).await;
    for value in values(&mut dice) {
        let mut made = vec![changed.clone()];
        for field in [
            "config",
            "tools",
            "vault_keys",
            "setup_commands",
            "skill_ids",
            "rule_ids",
            "schedule",
            "cron",
            "timezone",
            "max_runtime_minutes",
            "description",
            "prompt",
            "system",
            "status",
            "on_failure",
            "unknown",
        ] {
            let value = shaped(&mut dice, &value, &["[@]", r#"{"cron":@}"#]);
            let answer = probe.post("/api/agents", &format!(r#"{{"name":"a","{field}":{value}}}"#)).await;
            made.extend(id(&answer));
            probe
                .send(Method::PATCH, &format!("/api/agents/{changed}"), Some(&format!(r#"{{"{field}":{value}}}"#)))
                .await;
        }
        for key in ["skills", "mcp_servers", "model_options", "execution_identity", "model", "tools", "environment", ""]
        {
            let value =
                shaped(&mut dice, &value, &["[@]", r#"{"a":@}"#, r#"[{"name":@,"url":@,"version":@,"type":@}]"#]);
            let config = format!(r#"{{"runtime":"{RUNTIME}","{key}":{value}}}"#);
            made.extend(id(&probe.post("/api/agents", &format!(r#"{{"name":"a","config":{config}}}"#)).await));
        }
        for agent in made {
            used(&mut probe, &mut dice, &agent).await;
        }
    }
    listed(&world, probe).await;
}

#[tokio::test]
async fn any_json_in_an_agent_of_the_vendors_dialect_hurts_nobody() {
    let (world, mut probe) = world().await;
    let mut dice = Dice::of(2);
    let changed = id(&probe.post("/v1/agents", r#"{"name":"a","model":"m"}"#).await).unwrap();
    let shapes = [
        "[@]",
        r#"[{"type":"custom","name":@,"version":@,"url":@}]"#,
        r#"[{"type":"agent_toolset_20260401","configs":@,"default_config":@}]"#,
        r#"[{"type":"agent_toolset_20260401","configs":[@]},{"type":"mcp_toolset","configs":[@],"mcp_server_name":@}]"#,
        r#"{"id":"m","effort":@}"#,
        r#"{"k":@}"#,
    ];
    for value in values(&mut dice) {
        let mut made = vec![changed.clone()];
        for field in [
            "model",
            "tools",
            "mcp_servers",
            "skills",
            "metadata",
            "multiagent",
            "execution_identity",
            "description",
            "system",
            "version",
            "unknown",
        ] {
            for _ in 0..3 {
                let value = shaped(&mut dice, &value, &shapes);
                let model = if field == "model" { "" } else { r#""model":"m","# };
                let answer = probe.post("/v1/agents", &format!(r#"{{"name":"a",{model}"{field}":{value}}}"#)).await;
                made.extend(id(&answer));
                probe.post(&format!("/v1/agents/{changed}"), &format!(r#"{{"{field}":{value}}}"#)).await;
            }
        }
        for agent in made {
            used(&mut probe, &mut dice, &agent).await;
        }
    }
    listed(&world, probe).await;
}

#[tokio::test]
async fn any_json_in_an_environment_or_a_session_hurts_nobody() {
    let (world, mut probe) = world().await;
    let mut dice = Dice::of(3);
    let agent = probe.client.agent(&json!({"owner_id": OWNER})).await;
    let reference = |more: &str| format!(r#"{{"agent":"{agent}","environment_id":"{DEFAULT_ENVIRONMENT}",{more}}}"#);
    let changed = id(&probe.post("/v1/sessions", &reference(r#""title":"t""#)).await).unwrap();
    let overridden = format!(r#"{{"type":"agent_with_overrides","id":"{agent}","tools":@,"skills":[@],"system":"s"}}"#);
    for value in values(&mut dice) {
        let mut sessions = vec![changed.clone()];
        for field in ["config", "metadata", "scope", "description"] {
            let networks = r#"{"type":"cloud","networking":@}"#;
            let value =
                shaped(&mut dice, &value, &[networks, r#"{"type":"cloud","packages":{"pip":@}}"#, r#"{"k":@}"#]);
            let answer = probe.post("/v1/environments", &format!(r#"{{"name":"e","{field}":{value}}}"#)).await;
            let Some(environment) = id(&answer) else { continue };
            let path = format!("/v1/environments/{environment}");
            probe.post(&path, &format!(r#"{{"{field}":{value}}}"#)).await;
            probe.there(&path).await;
            let body = json!({"agent": agent, "environment_id": environment}).to_string();
            sessions.extend(id(&probe.post("/v1/sessions", &body).await));
        }
        for runtime in [RUNTIME, OTHER_RUNTIME] {
            for field in ["environment", "title", "prompt", "runtime", "agent"] {
                let value = shaped(&mut dice, &value, &[r#"{"ref":@}"#, r#"{"resources":@}"#, r#"{"model":@}"#]);
                let named = format!(r#"{{"runtime":"{runtime}","agent_id":"{agent}","{field}":{value}}}"#);
                sessions.extend(id(&probe.post("/session", &named).await));
            }
        }
        let shapes = [
            "[@]",
            r#"[{"type":"user.message","content":[{"type":"text","text":"a","x":@}]}]"#,
            r#"[{"type":"file","file_id":@,"memory_store_id":@,"authorization_token":@}]"#,
            &overridden,
        ];
        for field in
            ["resources", "vault_ids", "initial_events", "budget", "metadata", "title", "agent", "environment_id"]
        {
            let value = shaped(&mut dice, &value, &shapes);
            let mut whole = json!({"agent": agent, "environment_id": DEFAULT_ENVIRONMENT});
            whole.as_object_mut().unwrap().remove(field);
            let whole = whole.to_string();
            let others = whole.trim_end_matches('}');
            sessions.extend(id(&probe.post("/v1/sessions", &format!(r#"{others},"{field}":{value}}}"#)).await));
            probe.post(&format!("/v1/sessions/{changed}"), &format!(r#"{{"{field}":{value}}}"#)).await;
        }
        let tools = shaped(&mut dice, &value, &["[@]", r#"[{"type":"custom","name":@}]"#]);
        let body = format!(r#"{{"agent":{{"tools":{tools},"mcp_servers":{tools}}}}}"#);
        probe.post(&format!("/v1/sessions/{changed}"), &body).await;
        for session in sessions {
            seen(&mut probe, &session).await;
        }
    }
    listed(&world, probe).await;
}

#[tokio::test]
async fn any_json_said_to_a_session_leaves_it_able_to_take_a_prompt() {
    let (world, mut probe) = world().await;
    let mut dice = Dice::of(4);
    let agent = probe.client.agent(&json!({"owner_id": OWNER})).await;
    for runtime in [RUNTIME, OTHER_RUNTIME] {
        let session = probe.client.session_on(runtime, &agent, None).await;
        for value in values(&mut dice) {
            for event in [
                "@",
                r#"{"type":"user.message","content":@}"#,
                r#"{"type":"user.message","content":[@]}"#,
                r#"{"type":"user.custom_tool_result","custom_tool_use_id":"x","content":[@]}"#,
                r#"{"type":"user.tool_confirmation","tool_use_id":@,"result":"allow"}"#,
                r#"{"type":"user.define_outcome","description":"d","rubric":@}"#,
                r#"{"type":"system.message","content":[@]}"#,
                r#"{"type":"user.interrupt","session_thread_id":@}"#,
            ] {
                let body = format!(r#"{{"events":[{}]}}"#, event.replace('@', &value));
                probe.post(&format!("/v1/sessions/{session}/events"), &body).await;
            }
            probe.post(&format!("/v1/sessions/{session}/events"), &format!(r#"{{"events":{value}}}"#)).await;
            let parts = shaped(&mut dice, &value, &["[@]", r#"[{"type":"text","text":@}]"#]);
            let body = format!(r#"{{"parts":{parts},"model":{value}}}"#);
            probe.post(&format!("/session/{session}/prompt_async"), &body).await;
        }
        for path in ["/session/ID/message", "/v1/sessions/ID/events", "/console/sessions/ID"] {
            probe.there(&path.replace("ID", &session)).await;
        }
        seen(&mut probe, &session).await;
        probe.client.turn(&session).await;
        let prompted = probe.client.prompt(&session, "still there?").await;
        assert_eq!(prompted.status, StatusCode::NO_CONTENT, "{}", prompted.text);
        let events = probe.client.turn(&session).await;
        let last: &Value = &events.last().unwrap().json;
        assert_eq!(last["type"], "session.status_idle", "{last}");
    }
    listed(&world, probe).await;
}
