//! Components that break the rules, made from the contract itself: modules with the right exports that do wrong things in
//! them. What each costs the host, and how it is stopped, is measured by `tests/bench`, work `hostile`.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use lap::runtime::{
    AgentSpec, CALL_HOST_CALLS, CallError, Ending, Fault, Frames, HealthState, Input, Instance, LoadError, SessionSpec,
};
use tokio::time::timeout;

use crate::harness::{
    guests::{MANIFEST, NOTHING, component, extended, guest, guest_named},
    workshop::{Silent, Workshop},
};

async fn load(manifest: &str, component: &[u8]) -> LoadError {
    match Workshop::new(4).load(manifest, component).await {
        Err(error) => error,
        Ok(_) => panic!("the component was taken"),
    }
}

/// Loads a guest and makes an instance of it.
async fn instance(workshop: &Workshop, items: &str, calls: &[(&str, &str)], outlet: Silent) -> (Instance, Arc<Silent>) {
    let runtime = workshop.load(MANIFEST, &guest(items, calls)).await.unwrap();
    let outlet = Arc::new(outlet);
    (runtime.instance(outlet.clone()), outlet)
}

/// How a call fails.
async fn send_fault(items: &str, body: &str) -> Fault {
    let (mut guest, _) = instance(&Workshop::new(4), items, &[("send", body)], Silent::default()).await;
    fault_of(guest.send("", &[Input::Interrupt]).await)
}

fn fault_of<T>(answer: Result<T, CallError>) -> Fault {
    match answer {
        Err(CallError::Fault(fault)) => fault,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was answered"),
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
async fn a_loop_of_bulk_operations_ends_with_its_budget() {
    let fill = "(drop (memory.grow (i32.const 900)))
        (loop (memory.fill (i32.const 65536) (i32.const 7) (i32.const 60000000)) (br 0)) unreachable";
    assert_eq!(send_fault("", fill).await, Fault::Cpu);
}

#[tokio::test]
async fn a_guest_that_was_stopped_leaves_the_next_one_all_its_time() {
    let workshop = Workshop::new(4);
    let calls = [("send", "(loop (br 0)) unreachable")];
    let (mut guest, _) = instance(&workshop, "", &calls, Silent::default()).await;
    for _ in 0..3 {
        assert_eq!(fault_of(guest.send("", &[]).await), Fault::Cpu);
        assert!(guest.on_frames("", &Frames::none()).await.unwrap().events.is_empty());
    }
}

#[tokio::test]
async fn memory_of_64_bits_and_shared_memory_are_refused() {
    for memory in ["(memory i64 1)", "(memory 1 2 shared)"] {
        let bytes = wat::parse_str(format!("(component (core module {memory}))")).unwrap();
        let error = load(MANIFEST, &bytes).await;
        assert!(matches!(&error, LoadError::Compile(_)), "{memory}: {error}");
    }
}

#[tokio::test]
async fn more_memories_tables_and_instances_than_tools_make_are_refused() {
    let good = guest("", &[]);
    let instances = "(core module $m) ".to_owned() + &"(core instance (instantiate $m)) ".repeat(80);
    let memories = format!("(core module $m {})(core instance (instantiate $m))", "(memory 1)".repeat(5));
    let tables = format!("(core module $m {})(core instance (instantiate $m))", "(table 1 funcref)".repeat(65));
    let elements = "(core module $m (table 1000000 funcref))(core instance (instantiate $m))";
    let bytes = "(core module $m (memory 1025))(core instance (instantiate $m))";
    for more in [&instances, &memories, &tables, elements, bytes] {
        let error = Workshop::new(4).load(MANIFEST, &extended(&good, more)).await.err();
        let error = error.unwrap_or_else(|| panic!("taken: {more:.60}"));
        assert!(matches!(&error, LoadError::Invalid(_) | LoadError::Describe(_)), "{more:.60}: {error}");
    }
    Workshop::new(4).load(MANIFEST, &extended(&good, "(core module $m (memory 1))")).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_calls_of_the_host_is_cut() {
    let flood = "(local $n i32)
        (loop (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br 0)) unreachable";
    assert_eq!(send_fault("", flood).await, Fault::HostCalls);
    assert!(Fault::HostCalls.to_string().contains("too often"));
    let below = format!(
        "(local $n i32)
        (loop
            (call $log (i32.const 0) (i32.const 0) (i32.const 0))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $n) (i32.const {}))))
        {NOTHING}",
        CALL_HOST_CALLS - 1
    );
    let (mut guest, _) = instance(&Workshop::new(4), "", &[("send", &below)], Silent::default()).await;
    for _ in 0..3 {
        guest.send("", &[]).await.unwrap();
    }
}

