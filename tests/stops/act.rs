//! One try, carried out: a session is set up, prompted, and an operation follows; then everything is collected that tells
//! what became of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    follower::Follower,
    oracle::{ANSWER_MAX, Evidence, Prompt, Wrong, natural_end},
    place::{BAD_KEY, Place},
    plan::{Dialect, Operation, Standing, Stops, Try},
};
use crate::harness::{ANTHROPIC, Answer, Client, RUNTIME, UPSTREAM_KEY};

/// In which time a session is at rest that nothing keeps from it.
const REST_MAX: Duration = Duration::from_secs(20);
/// In which time a follower has what the log has.
const BEHIND_MAX: Duration = Duration::from_secs(3);
/// How long the answer of the vendor's own route may wait for the upstream, as docs/wire.md has it.
const SHOWN_MAX: Duration = Duration::from_secs(2);
/// How long after its answer a command has had its effect upstream, and a turn that still runs runs on.
const EFFECT_AFTER: Duration = Duration::from_millis(500);
/// After which a client sends again what it was told to send again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// After which a wrong credential is replaced.
const MENDED_AFTER: Duration = Duration::from_millis(300);
const ENVIRONMENT: &str = "env_00000000000000000000000000000000";

/// What came of a try.
#[derive(Debug, Default)]
pub struct Outcome {
    pub wrong: Vec<Wrong>,
    /// How long the command took, where it was one of those that stop something.
    pub took: Option<Duration>,
    /// For people: what was seen, in short.
    story: String,
}

/// A session in the middle of its try.
pub struct Act<'a> {
    place: &'a Place,
    tried: Try,
    runtime: String,
    agent: String,
    session: Option<Session>,
    /// The call that waits for leave.
    tool: Option<String>,
    prompts: Vec<Prompt>,
    upstream_then: Vec<Value>,
    took: Option<Duration>,
    claimed: Vec<Value>,
    refused: Option<String>,
    /// What the operation stops, now that it was answered.
    stops: Stops,
    archived: bool,
}

struct Session {
    id: String,
    upstream_id: String,
    follower: Follower,
}

fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

fn interrupt() -> Value {
    json!({"type": "user.interrupt"})
}

impl<'a> Act<'a> {
    /// Plays a try whose operation concerns this session alone.
    pub async fn played(place: &'a Place, tried: Try) -> Outcome {
        let mut act = Self::set(place, tried).await;
        act.prompt().await;
        act.operate().await;
        act.outcome().await
    }

    /// A session that stands as the try wants it.
    pub async fn set(place: &'a Place, tried: Try) -> Self {
        let (runtime, agent) = ground(place, tried.operation).await;
        let mut act = Self {
            place,
            tried,
            runtime,
            agent,
            session: None,
            tool: None,
            prompts: Vec::new(),
            upstream_then: Vec::new(),
            took: None,
            claimed: Vec::new(),
            refused: None,
            stops: tried.operation.stops(),
            archived: false,
        };
        match tried.standing {
            Standing::Fresh if tried.dialect == Dialect::Platform => {}
            Standing::Fresh => act.begin(None).await,
            Standing::Idle => {
                act.begin(Some("/quick warm up")).await;
                act.at_rest().await.unwrap();
            }
            Standing::Running => {
                act.begin(Some("run")).await;
                let works = |event: &Value| event["type"] == "agent.message";
                act.session_mut().follower.saw(|seen| seen.events.iter().any(|(_, event)| works(event))).await;
            }
            Standing::Waiting => {
                act.begin(Some("/ask for leave")).await;
                act.at_rest().await.unwrap();
                act.session_mut().follower.saw(|seen| asked(&seen.events).is_some()).await;
                act.tool = asked(&act.session_mut().follower.seen().events);
            }
        }
        act
    }

