//! Dialing: a name is looked up off the shards, and its addresses are tried in turn.
//!
//! ```text
//!   dial, redial -----------------+
//!        | a name                 | an address
//!        v                        v
//!    Resolving -- answer --> Queued ----> Trying ---- something came ----> Done
//!        |                     |  ^          |
//!        | none                |  |          | silence for `try_for`, or an error
//!        v                     |  +----------+
//!      Done: Unresolved  <-----+             | no address is left
//!         an address that cannot             v
//!         be written to from here          Done: NoAnswer
//! ```
//!
//! What is kept of a dialed peer lies in `dials.rs`, so a peer that was not dialed costs four bytes of its route and
//! nothing else. That something came is seen by the route's stamp of the last datagram, and only when the time of
//! an attempt is over or a send of it fails: so no datagram pays for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dial::dials::{Dials, Stage};
use crate::dial::request::{Dial, Host, Origin};
use crate::dial::resolver::{Lookup, WayBack, in_turn};
use crate::peers::routes::Routes;
use crate::sockets::endpoints::Endpoints;
use crate::sync::bounded;
use crate::time::moment::Moment;
use crate::types::datagram::Path;
use crate::types::endpoint::{Endpoint, EndpointId};
use crate::types::error::{AttemptFault, DialError, LookupError, PeerError};
use crate::types::ids::PeerId;

/// What becomes of a dialed peer when its next address is due.
pub(crate) enum Step {
    Tries(SocketAddr),
    /// Its old endpoint has to be closed first.
    Waits,
    NoneLeft,
}

impl Dials {
    /// Dials anew a peer that was dialed.
    pub(crate) fn redial(
        &mut self,
        routes: &Routes,
        endpoints: &Endpoints,
        peer: PeerId,
        now: Instant,
    ) -> Result<(), DialError> {
        let route = routes.get(peer).ok_or(DialError::Gone)?;
        let entry = route.dial().ok_or(DialError::NotDialed)?;
        let dialed = self.entries.get(entry as usize).ok_or(DialError::NotDialed)?;
        if dialed.stage == Stage::Resolving {
            return Ok(());
        }
        if matches!(dialed.dial.host(), Host::Name(_)) && !self.has_room() {
            self.stats.lookups_refused.add(1);
            return Err(DialError::LookupsFull);
        }
        self.begin(endpoints, entry, now);
        Ok(())
    }

    /// Looks the name up, or has the address tried.
    pub(crate) fn begin(&mut self, endpoints: &Endpoints, entry: u32, now: Instant) {
        let Some(dialed) = self.entries.get_mut(entry as usize) else { return };
        let (name, port) = match dialed.dial.host() {
            Host::Address(address) => {
                // It passes the sieve of addresses that were looked up. With none left, the handler hears of it when its turn
                // has come.
                let addresses = in_turn(&[*address], ipv4_only(&dialed.dial, endpoints));
                dialed.start_with(addresses);
                return self.enqueue(entry);
            }
            Host::Name(name) => (Arc::clone(name), dialed.dial.port()),
        };
        let within = dialed.dial.look_up_within;
        self.end_stage(entry, Stage::Resolving);
        self.set_timer(entry, now, within);
        let Self { entries, answers, under_way, most_lookups, bell, resolver, stats, .. } = &mut *self;
        let Some(dialed) = entries.get_mut(entry as usize) else { return };
        let wanted = Arc::new(());
        let answers = answers.get_or_insert_with(|| bounded(*most_lookups)).0.clone();
        let way_back = WayBack { answers, bell: Arc::clone(bell), peer: dialed.peer, serial: dialed.serial };
        let lookup = Lookup::new(name, port, Arc::downgrade(&wanted), way_back);
        dialed.wanted = Some(wanted);
        *under_way += 1;
        stats.lookups.add(1);
        match resolver {
            Some(resolver) => Arc::clone(resolver).look_up(lookup),
            None => lookup.answer::<[SocketAddr; 0]>(Err(LookupError::NoResolver)),
        }
    }

