//! The bundled runtime for OpenAI's Responses API, and for servers that speak it.
//!
//! For the host, which runs it as a component. That API has no sessions and no stream of one: each turn is a *response* that
//! runs in the background, is read as a stream of its own from any place, and names the one before it. So the session is
//! here what the host keeps as state. In reading order:
//!
//! * `state`: what is known of a session · `tools`: an agent's tools as that API names them
//! * `turn`: inputs that begin, answer or stop a turn · `events`: what a response brings, as events of the platform
//!
//! Must not keep anything between two calls, and must not panic. Events have the ids of the items that they are, or ids
//! made of their response's, so that what is told twice is the same.

mod events;
mod state;
mod tools;
mod turn;

use lap_runtime_sdk::{
    AgentSpec, Description, Ending, Error, Feed, Frames, History, Input, Model, Outcome, Request, Runtime,
    SessionOpened, SessionSpec, Tool, Upstream, read_state, write_state,
};
use serde::Deserialize;

use self::state::State;

/// The runtime; a name without a value, because a runtime is functions only.
pub struct OpenAiResponses;

lap_runtime_sdk::export!(OpenAiResponses);

impl Runtime for OpenAiResponses {
    fn describe() -> Description {
        Description {
            id: "openai_responses".to_owned(),
            name: "OpenAI Responses".to_owned(),
            default_base: "https://api.openai.com".to_owned(),
            provider_id: "openai".to_owned(),
            provider_name: "OpenAI".to_owned(),
            auth_header: "authorization".to_owned(),
            auth_scheme: "Bearer".to_owned(),
            tools: tools::BUILT_IN.iter().map(Tool::from).collect(),
        }
    }

    /// Nothing upstream belongs to an agent; a session holds what it is.
    fn provision(_: &mut dyn Upstream, _: AgentSpec) -> Result<String, Error> {
        Ok(String::new())
    }

    fn open(_: &mut dyn Upstream, session: SessionSpec) -> Result<SessionOpened, Error> {
        let state = write_state(&State::open(&session)?)?;
        Ok(SessionOpened { state, upstream_id: None, resources: None })
    }

    fn listen(_: &mut dyn Upstream, state: String) -> Result<Feed, Error> {
        let Some(run) = read_state::<State>(&state)?.run else { return Ok(Feed::None) };
        let request = Request::get(run.path("")).query("stream", "true");
        let request = match run.after {
            Some(after) => request.query("starting_after", &after.to_string()),
            None => request,
        };
        Ok(Feed::Sse(request.header("accept", "text/event-stream")))
    }

    fn send(upstream: &mut dyn Upstream, state: String, inputs: Vec<Input>) -> Result<Outcome, Error> {
        turn::send(upstream, read_state(&state)?, &inputs)
    }

    fn on_frames(_: &mut dyn Upstream, state: String, frames: Frames) -> Result<Outcome, Error> {
        events::on_frames(read_state(&state)?, &frames)
    }

    fn on_end(_: &mut dyn Upstream, state: String, _: Ending) -> Result<Outcome, Error> {
        Ok(Outcome { relisten: read_state::<State>(&state)?.run.is_some(), ..Outcome::none() })
    }

    fn catch_up(upstream: &mut dyn Upstream, state: String, _: Option<String>) -> Result<History, Error> {
        let Some(run) = read_state::<State>(&state)?.run else {
            return Ok(History::none());
        };
        events::history(&upstream.call(Request::get(run.path("")))?, &run)
    }

    fn close(upstream: &mut dyn Upstream, state: String) -> Result<(), Error> {
        turn::close(upstream, &read_state(&state)?)
    }

    fn models(upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            id: String,
        }
        let list: List = upstream.call(Request::get("/v1/models"))?.json()?;
        Ok(list.data.into_iter().map(|listed| Model { name: listed.id.clone(), id: listed.id }).collect())
    }
}