    pub fn tried(&self) -> Try {
        self.tried
    }

    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.tried.delay_ms)
    }

    fn client(&self) -> Client {
        self.place.client()
    }

    fn session_mut(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    fn id(&self) -> &str {
        &self.session.as_ref().unwrap().id
    }

    /// Makes the session, with its first prompt if it has one.
    async fn begin(&mut self, prompt: Option<&str>) {
        let client = self.client();
        let stops = self.tried.operation.stops() != Stops::Nothing;
        let answer = match self.tried.dialect {
            Dialect::Platform => {
                let body = json!({"runtime": self.runtime, "agent_id": self.agent, "prompt": prompt});
                client.try_send(Method::POST, "/session", &[], Some(body.to_string())).await
            }
            Dialect::Vendor => {
                let body = json!({"agent": self.agent, "environment_id": ENVIRONMENT});
                client.try_send(Method::POST, "/v1/sessions", &ANTHROPIC, Some(body.to_string())).await
            }
        };
        // A host that ends just now may not answer; then there is nothing to judge.
        let Ok(answer) = answer else { return };
        if answer.status != 200 {
            self.refused = Some(format!("new session: {} {}", answer.status, answer.text));
            return;
        }
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let shown = client.try_send(Method::GET, &format!("/session/{id}"), &[], None).await;
        let Ok(shown) = shown else { return };
        let upstream_id = shown.json()["provider_session_id"].as_str().unwrap().to_owned();
        let follower = Follower::attached(self.place.hosts(), &id, self.tried.dialect, 0).await;
        self.session = Some(Session { id, upstream_id, follower });
        if let Some(text) = prompt {
            match self.tried.dialect {
                Dialect::Platform => self.note_prompt(text, true, 0, stops),
                Dialect::Vendor => self.send_prompt(text, stops).await,
            }
        }
    }

    fn note_prompt(&mut self, text: &str, acknowledged: bool, after: u64, stopped: bool) {
        self.prompts.push(Prompt { text: text.to_owned(), acknowledged, after, stopped });
    }

    /// The prompt behind which the operation comes.
    pub async fn prompt(&mut self) {
        if self.tried.standing == Standing::Fresh && self.tried.dialect == Dialect::Platform {
            self.begin(Some("go")).await;
        } else {
            self.send_prompt("go", self.tried.operation.stops() != Stops::Nothing).await;
        }
    }

    async fn send_prompt(&mut self, text: &str, stopped: bool) {
        let Some(session) = &self.session else { return };
        let after = session.follower.seen().events.last().map_or(0, |(number, _)| *number);
        let answer = match self.tried.dialect {
            Dialect::Platform => self.client().try_prompt(&session.id, text).await,
            Dialect::Vendor => self.events(json!([message(text)])).await,
        };
        let acknowledged = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        if let Ok(answer) = &answer
            && !acknowledged
        {
            self.refused = Some(format!("prompt {text:?}: {} {}", answer.status, answer.text));
        }
        if let Ok(answer) = answer
            && self.tried.dialect == Dialect::Vendor
        {
            self.claim(&answer);
        }
        self.note_prompt(text, acknowledged, after, stopped);
    }

    async fn events(&self, events: Value) -> reqwest::Result<Answer> {
        let headers: &[(&str, &str)] = if self.tried.dialect == Dialect::Vendor { &ANTHROPIC } else { &[] };
        let (path, body) = (format!("/v1/sessions/{}/events", self.id()), json!({"events": events}));
        self.client().try_send(Method::POST, &path, headers, Some(body.to_string())).await
    }

    /// What an answer shows as processed must have reached the upstream.
    fn claim(&mut self, answer: &Answer) {
        let shown: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        self.claimed.extend(shown["data"].as_array().into_iter().flatten().cloned());
    }

    /// The operation, so long behind the prompt's answer.
    async fn operate(&mut self) {
        let due = Instant::now() + self.delay();
        sleep_until(due).await;
        let Some(session) = &self.session else { return };
        let upstream_id = session.upstream_id.clone();
        let (id, client, start) = (session.id.clone(), self.client(), Instant::now());
        let post = async |path: String| client.post(&path, &json!({})).await;
        let credentials = format!("/api/agent-runtimes/{}/credentials", self.runtime);
        let base = self.place.simulator.base_url();
        let put = async |key: &str| client.put(&credentials, &json!({"api_key": key, "api_base": base})).await;
        let (answer, expected): (Answer, &[u16]) = match self.tried.operation {
            Operation::Interrupt | Operation::InterruptThenPrompt if self.tried.dialect == Dialect::Platform => {
                (post(format!("/session/{id}/interrupt")).await, &[204])
            }
            Operation::Interrupt | Operation::InterruptThenPrompt => {
                (self.events(json!([interrupt()])).await.unwrap(), &[200])
            }
            Operation::Abort => (post(format!("/session/{id}/abort")).await, &[204]),
            Operation::MessageAndInterrupt | Operation::InterruptAndMessage => {
                let first = self.tried.operation == Operation::MessageAndInterrupt;
                let events = if first { [message("both"), interrupt()] } else { [interrupt(), message("both")] };
                let after = session.follower.seen().events.last().map_or(0, |(number, _)| *number);
                let answer = self.events(json!(events)).await.unwrap();
                self.note_prompt("both", answer.status == 200, after, first);
                (answer, &[200])
            }
            Operation::Kill => (post(format!("/session/{id}/kill")).await, &[200]),
            Operation::Delete if self.tried.dialect == Dialect::Platform => {
                (client.delete(&format!("/session/{id}")).await, &[200])
            }
            Operation::Delete => {
                // The vendor's rule is that one has to interrupt first.
                (client.send(Method::DELETE, &format!("/v1/sessions/{id}"), &ANTHROPIC, None).await, &[200, 400])
            }
            Operation::Archive => {
                let path = format!("/v1/sessions/{id}/archive");
                (client.send(Method::POST, &path, &ANTHROPIC, Some("{}".to_owned())).await, &[200, 400])
            }
            Operation::PauseAgent => (post(format!("/api/agents/{}/pause", self.agent)).await, &[200]),
            Operation::ChangeAgent => {
                let path = format!("/api/agents/{}", self.agent);
                (client.patch(&path, &json!({"system": "You are another one."})).await, &[200])
            }
            Operation::PutCredential => (put("sk-ant-another-that-is-as-good").await, &[200]),
            Operation::PutBadCredential => (put(BAD_KEY).await, &[200]),
            Operation::DeleteCredential => (client.delete(&credentials).await, &[200]),
            Operation::RemoveAlias => {
                (client.delete(&format!("/api/runtime-harnesses/{}", self.runtime)).await, &[409])
            }
            Operation::Restart | Operation::RestartAndSweep | Operation::Kill9 => unreachable!("these are of hosts"),
        };
        let answered = Instant::now();
        self.took = Some(answered - start);
        self.judge_answer(&answer, expected);
        match self.tried.operation {
            Operation::PutBadCredential | Operation::DeleteCredential => {
                sleep(MENDED_AFTER).await;
                put(UPSTREAM_KEY).await.ok();
            }
            Operation::InterruptThenPrompt => self.send_prompt("after it", false).await,
            _ => {}
        }
        if self.stops != Stops::Nothing {
            sleep_until(answered + EFFECT_AFTER).await;
            self.upstream_then = self.place.simulator.events(&upstream_id);
        }
    }

    fn judge_answer(&mut self, answer: &Answer, expected: &[u16]) {
        let operation = self.tried.operation;
        if !expected.contains(&answer.status.as_u16()) {
            self.refused = Some(format!("{}: {} {}", operation.name(), answer.status, answer.text));
        }
        self.archived = operation == Operation::Archive && answer.status == 200;
        if self.archived {
            self.prompts.iter_mut().for_each(|prompt| prompt.stopped = true);
        }
        if operation == Operation::Delete && answer.status == 400 {
            self.stops = Stops::Nothing;
            self.prompts.iter_mut().for_each(|prompt| prompt.stopped = false);
        }
        if answer.text.contains(r#""data""#) {
            self.claim(answer);
        }
    }

    /// Waits until nothing more will happen before a client does something.
    async fn at_rest(&self) -> Result<(), &'static str> {
        let path = format!("/v1/sessions/{}/events/stream?until=idle", self.id());
        let client = self.client();
        let reading = async {
            let mut response = client.request(Method::GET, &path, &[], None).send().await.map_err(|_| "no host")?;
            while response.chunk().await.map_err(|_| "the stream broke off")?.is_some() {}
            Ok(())
        };
        timeout(REST_MAX, reading).await.unwrap_or(Err("it is not at rest"))
    }

    /// Lets the turn go on that waits for leave.
    async fn allow(&mut self) {
        let Some(tool) = &self.tool else { return };
        let event = json!({"type": "user.tool_confirmation", "tool_use_id": tool, "result": "allow"});
        let mut answer = self.events(json!([event])).await.unwrap();
        // One that is busy being swept, or that was refused its feed a moment ago, takes nothing for a moment, and says
        // that it may be sent again; official clients do so by themselves.
        let start = Instant::now();
        while matches!(answer.status.as_u16(), 429 | 502) && start.elapsed() < ANSWER_MAX {
            sleep(AGAIN_AFTER).await;
            answer = self.events(json!([event])).await.unwrap();
        }
        // What waits for its client has nothing to do, and a sweep may take it.
        let swept = self.tried.operation == Operation::RestartAndSweep && matches!(answer.status.as_u16(), 404 | 409);
        if answer.status != 200 && !swept {
            self.refused = Some(format!("confirmation: {} {}", answer.status, answer.text));
        }
    }

    /// Collects what became of it, and judges.
    pub async fn outcome(mut self) -> Outcome {
        if self.session.is_none() {
            let wrong = if self.refused.is_some() { vec![Wrong::Refused] } else { Vec::new() };
            return Outcome { wrong, story: format!("{:?}", self.refused), ..Outcome::default() };
        }
        if self.stops == Stops::Nothing && !self.archived {
            self.allow().await;
        }
        let upstream_id = self.session_mut().upstream_id.clone();
        let simulator = Arc::clone(&self.place.simulator);
        let mut rested = self.at_rest().await.is_ok();
        rested &= timeout(REST_MAX, simulator.quiet(&upstream_id)).await.is_ok();
        // What the upstream did meanwhile may have begun another turn.
        rested &= self.at_rest().await.is_ok();
        let evidence = self.evidence(rested).await;
        let took = self.took.filter(|_| self.tried.operation.stops() != Stops::Nothing);
        let mut wrong = evidence.wrong();
        wrong.sort();
        let story = story(&evidence);
        self.leave().await;
        Outcome { wrong, took, story }
    }

    async fn evidence(&mut self, rested: bool) -> Evidence {
        let (client, id) = (self.client(), self.id().to_owned());
        // A session may go while it is looked at; then all of it is gone.
        let shown = async |path: String| Some(client.get(&path).await).filter(|answer| answer.status == 200);
        let (log, messages) = (
            shown(format!("/v1/sessions/{id}/events?limit=1000")).await,
            shown(format!("/session/{id}/message")).await,
        );
        let log = log.map(|page| page.json()["data"].as_array().unwrap().clone());
        let messages = messages.iter().flat_map(|told| told.json().as_array().unwrap().clone());
        let messages = messages.map(|message| {
            let text = message["parts"][0]["text"].as_str().unwrap_or_default().to_owned();
            (text, message["info"]["status"].as_str().map(str::to_owned))
        });
        let messages = messages.collect();
        let status = shown(format!("/session/{id}")).await;
        let status = status.map(|session| session.json()["status"].as_str().unwrap().to_owned());
        let upstream_id = self.session_mut().upstream_id.clone();
        let upstream = self.place.simulator.events(&upstream_id);
        let upstream_has_it = self.place.simulator.sessions().contains(&upstream_id);
        let last = log.as_ref().map(|log| log.len() as u64);
        let caught_up = self.session_mut().follower.saw(|seen| {
            seen.gone || last.is_some_and(|last| seen.events.last().map_or(0, |(number, _)| *number) >= last)
        });
        // One that does not get there has seen less than the log has, and is judged by that.
        timeout(BEHIND_MAX, caught_up).await.unwrap_or_default();
        let seen = self.session_mut().follower.seen();
        let swept = self.tried.operation == Operation::RestartAndSweep;
        let over = self.archived || swept || status.as_deref().is_none_or(|status| status == "terminated");
        let goes_on = if over || !rested { None } else { Some(self.goes_on().await) };
        Evidence {
            stops: self.stops,
            prompts: std::mem::take(&mut self.prompts),
            seen,
            log,
            messages,
            status,
            rested,
            upstream,
            upstream_then: std::mem::take(&mut self.upstream_then),
            upstream_has_it,
            took: self.took_too_long_at(),
            claimed: std::mem::take(&mut self.claimed),
            refused: self.refused.take(),
            goes_on,
        }
    }

    /// How long the command took of the time in which it must be answered.
    fn took_too_long_at(&self) -> Option<Duration> {
        let timely = matches!(self.tried.operation.stops(), Stops::Turn | Stops::Session);
        let shows = self.tried.dialect == Dialect::Vendor
            || matches!(self.tried.operation, Operation::MessageAndInterrupt | Operation::InterruptAndMessage);
        let took = self.took.filter(|_| timely)?;
        Some(if shows && took > ANSWER_MAX { took.saturating_sub(SHOWN_MAX) } else { took })
    }

    /// True when one more prompt is answered.
    async fn goes_on(&mut self) -> bool {
        const MORE: &str = "/quick one more";
        let client = self.client();
        if self.tried.operation == Operation::PauseAgent {
            client.post(&format!("/api/agents/{}/resume", self.agent), &json!({})).await.ok();
        }
        if client.prompt(self.id(), MORE).await.status != 204 || self.at_rest().await.is_err() {
            return false;
        }
        let log = client.list(self.id()).await;
        let end = natural_end(MORE);
        log.iter().any(|event| event["content"][0]["text"] == end)
            && log.last().is_some_and(|last| last["type"] == "session.status_idle")
    }

    /// Leaves nothing behind that others would have to look through.
    async fn leave(&mut self) {
        let client = self.client();
        // It may be gone already.
        drop(client.delete(&format!("/session/{}", self.id())).await);
    }
}

