//! Why a socket could not be opened and bound.

#[cfg_attr(target_os = "linux", path = "bind_error/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "bind_error/other.rs")]
mod platform;

use std::io;
use std::net::{IpAddr, SocketAddr};

use shardgram_core::Interface;

use crate::{PortHolder, errno};

pub(crate) use platform::not_available;

/// Why an address could not be bound. Each message is one line: the cause, then the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A group without listeners.
    #[error("a listener group needs at least one shard; ask for 1 or more")]
    NoShards,
    /// The address stands for several hosts. Each member of a port group would get its own copy
    /// of every datagram, and no reply can leave from it.
    #[error(
        "{address} is a broadcast or multicast address; bind an address of this host or the wildcard instead"
    )]
    NotUnicast {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`), which an IPv6-only socket cannot have.
    #[error(
        "{address} is an IPv4-mapped address and IPv6 sockets here are IPv6 only; write the IPv4 address"
    )]
    MappedAddress {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// A scope where none belongs: systems pass over it, and the address would be bound on every interface.
    #[error(
        "{address} has a scope, which only link-local addresses have; write it without, or bind it to an interface \
         in a socket hook"
    )]
    ScopeWithoutUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// A link-local address says nothing without an interface.
    #[error("{address} is link-local and names no interface; write its scope, as in [{address}%2]")]
    ScopeMissing {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// An endpoint was to be bound in one family for a peer of the other.
    #[error("cannot reach {peer} from {bind}: one is IPv4 and the other IPv6; bind an address of its family")]
    FamilyMismatch {
        /// The address that was asked for.
        bind: SocketAddr,
        /// The peer it was meant for.
        peer: SocketAddr,
    },
    /// A specific address was to be listened on beside the wildcard of its port, which this system does not take.
    #[error(
        "{address} cannot be listened on beside the wildcard of its port: {because}; the wildcard serves it too"
    )]
    NotBeside {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system does.
        because: &'static str,
    },
    /// An address was to be listened on, and so was the wildcard that takes what is sent to it.
    #[error(
        "{wildcard} takes what is sent to {address} too: listen on the wildcard alone, and answers leave from the \
         address written to"
    )]
    Covered {
        /// The specific address.
        address: SocketAddr,
        /// The wildcard of its family and port.
        wildcard: SocketAddr,
    },
    /// A connected socket was to be bound to a wildcard address or to port 0.
    #[error("{address} is not one address and port of this host; name the one the peer wrote to")]
    NotSpecific {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// A socket was to be connected to port 0, and would take everything from that host.
    #[error("{peer} has port 0 and cannot be answered; drop what comes from it")]
    PeerPortZero {
        /// The peer it was meant for.
        peer: SocketAddr,
    },
    /// Another socket has the port (`EADDRINUSE`; on Windows also `WSAEACCES`).
    #[error("{address} is in use by {}", holder_and_remedy(holder.as_ref()))]
    AddressInUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// Who has it; `None` if nobody told, as on systems other than Linux and for endpoints.
        holder: Option<PortHolder>,
    },
    /// Any port was asked for, and all of the system's range are taken (`EADDRINUSE`).
    #[error(
        "no port is free at {address}: all of the system's range are in use (on Linux net.ipv4.ip_local_port_range, for \
         IPv6 too); widen it, end what has so many, or name a port outside it"
    )]
    NoFreePort {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The host has the address and may not use it yet (`EADDRNOTAVAIL`; RFC 4862 section 5.4).
    #[error(
        "{address} is tentative: the host is still asking its neighbours whether one has it, which takes a second or \
         two; start when `ip addr` shows it without `tentative`, or add the address with `nodad`"
    )]
    AddressTentative {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The host was given the address and may not use it, since another host answered for it (`EADDRNOTAVAIL`; RFC 4862
    /// section 5.4.5).
    #[error(
        "{address} belongs to another host of this network too (`dadfailed` in `ip addr`); give one of them another \
         address, then remove it here and add it anew"
    )]
    AddressDuplicate {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The host does not have the address (`EADDRNOTAVAIL`).
    #[error("{address} is not an address of this host; `ip addr` lists what this host has")]
    AddressNotAvailable {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The port is privileged, or a security policy forbids it (`EACCES`, `EPERM`; not on Windows).
    #[error(
        "permission denied to bind {address}: ports below net.ipv4.ip_unprivileged_port_start (1024 by default) \
         need root or CAP_NET_BIND_SERVICE; take a higher port, grant the capability or lower the sysctl \
         (above it, a security policy refused)"
    )]
    PermissionDenied {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// This process has as many descriptors as it may (`EMFILE`).
    #[error("this process is at its limit of open descriptors; raise RLIMIT_NOFILE (`ulimit -n`)")]
    DescriptorLimit,
    /// The system has no such family (`EAFNOSUPPORT`), usually IPv6 that is switched off.
    #[error("this system has no {} to bind {address} with; enable it or bind the other family", family(*address))]
    FamilyUnsupported {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// There is no such interface (`ENODEV`).
    #[error(
        "there is no interface {interface} to bind {address} to; `ip link` lists what this host has: correct it, or \
         start once the interface is there"
    )]
    NoSuchInterface {
        /// The address that was asked for.
        address: SocketAddr,
        /// The interface that was asked for.
        interface: Interface,
    },
    /// This system binds no socket to an interface (`EOPNOTSUPP`).
    #[error(
        "this system cannot bind {address} to the interface {interface}; bind an address of that interface instead"
    )]
    InterfaceUnsupported {
        /// The address that was asked for.
        address: SocketAddr,
        /// The interface that was asked for.
        interface: Interface,
    },
    /// The interface by which datagrams to groups are to leave is not there, or the system cannot do that.
    #[error("cannot send to multicast groups from {address} as asked: {source}")]
    ToGroups {
        /// The address the socket was meant for.
        address: SocketAddr,
        /// Why not, and what would help.
        source: shardgram_core::JoinError,
    },
    /// The caller's socket hook failed.
    #[error("the socket hook failed for {address}: {source}; mend the hook or what it needs")]
    Hook {
        /// The address the socket was meant for.
        address: SocketAddr,
        /// What the hook returned.
        source: io::Error,
    },
    /// Anything else that the system refused.
    #[error("cannot {operation} for {address}: {source}; see {manual}")]
    System {
        /// What was being done.
        operation: &'static str,
        /// The address the socket was meant for.
        address: SocketAddr,
        /// Where the error is explained.
        manual: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn holder_and_remedy(holder: Option<&PortHolder>) -> String {
    match holder {
        None => "another socket; `ss -ulnp` shows its process: stop it or take another port".to_owned(),
        Some(holder) if holder.process.is_some() => {
            format!("{holder}; stop it or take another port (`ss -ulnp` lists them)")
        }
        Some(holder) => format!(
            "{holder}; `ss -ulnpe` shows to root on the host whose it is: stop that or take another port"
        ),
    }
}

/// The interface that a link-local address names.
fn scope(address: SocketAddr) -> Option<Interface> {
    let SocketAddr::V6(v6) = address else { return None };
    Interface::index(v6.scope_id()).ok()
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

impl BindError {
    /// The system's error number, for callers that report failures by it.
    pub fn errno(&self) -> i32 {
        match self {
            Self::AddressInUse { .. } | Self::NoFreePort { .. } => errno::EADDRINUSE,
            Self::AddressNotAvailable { .. }
            | Self::AddressTentative { .. }
            | Self::AddressDuplicate { .. } => errno::EADDRNOTAVAIL,
            Self::PermissionDenied { .. } => errno::EACCES,
            Self::DescriptorLimit => errno::EMFILE,
            Self::FamilyUnsupported { .. } => errno::EAFNOSUPPORT,
            Self::NoSuchInterface { .. } => errno::ENODEV,
            Self::InterfaceUnsupported { .. } => errno::EOPNOTSUPP,
            Self::Hook { source, .. } | Self::System { source, .. } => {
                source.raw_os_error().unwrap_or(errno::EIO)
            }
            Self::NoShards
            | Self::NotUnicast { .. }
            | Self::MappedAddress { .. }
            | Self::ScopeMissing { .. }
            | Self::ScopeWithoutUse { .. }
            | Self::FamilyMismatch { .. }
            | Self::NotBeside { .. }
            | Self::Covered { .. }
            | Self::NotSpecific { .. }
            | Self::PeerPortZero { .. } => errno::EINVAL,
            Self::ToGroups { .. } => errno::ENODEV,
        }
    }

    /// The error of `socket(2)`.
    pub(crate) fn from_create(address: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(errno::EMFILE) => Self::DescriptorLimit,
            Some(errno::EAFNOSUPPORT) => Self::FamilyUnsupported { address },
            // ENFILE: the whole system is at its limit. ENOBUFS, ENOMEM: no memory. EACCES: a
            // security policy. Nothing to say about them that their text does not.
            _ => Self::System { operation: "create a UDP socket", address, manual: "socket(2)", source },
        }
    }

    /// The error of `bind(2)`.
    pub(crate) fn from_bind(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            // ip(7): "all port numbers in the ephemeral port range are currently in use".
            io::ErrorKind::AddrInUse if address.port() == 0 => Self::NoFreePort { address },
            io::ErrorKind::AddrInUse => Self::AddressInUse { address, holder: None },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { address },
            // WSAEACCES, "bind" in the Winsock documentation: "another application [...] is bound to the same
            // address with exclusive access". Windows has no privileged ports.
            io::ErrorKind::PermissionDenied if cfg!(windows) => Self::AddressInUse { address, holder: None },
            // EACCES is the privileged port; EPERM is how control groups and sandboxes say it.
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { address },
            // EINVAL: bound already. Other codes are for other families of sockets.
            _ => match scope(address).filter(|_| source.raw_os_error() == Some(errno::ENODEV)) {
                Some(interface) => Self::NoSuchInterface { address, interface },
                None => Self::System { operation: "bind a UDP socket", address, manual: "bind(2)", source },
            },
        }
    }

    /// The error of binding a socket to an interface.
    pub(crate) fn from_interface(address: SocketAddr, interface: Interface, source: io::Error) -> Self {
        match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::Unsupported, _) => Self::InterfaceUnsupported { address, interface },
            // setsockopt(2) on Linux has ENODEV for both options; ENXIO is what macOS says of an index.
            (_, Some(libc::ENODEV | libc::ENXIO)) => Self::NoSuchInterface { address, interface },
            // EPERM: before Linux 5.7 it takes CAP_NET_RAW.
            _ => Self::System {
                operation: "bind a UDP socket to an interface",
                address,
                manual: "socket(7), SO_BINDTODEVICE: before Linux 5.7 it takes CAP_NET_RAW",
                source,
            },
        }
    }

    /// The error of setting or reading an option.
    pub(crate) fn from_option(operation: &'static str, address: SocketAddr, source: io::Error) -> Self {
        Self::System { operation, address, manual: "socket(7), ip(7), ipv6(7) and udp(7)", source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_of_bind_has_its_error() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let of = |errno| BindError::from_bind(address, io::Error::from_raw_os_error(errno));
        assert!(matches!(of(errno::EADDRINUSE), BindError::AddressInUse { .. }));
        assert!(matches!(of(errno::EADDRNOTAVAIL), BindError::AddressNotAvailable { .. }));
        #[cfg(unix)]
        for refused in [errno::EACCES, libc::EPERM] {
            assert!(matches!(of(refused), BindError::PermissionDenied { .. }));
        }
        #[cfg(windows)]
        assert!(matches!(of(errno::EACCES), BindError::AddressInUse { .. }), "someone has it exclusively");
        assert!(matches!(of(errno::EINVAL), BindError::System { .. }));
    }

    #[test]
    fn each_errno_of_socket_has_its_error() {
        let address = SocketAddr::from(([0; 8], 80));
        let of = |errno| BindError::from_create(address, io::Error::from_raw_os_error(errno));
        assert!(matches!(of(errno::EMFILE), BindError::DescriptorLimit));
        assert!(matches!(of(errno::EAFNOSUPPORT), BindError::FamilyUnsupported { .. }));
        assert!(matches!(of(errno::ENOBUFS), BindError::System { .. }));
    }

    #[test]
    fn messages_are_one_line_and_name_the_remedy() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let source = || io::Error::from_raw_os_error(libc::ENOMEM);
        let in_use = |process| BindError::AddressInUse {
            address,
            holder: Some(PortHolder { uid: 3, inode: 9, process }),
        };
        let of_bind = |at: &str, errno| {
            BindError::from_bind(at.parse().expect(at), io::Error::from_raw_os_error(errno))
        };
        let named = |name| Interface::named(name).expect(name);
        let remedies = [
            (BindError::AddressInUse { address, holder: None }, "ss -ulnp"),
            (in_use(Some((7, "echo".to_owned()))), "process 7 (echo, uid 3); stop it"),
            (in_use(None), "uid 3 (inode 9)"),
            (of_bind("0.0.0.0:0", errno::EADDRINUSE), "net.ipv4.ip_local_port_range"),
            (of_bind("[fe80::1%77]:9", errno::ENODEV), "no interface 77"),
            (BindError::AddressTentative { address }, "nodad"),
            (BindError::AddressDuplicate { address }, "another host"),
            (BindError::ScopeWithoutUse { address }, "write it without"),
            (BindError::AddressNotAvailable { address }, "`ip addr` lists what this host has"),
            (BindError::PermissionDenied { address }, "CAP_NET_BIND_SERVICE"),
            (BindError::PermissionDenied { address }, "net.ipv4.ip_unprivileged_port_start"),
            (BindError::DescriptorLimit, "RLIMIT_NOFILE (`ulimit -n`)"),
            (BindError::NoSuchInterface { address, interface: named("eth7") }, "`ip link`"),
            (
                BindError::InterfaceUnsupported { address, interface: named("eth7") },
                "address of that interface",
            ),
            (BindError::FamilyUnsupported { address: SocketAddr::from(([0; 8], 1)) }, "has no IPv6"),
            (BindError::Hook { address, source: source() }, "the socket hook failed"),
            (BindError::from_create(address, source()), "socket(2)"),
        ];
        for (error, remedy) in remedies {
            let text = error.to_string();
            assert!(text.contains(remedy), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}
