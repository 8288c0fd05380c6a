//! The suite catches what is wrong: the sample runtime passes as it is, and in each of its defects it is found out, in the
//! right place and with a word on what is wrong.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use lap::{
    conformance::{self, Finding, Named},
    runtime::{Artifact, Manifest, Trial},
};

use super::{root, scenarios};

/// A defect, the variants that find it, and words of what is said about it or by the guest.
const DEFECTS: [(&str, &str, &str); 27] = [
    ("hidden-state", "turns/drop/each-frame", "expected the events"),
    ("counts", "turns/twice-warm", "gave something else when it was called again"),
    ("trap-on-unknown", "turns/altered/kind=text", "who has heard of x_of_next_year?"),
    ("trap-on-garbage", "turns/strange/no-json", "the runtime crashed"),
    ("trap-on-state", "contract/state/half/0/listen", "must answer or declare an error"),
    ("trap-on-interrupt", "turns/interrupt", "nobody interrupts me"),
    ("trap-on-failure", "turns/fault/500", "the suite answers with 500"),
    ("whole-turns-only", "turns/pieces", "expected the events"),
    ("end-is-the-end", "turns/break/clean", "events are lost"),
    ("ids-by-place", "turns/as-written", "expected the events"),
    ("ignores-failure", "turns/fault/500", "the failure is lost"),
    ("ignores-answer", "turns/fault/half-json", "the failure is lost"),
    ("wrong-kind", "turns/fault/429", "and it is throttled"),
    ("no-retry-after", "turns/fault/429-retry-after", "does not hand on `retry-after: 7`"),
    ("takes-anything", "turns/as-written", "expected the error unsupported"),
    ("no-event", "turns/as-written", "what it reports is no event"),
    ("no-such-frame", "turns/as-written", "a frame that the call did not bring"),
    ("growing-state", "turns/as-written", "its state is larger than 64 KiB"),
    ("endless-loop", "turns/as-written", "computed for too long"),
    ("recursion", "turns/giant/deep", "call stack exhausted"),
    ("no-history", "turns/break/gap", "events are lost"),
    ("host-header", "turns/as-written", "the header host is set by the host alone"),
    ("foreign-feed", "turns/as-written", "the manifest of sample does not allow"),
    ("endless-history", "turns/break/cut", "its pages lead back to each other"),
    ("asks-for-ever", "turns/as-written", "the runtime asked for its feed 6 times"),
    ("other-words", "turns/break/gap", "says something else than without it"),
    ("backwards", "turns/break/gap", "in another order"),
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
        // The very flags of the bundled runtimes, for the same reason.
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap();
        let built = cargo
            .env("CARGO_ENCODED_RUSTFLAGS", format!("--remap-path-prefix={}=/cargo", home.display()))
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

#[tokio::test]
async fn the_sample_passes_as_it_is() {
    let report = conformance::test(&trial().await, &scenarios(&sample().join("scenarios")), None).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn each_defect_is_found_where_it_is() {
    let (trial, mut missed) = (trial().await, Vec::new());
    for (defect, variants, word) in DEFECTS {
        let report = conformance::test(&trial, &scenario(defect), Some(variants)).await;
        let says =
            |finding: &Finding| finding.message.contains(word) || finding.log.iter().any(|line| line.contains(word));
        if !report.findings.iter().any(|finding| finding.name.starts_with(variants) && says(finding)) {
            missed.push(format!("{defect} is not found in {variants} with {word:?}: {report}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[tokio::test]
async fn a_gap_is_not_held_against_a_runtime_whose_upstream_has_no_history() {
    let report = conformance::test(&trial().await, &scenario("forgetful-upstream"), Some("turns/break/gap")).await;
    assert!(report.passed() && report.rows.iter().any(|row| row.title == "feed broken off"), "{report}");
}

#[tokio::test]
async fn a_finding_can_be_had_again_alone_and_is_the_same_each_time() {
    let trial = trial().await;
    let all = conformance::test(&trial, &scenario("trap-on-unknown"), Some("turns/altered")).await;
    let first = all.findings.iter().find(|finding| finding.name.contains("altered/kind=text")).unwrap();
    for _ in 0..2 {
        let alone = conformance::test(&trial, &scenario("trap-on-unknown"), Some(&first.name)).await;
        let said: Vec<_> = alone.findings.iter().map(|finding| (&finding.name, &finding.log)).collect();
        assert_eq!(said, [(&first.name, &first.log)]);
    }
    assert_eq!(first.export, Some("on-frames"));
    assert!(first.log[0].contains("tests/guest/sample/src/lib.rs"), "{:?}", first.log);
}
