//! What becomes of datagrams that are longer than a path carries.

use crate::types::names::named;

/// What the kernel does with a datagram that is longer than the path's MTU, and whether it learns that MTU from what
/// routers say (RFC 1191, RFC 8201).
///
/// ```
/// use shardgram_core::PathMtu;
/// assert_eq!("probe".parse(), Ok(PathMtu::Probe));
/// assert_eq!(PathMtu::default().to_string(), "system");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PathMtu {
    /// As the system has it for a new socket, or the socket hook sets it. On Linux the kernel learns the MTU and
    /// fragments what is longer (IP_PMTUDISC_WANT, ip(7)), unless the sysctl net.ipv4.ip_no_pmtu_disc says otherwise.
    #[default]
    System,
    /// The kernel learns the MTU and never fragments: what is longer fails as [`crate::PeerError::TooLong`]
    /// (IP_PMTUDISC_DO).
    Refuse,
    /// The kernel never fragments and does not look at what it learned: only what is longer than the interface's own
    /// MTU fails as [`crate::PeerError::TooLong`] (IP_PMTUDISC_PROBE, Linux 2.6.22). What a router cannot pass on is
    /// lost; a router's word reaches the handler of a peer with a socket of its own all the same. For
    /// protocols that find out the MTU themselves, as QUIC does (RFC 8899), and do not want it told by forgers.
    Probe,
    /// Datagrams may always be fragmented, with IPv4 by routers too, so none fails for its length and no router has to
    /// be heard (IP_PMTUDISC_DONT).
    Fragment,
}

named!(PathMtu, "path MTU mode", { "system" => System, "refuse" => Refuse, "probe" => Probe, "fragment" => Fragment });
