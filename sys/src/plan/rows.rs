//! What holds for each system: one function for each fact, and beside each answer its reason.

use super::Os::{FreeBsd, Linux, MacOs, NetBsd, OpenBsd, Other, Windows};
use super::{Fact, Os, fact};

/// Who divides what comes to a port among the sockets of shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balancing {
    /// A program that is attached to the sockets: it names the shard that owns a flow.
    Program,
    /// The kernel, as it likes: shards forward what is another's.
    Kernel,
    /// Nobody: one shard receives and forwards.
    Nobody,
}

/// What becomes of a socket for one address beside one for every address of the same port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beside {
    /// It gets what is sent to its address.
    Preferred,
    /// The same, if it was bound before the one for every address.
    IfFirst,
    /// It cannot be bound.
    Refused,
}

/// What makes sure that nobody else has a part of the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exclusive {
    /// The first socket is bound without any option that lets ports be shared.
    PlainBind,
    /// An option of that name (`SO_EXCLUSIVEADDRUSE`) is set before the bind.
    Option,
}

/// The option that has each datagram come with the address it was sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketInfo {
    /// `IP_PKTINFO`: the address and the interface.
    IpPacketInfo,
    /// `IP_RECVDSTADDR`: the address.
    IpReceivedDestination,
    /// `IPV6_RECVPKTINFO` and `IPV6_PKTINFO`, RFC 3542: the address and the interface.
    Ipv6PacketInfo,
}

/// Listeners of one port.
impl Os {
    /// Who divides what comes to a port among several sockets.
    ///
    /// ```
    /// use shardgram_sys::plan::{Balancing, Os};
    /// assert_eq!(Os::FreeBsd.balancing().is, Balancing::Kernel);
    /// ```
    #[must_use]
    pub const fn balancing(self) -> Fact<Balancing> {
        match self {
            Linux => {
                fact(Balancing::Program, "a program on a SO_REUSEPORT group names the shard of each flow")
            }
            FreeBsd => fact(Balancing::Kernel, "SO_REUSEPORT_LB divides flows by a hash of the kernel's own"),
            OpenBsd | NetBsd => fact(Balancing::Nobody, "SO_REUSEPORT is for multicast and divides nothing"),
            MacOs => {
                fact(Balancing::Nobody, "SO_REUSEPORT does not balance: one of the sockets gets everything")
            }
            Windows => {
                fact(Balancing::Nobody, "of sockets that share a port the first created gets everything")
            }
            Other => fact(Balancing::Nobody, "the system is not known to divide what comes to a port"),
        }
    }

    /// What becomes of a socket for one address beside one for every address.
    ///
    /// ```
    /// use shardgram_sys::plan::{Beside, Os};
    /// assert_eq!(Os::OpenBsd.beside_wildcard().is, Beside::Refused);
    /// ```
    #[must_use]
    pub const fn beside_wildcard(self) -> Fact<Beside> {
        match self {
            Linux => fact(Beside::Preferred, "of two that share the port the specific one is preferred"),
            Windows => fact(
                Beside::IfFirst,
                "specific sockets rank above the wildcard's, and among equals the first created wins",
            ),
            FreeBsd | OpenBsd | NetBsd | MacOs => fact(
                Beside::Refused,
                "the port of a wildcard socket is in use for every address, unless both share it",
            ),
            Other => fact(Beside::Refused, "the system is not known to tell the two apart"),
        }
    }

    /// What keeps others off the port.
    ///
    /// ```
    /// use shardgram_sys::plan::{Exclusive, Os};
    /// assert_eq!(Os::Windows.exclusive().is, Exclusive::Option);
    /// ```
    #[must_use]
    pub const fn exclusive(self) -> Fact<Exclusive> {
        match self {
            Linux => fact(
                Exclusive::PlainBind,
                "a bind without SO_REUSEPORT fails if anybody has the port; SO_REUSEADDR would let others steal",
            ),
            FreeBsd => fact(
                Exclusive::PlainBind,
                "a socket without SO_REUSEPORT_LB looks whether the port is free and makes way: the option cannot be \
                 added after the bind",
            ),
            OpenBsd | NetBsd | MacOs | Other => {
                fact(Exclusive::PlainBind, "a bind without any option fails if anybody has the port")
            }
            Windows => fact(
                Exclusive::Option,
                "a process that sets SO_REUSEADDR takes the port over unless SO_EXCLUSIVEADDRUSE is set",
            ),
        }
    }

