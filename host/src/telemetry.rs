//! What the process says of itself: lines on stderr. No line holds a key, a prompt or a URL of a request.
//!
//! Whoever logs waits for nobody: a thread writes the lines. Where stderr takes none, because its reader stands still or its
//! disk is full, some wait for better times; more are lost, counted, and told of later.

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::MakeWriter,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{Log, LogFormat};

/// How many lines wait to be written; a line has some hundred bytes.
const LINES_MAX: usize = 4096;

/// For how long the end of the process is held up for lines that wait.
const FLUSH: Duration = Duration::from_millis(500);
const FLUSH_TRIES: u32 = 50;

thread_local! {
    /// On the thread that writes: what it says itself. It does not wait in the queue behind which it stands.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The level is none.
    #[error("the log level cannot be understood: {0}; write a level such as info, or module=level pairs")]
    Level(#[from] ParseError),
    /// Somebody in this process has set one up already.
    #[error("a log is set up already")]
    Taken(#[source] TryInitError),
    /// The system gives no thread to write it.
    #[error("no thread for the log: {0}")]
    Thread(#[source] io::Error),
}

/// Starts logging, for the whole process. What waits to be written when the result is dropped is written then.
///
/// # Errors
/// When the level cannot be understood, or there is a log already.
pub fn start(log: &Log) -> Result<Flush, StartError> {
    let filter = EnvFilter::try_new(&log.level)?;
    let lines = Lines::new(io::stderr()).map_err(StartError::Thread)?;
    let flush = Flush(lines.clone());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        // It would be told of on stderr as well, and panic where that cannot be written: whatever was logged would end.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map(|()| flush).map_err(StartError::Taken)
}

/// Writes what waits, when it is dropped.
#[must_use]
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, over) = sync_channel(1);
        for _ in 0..FLUSH_TRIES {
            if self.0.queue.try_send(Line::Last(done.clone())).is_ok() {
                let _written_or_too_late = over.recv_timeout(FLUSH);
                return;
            }
            thread::sleep(FLUSH / FLUSH_TRIES);
        }
    }
}

/// Where lines are put.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

enum Line {
    Text(Vec<u8>),
    /// Everything before it is written.
    Last(SyncSender<()>),
}

impl Lines {
    fn new(to: impl Write + Send + 'static) -> io::Result<Self> {
        let ((queue, lines), lost) = (sync_channel(LINES_MAX), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&lost);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines, &count, to))?;
        Ok(Self { queue, lost })
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64, mut to: impl Write) {
    OWN.set(Some(Vec::new()));
    for line in lines {
        match line {
            Line::Text(text) => {
                if to.write_all(&text).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 {
                    tracing::warn!(lines = count, "lines of the log were lost: they could not be written in time");
                    let told = OWN.replace(Some(Vec::new())).unwrap_or_default();
                    if to.write_all(&told).is_err() {
                        lost.fetch_add(count, Ordering::Relaxed);
                    }
                }
            }
            Line::Last(done) => drop(done.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Takes a whole line: that is what a subscriber writes at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_own = OWN.with_borrow_mut(|own| own.as_mut().map(|own| own.extend_from_slice(line)).is_some());
        if !is_own && self.queue.try_send(Line::Text(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines of one kind are written in a second, where anybody can cause them; the others are counted.
pub struct Allowance {
    in_a_second: u32,
    since: Option<Instant>,
    taken: u32,
    left_out: u64,
}

impl Allowance {
    /// So many in a second.
    #[must_use]
    pub const fn new(in_a_second: u32) -> Self {
        Self { in_a_second, since: None, taken: 0, left_out: 0 }
    }

    /// Whether one more is written, and then how many were left out since the last one that was.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.taken) = (Some(now), 0);
        }
        if self.taken == self.in_a_second {
            self.left_out += 1;
            return None;
        }
        self.taken += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Mutex, mpsc::channel};

    use super::*;

    #[test]
    fn who_logs_does_not_wait_for_who_writes_and_what_is_lost_is_counted() {
        /// Writes a line when it is told to, and fails where it is told that.
        struct Slow(Receiver<bool>, Arc<Mutex<Vec<u8>>>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if !self.0.recv().unwrap_or(true) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go, told) = channel();
        let written = Arc::default();
        let lines = Lines::new(Slow(told, Arc::clone(&written))).unwrap();
        // One is being written, and so many wait.
        for number in 0..LINES_MAX + 101 {
            (&lines).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let lost = lines.lost.load(Ordering::Relaxed);
        assert!((100..=101).contains(&lost), "{lost}");
        go.send(false).unwrap();
        go.send(true).unwrap();
        drop(go);
        drop(Flush(lines.clone()));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let numbers: Vec<usize> = written.lines().map(|line| line.parse().unwrap()).collect();
        // The first could not be written.
        assert!(numbers.iter().copied().eq(1..LINES_MAX + 101 - usize::try_from(lost).unwrap()), "{}", numbers.len());
        assert_eq!(lines.lost.load(Ordering::Relaxed), 0, "they are told of with the next line that is written");
    }

    #[test]
    fn an_allowance_is_one_for_each_second() {
        let mut allowance = Allowance::new(2);
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!([0, 1, 2, 999].map(|ms| allowance.take(at(ms))), [Some(0), Some(0), None, None]);
        assert_eq!([1000, 1001, 1999].map(|ms| allowance.take(at(ms))), [Some(2), Some(0), None]);
        assert_eq!(allowance.take(at(9000)), Some(1));
    }
}
