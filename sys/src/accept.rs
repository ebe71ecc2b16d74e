//! A socket of its own for a peer, beside the listeners of the same address and port.
//!
//! Binding a second socket to the listeners' address and connecting it has two diseases. Between bind
//! and connect the kernel may hand it what other peers send, and a connected socket that is in the
//! listeners' port group makes the kernel look at every such socket for each datagram of an unknown
//! source. Both come from membership in that group, so a peer's socket is kept out of it, or taken out
//! before it is connected ([`AcceptMode::SideGroup`]):
//!
//! - **IPv4**: an IPv6 socket bound to the mapped address stands in a group of its own and scores below
//!   every IPv4 listener while it is unconnected. Connected, it is turned into an IPv4 socket
//!   (`IPV6_ADDRFORM`).
//! - **IPv6**: a socket bound to an interface stands in a group of its own, behind the listeners in
//!   the kernel's list. Dissolving an association that it does not have takes the interface from it.
//! - **IPv6 listeners that are bound to an interface** (link-local addresses, or because the socket
//!   hook does so) would have that group: there the socket joins them, under their steering program,
//!   which never chooses it; binding it to the interface once more takes it out of the group.
//!
//! It takes a kernel that finds connected UDP sockets by their 4-tuple (Linux 6.13), and one with IPv6;
//! [`accept_support`] tries it out.

mod support;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::cmsg::NetworkError;
use crate::socket::{
    bind, set_marks_times_and_mtu, set_receive_buffer_unread, set_receive_trains, set_send_buffer_unread,
};
use crate::{BindError, SocketOptions, sockopt};

pub use support::{AcceptSupport, accept_support};

/// The index of the loopback interface, the same in every network namespace (`LOOPBACK_IFINDEX` in the
/// kernel's `include/net/flow.h`). Every address of the host that is not link-local may be bound on it.
const LOOPBACK: i32 = 1;

/// How a peer gets a socket of its own beside listeners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptMode {
    /// Outside the listeners' port group: nothing of another peer is caught, and unknown sources cost
    /// the same however many sockets are connected. Linux 6.13 with IPv6.
    SideGroup,
    /// In the listeners' port group. A few datagrams of other peers may be caught between bind and
    /// connect, and every datagram of an unknown source costs the kernel a look at each such socket
    /// (below Linux 6.13 every datagram does): for few peers only. Any kernel.
    SameGroup,
}

impl fmt::Display for AcceptMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SideGroup => "side-group",
            Self::SameGroup => "same-group",
        })
    }
}

/// Opens a socket that is bound to `local` and connected to `peer`.
///
/// `local` must be a specific address and port whose listener group is this process's, bound by the
/// same user and still open: only the kernel's list of sockets, in which listeners come first, keeps
/// strangers away from a socket that is bound and not yet connected.
///
/// The socket is blocking and close-on-exec, and receives trains as `options` says. It has no packet
/// info, since it has one local address. The hook gets `local`. What was granted of the buffers is not
/// asked for: the listeners' warnings speak for these sockets too. What the network says of the peer is
/// queued ([`take_errors`]) and has to be taken out. With both buffers set it takes 9 (IPv4) or 10 (IPv6)
/// system calls, one more for each of trains, congestion bits, timestamps and a path-MTU mode, and two more for a hook,
/// besides its own; in the side group the bind walks the sockets of the address and port (about 10 ns each).
///
/// Two sockets with one pair of addresses connect without an error, and the newest takes all: who owns
/// a peer is the caller's to know. A socket serves one peer in its life.
///
/// # Errors
///
/// [`BindError::PeerPortZero`], [`BindError::NotSpecific`], [`BindError::FamilyMismatch`],
/// [`BindError::MappedAddress`] and [`BindError::ScopeMissing`] without having made a system call.
/// [`BindError::DescriptorLimit`] (`EMFILE`) and, as [`BindError::System`] with that
/// [`errno`](BindError::errno), `ENFILE`, `ENOBUFS` and `ENOMEM` where the system has no room for it.
/// [`BindError::FamilyUnsupported`] for the side group without IPv6. `ENETUNREACH` and alike, as
/// `System`, if there is no way to the peer. [`BindError::Hook`] is the hook's.
pub fn connected(
    mode: AcceptMode,
    local: SocketAddr,
    peer: SocketAddr,
    options: &SocketOptions,
) -> Result<UdpSocket, BindError> {
    check_local(local)?;
    check_peer(local, peer)?;
    let bound = Bound::open(mode, local, options)?;
    bound.connect(peer)
}

