//! The model: what handlers have asked for, what they were told, and what therefore may happen next.

mod node;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::{CloseReason, EndpointId, Path, PeerId, Shared, Snapshot, TimerId};

use crate::ledger::Ledger;
use crate::reached::Reached;
use crate::scenario::NodePlan;

pub(crate) use node::{Limits, NodeModel};

/// All handlers of a run, its clients and its watch look at the same model.
pub(crate) type World = Rc<RefCell<Model>>;

/// Beyond so many hops nothing is answered, so that a run ends.
pub(crate) const MAX_HOPS: u8 = 5;

/// State of a peer, beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag(pub(crate) u64);

/// A message between shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) number: u64,
    pub(crate) hops: u8,
}

/// Messages of one sender for one shard, and when each was sent.
pub(crate) type Queue = VecDeque<(Note, Instant)>;

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) seed: u64,
    /// From now on handlers begin nothing.
    pub(crate) calm: bool,
    pub(crate) reached: Reached,
    /// The first thing that went wrong.
    pub(crate) wrong: Option<String>,
    pub(crate) ledger: Ledger,
    pub(crate) nodes: Vec<NodeModel>,
    /// How many datagrams handlers may still send.
    pub(crate) budget: u32,
    /// Addresses that clients and handlers may write to.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) serial: u64,
    /// How many datagrams of floods were asked for by the simulator.
    pub(crate) flooded: u64,
    /// How often there was a callback for the same datagram, timer or message.
    pub(crate) keys: BTreeMap<u64, u64>,
    /// The last cookie that each node made.
    pub(crate) cookies: BTreeMap<usize, (Path, [u8; 16])>,
}

impl Model {
    /// A node that is to be started, while these addresses of its are gone.
    pub(crate) fn add_node(&mut self, plan: &NodePlan, gone: BTreeMap<IpAddr, Instant>) {
        self.ledger.hosts.push(plan.host.clone());
        self.nodes.push(NodeModel::of(plan, gone));
    }

    /// The last one was not started.
    pub(crate) fn remove_last_node(&mut self) {
        self.ledger.hosts.pop();
        self.nodes.pop();
    }

    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    pub(crate) fn shard(&mut self, (node, shard): (usize, u16)) -> &mut ShardModel {
        &mut self.nodes[node].shards[usize::from(shard)]
    }

    /// A message was put into a mailbox, or given back.
    pub(crate) fn told(
        &mut self,
        node: usize,
        (from, to): (Option<u16>, u16),
        sent: (Note, Instant),
        taken: bool,
    ) {
        let model = &mut self.nodes[node];
        let (waiting, limit) = (model.waiting_for(to), model.limits.mailbox);
        let ended = model.shards[usize::from(to)].ended;
        let ending = model.stopped || model.ends_by.is_some();
        let may = waiting < limit && !ended;
        let text = || format!("message {} of {limit} to shard {to} was taken: {taken}", waiting + 1);
        if may && !taken && !ending {
            // It may have given up in this very step, which is seen after it.
            model.given_back.push((to, text()));
        }
        if taken {
            model.mail.entry((from, to)).or_default().push_back(sent);
        }
        self.expect(may || !taken, text);
    }

    /// A number that names something nobody else names so.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerState {
    Open,
    /// Its handler panicked; another one is to hear of it.
    Orphaned,
    /// Its handler panicked over it, and its others stay.
    Blamed,
    Closed,
}

/// Bytes that may be sent along a path while its address is not validated, and that were.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Allowance {
    pub(crate) validated: bool,
    pub(crate) earned: u64,
    pub(crate) spent: u64,
}

#[derive(Debug)]
pub(crate) struct PeerModel {
    pub(crate) state: PeerState,
    pub(crate) tag: Tag,
    pub(crate) asked_to_close: bool,
    /// This side opened it.
    pub(crate) own: bool,
    /// The handler proved its address.
    pub(crate) proven: bool,
    pub(crate) perhaps_proven: bool,
    /// What the amplification limit says of each of its paths. Never walked, so its order does not matter.
    pub(crate) budgets: HashMap<Path, Allowance>,
    pub(crate) last_seen: Instant,
    pub(crate) path: Path,
    pub(crate) mark: shardgram_core::Ecn,
    pub(crate) refused: bool,
    /// It is known by a name, and has the address that is tried.
    pub(crate) dialed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerModel {
    pub(crate) at: Instant,
    pub(crate) set: Instant,
    pub(crate) peer: Option<PeerId>,
    pub(crate) hops: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointModel {
    pub(crate) id: EndpointId,
    pub(crate) bind: SocketAddr,
    pub(crate) closing: bool,
}

/// What `accept` said of a stranger whose first datagram is to follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) path: Path,
    pub(crate) tag: Tag,
    pub(crate) allowance: Allowance,
}

/// Who brought a callback about that panics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct By {
    pub(crate) peer: Option<PeerId>,
    /// Where its datagram came from, if it was one.
    pub(crate) path: Option<Path>,
    /// Nobody outside did, so the shard pauses.
    pub(crate) is_own: bool,
}

