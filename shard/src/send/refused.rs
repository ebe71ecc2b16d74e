//! Trains that were refused: which are sent anew, or one by one, and which wait.
#![forbid(unsafe_code)]

use std::io;

use shardgram_core::PeerId;
use shardgram_core::backlog::Backlog;
use shardgram_core::driver::{After, Order, Outcome, SendFailure, SendFault, after};
use shardgram_core::outbox::Train;

use super::{Means, NOT_OPEN, Sends, pieces};
use crate::errno::{NOT_TAKEN, outcome};
use crate::op::Load;
use crate::ring::NoRoom;

impl Sends {
    /// Sees to the trains of the last submission that may be tried again: those that met a full socket, and,
    /// once, those that a peer's own socket refused.
    #[inline]
    pub(crate) fn settle(&mut self, means: &mut Means<'_>, backlog: &mut Backlog) -> io::Result<()> {
        if self.refused.is_empty() { Ok(()) } else { self.settle_each(means, backlog) }
    }

    #[cold]
    fn settle_each(&mut self, means: &mut Means<'_>, backlog: &mut Backlog) -> io::Result<()> {
        let mut again = true;
        while !self.refused.is_empty() {
            let to_try = self.sort_out(means, backlog, again)?;
            self.try_again(means, &to_try)?;
            again = false;
        }
        Ok(())
    }

    /// Says which of the refused trains are to be sent anew; the others wait, or have failed.
    ///
    /// A peer's own socket tells with a send what the network said of an earlier one, and then this one did not
    /// leave (udp(7)). Order within a peer is kept: a train of which a later one has left is lost, and counted. It
    /// takes a socket that is fuller than [`crate::credit`] reckons, or several datagrams in a turn to a peer of
    /// which the network just said something.
    fn sort_out(
        &mut self,
        means: &mut Means<'_>,
        backlog: &mut Backlog,
        again: bool,
    ) -> io::Result<Vec<u32>> {
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_unstable();
        let trains = means.outbox.trains();
        let queued = &trains[..self.queued.min(trains.len())];
        let mut peers = Refusals::of(&refused, queued);
        let mut to_try = Vec::new();
        for &(index, errno) in &refused {
            let Some(train) = queued.get(index as usize) else { continue };
            let (outcome, heard) = self.look_into(means, train, errno);
            let waits_already = peers.waits(train.peer);
            let order = Order {
                waits_already,
                behind: train.peer.is_some_and(|peer| backlog.holds(peer)) && !waits_already,
                overtaken: peers.has_left_after(train.peer, index),
                may_retry: again,
            };
            match after(train.peer, outcome, order) {
                After::Done => {}
                After::Again => to_try.push(index),
                After::Singles => {
                    self.reports.refused(train.peer, train.segment);
                    if self.send_singly(means, backlog, train)? {
                        peers.wait(train.peer);
                    }
                }
                After::Wait(lost) => {
                    let pieces = pieces(train, means.outbox, &means.exchange.engine.buffers);
                    if backlog.defer(train, pieces) {
                        peers.wait(train.peer);
                        if outcome == Outcome::NotNow {
                            // Nothing tells when the kernel takes what it did not.
                            means.exchange.wakeups.skip_wait();
                        }
                    } else {
                        self.reports.failed(train, lost);
                    }
                }
                After::Fail(fault) => {
                    // What the network said of the peer was told by itself.
                    let peer = train.peer.filter(|_| !heard);
                    self.reports.add(SendFailure { peer, datagrams: train.datagrams, fault });
                }
            }
        }
        Ok(to_try)
    }

    /// Finds out why a train was refused, and has everybody know whom that concerns; whether the network said something of
    /// the peer, which was noted.
    fn look_into(&mut self, means: &mut Means<'_>, train: &Train, errno: i32) -> (Outcome, bool) {
        let Means { exchange, sockets, .. } = means;
        let slot = sockets.leaving(train.via, &train.path);
        let outcome = outcome(errno, slot.and_then(|slot| sockets.get(slot)), train.is_long());
        match (outcome, slot) {
            (Outcome::Full, Some(slot)) => sockets.is_now_full(&mut exchange.engine, slot),
            (Outcome::Refused(_), Some(slot)) => {
                self.reports.look_at_interface(sockets, slot);
                return (outcome, self.reports.hear(sockets, slot));
            }
            _ => {}
        }
        (outcome, false)
    }