    /// Forgets what was dialed, with the peer.
    pub(crate) fn hang_up(&mut self, endpoints: &mut Endpoints, entry: u32) {
        self.end_stage(entry, Stage::Done);
        if let Some(dialed) = self.entries.try_remove(entry as usize)
            && let Some(own) = dialed.own
        {
            endpoints.close(own);
        }
    }

    /// Takes the failure of an attempt, unless it is none: then the peer's handler is to hear of it. Drivers name the peer
    /// of a send that failed, and not its path: a failure along the former path that is known only after the change counts
    /// against the new address.
    pub(crate) fn attempt_failed(&mut self, routes: &Routes, peer: PeerId, error: PeerError) -> bool {
        let Some(entry) = routes.get(peer).and_then(|route| route.dial()) else { return false };
        let Some(fault) = AttemptFault::of(error) else { return false };
        let Some(dialed) = self.entries.get(entry as usize) else { return false };
        match dialed.stage {
            Stage::Trying { quiet } if !was_heard(routes, peer, quiet) => {
                self.give_up(entry, fault);
                true
            }
            // What else fails of an attempt that was given up in this turn.
            Stage::Queued => true,
            _ => false,
        }
    }

    /// The address that is tried is given up; the next one's turn comes.
    pub(crate) fn give_up(&mut self, entry: u32, fault: AttemptFault) {
        self.stats.attempts_failed.add(1);
        let Some(dialed) = self.entries.get_mut(entry as usize) else { return };
        dialed.last = fault;
        dialed.own_failed |= matches!(fault, AttemptFault::NotOpened { .. });
        self.enqueue(entry);
    }

    /// The next peer whose next address is to be tried. Those that are gone, or are looked up again, are passed over,
    /// so that they cannot pile up.
    pub(crate) fn next_queued(&mut self, routes: &Routes) -> Option<(u32, PeerId)> {
        loop {
            let peer = self.queue.pop_front()?;
            let Some(entry) = routes.get(peer).and_then(|route| route.dial()) else { continue };
            if self.entries.get(entry as usize).is_some_and(|d| d.stage == Stage::Queued) {
                return Some((entry, peer));
            }
        }
    }

    /// Moves a peer to the next address that it can be written to at, if one is left.
    pub(crate) fn next_address(
        &mut self,
        routes: &mut Routes,
        endpoints: &mut Endpoints,
        entry: u32,
        time: Moment,
    ) -> Step {
        loop {
            let Some(dialed) = self.entries.get(entry as usize) else { return Step::NoneLeft };
            let Some(&remote) = dialed.addresses.get(dialed.next) else { return Step::NoneLeft };
            if self.makes_room(routes, endpoints, entry, remote) {
                return Step::Waits;
            }
            let Some(dialed) = self.entries.get_mut(entry as usize) else { return Step::NoneLeft };
            dialed.next += 1;
            self.stats.attempts.add(1);
            match self.place(routes, endpoints, entry, remote, time) {
                Ok(()) => return Step::Tries(remote),
                Err(fault) => {
                    self.stats.attempts_failed.add(1);
                    if let Some(dialed) = self.entries.get_mut(entry as usize) {
                        dialed.last = fault;
                    }
                }
            }
        }
    }

