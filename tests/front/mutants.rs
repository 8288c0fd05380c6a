//! Requests of every route, changed at random in ways that matter to HTTP, and plain garbage.
//!
//! Each trial is one request. It counts once the host has answered it or has closed the connection over it; what stood
//! behind it on that connection does not count. A failure prints the seed and the bytes: `LAP_SEED=<seed>` sends the same
//! again.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lap_simulator::Script;
use serde_json::json;

use super::{
    Front,
    process::{MIB, open_files, resident_bytes, until},
    wire::{Answer, End, exchange},
};
use crate::harness::{
    MASTER_KEY, RUNTIME,
    dice::{splitmix, trials},
    simulator,
};

/// How many requests there are in a normal run; `LAP_TRIALS=10` makes it a million.
const TRIALS: u64 = 100_000;

/// So many connections at the same time.
const LANES: usize = 64;

/// As many requests at the most on one connection, the second before the first is answered.
const PIPELINED: u64 = 6;

/// A request that is not whole, or a stream, gets no further word; this side then goes. No assertion hangs on it.
const SILENCE: Duration = Duration::from_millis(100);

/// By how much the process may have grown in the end: what the allocator keeps for itself, and the store's cache of
/// what the requests have written.
const GROWTH_MAX: u64 = 48 * MIB;

/// Statuses beyond 2xx and 4xx that are meant: a mutant may store a credential for an address where nobody listens.
const DELIBERATE: &[(u16, &str)] = &[(502, "upstream_unavailable"), (501, "unsupported")];

/// Numbers that look random and are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        splitmix(&mut self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// A part of something so long; short ones more often.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = if self.one_in(4) { len } else { 12 };
        start..len.min(start + self.below(most))
    }
}

/// The id of nothing, which fits a path of any kind.
const NOBODY: &str = "agent_00000000000070008000000000000000";

/// The objects that mutants may do to what they like.
struct Prey {
    agent: String,
    session: String,
}

/// A request to a route, framed as it should be; a `twisted` one has a body, or else a path, that no longer is what it was.
fn request(chance: &mut Chance, prey: &Prey, twisted: bool) -> Vec<u8> {
    let route = &lap::http::routes()[chance.below(lap::http::routes().len())];
    let id = match route.path {
        path if path.starts_with("/api/agent-runtimes") => RUNTIME,
        // What the others need stays. Good clients delete what mutants have made.
        path if route.method == "DELETE" || path.ends_with("/archive") || path.ends_with("/kill") => NOBODY,
        // The body is read first, and most turns that nobody can run would only make the log longer.
        path if (path.ends_with("/prompt_async") || path.ends_with("/message")) && !chance.one_in(16) => NOBODY,
        path if path.starts_with("/api/agents") || path.starts_with("/v1/agents") => &prey.agent,
        _ => &prey.session,
    };
    let query =
        chance.of(&["", "", "", "?until=idle", "?after=0&limit=2", "?owner_id=x", "?runtime=claude_managed_agents"]);
    let mut path = format!("{}{query}", route.path.replace("{id}", id)).into_bytes();
    let body = match (route.method.as_str(), route.path) {
        ("GET" | "DELETE", _) => String::new(),
        ("PUT", _) => json!({"api_key": "sk-ant-mutant-0123456789", "api_base": "http://127.0.0.1:9"}).to_string(),
        (_, "/session") => json!({"runtime": RUNTIME, "agent_id": prey.agent, "prompt": "Hello"}).to_string(),
        // One word short of what would make something that nobody takes away again.
        (_, "/v1/agents") => json!({"name": "n", "metadata": {"a": "b"}, "tools": [{"type": "custom"}]}).to_string(),
        (_, "/v1/environments") => json!({"config": {"type": "cloud", "packages": {"npm": []}}}).to_string(),
        (_, "/v1/sessions") => json!({"agent": prey.agent, "environment_id": NOBODY, "title": "t"}).to_string(),
        (_, path) if path.ends_with("/events") => {
            json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": "t", "result": "allow"}]}).to_string()
        }
        (_, path) if path.starts_with("/v1/") => {
            json!({"name": "n", "title": "t", "metadata": {"a": null}}).to_string()
        }
        (_, path) if path.contains("/session/") => json!({"parts": [{"type": "text", "text": "Hello"}]}).to_string(),
        _ => json!({"name": "n", "owner_id": "mutant", "runtime": RUNTIME, "model": "m", "system": "s"}).to_string(),
    };
    let mut body = body.into_bytes();
    if twisted {
        let part = if body.is_empty() { &mut path } else { &mut body };
        *part = mutate(chance, std::mem::take(part));
    }
    let key = match chance.below(4) {
        0 => String::new(),
        1 => format!("x-api-key: {MASTER_KEY}\r\n"),
        _ => format!("Authorization: Bearer {MASTER_KEY}\r\n"),
    };
    let mut bytes = format!("{} ", route.method).into_bytes();
    bytes.extend(path);
    let speaks = match route.path.starts_with("/v1/") {
        true => "anthropic-version: 2026-10-21\r\nanthropic-beta: managed-agents-2026-04-01\r\n",
        false => "",
    };
    bytes.extend(format!(" HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{speaks}{key}").bytes());
    if body.is_empty() {
        bytes.extend(b"\r\n");
    } else if chance.one_in(3) {
        bytes.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).bytes());
        bytes.extend(body);
        bytes.extend(b"\r\n0\r\n\r\n");
    } else {
        bytes.extend(format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()).bytes());
        bytes.extend(body);
    }
    bytes
}

