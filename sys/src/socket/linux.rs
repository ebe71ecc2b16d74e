//! Socket options on Linux.

use std::cell::Cell;
use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use libc::c_int;
use shardgram_core::{Interface, PathMtu};
use socket2::{Domain, Protocol, Socket, Type};

use crate::interfaces::index_of;
use crate::sockopt;

pub(super) const RECEIVE_BUFFER_CAP: &str = "net.core.rmem_max";
pub(super) const SEND_BUFFER_CAP: &str = "net.core.wmem_max";

/// Sets the receive buffer and returns what was granted, in bytes.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    set_buffer(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
}

/// Sets the send buffer and returns what was granted, in bytes.
pub(super) fn set_send_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    set_buffer(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)
}

/// socket(7), `SO_RCVBUF`: "The kernel doubles this value (to allow space for bookkeeping
/// overhead) when it is set using setsockopt(2), and this doubled value is returned by
/// getsockopt(2)." What is asked and what is returned here is the value before doubling.
fn set_buffer(socket: BorrowedFd<'_>, force: c_int, polite: c_int, bytes: usize) -> io::Result<usize> {
    let value = buffer_value(bytes);
    // socket(7), SO_RCVBUFFORCE, Linux 2.6.14: "a privileged (CAP_NET_ADMIN) process can perform
    // the same task as SO_RCVBUF, but the rmem_max limit can be overridden". EPERM otherwise, and
    // inside user namespaces; the polite option never fails, it grants what the cap allows.
    sockopt::set_int(socket, libc::SOL_SOCKET, force, value)
        .or_else(|_| sockopt::set_int(socket, libc::SOL_SOCKET, polite, value))?;
    let [doubled] = sockopt::get_words::<1>(socket, libc::SOL_SOCKET, polite)?;
    Ok(doubled as usize / 2)
}

/// The kernel doubles in an int.
fn buffer_value(bytes: usize) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX).min(c_int::MAX / 2)
}

thread_local! {
    /// Whether this thread was refused to go beyond the caps. Capabilities belong to threads.
    static CAPPED: Cell<bool> = const { Cell::new(false) };
}

/// Sets the receive buffer and does not ask what was granted: one system call, two the first time on
/// a thread that may not go beyond the cap.
pub(crate) fn set_receive_buffer_unread(socket: &Socket, bytes: usize) -> io::Result<()> {
    set_buffer_unread(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
}

/// Sets the send buffer as [`set_receive_buffer_unread`] does the other.
pub(crate) fn set_send_buffer_unread(socket: &Socket, bytes: usize) -> io::Result<()> {
    set_buffer_unread(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)
}

fn set_buffer_unread(socket: BorrowedFd<'_>, force: c_int, polite: c_int, bytes: usize) -> io::Result<()> {
    let value = buffer_value(bytes);
    if !CAPPED.get() {
        // EPERM is the one error of it; see `set_buffer`.
        if sockopt::set_int(socket, libc::SOL_SOCKET, force, value).is_ok() {
            return Ok(());
        }
        CAPPED.set(true);
    }
    sockopt::set_int(socket, libc::SOL_SOCKET, polite, value)
}

/// Has a socket send and receive by one interface alone (`SO_BINDTODEVICE` in `socket(7)`; `SO_BINDTOIFINDEX`, Linux
/// 5.1). "Before Linux 5.7, this operation requires CAP_NET_RAW"; from then on only a socket that is bound to an
/// interface already takes it.
pub(super) fn bind_to_interface(socket: &Socket, _ipv6: bool, interface: Interface) -> io::Result<()> {
    // A name is the kernel's to look up.
    let index = match interface.as_address() {
        Some(_) => index_of(interface).ok().and_then(NonZeroU32::new),
        None => interface.as_index(),
    };
    match index {
        // Beyond what an index can be it is none of this host's, and would be a negative number here (EINVAL).
        Some(index) => match c_int::try_from(index.get()) {
            Ok(index) => sockopt::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, index),
            Err(_) => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        },
        None => match interface.as_name() {
            Some(name) => socket.bind_device(Some(name.as_bytes())),
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        },
    }
}

