//! The addresses from which nothing can come but what was forged: those this process listens at.
//!
//! Whoever answers a datagram that claims to come from itself gets its own answer next, and so on for ever. One datagram
//! from the network is enough for that: Linux takes IPv6 datagrams whose source is an address of this host, and IPv4 ones
//! where `accept_local` says so. So a stranger whose source is a listener of this process is dropped before anybody is
//! asked ([`crate::stats::Stats::dropped_own_source`]), whichever listener it is, since two that answer each other go on
//! as long.
//!
//! Who runs a server keeps [`OwnAddresses`] up to date: where the process listens, and which addresses the host has. A
//! shard asks its `Known`, which looks at one atomic number to see whether that has changed. Beside it the destinations
//! of such datagrams are remembered, since they are addresses of this host, whatever lists say: all of a prefix that a
//! route makes local, and an address that is not listed yet. So no loop lasts, however old the list is.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use crate::types::datagram::Path;
use crate::types::multicast::is_for_many;

/// How often the host's addresses are listed by shards, at most, where nobody watches them.
const FRESH: Duration = Duration::from_secs(1);
/// Destinations that are remembered. Of two in one place the later one stays.
const SEEN: usize = 1_024;

/// The addresses of a host.
///
/// ```
/// use shardgram_core::own_addresses::HostAddresses;
/// let host = HostAddresses::new([("192.0.2.1".parse().unwrap(), 0)]).broadcasts([[192, 0, 2, 255].into()]);
/// assert_ne!(host, HostAddresses::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    /// With the interface of those that mean nothing without, and else 0; in order.
    unicast: Vec<(IpAddr, u32)>,
    broadcasts: Vec<Ipv4Addr>,
    all_of_loopback: bool,
}

impl HostAddresses {
    /// These, each with the index of its interface if it is a link-local one, and else with 0.
    pub fn new(unicast: impl IntoIterator<Item = (IpAddr, u32)>) -> Self {
        let mut unicast: Vec<_> = unicast.into_iter().collect();
        unicast.sort_unstable();
        unicast.dedup();
        Self { unicast, ..Self::default() }
    }

    /// The broadcast addresses of its networks beside. The limited one is known.
    #[must_use]
    pub fn broadcasts(mut self, broadcasts: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        self.broadcasts = broadcasts.into_iter().collect();
        self.broadcasts.sort_unstable();
        self.broadcasts.dedup();
        // What is an address of this host is none of many.
        let unicast = &self.unicast;
        self.broadcasts.retain(|v4| unicast.binary_search(&(IpAddr::V4(*v4), 0)).is_err());
        self
    }

    /// And all of 127.0.0.0/8 (RFC 1122 section 3.2.1.3: "Internal host loopback address").
    #[must_use]
    pub fn all_of_loopback(mut self) -> Self {
        self.all_of_loopback = true;
        self
    }

    fn has(&self, ip: IpAddr, scope: u32) -> bool {
        let loopback = matches!(ip, IpAddr::V4(v4) if v4.is_loopback());
        (loopback && self.all_of_loopback) || self.unicast.binary_search(&(ip, scope)).is_ok()
    }
}

/// Who lists the addresses of the host; `None` if that failed.
pub type Lister = Box<dyn Fn() -> Option<HostAddresses> + Send + Sync>;

/// Where a process listens, and which addresses its host has. All servers of a process share one.
///
/// ```
/// use shardgram_core::own_addresses::{HostAddresses, OwnAddresses};
/// let own = OwnAddresses::new((1, 2)); // of random bits, outside of tests
/// own.listen(&["0.0.0.0:9000".parse().unwrap()]);
/// own.host_has(HostAddresses::new([("192.0.2.1".parse().unwrap(), 0)]));
/// assert!(own.has("192.0.2.1:9000".parse().unwrap()));
/// assert!(!own.has("192.0.2.1:9001".parse().unwrap()));
/// assert!(!own.has("192.0.2.7:9000".parse().unwrap()));
/// ```
pub struct OwnAddresses {
    /// Counts changes of `current`.
    version: AtomicU64,
    current: Mutex<Current>,
    /// Destinations that were seen, by keyed hash. Nought is an empty place.
    seen: Box<[AtomicU64; SEEN]>,
    hasher: SipHasher13,
    lister: Option<Lister>,
    /// Somebody tells of each change, so nobody needs to list.
    watched: AtomicBool,
}

#[derive(Debug, Default)]
struct Current {
    view: Arc<View>,
    listed: Option<Instant>,
}

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
struct View {
    listeners: Vec<SocketAddr>,
    /// Their ports, each once.
    ports: Vec<u16>,
    host: HostAddresses,
}

impl fmt::Debug for OwnAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnAddresses").field("current", &self.lock().view).finish_non_exhaustive()
    }
}

