//! Options of one socket, and endpoints for clients.
//!
//! Sockets stay **blocking**: io_uring waits inside the kernel and leaks `EAGAIN` on sockets
//! that do not block. A driver that polls switches its sockets itself.

#[cfg(target_os = "linux")]
#[path = "socket/linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "socket/other.rs"]
mod platform;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use shardgram_core::{Endpoint, Interface, PathMtu, Settings};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{BindError, multicast, winsock};

pub use platform::{
    drop_count, keeping_options, set_packet_info, set_path_mtu, set_receive_ecn, set_receive_timestamps,
    set_receive_trains, stand_in,
};
#[cfg(target_os = "linux")]
pub(crate) use platform::{set_receive_buffer_unread, set_send_buffer_unread};
#[cfg(target_os = "linux")]
pub use platform::{set_traffic_class, traffic_class};

/// Called with every socket and the address it is about to be bound to, after its options are
/// set and before the bind: the place for marks, DSCP, a device, `IP_FREEBIND`.
///
/// It must not bind or connect the socket, and reuse options it sets are set back.
///
/// The socket of a connected peer is seen too, with the local address it is for. It may be an IPv6
/// socket although that address is IPv4, because it is turned into an IPv4 socket later: options of
/// `ip(7)` (`IP_TOS`, `IP_TTL`, `IP_FREEBIND`) take effect on it all the same and stay, those of
/// `ipv6(7)` do not stay. So choose options by the family of the address, not of the socket.
pub type SocketHook = Arc<dyn Fn(&Socket, SocketAddr) -> io::Result<()> + Send + Sync>;

/// What every socket is opened with. What a configuration says of it has the names of its setters; [`SocketOptions::of`]
/// takes it over.
///
/// ```
/// use std::sync::Arc;
/// use shardgram_core::Config;
/// use shardgram_sys::SocketOptions;
///
/// let options = SocketOptions {
///     hook: Some(Arc::new(|socket, _address| socket.set_tos_v4(0xb8))),
///     ..SocketOptions::of(Config::new().ecn(true).settings())
/// };
/// assert!(options.ecn && !options.packet_info);
/// ```
#[derive(Clone)]
pub struct SocketOptions {
    /// Receive buffer in bytes of payload and kernel overhead (`SO_RCVBUF`); 0, the default,
    /// leaves the system's. A small datagram takes about 400 bytes of it.
    pub receive_buffer: usize,
    /// Send buffer in bytes (`SO_SNDBUF`); 0, the default, leaves the system's.
    pub send_buffer: usize,
    /// Whether datagrams come with the address they were sent to. Off by default; a listener
    /// group turns it on for a wildcard address whatever this says.
    pub packet_info: bool,
    /// Whether trains are received merged (`UDP_GRO`, Linux 5.0). Off by default; elsewhere
    /// ignored. The receiver must then read the segment size and offer buffers of 68 KiB.
    ///
    /// It is an option here because it has to be set before the bind: the kernel decides to merge
    /// before a steering program runs, by whichever member of the group it finds.
    pub receive_trains: bool,
    /// Whether datagrams come with their congestion bits (`IP_RECVTOS` in `ip(7)`, `IPV6_RECVTCLASS` in
    /// `ipv6(7)`). Off by default; on systems other than Linux quinn-udp turns it on whatever this says.
    pub ecn: bool,
    /// Whether datagrams come with the time at which the kernel received them (`SO_TIMESTAMPNS` in
    /// `socket(7)`). Off by default. While any socket has it the kernel reads its clock for each packet the
    /// host receives. Linux.
    pub receive_timestamps: bool,
    /// What becomes of datagrams longer than the path's MTU. Not touched by default. Linux.
    pub path_mtu: PathMtu,
    /// Routers on the way of a datagram to a group, and one (`IP_MULTICAST_TTL` in ip(7), `IPV6_MULTICAST_HOPS` in
    /// ipv6(7)). Default 1, as the system has it.
    pub multicast_hops: u8,
    /// Whether this host hears what it sends to a group (`IP_MULTICAST_LOOP`, `IPV6_MULTICAST_LOOP`). Default true, as
    /// the system has it. On Windows it cannot be turned off: there that is for the socket to say that receives.
    pub multicast_loop: bool,
    /// By which interface datagrams to groups leave (`IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`). Looked up whenever a
    /// socket is opened. Default: that of the route.
    pub multicast_interface: Option<Interface>,
    /// Whether broadcasts may be sent (`SO_BROADCAST` in socket(7)). Default false, as the system has it.
    pub broadcast: bool,
    /// Called before each bind; none by default.
    pub hook: Option<SocketHook>,
}