    /// Sends the datagrams of a train that was refused as such one by one; whether some of them have to wait. Trains
    /// that follow to the same peer may have left, so these may come late, once on a path that carries less than it
    /// did.
    fn send_singly(
        &mut self,
        means: &mut Means<'_>,
        backlog: &mut Backlog,
        train: &Train,
    ) -> io::Result<bool> {
        let buffers = &means.exchange.engine.buffers;
        let bytes: Vec<u8> = pieces(train, means.outbox, buffers).flatten().copied().collect();
        let Some(slot) = means.sockets.leaving(train.via, &train.path) else {
            self.reports.failed(train, NOT_OPEN);
            return Ok(false);
        };
        let mut full = false;
        for datagram in bytes.chunks(train.segment.max(1) as usize) {
            let one = train.one(datagram.len());
            let errno = match full {
                true => Some(libc::EAGAIN),
                false => self.send_now(means, slot, (&train.path, train.ecn), Load::one(datagram))?,
            };
            let Some(errno) = errno else { continue };
            let outcome = outcome(errno, means.sockets.get(slot), false);
            match outcome {
                Outcome::NotNow => means.exchange.wakeups.skip_wait(),
                Outcome::Full => means.sockets.is_now_full(&mut means.exchange.engine, slot),
                _ => {}
            }
            match after(train.peer, outcome, Order::default()) {
                After::Wait(_) => {
                    full = backlog.defer(&one, std::iter::once(datagram));
                    if !full {
                        self.reports.failed(&one, SendFault::SocketFull);
                    }
                }
                After::Fail(fault) => self.reports.failed(&one, fault),
                After::Done | After::Again | After::Singles => {}
            }
        }
        Ok(full)
    }

    /// Sends trains anew, in their order. They need more operands than the first time, when most of them were
    /// datagrams that need no vector, so they may take several submissions.
    fn try_again(&mut self, means: &mut Means<'_>, trains: &[u32]) -> io::Result<()> {
        for &index in trains {
            let Some(train) = means.outbox.trains().get(index as usize) else { continue };
            let Some(slot) = means.sockets.leaving(train.via, &train.path) else { continue };
            if !means.exchange.engine.operands.has_room() {
                self.submit(means)?;
            }
            if let Err(NoRoom) = self.push_train(means, slot, train, index) {
                self.submit(means)?;
                self.refused.push((index, NOT_TAKEN));
            }
        }
        if trains.is_empty() { Ok(()) } else { self.submit(means) }
    }
}

/// What is to be known of the peers of refused trains: looked up for each of them once, for there may be thousands.
#[derive(Debug)]
struct Refusals {
    /// Each peer once, in their order: the last of its trains that left, and whether something of it waits.
    peers: Vec<(Option<PeerId>, Option<usize>, bool)>,
}

impl Refusals {
    /// Of these trains, in their order, among those that were queued.
    fn of(refused: &[(u32, i32)], queued: &[Train]) -> Self {
        let peer = |&(index, _): &(u32, i32)| Some((queued.get(index as usize)?.peer, None, false));
        let mut peers: Vec<_> = refused.iter().filter_map(peer).collect();
        peers.sort_unstable();
        peers.dedup();
        let mut refusals = Self { peers };
        let mut at = refused.first().map_or(queued.len(), |(first, _)| *first as usize);
        let mut next = refused.iter().map(|(index, _)| *index as usize).peekable();
        while let Some(train) = queued.get(at) {
            let was_refused = next.next_if_eq(&at).is_some();
            while next.next_if(|index| *index <= at).is_some() {}
            if !was_refused && let Some((_, last, _)) = refusals.get(train.peer) {
                *last = Some(at);
            }
            at += 1;
        }
        refusals
    }

    fn get(&mut self, peer: Option<PeerId>) -> Option<&mut (Option<PeerId>, Option<usize>, bool)> {
        let at = self.peers.binary_search_by_key(&peer, |(peer, ..)| *peer).ok()?;
        self.peers.get_mut(at)
    }

    /// Whether a later train to this peer has left.
    fn has_left_after(&mut self, peer: Option<PeerId>, index: u32) -> bool {
        self.get(peer).is_some_and(|(_, last, _)| last.is_some_and(|last| last > index as usize))
    }

    /// One of its refused trains waits.
    fn wait(&mut self, peer: Option<PeerId>) {
        if let Some((Some(_), _, waits)) = self.get(peer) {
            *waits = true;
        }
    }

    fn waits(&mut self, peer: Option<PeerId>) -> bool {
        self.get(peer).is_some_and(|(_, _, waits)| *waits)
    }
}
