//! A disk in memory. It remembers every call that changes it, fails the one that it is told to, and can make the
//! committer wait in the middle of a commit, so that a run is the same each time.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// A call that changes what the disk holds, or makes it durable.
pub(super) enum Call {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    SetLen(usize),
    Sync,
    /// Afterwards the system takes for written what was under way, so that no later sync makes up for it.
    FailedSync,
}

/// What was done to a disk.
pub(super) struct Trace {
    /// What it held before, durably.
    pub(super) base: Vec<u8>,
    pub(super) calls: Vec<Call>,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The device does not answer.
    Io,
    /// No space is left.
    Full,
    /// A write gets half of its bytes onto the disk; other calls fail as with `Io`.
    Short,
}

/// Which call fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// The number of the call, from 1; reads and questions count.
    pub(super) call: usize,
    pub(super) failure: Failure,
    /// True when all calls after it fail too.
    pub(super) lasting: bool,
}

/// A handle: clones are the same disk.
#[derive(Clone)]
pub(super) struct Disk {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    content: Vec<u8>,
    /// `None` on a disk that nobody will cut.
    trace: Option<Trace>,
    calls: usize,
    fault: Option<Fault>,
    failed: bool,
    off: bool,
    closed: bool,
    holding: bool,
    held: bool,
}

impl Disk {
    pub(super) fn plain(content: Vec<u8>) -> Self {
        Self::of(State { content, ..State::default() })
    }

    pub(super) fn recording(content: Vec<u8>) -> Self {
        let trace = Some(Trace { base: content.clone(), calls: Vec::new() });
        Self::of(State { content, trace, ..State::default() })
    }

    pub(super) fn failing(fault: Fault) -> Self {
        let trace = Some(Trace { base: Vec::new(), calls: Vec::new() });
        Self::of(State { trace, fault: Some(fault), ..State::default() })
    }

    fn of(state: State) -> Self {
        Self { shared: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    fn changed(&self) -> &Condvar {
        &self.shared.1
    }

    /// How many calls of those in the trace have been made.
    pub(super) fn position(&self) -> usize {
        self.state().trace.as_ref().map_or(0, |trace| trace.calls.len())
    }

    /// How many calls of any kind have been made.
    pub(super) fn calls(&self) -> usize {
        self.state().calls
    }

    /// True once the call that was to fail has failed.
    pub(super) fn failed(&self) -> bool {
        self.state().failed
    }

    /// What the system would read now, written through or not.
    pub(super) fn content(&self) -> Vec<u8> {
        self.state().content.clone()
    }

    pub(super) fn into_trace(self) -> Trace {
        self.state().trace.take().unwrap()
    }

    /// Lets every later call fail, as for a process that is dead.
    pub(super) fn power_off(&self) {
        self.state().off = true;
    }

    /// Makes the next call that changes the disk wait for [`Self::release`].
    pub(super) fn hold(&self) {
        self.state().holding = true;
    }

    /// Waits until a call waits, or has failed.
    pub(super) fn wait_until_held(&self) {
        let waited = self.changed().wait_while(self.state(), |state| !state.held && !state.failed);
        drop(waited.unwrap());
    }

    pub(super) fn release(&self) {
        self.state().holding = false;
        self.changed().notify_all();
    }

    /// Waits until the database has let go of the disk. False when it does not, because its drop panicked.
    pub(super) fn wait_until_closed(&self) -> bool {
        let patience = Duration::from_secs(60);
        let (state, _) = self.changed().wait_timeout_while(self.state(), patience, |state| !state.closed).unwrap();
        state.closed
    }

    /// Makes the disk good for another database, as a restart does.
    pub(super) fn reopen(&self) {
        self.state().closed = false;
    }

    /// Waits for a call after the first `calls`, and a moment at the most.
    pub(super) fn wait_for_call_after(&self, calls: usize) {
        let moment = Duration::from_millis(1);
        let waited = self.changed().wait_timeout_while(self.state(), moment, |state| state.calls == calls);
        drop(waited.unwrap());
    }

    fn count<'a>(&self, mut state: MutexGuard<'a, State>) -> io::Result<Counted<'a>> {
        state.calls += 1;
        self.changed().notify_all();
        if state.off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let calls = state.calls;
        let due = |fault: &Fault| fault.call == calls || (fault.lasting && fault.call < calls);
        let failure = state.fault.filter(due).map(|fault| fault.failure);
        state.failed |= failure.is_some();
        Ok((state, failure))
    }

    /// Begins a call that changes the disk.
    fn change(&self) -> io::Result<Counted<'_>> {
        let mut state = self.state();
        while state.holding && !state.off {
            state.held = true;
            self.changed().notify_all();
            state = self.changed().wait(state).unwrap();
        }
        state.held = false;
        self.count(state)
    }
}

type Counted<'a> = (MutexGuard<'a, State>, Option<Failure>);

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn error(failure: Failure) -> io::Error {
    io::Error::from_raw_os_error(if failure == Failure::Full { ENOSPC } else { EIO })
}

impl State {
    fn note(&mut self, call: Call) {
        if let Some(trace) = &mut self.trace {
            trace.calls.push(call);
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let target = self.content.get_mut(at..at + bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        target.copy_from_slice(bytes);
        if self.trace.is_some() {
            self.note(Call::Write { at, bytes: bytes.to_vec() });
        }
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl lap_store::Disk for Disk {
    fn len(&self) -> io::Result<u64> {
        let (state, failure) = self.count(self.state())?;
        failure.map_or(Ok(state.content.len() as u64), |failure| Err(error(failure)))
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (state, failure) = self.count(self.state())?;
        if let Some(failure) = failure {
            return Err(error(failure));
        }
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(state.content.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, failure) = self.change()?;
        if let Some(failure) = failure {
            return Err(error(failure));
        }
        let len = usize::try_from(len).unwrap();
        state.content.resize(len, 0);
        state.note(Call::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, failure) = self.change()?;
        state.note(if failure.is_some() { Call::FailedSync } else { Call::Sync });
        failure.map_or(Ok(()), |failure| Err(error(failure)))
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let (mut state, failure) = self.change()?;
        let at = usize::try_from(offset).unwrap();
        match failure {
            None => state.write(at, from),
            Some(failure) => {
                if failure == Failure::Short {
                    state.write(at, &from[..from.len() / 2])?;
                }
                Err(error(failure))
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        self.state().closed = true;
        self.changed().notify_all();
        Ok(())
    }
}