impl SocketOptions {
    /// What a configuration says of sockets. Off is what it does not decide alone: packet info, trains, the hook.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// use shardgram_sys::SocketOptions;
    /// let options = SocketOptions::of(Config::new().broadcast(true).settings());
    /// assert!(options.broadcast && options.multicast_loop);
    /// ```
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            receive_buffer: settings.receive_socket_bytes as usize,
            send_buffer: settings.send_socket_bytes as usize,
            packet_info: false,
            receive_trains: false,
            ecn: settings.ecn,
            receive_timestamps: settings.receive_timestamps,
            path_mtu: settings.path_mtu,
            multicast_hops: settings.multicast_hops,
            multicast_loop: settings.multicast_loop,
            multicast_interface: settings.multicast_interface,
            broadcast: settings.broadcast,
            hook: None,
        }
    }
}

/// The defaults of a configuration, with buffers as the system makes them.
impl Default for SocketOptions {
    fn default() -> Self {
        Self { receive_buffer: 0, send_buffer: 0, ..Self::of(&Settings::default()) }
    }
}

impl fmt::Debug for SocketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOptions")
            .field("receive_buffer", &self.receive_buffer)
            .field("send_buffer", &self.send_buffer)
            .field("packet_info", &self.packet_info)
            .field("receive_trains", &self.receive_trains)
            .field("ecn", &self.ecn)
            .field("receive_timestamps", &self.receive_timestamps)
            .field("path_mtu", &self.path_mtu)
            .field("multicast_hops", &self.multicast_hops)
            .field("multicast_loop", &self.multicast_loop)
            .field("multicast_interface", &self.multicast_interface)
            .field("broadcast", &self.broadcast)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

/// The system granted a smaller buffer than was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferWarning {
    /// Which buffer: `"receive"` or `"send"`.
    pub socket: &'static str,
    /// Bytes that were asked for.
    pub asked: usize,
    /// Bytes that were granted, in the same measure (Linux reports twice that, see `socket(7)`).
    pub granted: usize,
    /// The setting that caps it, such as `net.core.rmem_max`.
    pub sysctl: &'static str,
}

impl fmt::Display for BufferWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, asked, granted, sysctl } = self;
        write!(
            f,
            "asked for a {socket} buffer of {asked} bytes and got {granted}; raise the cap with \
             `sysctl -w {sysctl}={asked}` or give the process CAP_NET_ADMIN"
        )
    }
}

impl std::error::Error for BufferWarning {}

/// Opens an unbound socket for `address` with `options`, the hook included, and notes in
/// `warnings` what was not granted in full.
pub(crate) fn open(
    address: SocketAddr,
    options: &SocketOptions,
    warnings: &mut Vec<BufferWarning>,
) -> Result<Socket, BindError> {
    // socket(2). socket2 adds SOCK_CLOEXEC, so no child process keeps the port.
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| BindError::from_create(address, source))?;
    configure(&socket, address, options, warnings)?;
    Ok(socket)
}

/// Sets `options` on `socket`, which is not bound yet, then calls the hook with `address`. Those of
/// connected peers are set in `accept.rs`, in fewer calls.
fn configure(
    socket: &Socket,
    address: SocketAddr,
    options: &SocketOptions,
    warnings: &mut Vec<BufferWarning>,
) -> Result<(), BindError> {
    let option = |operation| move |source| BindError::from_option(operation, address, source);
    if address.is_ipv6() {
        // ipv6(7), IPV6_V6ONLY, RFC 3493 section 5.3. A dual-stack socket has no packet info for
        // IPv4 on Windows, and OpenBSD does not have dual-stack sockets at all.
        socket.set_only_v6(true).map_err(option("set IPV6_V6ONLY"))?;
    }
    winsock::ignore_icmp_errors(socket);
    if options.receive_buffer != 0 {
        let granted = platform::set_receive_buffer(socket, options.receive_buffer)
            .map_err(option("set the receive buffer"))?;
        warn_if_less("receive", options.receive_buffer, granted, platform::RECEIVE_BUFFER_CAP, warnings);
    }
    if options.send_buffer != 0 {
        let granted =
            platform::set_send_buffer(socket, options.send_buffer).map_err(option("set the send buffer"))?;
        warn_if_less("send", options.send_buffer, granted, platform::SEND_BUFFER_CAP, warnings);
    }
    if options.packet_info {
        set_packet_info(socket, address.is_ipv6()).map_err(option("turn packet info on"))?;
    }
    if options.receive_trains {
        set_receive_trains(socket, true).map_err(option("turn UDP_GRO on"))?;
    }
    set_marks_times_and_mtu(socket, address, options)?;
    if address.ip().is_unspecified() {
        multicast::hear_own_groups_only(socket, address.is_ipv6());
    }
    if options.broadcast {
        socket.set_broadcast(true).map_err(option("set SO_BROADCAST"))?;
    }
    let SocketOptions { multicast_hops, multicast_loop, multicast_interface, .. } = *options;
    multicast::set_sending(socket, address, multicast_hops, multicast_loop, multicast_interface)?;
    match &options.hook {
        Some(hook) => hook(socket, address).map_err(|source| BindError::Hook { address, source }),
        None => Ok(()),
    }
}

