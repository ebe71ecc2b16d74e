//! Floods: datagrams from addresses that are nobody's, as attackers send them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::RangeError;
use crate::seed::{Dice, Stream};

/// Addresses that are for measurements and for examples, so that no answer reaches anybody: 198.18.0.0/15 (RFC 2544)
/// and 2001:db8::/32 (RFC 3849).
const NOBODYS_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
const NOBODYS_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);
/// More than that in a second would have several at one nanosecond.
const MAX_RATE: u64 = 1_000_000_000;
/// Most sources that may be told apart.
const MAX_FEW: u64 = 1 << 32;
/// Bytes of a datagram, unless told otherwise.
const LEN: usize = 32;

/// What a flood is made of, for [`crate::Sim::flood`]: each datagram has a source of its own, random in a network, unless sources
/// repeat ([`Flood::repeating`]).
///
/// ```
/// use shardgram_sim::{Flood, RangeError};
/// fn hellos() -> Result<Flood, RangeError> {
///     let victim = "192.0.2.1:9000".parse().unwrap();
///     Ok(Flood::new(victim, 50_000)?.count(1_000_000).payload(|n| format!("hello {n}").into_bytes()))
/// }
/// # assert!(hellos().is_ok());
/// ```
pub struct Flood {
    to: SocketAddr,
    per_second: u64,
    count: u64,
    network: (IpAddr, u8),
    /// How many sources there are, if they repeat, and what they are drawn from.
    few: Option<(u64, u64)>,
    payload: Option<Box<dyn FnMut(u64) -> Vec<u8>>>,
}

impl std::fmt::Debug for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flood")
            .field("to", &self.to)
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

impl Flood {
    /// So many datagrams in a second, evenly, of 32 random bytes, without end. Range 1 to 10^9.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn new(to: SocketAddr, per_second: u64) -> Result<Self, RangeError> {
        if per_second == 0 || per_second > MAX_RATE {
            return Err(RangeError { field: "per_second", range: "1 to 1,000,000,000" });
        }
        let network = match to {
            SocketAddr::V4(_) => (IpAddr::V4(NOBODYS_V4.0), NOBODYS_V4.1),
            SocketAddr::V6(_) => (IpAddr::V6(NOBODYS_V6.0), NOBODYS_V6.1),
        };
        Ok(Self { to, per_second, count: u64::MAX, network, few: None, payload: None })
    }

    /// It ends after so many.
    #[must_use]
    pub fn count(mut self, datagrams: u64) -> Self {
        self.count = datagrams;
        self
    }

    /// Sources share the first `bits` bits of this address. Default: 15 of 198.18.0.0, or 32 of 2001:db8::, which
    /// are nobody's. Range 0 to 32, or to 128.
    ///
    /// # Errors
    /// If it is out of range, or the address of another family than the target.
    pub fn sources(mut self, network: IpAddr, bits: u8) -> Result<Self, RangeError> {
        let most = if network.is_ipv4() { 32 } else { 128 };
        if bits > most || network.is_ipv4() != self.to.is_ipv4() {
            return Err(RangeError {
                field: "sources",
                range: "0 to 32 bits of IPv4, 0 to 128 of IPv6, as the target",
            });
        }
        self.network = (network, bits);
        Ok(self)
    }

    /// There are so many sources, at random ports, which send again and again, in random order. Range 1 to 2^32.
    ///
    /// # Errors
    /// If it is out of range.
    ///
    /// ```
    /// use shardgram_sim::{Flood, RangeError};
    /// fn crowd() -> Result<Flood, RangeError> {
    ///     Flood::new("192.0.2.1:9000".parse().unwrap(), 1_000)?.repeating(100)
    /// }
    /// # assert!(crowd().is_ok());
    /// ```
    pub fn repeating(mut self, sources: u64) -> Result<Self, RangeError> {
        if sources == 0 || sources > MAX_FEW {
            return Err(RangeError { field: "repeating", range: "1 to 4,294,967,296" });
        }
        self.few = Some((sources, 0));
        Ok(self)
    }

    /// The bytes of each datagram, by its number from 0.
    #[must_use]
    pub fn payload(mut self, payload: impl FnMut(u64) -> Vec<u8> + 'static) -> Self {
        self.payload = Some(Box::new(payload));
        self
    }

    fn source(&self, dice: &mut Dice) -> SocketAddr {
        match self.few {
            // The same numbers for the same source each time.
            Some((sources, key)) => {
                self.draw(&mut Dice::new(key.wrapping_add(dice.below(sources)), Stream::Floods))
            }
            None => self.draw(dice),
        }
    }

    fn draw(&self, dice: &mut Dice) -> SocketAddr {
        let random = u128::from(dice.number()) << 64 | u128::from(dice.number());
        let (network, bits) = self.network;
        let ip = match network {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !host | random as u32 & host))
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !host | random & host))
            }
        };
        SocketAddr::new(ip, 1 + dice.below(65_535) as u16)
    }

    fn bytes(&mut self, number: u64, dice: &mut Dice) -> Vec<u8> {
        match &mut self.payload {
            Some(payload) => payload(number),
            None => (0..LEN / 8).flat_map(|_| dice.number().to_le_bytes()).collect(),
        }
    }
}

/// Names a flood of a simulation ([`crate::Sim::flood`]).
///
/// ```
/// use shardgram_sim::{FloodId, Sim};
/// fn all_sent(sim: &Sim, flood: FloodId) -> bool { sim.flood_sent(flood) == 1_000_000 }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FloodId(u32);

/// What a flood sends next.
#[derive(Debug)]
pub(crate) struct Shot {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// When the one after it is to be sent, if there is one.
    pub(crate) next_ns: Option<u64>,
}

/// A flood that goes on, or has ended.
#[derive(Debug)]
struct Running {
    flood: Flood,
    began_ns: u64,
    sent: u64,
}

impl Running {
    /// When the next one is to be sent.
    fn next_ns(&self) -> u64 {
        let since = u128::from(self.sent) * 1_000_000_000 / u128::from(self.flood.per_second);
        self.began_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// All floods of a simulation.
#[derive(Debug)]
pub(crate) struct Floods {
    all: Vec<Running>,
    dice: Dice,
}

impl Floods {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { all: Vec::new(), dice }
    }

    pub(crate) fn begin(&mut self, mut flood: Flood, began_ns: u64) -> FloodId {
        if let Some((_, key)) = &mut flood.few {
            *key = self.dice.number();
        }
        self.all.push(Running { flood, began_ns, sent: 0 });
        FloodId(self.all.len() as u32 - 1)
    }

    /// The next datagram of a flood, if it goes on.
    pub(crate) fn next(&mut self, id: FloodId) -> Option<Shot> {
        let running = &mut self.all[id.0 as usize];
        if running.sent >= running.flood.count {
            return None;
        }
        let from = running.flood.source(&mut self.dice);
        let bytes = running.flood.bytes(running.sent, &mut self.dice);
        running.sent += 1;
        let next_ns = (running.sent < running.flood.count).then(|| running.next_ns());
        Some(Shot { from, to: running.flood.to, bytes, next_ns })
    }

    pub(crate) fn sent(&self, id: FloodId) -> u64 {
        self.all[id.0 as usize].sent
    }

    pub(crate) fn end(&mut self, id: FloodId) {
        let running = &mut self.all[id.0 as usize];
        running.flood.count = running.sent;
    }
}
