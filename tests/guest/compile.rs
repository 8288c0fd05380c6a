//! Compiling what strangers have made: in a child process that may take so much and no more, and once.

use std::{fs, os::unix::fs::PermissionsExt};

use lap::runtime::{CompileError, LoadError, ShapeError};

use crate::harness::{
    guests::{MANIFEST, component, extended, guest},
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
fn limited(folder: &std::path::Path, ulimit: &str) -> String {
    let path = folder.join("limited");
    let script = format!("#!/bin/sh\nulimit {ulimit}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_lap"));
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A module that is small, and whose functions take a compiler long: each is one long chain of sums and branches.
fn bomb() -> Vec<u8> {
    let links = "(local.set 1 (i32.mul (i32.add (local.get 0) (local.get 1)) (local.get 2)))
        (if (local.get 1) (then (local.set 2 (i32.sub (local.get 2) (local.get 1)))))"
        .repeat(10_000);
    let function = format!("(func (param i32 i32 i32) {links})");
    module(&function.repeat(40))
}

#[tokio::test]
async fn a_compile_bomb_costs_the_child_its_time_or_its_memory_and_the_host_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = bomb();
    for (limit, expected) in [("-t 1", "processor time"), ("-v 150000", "memory")] {
        let workshop = Workshop::with_program(4, &limited(folder.path(), limit));
        let error = workshop.load(MANIFEST, &bomb).await.err().unwrap();
        let LoadError::Compile(CompileError::Limit(what)) = &error else { panic!("{limit}: {error:?}") };
        assert!(what.contains(expected), "{limit}: {error}");
        assert!(error.to_string().contains("smaller and fewer"), "{error}");
        assert!(compiled(&workshop).is_empty(), "something was kept");
    }
}

#[tokio::test]
async fn a_component_that_needs_much_to_compile_comes_through_when_it_is_not_too_much() {
    let many = format!("(core module {})", "(func (result i32) i32.const 1)".repeat(20_000));
    let component = extended(&guest("", &[]), &many);
    Workshop::new(4).load(MANIFEST, &component).await.unwrap();
}
