//! Clocks that the standard library does not read.

#[cfg(target_os = "linux")]
pub use linux::{suspended, this_thread};

/// The time that this machine has spent suspended. Zero: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn suspended() -> std::time::Duration {
    std::time::Duration::ZERO
}

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    /// The time that this machine has spent suspended, of which [`std::time::Instant`] knows nothing; zero on systems that
    /// do not tell. It costs two clocks that are read without a system call, some 50 ns.
    ///
    /// CLOCK_MONOTONIC "does not count time that the system is suspended", CLOCK_BOOTTIME (2.6.39) does (clock_gettime(2)).
    /// In a time namespace (time_namespaces(7)) each has an offset, so only what is added later means something.
    ///
    /// ```
    /// let before = shardgram_sys::clocks::suspended();
    /// assert!(shardgram_sys::clocks::suspended().abs_diff(before) < std::time::Duration::from_secs(1));
    /// ```
    pub fn suspended() -> Duration {
        // In this order: a thread that is kept from running in between tells of less, and later of what was left.
        let boot = read(libc::CLOCK_BOOTTIME);
        boot.saturating_sub(read(libc::CLOCK_MONOTONIC))
    }

    /// The time for which this thread has run, in the kernel too (CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)). A system call.
    ///
    /// ```
    /// use shardgram_sys::clocks::this_thread;
    /// let before = this_thread();
    /// while this_thread() == before {}
    /// ```
    pub fn this_thread() -> Duration {
        read(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    #[allow(unsafe_code, reason = "clock_gettime(2) has no safe wrapper among the dependencies")]
    fn read(clock: libc::clockid_t) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one timespec to a live one.
        let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
        // EINVAL cannot come up: these clocks are there since 2.6.39 at the latest.
        if code == 0 { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
    }
}