impl Default for OwnAddresses {
    fn default() -> Self {
        Self::new((0, 0))
    }
}

impl OwnAddresses {
    /// Of a process that listens nowhere yet. The key keeps remote parties from choosing what is forgotten.
    #[must_use]
    pub fn new(key: (u64, u64)) -> Self {
        Self {
            version: AtomicU64::new(0),
            current: Mutex::default(),
            seen: Box::new([const { AtomicU64::new(0) }; SEEN]),
            hasher: SipHasher13::new_with_keys(key.0, key.1),
            lister: None,
            watched: AtomicBool::new(false),
        }
    }

    /// Has shards list the host's addresses where nobody watches them: at most once a second, and only for a datagram
    /// whose source port is one that is listened at.
    ///
    /// ```
    /// use shardgram_core::own_addresses::{HostAddresses, OwnAddresses};
    /// let own = OwnAddresses::new((1, 2)).lister(Box::new(|| Some(HostAddresses::default().all_of_loopback())));
    /// assert!(!own.has("127.0.0.1:9000".parse().unwrap()), "nobody listens there");
    /// ```
    #[must_use]
    pub fn lister(mut self, lister: Lister) -> Self {
        self.lister = Some(lister);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Whoever panicked had not begun to change it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, current: &mut Current, what: impl FnOnce(&mut View)) {
        let mut view = View::clone(&current.view);
        what(&mut view);
        current.view = Arc::new(view);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A server listens at these from now on.
    ///
    /// ```
    /// use shardgram_core::own_addresses::OwnAddresses;
    /// fn bound(own: &OwnAddresses, addresses: &[std::net::SocketAddr]) { own.listen(addresses); }
    /// ```
    pub fn listen(&self, addresses: &[SocketAddr]) {
        self.change(&mut self.lock(), |view| {
            view.listeners.extend(addresses);
            view.find_ports();
        });
    }

    /// A server that listened at these has ended.
    ///
    /// ```
    /// use shardgram_core::own_addresses::OwnAddresses;
    /// let (own, at) = (OwnAddresses::default(), "192.0.2.1:9000".parse().unwrap());
    /// own.listen(&[at]);
    /// own.leave(&[at]);
    /// assert!(!own.has(at));
    /// ```
    pub fn leave(&self, addresses: &[SocketAddr]) {
        self.change(&mut self.lock(), |view| {
            for address in addresses {
                if let Some(at) = view.listeners.iter().position(|one| one == address) {
                    view.listeners.swap_remove(at);
                }
            }
            view.find_ports();
        });
    }

    /// The host has these addresses from now on, and what was seen before may be another's: also where the list is the same
    /// as before, for an address may have come and gone in between.
    ///
    /// ```
    /// use shardgram_core::own_addresses::{HostAddresses, OwnAddresses};
    /// fn renumbered(own: &OwnAddresses, ip: std::net::IpAddr) { own.host_has(HostAddresses::new([(ip, 0)])); }
    /// ```
    pub fn host_has(&self, host: HostAddresses) {
        self.take_over(&mut self.lock(), host);
    }

    fn take_over(&self, current: &mut Current, host: HostAddresses) {
        self.seen.iter().for_each(|place| place.store(0, Ordering::Relaxed));
        if current.view.host != host {
            self.change(current, |view| view.host = host);
        }
    }

    /// Whether somebody tells of each change of the host's addresses ([`OwnAddresses::host_has`]), so that shards need not
    /// list them.
    ///
    /// ```
    /// use shardgram_core::own_addresses::OwnAddresses;
    /// fn watch_begins(own: &OwnAddresses) { own.watched(true); }
    /// ```
    pub fn watched(&self, yes: bool) {
        self.watched.store(yes, Ordering::Relaxed);
    }

    /// Whether this process listens there, as far as is known.
    pub fn has(&self, address: SocketAddr) -> bool {
        let view = Arc::clone(&self.lock().view);
        let address = canonical(address);
        view.has(address) || self.is_seen(&view, address)
    }

    /// Lists the host's addresses, if that was not done a moment ago. Says whether it did.
    fn list(&self, now: Instant) -> bool {
        let Some(lister) = self.lister.as_ref().filter(|_| !self.watched.load(Ordering::Relaxed)) else {
            return false;
        };
        let mut current = self.lock();
        if current.listed.is_some_and(|listed| now.saturating_duration_since(listed) < FRESH) {
            return false;
        }
        current.listed = Some(now);
        match lister() {
            Some(host) if host == current.view.host => {}
            Some(host) => self.take_over(&mut current, host),
            None => return false,
        }
        true
    }

    fn hash(&self, ip: IpAddr) -> (usize, u64) {
        let mut hasher = self.hasher;
        match ip {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        let hash = hasher.finish() | 1;
        ((hash >> 32) as usize % SEEN, hash)
    }

    /// Something was sent to this address and reached this host, so it is one of its own.
    fn see(&self, ip: IpAddr) {
        if !ip.is_unspecified() && !is_link_local(ip) {
            let (place, hash) = self.hash(ip);
            self.seen[place].store(hash, Ordering::Relaxed);
        }
    }

    /// Whether a wildcard listens at an address that was seen as a destination.
    fn is_seen(&self, view: &View, address: SocketAddr) -> bool {
        let (place, hash) = self.hash(address.ip());
        view.wildcard(address) && self.seen[place].load(Ordering::Relaxed) == hash
    }
}

impl View {
    fn find_ports(&mut self) {
        self.ports = self.listeners.iter().map(SocketAddr::port).collect();
        self.ports.sort_unstable();
        self.ports.dedup();
    }

    /// Whether a wildcard covers this address, if it is one of this host.
    fn wildcard(&self, address: SocketAddr) -> bool {
        let covers = |one: &SocketAddr| {
            one.ip().is_unspecified() && one.port() == address.port() && one.is_ipv4() == address.is_ipv4()
        };
        self.listeners.iter().any(covers)
    }

    fn has(&self, address: SocketAddr) -> bool {
        let is_it = |one: &SocketAddr| {
            one.port() == address.port() && one.ip() == address.ip() && scope(*one) == scope(address)
        };
        self.listeners.iter().any(is_it)
            || (self.wildcard(address) && self.host.has(address.ip(), scope(address)))
    }
}

/// An address as it is without its detour over IPv6 (RFC 4291 section 2.5.5.2).
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The interface without which an address means nothing, or 0.
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
        _ => 0,
    }
}