/// Sets what listeners, endpoints and peers' own sockets have in the same way; no call for what is off. The
/// family of `address` decides, so that an IPv6 socket that becomes an IPv4 one gets what stays.
pub(crate) fn set_marks_times_and_mtu(
    socket: &Socket,
    address: SocketAddr,
    options: &SocketOptions,
) -> Result<(), BindError> {
    let option = |operation| move |source| BindError::from_option(operation, address, source);
    if options.ecn {
        set_receive_ecn(socket, address.is_ipv6(), true).map_err(option("have congestion bits reported"))?;
    }
    if options.receive_timestamps {
        set_receive_timestamps(socket, true).map_err(option("set SO_TIMESTAMPNS"))?;
    }
    set_path_mtu(socket, address.is_ipv6(), options.path_mtu).map_err(option("set the path MTU mode"))
}

fn warn_if_less(
    socket: &'static str,
    asked: usize,
    granted: usize,
    sysctl: &'static str,
    warnings: &mut Vec<BufferWarning>,
) {
    if granted < asked {
        warnings.push(BufferWarning { socket, asked, granted, sysctl });
    }
}

/// Binds `socket` to `address`.
pub(crate) fn bind(socket: &Socket, address: SocketAddr) -> Result<(), BindError> {
    socket.bind(&address.into()).map_err(|source| BindError::from_bind(address, source))
}

/// The address `socket` is bound to, `asked` being the one it was to have.
pub(crate) fn bound_address(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, BindError> {
    let read = socket.local_addr().and_then(|name| {
        name.as_socket().ok_or_else(|| io::Error::other("the socket's name is not an internet address"))
    });
    read.map_err(|source| BindError::System {
        operation: "read the bound address",
        address: asked,
        manual: "getsockname(2)",
        source,
    })
}

/// Opens the unconnected socket of an endpoint, as it asks for. A buffer smaller than asked for is
/// logged.
///
/// ```
/// use shardgram_core::Endpoint;
/// use shardgram_sys::{SocketOptions, socket};
///
/// let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap());
/// let socket = socket::open_endpoint(&endpoint, &SocketOptions::default()).unwrap();
/// assert!(socket.local_addr().unwrap().ip().is_loopback());
/// ```
///
/// # Errors
///
/// Any [`BindError`] that is not about groups.
pub fn open_endpoint(endpoint: &Endpoint, options: &SocketOptions) -> Result<UdpSocket, BindError> {
    let address = endpoint.bind_address();
    let mut warnings = Vec::new();
    let socket = open(address, options, &mut warnings)?;
    if let Some(interface) = endpoint.interface() {
        // After the hook, which may have bound it to another and is overruled by what was asked for here.
        platform::bind_to_interface(&socket, address.is_ipv6(), interface)
            .map_err(|source| BindError::from_interface(address, interface, source))?;
    }
    bind(&socket, address)?;
    for warning in warnings {
        tracing::warn!(%address, "{warning}");
    }
    Ok(socket.into())
}

/// Opens an unconnected socket for a client that talks to `peer` and others of its family.
///
/// Bound to `bind`, or to any address and port: then routing picks the source per send, which
/// survives a change of network. A buffer smaller than asked for is logged.
///
/// ```
/// use shardgram_sys::{SocketOptions, socket};
///
/// let peer = "127.0.0.1:53".parse().unwrap();
/// let client = socket::endpoint(None, peer, &SocketOptions::default()).unwrap();
/// assert_ne!(client.local_addr().unwrap().port(), 0);
/// ```
///
/// # Errors
///
/// Any [`BindError`] that is not about groups.
pub fn endpoint(
    bind_to: Option<SocketAddr>,
    peer: SocketAddr,
    options: &SocketOptions,
) -> Result<UdpSocket, BindError> {
    let address = match (bind_to, peer) {
        (Some(bind), _) if bind.is_ipv6() != peer.is_ipv6() => {
            return Err(BindError::FamilyMismatch { bind, peer });
        }
        (Some(bind), _) => bind,
        (None, SocketAddr::V4(_)) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        (None, SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    open_endpoint(&Endpoint::bound(address), options)
}
