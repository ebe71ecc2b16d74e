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

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::context::{Context, Io};
use crate::datagram::{Path, SocketId};
use crate::dial::{Dial, Host, Origin};
use crate::dials::{Dialed, Dials, Due, Stage};
use crate::dispatch::Dispatch;
use crate::endpoints::{Endpoint, EndpointId, Endpoints};
use crate::error::{AttemptFault, DialError, PeerError};
use crate::handler::Handler;
use crate::peers::PeerId;
use crate::resolver::{Answer, Lookup, LookupError, WayBack, in_turn};
use crate::sync::bounded;

/// What becomes of a dialed peer when its next address is due.
enum Step {
    Tries(SocketAddr),
    /// Its old endpoint has to be closed first.
    Waits,
    NoneLeft,
}

impl<H: Handler> Context<'_, H> {
    /// Makes a peer of a host that is known by its name. The name is looked up off the shards; then each of its
    /// addresses is tried in turn, those of both families alternating (RFC 8305 section 4, without its races), until
    /// something comes from one of them. The id is good at once and stays the same.
    ///
    /// - [`Handler::on_attempt`] says when an address is tried: that is when to say hello to it. Before the first
    ///   one, sends are refused as [`crate::SendError::NoAddress`].
    /// - An address that does not answer within [`Dial::try_for`], or of which a send fails, is given up for the
    ///   next. The first datagram from the address that is tried settles it. What comes from any other, a forged one
    ///   or one that was given up, is dropped and counted ([`crate::Snapshot::dropped_foreign`]).
    /// - When no address is left, or the host has none that can be written to, the peer hears [`PeerError::NoAnswer`] or
    ///   [`PeerError::Unresolved`] and stays open, with the last address if there was one: [`Io::redial`] it, or close
    ///   it.
    ///
    /// It costs an endpoint while the peer is open (unless [`Dial::via`] names one), 300 bytes, and 500 more until it
    /// is settled; nothing for each datagram. Between addresses of different families it has two endpoints for a moment.
    /// Where [`crate::Config::max_endpoints`] leaves no room for the second, it has none for a turn, and no address:
    /// sends are refused as before the first. [`crate::Config::max_lookups`] bounds the lookups under way.
    /// [`crate::Config::idle_timeout`] holds for it from the first moment on, as for every peer.
    ///
    /// # Errors
    /// See [`DialError`].
    ///
    /// ```
    /// use shardgram_core::{Accept, Context, Datagram, Dial, Handler, PeerError, PeerId};
    ///
    /// struct Client;
    ///
    /// impl Handler for Client {
    ///     type Peer = ();
    ///     type Timer = PeerId;
    ///     type Message = ();
    ///
    ///     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    ///         Accept::Done
    ///     }
    ///
    ///     fn on_start(&mut self, cx: &mut Context<'_, Self>) {
    ///         let dial = Dial::to("game.example.net", 9000).expect("a name");
    ///         cx.dial(dial, ()).expect("room for a peer");
    ///     }
    ///
    ///     fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: std::net::SocketAddr) {
    ///         let _ = cx.io.send(peer, b"hello"); // to the address that is tried now
    ///     }
    ///
    ///     fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
    ///         if matches!(error, PeerError::Unresolved { .. } | PeerError::NoAnswer { .. }) {
    ///             let later = cx.io.now() + std::time::Duration::from_secs(5);
    ///             let _ = cx.io.set_peer_timer(peer, later, peer);
    ///         }
    ///     }
    ///
    ///     fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
    ///         let _ = cx.io.redial(peer); // the name is looked up again: it may have moved
    ///     }
    /// }
    /// ```
    pub fn dial(&mut self, dial: Dial, state: H::Peer) -> Result<PeerId, DialError> {
        if self.io.ending {
            return Err(DialError::Ending);
        }
        if let Origin::Shared(endpoint) = dial.from
            && self.io.endpoints.get(endpoint).is_none()
        {
            return Err(DialError::NoSuchEndpoint);
        }
        let named = matches!(dial.host(), Host::Name(_));
        if named && !self.io.dials.has_room() {
            self.io.stats.lookups_refused.add(1);
            return Err(DialError::LookupsFull);
        }
        if self.io.routes.is_full() {
            return Err(DialError::TableFull);
        }
        let peer = self.peers.insert(state).map_err(|_| DialError::TableFull)?;
        let entry = self.io.dials.entries.insert(Dialed::new(peer, dial)) as u32;
        self.io.routes.insert_without_path(peer, self.io.stamp, entry);
        self.io.validated(peer);
        self.io.stats.peers_opened.add(1);
        self.io.begin(entry);
        Ok(peer)
    }
}

