//! The addresses that flows are bound to.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use super::client::NO_PORT;

/// The most addresses of one run.
const MOST: u128 = 65_536;

/// An address, or all host addresses of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    first: IpAddr,
    count: u128,
    /// The interface of link-local addresses of IPv6, else 0.
    scope: u32,
}

/// Reads `127.0.1.1`, `127.0.1.0/24` or the same of IPv6, there with a scope as in `fe80::1%eth0`.
pub(crate) fn parse(text: &str) -> Result<Source, String> {
    let text = text.trim();
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let example = "write 127.0.1.1, 127.0.1.0/24, fe80::1%eth0, or several with commas between";
    let (first, scope) =
        read(address).ok_or_else(|| format!("'{address}' is no address, or of no interface; {example}"))?;
    let Some(bits) = bits else { return Ok(Source { first, count: 1, scope }) };
    let width = if first.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse().ok().filter(|bits| *bits <= width);
    let bits: u32 = bits.ok_or_else(|| format!("'{text}' has no prefix of 0 to {width} bits; {example}"))?;
    let hosts = width - bits;
    let count = 1_u128.checked_shl(hosts).unwrap_or(u128::MAX);
    if count > MOST {
        return Err(format!("{text} has more than {MOST} addresses; take /{} or longer", width - 16));
    }
    let network = number(first) & !(count - 1);
    // The first address of a network of IPv4 names it and the last is for broadcasts (RFC 1122, 3.2.1.3);
    // networks of two addresses have neither (RFC 3021).
    let spared = u128::from(first.is_ipv4() && hosts > 1);
    Ok(Source { first: address_of(network + spared, first), count: count - 2 * spared, scope })
}

/// An address, and its scope.
fn read(text: &str) -> Option<(IpAddr, u32)> {
    if let Ok(address) = text.parse() {
        return Some((address, 0));
    }
    match shardgram::read_address(&format!("[{text}]:0")).ok()? {
        SocketAddr::V6(v6) => Some(((*v6.ip()).into(), v6.scope_id())),
        SocketAddr::V4(_) => None,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address of this number, of the family of `like`.
fn address_of(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// All addresses, with port 0, after a look whether each is this host's and can reach the target.
pub(crate) fn addresses(sources: &[Source], target: SocketAddr) -> Result<Vec<SocketAddr>, String> {
    let count: u128 = sources.iter().map(|source| source.count).sum();
    if count > MOST {
        return Err(format!("--source names {count} addresses; take {MOST} or fewer"));
    }
    let all = sources.iter().flat_map(|source| {
        (0..source.count).map(|ahead| match address_of(number(source.first) + ahead, source.first) {
            IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, source.scope).into(),
            v4 => SocketAddr::new(v4, 0),
        })
    });
    all.map(|address| check(address, target).map(|()| address)).collect()
}

fn check(source: SocketAddr, target: SocketAddr) -> Result<(), String> {
    let address = source.ip();
    if address.is_ipv4() != target.is_ipv4() {
        let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(format!("--source {address} cannot send to {target}; name addresses of {family}"));
    }
    let Err(error) = UdpSocket::bind(source) else { return Ok(()) };
    Err(match error.kind() {
        ErrorKind::AddrNotAvailable => format!(
            "--source {address} is no address of this host; add it (on Linux: `ip address add {address}/{} dev lo`) \
             or name another",
            if address.is_ipv4() { 32 } else { 128 }
        ),
        ErrorKind::AddrInUse => format!("--source {address} cannot be bound ({error}); {NO_PORT}"),
        _ => format!("--source {address} cannot be bound ({error}); name another address of this host"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> (String, u128) {
        let source = parse(text).expect(text);
        (source.first.to_string(), source.count)
    }

    #[test]
    fn addresses_and_networks_are_read() {
        assert_eq!(ends("127.0.1.9"), ("127.0.1.9".to_owned(), 1));
        assert_eq!(ends("127.0.1.77/24"), ("127.0.1.1".to_owned(), 254));
        assert_eq!(ends("127.0.1.8/31"), ("127.0.1.8".to_owned(), 2));
        assert_eq!(ends("127.0.1.8/32"), ("127.0.1.8".to_owned(), 1));
        assert_eq!(ends("2001:db8::/126"), ("2001:db8::".to_owned(), 4));
        if cfg!(target_os = "linux") {
            assert_eq!(parse("fe80::1%lo").map(|source| source.scope), Ok(1));
        }
        for (text, part) in [
            ("fe80::1%no-such-one", "no interface"),
            ("", "127.0.1.0/24"),
            ("localhost", "no address"),
            ("127.0.0.1/33", "0 to 32"),
            ("127.0.0.1/x", "0 to 32"),
            ("10.0.0.0/8", "take /16 or longer"),
            ("::/0", "take /112 or longer"),
        ] {
            let refusal = parse(text).expect_err(text);
            assert!(refusal.contains(part) && refusal.contains("; "), "{refusal}");
        }
    }

    #[test]
    fn addresses_that_are_not_here_are_named() {
        let target = SocketAddr::from(([127, 0, 0, 1], 9));
        let named = |text| addresses(&[parse(text).expect(text)], target);
        assert_eq!(named("127.0.0.1"), Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]));
        let refusal = named("192.0.2.77").expect_err("for documentation only");
        assert!(refusal.contains("192.0.2.77 is no address of this host; add it"), "{refusal}");
        assert!(named("::1").is_err_and(|refusal| refusal.contains("IPv4")));
    }
}
