//! Commands that stop, and commands that do not, close behind a prompt: what was acknowledged has an end that everybody can
//! see, and stop means stop.
//!
//! A try is a session in some state, a prompt, and so many milliseconds later an operation: an interrupt, a kill, a change of
//! the credential, a restart of the host, and so on ([`plan`]). The delays lie around each point of a turn of a second and a half,
//! against upstreams that answer at once, evenly late, late for prompts alone, or at random, and in both dialects of the
//! API. Someone follows the session's stream all the while ([`follower`]). What came of it is judged from three sides: what
//! the follower saw, what the log and the list of messages say afterwards, and what the simulated upstream was told
//! ([`oracle`]):
//!
//! * each acknowledged prompt is answered, or its `user.message` stands in the log with `processed_at: null` and `withdrawn`;
//!   after a command that stops nothing it is answered;
//! * behind it the follower saw `session.status_idle` or `session.status_terminated`, or the stream's end with the session;
//! * the session comes to rest, and answers one more prompt unless it is over;
//! * after a stop the turn upstream does not come to its natural end;
//! * nothing is told as processed that never reached the upstream, and nothing reached it twice;
//! * the command is answered in time.
//!
//! A normal run plays a few hundred tries, chosen evenly among all combinations. All of them, and a table:
//!
//! ```text
//! LAP_STOPS=20000 cargo test --test suites stops::commands -- --nocapture
//! ```
//!
//! plays that many, in about half an hour on two cores; `LAP_SEED` chooses others, and `LAP_STOPS_ONLY=interrupt` those of one operation.

mod act;
mod follower;
mod oracle;
mod place;
mod plan;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, future::join_all, stream};

use self::{
    act::{Act, Outcome},
    place::{Inside, Killed},
    plan::{Latency, Operation, Try},
    table::Table,
};

/// Tries in a normal run.
const TRIES: usize = 272;
/// Tries at the same time against one upstream, of which there are as many as kinds of latency. With many more of them the
/// machine is so busy that no operation comes when its delay says.
const AT_ONCE: usize = 8;
/// Sessions that live through one restart.
const TOGETHER: usize = 24;

fn tries() -> Vec<Try> {
    let count = std::env::var("LAP_STOPS").map_or(TRIES, |count| count.parse().unwrap());
    let only = std::env::var("LAP_STOPS_ONLY").ok();
    plan::chosen(count, |operation| only.as_ref().is_none_or(|name| operation.name() == name))
}

fn of(tries: &[Try], latency: Latency, wanted: impl Fn(Operation) -> bool) -> Vec<Try> {
    tries.iter().filter(|tried| tried.latency == latency && wanted(tried.operation)).copied().collect()
}

/// Plays the tries whose operations concern one session alone, many at once in one host.
async fn side_by_side(tries: Vec<Try>, latency: Latency) -> Vec<(Try, Outcome)> {
    if tries.is_empty() {
        return Vec::new();
    }
    let inside = Arc::new(Inside::start(latency).await);
    let played = stream::iter(tries).map(|tried| {
        let inside = Arc::clone(&inside);
        async move { (tried, Act::played(&inside.place, tried).await) }
    });
    played.buffer_unordered(AT_ONCE).collect().await
}

/// Plays tries whose operation meets the whole host, so many together, each with its own delay before it.
async fn together(tries: Vec<Try>, latency: Latency) -> Vec<(Try, Outcome)> {
    let mut played = Vec::new();
    for operation in Operation::ALL.into_iter().filter(|operation| operation.is_of_host()) {
        let of_one: Vec<_> = tries.iter().filter(|tried| tried.operation == operation).copied().collect();
        for group in of_one.chunks(TOGETHER) {
            played.extend(match operation {
                Operation::Kill9 => Killed::start(latency).await.played(group).await,
                _ => Inside::start(latency).await.played(group, operation).await,
            });
        }
    }
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_behind_a_prompt_leave_it_answered_or_withdrawn_and_stop_what_they_stop() {
    let tries = tries();
    let single = join_all(Latency::ALL.map(|latency| {
        let tries = of(&tries, latency, |operation| !operation.is_of_host());
        tokio::spawn(side_by_side(tries, latency))
    }));
    let mut played: Vec<_> = single.await.into_iter().flat_map(Result::unwrap).collect();
    for latency in Latency::ALL {
        played.extend(together(of(&tries, latency, Operation::is_of_host), latency).await);
    }
    assert_eq!(played.len(), tries.len());
    let table = Table::of(&played);
    println!("{table}");
    let wrong: Vec<_> = played.iter().filter(|(_, outcome)| !outcome.wrong.is_empty()).collect();
    // One of each kind says more than many of one.
    let kinds: BTreeMap<_, _> = wrong
        .iter()
        .map(|(tried, outcome)| ((tried.operation, tried.standing, &outcome.wrong), format!("{tried}: {outcome}")))
        .collect();
    let shown: Vec<_> = kinds.into_values().collect();
    assert!(wrong.is_empty(), "{} of {} tries, among them:\n{}\n{table}", wrong.len(), played.len(), shown.join("\n"));
}
