//! Whom to dial: a name and a port, and how.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::dial::resolver::plain;
use crate::types::endpoint::{Endpoint, EndpointId};
use crate::types::interface::Interface;

/// RFC 1035 section 2.3.4: "names 255 octets or less", which as text leaves 253 characters.
const LONGEST_NAME: usize = 253;
/// The same section: "labels 63 octets or less".
const LONGEST_LABEL: usize = 63;
/// How long an address is tried, and how long a name may take, unless told otherwise.
const TRY_FOR: Duration = Duration::from_secs(2);
const LOOK_UP_WITHIN: Duration = Duration::from_secs(10);

/// A host to dial ([`crate::Context::dial`]): its name or address, its port, and how it is tried.
///
/// ```
/// use std::time::Duration;
/// use shardgram_core::Dial;
/// # fn main() -> Result<(), shardgram_core::HostError> {
/// let dial = Dial::to("game.example.net", 9000)?.try_for(Duration::from_millis(500));
/// assert_eq!(dial.to_string(), "game.example.net:9000");
/// assert_eq!("[2001:db8::1]:9000".parse::<Dial>()?.address(), Some("[2001:db8::1]:9000".parse().unwrap()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dial {
    host: Host,
    port: u16,
    pub(crate) from: Origin,
    pub(crate) try_for: Duration,
    pub(crate) look_up_within: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    Name(Arc<str>),
    Address(SocketAddr),
}

/// Where a dialed peer is written to from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// An endpoint of its own, made so; `None` leaves everything to the system.
    Own(Option<Endpoint>),
    Shared(EndpointId),
}

/// Why something cannot be dialed at all.
///
/// ```
/// use shardgram_core::{Dial, HostError};
/// assert_eq!(Dial::to("example.net", 0), Err(HostError::PortZero));
/// assert_eq!("example.net".parse::<Dial>(), Err(HostError::NoPort));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No host can have this name.
    #[error(
        "a host's name has up to 253 letters, digits, hyphens and underscores, in labels of up to 63 between dots; \
         international names have their ASCII form, xn--..."
    )]
    Name,
    /// It is an IPv6 address, and what follows its `%` is neither the index nor the name of an interface.
    #[error("what follows % in an IPv6 address is the index or the name of an interface")]
    Scope,
    /// There is no port, or an IPv6 address without the brackets that tell it from one.
    #[error("write host:port, and an IPv6 address in brackets, as in [2001:db8::1]:53")]
    NoPort,
    /// A datagram cannot be sent to port 0.
    #[error("port 0 cannot be a peer's port")]
    PortZero,
}

impl Dial {
    /// A host's name or address, and its port. Nothing is looked up yet; an address never is, unless its scope is
    /// an interface's name. A wildcard, a multicast group or 255.255.255.255 is no host's address: who dials one hears
    /// [`crate::LookupError::NoAddress`], as of a name that has no other.
    ///
    /// # Errors
    /// See [`HostError`].
    ///
    /// ```
    /// use shardgram_core::Dial;
    /// assert!(Dial::to("localhost", 53).is_ok());
    /// assert!(Dial::to("fe80::1%eth0", 53).is_ok());
    /// assert!(Dial::to("not a name", 53).is_err());
    /// ```
    pub fn to(host: &str, port: u16) -> Result<Self, HostError> {
        if port == 0 {
            return Err(HostError::PortZero);
        }
        let host = read_host(host, port)?;
        Ok(Self { host, port, from: Origin::Own(None), try_for: TRY_FOR, look_up_within: LOOK_UP_WITHIN })
    }

    /// How long each address is given to answer before the next is tried. Default 2 s; [`Duration::MAX`] waits for
    /// the first for ever. A timer of the library's own, beside [`crate::Config::max_timers`]. At most 16 addresses
    /// are tried, so giving up takes up to 16 times as long.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Dial;
    /// let dial = Dial::to("example.net", 9000).unwrap().try_for(Duration::from_millis(300));
    /// # drop(dial);
    /// ```
    #[must_use]
    pub fn try_for(mut self, time: Duration) -> Self {
        self.try_for = time;
        self
    }

    /// How long the name may take to be looked up. Default 10 s. After that the peer hears
    /// [`crate::LookupError::TimedOut`], and an answer that comes later is passed over.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Dial;
    /// let dial = Dial::to("example.net", 9000).unwrap().look_up_within(Duration::from_secs(3));
    /// # drop(dial);
    /// ```
    #[must_use]
    pub fn look_up_within(mut self, time: Duration) -> Self {
        self.look_up_within = time;
        self
    }

