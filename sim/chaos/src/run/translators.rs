//! Translators of addresses, as a run has them, and by which addresses clients are known.

use std::net::{IpAddr, SocketAddr};

use crate::dice::Dice;
use crate::run::Stage;

/// Targets that are known at most.
const MOST_TARGETS: usize = 200;

impl Stage {
    /// By which address a client is known that has just written to somebody.
    pub(super) fn outside(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let mut model = self.world.borrow_mut();
        let Some(nat) = model.ledger.translators.around(from.ip()) else { return from };
        let external = self.sim.nat_external(self.nats[nat], from, to);
        match model.ledger.translators.sent(nat, (from, to), external, self.sim.elapsed()) {
            Ok(outcome) => model.reached.note("translator", outcome),
            Err(what) => model.fail(|| what),
        }
        let external = external.unwrap_or(from);
        if !model.targets.contains(&external) && model.targets.len() < MOST_TARGETS {
            model.targets.push(external);
        }
        external
    }

    /// By which address somebody else may know a client, if anybody does.
    pub(super) fn seen_as(&self, client: SocketAddr) -> Option<SocketAddr> {
        let translators = &self.world.borrow().ledger.translators;
        match translators.around(client.ip()) {
            Some(_) => translators.external_of(client),
            None => Some(client),
        }
    }

    pub(super) fn host_seen_as(&self, client: IpAddr) -> IpAddr {
        self.world.borrow().ledger.translators.seen_as(client)
    }

    pub(super) fn nat_forgets(&mut self, dice: &mut Dice) {
        let nat = dice.below(self.nats.len() as u64) as usize;
        let Some(id) = self.nats.get(nat).copied() else { return };
        let mut model = self.world.borrow_mut();
        let moved = model.ledger.translators.forget(nat, dice.one_in(3));
        model.reached.note("translator", if moved.is_some() { "moved" } else { "forgot" });
        match moved {
            Some(external) => self.sim.nat_move(id, external),
            None => self.sim.nat_rebind(id),
        }
    }
}