impl By {
    pub(crate) const OWN: Self = Self { peer: None, path: None, is_own: true };

    pub(crate) fn peer(peer: PeerId) -> Self {
        Self { peer: Some(peer), ..Self::default() }
    }

    pub(crate) fn datagram(peer: Option<PeerId>, path: Path) -> Self {
        Self { peer, path: Some(path), is_own: false }
    }
}

/// The shortest pause after a panic, and the shortest time for which a source is refused.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const FIRST_REFUSAL: Duration = Duration::from_secs(1);

/// An outcome without a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decided {
    Stateless,
    Refused,
    /// A path of a peer on a shard that is not there.
    Nowhere,
}

#[derive(Debug, Default)]
pub(crate) struct ShardModel {
    pub(crate) incarnation: u32,
    pub(crate) panicked: bool,
    /// After a panic that nobody outside brought about: no callback is called before this.
    pub(crate) pauses_until: Option<Instant>,
    /// Whoever made it panic as a stranger would, from where to where: refused until then, at least, and how often it was.
    pub(crate) blamed: HashMap<Path, (Instant, u32)>,
    /// A handler was replaced, and its peers were kept: endpoints of which the fresh one does not know may be closed.
    pub(crate) forgot: bool,
    pub(crate) ended: bool,
    /// It has no processor until then.
    pub(crate) stalled_until: Option<Instant>,
    pub(crate) open: usize,
    /// More of its peers were proven than strangers cannot displace, so some of them may be.
    pub(crate) many_proven: bool,
    pub(crate) panics: u64,
    pub(crate) delivered: u64,
    pub(crate) stateless: u64,
    pub(crate) refused: u64,
    /// Datagrams that `PathOf` named a peer for on a shard that is not there.
    pub(crate) nowhere: u64,
    pub(crate) messages: u64,
    pub(crate) fired: u64,
    pub(crate) queued: u64,
    /// What the callback at hand has queued, if none of its kind begins unless half of the outbox is free.
    pub(crate) begun: Option<u64>,
    /// The last callback was `accept`, but for those about what it closed.
    pub(crate) after_accept: bool,
    /// Sends of which it is not told whether they were queued.
    pub(crate) maybe_queued: u64,
    pub(crate) timers: BTreeMap<u64, TimerModel>,
    pub(crate) timer_ids: Vec<(TimerId, u64)>,
    pub(crate) endpoints: Vec<EndpointModel>,
    pub(crate) pending: Option<Pending>,
    pub(crate) old_shared: Option<(Shared, Instant)>,
    pub(crate) drains: u32,
    /// What `accept` has decided, until what it asked to be closed is closed.
    pub(crate) decided: Option<Decided>,
}

/// A path as the model knows it. Which port an endpoint has is not known before it is open, nor is it a part of what a path is
/// known by.
pub(crate) fn way(mut path: Path) -> Path {
    if path.socket.as_endpoint().is_some() {
        path.local.set_port(0);
    }
    path
}

impl ShardModel {
    pub(crate) fn decide(&mut self, decided: Decided) {
        match decided {
            Decided::Stateless => self.stateless += 1,
            Decided::Refused => self.refused += 1,
            Decided::Nowhere => self.nowhere += 1,
        }
        self.decided = Some(decided);
    }

    /// The handler panics, and goes on if it `stays`. If not, what it has decided before no longer counts.
    pub(crate) fn panic(&mut self, by: &By, now: Instant, stays: bool) {
        self.panicked = true;
        self.panics += 1;
        if by.is_own {
            self.pauses_until = Some(now + SHORTEST_PAUSE);
        } else if let Some(path) = by.path {
            let (until, times) = self.blamed.entry(way(path)).or_insert((now, 0));
            // As long as it is not forgotten, which takes longer than a run.
            let refused = FIRST_REFUSAL * (1 << (*times).min(8));
            (*until, *times) = ((now + refused).max(*until), *times + 1);
        }
        match self.decided.take().filter(|_| !stays) {
            Some(Decided::Stateless) => self.stateless -= 1,
            Some(Decided::Refused) => self.refused -= 1,
            Some(Decided::Nowhere) => self.nowhere -= 1,
            None => {}
        }
    }

