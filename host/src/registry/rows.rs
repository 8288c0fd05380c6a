//! What is kept of added runtimes and aliases, sealed in `vault.redb`: a row for each runtime, with its versions, the bytes
//! of each component, and a row for each alias.
//!
//! A component is cut into pieces of [`PIECE_BYTES`], so that neither the database nor a backup has to hold a large value.
//! All of a change is one commit: a crash leaves the runtime as it was or as it becomes.

use lap_store::{Direction, Table, between};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    id::{ComponentDigest, RuntimeId},
    runtime::Description,
    upstream::BaseUrl,
    vault::{self, Also, Mark, Row, RowError, SealedTable, Secret, StoreError, Vault, noted},
};

const RUNTIMES: Table = Table::new("runtimes");
/// Pieces of components, by the component's digest and the piece's number.
const COMPONENTS: Table = Table::new("components");
const ALIASES: Table = Table::new("aliases");

/// What this module has in `vault.redb`, for a backup.
pub(crate) static TABLES: &[Table] = &[RUNTIMES, COMPONENTS, ALIASES];

const PIECE_BYTES: usize = 1024 * 1024;

/// Opens every row of every table.
///
/// # Errors
/// Names the first row that is not what was written.
pub fn verify(vault: &Vault) -> Result<(), RowError> {
    vault::verify_rows(vault, &[RUNTIMES, COMPONENTS, ALIASES])
}

/// A runtime, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRuntime {
    pub(super) current: ComponentDigest,
    /// The first added first.
    pub(super) versions: Vec<StoredVersion>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredVersion {
    pub(super) component: ComponentDigest,
    pub(super) component_bytes: u64,
    pub(super) imports: Vec<String>,
    /// The text of `runtime.toml`.
    pub(super) manifest: String,
    pub(super) description: Description,
    pub(super) added_ms: u64,
    pub(super) grant: String,
}

/// An alias, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAlias {
    /// The runtime that it stands for.
    pub(super) of: RuntimeId,
}

/// A name, and what opens of its row.
pub(super) type Named<T> = (RuntimeId, Result<T, RowError>);

/// Why a component is not at hand.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComponentError {
    #[error(transparent)]
    Row(#[from] RowError),
    /// The pieces are whole and together something else.
    #[error("the stored component is not the one that was added: its digest is {0}")]
    Other(ComponentDigest),
}

pub(super) struct Rows {
    vault: Vault,
    runtimes: SealedTable,
    components: SealedTable,
    aliases: SealedTable,
}

/// What becomes of components when a runtime's row changes.
pub(super) enum Components<'a> {
    Stay,
    Store(ComponentDigest, &'a [u8]),
    Remove(&'a [ComponentDigest]),
}

impl Rows {
    pub(super) fn new(vault: &Vault) -> Self {
        let [runtimes, components, aliases] =
            [RUNTIMES, COMPONENTS, ALIASES].map(|table| SealedTable::new(vault, table));
        Self { vault: vault.clone(), runtimes, components, aliases }
    }

    /// All runtimes, by name. A row that does not open is told as such: its name is known all the same.
    pub(super) fn all(&self) -> Result<Vec<Named<StoredRuntime>>, RowError> {
        named(&self.runtimes)
    }

    /// All aliases in the same way.
    pub(super) fn aliases(&self) -> Result<Vec<Named<StoredAlias>>, RowError> {
        named(&self.aliases)
    }

    /// Stores an alias with its credential: both or neither.
    pub(super) fn put_alias(
        &self,
        alias: &RuntimeId,
        stored: &StoredAlias,
        api_key: Secret,
        base: BaseUrl,
        mark: Option<&Mark>,
    ) -> Result<(), StoreError> {
        let row = self.aliases.row(alias.as_str().as_bytes().to_vec(), stored)?;
        let also = Also::All(vec![row, noted(mark)]);
        self.vault.put_credential_and(alias, api_key, base, also).map(|_| ())
    }

    /// Removes an alias with its credential, if it has one.
    pub(super) fn remove_alias(&self, alias: &RuntimeId) -> Result<(), StoreError> {
        let row = Also::RemoveRow(&self.aliases, alias.as_str().as_bytes().to_vec());
        self.vault.remove_credential_and(alias, row).map(|_| ())
    }

    /// Blocks for as long as a commit takes, which for a large component is a good part of a second.
    pub(super) fn put(
        &self,
        id: &RuntimeId,
        runtime: &StoredRuntime,
        components: &Components<'_>,
        mark: Option<&Mark>,
    ) -> Result<(), RowError> {
        let also = Also::All(vec![self.also(components), noted(mark)]);
        self.runtimes.put(id.as_str().as_bytes(), runtime, also)
    }

    pub(super) fn remove(&self, id: &RuntimeId, components: &[ComponentDigest]) -> Result<bool, RowError> {
        self.runtimes.remove(id.as_str().as_bytes(), self.also(&Components::Remove(components)))
    }

    /// Removes the components that nobody names.
    pub(super) fn sweep(&self, named: &[ComponentDigest]) -> Result<(), RowError> {
        let mut keys = self.components.keys()?;
        keys.retain(|key| !named.iter().any(|digest| key.starts_with(&digest.to_bytes())));
        keys.iter().try_for_each(|key| self.components.remove(key, Also::Nothing).map(|_| ()))
    }

    fn also(&self, components: &Components<'_>) -> Also<'_> {
        let table = &self.components;
        match components {
            Components::Stay => Also::Nothing,
            Components::Store(digest, bytes) => {
                let pieces = (0_u32..).zip(bytes.chunks(PIECE_BYTES));
                let put = |(number, piece): (u32, &[u8])| Also::Put(table, key(*digest, number), piece.to_vec());
                Also::All(pieces.map(put).collect())
            }
            Components::Remove(digests) => {
                Also::All(digests.iter().map(|digest| Also::Remove(table, digest.to_bytes().to_vec())).collect())
            }
        }
    }

    /// The bytes of a component, which are the ones that were added. Blocks on the disk.
    pub(super) fn component(&self, digest: ComponentDigest) -> Result<Vec<u8>, ComponentError> {
        let (first, last) = (key(digest, 0), key(digest, u32::MAX));
        let pieces = self.components.rows(between(&first, &last), Direction::Forwards, usize::MAX)?;
        let bytes: Vec<u8> = pieces.iter().flat_map(Row::bytes).copied().collect();
        let found = ComponentDigest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(ComponentError::Other(found)) }
    }
}

fn named<T: DeserializeOwned>(table: &SealedTable) -> Result<Vec<Named<T>>, RowError> {
    let named = table.each()?.into_iter().filter_map(|(key, row)| {
        // Only ids are written as keys.
        let id = str::from_utf8(&key).ok()?.parse().ok()?;
        Some((id, row.and_then(|row| row.parse())))
    });
    Ok(named.collect())
}

fn key(digest: ComponentDigest, number: u32) -> Vec<u8> {
    [&digest.to_bytes()[..], &number.to_be_bytes()].concat()
}
