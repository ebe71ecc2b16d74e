//! Where servers listen, and where they are reached.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Copy)]
pub(super) struct Place {
    /// What is listened on.
    pub(super) listen: SocketAddr,
    /// An address of that.
    pub(super) ip: IpAddr,
}

/// Specific addresses, and then wildcards, of both families.
pub(super) fn places() -> [Place; 4] {
    let (four, six) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let all =
        [(four, four), (six, six), (Ipv4Addr::UNSPECIFIED.into(), four), (Ipv6Addr::UNSPECIFIED.into(), six)];
    all.map(|(listen, ip)| Place { listen: SocketAddr::new(listen, 0), ip })
}
