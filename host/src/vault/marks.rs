//! Requests that were carried out: noted in the commit that does so, by the id that was set aside for what they make.
//!
//! For `http`, whose keyed requests may come again behind a crash; what lies in the log's file is noted there. The ids are in
//! the order of time, so that what is old is found without looking at the rest.

use std::{sync::Arc, time::Duration};

use lap_store::Table;

use super::{
    Vault,
    table::{Also, RowError, SealedTable},
};
use crate::{clock, id::Reserved};

/// By the id.
pub(super) const MARKS: Table = Table::new("requests_done");

/// For how long a mark is kept: longer than a key counts.
const KEPT: Duration = Duration::from_hours(25);

/// How many old marks each new one clears away.
const CLEARED: usize = 4;

/// The marks in a vault. A handle: clones share everything.
#[derive(Clone)]
pub struct Marks(Arc<SealedTable>);

/// What a commit notes that carries a request out.
#[derive(Clone)]
pub struct Mark {
    marks: Marks,
    id: Reserved,
}

impl Marks {
    /// Those of a vault.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        Self(Arc::new(SealedTable::new(vault, MARKS)))
    }

    /// The mark of the request with this id.
    #[must_use]
    pub fn of(&self, id: Reserved) -> Mark {
        Mark { marks: self.clone(), id }
    }

    /// True when the request with this id was carried out.
    ///
    /// # Errors
    /// When the store fails.
    pub fn has(&self, id: Reserved) -> Result<bool, RowError> {
        Ok(self.0.get(&id.to_bytes())?.is_some())
    }
}

impl Mark {
    /// What is written with the request's own changes.
    pub(crate) fn noted(&self) -> Also<'_> {
        let table = &*self.marks.0;
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let old = Reserved::of_ms(clock::unix_ms().saturating_sub(kept_ms));
        Also::All(vec![
            Also::RemoveBefore(table, old.to_bytes().to_vec(), CLEARED),
            Also::Put(table, self.id.to_bytes().to_vec(), Vec::new()),
        ])
    }
}

/// The same for what may have no mark.
pub(crate) fn noted(mark: Option<&Mark>) -> Also<'_> {
    mark.map_or(Also::Nothing, Mark::noted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::agents::tests::vault;

    #[test]
    fn a_mark_is_there_with_its_commit_and_goes_when_it_is_old() {
        let (_directory, vault) = vault();
        let marks = Marks::new(&vault);
        let other = SealedTable::new(&vault, Table::new("other"));
        let note = |id: Reserved| other.put(b"row", &1, marks.of(id).noted()).unwrap();
        let day = 24 * 60 * 60 * 1000;
        let now = clock::unix_ms();
        let old: Vec<_> = (0..6).map(|n| Reserved::of_ms(now - 2 * day + n)).collect();
        let (young, fresh) = (Reserved::of_ms(now - day), Reserved::fresh());
        // Those that are old when they come stay until others come behind them.
        for id in old.iter().chain([&young]) {
            other.put(b"row", &1, Also::Put(&marks.0, id.to_bytes().to_vec(), Vec::new())).unwrap();
        }
        assert!(!marks.has(fresh).unwrap() && marks.has(young).unwrap());
        note(fresh);
        assert!(marks.has(fresh).unwrap() && marks.has(young).unwrap());
        assert_eq!(old.iter().filter(|id| marks.has(**id).unwrap()).count(), 2, "a few at a time");
        note(Reserved::fresh());
        assert!(old.iter().all(|id| !marks.has(*id).unwrap()) && marks.has(young).unwrap());
        let refused =
            other.update(b"row", |_: &mut u32| Err::<Option<Also<'_>>, _>(RowError::Malformed(String::new())));
        assert!(refused.is_err(), "what is given up notes nothing");
    }
}