/// What is put into requests: what parsers stumble over.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"%00",
    b"%",
    b"%2e%2e%2f",
    b"../",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xf0\x9f\x92\xa5",
    b"\\ud800",
    b"\"",
    b"{",
    b"]",
    b"null",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 7\r\n",
    b"Content-Length: -1\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Last-Event-ID: 99999999999999999999\r\n",
    b"anthropic-beta: x\r\n",
    b"http://elsewhere/",
    b"?key=x&",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HEAD ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
];

fn mutate(chance: &mut Chance, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.next().to_le_bytes()[0],
            2 => drop(bytes.drain(chance.range(bytes.len()))),
            3 if chance.one_in(3) => bytes.truncate(at),
            4 | 5 => drop(bytes.splice(at..at, chance.of(WORDS).iter().copied())),
            6 => {
                let again = bytes[chance.range(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            7 => lines(&mut bytes, |lines| {
                let (one, other) = (chance.below(lines.len()), chance.below(lines.len()));
                lines.swap(one, other);
            }),
            8 => lines(&mut bytes, |lines| {
                let line = lines[chance.below(lines.len())].clone();
                lines.insert(chance.below(lines.len() + 1), line);
            }),
            9 => {
                let (old, new) = [(&b"\r\n"[..], &b"\n"[..]), (b"\r\n", b"\r"), (b"\r\n", b"\r\n "), (b": ", b" : ")]
                    [chance.below(4)];
                let at = bytes.windows(old.len()).position(|window| window == old && !chance.one_in(3));
                if let Some(at) = at {
                    bytes.splice(at..at + old.len(), new.iter().copied());
                }
            }
            10 if chance.one_in(8) => {
                let long = [&b"a"[..], b"[", b"x: y\r\n", b"%41"][chance.below(4)].repeat(1 + chance.below(6000));
                bytes.splice(at..at, long);
            }
            _ => {
                if let Some(digit) = bytes.iter_mut().filter(|byte| byte.is_ascii_digit()).nth(at % 40) {
                    *digit = b'0' + chance.next().to_le_bytes()[0] % 10;
                }
            }
        }
    }
    bytes
}

/// Changes the lines of the head.
fn lines(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let head_bytes = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(bytes.len());
    let mut lines: Vec<Vec<u8>> = bytes[..head_bytes].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    change(&mut lines);
    bytes.splice(..head_bytes, lines.join(&b'\n'));
}

/// The requests of one connection, which the seed and the connection's number decide on.
fn requests(seed: u64, connection: u64, prey: &Prey) -> Vec<Vec<u8>> {
    let mut chance = Chance(seed ^ connection.wrapping_mul(0xd134_2543_de82_ef95));
    let count = 1 + chance.next() % PIPELINED;
    let one = |_| match chance.below(16) {
        0 => request(&mut chance, prey, false),
        1..6 => request(&mut chance, prey, true),
        6 => (0..chance.below(400)).map(|_| chance.next().to_le_bytes()[0]).collect(),
        _ => {
            let good = request(&mut chance, prey, false);
            mutate(&mut chance, good)
        }
    };
    (0..count).map(one).collect()
}

/// What is wrong with an answer.
fn fault(answer: &Answer) -> Option<String> {
    let deliberate = DELIBERATE.iter().any(|(status, code)| *status == answer.status && *code == answer.code());
    // A page of the console sends who has not signed in to where that is done.
    let fine = matches!(answer.status, 200..300 | 303 | 400..500) || deliberate;
    (!fine).then(|| format!("it answered {} {}", answer.status, answer.body))
}

/// What came of all trials.
#[derive(Default)]
struct Tally {
    tried: AtomicU64,
    connections: AtomicU64,
    /// How often each status came; 0 stands for a connection that was closed without a word.
    statuses: Mutex<BTreeMap<u16, u64>>,
}

impl Tally {
    /// Sends what the next connections have until enough was tried.
    async fn lane(&self, front: &Front, prey: &Prey, seed: u64, enough: u64) {
        while self.tried.load(Ordering::Relaxed) < enough {
            let connection = self.connections.fetch_add(1, Ordering::Relaxed);
            let requests = requests(seed, connection, prey);
            let (answers, end) = exchange(front.address(), &requests.concat(), SILENCE).await;
            for answer in &answers {
                if let Some(fault) = fault(answer) {
                    let sent = requests.concat();
                    let output = front.program.output();
                    let said: Vec<_> = output.lines().rev().filter(|line| line.contains("WARN")).take(5).collect();
                    let sent = sent.escape_ascii();
                    panic!("LAP_SEED={seed} connection {connection}: {fault}\n{sent}\n{}", said.join("\n"));
                }
            }
            let wordless = answers.is_empty() && end == End::Closed;
            let looked_at = requests.len().min(answers.len().max(usize::from(wordless)));
            self.tried.fetch_add(looked_at as u64, Ordering::Relaxed);
            let made = {
                let mut statuses = self.statuses.lock().unwrap();
                answers.iter().for_each(|answer| *statuses.entry(answer.status).or_default() += 1);
                if wordless {
                    *statuses.entry(0).or_default() += 1;
                }
                answers
                    .iter()
                    .filter(|answer| answer.status == 201)
                    .map(|answer| answer.body.clone())
                    .collect::<Vec<_>>()
            };
            // Otherwise every list of agents would be longer than the one before.
            for body in made {
                let agent: serde_json::Value = serde_json::from_str(&body).unwrap();
                let path = format!("/api/agents/{}", agent["id"].as_str().unwrap());
                front.program.client.delete(&path).await;
            }
        }
    }

    async fn run(&self, front: &Front, prey: &Prey, seed: u64, more: u64) {
        let enough = self.tried.load(Ordering::Relaxed) + more;
        join_all((0..LANES).map(|_| self.lane(front, prey, seed, enough))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutants_of_every_request_are_refused_or_served_and_leave_nothing_behind() {
    let seed = std::env::var("LAP_SEED").ok();
    let seed = seed.map_or(1, |seed| seed.parse().expect("LAP_SEED is a number"));
    let simulator = simulator(Script::default());
    let front = Front::start().await;
    let client = &front.program.client;
    client.connect(&simulator.base_url()).await;
    let kept = client.session(&front.agent, Some("Hello")).await;
    let events = client.turn(&kept).await;
    let agent = client.agent(&json!({})).await;
    let session = client.session(&agent, Some("Hello")).await;
    client.turn(&session).await;
    let prey = Prey { agent, session };
    // From here on no mutant reaches an upstream.
    client.delete(&format!("/api/agent-runtimes/{RUNTIME}/credentials")).await.ok();

    let pid = front.program.pid();
    let tally = Tally::default();
    let total = TRIALS * trials();
    // The first ones fill caches and make threads.
    tally.run(&front, &prey, seed, total / 10).await;
    until("the streams of the first ones are gone", Duration::from_secs(30), || open_files(pid) < 60).await;
    let (files, memory) = (open_files(pid), resident_bytes(pid));
    let started = Instant::now();
    tally.run(&front, &prey, seed, total - total / 10).await;
    let (tried, connections) = (tally.tried.load(Ordering::Relaxed), tally.connections.load(Ordering::Relaxed));
    until("no mutant holds a file", Duration::from_secs(30), || open_files(pid) <= files + 2).await;
    let grown = resident_bytes(pid).saturating_sub(memory);
    let statuses = tally.statuses.lock().unwrap().clone();
    println!(
        "seed {seed}: {tried} requests on {connections} connections, the last nine tenths in {:?}; {} KiB more; {statuses:?}",
        started.elapsed(),
        grown >> 10
    );
    assert!(tried >= total);
    assert!(grown < GROWTH_MAX, "LAP_SEED={seed}: {grown} bytes more");
    for status in [200, 201, 204, 400, 401, 404, 405] {
        assert!(statuses.contains_key(&status), "LAP_SEED={seed}: no mutant got as far as a {status}: {statuses:?}");
    }
    front.is_unharmed().await;
    client.connect(&simulator.base_url()).await;
    let fresh = client.session(&front.agent, Some("Hello")).await;
    assert_eq!(client.turn(&fresh).await.len(), events.len());
    assert_eq!(client.turn(&kept).await, events);
}

#[test]
fn an_answer_that_must_not_be_is_found() {
    assert_eq!(fault(&Answer::of(200, "", "")), None);
    assert_eq!(fault(&Answer::of(431, "", "")), None);
    assert_eq!(fault(&Answer::of(502, "upstream_unavailable", "")), None);
    for (status, code) in [(500, ""), (502, "runtime_fault"), (503, ""), (301, ""), (101, "")] {
        assert!(fault(&Answer::of(status, code, "{}")).is_some(), "{status}");
    }
}

#[test]
fn a_seed_makes_the_same_requests_again_and_each_is_different() {
    let prey = Prey { agent: "agent_1".to_owned(), session: "session_1".to_owned() };
    let made = |seed| (0..500).flat_map(|connection| requests(seed, connection, &prey)).collect::<Vec<_>>();
    assert_eq!(made(7), made(7));
    let all: std::collections::HashSet<_> = made(7).into_iter().collect();
    assert!(all.len() > made(7).len() * 9 / 10, "{} of {}", all.len(), made(7).len());
}