/// Dialing.
impl<H: Handler> Io<H> {
    /// Dials a peer anew, which [`Context::dial`] made: its name is looked up again, and its addresses are tried from
    /// the first on, whether or not one had answered before. Until the first attempt it keeps the address it has, or
    /// until the turn before where that attempt takes the place of its endpoint.
    /// While the name is being looked up it does nothing.
    ///
    /// # Errors
    /// See [`DialError`]; nothing has changed then.
    ///
    /// ```
    /// use shardgram_core::{DialError, Handler, Io, PeerId};
    /// /// When it has been silent for too long: perhaps its service has moved to another host.
    /// fn reconnect<H: Handler>(io: &mut Io<H>, peer: PeerId) {
    ///     match io.redial(peer) {
    ///         Ok(()) => {}
    ///         Err(DialError::LookupsFull) => {} // try again later
    ///         Err(_) => io.close(peer),
    ///     }
    /// }
    /// ```
    pub fn redial(&mut self, peer: PeerId) -> Result<(), DialError> {
        let route = self.routes.get(peer).ok_or(DialError::Gone)?;
        let entry = route.dial().ok_or(DialError::NotDialed)?;
        let dialed = self.dials.entries.get(entry as usize).ok_or(DialError::NotDialed)?;
        if dialed.stage == Stage::Resolving {
            return Ok(());
        }
        if matches!(dialed.dial.host(), Host::Name(_)) && !self.dials.has_room() {
            self.stats.lookups_refused.add(1);
            return Err(DialError::LookupsFull);
        }
        self.begin(entry);
        Ok(())
    }

    /// Looks the name up, or has the address tried.
    fn begin(&mut self, entry: u32) {
        let now = self.now;
        let Some(dialed) = self.dials.entries.get_mut(entry as usize) else { return };
        let (name, port) = match dialed.dial.host() {
            Host::Address(address) => {
                // With none left, the handler hears of it when its turn has come.
                let addresses = in_turn(&[*address], ipv4_only(&dialed.dial, &self.endpoints));
                dialed.start_with(addresses);
                return self.dials.enqueue(entry);
            }
            Host::Name(name) => (Arc::clone(name), dialed.dial.port()),
        };
        let within = dialed.dial.look_up_within;
        self.dials.end_stage(entry, Stage::Resolving);
        self.dials.set_timer(entry, now, within);
        let Dials { entries, answers, under_way, most_lookups, bell, resolver, .. } = &mut self.dials;
        let Some(dialed) = entries.get_mut(entry as usize) else { return };
        let wanted = Arc::new(());
        let answers = answers.get_or_insert_with(|| bounded(*most_lookups)).0.clone();
        let way_back = WayBack { answers, bell: Arc::clone(bell), peer: dialed.peer, serial: dialed.serial };
        let lookup = Lookup::new(name, port, Arc::downgrade(&wanted), way_back);
        dialed.wanted = Some(wanted);
        *under_way += 1;
        self.stats.lookups.add(1);
        match resolver {
            Some(resolver) => Arc::clone(resolver).look_up(lookup),
            None => lookup.answer::<[SocketAddr; 0]>(Err(LookupError::NoResolver)),
        }
    }

