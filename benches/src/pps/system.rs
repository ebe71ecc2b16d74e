//! Processes, their time on a core, their limits, and options of sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Bytes asked for as buffers of every server's sockets. The client keeps up to 15,000 datagrams in flight, each of
/// which counts for about 768 bytes and up to twice that.
pub const SOCKET_BYTES: u32 = 32 << 20;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Keeps this thread, and those it will start, on a core. Without that core it stays where it is.
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// Has this process killed when the thread that started it ends: PR_SET_PDEATHSIG(2const).
pub fn end_with_parent() {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    checked(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Nanoseconds that all threads of a process have spent on a core.
///
/// It is the sum of `/proc/PID/task/*/schedstat`, taken from the process's clock (clock_getcpuclockid(3)): the files
/// are behind by up to a tick for a thread that is running, the clock is not, and threads that have ended stay in it.
///
/// # Errors
/// If there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: one clockid_t is written to a live one.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    clock_ns(clock)
}

/// Nanoseconds that this thread has spent on a core.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// The soft and the hard limit of a resource: getrlimit(2).
#[must_use]
pub fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a live one.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Raises the soft limit of descriptors to the hard one; says how many that are.
pub fn raise_descriptors() -> u64 {
    let (_, hard) = limit(libc::RLIMIT_NOFILE);
    let both = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const both) };
    limit(libc::RLIMIT_NOFILE).0
}

fn set(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one integer of the length it is told.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

/// Has trains delivered in one piece, with their segment size in a control message: udp(7), UDP_GRO, Linux 5.0.
///
/// # Errors
/// What setsockopt(2) says.
pub fn take_trains(socket: impl AsFd) -> io::Result<()> {
    set(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Asks for buffers of so many bytes, beyond the system's caps where that is allowed: socket(7), SO_RCVBUFFORCE.
///
/// # Errors
/// What setsockopt(2) says.
pub fn set_buffers(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    for (force, polite) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        set(socket.as_fd(), libc::SOL_SOCKET, force, bytes)
            .or_else(|_| set(socket.as_fd(), libc::SOL_SOCKET, polite, bytes))?;
    }
    Ok(())
}

/// The socket every rival serves: on loopback, at a free port, with buffers like shardgram's.
///
/// # Errors
/// What the system says.
pub fn listener() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    set_buffers(&socket, SOCKET_BYTES)?;
    Ok(socket)
}

fn wait_for(fd: impl AsFd, events: libc::c_short, at_most: Option<Duration>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 };
    let milliseconds = at_most.map_or(-1, |time| libc::c_int::try_from(time.as_millis()).unwrap_or(-1));
    // SAFETY: one live pollfd, and its count.
    match checked(unsafe { libc::poll(&raw mut entry, 1, milliseconds) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sleeps until there is something to read, by poll(2); says whether there is.
///
/// # Errors
/// What poll(2) says.
pub fn wait_readable(fd: impl AsFd, at_most: Option<Duration>) -> io::Result<bool> {
    wait_for(fd, libc::POLLIN, at_most)
}

/// Sleeps until there is room to send, by poll(2).
///
/// # Errors
/// What poll(2) says.
pub fn wait_writable(fd: impl AsFd) -> io::Result<bool> {
    wait_for(fd, libc::POLLOUT, None)
}
