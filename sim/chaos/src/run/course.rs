//! The course of a run, and what has to hold between any two steps.

use std::time::Duration;

use shardgram_core::shard_loop::Ending;

use crate::dice::{Dice, Purpose};
use crate::ledger::{Arrived, At, Receiver};
use crate::plan::Plan;
use crate::run::{SLACK, Stage};
use crate::world::PeerState;

/// How long a message may wait: longer than the fullest mailbox takes with the dearest turns while its shard is stalled
/// now and then; and where handlers panic, longer than it pauses again and again.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_WITH_PAUSES: Duration = Duration::from_secs(5);
/// How long a shard pauses at most after a panic, and some turns.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_050);
/// Seconds for which queues of links and interfaces may hold something.
const MOST_SECONDS: u32 = 120;
/// A run that takes more steps does not come to an end.
const MOST_STEPS: u64 = 2_000_000;

impl Stage {
    pub(super) fn play(&mut self, plan: &Plan) -> Result<(), String> {
        self.start()?;
        self.look()?;
        let actions = self.scenario.actions.clone();
        for action in actions.iter().filter(|action| plan.keeps(action.index)) {
            self.pass(action.after)?;
            self.begun += 1;
            self.perform(action)?;
            self.look()?;
        }
        self.settle()?;
        self.end()
    }

