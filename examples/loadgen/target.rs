//! The server that is loaded, by its address.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The first address of `host:port` that a datagram can be sent to.
pub(crate) fn resolve(target: &str) -> Result<SocketAddr, String> {
    let example = "write host:port, as in 127.0.0.1:9000, [::1]:9000 or [fe80::1%eth0]:9000";
    let Some(host_and_port) = split(target) else {
        return Err(format!("the target '{target}' names no port; {example}"));
    };
    let mut found = host_and_port
        .to_socket_addrs()
        .map_err(|error| format!("the target '{target}' cannot be resolved ({error}); {example}"))?;
    let Some(address) = found.next() else {
        return Err(format!("the target '{target}' has no address; {example}"));
    };
    let ip = address.ip().to_canonical();
    let address = match address {
        SocketAddr::V6(v6) if ip.is_ipv6() => SocketAddr::V6(v6),
        _ => SocketAddr::new(ip, address.port()),
    };
    let fault = if address.port() == 0 {
        "names port 0, where nothing can listen; name the server's port"
    } else if ip.is_unspecified() {
        "is an address to listen on, not to send to; name an address of the server"
    } else if ip.is_multicast() {
        "is a multicast address and replies would come from many; name one server"
    } else if ip == IpAddr::from([255; 4]) {
        "is a broadcast address and replies would come from many; name one server"
    } else {
        return Ok(address);
    };
    Err(format!("the target {target} {fault}"))
}

/// Host and port of `host:port`; the brackets of an IPv6 address are taken off.
fn split(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some((inside.unwrap_or(host), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_cannot_be_sent_to_are_refused() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(resolve("127.0.0.1:9"), Ok(v4));
        assert_eq!(resolve("[::ffff:127.0.0.1]:9"), Ok(v4));
        assert!(resolve("[::1]:9").is_ok_and(|address| address.is_ipv6()));
        if cfg!(target_os = "linux") {
            assert_eq!(resolve("[fe80::1%lo]:9"), Ok("[fe80::1%1]:9".parse().expect("by its index")));
        }
        for (target, cause) in [
            ("127.0.0.1", "names no port"),
            ("::1", "names port 0"),
            ("127.0.0.1:65536", "names no port"),
            ("nobody.invalid:9", "cannot be resolved"),
            ("127.0.0.1:0", "port 0"),
            ("0.0.0.0:9", "to listen on"),
            ("239.1.2.3:9", "multicast"),
            ("255.255.255.255:9", "broadcast"),
            ("[ff02::1]:9", "multicast"),
            ("[fe80::1%no-such-one]:9", "cannot be resolved"),
        ] {
            // "::1" is host ":" with port 1 to some resolvers: any refusal will do.
            let refusal = resolve(target).expect_err(target);
            assert!(target == "::1" || refusal.contains(cause), "{refusal}");
            assert!(refusal.contains("; "), "{refusal}");
        }
    }
}
