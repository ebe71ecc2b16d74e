//! From a name to addresses, off the shards: who looks names up, and how the answer comes back.
//!
//! A shard asks with a [`Lookup`], which carries the way back. Whoever has it answers from any thread and in
//! any order; one that is dropped has answered too. So nothing a resolver does leaves a shard waiting for ever.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use crate::messages::mailbox::Bell;
use crate::sync::Sender;
use crate::types::datagram::canonical;
use crate::types::error::LookupError;
use crate::types::ids::PeerId;

/// Addresses of one name that are tried, at most.
pub(crate) const MOST_ADDRESSES: usize = 16;
/// Addresses that are looked at in an answer, at most.
const MOST_READ: usize = 256;

/// Looks names up for the shards of a server. The facade has one that asks the system, the simulator one of its
/// own; any closure that takes a [`Lookup`] is one, so that a library for DNS can be put in its place.
///
/// ```
/// use shardgram_core::{Lookup, LookupError, Resolver};
/// /// From a table, as for tests.
/// fn of_table(lookup: Lookup) {
///     let port = lookup.port();
///     match lookup.name() {
///         "game.test" => lookup.answer(Ok([([192, 0, 2, 1], port).into(), ([192, 0, 2, 2], port).into()])),
///         _ => lookup.answer::<[_; 0]>(Err(LookupError::NotFound)),
///     }
/// }
/// let resolver: Box<dyn Resolver> = Box::new(of_table);
/// # drop(resolver);
/// ```
pub trait Resolver: Send + Sync {
    /// Begins to look a name up. Called on a shard's thread, within a callback of its handler: it must not
    /// block. A panic in it is one of the handler's.
    ///
    /// ```
    /// use std::sync::mpsc::SyncSender;
    /// use shardgram_core::{Lookup, LookupError, Resolver};
    /// struct ByThread(SyncSender<Lookup>);
    /// impl Resolver for ByThread {
    ///     fn look_up(&self, lookup: Lookup) {
    ///         if let Err(error) = self.0.try_send(lookup) {
    ///             let (std::sync::mpsc::TrySendError::Full(lookup)
    ///             | std::sync::mpsc::TrySendError::Disconnected(lookup)) = error;
    ///             lookup.answer::<[_; 0]>(Err(LookupError::Busy));
    ///         }
    ///     }
    /// }
    /// ```
    fn look_up(&self, lookup: Lookup);

    /// The shards of a server are about to be pinned to cores ([`crate::Config::cores`]), and a thread that is started
    /// from theirs has their core. Called before there are any, on the thread that starts them: a resolver with threads
    /// starts here at least the one that starts the others. One that hands lookups on to another hands this on too.
    /// Default: nothing is done.
    ///
    /// ```
    /// use shardgram_core::{Lookup, Resolver};
    /// /// Says which names are looked up.
    /// struct Logged<R>(R);
    /// impl<R: Resolver> Resolver for Logged<R> {
    ///     fn look_up(&self, lookup: Lookup) {
    ///         eprintln!("{}", lookup.name());
    ///         self.0.look_up(lookup);
    ///     }
    ///     fn before_pinning(&self) {
    ///         self.0.before_pinning();
    ///     }
    /// }
    /// ```
    fn before_pinning(&self) {}
}

impl<F: Fn(Lookup) + Send + Sync> Resolver for F {
    fn look_up(&self, lookup: Lookup) {
        self(lookup);
    }
}

/// A name that a shard wants the addresses of.
///
/// ```
/// use shardgram_core::Lookup;
/// fn look_up_on_a_thread(lookup: Lookup) {
///     std::thread::spawn(move || {
///         use std::net::ToSocketAddrs;
///         if lookup.is_wanted() {
///             let found = (lookup.name(), lookup.port()).to_socket_addrs();
///             let failed = shardgram_core::LookupError::Failed { code: 0 };
///             lookup.answer(found.map_err(|_| failed));
///         }
///     });
/// }
/// ```
pub struct Lookup {
    name: Arc<str>,
    port: u16,
    /// Alive while somebody waits.
    wanted: Weak<()>,
    way_back: WayBack,
    answered: bool,
}

/// Where answers go.
#[derive(Clone)]
pub(crate) struct WayBack {
    pub(crate) answers: Sender<Answer>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) peer: PeerId,
    pub(crate) serial: u32,
}

