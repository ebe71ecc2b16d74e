//! One port, one socket per shard, and the proof that nobody else has the port.

#[cfg(target_os = "linux")]
#[path = "listener_group/linux.rs"]
mod platform;
#[cfg(target_os = "freebsd")]
#[path = "listener_group/freebsd.rs"]
mod platform;
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
#[path = "listener_group/other.rs"]
mod platform;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::Socket;

use crate::interfaces::is_broadcast;
use crate::{BindError, BufferWarning, SocketOptions};

/// How often a group on port 0 is tried when somebody takes the port between two binds.
const PORT_ZERO_ATTEMPTS: u32 = 4;

/// Who decides which listener gets a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steering {
    /// A program computes [`flow_shard`](crate::flow_shard): datagrams arrive on the shard that
    /// owns them.
    FlowHash,
    /// The kernel chooses as it likes, so datagrams must be passed on to the shard that owns
    /// them.
    Kernel {
        /// Why there is no program.
        reason: String,
    },
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlowHash => f.write_str("flow hash"),
            Self::Kernel { reason } => write!(f, "kernel ({reason})"),
        }
    }
}

/// The listeners of one local address and port, one socket per shard.
///
/// On Linux the sockets share the port through `SO_REUSEPORT` and a steering program divides the
/// flows. The group owns the port: another process that holds it, even one of the same user with
/// `SO_REUSEPORT` set, makes the bind fail instead of sharing in the traffic unseen. A socket of
/// the same user that joins later gets nothing, as long as the program is there.
///
/// `0.0.0.0` and `[::]` on one port are two groups, since IPv6 sockets are IPv6 only. Keep every
/// socket open as long as any other serves: closing one moves the last member to its index.
///
/// ```
/// use shardgram_sys::{ListenerGroup, SocketOptions};
///
/// let mut group = ListenerGroup::bind("127.0.0.1:0".parse().unwrap(), 2, &SocketOptions::default())?;
/// assert_ne!(group.local_addr().port(), 0);
/// let sockets = group.take_sockets();
/// # #[cfg(target_os = "linux")]
/// assert_eq!(sockets.len(), 2);
/// # Ok::<(), shardgram_sys::BindError>(())
/// ```
#[derive(Debug)]
pub struct ListenerGroup {
    local_addr: SocketAddr,
    shards: u16,
    sockets: Vec<UdpSocket>,
    warnings: Vec<BufferWarning>,
    steering: Steering,
}

/// What a platform hands back: its sockets in shard order.
struct Members {
    local_addr: SocketAddr,
    sockets: Vec<Socket>,
    warnings: Vec<BufferWarning>,
    steering: Steering,
}

impl ListenerGroup {
    /// Binds `shards` sockets to `address`, all to one port, of which nobody else has any part.
    ///
    /// Port 0 takes any free port, the same for all. Packet info is on for a wildcard address.
    /// Sockets are blocking.
    ///
    /// On FreeBSD the kernel divides the flows; on other systems there is one socket, whose
    /// receiver passes datagrams on.
    ///
    /// # Errors
    ///
    /// Every [`BindError`] but [`BindError::FamilyMismatch`]. Nothing stays bound then.
    pub fn bind(address: SocketAddr, shards: u16, options: &SocketOptions) -> Result<Self, BindError> {
        check(address, shards)?;
        if matches!(address.ip(), IpAddr::V4(v4) if is_broadcast(v4)) {
            return Err(BindError::NotUnicast { address: address.ip() });
        }
        let options = for_address(address, options);
        let attempts = if address.port() == 0 { PORT_ZERO_ATTEMPTS } else { 1 };
        let mut members = platform::bind(address, shards, &options);
        for _ in 1..attempts {
            let Err(BindError::AddressInUse { .. }) = members else { break };
            members = platform::bind(address, shards, &options);
        }
        Ok(Self::from_members(members?, shards))
    }

