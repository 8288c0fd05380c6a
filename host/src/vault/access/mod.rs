//! Clients' keys: minted, looked up, revoked; and the sign-ins of browsers, which stand for a key for some hours.
//!
//! For `http`, which asks whose a key is. Of a key only its HMAC under a *pepper* is kept: 32 random bytes of this store's,
//! sealed in it. They do not follow from the operator's keys, so clients' keys outlive a change of those, and the HMAC of a
//! stolen file tells nothing without the vault's key. All HMACs are an index in memory: a look-up is one HMAC and one
//! probe of a table by a value that its sender cannot choose, so the time that it takes says nothing about other keys.
//!
//! * `client.rs` who somebody is, and for how long · `rows.rs` what is kept
//!
//! Must not know what a role lets do. All calls but [`ClientKeys::find`] block on the disk.

mod client;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use ring::hmac;
use tokio::{task::spawn_blocking, time::sleep};
use zeroize::Zeroizing;

pub(crate) use self::rows::TABLES;
pub use self::{client::Client, rows::verify};
use self::{
    client::{Key, SignIn},
    rows::{Rows, SignInKey, StoredKey, StoredSignIn, Tag},
};
use lap_seal::random;

use super::{RowError, Vault};
use crate::{
    access::{OwnerId, Role},
    clock,
    id::ClientKeyId,
};

/// A longer text is refused before it is looked at.
const SHOWN_BYTES_MAX: usize = 128;

/// How many keys there may be. All of them are in memory, each with about 500 bytes.
const KEYS_MAX: usize = 10_000;

/// How many browsers may be signed in with one key. The next one signs the first one out.
const SIGN_INS_MAX: usize = 32;

/// For how long a browser stays signed in: a working day.
pub const SIGN_IN_FOR: Duration = Duration::from_hours(12);

/// How often it is noted when keys were used. A crash forgets what came after the last note.
const NOTES: Duration = Duration::from_secs(60);

/// What a request shows.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// The master key, or a client's.
    Key(&'a str),
    /// What a browser got when it signed in.
    SignIn(&'a str),
}

/// What a new key shall be.
pub struct NewKey {
    /// A new id, or one that was reserved for this key.
    pub id: ClientKeyId,
    /// What people call it.
    pub label: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whose things it sees. An admin's key sees everybody's, whatever stands here.
    pub owner: OwnerId,
    /// When it stops, in milliseconds since the epoch.
    pub expires_ms: Option<u64>,
}

/// A key as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub id: ClientKeyId,
    /// What people call it.
    pub label: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whose things it sees; nothing where it sees everybody's.
    pub owner: Option<OwnerId>,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// When it was used last, as far as that is known.
    pub used_ms: Option<u64>,
    /// When it stops.
    pub expires_ms: Option<u64>,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There are too many.
    #[error("there are {KEYS_MAX} keys, which is the most that there may be")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RowError),
}

/// All keys. A handle: clones share everything.
#[derive(Clone)]
pub struct ClientKeys(Arc<Shared>);

struct Shared {
    pepper: hmac::Key,
    master: Tag,
    rows: Rows,
    index: RwLock<Index>,
    /// What was noted last. Held by whoever changes something: changes come one after the other.
    noted: Mutex<BTreeMap<ClientKeyId, u64>>,
}

#[derive(Default)]
struct Index {
    by_tag: HashMap<Tag, Client>,
    keys: BTreeMap<ClientKeyId, (Tag, Arc<Key>)>,
    /// Those of one key beside each other, the first first.
    sign_ins: BTreeMap<SignInKey, (Tag, Arc<SignIn>)>,
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKeys(..)")
    }
}

