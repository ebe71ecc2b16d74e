//! What is known of a node: its addresses, bounds, shards and peers.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_core::{Config, PeerId};

use crate::scenario::NodePlan;
use crate::temper::Temper;
use crate::world::{Note, PeerModel, PeerState, Queue, ShardModel};

/// The bounds of a node, as far as they can be seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) peers: usize,
    /// Peers that strangers cannot displace. Unknown where prefixes are bounded by themselves.
    pub(crate) reserved: Option<usize>,
    pub(crate) timers: usize,
    pub(crate) mailbox: usize,
    pub(crate) endpoints: usize,
    pub(crate) amplification: u64,
    pub(crate) datagram: usize,
    pub(crate) idle: Option<Duration>,
    pub(crate) ecn: bool,
    pub(crate) times: bool,
    pub(crate) queue: u64,
}

#[derive(Debug)]
pub(crate) struct NodeModel {
    pub(crate) host: Vec<IpAddr>,
    /// Addresses that it has lost at some time.
    pub(crate) lost: Vec<IpAddr>,
    /// Those that it has not now, and since when.
    pub(crate) gone: BTreeMap<IpAddr, Instant>,
    /// Whether each of its listeners is bound to every address.
    wildcards: Vec<bool>,
    pub(crate) limits: Limits,
    pub(crate) temper: Temper,
    pub(crate) shards: Vec<ShardModel>,
    pub(crate) peers: BTreeMap<PeerId, PeerModel>,
    /// Peers that were named by `PathOf`, so datagrams of any source may come to them.
    pub(crate) joined: BTreeSet<PeerId>,
    /// Messages under way, by sender (`None` for a handle) and receiver.
    pub(crate) mail: BTreeMap<(Option<u16>, u16), Queue>,
    /// When it has to have ended, once that was asked for.
    pub(crate) ends_by: Option<Instant>,
    pub(crate) stopped: bool,
    /// Messages that were given back though there was room, and to which shard they were.
    pub(crate) given_back: Vec<(u16, String)>,
    pub(crate) killed: bool,
    /// Peers were closed as drained in this step.
    pub(crate) drained: Cell<bool>,
    pub(crate) opened_endpoints: bool,
    /// Dialed peers have endpoints that no handler asked for.
    pub(crate) dialed: bool,
    /// Datagrams that `accept` saw, and what its answers left of the amplification limit.
    pub(crate) left: BTreeMap<(u64, SocketAddr, SocketAddr), u64>,
}

impl NodeModel {
    pub(super) fn of(plan: &NodePlan, gone: BTreeMap<IpAddr, Instant>) -> Self {
        let settings = plan.config.settings();
        Self {
            host: plan.host.clone(),
            lost: gone.keys().copied().collect(),
            gone,
            wildcards: settings.listen.iter().map(|at| at.ip().is_unspecified()).collect(),
            limits: limits_of(&plan.config),
            temper: plan.temper.clone(),
            shards: (0..settings.shards).map(|_| ShardModel::default()).collect(),
            peers: Default::default(),
            joined: Default::default(),
            mail: Default::default(),
            ends_by: None,
            stopped: false,
            given_back: Vec::new(),
            killed: false,
            drained: Cell::new(false),
            opened_endpoints: false,
            dialed: false,
            left: Default::default(),
        }
    }

    /// Whether a peer that was accepted is answered from an address that has been gone since it was heard last, by a
    /// listener for every address: such peers are closed.
    pub(crate) fn is_left_behind(&self, peer: &PeerModel) -> bool {
        let by_wildcard = peer.path.socket.as_listener().map(|index| self.wildcards[usize::from(index)]);
        let since = self.gone.get(&peer.path.local.ip());
        let open = peer.state == PeerState::Open && !peer.own;
        open && by_wildcard == Some(true) && since.is_some_and(|since| peer.last_seen < *since)
    }

    /// When all its shards have had turns that had to have some by then, if none of them is kept from it.
    pub(crate) fn turns_by(&self, by: Instant, slack: Duration) -> Instant {
        let stalled = self.shards.iter().filter_map(|shard| shard.stalled_until).max();
        stalled.map_or(by, |until| by.max(until + slack))
    }

    /// Whether one of its listeners has this address, and the node may have it.
    pub(crate) fn listens_at(&self, listeners: &[SocketAddr], address: SocketAddr) -> bool {
        listeners.iter().any(|listener| {
            let wildcard = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
            listener.port() == address.port()
                && (listener.ip() == address.ip() || (wildcard && self.host.contains(&address.ip())))
        })
    }

    pub(crate) fn open_peers(&self, shard: u16) -> impl Iterator<Item = PeerId> + '_ {
        let open = move |(id, p): &(&PeerId, &PeerModel)| id.shard() == shard && p.state == PeerState::Open;
        self.peers.iter().filter(open).map(|(id, _)| *id)
    }

    /// A peer is proven, from now on.
    pub(crate) fn prove(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.proven = true;
        }
        self.may_be_proven(peer);
    }

    /// A peer may be proven, as one on another shard, or whose table of paths is full, when `accept` has verified another
    /// path of it.
    pub(crate) fn may_be_proven(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.perhaps_proven = true;
        }
        let many = self.are_too_many(self.proven_on(peer.shard()));
        if let Some(shard) = self.shards.get_mut(usize::from(peer.shard())) {
            shard.many_proven |= many;
        }
    }

    pub(super) fn proven_on(&self, shard: u16) -> usize {
        self.open_peers(shard).filter(|id| self.peers[id].perhaps_proven && !self.peers[id].own).count()
    }

    /// Whether so many proven peers are more than strangers cannot displace.
    pub(super) fn are_too_many(&self, proven: usize) -> bool {
        self.limits.reserved.is_none_or(|reserved| proven > reserved)
    }

    pub(crate) fn is_open(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|p| p.state == PeerState::Open)
    }

    /// A message that waits since before then.
    pub(crate) fn waiting_since(&self, then: Instant) -> Option<Note> {
        let oldest = self.mail.values().filter_map(|notes| notes.front());
        oldest.into_iter().find(|(_, at)| *at < then).map(|(note, _)| *note)
    }

    /// How many messages wait for a shard.
    pub(crate) fn waiting_for(&self, shard: u16) -> usize {
        self.mail.iter().filter(|((_, to), _)| *to == shard).map(|(_, notes)| notes.len()).sum()
    }
}

fn limits_of(config: &Config) -> Limits {
    let settings = config.settings();
    Limits {
        peers: settings.max_peers as usize,
        reserved: match (settings.max_proven_per_prefix, settings.max_proven_peers) {
            (0, 0) => Some((settings.max_peers - settings.max_peers.div_ceil(4)) as usize),
            (0, reserved) => Some(reserved as usize),
            _ => None,
        },
        timers: settings.max_timers as usize,
        mailbox: settings.mailbox_len as usize,
        endpoints: settings.max_endpoints as usize,
        amplification: settings.amplification_limit.into(),
        datagram: settings.max_datagram as usize,
        idle: settings.idle_timeout,
        ecn: settings.ecn,
        times: settings.receive_timestamps,
        queue: settings.outbox_datagrams.into(),
    }
}
