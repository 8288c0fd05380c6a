//! No session hangs: against each upstream that once kept a session from its end, the turn ends truthfully, whoever follows
//! it sees the end, and the next prompt works.
//!
//! What the host ends itself it ends by a `session.error`, which tells what the vendor said, and a `session.status_idle` whose
//! `stop_reason` is `retries_exhausted`. What may heal is `rescheduling` meanwhile. Ends that come after minutes by the host's
//! own constants (a quarter of an hour without an upstream, a silent turn) are not waited for here: the simulation of the
//! session core plays these.

mod events;
mod feeds;
mod guests;
mod prompts;
mod sessions;

use std::{sync::Arc, time::Duration};

use lap_simulator::{
    Faults, Options, Script, Simulator,
    fault::{Answer, ErrorAnswer, RequestFault},
    script::{Repeat, Step, Turn},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::{Client, RUNTIME, World, anywhere};

/// In which time everything here ends; a session that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(100);
/// In which time a command is answered, whatever the upstream does.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// What the vendor says to what it refuses.
const SENTENCE: &str = "prompt is too long: 210000 tokens > 200000 maximum";

/// A host, and an upstream that takes any key which is not revoked.
struct Trial {
    world: World,
    simulator: Arc<Simulator>,
    agent: String,
}

impl Trial {
    async fn start(script: Script) -> Self {
        let world = World::empty(Script::default()).await;
        let simulator = Arc::new(Simulator::start(anywhere(), script, Options::default()).unwrap());
        world.client.connect(&simulator.base_url()).await;
        let agent = world.agent().await;
        Self { world, simulator, agent }
    }

    fn client(&self) -> &Client {
        &self.world.client
    }

    async fn session(&self, prompt: &str) -> String {
        self.client().session(&self.agent, Some(prompt)).await
    }

    /// A session that has answered a prompt.
    async fn warm(&self) -> String {
        let id = self.session("/quick first").await;
        self.rests(&id).await;
        id
    }

    fn fails(&self, fault: RequestFault) {
        self.simulator.set_faults(Faults { requests: vec![fault], ..Faults::default() });
    }

    fn heals(&self) {
        self.simulator.set_faults(Faults::default());
    }

    /// The log, once nothing more will happen before a client does something.
    async fn rests(&self, id: &str) -> Vec<Value> {
        let turn = timeout(PATIENCE, self.client().turn(id)).await;
        let Ok(turn) = turn else {
            let (status, log) = (self.client().status(id).await, self.client().list(id).await);
            panic!("it hangs, as {status:?}: {:?}", kinds(&log));
        };
        turn.into_iter().map(|event| event.json).collect()
    }

    /// Waits until the session has this status.
    async fn stands(&self, id: &str, status: &str) {
        let reached = timeout(PATIENCE, async { while self.client().status(id).await != status {} }).await;
        assert!(reached.is_ok(), "it is {:?} and not {status:?}", self.client().status(id).await);
    }

    /// The host has ended the turn itself, with these words, and everybody can see it.
    async fn ended_with(&self, id: &str, words: &str) -> Vec<Value> {
        let log = self.rests(id).await;
        assert_eq!(told_end(&log, words), Ok(()), "{:?}", kinds(&log));
        assert_eq!(self.client().status(id).await, "error");
        log
    }

    /// The turn came to its own end, and nothing in it is a failure.
    async fn ended_well(&self, id: &str) -> Vec<Value> {
        let log = self.rests(id).await;
        assert!(!kinds(&log).contains(&"session.error"), "{log:?}");
        assert_eq!(log.last().unwrap()["stop_reason"]["type"], "end_turn", "{:?}", kinds(&log));
        assert_eq!(self.client().status(id).await, "idle");
        log
    }

    /// One more prompt is answered.
    async fn goes_on(&self, id: &str) {
        assert_eq!(self.client().prompt(id, "/quick one more").await.status, 204);
        let log = self.rests(id).await;
        let said: Vec<_> = log.iter().map(|event| &event["content"][0]["text"]).collect();
        assert!(said.contains(&&json!("done: /quick one more")), "{log:?}");
        assert_eq!(log.last().unwrap()["type"], "session.status_idle");
    }

    /// An interrupt, which is answered at once.
    async fn interrupt(&self, id: &str) {
        let start = Instant::now();
        let answer = self.client().post(&format!("/session/{id}/interrupt"), &json!({})).await;
        let took = start.elapsed();
        assert_eq!((answer.status.as_u16(), took < ANSWER_MAX), (204, true), "{took:?} {}", answer.text);
    }

    async fn put_key(&self, key: &str) {
        let body = json!({"api_key": key, "api_base": self.simulator.base_url()});
        self.client().put(&format!("/api/agent-runtimes/{RUNTIME}/credentials"), &body).await.ok();
    }

    /// What the upstream was asked.
    async fn asked(&self, id: &str, prompt: &str) -> usize {
        let session = self.client().get(&format!("/session/{id}")).await.ok();
        let truth = self.simulator.events(session["provider_session_id"].as_str().unwrap());
        truth.iter().filter(|event| event["type"] == "user.message" && event["content"][0]["text"] == prompt).count()
    }
}

/// A turn of two seconds; `/quick`, which is over at once; and `/longer`, which takes twelve seconds.
fn script() -> Script {
    let repeat = |count| Step::Repeat(Repeat { count, every_ms: 100, bytes: 150, ..Repeat::default() });
    let done = || Step::message("done: {prompt}");
    let turns = [("quick", Turn::of([done()])), ("longer", Turn::of([repeat(120), done()]))];
    let turns = turns.map(|(name, turn)| (name.to_owned(), turn)).into();
    Script { turns, ..Script::of([repeat(20), done()]) }
}

fn kinds(log: &[Value]) -> Vec<&str> {
    log.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect()
}

/// A log that the host itself has ended has an error with these words, which is the end of the turn, and an idle as its last
/// event. Between the two stand at most the prompts that are withdrawn with it.
fn told_end(log: &[Value], words: &str) -> Result<(), String> {
    let reads = |event: &Value, place: &str, text: &str| event.pointer(place).is_some_and(|found| found == text);
    let Some((idle, before)) = log.split_last() else { return Err("there is nothing".to_owned()) };
    let is_withdrawn = |event: &&Value| reads(event, "/type", "user.message") && event["withdrawn"].is_object();
    let Some(error) = before.iter().rev().find(|event| !is_withdrawn(event)) else {
        return Err("there is nothing before the end".to_owned());
    };
    let message = error["error"]["message"].as_str().unwrap_or_default();
    match () {
        () if !reads(idle, "/type", "session.status_idle") => Err(format!("it ends with {idle}")),
        () if !reads(idle, "/stop_reason/type", "retries_exhausted") => Err(format!("it stops because of {idle}")),
        () if !reads(error, "/type", "session.error") => Err(format!("before its end is {error}")),
        () if !reads(error, "/error/retry_status/type", "exhausted") => Err(format!("it may go on: {error}")),
        () if !message.contains(words) => Err(format!("{message:?} does not say {words:?}")),
        () => Ok(()),
    }
}

/// A refusal in the vendor's own form.
fn refusal(status: u16, kind: &str) -> ErrorAnswer {
    ErrorAnswer { status, kind: kind.to_owned(), message: SENTENCE.to_owned(), ..ErrorAnswer::default() }
}

fn with_retry_after(seconds: u32, answer: ErrorAnswer) -> Answer {
    let headers = std::iter::once(("retry-after".to_owned(), seconds.to_string())).collect();
    Answer::Error(ErrorAnswer { headers, ..answer })
}

/// Answers with 200 that say nothing: of a captive portal, of a proxy that gave up, of one that broke off.
fn nonsense() -> [ErrorAnswer; 3] {
    let raw = |content_type: &str, body: &str| ErrorAnswer::raw(200, content_type, body);
    let page = "<!doctype html><title>Sign in</title><h1>Please sign in</h1>";
    [raw("text/html", page), raw("application/json", ""), raw("application/json", r#"{"data":[{"id":"sevt_"#)]
}

#[test]
fn an_end_that_does_not_say_why_or_is_not_the_last_is_noticed() {
    let exhausted = json!({"type": "exhausted"});
    let error = |text: &str| json!({"type": "session.error", "error": {"message": text, "retry_status": exhausted}});
    let idle = |why: &str| json!({"type": "session.status_idle", "stop_reason": {"type": why}});
    let good = [error("the vendor says no"), idle("retries_exhausted")];
    let withdrawn = json!({"type": "user.message", "processed_at": null, "withdrawn": {"reason": "the turn failed"}});
    let between = [good[0].clone(), withdrawn.clone(), good[1].clone()];
    let before = [withdrawn, good[0].clone(), good[1].clone()];
    for good in [&good[..], &between, &before] {
        assert_eq!(told_end(good, "says no"), Ok(()));
    }
    for bad in [
        vec![],
        vec![good[0].clone()],
        vec![idle("retries_exhausted"), error("the vendor says no")],
        vec![error("status 400"), idle("retries_exhausted")],
        vec![good[0].clone(), idle("end_turn")],
        vec![json!({"type": "session.error", "error": {"message": "says no"}}), idle("retries_exhausted")],
    ] {
        assert!(told_end(&bad, "says no").is_err(), "{bad:?}");
    }
}
