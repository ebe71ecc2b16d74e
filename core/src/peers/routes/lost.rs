//! Paths that peers lose: given up, forced out by newer ones, or gone with their endpoint.

use crate::types::datagram::{Path, SocketId};
use crate::types::error::DropPathError;
use crate::types::ids::PeerId;

use super::Routes;
use super::route::LOST_A_PATH;

impl Routes {
    /// Takes one path from a peer that has others; gives back its socket.
    pub(super) fn drop_path(&mut self, peer: PeerId, record: u32) -> SocketId {
        let gone = self.records[record as usize];
        let slot = peer.slot() as usize;
        if self.routes[slot].first == record {
            self.routes[slot].first = gone.next;
        } else {
            let mut at = self.routes[slot].first;
            while self.records[at as usize].next != record {
                at = self.records[at as usize].next;
            }
            self.records[at as usize].next = gone.next;
        }
        self.routes[slot].paths = (self.routes[slot].paths - 1) | LOST_A_PATH;
        self.lost_a_path.push(peer);
        self.unlink(record, &gone);
        self.free.push(record);
        gone.key.socket()
    }

    /// What was queued for paths that were lost is on its way.
    #[inline]
    pub(crate) fn turn_ends(&mut self) {
        if !self.lost_a_path.is_empty() {
            self.forget_lost_paths();
        }
    }

    #[cold]
    fn forget_lost_paths(&mut self) {
        for peer in std::mem::take(&mut self.lost_a_path) {
            if let Some(route) = self.get_mut(peer) {
                route.paths = route.paths();
            }
        }
    }

    /// Takes the paths on `socket` from a peer, if it answers along another; gives back how many.
    pub(crate) fn drop_paths_on(&mut self, peer: PeerId, socket: SocketId) -> u32 {
        let Some(route) = self.get(peer) else { return 0 };
        let (first, active) = (route.first, route.active);
        let on_it = |record: &u32| *record != active && self.records[*record as usize].key.socket() == socket;
        let gone: Vec<u32> = self.records_of(first).filter(on_it).collect();
        for record in &gone {
            self.drop_path(peer, *record);
        }
        gone.len() as u32
    }

    /// Takes a path that answers do not use from a peer; gives back its socket.
    pub(crate) fn give_up_path(&mut self, peer: PeerId, path: &Path) -> Result<SocketId, DropPathError> {
        let record = self.record_of(peer, path).ok_or(DropPathError::Gone)?;
        if self.get(peer).is_some_and(|route| route.active == record) {
            return Err(DropPathError::InUse);
        }
        Ok(self.drop_path(peer, record))
    }
}
