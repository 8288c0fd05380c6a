//! kill -9 while a client waits for an answer, and the client sends the same request again under the same key until it
//! is answered: each wish comes true once. `LAP_TRIALS` multiplies the kills, `LAP_SEED` repeats a run.

use std::{collections::HashMap, pin::pin, time::Duration};

use http::Method;
use lap_simulator::{Script, Simulator, script::Step};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::harness::{
    Answer, MASTER_KEY, RUNTIME,
    dice::{Dice, trials},
    program::Program,
    simulator,
};

const KILLS: u64 = 56;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Agent,
    Session,
    Message,
    Prompt,
    /// The turn is stopped and another prompt given, in one request: stopping it again would withdraw that prompt.
    Steer,
}

const KINDS: [Kind; 5] = [Kind::Agent, Kind::Session, Kind::Message, Kind::Prompt, Kind::Steer];

/// Something that a client wants once. Its name shows wherever it comes true.
struct Wish {
    kind: Kind,
    name: String,
}

/// Where wishes come true: how often, by name.
#[derive(Default)]
struct Truth {
    agents: HashMap<String, usize>,
    sessions: HashMap<String, usize>,
    messages: HashMap<String, usize>,
    /// Prompts that the upstream was given.
    upstream: HashMap<String, usize>,
    /// Prompts that it has answered to their end.
    answered: HashMap<String, usize>,
}

impl Truth {
    /// How often a wish came true, at each place where it should have once.
    fn of(&self, wish: &Wish) -> Vec<usize> {
        let at = |place: &HashMap<String, usize>| place.get(&wish.name).copied().unwrap_or(0);
        match wish.kind {
            Kind::Agent => vec![at(&self.agents)],
            Kind::Session => vec![at(&self.sessions), at(&self.messages), at(&self.upstream)],
            Kind::Message | Kind::Prompt => vec![at(&self.messages), at(&self.upstream)],
            Kind::Steer => vec![at(&self.messages), at(&self.upstream), at(&self.answered)],
        }
    }
}

