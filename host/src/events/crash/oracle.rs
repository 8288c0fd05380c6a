//! Whether a log that was opened after a crash agrees with the ledger: what it holds is what was asked for with some
//! first commits, all those that were acknowledged among them, and nothing else.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

use lap_seal::Sealer;
use tokio::runtime::Runtime;

use super::{
    disk::{Disk, Trace},
    workload::{Ledger, PATIENT, State, Story, message_text, record_text, session_record},
};
use crate::{
    events::{Draft, EventLog, ReadError, Span, table},
    id::SessionId,
};

/// What is wrong with a log after a crash.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does not open.
    Unopenable(String),
    /// What it holds cannot be read.
    Unreadable(String),
    /// It is as after `found` commits, and `acknowledged` had been acknowledged.
    Lost { found: usize, acknowledged: usize },
    /// It is not as after any number of commits that were asked for.
    Mixed(String),
    /// It takes no appends.
    Refuses(String),
    /// Something in it panicked.
    Panicked(String),
}

/// Opens logs after a crash, on a thread of its own.
pub(super) struct Oracle<'a> {
    pub(super) sealer: &'a Sealer,
    pub(super) runtime: &'a Runtime,
}

impl Oracle<'_> {
    /// Opens what a disk holds. The number of commits that it is after, which must be one of those from `commits.0` to
    /// `commits.1`.
    pub(super) fn judge(&self, ledger: &Ledger, image: Vec<u8>, commits: (usize, usize)) -> Result<usize, Verdict> {
        self.opened(image, |log| find(log, ledger, commits))
    }

    /// As [`Self::judge`], and appends to the log then.
    pub(super) fn judge_and_append(
        &self,
        ledger: &Ledger,
        image: Vec<u8>,
        commits: (usize, usize),
    ) -> Result<usize, Verdict> {
        self.opened(image, |log| {
            let found = find(log, ledger, commits)?;
            self.append(log, ledger, found)?;
            Ok(found)
        })
    }

    fn opened(
        &self,
        image: Vec<u8>,
        judge: impl FnOnce(&EventLog) -> Result<usize, Verdict>,
    ) -> Result<usize, Verdict> {
        caught(|| {
            let disk = Disk::plain(image);
            let log = self.open(&disk)?;
            let judged = judge(&log);
            // Nobody will open this disk again, so the database need not tidy up.
            disk.power_off();
            judged
        })
    }

    /// Opens what a disk holds, as [`Self::judge`], and says what opening it did to the disk.
    pub(super) fn recover(
        &self,
        ledger: &Ledger,
        image: Vec<u8>,
        commits: (usize, usize),
    ) -> Result<(usize, Trace), Verdict> {
        caught(|| {
            let disk = Disk::recording(image);
            let log = self.open(&disk)?;
            let found = find(&log, ledger, commits)?;
            disk.power_off();
            drop(log);
            Ok((found, disk.into_trace()))
        })
    }

    fn open(&self, disk: &Disk) -> Result<EventLog, Verdict> {
        let opened = table::open_on(disk.clone(), false)
            .and_then(|store| EventLog::start(store, self.sealer.clone(), PATIENT, false));
        opened.map_err(|error| Verdict::Unopenable(format!("{error} ({error:?})")))
    }

    /// Appends to a session that is there, or to a new one, and reads it back.
    fn append(&self, log: &EventLog, ledger: &Ledger, found: usize) -> Result<(), Verdict> {
        let there = ledger.stories.iter().find(|story| story.after(found).version > 0);
        let id = there.map_or(SessionId::from_bytes([7; 16]), |story| story.id);
        let refuses = |error: &dyn std::fmt::Debug| Verdict::Refuses(format!("{error:?}"));
        let mut writer = log.writer(id, true).map_err(|error| refuses(&error))?;
        let seq = writer.next_seq();
        let mut draft = Draft::default();
        draft.push("agent.message", "{}");
        let append = writer.append(draft, vec![session_record(id, 1 << 40)], true);
        self.runtime.block_on(append).map_err(|error| refuses(&error))?;
        let page = writer.reader(seq - 1).next_page(10, 1024).map_err(|error| refuses(&error))?;
        let seqs: Vec<u64> = page.events().map(|event| event.seq).collect();
        if seqs == [seq] { Ok(()) } else { Err(refuses(&seqs)) }
    }
}