    /// Forgets what was dialed, with the peer.
    pub(crate) fn hang_up(&mut self, entry: u32) {
        self.dials.end_stage(entry, Stage::Done);
        if let Some(dialed) = self.dials.entries.try_remove(entry as usize)
            && let Some(own) = dialed.own
        {
            self.endpoints.close(own);
        }
    }

    /// Whether a dialed peer has been heard of since its attempt began.
    fn was_heard(&self, peer: PeerId, quiet: u32) -> bool {
        self.routes.get(peer).is_some_and(|route| route.last_seen != quiet)
    }

    /// Takes the failure of an attempt, unless it is none: then the peer's handler is to hear of it.
    pub(crate) fn attempt_failed(&mut self, peer: PeerId, error: PeerError) -> bool {
        let Some(entry) = self.routes.get(peer).and_then(|route| route.dial()) else { return false };
        let Some(fault) = AttemptFault::of(error) else { return false };
        let Some(dialed) = self.dials.entries.get(entry as usize) else { return false };
        match dialed.stage {
            Stage::Trying { quiet } if !self.was_heard(peer, quiet) => {
                self.give_up(entry, fault);
                true
            }
            // What else fails of an attempt that was given up in this turn.
            Stage::Queued => true,
            _ => false,
        }
    }

    /// The address that is tried is given up; the next one's turn comes.
    fn give_up(&mut self, entry: u32, fault: AttemptFault) {
        self.stats.attempts_failed.add(1);
        let Some(dialed) = self.dials.entries.get_mut(entry as usize) else { return };
        dialed.last = fault;
        dialed.own_failed |= matches!(fault, AttemptFault::NotOpened { .. });
        self.dials.enqueue(entry);
    }

    /// The next peer whose next address is to be tried. Those that are gone, or are looked up again, are passed over,
    /// so that they cannot pile up.
    fn next_queued(&mut self) -> Option<(u32, PeerId)> {
        loop {
            let peer = self.dials.queue.pop_front()?;
            let Some(entry) = self.routes.get(peer).and_then(|route| route.dial()) else { continue };
            if self.dials.entries.get(entry as usize).is_some_and(|d| d.stage == Stage::Queued) {
                return Some((entry, peer));
            }
        }
    }

    /// Moves a peer to the next address that it can be written to at, if one is left.
    fn next_address(&mut self, entry: u32) -> Step {
        loop {
            let Some(dialed) = self.dials.entries.get(entry as usize) else { return Step::NoneLeft };
            let Some(&remote) = dialed.addresses.get(dialed.next) else { return Step::NoneLeft };
            if self.makes_room(entry, remote) {
                return Step::Waits;
            }
            let Some(dialed) = self.dials.entries.get_mut(entry as usize) else { return Step::NoneLeft };
            dialed.next += 1;
            self.stats.attempts.add(1);
            match self.place(entry, remote) {
                Ok(()) => return Step::Tries(remote),
                Err(fault) => {
                    self.stats.attempts_failed.add(1);
                    if let Some(dialed) = self.dials.entries.get_mut(entry as usize) {
                        dialed.last = fault;
                    }
                }
            }
        }
    }

    /// Makes this address the peer's.
    fn place(&mut self, entry: u32, remote: SocketAddr) -> Result<(), AttemptFault> {
        let peer = self.dials.entries.get(entry as usize).ok_or(AttemptFault::NoEndpoint)?.peer;
        let id = self.endpoint_towards(entry, remote).ok_or(AttemptFault::NoEndpoint)?;
        let local = self.endpoints.get(id).ok_or(AttemptFault::NoEndpoint)?.bind_address();
        let local = SocketAddr::new(local.ip(), local.port());
        let path = Path { local, remote, socket: SocketId::endpoint(id.slot()) };
        if self.routes.find(&path).is_some_and(|slot| slot != peer.slot()) {
            return Err(AttemptFault::InUse);
        }
        let quiet = self.stamp.wrapping_sub(1);
        let Self { routes, endpoints, .. } = self;
        routes.replace_paths(peer, path, quiet, |socket| endpoints.path_left(socket));
        self.endpoints.path_added(id.slot(), peer);
        self.dials.end_stage(entry, Stage::Trying { quiet });
        let (now, dials) = (self.now, &mut self.dials);
        let try_for = dials.entries.get(entry as usize).map_or(std::time::Duration::ZERO, |d| d.dial.try_for);
        dials.set_timer(entry, now, try_for);
        Ok(())
    }

