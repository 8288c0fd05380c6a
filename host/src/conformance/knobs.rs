//! What happens in a run beside what its scenario says: what a variant changes.

use lap_model::contract::Ending;

use super::script::Fault;
use crate::runtime::Frame;

/// What a run changes about its scenario. The default changes nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Knobs {
    pub(super) lives: Lives,
    /// Makes each call twice, and compares.
    pub(super) twice: bool,
    pub(super) batches: Batches,
    pub(super) cut: Option<Cut>,
    pub(super) edit: Option<Edit>,
    /// The request of this number fails.
    pub(super) fault: Option<(usize, Fault)>,
    /// What a client does in this step, after so many frames.
    pub(super) aside: Option<((usize, usize), Aside)>,
}

impl Knobs {
    /// True when the scenario's own answers must do.
    pub(super) const fn is_kind(&self) -> bool {
        self.cut.is_none() && self.edit.is_none() && self.fault.is_none() && self.aside.is_none()
    }

    /// True when exactly the events must come that the scenario names.
    pub(super) const fn checks_events(&self) -> bool {
        self.is_kind()
    }

    /// True when what the rest of the scenario goes on from may not have come about.
    pub(super) fn ends_with(&self, step: usize) -> bool {
        matches!(self.aside, Some(((at, _), _)) if at == step)
            || matches!(self.edit, Some(Edit::Swapped { step: at, .. } | Edit::Altered { step: at, .. }) if at == step)
    }

    /// True when the upstream fails, so that an error of the guest's is right.
    pub(super) const fn expects_errors(&self) -> bool {
        self.fault.is_some() || self.edit.is_some()
    }
}

/// When the instance is dropped and a new one made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Lives {
    /// Never.
    #[default]
    One,
    /// Before each call.
    EachCall,
    /// Before the call of this number.
    NewAt(usize),
}

/// What comes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Batches {
    /// All that stands in one text of the scenario.
    #[default]
    AsTheyCome,
    OneByOne,
    /// The text in two pieces, cut at this byte.
    CutAt {
        step: usize,
        byte: usize,
    },
}

/// The feed breaks in this step, after so many frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) step: usize,
    pub(super) after: usize,
    pub(super) ending: Ending,
    pub(super) resume: Resume,
    /// True when the upstream's history has all of the step by then.
    pub(super) told: bool,
}

impl Cut {
    /// True when it falls between the frames of a batch that begins with frame number `first` of a step.
    pub(super) fn falls_into(self, step: usize, first: usize, frames: usize) -> bool {
        self.step == step && (first..first + frames).contains(&self.after)
    }
}

/// What the next feed brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// What the broken one had not brought.
    Continues,
    /// Everything again.
    Replays,
    /// Nothing: the rest is in the history alone.
    Gap,
}

/// What a client does in the middle of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    Interrupt,
    Close,
}

/// What is done to the frames of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    /// Each frame comes twice.
    Doubled,
    /// The frame of this number, counted within the step, comes after the one behind it.
    Swapped { step: usize, at: usize },
    /// Before the frame of this number another one comes, with the frames around it or alone.
    Inserted { step: usize, at: usize, frame: Frame },
    /// The same, of a frame that the vendor might have meant.
    Altered { step: usize, at: usize, frame: Frame },
    /// Each object has one more member.
    Extended,
}

impl Edit {
    /// Does it to batches, the first frame of which is number `first` of the step.
    pub(super) fn apply(&self, step: usize, first: usize, batches: &mut [Vec<Frame>]) {
        let mut before = first;
        for batch in batches {
            let frames = batch.len();
            match self {
                Self::Doubled => *batch = batch.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect(),
                Self::Swapped { step: at_step, at } if *at_step == step && (before..before + frames).contains(at) => {
                    let at = at - before;
                    if at + 1 < frames {
                        batch.swap(at, at + 1);
                    }
                }
                Self::Inserted { step: at_step, at, frame } | Self::Altered { step: at_step, at, frame }
                    if *at_step == step && (before..before + frames).contains(at) =>
                {
                    batch.insert(at - before, frame.clone());
                }
                Self::Extended => batch.iter_mut().for_each(extend),
                Self::Swapped { .. } | Self::Inserted { .. } | Self::Altered { .. } => {}
            }
            before += frames;
        }
    }
}

fn extend(frame: &mut Frame) {
    let Some(rest) = frame.data.trim_start().strip_prefix('{') else { return };
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    frame.data = format!(r#"{{"x_of_next_year":{{"type":"session.status_idle","id":[1]}}{comma}{rest}"#);
}
