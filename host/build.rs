//! Builds the bundled runtimes to components without any import but the contract's, for the host to embed.
//!
//! For `host/src`, which includes `$OUT_DIR/bundled.rs`: `const BUNDLED: &[(&str, &[u8])]`, the manifest and the
//! component of each folder of `runtimes/` that has a `runtime.toml`, in the order of their names. The folder, the
//! package and the runtime's id share one name.
//!
//! `LAP_RUNTIMES_PREBUILT_DIR` names a folder with `<id>.wasm` for each of them, where no nested cargo may run.
//!
//! A nested cargo builds the modules. It has a target directory of its own, because the outer cargo holds the lock of
//! the outer one, and none of the outer build's settings, because those are meant for the host.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";

/// The profile of the root manifest that is made for guests.
const PROFILE: &str = "runtime";

/// Variables of the outer build that would change the nested one, by how their names begin.
const NOT_INHERITED: [&str; 14] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CLIPPY_",
    "OUT_DIR",
    "RUSTC_",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];

fn main() {
    let root = directory("CARGO_MANIFEST_DIR").join("..");
    let out = directory("OUT_DIR");
    for input in ["wit", "runtimes", "Cargo.toml", "Cargo.lock"] {
        watch(&root.join(input));
    }
    println!("cargo::rerun-if-env-changed=LAP_RUNTIMES_PREBUILT_DIR");

    let ids = bundled(&root.join("runtimes"));
    match env::var_os("LAP_RUNTIMES_PREBUILT_DIR") {
        Some(prebuilt) => {
            let prebuilt = PathBuf::from(prebuilt);
            for id in &ids {
                let file = prebuilt.join(component(id));
                println!("cargo::rerun-if-changed={}", file.display());
                replace(&out.join(component(id)), &read(&file));
            }
        }
        None => {
            let modules = build(&root, &out, &ids);
            for id in &ids {
                let module = read(&modules.join(component(id)));
                replace(&out.join(component(id)), &encode(id, &module));
            }
        }
    }
    replace(&out.join("bundled.rs"), table(&root, &ids).as_bytes());
}

/// Ends the build with one line; a panic would bury it in a backtrace.
fn fail(reason: &str) -> ! {
    println!("cargo::error={}", reason.replace('\n', " "));
    process::exit(1);
}

fn directory(variable: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| fail(&format!("cargo sets {variable}")), PathBuf::from)
}

fn component(id: &str) -> String {
    format!("{id}.wasm")
}

/// Names a file, or a directory and everything in it. A directory alone would only say when files come and go.
fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
    if path.is_dir() {
        for entry in entries(path) {
            watch(&entry);
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<_> = entries.unwrap_or_else(|error| fail(&format!("{}: {error}", directory.display())));
    entries.sort();
    entries
}

fn bundled(runtimes: &Path) -> Vec<String> {
    let with_manifest = |folder: &PathBuf| folder.join("runtime.toml").is_file();
    let name = |folder: PathBuf| Some(folder.file_name()?.to_str()?.to_owned());
    entries(runtimes).into_iter().filter(with_manifest).filter_map(name).collect()
}

/// Builds the modules, and answers where they lie.
fn build(root: &Path, out: &Path, ids: &[String]) -> PathBuf {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    install_target(&rustc);
    let target_dir = nested_target_dir(out);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if NOT_INHERITED.iter().any(|prefix| name.to_str().is_some_and(|name| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    // Set, even if to nothing: that also overrides the flags in the user's own cargo configuration.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", without_builders_paths());
    // The very compiler of the outer build, also where that is not the one on the path.
    cargo.env("RUSTC", rustc).current_dir(root).args(["build", "--locked", "--lib", "--target", TARGET]);
    // The standard library brings 1.5 MB of debug information along. Function names stay, so traps can be read.
    cargo.args(["--profile", PROFILE]).arg("--target-dir").arg(&target_dir);
    cargo.args(ids.iter().flat_map(|id| ["--package", id]));
    if !ids.is_empty() && !run(&mut cargo) {
        fail("the bundled runtimes cannot be built; what cargo says stands above");
    }
    target_dir.join(TARGET).join(PROFILE)
}

/// Flags by which a component does not depend on where the crates of its builder lie, nor tells.
fn without_builders_paths() -> OsString {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = OsString::new();
    if let Some(home) = home {
        flags.push("--remap-path-prefix=");
        flags.push(home);
        flags.push("=/cargo");
    }
    flags
}

/// Installs the standard library for guests where it is missing.
fn install_target(rustc: &OsStr) {
    let library = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let installed = library.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(path.trim()).is_dir()
    });
    // `RUSTUP_TOOLCHAIN`, which rustup sets for its children, makes this the toolchain of the outer build.
    if !installed && !run(Command::new("rustup").args(["target", "add", TARGET])) {
        fail(&format!("the bundled runtimes need the target {TARGET}: run `rustup target add {TARGET}`"));
    }
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// `<outer target directory>/runtimes`, which all profiles share. `OUT_DIR` is
/// `<outer target directory>/[<triple>/]<profile>/build/<package>/out`; a triple's directory does as well.
fn nested_target_dir(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).join("runtimes")
}

/// Wraps a module as a component, and checks that it asks for nothing but the contract.
fn encode(id: &str, module: &[u8]) -> Vec<u8> {
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.validate(true).module(module).and_then(ComponentEncoder::encode);
    encoded.unwrap_or_else(|error| fail(&format!("{id} does not make a component: {error:#}")))
}

fn table(root: &Path, ids: &[String]) -> String {
    let entry = |id: &String| {
        let manifest = root.join("runtimes").join(id).join("runtime.toml");
        format!("    (include_str!({manifest:?}), include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{id}.wasm\"))),\n")
    };
    let entries: String = ids.iter().map(entry).collect();
    format!(
        "/// The manifest and the component of each bundled runtime.\nconst BUNDLED: &[(&str, &[u8])] = &[\n{entries}];\n"
    )
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| fail(&format!("{}: {error}", file.display())))
}

/// Writes a file in one step, since a second build may read it at the same time; one that is the same already keeps
/// its time, and what includes it is not built again.
fn replace(file: &Path, content: &[u8]) {
    if fs::read(file).is_ok_and(|old| old == content) {
        return;
    }
    let new = file.with_extension(format!("{}.new", process::id()));
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, file));
    written.unwrap_or_else(|error| fail(&format!("{}: {error}", file.display())));
}
