//! The addresses of this host, by which shards know datagrams that claim to come from themselves.

use std::net::IpAddr;

use shardgram_core::own_addresses::HostAddresses;
use shardgram_sys::interfaces::{broadcast_addresses, local_addresses};

/// As the system lists them; `None` where it does not.
pub(crate) fn list() -> Option<HostAddresses> {
    let listed = local_addresses().and_then(|addresses| Ok((addresses, broadcast_addresses()?)));
    let (addresses, broadcasts) =
        listed.inspect_err(|error| tracing::debug!(%error, "this host's addresses cannot be listed")).ok()?;
    let named = addresses.into_iter().map(|one| {
        let link_local = matches!(one.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        (one.address, if link_local { one.index } else { 0 })
    });
    Some(HostAddresses::new(named).broadcasts(broadcasts).all_of_loopback())
}
