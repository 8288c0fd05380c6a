//! The file of a backup.
//!
//! ```text
//! head     "lap-back"  format u32 = 1  store 16 B  time u64, milliseconds since the epoch
//! then any number of
//! 1 table  database u8 (1 vault, 2 events)  length u8  name
//! 2 row    length u32  key  length u32  value          of the table before it
//! 3 store  length u32  the text of store.json          once, behind all rows
//! 4 end    tables u32  rows u64  SHA-256 of everything before it
//! ```
//! Numbers are big endian. Nothing follows the end. The digest finds what a disk or a cable has changed; who wants to
//! change a backup on purpose can make a new digest, and is found out by the seals of the rows, once the key is there.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
};

use lap_store::copy::Item;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use crate::{
    clock,
    vault::{self, StoreFile},
};

const MAGIC: &[u8; 8] = b"lap-back";
const FORMAT: u32 = 1;

const TABLE: u8 = 1;
const ROW: u8 = 2;
const STORE: u8 = 3;
const END: u8 = 4;

/// A longer key or value is in no table of ours, whose longest rows are of one commit: some 10 MiB.
const FIELD_BYTES_MAX: u32 = 1024 * 1024 * 1024;
/// `store.json` has some hundred bytes.
const STORE_BYTES_MAX: u32 = 64 * 1024;

/// Of which of the two databases a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Vault,
    Events,
}

impl Part {
    const fn byte(self) -> u8 {
        match self {
            Self::Vault => 1,
            Self::Events => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Vault),
            2 => Some(Self::Events),
            _ => None,
        }
    }
}

/// Why a file is not taken for a backup.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It does not begin like one.
    #[error("it is not a backup of lap")]
    Foreign,
    /// It is one of another version.
    #[error("it has format {0}, which this version does not know")]
    Version(u32),
    /// It ends before its end.
    #[error("it is cut off")]
    CutOff,
    /// It was altered since it was written.
    #[error("it was changed or damaged since it was written: {0}")]
    Damaged(&'static str),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
}

/// What a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) store: [u8; 16],
    pub(super) unix_ms: u64,
}

/// What a whole backup holds.
pub struct Contents {
    pub(super) head: Head,
    pub(super) store_file: StoreFile,
    rows: BTreeMap<(Part, String), u64>,
    bytes: u64,
    pub(super) digest: [u8; SHA256_OUTPUT_LEN],
}

impl Contents {
    /// The number of the store, as in its `store.json`.
    #[must_use]
    pub fn store(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.head.store))
    }

    /// When it was made, as RFC 3339.
    #[must_use]
    pub fn time(&self) -> String {
        clock::rfc3339_of(self.head.unix_ms)
    }

    /// How many sessions.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.rows_of(Part::Events, "sessions")
    }

    /// How many agents.
    #[must_use]
    pub fn agents(&self) -> u64 {
        self.rows_of(Part::Vault, "agents")
    }

    /// How many credentials.
    #[must_use]
    pub fn credentials(&self) -> u64 {
        self.rows_of(Part::Vault, "credentials") / vault::CREDENTIAL_ROWS
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn rows_of(&self, part: Part, table: &str) -> u64 {
        self.rows.get(&(part, table.to_owned())).copied().unwrap_or_default()
    }
}

/// Writes a backup, from its head to its end.
pub(super) struct Writer<W> {
    to: W,
    digest: Context,
    tables: u32,
    rows: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, head: Head) -> io::Result<Self> {
        let mut writer = Self { to, digest: Context::new(&SHA256), tables: 0, rows: 0, bytes: 0 };
        writer.put(MAGIC)?;
        writer.put(&FORMAT.to_be_bytes())?;
        writer.put(&head.store)?;
        writer.put(&head.unix_ms.to_be_bytes())?;
        Ok(writer)
    }

    pub(super) fn item(&mut self, part: Part, item: Item<'_>) -> io::Result<()> {
        match item {
            Item::Table(name) => {
                let length = u8::try_from(name.len()).map_err(io::Error::other)?;
                self.tables += 1;
                self.put(&[TABLE, part.byte(), length])?;
                self.put(name.as_bytes())
            }
            Item::Row { key, value } => {
                self.rows += 1;
                self.put(&[ROW])?;
                self.field(key)?;
                self.field(value)
            }
        }
    }

    /// Writes the end, and says how long all of it is.
    pub(super) fn finish(mut self, store_file: &StoreFile) -> io::Result<(W, u64)> {
        self.put(&[STORE])?;
        self.field(store_file.text())?;
        self.put(&[END])?;
        let (tables, rows) = (self.tables.to_be_bytes(), self.rows.to_be_bytes());
        self.put(&tables)?;
        self.put(&rows)?;
        let digest = self.digest.finish();
        self.to.write_all(digest.as_ref())?;
        self.to.flush()?;
        Ok((self.to, self.bytes + digest.as_ref().len() as u64))
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= FIELD_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("a row is too long for a backup"))?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// Reads a backup to its end and checks all of it.
///
/// # Errors
/// When it is not whole to the last byte.
pub fn check(from: impl Read) -> Result<Contents, FormatError> {
    read::<FormatError>(from, &mut |_, _| Ok(()))
}

