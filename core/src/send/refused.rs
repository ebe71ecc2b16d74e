//! Peers that were refused a send for want of room, and whose handler is to hear when there is some.

use std::collections::VecDeque;

use crate::types::ids::PeerId;

/// Each peer stands here once at most: its route says whether it does.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// For these there may be room by now.
    to_look_at: VecDeque<PeerId>,
    /// For these there was none, and nothing has changed since.
    seen: VecDeque<PeerId>,
}

impl Refused {
    pub(crate) fn push(&mut self, peer: PeerId) {
        self.to_look_at.push_back(peer);
    }

    /// Something that waited has left: there may be room.
    #[inline]
    pub(crate) fn look_again(&mut self) {
        self.to_look_at.append(&mut self.seen);
    }

    #[inline]
    pub(crate) fn any_to_look_at(&self) -> bool {
        !self.to_look_at.is_empty()
    }

    pub(crate) fn to_look_at(&self) -> usize {
        self.to_look_at.len()
    }

    pub(crate) fn next(&mut self) -> Option<PeerId> {
        self.to_look_at.pop_front()
    }

    /// There is no room for this one.
    pub(crate) fn put_back(&mut self, peer: PeerId) {
        self.seen.push_back(peer);
    }
}
