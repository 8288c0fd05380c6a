//! The vault against somebody who edits its files, and against its operator's mistakes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use lap_seal::IntegrityFault;
use lap_store::{ALL, Direction, RowsMut};

use super::{
    credentials::{API_KEY, CREDENTIALS, DETAIL},
    *,
};
use crate::id::RuntimeId;

const KEY: &str = "sk-ant-canary-7Qx2mWv9ZpL4tRb8";

fn runtime(name: &str) -> RuntimeId {
    name.parse().unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A store in a directory of its own, and copies of its key.
struct Store {
    directory: tempfile::TempDir,
    key: VaultKey,
}

impl Store {
    fn new() -> Self {
        let store = Self { directory: tempfile::tempdir().unwrap(), key: VaultKey::generate() };
        Vault::init(store.path(), &store.key).unwrap();
        store
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn try_open(&self) -> Result<Vault, OpenError> {
        Vault::open(self.path(), VaultKey::from_bytes(self.key.bytes()))
    }

    fn open(&self) -> Vault {
        self.try_open().unwrap()
    }

    fn put(&self, name: &str, key: &str) -> Credential {
        let base = "https://api.example.com/v1".parse().unwrap();
        self.open().put_credential(&runtime(name), secret(key), base).unwrap()
    }

    /// Edits the database as somebody without the key can.
    fn edit(&self, table: Table, edit: impl FnOnce(&mut dyn RowsMut)) {
        let commit = self.database().begin().unwrap();
        edit(&mut *commit.rows(table).unwrap());
        commit.commit().unwrap();
    }

    fn database(&self) -> lap_store::Store {
        lap_store::Store::open(&self.path().join(DATABASE_FILE), OPTIONS).unwrap()
    }

    fn rows(&self) -> BTreeMap<(String, String), Vec<u8>> {
        let rows = self.database().view().unwrap().rows(CREDENTIALS).unwrap();
        let rows = rows.page(ALL, Direction::Forwards, Limit::NONE).unwrap().into_iter().map(|(key, value)| {
            let key = String::from_utf8(key).unwrap();
            let (id, field) = key.split_once('\0').unwrap();
            ((id.to_owned(), field.to_owned()), value)
        });
        rows.collect()
    }

    fn write(&self, rows: &BTreeMap<(String, String), Vec<u8>>) {
        self.edit(CREDENTIALS, |table| {
            table.remove_span(ALL, usize::MAX).unwrap();
            for ((id, field), sealed) in rows {
                table.put(&credentials::row_key(id, field), sealed).unwrap();
            }
        });
    }

    /// What the integrity check at opening says.
    fn fault(&self) -> IntegrityError {
        match self.try_open() {
            Err(OpenError::Integrity { source, .. }) => source,
            other => unreachable!("opened or failed otherwise: {other:?}"),
        }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        fs::read_dir(self.path()).unwrap().map(read).collect()
    }
}

fn key_of(name: &str, field: &str) -> (String, String) {
    (name.to_owned(), field.to_owned())
}

#[test]
fn a_credential_comes_back_for_its_own_origin_alone() {
    let store = Store::new();
    let vault = store.open();
    let claude = runtime("claude");
    let base: crate::upstream::BaseUrl = "https://API.example.com:443/v1/".parse().unwrap();
    let put = vault.put_credential(&claude, secret(&format!(" {KEY}\n")), base.clone()).unwrap();
    assert_eq!((put.version, put.masked.as_str()), (1, "sk-ant-...tRb8"));
    drop(vault);
    let vault = store.open();
    assert_eq!(vault.credential(&claude).unwrap(), Some(put.clone()));
    assert_eq!(vault.credentials().unwrap(), [put]);
    assert_eq!(vault.open_credential(&claude, 1, &base.origin()).unwrap().expose(), KEY);
    for elsewhere in
        ["http://api.example.com", "https://api.example.com:8443", "https://example.com", "https://api.example.co"]
    {
        let origin = elsewhere.parse::<crate::upstream::BaseUrl>().unwrap().origin();
        let refusal = vault.open_credential(&claude, 1, &origin).map(|_| ()).unwrap_err();
        assert!(matches!(refusal, OpenCredentialError::WrongOrigin { bound } if bound == base.origin()), "{elsewhere}");
    }
    let unknown = vault.open_credential(&runtime("other"), 1, &base.origin()).map(|_| ()).unwrap_err();
    assert!(matches!(unknown, OpenCredentialError::Absent));
}

#[test]
fn a_version_never_names_two_credentials() {
    let store = Store::new();
    assert_eq!(store.put("claude", "key-number-1").version, 1);
    assert_eq!(store.put("claude", "key-number-2").version, 2);
    let vault = store.open();
    let claude = runtime("claude");
    let origin = vault.credential(&claude).unwrap().unwrap().base.origin();
    let old = vault.open_credential(&claude, 1, &origin).map(|_| ()).unwrap_err();
    assert!(matches!(old, OpenCredentialError::Replaced { current: 2 }));
    assert!(vault.remove_credential(&claude).unwrap());
    assert!(!vault.remove_credential(&claude).unwrap());
    assert_eq!(vault.credential(&claude).unwrap(), None);
    drop(vault);
    assert_eq!(store.put("claude", "key-number-3").version, 3);
}

#[test]
fn every_change_of_a_credential_is_announced_once_it_is_stored() {
    let store = Store::new();
    let vault = store.open();
    let changes = vault.credential_changes();
    let put =
        |key: &str| vault.put_credential(&runtime("claude"), secret(key), "https://api.example.com".parse().unwrap());
    put(KEY).unwrap();
    assert_eq!(*changes.borrow(), 1);
    put(KEY).unwrap();
    assert_eq!(*changes.borrow(), 2, "also of one that says the same");
    assert!(vault.remove_credential(&runtime("claude")).unwrap());
    assert_eq!(*changes.borrow(), 3);
    assert!(matches!(put(" "), Err(StoreError::Unusable(_))));
    assert_eq!(*changes.borrow(), 3, "nothing has changed");
}

#[test]
fn an_unusable_credential_changes_nothing() {
    let store = Store::new();
    store.put("claude", KEY);
    let vault = store.open();
    let base = "https://api.example.com".parse().unwrap();
    let refused = vault.put_credential(&runtime("claude"), secret("a\r\nb: c"), base);
    assert!(matches!(refused, Err(StoreError::Unusable(UnusableSecret::Character))));
    assert_eq!(vault.credential(&runtime("claude")).unwrap().unwrap().version, 1);
}

#[test]
fn a_moved_record_keeps_the_store_closed() {
    let store = Store::new();
    store.put("one", "key-of-one-000000");
    store.put("two", "key-of-two-000000");
    let rows = store.rows();
    let places: Vec<_> = rows.keys().cloned().collect();
    for from in &places {
        for to in places.iter().filter(|to| *to != from) {
            let mut moved = rows.clone();
            moved.insert(to.clone(), rows[from].clone());
            store.write(&moved);
            let error = store.fault();
            assert_eq!(
                (error.record, error.fault),
                (format!("credentials/{}/{}", to.0, to.1), IntegrityFault::Altered)
            );
        }
    }
    store.write(&rows);
    assert_eq!(store.open().credentials().unwrap().len(), 2);
}

#[test]
fn an_old_record_that_is_put_back_keeps_the_store_closed() {
    let store = Store::new();
    store.put("claude", "key-number-1");
    let first = store.rows();
    store.put("claude", "key-number-2");
    let latest = store.rows();
    for field in [API_KEY, DETAIL] {
        let mut replayed = latest.clone();
        replayed.insert(key_of("claude", field), first[&key_of("claude", field)].clone());
        store.write(&replayed);
        let error = store.fault();
        assert_eq!(error.fault, IntegrityFault::Stale { stored: 1, listed: 2 });
        assert_eq!(error.record, format!("credentials/claude/{field}"));
    }
    store.write(&latest);
    store.open();
}

#[test]
fn a_record_that_is_put_back_under_an_open_vault_is_not_handed_out() {
    let store = Store::new();
    store.put("claude", "key-number-1");
    let first = store.rows();
    store.put("claude", "key-number-2");
    let vault = store.open();
    let commit = vault.store.begin().unwrap();
    for ((id, field), sealed) in &first {
        commit.rows(CREDENTIALS).unwrap().put(&credentials::row_key(id, field), sealed).unwrap();
    }
    commit.commit().unwrap();
    let stale = |error: &StoreError| matches!(error, StoreError::Integrity(error) if error.fault == IntegrityFault::Stale { stored: 1, listed: 2 });
    assert!(stale(&vault.credential(&runtime("claude")).unwrap_err()));
    assert!(stale(&vault.credentials().unwrap_err()));
}

#[test]
fn a_removed_or_revived_record_keeps_the_store_closed() {
    let store = Store::new();
    store.put("claude", KEY);
    let rows = store.rows();
    for field in [API_KEY, DETAIL] {
        let mut fewer = rows.clone();
        fewer.remove(&key_of("claude", field));
        store.write(&fewer);
        let error = store.fault();
        assert_eq!((error.record, error.fault), (format!("credentials/claude/{field}"), IntegrityFault::Missing));
    }
    store.write(&rows);
    assert!(store.open().remove_credential(&runtime("claude")).unwrap());
    store.write(&rows);
    assert_eq!(store.fault().fault, IntegrityFault::Unexpected);
    store.edit(manifest::MANIFEST, |table| assert_eq!(table.remove_span(ALL, usize::MAX).unwrap(), 1));
    let error = store.fault();
    assert_eq!((error.record.as_str(), error.fault), ("manifest/credentials", IntegrityFault::Missing));
}

#[test]
fn a_wrong_key_is_named_and_changes_no_byte() {
    let store = Store::new();
    store.put("claude", KEY);
    let before = store.files();
    for _ in 0..20 {
        let wrong = VaultKey::generate();
        let given = wrong.id();
        let error = Vault::open(store.path(), wrong).unwrap_err();
        let expected = format!("key {given} does not open this store (needs {})", store.key.id());
        assert_eq!(error.to_string(), expected);
        assert_eq!(store.files(), before);
    }
    store.open();
}

#[test]
fn a_key_that_only_the_clear_text_names_is_refused() {
    let store = Store::new();
    let other = VaultKey::generate();
    let path = store.path().join(identity::FILE);
    let text = fs::read_to_string(&path).unwrap().replace(&store.key.id().to_string(), &other.id().to_string());
    fs::write(&path, text).unwrap();
    let needed = store.key.id();
    assert!(
        matches!(Vault::open(store.path(), other), Err(OpenError::WrongKey { needed: named, .. }) if named == needed)
    );
}

#[test]
fn the_clear_text_of_another_store_is_refused() {
    let (store, other) = (Store::new(), Store::new());
    let mut identity = Identity::read(other.path()).unwrap();
    identity.vault_keys = vec![store.key.id()];
    identity.write(store.path()).unwrap();
    assert!(matches!(store.try_open(), Err(OpenError::Damaged { .. })));
}

#[test]
fn altered_data_keys_and_key_checks_are_refused() {
    for (byte, table) in [(0, "deks"), (30, "deks"), (12, "meta")] {
        let store = Store::new();
        let flip = |value: &[u8]| {
            let mut value = value.to_vec();
            value[byte] ^= 1;
            value
        };
        if table == "deks" {
            store.edit(DEKS, |deks| {
                let term = u32::to_be_bytes(1);
                let altered = flip(&deks.get(&term).unwrap().unwrap());
                deks.put(&term, &altered).unwrap();
            });
        } else {
            store.edit(META, |meta| {
                let altered = flip(&meta.get(KEY_CHECK.as_bytes()).unwrap().unwrap());
                meta.put(KEY_CHECK.as_bytes(), &altered).unwrap();
            });
        }
        assert!(matches!(store.try_open(), Err(OpenError::Damaged { .. })), "{table} {byte}");
    }
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let store = Store::new();
    store.put("claude", KEY);
    let path = store.path().join(DATABASE_FILE);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(4093) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        // A flipped bit in a page that nothing uses is no damage; then everything must still be there.
        match store.try_open() {
            Ok(vault) => assert_eq!(vault.credentials().unwrap().len(), 1, "byte {at}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    for length in [0, 1, 4096, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(store.try_open(), Err(OpenError::Database { .. })), "{length}");
    }
    fs::write(&path, whole).unwrap();
    store.open();
}

#[test]
fn two_openings_at_once_are_told_apart_from_damage() {
    let store = Store::new();
    let first = store.open();
    assert!(matches!(store.try_open(), Err(OpenError::AlreadyOpen(_))));
    drop(first);
    store.open();
}

#[test]
fn a_directory_is_empty_a_store_or_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let missing = path.join("missing");
    assert_eq!(Vault::presence(&missing).unwrap(), Presence::Empty);
    assert_eq!(Vault::presence(path).unwrap(), Presence::Empty);
    assert!(matches!(Vault::open(path, VaultKey::generate()), Err(OpenError::Absent(_))));
    let names = [identity::FILE, DATABASE_FILE, EVENTS_FILE];
    for present in [&names[..1], &names[1..2], &names[2..], &[names[0], names[2]], &names[1..]] {
        present.iter().for_each(|name| fs::write(path.join(name), b"").unwrap());
        assert!(matches!(Vault::presence(path).unwrap(), Presence::Damaged(_)), "{present:?}");
        assert!(matches!(Vault::init(path, &VaultKey::generate()), Err(InitError::Damaged { .. })), "{present:?}");
        assert!(matches!(Vault::open(path, VaultKey::generate()), Err(OpenError::Damaged { .. })), "{present:?}");
        present.iter().for_each(|name| fs::remove_file(path.join(name)).unwrap());
    }
    let key = VaultKey::generate();
    Vault::init(&missing, &key).unwrap();
    assert_eq!(Vault::presence(&missing).unwrap(), Presence::Store);
    assert!(matches!(Vault::init(&missing, &key), Err(InitError::Exists(_))));
}

#[test]
fn an_unknown_clear_text_is_refused() {
    let store = Store::new();
    let path = store.path().join(identity::FILE);
    let good = fs::read_to_string(&path).unwrap();
    let id = store.key.id().to_string();
    for bad in
        ["", "{}", &good.replace(":2,", ":3,"), &good.replace(&id, "k:1"), &good.replace(&format!("\"{id}\""), "")]
    {
        fs::write(&path, bad).unwrap();
        assert!(matches!(store.try_open(), Err(OpenError::Damaged { .. })), "{bad}");
    }
}

#[test]
fn a_store_of_the_format_before_becomes_one_of_this_format_once_its_key_has_opened_it() {
    let store = Store::new();
    let path = store.path().join(identity::FILE);
    let good = fs::read_to_string(&path).unwrap();
    let before = good.replace(":2,", ":1,");
    assert_ne!(before, good);
    fs::write(&path, &before).unwrap();
    assert!(matches!(Vault::open(store.path(), VaultKey::generate()), Err(OpenError::WrongKey { .. })));
    drop(Vault::open_frozen(store.path(), VaultKey::from_bytes(store.key.bytes())).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "who cannot write or has another key changes nothing");
    drop(store.open());
    assert_eq!(fs::read_to_string(&path).unwrap(), good);
}

#[test]
fn no_file_and_no_text_holds_the_credential() {
    use std::os::unix::fs::PermissionsExt;

    let store = Store::new();
    let put = store.put("claude", KEY);
    let vault = store.open();
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let needles = [
        KEY.to_owned(),
        KEY[7..].to_owned(),
        hex,
        BASE64_STANDARD.encode(KEY),
        put.masked.clone(),
        "api.example.com".to_owned(),
    ];
    for (name, bytes) in store.files() {
        for needle in &needles {
            assert_eq!(memchr::memmem::find(&bytes, needle.as_bytes()), None, "{needle} in {name}");
        }
        let mode = fs::metadata(store.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let key = VaultKey::from_bytes(store.key.bytes());
    let printed = format!("{vault:?} {put:?} {:?} {key:?} {:?}", vault.sealer(), vault.sealer().stream_key(&[0; 16]));
    let key_hex: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for needle in [KEY, &KEY[7..], &key_hex, &BASE64_STANDARD.encode(key.bytes())] {
        assert!(!printed.contains(needle), "{printed}");
    }
}

#[test]
fn the_length_of_a_credential_shows_only_in_steps() {
    let store = Store::new();
    let length = |key: &str| {
        store.put("claude", key);
        store.rows()[&key_of("claude", API_KEY)].len()
    };
    let (short, long) = (length("k"), length(&"k".repeat(62)));
    assert_eq!(short, long);
    assert_eq!(length(&"k".repeat(63)), short + 64);
}

/// A disk in memory that fails every sync once it is told to.
#[derive(Debug, Default)]
struct Disk {
    content: Mutex<Vec<u8>>,
    fails: Arc<AtomicBool>,
}

impl lap_store::Disk for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.content.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.content.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

#[test]
fn a_failed_commit_is_an_unknown_outcome_and_the_last_change() {
    let fails = Arc::new(AtomicBool::new(false));
    let disk = Disk { fails: Arc::clone(&fails), ..Disk::default() };
    let store = lap_store::Store::create_on(disk, OPTIONS).unwrap();
    let key = VaultKey::generate();
    let identity = Identity::fresh(key.id());
    fill(&store, &identity, &key).unwrap();
    let Ok(sealer) = read_keys(&store, &identity, &key) else { unreachable!("it was just written") };
    let credential_changes = watch::Sender::default();
    let vault = Vault { store, sealer, key: key.id(), credential_changes, failed: watch::Sender::default() };
    let put = || vault.put_credential(&runtime("claude"), secret(KEY), "https://api.example.com".parse().unwrap());
    let changes = vault.credential_changes();
    assert_eq!(put().unwrap().version, 1);
    assert!(!*vault.failed().borrow());
    fails.store(true, Ordering::Relaxed);
    assert!(matches!(put(), Err(StoreError::OutcomeUnknown(_))));
    assert_eq!(*changes.borrow(), 2, "what may have happened is announced");
    assert!(*vault.failed().borrow(), "the host does not learn that it must be restarted");
    fails.store(false, Ordering::Relaxed);
    assert!(matches!(put(), Err(StoreError::Database(_))), "no change after one that is unknown");
    let removed = vault.remove_credential(&runtime("claude"));
    assert!(matches!(removed, Err(StoreError::Database(_))));
    assert_eq!(*changes.borrow(), 2, "what has not happened is not");
}
