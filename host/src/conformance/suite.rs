//! All of it in order: the contract's questions, each scenario as it is written, and then its variants.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    contract,
    driver::drive,
    hostile::{self, Group, Variant},
    report::{Finding, Report, Row},
    run::{Complaint, Made, Run, outcome},
    scenario::Scenario,
    script::{Script, short},
    verdict::verdict,
};
use crate::{
    runtime::{Call, Runtime, Trial},
    upstream::{BaseUrl, Slot},
};

/// States of a scenario that are tried broken.
const STATES_MAX: usize = 8;

/// A scenario with the name that it is called by.
pub struct Named {
    /// The name of its file, without ending.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
}

/// Runs everything, or of everything what has this name, such as `turn/fault/429/2`.
pub async fn test(trial: &Trial, scenarios: &[Named], only: Option<&str>) -> Report {
    let mut suite = Suite { runtime: &trial.runtime, only, report: Report::new(trial.runtime.description()) };
    for mismatch in &trial.mismatches {
        suite.report.findings.push(Finding::of_component(mismatch.clone()));
    }
    let Some(way) = Way::of(&trial.runtime) else {
        let message = "the credential's slot or the default base is none; `lap runtime check` says more".to_owned();
        suite.report.findings.push(Finding::of_component(message));
        return suite.report;
    };
    let mut states = Vec::new();
    for named in scenarios {
        states.extend(suite.scenario(&way, named).await);
    }
    states.truncate(STATES_MAX);
    suite.contract(&way, &states).await;
    suite.report
}

/// Where the requests would go.
struct Way {
    base: BaseUrl,
    slot: Slot,
}

impl Way {
    fn of(runtime: &Runtime) -> Option<Self> {
        let auth = runtime.profile().auth();
        let slot = Slot::new(&auth.header, &auth.scheme).ok()?;
        Some(Self { base: runtime.description().default_base.parse().ok()?, slot })
    }

    fn script(&self) -> Arc<Script> {
        Arc::new(Script::new(self.base.clone(), self.slot.clone()))
    }
}

struct Suite<'a> {
    runtime: &'a Runtime,
    only: Option<&'a str>,
    report: Report,
}

impl Suite<'_> {
    fn wants(&self, scenario: &str, variant: &str) -> bool {
        self.only.is_none_or(|only| {
            let name = format!("{scenario}/{variant}");
            name == only || name.strip_prefix(only).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    async fn contract(&mut self, way: &Way, states: &[String]) {
        let mut row = Row::new("contract", "whatever makes no sense");
        for question in contract::questions(states) {
            if !self.wants("contract", &question.name) {
                continue;
            }
            let (made, complaints) = contract::ask(self.runtime, way.script(), &question).await;
            row.variants += 1;
            row.failed += usize::from(!complaints.is_empty());
            self.longest(&made);
            self.note("contract", &question.name, complaints, std::slice::from_ref(&made));
        }
        self.report.rows.push(row);
    }

    /// Answers the states that the runtime had.
    async fn scenario(&mut self, way: &Way, named: &Named) -> Vec<String> {
        let Named { name, scenario } = named;
        let mut rows: BTreeMap<Group, Row> = BTreeMap::new();
        let first = hostile::as_written();
        let happy = drive(self.runtime, scenario, way.script(), &first.knobs).await;
        self.count(name, &first, &happy, Vec::new(), &mut rows);
        self.report.state_bytes_max = self.report.state_bytes_max.max(happy.state_bytes);
        // What is wrong without any fault would be reported a thousand times more.
        if happy.complaints.is_empty() {
            let variants = hostile::variants(scenario, &happy);
            self.variants(way, named, &variants, &happy, &mut rows).await;
            if let Some(broken) = hostile::broken(&happy) {
                let base = drive(self.runtime, scenario, way.script(), &broken.knobs).await;
                let variants = hostile::history_faults(&broken, &base);
                self.variants(way, named, &variants, &base, &mut rows).await;
            }
        }
        self.report.rows.extend(rows.into_values());
        states(&happy)
    }

    async fn variants(
        &mut self,
        way: &Way,
        named: &Named,
        variants: &[Variant],
        measure: &Run,
        rows: &mut BTreeMap<Group, Row>,
    ) {
        for variant in variants.iter().filter(|variant| self.wants(&named.name, &variant.name)).collect::<Vec<_>>() {
            let run = drive(self.runtime, &named.scenario, way.script(), &variant.knobs).await;
            let verdict = verdict(variant, measure, &run);
            self.count(&named.name, variant, &run, verdict, rows);
        }
    }

    fn count(
        &mut self,
        scenario: &str,
        variant: &Variant,
        run: &Run,
        verdict: Vec<Complaint>,
        rows: &mut BTreeMap<Group, Row>,
    ) {
        let mut complaints = run.complaints.clone();
        complaints.extend(verdict);
        let row = rows.entry(variant.group).or_insert_with(|| Row::new(scenario, variant.group.title()));
        row.variants += 1;
        row.failed += usize::from(!complaints.is_empty());
        run.calls.iter().for_each(|made| self.longest(made));
        self.note(scenario, &variant.name, complaints, &run.calls);
    }

    fn longest(&mut self, made: &Made) {
        self.report.calls += 1;
        let longest = self.report.longest.entry(made.call.export()).or_insert(Duration::ZERO);
        *longest = (*longest).max(made.took);
    }

    fn note(&mut self, scenario: &str, variant: &str, complaints: Vec<Complaint>, calls: &[Made]) {
        for complaint in complaints {
            let made = complaint.call.and_then(|call| calls.get(call));
            self.report.findings.push(Finding {
                name: format!("{scenario}/{variant}"),
                export: made.map(|made| made.call.export()),
                input: made.map(|made| input(&made.call)),
                message: complaint.message,
                outcome: made.map(|made| outcome(&made.result)),
                log: made.map(|made| made.log.clone()).unwrap_or_default(),
            });
        }
    }
}

fn input(call: &Call) -> String {
    short(&serde_json::to_string(call).unwrap_or_default())
}

/// The states that the calls of a run were given, each once.
fn states(run: &Run) -> Vec<String> {
    let mut states: Vec<String> = Vec::new();
    for made in &run.calls {
        let (Call::Listen { state }
        | Call::Send { state, .. }
        | Call::OnFrames { state, .. }
        | Call::OnEnd { state, .. }
        | Call::CatchUp { state, .. }
        | Call::Close { state }) = &made.call
        else {
            continue;
        };
        if !states.contains(state) {
            states.push(state.clone());
        }
    }
    states
}