fn check_local(local: SocketAddr) -> Result<(), BindError> {
    if local.port() == 0 || local.ip().is_unspecified() {
        return Err(BindError::NotSpecific { address: local });
    }
    check_form(local)
}

fn check_peer(local: SocketAddr, peer: SocketAddr) -> Result<(), BindError> {
    if peer.port() == 0 {
        return Err(BindError::PeerPortZero { peer });
    }
    if local.is_ipv6() != peer.is_ipv6() {
        return Err(BindError::FamilyMismatch { bind: local, peer });
    }
    check_form(peer)
}

fn check_form(address: SocketAddr) -> Result<(), BindError> {
    let SocketAddr::V6(v6) = address else { return Ok(()) };
    if v6.ip().to_ipv4_mapped().is_some() {
        return Err(BindError::MappedAddress { address: address.ip() });
    }
    if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 {
        return Err(BindError::ScopeMissing { address: address.ip() });
    }
    Ok(())
}

/// A socket that is bound and waits for its peer. In the side group it receives nothing.
struct Bound {
    socket: Socket,
    local: SocketAddr,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ready to be connected.
    Plain,
    /// An IPv6 socket with an IPv4 address.
    Mapped,
    /// Bound to loopback, which is taken back.
    OnLoopback,
    /// Bound to this interface as the listeners are, and still in their group.
    OnInterface(i32),
}

impl Bound {
    fn open(mode: AcceptMode, local: SocketAddr, options: &SocketOptions) -> Result<Self, BindError> {
        let option = |operation| move |source| BindError::from_option(operation, local, source);
        let (mapped, name) = match local {
            SocketAddr::V4(v4) if mode == AcceptMode::SideGroup => (true, map(v4)),
            _ => (false, local),
        };
        // socket(2). socket2 adds SOCK_CLOEXEC.
        let socket = Socket::new(Domain::for_address(name), Type::DGRAM, Some(Protocol::UDP))
            .map_err(|source| BindError::from_create(name, source))?;
        if name.is_ipv6() {
            // Both values are set, since the system's default (net.ipv6.bindv6only) may be either.
            socket.set_only_v6(!mapped).map_err(option("set IPV6_V6ONLY"))?;
        }
        configure(&socket, local, options)?;
        let kind = match local {
            SocketAddr::V4(_) if mapped => Kind::Mapped,
            SocketAddr::V6(v6) if mode == AcceptMode::SideGroup => {
                place_v6(&socket, v6, options.hook.is_some())?
            }
            _ => Kind::Plain,
        };
        bind(&socket, name)?;
        Ok(Self { socket, local, kind })
    }

    fn connect(self, peer: SocketAddr) -> Result<UdpSocket, BindError> {
        let Self { socket, local, kind } = self;
        let option = |operation| move |source| BindError::from_option(operation, local, source);
        match kind {
            Kind::Plain | Kind::Mapped => {}
            Kind::OnLoopback => {
                // The option itself could be taken back only with CAP_NET_RAW.
                sockopt::dissolve(socket.as_fd()).map_err(option("clear the interface"))?;
            }
            Kind::OnInterface(index) => {
                sockopt::dissolve(socket.as_fd()).map_err(option("clear the interface"))?;
                bind_to_interface(&socket, index).map_err(option("set SO_BINDTOIFINDEX"))?;
            }
        }
        let name = match peer {
            SocketAddr::V4(v4) if kind == Kind::Mapped => map(v4),
            _ => peer,
        };
        // ENETUNREACH, EHOSTUNREACH: no way to the peer. EACCES: a broadcast address. Nobody can do
        // anything about them but leave the peer where it is.
        socket.connect(&name.into()).map_err(|source| BindError::System {
            operation: "connect a UDP socket",
            address: peer,
            manual: "connect(2)",
            source,
        })?;
        if kind == Kind::Mapped {
            // ipv6(7), IPV6_ADDRFORM: "Turn an AF_INET6 socket into a socket of a different address
            // family. Only AF_INET is currently supported for that. It is allowed only for IPv6
            // sockets that are connected and bound to a v4-mapped-on-v6 address." Options of ip(7) are
            // kept in a part that both families have; those of ipv6(7) are let go.
            sockopt::set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_ADDRFORM, libc::AF_INET)
                .map_err(option("set IPV6_ADDRFORM"))?;
        }
        // ip(7), IP_RECVERR, and ipv6(7), IPV6_RECVERR: "all errors will be queued in a per-socket error queue".
        // Without it a connected socket is told only of errors that the kernel takes for final, so not that a
        // host or a network is unreachable; nor is a send that a full queue of the device drops an error.
        let (level, name) = match local {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
        };
        sockopt::set_int(socket.as_fd(), level, name, 1).map_err(option("set IP_RECVERR"))?;
        Ok(socket.into())
    }
}

