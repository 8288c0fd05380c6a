//! A prompt whose answer is none.

use http::Method;
use lap_simulator::{
    Endpoint, Script,
    fault::{Answer, RequestFault},
    script::Step,
};
use serde_json::json;
use tokio::time::Instant;

use super::{ANSWER_MAX, SENTENCE, Trial, nonsense, refusal, script, with_retry_after};

fn once(answer: Answer) -> RequestFault {
    RequestFault {
        times: 1,
        event: Some("user.message".to_owned()),
        ..RequestFault::always(Endpoint::EventsSend, answer)
    }
}

#[tokio::test]
async fn a_prompt_that_is_answered_with_nonsense_and_was_taken_is_not_sent_again() {
    for (kind, answer) in nonsense().into_iter().enumerate() {
        let trial = Trial::start(script()).await;
        trial.fails(once(Answer::Instead(answer)));
        let id = trial.session("/quick go").await;
        trial.ended_well(&id).await;
        assert_eq!(trial.asked(&id, "/quick go").await, 1, "nonsense {kind}");
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_prompt_that_is_answered_with_nonsense_and_was_not_taken_is_sent_again() {
    for (kind, answer) in nonsense().into_iter().enumerate() {
        let trial = Trial::start(script()).await;
        trial.fails(once(Answer::Error(answer)));
        let id = trial.session("/quick go").await;
        trial.ended_well(&id).await;
        assert_eq!(trial.asked(&id, "/quick go").await, 1, "nonsense {kind}");
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_prompt_that_is_answered_with_nonsense_for_ever_can_be_interrupted() {
    for answer in nonsense() {
        let trial = Trial::start(script()).await;
        let id = trial.warm().await;
        trial.fails(RequestFault::always(Endpoint::EventsSend, Answer::Error(answer)));
        assert_eq!(trial.client().prompt(&id, "go").await.status, 204);
        let before = trial.simulator.recorder().count(Endpoint::EventsSend);
        while trial.simulator.recorder().count(Endpoint::EventsSend) == before {
            tokio::task::yield_now().await;
        }
        trial.interrupt(&id).await;
        let log = trial.rests(&id).await;
        let withdrawn = log.iter().rfind(|event| event["content"][0]["text"] == "go").unwrap();
        assert!(withdrawn["processed_at"].is_null() && withdrawn["withdrawn"]["reason"].is_string(), "{withdrawn}");
        assert_eq!(log.last().unwrap()["type"], "session.status_idle");
        trial.heals();
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn an_interrupt_is_answered_at_once_though_the_prompt_before_it_hangs() {
    // Whether it was taken or not: what becomes of it is known once the host has waited for its answer for a minute.
    for answer in [Answer::Silence, Answer::Swallowed] {
        let trial = Trial::start(script()).await;
        trial.fails(once(answer));
        let id = trial.session("go").await;
        while trial.simulator.recorder().count(Endpoint::EventsSend) == 0 {
            tokio::task::yield_now().await;
        }
        trial.interrupt(&id).await;
        assert_eq!(trial.client().prompt(&id, "another").await.status, 204);
    }
}

#[tokio::test]
async fn a_prompt_that_the_upstream_refuses_ends_its_turn_with_what_the_vendor_says() {
    let refusals = [
        (400, "invalid_request_error"),
        // Something that the prompt names, for all that anybody knows.
        (404, "not_found_error"),
        (409, "conflict_error"),
        (422, "invalid_request_error"),
    ];
    for (status, kind) in refusals {
        let trial = Trial::start(script()).await;
        let id = trial.warm().await;
        trial.fails(once(Answer::Error(refusal(status, kind))));
        assert_eq!(trial.client().prompt(&id, "go").await.status, 204);
        let log = trial.ended_with(&id, SENTENCE).await;
        let told = log.iter().rfind(|event| event["content"][0]["text"] == "go");
        let withdrawn = told.unwrap_or_else(|| panic!("{status}: the prompt left no trace"));
        assert!(withdrawn["processed_at"].is_null() && withdrawn["withdrawn"]["reason"].is_string(), "{withdrawn}");
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_prompt_that_must_wait_leaves_its_session_rescheduling_and_is_answered_then() {
    // What answers 500 may have taken it: that is looked for first.
    for (status, kind) in [(429, "rate_limit_error"), (503, "api_error"), (529, "overloaded_error")] {
        let trial = Trial::start(script()).await;
        let id = trial.warm().await;
        trial.fails(RequestFault::always(Endpoint::EventsSend, with_retry_after(1, refusal(status, kind))));
        assert_eq!(trial.client().prompt(&id, "/quick go").await.status, 204);
        trial.stands(&id, "rescheduling").await;
        trial.heals();
        trial.ended_well(&id).await;
        assert_eq!(trial.asked(&id, "/quick go").await, 1);
    }
}

/// What an upstream takes so long for, and finishes although the host hangs up.
fn late(ms: u64) -> RequestFault {
    RequestFault { delay_ms: ms, finishes: true, ..once(Answer::Real) }
}

impl Trial {
    /// Gives a prompt to a session that has answered one, and returns when its request is on its way.
    async fn is_sending(&self, id: &str, prompt: &str) {
        assert_eq!(self.client().prompt(id, prompt).await.status, 204);
        while self.simulator.recorder().count(Endpoint::EventsSend) < 2 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_orderly_stop_waits_for_a_prompt_that_is_on_its_way() {
    let mut trial = Trial::start(script()).await;
    let id = trial.warm().await;
    // The next start would look for it for three seconds, and then send it again.
    trial.fails(late(5_000));
    trial.is_sending(&id, "/quick once").await;
    trial.world.restart().await;
    trial.ended_well(&id).await;
    assert_eq!(trial.asked(&id, "/quick once").await, 1);
}

#[tokio::test]
async fn an_orderly_stop_waits_for_nothing_when_all_that_was_sent_is_settled() {
    let mut trial = Trial::start(script()).await;
    let id = trial.session("go").await;
    trial.stands(&id, "running").await;
    while trial.asked(&id, "go").await == 0 {}
    trial.interrupt(&id).await;
    assert_eq!(trial.client().prompt(&id, "/quick once").await.status, 204);
    let began = Instant::now();
    trial.world.restart().await;
    assert!(began.elapsed() < 2 * ANSWER_MAX, "it waited for {:?}", began.elapsed());
    trial.rests(&id).await;
    assert_eq!(trial.asked(&id, "/quick once").await, 1);
}

#[tokio::test]
async fn a_prompt_that_was_withdrawn_and_arrives_after_all_is_stopped() {
    let trial = Trial::start(script()).await;
    let id = trial.warm().await;
    trial.fails(late(15_000));
    trial.is_sending(&id, "/longer and late").await;
    trial.interrupt(&id).await;
    let log = trial.rests(&id).await;
    let withdrawn = log.iter().find(|event| event["withdrawn"].is_object()).expect("it is withdrawn");
    assert_eq!(withdrawn["withdrawn"]["arrived"], "unknown", "{withdrawn}");
    // The first came when the prompt had not arrived after ten seconds; the second comes when it has, and finds it.
    let stops = || {
        let requests = trial.simulator.recorder().requests_of(Endpoint::EventsSend);
        requests.iter().filter(|request| String::from_utf8_lossy(&request.body).contains("user.interrupt")).count()
    };
    while stops() < 2 {
        tokio::task::yield_now().await;
    }
    let log = trial.rests(&id).await;
    assert_eq!((stops(), trial.asked(&id, "/longer and late").await), (2, 1), "nobody wants its answer");
    assert!(!log.iter().any(|event| event["content"][0]["text"] == "done: /longer and late"), "{log:?}");
    assert_eq!(trial.client().status(&id).await, "idle");
}

#[tokio::test]
async fn an_answer_that_was_taken_is_not_refused_to_who_sends_it_again_under_its_key() {
    let asks = Script::of([Step::custom_tool_use("ask_human", json!({})), Step::message("thanks")]);
    let trial = Trial::start(asks).await;
    let id = trial.session("go").await;
    trial.stands(&id, "requires_action").await;
    let log = trial.client().list(&id).await;
    let asked = log.iter().find(|event| event["type"] == "agent.custom_tool_use").expect("it asks");
    let answer = |text: &str| {
        let content = json!([{"type": "text", "text": text}]);
        json!({"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": asked["id"], "content": content}]})
    };
    trial.fails(RequestFault { event: None, ..once(Answer::Lost) });
    let path = format!("/v1/sessions/{id}/events");
    let send = async |key: &str, text: &str| {
        let body = Some(answer(text).to_string());
        trial.client().send(Method::POST, &path, &[("idempotency-key", key)], body).await
    };
    let lost = send("a", "yes").await;
    assert!(lost.status.is_server_error(), "{}", lost.text);
    trial.rests(&id).await;
    let again = send("a", "yes").await;
    assert_eq!(again.status, 200, "{}", again.text);
    let other = send("b", "no").await;
    assert!(other.status.is_client_error(), "another answer was not taken: {}", other.text);
}

#[tokio::test]
async fn an_answer_of_which_nobody_knows_whether_it_was_taken_says_so_when_its_turn_is_stopped() {
    let asks = Script::of([Step::custom_tool_use("ask_human", json!({})), Step::message("thanks")]);
    let trial = Trial::start(asks).await;
    let id = trial.session("go").await;
    trial.stands(&id, "requires_action").await;
    let log = trial.client().list(&id).await;
    let asked = log.iter().find(|event| event["type"] == "agent.custom_tool_use").expect("it asks");
    let answer = json!({"type": "user.custom_tool_result", "custom_tool_use_id": asked["id"],
        "content": [{"type": "text", "text": "yes"}]});
    trial.fails(RequestFault { event: None, ..once(Answer::Silence) });
    let (client, path) = (trial.client().clone(), format!("/v1/sessions/{id}/events"));
    let answering = tokio::spawn(async move { client.post(&path, &json!({"events": [answer]})).await });
    while trial.simulator.recorder().count(Endpoint::EventsSend) < 2 {
        tokio::task::yield_now().await;
    }
    trial.interrupt(&id).await;
    let told = answering.await.unwrap();
    assert_eq!((told.status.as_u16(), &*told.code()), (503, "outcome_unknown"), "{}", told.text);
    trial.rests(&id).await;
    assert_eq!(trial.client().status(&id).await, "idle");
}
