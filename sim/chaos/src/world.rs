//! The model: what handlers have asked for, what they were told, and what therefore may happen next.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::{CloseReason, EndpointId, Path, PeerId, Shared, Snapshot, TimerId};

use crate::ledger::Ledger;
use crate::plan::Temper;
use crate::reached::Reached;

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

/// The bounds of a node, as far as they can be seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) peers: usize,
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
}

impl Model {
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
        // That a shard has just ended may not be known yet.
        let ending = model.stopped || model.ends_by.is_some();
        let may = waiting < limit && !ended;
        if taken {
            model.mail.entry((from, to)).or_default().push_back(sent);
        }
        self.expect(may == taken || (ending && !taken), || {
            format!("message {} of {limit} to shard {to} (ended: {ended}) was taken: {taken}", waiting + 1)
        });
    }

    /// A number that names something nobody else names so.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

#[derive(Debug)]
pub(crate) struct NodeModel {
    pub(crate) host: Vec<IpAddr>,
    /// Addresses that it has lost at some time.
    pub(crate) lost: Vec<IpAddr>,
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
    /// Peers were closed as drained in this step.
    pub(crate) drained: Cell<bool>,
    pub(crate) opened_endpoints: bool,
    /// Dialed peers have endpoints that no handler asked for.
    pub(crate) dialed: bool,
    /// Datagrams that `accept` saw, and what its answers left of the amplification limit.
    pub(crate) left: BTreeMap<(u64, SocketAddr, SocketAddr), u64>,
}

impl NodeModel {
    pub(crate) fn open_peers(&self, shard: u16) -> impl Iterator<Item = PeerId> + '_ {
        let open = move |(id, p): &(&PeerId, &PeerModel)| id.shard() == shard && p.state == PeerState::Open;
        self.peers.iter().filter(open).map(|(id, _)| *id)
    }

    pub(crate) fn is_open(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|p| p.state == PeerState::Open)
    }

    /// How many messages wait for a shard.
    pub(crate) fn waiting_for(&self, shard: u16) -> usize {
        self.mail.iter().filter(|((_, to), _)| *to == shard).map(|(_, notes)| notes.len()).sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerState {
    Open,
    /// Its handler panicked; another one is to hear of it.
    Orphaned,
    Closed,
}

#[derive(Debug)]
pub(crate) struct PeerModel {
    pub(crate) state: PeerState,
    pub(crate) tag: Tag,
    pub(crate) asked_to_close: bool,
    pub(crate) validated: bool,
    /// Bytes that may be sent while the address is not validated, and that were.
    pub(crate) earned: u64,
    pub(crate) spent: u64,
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
    pub(crate) earned: u64,
    pub(crate) spent: u64,
}

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
    pub(crate) ended: bool,
    pub(crate) open: usize,
    pub(crate) panics: u64,
    pub(crate) delivered: u64,
    pub(crate) stateless: u64,
    pub(crate) refused: u64,
    /// Datagrams that `PathOf` named a peer for on a shard that is not there.
    pub(crate) nowhere: u64,
    pub(crate) messages: u64,
    pub(crate) fired: u64,
    pub(crate) queued: u64,
    /// Sends of which it is not told whether they were queued.
    pub(crate) maybe_queued: u64,
    pub(crate) timers: BTreeMap<u64, TimerModel>,
    pub(crate) timer_ids: Vec<(TimerId, u64)>,
    pub(crate) endpoints: Vec<EndpointModel>,
    pub(crate) pending: Option<Pending>,
    pub(crate) old_shared: Option<(Shared, Instant)>,
    pub(crate) drains: u32,
    /// Ids the callback asked to close that named nobody then.
    pub(crate) asked: Vec<PeerId>,
    /// The last callback was `on_closed`. What it asked for may be done after the next one.
    pub(crate) after_closed: bool,
    /// What `accept` has decided, until what it asked to be closed is closed.
    pub(crate) decided: Option<Decided>,
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

    /// The handler panics. What it has decided before no longer counts.
    pub(crate) fn panic(&mut self) {
        self.panicked = true;
        self.panics += 1;
        match self.decided.take() {
            Some(Decided::Stateless) => self.stateless -= 1,
            Some(Decided::Refused) => self.refused -= 1,
            Some(Decided::Nowhere) => self.nowhere -= 1,
            None => {}
        }
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
            // The last one may have failed as it began; its turn to be replaced comes with the next.
            ("restarts", is.restarts + u64::from(self.panicked && is.restarts < self.panics), self.panics),
            ("peers", is.peers(), self.open as u64),
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
    let on_closing = |shard: &ShardModel| shard.endpoints.iter().any(|e| e.closing);
    match why {
        CloseReason::Asked => peer.asked_to_close || node.shards.iter().any(|s| s.asked.contains(&id)),
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
        // Whether it had to end is known when the step is over, in which another shard may have given up.
        CloseReason::Drained => {
            node.drained.set(true);
            true
        }
        CloseReason::AddressGone => node.lost.contains(&peer.path.local.ip()),
        _ => false,
    }
}