/// Sets what every accepted socket has, in as few calls as it takes, hook included.
fn configure(socket: &Socket, local: SocketAddr, options: &SocketOptions) -> Result<(), BindError> {
    let option = |operation| move |source| BindError::from_option(operation, local, source);
    if options.receive_buffer != 0 {
        set_receive_buffer_unread(socket, options.receive_buffer)
            .map_err(option("set the receive buffer"))?;
    }
    if options.send_buffer != 0 {
        set_send_buffer_unread(socket, options.send_buffer).map_err(option("set the send buffer"))?;
    }
    if options.receive_trains {
        set_receive_trains(socket, true).map_err(option("turn UDP_GRO on"))?;
    }
    set_marks_times_and_mtu(socket, local, options)?;
    if let Some(hook) = &options.hook {
        hook(socket, local).map_err(|source| BindError::Hook { address: local, source })?;
        // With SO_REUSEADDR the bind looks at all sockets of the port, and any other socket of the host
        // could join them.
        socket.set_reuse_address(false).map_err(option("clear SO_REUSEADDR"))?;
    }
    // socket(7), SO_REUSEPORT, Linux 3.9: the listeners have it too.
    socket.set_reuse_port(true).map_err(option("set SO_REUSEPORT"))
}

/// Chooses the interface that keeps an IPv6 socket out of the listeners' group, before its bind.
fn place_v6(socket: &Socket, local: SocketAddrV6, hooked: bool) -> Result<Kind, BindError> {
    let option = |operation| move |source| BindError::from_option(operation, local.into(), source);
    if local.ip().is_unicast_link_local() {
        // The bind binds it to the interface, as it did with the listeners.
        return Ok(Kind::OnInterface(local.scope_id().cast_signed()));
    }
    if hooked {
        let [index] = sockopt::get_words::<1>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)
            .map_err(option("read SO_BINDTOIFINDEX"))?;
        if index != 0 {
            return Ok(Kind::OnInterface(index.cast_signed()));
        }
    }
    bind_to_interface(socket, LOOPBACK).map_err(option("set SO_BINDTOIFINDEX"))?;
    Ok(Kind::OnLoopback)
}

/// socket(7), `SO_BINDTODEVICE`, by index (Linux 5.0). No privilege is needed for a socket that is not
/// bound to an interface (Linux 5.7). A bound socket leaves its port group by it.
fn bind_to_interface(socket: &Socket, index: i32) -> io::Result<()> {
    sockopt::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, index)
}

fn map(address: SocketAddrV4) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(address.ip().to_ipv6_mapped()), address.port())
}

/// Takes a connected socket out of service: it is connected to its own address and port, so nothing new
/// of the peer reaches it, and the peer's next datagram goes to a listener. What is queued stays.
///
/// A datagram that the kernel was delivering meanwhile may still come in: to lose none, wait for a grace period
/// ([`crate::grace`]), empty the queue and close the socket then. Closing at once loses datagrams, and so does
/// dissolving the association (`AF_UNSPEC`).
///
/// # Errors
///
/// Those of `getsockname(2)` and `connect(2)`: `ENETUNREACH` once the host has lost the address, and nothing reaches the
/// socket then either; or what a filter or a rule of routing says that refuses the call, and the peer reaches it still
/// ([`refuse_all`]).
pub fn retire(socket: &UdpSocket) -> io::Result<()> {
    socket.connect(socket.local_addr()?)
}

