//! The credentials: two sealed values each, the key itself and what may be shown of it.

use lap_seal::{IntegrityError, IntegrityFault, Place};
use lap_store::{ALL, Cause, Commit, Rows, Table};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    Vault,
    manifest::{MANIFEST, Manifest},
    note_failure, probe,
    secret::{Secret, UnusableSecret, masked},
    table::{Also, RowError},
};
use crate::{
    clock,
    id::RuntimeId,
    upstream::{BaseUrl, Origin},
};

/// By runtime and field.
pub(super) const CREDENTIALS: Table = Table::of_pairs("credentials");

/// How many rows of this table are one credential.
pub const CREDENTIAL_ROWS: u64 = 2;

/// The credential itself, padded.
pub(super) const API_KEY: &str = "api_key";
/// What may be shown of it, and where it may go. Sealed too: who could edit the base URL would be sent the key.
pub(super) const DETAIL: &str = "detail";

/// A sealed credential's length tells its real one only in steps of this many bytes.
const PADDING_STEP_BYTES: usize = 64;

/// What may be shown of a stored credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Whose requests it goes with.
    pub runtime: RuntimeId,
    /// Where those requests go; the credential goes to this origin alone.
    pub base: BaseUrl,
    /// The two ends of the key, such as `sk-ant-...wxyz`, or `Configured` for a short one.
    pub masked: String,
    /// From 1, and higher with every change; no two credentials of a runtime ever have the same.
    pub version: u64,
    /// When it was stored: milliseconds since the epoch.
    pub updated_ms: u64,
}