impl ClientKeys {
    /// The keys in the vault's database, and the master key, which is the operator's and not kept. Sign-ins of another
    /// master key than this one are over.
    ///
    /// # Errors
    /// When a row is not what was written: nobody is let in then.
    pub fn open(vault: &Vault, master: &str) -> Result<Self, RowError> {
        let rows = Rows::new(vault);
        let pepper = rows.pepper(random)?;
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, &pepper[..]);
        let master = tag(&pepper, Shown::Key(master));
        let noted = rows.uses()?;
        let mut index = Index::default();
        let operator = Arc::new(Key::master());
        index.by_tag.insert(master, Client::of(Arc::clone(&operator)));
        for (id, stored) in rows.keys()? {
            let (tag, key) = (stored.tag, Arc::new(stored.into_key(id, noted.get(&id).copied())));
            index.add(id, tag, key);
        }
        let now = clock::unix_ms();
        let mut over = Vec::new();
        for (key, stored) in rows.sign_ins()? {
            let of = match key.of() {
                None => Some(&operator).filter(|_| stored.master == Some(master)),
                Some(id) => index.keys.get(&id).map(|(_, key)| key),
            };
            match of.filter(|_| stored.expires_ms > now) {
                Some(of) => {
                    let sign_in = SignIn::new(key, stored.expires_ms);
                    let of = Arc::clone(of);
                    index.sign_in(of, stored.tag, Arc::new(sign_in));
                }
                None => over.push(key),
            }
        }
        rows.remove_sign_ins(&over)?;
        let (index, noted) = (RwLock::new(index), Mutex::new(noted));
        Ok(Self(Arc::new(Shared { pepper, master, rows, index, noted })))
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.0.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.0.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn changing(&self) -> MutexGuard<'_, BTreeMap<ClientKeyId, u64>> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose this is, and notes in memory that it was used. Nothing for what is unknown, revoked or expired.
    #[must_use]
    pub fn find(&self, shown: Shown<'_>) -> Option<Client> {
        if shown.text().len() > SHOWN_BYTES_MAX {
            return None;
        }
        let tag = tag(&self.0.pepper, shown);
        let client = self.read(|index| index.by_tag.get(&tag).cloned())?;
        let now = clock::unix_ms();
        if client.is_over(now) {
            return None;
        }
        client.used(now);
        Some(client)
    }

    /// All keys but the master key, the last made first.
    #[must_use]
    pub fn all(&self) -> Vec<KeyView> {
        self.read(|index| index.keys.iter().rev().map(|(id, (_, key))| key.view(*id)).collect())
    }

    /// A key.
    #[must_use]
    pub fn get(&self, id: ClientKeyId) -> Option<KeyView> {
        self.read(|index| index.keys.get(&id).map(|(_, key)| key.view(id)))
    }

    /// Makes a key. Its text is shown here and never again.
    ///
    /// # Errors
    /// When there are too many, or the store fails: there is no such key then.
    pub fn mint(&self, new: NewKey) -> Result<(KeyView, Zeroizing<String>), MintError> {
        let _changing = self.changing();
        if self.read(|index| index.keys.len()) >= KEYS_MAX {
            return Err(MintError::Full);
        }
        let NewKey { id, label, role, owner, expires_ms } = new;
        let text = secret("sk-");
        let tag = tag(&self.0.pepper, Shown::Key(&text));
        let owner = (role != Role::Admin).then_some(owner);
        let stored = StoredKey { tag, label, role, owner, created_ms: clock::unix_ms(), expires_ms };
        self.0.rows.put_key(id, &stored)?;
        let key = Arc::new(stored.into_key(id, None));
        let view = key.view(id);
        self.write(|index| index.add(id, tag, key));
        Ok((view, text))
    }

    /// Ends a key, all its sign-ins, and everything that waits for its end. False when there is none.
    ///
    /// # Errors
    /// When the store fails. The key is of no use all the same until a restart, which may find it there again: revoke it
    /// once more.
    pub fn revoke(&self, id: ClientKeyId) -> Result<bool, RowError> {
        let _changing = self.changing();
        let Some(key) = self.read(|index| index.keys.get(&id).map(|(_, key)| Arc::clone(key))) else {
            return Ok(false);
        };
        // Before the disk, which may fail: who revokes a key has a reason.
        key.tenure.end();
        self.0.rows.remove_key(id)?;
        self.write(|index| index.remove(id));
        Ok(true)
    }

