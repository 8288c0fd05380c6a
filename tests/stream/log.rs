//! The event log by itself, on a real file: order, durability over a restart, cursors, deletion.

use std::path::Path;

use lap::{
    events::{AppendError, Draft, EventLog, Limit, Reader, Record, ReserveError, Run, Span, Stage},
    id::SessionId,
    vault::{Vault, VaultKey},
};
use lap_seal::Sealer;
use tempfile::TempDir;

struct Store {
    folder: TempDir,
    sealer: Sealer,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = VaultKey::generate();
        Vault::init(folder.path(), &key).unwrap();
        let sealer = Vault::open(folder.path(), key).unwrap().sealer();
        EventLog::create(&folder.path().join("events.redb"), sealer.clone()).unwrap();
        Self { folder, sealer }
    }

    /// Opens the log once its last user has closed it: the committer's thread may still be letting go.
    fn open(&self) -> EventLog {
        loop {
            match EventLog::open(&self.file(), self.sealer.clone()) {
                Ok(log) => return log,
                Err(lap::events::StartError::InUse) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn file(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join("events.redb")
    }
}

fn event(n: u64, padding: usize) -> String {
    format!(r#"{{"type":"agent.message","n":{n},"pad":"{}"}}"#, "x".repeat(padding))
}

fn events(range: impl IntoIterator<Item = u64>, padding: usize) -> Draft {
    let mut draft = Draft::default();
    for n in range {
        draft.push("agent.message", &event(n, padding));
    }
    draft
}

fn rest(reader: &mut Reader) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let page = reader.next_page(100, 64 * 1024).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.events().map(|event| (event.seq, event.json.to_owned())));
    }
}

fn expected(range: std::ops::RangeInclusive<u64>, padding: usize) -> Vec<(u64, String)> {
    range.map(|n| (n, event(n, padding))).collect()
}

fn record(version: u64) -> Record {
    Record::Session { version, bytes: format!("record {version}").into_bytes() }
}

#[tokio::test]
async fn events_keep_their_order_and_bytes_over_a_restart_wherever_they_were_stored() {
    // Small batches stay in the journal, large ones get a row at once, and the restart moves the rest.
    let store = Store::new();
    let (small, large) = (SessionId::fresh(), SessionId::fresh());
    let log = store.open();
    let mut writer = log.writer(small, true).unwrap();
    let mut other = log.writer(large, true).unwrap();
    writer.append(Draft::default(), vec![record(1)], true).await.unwrap();
    other.append(Draft::default(), vec![record(1)], true).await.unwrap();
    for n in 0..20 {
        writer.append(events([n + 1], 100), Vec::new(), false).await.unwrap();
        other.append(events(n * 50 + 1..=n * 50 + 50, 700), Vec::new(), false).await.unwrap();
    }
    assert_eq!(rest(&mut log.reader(small, true, 0).unwrap()), expected(1..=20, 100));
    assert_eq!(rest(&mut log.reader(large, true, 0).unwrap()), expected(1..=1000, 700));
    drop((writer, other, log));

    let log = store.open();
    assert_eq!(rest(&mut log.reader(small, true, 0).unwrap()), expected(1..=20, 100));
    assert_eq!(rest(&mut log.reader(large, true, 0).unwrap()), expected(1..=1000, 700));
    assert_eq!(log.session(small).unwrap().unwrap(), b"record 1");
    let mut writer = log.writer(small, true).unwrap();
    assert_eq!(writer.next_seq(), 21);
    writer.append(events([21], 100), Vec::new(), true).await.unwrap();
    assert_eq!(rest(&mut log.reader(small, true, 19).unwrap()), expected(20..=21, 100));
}

#[tokio::test]
async fn a_cursor_goes_on_exactly_behind_its_seq() {
    let store = Store::new();
    let session = SessionId::fresh();
    let log = store.open();
    let mut writer = log.writer(session, true).unwrap();
    writer.append(events(1..=300, 200), vec![record(1)], false).await.unwrap();
    writer.append(events(301..=305, 200), Vec::new(), false).await.unwrap();
    for after in [0, 1, 149, 299, 300, 301, 304, 305, 306] {
        let mut reader = log.reader(session, true, after).unwrap();
        assert_eq!(rest(&mut reader), expected(after + 1..=305, 200), "after {after}");
    }
    let mut reader = log.reader(session, true, 10).unwrap();
    let page = reader.next_page(7, usize::MAX).unwrap();
    assert_eq!(page.events().map(|event| event.seq).collect::<Vec<_>>(), (11..=17).collect::<Vec<_>>());
    assert_eq!(reader.after(), 17);
}

