//! Compiling what strangers have made: in a child process that may take so much and no more, and once.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::Stdio,
    task::{Context, Waker},
    thread,
};

use lap::runtime::{CompileError, LoadError, ShapeError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    MASTER_KEY,
    guests::{MANIFEST, component, extended, guest},
    program::{Program, lap},
    variant::{digest, upload},
    workshop::Workshop,
};

/// The files of a workshop's compiled components.
fn compiled(workshop: &Workshop) -> Vec<std::path::PathBuf> {
    fs::read_dir(workshop.cache.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_stranger_s_component_is_compiled_once_and_then_read() {
    let workshop = Workshop::new(4);
    let (manifest, component) = lap::bundled()[0];
    let runtime = workshop.load(manifest, component).await.unwrap();
    assert_eq!(runtime.description().id, "claude_managed_agents");
    let [file] = &compiled(&workshop)[..] else { panic!("not one file") };
    let written = fs::metadata(file).unwrap().modified().unwrap();
    workshop.load(manifest, component).await.unwrap();
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn machine_code_that_was_edited_is_never_loaded() {
    let workshop = Workshop::new(4);
    let small = component("", "");
    // It cannot describe itself, and is compiled before it is asked to.
    let compile = async || workshop.load(MANIFEST, &small).await.err().unwrap().code();
    assert_eq!(compile().await, "describe");
    let file = compiled(&workshop).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    for at in [0, 40, 80, whole.len() / 2, whole.len() - 1] {
        let mut edited = whole.clone();
        edited[at] ^= 1;
        fs::write(&file, &edited).unwrap();
        assert_eq!(compile().await, "describe");
        assert!(fs::read(&file).unwrap() == whole, "byte {at} is still what somebody made of it");
    }
}

#[tokio::test]
async fn machine_code_of_another_component_or_host_is_never_loaded() {
    let workshop = Workshop::new(4);
    let [(manifest, component), (other_manifest, other)] = lap::bundled()[..2] else { panic!("not two runtimes") };
    workshop.load(manifest, component).await.unwrap();
    let file = compiled(&workshop).pop().unwrap();
    let first = fs::read(&file).unwrap();
    workshop.load(other_manifest, other).await.unwrap();
    let others = compiled(&workshop).into_iter().find(|path| *path != file).unwrap();
    fs::write(&others, &first).unwrap();
    assert_eq!(workshop.load(other_manifest, other).await.unwrap().id().as_str(), other_manifest_id(other_manifest));
    let elsewhere = Workshop::new(4);
    let moved = elsewhere.cache.path().join(file.file_name().unwrap());
    fs::write(&moved, &first).unwrap();
    elsewhere.load(manifest, component).await.unwrap();
    assert!(fs::read(moved).unwrap() != first, "it was taken from another host");
}

fn other_manifest_id(manifest: &str) -> String {
    manifest.parse::<lap::runtime::Manifest>().unwrap().id.as_str().to_owned()
}

#[tokio::test]
async fn a_program_that_is_not_there_is_the_host_s_fault_and_says_so() {
    let mut workshop = Workshop::with_program(4, "/nowhere/lap");
    let error = workshop.load(MANIFEST, &component("", "")).await.err().unwrap();
    assert!(matches!(&error, LoadError::Compile(CompileError::Unavailable(_))), "{error}");
    assert!(error.to_string().contains("try again"), "{error}");
    workshop = Workshop::with_program(4, "/bin/false");
    let error = workshop.load(MANIFEST, &component("", "")).await.err().unwrap();
    assert!(matches!(&error, LoadError::Compile(CompileError::Crashed(_))), "{error}");
}

/// A component of one module with these items.
fn module(items: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {items}))")).unwrap()
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_a_compiler_sees_it() {
    // No program: whatever starts a child fails otherwise.
    let workshop = Workshop::with_program(4, "/nowhere/lap");
    let huge_function = format!("(func {})", "i32.const 1 drop ".repeat(400_000));
    let many_functions = "(func)".repeat(100_001);
    let many_types = "(type (func (param i32 i64 f32 f64)))".repeat(300_000);
    let mut nested = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..9 {
        // The section of a component, its length in four bytes, and the component.
        let length = nested.len();
        let septet = |at: usize| u8::try_from((length >> (7 * at)) & 0x7f).unwrap();
        let leb = [septet(0) | 0x80, septet(1) | 0x80, septet(2) | 0x80, septet(3)];
        nested = [b"\0asm\x0d\0\x01\0\x04", &leb[..], &nested].concat();
    }
    let mut ballast = wat::parse_str("(component)").unwrap();
    ballast.extend([0, 0x80, 0x80, 0x80, 0x10, 1, b'x']);
    ballast.resize(ballast.len() + 32 * 1024 * 1024, 0);
    for (bomb, expected) in [
        (module(&huge_function), "bytes of a function"),
        (module(&many_functions), "functions"),
        (module(&many_types), "bytes of types"),
        (nested, "levels of components in each other"),
        (wat::parse_str(format!("(component {})", "(core module)".repeat(257))).unwrap(), "modules and components"),
        (ballast, "bytes of the component"),
    ] {
        let error = workshop.load(MANIFEST, &bomb).await.err().unwrap();
        let LoadError::Shape(ShapeError::TooLarge { what, found, max }) = &error else { panic!("{expected}: {error}") };
        assert!(*what == expected && found > max, "{error}");
        assert!(error.to_string().contains("make the component smaller"), "{error}");
    }
}

/// `lap`, under a limit of its own that is lower than what it gives a compilation.
fn limited(folder: &Path, ulimit: &str) -> String {
    after(folder, &format!("ulimit {ulimit}"))
}

/// `lap`, after a command of the shell.
fn after(folder: &Path, command: &str) -> String {
    let path = folder.join("program");
    let script = format!("#!/bin/sh\n{command}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_lap"));
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The functions of a module that is small and takes a compiler long: each is one long chain of sums and branches.
fn bomb() -> String {
    let links = "(local.set 1 (i32.mul (i32.add (local.get 0) (local.get 1)) (local.get 2)))
        (if (local.get 1) (then (local.set 2 (i32.sub (local.get 2) (local.get 1)))))"
        .repeat(10_000);
    format!("(func (param i32 i32 i32) {links})").repeat(40)
}

#[tokio::test]
async fn a_compile_bomb_costs_the_child_its_time_or_its_memory_and_the_host_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = module(&bomb());
    for (limit, expected) in [("-t 1", "processor time"), ("-v 150000", "memory")] {
        let workshop = Workshop::with_program(4, &limited(folder.path(), limit));
        let error = workshop.load(MANIFEST, &bomb).await.err().unwrap();
        let LoadError::Compile(CompileError::Limit(what)) = &error else { panic!("{limit}: {error:?}") };
        assert!(what.contains(expected), "{limit}: {error}");
        assert!(error.to_string().contains("smaller and fewer"), "{error}");
        assert!(compiled(&workshop).is_empty(), "something was kept");
    }
}

/// What the kernel tells of a process under a name; nothing of one that is gone.
fn told(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[test]
fn a_compilation_goes_on_when_the_thread_that_started_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let workshop = Workshop::with_program(4, &after(folder.path(), &format!("echo $$ > {}", pid.display())));
    let (manifest, component) = lap::bundled()[0];
    // The pipe does not hold all of it: the child waits for the rest until somebody polls again.
    assert!(component.len() > 128 * 1024, "{}", component.len());
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut loading = Box::pin(workshop.load(manifest, component));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _executor = executor.enter();
            loop {
                let ready = loading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                assert!(!ready, "the child did not wait for the whole component");
                // The last but one of the limits that the child gives itself: it would have asked for a signal by now.
                let child = fs::read_to_string(&pid).ok().and_then(|pid| pid.trim().parse().ok());
                if child.is_some_and(|child| told(child, "NoNewPrivs").as_deref() == Some("1")) {
                    break;
                }
                thread::yield_now();
            }
        });
    });
    let runtime = executor.block_on(loading).unwrap();
    assert_eq!(runtime.description().id, "claude_managed_agents");
}

