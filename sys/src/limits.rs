//! The limits of open descriptors and of locked memory.

use std::io;

/// What macOS accepts (`OPEN_MAX`) when the hard limit says infinity, which it then refuses.
const OPEN_MAX: libc::rlim_t = 10_240;

/// Raises the soft limit of open descriptors to the hard limit and returns the new soft limit.
///
/// Each listener and each endpoint is a descriptor, and a ring's file table cannot be larger than
/// this limit either. A process may always raise its soft limit this far (`RLIMIT_NOFILE` in
/// `getrlimit(2)`). It lasts for the process and its children; programs that use `select(2)`
/// break with descriptors above 1,023.
///
/// # Errors
///
/// Those of `getrlimit` and `setrlimit`; the limit is then as it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = read()?;
    if limit.rlim_cur < limit.rlim_max {
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if let Err(error) = write(&limit) {
            if error.raw_os_error() != Some(libc::EINVAL) || before >= OPEN_MAX {
                return Err(error);
            }
            limit.rlim_cur = OPEN_MAX.min(limit.rlim_max);
            write(&limit)?;
        }
    }
    // rlim_t is signed on some systems; infinity is then its largest value and fits.
    #[allow(clippy::unnecessary_cast)]
    Ok(limit.rlim_cur as u64)
}

/// Bytes that this user's processes may lock, each as far as its own limit goes; the largest number for no
/// limit. It does not bind a process with CAP_IPC_LOCK (`RLIMIT_MEMLOCK` in `getrlimit(2)`).
///
/// # Errors
///
/// Those of `getrlimit`.
#[cfg(target_os = "linux")]
pub fn locked_memory_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a live one.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if code == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // getrlimit(2). EFAULT and EINVAL cannot come up: the pointer and the resource are right.
    //
    // SAFETY: the kernel writes one rlimit to a live one.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if code == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

fn write(limit: &libc::rlimit) -> io::Result<()> {
    // setrlimit(2). "The soft limit may be set to any value from 0 up to the hard limit."
    //
    // SAFETY: the kernel reads one rlimit from a live one.
    let code = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