    /// Lets a browser stand for a key, until [`SIGN_IN_FOR`] has passed, it signs out, or the key ends. Gives what it shall
    /// show.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sign_in(&self, client: &Client) -> Result<Zeroizing<String>, RowError> {
        let _changing = self.changing();
        let of = client.key();
        let key = SignInKey::fresh(of.id);
        let others = self.read(|index| index.sign_ins_of(of.id));
        let too_many = &others[..others.len().saturating_sub(SIGN_INS_MAX - 1)];
        let text = secret("");
        let tag = tag(&self.0.pepper, Shown::SignIn(&text));
        let master = of.id.is_none().then_some(self.0.master);
        let stored = StoredSignIn { tag, master, expires_ms: clock::unix_ms() + millis(SIGN_IN_FOR) };
        self.0.rows.put_sign_in(key, &stored, too_many)?;
        let sign_in = Arc::new(SignIn::new(key, stored.expires_ms));
        self.write(|index| {
            too_many.iter().for_each(|key| index.sign_out(key));
            index.sign_in(Arc::clone(of), tag, sign_in);
        });
        Ok(text)
    }

    /// Ends the sign-in that a client has shown. Does nothing for one that has shown a key.
    ///
    /// # Errors
    /// When the store fails. The sign-in is of no use all the same until a restart.
    pub fn sign_out(&self, client: &Client) -> Result<(), RowError> {
        let Some(sign_in) = client.sign_in() else { return Ok(()) };
        let _changing = self.changing();
        sign_in.tenure.end();
        self.0.rows.remove_sign_ins(&[sign_in.key])?;
        self.write(|index| index.sign_out(&sign_in.key));
        Ok(())
    }

    /// Keeps notes on when keys were used, until it is dropped.
    pub async fn keep_notes(self) {
        loop {
            sleep(NOTES).await;
            let keys = self.clone();
            match spawn_blocking(move || keys.note()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "when keys were used cannot be noted"),
                Err(error) => tracing::error!(%error, "when keys were used was not noted"),
            }
        }
    }

    /// Writes down when keys were used, if any was since the last time, and forgets sign-ins that are over.
    ///
    /// # Errors
    /// When the store fails.
    pub fn note(&self) -> Result<(), RowError> {
        let mut noted = self.changing();
        let now = clock::unix_ms();
        let (uses, over) = self.read(|index| (index.uses(), index.sign_ins_over(now)));
        if uses != *noted {
            self.0.rows.put_uses(&uses)?;
            *noted = uses;
        }
        self.0.rows.remove_sign_ins(&over)?;
        self.write(|index| over.iter().for_each(|key| index.sign_out(key)));
        Ok(())
    }
}

impl Index {
    fn add(&mut self, id: ClientKeyId, tag: Tag, key: Arc<Key>) {
        self.by_tag.insert(tag, Client::of(Arc::clone(&key)));
        self.keys.insert(id, (tag, key));
    }

    fn sign_in(&mut self, of: Arc<Key>, tag: Tag, sign_in: Arc<SignIn>) {
        self.sign_ins.insert(sign_in.key, (tag, Arc::clone(&sign_in)));
        self.by_tag.insert(tag, Client::through(of, sign_in));
    }

    fn remove(&mut self, id: ClientKeyId) {
        for key in self.sign_ins_of(Some(id)) {
            self.sign_out(&key);
        }
        if let Some((tag, _)) = self.keys.remove(&id) {
            self.by_tag.remove(&tag);
        }
    }

    fn sign_out(&mut self, key: &SignInKey) {
        if let Some((tag, sign_in)) = self.sign_ins.remove(key) {
            sign_in.tenure.end();
            self.by_tag.remove(&tag);
        }
    }

    /// The sign-ins of a key, or of the master key, the first first.
    fn sign_ins_of(&self, id: Option<ClientKeyId>) -> Vec<SignInKey> {
        let (first, last) = SignInKey::range(id);
        let range = self.sign_ins.range((Bound::Included(first), Bound::Included(last)));
        range.map(|(key, _)| *key).collect()
    }

    fn sign_ins_over(&self, now: u64) -> Vec<SignInKey> {
        let over = self.sign_ins.iter().filter(|(_, (_, sign_in))| sign_in.tenure.is_over(now));
        over.map(|(key, _)| *key).collect()
    }

    fn uses(&self) -> BTreeMap<ClientKeyId, u64> {
        self.keys.iter().filter_map(|(id, (_, key))| Some((*id, key.view(*id).used_ms?))).collect()
    }
}

impl Shown<'_> {
    const fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::SignIn(text) => text,
        }
    }
}

/// What stands for a text. The kind is part of it: what a browser shows is no key.
fn tag(pepper: &hmac::Key, shown: Shown<'_>) -> Tag {
    let mut context = hmac::Context::with_key(pepper);
    context.update(match shown {
        Shown::Key(_) => b"key\0",
        Shown::SignIn(_) => b"sign-in\0",
    });
    context.update(shown.text().as_bytes());
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// 256 random bits in hex, behind a prefix.
fn secret(prefix: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    random(&mut bytes[..]);
    // As large as it becomes, so that nothing is left behind by growth.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 2 * bytes.len()));
    text.push_str(prefix);
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
