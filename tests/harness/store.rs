//! Stores that nobody has used yet, as copies of one. What a new store costs is the compilation of the bundled runtimes, and
//! the tests need hundreds.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use lap::Host;
use lap_store::{ALL, Direction, Limit, OpenError, Options, Store, Table};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::config;

/// What a store consists of: the place of each file in the data directory, and its bytes.
static FRESH: OnceCell<Vec<(PathBuf, Vec<u8>)>> = OnceCell::const_new();

/// A data directory with the store of a host that was started once and stopped.
pub async fn fresh() -> TempDir {
    let files = FRESH.get_or_init(make).await;
    let folder = tempfile::tempdir().unwrap();
    for (place, bytes) in files {
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // Keys that others may read are refused.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

async fn make() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(config(folder.path())).await.unwrap();
    host.shutdown().await;
    let files = files(folder.path(), Path::new(""));
    for (place, _) in files.iter().filter(|(place, _)| place.extension().is_some_and(|kind| kind == "redb")) {
        let database = File::open(folder.path().join(place)).unwrap();
        // The committer's thread may still be letting go of it.
        while database.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
    }
    files.into_iter().map(|(place, path)| (place, fs::read(path).unwrap())).collect()
}

/// Changes the last byte of every row of a table, as somebody could who may write to the file, and says how many there are.
pub fn damage(file: &Path, table: Table) -> usize {
    let options = Options { cache_bytes: 1 << 20, checks_all: true, recovers_at_once: true, forgets: false };
    let store = loop {
        match Store::open(file, options) {
            Err(OpenError::InUse) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let commit = store.begin().unwrap();
    let mut rows = commit.rows(table).unwrap();
    let whole = rows.page(ALL, Direction::Forwards, Limit::NONE).unwrap();
    for (key, value) in &whole {
        let mut value = value.clone();
        *value.last_mut().unwrap() ^= 1;
        rows.put(key, &value).unwrap();
    }
    drop(rows);
    commit.commit().unwrap();
    whole.len()
}

/// The files beneath a folder: the place of each in it, and its path.
fn files(folder: &Path, within: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(folder.join(within)).unwrap().map(|entry| entry.unwrap());
    let places = entries.map(|entry| (within.join(entry.file_name()), entry.path()));
    places.flat_map(|(place, path)| if path.is_dir() { files(folder, &place) } else { vec![(place, path)] }).collect()
}