/// What was read, digested as it comes.
struct Source<R> {
    from: R,
    digest: Context,
    bytes: u64,
}

/// Reads a backup, tells `visit` of each table and row as it comes, and checks the whole at the end: what `visit` has
/// been told holds only if this succeeds.
pub(super) fn read<E: From<FormatError>>(
    from: impl Read,
    visit: &mut dyn FnMut(Part, Item<'_>) -> Result<(), E>,
) -> Result<Contents, E> {
    let mut source =
        Source { from: BufReader::with_capacity(256 * 1024, from), digest: Context::new(&SHA256), bytes: 0 };
    let head = source.head()?;
    let mut rows = BTreeMap::<(Part, String), u64>::new();
    let (mut part, mut table, mut in_table) = (Part::Vault, String::new(), 0);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let store_file = loop {
        match source.byte()? {
            TABLE => {
                rows.entry((part, std::mem::take(&mut table))).and_modify(|rows| *rows = in_table);
                (part, table) = source.table()?;
                in_table = 0;
                if rows.insert((part, table.clone()), 0).is_some() {
                    return Err(FormatError::Damaged("a table comes twice").into());
                }
                visit(part, Item::Table(&table))?;
            }
            ROW => {
                if rows.is_empty() {
                    return Err(FormatError::Damaged("a row comes before any table").into());
                }
                in_table += 1;
                source.field(FIELD_BYTES_MAX, &mut key)?;
                source.field(FIELD_BYTES_MAX, &mut value)?;
                visit(part, Item::Row { key: &key, value: &value })?;
            }
            STORE => {
                rows.entry((part, std::mem::take(&mut table))).and_modify(|rows| *rows = in_table);
                source.field(STORE_BYTES_MAX, &mut value)?;
                break StoreFile::parse(value).ok_or(FormatError::Damaged("its store.json cannot be understood"))?;
            }
            _ => return Err(FormatError::Damaged("there is something unknown in it").into()),
        }
    };
    let digest = source.end(&rows)?;
    if store_file.store() != head.store {
        return Err(FormatError::Damaged("its head is of another store than its store.json").into());
    }
    Ok(Contents { head, store_file, rows, bytes: source.bytes, digest })
}

impl<R: Read> Source<R> {
    fn head(&mut self) -> Result<Head, FormatError> {
        let foreign = |error| if matches!(error, FormatError::CutOff) { FormatError::Foreign } else { error };
        if self.array::<8>().map_err(foreign)? != *MAGIC {
            return Err(FormatError::Foreign);
        }
        match u32::from_be_bytes(self.array()?) {
            FORMAT => {}
            other => return Err(FormatError::Version(other)),
        }
        Ok(Head { store: self.array()?, unix_ms: u64::from_be_bytes(self.array()?) })
    }

    fn table(&mut self) -> Result<(Part, String), FormatError> {
        let part =
            Part::from_byte(self.byte()?).ok_or(FormatError::Damaged("it names a database that there is not"))?;
        let mut name = Vec::new();
        let length = self.byte()?;
        self.bytes(length.into(), &mut name)?;
        let name = String::from_utf8(name).map_err(|_| FormatError::Damaged("the name of a table is not text"))?;
        Ok((part, name))
    }

    /// Everything behind the tag of the end, and that nothing follows.
    fn end(&mut self, rows: &BTreeMap<(Part, String), u64>) -> Result<[u8; SHA256_OUTPUT_LEN], FormatError> {
        if self.byte()? != END {
            return Err(FormatError::Damaged("there is something unknown in it"));
        }
        let (tables, all) = (u32::from_be_bytes(self.array()?), u64::from_be_bytes(self.array()?));
        let counted = self.digest.clone().finish();
        let digest = self.array::<SHA256_OUTPUT_LEN>()?;
        if digest != counted.as_ref() {
            return Err(FormatError::Damaged("its digest does not fit"));
        }
        if u64::from(tables) != rows.len() as u64 || all != rows.values().sum::<u64>() {
            return Err(FormatError::Damaged("rows are missing"));
        }
        match self.byte() {
            Err(FormatError::CutOff) => Ok(digest),
            Err(error) => Err(error),
            Ok(_) => Err(FormatError::Damaged("something follows its end")),
        }
    }

    fn byte(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FormatError::CutOff,
            _ => FormatError::Io(error),
        })?;
        self.took(&bytes);
        Ok(bytes)
    }

    fn field(&mut self, bytes_max: u32, into: &mut Vec<u8>) -> Result<(), FormatError> {
        let length = u32::from_be_bytes(self.array()?);
        if length > bytes_max {
            return Err(FormatError::Damaged("a row is longer than any can be"));
        }
        self.bytes(length, into)
    }

    /// A length that is not true costs no more memory than the file has bytes.
    fn bytes(&mut self, length: u32, into: &mut Vec<u8>) -> Result<(), FormatError> {
        into.clear();
        let read = self.from.by_ref().take(length.into()).read_to_end(into).map_err(FormatError::Io)?;
        if read as u64 != u64::from(length) {
            return Err(FormatError::CutOff);
        }
        self.took(into);
        Ok(())
    }

    fn took(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const STORE_JSON: &str = r#"{"format":1,"store":"000102030405060708090a0b0c0d0e0f","vault_keys":[]}"#;

    fn head() -> Head {
        Head { store: std::array::from_fn(|at| u8::try_from(at).unwrap()), unix_ms: 1_700_000_000_000 }
    }

    fn backup() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), head()).unwrap();
        for (part, item) in [
            (Part::Vault, Item::Table("agents")),
            (Part::Vault, Item::Row { key: b"a", value: b"agent" }),
            (Part::Vault, Item::Table("empty")),
            (Part::Events, Item::Table("sessions")),
            (Part::Events, Item::Row { key: b"", value: b"" }),
            (Part::Events, Item::Row { key: b"b", value: &[7; 300] }),
        ] {
            writer.item(part, item).unwrap();
        }
        let (bytes, length) = writer.finish(&StoreFile::parse(STORE_JSON.into()).unwrap()).unwrap();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    #[test]
    fn a_backup_says_what_was_written() {
        let mut items = Vec::new();
        let contents = read::<FormatError>(&backup()[..], &mut |part, item| {
            items.push(format!("{part:?} {item:?}"));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            items[..3],
            [
                r#"Vault Table("agents")"#,
                "Vault Row { key: [97], value: [97, 103, 101, 110, 116] }",
                r#"Vault Table("empty")"#
            ]
        );
        assert_eq!((items.len(), contents.head, contents.store_file.text()), (6, head(), STORE_JSON.as_bytes()));
        assert_eq!((contents.sessions(), contents.agents(), contents.credentials()), (2, 1, 0));
        assert_eq!(contents.bytes(), backup().len() as u64);
        assert_eq!(contents.time(), "2023-11-14T22:13:20.000Z");
    }

    /// The beginning of the file is for good: later versions must know it.
    #[test]
    fn the_head_is_as_documented() {
        let expected = [b"lap-back".as_slice(), &[0, 0, 0, 1], &head().store, &1_700_000_000_000_u64.to_be_bytes()];
        assert_eq!(backup()[..36], expected.concat());
    }

    #[test]
    fn whatever_is_cut_off_or_added_is_refused() {
        let whole = backup();
        for length in 0..whole.len() {
            let refused = check(&whole[..length]).err().unwrap();
            let foreign = length < MAGIC.len() && matches!(refused, FormatError::Foreign);
            assert!(foreign || matches!(refused, FormatError::CutOff), "{length} bytes: {refused}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(check(&longer[..]), Err(FormatError::Damaged("something follows its end"))));
    }

    #[test]
    fn every_bit_counts() {
        let whole = backup();
        for at in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert!(check(&bent[..]).is_err(), "bit {at}");
        }
    }

    #[test]
    fn counts_that_are_not_true_are_refused_under_a_right_digest() {
        let mut lying = Writer::new(Vec::new(), head()).unwrap();
        lying.rows = 1;
        let (bytes, _) = lying.finish(&StoreFile::parse(STORE_JSON.into()).unwrap()).unwrap();
        assert!(matches!(check(&bytes[..]), Err(FormatError::Damaged("rows are missing"))));
        let other = STORE_JSON.replace("0f\"", "10\"");
        let writer = Writer::new(Vec::new(), head()).unwrap();
        let (bytes, _) = writer.finish(&StoreFile::parse(other.into()).unwrap()).unwrap();
        assert!(matches!(check(&bytes[..]), Err(FormatError::Damaged(_))));
    }
}
