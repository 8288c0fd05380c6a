//! The store against a model of it, and against files that are none.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use crate::{
    ALL, Direction, Error, Limit, OpenError, Options, Row, Span, Store, Table, between,
    copy::{Fill, FillError, Item},
};

const OPTIONS: Options = Options { cache_bytes: 1 << 20, checks_all: false, recovers_at_once: true, forgets: false };

const BYTES: Table = Table::new("bytes");
const TEXT: Table = Table::of_text("text");
const PAIRS: Table = Table::of_pairs("pairs");
const SHORT: Table = Table::of_u32("short");
const LONG: Table = Table::of_u64("long");
const SESSIONS: Table = Table::of_16("sessions");
const EVENTS: Table = Table::of_24("events");
const DIGESTS: Table = Table::of_32("digests");
const MARKS: Table = Table::set_of_16("marks");
const EXPIRIES: Table = Table::set_of_40("expiries");
const NEVER: Table = Table::new("never written to");
const TABLES: [Table; 11] = [BYTES, TEXT, PAIRS, SHORT, LONG, SESSIONS, EVENTS, DIGESTS, MARKS, EXPIRIES, NEVER];

/// A small generator of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// A key that fits a table; few enough that rows meet.
    fn key(&mut self, table: Table) -> Vec<u8> {
        let number = self.below(60);
        let fixed = |len: usize| format!("{number:0len$}").into_bytes();
        match table.name() {
            "bytes" | "text" => format!("{number}").into_bytes(),
            "pairs" => [format!("{}", number / 8).as_bytes(), &[0], format!("{}", number % 8).as_bytes()].concat(),
            "short" => u32::try_from(number).unwrap().to_be_bytes().to_vec(),
            "long" => (number as u64 * 1_000_003).to_be_bytes().to_vec(),
            "events" => fixed(24),
            "digests" => fixed(32),
            "expiries" => fixed(40),
            _ => fixed(16),
        }
    }

    fn span<'a>(&mut self, keys: &'a (Vec<u8>, Vec<u8>)) -> Span<'a> {
        let (first, last) = (keys.0.as_slice().min(&keys.1), keys.0.as_slice().max(&keys.1));
        match self.below(4) {
            0 => ALL,
            1 => between(first, last),
            2 => (Bound::Included(first), Bound::Excluded(last)),
            _ => (Bound::Unbounded, Bound::Included(last)),
        }
    }
}

type Model = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

fn within(model: &Model, table: Table, span: Span<'_>) -> Vec<Row> {
    let holds = |key: &[u8]| {
        (match span.0 {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        }) && (match span.1 {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        })
    };
    let rows = model.iter().filter(|((name, key), _)| *name == table.name() && holds(key));
    rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn is_as(store: &Store, model: &Model, dice: &mut Dice) {
    let view = store.view().unwrap();
    for table in TABLES {
        let rows = view.rows(table).unwrap();
        let keys = (dice.key(table), dice.key(table));
        let span = dice.span(&keys);
        let expected = within(model, table, span);
        assert_eq!(rows.page(span, Direction::Forwards, Limit::NONE).unwrap(), expected, "{table:?}");
        assert_eq!(rows.keys(span).unwrap().len(), expected.len());
        assert_eq!(rows.first(span).unwrap(), expected.first().cloned());
        assert_eq!(rows.last(span).unwrap(), expected.last().cloned());
        let backwards: Vec<Row> = expected.iter().rev().take(3).cloned().collect();
        let some = Limit { rows: 3, ..Limit::NONE };
        assert_eq!(rows.page(span, Direction::Backwards, some).unwrap(), backwards);
        assert_eq!(rows.get(&keys.0).unwrap(), model.get(&(table.name(), keys.0.clone())).cloned());
        assert_eq!(rows.count().unwrap(), within(model, table, ALL).len() as u64);
    }
}

#[test]
fn a_store_is_what_was_committed_and_nothing_of_what_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut store = Store::create(File::create_new(&path).unwrap(), OPTIONS).unwrap();
    let (mut model, mut dice) = (Model::new(), Dice(7));
    for round in 0..120 {
        let commit = store.begin().unwrap();
        let mut next = model.clone();
        for _ in 0..dice.below(30) {
            let table = TABLES[dice.below(TABLES.len() - 1)];
            let mut rows = commit.rows(table).unwrap();
            let keys = (dice.key(table), dice.key(table));
            match dice.below(8) {
                0 => {
                    let removed = next.remove(&(table.name(), keys.0.clone())).is_some();
                    assert_eq!(rows.remove(&keys.0).unwrap(), removed);
                }
                1 => {
                    let (span, most) = (dice.span(&keys), 1 + dice.below(5));
                    let gone = within(&next, table, span);
                    assert_eq!(rows.remove_span(span, most).unwrap(), gone.len().min(most));
                    gone.iter().take(most).for_each(|(key, _)| drop(next.remove(&(table.name(), key.clone()))));
                }
                _ => {
                    let is_set = [MARKS, EXPIRIES].contains(&table);
                    let value = if is_set { Vec::new() } else { vec![7; dice.below(3000)] };
                    rows.put(&keys.0, &value).unwrap();
                    next.insert((table.name(), keys.0.clone()), value);
                }
            }
            // A commit sees what it has done.
            assert_eq!(rows.get(&keys.1).unwrap(), next.get(&(table.name(), keys.1.clone())).cloned());
        }
        if dice.below(4) == 0 {
            drop(commit);
        } else {
            commit.commit().unwrap();
            model = next;
        }
        if round % 10 == 0 {
            drop(store);
            store = Store::open(&path, OPTIONS).unwrap();
        }
        is_as(&store, &model, &mut dice);
    }
    assert!(model.len() > 100);
}

