//! Files that only their owner may read, written so that a crash leaves the old one or the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Creates a file for reading and writing that nobody else may open (mode 0600), and makes its name durable.
///
/// # Errors
/// Those of the system; an existing file is `AlreadyExists` and stays as it is.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    sync_directory_of(path)?;
    Ok(file)
}

/// Replaces the file at `path`, at once and durably. `<path>.new` is in use meanwhile.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    remove_leftover(&new)?;
    let mut file = create_private_file(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename_private_file(&new, path)
}

/// Renames, and makes the new name durable.
///
/// # Errors
/// Those of the system.
pub fn rename_private_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory_of(to)
}

/// Removes what an interrupted run left under a temporary name.
pub(super) fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new name lives in the directory, which has its own fsync.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
