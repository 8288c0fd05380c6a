//! What a runtime does, and the bridge from that to the component's exports.

use std::marker::PhantomData;

use crate::{
    AgentSpec, Description, Ending, Error, ErrorKind, Event, Feed, Frames, History, Host, Input, Model, Outcome,
    SessionOpened, SessionSpec, Upstream, bindings::exports::lap::runtime::adapter::Guest, panic,
};

/// A vendor's agents behind the contract. Every function depends on its arguments alone, and on the upstream's answers.
pub trait Runtime {
    /// What this runtime is. Sends nothing.
    fn describe() -> Description;

    /// Creates upstream what all sessions of an agent share, and says how to find it again.
    ///
    /// # Errors
    /// When the upstream refuses or fails.
    fn provision(upstream: &mut dyn Upstream, agent: AgentSpec) -> Result<String, Error>;

    /// Creates the session upstream. No prompt is sent here.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when what was provisioned is no longer there; otherwise when the upstream refuses or fails.
    fn open(upstream: &mut dyn Upstream, session: SessionSpec) -> Result<SessionOpened, Error>;

    /// What to read from now on.
    ///
    /// # Errors
    /// When the state makes no sense.
    fn listen(upstream: &mut dyn Upstream, state: String) -> Result<Feed, Error>;

    /// Sends inputs, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an input that this runtime does not know; otherwise when the upstream refuses
    /// or fails.
    fn send(upstream: &mut dyn Upstream, state: String, inputs: Vec<Input>) -> Result<Outcome, Error>;

    /// Maps what the feed brought. The hot path.
    ///
    /// # Errors
    /// When the frames make no sense.
    fn on_frames(upstream: &mut dyn Upstream, state: String, frames: Frames) -> Result<Outcome, Error>;

    /// Says what the end of a feed means: unless a runtime knows better, that the host shall connect again.
    ///
    /// # Errors
    /// When the session cannot go on.
    fn on_end(_upstream: &mut dyn Upstream, _state: String, _ending: Ending) -> Result<Outcome, Error> {
        Ok(Outcome { relisten: true, ..Outcome::none() })
    }

    /// Lists what the upstream remembers: unless a runtime knows better, nothing.
    ///
    /// # Errors
    /// When the upstream refuses or fails.
    fn catch_up(_upstream: &mut dyn Upstream, _state: String, _cursor: Option<String>) -> Result<History, Error> {
        Ok(History::none())
    }

    /// Ends the session upstream for good.
    ///
    /// # Errors
    /// When the upstream refuses or fails; a session that is no longer there is closed.
    fn close(upstream: &mut dyn Upstream, state: String) -> Result<(), Error>;

    /// The models that the credential may use.
    ///
    /// # Errors
    /// When the upstream refuses or fails.
    fn models(_upstream: &mut dyn Upstream) -> Result<Vec<Model>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "this runtime cannot list models"))
    }
}

impl Outcome {
    /// Nothing happened.
    #[must_use]
    pub const fn none() -> Self {
        Self { state: None, events: Vec::new(), relisten: false }
    }

    /// Events, and a state that stays as it was.
    #[must_use]
    pub fn events(events: impl IntoIterator<Item: Into<Event>>) -> Self {
        Self { events: events.into_iter().map(Into::into).collect(), ..Self::none() }
    }
}

impl History {
    /// Nothing is remembered, or nothing that is missing.
    #[must_use]
    pub const fn none() -> Self {
        Self { frames: Vec::new(), newest_first: false, next: None }
    }
}

/// A runtime as a component exports it. For [`export!`](crate::export).
pub struct Exported<R>(PhantomData<R>);

impl<R: Runtime> Guest for Exported<R> {
    fn describe() -> Description {
        panic::tell();
        R::describe()
    }

    fn provision(agent: AgentSpec) -> Result<String, Error> {
        panic::tell();
        R::provision(&mut Host, agent)
    }

    fn open(session: SessionSpec) -> Result<SessionOpened, Error> {
        panic::tell();
        R::open(&mut Host, session)
    }

    fn listen(state: String) -> Result<Feed, Error> {
        panic::tell();
        R::listen(&mut Host, state)
    }

    fn send(state: String, inputs: Vec<Input>) -> Result<Outcome, Error> {
        panic::tell();
        R::send(&mut Host, state, inputs)
    }

    fn on_frames(state: String, frames: Frames) -> Result<Outcome, Error> {
        panic::tell();
        R::on_frames(&mut Host, state, frames)
    }

    fn on_end(state: String, ending: Ending) -> Result<Outcome, Error> {
        panic::tell();
        R::on_end(&mut Host, state, ending)
    }

    fn catch_up(state: String, cursor: Option<String>) -> Result<History, Error> {
        panic::tell();
        R::catch_up(&mut Host, state, cursor)
    }

    fn close(state: String) -> Result<(), Error> {
        panic::tell();
        R::close(&mut Host, state)
    }

    fn models() -> Result<Vec<Model>, Error> {
        panic::tell();
        R::models(&mut Host)
    }
}

/// Makes a type that is a [`Runtime`] what the component exports. Once in a crate, which is a `cdylib`. Natively, where
/// linkers refuse the names of a component's exports, it does nothing.
#[macro_export]
macro_rules! export {
    ($runtime:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated: the border between host and guest is a C ABI")]
        const _: () = {
            type Adapter = $crate::Exported<$runtime>;
    $crate::bindings::export_adapter!(Adapter with_types_in $crate::bindings);
        };
    };
}
