//! Between the generated types of the contract and those that the rest of the host speaks of.

use lap_model::contract::{self, Reported};

use super::{Body, Effect, Ending, ErrorKind, Event, Frame, Outcome, bindings::lap::runtime::types::Frames as Packed};

impl From<contract::Frames> for Packed {
    fn from(frames: contract::Frames) -> Self {
        let contract::Frames { bytes, ends } = frames;
        Self { bytes, ends }
    }
}

impl Frame {
    /// Name and data, for packing.
    #[must_use]
    pub fn pieces(&self) -> (&str, &str) {
        (&self.name, &self.data)
    }
}

impl From<Frame> for contract::Frame {
    fn from(frame: Frame) -> Self {
        let Frame { name, data } = frame;
        Self { name, data }
    }
}

impl From<Effect> for contract::Effect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::None => Self::None,
            Effect::Started => Self::Started,
            Effect::Waiting => Self::Waiting,
            Effect::Ended => Self::Ended,
            Effect::Failed => Self::Failed,
            Effect::Rescheduled => Self::Rescheduled,
            Effect::Terminated => Self::Terminated,
        }
    }
}

impl From<ErrorKind> for contract::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Auth => Self::Auth,
            ErrorKind::Throttled => Self::Throttled,
            ErrorKind::Quota => Self::Quota,
            ErrorKind::Overloaded => Self::Overloaded,
            ErrorKind::BadRequest => Self::BadRequest,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Gone => Self::Gone,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Upstream => Self::Upstream,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

impl From<contract::ErrorKind> for ErrorKind {
    fn from(kind: contract::ErrorKind) -> Self {
        match kind {
            contract::ErrorKind::Auth => Self::Auth,
            contract::ErrorKind::Throttled => Self::Throttled,
            contract::ErrorKind::Quota => Self::Quota,
            contract::ErrorKind::Overloaded => Self::Overloaded,
            contract::ErrorKind::BadRequest => Self::BadRequest,
            contract::ErrorKind::NotFound => Self::NotFound,
            contract::ErrorKind::Conflict => Self::Conflict,
            contract::ErrorKind::Gone => Self::Gone,
            contract::ErrorKind::Unsupported => Self::Unsupported,
            contract::ErrorKind::Upstream => Self::Upstream,
            contract::ErrorKind::Internal => Self::Internal,
        }
    }
}

impl From<contract::Ending> for Ending {
    fn from(ending: contract::Ending) -> Self {
        match ending {
            contract::Ending::Clean => Self::Clean,
            contract::Ending::Cut => Self::Cut,
            contract::Ending::Silent => Self::Silent,
        }
    }
}

impl From<Event> for Reported {
    fn from(event: Event) -> Self {
        let body = match event.body {
            Body::Frame(index) => contract::Body::Frame(index),
            Body::Json(json) => contract::Body::Json(json),
        };
        Self { body, effect: event.effect.into() }
    }
}

impl From<Outcome> for contract::Outcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { state, events, relisten } = outcome;
        Self { state, events: events.into_iter().map(Reported::from).collect(), relisten }
    }
}
