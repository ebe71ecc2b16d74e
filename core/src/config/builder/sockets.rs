//! Sockets: addresses listened on, endpoints, and what datagrams come and go with.

use std::net::SocketAddr;

use crate::config::Config;
use crate::types::path_mtu::PathMtu;
use crate::types::receivers::Receivers;

impl Config {
    /// One more address to listen on. Port 0 takes a free port, the same one on every shard; `0.0.0.0`
    /// and `[::]` take every address of the family (never both families at once). Default: none, range up to 65,535. Each costs a descriptor and its
    /// socket buffers per shard.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let config = Config::new().listen(([0, 0, 0, 0], 9000).into()).listen("[::]:9000".parse().unwrap());
    /// assert_eq!(config.settings().listen.len(), 2);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.listen.push(address);
        self
    }

    /// Which shards receive at an address that is listened on. Default [`Receivers::Auto`]: every shard where the
    /// system divides what comes to a port, one for each address where it does not. Another choice is refused when the
    /// server is bound if it cannot be had. With one receiver each datagram of another shard's peers is copied once and
    /// wakes that shard; up to 4,096 of them and 8 MiB wait for a shard, and further ones are dropped
    /// ([`crate::Snapshot::dropped_forward_full`]).
    #[must_use]
    pub fn receivers(mut self, receivers: Receivers) -> Self {
        self.settings.receivers = receivers;
        self
    }

    /// Addresses of this host that get listeners of their own for each wildcard address listened on, with
    /// io_uring: what is sent to them needs no source address per reply, and peers that write to them can
    /// get sockets of their own. Default 64, range 0 to 4,096; 0 turns that off. Further addresses are
    /// served by the wildcard's listeners; those of interfaces take the places of others, which have one because something was
    /// sent to them: of these the least used gives way. One of them for which much comes takes, at most once a second, the
    /// place of another by which nothing has come for 10 s or longer. Each costs a descriptor and its socket buffers per shard.
    #[must_use]
    pub fn max_local_addresses(mut self, max_local_addresses: u16) -> Self {
        self.settings.max_local_addresses = max_local_addresses;
        self
    }

    /// Endpoints (client sockets) per shard. Default 16,384, range 0 to 1,048,576. Each is a descriptor.
    #[must_use]
    pub fn max_endpoints(mut self, max_endpoints: u32) -> Self {
        self.settings.max_endpoints = max_endpoints;
        self
    }

    /// Kernel receive buffer of each socket, in bytes. Default 4 MiB, range 4 KiB to 1 GiB. The kernel
    /// may grant less; the server then warns and names the limit (net.core.rmem_max).
    #[must_use]
    pub fn receive_socket_bytes(mut self, receive_socket_bytes: u32) -> Self {
        self.settings.receive_socket_bytes = receive_socket_bytes;
        self
    }

    /// Kernel send buffer of each socket, in bytes. Default 4 MiB, range 4 KiB to 1 GiB. Linux refuses a datagram
    /// ([`crate::PeerError::NoBuffers`]) of which the fragments come to more than four times this, which they may
    /// where this is less than the longest datagram.
    #[must_use]
    pub fn send_socket_bytes(mut self, send_socket_bytes: u32) -> Self {
        self.settings.send_socket_bytes = send_socket_bytes;
        self
    }

    /// Whether datagrams leave and are received as trains (UDP_SEGMENT and UDP_GRO, udp(7)) where the system can:
    /// several of equal size to or from one peer pass through the kernel as one. Default true. What handlers see
    /// stays the same, unless they ask for trains ([`crate::Handler::WHOLE_TRAINS`]).
    #[must_use]
    pub fn trains(mut self, on: bool) -> Self {
        self.settings.trains = on;
        self
    }

    /// Whether received datagrams say how they are marked ([`crate::Meta::ecn`]; IP_RECVTOS in ip(7), IPV6_RECVTCLASS
    /// in ipv6(7)). Default false. It costs 24 bytes of control data that the kernel writes for each receive, and a
    /// system call for each socket. Marks are sent whatever this says ([`crate::Io::set_ecn`]). Refused when
    /// the server is bound where the system does not report them (IPv4 on OpenBSD and NetBSD).
    #[must_use]
    pub fn ecn(mut self, on: bool) -> Self {
        self.settings.ecn = on;
        self
    }

    /// Whether received datagrams say when the kernel received them ([`crate::Meta::kernel_time`]; SO_TIMESTAMPNS
    /// in socket(7)), in nanoseconds. Default false. It costs 32 bytes of control data that the kernel writes for each
    /// receive, and a system call for each socket; and as long as any socket of the host asks for it, the kernel reads
    /// its clock for every packet the host receives (`netstamp_needed_key` in net/core/dev.c). On Linux;
    /// elsewhere it is refused when the server is bound. The mio driver receives no trains where this and [`Config::ecn`] are both on.
    #[must_use]
    pub fn receive_timestamps(mut self, on: bool) -> Self {
        self.settings.receive_timestamps = on;
        self
    }

    /// What becomes of datagrams that are longer than their path's MTU (IP_MTU_DISCOVER in ip(7), IPV6_MTU_DISCOVER in
    /// ipv6(7)). Default [`PathMtu::System`]: they are fragmented. Any other costs a system call for each socket.
    /// Linux has all modes; elsewhere one that cannot be had is refused when the server is bound, and where the default
    /// cannot (macOS, FreeBSD, IPv6 on the other BSDs) the server warns. The socket hook is called later and has the last
    /// word.
    ///
    /// ```
    /// use shardgram_core::{Config, PathMtu};
    /// assert_eq!(Config::new().path_mtu(PathMtu::Probe).settings().path_mtu, PathMtu::Probe);
    /// ```
    #[must_use]
    pub fn path_mtu(mut self, mode: PathMtu) -> Self {
        self.settings.path_mtu = mode;
        self
    }
}