    /// Binds a further group to the port of this one, on the specific address `ip` of the same
    /// family. Of the two the kernel prefers the specific one.
    ///
    /// This group must be the wildcard's and its sockets still open: it is what proves that the
    /// port is ours. A socket of the same user that joined the port since is not noticed.
    /// `scope` is the interface index of a link-local address, and 0 for others.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind), and [`BindError::FamilyMismatch`].
    pub fn bind_beside(&self, ip: IpAddr, scope: u32, options: &SocketOptions) -> Result<Self, BindError> {
        if matches!(ip, IpAddr::V4(v4) if is_broadcast(v4)) {
            return Err(BindError::NotUnicast { address: ip });
        }
        self.bind_beside_unchecked(ip, scope, options)
    }

    /// As [`bind_beside`](Self::bind_beside), but `ip` is taken not to be the broadcast address of a network
    /// this host is in: for callers that bind many and have
    /// [`broadcast_addresses`](crate::interfaces::broadcast_addresses) before them.
    ///
    /// # Errors
    ///
    /// As for [`bind_beside`](Self::bind_beside).
    pub fn bind_beside_unchecked(
        &self,
        ip: IpAddr,
        scope: u32,
        options: &SocketOptions,
    ) -> Result<Self, BindError> {
        let mut address = SocketAddr::new(ip, self.local_addr.port());
        if let SocketAddr::V6(v6) = &mut address {
            v6.set_scope_id(scope);
        }
        if address.is_ipv6() != self.local_addr.is_ipv6() {
            return Err(BindError::FamilyMismatch { bind: address, peer: self.local_addr });
        }
        check(address, self.shards)?;
        let members = platform::bind_beside(address, self.shards, &for_address(address, options))?;
        Ok(Self::from_members(members, self.shards))
    }

    fn from_members(members: Members, shards: u16) -> Self {
        let Members { local_addr, sockets, warnings, steering } = members;
        let sockets = sockets.into_iter().map(UdpSocket::from).collect();
        Self { local_addr, shards, sockets, warnings, steering }
    }

    /// The address and port that all sockets have.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many shards the group was bound for.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Whether the group takes datagrams to any address, so that each one has to be asked where
    /// it was sent to.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.local_addr.ip().is_unspecified()
    }

    /// Hands the sockets over, the index being the shard; empty when called again.
    pub fn take_sockets(&mut self) -> Vec<UdpSocket> {
        std::mem::take(&mut self.sockets)
    }

    /// Buffers that are smaller than was asked for. The first socket speaks for all.
    #[must_use]
    pub fn warnings(&self) -> &[BufferWarning] {
        &self.warnings
    }

    /// Who decides which listener gets a datagram.
    #[must_use]
    pub fn steering(&self) -> &Steering {
        &self.steering
    }
}

/// Packet info is needed where the socket's own address does not say where a datagram went.
fn for_address(address: SocketAddr, options: &SocketOptions) -> SocketOptions {
    SocketOptions { packet_info: options.packet_info || address.ip().is_unspecified(), ..options.clone() }
}

/// Refuses what the system would take or refuse in a way that does not help.
fn check(address: SocketAddr, shards: u16) -> Result<(), BindError> {
    if shards == 0 {
        return Err(BindError::NoShards);
    }
    match address {
        SocketAddr::V4(v4) => {
            let (ip, address) = (*v4.ip(), address.ip());
            if ip.is_multicast() || ip.is_broadcast() {
                return Err(BindError::NotUnicast { address });
            }
        }
        SocketAddr::V6(v6) => {
            let (ip, address): (Ipv6Addr, _) = (*v6.ip(), address.ip());
            if ip.is_multicast() {
                return Err(BindError::NotUnicast { address });
            }
            if ip.to_ipv4_mapped().is_some() {
                return Err(BindError::MappedAddress { address });
            }
            if ip.is_unicast_link_local() && v6.scope_id() == 0 {
                return Err(BindError::ScopeMissing { address });
            }
        }
    }
    Ok(())
}