/// Makes received datagrams come with the address they were sent to and their interface
/// (`IP_PKTINFO` in `ip(7)`, `IPV6_RECVPKTINFO` in `ipv6(7)`; every supported kernel).
///
/// # Errors
///
/// `ENOPROTOOPT` if `ipv6` is not the socket's family.
pub fn set_packet_info(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        sockopt::set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        sockopt::set_int(socket.as_fd(), libc::SOL_IP, libc::IP_PKTINFO, 1)
    }
}

/// Has the kernel merge datagrams of one peer into trains, or not (`UDP_GRO` in `udp(7)`, Linux 5.0).
/// To turn it on, call it before the bind.
///
/// # Errors
///
/// `ENOPROTOOPT` before Linux 5.0.
pub fn set_receive_trains(socket: &impl AsFd, on: bool) -> io::Result<()> {
    sockopt::set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, on.into())
}

/// How many datagrams the kernel dropped because this socket's receive buffer was full, since
/// the socket was made (`SO_MEMINFO`, `SK_MEMINFO_DROPS`, Linux 4.12).
///
/// A dropped train counts once. The kernel's counter has 32 bits and wraps: see [`crate::Drops`]. It also counts
/// datagrams with a bad checksum.
///
/// # Errors
///
/// `ENOPROTOOPT` before Linux 4.12 and in sandboxes that do not have it.
pub fn drop_count(socket: &impl AsFd) -> io::Result<u64> {
    const WORDS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
    let words = sockopt::get_words::<WORDS>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(u64::from(words[WORDS - 1]))
}

/// Has received datagrams come with their congestion bits, or not (`IP_RECVTOS` in `ip(7)`, `IPV6_RECVTCLASS` in
/// `ipv6(7)` and RFC 3542 section 6.5; every supported kernel).
///
/// # Errors
///
/// `ENOPROTOOPT` if `ipv6` is not the socket's family.
pub fn set_receive_ecn(socket: &impl AsFd, ipv6: bool, on: bool) -> io::Result<()> {
    let (level, name) =
        if ipv6 { (libc::SOL_IPV6, libc::IPV6_RECVTCLASS) } else { (libc::SOL_IP, libc::IP_RECVTOS) };
    sockopt::set_int(socket.as_fd(), level, name, on.into())
}

/// Has received datagrams come with the time at which the kernel received them, or not (`SO_TIMESTAMPNS` in
/// `socket(7)`, Linux 2.6.22). Turning it on for the first socket of a host changes the kernel's code
/// (`net_enable_timestamp` in net/core/dev.c), which takes effect a little later; what comes before has the time at
/// which it was read.
///
/// # Errors
///
/// None on an open socket.
pub fn set_receive_timestamps(socket: &impl AsFd, on: bool) -> io::Result<()> {
    sockopt::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on.into())
}

/// Sets what becomes of datagrams that are longer than the path's MTU (`IP_MTU_DISCOVER` in `ip(7)`,
/// `IPV6_MTU_DISCOVER` in `ipv6(7)`); [`PathMtu::System`] leaves it as it is.
///
/// # Errors
///
/// `ENOPROTOOPT` if `ipv6` is not the socket's family.
pub fn set_path_mtu(socket: &impl AsFd, ipv6: bool, mode: PathMtu) -> io::Result<()> {
    let value = match mode {
        PathMtu::Refuse => libc::IP_PMTUDISC_DO,
        PathMtu::Probe => libc::IP_PMTUDISC_PROBE,
        PathMtu::Fragment => libc::IP_PMTUDISC_DONT,
        _ => return Ok(()),
    };
    // The values for both families are the same (include/uapi/linux/in.h and in6.h).
    let (level, name) =
        if ipv6 { (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER) } else { (libc::SOL_IP, libc::IP_MTU_DISCOVER) };
    sockopt::set_int(socket.as_fd(), level, name, value)
}

