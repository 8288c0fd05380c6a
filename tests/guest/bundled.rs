//! The bundled runtimes, as they are embedded.

use lap::runtime::{Manifest, Runtimes};
use wit_component::DecodedWasm;

use crate::harness::workshop::Workshop;

#[test]
fn a_bundled_runtime_imports_the_contract_and_nothing_else() {
    for (manifest, component) in lap::bundled() {
        let id = manifest.parse::<Manifest>().unwrap().id;
        let DecodedWasm::Component(resolve, world) = wit_component::decode(component).unwrap() else {
            panic!("{id} is no component");
        };
        let imports: Vec<_> = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect();
        assert!(!imports.is_empty(), "{id} could not even send a request");
        for import in imports {
            assert!(import.starts_with("lap:runtime/"), "{id} imports {import}");
        }
    }
}

#[tokio::test]
async fn each_runtime_says_what_its_manifest_grants() {
    let runtimes = Runtimes::load(&Workshop::new(4).loader, lap::bundled()).await.unwrap();
    let runtime = runtimes.get("claude_managed_agents").unwrap();
    let description = runtime.description();
    assert_eq!(description.id, "claude_managed_agents");
    assert_eq!((&*description.auth_header, &*runtime.profile().auth().header), ("x-api-key", "x-api-key"));
    assert_eq!(description.default_base, "https://api.anthropic.com");
}

#[tokio::test]
async fn a_component_that_asks_for_another_slot_than_its_manifest_grants_is_refused() {
    let (manifest, component) = lap::bundled()[0];
    let other = manifest.replace("x-api-key", "authorization");
    let refused = Runtimes::load(&Workshop::new(4).loader, &[(&other, component)]).await.err().unwrap().to_string();
    assert!(refused.contains("auth header") && refused.contains("authorization"), "{refused}");
}
