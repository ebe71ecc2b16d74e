//! Multicast groups on one socket: joined, left, and sent to.

#[cfg(target_os = "linux")]
mod followed;
#[cfg(target_os = "linux")]
#[path = "multicast/linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "multicast/other.rs"]
mod platform;

use std::io;
use std::net::{IpAddr, SocketAddr};

use shardgram_core::{Interface, JoinError, Membership};
use socket2::{SockRef, Socket};

use crate::BindError;
use crate::errno;
use crate::interfaces::index_of;

#[cfg(target_os = "linux")]
pub use followed::Followed;
pub use platform::EACH_HAS_A_COPY;
pub(crate) use platform::hear_own_groups_only;

/// Which of the sockets that could be there is asked; see [`join`].
#[cfg(unix)]
pub trait AsSocket: std::os::fd::AsFd {}
#[cfg(unix)]
impl<T: std::os::fd::AsFd> AsSocket for T {}
/// Which of the sockets that could be there is asked; see [`join`].
#[cfg(windows)]
pub trait AsSocket: std::os::windows::io::AsSocket {}
#[cfg(windows)]
impl<T: std::os::windows::io::AsSocket> AsSocket for T {}

/// Joins a group with a socket that is bound to a wildcard address of its family.
///
/// ```
/// use std::net::{Ipv4Addr, UdpSocket};
/// use shardgram_core::{Interface, JoinError, Membership};
/// use shardgram_sys::multicast;
///
/// let socket = UdpSocket::bind("0.0.0.0:0")?;
/// let group = Membership::any_source([239, 1, 2, 3]).on(Interface::of(Ipv4Addr::LOCALHOST));
/// multicast::join(&socket, &group).expect("the loopback interface takes groups");
/// assert_eq!(multicast::join(&socket, &group), Err(JoinError::AlreadyJoined));
/// multicast::leave(&socket, &group).expect("it was joined");
/// assert_eq!(multicast::leave(&socket, &group), Err(JoinError::NotJoined));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// See [`JoinError`].
pub fn join(socket: &impl AsSocket, membership: &Membership) -> Result<(), JoinError> {
    let index = membership.interface().map_or(Ok(0), index_of)?;
    platform::change(&SockRef::from(socket), membership, index, true)
}

/// Leaves a group that was joined in the same way.
///
/// # Errors
///
/// See [`JoinError`].
pub fn leave(socket: &impl AsSocket, membership: &Membership) -> Result<(), JoinError> {
    let index = membership.interface().map_or(Ok(0), index_of)?;
    platform::change(&SockRef::from(socket), membership, index, false)
}

/// What an error of a join or a leave means.
///
/// ip(7) names few; the rest is from `ip_mc_join_group` and `ip_mc_source` in net/ipv4/igmp.c, and `ipv6_sock_mc_join`
/// and `ip6_mc_source` in net/ipv6/mcast.c. The manuals of other systems name the same ones.
fn meaning(error: &io::Error, membership: &Membership, joins: bool) -> JoinError {
    let group = membership.group();
    let errno = error.raw_os_error().unwrap_or(errno::EIO);
    match errno {
        // "The group is joined" by this interface; for a source, EADDRNOTAVAIL says that it is there already, and EINVAL
        // that the socket has joined it for any source, or the other way about.
        errno::EADDRINUSE if joins => JoinError::AlreadyJoined,
        errno::EADDRNOTAVAIL | errno::EINVAL if joins && membership.source().is_some() => {
            JoinError::AlreadyJoined
        }
        // Not joined, or not for this source.
        errno::EADDRNOTAVAIL | errno::EINVAL if !joins => JoinError::NotJoined,
        // No such interface, or no route to the group. It may have gone since its index was found.
        errno::ENODEV | errno::ENXIO | errno::EADDRNOTAVAIL | errno::ENETUNREACH => {
            match membership.interface() {
                None => JoinError::NoRoute { group },
                Some(interface) => JoinError::UnknownInterface(interface),
            }
        }
        // As many as the system allows (igmp_max_memberships, igmp_max_msf, optmem_max; `IP_MAX_MEMBERSHIPS` elsewhere).
        errno::ENOBUFS | errno::ENOMEM | errno::ETOOMANYREFS => JoinError::SystemLimit { group },
        errno::ENOPROTOOPT | errno::EOPNOTSUPP => JoinError::Unsupported {
            what: "such a membership",
            remedy: "join the group for any source and drop what others send",
        },
        errno => JoinError::System { errno },
    }
}