fn caught<T>(judge: impl FnOnce() -> Result<T, Verdict>) -> Result<T, Verdict> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Verdict::Panicked(said.unwrap_or_default().to_owned()))
    })
}

/// The number of commits after which the log would be as it is.
fn find(log: &EventLog, ledger: &Ledger, (certain, possible): (usize, usize)) -> Result<usize, Verdict> {
    let found = ledger.stories.iter().map(|story| state(log, story)).collect::<Result<Vec<_>, _>>()?;
    let sessions = log.sessions(Span::Before(None), usize::MAX).map_err(|error| unreadable(&error))?.len();
    let known = found.iter().filter(|state| state.version > 0).count();
    if sessions != known {
        return Err(Verdict::Mixed(format!("{sessions} sessions, of which {known} are known")));
    }
    let fits = |mut range: RangeInclusive<usize>| {
        range.find(|&commits| ledger.stories.iter().zip(&found).all(|(story, found)| story.after(commits) == *found))
    };
    if let Some(commits) = fits(certain..=possible) {
        return Ok(commits);
    }
    Err(match fits(0..=certain) {
        Some(found) => Verdict::Lost { found, acknowledged: certain },
        None => {
            let wanted = ledger.stories.iter().map(|story| (story.after(certain), story.after(possible)));
            Verdict::Mixed(format!("found {found:?}, wanted {:?}", wanted.collect::<Vec<_>>()))
        }
    })
}

fn unreadable(error: &ReadError) -> Verdict {
    Verdict::Unreadable(format!("{error} ({error:?})"))
}

/// What the log says of a session, every byte of it compared with what was sent.
fn state(log: &EventLog, story: &Story) -> Result<State, Verdict> {
    let mixed = |what: &str| Err(Verdict::Mixed(format!("{what} of {}", story.id)));
    let Story { id, events, .. } = story;
    let record = log.session(*id).map_err(|error| unreadable(&error))?;
    let version = record.as_deref().map_or(Some(0), version_of).unwrap_or(u64::MAX);
    if record.is_some_and(|record| record != record_text(*id, version).into_bytes()) {
        return mixed("the record");
    }
    let mut reader = log.reader(*id, true, 0).map_err(|error| unreadable(&error))?;
    let mut head = 0;
    loop {
        let page = reader.next_page(256, 1024 * 1024).map_err(|error| unreadable(&error))?;
        if page.is_empty() {
            break;
        }
        for event in page.events() {
            let sent = usize::try_from(head).ok().and_then(|place| events.get(place));
            if event.seq != head + 1 || sent.is_none_or(|sent| sent != event.json) || event.kind != "agent.message" {
                return mixed("an event");
            }
            head = event.seq;
        }
    }
    if reader.head().seq != head {
        return mixed("the head");
    }
    let messages = log
        .messages(*id, crate::events::Run::From(0), crate::events::Limit::NONE)
        .map_err(|error| unreadable(&error))?;
    let as_sent = |(place, (number, bytes)): (u64, &(u64, Vec<u8>))| {
        *number == place && *bytes == message_text(*id, place).into_bytes()
    };
    if !(0..).zip(&messages).all(as_sent) {
        return mixed("a message");
    }
    Ok(State { version, head, messages: messages.len() as u64 })
}

fn version_of(record: &[u8]) -> Option<u64> {
    std::str::from_utf8(record).ok()?.split(' ').next()?.parse().ok()
}
