//! The runtimes as their operator sees them.

use std::sync::Arc;

use super::{Alias, Entry, Health, Registry, Version};
use crate::{
    id::RuntimeId,
    runtime::{self, Profile},
};

/// A runtime as its operator sees it.
pub struct View {
    /// Its name.
    pub id: RuntimeId,
    /// Where it comes from.
    pub source: Source,
    /// What new sessions get; nothing where that cannot be read.
    pub profile: Option<Arc<Profile>>,
    /// Whether its component can be loaded.
    pub health: Health,
    /// How its calls go; nothing where it has no component.
    pub conduct: Option<runtime::Health>,
    /// Its versions, the latest added first. A bundled runtime has none but itself.
    pub versions: Vec<VersionView>,
}

/// Where a runtime comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is part of the program.
    Bundled,
    /// Its operator has added it.
    Added,
    /// It is another name of this one; nothing where that cannot be read.
    Alias(Option<RuntimeId>),
}

/// A version of a runtime.
pub struct VersionView {
    /// What it is and may do.
    pub profile: Arc<Profile>,
    /// The text of its manifest.
    pub manifest: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// When it was added, in milliseconds since the epoch.
    pub added_ms: u64,
    /// By what grant.
    pub grant: String,
    /// True for the one that new sessions get.
    pub current: bool,
    /// Whether its component can be loaded.
    pub health: Health,
}

impl Registry {
    /// A runtime, as its operator sees it.
    #[must_use]
    pub fn view(&self, id: &str) -> Option<View> {
        self.alias(id).map_or_else(|| self.own(id), |alias| Some(self.other(alias)))
    }

    /// An alias: what it stands for, under its name. The versions are the other's.
    fn other(&self, alias: Alias) -> View {
        let Alias { name, of } = alias;
        let view = of.as_ref().ok().and_then(|of| self.own(of.as_str()));
        let source = Source::Alias(of.as_ref().ok().cloned());
        match (view, of) {
            (Some(view), _) => {
                let profile = view.profile.map(|profile| Arc::new(profile.under(&name)));
                View { id: name, source, profile, versions: Vec::new(), ..view }
            }
            (None, Ok(of)) => broken(name, source, format!("this host has no runtime {of}").into()),
            (None, Err(reason)) => broken(name, source, reason),
        }
    }

    /// A runtime of its own.
    fn own(&self, id: &str) -> Option<View> {
        let id = self.named(id)?;
        let bundled = self.0.bundled.get(id.as_str());
        let versions = match self.added().get(&id) {
            Some(Entry::Whole(versions)) => versions.clone(),
            Some(Entry::Damaged(reason)) if bundled.is_none() => {
                return Some(broken(id, Source::Added, Arc::clone(reason)));
            }
            Some(Entry::Damaged(_)) | None => {
                let profile = Arc::clone(bundled?.profile());
                return Some(View {
                    id,
                    source: Source::Bundled,
                    conduct: Some(self.0.loader.health(profile.component)),
                    profile: Some(profile),
                    health: Health::Loaded,
                    versions: Vec::new(),
                });
            }
        };
        let current = versions.current().filter(|_| bundled.is_none()).map(|version| version.stored.component);
        let view = |version: &Arc<Version>| VersionView {
            profile: Arc::clone(&version.profile),
            manifest: version.stored.manifest.clone(),
            imports: version.stored.imports.clone(),
            added_ms: version.stored.added_ms,
            grant: version.stored.grant.clone(),
            current: current == Some(version.stored.component),
            health: version.health(),
        };
        let (profile, health) = match (&bundled, versions.current()) {
            (Some(runtime), _) => (Some(Arc::clone(runtime.profile())), Health::Loaded),
            (None, Some(current)) => (Some(Arc::clone(&current.profile)), current.health()),
            (None, None) => (None, Health::Unloaded),
        };
        let all = versions.all.iter().rev().map(view).collect();
        let conduct = profile.as_ref().map(|profile: &Arc<Profile>| self.0.loader.health(profile.component));
        let source = if bundled.is_some() { Source::Bundled } else { Source::Added };
        Some(View { id, source, profile, health, conduct, versions: all })
    }

    /// All runtimes, as their operator sees them, by name.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        self.names().iter().filter_map(|id| self.view(id.as_str())).collect()
    }
}

/// One of which nothing can be read but its name.
fn broken(id: RuntimeId, source: Source, reason: Arc<str>) -> View {
    View { id, source, profile: None, health: Health::Failed(reason), conduct: None, versions: Vec::new() }
}
