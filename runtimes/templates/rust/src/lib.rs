//! The runtime `example_chat`: drives the Example Chat API, which VENDOR.md describes, for a host of `lap:runtime@0.1`.
//!
//! Functions of what the host hands them: nothing is kept between two calls, and the only way out is `upstream`. What is
//! known of a session is its [`State`], which the host stores. In reading order:
//!
//! * this file: what the host calls, and the requests that go out
//! * `entries`: what the vendor tells, as events of the platform

mod entries;

use lap_runtime_sdk::{
    AgentSpec, Description, Error, ErrorKind, Feed, Frames, History, Input, Method, Model, Outcome, Request, Runtime,
    SessionOpened, SessionSpec, Upstream, path_segment, read_state, text, write_state,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The runtime; a name without a value, because a runtime is functions only.
pub struct ExampleChat;

lap_runtime_sdk::export!(ExampleChat);

/// What is known of a session.
#[derive(Serialize, Deserialize)]
struct State {
    /// The vendor's id of the conversation.
    conversation: String,
}

impl State {
    fn path(&self, tail: &str) -> String {
        format!("/v1/conversations/{}{tail}", self.conversation)
    }
}

impl Runtime for ExampleChat {
    fn describe() -> Description {
        Description {
            id: "example_chat".to_owned(),
            name: "Example Chat".to_owned(),
            default_base: "http://127.0.0.1:4200".to_owned(),
            provider_id: "example".to_owned(),
            provider_name: "Example".to_owned(),
            auth_header: "authorization".to_owned(),
            auth_scheme: "Bearer".to_owned(),
            tools: Vec::new(),
        }
    }

    /// This vendor knows conversations only: there is nothing to make that sessions of an agent would share.
    fn provision(_: &mut dyn Upstream, _: AgentSpec) -> Result<String, Error> {
        Ok(String::new())
    }

    fn open(upstream: &mut dyn Upstream, session: SessionSpec) -> Result<SessionOpened, Error> {
        #[derive(Deserialize)]
        struct Created {
            id: String,
        }
        session.refuse(&["resources", "vault_ids", "budget"])?;
        let SessionSpec { title, agent, .. } = session;
        let new = json!({"title": title, "model": agent.model, "instructions": agent.system});
        let created: Created = upstream.call(Request::post("/v1/conversations", &new)?)?.json()?;
        let conversation = path_segment(created.id, "conversation")?;
        let state = write_state(&State { conversation: conversation.clone() })?;
        Ok(SessionOpened { state, upstream_id: Some(conversation), resources: None })
    }

    /// The stream begins with what happens from now on; what was before is for `catch_up`.
    fn listen(_: &mut dyn Upstream, state: String) -> Result<Feed, Error> {
        let state: State = read_state(&state)?;
        Ok(Feed::Sse(Request::get(state.path("/stream")).header("accept", "text/event-stream")))
    }

    /// What the vendor makes of an input comes on the stream. Its answers are read all the same: a proxy on the way may say
    /// 200 with a page of its own, and then the prompt has not arrived.
    fn send(upstream: &mut dyn Upstream, state: String, inputs: Vec<Input>) -> Result<Outcome, Error> {
        #[derive(Deserialize)]
        struct Prompted {
            #[serde(rename = "id")]
            _entry: String,
        }
        #[derive(Deserialize)]
        struct Stopped {
            #[serde(rename = "stopped")]
            _stopped: bool,
        }
        let state: State = read_state(&state)?;
        for input in inputs {
            match input {
                Input::Message(content) => {
                    let prompt = json!({"text": text(&content)?});
                    let response = upstream.call(Request::post(state.path("/prompts"), &prompt)?)?;
                    response.json::<Prompted>()?;
                }
                Input::Interrupt => match upstream.call(Request::post(state.path("/stop"), &json!({}))?) {
                    // The turn was over before it could be stopped.
                    Err(error) if error.kind == ErrorKind::Conflict => {}
                    response => _ = response?.json::<Stopped>()?,
                },
                Input::Other(_) => {
                    let message = "this runtime takes messages and interrupts only";
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
            }
        }
        Ok(Outcome::none())
    }

    fn on_frames(_: &mut dyn Upstream, _: String, frames: Frames) -> Result<Outcome, Error> {
        Ok(Outcome::events(frames.iter().flat_map(entries::events)))
    }

    fn catch_up(upstream: &mut dyn Upstream, state: String, cursor: Option<String>) -> Result<History, Error> {
        let state: State = read_state(&state)?;
        let request = Request::get(state.path("/entries")).query("limit", "100");
        let request = match cursor {
            Some(before) => request.query("before", &before),
            None => request,
        };
        entries::history(&upstream.call(request)?)
    }

    fn close(upstream: &mut dyn Upstream, state: String) -> Result<(), Error> {
        let state: State = read_state(&state)?;
        match upstream.call(Request::new(Method::Delete, state.path(""))) {
            Ok(response) => response.no_content(),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn models(upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
        #[derive(Deserialize)]
        struct List {
            models: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            id: String,
            name: String,
        }
        let list: List = upstream.call(Request::get("/v1/models"))?.json()?;
        Ok(list.models.into_iter().map(|Listed { id, name }| Model { id, name }).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{Header, Script};

    use super::*;

    const STATE: &str = r#"{"conversation":"conv_1"}"#;

    fn session(environment: &str) -> SessionSpec {
        SessionSpec {
            id: "ses_1".to_owned(),
            title: "Numbers".to_owned(),
            agent: AgentSpec {
                id: "agent_1".to_owned(),
                name: "Ada".to_owned(),
                model: "example-1".to_owned(),
                system: "Be brief.".to_owned(),
                description: None,
                tools: None,
                config: "{}".to_owned(),
            },
            provision: String::new(),
            environment: environment.to_owned(),
        }
    }

    /// Method, path and body of each request.
    fn asked(script: &Script) -> Vec<(Method, &str, Option<&str>)> {
        script.requests.iter().map(|request| (request.method, &*request.path, request.body.as_deref())).collect()
    }

    #[test]
    fn a_session_is_a_conversation() {
        let mut script = Script::new([(201, r#"{"id":"conv_1"}"#)]);
        let opened = ExampleChat::open(&mut script, session("{}")).unwrap();
        assert_eq!((&*opened.state, opened.upstream_id.as_deref()), (STATE, Some("conv_1")));
        let body = r#"{"instructions":"Be brief.","model":"example-1","title":"Numbers"}"#;
        assert_eq!(asked(&script), [(Method::Post, "/v1/conversations", Some(body))]);
    }

    #[test]
    fn a_wish_that_this_vendor_cannot_fulfil_is_refused_before_anything_is_sent() {
        let mut script = Script::default();
        let error = ExampleChat::open(&mut script, session(r#"{"budget":{}}"#)).unwrap_err();
        assert_eq!((error.kind, script.requests.len()), (ErrorKind::Unsupported, 0));
    }

    #[test]
    fn the_feed_is_the_conversations_stream() {
        let Feed::Sse(request) = ExampleChat::listen(&mut Script::default(), STATE.to_owned()).unwrap() else {
            unreachable!("a stream is asked for");
        };
        assert_eq!(request.path, "/v1/conversations/conv_1/stream");
        assert_eq!(request.headers, [Header { name: "accept".to_owned(), value: "text/event-stream".to_owned() }]);
    }

    #[test]
    fn inputs_go_out_in_their_order() {
        let mut script = Script::new([(202, r#"{"stopped":true}"#), (202, r#"{"id":"ent_1"}"#)]);
        let inputs = vec![Input::Interrupt, Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned())];
        assert_eq!(ExampleChat::send(&mut script, STATE.to_owned(), inputs).unwrap(), Outcome::none());
        let expected = [
            (Method::Post, "/v1/conversations/conv_1/stop", Some("{}")),
            (Method::Post, "/v1/conversations/conv_1/prompts", Some(r#"{"text":"Hi"}"#)),
        ];
        assert_eq!(asked(&script), expected);
    }

    #[test]
    fn stopping_what_is_over_is_no_error_and_prompting_what_runs_is() {
        let send = |status, input| {
            let mut script = Script::new([(status, r#"{"error":{"message":"no"}}"#)]);
            ExampleChat::send(&mut script, STATE.to_owned(), vec![input]).map_err(|error| error.kind)
        };
        let prompt = || Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned());
        assert_eq!(send(409, Input::Interrupt), Ok(Outcome::none()));
        assert_eq!(send(500, Input::Interrupt), Err(ErrorKind::Upstream));
        assert_eq!(send(409, prompt()), Err(ErrorKind::Conflict));
        assert_eq!(send(202, Input::Other(r#"{"type":"system.message"}"#.to_owned())), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn a_success_that_is_no_answer_is_the_upstreams_fault() {
        let prompt = || Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned());
        for body in ["<html>", "", r#"{"id":"ent"#, "{}", "null"] {
            for input in [prompt(), Input::Interrupt] {
                let mut script = Script::new([(200, body)]);
                let error = ExampleChat::send(&mut script, STATE.to_owned(), vec![input]).unwrap_err();
                assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
            }
            let mut script = Script::new([(200, body)]);
            assert_eq!(ExampleChat::open(&mut script, session("{}")).unwrap_err().kind, ErrorKind::Upstream, "{body}");
            let mut script = Script::new([(200, body)]);
            let refused = ExampleChat::close(&mut script, STATE.to_owned()).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Upstream, "{body}");
        }
    }

    #[test]
    fn a_conversation_that_is_gone_is_closed() {
        let close = |status| ExampleChat::close(&mut Script::new([(status, "")]), STATE.to_owned());
        assert_eq!((close(204), close(404)), (Ok(()), Ok(())));
        assert_eq!(close(500).unwrap_err().kind, ErrorKind::Upstream);
    }

    #[test]
    fn models_are_listed() {
        let mut script = Script::new([(200, r#"{"models":[{"id":"example-1","name":"Example 1"}]}"#)]);
        let model = Model { id: "example-1".to_owned(), name: "Example 1".to_owned() };
        assert_eq!(ExampleChat::models(&mut script).unwrap(), [model]);
    }
}
