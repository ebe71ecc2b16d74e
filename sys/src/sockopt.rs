//! `setsockopt(2)` and `getsockopt(2)` for the options that socket2 does not have, and calls that
//! neither socket2 nor the standard library makes.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::{c_int, c_short, socklen_t};

use crate::addr;

/// Sets an option whose value is an `int`.
pub(crate) fn set_int(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // setsockopt(2): "optval and optlen are used to access option values". Errors: EBADF and
    // ENOTSOCK cannot come up with a borrowed socket; ENOPROTOOPT is an option this kernel does
    // not know, EPERM one that needs a capability, EINVAL a value out of range.
    //
    // SAFETY: the descriptor is open for the borrow, and the kernel reads `size_of::<c_int>()`
    // bytes of a live c_int.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option that is `N` native words. Words the kernel did not write are 0.
pub(crate) fn get_words<const N: usize>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<[u32; N]> {
    let mut words = [0u32; N];
    let mut len = size_of_val(&words) as socklen_t;
    // getsockopt(2): "optlen is a value-result argument, initially containing the size of the
    // buffer pointed to by optval".
    //
    // SAFETY: the descriptor is open for the borrow; the kernel writes at most `len` bytes into
    // `words`, which is that long, and any bytes are a u32.
    let code =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, words.as_mut_ptr().cast(), &raw mut len) };
    if code == 0 { Ok(words) } else { Err(io::Error::last_os_error()) }
}

/// Joins or leaves a group by the interface with this index, 0 being that of the route.
pub(crate) fn set_group(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    interface: u32,
    group: &SocketAddr,
) -> io::Result<()> {
    // SAFETY: group_req is a C struct of integers; all zeroes is a value of it.
    let mut request: libc::group_req = unsafe { zeroed() };
    request.gr_interface = interface;
    addr::write_to(group, &mut request.gr_group);
    // SAFETY: group_req is the value of MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP (RFC 3678 section 5.1.1).
    unsafe { set_struct(socket, level, name, &request) }
}

/// Joins or leaves a group for one source.
pub(crate) fn set_group_source(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    interface: u32,
    group: &SocketAddr,
    source: &SocketAddr,
) -> io::Result<()> {
    // SAFETY: group_source_req is a C struct of integers; all zeroes is a value of it.
    let mut request: libc::group_source_req = unsafe { zeroed() };
    request.gsr_interface = interface;
    addr::write_to(group, &mut request.gsr_group);
    addr::write_to(source, &mut request.gsr_source);
    // SAFETY: group_source_req is the value of MCAST_JOIN_SOURCE_GROUP and its counterpart (RFC 3678 section 5.1.2).
    unsafe { set_struct(socket, level, name, &request) }
}

/// The interface by which IPv4 datagrams to groups leave (`IP_MULTICAST_IF` in ip(7), with a `struct ip_mreqn`).
pub(crate) fn set_multicast_interface(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: ip_mreqn is a C struct of integers; all zeroes is a value of it. Without an address the source of a
    // datagram is chosen as ever.
    let mut request: libc::ip_mreqn = unsafe { zeroed() };
    request.imr_ifindex = interface.cast_signed();
    // SAFETY: ip_mreqn is one of the values of IP_MULTICAST_IF.
    unsafe { set_struct(socket, libc::SOL_IP, libc::IP_MULTICAST_IF, &request) }
}

/// Sets an option whose value is a C struct.
///
/// # Safety
///
/// The value is of the type that the option wants, which points nowhere.
unsafe fn set_struct<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow, and the kernel reads the bytes of a live value, of the type it
    // wants as the caller says.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of the interface of this name, if there is one.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // if_nametoindex(3): "Upon successful completion, if_nametoindex() shall return the corresponding interface index;
    // otherwise, zero". ENODEV: no such interface; names that are too long have none either.
    //
    // SAFETY: the name is a live string that ends with a zero byte, of which the call only reads.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Attaches a classic BPF program to the port group of `socket`, or to the group it will found
