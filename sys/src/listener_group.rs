//! One port, one socket per shard or one for all, and the proof that nobody else has the port.

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
use std::thread;
use std::time::{Duration, Instant};

use shardgram_core::Receivers;
use socket2::Socket;

use crate::bind_error::not_available;
use crate::interfaces::is_broadcast;
use crate::plan::{ListeningPlan, Os, Role, Sharing, Step};
use crate::socket::{bind as bind_socket, bound_address, open};
use crate::{BindError, BufferWarning, SocketOptions, port_holder, winsock};

/// How often a group on port 0 is tried when somebody takes the port between two binds.
const PORT_ZERO_ATTEMPTS: u32 = 4;

/// How often a port is tried again that nobody is seen to have.
const RELEASE_POLL: Duration = Duration::from_millis(2);

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
    /// One shard receives, and passes on to the others what they own.
    OneReceiver,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlowHash => f.write_str("flow hash"),
            Self::Kernel { reason } => write!(f, "kernel ({reason})"),
            Self::OneReceiver => f.write_str("one receiver"),
        }
    }
}

/// The listeners of one local address and port: one socket per shard, or one for all of them.
///
/// Which sockets are opened, and how, is a [`ListeningPlan`]; this carries it out. On Linux the sockets share the port through `SO_REUSEPORT` and a steering program divides the
/// flows. The group owns the port: another process that holds it, even one of the same user with
/// `SO_REUSEPORT` set, makes the bind fail instead of sharing in the traffic unseen. A socket of
/// the same user that joins later gets nothing, as long as the program is there, which it may take away.
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

/// Who chooses as long as no program was attached.
fn chosen_by(plan: &ListeningPlan) -> Steering {
    match plan.sharing {
        Sharing::PerShard => Steering::Kernel { reason: plan.chooses.to_owned() },
        Sharing::OneReceiver => Steering::OneReceiver,
    }
}

impl ListenerGroup {
    /// Binds `shards` sockets to `address`, all to one port, of which nobody else has any part; one socket where the
    /// system does not divide what comes to a port.
    ///
    /// Port 0 takes any free port, the same for all. Packet info is on for a wildcard address.
    /// Sockets are blocking.
    ///
    /// On Linux it waits up to 3 s for a port that is taken though no process is seen to have it: the rings
    /// (io_uring) of a process that has just ended keep theirs for some 60 ms.
    ///
    /// # Errors
    ///
    /// Every [`BindError`] but [`BindError::FamilyMismatch`]. Nothing stays bound then.
    pub fn bind(address: SocketAddr, shards: u16, options: &SocketOptions) -> Result<Self, BindError> {
        let by_default = Os::HERE.sharing(Receivers::Auto, shards).unwrap_or(Sharing::OneReceiver);
        Self::bind_shared(address, shards, by_default, options)
    }

    /// As [`bind`](Self::bind), for every shard or for one as was decided ([`Os::sharing`]).
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind).
    pub fn bind_shared(
        address: SocketAddr,
        shards: u16,
        sharing: Sharing,
        options: &SocketOptions,
    ) -> Result<Self, BindError> {
        check(address, shards)?;
        if matches!(address.ip(), IpAddr::V4(v4) if is_broadcast(v4)) {
            return Err(BindError::NotUnicast { address: address.ip() });
        }
        let plan = ListeningPlan::fresh(Os::HERE, shards, sharing);
        let any_port = address.port() == 0;
        let (attempts, patience) =
            if any_port { (PORT_ZERO_ATTEMPTS, Duration::ZERO) } else { (1, port_holder::RELEASE) };
        let mut group = Self::carry_out(&plan, address, shards, options, patience);
        for _ in 1..attempts {
            let Err(BindError::AddressInUse { .. }) = group else { break };
            group = Self::carry_out(&plan, address, shards, options, patience);
        }
        group.map_err(|error| match error {
            BindError::AddressNotAvailable { address } => not_available(address),
            error => error,
        })
    }

    /// Binds a further group to the port of this one, on the specific address `ip` of the same
    /// family. Of the two the kernel prefers the specific one.
    ///
    /// This group must be the wildcard's and its sockets still open: it is what proves that the
    /// port is ours. A socket of the same user that joined the port since is not noticed here
    /// (`bound_sockets` lists such).
    /// `scope` is the interface index of a link-local address, and 0 for others.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind), [`BindError::FamilyMismatch`], and [`BindError::NotBeside`] on systems that do not
    /// prefer the specific one.
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
        let plan = ListeningPlan::beside(Os::HERE, self.shards)
            .map_err(|because| BindError::NotBeside { address, because })?;
        Self::carry_out(&plan, address, self.shards, options, Duration::ZERO)
    }

    /// Opens the sockets of a plan, in its order. So long a port is waited for that nobody is seen to have.
    fn carry_out(
        plan: &ListeningPlan,
        address: SocketAddr,
        shards: u16,
        options: &SocketOptions,
        patience: Duration,
    ) -> Result<Self, BindError> {
        let options = for_address(address, options);
        let mut group = Self {
            local_addr: address,
            shards,
            sockets: Vec::new(),
            warnings: Vec::new(),
            steering: chosen_by(plan),
        };
        for (number, wanted) in plan.sockets.iter().enumerate() {
            if wanted.role == Role::Founder && group.steering == Steering::FlowHash {
                continue;
            }
            // All are opened alike, so the first one's warnings speak for the rest.
            let mut warnings = Vec::new();
            let socket = open(group.local_addr, &options, &mut warnings)?;
            for step in wanted.steps {
                group.take_step(*step, &socket, patience)?;
            }
            if number == 0 {
                group.warnings = warnings;
            }
            if wanted.role == Role::Listener {
                group.sockets.push(socket.into());
            }
        }
        Ok(group)
    }

    fn take_step(&mut self, step: Step, socket: &Socket, patience: Duration) -> Result<(), BindError> {
        let address = self.local_addr;
        let option = |operation| move |source| BindError::from_option(operation, address, source);
        match step {
            Step::Bind => {
                bind_when_free(socket, address, patience)?;
                self.local_addr = bound_address(socket, address)?;
                Ok(())
            }
            Step::Steer => {
                // A refused program is no error: the kernel's own hash divides the flows, and user space passes
                // datagrams on.
                self.steering = match platform::steer(socket, address.is_ipv6(), self.shards) {
                    Ok(()) => Steering::FlowHash,
                    Err(error) => {
                        Steering::Kernel { reason: format!("the steering program was refused: {error}") }
                    }
                };
                Ok(())
            }
            // socket(7), ip(7): taken back in case the hook set it.
            Step::NoReuseAddress => socket.set_reuse_address(false).map_err(option("clear SO_REUSEADDR")),
            Step::ReusePort(on) => platform::set_reuse_port(socket, on).map_err(option("set SO_REUSEPORT")),
            Step::ReusePortBalanced => {
                platform::set_reuse_port_balanced(socket).map_err(option("set SO_REUSEPORT_LB"))
            }
            Step::ExclusiveUse => winsock::set_exclusive(socket).map_err(option("set SO_EXCLUSIVEADDRUSE")),
        }
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

    /// Hands the sockets over; empty when called again. The index is the shard, unless there is one for all.
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

    /// Whether each shard's socket gets the flows that the shard owns: by a program, or because there is one shard.
    #[must_use]
    pub fn is_steered(&self) -> bool {
        self.steering == Steering::FlowHash || self.shards == 1
    }
}

