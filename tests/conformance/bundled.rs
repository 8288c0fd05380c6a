//! The bundled runtimes pass their own suite.

use lap::{
    conformance,
    runtime::{Manifest, Trial},
};

use super::{root, scenarios};

#[tokio::test]
async fn the_bundled_runtimes_pass() {
    for (manifest, component) in lap::bundled() {
        let manifest: Manifest = manifest.parse().unwrap();
        let scenarios = scenarios(&root().join("runtimes").join(manifest.id.as_str()).join("scenarios"));
        assert!(!scenarios.is_empty(), "{} has no scenario", manifest.id);
        let trial = Trial::start(component, Some(manifest)).await.unwrap();
        let report = conformance::test(&trial, &scenarios, None).await;
        assert!(report.passed(), "{report}");
        let variants: usize = report.rows.iter().map(|row| row.variants).sum();
        assert!(variants > 500, "{report}");
    }
}
