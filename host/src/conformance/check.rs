//! What a file is, what it asks for, and everything that keeps a host from taking it, all at once.

use std::fmt;

use serde::Serialize;

use crate::runtime::{Artifact, Auth, CONTRACT, Description, Kind, Manifest, Symbols, Trial, TrialError, inspect};

/// What is known of a runtime's file.
#[derive(Debug, Serialize)]
pub struct Check {
    /// True when a host would take it.
    pub accepted: bool,
    /// What keeps a host from taking it. Each says what to do.
    pub problems: Vec<Problem>,
    /// What is worth to know, and no reason to refuse.
    pub warnings: Vec<Problem>,
    /// The size of the file, in bytes.
    pub file_bytes: usize,
    /// What the file holds; nothing when that cannot be found out.
    pub artifact: Option<Facts>,
    /// What the component says of itself; nothing when it was not asked, because it is refused already.
    pub asks: Option<Asks>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A word for programs that does not change.
    pub code: &'static str,
    /// A sentence that says what to do.
    pub message: String,
}

impl Problem {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What stands in the file.
#[derive(Debug, Serialize)]
pub struct Facts {
    kind: Kind,
    /// Of the component, in bytes.
    component_bytes: usize,
    digest: String,
    contract: Option<String>,
    imports: Vec<String>,
    exports: Vec<String>,
    symbols: Symbols,
    producers: Vec<String>,
}

/// What a component says of itself, and with that asks for.
#[derive(Debug, Serialize)]
pub struct Asks {
    id: String,
    name: String,
    provider: String,
    default_base: String,
    auth_header: String,
    auth_scheme: String,
    tools: Vec<String>,
}

impl From<&Description> for Asks {
    fn from(description: &Description) -> Self {
        Self {
            id: description.id.clone(),
            name: description.name.clone(),
            provider: format!("{} ({})", description.provider_name, description.provider_id),
            default_base: description.default_base.clone(),
            auth_header: description.auth_header.clone(),
            auth_scheme: description.auth_scheme.clone(),
            tools: description.tools.iter().map(|tool| tool.id.clone()).collect(),
        }
    }
}

impl Check {
    /// Checks a file against a manifest, or, without one, for whether any manifest could do.
    pub async fn run(file: &[u8], manifest: Option<Result<Manifest, String>>) -> Self {
        let mut check = Self {
            accepted: false,
            problems: Vec::new(),
            warnings: Vec::new(),
            file_bytes: file.len(),
            artifact: None,
            asks: None,
        };
        let manifest = match manifest {
            Some(Ok(manifest)) => Some(manifest),
            Some(Err(error)) => {
                check.problems.push(Problem::new("manifest", error));
                None
            }
            None => {
                let message = "no manifest was given, so whether it fits one is not known: name it with --manifest";
                check.warnings.push(Problem::new("no_manifest", message));
                None
            }
        };
        match Artifact::read(file) {
            Ok(artifact) => check.look(&artifact, manifest).await,
            Err(error) => check.problems.push(Problem::new("not_a_runtime", error.to_string())),
        }
        check.accepted = check.problems.is_empty();
        check
    }

    async fn look(&mut self, artifact: &Artifact<'_>, manifest: Option<Manifest>) {
        let objections = artifact.objections();
        self.problems.extend(objections.iter().map(|objection| Problem::new(objection.code(), objection.to_string())));
        let shape = inspect(&artifact.component);
        if let Err(error) = &shape {
            self.problems.push(Problem::new("too_large", error.to_string()));
        }
        self.warn(artifact);
        self.artifact = Some(Facts {
            kind: artifact.kind,
            component_bytes: artifact.component.len(),
            digest: artifact.digest(),
            contract: artifact.contract().map(str::to_owned),
            imports: artifact.imports.clone(),
            exports: artifact.exports.clone(),
            symbols: artifact.symbols,
            producers: artifact.producers.iter().cloned().collect(),
        });
        if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.contract != CONTRACT) {
            let contract = &manifest.contract;
            let message = format!(
                "the manifest says contract = {contract:?}, and this host has {CONTRACT}: write contract = {CONTRACT:?}, or use a newer host"
            );
            self.problems.push(Problem::new("contract", message));
        } else if objections.is_empty() && shape.is_ok() {
            self.ask(artifact, manifest).await;
        }
    }

