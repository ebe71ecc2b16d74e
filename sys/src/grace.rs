//! Grace periods: times after which no delivery is under way in the kernel any more that was when they were asked for.
//!
//! The kernel finds a datagram's socket and puts it into that socket's queue within one RCU read-side critical section
//! (`__udp4_lib_rcv`, `__udp6_lib_rcv`), early demultiplexing included. A socket that was turned away from its peer may
//! therefore still be given datagrams by a processor that had found it before. No time is long enough to wait for that: the
//! host of a virtual machine may take a processor away for milliseconds, in the middle of a delivery. Half a
//! millisecond lost 3 datagrams in 100,000 demotions of a flooding peer (Linux 6.18, a virtual machine of two
//! processors, nine runs); a grace period lost none.
//!
//! membarrier(2) waits for one: `MEMBARRIER_CMD_GLOBAL` (4.16, as `MEMBARRIER_CMD_SHARED` 4.3) is `synchronize_rcu()` in
//! the kernel (`kernel/sched/membarrier.c`). It blocks for some 8 to 25 ms, so it has a thread of its own, and everybody
//! who asks in the meantime shares the next one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long is waited where the kernel does not say when a grace period is over: longer than processors are mostly
/// taken away for.
const WITHOUT_KERNEL: Duration = Duration::from_millis(20);

/// Waits for grace periods on behalf of others, on a thread that sleeps while nobody asks and ends with this.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use shardgram_sys::grace::GracePeriods;
/// # fn main() -> std::io::Result<()> {
/// let periods = GracePeriods::start()?;
/// let asked = periods.ask(std::time::Instant::now());
/// while !periods.is_over(asked, std::time::Instant::now()) {
///     std::thread::sleep(std::time::Duration::from_millis(1));
/// }
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct GracePeriods {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A grace period somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grace {
    /// The first whole period after it was asked for.
    number: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Periods that have begun, and the last one that is over; they come one after the other.
    begun: u64,
    over: u64,
    /// The last one that somebody waits for.
    wanted: u64,
    /// The kernel does not tell.
    refused: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GracePeriods {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Those of `pthread_create(3)`: EAGAIN where there are too many threads.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("shardgram-grace".to_owned()).spawn(move || serve(&theirs));
        let thread = thread.map_err(|error| {
            let remedy = "raise the limit of threads (ulimit -u, pids.max of the cgroup)";
            io::Error::new(
                error.kind(),
                format!("no thread to wait for the kernel's deliveries: {error}; {remedy}"),
            )
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for one that begins from now on. Takes a lock that nobody holds for long.
    #[must_use]
    pub fn ask(&self, now: Instant) -> Grace {
        let mut state = self.shared.lock();
        let number = state.begun + 1;
        if !state.refused && state.wanted < number {
            state.wanted = number;
            self.shared.asked.notify_one();
        }
        Grace { number, since: now }
    }

    /// Whether it is over. Those asked for earlier are over first.
    #[must_use]
    pub fn is_over(&self, grace: Grace, now: Instant) -> bool {
        let state = self.shared.lock();
        state.over >= grace.number
            || state.refused && now.saturating_duration_since(grace.since) >= WITHOUT_KERNEL
    }
}

impl Drop for GracePeriods {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.asked.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared) {
    let mut state = shared.lock();
    while !state.ended {
        if state.wanted <= state.begun {
            state = shared.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        state.begun += 1;
        drop(state);
        let waited = wait_for_deliveries();
        state = shared.lock();
        match waited {
            Ok(()) => state.over = state.begun,
            Err(error) => {
                tracing::info!(%error, "membarrier(2) is refused: deliveries under way are waited for by the clock");
                state.refused = true;
                return;
            }
        }
    }
}

/// Returns when every delivery is over that was under way.
fn wait_for_deliveries() -> io::Result<()> {
    // membarrier(2). ENOSYS: a kernel without it, or a sandbox; EPERM: a seccomp filter. "EINVAL: [...] the nohz_full CPU
    // parameter has been set". With one processor it returns at once, and then no delivery can be under way.
    //
    // SAFETY: a system call with three numbers.
    let code = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(periods: &GracePeriods, grace: Grace) {
        let end = Instant::now() + Duration::from_secs(10);
        while !periods.is_over(grace, Instant::now()) {
            assert!(Instant::now() < end, "it is over some time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_that_has_begun_is_not_what_is_asked_for() {
        let periods = GracePeriods::start().expect("a thread");
        let first = periods.ask(Instant::now());
        while periods.shared.lock().begun < first.number {
            thread::yield_now();
        }
        let second = periods.ask(Instant::now());
        assert!(second.number > first.number, "{first:?} {second:?}");
        wait(&periods, second);
        assert!(periods.is_over(first, Instant::now()), "those asked for earlier are over first");
        assert_eq!(periods.shared.lock().begun, second.number, "nobody asked for more");
    }

    #[test]
    fn where_the_kernel_does_not_tell_the_clock_does() {
        let periods = GracePeriods::start().expect("a thread");
        periods.shared.lock().refused = true;
        let now = Instant::now();
        let grace = periods.ask(now);
        assert!(!periods.is_over(grace, now));
        assert!(periods.is_over(grace, now + WITHOUT_KERNEL));
    }
}
