//! How a simulated shard sends: train by train, with what a full socket refuses in the backlog.

use std::convert::Infallible;
use std::net::SocketAddr;

use shardgram_core::PeerError;
use shardgram_core::backlog::{Backlog, Late, Waiting};
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{After, Order, Outcome, Refusal, SendFailure, SendFault, after};
use shardgram_core::outbox::{Outbox, Source, Train};

use crate::buffers::Cut;
use crate::driver::SimDriver;
use crate::errno::NOT_OPEN;
use crate::groups::is_broadcast;
use crate::network::Network;

/// What a send along a socket that is not open comes to.
const CLOSED: PeerError = PeerError::NotOpened { errno: NOT_OPEN };

fn refused(error: PeerError) -> Outcome {
    Outcome::Refused(Refusal::of(error))
}

/// How a train leaves.
#[derive(Clone, Copy)]
struct Way {
    from: SocketAddr,
    to: SocketAddr,
    may_fragment: bool,
}

impl SimDriver {
    /// From which address a datagram along this path leaves.
    fn source(&self, path: &Path) -> Result<SocketAddr, PeerError> {
        let local = match path.socket.as_listener() {
            Some(index) => self.listeners.get(usize::from(index)),
            None => {
                let slot = path.socket.as_endpoint().ok_or(CLOSED)? as usize;
                self.endpoints.get(slot).and_then(Option::as_ref)
            }
        };
        let address = local.ok_or(CLOSED)?.address;
        let (host, bound) = (self.host.borrow(), address.ip());
        // A wildcard answers from the address that was written to, an endpoint's from the first that the host has.
        let ip = match (bound.is_unspecified(), path.local.ip()) {
            (true, ip) if ip.is_unspecified() => {
                host.iter().copied().find(|ip| ip.is_ipv4() == bound.is_ipv4())
            }
            (true, ip) => Some(ip),
            (false, _) => Some(bound),
        };
        match ip {
            Some(ip) if host.contains(&ip) => Ok(SocketAddr::new(ip, address.port())),
            _ => Err(PeerError::Unreachable),
        }
    }

    fn way(&self, network: &Network, path: &Path, longest: usize) -> Result<Way, PeerError> {
        let (from, to) = (self.source(path)?, path.remote);
        if is_broadcast(to.ip()) && !self.broadcasts {
            return Err(PeerError::Forbidden);
        }
        let may_fragment = network.obstacle(from, to, longest, self.path_mtu)?;
        Ok(Way { from, to, may_fragment })
    }

    /// Carries out a train of the outbox.
    pub(super) fn send(
        &mut self,
        network: &mut Network,
        outbox: &Outbox,
        train: &Train,
        backlog: &mut Backlog,
    ) {
        let waits = !backlog.is_empty() && train.peer.is_some_and(|peer| backlog.holds(peer));
        let full =
            network.uplinks.any() && self.socket(train.via).is_some_and(|socket| !network.takes(socket));
        let way = match waits || full {
            true => Err(Outcome::Full),
            false => self.way(network, &train.path, train.segment as usize).map_err(refused),
        };
        match way {
            Ok(way) => self.launch(network, outbox, train, way),
            Err(outcome) => self.see_to(outbox, train, outcome, backlog),
        }
        for source in outbox.sources(train) {
            if let Source::Buffer(slice) = source {
                self.buffers.release(slice.buffer);
            }
        }
    }

    fn failed(&mut self, peer: Option<shardgram_core::PeerId>, datagrams: u32, fault: SendFault) {
        self.failures.push(SendFailure { peer, datagrams, fault });
    }

    /// Has a train wait that did not leave, or reports that it failed.
    fn see_to(&mut self, outbox: &Outbox, train: &Train, outcome: Outcome, backlog: &mut Backlog) {
        let pieces = outbox.sources(train).map(|source| self.buffers.bytes(outbox, source));
        match after(train.peer, outcome, Order::default()) {
            After::Wait(lost) if !backlog.defer(train, pieces) => {
                self.failed(train.peer, train.datagrams, lost);
            }
            After::Fail(fault) => self.failed(train.peer, train.datagrams, fault),
            After::Done | After::Again | After::Singles | After::Wait(_) => {}
        }
    }

    fn launch(&self, network: &mut Network, outbox: &Outbox, train: &Train, way: Way) {
        let pieces = outbox.sources(train).map(|source| self.buffers.bytes(outbox, source));
        let whole = train.datagrams > 1 && network.carries_trains(way.from, way.to);
        let launch = |network: &mut Network, flight, segment| {
            if way.may_fragment {
                network.may_fragment(flight);
            }
            network.launch(flight, (way.from, way.to), segment, train.ecn);
        };
        if whole {
            let flight = network.draft();
            pieces.for_each(|piece| network.write(flight, piece));
            launch(network, flight, train.segment);
        } else {
            let mut cut = Cut { segment: train.segment as usize, room: 0, flight: None };
            for piece in pieces {
                cut.write(network, piece, |network, flight| launch(network, flight, 0));
            }
            // The last datagram may be shorter, or empty.
            let last = cut.flight.take().unwrap_or_else(|| network.draft());
            launch(network, last, 0);
        }
        self.charge(network, train.via, way, train.bytes as usize);
    }

    fn charge(&self, network: &mut Network, via: SocketId, way: Way, bytes: usize) {
        if network.uplinks.any()
            && let Some(socket) = self.socket(via)
        {
            network.charge_send(socket, way.from.ip(), bytes);
        }
    }

    /// Sends what waits at sockets that have room again; whether anything left, or failed.
    #[cold]
    pub(super) fn flush(&mut self, network: &mut Network, backlog: &mut Backlog) -> bool {
        let flushed = backlog.flush(|backlog, id| {
            let Some(waiting) = backlog.front(id) else { return Ok(Late::NoRoom) };
            let sent = match self.socket(id) {
                Some(socket) if !network.takes(socket) => return Ok(Late::NoRoom),
                Some(_) => self.send_waiting(network, waiting),
                None => Err(CLOSED),
            };
            let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
            let outcome = sent.map_or_else(refused, |()| Outcome::Taken);
            if let After::Fail(fault) = after(peer, outcome, Order::default()) {
                self.failed(peer, datagrams, fault);
            }
            Ok::<_, Infallible>(Late::Gone)
        });
        let Ok(flushed) = flushed;
        flushed
    }

    fn send_waiting(&self, network: &mut Network, waiting: &Waiting) -> Result<(), PeerError> {
        let way = self.way(network, &waiting.path, waiting.segment as usize)?;
        let whole = waiting.datagrams > 1 && network.carries_trains(way.from, way.to);
        let size = if whole { waiting.bytes.len() } else { waiting.segment as usize };
        let mut datagrams = waiting.bytes.chunks(size.max(1));
        // Of an empty one there is no chunk.
        let mut next = Some(datagrams.next().unwrap_or_default());
        while let Some(bytes) = next {
            let flight = network.draft();
            network.write(flight, bytes);
            if way.may_fragment {
                network.may_fragment(flight);
            }
            let segment = if whole { waiting.segment } else { 0 };
            network.launch(flight, (way.from, way.to), segment, waiting.ecn);
            next = datagrams.next();
        }
        self.charge(network, waiting.via, way, waiting.bytes.len());
        Ok(())
    }

    /// When the first socket at which something waits takes more.
    pub(super) fn room_at(&self, network: &Network, backlog: &Backlog) -> Option<u64> {
        let sockets = backlog.sockets().into_iter().filter_map(|id| self.socket(id));
        sockets.filter_map(|socket| network.takes_at(socket)).min()
    }
}
