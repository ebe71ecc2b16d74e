//! What handlers do in callbacks, and what has to come of it.

mod dialing;
mod groups;
mod judging;
mod opening;
mod peers;
mod sending;
mod timers;

use shardgram_core::{Context, Handler, Path, PeerId, SendError};

use crate::dice::Dice;
use crate::temper::Act;
use crate::world::{MAX_HOPS, Model, Note, PeerModel, Tag};

/// A handler of this crate.
pub(crate) trait Ours: Handler<Peer = Tag, Timer = u64, Message = Note> {}
impl<H: Handler<Peer = Tag, Timer = u64, Message = Note>> Ours for H {}

/// A callback at work.
pub(crate) struct Actor<'a, 'c, H: Ours> {
    pub(crate) model: &'a mut Model,
    pub(crate) cx: &'a mut Context<'c, H>,
    pub(crate) place: (usize, u16),
    pub(crate) dice: Dice,
    pub(crate) hops: u8,
    /// The peer the callback is about, and the path of the datagram.
    pub(crate) me: Option<PeerId>,
    pub(crate) path: Option<Path>,
    /// What the amplification limit leaves for answers to a stranger, and what was spent of it.
    pub(crate) stranger: Option<(u64, u64)>,
    /// A cookie of the stranger was verified.
    pub(crate) verified: bool,
}

impl<H: Ours> Actor<'_, '_, H> {
    /// Does a few things, if there is still anything to be done in this run.
    pub(crate) fn perform(&mut self) {
        let temper = &self.model.nodes[self.place.0].temper;
        let (busy, acts) = (temper.busy, temper.acts.clone());
        for _ in 0..self.dice.range(0..=busy) {
            if self.may_go_on()
                && let Some(act) = self.dice.pick(&acts).copied()
            {
                self.act(act);
            }
        }
    }

    pub(crate) fn may_go_on(&self) -> bool {
        !self.model.calm && self.hops < MAX_HOPS && self.model.budget > 0
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send => self.send(self.me),
            Act::SendToOther => {
                let other = self.some_open();
                self.send(other);
            }
            Act::SendToStale => {
                let stale = self.some_stale();
                self.send(stale);
            }
            Act::SendTooLong => self.send_too_long(),
            Act::Slot | Act::SlotDropped | Act::SlotTooLong => self.slot(act),
            Act::Share => self.share(),
            Act::ShareStale => self.share_stale(),
            Act::Close | Act::CloseOther | Act::CloseWhileWalking => self.close(act),
            Act::SetTimer => self.set_timer(None),
            Act::SetPeerTimer => self.set_peer_timer(),
            Act::Cancel => self.cancel(),
            Act::Tell | Act::TellNowhere => self.tell(act),
            Act::OpenEndpoint => self.open_endpoint(),
            Act::OpenByEndpoint => self.open_by_endpoint(),
            Act::OpenByListener => self.open_by_listener(),
            Act::OpenWrongly => self.open_wrongly(),
            Act::CloseEndpoint => self.close_endpoint(),
            Act::Promote | Act::Demote => self.change_tier(act),
            Act::Mark | Act::Validate => self.mark_or_validate(act),
            Act::UsePath | Act::UseWrongPath => self.use_path(act),
            Act::Cookie => self.cookie(),
            Act::Answer | Act::AnswerNobody => self.answer(act),
            Act::Dial => self.dial(),
            Act::Redial => self.redial(),
            Act::Join | Act::JoinWrongly => self.join(act),
            Act::Leave => self.leave_group(),
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.dice.number()
    }

    /// The length of a datagram: mostly the same, so that trains are made.
    pub(crate) fn length(&mut self) -> usize {
        let segment = self.model.nodes[self.place.0].temper.segment;
        match self.dice.below(10) {
            0..7 => segment,
            7 => self.dice.range(0..=16) as usize,
            8 => self.dice.below(segment as u64 + 1) as usize,
            _ => self.dice.range(1..=3_000) as usize,
        }
    }

    pub(crate) fn is_here(&self, peer: PeerId) -> bool {
        peer.shard() == self.place.1 && self.model.nodes[self.place.0].is_open(peer)
    }

    /// A peer whose endpoint was asked to be closed is gone before its handler hears of it.
    fn may_be_gone(&self, peer: PeerId) -> bool {
        let node = &self.model.nodes[self.place.0];
        let closing = node.shards[usize::from(self.place.1)].closes_endpoints();
        let on_endpoint = |p: &PeerModel| p.dialed || p.path.socket.as_endpoint().is_some();
        node.peers.get(&peer).is_some_and(|p| closing && on_endpoint(p))
    }

    fn some_open(&mut self) -> Option<PeerId> {
        let open: Vec<PeerId> = self.model.nodes[self.place.0].open_peers(self.place.1).collect();
        self.dice.pick(&open).copied()
    }

    /// An id that names nothing here: of a peer that is gone, or of another shard or node.
    pub(crate) fn some_stale(&mut self) -> Option<PeerId> {
        let node = self.dice.below(self.model.nodes.len() as u64) as usize;
        let ids: Vec<PeerId> = self.model.nodes[node].peers.keys().copied().collect();
        let stale: Vec<PeerId> = ids.into_iter().filter(|id| !self.is_here(*id)).collect();
        self.dice.pick(&stale).copied()
    }
}

/// A send in a word.
pub(crate) fn send_outcome(result: &Result<(), SendError>) -> &'static str {
    match result {
        Ok(()) => "Ok",
        Err(SendError::Gone) => "Gone",
        Err(SendError::Full(_)) => "Full",
        Err(SendError::TooLong { .. }) => "TooLong",
        Err(SendError::Stale) => "Stale",
        Err(SendError::NoAddress) => "NoAddress",
        Err(SendError::Unvalidated { .. }) => "Unvalidated",
        Err(SendError::TooManyAnswers { .. }) => "TooManyAnswers",
        Err(_) => "other",
    }
}
