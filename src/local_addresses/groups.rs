//! Which local addresses have groups, and which should.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use shardgram_sys::interfaces::{BoundTo, broadcast_addresses, local_addresses};
use shardgram_sys::multicast::Followed;
use shardgram_sys::{
    BindError, InterfaceAddress, Lease, ListenerGroup, ListenerSocket, SocketOptions, Usage, WantedAddress,
};

use super::giving_way::{GivingWay, Use, least_used};

/// An IPv6 address is listed before it may be bound: the host asks its neighbours first whether anybody
/// has it (RFC 4862 section 5.4), which takes a second or two. That is how often, and after how much time
/// each, it is tried; when it has become usable that is announced, too.
const TENTATIVE_TRIES: u32 = 50;
const TENTATIVE_REST: Duration = Duration::from_millis(100);
/// How long an address rests that could not be bound for any other reason.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long to wait for a shard that is behind with its changes.
const BEHIND_REST: Duration = Duration::from_millis(20);
/// Addresses of a wildcard that are remembered as resting: as many as may be bound, and some.
const RESTING: usize = 4_096 + 256;
/// Addresses that are tried in a second because a datagram was sent to them: who sends chooses them.
const ASKED_PER_SECOND: u32 = 100;

/// Who is told of changes.
pub(super) trait Tell {
    /// Whether one more change can be told.
    fn has_room(&self) -> bool;
    /// A group was bound; one socket per shard.
    fn added(&mut self, sockets: Vec<ListenerSocket>);
    /// A group's address was lost, or gave way to another.
    fn removed(&mut self, listen: u16, ip: IpAddr, lost: bool);
    /// An address of this host cannot be bound.
    fn refused(&mut self, address: SocketAddr, error: &BindError);
}

/// Wildcards and what is bound beside each.
#[derive(Debug)]
pub(super) struct Groups {
    cap: usize,
    options: SocketOptions,
    wildcards: Vec<Wildcard>,
    listed: Vec<InterfaceAddress>,
    broadcasts: HashSet<Ipv4Addr>,
    /// The second that is counted in, and what is left of it.
    asked: Option<(Instant, u32)>,
    /// Says which groups have ended: one word for each that was bound, so no more wait than there may be groups.
    endings: (Sender<Ended>, Receiver<Ended>),
}

/// The last socket was closed of the group at this address, under this listen address.
pub(super) type Ended = (u16, IpAddr);

#[derive(Debug)]
struct Wildcard {
    listen: u16,
    group: ListenerGroup,
    bound: HashMap<IpAddr, Bound>,
    /// Lost addresses whose sockets are not closed yet, of some shard. A new group would join what is left of the old one,
    /// with other indexes than those of its shards; and each takes a place of its shard until then.
    closing: HashSet<IpAddr>,
    resting: HashMap<IpAddr, Rest>,
    giving_way: GivingWay,
}

/// What it takes to bind a group.
struct Means<'a> {
    options: &'a SocketOptions,
    endings: &'a (Sender<Ended>, Receiver<Ended>),
    now: Instant,
}

#[derive(Debug)]
struct Bound {
    /// Interface of a link-local address, 0 for others.
    scope: u32,
    /// What its sockets are bound to beside their address.
    interface: Option<BoundTo>,
    /// Their sending to groups, where that is by a certain interface.
    to_groups: Vec<Followed>,
    /// Whether an interface has it; others are local by a route, which is not watched.
    listed: bool,
    used: Use,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    /// Failed tries of an address that may be tentative.
    tries: u32,
    /// Whether it was told that the address cannot be bound.
    told: bool,
}

impl Groups {
    pub(super) fn new(cap: usize, options: SocketOptions) -> Self {
        let (wildcards, listed, broadcasts) = (Vec::new(), Vec::new(), HashSet::new());
        Self { cap, options, wildcards, listed, broadcasts, asked: None, endings: unbounded() }
    }

    /// Takes a wildcard's group, if it is one.
    pub(super) fn beside(&mut self, listen: u16, group: ListenerGroup) {
        if self.cap > 0 && group.is_wildcard() {
            let (bound, closing, resting) = (HashMap::new(), HashSet::new(), HashMap::new());
            let giving_way = GivingWay::default();
            self.wildcards.push(Wildcard { listen, group, bound, closing, resting, giving_way });
        }
    }

    /// Whether something else may have a say in what they are bound to.
    pub(super) fn have_a_hook(&self) -> bool {
        self.options.hook.is_some()
    }

