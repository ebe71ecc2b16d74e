//! What handlers reply, and what `accept` decides.

use shardgram_core::{Accept, Datagram, Path, PeerId};

use crate::actor::Actor;
use crate::handler::Chaotic;
use crate::payload;
use crate::world::{Allowance, Decided, Pending, Tag, way};

impl<const WHOLE: bool, const KEEPS: u8> Chaotic<WHOLE, KEEPS> {
    /// Replies in place, with all of it or with its beginning.
    pub(super) fn reply(actor: &mut Actor<'_, '_, Self>, peer: PeerId, mut datagram: Datagram<'_>) {
        let path = datagram.path();
        let whole = datagram.len();
        let len = if actor.dice.one_in(4) { actor.dice.range(0..=whole as u64) as usize } else { whole };
        let number = actor.number();
        payload::fill(number, &mut datagram[..len]);
        if actor.dice.one_in(30) {
            let result = actor.cx.io.reply(datagram, whole + 1);
            return actor.judge("reply", (peer, Some(path)), (number, usize::MAX), result);
        }
        let result = actor.cx.io.reply(datagram, len);
        actor.judge("reply", (peer, Some(path)), (number, len), result);
    }

    /// What `accept` says, and what that means for the model.
    pub(super) fn decide(actor: &mut Actor<'_, '_, Self>, first: &mut Datagram<'_>) -> Accept<Tag> {
        let (path, place) = (first.path(), actor.place);
        let weights = actor.model.nodes[place.0].temper.accepts;
        let (earned, spent) = actor.stranger.unwrap_or((0, 0));
        let choice = actor.dice.weighted(&weights);
        let names = ["Peer", "Connect", "Done", "Reply", "PathOf", "Drop"];
        let choice = if actor.may_go_on() { choice } else { [0, 5][choice % 2] };
        if choice != 4 {
            actor.model.reached.note("accept", names[choice]);
        }
        match choice {
            0 | 1 => {
                let tag = Tag(actor.model.next_serial());
                let allowance = Allowance { validated: actor.verified, earned, spent };
                actor.model.shard(place).pending = Some(Pending { path, tag, allowance });
                if choice == 0 { Accept::Peer(tag) } else { Accept::Connect(tag) }
            }
            2 => {
                actor.model.shard(place).decide(Decided::Stateless);
                Accept::Done
            }
            3 => {
                let len = actor.dice.range(0..=first.len() as u64) as usize;
                let number = actor.number();
                payload::fill(number, &mut first[..len]);
                actor.model.shard(place).decide(Decided::Stateless);
                if len == first.len() && actor.dice.one_in(2) {
                    return Accept::Reply(len + 9); // more than there is: it is refused
                }
                actor.maybe_sent(None, &path, (number, len));
                Accept::Reply(len)
            }
            4 => Self::path_of(actor, path),
            _ => {
                actor.model.shard(place).decide(Decided::Refused);
                Accept::Drop(["tired", "closed", "not today"][actor.dice.below(3) as usize])
            }
        }
    }

    fn path_of(actor: &mut Actor<'_, '_, Self>, path: Path) -> Accept<Tag> {
        let (node, shard) = actor.place;
        let all: Vec<PeerId> = actor.model.nodes[node].peers.keys().copied().collect();
        let chosen = match actor.dice.below(4) {
            0 => actor.some_stale(),
            _ => actor.dice.pick(&all).copied(),
        };
        let Some(peer) = chosen else {
            actor.model.shard(actor.place).decide(Decided::Refused);
            return Accept::Drop("nobody");
        };
        let name = match (actor.model.nodes[node].is_open(peer), peer.shard() == shard) {
            (true, true) => "PathOf a peer",
            (true, false) => "PathOf a peer elsewhere",
            (false, true) => "PathOf nobody",
            (false, false) => "PathOf nobody elsewhere",
        };
        actor.model.reached.note("accept", name);
        let model = &mut actor.model.nodes[node];
        model.joined.insert(peer);
        if actor.verified {
            if let Some(joined) = model.peers.get_mut(&peer) {
                joined.budgets.entry(way(path)).or_default().validated = true;
            }
            model.may_be_proven(peer);
        }
        if usize::from(peer.shard()) >= model.shards.len() && path.socket.as_listener().is_some() {
            actor.model.shard(actor.place).decide(Decided::Nowhere);
        }
        Accept::PathOf(peer)
    }
}
