//! What a new version would change, as a pure function of two manifests and what two components ask for. The operator is
//! shown it, and the grant names exactly what was shown.

use std::{collections::BTreeMap, fmt};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::rows::StoredVersion;
use crate::{
    id::{ComponentDigest, RuntimeId},
    runtime::{Auth, Manifest, Rule},
    upstream::Method,
};

/// One side of a review.
pub(super) struct Side<'a> {
    pub(super) component: ComponentDigest,
    pub(super) bytes: u64,
    pub(super) imports: &'a [String],
    pub(super) manifest: &'a Manifest,
    /// The text of the manifest.
    pub(super) text: &'a str,
}

impl<'a> Side<'a> {
    pub(super) fn of(stored: &'a StoredVersion, manifest: &'a Manifest) -> Self {
        let StoredVersion { component, component_bytes, imports, manifest: text, .. } = stored;
        Self { component: *component, bytes: *component_bytes, imports, manifest, text }
    }
}

/// What a version is about to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The new component.
    pub component: ComponentDigest,
    /// The component that new sessions get so far; nothing for a new runtime.
    pub replaces: Option<ComponentDigest>,
    /// What the operator says to let this happen, and nothing else.
    pub grant: String,
    /// Everything that differs; for a new runtime, everything that it is and asks for.
    pub changes: Vec<Change>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of thing.
    pub what: Subject,
    /// As it is; nothing for what is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// As it becomes; nothing for what goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<String>,
}

/// What can differ between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The component's digest.
    Component,
    /// Its size in bytes.
    Size,
    /// The version of the contract.
    Contract,
    /// An interface that it imports.
    Import,
    /// The header that the credential goes into.
    Auth,
    /// Requests that the component may send.
    Allow,
    /// Requests of clients that go on to the upstream.
    Forward,
}

impl Subject {
    /// True for what the component may do, and not only what it is.
    #[must_use]
    pub const fn is_authority(self) -> bool {
        match self {
            Self::Component | Self::Size => false,
            Self::Contract | Self::Import | Self::Auth | Self::Allow | Self::Forward => true,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Size => "size",
            Self::Contract => "contract",
            Self::Import => "import",
            Self::Auth => "auth",
            Self::Allow => "allow",
            Self::Forward => "forward",
        }
    }
}

/// A line beginning with `-` for what goes, one with `+` for what comes.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.as_str();
        if let Some(was) = &self.was {
            writeln!(f, "- {what:<9} {was}")?;
        }
        if let Some(becomes) = &self.becomes {
            writeln!(f, "+ {what:<9} {becomes}")?;
        }
        Ok(())
    }
}

/// Compares a version with the one that it would replace.
pub(super) fn review(old: Option<&Side<'_>>, new: &Side<'_>) -> Review {
    let mut changes = Vec::new();
    let mut one = |what, of: &dyn Fn(&Side<'_>) -> String| {
        let (was, becomes) = (old.map(of), of(new));
        if was.as_ref() != Some(&becomes) {
            changes.push(Change { what, was, becomes: Some(becomes) });
        }
    };
    one(Subject::Component, &|side| side.component.to_string());
    one(Subject::Size, &|side| format!("{} bytes", side.bytes));
    one(Subject::Contract, &|side| format!("lap:runtime {}", side.manifest.contract));
    one(Subject::Auth, &|side| slot(&side.manifest.auth));
    let mut many = |what, of: &dyn Fn(&Side<'_>) -> Vec<String>| {
        let (was, becomes) = (old.map(of).unwrap_or_default(), of(new));
        let gone = was.iter().filter(|it| !becomes.contains(it));
        changes.extend(gone.map(|it| Change { what, was: Some(it.clone()), becomes: None }));
        let come = becomes.iter().filter(|it| !was.contains(it));
        changes.extend(come.map(|it| Change { what, was: None, becomes: Some(it.clone()) }));
    };
    many(Subject::Import, &|side| side.imports.to_vec());
    many(Subject::Allow, &|side| rules(&side.manifest.allow));
    many(Subject::Forward, &|side| rules(&side.manifest.forward));
    let runtime = new.manifest.id.clone();
    let grant = grant(&runtime, old, new);
    Review { runtime, component: new.component, replaces: old.map(|old| old.component), grant, changes }
}