    /// Lets time pass, and looks after each step.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.sim.elapsed() + time;
        loop {
            let left = end.saturating_sub(self.sim.elapsed());
            // What has come by now is read before the clock jumps, since translators forget in time.
            let at_once = self.sim.step_within(Duration::ZERO);
            if !at_once {
                self.read_clients();
            }
            if !(at_once || self.sim.step_within(left)) || self.sim.elapsed() > end {
                return self.look();
            }
            self.steps += 1;
            self.look()?;
            if self.steps > MOST_STEPS {
                return Err(format!("no end after {MOST_STEPS} steps"));
            }
        }
    }

    /// What has to hold between any two steps.
    fn look(&mut self) -> Result<(), String> {
        self.read_clients();
        let counts = self.sim.counts();
        if counts.unaccounted() != 0 {
            return Err(format!("the network does not add up: {counts:?}"));
        }
        let now = self.sim.now();
        let mut model = self.world.borrow_mut();
        for (index, id) in self.nodes.iter().enumerate() {
            let node = &mut model.nodes[index];
            // Nothing becomes of one that has ended and was looked at then.
            if node.shards.iter().all(|shard| shard.ended) {
                continue;
            }
            let mut running = false;
            for number in 0..node.shards.len() as u16 {
                let ended = self.sim.shard_ended(id, number);
                let shard = &mut node.shards[usize::from(number)];
                if ended.is_some() && !shard.ended {
                    shard.ended = true;
                    shard.timers.clear();
                    node.mail.retain(|(_, to), _| *to != number);
                    // One that gives up takes the others along.
                    node.stopped |= matches!(ended, Some(Ending::TooManyRestarts { .. }));
                }
                running |= ended.is_none();
                let given_back = node.given_back.iter().find(|(to, _)| *to == number && ended.is_none());
                if let Some((_, what)) = given_back {
                    return Err(what.clone());
                }
                let limits = node.limits;
                let stats = self.sim.shard_stats(id, number);
                let shard = &node.shards[usize::from(number)];
                shard
                    .check(&stats, &limits)
                    .map_err(|what| format!("shard {number} of node {index}: {what}"))?;
            }
            node.given_back.clear();
            if node.drained.take() && !(node.stopped || node.ends_by.is_some()) {
                return Err(format!("peers of node {index} were closed as drained, and it had not to end"));
            }
            let patience = if node.temper.panics > 0 { PATIENCE_WITH_PAUSES } else { PATIENCE };
            if let Some(note) = node.waiting_since(now - patience) {
                return Err(format!("nobody wakes a shard of node {index} for {note:?}"));
            }
            if running && node.ends_by.is_some_and(|by| by < now) {
                return Err(format!("node {index} has not ended in time"));
            }
        }
        model.wrong.take().map_or(Ok(()), Err)
    }

    fn read_clients(&mut self) {
        for (key, address) in &self.clients {
            while let Some(received) = self.sim.receive(*key) {
                self.raw_received += 1;
                let behind = self.world.borrow().ledger.translators.around(address.ip()).is_some();
                let at = At::Behind(*address, self.sim.elapsed());
                let arrived = Arrived {
                    receiver: Receiver::Client,
                    from: received.from,
                    at: if behind { at } else { At::Exactly(*address) },
                    bytes: &received.bytes,
                    truncated_from: None,
                    ecn: Some(received.ecn),
                };
                let mut model = self.world.borrow_mut();
                if behind {
                    model.reached.note("translator", "let in");
                }
                if let Err(what) = model.ledger.arrived(&arrived, true) {
                    model.fail(|| what);
                }
            }
        }
    }

    /// Nothing new begins; what is under way comes to its end, and then nothing may be left.
    fn settle(&mut self) -> Result<(), String> {
        self.world.borrow_mut().calm = true;
        self.sim.heal_all();
        self.end_floods();
        self.pass(self.scenario.slowest)?;
        if self.scenario.nodes.iter().any(|node| node.temper.panics > 0) {
            self.pass(LONGEST_PAUSE)?;
        }
        // What stands in a slow queue takes its time.
        for _ in 0..MOST_SECONDS {
            // What a node that was killed had still to send never leaves.
            let running = self.nodes.iter().filter(|id| self.sim.ended(id).is_none());
            let waiting: u64 = running.map(|id| self.sim.stats(id).send_waiting).sum();
            if self.sim.counts().in_flight + waiting == 0 {
                break;
            }
            self.pass(Duration::from_secs(1))?;
        }
        // The next turn would come to what nobody has woken a shard for.
        let (now, model) = (self.sim.now(), self.world.borrow());
        if let Some(note) = model.nodes.iter().find_map(|node| node.waiting_since(now)) {
            return Err(format!("nobody woke a shard for {note:?}"));
        }
        drop(model);
        for id in self.nodes.clone() {
            self.sim.refresh(&id);
        }
        // What that turn had failed sends of is told in the next one.
        self.pass(Duration::from_millis(5))?;
        self.quiet()?;
        self.probe()
    }

    /// All nodes that still run end, and nobody who was promised a last word is left out.
    fn end(&mut self) -> Result<(), String> {
        let mut dice = Dice::of(&[self.seed, Purpose::Action as u64, u64::MAX]);
        for index in self.places.clone() {
            if dice.one_in(2) { self.drain(index, Duration::from_millis(20)) } else { self.stop(index) }
        }
        self.pass(SLACK * 3)?;
        for (index, id) in self.nodes.iter().enumerate() {
            let mut model = self.world.borrow_mut();
            let Some(endings) = self.sim.ended(id) else { return Err(format!("node {index} never ended")) };
            for ending in endings {
                model.reached.note("ending", name_of(ending));
            }
            let node = &model.nodes[index];
            if node.killed {
                continue;
            }
            let untold = node.peers.iter().find(|(id, peer)| {
                let shard = &node.shards[usize::from(id.shard())];
                peer.state != PeerState::Closed && !shard.panicked
            });
            if let Some((peer, model)) = untold {
                return Err(format!("the end of {peer} of node {index} was not told: {model:?}"));
            }
        }
        Ok(())
    }
}

fn name_of(ending: &Ending) -> &'static str {
    match ending {
        Ending::Drained => "Drained",
        Ending::DrainDeadline => "DrainDeadline",
        Ending::Stopped => "Stopped",
        Ending::TooManyRestarts { .. } => "TooManyRestarts",
        _ => "Failed",
    }
}
