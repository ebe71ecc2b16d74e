//! The addresses of this host.

mod answering;
mod lister;
mod read;
#[cfg(target_os = "linux")]
mod tied;
#[cfg(target_os = "linux")]
mod watch;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use if_addrs::IfAddr;
use shardgram_core::{Interface, JoinError};

pub use answering::AnswerAddresses;
pub use lister::AddressLister;
pub use read::{AddressError, read_address};

#[cfg(target_os = "linux")]
pub use tied::{BoundTo, Tie, Tied, bound_interface, has_lost_interface};
#[cfg(target_os = "linux")]
pub use watch::{AddressWatch, Waker};

/// One address of one interface. An interface with several addresses appears several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Name of the interface, such as `eth0`.
    pub name: String,
    /// Its index, as in packet info and in the scope of a link-local address; 0 if the system
    /// did not say.
    pub index: u32,
    /// The address itself.
    pub address: IpAddr,
    /// The broadcast address of its network, which is never bound: a socket there would take
    /// what belongs to every host of the network. `None` for IPv6 and for networks of one or
    /// two addresses.
    pub broadcast: Option<Ipv4Addr>,
    /// How many leading bits it shares with the other addresses of its network.
    pub prefix_len: u8,
    /// Whether the address is reachable from this host only.
    pub is_loopback: bool,
}

/// Lists the addresses of this host in the system's order (`getifaddrs(3)`, and
/// `GetAdaptersAddresses` on Windows).
///
/// Not every local address is in the list: all of `127.0.0.0/8` is local on Linux though only
/// `127.0.0.1` is configured, and a route of type `local` makes a whole prefix so.
///
/// # Errors
///
/// Whatever the system call reports, such as too many open descriptors.
pub fn local_addresses() -> io::Result<Vec<InterfaceAddress>> {
    Ok(if_addrs::get_if_addrs()?.into_iter().map(from_crate).collect())
}

fn from_crate(interface: if_addrs::Interface) -> InterfaceAddress {
    let broadcast = match &interface.addr {
        // From the mask and not from the crate's field: getifaddrs names none on loopback, where
        // 127.255.255.255 is one all the same. RFC 3021: a /31 has none.
        IfAddr::V4(v4) if v4.prefixlen < 31 => Some(v4.ip | !v4.netmask),
        _ => None,
    };
    InterfaceAddress {
        index: interface.index.unwrap_or(0),
        address: interface.addr.ip(),
        is_loopback: interface.addr.is_loopback(),
        broadcast,
        prefix_len: match &interface.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        },
        name: interface.name,
    }
}

/// Lists the broadcast addresses of the networks this host is in: those of the masks, and others that were
/// configured. The limited broadcast address is not among them.
///
/// # Errors
///
/// As for [`local_addresses`].
pub fn broadcast_addresses() -> io::Result<HashSet<Ipv4Addr>> {
    let of = |one: if_addrs::Interface| {
        let configured = match &one.addr {
            IfAddr::V4(v4) => v4.broadcast.filter(|broadcast| *broadcast != v4.ip),
            IfAddr::V6(_) => None,
        };
        [configured, from_crate(one).broadcast].into_iter().flatten()
    };
    Ok(if_addrs::get_if_addrs()?.into_iter().flat_map(of).collect())
}

/// The index of an interface.
///
/// ```
/// use shardgram_core::{Interface, JoinError};
/// use shardgram_sys::interfaces::index_of;
/// assert!(index_of(Interface::of([127, 0, 0, 1])).is_ok_and(|index| index > 0));
/// let unknown = index_of(Interface::named("no-such-one").unwrap());
/// assert!(matches!(unknown, Err(JoinError::UnknownInterface(_))));
/// ```
///
/// # Errors
///
/// [`JoinError::UnknownInterface`]. An index is taken as it is.
pub fn index_of(interface: Interface) -> Result<u32, JoinError> {
    let of_listed = |is_it: &dyn Fn(&InterfaceAddress) -> bool| {
        local_addresses().ok()?.iter().find(|one| is_it(one)).map(|one| one.index)
    };
    let of_name =
        |name: &str| index_of_name(name).or_else(|| of_listed(&|one: &InterfaceAddress| one.name == name));
    let index = match (interface.as_index(), interface.as_address()) {
        (Some(index), _) => Some(index.get()),
        (None, Some(ip)) => of_listed(&|one: &InterfaceAddress| one.address == ip),
        (None, None) => interface.as_name().and_then(of_name),
    };
    index.filter(|index| *index != 0).ok_or(JoinError::UnknownInterface(interface))
}

/// An interface without addresses is in no list of them.
#[cfg(target_os = "linux")]
fn index_of_name(name: &str) -> Option<u32> {
    crate::sockopt::interface_index(name)
}

#[cfg(not(target_os = "linux"))]
fn index_of_name(_: &str) -> Option<u32> {
    None
}

/// Whether `ip` is the limited broadcast address or that of a network this host is in.
pub(crate) fn is_broadcast(ip: Ipv4Addr) -> bool {
    // A list that cannot be had (some sandboxes) is no reason to refuse an address: then only
    // the limited broadcast address is known.
    ip.is_broadcast() || broadcast_addresses().is_ok_and(|all| all.contains(&ip))
}