    fn warn(&mut self, artifact: &Artifact<'_>) {
        if artifact.symbols == Symbols::Stripped {
            let message = "the names of its functions are stripped, so a crash tells numbers only: keep them \
                           (strip = \"debuginfo\" in Rust's profile, and no --strip-all)";
            self.warnings.push(Problem::new("stripped", message));
        }
        let wasi: Vec<_> = artifact.wasi().collect();
        if !wasi.is_empty() {
            let message = format!(
                "its standard library imports {} of WASI, which it gets with nothing behind them (no file, no clock that \
                 goes, no chance): harmless, and a build for wasm32-unknown-unknown needs none",
                counted(wasi.len(), "interface")
            );
            self.warnings.push(Problem::new("wasi", message));
        }
    }

    async fn ask(&mut self, artifact: &Artifact<'_>, manifest: Option<Manifest>) {
        match Trial::start(&artifact.component, manifest).await {
            Ok(trial) => {
                let description = trial.runtime.description();
                self.asks = Some(Asks::from(description));
                let fix = "change one of the two, they must be the same";
                let fitting = |mismatch: &String| Problem::new("mismatch", format!("{mismatch}; {fix}"));
                self.problems.extend(trial.mismatches.iter().map(fitting));
                self.problems.extend(claims_in_form(description, trial.runtime.profile().auth()));
            }
            Err(TrialError::Refused(error)) => self.problems.push(Problem::new(error.code(), error.to_string())),
            Err(error) => self.problems.push(Problem::new("no_engine", error.to_string())),
        }
    }
}

/// Claims that no manifest can grant, because they have no such form.
fn claims_in_form(description: &Description, auth: &Auth) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(error) = crate::upstream::Slot::new(&auth.header, &auth.scheme) {
        problems
            .push(Problem::new("auth", format!("{error}; use one such as `authorization` with the scheme `Bearer`")));
    }
    if let Err(error) = description.default_base.parse::<crate::upstream::BaseUrl>() {
        let base = &description.default_base;
        problems.push(Problem::new(
            "default_base",
            format!("default-base {base:?} is no base URL: {error}; use one such as `https://api.example.com`"),
        ));
    }
    problems
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(facts) = &self.artifact {
            facts.fmt(f)?;
        }
        if let Some(asks) = &self.asks {
            asks.fmt(f)?;
        }
        for (word, problems) in [("warning", &self.warnings), ("problem", &self.problems)] {
            for problem in problems {
                writeln!(f, "{word}    {}", problem.message)?;
            }
        }
        match self.problems.len() {
            0 => writeln!(f, "accepted   a host that has contract {CONTRACT} takes it"),
            count => writeln!(f, "refused    {}", counted(count, "problem")),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Component => "component",
            Kind::Module => "core module, wrapped as a component",
        };
        writeln!(f, "file       {kind}, {} bytes", self.component_bytes)?;
        writeln!(f, "digest     {}", self.digest)?;
        writeln!(f, "contract   {}", self.contract.as_deref().unwrap_or("none"))?;
        writeln!(f, "made by    {}", self.producers.join(", "))?;
        writeln!(f, "imports    {}", self.imports.join(", "))?;
        writeln!(f, "exports    {}", self.exports.join(", "))?;
        let symbols = match self.symbols {
            Symbols::Stripped => "stripped",
            Symbols::Functions => "function names",
            Symbols::Lines => "function names and source lines",
        };
        writeln!(f, "symbols    {symbols}")
    }
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "id         {} ({})", self.id, self.name)?;
        writeln!(f, "vendor     {}, {}", self.provider, self.default_base)?;
        let scheme = if self.auth_scheme.is_empty() { "" } else { " " };
        writeln!(f, "credential {}: {}{scheme}<credential>", self.auth_header, self.auth_scheme)?;
        writeln!(f, "tools      {}", if self.tools.is_empty() { "none".to_owned() } else { self.tools.join(", ") })
    }
}