#[test]
fn a_page_ends_with_the_row_that_reaches_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(File::create_new(directory.path().join("store")).unwrap(), OPTIONS).unwrap();
    let commit = store.begin().unwrap();
    (0_u64..10).for_each(|n| commit.rows(LONG).unwrap().put(&n.to_be_bytes(), &[0; 100]).unwrap());
    commit.commit().unwrap();
    let rows = store.view().unwrap().rows(LONG).unwrap();
    let len = |rows_max, bytes| rows.page(ALL, Direction::Forwards, Limit { rows: rows_max, bytes }).unwrap().len();
    assert_eq!([len(3, 1000), len(10, 250), len(10, 200), len(0, 100), len(9, 0)], [3, 3, 2, 0, 0]);
}

#[test]
fn what_does_not_fit_its_table_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(File::create_new(directory.path().join("store")).unwrap(), OPTIONS).unwrap();
    let commit = store.begin().unwrap();
    for (table, key, value) in [
        (SHORT, &[0; 3][..], &[][..]),
        (LONG, &[0; 9], &[]),
        (TEXT, b"\xff", b""),
        (PAIRS, b"no end", b""),
        (SESSIONS, b"short", b""),
        (MARKS, &[0; 16], b"a value"),
    ] {
        let refused = commit.rows(table).unwrap().put(key, value);
        assert!(matches!(refused, Err(Error::Malformed(name)) if name == table.name()), "{table:?}");
    }
    commit.commit().unwrap();
    let mut dice = Dice(1);
    is_as(&store, &Model::new(), &mut dice);
    // The form of a table is a part of what is stored.
    let other = Table::of_u32("long");
    assert!(matches!(store.view().unwrap().rows(other), Err(Error::Failed(_))));
}

#[test]
fn what_holds_no_store_is_refused_without_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let refused = |path: &Path| Store::open(path, OPTIONS).map(|_| ()).unwrap_err();
    assert!(matches!(refused(&path("missing")), OpenError::Io(error) if error.kind() == io::ErrorKind::NotFound));
    fs::write(path("empty"), "").unwrap();
    assert!(matches!(refused(&path("empty")), OpenError::Io(error) if error.kind() == io::ErrorKind::InvalidData));
    assert!(matches!(Store::open_frozen(&path("empty"), OPTIONS), Err(OpenError::Io(_))));
    fs::write(path("text"), "this is no store, and has never been one. ".repeat(200)).unwrap();
    assert!(matches!(refused(&path("text")), OpenError::Refused(_) | OpenError::Damaged | OpenError::Io(_)));
    let store = Store::create(File::create_new(path("store")).unwrap(), OPTIONS).unwrap();
    assert!(matches!(refused(&path("store")), OpenError::InUse));
    assert!(matches!(Store::open_frozen(&path("store"), OPTIONS), Err(OpenError::InUse)));
    drop(store);
    assert!(Store::open(&path("store"), OPTIONS).is_ok());
}

