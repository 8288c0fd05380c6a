//! Components that break the rules, made from the contract itself: a module with the right exports, all of whose
//! functions do the same wrong thing. The host calls `describe` when it loads one.

use lap::runtime::{Fault, LoadError};

use crate::harness::guests::{MANIFEST, Workshop, component};

async fn load(manifest: &str, component: &[u8]) -> LoadError {
    match Workshop::new(4).load(manifest, component).await {
        Err(error) => error,
        Ok(_) => panic!("the component was taken"),
    }
}

async fn fault(items: &str, body: &str) -> Fault {
    match load(MANIFEST, &component(items, body)).await {
        LoadError::Describe(fault) => fault,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_budget() {
    assert_eq!(fault("", "(loop (br 0))").await, Fault::Cpu);
}

#[tokio::test]
async fn a_memory_bomb_is_denied_and_named() {
    let body = "(loop (drop (memory.grow (i32.const 64))) (br 0))";
    assert_eq!(fault("", body).await, Fault::Memory);
}

#[tokio::test]
async fn memory_is_counted_over_all_memories() {
    // None of the two memories alone goes beyond the limit of 64 MiB; both together do.
    let items = "(memory $second 1)";
    let body = "(drop (memory.grow 0 (i32.const 600))) (drop (memory.grow $second (i32.const 600)))";
    assert_eq!(fault(items, body).await, Fault::Memory);
}

#[tokio::test]
async fn a_table_bomb_is_denied() {
    let items = "(table $t 1 funcref)";
    assert_eq!(fault(items, "(drop (table.grow $t (ref.null func) (i32.const 1000000)))").await, Fault::Memory);
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    let fault = fault("(func $deep (call $deep))", "(call $deep)").await;
    assert!(matches!(&fault, Fault::Trap(text) if text.contains("call stack exhausted")), "{fault:?}");
}

#[tokio::test]
async fn a_crash_tells_the_client_little_and_the_log_where() {
    let fault = fault("", "").await;
    assert_eq!(fault.to_string(), "the runtime crashed");
    assert!(matches!(&fault, Fault::Trap(text) if text.contains("unreachable")), "{fault:?}");
}

#[tokio::test]
async fn a_foreign_import_is_refused_before_anything_runs() {
    for (import, advice) in [
        ("wasi:http/outgoing-handler@0.2.6", "let the host dial"),
        ("wasi:sockets/tcp@0.2.6", "let the host dial"),
        ("wasi:filesystem/types@0.3.0", "only WASI 0.2 is served"),
        ("vendor:secrets/reveal@1.0.0", "remove the import"),
    ] {
        let bytes = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#)).unwrap();
        let error = load(MANIFEST, &bytes).await.to_string();
        assert!(error.contains(import) && error.contains(advice), "{error}");
    }
}

#[tokio::test]
async fn another_contract_is_refused_with_the_way_out() {
    let import = r#"(component (import "lap:runtime/upstream@0.2.0" (instance)))"#;
    let error = load(MANIFEST, &wat::parse_str(import).unwrap()).await.to_string();
    assert_eq!(
        error,
        "the component needs lap:runtime 0.2.0, and this host has 0.1: rebuild it with wit/lap-runtime/0.1, or use a newer host"
    );
    let error = load(MANIFEST, &wat::parse_str("(component)").unwrap()).await.to_string();
    assert!(error.contains("does not export `lap:runtime/adapter@0.1`"), "{error}");
    let other = MANIFEST.replace("0.1", "0.2");
    assert!(matches!(load(&other, &component("", "")).await, LoadError::OtherContract { .. }));
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"hello", &component("", "")[..200]] {
        let error = load(MANIFEST, bytes).await;
        assert!(error.to_string().starts_with("not a WebAssembly component"), "{error}");
    }
}
