//! Groups on Linux, by the protocol-independent options of RFC 3678 section 5.1 (`MCAST_JOIN_GROUP` and its like, Linux
//! 2.6), which take an interface by its index for both families.

use std::io;
use std::os::fd::AsFd;

use libc::c_int;
use shardgram_core::{JoinError, Membership};
use socket2::Socket;

use super::{meaning, portless};
use crate::sockopt;

/// Whether every socket of a port group gets what is sent to a broadcast address: `__udp4_lib_mcast_deliver` in
/// net/ipv4/udp.c hands a copy to each socket of the port that is bound to a wildcard address, and asks no steering
/// program (`__udp6_lib_mcast_deliver` does the same for groups). Linux 6.18 forestalls that now and then: where an IPv4
/// group has one hearer and the port no more than ten sockets, early demultiplexing finds it, and then `inet_steal_sock`
/// asks the program after all. So the owner's socket gets the datagram, though it joined nothing; it still comes once.
/// `net.ipv4.udp_early_demux=0` turns that off.
pub const EACH_HAS_A_COPY: bool = true;

pub(super) fn change(
    socket: &Socket,
    membership: &Membership,
    index: u32,
    joins: bool,
) -> Result<(), JoinError> {
    let group = portless(membership.group());
    let (level, all) = if group.is_ipv4() {
        (libc::SOL_IP, Socket::set_multicast_all_v4 as fn(&Socket, bool) -> io::Result<()>)
    } else {
        (libc::SOL_IPV6, Socket::set_multicast_all_v6 as fn(&Socket, bool) -> io::Result<()>)
    };
    if joins && all(socket, false).is_err() {
        // Other sockets would hear what this one joins: each datagram several times.
        return Err(JoinError::Unsupported {
            what: "a group that only those hear who joined it",
            remedy: "it takes Linux 4.20",
        });
    }
    let outcome = match (membership.source().map(portless), joins) {
        (None, true) => sockopt::set_group(socket.as_fd(), level, libc::MCAST_JOIN_GROUP, index, &group),
        (None, false) => sockopt::set_group(socket.as_fd(), level, libc::MCAST_LEAVE_GROUP, index, &group),
        (Some(source), joins) => {
            let name: c_int =
                if joins { libc::MCAST_JOIN_SOURCE_GROUP } else { libc::MCAST_LEAVE_SOURCE_GROUP };
            sockopt::set_group_source(socket.as_fd(), level, name, index, &group, &source)
        }
    };
    outcome.map_err(|error| meaning(&error, membership, joins))
}

/// Leaves a group that was joined by an interface that has gone, whatever its sources: one source cannot be left without the
/// interface (`ip_mc_source` in net/ipv4/igmp.c), the group can.
pub(super) fn leave_gone(socket: &Socket, membership: &Membership, index: u32) -> Result<(), JoinError> {
    let group = portless(membership.group());
    let level = if group.is_ipv4() { libc::SOL_IP } else { libc::SOL_IPV6 };
    sockopt::set_group(socket.as_fd(), level, libc::MCAST_LEAVE_GROUP, index, &group)
        .map_err(|error| meaning(&error, membership, false))
}

/// Has a socket hear only the groups it has joined itself (`IP_MULTICAST_ALL` in ip(7), Linux 2.6.31;
/// `IPV6_MULTICAST_ALL`, Linux 4.20). By default it hears those of every program on the host that it has the port of,
/// and each shard what another has joined. Where that cannot be had nothing is lost until a group is joined, which says so.
pub(crate) fn hear_own_groups_only(socket: &Socket, ipv6: bool) {
    let set = if ipv6 { socket.set_multicast_all_v6(false) } else { socket.set_multicast_all_v4(false) };
    if let Err(error) = set {
        tracing::debug!(%error, "groups that other programs join are heard here too");
    }
}

pub(super) fn set_interface_v4(socket: &Socket, index: u32) -> io::Result<()> {
    sockopt::set_multicast_interface(socket.as_fd(), index)
}
