//! Which network interface, as a socket is told.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// The longest name an interface may have, in bytes: `IFNAMSIZ` less its closing zero (netdevice(7)).
const LONGEST_NAME: usize = 15;

/// A network interface, by name, by index or by an address it has. A copy costs 20 bytes and nothing is asked of the
/// system until a socket is bound to it ([`crate::Endpoint::on_interface`]) or joins a group by it
/// ([`crate::Membership::on`]).
///
/// ```
/// use shardgram_core::Interface;
/// # fn main() -> Result<(), shardgram_core::InterfaceError> {
/// assert_eq!(Interface::named("eth0")?.to_string(), "eth0");
/// assert_eq!(Interface::index(2)?.to_string(), "2");
/// assert_eq!(Interface::of([192, 0, 2, 1]).to_string(), "of 192.0.2.1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interface(By);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    Index(NonZeroU32),
    /// Filled up with zeros, of which a name has none.
    Name([u8; LONGEST_NAME]),
    Address(IpAddr),
}

/// Why something cannot be the name or the index of an interface.
///
/// ```
/// use shardgram_core::{Interface, InterfaceError};
/// assert_eq!(Interface::named("a name with spaces"), Err(InterfaceError::Name));
/// assert_eq!(Interface::index(0), Err(InterfaceError::Index));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// Empty, too long, or with bytes that no name has.
    #[error(
        "a name of an interface has 1 to 15 bytes, of which none is a space, a slash, a colon or a control"
    )]
    Name,
    /// Indexes begin at 1.
    #[error("0 is the index of no interface")]
    Index,
}

impl Interface {
    /// The one with this name. Looked up by the system when the socket is opened, so it may come into being
    /// after this call.
    ///
    /// # Errors
    /// [`InterfaceError::Name`] if no interface can be called so.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// assert!(Interface::named("wg0").is_ok());
    /// assert!(Interface::named("much-too-long-for-one").is_err());
    /// ```
    pub fn named(name: &str) -> Result<Self, InterfaceError> {
        // `dev_valid_name` in net/core/dev.c.
        let bad =
            |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte.is_ascii_control();
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name == "."
            || name == ".."
            || name.bytes().any(bad)
        {
            return Err(InterfaceError::Name);
        }
        let mut bytes = [0; LONGEST_NAME];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(By::Name(bytes)))
    }

    /// The one with this index (if_nametoindex(3)), as it stands in the scope of a link-local address.
    ///
    /// # Errors
    /// [`InterfaceError::Index`] for 0.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// assert!(Interface::index(1).is_ok());
    /// ```
    pub fn index(index: u32) -> Result<Self, InterfaceError> {
        NonZeroU32::new(index).map(|index| Self(By::Index(index))).ok_or(InterfaceError::Index)
    }

    /// The one that has this address, of either family.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// let loopback = Interface::of([127, 0, 0, 1]);
    /// assert_eq!(loopback.as_address(), Some([127, 0, 0, 1].into()));
    /// ```
    pub fn of(address: impl Into<IpAddr>) -> Self {
        Self(By::Address(address.into()))
    }

    /// Its address, if that was given.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// assert_eq!(Interface::index(1).unwrap().as_address(), None);
    /// ```
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.0 {
            By::Address(address) => Some(address),
            By::Name(_) | By::Index(_) => None,
        }
    }

    /// Its name, if it was named.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// assert_eq!(Interface::named("lo").unwrap().as_name(), Some("lo"));
    /// assert_eq!(Interface::index(1).unwrap().as_name(), None);
    /// ```
    pub fn as_name(&self) -> Option<&str> {
        let By::Name(bytes) = &self.0 else { return None };
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(LONGEST_NAME);
        std::str::from_utf8(&bytes[..len]).ok()
    }

    /// Its index, if that was given.
    ///
    /// ```
    /// use shardgram_core::Interface;
    /// assert_eq!(Interface::index(7).unwrap().as_index().map(u32::from), Some(7));
    /// ```
    pub fn as_index(&self) -> Option<NonZeroU32> {
        match self.0 {
            By::Index(index) => Some(index),
            By::Name(_) | By::Address(_) => None,
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            By::Index(index) => index.fmt(f),
            By::Name(_) => f.write_str(self.as_name().unwrap_or_default()),
            By::Address(address) => write!(f, "of {address}"),
        }
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interface({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_interfaces_can_have() {
        for name in ["a", "eth0.100", "fifteen-bytes-x", "é0"] {
            assert_eq!(Interface::named(name).expect(name).as_name(), Some(name));
        }
        for name in ["", ".", "..", "sixteen-bytes-xy", "a/b", "a:0", "a b", "a\0", "a\n"] {
            assert_eq!(Interface::named(name), Err(InterfaceError::Name), "{name:?}");
        }
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Interface>() <= 20);
        assert!(size_of::<Option<Interface>>() <= 20);
    }
}
