//! For how long the machine was suspended.

use std::time::Duration;

/// The time that this machine has spent suspended, of which [`std::time::Instant`] knows nothing. Zero where the system does
/// not tell. It costs two clocks that are read without a system call, some 50 ns.
///
/// CLOCK_MONOTONIC "does not count time that the system is suspended", CLOCK_BOOTTIME (2.6.39) does (clock_gettime(2)). In a
/// time namespace (time_namespaces(7)) each has an offset, so only what is added later means something.
///
/// ```
/// let before = shardgram_sys::suspended::so_far();
/// assert!(shardgram_sys::suspended::so_far().abs_diff(before) < std::time::Duration::from_secs(1));
/// ```
#[cfg(target_os = "linux")]
pub fn so_far() -> Duration {
    // In this order: a thread that is kept from running in between tells of less, and later of what was left.
    let boot = read(libc::CLOCK_BOOTTIME);
    boot.saturating_sub(read(libc::CLOCK_MONOTONIC))
}

/// The time that this machine has spent suspended. Zero: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn so_far() -> Duration {
    Duration::ZERO
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "clock_gettime(2) has no safe wrapper among the dependencies")]
fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    // EINVAL cannot come up: both clocks are there (2.6.39). Zero then says nothing, as elsewhere.
    if code == 0 { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
}