/// Sets how datagrams to groups leave a socket of the family of `address`. What is as the system has it costs no call.
pub(crate) fn set_sending(
    socket: &Socket,
    address: SocketAddr,
    hops: u8,
    looped: bool,
    interface: Option<Interface>,
) -> Result<(), BindError> {
    let option = |operation| move |source| BindError::from_option(operation, address, source);
    let ipv6 = address.is_ipv6();
    if hops != 1 {
        let hops = hops.into();
        let set = if ipv6 { socket.set_multicast_hops_v6(hops) } else { socket.set_multicast_ttl_v4(hops) };
        set.map_err(option("set the hop limit of multicasts"))?;
    }
    if !looped {
        let set = if ipv6 { Socket::set_multicast_loop_v6 } else { Socket::set_multicast_loop_v4 };
        set(socket, false).map_err(option("turn the loop of multicasts off"))?;
    }
    interface.map_or(Ok(()), |interface| set_interface(socket, address, interface))
}

/// Sets by which interface datagrams to groups leave.
fn set_interface(socket: &Socket, address: SocketAddr, interface: Interface) -> Result<(), BindError> {
    let to_groups = |source| BindError::ToGroups { address, source };
    let index = index_of(interface).map_err(to_groups)?;
    let outcome = match address {
        SocketAddr::V6(_) => socket.set_multicast_if_v6(index),
        SocketAddr::V4(_) => platform::set_interface_v4(socket, index),
    };
    outcome.map_err(|error| match error.raw_os_error() {
        // No such interface: ENODEV on Linux, EADDRNOTAVAIL with an address, ENXIO elsewhere.
        Some(errno::ENODEV | errno::EADDRNOTAVAIL | errno::ENXIO) => {
            to_groups(JoinError::UnknownInterface(interface))
        }
        // Found out without asking the system.
        None if error.kind() == io::ErrorKind::AddrNotAvailable => {
            to_groups(JoinError::UnknownInterface(interface))
        }
        _ => BindError::from_option("set the interface of multicasts", address, error),
    })
}

/// A group and a source as socket addresses, which is how the system wants them. Ports mean nothing there.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "others take plain addresses"))]
fn portless(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_meaning() {
        let group: IpAddr = [239, 1, 2, 3].into();
        let any = Membership::any_source(group);
        let source = Membership::source_specific(group, [192, 0, 2, 1]).expect("a source");
        let of = |errno, membership: &Membership, joins| {
            meaning(&io::Error::from_raw_os_error(errno), membership, joins)
        };
        assert_eq!(of(errno::EADDRINUSE, &any, true), JoinError::AlreadyJoined);
        assert_eq!(of(errno::EINVAL, &source, true), JoinError::AlreadyJoined, "joined for any source");
        assert_eq!(of(errno::EADDRNOTAVAIL, &any, false), JoinError::NotJoined);
        assert_eq!(of(errno::ENODEV, &any, true), JoinError::NoRoute { group });
        let seventh = Interface::index(7).expect("an index");
        let named = any.clone().on(seventh);
        assert_eq!(of(errno::ENODEV, &named, true), JoinError::UnknownInterface(seventh));
        assert_eq!(of(errno::ENOBUFS, &any, true), JoinError::SystemLimit { group });
        assert_eq!(of(errno::EPERM, &any, true), JoinError::System { errno: errno::EPERM });
    }
}