    /// Makes this address the peer's only path, so what comes from one that was given up is a stranger's at an endpoint.
    fn place(
        &mut self,
        routes: &mut Routes,
        endpoints: &mut Endpoints,
        entry: u32,
        remote: SocketAddr,
        time: Moment,
    ) -> Result<(), AttemptFault> {
        let peer = self.entries.get(entry as usize).ok_or(AttemptFault::NoEndpoint)?.peer;
        let id = self.endpoint_towards(endpoints, entry, remote).ok_or(AttemptFault::NoEndpoint)?;
        let local = endpoints.local(id).ok_or(AttemptFault::NoEndpoint)?;
        let local = SocketAddr::new(local.ip(), local.port());
        let path = Path { local, remote, socket: id.socket() };
        if routes.find(&path).is_some_and(|slot| slot != peer.slot()) {
            return Err(AttemptFault::InUse);
        }
        // A millisecond back, so that whatever comes, be it in this turn, makes another stamp of it.
        let quiet = time.stamp.wrapping_sub(1);
        routes.replace_paths(peer, path, quiet, |socket| endpoints.path_left(socket));
        endpoints.path_added(id.socket(), peer);
        self.end_stage(entry, Stage::Trying { quiet });
        let try_for = self.entries.get(entry as usize).map_or(Duration::ZERO, |d| d.dial.try_for);
        self.set_timer(entry, time.now, try_for);
        Ok(())
    }

    /// Whether a dial's own endpoint is closed now, because the address takes another and there is no room for that
    /// beside it. The slot is free in the next turn, when the same address is tried again: then the dial has no
    /// endpoint to close, so it waits once for an address at most, and not for ever if somebody else was quicker.
    fn makes_room(
        &mut self,
        routes: &mut Routes,
        endpoints: &mut Endpoints,
        entry: u32,
        remote: SocketAddr,
    ) -> bool {
        if endpoints.has_room() || self.own_towards(endpoints, entry, remote).is_some() {
            return false;
        }
        let Some(dialed) = self.entries.get_mut(entry as usize) else { return false };
        let Some(old) = dialed.own.take() else { return false };
        dialed.own_failed = false;
        // It would be closed with its endpoint.
        let peer = dialed.peer;
        routes.take_paths(peer, |socket| endpoints.path_left(socket));
        endpoints.close(old);
        self.waiting.push(peer);
        true
    }

    /// A dial's own endpoint, if this address can be written to from it.
    fn own_towards(&self, endpoints: &Endpoints, entry: u32, remote: SocketAddr) -> Option<EndpointId> {
        let dialed = self.entries.get(entry as usize).filter(|dialed| !dialed.own_failed)?;
        dialed.own.filter(|own| endpoints.get(*own).is_some_and(|own| own.is_of_family(remote)))
    }

    /// The endpoint from which to write to this address: the one that was named, that which the peer has, or a new
    /// one in its place.
    fn endpoint_towards(
        &mut self,
        endpoints: &mut Endpoints,
        entry: u32,
        remote: SocketAddr,
    ) -> Option<EndpointId> {
        if let Some(own) = self.own_towards(endpoints, entry, remote) {
            return Some(own);
        }
        let dialed = self.entries.get_mut(entry as usize)?;
        let wish = match dialed.dial.from {
            Origin::Shared(id) => {
                return endpoints.get(id).filter(|shared| shared.is_of_family(remote)).map(|_| id);
            }
            Origin::Own(wish) => {
                wish.map_or(Endpoint::towards(remote), |wish| wish.towards_family_of(remote))
            }
        };
        // The old one carries the peer until it has the new one, so it is closed after that.
        let new = endpoints.ask(wish).ok()?;
        dialed.own_failed = false;
        if let Some(old) = dialed.own.replace(new) {
            endpoints.close(old);
        }
        Some(new)
    }
}

/// Whether a dialed peer has been heard of since its attempt began.
pub(crate) fn was_heard(routes: &Routes, peer: PeerId, quiet: u32) -> bool {
    routes.get(peer).is_some_and(|route| route.last_seen != quiet)
}

/// The one family of addresses that a dial's endpoint can write to, if it is not both.
pub(crate) fn ipv4_only(dial: &Dial, endpoints: &Endpoints) -> Option<bool> {
    let bind = match dial.from {
        Origin::Own(wish) => wish.map(|e| e.bind_address()).filter(|bind| !bind.ip().is_unspecified()),
        Origin::Shared(id) => endpoints.get(id).map(Endpoint::bind_address),
    };
    bind.map(|bind| bind.is_ipv4())
}
