//! The sealed list of all credentials and their versions.
//!
//! Sealing alone shows that a record was written here once, not that it is the latest, nor that none is missing. The
//! list does, since it is written in the same commit as the records.

use std::collections::BTreeMap;

use lap_seal::{IntegrityError, IntegrityFault, Place, Sealer, version};
use lap_store::{Commit, Rows, Table};

use super::StoreError;

pub(super) const MANIFEST: Table = Table::of_text("manifest");
const KEY: &str = "credentials";
const PLACE: Place<'static> = Place { table: "manifest", owner: "", id: KEY, field: "versions" };

/// Which credential has which version, by runtime.
#[derive(Default)]
pub(super) struct Manifest {
    /// The list's own version, of which it is the latest.
    version: u64,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The last version that was given out. It outlives the record, so that no version ever names two credentials.
    version: u64,
    present: bool,
}

impl Manifest {
    /// The list as the table holds it.
    pub(super) fn read(rows: &dyn Rows, sealer: &Sealer) -> Result<Self, StoreError> {
        let refuse = |fault| IntegrityError { record: "manifest/credentials".to_owned(), fault };
        let row = rows.get(KEY.as_bytes())?.ok_or_else(|| refuse(IntegrityFault::Missing))?;
        let opened = sealer.open(&PLACE, &row)?;
        let entries = serde_json::from_slice(&opened).map_err(|_| refuse(IntegrityFault::Malformed))?;
        Ok(Self { version: version(&row).unwrap_or_default(), entries })
    }

    /// Writes the list, as its next version.
    pub(super) fn write(&self, commit: &Commit, sealer: &Sealer) -> Result<(), lap_store::Error> {
        let plain = serde_json::to_vec(&self.entries).map_err(|_| lap_store::Error::Malformed(MANIFEST.name()))?;
        let sealed = sealer.seal(&PLACE, self.version + 1, &plain);
        commit.rows(MANIFEST)?.put(KEY.as_bytes(), &sealed)
    }

    /// The version of a credential that exists.
    pub(super) fn version_of(&self, runtime: &str) -> Option<u64> {
        self.entries.get(runtime).filter(|entry| entry.present).map(|entry| entry.version)
    }

    /// The runtimes with a credential, and its version.
    pub(super) fn present(&self) -> impl Iterator<Item = (&str, u64)> {
        let entries = self.entries.iter().filter(|(_, entry)| entry.present);
        entries.map(|(runtime, entry)| (runtime.as_str(), entry.version))
    }

    /// Lists a new version of a credential and gives its number, from 1.
    pub(super) fn put(&mut self, runtime: &str) -> u64 {
        let entry = self.entries.entry(runtime.to_owned()).or_insert(Entry { version: 0, present: true });
        *entry = Entry { version: entry.version + 1, present: true };
        entry.version
    }

    /// Takes a credential off the list; false when it was not on it.
    pub(super) fn remove(&mut self, runtime: &str) -> bool {
        self.entries.get_mut(runtime).is_some_and(|entry| std::mem::replace(&mut entry.present, false))
    }
}