/// when it is not bound yet.
pub(crate) fn attach_reuseport_program(
    socket: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The field is a mutable pointer in C; the kernel only reads through it.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // socket(7), SO_ATTACH_REUSEPORT_CBPF, Linux 4.5: "must return an index between 0 and N-1
    // representing the socket which should receive the packet". EINVAL: the socket has no group
    // and cannot found one (bound without SO_REUSEPORT), or the program is malformed.
    //
    // SAFETY: the descriptor is open for the borrow; the kernel reads one sock_fprog and copies
    // `len` instructions from the slice it points to, all alive during the call.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Of how many instructions the program is that says which datagrams a socket takes; 0 if it has none.
pub(crate) fn filter_len(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut len: socklen_t = 0;
    // SO_GET_FILTER (Linux 3.8), which has the number of SO_ATTACH_FILTER: with no room it says how much it takes.
    //
    // SAFETY: the descriptor is open for the borrow, and with a length of 0 the kernel writes to the length alone.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::null_mut(),
            &raw mut len,
        )
    };
    if code == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// `connect(2)` with `AF_UNSPEC`, which dissolves an association. The local address and port, which were
/// bound explicitly, stay; the interface the socket is bound to is cleared.
pub(crate) fn dissolve(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: sockaddr is a C struct of integers; all zeroes is a value of it. AF_UNSPEC is 0.
    let mut nobody: libc::sockaddr = unsafe { zeroed() };
    nobody.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one live sockaddr.
    let code = unsafe {
        libc::connect(socket.as_raw_fd(), &raw const nobody, size_of::<libc::sockaddr>() as socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `bind(2)` of a netlink socket to a free port and the multicast `groups`, a bit each (`netlink(7)`).
pub(crate) fn bind_netlink(socket: BorrowedFd<'_>, groups: u32) -> io::Result<()> {
    // SAFETY: sockaddr_nl is a C struct of integers; all zeroes is a value of it.
    let mut name: libc::sockaddr_nl = unsafe { zeroed() };
    name.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    name.nl_groups = groups;
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one live sockaddr_nl.
    let code = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size_of::<libc::sockaddr_nl>() as socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `poll(2)` for what can be received from each of `files`, for `timeout` at most (`None`: for ever).
/// Returns what befell each: `POLLIN`, and `POLLERR` for a pending error, which stays.
pub(crate) fn wait_readable<const N: usize>(
    files: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[c_short; N]> {
    let mut questions =
        files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // Milliseconds, rounded up so that a caller who waits again does not spin; -1 is for ever.
    let milliseconds = timeout
        .map_or(-1, |timeout| c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX));
    // EFAULT and EINVAL cannot come up with a few live entries. EINTR is possible if this waits.
    //
    // SAFETY: the descriptors are open for the borrow; the kernel reads and writes N live pollfds.
    let code = unsafe { libc::poll(questions.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(questions.map(|answer| answer.revents)) }
}

/// Room for the control messages of one entry of an error queue, as aligned as they want it.
#[repr(C, align(8))]
pub(crate) struct ErrorSpace(pub(crate) [u8; 256]);

/// Takes the first entry out of a socket's error queue: fills in its control messages and says how many bytes of
/// them there are. `None` if the queue is empty. Does not block, and takes nothing that was received.
pub(crate) fn take_error(socket: BorrowedFd<'_>, control: &mut ErrorSpace) -> io::Result<Option<usize>> {
    // SAFETY: msghdr is a C struct of integers and pointers; all zeroes is a value of it.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // recvmsg(2), MSG_ERRQUEUE: "queued errors should be received from the socket error queue". There is no room
    // for the datagram the error is about, so it is cut. EAGAIN: the queue is empty. ENOTSOCK, EBADF, EFAULT and
    // EINVAL cannot come up; ENOMEM is passed on.
    //
    // SAFETY: the descriptor is open for the borrow; the kernel reads and writes one live msghdr, and writes at
    // most `msg_controllen` bytes to `control`, which is that long.
    let code = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    if code >= 0 {
        return Ok(Some((header.msg_controllen as usize).min(control.0.len())));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        error => Err(error),
    }
}