    pub(super) fn are_none(&self) -> bool {
        self.wildcards.is_empty()
    }

    /// Nothing is bound from now on.
    pub(super) fn give_up(&mut self) {
        self.wildcards.clear();
    }

    /// Lists this host's addresses anew. What was tentative may be usable now.
    ///
    /// # Errors
    /// The list cannot be had, and the one before stands.
    pub(super) fn update(&mut self, now: Instant) -> io::Result<()> {
        (self.listed, self.broadcasts) = (local_addresses()?, broadcast_addresses()?);
        for rest in self.wildcards.iter_mut().flat_map(|wildcard| wildcard.resting.values_mut()) {
            if rest.tries > 0 {
                (rest.until, rest.tries) = (now, 1);
            }
        }
        Ok(())
    }

    /// Brings what is bound in line with the list. Says when to do so again, if nothing else happens.
    pub(super) fn settle(&mut self, now: Instant, tell: &mut impl Tell) -> Option<Instant> {
        let Self { cap, options, wildcards, listed, broadcasts, endings, .. } = self;
        let is_unicast = |one: &&InterfaceAddress| !is_among(broadcasts, one.address);
        let unicast: Vec<_> = listed.iter().filter(is_unicast).collect();
        let (mut again, mut newcomers) = (None, Vec::new());
        for wildcard in wildcards {
            let removed = wildcard.remove(&unicast, now, tell);
            wildcard.follow_interface();
            let added = wildcard.add(&unicast, *cap, &Means { options, endings, now }, tell);
            again = [again, removed, added].into_iter().flatten().min();
            newcomers.extend(wildcard.take_newcomer(*cap).map(|ip| (wildcard.listen, ip)));
        }
        for (listen, ip) in newcomers {
            self.ask(WantedAddress { listen, ip, often: false }, now, tell);
        }
        again
    }

    /// By which is told which groups have ended.
    pub(super) fn endings(&self) -> Receiver<Ended> {
        self.endings.1.clone()
    }

    /// A group has ended: its address may be bound again.
    pub(super) fn ended(&mut self, (listen, ip): Ended, now: Instant) {
        let Some(wildcard) = self.wildcards.iter_mut().find(|wildcard| wildcard.listen == listen) else {
            return;
        };
        if !wildcard.closing.remove(&ip) && wildcard.bound.remove(&ip).is_some() {
            // No shard could take its socket.
            wildcard.rest(ip, Rest { until: now + REFUSED_REST, tries: 0, told: false }, now);
        }
    }

    /// Something came in for an address without a group.
    pub(super) fn ask(&mut self, wanted: WantedAddress, now: Instant, tell: &mut impl Tell) {
        let WantedAddress { listen, ip, often } = wanted;
        let Some(at) = self.wildcards.iter().position(|wildcard| wildcard.listen == listen) else { return };
        let wildcard = &mut self.wildcards[at];
        if wildcard.has(ip) || wildcard.rests(ip, now) || !wildcard.serves(ip) {
            return;
        }
        let mut gives_way = None;
        if wildcard.places() >= self.cap {
            gives_way = if often { wildcard.silent(now) } else { None };
            if gives_way.is_none() {
                return;
            }
        }
        if !tell.has_room() || !allowed(&mut self.asked, now) {
            return;
        }
        // It may be on an interface by now, and only then it is taken back when it goes from there.
        if let Err(error) = self.update(now) {
            tracing::debug!(%error, "cannot list this host's addresses");
        }
        let of_interface = self.listed.iter().find(|one| one.address == ip);
        // A link-local address means nothing without its interface.
        if is_among(&self.broadcasts, ip) || (is_link_local(ip) && of_interface.is_none()) {
            return;
        }
        let wildcard = &mut self.wildcards[at];
        if let Some(silent) = gives_way {
            // What is local by a route need not be bindable, and then nobody is to give way to it.
            if UdpSocket::bind((ip, 0)).is_ok() {
                wildcard.giving_way.gave(ip, now);
                wildcard.take_back(silent, false, tell);
            }
            return;
        }
        let (scope, listed) = (of_interface.map_or(0, scope), of_interface.is_some());
        let means = Means { options: &self.options, endings: &self.endings, now };
        match wildcard.bind(ip, scope, listed, &means) {
            Ok(sockets) => tell.added(sockets),
            Err(error) => {
                // Whoever sends could fill a log that speaks of this more loudly.
                tracing::debug!(%ip, %error, "the wildcard's listeners serve an address that was asked for");
                wildcard.rest(ip, Rest { until: now + REFUSED_REST, tries: 0, told: false }, now);
            }
        }
    }
}