#[tokio::test]
async fn a_reader_wakes_for_events_and_for_a_settled_session() {
    let store = Store::new();
    let session = SessionId::fresh();
    let log = store.open();
    let mut writer = log.writer(session, true).unwrap();
    let mut reader = log.reader(session, true, 0).unwrap();
    assert!(reader.head().settled);
    writer.append(events([1], 0), vec![record(1)], false).await.unwrap();
    let head = reader.changed().await;
    assert_eq!((head.seq, head.settled), (1, false));
    assert_eq!(rest(&mut reader), expected(1..=1, 0));
    writer.append(Draft::default(), vec![record(2)], true).await.unwrap();
    assert!(reader.changed().await.settled);
    log.delete(session, None).await.unwrap();
    assert!(reader.changed().await.deleted);
}

#[tokio::test]
async fn a_session_has_one_writer() {
    let store = Store::new();
    let session = SessionId::fresh();
    let log = store.open();
    let writer = log.writer(session, true).unwrap();
    assert!(log.writer(session, true).is_err());
    drop(writer);
    assert!(log.writer(session, true).is_ok());
}

#[tokio::test]
async fn a_deleted_session_is_gone_after_a_restart_too_though_the_journal_had_it() {
    let store = Store::new();
    let (kept, deleted) = (SessionId::fresh(), SessionId::fresh());
    let log = store.open();
    for session in [kept, deleted] {
        let mut writer = log.writer(session, true).unwrap();
        let message = Record::Message { number: 0, bytes: b"hello".to_vec() };
        writer.append(events([1], 0), vec![record(1), message], true).await.unwrap();
    }
    log.delete(deleted, None).await.unwrap();
    drop(log);
    let log = store.open();
    assert_eq!(rest(&mut log.reader(kept, true, 0).unwrap()).len(), 1);
    assert_eq!(log.messages(kept, Run::From(0), Limit::NONE).unwrap(), [(0, b"hello".to_vec())]);
    assert_eq!(rest(&mut log.reader(deleted, true, 0).unwrap()), []);
    assert_eq!(
        (log.session(deleted).unwrap(), log.messages(deleted, Run::From(0), Limit::NONE).unwrap()),
        (None, vec![])
    );
    let listed: Vec<_> = log.sessions(Span::Before(None), 10).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(listed, [kept]);
}

#[tokio::test]
async fn many_sessions_at_once_lose_nothing() {
    let store = Store::new();
    let log = store.open();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let session = SessionId::fresh();
                let mut writer = log.writer(session, true).unwrap();
                writer.append(Draft::default(), vec![record(1)], false).await.unwrap();
                for n in 0..50 {
                    writer.append(events(n * 3 + 1..=n * 3 + 3, 400), Vec::new(), false).await.unwrap();
                }
                session
            })
        })
        .collect();
    let mut sessions = Vec::new();
    for task in tasks {
        sessions.push(task.await.unwrap());
    }
    drop(log);
    let log = store.open();
    for session in sessions {
        assert_eq!(rest(&mut log.reader(session, true, 0).unwrap()), expected(1..=150, 400));
    }
}

