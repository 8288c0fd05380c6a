//! What came of trying a credential: kept beside it, sealed as it is, and gone with it.

use lap_store::{Commit, Table};

use super::{
    Vault,
    credentials::{Credential, StoreError},
    table::{Also, RowError, SealedTable},
};
use crate::id::RuntimeId;

/// By runtime.
pub(super) const PROBES: Table = Table::new("probes");

/// What was found when a credential was tried.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// The version of the credential that was tried.
    pub version: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What came of it.
    pub finding: Finding,
}

/// What a probe tells of a credential.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The upstream took it, and lists so many models.
    Works {
        /// How many.
        models: u64,
    },
    /// It was of no use just then, for this reason.
    Fails {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// The upstream was asked nothing, for this reason.
    Untried {
        /// For people.
        message: String,
    },
}

impl Vault {
    /// Keeps what was found of a runtime's credential, in place of what was found before.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put_probe(&self, runtime: &RuntimeId, probe: &Probe) -> Result<(), RowError> {
        SealedTable::new(self, PROBES).put(runtime.as_str().as_bytes(), probe, Also::Nothing)
    }

    /// What was found last of this credential, and of no other one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn probe(&self, credential: &Credential) -> Result<Option<Probe>, RowError> {
        let row = SealedTable::new(self, PROBES).get(credential.runtime.as_str().as_bytes())?;
        let probe: Option<Probe> = row.map(|row| row.parse()).transpose()?;
        // One that was tried when it was replaced may be noted after that.
        Ok(probe.filter(|probe| probe.version == credential.version))
    }
}

/// Forgets what was found of a credential that goes with this commit.
pub(super) fn forget(commit: &Commit, runtime: &RuntimeId) -> Result<(), StoreError> {
    commit.rows(PROBES)?.remove(runtime.as_str().as_bytes())?;
    Ok(())
}