impl Wildcard {
    /// Forgets groups whose addresses are no longer listed, and those whose interface was made anew, with the address, before
    /// that was seen: they hear nothing any more.
    fn remove(
        &mut self,
        listed: &[&InterfaceAddress],
        now: Instant,
        tell: &mut impl Tell,
    ) -> Option<Instant> {
        let has: HashSet<_> = listed.iter().map(|one| (one.address, scope(one))).collect();
        let lost = |(ip, bound): (&IpAddr, &Bound)| {
            let is_lost = bound.listed && !has.contains(&(*ip, bound.scope));
            (is_lost || bound.interface.as_ref().is_some_and(BoundTo::is_anew)).then_some(*ip)
        };
        let lost: Vec<_> = self.bound.iter().filter_map(lost).collect();
        for ip in lost {
            if !tell.has_room() {
                return Some(now + BEHIND_REST);
            }
            self.take_back(ip, true, tell);
        }
        None
    }

    /// Has what is sent to groups leave by the interface that was asked for, if that was made anew.
    fn follow_interface(&mut self) {
        for followed in self.bound.values_mut().flat_map(|bound| &mut bound.to_groups) {
            if let Err(error) = followed.look() {
                tracing::debug!(interface = %followed.interface(), %error, "nothing leaves to groups");
            }
        }
    }

    fn take_back(&mut self, ip: IpAddr, lost: bool, tell: &mut impl Tell) {
        self.bound.remove(&ip);
        self.closing.insert(ip);
        tell.removed(self.listen, ip, lost);
    }

    /// Takes the least used group back of those whose address no interface has, unless as many addresses of interfaces as
    /// want a place are waiting for groups that are closing.
    fn give_way(&mut self, wanting: usize, tell: &mut impl Tell) {
        let unlisted = self.bound.iter().filter(|(_, bound)| !bound.listed);
        if self.closing.len() < wanting
            && let Some(ip) = least_used(unlisted.map(|(ip, bound)| (*ip, &bound.used)))
        {
            self.take_back(ip, false, tell);
        }
    }

    /// Of those whose address no interface has one that gives way to another of them.
    fn silent(&mut self, now: Instant) -> Option<IpAddr> {
        let Self { bound, giving_way, .. } = self;
        let unlisted = bound.iter_mut().filter(|(_, bound)| !bound.listed);
        giving_way.silent(unlisted.map(|(ip, bound)| (*ip, &mut bound.used)), now)
    }

    /// For whom another gave way, once the place is free; addresses of interfaces were before it.
    fn take_newcomer(&mut self, cap: usize) -> Option<IpAddr> {
        let is_full = self.places() >= cap;
        if is_full && !self.closing.is_empty() {
            return None;
        }
        self.giving_way.newcomer.take().filter(|_| !is_full)
    }

    /// Binds groups for addresses that are listed and have none.
    fn add(
        &mut self,
        listed: &[&InterfaceAddress],
        cap: usize,
        means: &Means<'_>,
        tell: &mut impl Tell,
    ) -> Option<Instant> {
        let now = means.now;
        let (mut again, mut wanting): (Option<Instant>, _) = (None, 0);
        let mut not_before = |time| again = Some(again.map_or(time, |earliest| earliest.min(time)));
        for one in listed {
            let (ip, scope) = (one.address, scope(one));
            if !self.serves(ip) {
                continue;
            }
            if let Some(bound) = self.bound.get_mut(&ip) {
                // It may have been asked for before it was listed.
                bound.listed |= bound.scope == scope;
                continue;
            }
            if self.closing.contains(&ip) {
                // It is bound when that is over.
                continue;
            }
            if let Some(rest) = self.resting.get(&ip).filter(|rest| rest.until > now) {
                not_before(rest.until);
                continue;
            }
            if !tell.has_room() {
                not_before(now + BEHIND_REST);
                break;
            }
            if self.places() >= cap {
                wanting += 1;
                self.give_way(wanting, tell);
                continue;
            }
            match self.bind(ip, scope, true, means) {
                Ok(sockets) => tell.added(sockets),
                Err(error) => {
                    let rest = self.after_refusal(one, &error, now, tell);
                    self.rest(ip, rest, now);
                    not_before(rest.until);
                }
            }
        }
        again
    }