#[tokio::test]
async fn a_damaged_row_is_reported_and_never_read_as_something_else() {
    let store = Store::new();
    let session = SessionId::fresh();
    let log = store.open();
    let mut writer = log.writer(session, true).unwrap();
    writer.append(events(1..=100, 300), vec![record(1)], true).await.unwrap();
    drop((writer, log));
    // The committer's thread holds the lock until it has closed the file properly.
    std::fs::File::open(store.file()).unwrap().lock().unwrap();
    let mut bytes = std::fs::read(store.file()).unwrap();
    assert!(!contains(&bytes, b"agent.message"), "events are stored in the clear");
    // The sealed row is the only large thing in the file; a byte in the middle of it is certainly part of it.
    let row = longest_dense_run(&bytes);
    bytes[row] ^= 1;
    std::fs::write(store.file(), &bytes).unwrap();
    let log = store.open();
    let mut reader = log.reader(session, true, 0).unwrap();
    let error = reader.next_page(100, usize::MAX).err().unwrap().to_string();
    assert!(error.contains(&session.to_string()), "{error}");
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// The middle of the longest run without eight zero bytes in a row.
fn longest_dense_run(bytes: &[u8]) -> usize {
    let (mut best, mut start, mut zeros) = (0..0, 0, 0);
    for (at, &byte) in bytes.iter().enumerate() {
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if zeros == 8 {
            start = at + 1;
        } else if at - start.min(at) > best.len() {
            best = start..at;
        }
    }
    usize::midpoint(best.start, best.end)
}

#[tokio::test]
async fn a_log_that_is_missing_or_in_use_is_refused() {
    let store = Store::new();
    let _log = store.open();
    let again = EventLog::open(&store.file(), store.sealer.clone());
    assert!(matches!(again, Err(lap::events::StartError::InUse)));
    let missing = EventLog::open(&store.folder.path().join("other.redb"), store.sealer.clone());
    assert!(missing.is_err() && !store.folder.path().join("other.redb").exists());
}

#[tokio::test]
async fn an_append_out_of_turn_is_fenced_off() {
    let store = Store::new();
    let session = SessionId::fresh();
    let log = store.open();
    let mut writer = log.writer(session, true).unwrap();
    {
        // A writer that is dropped in the middle of an append no longer knows where the log stands.
        let mut append = std::pin::pin!(writer.append(events([1], 0), vec![record(1)], true));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(append.as_mut().poll(&mut context).is_pending());
    }
    let mut reader = log.reader(session, true, 0).unwrap();
    reader.changed().await;
    let reservations = log.reservations();
    let wish = reservations.reserve([1; 32], [2; 32], 0).await.unwrap();
    let receipt = reservations.receipt(&wish, Stage::Done);
    assert_eq!(writer.fulfil(events([1], 0), Vec::new(), vec![receipt], true).await, Err(AppendError::Fenced));
    assert_eq!(reservations.reserve([1; 32], [2; 32], 1).await.unwrap().stage, Stage::Tried(0));
    assert_eq!(rest(&mut reader).len(), 1);
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn a_reservation_keeps_its_id_and_stage_over_a_restart_until_a_day_is_over() {
    let store = Store::new();
    let log = store.open();
    let (key, wish, now) = ([1; 32], [2; 32], 1_000_000);
    let first = log.reservations().reserve(key, wish, now).await.unwrap();
    assert_eq!(first.stage, Stage::New);
    drop(log);
    let log = store.open();
    let again = log.reservations().reserve(key, wish, now + 1).await.unwrap();
    assert_eq!((again.id, again.stage), (first.id, Stage::Tried(0)));
    log.reservations().fulfil(&again).await.unwrap();
    drop(log);
    let reservations = store.open().reservations();
    let last = reservations.reserve(key, wish, now + DAY_MS - 1).await.unwrap();
    assert_eq!((last.id, last.stage), (first.id, Stage::Done));
    let other = reservations.reserve(key, [3; 32], now + DAY_MS - 1).await.unwrap_err();
    assert!(matches!(other, ReserveError::OtherWish), "{other}");
    let anew = reservations.reserve(key, [3; 32], now + DAY_MS).await.unwrap();
    assert_eq!(anew.stage, Stage::New);
    assert_ne!(anew.id, first.id);
}

#[tokio::test]
async fn what_fulfils_a_step_of_a_wish_says_so_in_the_same_commit() {
    let store = Store::new();
    let (key, wish, session) = ([1; 32], [2; 32], SessionId::fresh());
    let log = store.open();
    let reservations = log.reservations();
    let first = reservations.reserve(key, wish, 1_000_000).await.unwrap();
    let mut writer = log.writer(session, false).unwrap();
    for (n, stage) in [(1, Stage::Tried(1)), (2, Stage::Tried(100)), (3, Stage::Done)] {
        let receipt = reservations.receipt(&first, stage);
        writer.fulfil(events([n], 10), vec![record(1)], vec![receipt], false).await.unwrap();
        assert_eq!(reservations.reserve(key, wish, 1_000_001).await.unwrap().stage, stage);
    }
}

#[tokio::test]
async fn of_many_who_reserve_at_once_one_is_the_first() {
    let store = Store::new();
    let reservations = store.open().reservations();
    let all = futures_util::future::join_all((0..50).map(|_| reservations.reserve([1; 32], [2; 32], 0))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().filter(|one| one.stage == Stage::New).count(), 1);
    assert!(all.iter().all(|one| one.id == all[0].id));
    assert_ne!(reservations.reserve([9; 32], [2; 32], 0).await.unwrap().id, all[0].id);
}