/// Refuses addresses of which one is the wildcard that takes what is sent to another. Some systems refuse the two beside
/// each other ([`Os::beside_wildcard`]), some give all to the one that was bound first, and what the specific one would
/// be for is there with the wildcard alone.
///
/// # Errors
///
/// [`BindError::Covered`] names the first such pair.
///
/// ```
/// use shardgram_sys::{BindError, listener_group};
/// let both = ["0.0.0.0:53", "192.0.2.1:53"].map(|text| text.parse().unwrap());
/// assert!(matches!(listener_group::check_overlap(&both), Err(BindError::Covered { .. })));
/// ```
pub fn check_overlap(addresses: &[SocketAddr]) -> Result<(), BindError> {
    let specific = addresses.iter().filter(|address| !address.ip().is_unspecified() && address.port() != 0);
    for &address in specific {
        let covers = |wildcard: &&SocketAddr| {
            let same_family = wildcard.is_ipv4() == address.is_ipv4();
            wildcard.ip().is_unspecified() && same_family && wildcard.port() == address.port()
        };
        if let Some(&wildcard) = addresses.iter().find(covers) {
            return Err(BindError::Covered { address, wildcard });
        }
    }
    Ok(())
}

/// Binds, and waits so long for a port that is in use though nobody is seen to have it.
fn bind_when_free(socket: &Socket, address: SocketAddr, patience: Duration) -> Result<(), BindError> {
    let in_use = |result: &Result<_, _>| matches!(result, Err(BindError::AddressInUse { .. }));
    let mut result = bind_socket(socket, address);
    if patience.is_zero() || !in_use(&result) {
        return result;
    }
    let end = Instant::now() + patience;
    let mut holder = port_holder::of(address);
    if holder.as_ref().is_none_or(|holder| holder.process.is_none()) {
        while in_use(&result) && Instant::now() < end {
            thread::sleep(RELEASE_POLL);
            result = bind_socket(socket, address);
        }
        if in_use(&result) {
            // It may be somebody else's by now, or nobody's.
            holder = port_holder::of(address);
            if holder.is_none() {
                result = bind_socket(socket, address);
            }
        }
    }
    result.map_err(|error| match error {
        BindError::AddressInUse { address, .. } => BindError::AddressInUse { address, holder },
        error => error,
    })
}

/// Packet info is needed where the socket's own address does not say where a datagram went.
fn for_address(address: SocketAddr, options: &SocketOptions) -> SocketOptions {
    let needed = Os::HERE.needs_packet_info(address.ip());
    SocketOptions { packet_info: options.packet_info || needed, ..options.clone() }
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
            match (ip.is_unicast_link_local(), v6.scope_id()) {
                (true, 0) => return Err(BindError::ScopeMissing { address }),
                (false, 1..) => return Err(BindError::ScopeWithoutUse { address: v6.into() }),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_under_a_wildcard_is_not_listened_on_beside_it() {
        let check = |all: [&str; 2]| check_overlap(&all.map(|text| text.parse().expect(text)));
        for all in [["0.0.0.0:9", "192.0.2.1:9"], ["192.0.2.1:9", "0.0.0.0:9"], ["[::]:9", "[::1]:9"]] {
            assert!(matches!(check(all), Err(BindError::Covered { .. })), "{all:?}");
        }
        for all in [["0.0.0.0:9", "192.0.2.1:8"], ["[::]:9", "192.0.2.1:9"], ["0.0.0.0:0", "192.0.2.1:0"]] {
            assert!(check(all).is_ok(), "{all:?}");
        }
    }
}
