//! Groups where the kernel is not Linux: with IPv4 an interface is named by an address it has.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use shardgram_core::{JoinError, Membership};
use socket2::Socket;

use super::meaning;
use crate::interfaces::local_addresses;

/// Whether every socket of a port group gets what is sent to a broadcast address. On FreeBSD it does (`udp_input` in
/// sys/netinet/udp_usrreq.c goes on after a socket that shares its port); elsewhere shards share one socket.
pub const EACH_HAS_A_COPY: bool = cfg!(target_os = "freebsd");

pub(super) fn change(
    socket: &Socket,
    membership: &Membership,
    index: u32,
    joins: bool,
) -> Result<(), JoinError> {
    let unknown = || match membership.interface() {
        Some(interface) => JoinError::UnknownInterface(interface),
        None => JoinError::NoRoute { group: membership.group() },
    };
    let outcome = match (membership.group(), membership.source()) {
        (IpAddr::V4(group), None) => {
            let interface = address_of(index).ok_or_else(unknown)?;
            let change = if joins { Socket::join_multicast_v4 } else { Socket::leave_multicast_v4 };
            change(socket, &group, &interface)
        }
        (IpAddr::V4(group), Some(IpAddr::V4(source))) => {
            let interface = address_of(index).ok_or_else(unknown)?;
            change_source(socket, &source, &group, &interface, joins)?
        }
        (IpAddr::V6(group), None) => {
            let change = if joins { Socket::join_multicast_v6 } else { Socket::leave_multicast_v6 };
            change(socket, &group, index)
        }
        _ => {
            return Err(JoinError::Unsupported {
                what: "an IPv6 group for one source",
                remedy: "join it for any source and drop what others send",
            });
        }
    };
    outcome.map_err(|error| meaning(&error, membership, joins))
}

#[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd", windows))]
fn change_source(
    socket: &Socket,
    source: &Ipv4Addr,
    group: &Ipv4Addr,
    interface: &Ipv4Addr,
    joins: bool,
) -> Result<io::Result<()>, JoinError> {
    let change = if joins { Socket::join_ssm_v4 } else { Socket::leave_ssm_v4 };
    Ok(change(socket, source, group, interface))
}

#[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "freebsd", windows)))]
fn change_source(
    _: &Socket,
    _: &Ipv4Addr,
    _: &Ipv4Addr,
    _: &Ipv4Addr,
    _: bool,
) -> Result<io::Result<()>, JoinError> {
    Err(JoinError::Unsupported {
        what: "a group for one source",
        remedy: "join it for any source and drop what others send",
    })
}

/// Sockets hear what they have joined themselves. On FreeBSD an IPv6 one does only once it has options for groups
/// (`imo != NULL` in `udp6_input`, sys/netinet6/udp6_usrreq.c), so one is set, to what it is by default.
pub(crate) fn hear_own_groups_only(socket: &Socket, ipv6: bool) {
    if ipv6
        && cfg!(target_os = "freebsd")
        && let Err(error) = socket.set_multicast_hops_v6(1)
    {
        tracing::debug!(%error, "a socket may hear groups that other shards have joined");
    }
}

pub(super) fn set_interface_v4(socket: &Socket, index: u32) -> io::Result<()> {
    let address = address_of(index).ok_or(io::ErrorKind::AddrNotAvailable)?;
    socket.set_multicast_if_v4(&address)
}

/// The first IPv4 address of an interface; the unspecified one stands for the interface of the route.
fn address_of(index: u32) -> Option<Ipv4Addr> {
    if index == 0 {
        return Some(Ipv4Addr::UNSPECIFIED);
    }
    let first = |one: &crate::InterfaceAddress| match one.address {
        IpAddr::V4(v4) if one.index == index => Some(v4),
        _ => None,
    };
    local_addresses().ok()?.iter().find_map(first)
}