struct Place {
    simulator: Simulator,
    directory: TempDir,
    /// Nothing while the host is down.
    program: Option<Program>,
    agent: String,
    session: String,
    /// The session whose turns are stopped.
    steered: String,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
        // Long enough that a turn still runs when the host is there again.
        let simulator = simulator(Script::of([Step::Delay { ms: 300 }, Step::message("yes to {prompt}")]));
        let mut place = Self {
            simulator,
            directory,
            program: None,
            agent: String::new(),
            session: String::new(),
            steered: String::new(),
        };
        place.serve().await;
        place.program().client.connect(&place.simulator.base_url()).await;
        place.agent = place.program().client.agent(&json!({})).await;
        place.session = place.program().client.session(&place.agent, None).await;
        place.steered = place.program().client.session(&place.agent, None).await;
        place
    }

    async fn serve(&mut self) {
        let arguments = ["--master-key-file", "key-of-the-api"];
        self.program = Some(Program::serve(self.directory.path(), &arguments, MASTER_KEY).await);
    }

    async fn restart(&mut self) {
        self.program.take().unwrap().kill().await;
        self.serve().await;
    }

    fn program(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    fn request(&self, wish: &Wish) -> (String, Value) {
        let parts = json!({"parts": [{"type": "text", "text": wish.name}]});
        match wish.kind {
            Kind::Agent => ("/api/agents".to_owned(), json!({"name": wish.name, "owner_id": "o"})),
            Kind::Session => {
                let body = json!({"runtime": RUNTIME, "agent_id": self.agent, "title": wish.name, "prompt": wish.name});
                ("/session".to_owned(), body)
            }
            Kind::Message => (format!("/session/{}/message", self.session), parts),
            Kind::Prompt => (format!("/session/{}/prompt_async", self.session), parts),
            Kind::Steer => {
                let message = json!({"type": "user.message", "content": parts["parts"]});
                let events = json!({"events": [{"type": "user.interrupt"}, message]});
                (format!("/v1/sessions/{}/events", self.steered), events)
            }
        }
    }

    async fn send(&self, wish: &Wish, key: Option<&str>) -> Answer {
        let (path, body) = self.request(wish);
        let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let answer = self.program().client.try_send(Method::POST, &path, &headers, Some(body.to_string())).await;
        let answer = answer.unwrap();
        assert!(answer.status.is_success(), "{}: {} {}", wish.name, answer.status, answer.text);
        answer
    }

    /// Waits for the answer for so long. Without one the host is killed while the client still waits, and so it is when
    /// the answer is to be `lost`.
    async fn send_impatiently(&mut self, wish: &Wish, patience: Duration, lost: bool) -> Option<Answer> {
        let answer = {
            let mut request = pin!(self.send(wish, Some(&wish.name)));
            let answer = timeout(patience, &mut request).await.ok().filter(|_| !lost);
            if answer.is_none() {
                self.program().kill_now();
            }
            answer
        };
        if answer.is_none() {
            self.restart().await;
        }
        answer
    }

    /// The next wish of this kind stops what runs.
    async fn settles(&self, wish: &Wish) {
        if wish.kind == Kind::Steer {
            self.program().client.turn(&self.steered).await;
        }
    }

    /// Once all sessions have done what they were told.
    async fn truth(&self) -> Truth {
        let client = &self.program().client;
        let mut truth = Truth::default();
        let mut count = |place: fn(&mut Truth) -> &mut HashMap<String, usize>, name: &Value| {
            *place(&mut truth).entry(name.as_str().unwrap().to_owned()).or_default() += 1;
        };
        for session in client.get("/session").await.ok().as_array().unwrap() {
            let id = session["id"].as_str().unwrap();
            client.turn(id).await;
            count(|truth| &mut truth.sessions, &session["title"]);
            for message in client.get(&format!("/session/{id}/message")).await.ok().as_array().unwrap() {
                count(|truth| &mut truth.messages, &message["parts"][0]["text"]);
            }
        }
        for agent in client.get("/api/agents").await.ok()["agents"].as_array().unwrap() {
            count(|truth| &mut truth.agents, &agent["name"]);
        }
        for session in self.simulator.sessions() {
            for event in self.simulator.events(&session) {
                let text = &event["content"][0]["text"];
                if event["type"] == "user.message" {
                    count(|truth| &mut truth.upstream, text);
                } else if let Some(name) = text.as_str().and_then(|text| text.strip_prefix("yes to ")) {
                    count(|truth| &mut truth.answered, &json!(name));
                }
            }
        }
        truth
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_under_its_key_after_kill_9_is_carried_out_once() {
    let (kills, mut dice) = (KILLS * trials(), Dice::of(0));
    let mut place = Place::new().await;
    // How long each kind takes, so that the kills hit all of it.
    let mut usual = HashMap::new();
    for kind in KINDS {
        let started = Instant::now();
        place.send(&Wish { kind, name: format!("first {kind:?}") }, None).await;
        usual.insert(kind, started.elapsed().max(Duration::from_millis(2)));
    }
    let (mut killed, mut replays, mut undone, mut wishes) = (0, 0, 0, Vec::new());
    while killed < kills {
        let number = wishes.len();
        let wish = Wish { kind: KINDS[number % KINDS.len()], name: format!("wish-{number}") };
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            // More and more patient, for a host that has just started is slower.
            let longest = usual[&wish.kind] * tries * 3 / 2;
            let patience = Duration::from_micros(dice.below(longest.as_micros().try_into().unwrap()));
            let lost = dice.below(4) == 0;
            match place.send_impatiently(&wish, patience, lost).await {
                Some(answer) => break answer,
                None => killed += 1,
            }
        };
        let replayed = answer.headers.contains_key("idempotent-replayed");
        place.settles(&wish).await;
        replays += usize::from(replayed);
        undone += usize::from(!replayed && tries > 1);
        wishes.push(wish);
    }
    let truth = place.truth().await;
    for wish in &wishes {
        let counts = truth.of(wish);
        assert!(counts.iter().all(|count| *count == 1), "{} came true {counts:?} times", wish.name);
    }
    println!("{killed} kills, {} wishes; after kills {replays} were found done, {undone} not", wishes.len());
    assert!(replays > 0, "no kill came after an effect and before its answer");
}

/// The control: this way of counting finds what is done twice, and what is not done.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_same_client_does_it_twice_and_the_count_shows_it() {
    let mut place = Place::new().await;
    let wishes = KINDS.map(|kind| Wish { kind, name: format!("wish {kind:?}") });
    for wish in &wishes {
        place.send(wish, None).await;
        place.settles(wish).await;
    }
    place.restart().await;
    for wish in &wishes {
        place.send(wish, None).await;
        place.settles(wish).await;
    }
    let truth = place.truth().await;
    for wish in &wishes {
        assert!(truth.of(wish).iter().all(|count| *count == 2), "{}: {:?}", wish.name, truth.of(wish));
        let never = Wish { kind: wish.kind, name: "never sent".to_owned() };
        assert!(truth.of(&never).iter().all(|count| *count == 0));
    }
}