    /// From an endpoint of its own like this one, which is closed with the peer. Default: on a free port of any
    /// address. With a wildcard address (and a port, an interface) it serves both families, one after the other;
    /// with any other address only host addresses of its family are tried, also where the host is given by one.
    ///
    /// ```
    /// use shardgram_core::{Dial, Endpoint, Interface};
    /// let tunnel = Endpoint::bound("0.0.0.0:0".parse().unwrap()).on_interface(Interface::named("wg0").unwrap());
    /// let dial = Dial::to("example.net", 9000).unwrap().endpoint(tunnel);
    /// # drop(dial);
    /// ```
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.from = Origin::Own(Some(endpoint));
        self
    }

    /// From this endpoint, which others may use too: only host addresses of its family are tried.
    ///
    /// ```
    /// use shardgram_core::{Dial, EndpointId};
    /// fn by(endpoint: EndpointId) -> Dial {
    ///     Dial::to("example.net", 9000).unwrap().via(endpoint)
    /// }
    /// ```
    #[must_use]
    pub fn via(mut self, endpoint: EndpointId) -> Self {
        self.from = Origin::Shared(endpoint);
        self
    }

    /// The address, if it is one and no name.
    ///
    /// ```
    /// use shardgram_core::Dial;
    /// assert_eq!(Dial::to("192.0.2.1", 53).unwrap().address(), Some(([192, 0, 2, 1], 53).into()));
    /// assert_eq!(Dial::to("localhost", 53).unwrap().address(), None);
    /// ```
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// As [`Dial::to`] takes it; an IPv6 address in brackets.
impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// From `host:port`, `192.0.2.1:53` or `[fe80::1%eth0]:53`.
impl FromStr for Dial {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostError::NoPort)?;
        let host = match host.strip_prefix('[') {
            Some(inside) => {
                inside.strip_suffix(']').filter(|ip| ip.contains(':')).ok_or(HostError::NoPort)?
            }
            // More colons are an IPv6 address, whose last part is no port.
            None if host.contains(':') => return Err(HostError::NoPort),
            None => host,
        };
        // `u16::from_str` would take a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostError::NoPort);
        }
        Self::to(host, port.parse().map_err(|_| HostError::NoPort)?)
    }
}

fn read_host(host: &str, port: u16) -> Result<Host, HostError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Host::Address(plain(SocketAddr::new(ip, port))));
    }
    if host.contains(':') {
        return read_scoped(host, port);
    }
    let whole = host.strip_suffix('.').unwrap_or(host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(allowed);
    if whole.len() <= LONGEST_NAME && whole.split('.').all(label) {
        Ok(Host::Name(host.into()))
    } else {
        Err(HostError::Name)
    }
}

/// An IPv6 address with a scope (RFC 4007 section 11).
fn read_scoped(host: &str, port: u16) -> Result<Host, HostError> {
    let (ip, scope) = host.split_once('%').ok_or(HostError::Name)?;
    let ip: Ipv6Addr = ip.parse().map_err(|_| HostError::Name)?;
    match scope.parse::<u32>() {
        Ok(index) => Ok(Host::Address(plain(SocketAddrV6::new(ip, port, 0, index).into()))),
        // The system knows the names of interfaces, so this is for the resolver.
        Err(_) if Interface::named(scope).is_ok() => Ok(Host::Name(host.into())),
        Err(_) => Err(HostError::Scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        for name in ["localhost", "a.b-c.example", "_sip._udp.example.net", "example.net.", &longest] {
            let dial: Dial = format!("{name}:65535").parse().expect(name);
            assert_eq!((dial.host(), dial.port()), (&Host::Name(name.into()), 65_535));
            assert_eq!(dial.to_string(), format!("{name}:65535"));
        }
        for (text, address) in [
            ("192.0.2.1:53", "192.0.2.1:53"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53"),
            ("[::ffff:192.0.2.1]:53", "192.0.2.1:53"),
            ("[fe80::1%7]:53", "[fe80::1%7]:53"),
        ] {
            let dial: Dial = text.parse().expect(text);
            assert_eq!(dial.address(), Some(address.parse().expect(address)));
        }
        let scoped: Dial = "[fe80::1%eth0]:53".parse().expect("a scope by name");
        assert_eq!(
            (scoped.host(), &*scoped.to_string()),
            (&Host::Name("fe80::1%eth0".into()), "[fe80::1%eth0]:53")
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.example:1", "a".repeat(64));
        let longer = format!("{}a:1", "a.".repeat(127));
        for text in
            ["", ":1", ".:1", "a..b:1", "a b:1", "bücher.example:1", "a/b:1", "[a:b]:1", &long, &longer]
        {
            let error = text.parse::<Dial>().expect_err(text);
            assert!(matches!(error, HostError::Name | HostError::NoPort), "{text}: {error:?}");
        }
        for text in
            ["host", "host:", "host:65536", "host:-1", "host:+1", "2001:db8::1:53", "[a]:1", "[::1:53"]
        {
            assert_eq!(text.parse::<Dial>(), Err(HostError::NoPort), "{text}");
        }
        assert_eq!("host:0".parse::<Dial>(), Err(HostError::PortZero));
        assert_eq!("[fe80::1%a/b]:1".parse::<Dial>(), Err(HostError::Scope));
    }
}