/// Why a credential was not stored, removed or listed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not one. Nothing was stored.
    #[error(transparent)]
    Unusable(#[from] UnusableSecret),
    /// A record is not what was written.
    #[error("the vault is damaged: {0}")]
    Integrity(#[from] IntegrityError),
    /// The commit failed: the change may or may not be on disk. The vault takes no more changes until it is reopened.
    #[error("the vault could not confirm the change")]
    OutcomeUnknown(#[source] Cause),
    /// The database refuses. Nothing was stored.
    #[error("the vault cannot be read")]
    Database(#[source] lap_store::Error),
}

impl From<lap_store::Error> for StoreError {
    fn from(error: lap_store::Error) -> Self {
        match error {
            lap_store::Error::OutcomeUnknown(cause) => Self::OutcomeUnknown(cause),
            other => Self::Database(other),
        }
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Integrity(error) => error.into(),
            RowError::Malformed(record) => IntegrityError { record, fault: IntegrityFault::Malformed }.into(),
            RowError::OutcomeUnknown(error) => Self::OutcomeUnknown(error),
            RowError::Database(error) => Self::Database(error),
        }
    }
}

/// Why a credential is not handed out.
#[derive(Debug, thiserror::Error)]
pub enum OpenCredentialError {
    /// There is none.
    #[error("no credential is stored for this runtime")]
    Absent,
    /// It was replaced since the caller looked.
    #[error("the credential was replaced: its version is {current} now")]
    Replaced {
        /// The version that is stored.
        current: u64,
    },
    /// It belongs to another origin.
    #[error("the credential is bound to {bound}")]
    WrongOrigin {
        /// The origin that it may go to.
        bound: Origin,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is sealed in the field `DETAIL`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    base: String,
    masked: String,
    updated_ms: u64,
}

pub(super) fn place<'a>(runtime: &'a str, field: &'a str) -> Place<'a> {
    Place { table: "credentials", owner: "", id: runtime, field }
}

pub(super) fn make_tables(commit: &Commit) -> Result<(), lap_store::Error> {
    commit.rows(CREDENTIALS).map(|_| ())
}

/// The key of the row with a field of a runtime's credential.
pub(super) fn row_key(runtime: &str, field: &str) -> Vec<u8> {
    [runtime.as_bytes(), &[0], field.as_bytes()].concat()
}

impl Vault {
    /// Stores a runtime's credential for a base URL, in place of the one before.
    ///
    /// # Errors
    /// When the text cannot be a credential, or the store fails.
    pub fn put_credential(
        &self,
        runtime: &RuntimeId,
        api_key: Secret,
        base: BaseUrl,
    ) -> Result<Credential, StoreError> {
        self.put_credential_and(runtime, api_key, base, Also::Nothing)
    }

    /// The same, with something else in one commit.
    #[allow(clippy::needless_pass_by_value, reason = "the credential's memory is cleared here")]
    pub(crate) fn put_credential_and(
        &self,
        runtime: &RuntimeId,
        api_key: Secret,
        base: BaseUrl,
        also: Also<'_>,
    ) -> Result<Credential, StoreError> {
        let key = api_key.usable()?;
        let (masked, updated_ms) = (masked(key), clock::unix_ms());
        self.change(|manifest, commit| {
            let id = runtime.as_str();
            let version = manifest.put(id);
            let detail = Detail { base: base.to_string(), masked: masked.clone(), updated_ms };
            let detail = serde_json::to_vec(&detail).map_err(|_| malformed(id, DETAIL))?;
            let mut rows = commit.rows(CREDENTIALS)?;
            for (field, plain) in [(API_KEY, &pad(key)[..]), (DETAIL, &detail)] {
                let sealed = self.sealer.seal(&place(id, field), version, plain);
                rows.put(&row_key(id, field), &sealed)?;
            }
            probe::forget(commit, runtime)?;
            also.write(commit)?;
            Ok(Credential { runtime: runtime.clone(), base: base.clone(), masked: masked.clone(), version, updated_ms })
        })
    }

    /// Removes a runtime's credential; false when there was none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn remove_credential(&self, runtime: &RuntimeId) -> Result<bool, StoreError> {
        self.remove_credential_and(runtime, Also::Nothing)
    }

    /// The same, with something else in one commit, which happens also where there was no credential.
    pub(crate) fn remove_credential_and(&self, runtime: &RuntimeId, also: Also<'_>) -> Result<bool, StoreError> {
        self.change(|manifest, commit| {
            also.write(commit)?;
            let id = runtime.as_str();
            if !manifest.remove(id) {
                return Ok(false);
            }
            let mut rows = commit.rows(CREDENTIALS)?;
            for field in [API_KEY, DETAIL] {
                rows.remove(&row_key(id, field))?;
            }
            probe::forget(commit, runtime)?;
            Ok(true)
        })
    }

    /// The generation of the credentials: a number that grows with every change of one, once the change is on the disk, or
    /// may be. Who knows a credential of an older generation asks again whether it is still stored.
    #[must_use]
    pub fn credential_changes(&self) -> watch::Receiver<u64> {
        self.credential_changes.subscribe()
    }

    /// What may be shown of a runtime's credential, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn credential(&self, runtime: &RuntimeId) -> Result<Option<Credential>, StoreError> {
        let snapshot = self.snapshot()?;
        let version = snapshot.manifest.version_of(runtime.as_str());
        version.map(|version| snapshot.credential(runtime, version)).transpose()
    }

    /// What may be shown of all credentials, by the name of their runtimes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn credentials(&self) -> Result<Vec<Credential>, StoreError> {
        let snapshot = self.snapshot()?;
        let listed = snapshot.manifest.present();
        listed.map(|(id, version)| snapshot.credential(&runtime_of(id)?, version)).collect()
    }

    /// Opens a runtime's credential for use at an origin.
    ///
    /// # Errors
    /// When there is none, its version is another, it belongs to another origin, or the store fails.
    pub fn open_credential(
        &self,
        runtime: &RuntimeId,
        version: u64,
        origin: &Origin,
    ) -> Result<Secret, OpenCredentialError> {
        let snapshot = self.snapshot()?;
        let current = snapshot.manifest.version_of(runtime.as_str()).ok_or(OpenCredentialError::Absent)?;
        if current != version {
            return Err(OpenCredentialError::Replaced { current });
        }
        let bound = snapshot.credential(runtime, version)?.base.origin();
        if bound != *origin {
            return Err(OpenCredentialError::WrongOrigin { bound });
        }
        Ok(snapshot.api_key(runtime.as_str(), version)?)
    }

    /// Checks that the records are those of the manifest, no more and no fewer, and that each opens.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        for (id, version) in snapshot.manifest.present() {
            snapshot.credential(&runtime_of(id)?, version)?;
            // Opened only to be checked; its memory is cleared at once.
            snapshot.api_key(id, version)?;
        }
        for key in snapshot.rows.keys(ALL)? {
            let key = String::from_utf8_lossy(&key);
            let (id, field) = key.split_once('\0').unwrap_or((&key, ""));
            if snapshot.manifest.version_of(id).is_none() || ![API_KEY, DETAIL].contains(&field) {
                let record = format!("credentials/{id}/{field}");
                return Err(IntegrityError { record, fault: IntegrityFault::Unexpected }.into());
            }
        }
        Ok(())
    }

    /// One commit: the manifest is read, changed together with the records, and written.
    fn change<T>(&self, apply: impl FnOnce(&mut Manifest, &Commit) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let changed = self.try_change(apply);
        if changed.is_err() {
            note_failure(&self.store, &self.failed);
        }
        changed
    }

    fn try_change<T>(
        &self,
        apply: impl FnOnce(&mut Manifest, &Commit) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let commit = self.store.begin()?;
        let mut manifest = Manifest::read(&*commit.rows(MANIFEST)?, &self.sealer)?;
        let done = apply(&mut manifest, &commit)?;
        manifest.write(&commit, &self.sealer)?;
        let committed = commit.commit();
        // Behind the commit, so that whoever is woken finds the change; and also when its outcome is unknown.
        self.credential_changes.send_modify(|generation| *generation += 1);
        committed?;
        Ok(done)
    }

    fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let view = self.store.view()?;
        let manifest = Manifest::read(&*view.rows(MANIFEST)?, &self.sealer)?;
        Ok(Snapshot { vault: self, manifest, rows: view.rows(CREDENTIALS)? })
    }
}

