//! Every datagram that was sent: by whom, to whom, and whether it arrived.

mod many;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shardgram_core::{Ecn, PeerId};

use crate::payload;
use crate::scenario::Scenario;
use crate::translators::Translators;

pub(crate) use many::{Due, Hearer, Many};

/// From which address a datagram has to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum From {
    Exactly(SocketAddr),
    /// Of an endpoint, whose port the system picks.
    Ip(IpAddr),
    /// Of an endpoint that is bound to the wildcard address of this host.
    Host(usize),
    /// Of a flood: any port of the addresses that share so many bits with this one.
    Within(IpAddr, u8),
}

/// Whether an address shares so many bits with another.
fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let all = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 4),
        IpAddr::V6(ip) => (ip.to_bits(), 6),
    };
    let ((one, family), (other, wanted)) = (all(ip), all(network));
    family == wanted && (one ^ other).leading_zeros() >= u32::from(bits)
}

/// A datagram on its way to one address. A payload that is shared has several.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) from: From,
    pub(crate) to: SocketAddr,
    pub(crate) len: usize,
    pub(crate) ecn: Ecn,
    /// The node and the peer that it was sent to, if it was a node that sent it to a peer.
    pub(crate) peer: Option<(usize, PeerId)>,
    /// How many datagrams, timers and messages led to it.
    pub(crate) hops: u8,
}

impl Copy {
    fn is_from(&self, from: SocketAddr, hosts: &[Vec<IpAddr>]) -> bool {
        match self.from {
            From::Exactly(address) => address == from,
            From::Ip(ip) => ip == from.ip(),
            From::Host(node) => hosts[node].contains(&from.ip()),
            From::Within(network, bits) => is_within(from.ip(), network, bits),
        }
    }
}

#[derive(Debug)]
struct Entry {
    copy: Copy,
    order: u64,
    arrived: u32,
    /// It may have been taken for another one.
    alike: Cell<bool>,
    /// It was sent to somebody behind a translator who had written to its sender.
    passes: bool,
    /// It was sent to a group.
    many: Option<Many>,
}

/// Who got a datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Receiver {
    Client,
    /// A client that is in the group.
    Member(SocketAddr),
    Peer(usize, PeerId),
}

/// A datagram that came.
#[derive(Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) receiver: Receiver,
    pub(crate) from: SocketAddr,
    /// The address it was sent to, as far as the receiver can tell.
    pub(crate) at: At<'a>,
    pub(crate) bytes: &'a [u8],
    pub(crate) truncated_from: Option<usize>,
    /// How it is marked, where that is told.
    pub(crate) ecn: Option<Ecn>,
}

/// Where a datagram came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At<'a> {
    Exactly(SocketAddr),
    /// At an endpoint of this host.
    Host(&'a [IpAddr]),
    /// At this address behind a translator, and when it was seen there.
    Behind(SocketAddr, Duration),
}

impl At<'_> {
    fn is(&self, to: SocketAddr, from: SocketAddr, translators: &Translators) -> bool {
        match self {
            Self::Exactly(at) => *at == to,
            Self::Host(host) => host.contains(&to.ip()),
            Self::Behind(inside, now) => translators.lets_in(*inside, to, from, *now),
        }
    }
}

type Stream = (Receiver, SocketAddr, SocketAddr, Option<(usize, PeerId)>);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<u64, Vec<Entry>>,
    /// Datagrams too short for a number, by destination and length: sent less received.
    short: BTreeMap<(SocketAddr, usize), i64>,
    newest: BTreeMap<Stream, u64>,
    /// The addresses of each node.
    pub(crate) hosts: Vec<Vec<IpAddr>>,
    order: u64,
    pub(crate) translators: Translators,
    /// Whether the network keeps the order of datagrams, and whether it never doubles any.
    in_order: bool,
    pub(crate) at_most_once: bool,
    /// How long what is sent takes at least.
    pub(crate) least_delay: Duration,
    /// How many datagrams of floods have come to a peer.
    pub(crate) flooded: u64,
    /// Whether every datagram reaches the shard that owns it.
    well_steered: bool,
}

