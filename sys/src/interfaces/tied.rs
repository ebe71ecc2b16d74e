//! Sockets that are bound to an interface, and what becomes of them when that is made anew.
//!
//! A socket is bound to an interface by its index, by the bind to a link-local address (`ipv6(7)`) as by
//! `SO_BINDTODEVICE` (`socket(7)`). One that is made anew, as VLANs, bridges and tunnels are, has another index under the
//! same name: the socket hears nothing any more, and no call on it says so.
//!
//! Binding it to that one takes it out of its port group (`udp_lib_rehash` in the kernel's `net/ipv4/udp.c`), so flows would
//! reach other shards than their own, and a new group would take the port from those that serve. So it is bound to none:
//! dissolving an association that it does not have takes the interface from it, and leaves the port, the group and its index.
//! A filter lets nothing in but what comes by the interface, and its datagrams leave by it (`IP_UNICAST_IF`).
//!
//! A wildcard's socket leaves its port group all the same (`__udp_disconnect` hashes it anew): one of them gets all flows
//! afterwards, and its shard forwards what others own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

use crate::sockopt;

/// The index of the loopback interface (`LOOPBACK_IFINDEX` in the kernel's `include/net/flow.h`).
const LOOPBACK: u32 = 1;

/// The interface that a socket is bound to, by name and by the index that it had.
///
/// ```
/// use shardgram_sys::interfaces::BoundTo;
/// let free = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert!(BoundTo::of(&free)?.is_none_or(|interface| !interface.is_anew()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BoundTo {
    name: String,
    index: u32,
}

impl BoundTo {
    /// That of a socket, if it is bound to one.
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)`: `ENODEV` if the interface has gone since the bind.
    pub fn of(socket: &UdpSocket) -> io::Result<Option<Self>> {
        let index = bound_interface(socket);
        Ok(name(socket)?.map(|name| Self { name, index }))
    }

    /// Whether another interface has its name now, in the network namespace of the calling thread: nothing comes by sockets
    /// that were bound to this one, and what they send is refused.
    #[must_use]
    pub fn is_anew(&self) -> bool {
        sockopt::interface_index(&self.name).is_some_and(|index| index != self.index)
    }
}

/// Whether a socket is bound to an interface that has gone: nothing comes by it, and what it sends is refused with `ENODEV`.
///
/// ```
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
/// assert!(!shardgram_sys::interfaces::has_lost_interface(&socket));
/// ```
#[must_use]
pub fn has_lost_interface(socket: &UdpSocket) -> bool {
    name(socket).is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// A duplicate of a socket that is bound to an interface. It keeps the socket open, and its port taken.
///
/// ```
/// use shardgram_sys::interfaces::{Tie, Tied};
/// # fn main() -> std::io::Result<()> {
/// let free = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert!(Tied::of(&free, false)?.is_none());
/// if let Some(mut tied) = Tied::of(&free, false)? && tied.look()? == Tie::Broken {
///     println!("{} is not there: nothing comes by the socket", tied.interface());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tied {
    socket: UdpSocket,
    /// Or which it serves since.
    interface: BoundTo,
    port_given: bool,
}

/// How a socket and its interface stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// The interface is there.
    Holds,
    /// It is not: nothing comes by the socket.
    Broken,
    /// It was made anew, and the socket serves it. Nothing came by the socket in between.
    Mended,
}

impl Tied {
    /// The same socket, if it is bound to an interface. Takes a descriptor then. `port_given`: whether it was bound to a port
    /// that was named, and not to 0.
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)` and `dup(2)`: `ENODEV` if the interface has gone since the bind, `EMFILE`.
    pub fn of(socket: &UdpSocket, port_given: bool) -> io::Result<Option<Self>> {
        let Some(interface) = BoundTo::of(socket)? else { return Ok(None) };
        Ok(Some(Self { socket: socket.try_clone()?, interface, port_given }))
    }

    /// The name of the interface, such as `eth0`.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface.name
    }

    /// Looks whether the interface is there, in the network namespace of the calling thread, and has the socket serve the
    /// one that has its name if it is not.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`. [`io::ErrorKind::Unsupported`] if the port was chosen by the system, which would take it
    /// back (`__udp_disconnect` in the kernel's `net/ipv4/udp.c`). [`io::ErrorKind::AlreadyExists`] if a socket hook has attached a filter: one socket has
    /// one filter. The socket stays as it was.
    pub fn look(&mut self) -> io::Result<Tie> {
        if name(&self.socket).is_ok_and(|name| name.is_some()) {
            return Ok(Tie::Holds);
        }
        let Some(index) = sockopt::interface_index(&self.interface.name) else { return Ok(Tie::Broken) };
        if index == self.interface.index {
            return Ok(Tie::Holds);
        }
        self.serve(index)?;
        self.interface.index = index;
        Ok(Tie::Mended)
    }

    fn serve(&self, index: u32) -> io::Result<()> {
        let (fd, local) = (self.socket.as_fd(), self.socket.local_addr()?);
        let is_bound = bound_interface(&self.socket) != 0;
        if !self.port_given {
            let why = "its port was chosen by the system (port 0)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        if is_bound && sockopt::filter_len(fd)? > 0 {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the socket hook has attached a filter",
            ));
        }
        let link_local = matches!(local.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        // Before the interface is taken from it, so that nothing comes by another.
        SockRef::from(&self.socket).attach_filter(&only_by(index, link_local))?;
        if is_bound {
            sockopt::dissolve(fd)?;
        }
        // In network byte order. Refused as long as the socket is bound to another.
        let (level, name) = match local {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_UNICAST_IF),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_UNICAST_IF),
        };
        sockopt::set_int(fd, level, name, index.cast_signed().to_be())
    }
}

/// Takes what comes by one interface. What this host sends to its own link-local address is the interface's too, but comes
/// by loopback.
fn only_by(index: u32, or_loopback: bool) -> [SockFilter; 5] {
    let op = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    // Documentation/networking/filter.rst: "ifidx: skb->dev->ifindex".
    let interface = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
    let other = if or_loopback { LOOPBACK } else { index };
    [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, interface),
        op(equals, 1, 0, index),
        op(equals, 0, 1, other),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// The index of the interface that a socket is bound to; 0 if it is bound to none (SO_BINDTOIFINDEX, Linux 5.0, before which
/// none is known).
///
/// ```
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
/// assert_eq!(shardgram_sys::interfaces::bound_interface(&socket), 0);
/// ```
#[must_use]
pub fn bound_interface(socket: &UdpSocket) -> u32 {
    sockopt::get_words::<1>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)
        .map_or(0, |[index]| index)
}

/// The interface that a socket is bound to; `ENODEV` if it has gone (SO_BINDTODEVICE, readable since Linux 3.8).
fn name(socket: &UdpSocket) -> io::Result<Option<String>> {
    let name = SockRef::from(socket).device()?;
    Ok(name.map(|name| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()))
}
