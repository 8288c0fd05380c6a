//! kill -9 in the middle of a turn, again and again; an oracle says what must hold after each.

use std::time::Duration;

use http::Method;
use lap_simulator::{
    Endpoint, Faults, Script, Simulator,
    fault::{Answer, RequestFault},
    script::{Repeat, Step},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::harness::{Event, MASTER_KEY, UPSTREAM_KEY, processed, program::Program, simulator};

const ROUNDS: usize = 8;

fn script() -> Script {
    Script::of([Step::Repeat(Repeat { count: 1500, every_ms: 3, bytes: 200, ..Repeat::default() })])
}

/// What a client has seen of a session, and what follows from that.
#[derive(Default)]
pub struct Oracle {
    pub seen: Vec<Event>,
}

impl Oracle {
    pub fn saw(&mut self, events: Vec<Event>) {
        events.into_iter().try_for_each(|event| self.take(event)).unwrap();
    }

    /// Numbers begin at 1 and have no gap.
    pub fn take(&mut self, event: Event) -> Result<(), String> {
        if event.seq != self.seen.len() as u64 + 1 {
            return Err(format!("event {} came behind {}", event.seq, self.seen.len()));
        }
        self.seen.push(event);
        Ok(())
    }

    pub fn is_in(&self, listed: &[Value]) {
        self.compare(listed).unwrap();
    }

    /// What was seen is in the list, under the same number.
    pub fn compare(&self, listed: &[Value]) -> Result<(), String> {
        if listed.len() < self.seen.len() {
            return Err(format!("{} events were seen, {} are left", self.seen.len(), listed.len()));
        }
        let changed = self.seen.iter().zip(listed).find(|(event, listed)| event.json != **listed);
        changed.map_or(Ok(()), |(event, _)| Err(format!("event {} has changed", event.seq)))
    }
}

/// An upstream, and a directory in which hosts live one after the other.
pub struct Place {
    pub simulator: Simulator,
    directory: TempDir,
}

impl Place {
    pub fn new(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        Self { simulator: simulator(script), directory }
    }

    pub async fn serve(&self) -> Program {
        Program::serve(self.directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await
    }

    pub async fn session(&self, program: &Program, prompt: &str) -> String {
        program.client.connect(&self.simulator.base_url()).await;
        let agent = program.client.agent(&serde_json::json!({})).await;
        program.client.session(&agent, Some(prompt)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_saw_survives_kill_9_and_the_turn_goes_on() {
    let place = Place::new(script());
    let mut program = place.serve().await;
    let id = place.session(&program, "go").await;
    let mut oracle = Oracle::default();
    for round in 0..ROUNDS {
        let after = format!("after={}", oracle.seen.len());
        let mut stream = program.client.stream(&id, &after, &[]).await;
        // A different place in the turn each time.
        oracle.saw(stream.take(1 + (round * 7919) % 23).await);
        program.kill().await;
        program = place.serve().await;
        oracle.is_in(&program.client.list(&id).await);
    }
    assert_eq!(program.client.status(&id).await, "running", "the rounds were over before the turn was");
    let rest = format!("until=idle&after={}", oracle.seen.len());
    oracle.saw(program.client.stream(&id, &rest, &[]).await.rest().await);
    oracle.is_in(&program.client.list(&id).await);
    assert_eq!(oracle.seen.last().unwrap().name, "session.status_idle");
    let seen = processed(oracle.seen.into_iter().map(|event| event.json));
    let truth = place.simulator.events(&place.simulator.sessions()[0]);
    assert_eq!(seen, processed(truth));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_prompt_survives_kill_9() {
    let place = Place::new(Script::of([Step::message("You said {prompt}")]));
    let mut program = place.serve().await;
    let id = place.session(&program, "first").await;
    program.kill().await;
    program = place.serve().await;
    program.client.turn(&id).await;
    assert_eq!(program.client.prompt(&id, "second").await.status, 204);
    program.kill().await;
    program = place.serve().await;
    let said: Vec<String> = program
        .client
        .turn(&id)
        .await
        .into_iter()
        .filter(|event| event.name == "agent.message")
        .map(|event| event.json["content"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, ["You said first", "You said second"]);
    assert!(!program.output().contains(UPSTREAM_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_again_for_the_answer_that_a_kill_9_swallowed() {
    let steps = [Step::ask("bash", json!({"command": "rm"}), "removed"), Step::message("Done.")];
    // The prompt passes; the answer is on its way for as long as anybody waits.
    let silent = RequestFault {
        endpoint: Some(Endpoint::EventsSend),
        skip: 1,
        times: 1,
        answer: Answer::Silence,
        ..RequestFault::default()
    };
    let place = Place::new(Script::of(steps).with_faults(Faults { requests: vec![silent], ..Faults::default() }));
    let mut program = place.serve().await;
    let id = place.session(&program, "clean up").await;
    let waiting = program.client.turn(&id).await;
    let tool = waiting.iter().find(|event| event.name == "agent.tool_use").unwrap().json["id"].clone();
    let (path, verdict) = (
        format!("/v1/sessions/{id}/events"),
        |tool: &Value| json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": tool, "result": "allow"}]}),
    );
    let lost = {
        let (client, path, body) = (program.client.clone(), path.clone(), verdict(&tool).to_string());
        tokio::spawn(async move { client.try_send(Method::POST, &path, &[], Some(body)).await.is_err() })
    };
    while place.simulator.recorder().count(Endpoint::EventsSend) < 2 {
        tokio::task::yield_now().await;
    }
    program.kill().await;
    assert!(lost.await.unwrap(), "nobody was told that the answer arrived");
    program = place.serve().await;
    let settles = timeout(Duration::from_secs(60), program.client.turn(&id)).await;
    assert_eq!(settles.expect("a turn that runs no more is shown as one that runs"), waiting);
    assert_eq!(program.client.status(&id).await, "requires_action");
    program.client.post(&path, &verdict(&tool)).await.ok();
    let all = program.client.turn(&id).await;
    assert_eq!(all.last().unwrap().json["stop_reason"]["type"], "end_turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_with_a_word_and_the_turn_goes_on_later() {
    let place = Place::new(script());
    let program = place.serve().await;
    let id = place.session(&program, "go").await;
    let mut stream = program.client.stream(&id, "", &[]).await;
    let mut seen = stream.take(5).await;
    let (ended, rest) = tokio::join!(program.terminate(), stream.rest());
    assert_eq!(ended.0.code(), Some(0), "{}", ended.1);
    assert!(
        stream.raw.ends_with(b"\n\n")
            && String::from_utf8_lossy(&stream.raw).rsplit("\n\n").nth(1).unwrap().starts_with("retry: ")
    );
    seen.extend(rest);
    let program = place.serve().await;
    let events = program.client.turn(&id).await;
    assert_eq!(events[..seen.len()], seen);
    assert_eq!(events.last().unwrap().name, "session.status_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_being_ended_at_a_kill_9_is_ended_after_it() {
    let silent = RequestFault {
        endpoint: Some(Endpoint::SessionsDelete),
        times: 1,
        answer: Answer::Silence,
        ..RequestFault::default()
    };
    let place = Place::new(script().with_faults(Faults { requests: vec![silent], ..Faults::default() }));
    let mut program = place.serve().await;
    let id = place.session(&program, "go").await;
    let mut stream = program.client.stream(&id, "", &[]).await;
    let mut oracle = Oracle::default();
    oracle.saw(stream.take(5).await);
    let lost = {
        let (client, path) = (program.client.clone(), format!("/session/{id}/kill"));
        tokio::spawn(async move { client.try_send(Method::POST, &path, &[], None).await.is_err() })
    };
    while place.simulator.recorder().count(Endpoint::SessionsDelete) == 0 {
        tokio::task::yield_now().await;
    }
    program.kill().await;
    assert!(lost.await.unwrap(), "nobody was told that it has ended");
    assert_eq!(place.simulator.sessions().len(), 1);
    program = place.serve().await;
    let settles = timeout(Duration::from_secs(60), program.client.turn(&id)).await;
    let events = settles.expect("a session that is being ended has no end");
    let last = &events.last().unwrap().json;
    assert_eq!((&last["type"], &last["upstream"]["verified"]), (&json!("session.status_terminated"), &json!(true)));
    assert_eq!((program.client.status(&id).await, place.simulator.sessions().len()), ("terminated".to_owned(), 0));
    oracle.is_in(&program.client.list(&id).await);
}
