//! A new project for the author of a runtime, `lap runtime new`: a working sample in a language of choice, with its tests, a
//! simulated vendor, and everything of this repository that it needs. Nothing is fetched.
//!
//! For `commands`. Must not know how a project is built: its own README does.

mod files;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use self::files::File;
use crate::id::RuntimeId;

/// What the templates call their runtime; every mention stands for the project's own name.
const SAMPLE: &str = "example_chat";

/// A language that there is a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// A module for cargo.
    Rust,
    /// A component of QuickJS, by jco.
    Js,
    /// A component of CPython, by componentize-py.
    Python,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Something lies where it should be.
    #[error("{} is not empty: name a directory that is missing or empty", .0.display())]
    Occupied(PathBuf),
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Writes a project for the runtime of that name into a directory, which must be empty or missing.
///
/// # Errors
/// When something is there already, or cannot be written.
pub fn create(name: &RuntimeId, language: Language, directory: &Path) -> Result<(), CreateError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        |source| CreateError::Unwritable { path, source }
    };
    fs::create_dir_all(directory).map_err(unwritable(directory))?;
    if fs::read_dir(directory).map_err(unwritable(directory))?.next().is_some() {
        return Err(CreateError::Occupied(directory.to_owned()));
    }
    for file in language.files().into_iter().flatten() {
        let path = directory.join(file.folder).join(file.name);
        let folder = path.parent().unwrap_or(directory);
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        fs::write(&path, text(file, name)).map_err(unwritable(&path))?;
    }
    Ok(())
}

/// A file's text in a project of that name.
fn text(file: &File, name: &RuntimeId) -> String {
    // The SDK lies beside the contract there, and not two folders beneath it.
    file.text.replace("../../wit/lap-runtime/0.1", "../wit").replace(SAMPLE, name.as_str())
}

impl Language {
    fn files(self) -> Vec<&'static [File]> {
        match self {
            Self::Rust => vec![files::SHARED, files::CONTRACT, files::RUST, files::RUST_SDK],
            Self::Js => vec![files::SHARED, files::CONTRACT, files::JS],
            Self::Python => vec![files::SHARED, files::CONTRACT, files::PYTHON],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LANGUAGES: [Language; 3] = [Language::Rust, Language::Js, Language::Python];

    /// The files beneath a folder of the repository, relative to it.
    fn beneath(folder: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = PathBuf::from(path.file_name().unwrap());
            match path.is_dir() {
                // What tools leave behind when somebody tries a template in its place.
                true if ["target", "node_modules", "__pycache__"].iter().any(|left| name == Path::new(left)) => {}
                true => found.extend(beneath(&path).into_iter().map(|inner| name.join(inner))),
                false => _ = found.insert(name),
            }
        }
        found
    }

    #[test]
    fn the_lists_of_files_are_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (folder, files, into) in [
            ("runtimes/templates/shared", files::SHARED, ""),
            ("runtimes/templates/rust", files::RUST, ""),
            ("runtimes/templates/js", files::JS, ""),
            ("runtimes/templates/python", files::PYTHON, ""),
            ("runtimes/sdk/src", files::RUST_SDK, "sdk/src"),
            ("wit/lap-runtime/0.1", files::CONTRACT, "wit"),
        ] {
            let listed = files.iter().map(|file| Path::new(file.folder).join(file.name));
            let listed = listed.map(|path| path.strip_prefix(into).unwrap().to_owned()).collect();
            assert_eq!(beneath(&root.join(folder)), listed, "{folder}");
        }
    }

    #[test]
    fn a_project_has_its_own_name_and_no_path_of_this_repository() {
        let directory = tempfile::tempdir().unwrap();
        let name: RuntimeId = "acme-2".parse().unwrap();
        for language in LANGUAGES {
            let project = directory.path().join(format!("{language:?}"));
            create(&name, language, &project).unwrap();
            let manifest = fs::read_to_string(project.join("runtime.toml")).unwrap();
            assert!(manifest.contains("id = \"acme-2\""), "{manifest}");
            for file in beneath(&project) {
                let text = fs::read_to_string(project.join(&file)).unwrap();
                assert!(!text.contains(SAMPLE) && !text.contains("../.."), "{language:?}: {}", file.display());
            }
        }
    }

    #[test]
    fn what_lies_there_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let name: RuntimeId = "acme".parse().unwrap();
        fs::write(directory.path().join("notes"), "mine").unwrap();
        let refused = create(&name, Language::Js, directory.path()).unwrap_err();
        assert!(matches!(refused, CreateError::Occupied(_)), "{refused}");
        assert_eq!(beneath(directory.path()), BTreeSet::from([PathBuf::from("notes")]));
        let beneath_a_file = directory.path().join("notes").join("project");
        assert!(matches!(create(&name, Language::Js, &beneath_a_file), Err(CreateError::Unwritable { .. })));
    }

    /// What this repository builds with, and has fetched, is what a project builds with.
    #[test]
    fn a_project_in_rust_is_locked_to_what_is_used_here() {
        let locked = |lock: &str| -> BTreeSet<String> {
            let packages = lock.split("[[package]]").skip(1);
            let line =
                |package: &str, name: &str| package.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            let fetched = packages.filter_map(|package| {
                Some(format!("{} {} {}", line(package, "name")?, line(package, "version")?, line(package, "checksum")?))
            });
            fetched.collect()
        };
        let here = locked(include_str!("../../../Cargo.lock"));
        let there = locked(include_str!("../../../runtimes/templates/rust/Cargo.lock"));
        assert!(!there.is_empty());
        assert_eq!(there.difference(&here).collect::<Vec<_>>(), Vec::<&String>::new());
        let toolchain = files::RUST.iter().find(|file| file.name == "rust-toolchain.toml").unwrap();
        assert_eq!(toolchain.text, include_str!("../../../rust-toolchain.toml"));
    }
}