    /// Whether some endpoint may be on its way to be closed.
    pub(crate) fn closes_endpoints(&self) -> bool {
        self.forgot || self.endpoints.iter().any(|endpoint| endpoint.closing)
    }

    /// Whether what comes along this path is refused, as far as can be said here.
    pub(crate) fn refuses(&self, path: &Path, now: Instant) -> bool {
        let until = self.blamed.get(&way(*path)).map(|(until, _)| *until);
        // Of more of them some may have given way.
        self.blamed.len() < 200 && until.is_some_and(|until| now < until)
    }

    pub(crate) fn armed(&self) -> usize {
        self.timers.len()
    }

    /// Timers of a peer go with it.
    pub(crate) fn forget_timers_of(&mut self, peer: PeerId) {
        self.timers.retain(|_, timer| timer.peer != Some(peer));
    }

    /// What the counters of a shard have to be between turns.
    pub(crate) fn check(&self, is: &Snapshot, limits: &Limits) -> Result<(), String> {
        if is.unaccounted() != 0 {
            return Err(format!("{} datagrams are in no outcome, or in two", is.unaccounted()));
        }
        // A shard whose handler failed last has nobody to tell.
        let told = !(self.ended && self.panicked);
        let refused: u64 = is.refused.iter().map(|(_, count)| count).sum();
        for (what, counted, seen) in [
            ("delivered", is.delivered, self.delivered),
            ("stateless", is.stateless, self.stateless),
            ("refused", refused, self.refused),
            ("messages", is.messages, self.messages),
            ("timers_fired", is.timers_fired, self.fired),
            ("restarts", is.restarts, self.panics),
            // Of some that were closed it is told after the pause.
            ("peers", if self.panicked { self.open as u64 } else { is.peers() }, self.open as u64),
        ] {
            if told && counted != seen {
                return Err(format!("{what} counts {counted}, and callbacks say {seen}"));
            }
        }
        if told && !(self.queued..=self.queued + self.maybe_queued).contains(&is.queued) {
            let (least, more) = (self.queued, self.maybe_queued);
            return Err(format!(
                "queued counts {}, and callbacks say {least} and at most {more} more",
                is.queued
            ));
        }
        let outbox = is.queued.wrapping_sub(is.submitted);
        for (what, value, most) in [
            ("peers", is.peers(), limits.peers as u64),
            ("the outbox", outbox, limits.queue),
            ("failed sends", is.send_failed() + is.send_waiting, is.submitted),
            ("malformed datagrams", is.dropped_malformed, 0),
            ("cut control data", is.dropped_control_cut, 0),
        ] {
            if value > most {
                return Err(format!("{what}: {value}, and no more than {most} may be"));
            }
        }
        Ok(())
    }
}

/// Whether a peer may be told that it is closed for this reason.
pub(crate) fn may_close(node: &NodeModel, id: PeerId, why: CloseReason, now: Instant) -> bool {
    let Some(peer) = node.peers.get(&id) else { return false };
    if why == CloseReason::EndpointClosed && peer.dialed {
        return true;
    }
    let on_closing = |shard: &ShardModel| shard.closes_endpoints();
    match why {
        CloseReason::Asked => peer.asked_to_close,
        CloseReason::Idle => {
            let silent = now.saturating_duration_since(peer.last_seen);
            // Seen to the millisecond, and what is dialed is taken to be silent since the one before.
            let unseen = Duration::from_millis(if peer.dialed { 2 } else { 1 });
            node.limits.idle.is_some_and(|timeout| silent + unseen > timeout)
        }
        CloseReason::EndpointClosed => {
            peer.path.socket.as_endpoint().is_some() && node.shards.iter().any(on_closing)
        }
        CloseReason::Restarted => peer.state == PeerState::Orphaned,
        CloseReason::Panicked => peer.state == PeerState::Blamed,
        // Whether it had to end is known when the step is over, in which another shard may have given up.
        CloseReason::Drained => {
            node.drained.set(true);
            true
        }
        CloseReason::Displaced => {
            // What was added to peers as further paths takes places too.
            let Some(shard) = node.shards.get(usize::from(id.shard())) else { return false };
            let crowded = shard.open + node.limits.peers / 64 >= node.limits.peers || !node.joined.is_empty();
            // Whoever is verified is let in before its first callback says so.
            let verified = shard.pending.as_ref().is_some_and(|pending| pending.allowance.validated);
            let many = verified && node.are_too_many(node.proven_on(id.shard()) + 1);
            crowded && !peer.own && (!peer.proven || shard.many_proven || many)
        }
        CloseReason::AddressGone => node.lost.contains(&peer.path.local.ip()),
        _ => false,
    }
}
