//! The files of the templates, as they lie in this repository.

/// A file of a project.
pub(super) struct File {
    /// Where it goes, from the project's root.
    pub(super) folder: &'static str,
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// Files of one folder of this repository, which go into one folder of a project.
macro_rules! files {
    ($($from:literal => $folder:literal: $($name:literal)+;)+) => {
        &[$($(File {
            folder: $folder,
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $from, "/", $name)),
        },)+)+]
    };
}

pub(super) const SHARED: &[File] = files! {
    "runtimes/templates/shared" => "": "RUN.md" "VENDOR.md" "runtime.toml";
    "runtimes/templates/shared/scenarios" => "scenarios": "failure.toml" "turns.toml";
};

pub(super) const CONTRACT: &[File] = files! {
    "wit/lap-runtime/0.1" => "wit": "runtime.wit" "types.wit" "upstream.wit";
};

pub(super) const RUST: &[File] = files! {
    "runtimes/templates/rust" => "": ".gitignore" "Cargo.lock" "Cargo.toml" "README.md" "rust-toolchain.toml" "rustfmt.toml";
    "runtimes/templates/rust/examples" => "examples": "vendor.rs";
    "runtimes/templates/rust/sdk" => "sdk": "Cargo.toml";
    "runtimes/templates/rust/src" => "src": "entries.rs" "lib.rs";
};

pub(super) const RUST_SDK: &[File] = files! {
    "runtimes/sdk/src" => "sdk/src": "bindings.rs" "error.rs" "event.rs" "frames.rs" "input.rs" "lib.rs" "log.rs" "message.rs"
        "panic.rs" "runtime.rs" "script.rs" "state.rs" "upstream.rs";
};

pub(super) const JS: &[File] = files! {
    "runtimes/templates/js" => "": ".gitignore" "README.md" "adapter.js" "adapter.test.js" "component.js" "lap.js"
        "package-lock.json" "package.json" "vendor.js";
};

pub(super) const PYTHON: &[File] = files! {
    "runtimes/templates/python" => "": ".gitignore" "README.md" "requirements.txt" "vendor.py";
    "runtimes/templates/python/src" => "src": "adapter.py" "component.py" "lap.py";
    "runtimes/templates/python/tests" => "tests": "__init__.py" "test_adapter.py";
};
