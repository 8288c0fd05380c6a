//! The runtime in a run: makes calls of it, in as many lives and as often as the knobs say, and notes how each ended.

use std::sync::Arc;

use super::{
    knobs::{Knobs, Lives},
    run::{Complaint, Made, Run, alike, outcome, performed, told},
    script::Script,
};
use crate::runtime::{Answer, Call, CallError, Instance, Runtime};

/// The run cannot go on; why is among its complaints.
pub(super) struct Over;

/// A runtime, and what is known of it so far.
pub(super) struct Guest<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) knobs: &'a Knobs,
    pub(super) script: Arc<Script>,
    pub(super) run: Run,
    instance: Option<Instance>,
}

impl<'a> Guest<'a> {
    pub(super) fn new(runtime: &'a Runtime, knobs: &'a Knobs, script: Arc<Script>) -> Self {
        script.place().fault = knobs.fault;
        Self { runtime, knobs, script, run: Run::default(), instance: None }
    }

    /// Makes a call; answers its number.
    pub(super) async fn make(&mut self, call: Call) -> usize {
        let number = self.run.calls.len();
        let drops = match self.knobs.lives {
            Lives::One => false,
            Lives::EachCall => true,
            Lives::NewAt(at) => at == number,
        };
        if drops {
            self.instance = None;
        }
        let before = self.script.place().clone();
        let made = self.once(&call).await;
        if self.knobs.twice {
            let after = std::mem::replace(&mut *self.script.place(), before.clone());
            let again = self.once(&call).await;
            let repeated = std::mem::replace(&mut *self.script.place(), after.clone());
            if !alike(&made.result, &again.result)
                || after.sent[before.sent.len()..] != repeated.sent[before.sent.len()..]
            {
                let message = format!(
                    "{} gave something else when it was called again with the same arguments: {} and then {}",
                    call.export(),
                    outcome(&made.result),
                    outcome(&again.result)
                );
                self.run.complaints.push(Complaint { call: Some(number), message });
            }
        }
        self.run.calls.push(made);
        number
    }

    async fn once(&mut self, call: &Call) -> Made {
        let mut instance = self.instance.take().unwrap_or_else(|| self.runtime.instance(Arc::clone(&self.script) as _));
        let (result, took) = performed(&mut instance, call, &self.script).await;
        self.instance = Some(instance);
        let mut place = self.script.place();
        let (log, sent) = (std::mem::take(&mut place.log), place.sent.len());
        Made { call: call.clone(), result, log, took, sent }
    }

    /// Makes a call that is not the session's, if need be at the second try when the upstream failed at the first.
    pub(super) async fn trying(&mut self, call: Call) -> Result<Answer, Over> {
        let mut made = self.make(call.clone()).await;
        if matches!(self.run.calls[made].result, Err(CallError::Declared(_))) && self.fails(made) {
            made = self.make(call).await;
        }
        match &self.run.calls[made].result {
            Ok(answer) => Ok(answer.clone()),
            Err(_) => Err(self.over(made)),
        }
    }

    /// Notes an error that the guest declared; true when a fault of the upstream explains it.
    pub(super) const fn fails(&mut self, made: usize) -> bool {
        let explained = self.knobs.expects_errors() && self.run.failed.is_none();
        if explained {
            self.run.failed = Some(made);
        }
        explained
    }

    /// Complains that a call ended in an error.
    pub(super) fn over(&mut self, made: usize) -> Over {
        let Made { call, result, .. } = &self.run.calls[made];
        if let Err(error) = result {
            let message = format!("{} ended in an error: {}", call.export(), told(error));
            self.run.complaints.push(Complaint { call: Some(made), message });
        }
        Over
    }

    /// Complains about what came of the last call.
    pub(super) fn complain(&mut self, message: String) {
        let call = self.run.calls.len().checked_sub(1);
        self.run.complaints.push(Complaint { call, message });
    }

    /// The run, with what the upstream has to complain about.
    pub(super) fn finish(self) -> Run {
        let Self { mut run, script, knobs, .. } = self;
        let place = script.place().clone();
        let complain = |message| Complaint { call: None, message };
        run.complaints
            .extend(place.refused.iter().map(|request| complain(format!("it sends what is refused: {request}"))));
        let unanswered = place.unanswered.iter().filter(|_| knobs.is_kind());
        run.complaints.extend(
            unanswered
                .map(|line| complain(format!("it sends {line}, for which the scenario has no [[upstream]] answer"))),
        );
        run.sent = place.sent;
        run
    }
}
