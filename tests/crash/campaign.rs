//! Hundreds of kill -9 of the real program, at any instant, with several sessions that run turns and get prompts. An
//! oracle follows every stream over all of it.
//!
//! After each kill: numbers have no gap, what was seen is in the list under its number, and a stream goes on right
//! behind the last event that was seen. At the end of a world: the log is what the upstream said, each acknowledged
//! prompt has arrived once, one whose answer was lost at most once, and the last event is the end of a turn.
//!
//! `LAP_TRIALS=<factor>` multiplies the kills.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use lap_simulator::{
    Script,
    script::{Repeat, Step},
};
use serde_json::Value;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::kill::{Oracle, Place};
use crate::harness::{
    dice::{Dice, trials},
    processed,
    program::Program,
};

/// Kills in a normal run.
const KILLS: u64 = 300;
/// Kills of one world: its logs stay short enough to be read again and again.
const KILLS_OF_A_WORLD: u64 = 25;
/// Worlds at the same time.
const WORLDS: usize = 4;
const SESSIONS: usize = 3;
/// About as long as a turn takes.
const LIFE_MS: u64 = 250;

struct Session {
    id: String,
    oracle: Oracle,
    /// The texts of its prompts, and whether they were acknowledged.
    prompts: HashMap<String, bool>,
}

/// A prompt that may be cut off.
type Asked = (usize, String, JoinHandle<bool>);

#[derive(Default)]
struct World {
    sessions: Vec<Session>,
    asked: u64,
}

impl World {
    async fn kills(place: &Place, dice: &mut Dice) -> Self {
        let mut world = Self::default();
        let mut program = place.serve().await;
        for number in 0..SESSIONS {
            let text = format!("first of {number}");
            let id = place.session(&program, &text).await;
            let prompts = HashMap::from([(text, true)]);
            world.sessions.push(Session { id, oracle: Oracle::default(), prompts });
        }
        for _ in 0..KILLS_OF_A_WORLD {
            let asked = world.ask(&program, dice);
            // Reading ends in the middle of whatever it was.
            let life = Duration::from_millis(dice.below(LIFE_MS));
            drop(timeout(life, world.read(&program)).await);
            program.kill().await;
            for (session, text, answer) in asked {
                let acknowledged = answer.await.unwrap();
                world.sessions[session].prompts.insert(text, acknowledged);
            }
            program = place.serve().await;
            world.check(&program).await;
        }
        world.end(place, &program).await;
        world
    }

    /// Prompts of which nobody waits for the answer before the kill.
    fn ask(&mut self, program: &Program, dice: &mut Dice) -> Vec<Asked> {
        let mut asked = Vec::new();
        for (number, session) in self.sessions.iter().enumerate() {
            if dice.below(3) > 0 {
                continue;
            }
            self.asked += 1;
            let (text, client, id) = (format!("prompt {}", self.asked), program.client.clone(), session.id.clone());
            let sent = text.clone();
            let answer =
                tokio::spawn(async move { client.try_prompt(&id, &sent).await.is_ok_and(|a| a.status == 204) });
            asked.push((number, text, answer));
        }
        asked
    }

    async fn read(&mut self, program: &Program) {
        let reading = self.sessions.iter_mut().map(async |session| {
            let after = session.oracle.seen.len().to_string();
            let mut stream = program.client.stream(&session.id, "", &[("last-event-id", &after)]).await;
            while let Some(event) = stream.next().await {
                session.oracle.saw(vec![event]);
            }
        });
        join_all(reading).await;
    }

    async fn check(&self, program: &Program) {
        join_all(self.sessions.iter().map(async |session| {
            session.oracle.is_in(&program.client.list(&session.id).await);
        }))
        .await;
    }

    async fn end(&mut self, place: &Place, program: &Program) {
        for session in &mut self.sessions {
            let rest = format!("until=idle&after={}", session.oracle.seen.len());
            session.oracle.saw(program.client.stream(&session.id, &rest, &[]).await.rest().await);
            session.oracle.is_in(&program.client.list(&session.id).await);
            let last = session.oracle.seen.last().unwrap();
            assert_eq!(last.name, "session.status_idle", "{}", last.json);
            let seen = processed(session.oracle.seen.iter().map(|event| event.json.clone()));
            let upstream = program.client.get(&format!("/session/{}", session.id)).await.ok();
            let truth = place.simulator.events(upstream["provider_session_id"].as_str().unwrap());
            let truth = processed(truth);
            assert_eq!(seen, truth);
            for (text, acknowledged) in &session.prompts {
                let is_it = |event: &&Value| event["content"][0]["text"] == **text && event["type"] == "user.message";
                let arrived = truth.iter().filter(is_it).count();
                assert!(arrived == 1 || arrived == 0 && !acknowledged, "{text:?} arrived {arrived} times");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_kills_lose_and_double_nothing() {
    let worlds = (KILLS * trials()).div_ceil(KILLS_OF_A_WORLD);
    let (mut running, mut started) = (JoinSet::new(), 0);
    let (mut events, mut prompts) = (0, 0);
    while started < worlds || !running.is_empty() {
        while started < worlds && running.len() < WORLDS {
            started += 1;
            running.spawn(async move {
                let mut dice = Dice::of(started);
                let script = Repeat { count: 60, every_ms: 3, bytes: 120, ..Repeat::default() };
                World::kills(&Place::new(Script::of([Step::Repeat(script)])), &mut dice).await
            });
        }
        let world = running.join_next().await.unwrap().unwrap();
        events += world.sessions.iter().map(|session| session.oracle.seen.len()).sum::<usize>();
        prompts += world.sessions.iter().map(|session| session.prompts.len()).sum::<usize>();
    }
    println!("{} kills, {prompts} prompts, {events} events: 0 lost, 0 doubled", worlds * KILLS_OF_A_WORLD);
}

#[test]
fn the_oracle_notices_a_loss_a_change_and_a_repetition() {
    let event = |seq, text: &str| {
        let json = serde_json::json!({"type": "a", "text": text});
        crate::harness::Event { seq, name: "a".to_owned(), json }
    };
    let mut oracle = Oracle::default();
    oracle.saw(vec![event(1, "x"), event(2, "y")]);
    let listed = |texts: &[&str]| texts.iter().map(|text| event(0, text).json).collect::<Vec<_>>();
    assert_eq!(oracle.compare(&listed(&["x", "y", "z"])), Ok(()));
    assert_eq!(oracle.compare(&listed(&["x"])), Err("2 events were seen, 1 are left".to_owned()));
    assert_eq!(oracle.compare(&listed(&["x", "z"])), Err("event 2 has changed".to_owned()));
    assert_eq!(oracle.take(event(2, "y")), Err("event 2 came behind 2".to_owned()));
    assert_eq!(oracle.take(event(4, "z")), Err("event 4 came behind 2".to_owned()));
}
