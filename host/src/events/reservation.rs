//! Reservations: a client's wish that may come twice, and the id that is set aside for what it makes.
//!
//! For `http`, which reserves before it carries a keyed wish out. The id is durable before anything is made, so whoever
//! carries the same wish out again, also after a crash, makes the same thing or finds it. The committer decides who came
//! first; it sees a key and a time in the clear, and the rest sealed.
//!
//! Must not know what a wish is, nor what is made of it.

use std::{ops::Bound, sync::Arc, time::Duration};

use lap_seal::{Place, Sealer};
use lap_store::{Commit, Direction, Limit, Rows, RowsMut, Table};
use tokio::sync::oneshot;

use super::{AppendError, Shared, commit, table::StoreResult};
use crate::id::Reserved;

/// For how long a key means the same wish.
const KEPT: Duration = Duration::from_hours(24);

/// How many expired rows each new one clears away: more than one, so that the table shrinks again after a rush, and few,
/// so that no commit becomes long.
const SWEPT: usize = 4;

/// What stands for a wish: a digest of who wishes, where, and under which key.
pub type ReservationKey = [u8; 32];

type Expiry = [u8; 40];

/// The time of expiry in milliseconds (8 bytes), then digest of the wish, id and stage, sealed.
pub(super) const RESERVATIONS: Table = Table::of_32("reservations");
/// The keys of the other table by the time when they expire.
pub(super) const EXPIRIES: Table = Table::set_of_40("reservation_expiries");

/// Why nothing was reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// The key stands for another wish.
    #[error("the key stands for another wish")]
    OtherWish,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// What the store holds is not what was written.
    #[error("a reservation is damaged")]
    Damaged,
}

/// How far a wish has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has tried to carry it out.
    New,
    /// Somebody has tried. So many steps of it were carried out; the next one may have been or not.
    Tried(u8),
    /// It was carried out.
    Done,
}

/// A wish and the id of what it makes.
#[derive(Debug, Clone)]
pub struct Reservation {
    key: ReservationKey,
    wish: [u8; 32],
    expires_ms: u64,
    /// What is made has this id.
    pub id: Reserved,
    /// How far it had come when it was reserved.
    pub stage: Stage,
}

/// The reservations in the log's file. A handle: clones share everything.
#[derive(Clone)]
pub struct Reservations {
    shared: Arc<Shared>,
}

impl Reservations {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reserves an id for what `key` stands for, or gives back the one that was reserved for it in the last 24 hours.
    /// `wish` is a digest of what the key is used for. Durable when this returns, and decided after whatever was given
    /// to the log before.
    ///
    /// # Errors
    /// When the key stands for another wish, or the store fails.
    pub async fn reserve(&self, key: ReservationKey, wish: [u8; 32], now_ms: u64) -> Result<Reservation, ReserveError> {
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now_ms.saturating_add(kept_ms);
        let new = Reservation { key, wish, expires_ms, id: Reserved::fresh(), stage: Stage::New };
        let (ack, decided) = oneshot::channel();
        // Whoever comes next must not take it for new.
        let row = new.seal(&self.shared.sealer, Stage::Tried(0));
        self.shared.submit(commit::Op::Reserve { row, now_ms, ack })?;
        let Some(held) = decided.await.unwrap_or(Err(AppendError::OutcomeUnknown))? else { return Ok(new) };
        let held = held.open(&self.shared.sealer).ok_or(ReserveError::Damaged)?;
        if held.wish == wish { Ok(held) } else { Err(ReserveError::OtherWish) }
    }

    /// Notes that a wish was carried out. Durable when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fulfil(&self, reservation: &Reservation) -> Result<(), AppendError> {
        let (ack, done) = oneshot::channel();
        let row = reservation.seal(&self.shared.sealer, Stage::Done);
        self.shared.submit(commit::Op::Fulfil { row, ack })?;
        done.await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    /// The note that a wish has come to this stage.
    #[must_use]
    pub fn receipt(&self, reservation: &Reservation, stage: Stage) -> Receipt {
        Receipt(reservation.seal(&self.shared.sealer, stage))
    }
}

/// The note that a step of a wish was carried out, for the commit that does so: both hold, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt(pub(super) Row);