    /// Whether a dial's own endpoint is closed now, because the address takes another and there is no room for that
    /// beside it. The slot is free in the next turn, when the same address is tried again: then the dial has no
    /// endpoint to close, so it waits once for an address at most, and not for ever if somebody else was quicker.
    fn makes_room(&mut self, entry: u32, remote: SocketAddr) -> bool {
        if self.endpoints.has_room() || self.own_towards(entry, remote).is_some() {
            return false;
        }
        let Some(dialed) = self.dials.entries.get_mut(entry as usize) else { return false };
        let Some(old) = dialed.own.take() else { return false };
        dialed.own_failed = false;
        // It would be closed with its endpoint.
        let (peer, Self { routes, endpoints, .. }) = (dialed.peer, &mut *self);
        routes.take_paths(peer, |socket| endpoints.path_left(socket));
        endpoints.close(old);
        self.dials.waiting.push(peer);
        true
    }

    /// A dial's own endpoint, if this address can be written to from it.
    fn own_towards(&self, entry: u32, remote: SocketAddr) -> Option<EndpointId> {
        let dialed = self.dials.entries.get(entry as usize).filter(|dialed| !dialed.own_failed)?;
        dialed.own.filter(|own| self.endpoints.get(*own).is_some_and(|own| own.is_of_family(remote)))
    }

    /// The endpoint from which to write to this address: the one that was named, that which the peer has, or a new
    /// one in its place.
    fn endpoint_towards(&mut self, entry: u32, remote: SocketAddr) -> Option<EndpointId> {
        if let Some(own) = self.own_towards(entry, remote) {
            return Some(own);
        }
        let dialed = self.dials.entries.get_mut(entry as usize)?;
        let wish = match dialed.dial.from {
            Origin::Shared(id) => {
                return self.endpoints.get(id).filter(|shared| shared.is_of_family(remote)).map(|_| id);
            }
            Origin::Own(wish) => {
                wish.map_or(Endpoint::towards(remote), |wish| wish.towards_family_of(remote))
            }
        };
        // The old one carries the peer until it has the new one, so it is closed after that.
        let new = self.endpoints.ask(wish).ok()?;
        dialed.own_failed = false;
        if let Some(old) = dialed.own.replace(new) {
            self.endpoints.close(old);
        }
        Some(new)
    }
}

/// The one family of addresses that a dial's endpoint can write to, if it is not both.
fn ipv4_only(dial: &Dial, endpoints: &Endpoints) -> Option<bool> {
    let bind = match dial.from {
        Origin::Own(wish) => wish.map(|e| e.bind_address()).filter(|bind| !bind.ip().is_unspecified()),
        Origin::Shared(id) => endpoints.get(id).map(Endpoint::bind_address),
    };
    bind.map(|bind| bind.is_ipv4())
}

impl Endpoint {
    fn is_of_family(&self, remote: SocketAddr) -> bool {
        self.bind_address().is_ipv4() == remote.is_ipv4()
    }

    /// A wildcard for the other family too.
    fn towards_family_of(self, remote: SocketAddr) -> Self {
        let bind = self.bind_address();
        if !bind.ip().is_unspecified() || self.is_of_family(remote) {
            return self;
        }
        let any = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.rebound(SocketAddr::new(any, bind.port()))
    }
}

