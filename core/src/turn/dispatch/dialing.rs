//! Dialed peers: what their handlers are told of.

use std::time::Instant;

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::dial::attempts::{Step, ipv4_only, was_heard};
use crate::dial::dials::{Due, Stage};
use crate::dial::resolver::{Answer, in_turn};
use crate::time::pace::Pace;
use crate::turn::dispatch::Dispatch;
use crate::turn::panics::{Callback, Cause};
use crate::types::error::{AttemptFault, LookupError, PeerError};
use crate::types::ids::PeerId;

impl<H: Handler> Dispatch<H> {
    /// Takes answers in, moves to next addresses, and ends what took too long up to this time, if there is one up to which
    /// that is known: so many of each, and for so long, at most.
    pub(crate) fn dial_on(
        &mut self,
        budget: u32,
        until: Option<Instant>,
        pace: &mut Pace,
        clock: impl Fn() -> Instant,
    ) {
        pace.begin_by(&clock);
        for _ in 0..budget {
            if !self.may_go_on() {
                return;
            }
            let Some(answer) = self.io.dials.take_answer() else { break };
            self.arrivals += 1;
            self.resolved(answer);
            if !pace.goes_on_after_one(&clock) {
                break;
            }
        }
        self.io.dials.wait_no_more();
        pace.begin_by(&clock);
        for _ in 0..budget {
            if !self.may_go_on() {
                return;
            }
            let Some((entry, peer)) = self.io.dials.next_queued(&self.io.routes) else { break };
            self.arrivals += 1;
            self.attempt(entry, peer);
            if !pace.goes_on_after_one(&clock) {
                break;
            }
        }
        let Some(until) = until else { return pace.ends(&clock) };
        pace.begin_by(&clock);
        for _ in 0..budget {
            if !self.may_go_on() {
                return;
            }
            let io = &mut self.io;
            let Some(id) = io.dials.timers.next_due(until) else { break };
            let Some(due) = io.dials.timers.cancel(id, None) else { break };
            self.dial_due(due);
            if !pace.goes_on_after_one(&clock) {
                return;
            }
        }
        pace.ends(&clock);
    }

    fn resolved(&mut self, answer: Answer) {
        let Answer { peer, serial, result } = answer;
        let entry = self.io.routes.get(peer).and_then(|route| route.dial());
        let Some(entry) = entry.filter(|entry| self.io.dials.is_current(*entry, peer, serial)) else {
            self.io.stats.lookups_stale.add(1);
            return;
        };
        let Some(dialed) = self.io.dials.entries.get_mut(entry as usize) else { return };
        let ipv4_only = ipv4_only(&dialed.dial, &self.io.sockets.endpoints);
        let addresses = result.map(|all| in_turn(&all, ipv4_only));
        match addresses {
            Ok(addresses) if !addresses.is_empty() => {
                dialed.start_with(addresses);
                self.io.dials.enqueue(entry);
            }
            Ok(_) => self.lookup_failed(entry, peer, LookupError::NoAddress),
            Err(why) => self.lookup_failed(entry, peer, why),
        }
    }

    fn lookup_failed(&mut self, entry: u32, peer: PeerId, why: LookupError) {
        self.io.stats.lookups_failed.add(1);
        self.unresolved(entry, peer, why);
    }

    fn unresolved(&mut self, entry: u32, peer: PeerId, why: LookupError) {
        self.io.dials.end_stage(entry, Stage::Done);
        let cause = Cause::OwnPeer(Callback::PeerError, peer);
        self.call(cause, |handler, cx| handler.on_peer_error(cx, peer, PeerError::Unresolved { why }));
    }

    fn attempt(&mut self, entry: u32, peer: PeerId) {
        let Io { dials, routes, sockets, time, .. } = &mut self.io;
        match dials.next_address(routes, &mut sockets.endpoints, entry, *time) {
            Step::Tries(remote) => {
                let cause = Cause::OwnPeer(Callback::Attempt, peer);
                self.call(cause, |handler, cx| handler.on_attempt(cx, peer, remote));
                return;
            }
            Step::Waits => return,
            Step::NoneLeft => {}
        }
        let Some(dialed) = self.io.dials.entries.get(entry as usize) else { return };
        if dialed.addresses.is_empty() {
            return self.unresolved(entry, peer, LookupError::NoAddress);
        }
        let error = PeerError::NoAnswer { addresses: dialed.addresses.len() as u8, last: dialed.last };
        self.io.dials.end_stage(entry, Stage::Done);
        let cause = Cause::OwnPeer(Callback::PeerError, peer);
        self.call(cause, |handler, cx| handler.on_peer_error(cx, peer, error));
    }

    /// The time of a lookup or an attempt is over.
    fn dial_due(&mut self, due: Due) {
        let Due { peer, entry, serial } = due;
        if !self.io.dials.is_current(entry, peer, serial) {
            return;
        }
        let Some(dialed) = self.io.dials.entries.get_mut(entry as usize) else { return };
        dialed.timer = None;
        let stage = dialed.stage;
        match stage {
            Stage::Resolving => self.lookup_failed(entry, peer, LookupError::TimedOut),
            Stage::Trying { quiet } if was_heard(&self.io.routes, peer, quiet) => {
                self.io.dials.end_stage(entry, Stage::Done);
            }
            Stage::Trying { .. } => self.io.dials.give_up(entry, AttemptFault::Silence),
            Stage::Queued | Stage::Done => {}
        }
    }
}
