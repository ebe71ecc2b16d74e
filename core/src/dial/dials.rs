//! What is kept of dialed peers, and the lookups under way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::dial::request::Dial;
use crate::dial::resolver::{Answer, Resolver};
use crate::messages::mailbox::Bell;
use crate::stats::Stats;
use crate::sync::{Receiver, Sender};
use crate::time::timers::{TimerId, TimerWheel};
use crate::types::endpoint::EndpointId;
use crate::types::error::AttemptFault;
use crate::types::ids::PeerId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The name is being looked up.
    Resolving,
    /// The next address is tried in the next turn.
    Queued,
    /// An address is being tried. The peer's stamp says `quiet` until something comes from it.
    Trying { quiet: u32 },
    /// Something came, or nothing is left to try.
    Done,
}

/// What is kept of a dialed peer.
pub(crate) struct Dialed {
    pub(crate) peer: PeerId,
    pub(crate) dial: Dial,
    pub(crate) stage: Stage,
    /// Of the lookup or the attempt under way; what has another is over.
    pub(crate) serial: u32,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) next: usize,
    /// What became of the last attempt.
    pub(crate) last: AttemptFault,
    pub(crate) timer: Option<TimerId>,
    /// The endpoint that was made for it, and whether it could not be opened.
    pub(crate) own: Option<EndpointId>,
    pub(crate) own_failed: bool,
    /// Alive while the answer of a lookup is waited for.
    pub(crate) wanted: Option<Arc<()>>,
}

/// Whose time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) peer: PeerId,
    pub(crate) entry: u32,
    pub(crate) serial: u32,
}

/// The dialed peers of a shard, and its lookups.
pub(crate) struct Dials {
    pub(crate) entries: Slab<Dialed>,
    pub(crate) timers: TimerWheel<Due>,
    pub(crate) queue: VecDeque<PeerId>,
    /// Those whose old endpoint has to be closed before they can have another: they come next when it is.
    pub(crate) waiting: Vec<PeerId>,
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    pub(crate) bell: Arc<Bell>,
    /// Made with the first lookup. It has room for an answer to each that may be under way.
    pub(crate) answers: Option<(Sender<Answer>, Receiver<Answer>)>,
    pub(crate) under_way: usize,
    pub(crate) most_lookups: usize,
    pub(crate) stats: Arc<Stats>,
}

impl Dials {
    pub(crate) fn new(
        resolver: Option<Arc<dyn Resolver>>,
        bell: Arc<Bell>,
        most_lookups: usize,
        now: Instant,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            entries: Slab::new(),
            timers: TimerWheel::unreserved(now),
            queue: VecDeque::new(),
            waiting: Vec::new(),
            resolver,
            bell,
            answers: None,
            under_way: 0,
            most_lookups,
            stats,
        }
    }

    /// Whether nothing was dialed, or nothing of it is left.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.entries.is_empty() && self.under_way == 0 && self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Whether a turn has something to do here.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !(self.queue.is_empty() & self.waiting.is_empty())
    }

    /// Whether a resolver has answered. It rings the shard's bell.
    #[inline]
    pub(crate) fn has_answers(&self) -> bool {
        self.under_way > 0 && self.answers.as_ref().is_some_and(|(_, answers)| !answers.is_empty())
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    pub(crate) fn take_answer(&mut self) -> Option<Answer> {
        if self.under_way == 0 {
            return None;
        }
        let answer = self.answers.as_ref()?.1.try_recv().ok()?;
        self.under_way -= 1;
        Some(answer)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.under_way < self.most_lookups
    }

    /// Sets the one timer of an entry. A time beyond all times is never over.
    pub(crate) fn set_timer(&mut self, entry: u32, now: Instant, after: Duration) {
        let Some(dialed) = self.entries.get_mut(entry as usize) else { return };
        if let Some(timer) = dialed.timer.take() {
            self.timers.cancel(timer, None);
        }
        if let Some(at) = now.checked_add(after) {
            let due = Due { peer: dialed.peer, entry, serial: dialed.serial };
            dialed.timer = self.timers.set(now, at, due, None).ok();
        }
    }

    /// What is under way of an entry is over.
    pub(crate) fn end_stage(&mut self, entry: u32, stage: Stage) {
        let Some(dialed) = self.entries.get_mut(entry as usize) else { return };
        if let Some(timer) = dialed.timer.take() {
            self.timers.cancel(timer, None);
        }
        dialed.serial = dialed.serial.wrapping_add(1);
        dialed.wanted = None;
        dialed.stage = stage;
        if stage == Stage::Done {
            dialed.addresses = Vec::new();
        }
    }

    pub(crate) fn enqueue(&mut self, entry: u32) {
        let Some(dialed) = self.entries.get(entry as usize) else { return };
        if dialed.stage != Stage::Queued {
            self.queue.push_back(dialed.peer);
        }
        self.end_stage(entry, Stage::Queued);
    }

    /// Endpoints that were closed to make room are gone: whoever waited for that comes first, before others ask for
    /// one.
    pub(crate) fn wait_no_more(&mut self) {
        for peer in self.waiting.drain(..).rev() {
            self.queue.push_front(peer);
        }
    }

    /// Whether the entry is in this stage of the same lookup or attempt.
    pub(crate) fn is_current(&self, entry: u32, peer: PeerId, serial: u32) -> bool {
        self.entries.get(entry as usize).is_some_and(|d| d.peer == peer && d.serial == serial)
    }
}

impl Dialed {
    pub(crate) fn new(peer: PeerId, dial: Dial) -> Self {
        Self {
            peer,
            dial,
            stage: Stage::Done,
            serial: 0,
            addresses: Vec::new(),
            next: 0,
            last: AttemptFault::Silence,
            timer: None,
            own: None,
            own_failed: false,
            wanted: None,
        }
    }

    pub(crate) fn start_with(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses;
        self.next = 0;
        self.last = AttemptFault::Silence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialed_peer_costs_what_the_documentation_says() {
        assert!(size_of::<Dialed>() <= 300, "{}", size_of::<Dialed>());
        assert!(size_of::<SocketAddr>() * crate::dial::resolver::MOST_ADDRESSES <= 520);
    }
}
