//! The suite catches what is wrong: the sample runtime passes as it is, and in each of its defects it is found out, in the
//! right place and with a word on what is wrong.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use lap::{
    conformance::{self, Named, Report},
    runtime::{Artifact, Manifest, Trial},
};

use super::{root, scenarios};

/// A defect, the variants that find it, and words of what is said about it.
const DEFECTS: [(&str, &str, &str); 20] = [
    ("hidden-state", "drop/each-frame", "expected the events"),
    ("counts", "twice-warm", "gave something else when it was called again"),
    ("trap-on-unknown", "altered/kind=text", "who has heard of x_of_next_year?"),
    ("trap-on-garbage", "strange/no-json", "the runtime crashed"),
    ("trap-on-state", "state/half/0/listen", "must answer or declare an error"),
    ("trap-on-interrupt", "interrupt", "nobody interrupts me"),
    ("trap-on-failure", "fault/500", "the suite answers with 500"),
    ("whole-turns-only", "pieces", "expected the events"),
    ("end-is-the-end", "break/clean", "events are lost"),
    ("ids-by-place", "as-written", "expected the events"),
    ("ignores-failure", "fault/500", "the failure is lost"),
    ("wrong-kind", "fault/429", "and it is throttled"),
    ("no-retry-after", "fault/429-retry-after", "does not hand on `retry-after: 7`"),
    ("takes-anything", "as-written", "expected the error unsupported"),
    ("no-event", "as-written", "what it reports is no event"),
    ("no-such-frame", "as-written", "a frame that the call did not bring"),
    ("growing-state", "as-written", "65536 are allowed"),
    ("endless-loop", "as-written", "computed for too long"),
    ("recursion", "giant/deep", "call stack exhausted"),
    ("no-history", "break/gap", "events are lost"),
];

/// Defects that break a rule of requests.
const FORBIDDEN: [(&str, &str); 3] = [
    ("host-header", "the header host is set by the host alone"),
    ("foreign-feed", "the manifest of sample does not allow"),
    ("endless-history", "the cursor goes in a circle"),
];

/// The sample runtime, built as its author would.
fn module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        // Where the bundled runtimes were built, so that what they share is not built again.
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../runtimes");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let of_the_outer =
                ["CARGO_", "CLIPPY_", "RUSTC_", "RUSTFLAGS"].iter().any(|prefix| name.starts_with(prefix));
            if of_the_outer && name != "CARGO_HOME" {
                cargo.env_remove(name);
            }
        }
        let built = cargo
            .current_dir(root())
            .args(["build", "--locked", "--lib", "--package", "lap-sample-runtime", "--profile", "runtime"])
            .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
            .arg(&target)
            .status();
        assert!(built.unwrap().success(), "the sample runtime cannot be built; what cargo says stands above");
        std::fs::read(target.join("wasm32-unknown-unknown/runtime/lap_sample_runtime.wasm")).unwrap()
    })
}

fn sample() -> PathBuf {
    root().join("tests/guest/sample")
}

async fn trial() -> Trial {
    let manifest: Manifest = std::fs::read_to_string(sample().join("runtime.toml")).unwrap().parse().unwrap();
    let artifact = Artifact::read(module()).unwrap();
    Trial::start(&artifact.component, Some(manifest)).await.unwrap()
}

/// The sample's scenario with an agent that wants the defect.
fn scenario(defect: &str) -> Vec<Named> {
    let text = std::fs::read_to_string(sample().join("scenarios/turns.toml")).unwrap();
    let agent = format!("\n[agent]\nconfig = '{{\"defect\":\"{defect}\"}}'\n\n[[upstream]]");
    let scenario = text.replacen("\n[[upstream]]", &agent, 1).parse().unwrap();
    vec![Named { name: "turns".to_owned(), scenario }]
}

async fn tested(trial: &Trial, defect: &str) -> Report {
    conformance::test(trial, &scenario(defect), None).await
}

#[tokio::test]
async fn the_sample_passes_as_it_is() {
    let report = conformance::test(&trial().await, &scenarios(&sample().join("scenarios")), None).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn each_defect_is_found_where_it_is() {
    let (trial, mut missed) = (trial().await, Vec::new());
    for (defect, variant, word) in DEFECTS {
        let report = tested(&trial, defect).await;
        let place = |name: &str| name.split_once('/').is_some_and(|(_, name)| name.starts_with(variant));
        let says = |finding: &conformance::Finding| {
            finding.message.contains(word) || finding.log.iter().any(|line| line.contains(word))
        };
        let found = report.findings.iter().any(|finding| place(&finding.name) && says(finding));
        if !found {
            missed.push(format!("{defect} is not found in {variant} with {word:?}: {report}"));
        }
    }
    for (defect, word) in FORBIDDEN {
        let report = tested(&trial, defect).await;
        if !report.findings.iter().any(|finding| finding.message.contains(word)) {
            missed.push(format!("{defect} is not found with {word:?}: {report}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[tokio::test]
async fn a_finding_can_be_had_again_alone_and_is_the_same_each_time() {
    let trial = trial().await;
    let all = tested(&trial, "trap-on-unknown").await;
    let first = all.findings.iter().find(|finding| finding.name.contains("altered/kind=text")).unwrap();
    for _ in 0..2 {
        let alone = conformance::test(&trial, &scenario("trap-on-unknown"), Some(&first.name)).await;
        let said: Vec<_> = alone.findings.iter().map(|finding| (&finding.name, &finding.log)).collect();
        assert_eq!(said, [(&first.name, &first.log)]);
    }
    assert_eq!(first.export, Some("on-frames"));
    assert!(first.log[0].contains("tests/guest/sample/src/lib.rs"), "{:?}", first.log);
}