impl<H: Handler> Dispatch<H> {
    /// Takes answers in, moves to next addresses, and ends what takes too long: so many of each, at most.
    pub(crate) fn dial_on(&mut self, budget: u32) {
        for _ in 0..budget {
            let Some(answer) = self.io.dials.take_answer() else { break };
            self.arrivals += 1;
            self.resolved(answer);
        }
        self.io.dials.wait_no_more();
        for _ in 0..budget {
            if self.panicked {
                return;
            }
            let Some((entry, peer)) = self.io.next_queued() else { break };
            self.arrivals += 1;
            self.attempt(entry, peer);
        }
        for _ in 0..budget {
            if self.panicked {
                return;
            }
            let io = &mut self.io;
            let Some(id) = io.dials.timers.next_due(io.now) else { return };
            let Some(due) = io.dials.timers.cancel(id, None) else { return };
            self.dial_due(due);
        }
    }

    fn resolved(&mut self, answer: Answer) {
        let Answer { peer, serial, result } = answer;
        let entry = self.io.routes.get(peer).and_then(|route| route.dial());
        let Some(entry) = entry.filter(|entry| self.io.dials.is_current(*entry, peer, serial)) else {
            self.io.stats.lookups_stale.add(1);
            return;
        };
        let Some(dialed) = self.io.dials.entries.get_mut(entry as usize) else { return };
        let ipv4_only = ipv4_only(&dialed.dial, &self.io.endpoints);
        let addresses = result.map(|all| in_turn(&all, ipv4_only));
        match addresses {
            Ok(addresses) if !addresses.is_empty() => {
                dialed.start_with(addresses);
                self.io.dials.enqueue(entry);
            }
            Ok(_) => self.lookup_failed(entry, peer, LookupError::NoAddress),
            Err(why) => self.lookup_failed(entry, peer, why),
        }
    }

    fn lookup_failed(&mut self, entry: u32, peer: PeerId, why: LookupError) {
        self.io.stats.lookups_failed.add(1);
        self.unresolved(entry, peer, why);
    }

    fn unresolved(&mut self, entry: u32, peer: PeerId, why: LookupError) {
        self.io.dials.end_stage(entry, Stage::Done);
        self.call(|handler, cx| handler.on_peer_error(cx, peer, PeerError::Unresolved { why }));
    }

    fn attempt(&mut self, entry: u32, peer: PeerId) {
        match self.io.next_address(entry) {
            Step::Tries(remote) => {
                self.call(|handler, cx| handler.on_attempt(cx, peer, remote));
                return;
            }
            Step::Waits => return,
            Step::NoneLeft => {}
        }
        let Some(dialed) = self.io.dials.entries.get(entry as usize) else { return };
        if dialed.addresses.is_empty() {
            return self.unresolved(entry, peer, LookupError::NoAddress);
        }
        let error = PeerError::NoAnswer { addresses: dialed.addresses.len() as u8, last: dialed.last };
        self.io.dials.end_stage(entry, Stage::Done);
        self.call(|handler, cx| handler.on_peer_error(cx, peer, error));
    }

    /// The time of a lookup or an attempt is over.
    fn dial_due(&mut self, due: Due) {
        let Due { peer, entry, serial } = due;
        if !self.io.dials.is_current(entry, peer, serial) {
            return;
        }
        let Some(dialed) = self.io.dials.entries.get_mut(entry as usize) else { return };
        dialed.timer = None;
        let stage = dialed.stage;
        match stage {
            Stage::Resolving => self.lookup_failed(entry, peer, LookupError::TimedOut),
            Stage::Trying { quiet } if self.io.was_heard(peer, quiet) => {
                self.io.dials.end_stage(entry, Stage::Done);
            }
            Stage::Trying { .. } => self.io.give_up(entry, AttemptFault::Silence),
            Stage::Queued | Stage::Done => {}
        }
    }
}