/// A request of the manifest's, and where its path lies.
const PATH: &str = r#"(data (i32.const 3000) "/v1")"#;
const REQUEST: &str =
    "(call $send (i32.const 0) (i32.const 3000) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8192))";

#[tokio::test]
async fn one_call_sends_so_many_requests_and_no_more() {
    let many = format!("{}{NOTHING}", REQUEST.repeat(100));
    let answers = Silent { answers: true, ..Silent::default() };
    let (mut guest, outlet) = instance(&Workshop::new(4), PATH, &[("send", &many)], answers).await;
    guest.send("", &[]).await.unwrap();
    assert_eq!(outlet.asked.load(Relaxed), 64);
}

#[tokio::test]
async fn a_wait_for_an_upstream_that_never_answers_ends() {
    let (mut guest, outlet) = {
        let call = format!("{REQUEST}{NOTHING}");
        instance(&Workshop::new(4), PATH, &[("send", &call)], Silent::default()).await
    };
    // From here nothing but that wait takes time.
    tokio::time::pause();
    let fault = fault_of(guest.send("", &[]).await);
    assert_eq!((fault, outlet.asked.load(Relaxed)), (Fault::Wall, 1));
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_time_leaves_nothing_behind() {
    // One guest at a time: if one were left behind, the next would find no room.
    let workshop = Workshop::new(1);
    let call = format!("{REQUEST}{NOTHING}");
    let calls = [("send", call.as_str()), ("on-end", "(loop (br 0)) unreachable")];
    let runtime = workshop.load(MANIFEST, &guest(PATH, &calls)).await.unwrap();
    for n in 0..60 {
        let mut guest = runtime.instance(Arc::new(Silent::default()));
        let patience = Duration::from_micros(300 * n);
        // Computing on its caller's thread and on the lane, or waiting.
        let dropped = if n % 2 == 0 {
            timeout(patience, guest.send("", &[])).await.is_err()
        } else {
            timeout(patience, guest.on_end("", Ending::Clean)).await.is_err()
        };
        assert!(dropped, "it ended within {patience:?}");
        drop(guest);
        let mut next = runtime.instance(Arc::new(Silent::default()));
        let fresh = loop {
            // What was on the lane goes away there.
            match next.close("").await {
                Err(CallError::Fault(Fault::Busy)) => tokio::task::yield_now().await,
                answer => break answer,
            }
        };
        fresh.unwrap();
    }
    assert_eq!(runtime.health().crashes, 0);
}

#[tokio::test]
async fn a_text_or_a_list_that_is_larger_than_a_call_may_answer_is_cut() {
    let grown = "(drop (memory.grow (i32.const 900)))";
    // 60 MB for the log, and three million events that are the same nothing.
    let text = format!("{grown} (call $log (i32.const 1) (i32.const 0) (i32.const 60000000)) {NOTHING}");
    let list = format!(
        "{grown} (i32.store (i32.const 8208) (i32.const 65536)) (i32.store (i32.const 8212) (i32.const 3000000))
        (i32.const 8192)"
    );
    for body in [text, list] {
        assert!(matches!(send_fault("", &body).await, Fault::Trap(_)), "{body}");
    }
    let beyond = "(i32.store (i32.const 8208) (i32.const 65536)) (i32.store (i32.const 8212) (i32.const -1))
        (i32.const 8192)";
    assert!(matches!(send_fault("", beyond).await, Fault::Trap(_)));
}

#[tokio::test]
async fn more_events_than_a_call_may_report_break_the_contract() {
    let list = |count: u32| {
        format!(
            "(i32.store (i32.const 8208) (i32.const 65536)) (i32.store (i32.const 8212) (i32.const {count}))
            (i32.const 8192)"
        )
    };
    assert!(matches!(send_fault("", &list(4097)).await, Fault::Contract(_)));
    let (mut guest, _) = instance(&Workshop::new(4), "", &[("send", &list(4096))], Silent::default()).await;
    assert_eq!(guest.send("", &[]).await.unwrap().events.len(), 4096);
}

#[tokio::test]
async fn a_state_beyond_64_kib_breaks_the_contract() {
    let text = String::new;
    let agent = AgentSpec {
        id: text(),
        name: text(),
        model: text(),
        system: text(),
        description: None,
        tools: None,
        config: "{}".to_owned(),
    };
    let session = SessionSpec { id: text(), title: text(), agent, provision: text(), environment: "{}".to_owned() };
    for (bytes, taken) in [(65_536, true), (65_537, false)] {
        let state = |at: u32| {
            let length = at + 4;
            format!(
                "(i32.store (i32.const {at}) (i32.const 65536)) (i32.store (i32.const {length}) (i32.const {bytes}))
                (i32.const 8192)"
            )
        };
        // Of a call, the state is optional.
        let (sent, opened) = (format!("(i32.store (i32.const 8196) (i32.const 1)) {}", state(8200)), state(8196));
        let calls = [("send", sent.as_str()), ("open", opened.as_str())];
        let (mut guest, _) = instance(&Workshop::new(4), "", &calls, Silent::default()).await;
        for answer in [guest.send("", &[]).await.map(drop), guest.open(&session).await.map(drop)] {
            match answer {
                Ok(()) => assert!(taken, "{bytes} bytes"),
                refused => assert!(!taken && matches!(fault_of(refused), Fault::Contract(_)), "{bytes} bytes"),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_value_of_the_contract_is_a_crash() {
    for (what, body) in [
        ("an address beyond the memory", "(i32.const -4)"),
        ("a variant without a case", "(i32.store8 (i32.const 8192) (i32.const 9)) (i32.const 8192)"),
        (
            "a text that is no UTF-8",
            "(i32.store8 (i32.const 8196) (i32.const 1)) (i32.store (i32.const 8200) (i32.const 9000))
             (i32.store (i32.const 8204) (i32.const 1)) (i32.store8 (i32.const 9000) (i32.const 255)) (i32.const 8192)",
        ),
    ] {
        assert!(matches!(send_fault("", body).await, Fault::Trap(_)), "{what}");
    }
}

#[tokio::test]
async fn nothing_of_one_guest_s_memory_is_left_to_the_next() {
    // One guest at a time, so the second gets the first one's place.
    let workshop = Workshop::new(1);
    let grown = "(drop (memory.grow (i32.const 900)))";
    let secret = format!("{grown} (memory.fill (i32.const 1048576) (i32.const 199) (i32.const 60000000)) {NOTHING}");
    let search = format!(
        "(local $at i32) {grown}
        (local.set $at (i32.const 1048576))
        (loop
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
            (local.set $at (i32.add (local.get $at) (i32.const 512)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 61000000))))
        {NOTHING}"
    );
    let keeper = workshop.load(MANIFEST, &guest("", &[("send", &secret)])).await.unwrap();
    let thief = workshop.load(MANIFEST, &guest("", &[("send", &search)])).await.unwrap();
    for _ in 0..50 {
        for runtime in [&keeper, &thief] {
            let mut guest = runtime.instance(Arc::new(Silent::default()));
            guest.send("", &[]).await.unwrap();
        }
    }
    // The search finds what is there: its own guest's memory, a second time.
    let both =
        format!("{} {}", secret.trim_end_matches(NOTHING), search.replace("(local $at i32)", "").replace(grown, ""));
    let finds = guest("", &[("send", &format!("(local $at i32) {both}"))]);
    let mut finder = workshop.load(MANIFEST, &finds).await.unwrap().instance(Arc::new(Silent::default()));
    assert!(matches!(fault_of(finder.send("", &[]).await), Fault::Trap(_)));
}

#[tokio::test]
async fn a_storm_of_crashes_puts_that_component_in_quarantine_and_no_other() {
    let workshop = Workshop::new(4);
    let hostile = workshop.load(MANIFEST, &guest("", &[("send", "unreachable")])).await.unwrap();
    let manifest = MANIFEST.replace("\"hostile\"", "\"neighbour\"");
    let neighbour = workshop.load(&manifest, &guest_named("neighbour", "", &[])).await.unwrap();
    let (mut crashes, mut refusals) = (0, 0);
    for _ in 0..1_000 {
        let mut guest = hostile.instance(Arc::new(Silent::default()));
        match fault_of(guest.send("", &[]).await) {
            Fault::Trap(_) => crashes += 1,
            Fault::Quarantined { retry_after } => {
                assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
                refusals += 1;
            }
            fault => panic!("{fault}"),
        }
    }
    assert!((5..60).contains(&crashes) && crashes + refusals == 1_000, "{crashes} crashes, {refusals} refusals");
    assert!(!matches!(hostile.health().state, HealthState::Well), "{:?}", hostile.health());
    assert_eq!(hostile.health().crashes, crashes);
    let mut well = neighbour.instance(Arc::new(Silent::default()));
    well.send("", &[]).await.unwrap();
    assert_eq!((neighbour.health().state, neighbour.health().crashes), (HealthState::Well, 0));
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"hello", &component("", "")[..200]] {
        let error = load(MANIFEST, bytes).await;
        assert!(error.to_string().starts_with("not a WebAssembly component"), "{error}");
    }
}
