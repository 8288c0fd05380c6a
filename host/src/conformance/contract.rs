//! What can be asked of any runtime, whatever its vendor's wire: it describes itself without sending anything, takes states
//! and inputs that make no sense for what they are, and turns what its upstream does into errors, never into traps.

use std::sync::Arc;

use super::{
    hostile::all_faults,
    run::{Complaint, Made, outcome, performed},
    scenario::{Scenario, kind_name},
    script::Script,
};
use crate::runtime::{Answer, Call, CallError, Ending, ErrorKind, Frames, Input, Runtime};

/// One question.
pub(super) struct Question {
    pub(super) name: String,
    call: Call,
    expects: Expects,
}

enum Expects {
    /// Any answer, and no request.
    Silence,
    /// Any answer or declared error.
    NoTrap,
    /// An error that says so.
    Refusal,
    /// Every request fails; any declared error will do, and success where nothing was asked.
    Down(super::script::Fault),
}

/// The questions; `states` are real states of the runtime, where there are any.
pub(super) fn questions(states: &[String]) -> Vec<Question> {
    let scenario = Scenario::blank();
    let ask = |name: String, call, expects| Question { name, call, expects };
    let mut questions = vec![ask("describe".to_owned(), Call::Describe, Expects::Silence)];
    for (what, state) in strange_states(states) {
        for call in calls_with(&state) {
            questions.push(ask(format!("state/{what}/{}", call.export()), call, Expects::NoTrap));
        }
    }
    let real = states.first().cloned().unwrap_or_default();
    for (what, input, refused) in strange_inputs() {
        let call = Call::Send { state: real.clone(), inputs: vec![input] };
        let refused = refused && !states.is_empty();
        questions.push(ask(format!("input/{what}"), call, if refused { Expects::Refusal } else { Expects::NoTrap }));
    }
    for (what, json) in [("empty", ""), ("no-json", "{"), ("array", "[]"), ("deep", &"[".repeat(10_000))] {
        let mut agent = scenario.agent();
        agent.tools = Some(json.to_owned());
        agent.config = json.to_owned();
        questions.push(ask(format!("agent/{what}"), Call::Provision { agent }, Expects::NoTrap));
        let mut session = scenario.session(json.to_owned());
        session.environment = json.to_owned();
        questions.push(ask(format!("session/{what}"), Call::Open { session }, Expects::NoTrap));
    }
    for (what, fault) in all_faults() {
        let calls = [
            Call::Provision { agent: scenario.agent() },
            Call::Open { session: scenario.session("provision_1".to_owned()) },
            Call::Models,
        ];
        for call in calls {
            questions.push(ask(format!("down/{what}/{}", call.export()), call, Expects::Down(*fault)));
        }
    }
    questions
}

fn calls_with(state: &str) -> Vec<Call> {
    let state = state.to_owned();
    let frames = Frames::packed([("message", r#"{"type":"of.next_year"}"#)].into_iter());
    let message = Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned());
    vec![
        Call::Listen { state: state.clone() },
        Call::Send { state: state.clone(), inputs: vec![message] },
        Call::Send { state: state.clone(), inputs: vec![Input::Interrupt] },
        Call::OnFrames { state: state.clone(), frames },
        Call::OnFrames { state: state.clone(), frames: Frames::none() },
        Call::OnEnd { state: state.clone(), ending: Ending::Cut },
        Call::CatchUp { state: state.clone(), cursor: Some("../cursor of another".to_owned()) },
        Call::Close { state },
    ]
}

fn strange_states(states: &[String]) -> Vec<(String, String)> {
    let mut strange: Vec<(String, String)> = [
        ("empty", ""),
        ("null", "null"),
        ("object", "{}"),
        ("array", "[]"),
        ("number", "7"),
        ("no-json", "{\"a\":"),
        ("control", "\0\u{1b}[31m"),
    ]
    .map(|(what, state)| (what.to_owned(), state.to_owned()))
    .into();
    strange.push(("large".to_owned(), "a".repeat(64 * 1024)));
    strange.push(("deep".to_owned(), "[".repeat(64 * 1024)));
    for (number, state) in states.iter().enumerate() {
        let half = state.floor_char_boundary(state.len() / 2);
        strange.push((format!("half/{number}"), state[..half].to_owned()));
        strange.push((format!("twice/{number}"), format!("{state}{state}")));
        strange.push((format!("null-inside/{number}"), state.replace(":\"", ":null,\"x\":\"")));
    }
    strange
}

/// Each with whether it must be refused.
fn strange_inputs() -> Vec<(&'static str, Input, bool)> {
    let other = |json: &str| Input::Other(json.to_owned());
    let message = |json: &str| Input::Message(json.to_owned());
    vec![
        ("message/empty", message(""), true),
        ("message/no-json", message("[{"), true),
        ("message/no-blocks", message("[]"), false),
        ("message/not-an-array", message("{\"type\":\"text\"}"), false),
        ("message/unknown-block", message(r#"[{"type":"of_next_year","data":{}}]"#), false),
        ("message/deep", Input::Message("[".repeat(100_000)), true),
        ("other/empty", other(""), true),
        ("other/no-json", other("{"), true),
        ("other/array", other("[]"), true),
        ("other/no-type", other("{}"), true),
        ("other/type-is-no-text", other(r#"{"type":7}"#), true),
        ("other/unknown-type", other(r#"{"type":"x.of_next_year"}"#), true),
        (
            "other/no-such-tool",
            other(r#"{"type":"user.custom_tool_result","custom_tool_use_id":"none","content":[]}"#),
            false,
        ),
        (
            "other/no-such-request",
            other(r#"{"type":"user.tool_confirmation","tool_use_id":"none","result":"allow"}"#),
            false,
        ),
    ]
}

/// Asks a question of a new instance.
pub(super) async fn ask(runtime: &Runtime, script: Arc<Script>, question: &Question) -> (Made, Vec<Complaint>) {
    if let Expects::Down(fault) = question.expects {
        script.place().down = Some(fault);
    }
    let mut instance = runtime.instance(Arc::clone(&script) as _);
    let (result, took) = performed(&mut instance, &question.call, &script).await;
    let place = script.place();
    let made = Made { call: question.call.clone(), result, log: place.log.clone(), took, sent: place.sent.len() };
    let export = made.call.export();
    let message = match (&question.expects, &made.result) {
        (_, Err(CallError::Fault(_))) => {
            Some(format!("{export} must answer or declare an error: {}", outcome(&made.result)))
        }
        (Expects::Silence, _) if !place.sent.is_empty() => {
            Some("describe sends a request, and must send none".to_owned())
        }
        (Expects::Refusal, Ok(_)) => Some(format!("{export} takes what makes no sense; it should be refused")),
        (Expects::Refusal, Err(CallError::Declared(error))) => {
            let fits = matches!(error.kind, ErrorKind::Unsupported | ErrorKind::BadRequest);
            (!fits).then(|| {
                format!(
                    "the error is {}, and it is unsupported or bad-request: {}",
                    kind_name(error.kind),
                    error.message
                )
            })
        }
        (Expects::Down(_), Ok(answer)) if !place.sent.is_empty() && !is_empty(answer) => {
            Some(format!("{export} succeeds although every request fails: {}", outcome(&made.result)))
        }
        _ => None,
    };
    let complaints = message.map(|message| Complaint { call: Some(0), message }).into_iter().collect();
    drop(place);
    (made, complaints)
}

/// Nothing that could have come from an upstream.
fn is_empty(answer: &Answer) -> bool {
    matches!(answer, Answer::Provision(provision) if provision.is_empty())
}
