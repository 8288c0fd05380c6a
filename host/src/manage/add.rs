//! One version on its way to a host: read, sent, reviewed, granted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    ManageError, Remote, ask,
    show::{self, Runtime},
};
use crate::{
    http::CallError,
    id::ComponentDigest,
    print,
    registry::Review,
    runtime::{Artifact, COMPONENT_BYTES_MAX},
};

/// Where a runtime comes from.
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) manifest: PathBuf,
}

/// To what the operator agrees beforehand.
pub(super) struct Consent {
    pub(super) yes: bool,
    pub(super) grant: Option<String>,
}

/// What a host made of a version.
pub(super) struct Done {
    pub(super) runtime: Runtime,
    /// What new sessions got before.
    pub(super) replaces: Option<ComponentDigest>,
}

impl Source {
    /// The manifest is the one that was named, or lies where a project has it.
    pub(super) fn new(file: PathBuf, named: Option<PathBuf>) -> Result<Self, ManageError> {
        let beside = file.parent().unwrap_or(Path::new("")).join("runtime.toml");
        let usual = || [beside, PathBuf::from("runtime.toml")].into_iter().find(|path| path.is_file());
        let manifest = named.or_else(usual).ok_or_else(|| ManageError::NoManifest(file.clone()))?;
        Ok(Self { file, manifest })
    }

    /// The component and the text of the manifest.
    fn read(&self) -> Result<(Vec<u8>, String), ManageError> {
        let unreadable = |path: &PathBuf| {
            let path = path.clone();
            |source| ManageError::Unreadable { path, source }
        };
        let bytes = fs::read(&self.file).map_err(unreadable(&self.file))?;
        let manifest = fs::read_to_string(&self.manifest).map_err(unreadable(&self.manifest))?;
        let component = Artifact::read(&bytes)?.component.into_owned();
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(ManageError::TooLarge(component.len()));
        }
        Ok((component, manifest))
    }
}

/// Adds a version, and says what came of it.
pub(super) async fn once(remote: &Remote, source: &Source, consent: &Consent) -> Result<Done, ManageError> {
    let done = send(remote, source, |review| agree(review, consent)).await?;
    print::line(show::done(&done))?;
    Ok(done)
}

/// Shows a review, and says whether it shall happen.
fn agree(review: &Review, consent: &Consent) -> Result<bool, ManageError> {
    print::text(show::review(review))?;
    if consent.yes || consent.grant.as_ref() == Some(&review.grant) {
        return Ok(true);
    }
    match ask(&format!("Let new sessions of {} get this?", review.runtime))? {
        Some(agreed) => Ok(agreed),
        None => Err(ManageError::Ungranted(Box::new(review.clone()))),
    }
}

/// Sends a version, and again with the grant if `agree` says so.
pub(super) async fn send(
    remote: &Remote,
    source: &Source,
    agree: impl FnOnce(&Review) -> Result<bool, ManageError>,
) -> Result<Done, ManageError> {
    let (bytes, manifest) = source.read()?;
    let component = ComponentDigest::of(&bytes);
    let wish = |grant: Option<&str>| json!({"component": component, "manifest": manifest, "grant": grant});
    let mut asked = post(remote, &wish(None)).await;
    if matches!(&asked, Err(CallError::Refused(refused)) if refused.code == "component_missing") {
        remote.put(&format!("/api/components/{component}"), bytes.into()).await?;
        asked = post(remote, &wish(None)).await;
    }
    let refused = match asked {
        // It was so already.
        Ok(runtime) => return Ok(Done { runtime: serde_json::from_value(runtime)?, replaces: Some(component) }),
        Err(CallError::Refused(refused)) if refused.code == "grant_required" => refused,
        Err(error) => return Err(error.into()),
    };
    let review: Review = serde_json::from_value(refused.details)?;
    if !agree(&review)? {
        return Err(ManageError::Declined);
    }
    let runtime = post(remote, &wish(Some(&review.grant))).await?;
    Ok(Done { runtime: serde_json::from_value(runtime)?, replaces: review.replaces })
}

async fn post(remote: &Remote, wish: &Value) -> Result<Value, CallError> {
    remote.post("/api/agent-runtimes", wish).await
}