/// Has the kernel drop what comes for a socket from now on, and count it among its drops
/// ([`drop_count`](crate::socket::drop_count)). What is queued stays. For sockets that cannot be retired, which their
/// peers would otherwise keep full for ever.
///
/// # Errors
///
/// `ENOMEM`, `EPERM` where a socket hook has set `SO_LOCK_FILTER`, and what a filter of system calls says.
pub fn refuse_all(socket: &UdpSocket) -> io::Result<()> {
    // socket(7), SO_ATTACH_FILTER, Linux 2.2: "If the filter program returns zero, the packet is dropped".
    let nothing = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    SockRef::from(socket).attach_filter(&[nothing])
}

/// Whether nothing waits in the socket's receive queue.
///
/// Never blocks. A pending error (the peer refused something) is not a datagram: it does not count, and
/// stays pending. A datagram of length zero counts, and one with a wrong checksum is thrown away by
/// the kernel when asked.
///
/// # Errors
///
/// `ENOMEM`, of `poll(2)`.
pub fn is_drained(socket: &UdpSocket) -> io::Result<bool> {
    let [events] = sockopt::wait_readable([socket.as_fd()], Some(Duration::ZERO))?;
    Ok(events & libc::POLLIN == 0)
}

/// Takes what the network said of a connected socket's peer, oldest first, and no more than `most` entries.
///
/// To be called whenever a receive or a send says that something is wrong: what is left keeps the socket
/// ready with an error (`POLLERR`), and takes room from what is received. If there is more than `most`, the
/// next receive or send says so; with the last one the socket's pending error is gone too. Never blocks.
pub fn take_errors(socket: &UdpSocket, most: usize) -> Vec<NetworkError> {
    let mut errors = Vec::new();
    let mut control = sockopt::ErrorSpace([0; 256]);
    for _ in 0..most {
        // Short of memory (ENOMEM) it is as if there was nothing: it is there the next time.
        let Ok(Some(len)) = sockopt::take_error(socket.as_fd(), &mut control) else { break };
        errors.extend(NetworkError::parse(&control.0[..len]));
    }
    errors
}

/// The path MTU in bytes, IP header included, that the kernel knows for a connected socket
/// (`IP_MTU` in `ip(7)`, `IPV6_MTU` in `ipv6(7)`).
///
/// It is the value of the socket's cached route: what a router reported takes effect with the socket's
/// next send.
///
/// # Errors
///
/// `ENOTCONN` if the socket is not connected, or has lost its route and not sent since.
pub fn path_mtu(socket: &UdpSocket) -> io::Result<usize> {
    let (level, name) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_MTU),
    };
    let [mtu] = sockopt::get_words::<1>(socket.as_fd(), level, name)?;
    Ok(mtu as usize)
}

/// Bytes waiting to leave the socket, as the kernel counts them: with its overhead, so a small datagram
/// is several hundred (`SK_MEMINFO_WMEM_ALLOC`, which `SIOCOUTQ` of `udp(7)` says too; Linux 4.12).
///
/// A send fails with `EAGAIN`, or waits, while this is at [`send_queue_limit`] or above.
///
/// # Errors
///
/// `ENOPROTOOPT` in sandboxes that do not have the option.
pub fn send_queue_bytes(socket: &UdpSocket) -> io::Result<usize> {
    const WORDS: usize = libc::SK_MEMINFO_WMEM_ALLOC as usize + 1;
    let words = sockopt::get_words::<WORDS>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(words[WORDS - 1] as usize)
}

/// The most bytes that may wait to leave the socket, in the measure of [`send_queue_bytes`]: `SO_SNDBUF`
/// of `socket(7)` as it is returned, which is twice what was asked for.
///
/// # Errors
///
/// None on an open socket.
pub fn send_queue_limit(socket: &UdpSocket) -> io::Result<usize> {
    let [bytes] = sockopt::get_words::<1>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF)?;
    Ok(bytes as usize)
}
