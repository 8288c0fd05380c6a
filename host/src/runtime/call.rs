//! A call of a guest as a value: for whoever records calls, repeats them or makes them up.

use serde::{Deserialize, Serialize};

use super::{
    AgentSpec, CallError, Description, Ending, Feed, Frames, History, Input, Instance, Model, Outcome, SessionOpened,
    SessionSpec,
};

/// An export of the contract with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "export", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the arguments are those of wit/lap-runtime/0.1/runtime.wit")]
pub enum Call {
    Describe,
    Provision {
        agent: AgentSpec,
    },
    Open {
        session: SessionSpec,
    },
    Listen {
        state: String,
    },
    Send {
        state: String,
        inputs: Vec<Input>,
    },
    OnFrames {
        state: String,
        #[serde(with = "pieces")]
        frames: Frames,
    },
    OnEnd {
        state: String,
        ending: Ending,
    },
    CatchUp {
        state: String,
        cursor: Option<String>,
    },
    Close {
        state: String,
    },
    Models,
}

/// What an export gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the values are those of wit/lap-runtime/0.1/types.wit")]
pub enum Answer {
    Description(Description),
    Provision(String),
    Opened(SessionOpened),
    Feed(Feed),
    Outcome(Outcome),
    History(History),
    Closed,
    Models(Vec<Model>),
}

impl Call {
    /// The export's name.
    #[must_use]
    pub const fn export(&self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Provision { .. } => "provision",
            Self::Open { .. } => "open",
            Self::Listen { .. } => "listen",
            Self::Send { .. } => "send",
            Self::OnFrames { .. } => "on-frames",
            Self::OnEnd { .. } => "on-end",
            Self::CatchUp { .. } => "catch-up",
            Self::Close { .. } => "close",
            Self::Models => "models",
        }
    }
}

impl Instance {
    /// Makes a call. A feed comes as the guest asks for it, unchecked; [`super::Runtime::admit`] checks it.
    ///
    /// # Errors
    /// As the guest declares, or by its fault.
    pub async fn perform(&mut self, call: &Call) -> Result<Answer, CallError> {
        Ok(match call {
            Call::Describe => Answer::Description(self.describe().await?),
            Call::Provision { agent } => Answer::Provision(self.provision(agent).await?),
            Call::Open { session } => Answer::Opened(self.open(session).await?),
            Call::Listen { state } => Answer::Feed(self.feed(state).await?),
            Call::Send { state, inputs } => Answer::Outcome(self.send(state, inputs).await?),
            Call::OnFrames { state, frames } => Answer::Outcome(self.on_frames(state, frames).await?),
            Call::OnEnd { state, ending } => Answer::Outcome(self.on_end(state, *ending).await?),
            Call::CatchUp { state, cursor } => Answer::History(self.catch_up(state, cursor.as_deref()).await?),
            Call::Close { state } => self.close(state).await.map(|()| Answer::Closed)?,
            Call::Models => Answer::Models(self.models().await?),
        })
    }
}

/// Frames as pairs of name and data, which people can read.
mod pieces {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Frames;

    pub(super) fn serialize<S: Serializer>(frames: &Frames, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(frames.pieces())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Frames, D::Error> {
        let pairs = Vec::<(String, String)>::deserialize(from)?;
        Ok(Frames::packed(pairs.iter().map(|(name, data)| (name.as_str(), data.as_str()))))
    }
}
