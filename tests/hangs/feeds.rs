//! A feed that is refused, or is answered with something that is no feed.

use lap_simulator::{
    CutBy, Endpoint, Faults,
    fault::{Answer, ErrorAnswer, RequestFault, StreamFault},
};
use serde_json::json;
use tokio::time::timeout;

use super::{PATIENCE, SENTENCE, Trial, refusal, script, with_retry_after};
use crate::harness::{RUNTIME, UPSTREAM_KEY};

fn refused(answer: Answer) -> RequestFault {
    RequestFault::always(Endpoint::EventsStream, answer)
}

#[tokio::test]
async fn a_feed_that_is_refused_ends_the_turn_with_what_the_vendor_says_and_the_next_prompt_works() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (409, "conflict_error"),
        (410, "gone_error"),
        (422, "invalid_request_error"),
    ] {
        let trial = Trial::start(script()).await;
        trial.fails(refused(Answer::Error(refusal(status, kind))));
        let id = trial.session("go").await;
        trial.ended_with(&id, SENTENCE).await;
        trial.heals();
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn a_feed_that_is_refused_in_mid_turn_ends_the_turn_and_the_next_prompt_works() {
    for (status, kind) in [(400, "invalid_request_error"), (409, "conflict_error")] {
        let trial = Trial::start(script()).await;
        let id = trial.session("go").await;
        working(&trial, &id).await;
        trial.fails(refused(Answer::Error(refusal(status, kind))));
        trial.simulator.cut_streams(CutBy::Close);
        trial.ended_with(&id, SENTENCE).await;
        trial.heals();
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn after_a_refused_feed_the_next_prompt_is_sent_though_the_feed_is_refused_still() {
    let trial = Trial::start(script()).await;
    trial.fails(refused(Answer::Error(refusal(404, "not_found_error"))));
    let id = trial.session("/quick go").await;
    trial.ended_with(&id, SENTENCE).await;
    assert_eq!(trial.client().prompt(&id, "/quick again").await.status, 204);
    let sent = async { while trial.asked(&id, "/quick again").await == 0 {} };
    assert!(timeout(PATIENCE, sent).await.is_ok(), "the prompt never reached the upstream");
}

#[tokio::test]
async fn a_refused_credential_leaves_the_turn_rescheduling_until_another_is_stored() {
    for status in [401, 403] {
        let trial = Trial::start(script()).await;
        trial.fails(refused(Answer::Error(refusal(status, "authentication_error"))));
        let id = trial.session("go").await;
        trial.stands(&id, "rescheduling").await;
        trial.heals();
        trial.put_key("sk-ant-the-next-one").await;
        trial.ended_well(&id).await;
        assert_eq!(trial.asked(&id, "go").await, 1);
        let used = trial.simulator.recorder().requests_of(Endpoint::EventsSend);
        assert_eq!(used.last().unwrap().credential.as_ref().unwrap().key(), "sk-ant-the-next-one");
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_in_mid_turn_is_replaced_and_the_turn_goes_on() {
    let trial = Trial::start(script()).await;
    let id = trial.session("go").await;
    working(&trial, &id).await;
    trial.simulator.revoke(UPSTREAM_KEY);
    trial.simulator.cut_streams(CutBy::Close);
    trial.stands(&id, "rescheduling").await;
    trial.put_key("sk-ant-the-next-one").await;
    let log = trial.ended_well(&id).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "agent.message").count(), 21, "{log:?}");
    trial.goes_on(&id).await;
}

#[tokio::test]
async fn a_replaced_credential_is_what_the_next_prompt_goes_out_with() {
    let trial = Trial::start(script()).await;
    let id = trial.warm().await;
    trial.put_key("sk-ant-the-next-one").await;
    drop(trial.simulator.recorder().take_requests());
    trial.goes_on(&id).await;
    for request in trial.simulator.recorder().requests() {
        assert_eq!(request.credential.unwrap().key(), "sk-ant-the-next-one", "{}", request.path);
    }
}

#[tokio::test]
async fn each_that_answers_a_tool_while_no_credential_is_stored_is_told_so() {
    let trial = Trial::start(script()).await;
    let id = trial.warm().await;
    let credentials = format!("/api/agent-runtimes/{RUNTIME}/credentials");
    assert_eq!(trial.client().delete(&credentials).await.status, 200);
    let verdict = json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow"}]});
    for time in 1..4 {
        let answer = trial.client().post(&format!("/v1/sessions/{id}/events"), &verdict).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "no_credential"), "{time}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_upstream_without_capacity_leaves_the_turn_rescheduling_until_it_has_some() {
    for (status, kind) in [(429, "rate_limit_error"), (500, "api_error"), (503, "api_error"), (529, "overloaded_error")]
    {
        for answer in [with_retry_after(1, refusal(status, kind)), Answer::Error(refusal(status, kind))] {
            let trial = Trial::start(script()).await;
            trial.fails(refused(answer));
            let id = trial.session("go").await;
            trial.stands(&id, "rescheduling").await;
            trial.heals();
            trial.ended_well(&id).await;
            assert_eq!(trial.asked(&id, "go").await, 1);
        }
    }
}

/// Answers that no feed begins with.
fn no_feeds() -> [ErrorAnswer; 4] {
    [
        ErrorAnswer::raw(200, "application/json", r#"{"data":[]}"#),
        ErrorAnswer::raw(200, "text/html", "<h1>Sign in</h1>"),
        ErrorAnswer::raw(202, "application/json", ""),
        ErrorAnswer::raw(204, "text/event-stream", ""),
    ]
}

#[tokio::test]
async fn an_answer_that_is_no_feed_does_no_harm_once() {
    for answer in no_feeds() {
        let trial = Trial::start(script()).await;
        trial.fails(RequestFault { times: 1, ..refused(Answer::Error(answer)) });
        let id = trial.session("go").await;
        let log = trial.ended_well(&id).await;
        assert_eq!(log.iter().filter(|event| event["type"] == "agent.message").count(), 21);
    }
}

#[tokio::test]
async fn an_upstream_that_has_no_feed_ends_the_turn_and_the_next_prompt_works() {
    for answer in no_feeds() {
        let trial = Trial::start(script()).await;
        trial.fails(refused(Answer::Error(answer)));
        // A shorter turn might be over, and be found in the history, before the host gives up.
        let id = trial.session("/longer go").await;
        trial.ended_with(&id, "").await;
        trial.heals();
        trial.goes_on(&id).await;
    }
}

#[tokio::test]
async fn an_end_that_the_stream_left_out_is_found_in_the_history_once_the_stream_is_cut() {
    let trial = Trial::start(script()).await;
    let omits = StreamFault { times: 1, omit: vec!["session.status_idle".to_owned()], ..StreamFault::default() };
    trial.simulator.set_faults(Faults { streams: vec![omits], ..Faults::default() });
    let id = trial.session("/quick go").await;
    let said = async {
        while trial.client().list(&id).await.last().is_none_or(|last| last["type"] != "span.model_request_end") {}
    };
    assert!(timeout(PATIENCE, said).await.is_ok(), "the turn did not come so far");
    trial.simulator.cut_streams(CutBy::Close);
    trial.ended_well(&id).await;
    trial.goes_on(&id).await;
}

/// Waits until the agent has said something.
async fn working(trial: &Trial, id: &str) {
    let mut stream = trial.client().stream(id, "", &[]).await;
    while stream.next().await.unwrap().name != "agent.message" {}
}
