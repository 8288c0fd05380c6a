//! `lap runtime add --watch`: every build of a runtime's file goes to the host as it is made, and the last good one stays
//! while a build is broken.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use tokio::time::sleep;

use super::{
    ManageError, Remote,
    add::{Consent, Done, Source, once, send},
    path_of, show,
};
use crate::{
    id::ComponentDigest,
    print::{self, Unprinted},
};

/// How often the files are looked at. A file that has changed is read when it was the same in two looks.
const LOOK: Duration = Duration::from_millis(200);

/// How a file looks from outside.
#[derive(Clone, PartialEq, Eq)]
struct Look(Option<(i64, i64, u64)>);

impl Look {
    fn at(path: &Path) -> Self {
        // One that is not there, because it is being built, looks like none.
        Self(fs::metadata(path).ok().map(|file| (file.mtime(), file.mtime_nsec(), file.len())))
    }
}

/// Follows the files until the process is ended. The first version needs a grant as ever; later ones only when they ask
/// for more than that.
pub(super) async fn run(remote: &Remote, source: &Source, consent: &Consent) -> Result<(), ManageError> {
    let mut seen = looks(source);
    let mut builds = Builds::default();
    match once(remote, source, consent).await {
        Ok(done) => builds.added(remote, &done).await,
        // A build that the host refuses may be mended; what else is wrong may not.
        Err(error) if is_of_the_build(&error) => say_broken(&error)?,
        Err(error) => return Err(error),
    }
    print::line(format_args!("watching {} and {}; end with Ctrl-C", source.file.display(), source.manifest.display()))?;
    loop {
        sleep(LOOK).await;
        let now = looks(source);
        if now == seen {
            continue;
        }
        sleep(LOOK).await;
        // Somebody still writes, or has not begun again.
        if looks(source) != now || now.iter().any(|look| look.0.is_none()) {
            continue;
        }
        seen = now;
        match next(remote, source, consent).await {
            Ok(done) => builds.added(remote, &done).await,
            Err(error) => say_broken(&error)?,
        }
    }
}

async fn next(remote: &Remote, source: &Source, consent: &Consent) -> Result<Done, ManageError> {
    let done = send(remote, source, |review| {
        let wants_more = review.changes.iter().any(|change| change.what.is_authority());
        if !wants_more || consent.yes {
            return Ok(true);
        }
        print::text(show::review(review))?;
        Ok(super::ask("Let new sessions get this?")?.unwrap_or(false))
    });
    let done = done.await?;
    print::line(show::done(&done))?;
    Ok(done)
}

fn looks(source: &Source) -> [Look; 2] {
    [Look::at(&source.file), Look::at(&source.manifest)]
}

fn is_of_the_build(error: &ManageError) -> bool {
    matches!(
        error,
        ManageError::Artifact(_) | ManageError::TooLarge(_) | ManageError::Host(_) | ManageError::Unreadable { .. }
    )
}

fn say_broken(error: &ManageError) -> Result<(), Unprinted> {
    print::line(format_args!("this build is not taken, and the last good one stays: {error}"))
}

/// The builds that this run has added, and has to clear away again.
#[derive(Default)]
struct Builds {
    current: Option<ComponentDigest>,
    old: Vec<ComponentDigest>,
}

impl Builds {
    /// Removes the builds before this one that no session is on; those that one is on are tried again after the next.
    async fn added(&mut self, remote: &Remote, done: &Done) {
        if self.current != done.runtime.component {
            self.old.extend(self.current.filter(|_| done.replaces == self.current));
            self.current = done.runtime.component;
        }
        let mut kept = Vec::new();
        for component in std::mem::take(&mut self.old) {
            let path = format!("{}/versions/{component}", path_of(&done.runtime.id));
            if Some(component) != self.current && remote.delete(&path).await.is_err() {
                kept.push(component);
            }
        }
        self.old = kept;
    }
}
