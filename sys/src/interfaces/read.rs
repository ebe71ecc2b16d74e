//! Addresses as people write them.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use shardgram_core::Interface;

use super::index_of;

/// Why a text is not read as an address and a port. Each message is one line: the cause, then the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is none.
    #[error(
        "{text:?} is not an address with a port; write it as in 192.0.2.1:53, [2001:db8::1]:53 or [fe80::1%eth0]:53"
    )]
    Syntax {
        /// What was read.
        text: String,
    },
    /// This host has no interface of the name that stands as its scope.
    #[error(
        "{text:?} names the interface {scope:?}, which is not there; `ip link` lists what this host has: correct it, or \
         start once the interface is there"
    )]
    NoSuchInterface {
        /// What was read.
        text: String,
        /// Its scope.
        scope: String,
    },
}

/// Reads an address and a port. The scope of a link-local address may be the name of an interface or its index
/// (RFC 4007 section 11), where the standard library reads an index only.
///
/// A name is looked up now: an interface that comes later, or is made anew, has another index.
///
/// ```
/// use shardgram_sys::interfaces::{AddressError, read_address};
/// assert_eq!(read_address("[2001:db8::1]:53"), Ok("[2001:db8::1]:53".parse().unwrap()));
/// assert!(matches!(read_address("192.0.2.1"), Err(AddressError::Syntax { .. })));
/// assert!(matches!(read_address("[fe80::1%no-such-one]:53"), Err(AddressError::NoSuchInterface { .. })));
/// ```
///
/// # Errors
///
/// [`AddressError`]. Whether a socket can have the address shows when it is bound.
pub fn read_address(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((ip, scope, port)) = scoped(text) else {
        return Err(AddressError::Syntax { text: text.to_owned() });
    };
    match Interface::named(scope).ok().and_then(|name| index_of(name).ok()) {
        Some(index) => Ok(SocketAddrV6::new(ip, port, 0, index).into()),
        None => Err(AddressError::NoSuchInterface { text: text.to_owned(), scope: scope.to_owned() }),
    }
}

/// `[fe80::1%eth0]:53`
fn scoped(text: &str) -> Option<(Ipv6Addr, &str, u16)> {
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    let (ip, scope) = host.split_once('%')?;
    Some((ip.parse().ok()?, scope, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::local_addresses;

    #[test]
    fn a_scope_may_be_a_name() {
        let all = local_addresses().expect("addresses");
        // Names with spaces, as Windows has them, name no interface here.
        let named = |name: &str| Interface::named(name).is_ok();
        for one in all.iter().filter(|one| one.index != 0 && named(&one.name)) {
            let expected = SocketAddrV6::new("fe80::1".parse().expect("an address"), 9, 0, one.index);
            assert_eq!(read_address(&format!("[fe80::1%{}]:9", one.name)), Ok(expected.into()));
            assert_eq!(read_address(&format!("[fe80::1%{}]:9", one.index)), Ok(expected.into()));
        }
    }

    #[test]
    fn what_is_malformed_is_told_in_one_line() {
        for text in [
            "",
            "127.0.0.1",
            "::1",
            "[::1]",
            "::1:9:",
            "127.0.0.1:65536",
            "[fe80::1%lo]",
            "[fe80:1%lo]:9",
            "a\nb",
        ] {
            let error = read_address(text).expect_err(text);
            assert!(matches!(error, AddressError::Syntax { .. }), "{error}");
            assert!(
                !error.to_string().contains('\n') && error.to_string().contains("192.0.2.1:53"),
                "{error}"
            );
        }
        for text in ["[fe80::1%]:9", "[fe80::1%a b]:9", "[fe80::1%99999999999]:9", "[fe80::1%no\n]:9"] {
            let error = read_address(text).expect_err(text);
            assert!(matches!(error, AddressError::NoSuchInterface { .. }), "{error}");
            assert!(!error.to_string().contains('\n') && error.to_string().contains("`ip link`"), "{error}");
        }
    }
}