/// Has a library set up what it needs of a socket, and keeps the socket's options as its owner has them.
///
/// quinn-udp turns UDP_GRO and timestamps on and sets probe mode (`IP_MTU_DISCOVER` in `ip(7)`, `IPV6_MTU_DISCOVER` and
/// `IPV6_DONTFRAG` in `ipv6(7)` and RFC 3542 section 11.2), in which the kernel never fragments and ignores what it
/// learned about a path: right for QUIC, which probes itself, and wrong for a server whose datagrams should simply
/// arrive. Nor may UDP_GRO be on for a moment where it is to be off: a train that comes meanwhile is received as one
/// datagram later, since its segment size is told only while the option is on (`udp_recvmsg` in net/ipv4/udp.c). So the
/// call gets another socket of the family, and what it needs beside options of the owner's is set here: the socket does
/// not block, and has packet info. So what the call makes is the same for every socket of a family: it is made once and
/// kept in `known`, and an endpoint needs no second descriptor to be opened.
///
/// # Errors
///
/// Those of the call, of making the other socket, of reading the socket's name and of setting the options.
pub fn keeping_options<T: Clone>(
    socket: &UdpSocket,
    known: &OnceLock<T>,
    call: impl FnOnce(&UdpSocket) -> io::Result<T>,
) -> io::Result<T> {
    let ipv6 = socket.local_addr()?.is_ipv6();
    let made = match known.get() {
        Some(made) => made.clone(),
        None => {
            let new = call(&stand_in(ipv6)?)?;
            known.get_or_init(|| new).clone()
        }
    };
    socket.set_nonblocking(true)?;
    set_packet_info(socket, ipv6)?;
    Ok(made)
}

/// A socket to try options out on: of this family, bound to nothing.
///
/// # Errors
///
/// The system has no such family, or no descriptor left.
pub fn stand_in(ipv6: bool) -> io::Result<UdpSocket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if ipv6 {
        // As every socket of a server.
        socket.set_only_v6(true)?;
    }
    Ok(socket.into())
}

/// The byte that a socket writes into the headers of what it sends: DSCP and congestion bits (`IP_TOS` in
/// `ip(7)`, `IPV6_TCLASS` in `ipv6(7)`).
///
/// # Errors
///
/// `ENOPROTOOPT` if `ipv6` is not the socket's family.
pub fn traffic_class(socket: &impl AsFd, ipv6: bool) -> io::Result<u8> {
    let (level, name) = traffic_class_option(ipv6);
    let [class] = sockopt::get_words::<1>(socket.as_fd(), level, name)?;
    Ok(class as u8)
}

/// Sets that byte, and keeps the socket's priority (`SO_PRIORITY` in `socket(7)`), which with IPv4 the
/// kernel would derive from it. The socket's next send looks at the routes again (`__ip_sock_set_tos` in
/// net/ipv4/ip_sockglue.c). One system call with IPv6, three with IPv4.
///
/// # Errors
///
/// `ENOPROTOOPT` if `ipv6` is not the socket's family.
pub fn set_traffic_class(socket: &impl AsFd, ipv6: bool, class: u8) -> io::Result<()> {
    let ((level, name), socket) = (traffic_class_option(ipv6), socket.as_fd());
    if ipv6 {
        return sockopt::set_int(socket, level, name, class.into());
    }
    let [priority] = sockopt::get_words::<1>(socket, libc::SOL_SOCKET, libc::SO_PRIORITY)?;
    sockopt::set_int(socket, level, name, class.into())?;
    // EPERM above 6 without CAP_NET_ADMIN, as when privileges were given up since: then it is the derived one.
    let _ = sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_PRIORITY, priority.cast_signed());
    Ok(())
}

fn traffic_class_option(ipv6: bool) -> (c_int, c_int) {
    if ipv6 { (libc::SOL_IPV6, libc::IPV6_TCLASS) } else { (libc::SOL_IP, libc::IP_TOS) }
}