/// A reservation as the committer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    key: ReservationKey,
    expires_ms: u64,
    sealed: Vec<u8>,
}

impl Reservation {
    fn seal(&self, sealer: &Sealer, stage: Stage) -> Row {
        let mut plain = [0; 49];
        plain[..32].copy_from_slice(&self.wish);
        plain[32..48].copy_from_slice(&self.id.to_bytes());
        plain[48] = match stage {
            Stage::New | Stage::Tried(0) => 0,
            Stage::Done => 1,
            Stage::Tried(steps) => steps.saturating_add(1),
        };
        let sealed = in_place(&self.key, self.expires_ms, |place| sealer.seal(place, 1, &plain));
        Row { key: self.key, expires_ms: self.expires_ms, sealed }
    }
}

impl Row {
    fn open(&self, sealer: &Sealer) -> Option<Reservation> {
        let plain = in_place(&self.key, self.expires_ms, |place| sealer.open(place, &self.sealed)).ok()?;
        let (wish, rest) = plain.split_first_chunk()?;
        let (id, stage) = rest.split_first_chunk()?;
        let stage = match *stage {
            [0] => Stage::Tried(0),
            [1] => Stage::Done,
            [steps] => Stage::Tried(steps - 1),
            _ => return None,
        };
        let (key, expires_ms) = (self.key, self.expires_ms);
        Some(Reservation { key, wish: *wish, expires_ms, id: Reserved::from_bytes(*id), stage })
    }

    fn expiry(&self) -> Expiry {
        expiry(self.expires_ms, &self.key)
    }
}