/// What came of a lookup.
pub(crate) struct Answer {
    pub(crate) peer: PeerId,
    pub(crate) serial: u32,
    pub(crate) result: Result<Vec<SocketAddr>, LookupError>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Lookup {
    pub(crate) fn new(name: Arc<str>, port: u16, wanted: Weak<()>, way_back: WayBack) -> Self {
        Self { name, port, wanted, way_back, answered: false }
    }

    /// The name: 253 bytes of ASCII at most, or an IPv6 address with the name of an interface as its scope.
    ///
    /// ```
    /// fn is_local(lookup: &shardgram_core::Lookup) -> bool { lookup.name().ends_with(".local") }
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that was dialed, for the addresses of the answer. Never 0.
    ///
    /// ```
    /// use std::net::{IpAddr, SocketAddr};
    /// fn at(lookup: &shardgram_core::Lookup, ip: IpAddr) -> SocketAddr { SocketAddr::new(ip, lookup.port()) }
    /// ```
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether somebody still waits for it: not once its time is over, its peer is closed or its shard has
    /// ended.
    ///
    /// ```
    /// fn next(queue: &mut Vec<shardgram_core::Lookup>) -> Option<shardgram_core::Lookup> {
    ///     queue.retain(shardgram_core::Lookup::is_wanted);
    ///     queue.pop()
    /// }
    /// ```
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

    /// Answers. Of the addresses 16 are tried, families in turn beginning with that of the first, and otherwise
    /// in this order; those that cannot be written to are passed over. A port may differ from
    /// [`Lookup::port`], as with SRV records.
    ///
    /// ```
    /// use shardgram_core::{Lookup, LookupError};
    /// fn down(lookup: Lookup) { lookup.answer::<[_; 0]>(Err(LookupError::Temporary)); }
    /// fn up(lookup: Lookup) { lookup.answer(Ok([([192, 0, 2, 7], 9_000).into()])); }
    /// ```
    pub fn answer<A: IntoIterator<Item = SocketAddr>>(mut self, addresses: Result<A, LookupError>) {
        self.send(addresses.map(|all| all.into_iter().take(MOST_READ).collect()));
    }

    fn send(&mut self, result: Result<Vec<SocketAddr>, LookupError>) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let WayBack { answers, bell, peer, serial } = &self.way_back;
        // There is room for an answer to each lookup that is under way; and of a shard that has ended nobody waits.
        if answers.try_send(Answer { peer: *peer, serial: *serial, result }).is_ok() {
            bell.ring();
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.send(Err(LookupError::Abandoned));
    }
}

/// The addresses to try, in turn: each once, those of both families alternating, beginning with the first one's
/// (RFC 8305 section 4: "the client SHOULD interleave address families", with a First Address Family Count of 1).
/// Those that name no single host are left out, and those of a family that is not wanted.
pub(crate) fn in_turn(addresses: &[SocketAddr], ipv4_only: Option<bool>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::with_capacity(addresses.len().min(MOST_READ));
    for address in addresses.iter().take(MOST_READ) {
        let address = plain(*address);
        let wanted = ipv4_only.is_none_or(|ipv4| ipv4 == address.is_ipv4());
        if wanted && names_a_host(address) && !all.contains(&address) {
            all.push(address);
        }
    }
    let Some(ipv4_first) = all.first().map(SocketAddr::is_ipv4) else { return all };
    let (first, second): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.is_ipv4() == ipv4_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::with_capacity(MOST_ADDRESSES);
    while turns.len() < MOST_ADDRESSES {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            break;
        }
    }
    turns.truncate(MOST_ADDRESSES);
    turns
}

/// As a datagram's source is named: an IPv4 address in IPv6 clothes without them, a scope where it means something.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    let mapped = match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped(),
        SocketAddr::V4(_) => None,
    };
    mapped.map_or_else(|| canonical(address), |ip| (ip, address.port()).into())
}

/// Whether a datagram can be sent there and reach one host.
fn names_a_host(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(addresses: &[&str], ipv4_only: Option<bool>) -> Vec<String> {
        let parsed: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().expect(a)).collect();
        in_turn(&parsed, ipv4_only).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let given = ["[2001:db8::1]:9", "[2001:db8::2]:9", "[2001:db8::3]:9", "192.0.2.1:9", "192.0.2.2:9"];
        let want = ["[2001:db8::1]:9", "192.0.2.1:9", "[2001:db8::2]:9", "192.0.2.2:9", "[2001:db8::3]:9"];
        assert_eq!(turns(&given, None), want);
        assert_eq!(turns(&given, Some(true)), want[1..4].iter().step_by(2).copied().collect::<Vec<_>>());
        assert_eq!(turns(&given[3..], Some(false)), Vec::<String>::new());
    }

    #[test]
    fn what_names_no_host_is_passed_over_and_nothing_comes_twice() {
        let given = [
            "0.0.0.0:9",
            "255.255.255.255:9",
            "224.0.0.1:9",
            "[::]:9",
            "[ff02::1]:9",
            "192.0.2.1:0",
            "192.0.2.1:9",
            "[::ffff:192.0.2.1]:9",
            "192.0.2.1:10",
            "[fe80::1%3]:9",
            "[2001:db8::1%3]:9",
        ];
        let want = ["192.0.2.1:9", "[fe80::1%3]:9", "192.0.2.1:10", "[2001:db8::1]:9"];
        assert_eq!(turns(&given, None), want);
    }

    #[test]
    fn no_more_are_tried_than_may_be() {
        let many: Vec<SocketAddr> =
            (0..1_000_u32).map(|n| (n.to_be_bytes().map(|b| b | 1), 9).into()).collect();
        assert_eq!(in_turn(&many, None).len(), MOST_ADDRESSES);
    }
}
