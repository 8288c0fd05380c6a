//! What authors ask of a runtime before a host ever sees it. Everything here is offline: no host, no data directory, no
//! network.
//!
//! * `check`: what a file is, what it asks for, and everything that is wrong with it
//! * `suite`: a runtime through `scenario`s and through what follows from them. `hostile` derives the variants, each a set of
//!   `knobs`; `steps` is what happens in one, which `driver` tells the session machine, in virtual time and with calls of a
//!   `guest`; `script` is the upstream of a scenario, `pieces` what its feed brings; `run` is what came of it and `verdict`
//!   whether it is right; `contract` has what can be asked without any scenario
//! * `replay`: a session that a host has recorded, once more
//! * `report`: what was found
//!
//! Must not know any vendor.

mod check;
mod contract;
mod driver;
mod guest;
mod hostile;
mod knobs;
mod pieces;
mod replay;
mod report;
mod run;
mod scenario;
mod script;
mod steps;
mod suite;
mod verdict;

pub use self::{
    check::{Check, Problem},
    replay::{Difference, InvalidRecording, Recording, Replay, replay},
    report::{Finding, Report, Row},
    scenario::{Invalid, Scenario},
    suite::{Named, test},
};