/// The runtime and the agent of a try: its own ones where the operation would meet others, too.
async fn ground(place: &Place, operation: Operation) -> (String, String) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let client = place.client();
    if operation.is_of_runtime() {
        let alias = format!("alias-{}", MADE.fetch_add(1, Relaxed));
        let base = place.simulator.base_url();
        let wish = json!({"alias": alias, "api_spec": RUNTIME, "api_base": base, "api_key": UPSTREAM_KEY});
        client.post("/api/runtime-harnesses", &wish).await.ok();
        let agent = client.agent(&json!({"runtime": alias})).await;
        return (alias, agent);
    }
    let agent = match operation {
        Operation::PauseAgent | Operation::ChangeAgent => client.agent(&json!({})).await,
        _ => place.agent.clone(),
    };
    (RUNTIME.to_owned(), agent)
}

/// The call that waits for leave.
fn asked(events: &[(u64, Value)]) -> Option<String> {
    let asks = events.iter().find(|(_, event)| event["evaluated_permission"] == "ask");
    asks.map(|(_, event)| event["id"].as_str().unwrap().to_owned())
}

/// Events in short: the prompts with their texts and whether they are processed, runs of what the agent says as one.
fn short(events: &[Value]) -> String {
    let mut words: Vec<String> = Vec::new();
    for event in events {
        let kind = event["type"].as_str().unwrap_or_default();
        let mark = if event["processed_at"].is_null() { "?" } else { "" };
        let text = event["content"][0]["text"].as_str().unwrap_or_default();
        let word = match kind {
            "user.message" => {
                format!("{kind}{mark}({text}){}", event["withdrawn"]["reason"].as_str().unwrap_or_default())
            }
            "agent.message" if text.starts_with("the end of") => format!("({text})"),
            "session.error" => format!("{kind}({})", event["error"]["message"].as_str().unwrap_or_default()),
            _ if kind.starts_with("span.") => continue,
            _ => format!("{kind}{mark}"),
        };
        if words.last() != Some(&word) {
            words.push(word);
        }
    }
    words.join(" ")
}

fn story(evidence: &Evidence) -> String {
    let Evidence { status, refused, messages, took, .. } = evidence;
    let log = evidence.log.as_ref().map(|log| short(log));
    format!(
        "{status:?}, took {took:?}, refused {refused:?}\n    log      {}\n    upstream {}\n    messages {messages:?}",
        log.unwrap_or_else(|| "is gone".to_owned()),
        short(&evidence.upstream),
    )
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}; {}", self.wrong, self.story)
    }
}
