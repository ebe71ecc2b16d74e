//! What is kept of a peer beside its state.

use super::NONE;
use crate::peers::standing::{HEARD_APART_MS, Standing};
use crate::time::timers::PeerTimers;
use crate::types::datagram::{Path, SocketId};
use crate::types::ecn::Ecn;
use crate::types::ids::PeerId;

/// A payload that every path carries unfragmented: the least MTU of IPv6, 1,280 bytes (RFC 8200 section 5), less
/// its header and that of UDP.
const CARRIED_BY_ALL: u32 = 1_280 - 48;

/// For how long what was learned of a path's trains holds, in milliseconds: as long as Linux believes what it was told of a
/// path's MTU (`mtu_expires` in ip-sysctl, 600 s by default). Who told it may have lied, and paths change.
const REFUSAL_HOLDS_MS: i32 = 600_000;

/// Beside the number of paths, of which there are 64 at most: it lost one in this turn, along which what is at hand may have
/// come and be answered.
pub(super) const LOST_A_PATH: u8 = 0x80;

/// What is kept of a peer beside the handler's state.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Route {
    pub(super) generation: u32,
    /// First of the peer's path records. Answers go along `active`.
    pub(super) first: u32,
    pub(super) active: u32,
    pub(crate) timers: PeerTimers,
    /// Milliseconds stamp of the last datagram from it.
    pub(crate) last_seen: u32,
    /// The train of this turn that more datagrams may join, and the turn it belongs to.
    pub(crate) open_train: u32,
    pub(crate) open_turn: u32,
    /// The longest datagram that may stand in a train to it, in bytes: less where the path refused longer ones.
    pub(crate) train_limit: u16,
    /// The longest that was put into a train.
    pub(super) train_tried: u16,
    /// Milliseconds stamp of when its path refused a train last.
    pub(super) train_refused_at: u32,
    /// Slot of the socket of its own, which serves the active path.
    pub(super) link: u32,
    /// Where is kept how it was dialed.
    pub(super) dial: u32,
    /// Datagrams it sent without a long pause, as far as the policy of promotion wants to know.
    pub(crate) heat: u16,
    /// How many paths it has, and [`LOST_A_PATH`].
    pub(super) paths: u8,
    /// What is known of its address; changed by [`Routes::set_standing`] alone.
    pub(super) standing: Standing,
    /// Seconds in which something came after an answer.
    pub(crate) seconds_heard: u8,
    /// It waits to be promoted.
    pub(crate) wishes: bool,
    /// A send was refused for want of room, and its handler is to hear when there is some.
    pub(crate) refused: bool,
    /// What is sent to it is marked so.
    pub(crate) ecn: Ecn,
    /// Milliseconds stamp of when such a second was counted last, or of when it came.
    pub(crate) heard_at: u32,
}

impl Route {
    pub(super) fn new(peer: PeerId, record: u32, stamp: u32, standing: Standing) -> Self {
        Self {
            generation: peer.generation(),
            first: record,
            active: record,
            timers: PeerTimers::EMPTY,
            last_seen: stamp,
            open_train: 0,
            open_turn: 0,
            train_limit: u16::MAX,
            train_tried: 0,
            train_refused_at: stamp,
            link: NONE,
            dial: NONE,
            heat: 0,
            paths: 1,
            standing,
            seconds_heard: 0,
            wishes: false,
            refused: false,
            ecn: Ecn::NotEct,
            heard_at: stamp,
        }
    }

    #[inline]
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether a datagram that comes at this time may say more of its address than is known: the first one after an answer, and
    /// then one a second until it passes for answered. This comparison is all that a datagram of a known peer pays for
    /// standings.
    #[inline]
    pub(crate) fn may_rise(&self, stamp: u32) -> bool {
        self.standing < Standing::Answered
            && (self.standing == Standing::New || stamp.wrapping_sub(self.heard_at) >= HEARD_APART_MS)
            && self.open_turn != 0
    }

    /// The slot of the peer's own socket.
    #[inline]
    pub(crate) fn link(&self) -> Option<u32> {
        (self.link != NONE).then_some(self.link)
    }

    /// Where is kept how it was dialed, if it was.
    #[inline]
    pub(crate) fn dial(&self) -> Option<u32> {
        (self.dial != NONE).then_some(self.dial)
    }

    /// How many paths it has.
    pub(super) fn paths(&self) -> u8 {
        self.paths & !LOST_A_PATH
    }

    /// Whether everything to it goes along the one path, in this turn.
    #[inline]
    pub(crate) fn has_one_path(&self) -> bool {
        self.paths == 1
    }

    pub(crate) fn set_link(&mut self, slot: Option<u32>) {
        self.link = slot.unwrap_or(NONE);
    }

    /// The socket by which a datagram along a path of this peer leaves. A socket of its own serves one path
    /// only, so a peer that has others sends along them by theirs.
    #[inline]
    pub(crate) fn socket(&self, path: &Path) -> SocketId {
        if self.link == NONE || self.paths > 1 { path.socket } else { SocketId::connected(self.link) }
    }

    /// Whether no train of datagrams of this length was sent to it yet.
    #[inline]
    pub(crate) fn is_untried(&self, segment: u32) -> bool {
        segment > u32::from(self.train_tried)
    }

    /// A train of datagrams of this length is sent to it.
    #[inline]
    pub(crate) fn tried(&mut self, segment: u32) {
        self.train_tried = self.train_tried.max(segment as u16);
    }

    /// A train of datagrams of this length was refused along its path at this time. Where every path carries so much it was
    /// not for their length, and there are to be no more trains.
    pub(crate) fn train_refused(&mut self, segment: u32, stamp: u32) {
        self.train_refused_at = stamp;
        let limit = if segment > CARRIED_BY_ALL { segment - 1 } else { 0 };
        self.train_limit = self.train_limit.min(limit as u16);
        self.train_tried = 0;
    }

    /// Whether trains of datagrams of this length may be tried again, since the last refusal is long ago.
    #[cold]
    pub(crate) fn may_try_again(&mut self, stamp: u32) -> bool {
        let again = stamp.wrapping_sub(self.train_refused_at) as i32 >= REFUSAL_HOLDS_MS;
        if again {
            self.forget_trains();
        }
        again
    }

    /// Another path may carry other trains.
    pub(super) fn forget_trains(&mut self) {
        (self.train_limit, self.train_tried) = (u16::MAX, 0);
    }

    /// Whether it is that of this peer, and not of another in the slot or of one on another shard.
    #[inline]
    pub(super) fn is_of(&self, peer: PeerId, shard: u16) -> bool {
        let same = self.generation == peer.generation();
        self.first != NONE && same && peer.shard() == shard
    }
}
