//! Addresses as people write them. `SocketAddr` reads the scope of a link-local one as a number only.

use std::net::{SocketAddr, ToSocketAddrs};

/// How an address is written.
const EXAMPLE: &str = "write an address and a port, as in 127.0.0.1:9000, [::1]:9000 or [fe80::1%eth0]:9000";

/// Reads an address with a port. The scope may be an interface's name (RFC 4007 section 11), which the system knows
/// (getaddrinfo(3)).
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match split(text) {
        Some((host, port)) if host.contains(':') && host.contains('%') => {
            let found = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
            found.ok_or_else(|| format!("there is no interface of that name, or no such address; {EXAMPLE}"))
        }
        _ => Err(format!("it is no address with a port; {EXAMPLE}")),
    }
}

/// Host and port of `host:port`; the brackets of an IPv6 address are taken off.
pub(crate) fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some((inside.unwrap_or(host), port.parse().ok()?))
}