/// The manifest and the records of one moment.
struct Snapshot<'a> {
    vault: &'a Vault,
    manifest: Manifest,
    rows: Box<dyn Rows>,
}

impl Snapshot<'_> {
    fn field(&self, id: &str, field: &str, version: u64) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let Some(row) = self.rows.get(&row_key(id, field))? else {
            let record = format!("credentials/{id}/{field}");
            return Err(IntegrityError { record, fault: IntegrityFault::Missing }.into());
        };
        Ok(self.vault.sealer.open_version(&place(id, field), version, &row)?)
    }

    fn credential(&self, runtime: &RuntimeId, version: u64) -> Result<Credential, StoreError> {
        let opened = self.field(runtime.as_str(), DETAIL, version)?;
        let detail: Option<Detail> = serde_json::from_slice(&opened).ok();
        let credential = detail.and_then(|Detail { base, masked, updated_ms }| {
            Some(Credential { runtime: runtime.clone(), base: base.parse().ok()?, masked, version, updated_ms })
        });
        credential.ok_or_else(|| malformed(runtime.as_str(), DETAIL))
    }

    fn api_key(&self, id: &str, version: u64) -> Result<Secret, StoreError> {
        let padded = self.field(id, API_KEY, version)?;
        let key = unpad(&padded).ok_or_else(|| malformed(id, API_KEY))?;
        Ok(Secret::new(key.to_owned()))
    }
}

fn malformed(id: &str, field: &str) -> StoreError {
    IntegrityError { record: format!("credentials/{id}/{field}"), fault: IntegrityFault::Malformed }.into()
}

fn runtime_of(id: &str) -> Result<RuntimeId, StoreError> {
    id.parse().map_err(|_| malformed(id, DETAIL))
}

/// The length as u16, the key, and zeros up to the next step.
fn pad(key: &str) -> Zeroizing<Vec<u8>> {
    let length = (2 + key.len()).next_multiple_of(PADDING_STEP_BYTES);
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    // A usable secret has at most 4096 bytes.
    padded.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    padded.extend_from_slice(key.as_bytes());
    padded.resize(length, 0);
    padded
}

fn unpad(padded: &[u8]) -> Option<&str> {
    let (length, rest) = padded.split_first_chunk()?;
    std::str::from_utf8(rest.get(..usize::from(u16::from_be_bytes(*length)))?).ok()
}