#[tokio::test]
async fn a_compilation_ends_when_nobody_wants_its_code_any_more() {
    let bomb = module(&bomb());
    let mut child = lap(Path::new("/"), &["compile-component"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&(bomb.len() as u64).to_be_bytes()).await.unwrap();
    stdin.write_all(&bomb).await.unwrap();
    drop(stdin);
    let mut code = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut code).await.unwrap();
    assert_eq!((child.wait().await.unwrap().signal(), code.len()), (Some(9), 0));
}

#[tokio::test]
async fn a_compilation_ends_with_its_host() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key-of-the-api"), MASTER_KEY).unwrap();
    let program = Program::serve(folder.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
    let client = &program.client;
    let slow = extended(&guest("", &[]), &format!("(core module {})", bomb()));
    let uploaded = upload(client, &digest(&slow), slow.clone()).await;
    assert_eq!(uploaded.status, 201, "{}", uploaded.text);
    let mut body = json!({"component": digest(&slow), "manifest": MANIFEST});
    let asked = client.post("/api/agent-runtimes", &body).await;
    body["grant"] = asked.json()["error"]["details"]["grant"].clone();
    let (adds, whole) = (client.clone(), body.to_string());
    let adding = tokio::spawn(async move {
        adds.try_send(http::Method::POST, "/api/agent-runtimes", &[], Some(whole)).await.is_ok()
    });
    let of_the_host = program.pid().to_string();
    let child = loop {
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_child = |pid: &u32| told(*pid, "PPid").as_ref() == Some(&of_the_host);
        // Past its limits it is at work, or about to be.
        let works = |pid: &u32| told(*pid, "NoNewPrivs").as_deref() == Some("1");
        match processes.filter(is_child).find(works) {
            Some(pid) => break pid,
            None => assert!(!adding.is_finished(), "it was compiled before anybody could look"),
        }
        tokio::task::yield_now().await;
    };
    program.kill().await;
    assert!(!adding.await.unwrap());
    // Far less than the minute after which it would end by itself.
    let ended = async {
        while told(child, "State").is_some_and(|state| !state.starts_with('Z')) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("it goes on without its host");
}

#[tokio::test]
async fn a_component_that_needs_much_to_compile_comes_through_when_it_is_not_too_much() {
    let many = format!("(core module {})", "(func (result i32) i32.const 1)".repeat(20_000));
    let component = extended(&guest("", &[]), &many);
    Workshop::new(4).load(MANIFEST, &component).await.unwrap();
}