/// The time belongs to the place: a row whose time was altered cannot be opened.
fn in_place<T>(key: &ReservationKey, expires_ms: u64, with: impl FnOnce(&Place<'_>) -> T) -> T {
    let (high, low) = key.split_at(16);
    let half = |bytes: &[u8]| bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let (id, time) = (format!("{:032x}{:032x}", half(high), half(low)), expires_ms.to_string());
    with(&Place { table: "reservations", owner: "", id: &id, field: &time })
}

fn expiry(expires_ms: u64, key: &ReservationKey) -> Expiry {
    let mut expiry = [0; 40];
    expiry[..8].copy_from_slice(&expires_ms.to_be_bytes());
    expiry[8..].copy_from_slice(key);
    expiry
}

/// What a commit does to the reservations, in order.
pub(super) enum Change {
    /// Puts a row where there is none that has not expired.
    Reserve { row: Row, now_ms: u64 },
    /// Replaces the row of the same reservation, if it is still there.
    Fulfil(Row),
}

/// Makes the changes. For each `Reserve` the row that was there already, or nothing when the new one was put.
pub(super) fn write(commit: &Commit, changes: &[Change]) -> StoreResult<Vec<Option<Row>>> {
    let mut found = Vec::new();
    if changes.is_empty() {
        return Ok(found);
    }
    let mut rows = commit.rows(RESERVATIONS)?;
    let mut expiries = commit.rows(EXPIRIES)?;
    for change in changes {
        match change {
            Change::Reserve { row, now_ms } => {
                let held = held(&*rows, &row.key)?;
                if let Some(held) = &held
                    && held.expires_ms > *now_ms
                {
                    found.push(Some(held.clone()));
                    continue;
                }
                if let Some(expired) = held {
                    expiries.remove(&expired.expiry())?;
                }
                put(&mut *rows, row)?;
                expiries.put(&row.expiry(), &[])?;
                sweep(&mut *rows, &mut *expiries, *now_ms)?;
                found.push(None);
            }
            Change::Fulfil(row) => {
                if held(&*rows, &row.key)?.is_some_and(|held| held.expires_ms == row.expires_ms) {
                    put(&mut *rows, row)?;
                }
            }
        }
    }
    Ok(found)
}

fn held<R: Rows + ?Sized>(rows: &R, key: &ReservationKey) -> StoreResult<Option<Row>> {
    let Some(row) = rows.get(key)? else { return Ok(None) };
    // A row that is cut off never expires: taken for absent, it would let its wish be carried out again.
    let (time, sealed) = row.split_first_chunk::<8>().unwrap_or((&[0xff; 8], &[]));
    Ok(Some(Row { key: *key, expires_ms: u64::from_be_bytes(*time), sealed: sealed.to_vec() }))
}

fn put(rows: &mut dyn RowsMut, row: &Row) -> StoreResult<()> {
    rows.put(&row.key, &[&row.expires_ms.to_be_bytes()[..], &row.sealed].concat())
}

/// Removes a few of the rows that have expired, the oldest first.
fn sweep(rows: &mut dyn RowsMut, expiries: &mut dyn RowsMut, now_ms: u64) -> StoreResult<()> {
    let end = expiry(now_ms.saturating_add(1), &[0; 32]);
    let limit = Limit { rows: SWEPT, ..Limit::NONE };
    for (expiry, _) in expiries.page((Bound::Unbounded, Bound::Excluded(&end)), Direction::Forwards, limit)? {
        expiries.remove(&expiry)?;
        rows.remove(&expiry[8..])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use lap_store::Store;

    fn row(name: u8, expires_ms: u64) -> Row {
        Row { key: [name; 32], expires_ms, sealed: vec![name] }
    }

    struct Reserved {
        store: Store,
        _directory: tempfile::TempDir,
    }

    impl Reserved {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self { store: crate::events::table::create(&directory.path().join("log")).unwrap(), _directory: directory }
        }

        fn write(&self, changes: &[Change]) -> Vec<Option<Row>> {
            let commit = self.store.begin().unwrap();
            let found = write(&commit, changes).unwrap();
            commit.commit().unwrap();
            found
        }

        fn reserve(&self, row: Row, now_ms: u64) -> Option<Row> {
            self.write(&[Change::Reserve { row, now_ms }]).remove(0)
        }

        /// How many rows each table has.
        fn sizes(&self) -> (u64, u64) {
            let view = self.store.view().unwrap();
            let count = |table| view.rows(table).unwrap().count().unwrap();
            (count(RESERVATIONS), count(EXPIRIES))
        }
    }

    #[test]
    fn the_first_of_one_commit_wins() {
        let store = Reserved::new();
        let reserve = |sealed| Change::Reserve { row: Row { sealed: vec![sealed], ..row(1, 10) }, now_ms: 0 };
        assert_eq!(store.write(&[reserve(7), reserve(8)]), [None, Some(Row { sealed: vec![7], ..row(1, 10) })]);
    }

    #[test]
    fn a_row_counts_until_the_millisecond_in_which_it_expires() {
        let store = Reserved::new();
        assert_eq!(store.reserve(row(1, 100), 0), None);
        assert_eq!(store.reserve(row(1, 199), 99), Some(row(1, 100)));
        assert_eq!(store.reserve(row(1, 200), 100), None);
        assert_eq!(store.reserve(row(1, 201), 101), Some(row(1, 200)));
        assert_eq!(store.sizes(), (1, 1), "the expired one has left nothing behind");
    }

    #[test]
    fn expired_rows_go_a_few_at_a_time_and_no_others() {
        let store = Reserved::new();
        for name in 0..10 {
            store.reserve(row(name, 100 + u64::from(name)), 0);
        }
        assert_eq!(store.sizes(), (10, 10));
        store.reserve(row(50, 1000), 105);
        assert_eq!(store.sizes(), (7, 7), "four of the six that have expired are gone");
        store.reserve(row(51, 1000), 105);
        store.reserve(row(52, 1000), 105);
        assert_eq!(store.sizes(), (7, 7), "the others that have expired, and none that has not");
        for name in 6..10 {
            assert!(store.reserve(row(name, 2000), 105).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_fulfilled_after_it_has_expired_does_not_come_back() {
        let store = Reserved::new();
        store.reserve(row(1, 100), 0);
        store.reserve(row(1, 200), 100);
        store.write(&[Change::Fulfil(Row { sealed: vec![9], ..row(1, 100) })]);
        assert_eq!(store.reserve(row(1, 300), 150), Some(row(1, 200)));
        store.write(&[Change::Fulfil(Row { sealed: vec![9], ..row(1, 200) })]);
        assert_eq!(store.reserve(row(1, 300), 150), Some(Row { sealed: vec![9], ..row(1, 200) }));
    }
}
