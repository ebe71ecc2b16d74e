//! What has to hold of a datagram, and of the peer that is heard.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::flow::flow_shard;
use shardgram_core::{Ecn, Meta, Path, PeerId};

use crate::actor::Actor;
use crate::groups;
use crate::handler::Chaotic;
use crate::ledger::{Arrived, At, Receiver};
use crate::payload;
use crate::world::{MAX_HOPS, Model, PeerState, Place, way};

impl<const WHOLE: bool, const KEEPS: u8> Chaotic<WHOLE, KEEPS> {
    /// Looks at a datagram that came to a peer, or, if there is none yet, to the handler.
    pub(super) fn look(
        &self,
        model: &mut Model,
        peer: Option<PeerId>,
        path: Path,
        (meta, group): (Meta, Option<IpAddr>),
        bytes: &[u8],
    ) -> u8 {
        let node = &model.nodes[self.place.0];
        let (limits, host) = (node.limits, node.host.clone());
        let number = payload::number_of(bytes);
        let group = group.map(|group| SocketAddr::new(group, path.local.port()));
        let at = match (group, path.socket.as_listener()) {
            (Some(group), _) => At::Exactly(group),
            (None, Some(_)) => At::Exactly(path.local),
            (None, None) => At::Host(&host),
        };
        let arrived = Arrived {
            receiver: peer.map_or(Receiver::Client, |peer| Receiver::Peer(self.place.0, peer)),
            from: path.remote,
            at,
            bytes,
            truncated_from: meta.truncated_from,
            ecn: limits.ecn.then_some(meta.ecn),
        };
        let hops = match model.ledger.arrived(&arrived, peer.is_some()) {
            Ok(hops) => hops,
            Err(what) => {
                model.fail(|| what);
                MAX_HOPS
            }
        };
        let place = self.place;
        let joined = peer.is_some_and(|peer| model.nodes[place.0].joined.contains(&peer));
        if let (Some(to), Some(number)) = (group, number) {
            let by_endpoint = path.socket.as_endpoint().is_some();
            let anywhere = !model.nodes[place.0].joined.is_empty();
            let heard = Place { shard: place.1, by_endpoint, anywhere };
            model.heard(place.0, heard, (number, path.remote, to), peer.is_some());
        }
        let right = bytes.len() <= limits.datagram
            && (meta.truncated_from.is_some() == meta.truncated_from.is_some_and(|len| len > bytes.len()))
            && (limits.ecn || meta.ecn == Ecn::NotEct)
            && meta.kernel_time.is_some() == limits.times
            && path.remote.port() != 0
            && meta.to_many == group.is_some();
        model.expect(right, || format!("a datagram of {} bytes with {meta:?} by {path:?}", bytes.len()));
        if meta.truncated_from.is_some() {
            model.reached.note("datagram", "truncated");
        }
        let shards = model.nodes[place.0].shards.len() as u16;
        let owner = flow_shard(path.remote, shards);
        // What every shard hears is handled by each, and makes peers that live there. What they write to this host is the
        // owner's all the same, unless it is steered to them, or handed to a peer that has its path there.
        let node = &model.nodes[place.0];
        let by_group = peer.is_some_and(|peer| node.by_group.contains(&peer))
            && (group.is_some() || !model.ledger.is_well_steered() || !node.joined.is_empty());
        let every = group.is_some_and(|group| groups::is_everywhere(&node.temper.everywhere, group.ip()));
        let ours = path.socket.as_endpoint().is_some() || owner == place.1 || joined || by_group || every;
        model.expect(ours, || format!("{path:?} belongs to shard {owner}, not to {place:?}"));
        hops
    }

    /// A peer that is heard: known, or the one that `accept` has just agreed to.
    pub(super) fn heard(&self, actor: &mut Actor<'_, '_, Self>, from: PeerId, path: Path, bytes: &[u8]) {
        let place = self.place;
        let key = payload::number_of(bytes).map(|number| (number, path.remote, path.local));
        let left = key.and_then(|key| actor.model.nodes[place.0].left.remove(&key));
        let left = left.filter(|_| actor.model.ledger.at_most_once);
        let pending = actor.model.shard(place).pending.take();
        if !actor.model.nodes[place.0].peers.contains_key(&from) {
            match pending.filter(|pending| pending.path == path) {
                Some(pending) => {
                    let shards = actor.cx.io.shards();
                    if path.socket.as_listener().is_some() && flow_shard(path.remote, shards) != place.1 {
                        actor.model.reached.note("group", "a peer on each shard");
                        actor.model.nodes[place.0].by_group.insert(from);
                    }
                    actor.opened(from, pending, false);
                }
                None => actor.model.fail(|| format!("{from} was not agreed to")),
            }
        } else {
            let limit = actor.model.nodes[place.0].limits.amplification;
            if let Some(peer) = actor.model.nodes[place.0].peers.get_mut(&from) {
                let allowance = peer.budgets.entry(way(path)).or_default();
                allowance.earned += left.unwrap_or(limit * bytes.len() as u64);
            }
        }
        let now = actor.cx.io.now();
        let is = actor.cx.peers.get(from).copied();
        let node = &mut actor.model.nodes[place.0];
        let Some(peer) = node.peers.get_mut(&from) else { return };
        peer.last_seen = now;
        let (state, tag, active, dialed) = (peer.state, peer.tag, peer.path, peer.dialed);
        let right = state == PeerState::Open && is == Some(tag) && from.shard() == place.1;
        let told = actor.cx.io.path(from).map(way);
        let active = if dialed { told.unwrap_or(active) } else { active };
        actor
            .model
            .expect(right, || format!("a callback for {from}, which is {state:?} with {is:?}, not {tag:?}"));
        actor
            .model
            .expect(told == Some(active), || format!("{from} is answered along {told:?}, not {active:?}"));
        // Whoever is answered along this path would have got the datagram.
        let node = &actor.model.nodes[place.0];
        let others = node.open_peers(place.1).filter(|other| *other != from);
        let owner = others.into_iter().find(|other| actor.cx.io.path(*other).map(way) == Some(way(path)));
        actor.model.expect(owner.is_none(), || format!("{from} got a datagram of {owner:?}"));
        actor.me = Some(from);
        actor.path = Some(path);
    }
}
