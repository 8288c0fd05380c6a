//! Bytes as a build tool makes them: what they are, and what they ask for, before any of it is compiled or runs.
//!
//! For whoever takes a runtime from a file. A component is taken as it is. A core module, which is what
//! `cargo build --target wasm32-unknown-unknown` leaves, becomes the component that its contract's types describe.

use std::{borrow::Cow, collections::BTreeSet};

use wasmparser::{BinaryReaderError, Encoding, KnownCustom, Name, Parser, Payload};
use wit_component::ComponentEncoder;

use super::component::{LoadError, objections};

/// The largest file that is looked at. Components with an interpreter inside have up to 35 MB.
pub const ARTIFACT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A runtime's file, read and not yet compiled.
#[derive(Debug)]
pub struct Artifact<'a> {
    /// What the file is.
    pub kind: Kind,
    /// The component.
    pub component: Cow<'a, [u8]>,
    /// The interfaces that it imports, such as `lap:runtime/upstream@0.1.0`, in their order.
    pub imports: Vec<String>,
    /// Those that it exports.
    pub exports: Vec<String>,
    /// How much of a crash can be read.
    pub symbols: Symbols,
    /// What made it, such as `Rust` and `rustc 1.95.0`.
    pub producers: BTreeSet<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A component.
    Component,
    /// A core module with the contract's types, of which a component was made.
    Module,
}

/// What the code's largest module tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Symbols {
    /// Nothing: a crash names functions by number.
    Stripped,
    /// The names of its functions.
    Functions,
    /// Names and source lines.
    Lines,
}

/// Why a file is none that a runtime can be made of. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is empty or far too large.
    #[error(
        "the file has {bytes} bytes, and a runtime has 8 to {ARTIFACT_BYTES_MAX}: build it for release, and strip its debug information"
    )]
    Size {
        /// How large it is.
        bytes: usize,
    },
    /// It is something else altogether.
    #[error("the file is not WebAssembly: it begins with {0:?}; name the .wasm file that your build tool makes")]
    NoWasm(String),
    /// It is WebAssembly, and broken or newer than this host.
    #[error("the file cannot be read as WebAssembly: {0}; build it again, and copy it as a binary file")]
    Malformed(String),
    /// A module for WASI preview 1.
    #[error(
        "the module is built for WASI preview 1 (it imports {0:?}): build it for wasm32-unknown-unknown, which needs no WASI, or for wasm32-wasip2"
    )]
    Preview1(String),
    /// A module without the contract.
    #[error(
        "the module does not say what contract it is built for: build a `cdylib` with lap-runtime-sdk and `export!`, or with wit-bindgen and the world `runtime` of wit/lap-runtime/0.1"
    )]
    NoContract,
    /// A module that its own types do not fit.
    #[error("no component can be made of the module: {0}")]
    Encode(String),
}

impl<'a> Artifact<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// When no component is in it. What a component asks for is not judged here; see [`Self::objections`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, ArtifactError> {
        if !(8..=ARTIFACT_BYTES_MAX).contains(&bytes.len()) {
            return Err(ArtifactError::Size { bytes: bytes.len() });
        }
        if !bytes.starts_with(b"\0asm") {
            let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned();
            return Err(ArtifactError::NoWasm(beginning));
        }
        let (kind, component) = if Self::is_module(bytes) {
            (Kind::Module, Cow::Owned(encode(bytes)?))
        } else {
            (Kind::Component, Cow::Borrowed(bytes))
        };
        let Contents { imports, exports, largest, producers } = contents(&component)?;
        Ok(Self { kind, component, imports, exports, symbols: largest.symbols, producers })
    }

    /// True for a core module, of which a component can be made. Looks at the first bytes alone.
    #[must_use]
    pub fn is_module(bytes: &[u8]) -> bool {
        Parser::is_core_wasm(bytes)
    }

    /// Everything that keeps this host from taking the component, as far as names tell.
    #[must_use]
    pub fn objections(&self) -> Vec<LoadError> {
        objections(self.imports.iter().map(String::as_str), self.exports.iter().map(String::as_str))
    }

    /// The version of the contract that it is built for, such as `0.1.0`.
    #[must_use]
    pub fn contract(&self) -> Option<&str> {
        self.exports.iter().find_map(|export| export.strip_prefix("lap:runtime/adapter@"))
    }

    /// The interfaces of WASI that its standard library drags in.
    pub fn wasi(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().map(String::as_str).filter(|import| import.starts_with("wasi:"))
    }

    /// `sha256:` and the digest of the component in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.component)
    }
}

/// `sha256:` and the digest of a component, by which it is known.
#[must_use]
pub fn digest(component: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, component);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl From<BinaryReaderError> for ArtifactError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error.message().to_owned())
    }
}

/// Makes a component of a module.
fn encode(module: &[u8]) -> Result<Vec<u8>, ArtifactError> {
    let mut described = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CustomSection(section) => described |= section.name().starts_with("component-type"),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let module = import?.module;
                    if module.starts_with("wasi_snapshot_preview1") || module.starts_with("wasi_unstable") {
                        return Err(ArtifactError::Preview1(module.to_owned()));
                    }
                }
            }
            _ => {}
        }
    }
    if !described {
        return Err(ArtifactError::NoContract);
    }
    let encoded = ComponentEncoder::default().validate(true).module(module).and_then(ComponentEncoder::encode);
    encoded.map_err(|error| ArtifactError::Encode(format!("{error:#}")))
}

