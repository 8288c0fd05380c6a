//! Where guests compute: a call begins on its caller's thread, which is the fastest way for the many that take
//! microseconds. One that computes on beyond its first slice moves to the *lane*: few threads, of low priority, on which
//! those that compute take turns. So neither a thread nor a processor that others wait for is theirs.
//!
//! What a call sends goes out from its caller's executor in either case: connections are shared, and must not be served
//! at low priority.

use std::{
    future::poll_fn,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, Handle, Runtime as Executor},
    task::JoinSet,
};

use super::store::CALL_CPU;
use crate::clock;

/// How much lower the lane's priority is. A processor that is wanted by others as well is theirs for 29 of 30 parts.
const NICE: i32 = 15;

/// What the lane asks of Linux for one go. Whoever wakes and asks for less goes before, at once: so the others have not
/// only the larger share of the processor, but need not wait for it. Kernels before 6.12 do not look at it.
const SLICE: Duration = Duration::from_millis(100);

/// What a call may compute behind its first tick and still be one of the many that take microseconds.
const SLOW: Duration = Duration::from_millis(1);

/// The lane's threads: half of the processors.
fn threads() -> usize {
    (thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// The threads of guests that compute for long.
pub(super) struct Lane {
    handle: Handle,
    executor: Option<Executor>,
}

/// The work was lost: the host panicked in it, or stops.
#[derive(Debug)]
pub(super) struct Lost;

impl Lane {
    pub(super) fn start() -> io::Result<Self> {
        let executor = Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name("lane")
            .enable_time()
            .on_thread_start(|| {
                if let Err(error) = give_way() {
                    tracing::warn!(%error, "the threads of guests that compute for long have the priority of all others");
                }
            })
            .build()?;
        Ok(Self { handle: executor.handle().clone(), executor: Some(executor) })
    }

    /// Does a guest's work, here for its first slice and on the lane from then on. If this future is dropped, so is the
    /// work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        pace: Arc<Pace>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        // The last net: what a guest says must not take down more than its call.
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        if !pace.on_lane.load(Relaxed) {
            let begun = poll_fn(|context| {
                let polled = work.as_mut().poll(context);
                pace.end_slice();
                match polled {
                    Poll::Ready(done) => Poll::Ready(Some(done)),
                    Poll::Pending if pace.on_lane.load(Relaxed) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            });
            if let Some(done) = begun.await {
                return done.map_err(|_| Lost);
            }
        }
        // Aborts what it holds when it is dropped.
        let mut lane = JoinSet::new();
        lane.spawn_on(poll_fn(move |context| pace.slice(|| work.as_mut().poll(context))), &self.handle);
        let done = lane.join_next().await;
        done.and_then(Result::ok).and_then(Result::ok).ok_or(Lost)
    }
}

/// Lets this thread compute behind all others.
#[cfg(target_os = "linux")]
fn give_way() -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(u32::MAX),
        // Computes, and interrupts nobody when it wakes.
        sched_policy: libc::SCHED_BATCH.cast_unsigned(),
        sched_flags: 0,
        sched_nice: NICE,
        sched_priority: 0,
        sched_runtime: u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a value that lives until the call returns, and keeps nothing of it. 0 is
    // this thread.
    #[allow(unsafe_code, reason = "no library that this host has knows the call")]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if answer != 0 {
        // Systems that only look like Linux know the older call.
        rustix::process::nice(NICE)?;
    }
    Ok(())
}

/// Elsewhere a priority is that of a process, which the lane must not lower.
#[cfg(not(target_os = "linux"))]
fn give_way() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(executor) = self.executor.take() {
            // An executor must not be waited for on a thread of another one.
            executor.shutdown_background();
        }
    }
}

/// What a tick finds when it interrupts a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// It may go on where it is.
    Stay,
    /// It may go on on the lane, after others.
    GoOn,
    /// It has had its time.
    Spent,
}

/// How fast one guest goes, and where. Only one thread at a time looks at it.
pub(super) struct Pace {
    /// Serves what the guest sends.
    home: Handle,
    /// Set when the guest has computed beyond its first slice.
    on_lane: AtomicBool,
    /// Processor time of finished slices, in nanoseconds; on the caller's thread, of what came behind the first tick.
    spent_ns: AtomicU64,
    /// The thread's processor time when this slice began; 0 while nothing is counted.
    began_ns: AtomicU64,
}

impl Pace {
    /// For one call, made on the caller's executor. One that is known to compute for long begins on the lane.
    pub(super) fn of_call(known_slow: bool) -> Arc<Self> {
        Arc::new(Self {
            home: Handle::current(),
            on_lane: AtomicBool::new(known_slow),
            spent_ns: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
        })
    }

    /// Called from inside a slice.
    pub(super) fn tick(&self) -> Tick {
        if self.on_lane.load(Relaxed) {
            return if self.spent() >= CALL_CPU { Tick::Spent } else { Tick::GoOn };
        }
        if self.began_ns.load(Relaxed) == 0 && !self.was_slow() {
            // The tick may come the moment after the call began. Looking at the clock here costs the many calls nothing.
            self.began_ns.store(clock::thread_cpu_ns(), Relaxed);
            return Tick::Stay;
        }
        self.on_lane.store(true, Relaxed);
        Tick::GoOn
    }

    /// True when the call has computed for so long that the next one shall not begin on its caller's thread.
    pub(super) fn was_slow(&self) -> bool {
        Duration::from_nanos(self.spent_ns.load(Relaxed)) > SLOW
    }

    /// Processor time, and not time: on a busy machine the lane waits for the others, and no guest shall pay for that.
    fn spent(&self) -> Duration {
        let slice = clock::thread_cpu_ns().saturating_sub(self.began_ns.load(Relaxed));
        Duration::from_nanos(self.spent_ns.load(Relaxed) + slice)
    }

    fn slice<T>(&self, compute: impl FnOnce() -> T) -> T {
        self.began_ns.store(clock::thread_cpu_ns(), Relaxed);
        let computed = compute();
        self.end_slice();
        computed
    }

    /// The thread's clock says nothing on another thread, so each slice is counted where it was computed.
    fn end_slice(&self) {
        let began = self.began_ns.swap(0, Relaxed);
        if began != 0 {
            self.spent_ns.fetch_add(clock::thread_cpu_ns().saturating_sub(began), Relaxed);
        }
    }

    /// Does on the caller's executor what must not wait for the lane. Nothing when that executor stops.
    pub(super) async fn at_home<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        if !self.on_lane.load(Relaxed) {
            return Some(work.await);
        }
        let mut home = JoinSet::new();
        home.spawn_on(work, &self.home);
        home.join_next().await.and_then(Result::ok)
    }
}
