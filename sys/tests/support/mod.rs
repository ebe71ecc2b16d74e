//! What several tests of this crate need: `recvmsg` and `sendmsg` with control data, a random
//! generator that can be replayed, a thread without privileges.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code)]

pub(crate) mod accept;
mod ipv6;
#[path = "../../../tests/common/skip.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of shardgram, which say `pub`")]
pub(crate) mod skip;

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use shardgram_sys::addr::{self, RECV_NAME_SPACE};
use shardgram_sys::{Control, ControlSpace, RECV_CONTROL_SPACE, RawAddr};

pub(crate) use ipv6::here;

/// The longest any test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Control bytes with the alignment the kernel writes them for.
#[repr(C, align(8))]
struct Aligned([u8; RECV_CONTROL_SPACE]);

/// One datagram or train with what came beside it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
    pub(crate) source: SocketAddr,
    pub(crate) control: Control,
    pub(crate) flags: libc::c_int,
}

/// `recvmsg(2)` on a blocking socket; gives up after [`PATIENCE`].
pub(crate) fn receive(socket: &UdpSocket) -> io::Result<Received> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut payload = vec![0u8; 68 * 1024];
    let mut name = [0u8; RECV_NAME_SPACE];
    let mut control = Aligned([0; RECV_CONTROL_SPACE]);
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: msghdr is a C struct of integers and pointers; all zeroes is a value of it.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` leads to a live buffer of the length beside it.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    payload.truncate(len);
    let source = addr::decode(&name[..message.msg_namelen as usize]).expect("a source address");
    let control = Control::parse(&control.0[..message.msg_controllen as usize]);
    Ok(Received { payload, source, control, flags: message.msg_flags })
}

/// `sendmsg(2)` with the first `len` bytes of `space` as control data.
pub(crate) fn send(
    socket: &UdpSocket,
    payload: &[u8],
    to: SocketAddr,
    space: &mut ControlSpace,
    len: usize,
) -> io::Result<usize> {
    let name = RawAddr::new(to);
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: as in `receive`.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = name.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr();
    message.msg_controllen = len as _;
    // SAFETY: every pointer in `message` leads to a live buffer of the length beside it, and the
    // kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sets any option to any bytes.
pub(crate) fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let fd: RawFd = socket.as_raw_fd();
    // SAFETY: the kernel reads `value.len()` bytes from `value`.
    let code = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), value.len() as u32) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option that is an `int`.
pub(crate) fn int_option(socket: &impl AsRawFd, level: i32, name: i32) -> io::Result<i32> {
    let (mut value, mut len) = (0i32, size_of::<i32>() as u32);
    let fd: RawFd = socket.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes to a live int.
    let code = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
    if code == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// A number of a file below `/proc/sys`.
pub(crate) fn sysctl(path: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/sys/{path}")).expect("sysctl");
    text.trim().parse().expect("a number")
}

/// Runs `body` on a thread that has no privileges, whoever runs the tests. Root of a user namespace
/// without another user cannot drop them; the test is then recorded as skipped.
pub(crate) fn without_privileges(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // The system call itself and not the function of libc, which would change every thread.
        // SAFETY: setresuid takes three integers.
        let code = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        let error = io::Error::last_os_error();
        // SAFETY: geteuid takes nothing and cannot fail.
        if code != 0 && unsafe { libc::geteuid() } == 0 {
            return Err(error);
        }
        body();
        Ok(())
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => skip::record(&format!("root could not drop its privileges: {error}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Moves the calling thread into a network namespace of its own with loopback up, or says false
/// where that is not allowed.
///
/// It starts no process: a process that is being started holds copies of all open sockets until it
/// runs its program, so a port closed meanwhile on another thread would not be free yet.
pub(crate) fn enter_own_network() -> bool {
    // SAFETY: unshare takes an integer.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return false;
    }
    // netdevice(7), SIOCSIFFLAGS, on any socket of the namespace.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
    // SAFETY: ifreq is a C struct of integers and a union of such; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads one ifreq, whose name ends with a zero.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) == 0 }
}

/// [`enter_own_network`] for more IPv6 addresses; where there can be none, the test is recorded as
/// skipped and this says false.
pub(crate) fn enter_network_for_addresses() -> bool {
    if !enter_own_network() {
        skip::record("no network namespace of its own for more IPv6 addresses");
        return false;
    }
    if let Err(error) = std::process::Command::new("ip").arg("-V").output() {
        skip::record(&format!("ip (iproute2): {error}"));
        return false;
    }
    here("[::1]:0")
}

/// Gives loopback one more address, in the calling thread's network namespace, and waits until it
/// can be used: an IPv6 address may be bound a moment before the host has a route to it, and what
/// is sent there meanwhile is lost.
pub(crate) fn add_loopback_address(address: Ipv6Addr) {
    let address_with_prefix = format!("{address}/128");
    let arguments = ["address", "add", &address_with_prefix, "dev", "lo", "nodad"];
    let status = std::process::Command::new("ip").args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "`ip` did not add {address}");
    until("the address has a route", || {
        let Ok(probe) = UdpSocket::bind((address, 0)) else { return false };
        let sent = probe.local_addr().and_then(|name| probe.send_to(b"probe", name));
        let timeout = probe.set_read_timeout(Some(Duration::from_millis(20)));
        sent.is_ok() && timeout.is_ok() && probe.recv(&mut [0; 8]).is_ok()
    });
}

/// Calls `step` until it says it is done.
pub(crate) fn until(what: &str, mut step: impl FnMut() -> bool) {
    let start = Instant::now();
    while !step() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::yield_now();
    }
}

/// A small generator (xorshift64*), seeded by the clock or by `SHARDGRAM_SEED`.
pub(crate) struct Random(u64);

impl Random {
    /// Prints the seed and the command that replays it; the output shows when the test fails.
    pub(crate) fn seeded(test: &str) -> Self {
        let seed = std::env::var("SHARDGRAM_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
        let seed: u64 = seed.unwrap_or_else(clock);
        println!("replay: SHARDGRAM_SEED={seed} cargo test -p shardgram-sys {test}");
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next() as u8;
        }
    }
}