    /// Whether IPv6 sockets are for IPv6 alone. Everywhere, each for its reason.
    ///
    /// ```
    /// assert!(shardgram_sys::plan::Os::ALL.iter().all(|os| os.ipv6_only().is));
    /// ```
    #[must_use]
    pub const fn ipv6_only(self) -> Fact<bool> {
        match self {
            OpenBsd => fact(true, "IPV6_V6ONLY is always on"),
            Windows => fact(true, "a socket of both families gives no packet info for IPv4"),
            _ => fact(true, "one rule for all: a socket of both families is not there on every system"),
        }
    }

    /// Whether a peer may have a socket of its own beside the listeners, and how, or why not.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Linux.connected_tier().is && !Os::MacOs.connected_tier().is);
    /// ```
    #[must_use]
    pub const fn connected_tier(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "a socket beside the listeners' port group, with io_uring"),
            FreeBsd | OpenBsd | NetBsd => fact(
                false,
                "a second socket cannot be bound to the very address of a listener, one bound to the wildcard has its \
                 local address chosen by route, and beside wildcard listeners alone there is none: one rule for all \
                 systems but Linux",
            ),
            MacOs => fact(
                false,
                "a second socket cannot be bound to the very address of a listener, and specific sockets lose their \
                 local address",
            ),
            Windows => fact(
                false,
                "incoming datagrams are matched by local address and port only, so connected sockets get nothing",
            ),
            Other => {
                fact(false, "the system is not known to give datagrams to connected sockets beside listeners")
            }
        }
    }
}

/// Addresses of datagrams.
impl Os {
    /// How the address a datagram was sent to is learned.
    ///
    /// ```
    /// use shardgram_sys::plan::{Os, PacketInfo};
    /// assert_eq!(Os::FreeBsd.packet_info(false).is, PacketInfo::IpReceivedDestination);
    /// ```
    #[must_use]
    pub const fn packet_info(self, ipv6: bool) -> Fact<PacketInfo> {
        if ipv6 {
            return fact(PacketInfo::Ipv6PacketInfo, "RFC 3542 section 6.2, the same everywhere");
        }
        match self {
            Linux | Windows | Other => fact(PacketInfo::IpPacketInfo, "ip(7); ws2ipdef.h"),
            FreeBsd | OpenBsd | NetBsd => fact(PacketInfo::IpReceivedDestination, "ip(4)"),
            MacOs => fact(
                PacketInfo::IpReceivedDestination,
                "there is IP_PKTINFO as well; quinn-udp asks for this one and reads both",
            ),
        }
    }

    /// Whether the packet info of a socket for one address may be believed. Nobody does, since the socket's own address
    /// says it all.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(!Os::MacOs.specific_packet_info().is);
    /// ```
    #[must_use]
    pub const fn specific_packet_info(self) -> Fact<bool> {
        match self {
            MacOs => fact(false, "recvmsg(2) on a specific IPv4 socket makes its local address the wildcard"),
            Other => fact(false, "the system is not known to tell it right"),
            _ => fact(true, "it says what the socket is bound to"),
        }
    }