/// Names a review: the same for the same runtime, component and manifest, in place of the same ones.
fn grant(runtime: &RuntimeId, old: Option<&Side<'_>>, new: &Side<'_>) -> String {
    let mut context = Context::new(&SHA256);
    let (was, was_text) = old.map_or_else(Default::default, |old| (old.component.to_string(), old.text));
    let becomes = new.component.to_string();
    for part in ["lap grant 1", runtime.as_str(), &becomes, new.text, &was, was_text] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref().iter().fold("grant_".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The slot of a credential, as the header looks.
#[must_use]
pub fn slot(auth: &Auth) -> String {
    let Auth { header, scheme } = auth;
    if scheme.is_empty() { format!("{header}: …") } else { format!("{header}: {scheme} …") }
}

/// Rules in a form in which two that allow the same look the same: one line for each path.
#[must_use]
pub fn rules(rules: &[Rule]) -> Vec<String> {
    let mut paths: BTreeMap<&str, Vec<Method>> = BTreeMap::new();
    for rule in rules {
        let methods = paths.entry(rule.path()).or_default();
        methods.extend(rule.methods().iter().filter(|method| !methods.contains(method)).copied().collect::<Vec<_>>());
    }
    let line = |(path, mut methods): (&str, Vec<Method>)| {
        methods.sort_by_key(|method| method.as_str());
        let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
        format!("{} {path}", methods.join(" "))
    };
    paths.into_iter().map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const OLD: &str = r#"
        id = "sample"
        contract = "0.1"
        auth = { header = "x-api-key" }
        allow = [{ methods = ["GET"], path = "/v1/a" }, { methods = ["POST"], path = "/v1/a" }]
    "#;
    const NEW: &str = r#"
        id = "sample"
        contract = "0.1"
        auth = { header = "authorization", scheme = "Bearer" }
        allow = [{ methods = ["POST", "GET"], path = "/v1/a" }, { methods = ["DELETE"], path = "/v1/b" }]
        forward = [{ methods = ["GET"], path = "/v1/files" }]
    "#;

    /// The review of a component in place of another, each under its manifest.
    fn reviewed(old: Option<(&[u8], &str)>, new: (&[u8], &str)) -> Review {
        let parse = |(_, text): (&[u8], &str)| text.parse::<Manifest>().unwrap();
        let (old_manifest, new_manifest) = (old.map(parse), parse(new));
        let imports = ["lap:runtime/log@0.1.0".to_owned()];
        let side = |(bytes, text): (&[u8], _), manifest| {
            let component = ComponentDigest::of(bytes);
            Side { component, bytes: bytes.len() as u64, imports: &imports, manifest, text }
        };
        // Borrowed for as long as the review takes.
        let old = old.zip(old_manifest.as_ref()).map(|(old, manifest)| side(old, manifest));
        review(old.as_ref(), &side(new, &new_manifest))
    }

    fn lines(review: &Review) -> Vec<String> {
        let text: String = review.changes.iter().map(ToString::to_string).collect();
        text.lines().filter(|line| !line.contains("sha256:")).map(str::to_owned).collect()
    }

    #[test]
    fn a_new_runtime_shows_everything_that_it_asks_for() {
        let review = reviewed(None, (b"one", NEW));
        assert_eq!(
            lines(&review),
            [
                "+ size      3 bytes",
                "+ contract  lap:runtime 0.1",
                "+ auth      authorization: Bearer …",
                "+ import    lap:runtime/log@0.1.0",
                "+ allow     GET POST /v1/a",
                "+ allow     DELETE /v1/b",
                "+ forward   GET /v1/files",
            ]
        );
        assert_eq!(review.replaces, None);
    }

    #[test]
    fn an_upgrade_shows_what_differs_and_nothing_that_is_only_written_otherwise() {
        let review = reviewed(Some((b"one", OLD)), (b"four", NEW));
        assert_eq!(
            lines(&review),
            [
                "- size      3 bytes",
                "+ size      4 bytes",
                "- auth      x-api-key: …",
                "+ auth      authorization: Bearer …",
                "+ allow     DELETE /v1/b",
                "+ forward   GET /v1/files",
            ]
        );
        assert!(review.changes.iter().any(|change| change.what.is_authority()));
        let narrowed = reviewed(Some((b"four", NEW)), (b"four", OLD));
        assert!(lines(&narrowed).contains(&"- forward   GET /v1/files".to_owned()));
        let rebuilt = reviewed(Some((b"one", OLD)), (b"two", OLD));
        assert!(!rebuilt.changes.iter().any(|change| change.what.is_authority()));
    }

    #[test]
    fn a_grant_names_one_component_one_manifest_and_what_they_replace() {
        let granted = |old, new| reviewed(old, new).grant;
        let grant = granted(Some((b"one", OLD)), (b"two", NEW));
        assert_eq!(grant, granted(Some((b"one", OLD)), (b"two", NEW)));
        assert_eq!(grant.len(), "grant_".len() + 64);
        let commented = format!("{NEW}\n# the same, said otherwise");
        for other in [
            granted(None, (b"two", NEW)),
            granted(Some((b"three", OLD)), (b"two", NEW)),
            granted(Some((b"one", NEW)), (b"two", NEW)),
            granted(Some((b"one", OLD)), (b"three", NEW)),
            granted(Some((b"one", OLD)), (b"two", OLD)),
            granted(Some((b"one", OLD)), (b"two", &commented)),
        ] {
            assert_ne!(grant, other);
        }
    }
}
