//! Linux: the flags of IPv6 addresses (`/proc/net/if_inet6`, proc(5); `IFA_F_*` in include/uapi/linux/if_addr.h).

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use super::BindError;

const DAD_FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;

/// Why an address cannot be bound that the kernel says is not available.
pub(crate) fn not_available(address: SocketAddr) -> BindError {
    let SocketAddr::V6(v6) = address else { return BindError::AddressNotAvailable { address } };
    // Of the thread, which may be in another network namespace than its process.
    let table = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    match table.lines().find_map(|line| flags(line, v6)) {
        Some(flags) if flags & DAD_FAILED != 0 => BindError::AddressDuplicate { address },
        Some(flags) if flags & TENTATIVE != 0 => BindError::AddressTentative { address },
        _ => BindError::AddressNotAvailable { address },
    }
}

/// Those of a line about this address: address, index, prefix length, scope, flags, name, all numbers in hexadecimal.
fn flags(line: &str, wanted: SocketAddrV6) -> Option<u32> {
    let mut columns = line.split_ascii_whitespace();
    let ip = Ipv6Addr::from(u128::from_str_radix(columns.next()?, 16).ok()?);
    let index = u32::from_str_radix(columns.next()?, 16).ok()?;
    let flags = u32::from_str_radix(columns.nth(2)?, 16).ok()?;
    (ip == *wanted.ip() && [0, index].contains(&wanted.scope_id())).then_some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_whether_an_address_may_be_used() {
        let of = |line: &str, at: &str| flags(line, at.parse().expect(at));
        let link_local = "fe800000000000000000000000000001 02 40 20 c0     eth0";
        assert_eq!(of(link_local, "[fe80::1%2]:9"), Some(0xc0));
        assert_eq!(of(link_local, "[fe80::1%3]:9"), None);
        assert_eq!(of(link_local, "[fe80::2%2]:9"), None);
        assert_eq!(of("fd000000000000000000000000000001 02 40 00 88 eth0", "[fd00::1]:9"), Some(0x88));
        for end in 0..link_local.len() {
            let _ = of(&link_local[..end], "[fe80::1%2]:9");
        }
    }
}