    /// Whether control data says from which address an answer leaves (IPv4).
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Linux.source_selection().is);
    /// ```
    #[must_use]
    pub const fn source_selection(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "IP_PKTINFO, ipi_spec_dst, ip(7)"),
            Windows => fact(true, "IP_PKTINFO with WSASendMsg"),
            FreeBsd | OpenBsd | NetBsd => fact(true, "IP_SENDSRCADDR, ip(4)"),
            MacOs => fact(true, "IP_RECVDSTADDR or IP_PKTINFO as control data of a send"),
            Other => fact(false, "some old stacks ignore control data that selects the source of IPv4"),
        }
    }

    /// Whether an error that the network reports of one peer fails the next receive of the listener.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Windows.peer_error_fails_receive().is);
    /// ```
    #[must_use]
    pub const fn peer_error_fails_receive(self) -> Fact<bool> {
        match self {
            Windows => fact(true, "WSAECONNRESET, unless SIO_UDP_CONNRESET is turned off"),
            Linux => fact(false, "unconnected sockets do not hear of it unless IP_RECVERR is set"),
            _ => fact(false, "unconnected sockets do not hear of it"),
        }
    }
}

/// What drivers can make use of.
impl Os {
    /// Whether datagrams leave in trains.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Linux.trains_out().is);
    /// ```
    #[must_use]
    pub const fn trains_out(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "UDP_SEGMENT, udp(7)"),
            Windows => fact(false, "UDP_SEND_MSG_SIZE is there, and not used: it wants a train in one piece"),
            _ => fact(false, "the system has no such option"),
        }
    }

    /// Whether datagrams are received in trains.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Linux.trains_in().is && !Os::Windows.trains_in().is);
    /// ```
    #[must_use]
    pub const fn trains_in(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "UDP_GRO, udp(7)"),
            Windows => fact(false, "quinn-udp leaves UDP_RECV_MAX_COALESCED_SIZE off"),
            _ => fact(false, "the system has no such option"),
        }
    }

    /// Whether datagrams come with the time at which the kernel received them.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(!Os::Windows.receive_timestamps().is);
    /// ```
    #[must_use]
    pub const fn receive_timestamps(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "SO_TIMESTAMPNS, socket(7)"),
            _ => fact(false, "the kernel's receive timestamps are read on Linux only"),
        }
    }

    /// Whether received datagrams come with their congestion bits.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::OpenBsd.ecn(true).is && !Os::OpenBsd.ecn(false).is);
    /// ```
    #[must_use]
    pub const fn ecn(self, ipv6: bool) -> Fact<bool> {
        match self {
            Linux | FreeBsd | MacOs => fact(true, "IP_RECVTOS and IPV6_RECVTCLASS"),
            Windows => fact(true, "IP_RECVECN and IPV6_RECVECN"),
            OpenBsd | NetBsd if ipv6 => fact(true, "IPV6_RECVTCLASS"),
            OpenBsd | NetBsd => fact(false, "IPv4 sockets do not report the byte (there is no IP_RECVTOS)"),
            Other => fact(false, "the system is not known to report the byte"),
        }
    }

    /// Whether fragmentation is left as the system has it. Where not, what is longer than the interface's MTU fails, as
    /// with [`PathMtu::Probe`](shardgram_core::PathMtu::Probe).
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::Linux.may_fragment(false).is && !Os::MacOs.may_fragment(false).is);
    /// ```
    #[must_use]
    pub const fn may_fragment(self, ipv6: bool) -> Fact<bool> {
        match self {
            Linux => fact(true, "quinn-udp, which forbids it, is given another socket"),
            Windows => fact(true, "IP_DONTFRAGMENT and IPV6_DONTFRAG are set back to what they were"),
            OpenBsd | NetBsd if !ipv6 => fact(true, "IPv4 sockets have no option that forbids it"),
            _ => fact(false, "quinn-udp forbids fragmentation when it takes a socket over"),
        }
    }

    /// Whether the kernel says how many datagrams a socket dropped.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(!Os::FreeBsd.drop_counter().is);
    /// ```
    #[must_use]
    pub const fn drop_counter(self) -> Fact<bool> {
        match self {
            Linux => fact(true, "SO_MEMINFO, Linux 4.12"),
            _ => fact(false, "no counter of a socket is known"),
        }
    }
}