#[test]
fn a_frozen_store_takes_commits_and_leaves_its_file_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let put = |store: &Store, key: &[u8]| {
        let commit = store.begin().unwrap();
        commit.rows(BYTES).unwrap().put(key, b"1").unwrap();
        commit.commit().unwrap();
    };
    let keys = |store: &Store| store.view().unwrap().rows(BYTES).unwrap().keys(ALL).unwrap();
    put(&Store::create(File::create_new(&path).unwrap(), OPTIONS).unwrap(), b"a");
    let before = fs::read(&path).unwrap();
    let frozen = Store::open_frozen(&path, OPTIONS).unwrap();
    put(&frozen, b"b");
    assert_eq!(keys(&frozen), [b"a", b"b"]);
    drop(frozen);
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(keys(&Store::open(&path, OPTIONS).unwrap()), [b"a"]);
}

#[test]
fn a_view_and_its_rows_keep_the_store_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let view = filled(path.clone()).view().unwrap();
    let rows = view.rows(BYTES).unwrap();
    assert!(matches!(Store::open(&path, OPTIONS), Err(OpenError::InUse)));
    drop(view);
    assert!(rows.count().unwrap() > 0 && rows.first(ALL).unwrap().is_some());
    drop(rows);
    assert!(Store::open(&path, OPTIONS).is_ok());
}

/// Some rows of every form.
fn filled(path: PathBuf) -> Store {
    let store = Store::create(File::create_new(path).unwrap(), OPTIONS).unwrap();
    let commit = store.begin().unwrap();
    let mut dice = Dice(3);
    for table in &TABLES[..10] {
        for _ in 0..20 {
            let value: &[u8] = if [MARKS, EXPIRIES].contains(table) { b"" } else { &[0, 255] };
            commit.rows(*table).unwrap().put(&dice.key(*table), value).unwrap();
        }
    }
    commit.commit().unwrap();
    store
}

fn items(store: &Store) -> Vec<String> {
    let mut items = Vec::new();
    let note = &mut |item: Item<'_>| {
        items.push(format!("{item:?}"));
        Ok(())
    };
    store.view().unwrap().copy(TABLES, note).unwrap();
    items
}

#[test]
fn a_copy_has_the_same_rows_of_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled(directory.path().join("source"));
    let path = directory.path().join("copy");
    let new = Store::create(File::create_new(&path).unwrap(), OPTIONS).unwrap();
    let mut fill = Fill::new(new, TABLES.to_vec());
    source.view().unwrap().copy(TABLES, &mut |item| fill.take(item).map_err(io::Error::other)).unwrap();
    fill.finish().unwrap();
    let expected = items(&source);
    assert_eq!(items(&Store::open(&path, OPTIONS).unwrap()), expected);
    let tables = expected.iter().filter(|item| item.starts_with("Table")).count();
    assert!(tables == 10 && expected.len() > 100, "one was never written to: {tables}");
}

#[test]
fn rows_that_cannot_be_of_their_table_are_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut fill = || {
        number += 1;
        let file = File::create_new(directory.path().join(format!("{number}"))).unwrap();
        Fill::new(Store::create(file, OPTIONS).unwrap(), TABLES.to_vec())
    };
    for (table, key, value) in [
        ("short", &[0; 3][..], &[][..]),
        ("marks", &[0; 16], &[1]),
        ("pairs", b"no end", b""),
        ("pairs", b"\xff\0b", b""),
        ("sessions", b"four", b""),
    ] {
        let mut fill = fill();
        let taken = fill.take(Item::Table(table)).and_then(|()| fill.take(Item::Row { key, value }));
        let refused = taken.and_then(|()| fill.finish()).unwrap_err().to_string();
        assert_eq!(refused, format!("a row of the table {table:?} cannot be understood"));
    }
    let unknown = fill().take(Item::Table("other")).unwrap_err().to_string();
    assert!(unknown.contains("\"other\", which this version does not know"), "{unknown}");
    let mut fill = fill();
    fill.take(Item::Row { key: b"", value: b"" }).unwrap();
    assert!(matches!(fill.finish(), Err(FillError::Malformed(_))), "a row of no table");
}