struct Contents {
    imports: Vec<String>,
    exports: Vec<String>,
    largest: Code,
    producers: BTreeSet<String>,
}

/// The code of one module.
struct Code {
    bytes: u32,
    symbols: Symbols,
}

impl Code {
    const NONE: Self = Self { bytes: 0, symbols: Symbols::Stripped };
}

/// Looks through a component, and through what is nested in it.
fn contents(component: &[u8]) -> Result<Contents, BinaryReaderError> {
    let mut contents =
        Contents { imports: Vec::new(), exports: Vec::new(), largest: Code::NONE, producers: BTreeSet::new() };
    // What is open around the place that is read: a module with its code, or a component.
    let mut open: Vec<Option<Code>> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding, .. } => open.push((encoding == Encoding::Module).then_some(Code::NONE)),
            Payload::End(_) => {
                if let Some(Some(code)) = open.pop()
                    && code.bytes > contents.largest.bytes
                {
                    contents.largest = code;
                }
            }
            Payload::ComponentImportSection(imports) if open.len() == 1 => {
                for import in imports {
                    contents.imports.push(import?.name.full_name().into_owned());
                }
            }
            Payload::ComponentExportSection(exports) if open.len() == 1 => {
                for export in exports {
                    contents.exports.push(export?.name.full_name().into_owned());
                }
            }
            Payload::CodeSectionStart { size, .. } => {
                if let Some(Some(code)) = open.last_mut() {
                    code.bytes = size;
                }
            }
            Payload::CustomSection(section) => {
                let symbols = match section.as_known() {
                    // A section that cannot be read costs nothing but what it would have told.
                    KnownCustom::Name(names) => names
                        .into_iter()
                        .flatten()
                        .any(|name| matches!(name, Name::Function(_)))
                        .then_some(Symbols::Functions),
                    KnownCustom::Producers(fields) => {
                        contents.producers.extend(fields.into_iter().flatten().flat_map(made_by));
                        None
                    }
                    _ => (section.name() == ".debug_line").then_some(Symbols::Lines),
                };
                if let (Some(symbols), Some(Some(code))) = (symbols, open.last_mut()) {
                    code.symbols = code.symbols.max(symbols);
                }
            }
            _ => {}
        }
    }
    Ok(contents)
}

fn made_by(field: wasmparser::ProducersField<'_>) -> Vec<String> {
    if !matches!(field.name, "language" | "processed-by" | "sdk") {
        return Vec::new();
    }
    let version = |version: &str| version.split_whitespace().next().map(str::to_owned).unwrap_or_default();
    let values = field.values.into_iter().flatten();
    values.map(|value| format!("{} {}", value.name, version(value.version)).trim_end().to_owned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Artifact::read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_runtime_is_refused_with_the_way_out() {
        assert!(refused(b"").contains("0 bytes"));
        assert!(refused(b"(module) ; text").contains("it begins with \"(module) ; text\""));
        assert!(refused(b"\0asm\x0d\0\x01\0\xff").contains("build it again"));
        let plain = wat::parse_str("(module (func))").unwrap();
        assert!(refused(&plain).contains("export!"));
        let old = wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#).unwrap();
        assert!(refused(&old).contains("wasm32-unknown-unknown"));
    }

    #[test]
    fn all_objections_are_raised_at_once_and_each_once() {
        let text = r#"(component
            (import "wasi:sockets/tcp@0.2.6" (instance))
            (import "wasi:io/poll@0.2.6" (instance))
            (import "lap:runtime/log@0.2.0" (instance))
            (import "lap:runtime/upstream@0.2.0" (instance)))"#;
        let bytes = wat::parse_str(text).unwrap();
        let artifact = Artifact::read(&bytes).unwrap();
        let objections: Vec<_> = artifact.objections().iter().map(ToString::to_string).collect();
        assert_eq!(objections.len(), 3, "{objections:?}");
        assert!(objections[0].contains("needs lap:runtime 0.2.0") && objections[0].contains("use a newer host"));
        assert!(objections[1].contains("wasi:sockets/tcp@0.2.6") && objections[1].contains("lap:runtime/upstream"));
        assert!(objections[2].contains("does not export"));
        assert_eq!(artifact.wasi().count(), 2);
    }

    #[test]
    fn a_bundled_runtime_tells_what_made_it_and_the_names_of_its_functions() {
        let (_, bytes) = crate::bundled()[0];
        let artifact = Artifact::read(bytes).unwrap();
        assert_eq!(
            (artifact.kind, artifact.symbols, artifact.contract()),
            (Kind::Component, Symbols::Functions, Some("0.1.0"))
        );
        assert!(artifact.producers.iter().any(|made| made.starts_with("rustc")), "{:?}", artifact.producers);
        assert!(artifact.objections().is_empty() && artifact.wasi().next().is_none());
        assert!(artifact.digest().starts_with("sha256:") && artifact.digest().len() == 71);
    }
}