impl Ledger {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            translators: Translators::new(&scenario.nats),
            in_order: scenario.in_order,
            at_most_once: scenario.at_most_once,
            least_delay: scenario.delay,
            well_steered: scenario.mis_steer == 0.0 && scenario.stray == 0.0,
            ..Self::default()
        }
    }

    pub(crate) fn is_well_steered(&self) -> bool {
        self.well_steered
    }

    /// `many` says who hears it, if it was sent to a group.
    pub(crate) fn sent(&mut self, number: u64, copy: Copy, many: Option<Many>) {
        self.order += 1;
        if copy.len < payload::NUMBER {
            *self.short.entry((copy.to, copy.len)).or_default() += 1;
            return;
        }
        let passes = self.surely_passes(&copy);
        let entry = Entry { copy, order: self.order, arrived: 0, alike: Cell::new(false), passes, many };
        self.entries.entry(number).or_default().push(entry);
    }

    fn surely_passes(&self, copy: &Copy) -> bool {
        matches!(copy.from, From::Exactly(from) if self.translators.surely_lets_in(copy.to, from))
    }

    /// Judges a datagram that came, and says how many hops it is from where it all began. `counts` is false for a
    /// look at one that will come again.
    pub(crate) fn arrived(&mut self, arrived: &Arrived<'_>, counts: bool) -> Result<u8, String> {
        let Arrived { receiver, from, at, bytes, truncated_from, ecn } = *arrived;
        let whole = truncated_from.unwrap_or(bytes.len());
        if whole < payload::NUMBER {
            return self.short(arrived, whole, counts);
        }
        // Of a datagram that was cut to less than its number nothing can be told.
        let Some(number) = payload::number_of(bytes) else { return Ok(0) };
        let Self { entries, hosts, translators, .. } = self;
        let copies = entries.get_mut(&number).map_or(&mut [][..], Vec::as_mut_slice);
        let fits = |e: &Entry| at.is(e.copy.to, from, translators) && e.copy.is_from(from, hosts);
        // Of a shared payload copies for several peers of one address cannot be told apart.
        let mut alike = copies.iter().filter(|e| fits(e)).count() > 1;
        let unlike = |e: &Entry| ecn.is_some_and(|ecn| ecn != e.copy.ecn);
        let vague = |e: &Entry| !matches!(e.copy.from, From::Exactly(_));
        let fitting = copies.iter_mut().filter(|e| fits(e)).inspect(|e| e.alike.set(alike || e.alike.get()));
        let Some(entry) = fitting.min_by_key(|e| (unlike(e), vague(e), e.arrived)) else {
            let sent: Vec<_> = copies.iter().map(|e| &e.copy).collect();
            return Err(format!(
                "datagram {number:016x} of {whole} bytes from {from} reached {receiver:?} at {at:?}; it was sent as {sent:?}"
            ));
        };
        entry.arrived += u32::from(counts);
        let entry = &*entry;
        alike |= entry.alike.get();
        let told = |what: &str| Err(format!("datagram {number:016x} for {receiver:?} {what}: {entry:?}"));
        if whole != entry.copy.len {
            return told(&format!("has {whole} bytes"));
        }
        if !payload::is_of(number, bytes) {
            return told("has other bytes");
        }
        if ecn.is_some_and(|ecn| ecn != entry.copy.ecn) {
            return told(&format!("is marked {ecn:?}"));
        }
        if counts {
            self.flooded += u64::from(matches!(entry.copy.from, From::Within(..)));
            // How often members may hear it is for who they are to say.
            if entry.arrived > 1 && self.at_most_once && !alike && entry.many.is_none() {
                return told("came twice");
            }
            let stream = (receiver, from, entry.copy.to, entry.copy.peer);
            let newest = self.newest.entry(stream).or_default();
            // One that is forwarded may be overtaken by one that comes where it belongs, and what a shard hears of a group
            // is forwarded as soon as another one owns its sender.
            let by_owner = self.well_steered && entry.many.is_none();
            let ordered = self.in_order && (by_owner || !matches!(receiver, Receiver::Peer(..)));
            // A train that is doubled comes twice, one after the other; and what a node sends to no peer goes beside
            // the trains of its peers.
            let alone = self.at_most_once && (entry.copy.peer.is_some() || entry.copy.hops == 0);
            if ordered && alone && !alike && *newest > entry.order {
                let late = format!("came after number {newest} of its sender's");
                return Err(format!("datagram {number:016x} for {receiver:?} {late}: {entry:?}"));
            }
            // One that may be another says nothing of what its stream has had.
            if !alike {
                *newest = entry.order.max(*newest);
            }
        }
        Ok(entry.copy.hops)
    }

    /// Those without a number are told apart by where they go and how long they are.
    fn short(&mut self, arrived: &Arrived<'_>, len: usize, counts: bool) -> Result<u8, String> {
        let Arrived { receiver, from, at, .. } = *arrived;
        let Self { short, translators, .. } = self;
        let is_it = |to: SocketAddr, l: usize| l == len && at.is(to, from, translators);
        let left = short.iter_mut().find(|((to, l), left)| is_it(*to, *l) && **left > 0);
        match left {
            Some((_, left)) => {
                // Members have it once each.
                let once = matches!(at, At::Exactly(to) if !to.ip().is_multicast());
                *left -= i64::from(counts && self.at_most_once && once);
            }
            None => {
                return Err(format!(
                    "{len} bytes from {from} reached {receiver:?} at {at:?}, which nobody sent"
                ));
            }
        }
        Ok(0)
    }

    /// A datagram that was sent to this address and never arrived.
    pub(crate) fn missing(&self, is_client: impl Fn(SocketAddr) -> bool) -> Option<String> {
        let entries =
            self.entries.iter().flat_map(|(number, entries)| entries.iter().map(move |e| (number, e)));
        let has_to = |e: &Entry| is_client(e.copy.to) || (e.passes && self.surely_passes(&e.copy));
        let missing = |(_, e): &(&u64, &Entry)| e.arrived == 0 && e.copy.peer.is_some() && has_to(e);
        let (number, entry) = entries.into_iter().find(missing)?;
        Some(format!("datagram {number:016x} never arrived: {entry:?}"))
    }
}