    fn after_refusal(
        &self,
        one: &InterfaceAddress,
        error: &BindError,
        now: Instant,
        tell: &mut impl Tell,
    ) -> Rest {
        // It may be tentative, or have gone since it was listed.
        let tentative = matches!(error, BindError::AddressNotAvailable { .. });
        let before = self.resting.get(&one.address);
        let tries = before.map_or(0, |rest| rest.tries) + 1;
        let told = before.is_some_and(|rest| rest.told);
        if tentative && tries < TENTATIVE_TRIES {
            return Rest { until: now + TENTATIVE_REST, tries, told };
        }
        if !told {
            let mut address = SocketAddr::new(one.address, self.group.local_addr().port());
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_scope_id(scope(one));
            }
            tell.refused(address, error);
        }
        Rest { until: now + REFUSED_REST, tries: u32::from(tentative), told: true }
    }

    fn bind(
        &mut self,
        ip: IpAddr,
        scope: u32,
        listed: bool,
        Means { options, endings, now }: &Means<'_>,
    ) -> Result<Vec<ListenerSocket>, BindError> {
        let mut group = self.group.bind_beside_unchecked(ip, scope, options)?;
        let sockets = group.take_sockets();
        // Where that cannot be told the interface has gone, and with it what is bound to it.
        let gone = |_| BindError::AddressNotAvailable { address: group.local_addr() };
        let interface = sockets.first().map(BoundTo::of).transpose().map_err(gone)?.flatten();
        let usages: Vec<_> = sockets.iter().map(|_| Usage::default()).collect();
        let sending = |by| sockets.iter().filter_map(move |socket| Followed::sending(socket, by).ok());
        let to_groups = options.multicast_interface.into_iter().flat_map(sending).collect();
        let bound = Bound { scope, interface, to_groups, listed, used: Use::new(usages.clone(), *now) };
        let (listen, local, steered) = (self.listen, Some(group.local_addr()), group.is_steered());
        tracing::debug!(address = %group.local_addr(), steering = %group.steering(), "listeners of its own");
        self.resting.remove(&ip);
        self.bound.insert(ip, bound);
        let ended = endings.0.clone();
        let lease = Some(Lease::new(move || {
            // Where nobody hears it the server has ended.
            let _ = ended.send((listen, ip));
        }));
        let of_shard = |(socket, usage)| {
            let (lease, usage) = (lease.clone(), Some(usage));
            ListenerSocket { listen, local, steered, socket, lease, usage }
        };
        Ok(sockets.into_iter().zip(usages).map(of_shard).collect())
    }

    /// Whether `ip` is an address of this wildcard's family that one host has.
    fn serves(&self, ip: IpAddr) -> bool {
        let of_one_host = match ip {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
        };
        of_one_host
            && !ip.is_multicast()
            && !ip.is_unspecified()
            && ip.is_ipv6() == self.group.local_addr().is_ipv6()
    }

    /// Whether a group is bound at an address, or was and is not closed yet.
    fn has(&self, ip: IpAddr) -> bool {
        self.bound.contains_key(&ip) || self.closing.contains(&ip)
    }

    /// How many places its groups have in each shard.
    fn places(&self) -> usize {
        self.bound.len() + self.closing.len()
    }

    fn rests(&self, ip: IpAddr, now: Instant) -> bool {
        self.resting.get(&ip).is_some_and(|rest| rest.until > now)
    }

    /// Remembers that an address rests; of too many the one that has rested longest is forgotten.
    fn rest(&mut self, ip: IpAddr, rest: Rest, now: Instant) {
        if self.resting.len() >= RESTING {
            self.resting.retain(|_, rest| rest.until > now);
            if self.resting.len() >= RESTING {
                let first = self.resting.iter().min_by_key(|(_, rest)| rest.until).map(|(ip, _)| *ip);
                first.and_then(|ip| self.resting.remove(&ip));
            }
        }
        self.resting.insert(ip, rest);
    }
}

/// Whether one more address that was asked for may be tried in this second.
fn allowed(asked: &mut Option<(Instant, u32)>, now: Instant) -> bool {
    let (since, left) = asked.get_or_insert((now, ASKED_PER_SECOND));
    if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
        (*since, *left) = (now, ASKED_PER_SECOND);
    }
    let allowed = *left > 0;
    *left = left.saturating_sub(1);
    allowed
}

fn is_among(broadcasts: &HashSet<Ipv4Addr>, ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if broadcasts.contains(&v4))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The interface without which an address says nothing, or 0.
fn scope(one: &InterfaceAddress) -> u32 {
    if is_link_local(one.address) { one.index } else { 0 }
}