/// Why nobody is a peer at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// It is no host's: unspecified, a group or a broadcast address.
    NoHost,
    /// This process listens there.
    Own,
}

/// What a shard knows.
#[derive(Debug)]
pub(crate) struct Known {
    shared: Arc<OwnAddresses>,
    version: u64,
    view: Arc<View>,
}

impl Known {
    pub(crate) fn new(shared: Arc<OwnAddresses>) -> Self {
        let mut known = Self { shared, version: 0, view: Arc::default() };
        known.renew();
        known
    }

    /// Takes over what has changed.
    #[inline]
    fn refresh(&mut self) {
        if self.shared.version.load(Ordering::Acquire) != self.version {
            self.renew();
        }
    }

    #[cold]
    fn renew(&mut self) {
        let current = self.shared.lock();
        // Changed under the lock only, so the two belong together.
        self.version = self.shared.version.load(Ordering::Relaxed);
        self.view = Arc::clone(&current.view);
    }

    /// Whether no peer can be at the remote end of a path. Few strangers have a port in common with a listener, so that is
    /// looked at first. `endpoint` is what the path's endpoint is bound to, if it has one: for that it is a listener, too.
    #[inline]
    pub(crate) fn unfit(&mut self, path: &Path, endpoint: Option<SocketAddr>, now: Instant) -> Option<Unfit> {
        let remote = canonical(path.remote);
        if remote.ip().is_unspecified() || is_for_many(remote.ip()) {
            return Some(Unfit::NoHost);
        }
        self.refresh();
        if let IpAddr::V4(v4) = remote.ip()
            && self.view.host.broadcasts.binary_search(&v4).is_ok()
        {
            return Some(Unfit::NoHost);
        }
        if let Some(bound) = endpoint.filter(|bound| bound.port() == remote.port())
            && (bound.ip() == remote.ip()
                || (bound.ip().is_unspecified() && self.view.host.has(remote.ip(), scope(remote))))
        {
            return Some(Unfit::Own);
        }
        if !self.view.ports.contains(&remote.port()) {
            return None;
        }
        let local = canonical(path.local).ip();
        self.shared.see(local);
        let from_itself = local == remote.ip() && self.view.wildcard(remote);
        (from_itself || self.is_own(remote, now)).then_some(Unfit::Own)
    }

    /// Whether this process listens there. Who writes to the unspecified address writes to this host.
    #[cold]
    pub(crate) fn is_own(&mut self, address: SocketAddr, now: Instant) -> bool {
        self.refresh();
        let address = canonical(address);
        let to_this_host =
            |view: &View| address.ip().is_unspecified() && view.ports.contains(&address.port());
        if self.view.has(address) || self.shared.is_seen(&self.view, address) || to_this_host(&self.view) {
            return true;
        }
        if !self.view.wildcard(address) {
            return false;
        }
        // What was seen may have been forgotten since for a list that has it.
        self.shared.list(now);
        self.refresh();
        self.view.has(address)
    }
}

#[cfg(test)]
mod tests;
